//! How many devices stand outside: sent away with 5.03, not served since, and still likely to come back.
//!
//! Devices count, not their requests: one that asks again and again without heeding its Max-Age stands in one place, and makes nobody wait
//! longer. A device comes back within its Max-Age or not at all: it was switched off, or found another server. Two windows, each as long as
//! the longest Max-Age that we tell, hold those who were sent away in the present window and in the one before. What is older is
//! forgotten, so that a storm whose clients never return keeps nobody waiting for longer than two windows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use coap::server::Owner;

/// The devices; see the module.
#[derive(Default)]
pub(super) struct SentAway {
    began: Option<Instant>,
    present: BTreeSet<Owner>,
    before: BTreeSet<Owner>,
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
        let present = std::mem::take(&mut self.present);
        self.before = if passed < window * 2 { present } else { BTreeSet::new() };
        self.began = Some(now);
    }

    /// The sessions of this certificate were sent away. Of more than `most` certificates nobody needs to know: no Max-Age grows further.
    pub(super) fn add(&mut self, device: Owner, most: usize) {
        self.before.remove(&device);
        if self.count() < most {
            self.present.insert(device);
        }
    }

    /// This one was served, if it stood outside.
    pub(super) fn served(&mut self, device: Owner) {
        if self.count() > 0 && !self.present.remove(&device) {
            self.before.remove(&device);
        }
    }

    /// How many stand outside.
    pub(super) fn count(&self) -> usize {
        self.present.len() + self.before.len()
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
    fn those_who_never_return_are_forgotten_after_two_windows() {
        let (start, window) = (start(), Duration::from_secs(90));
        let mut away = SentAway::default();
        away.roll(start, || window);
        (0..1_000).for_each(|device| away.add(Owner(device), 2_000));
        away.roll(start + window, || window);
        assert_eq!(away.count(), 1_000, "they may still come back");
        away.add(Owner(1_000), 2_000);
        away.served(Owner(7));
        assert_eq!(away.count(), 1_000);
        away.roll(start + window * 2, || window);
        assert_eq!(away.count(), 1, "the storm is over");
        away.roll(start + window * 4, || window);
        assert_eq!(away.count(), 0);
        away.served(Owner(1_000));
        assert_eq!(away.count(), 0);
    }

    #[test]
    fn c49_a_device_stands_in_one_place_however_often_it_asks() {
        let (start, window) = (start(), Duration::from_secs(90));
        let mut away = SentAway::default();
        away.roll(start, || window);
        (0..1_000).for_each(|_| away.add(Owner(1), 2_000));
        assert_eq!(away.count(), 1);
        away.roll(start + window, || window);
        away.add(Owner(1), 2_000);
        assert_eq!(away.count(), 1);
        // A device that was never sent away must not count as one that has been served.
        away.served(Owner(2));
        assert_eq!(away.count(), 1);
        away.served(Owner(1));
        assert_eq!(away.count(), 0);
    }

    #[test]
    fn no_more_are_known_than_make_a_difference() {
        let mut away = SentAway::default();
        away.roll(start(), || Duration::from_secs(90));
        (0..1_000).for_each(|device| away.add(Owner(device), 100));
        assert_eq!(away.count(), 100);
    }
}
