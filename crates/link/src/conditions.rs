//! What a link is asked to do.

use std::time::Duration;

/// What the link does to datagrams; shares are of a thousand. The default is a perfect link without delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Lost.
    pub loss: u16,
    /// Delivered twice.
    pub duplication: u16,
    /// One bit changed.
    pub corruption: u16,
    /// Held back, so that later ones overtake it.
    pub reordering: u16,
    /// How long one takes.
    pub delay: Delay,
    /// Longer ones vanish, as they do where a path MTU is smaller than it seems. Bytes of UDP payload.
    pub mtu: usize,
}

impl Conditions {
    /// A perfect link without delay.
    pub const PERFECT: Conditions =
        Conditions { loss: 0, duplication: 0, corruption: 0, reordering: 0, delay: Delay::NONE, mtu: usize::MAX };

    /// The most that a datagram is held back beyond its delay.
    pub(crate) fn held_back_max(&self) -> Duration {
        self.delay.most.saturating_mul(HELD_BACK_DELAYS).clamp(HELD_BACK_MIN, HELD_BACK_MAX)
    }
}

impl Default for Conditions {
    fn default() -> Conditions {
        Conditions::PERFECT
    }
}

/// How long datagrams take: anything between both, equally often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// The fastest.
    pub least: Duration,
    /// The slowest that is not held back.
    pub most: Duration,
}

impl Delay {
    /// Arrives when it is sent.
    pub const NONE: Delay = Delay { least: Duration::ZERO, most: Duration::ZERO };

    /// Always the same.
    #[must_use]
    pub const fn exactly(delay: Duration) -> Delay {
        Delay { least: delay, most: delay }
    }
}

/// One that is held back is overtaken by what is sent within ten delays: a flight, and the answer to it.
const HELD_BACK_DELAYS: u32 = 10;
/// Without a delay, something must still be sent before a datagram that is held back arrives.
const HELD_BACK_MIN: Duration = Duration::from_millis(50);
/// Past the first timers of both protocols (DTLS 1 s, RFC 6347 §4.2.4.1; CoAP 2 s, RFC 7252 §4.8) it would be a loss and a late double, no reordering.
const HELD_BACK_MAX: Duration = Duration::from_secs(2);
