//! Randomness that derives from a seed: one source for keys and nonces, one for faults and delays.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use ring::rand::SecureRandom;
use splitmix::SplitMix64;

/// Randomness for the engines: SHA-256 over seed, counter and domain. Each domain is a stream of its own, so the draws of
/// one party do not change those of another.
#[derive(Debug)]
pub struct DerivedRandom {
    seed: u64,
    domain: String,
    counter: AtomicU64,
}

/// The bytes that each operation of ring on P-256 draws: a key's scalar, or the salt of a nonce.
const OPERATION_BYTES: usize = 32;

impl DerivedRandom {
    /// The stream `domain` of `seed`.
    #[must_use]
    pub fn new(seed: u64, domain: &str) -> Self {
        Self { seed, domain: domain.to_owned(), counter: AtomicU64::new(0) }
    }

    fn next(&self) -> [u8; OPERATION_BYTES] {
        let mut context = Context::new(&SHA256);
        context.update(&self.seed.to_be_bytes());
        context.update(&self.counter.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        context.update(self.domain.as_bytes());
        let mut bytes = [0; OPERATION_BYTES];
        bytes.copy_from_slice(context.finish().as_ref());
        bytes
    }

    fn fill_derived(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(OPERATION_BYTES) {
            chunk.copy_from_slice(&self.next()[..chunk.len()]);
        }
    }

    /// Passes the randomness for one operation to `operation` and returns its result.
    pub fn secure<T>(&self, mut operation: impl FnMut(&dyn SecureRandom) -> T) -> T {
        let mut made = None;
        self.hand_over(&mut |random| made = Some(operation(random)));
        made.expect("the operation was called")
    }

    #[allow(deprecated, reason = "ring seals SecureRandom; its own test source is the way to feed it derived bytes")]
    fn hand_over(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&ring::test::rand::FixedSliceRandom { bytes: &self.next() });
    }
}

impl dtls::Random for DerivedRandom {
    fn fill(&self, out: &mut [u8]) {
        self.fill_derived(out);
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        self.hand_over(operation);
    }
}

impl authority::Random for DerivedRandom {
    fn fill(&self, out: &mut [u8]) {
        self.fill_derived(out);
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        self.hand_over(operation);
    }
}

/// A small generator for values that need not be secret.
#[derive(Clone, Debug)]
pub struct Chance(SplitMix64);

impl Chance {
    /// The stream `domain` of `seed`.
    #[must_use]
    pub fn new(seed: u64, domain: &str) -> Self {
        let mut start = [0; 8];
        DerivedRandom::new(seed, domain).fill_derived(&mut start);
        Self(SplitMix64::new(u64::from_be_bytes(start)))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number below `bound`; zero for a bound of zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits().checked_rem(bound).unwrap_or(0)
    }

    /// True in `share` of a thousand cases.
    pub fn permille(&mut self, share: u16) -> bool {
        self.below(1_000) < u64::from(share)
    }

    /// A time within both bounds.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.below(span.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_themselves_and_differ_from_each_other() {
        let draw = |seed, domain| {
            let mut bytes = [0; 48];
            DerivedRandom::new(seed, domain).fill_derived(&mut bytes);
            bytes
        };
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        assert_ne!(draw(1, "a")[..16], draw(1, "a")[32..]);
    }

    #[test]
    fn shares_are_about_what_they_say() {
        let mut chance = Chance::new(1, "share");
        let hits = (0..10_000).filter(|_| chance.permille(100)).count();
        assert!((800..1_200).contains(&hits), "{hits}");
        let (least, most) = (Duration::from_millis(5), Duration::from_millis(7));
        assert!((0..1_000).all(|_| (least..=most).contains(&chance.between(least, most))));
    }
}
