//! A 64-bit hash with fixed keys: fingerprints of datagrams, names of uploads, ETags.
//!
//! It is not a cryptographic hash and need not be: everything it distinguishes belongs to one authenticated
//! association, and a client that made two of its own messages collide would harm only itself. The keys are fixed
//! because the ETag of a body must be the same after a restart and on another node.

const KEY: u64 = 0x9e37_79b9_7f4a_7c15;
const FOLD: u64 = 0xd6e8_feb8_6659_fd93;

/// A running hash. Each field goes in with its length, so that no two lists of fields give the same bytes.
#[derive(Clone)]
pub(crate) struct Hash64(u64);

impl Hash64 {
    pub(crate) fn new(purpose: u64) -> Self {
        Self(KEY ^ purpose)
    }

    pub(crate) fn field(mut self, bytes: &[u8]) -> Self {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        let rest = chunks.remainder();
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(word));
        self.number(bytes.len() as u64)
    }

    pub(crate) fn number(mut self, number: u64) -> Self {
        self.mix(number);
        self
    }

    pub(crate) fn finish(mut self) -> u64 {
        self.mix(FOLD);
        self.0
    }

    /// The folded multiplication of wyhash: both halves of a 128-bit product.
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ FOLD).wrapping_mul(u128::from(KEY | 1));
        let bytes = product.to_le_bytes();
        let half = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        self.0 = (half(0) ^ half(8)).rotate_left(23).wrapping_add(word);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn lengths_and_borders_of_fields_count() {
        let mut seen = HashSet::new();
        for length in 0..64 {
            assert!(seen.insert(Hash64::new(1).field(&vec![0; length]).finish()));
        }
        assert_ne!(Hash64::new(1).field(b"ab").field(b"c").finish(), Hash64::new(1).field(b"a").field(b"bc").finish());
    }

    #[test]
    fn every_bit_of_a_datagram_counts() {
        let mut datagram: Vec<u8> = (0..=255).collect();
        let original = Hash64::new(1).field(&datagram).finish();
        let mut seen = HashSet::from([original]);
        for bit in 0..datagram.len() * 8 {
            datagram[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(Hash64::new(1).field(&datagram).finish()));
            datagram[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_hash_is_the_same_in_every_build() {
        // If an ETag changed with a release, every client would restart its certificate download in the middle of a
        // transfer.
        assert_eq!(Hash64::new(1).field(b"muster").finish(), 0x9ae0_950b_5458_3c91);
    }
}
