//! Slots that are reused and never move. They are allocated in chunks of a thousand, so growing to a million sessions needs no large copy and
//! leaves no half-empty vector. The generation of a slot distinguishes its successive entries.

use crate::session_id::SessionId;

const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// Index into the slab that means "none".
pub(crate) const NO_SLOT: u32 = u32::MAX;

pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
    free: u32,
    occupied: usize,
    slots_max: usize,
}

struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

enum Content<T> {
    Vacant { next_free: u32 },
    Occupied(T),
}

impl<T> Slab<T> {
    /// Bytes that one slot takes.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<T>>();

    pub(crate) const fn new(slots_max: usize) -> Self {
        Self { chunks: Vec::new(), free: NO_SLOT, occupied: 0, slots_max }
    }

    pub(crate) const fn set_slots_max(&mut self, slots_max: usize) {
        self.slots_max = slots_max;
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.occupied >= self.slots_max
    }

    /// `None` when full.
    pub(crate) fn insert(&mut self, content: T) -> Option<SessionId> {
        if self.is_full() {
            return None;
        }
        if self.free == NO_SLOT {
            self.grow()?;
        }
        let slot = self.free;
        let entry = self.entry_mut(slot)?;
        let Content::Vacant { next_free } = entry.content else { return None };
        entry.content = Content::Occupied(content);
        let generation = entry.generation;
        self.free = next_free;
        self.occupied += 1;
        Some(SessionId { slot, generation })
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        let (chunk, at) = place(slot);
        match &self.chunks.get(chunk)?.get(at)?.content {
            Content::Occupied(content) => Some(content),
            Content::Vacant { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        match &mut self.entry_mut(slot)?.content {
            Content::Occupied(content) => Some(content),
            Content::Vacant { .. } => None,
        }
    }

    /// The handle of the entry in a slot.
    pub(crate) fn id(&self, slot: u32) -> Option<SessionId> {
        let (chunk, at) = place(slot);
        let entry = self.chunks.get(chunk)?.get(at)?;
        matches!(entry.content, Content::Occupied(_)).then_some(SessionId { slot, generation: entry.generation })
    }

    /// Whether the handle belongs to the current entry of the slot.
    pub(crate) fn is_current(&self, id: SessionId) -> bool {
        self.id(id.slot) == Some(id)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let next_free = self.free;
        let entry = self.entry_mut(slot)?;
        if matches!(entry.content, Content::Vacant { .. }) {
            return None;
        }
        let content = std::mem::replace(&mut entry.content, Content::Vacant { next_free });
        entry.generation = entry.generation.wrapping_add(1);
        self.free = slot;
        self.occupied -= 1;
        match content {
            Content::Occupied(content) => Some(content),
            Content::Vacant { .. } => None,
        }
    }

    /// Number of slots, vacant ones included.
    pub(crate) fn slot_count(&self) -> u32 {
        let Some(last) = self.chunks.last() else { return 0 };
        u32::try_from((self.chunks.len() - 1) * CHUNK + last.len()).unwrap_or(NO_SLOT)
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Slot<T>> {
        let (chunk, at) = place(slot);
        self.chunks.get_mut(chunk)?.get_mut(at)
    }

    /// Adds one slot, and one chunk if the last one is full.
    fn grow(&mut self) -> Option<()> {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let chunk = self.chunks.last_mut()?;
        let slot = u32::try_from(before + chunk.len()).ok().filter(|slot| *slot != NO_SLOT)?;
        chunk.push(Slot { generation: 0, content: Content::Vacant { next_free: NO_SLOT } });
        self.free = slot;
        Some(())
    }
}

fn place(slot: u32) -> (usize, usize) {
    let slot = usize::try_from(slot).unwrap_or(usize::MAX);
    (slot >> CHUNK_BITS, slot & (CHUNK - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_back_with_another_generation() {
        let mut slab = Slab::new(2);
        let a = slab.insert('a').unwrap();
        let b = slab.insert('b').unwrap();
        assert_eq!(slab.insert('c'), None);
        assert_eq!(slab.remove(a.slot), Some('a'));
        assert_eq!(slab.remove(a.slot), None);
        assert!(!slab.is_current(a) && slab.is_current(b));
        let c = slab.insert('c').unwrap();
        assert_eq!(c.slot, a.slot);
        assert_ne!(c.generation, a.generation);
        assert_eq!((slab.get(c.slot), slab.get(b.slot), slab.slot_count()), (Some(&'c'), Some(&'b'), 2));
    }

    #[test]
    fn many_slots_keep_their_places() {
        let mut slab = Slab::new(5_000);
        let ids: Vec<_> = (0..5_000).map(|n| slab.insert(n).unwrap()).collect();
        assert!(slab.is_full());
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(slab.get(id.slot), Some(&n));
        }
    }
}
