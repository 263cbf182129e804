//! Virtual time.

use std::time::{Duration, Instant};

use dtls::{Now, UnixTime};

/// The calendar at the start of every run: January 2027.
pub const EPOCH: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));

/// A clock that moves when it is told to.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    origin: Instant,
    now: Instant,
}

impl VirtualClock {
    /// A clock at its start. An `Instant` cannot be made from nothing: the origin is whatever the machine says, and only
    /// differences to it ever matter.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the origin of virtual time; only differences to it are used")]
    pub fn start() -> Self {
        let origin = Instant::now();
        Self { origin, now: origin }
    }

    /// The time as the engines take it.
    #[must_use]
    pub fn now(&self) -> Now {
        let utc = EPOCH.as_secs() + self.elapsed().as_secs();
        Now { mono: self.now, utc: UnixTime::since_unix_epoch(Duration::from_secs(utc)) }
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.origin)
    }

    /// Moves on to `to`, never back.
    pub fn advance_to(&mut self, to: Instant) {
        self.now = self.now.max(to);
    }
}
