//! The last start of a run or of a phase: whether the generator kept its schedule.

use std::time::Duration;

/// The lateness that a busy machine's scheduler may cause: one late turn does not void a short run.
pub(crate) const LATENESS_FORGIVEN: Duration = Duration::from_millis(100);

/// The last start of a run: when it was due and when it was made, both counted from the run's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LastStart {
    pub(crate) scheduled: Duration,
    pub(crate) actual: Duration,
}

impl LastStart {
    /// The share of the requested rate at which the devices started: 1 if the last one was in time.
    pub(crate) fn offered_share(self) -> f64 {
        self.offered_share_since(Duration::ZERO)
    }

    /// The same of the starts since that moment, the first one of a phase.
    pub(crate) fn offered_share_since(self, first: Duration) -> f64 {
        let actual = self.actual.saturating_sub(LATENESS_FORGIVEN).saturating_sub(first);
        let scheduled = self.scheduled.saturating_sub(first);
        if actual <= scheduled { 1.0 } else { scheduled.as_secs_f64() / actual.as_secs_f64() }
    }

    /// The later start of two threads.
    pub(crate) fn later(self, other: Self) -> Self {
        if other.actual > self.actual { other } else { self }
    }
}
