//! Which upstream is asked next: the first one in the list that is healthy, or whose rest is over. One that failed is tried again by one request after a
//! pause that doubles, also while another one is healthy: the first in the list is the preferred one.
//!
//! ```text
//!   healthy ──failure──► resting (1 s, 2 s, ... 60 s) ──its time──► one request tries it ──answer──► healthy
//!                            ▲                     │                    ▲    │ failure
//!                            │                     └─► GET cacerts ─200─┘    │
//!                            │   (it took requests and served none,  │       │
//!                            │    and another one is healthy)        │       │
//!                            └────────────────────── failure ────────┴───────┘
//! ```
//!
//! A request that cannot be sent goes to the next upstream. One that is sent and not served stays where it is: so an upstream that did that to others
//! has to answer for its CA certificates first, unless it is the only hope.
//!
//! A failure is a request that could not be sent, or the last of several in a row that were sent and not served: one such request may be the fault of
//! its device. Requests that were on their way when it failed, and repeats that must go to it while it rests, prolong nothing when they fail too.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::UnixTime;

use super::upstream::{HttpAnswer, UpstreamFailure};

const PAUSE_SECONDS_MAX: u64 = 60;

/// New requests in a row that are sent and not served before their upstream rests: one more than one device may have in flight, so that a device whose
/// requests make a CA hang costs the others nothing. While it rests, the first one that tries it decides.
const UNSERVED_MAX: u32 = 5;

/// The upstreams of one configuration, by name, and their health.
#[derive(Debug)]
pub struct UpstreamPool {
    upstreams: Vec<(Arc<str>, Mutex<Health>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures: u32,
    /// New requests in a row that were sent and not served.
    unserved: u32,
    /// How many rests it has had. An answer does not set it back.
    rests_begun: u64,
    /// The second from which it may be tried, and the one at which it failed.
    rests: Option<(u64, u64)>,
    cause: RestCause,
}

/// Why an upstream rests, as far as it matters for its trial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum RestCause {
    /// It could not be reached, or has answered for its CA certificates since: a request may try it.
    #[default]
    Unreachable,
    /// It was sent requests, and did not serve them.
    Unserved,
}

/// How an attempt began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptBegan {
    /// How many rests its upstream had had; `None` if it rested just then. A count, because many attempts begin in one second.
    rests: Option<u64>,
    is_repeat: bool,
}

