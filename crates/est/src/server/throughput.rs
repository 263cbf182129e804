//! How fast the authority answers, while it has work.
//!
//! A device that is sent away is told to come back when the queue before it can have been served: the queue over this rate (Little's law). A request
//! that would wait for too long is not accepted in the first place. The rate is measured only while requests wait without a break: an authority that
//! has nothing to do is not slow.

use std::time::{Duration, Instant};

/// One measurement takes at least this long. Shorter than the first Max-Age, so that an estimate of a storm exists when its first devices return.
const WINDOW: Duration = Duration::from_secs(1);

/// Requests wait no longer than this: the client of an acknowledged request has its own patience, and a device that is told to come back sleeps meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// So many requests may wait whatever the rate is, so that an authority that was slow once gets the chance to show that it is not.
const WAITING_MIN: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Throughput {
    /// The present window, and what was answered in it.
    window: Option<(Instant, u32)>,
    per_second: Option<f64>,
}

impl Throughput {
    /// The authority has decided about one request; `waiting` others still wait. An answer that sends a device away decides nothing.
    pub(super) fn note_decided(&mut self, now: Instant, waiting: usize) {
        let Some((began, decided)) = &mut self.window else {
            self.window = (waiting > 0).then_some((now, 0));
            return;
        };
        *decided += 1;
        let passed = now.saturating_duration_since(*began);
        if passed >= WINDOW {
            let sample = f64::from(*decided) / passed.as_secs_f64();
            self.per_second = Some(self.per_second.map_or(sample, |before| f64::midpoint(before, sample)));
            self.window = Some((now, 0));
        }
        if waiting == 0 {
            self.window = None;
        }
    }

    /// The time in which so many requests are answered, as far as the rate is known.
    pub(super) fn time_for(&self, requests: usize) -> Option<Duration> {
        let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
        self.per_second.and_then(|rate| Duration::try_from_secs_f64(requests / rate).ok())
    }

    /// Whether a request that begins to wait behind so many others would wait for too long.
    pub(super) fn is_too_long(&self, waiting: usize) -> bool {
        waiting >= WAITING_MIN && self.time_for(waiting).is_some_and(|time| time > WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn c37_the_rate_is_that_of_an_authority_with_work() {
        let (start, mut throughput) = (start(), Throughput::default());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        // One request a minute, each answered before the next one comes.
        (0..10).for_each(|minute| throughput.note_decided(at(minute * 60_000), 0));
        assert_eq!(throughput.time_for(100), None);
        // Requests wait, and ten a second are answered.
        (0..=30).for_each(|n| throughput.note_decided(at(1_000_000 + n * 100), 500));
        assert_eq!(throughput.time_for(100), Some(Duration::from_secs(10)));
        assert!(throughput.is_too_long(201) && !throughput.is_too_long(199));
        // Idle again: the estimate stays, and a break does not count as slow work.
        throughput.note_decided(at(1_003_100), 0);
        (0..10).for_each(|minute| throughput.note_decided(at(2_000_000 + minute * 60_000), 0));
        assert_eq!(throughput.time_for(100), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_slow_authority_gets_a_few_requests_nevertheless() {
        let (start, mut throughput) = (start(), Throughput::default());
        (0..10).for_each(|n| throughput.note_decided(start + Duration::from_secs(n * 60), 9));
        assert!(!throughput.is_too_long(WAITING_MIN - 1) && throughput.is_too_long(WAITING_MIN));
    }
}
