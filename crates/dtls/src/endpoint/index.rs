//! Maps a key's hash to a slot: open addressing with eight bytes a cell, where a map that holds the keys would need sixty.
//!
//! The keys stay in the slab, and the caller compares them there. The hash is keyed, because peers choose their
//! addresses.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::slab::NO_SLOT;

/// A hash of keys that a peer cannot predict.
#[derive(Clone)]
pub(crate) struct KeyedHash {
    /// Already holds the key; each value is hashed with a copy.
    keyed: DefaultHasher,
}

impl KeyedHash {
    pub(crate) fn new(key: [u64; 2]) -> Self {
        let mut keyed = DefaultHasher::new();
        key.hash(&mut keyed);
        Self { keyed }
    }

    pub(crate) fn of(&self, value: &impl Hash) -> u64 {
        let mut hasher = self.keyed.clone();
        value.hash(&mut hasher);
        hasher.finish()
    }
}

/// A power-of-two number of small tables, chosen by the top bits of the hash. Each grows alone, so an insertion moves only the cells of one
/// table: with a million sessions about a thousand cells, which takes a few microseconds.
const SEGMENTS: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 10;

/// Cells of a segment that is not empty.
const CELLS_MIN: usize = 4;

pub(crate) struct Index {
    segments: Box<[Segment]>,
}

/// Open addressing; at most three quarters of the cells are taken.
#[derive(Clone, Default)]
struct Segment {
    /// A power of two, or zero.
    cells: Vec<Cell>,
    occupied: usize,
}

/// The lower half of the hash, and the slot plus one; a cell of zeros is empty. The lower half gives the cell's home and almost always
/// suffices to skip an entry with another key, so a segment grows and closes gaps without access to the slab.
#[derive(Clone, Copy, Default)]
struct Cell(u64);

impl Cell {
    fn new(hash: u64, slot: u32) -> Self {
        Self(hash << 32 | (u64::from(slot) + 1))
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn slot(self) -> u32 {
        u32::try_from((self.0 & u64::from(u32::MAX)).wrapping_sub(1)).unwrap_or(NO_SLOT)
    }

    /// Whether the cell has this hash, as far as the stored half shows.
    const fn is_of(self, hash: u64) -> bool {
        self.0 >> 32 == hash & 0xFFFF_FFFF
    }

    fn home(self, mask: usize) -> usize {
        home(self.0 >> 32, mask)
    }
}

fn home(hash: u64, mask: usize) -> usize {
    usize::try_from(hash & 0xFFFF_FFFF).unwrap_or(0) & mask
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { segments: vec![Segment::default(); SEGMENTS].into_boxed_slice() }
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let segment = &self.segments[segment(hash)];
        segment.position(hash, is_it).map(|at| segment.cells[at].slot())
    }

    /// Adds a key that is not in the index yet. Returns the number of cells that were moved for it.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32) -> usize {
        self.segments[segment(hash)].insert(Cell::new(hash, slot))
    }

    /// Makes the key lead to another slot.
    pub(crate) fn redirect(&mut self, hash: u64, from: u32, to: u32) {
        let segment = &mut self.segments[segment(hash)];
        if let Some(at) = segment.position(hash, |slot| slot == from) {
            segment.cells[at] = Cell::new(hash, to);
        }
    }

    /// Removes a key.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32) {
        let segment = &mut self.segments[segment(hash)];
        if let Some(at) = segment.position(hash, |one| one == slot) {
            segment.remove(at);
        }
    }
}

fn segment(hash: u64) -> usize {
    usize::try_from(hash >> (u64::BITS - SEGMENT_BITS)).unwrap_or(0)
}

impl Segment {
    fn insert(&mut self, cell: Cell) -> usize {
        let mut moved = 0;
        if (self.occupied + 1) * 4 > self.cells.len() * 3 {
            let grown = vec![Cell::default(); (self.cells.len() * 2).max(CELLS_MIN)];
            let old = std::mem::replace(&mut self.cells, grown);
            for cell in old.into_iter().filter(|cell| !cell.is_empty()) {
                self.place(cell);
                moved += 1;
            }
        }
        self.place(cell);
        self.occupied += 1;
        moved
    }

    /// Empties a cell, and closes the gap by moving back the cells that were displaced over it.
    fn remove(&mut self, mut gap: usize) {
        let mask = self.cells.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell.is_empty() {
                break;
            }
            // The cell may move into the gap if its home is not between the gap and itself.
            if (at.wrapping_sub(cell.home(mask)) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.cells[gap] = cell;
                gap = at;
            }
        }
        self.cells[gap] = Cell::default();
        self.occupied -= 1;
    }

    fn position(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        let mask = self.cells.len().checked_sub(1)?;
        let mut at = home(hash, mask);
        // A quarter of the cells is empty, so the loop ends.
        loop {
            let cell = self.cells[at];
            if cell.is_empty() {
                return None;
            }
            if cell.is_of(hash) && is_it(cell.slot()) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn place(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut at = cell.home(mask);
        while !self.cells[at].is_empty() {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Compares the index with a map of the standard library, with hashes that often collide.
        #[test]
        fn the_index_does_what_a_map_does(steps in prop::collection::vec((0_u32..60, any::<bool>()), 1..400)) {
            let hash = |slot: u32| u64::from(slot % 3) << 63 | u64::from(slot % 7) << 32 | u64::from(slot % 5);
            let mut index = Index::new();
            let mut model = HashMap::new();
            for (slot, insert) in steps {
                if insert && model.insert(slot, ()).is_none() {
                    index.insert(hash(slot), slot);
                } else if !insert && model.remove(&slot).is_some() {
                    index.remove(hash(slot), slot);
                }
                for slot in 0..60 {
                    let found = index.find(hash(slot), |one| one == slot);
                    prop_assert_eq!(found.is_some(), model.contains_key(&slot));
                }
            }
        }
    }

    #[test]
    fn d97_no_insertion_moves_more_than_one_segment() {
        const PATHS: u32 = 1_000_000;
        let keyed = KeyedHash::new([1, 2]);
        let mut index = Index::new();
        let most_moved = (0..PATHS).map(|slot| index.insert(keyed.of(&slot), slot)).max();
        // A segment of 1,024 cells that becomes one of 2,048.
        assert_eq!(most_moved, Some(768));
        let cells: usize = index.segments.iter().map(|segment| segment.cells.len()).sum();
        assert!(cells * size_of::<Cell>() <= 20 * 1_000_000, "{cells} cells for a million paths");
        for slot in (0..PATHS).step_by(997) {
            assert_eq!(index.find(keyed.of(&slot), |one| one == slot), Some(slot));
        }
    }
}
