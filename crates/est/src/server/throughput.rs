//! How fast the authority issues, while it has work.
//!
//! A device that is sent away is told to come back when the queue before it can have been served: the queue over this rate (Little's law). A request
//! that would wait for too long is not accepted in the first place. The rate is measured only while many requests wait without a break: an authority
//! that has little to do is not slow, and one request that hangs says nothing of others. One that has issued many without a break, in whatever time, is
//! at least that fast: so an estimate of a bad hour does not outlive it, although a healthy authority never has requests waiting for a whole second.
//!
//! Only what is issued counts. A refusal leaves the queue as soon as it is known, so that a device whose requests are all refused does not make a slow
//! authority look fast.

use std::time::{Duration, Instant};

/// One measurement takes at least this long. Shorter than the first Max-Age, so that an estimate of a storm exists when its first devices return.
const WINDOW: Duration = Duration::from_secs(1);

/// Requests wait no longer than this: the client of an acknowledged request has its own patience, and a device that is told to come back sleeps meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// So many requests may wait whatever the rate is, so that an authority that was slow once gets the chance to show that it is not.
const WAITING_MIN: usize = 64;

/// A queue is not taken to be answered in less time than this: a clock that has not moved says nothing.
const INSTANT: Duration = Duration::from_millis(1);

/// A window in which fewer wait than this measures how fast requests come.
const WAITING_MEASURED: usize = 32;

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
    /// What was issued since then, or since the last window.
    issued: u32,
    /// [`WAITING_MEASURED`] or more have waited since.
    window: Option<Window>,
}

/// What the authority does without a break begins with something issued: how long one request takes alone does not count.
struct Window {
    first: Instant,
    /// The first one included.
    issued: u32,
}

impl Busy {
    fn since(now: Instant) -> Self {
        Self { since: now, issued: 0, window: None }
    }
}

impl Throughput {
    /// A request begins to wait.
    pub(super) fn note_submitted(&mut self, now: Instant) {
        self.busy.get_or_insert_with(|| Busy::since(now));
    }

    /// The authority has refused a request, or sent a device away, which is no work done; `waiting` others still wait.
    pub(super) fn note_not_issued(&mut self, waiting: usize) {
        if waiting == 0 {
            self.busy = None;
        } else if waiting < WAITING_MEASURED
            && let Some(busy) = &mut self.busy
        {
            busy.window = None;
        }
    }

    /// The authority has issued what one request asks for; `waiting` others still wait.
    pub(super) fn note_issued(&mut self, now: Instant, waiting: usize) {
        let busy = self.busy.get_or_insert_with(|| Busy::since(now));
        busy.issued += 1;
        if waiting < WAITING_MEASURED {
            busy.window = None;
        } else {
            let window = busy.window.get_or_insert(Window { first: now, issued: 0 });
            window.issued += 1;
            let passed = now.saturating_duration_since(window.first);
            if passed >= WINDOW {
                let sample = f64::from(window.issued - 1) / passed.as_secs_f64();
                self.per_second = Some(self.per_second.map_or(sample, |before| f64::midpoint(before, sample)));
                *busy = Busy { since: now, issued: 1, window: Some(Window { first: now, issued: 1 }) };
            }
        }
        if waiting == 0 {
            self.note_drained(now);
        }
    }

    /// Nobody waits any more.
    fn note_drained(&mut self, now: Instant) {
        let Some(Busy { since, issued, .. }) = self.busy.take() else { return };
        if issued >= DRAINED_MIN {
            let passed = now.saturating_duration_since(since).max(INSTANT);
            let sample = f64::from(issued) / passed.as_secs_f64();
            self.per_second = self.per_second.map(|before| f64::midpoint(before, sample.max(before)));
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
        (0..10).for_each(|minute| throughput.note_issued(at(minute * 60_000), 0));
        assert_eq!(throughput.time_for(100), None);
        // Requests wait, and ten a second are answered.
        (0..=30).for_each(|n| throughput.note_issued(at(1_000_000 + n * 100), 500));
        assert_eq!(throughput.time_for(100), Some(Duration::from_secs(10)));
        assert!(throughput.is_too_long(201) && !throughput.is_too_long(199));
        // Idle again: the estimate stays, and a break does not count as slow work.
        throughput.note_issued(at(1_003_100), 0);
        (0..10).for_each(|minute| throughput.note_issued(at(2_000_000 + minute * 60_000), 0));
        assert_eq!(throughput.time_for(100), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_slow_authority_gets_a_few_requests_nevertheless() {
        let (start, mut throughput) = (start(), Throughput::default());
        (0..10).for_each(|n| throughput.note_issued(start + Duration::from_secs(n * 60), 99));
        assert!(!throughput.is_too_long(WAITING_MIN - 1) && throughput.is_too_long(WAITING_MIN));
    }

    #[test]
    fn c49_an_estimate_of_a_bad_hour_does_not_outlive_it() {
        let (start, mut throughput) = (start(), Throughput::default());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        // A disk that hangs: two requests a second for half a minute.
        (0..=60).for_each(|n| throughput.note_issued(at(n * 500), 500));
        throughput.note_issued(at(30_500), 0);
        assert!(throughput.is_too_long(WAITING_MIN));
        // Well again: as many as may wait then come together, and are answered within 21 ms. Nothing waits for a whole second any more.
        for burst in 1..=10 {
            let began = 40_000 + burst * 100;
            (0..64).for_each(|_| throughput.note_submitted(at(began)));
            (0..64_usize).for_each(|n| throughput.note_issued(at(began + 21), 63 - n));
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
            throughput.note_issued(at(n * 60 + 5), 0);
        }
        // One that is approved by hand says so at once, and is asked again after an hour.
        throughput.note_submitted(at(1_000));
        throughput.note_not_issued(0);
        throughput.note_submitted(at(4_600));
        throughput.note_issued(at(4_601), 0);
        assert_eq!(throughput.time_for(100), None);
    }

    #[test]
    fn c37_one_request_that_hangs_says_nothing_of_the_others() {
        let (start, mut throughput) = (start(), Throughput::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        throughput.note_submitted(at(0));
        for n in 1..=30 {
            throughput.note_submitted(at(2 * n));
            throughput.note_issued(at(2 * n), 1);
        }
        assert_eq!(throughput.time_for(100), None, "one in two seconds is how fast they come");
        assert!(!throughput.is_too_long(1_000));
    }

    #[test]
    fn c37_refusals_do_not_make_a_slow_authority_look_fast() {
        let (start, mut throughput) = (start(), Throughput::default());
        // Ten a second are issued, and between two of them a hundred requests of one device are refused.
        for n in 0..=30 {
            throughput.note_issued(start + Duration::from_millis(n * 100), 500);
            (0..100).for_each(|_| throughput.note_not_issued(500));
        }
        assert_eq!(throughput.time_for(100), Some(Duration::from_secs(10)));
    }
}