impl UpstreamPool {
    /// All of them healthy.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self { upstreams: names.into_iter().map(|name| (name, Mutex::default())).collect() }
    }

    /// Number of upstreams.
    #[must_use]
    pub fn len(&self) -> usize {
        self.upstreams.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.upstreams.is_empty()
    }

    /// The name of an upstream.
    #[must_use]
    pub fn name(&self, upstream: usize) -> Option<&Arc<str>> {
        self.upstreams.get(upstream).map(|(name, _)| name)
    }

    /// The place of the upstream with this name.
    #[must_use]
    pub fn place(&self, wanted: &str) -> Option<usize> {
        self.upstreams.iter().position(|(name, _)| **name == *wanted)
    }

    /// Each upstream, and whether it rests: it failed, and has not answered since.
    #[must_use]
    pub fn resting(&self) -> Vec<(Arc<str>, bool)> {
        let is_resting = |place: usize| self.lock(place).rests.is_some();
        self.upstreams.iter().enumerate().map(|(place, (name, _))| (Arc::clone(name), is_resting(place))).collect()
    }

    /// The first upstream that was not tried and is healthy or may be tried by a request, else one whose rest is over; `None` if all of them rest. It
    /// changes nothing: whether a request is sent at all is decided later, and only then [`Self::claim`] is asked.
    pub(super) fn choose(&self, at: UnixTime, tried: &[usize]) -> Option<usize> {
        let open = || (0..self.upstreams.len()).filter(|place| !tried.contains(place));
        let is_preferred = |place: &usize| {
            let health = self.lock(*place);
            health.rests.is_none() || health.may_be_asked(at) && health.cause == RestCause::Unreachable
        };
        open().find(is_preferred).or_else(|| open().find(|place| self.lock(*place).may_be_asked(at)))
    }

    /// The first upstream that has to answer for its CA certificates before a request tries it, if its rest is over and another one is healthy. Until
    /// the next rest is over, nobody else asks it.
    pub(super) fn probe(&self, at: UnixTime) -> Option<(usize, AttemptBegan)> {
        let places = || 0..self.upstreams.len();
        places().find(|place| self.lock(*place).rests.is_none())?;
        places().find_map(|place| {
            let mut health = self.lock(place);
            let is_due = health.rests.is_some() && health.cause == RestCause::Unserved && health.may_be_asked(at);
            if is_due {
                health.rest(at);
            }
            is_due.then_some((place, AttemptBegan { rests: Some(health.rests_begun), is_repeat: false }))
        })
    }

    /// What came of that.
    pub(super) fn probed(
        &self,
        upstream: usize,
        began: AttemptBegan,
        at: UnixTime,
        answer: &Result<HttpAnswer, UpstreamFailure>,
    ) {
        let cause = match answer {
            Ok(HttpAnswer { status: 200, .. }) => {
                let mut health = self.lock(upstream);
                if began.rests == Some(health.rests_begun) {
                    (health.cause, health.rests) = (RestCause::Unreachable, Some((at.as_secs(), at.as_secs())));
                }
                return;
            }
            Err(UpstreamFailure::NotSent) => RestCause::Unreachable,
            _ => RestCause::Unserved,
        };
        match answer {
            Ok(answer) => {
                self.failed(upstream, began, at, (cause, &format_args!("cacerts: it answers {}", answer.status)));
            }
            Err(failure) => self.failed(upstream, began, at, (cause, failure)),
        }
    }

    /// Begins a request, if it may go to this upstream. Where its rest is over, only one request tries it.
    pub(super) fn claim(&self, upstream: usize, at: UnixTime) -> Option<AttemptBegan> {
        let mut health = self.lock(upstream);
        let may = health.may_be_asked(at);
        if may && health.rests.is_some() {
            health.rest(at);
        }
        may.then_some(AttemptBegan { rests: Some(health.rests_begun), is_repeat: false })
    }

    /// Begins a repeat that no other upstream may be sent, whether this one rests or not.
    pub(super) fn repeat(&self, upstream: usize, at: UnixTime) -> AttemptBegan {
        let health = self.lock(upstream);
        AttemptBegan { rests: health.may_be_asked(at).then_some(health.rests_begun), is_repeat: true }
    }

    /// What the end of an attempt says about its upstream.
    pub(super) fn ended(
        &self,
        upstream: usize,
        began: AttemptBegan,
        at: UnixTime,
        answer: &Result<HttpAnswer, UpstreamFailure>,
    ) {
        match answer {
            Err(failure @ UpstreamFailure::NotSent) => {
                self.failed(upstream, began, at, (RestCause::Unreachable, failure));
            }
            Err(failure @ (UpstreamFailure::Crowded | UpstreamFailure::Unknown | UpstreamFailure::TooLong)) => {
                self.unserved(upstream, began, at, failure);
            }
            // A proxy in front of a dead CA answers everybody so. None of them comes with a certificate.
            Ok(HttpAnswer { status: status @ (502..=504), .. }) => {
                self.unserved(upstream, began, at, &format_args!("it answers {status}"));
            }
            Ok(_) => self.succeeded(upstream),
        }
    }

    fn succeeded(&self, upstream: usize) {
        let mut health = self.lock(upstream);
        if health.failures > 0 {
            tracing::info!(upstream = %self.upstreams[upstream].0, "the upstream CA answers again");
        }
        *health = Health { rests_begun: health.rests_begun, ..Health::default() };
    }

    /// A repeat whose first attempt was not served either says nothing new.
    fn unserved(&self, upstream: usize, began: AttemptBegan, at: UnixTime, why: &dyn fmt::Display) {
        let mut health = self.lock(upstream);
        if began.is_repeat || began.rests != Some(health.rests_begun) {
            return;
        }
        health.unserved = health.unserved.saturating_add(1);
        let decides = health.rests.is_some() || health.unserved >= UNSERVED_MAX;
        drop(health);
        if decides {
            self.failed(upstream, began, at, (RestCause::Unserved, why));
        }
    }

    fn failed(&self, upstream: usize, began: AttemptBegan, at: UnixTime, (cause, why): (RestCause, &dyn fmt::Display)) {
        let mut health = self.lock(upstream);
        if began.rests != Some(health.rests_begun) {
            return;
        }
        health.failures = health.failures.saturating_add(1);
        health.rests_begun += 1;
        health.cause = cause;
        health.rest(at);
        // Once at the beginning, and then each time the pause doubles.
        if health.failures.is_power_of_two() {
            tracing::warn!(upstream = %self.upstreams[upstream].0, failures = health.failures, "upstream CA: {why}");
        }
    }

    fn lock(&self, upstream: usize) -> std::sync::MutexGuard<'_, Health> {
        self.upstreams[upstream].1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// Whether it is healthy, or its rest is over. A clock that was set back does not prolong a rest.
    fn may_be_asked(&self, at: UnixTime) -> bool {
        let now = at.as_secs();
        self.rests.is_none_or(|(until, since)| until <= now || now < since)
    }

    fn rest(&mut self, at: UnixTime) {
        let now = at.as_secs();
        self.rests = Some((now + pause(self.failures), now));
    }
}

