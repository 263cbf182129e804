//! Deadlines that are far, such as the end of what a session remembers of its enrolment: rounded up to a second, because there is one for each device of
//! the last [`coap::EXCHANGE_LIFETIME`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use dtls::SessionId;

/// A deadline that is at least this far ahead may be rounded up to a second.
pub(super) const FAR: Duration = Duration::from_secs(64);

/// A second since the first deadline was asked for.
pub(super) type Second = NonZeroU32;

/// The sessions by the second of their deadline. An entry is not removed when its session ends or is served earlier: when its time comes, it names no
/// session, or one that has nothing to do. So the sessions that ended are here for as long as they would have remembered their exchanges.
#[derive(Default)]
pub(super) struct FarDeadlines {
    origin: Option<Instant>,
    sessions: BTreeMap<Second, Vec<SessionId>>,
}

impl FarDeadlines {
    /// The first whole second that is not before `at`, which is not before `now`.
    pub(super) fn second(&mut self, now: Instant, at: Instant) -> Second {
        let origin = *self.origin.get_or_insert(now);
        let since = at.saturating_duration_since(origin);
        let whole = since.as_secs() + u64::from(since.subsec_nanos() > 0);
        // 2^32 seconds are longer than a process lives.
        u32::try_from(whole).ok().and_then(Second::new).unwrap_or(Second::MIN)
    }

    pub(super) fn insert(&mut self, second: Second, session: SessionId) {
        self.sessions.entry(second).or_default().push(session);
    }

    /// When the first entry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.instant(*self.sessions.first_key_value()?.0)
    }

    /// Takes out an entry that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Second, SessionId)> {
        self.next().filter(|at| *at <= now)?;
        let mut first = self.sessions.first_entry()?;
        let (second, session) = (*first.key(), first.get_mut().pop());
        if first.get().is_empty() {
            first.remove();
        }
        session.map(|session| (second, session))
    }

    fn instant(&self, second: Second) -> Option<Instant> {
        self.origin?.checked_add(Duration::from_secs(second.get().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_due_within_a_second_after_its_deadline_and_never_before() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let start = Instant::now();
        let mut far = FarDeadlines::default();
        let deadlines: Vec<Instant> =
            [300_000, 100_400, 100_000, 99_999].map(|millis| start + Duration::from_millis(millis)).into();
        for (slot, at) in (0..).zip(&deadlines) {
            let second = far.second(start, *at);
            far.insert(second, SessionId { slot, generation: 0 });
        }
        while let Some(due) = far.next() {
            assert!(far.pop(due - Duration::from_millis(1)).is_none());
            let (_, session) = far.pop(due).expect("it is due");
            let at = deadlines[usize::try_from(session.slot).unwrap()];
            assert!(at <= due && due < at + Duration::from_secs(1), "slot {}", session.slot);
        }
        assert!(far.sessions.is_empty(), "nothing stays behind");
    }
}
