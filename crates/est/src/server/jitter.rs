//! Max-Age with a random part.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use authority::{Busy, UpstreamBusy};

/// The longest Max-Age that this server chooses by itself: after the restart of a ledger the fleet returns within an
/// hour.
pub(super) const MAX_AGE_SECONDS_MAX: u64 = 3_600;

/// The longest Max-Age of a device that is over its limit. An operator's limit says when the device may ask again, so the hour of
/// [`MAX_AGE_SECONDS_MAX`] does not cut it, up to a week. Within ten days and a half the device asks once more, in case the limit has been raised.
const LIMIT_SECONDS_MAX: u64 = 21 * 86_400 / 2;

/// Spreads Max-Age, so that devices that were sent away together do not come back together. It is not a secret: the
/// sequence of a random seed ([`splitmix`]).
pub struct Jitter {
    seed: u64,
    /// The number of draws so far.
    drawn: AtomicU64,
}

impl Jitter {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// A value between `least` and 1.5 times `least`, in whole seconds, at least 1 and at most `MAX_AGE_SECONDS_MAX`. A single second is spread over two.
    #[must_use]
    pub fn max_age(&self, least: Duration) -> u32 {
        self.within(least, MAX_AGE_SECONDS_MAX)
    }

    /// The same for an answer of the authority: a device over its limit can be sent away for longer.
    #[must_use]
    pub fn max_age_of(&self, least: Duration, why: &Busy) -> u32 {
        match why {
            Busy::DeviceOverLimit { .. }
            | Busy::Upstream(
                UpstreamBusy::Accepted { .. } | UpstreamBusy::Later { .. } | UpstreamBusy::TooMany { .. },
            ) => self.within(least, LIMIT_SECONDS_MAX),
            _ => self.max_age(least),
        }
    }

    /// A wait that is cut keeps its spread: it is cut to two thirds of the maximum.
    fn within(&self, least: Duration, seconds_max: u64) -> u32 {
        let least = least.as_secs().clamp(1, seconds_max / 3 * 2);
        let spread = self.next() % (least / 2 + 1).max(2);
        u32::try_from((least + spread).min(seconds_max)).unwrap_or(u32::MAX)
    }

    fn next(&self) -> u64 {
        splitmix::at(self.seed, self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c37_max_age_is_jittered_and_never_zero() {
        let jitter = Jitter::new(7);
        let ages: Vec<u32> = (0..100).map(|_| jitter.max_age(Duration::from_secs(10))).collect();
        assert!(ages.iter().all(|age| (10..=15).contains(age)), "{ages:?}");
        assert!([10, 15].iter().all(|end| ages.contains(end)), "half of it more: {ages:?}");
        let shortest: Vec<u32> = (0..100).map(|_| jitter.max_age(Duration::ZERO)).collect();
        assert!([1, 2].iter().all(|end| shortest.contains(end)) && shortest.iter().all(|age| *age <= 2));
        assert!(jitter.max_age(Duration::from_secs(1 << 40)) <= 3_600);
        // Found by fuzzing `est_operations`: an authority that says "never" overflowed the sum.
        assert!(jitter.max_age(Duration::MAX) <= 3_600);
    }

    #[test]
    fn the_wait_of_a_device_over_its_limit_is_never_cut_below_a_week() {
        let (jitter, plain) = (Jitter::new(7), Jitter::new(7));
        let limited = |wait| jitter.max_age_of(wait, &Busy::DeviceOverLimit { wait });
        for seconds in [1, 600, 2_400] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(limited(wait), plain.max_age(wait), "the same draw for the same seed");
        }
        for (seconds, least, most) in [
            (3_600, 3_600, 5_400),
            (86_400, 86_400, 129_600),
            (604_800, 604_800, 907_200),
            (u64::MAX, 604_800, 907_200),
        ] {
            let ages: Vec<u32> = (0..100).map(|_| limited(Duration::from_secs(seconds))).collect();
            assert!(ages.iter().all(|age| (least..=most).contains(age)), "{ages:?}");
            assert!(ages.iter().any(|age| *age != ages[0]), "not jittered");
        }
        assert!(jitter.max_age_of(Duration::from_secs(1 << 20), &Busy::DevicePending) <= 3_600);
    }

    /// A server that is overloaded for more than an hour sends everybody away for the longest time: they must not come back in one second.
    #[test]
    fn c37_a_wait_that_is_cut_is_jittered_too() {
        let jitter = Jitter::new(7);
        let ages: Vec<u32> = (0..100).map(|_| jitter.max_age(Duration::from_secs(1 << 20))).collect();
        assert!(ages.iter().all(|age| (2_400..=3_600).contains(age)), "{ages:?}");
        assert!(ages.iter().any(|age| *age != ages[0]), "not jittered");
    }
}
