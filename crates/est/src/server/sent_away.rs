//! How many devices stand outside: sent away with 5.03, not served since, and still likely to come back.
//!
//! A device comes back within its Max-Age or not at all: it was switched off, or found another server. Two windows, each as long as
//! the longest Max-Age that we tell, hold those who were sent away in the present window and in the one before. What is older is
//! forgotten, so that a storm whose clients never return keeps nobody waiting for longer than two windows.

use std::time::{Duration, Instant};

/// The count; see the module.
#[derive(Default)]
pub(super) struct SentAway {
    began: Option<Instant>,
    present: usize,
    before: usize,
}

impl SentAway {
    /// Lets time pass. To be called before the others, whenever something happens.
    pub(super) fn roll(&mut self, now: Instant, window: impl FnOnce() -> Duration) {
        // While nobody stands outside, the window has not begun.
        let Some(began) = self.began.filter(|_| self.count() > 0) else {
            self.began = Some(now);
            return;
        };
        let window = window();
        let passed = now.saturating_duration_since(began);
        if passed < window {
            return;
        }
        self.before = if passed < window * 2 { self.present } else { 0 };
        self.present = 0;
        self.began = Some(now);
    }

    /// One more was sent away.
    pub(super) fn add(&mut self) {
        self.present = self.present.saturating_add(1);
    }

    /// One was served: the one that has waited longest, as far as we know.
    pub(super) fn served(&mut self) {
        if self.before > 0 {
            self.before -= 1;
        } else {
            self.present = self.present.saturating_sub(1);
        }
    }

    /// How many stand outside.
    pub(super) fn count(&self) -> usize {
        self.present.saturating_add(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn those_who_never_return_are_forgotten_after_two_windows() {
        let (start, window) = (Instant::now(), Duration::from_secs(90));
        let mut away = SentAway::default();
        away.roll(start, || window);
        (0..1_000).for_each(|_| away.add());
        away.roll(start + window, || window);
        assert_eq!(away.count(), 1_000, "they may still come back");
        away.add();
        away.served();
        assert_eq!(away.count(), 1_000);
        away.roll(start + window * 2, || window);
        assert_eq!(away.count(), 1, "the storm is over");
        away.roll(start + window * 4, || window);
        assert_eq!(away.count(), 0);
        away.served();
        assert_eq!(away.count(), 0);
    }
}
