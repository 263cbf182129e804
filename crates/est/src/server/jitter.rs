//! Max-Age with a random part.

use std::cell::Cell;
use std::time::Duration;

/// The longest Max-Age that this server chooses by itself: after the restart of a ledger the fleet returns within an
/// hour.
pub(super) const MAX_AGE_SECONDS_MAX: u64 = 3_600;

/// Spreads Max-Age, so that devices that were sent away together do not come back together. It is not a secret: a small
/// generator from a random seed (xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators").
pub(super) struct Jitter(Cell<u64>);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        // Zero is the only state that the generator cannot leave.
        Self(Cell::new(seed | 1))
    }

    /// A value between `least` and 1.5 times `least`, in whole seconds, at least 1.
    pub(super) fn max_age(&self, least: Duration) -> u32 {
        let least = least.as_secs().clamp(1, MAX_AGE_SECONDS_MAX);
        let spread = self.next() % (least / 2 + 2);
        u32::try_from((least + spread).min(MAX_AGE_SECONDS_MAX)).unwrap_or(u32::MAX)
    }

    fn next(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c37_max_age_is_jittered_and_never_zero() {
        let jitter = Jitter::new(7);
        let ages: Vec<u32> = (0..100).map(|_| jitter.max_age(Duration::from_secs(10))).collect();
        assert!(ages.iter().all(|age| (10..=16).contains(age)), "{ages:?}");
        assert!(ages.iter().any(|age| *age != ages[0]), "not jittered");
        assert!((0..100).all(|_| (1..=3).contains(&jitter.max_age(Duration::ZERO))));
        assert!(jitter.max_age(Duration::from_secs(1 << 40)) <= 3_600);
        // Found by fuzzing `est_operations`: an authority that says "never" overflowed the sum.
        assert!(jitter.max_age(Duration::MAX) <= 3_600);
    }
}
