//! Which upstream is asked next: the first healthy one; one that failed is tried again by one request after a pause that doubles.
//!
//! ```text
//!   healthy ──failure──► resting (1 s, 2 s, ... 60 s) ──its time──► one request tries it ──answer──► healthy
//!                            ▲                                          │ failure
//!                            └──────────────────────────────────────────┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use rustls_pki_types::UnixTime;

const PAUSE_SECONDS_MAX: u64 = 60;

/// The upstreams of one configuration, by name, and their health.
#[derive(Debug)]
pub struct UpstreamPool {
    upstreams: Vec<(Arc<str>, Mutex<Health>)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures: u32,
    /// The second from which it may be tried, and the one at which it failed.
    rests: Option<(u64, u64)>,
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

    /// The first healthy upstream that was not tried, else one whose rest is over; `None` if all of them rest. It changes nothing: whether a request
    /// is sent at all is decided later, and only then [`Self::claim`] is asked.
    pub(super) fn choose(&self, at: UnixTime, tried: &[usize]) -> Option<usize> {
        let open = || (0..self.upstreams.len()).filter(|place| !tried.contains(place));
        let is_healthy = |place: &usize| self.lock(*place).rests.is_none();
        open().find(is_healthy).or_else(|| open().find(|place| self.lock(*place).may_be_asked(at)))
    }

    /// Whether a request that is about to be sent may go to this upstream. Where its rest is over, only one request tries it.
    pub(super) fn claim(&self, upstream: usize, at: UnixTime) -> bool {
        let mut health = self.lock(upstream);
        let may = health.may_be_asked(at);
        if may && health.rests.is_some() {
            health.rest(at);
        }
        may
    }

    pub(super) fn succeeded(&self, upstream: usize) {
        let mut health = self.lock(upstream);
        if health.failures > 0 {
            tracing::info!(upstream = %self.upstreams[upstream].0, "the upstream CA answers again");
        }
        *health = Health::default();
    }

    pub(super) fn failed(&self, upstream: usize, at: UnixTime, why: &dyn std::fmt::Display) {
        let mut health = self.lock(upstream);
        health.failures = health.failures.saturating_add(1);
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

    #[test]
    fn one_that_failed_rests_and_is_tried_by_one_request() {
        let pool = UpstreamPool::new(["a".into(), "b".into()]);
        assert_eq!(pool.choose(at(100), &[]), Some(0));
        pool.failed(0, at(100), &"refused");
        assert_eq!(pool.choose(at(100), &[]), Some(1), "the other one is healthy");
        pool.failed(1, at(100), &"refused");
        assert_eq!(pool.choose(at(100), &[]), None, "all of them rest");
        assert_eq!(pool.resting(), [("a".into(), true), ("b".into(), true)]);
        for _ in 0..2 {
            assert_eq!(pool.choose(at(101), &[]), Some(0), "the rest is over, and looking uses up nothing");
        }
        assert!(pool.claim(0, at(101)) && !pool.claim(0, at(101)), "one request tries it");
        assert_eq!(pool.choose(at(101), &[]), Some(1));
        assert!(pool.claim(1, at(101)));
        assert_eq!(pool.choose(at(101), &[]), None, "one request each");
        pool.failed(0, at(101), &"refused");
        assert_eq!(pool.choose(at(102), &[1]), None, "it rests for two seconds now");
        assert_eq!(pool.choose(at(103), &[1]), Some(0));
        pool.succeeded(0);
        assert_eq!(pool.resting(), [("a".into(), false), ("b".into(), true)], "also while its rest is over");
        assert_eq!(pool.choose(at(103), &[]), Some(0));
        assert!(pool.claim(0, at(103)) && pool.claim(0, at(103)), "it is healthy: everybody asks it");
    }

    #[test]
    fn the_pause_is_bounded_and_a_clock_that_is_set_back_does_not_prolong_it() {
        let pool = UpstreamPool::new(["a".into()]);
        for _ in 0..200 {
            pool.failed(0, at(1_000), &"refused");
        }
        assert_eq!(pool.choose(at(1_059), &[]), None);
        assert_eq!(pool.choose(at(500), &[]), Some(0));
    }
}
