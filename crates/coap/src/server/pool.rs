//! Entries that are found by a number and stay where they are. They are allocated 64 at a time: growth moves nothing, an entry costs no share of a
//! half-empty node, and 64 places are freed together once none of them is taken.

/// Places of one chunk.
const PLACES: usize = u64::BITS as usize;
/// No chunk.
const NO_CHUNK: u32 = u32::MAX;

/// A set of entries, each with a number of its own as long as it is in the set.
#[derive(Debug)]
pub(super) struct Pool<T> {
    chunks: Vec<Chunk<T>>,
    /// The first of the chunks that have a free place: it takes the next entry.
    roomy: u32,
}

#[derive(Debug)]
struct Chunk<T> {
    /// Empty while no place is taken, except in the chunk that takes the next entry: a lone entry does not allocate each time.
    places: Vec<Option<T>>,
    /// One bit for each place.
    taken: u64,
    /// The next chunk with a free place, if this one has one.
    roomy_after: u32,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), roomy: NO_CHUNK }
    }
}

impl<T> Pool<T> {
    /// Adds an entry; returns its number.
    pub(super) fn insert(&mut self, entry: T) -> u32 {
        if self.roomy == NO_CHUNK {
            self.grow();
        }
        let number = self.roomy;
        let chunk = &mut self.chunks[index(number)];
        if chunk.places.is_empty() {
            chunk.places = (0..PLACES).map(|_| None).collect();
        }
        let place = chunk.taken.trailing_ones();
        chunk.taken |= 1 << place;
        chunk.places[index(place)] = Some(entry);
        if chunk.taken == u64::MAX {
            self.roomy = chunk.roomy_after;
        }
        number * u64::BITS + place
    }

    /// The entry with this number.
    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.chunks.get(index(number / u64::BITS))?.places.get(index(number % u64::BITS))?.as_ref()
    }

    /// The entry with this number.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.chunks.get_mut(index(number / u64::BITS))?.places.get_mut(index(number % u64::BITS))?.as_mut()
    }

    /// Takes the entry out; its number is free for another one.
    pub(super) fn remove(&mut self, number: u32) -> Option<T> {
        let (of, place) = (number / u64::BITS, number % u64::BITS);
        let chunk = self.chunks.get_mut(index(of))?;
        let entry = chunk.places.get_mut(index(place))?.take()?;
        let was_full = chunk.taken == u64::MAX;
        chunk.taken &= !(1 << place);
        if chunk.taken == 0 && self.roomy != of {
            chunk.places = Vec::new();
        }
        if was_full {
            self.takes_next(of);
        }
        Some(entry)
    }

    /// Makes this chunk the one that takes the next entry; the chunk that did so before is freed if it is empty.
    fn takes_next(&mut self, number: u32) {
        if let Some(before) = self.chunks.get_mut(index(self.roomy)).filter(|before| before.taken == 0) {
            before.places = Vec::new();
        }
        self.chunks[index(number)].roomy_after = self.roomy;
        self.roomy = number;
    }

    fn grow(&mut self) {
        // Entries are counted by 32 bits: 2^26 chunks hold far more answers than the limits of their bytes allow.
        let number = u32::try_from(self.chunks.len()).expect("fewer chunks than answers");
        self.chunks.push(Chunk { places: Vec::new(), taken: 0, roomy_after: NO_CHUNK });
        self.roomy = number;
    }

    /// The number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| index(chunk.taken.count_ones())).sum()
    }

    /// Chunks that hold memory.
    #[cfg(test)]
    fn allocated(&self) -> usize {
        self.chunks.iter().filter(|chunk| !chunk.places.is_empty()).count()
    }
}

/// A 32-bit number as an index.
fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_its_number_until_it_is_taken_out() {
        let mut pool = Pool::default();
        let numbers: Vec<u32> = (0..200).map(|entry| pool.insert(entry)).collect();
        for (entry, number) in (0..).zip(&numbers) {
            assert_eq!(pool.get(*number), Some(&entry));
        }
        assert_eq!(pool.remove(numbers[70]), Some(70));
        assert_eq!((pool.remove(numbers[70]), pool.get(numbers[70]), pool.len()), (None, None, 199));
        assert_eq!(pool.insert(1_000), numbers[70], "the free place is used again");
        assert_eq!(pool.get_mut(numbers[70]), Some(&mut 1_000));
        assert!(pool.get(u32::MAX).is_none());
    }

    #[test]
    fn chunks_without_entries_hold_no_memory() {
        let mut pool = Pool::default();
        let numbers: Vec<u32> = (0..640).map(|entry| pool.insert(entry)).collect();
        assert_eq!(pool.allocated(), 10);
        for number in &numbers[..320] {
            pool.remove(*number);
        }
        assert_eq!(pool.allocated(), 6, "the last one takes the next entry");
        for number in &numbers[320..] {
            pool.remove(*number);
        }
        assert_eq!((pool.allocated(), pool.len()), (1, 0), "one stays for the next entry");
        assert!((0..640).all(|entry| pool.insert(entry) < 640), "places are used again");
        assert_eq!(pool.allocated(), 10);
    }
}
