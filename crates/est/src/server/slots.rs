//! A place for each slot of the endpoint. Places are allocated a kilobyte at a time: with a million sessions, one more copies nothing and leaves no
//! half-empty vector.

const PLACES: usize = 1 << 7;

pub(super) struct Slots<T> {
    chunks: Vec<Box<[Option<Box<T>>]>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// The place of a slot. All places before it are there, too.
    pub(super) fn place(&mut self, slot: usize) -> &mut Option<Box<T>> {
        while self.chunks.len() <= slot / PLACES {
            self.chunks.push((0..PLACES).map(|_| None).collect());
        }
        &mut self.chunks[slot / PLACES][slot % PLACES]
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.chunks.get_mut(slot / PLACES)?[slot % PLACES].as_deref_mut()
    }

    pub(super) fn take(&mut self, slot: usize) -> Option<Box<T>> {
        self.chunks.get_mut(slot / PLACES)?[slot % PLACES].take()
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten().map(|entry| &**entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_where_they_are() {
        let mut slots = Slots::default();
        *slots.place(5_000) = Some(Box::new("a"));
        *slots.place(0) = Some(Box::new("b"));
        assert_eq!(slots.chunks.len(), 5_000 / PLACES + 1);
        for (slot, expected) in [(5_000, Some("a")), (1, None), (1 << 20, None)] {
            assert_eq!(slots.get_mut(slot).map(|entry| *entry), expected, "{slot}");
        }
        assert_eq!((slots.take(5_000), slots.take(5_000), slots.iter().count()), (Some(Box::new("a")), None, 1));
    }
}
