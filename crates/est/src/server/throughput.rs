//! How fast the queue before the authority moves.
//!
//! A device that is sent away is told to come back when the queue before it can have been served, and a request that would wait for too long is not
//! accepted in the first place. Both follow from what a request that was issued has seen: how many waited when it came, and how long it waited then
//! (Little's law: their quotient is the rate at which requests leave the queue). Whatever else stood in that queue counts as it should: a refusal that
//! took its time before the authority was work, and one that was known at once delayed nobody. Neither can a device whose requests are all refused
//! make a slow authority look fast, nor can many of them make it look slow.
//!
//! A request before which few waited says how long one takes, and nothing about a queue. Until one has come through a queue, the rate at which requests
//! leave it must do, for whatever reason: so there is an estimate a second after a storm has begun.

use std::time::{Duration, Instant};

/// Requests wait no longer than this: the client of an acknowledged request has its own patience, and a device that is told to come back sleeps meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Requests of so many certificates may wait whatever the rate is, so that an authority that was slow once gets the chance to show that it is not, and a
/// few devices with many requests each make no queue for others.
const OWNERS_MIN: usize = 64;

/// A request is not taken to be answered in less time than this: a clock that has not moved says nothing.
const INSTANT: Duration = Duration::from_millis(1);

/// A request before which fewer waited than this says nothing about the queue.
const AHEAD_MEASURED: u32 = 32;

/// The first measurement takes at least this long. Shorter than the first Max-Age, so that an estimate of a storm exists when its first devices return.
const WINDOW: Duration = Duration::from_secs(1);

/// The part of the newest request in the estimate: one that hung is forgotten after a few dozen others.
const NEWEST_PART: f64 = 1.0 / 8.0;

const _: () = assert!(OWNERS_MIN > AHEAD_MEASURED as usize, "an estimate of a bad hour does not outlive it");

/// See the module.
#[derive(Default)]
pub(super) struct Throughput {
    /// Seconds in which the queue moves by one request.
    step: Option<f64>,
    /// The same by what left the queue, as long as nothing better is known.
    first_step: Option<f64>,
    window: Option<Window>,
}

/// [`AHEAD_MEASURED`] or more have waited since a request left the queue.
struct Window {
    since: Instant,
    left: u32,
}

impl Throughput {
    /// The authority has issued what a request asks for that has `waited`; `ahead` others waited when it came.
    pub(super) fn note_issued(&mut self, ahead: u32, waited: Duration) {
        if ahead < AHEAD_MEASURED {
            return;
        }
        let sample = waited.max(INSTANT).as_secs_f64() / f64::from(ahead);
        self.step = Some(self.step.map_or(sample, |step| step + (sample - step) * NEWEST_PART));
    }

    /// A request has left the queue; `waiting` others still wait.
    pub(super) fn note_left(&mut self, now: Instant, waiting: usize) {
        if self.step.is_some() || u32::try_from(waiting).is_ok_and(|waiting| waiting < AHEAD_MEASURED) {
            (self.first_step, self.window) = (None, None);
            return;
        }
        let Some(window) = &mut self.window else {
            self.window = Some(Window { since: now, left: 0 });
            return;
        };
        window.left += 1;
        let passed = now.saturating_duration_since(window.since);
        if passed >= WINDOW {
            self.first_step = Some(passed.as_secs_f64() / f64::from(window.left));
            self.window = Some(Window { since: now, left: 0 });
        }
    }

    /// The time in which so many requests are answered, as far as the rate is known.
    pub(super) fn time_for(&self, requests: usize) -> Option<Duration> {
        let requests = f64::from(u32::try_from(requests).unwrap_or(u32::MAX));
        self.step.or(self.first_step).and_then(|step| Duration::try_from_secs_f64(requests * step).ok())
    }

