//! How fast the authority answers, while it has work.
//!
//! A device that is sent away is told to come back when the queue before it can have been served: the queue over this rate (Little's law). A request
//! that would wait for too long is not accepted in the first place. The rate is measured only while requests wait without a break: an authority that
//! has nothing to do is not slow. One that has answered many without a break, in whatever time, is at least that fast: so an estimate of a bad hour does
//! not outlive it, although a healthy authority never has requests waiting for a whole second.

use std::time::{Duration, Instant};

/// One measurement takes at least this long. Shorter than the first Max-Age, so that an estimate of a storm exists when its first devices return.
const WINDOW: Duration = Duration::from_secs(1);

/// Requests wait no longer than this: the client of an acknowledged request has its own patience, and a device that is told to come back sleeps meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// So many requests may wait whatever the rate is, so that an authority that was slow once gets the chance to show that it is not.
const WAITING_MIN: usize = 64;

/// A queue is not taken to be answered in less time than this: a clock that has not moved says nothing.
const INSTANT: Duration = Duration::from_millis(1);

/// A queue that is empty before a window is over shows how fast the authority is, if at least so many were answered: few may only say how long each takes.
const DRAINED_MIN: u32 = 32;

/// See the module.
#[derive(Default)]
pub(super) struct Throughput {
    busy: Option<Busy>,
    per_second: Option<f64>,
}

/// Requests wait without a break.
struct Busy {
    since: Instant,
    /// The first decision of the present window: what the authority does without a break begins here. How long one request takes alone does not count.
    first: Option<Instant>,
    /// Decisions of the window, the first included.
    decided: u32,
}

impl Busy {
    fn since(now: Instant) -> Self {
        Self { since: now, first: None, decided: 0 }
    }
}

impl Throughput {
    /// A request begins to wait.
    pub(super) fn note_submitted(&mut self, now: Instant) {
        self.busy.get_or_insert_with(|| Busy::since(now));
    }

    /// The authority has sent a device away, which decides nothing; `waiting` others still wait.
    pub(super) fn note_sent_away(&mut self, waiting: usize) {
        if waiting == 0 {
            self.busy = None;
        }
    }

    /// The authority has decided about one request; `waiting` others still wait.
    pub(super) fn note_decided(&mut self, now: Instant, waiting: usize) {
        let busy = self.busy.get_or_insert_with(|| Busy::since(now));
        busy.decided += 1;
        let first = *busy.first.get_or_insert(now);
        let passed = now.saturating_duration_since(first);
        if passed >= WINDOW {
            let sample = f64::from(busy.decided - 1) / passed.as_secs_f64();
            self.per_second = Some(self.per_second.map_or(sample, |before| f64::midpoint(before, sample)));
            *busy = Busy { since: now, first: Some(now), decided: 1 };
        } else if waiting == 0 && busy.decided >= DRAINED_MIN {
            let passed = now.saturating_duration_since(busy.since).max(INSTANT);
            let sample = f64::from(busy.decided) / passed.as_secs_f64();
            self.per_second = self.per_second.map(|before| f64::midpoint(before, sample.max(before)));
        }
        if waiting == 0 {
            self.busy = None;
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

    #[test]
    fn c49_an_estimate_of_a_bad_hour_does_not_outlive_it() {
        let (start, mut throughput) = (start(), Throughput::default());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        // A disk that hangs: two requests a second for half a minute.
        (0..=60).for_each(|n| throughput.note_decided(at(n * 500), 500));
        throughput.note_decided(at(30_500), 0);
        assert!(throughput.is_too_long(WAITING_MIN));
        // Well again: as many as may wait then come together, and are answered within 21 ms. Nothing waits for a whole second any more.
        for burst in 1..=10 {
            let began = 40_000 + burst * 100;
            (0..64).for_each(|_| throughput.note_submitted(at(began)));
            (0..64_usize).for_each(|n| throughput.note_decided(at(began + 21), 63 - n));
        }
        assert!(!throughput.is_too_long(1_000));
        assert!(throughput.time_for(1_000) < Some(Duration::from_secs(1)));
    }

    #[test]
    fn how_long_a_few_take_is_no_rate() {
        let (start, mut throughput) = (start(), Throughput::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        // An upstream that needs five seconds for each, and answers many at a time.
        for n in 0..10 {
            throughput.note_submitted(at(n * 60));
            throughput.note_decided(at(n * 60 + 5), 0);
        }
        // One that is approved by hand says so at once, and is asked again after an hour.
        throughput.note_submitted(at(1_000));
        throughput.note_sent_away(0);
        throughput.note_submitted(at(4_600));
        throughput.note_decided(at(4_601), 0);
        assert_eq!(throughput.time_for(100), None);
    }
}
