//! Virtual time.

use std::time::{Duration, Instant};

use dtls::{Now, UnixTime};

/// The calendar time at the start of every run: January 2027.
pub const EPOCH: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));

/// A clock that advances only when its owner advances it.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    origin: Instant,
    now: Instant,
}

impl VirtualClock {
    /// A clock at its start. An `Instant` cannot be built from a number, so the origin is the machine's present time; only
    /// differences to it are used.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the origin of virtual time; only differences to it are used")]
    pub fn start() -> Self {
        let origin = Instant::now();
        Self { origin, now: origin }
    }

    /// The time in the form that the engines take.
    #[must_use]
    pub fn now(&self) -> Now {
        let utc = EPOCH.as_secs() + self.elapsed().as_secs();
        Now { mono: self.now, utc: UnixTime::since_unix_epoch(Duration::from_secs(utc)) }
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.origin)
    }

    /// Advances to `to`, never backwards.
    pub fn advance_to(&mut self, to: Instant) {
        self.now = self.now.max(to);
    }
}