    /// Whether a request that begins to wait behind `waiting` others, of so many certificates, would wait for too long.
    pub(super) fn is_too_long(&self, waiting: usize, owners: usize) -> bool {
        owners >= OWNERS_MIN && self.time_for(waiting).is_some_and(|time| time > WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Whether as many certificates as this would wait for too long, each with one request.
    fn is_too_long(throughput: &Throughput, waiting: usize) -> bool {
        throughput.is_too_long(waiting, waiting)
    }

    #[test]
    fn c37_the_rate_is_that_of_a_queue() {
        let mut throughput = Throughput::default();
        // One request a minute, each answered before the next one comes.
        (0..10).for_each(|_| throughput.note_issued(0, milliseconds(60_000)));
        assert_eq!(throughput.time_for(100), None);
        // Requests wait, and ten a second are answered.
        (100..200).for_each(|ahead: u32| throughput.note_issued(ahead, milliseconds(u64::from(ahead) * 100)));
        let time = throughput.time_for(100).unwrap();
        assert!((9.9..10.1).contains(&time.as_secs_f64()), "{time:?}");
        assert!(is_too_long(&throughput, 202) && !is_too_long(&throughput, 198));
        // Idle again: the estimate stays, and a break does not count as slow work.
        (0..10).for_each(|_| throughput.note_issued(0, milliseconds(60_000)));
        assert_eq!(throughput.time_for(100), Some(time));
    }

    #[test]
    fn c37_a_storm_has_an_estimate_before_anybody_has_come_through_its_queue() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let (start, mut throughput) = (Instant::now(), Throughput::default());
        let mut left = |at, waiting| {
            throughput.note_left(start + milliseconds(at), waiting);
            throughput.time_for(40)
        };
        assert_eq!([0, 500, 900].map(|at| left(at, 1)), [None; 3], "nobody waits");
        assert_eq!([1_000, 1_500].map(|at| left(at, 40)), [None; 2]);
        assert_eq!(left(2_000, 40), Some(Duration::from_secs(20)), "two a second");
        throughput.note_issued(40, Duration::from_secs(4));
        assert_eq!(throughput.time_for(40), Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_slow_authority_gets_requests_of_a_few_certificates_nevertheless() {
        let mut throughput = Throughput::default();
        (0..10).for_each(|_| throughput.note_issued(99, Duration::from_secs(600)));
        assert!(!is_too_long(&throughput, OWNERS_MIN - 1) && is_too_long(&throughput, OWNERS_MIN));
        assert!(!throughput.is_too_long(1_000, OWNERS_MIN - 1), "however many requests they have");
    }

    #[test]
    fn c49_an_estimate_of_a_bad_hour_does_not_outlive_it() {
        let mut throughput = Throughput::default();
        // A disk that hangs: two requests a second for half a minute.
        (0..=60).for_each(|_| throughput.note_issued(500, Duration::from_secs(250)));
        assert!(is_too_long(&throughput, OWNERS_MIN));
        // Well again: as many as may wait then come together, and are answered within 21 ms.
        (0..10).flat_map(|_| 0..64).for_each(|ahead| throughput.note_issued(ahead, milliseconds(21)));
        assert!(!is_too_long(&throughput, 1_000));
        assert!(throughput.time_for(1_000) < Some(Duration::from_secs(1)));
    }

    #[test]
    fn c37_one_request_that_hangs_says_nothing_of_the_others() {
        let mut throughput = Throughput::default();
        let served = |throughput: &mut Throughput| (0..32).for_each(|_| throughput.note_issued(100, milliseconds(100)));
        served(&mut throughput);
        throughput.note_issued(100, Duration::from_secs(60));
        served(&mut throughput);
        assert!(throughput.time_for(1_000) < Some(Duration::from_secs(3)), "{:?}", throughput.time_for(1_000));
    }

    #[test]
    fn c37_refusals_that_take_their_time_do_not_make_an_authority_look_slow_and_others_do_not_make_it_look_fast() {
        let mut throughput = Throughput::default();
        // An upstream that works on all of them and takes a second: most are refused, one in a while is issued.
        (0..3).for_each(|_| throughput.note_issued(64, Duration::from_secs(1)));
        assert!(!is_too_long(&throughput, 1_000));
        // Ten a second are issued, however many others are refused at once.
        (0..60).for_each(|_| throughput.note_issued(500, Duration::from_secs(50)));
        assert!(is_too_long(&throughput, 202));
    }
}