fn pause(failures: u32) -> u64 {
    1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(PAUSE_SECONDS_MAX).clamp(1, PAUSE_SECONDS_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    const NOT_SENT: Result<HttpAnswer, UpstreamFailure> = Err(UpstreamFailure::NotSent);

    /// A request that is sent and fails at once.
    fn fails(pool: &UpstreamPool, upstream: usize, now: u64) {
        let began = pool.claim(upstream, at(now)).unwrap();
        pool.ended(upstream, began, at(now), &NOT_SENT);
    }

    #[test]
    fn one_that_failed_rests_and_is_tried_by_one_request() {
        let pool = UpstreamPool::new(["a".into(), "b".into()]);
        assert_eq!(pool.choose(at(100), &[]), Some(0));
        fails(&pool, 0, 100);
        assert_eq!(pool.choose(at(100), &[]), Some(1), "the other one is healthy");
        fails(&pool, 1, 100);
        assert_eq!(pool.choose(at(100), &[]), None, "all of them rest");
        assert_eq!(pool.resting(), [("a".into(), true), ("b".into(), true)]);
        for _ in 0..2 {
            assert_eq!(pool.choose(at(101), &[]), Some(0), "the rest is over, and looking uses up nothing");
        }
        let tries = pool.claim(0, at(101)).unwrap();
        assert_eq!(pool.claim(0, at(101)), None, "one request tries it");
        assert_eq!(pool.choose(at(101), &[]), Some(1));
        assert!(pool.claim(1, at(101)).is_some());
        assert_eq!(pool.choose(at(101), &[]), None, "one request each");
        pool.ended(0, tries, at(101), &NOT_SENT);
        assert_eq!(pool.choose(at(102), &[1]), None, "it rests for two seconds now");
        assert_eq!(pool.choose(at(103), &[1]), Some(0));
        let tries = pool.claim(0, at(103)).unwrap();
        pool.ended(0, tries, at(103), &Ok(HttpAnswer::default()));
        assert_eq!(pool.resting(), [("a".into(), false), ("b".into(), true)], "also while its rest is over");
        assert_eq!(pool.choose(at(103), &[]), Some(0));
        assert!(
            pool.claim(0, at(103)).is_some() && pool.claim(0, at(103)).is_some(),
            "everybody asks one that is healthy"
        );
    }

    /// Operators put the upstream that they want first in the list.
    #[test]
    fn the_first_one_that_failed_is_tried_again_while_another_one_is_healthy() {
        let pool = UpstreamPool::new(["a".into(), "b".into()]);
        fails(&pool, 0, 100);
        assert_eq!(pool.choose(at(100), &[]), Some(1));
        assert_eq!(pool.probe(at(200)), None, "a request that cannot be sent loses nothing");
        assert_eq!(pool.choose(at(101), &[]), Some(0), "its rest is over");
        let tries = pool.claim(0, at(101)).unwrap();
        assert_eq!(pool.choose(at(101), &[]), Some(1), "one request tries it");
        pool.ended(0, tries, at(101), &NOT_SENT);
        assert_eq!(pool.choose(at(102), &[]), Some(1));
        let tries = pool.claim(0, at(103)).unwrap();
        pool.ended(0, tries, at(103), &Ok(HttpAnswer::default()));
        assert_eq!(pool.choose(at(103), &[]), Some(0), "it is preferred again");
    }

    /// A request that such an upstream swallows could go nowhere else.
    #[test]
    fn one_that_did_not_serve_requests_answers_for_its_cas_before_a_request_tries_it_again() {
        let pool = UpstreamPool::new(["a".into(), "b".into()]);
        let silent: Result<HttpAnswer, UpstreamFailure> = Err(UpstreamFailure::Unknown);
        for _ in 0..UNSERVED_MAX {
            let began = pool.claim(0, at(100)).unwrap();
            pool.ended(0, began, at(100), &silent);
        }
        assert_eq!((pool.probe(at(100)), pool.choose(at(500), &[])), (None, Some(1)));
        for (now, pause, end) in
            [(101, 2, silent.clone()), (103, 4, Ok(HttpAnswer { status: 503, ..HttpAnswer::default() }))]
        {
            let (place, began) = pool.probe(at(now)).unwrap();
            assert_eq!((place, pool.probe(at(now))), (0, None), "one question at a time");
            pool.probed(0, began, at(now), &end);
            assert_eq!((pool.probe(at(now + pause - 1)), pool.choose(at(now + pause), &[])), (None, Some(1)));
        }
        let (_, began) = pool.probe(at(107)).unwrap();
        pool.probed(0, began, at(107), &Ok(HttpAnswer { status: 200, ..HttpAnswer::default() }));
        assert_eq!(pool.choose(at(107), &[]), Some(0));
        let tries = pool.claim(0, at(107)).unwrap();
        assert_eq!((pool.claim(0, at(107)), pool.choose(at(107), &[])), (None, Some(1)), "one request tries it");
        pool.ended(0, tries, at(107), &silent);
        assert_eq!(pool.choose(at(500), &[]), Some(1), "and it begins anew");
        // The answer to a question of before says nothing.
        pool.probed(0, began, at(107), &Ok(HttpAnswer { status: 200, ..HttpAnswer::default() }));
        assert_eq!(pool.choose(at(500), &[]), Some(1));
        // With nobody else to serve the devices, a request tries it.
        fails(&pool, 1, 500);
        assert_eq!((pool.probe(at(500)), pool.choose(at(500), &[])), (None, Some(0)));
    }

    #[test]
    fn a_failure_of_what_was_on_its_way_before_a_rest_or_was_sent_during_it_prolongs_nothing() {
        let pool = UpstreamPool::new(["a".into()]);
        let before: Vec<AttemptBegan> = (0..7).filter_map(|_| pool.claim(0, at(100))).collect();
        for began in &before {
            pool.ended(0, *began, at(100), &NOT_SENT);
        }
        let repeat = pool.repeat(0, at(100));
        pool.ended(0, repeat, at(100), &NOT_SENT);
        assert_eq!(pool.choose(at(101), &[]), Some(0), "seven requests in flight are one failure");
        let tries = pool.claim(0, at(101)).unwrap();
        pool.ended(0, tries, at(101), &Ok(HttpAnswer::default()));
        pool.ended(0, before[0], at(101), &NOT_SENT);
        assert_eq!(pool.choose(at(101), &[]), Some(0), "it has answered since");
    }

    #[test]
    fn several_that_are_not_served_rest_an_upstream_and_the_trial_of_one_that_rests_decides_alone() {
        let pool = UpstreamPool::new(["a".into()]);
        let unserved = |now| {
            let began = pool.claim(0, at(now)).unwrap();
            pool.ended(0, began, at(now), &Err(UpstreamFailure::Unknown));
        };
        for _ in 1..UNSERVED_MAX {
            unserved(100);
        }
        for _ in 0..UNSERVED_MAX {
            let repeat = pool.repeat(0, at(100));
            pool.ended(0, repeat, at(100), &Err(UpstreamFailure::Unknown));
        }
        assert_eq!(pool.resting(), [("a".into(), false)], "a repeat counts no second time");
        unserved(100);
        assert_eq!(pool.choose(at(100), &[]), None);
        unserved(101);
        assert_eq!(pool.choose(at(102), &[]), None, "the pause has doubled");
        assert_eq!(pool.choose(at(103), &[]), Some(0));
    }

    #[test]
    fn the_pause_is_bounded_and_a_clock_that_is_set_back_does_not_prolong_it() {
        let pool = UpstreamPool::new(["a".into()]);
        for round in 0..200 {
            fails(&pool, 0, 1_000 + 60 * round);
        }
        let last = 1_000 + 60 * 199;
        assert_eq!(pool.choose(at(last + 59), &[]), None);
        assert_eq!(pool.choose(at(last + 60), &[]), Some(0));
        assert_eq!(pool.choose(at(500), &[]), Some(0));
    }
}
