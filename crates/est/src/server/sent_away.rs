//! How many devices were sent away with 5.03, have not been served since, and are still likely to come back.
//!
//! This counts devices, not their requests: a device that asks repeatedly without obeying its Max-Age counts once and
//! does not make others wait longer. A device comes back within its Max-Age or not at all: it was switched off, or
//! found another server. Two windows, each as long as the longest Max-Age that the server sends, hold the devices that
//! were sent away in the present window and in the previous one. Older entries are forgotten, so that a storm whose
//! clients never return makes others wait for two windows at most.

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
    /// Advances time. Call it before the other methods, on each event.
    pub(super) fn roll(&mut self, now: Instant, window: impl FnOnce() -> Duration) {
        // While no device is counted, the window has not begun.
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

    /// The sessions of this certificate were sent away. Above `most` certificates there is nothing to record: Max-Age
    /// does not grow further.
    pub(super) fn add(&mut self, device: Owner, most: usize) {
        self.before.remove(&device);
        if self.count() < most {
            self.present.insert(device);
        }
    }

    /// This device was served; it no longer counts.
    pub(super) fn served(&mut self, device: Owner) {
        if self.count() > 0 && !self.present.remove(&device) {
            self.before.remove(&device);
        }
    }

    /// How many devices are counted.
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
