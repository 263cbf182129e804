//! From a key's hash to a slot: open addressing with eight bytes a cell, where a map that holds the keys would need sixty.
//!
//! The keys stay in the slab; whoever asks compares them there. The hash is keyed, for peers choose their addresses.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};

use crate::slab::NO_SLOT;

/// A hash of keys that nobody outside can foresee.
#[derive(Clone)]
pub(crate) struct KeyedHash {
    key: [u64; 2],
}

impl KeyedHash {
    pub(crate) const fn new(key: [u64; 2]) -> Self {
        Self { key }
    }

    pub(crate) fn of(&self, value: &impl Hash) -> u64 {
        self.hash_one(value)
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.key[0]);
        hasher.write_u64(self.key[1]);
        hasher
    }
}

#[derive(Clone, Copy)]
struct Cell {
    /// The upper half of the hash: almost always enough to pass over a stranger without a look at the slab.
    tag: u32,
    slot: u32,
}

const EMPTY: Cell = Cell { tag: 0, slot: NO_SLOT };

pub(crate) struct Index {
    /// A power of two, or none at all.
    cells: Vec<Cell>,
    occupied: usize,
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self { cells: Vec::new(), occupied: 0 }
    }

    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it).map(|at| self.cells[at].slot)
    }

    /// Adds a key that is not there yet. `rehash` gives the hash of a slot's key, for when the table grows.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32, rehash: impl Fn(u32) -> u64) {
        if (self.occupied + 1) * 4 > self.cells.len() * 3 {
            let grown = vec![EMPTY; (self.cells.len() * 2).max(16)];
            let old = std::mem::replace(&mut self.cells, grown);
            for cell in old.into_iter().filter(|cell| cell.slot != NO_SLOT) {
                self.place(rehash(cell.slot), cell.slot);
            }
        }
        self.place(hash, slot);
        self.occupied += 1;
    }

    /// Lets the key lead to another slot.
    pub(crate) fn redirect(&mut self, hash: u64, from: u32, to: u32) {
        if let Some(at) = self.position(hash, |slot| slot == from) {
            self.cells[at].slot = to;
        }
    }

    /// Takes a key out, and closes the gap by moving what was displaced over it.
    pub(crate) fn remove(&mut self, hash: u64, slot: u32, rehash: impl Fn(u32) -> u64) {
        let Some(mut gap) = self.position(hash, |one| one == slot) else { return };
        let mask = self.cells.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if cell.slot == NO_SLOT {
                break;
            }
            let home = self.home(rehash(cell.slot));
            // The cell may move into the gap if its home is not between the gap and itself.
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.cells[gap] = cell;
                gap = at;
            }
        }
        self.cells[gap] = EMPTY;
        self.occupied -= 1;
    }

    fn position(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<usize> {
        if self.cells.is_empty() {
            return None;
        }
        let mask = self.cells.len() - 1;
        let mut at = self.home(hash);
        // A quarter of the cells is empty: the walk ends.
        loop {
            let cell = self.cells[at];
            if cell.slot == NO_SLOT {
                return None;
            }
            if cell.tag == tag(hash) && is_it(cell.slot) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mask = self.cells.len() - 1;
        let mut at = self.home(hash);
        while self.cells[at].slot != NO_SLOT {
            at = (at + 1) & mask;
        }
        self.cells[at] = Cell { tag: tag(hash), slot };
    }

    fn home(&self, hash: u64) -> usize {
        let [.., a, b, c, d] = hash.to_be_bytes();
        usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0) & (self.cells.len() - 1)
    }
}

fn tag(hash: u64) -> u32 {
    let [a, b, c, d, ..] = hash.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a map of the standard library, with hashes that collide much.
        #[test]
        fn the_index_does_what_a_map_does(steps in prop::collection::vec((0_u32..60, any::<bool>()), 1..400)) {
            let hash = |slot: u32| u64::from(slot % 7) << 32 | u64::from(slot % 5);
            let mut index = Index::new();
            let mut model = HashMap::new();
            for (slot, insert) in steps {
                if insert && model.insert(slot, ()).is_none() {
                    index.insert(hash(slot), slot, hash);
                } else if !insert && model.remove(&slot).is_some() {
                    index.remove(hash(slot), slot, hash);
                }
                for slot in 0..60 {
                    let found = index.find(hash(slot), |one| one == slot);
                    prop_assert_eq!(found.is_some(), model.contains_key(&slot));
                }
            }
        }
    }
}
