//! The conditions of a link.

use std::time::Duration;

/// What the link does to datagrams; shares are of a thousand. The default is a perfect link without delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Datagrams that are lost.
    pub loss: u16,
    /// Datagrams that are delivered twice.
    pub duplication: u16,
    /// Datagrams with one changed bit.
    pub corruption: u16,
    /// Datagrams that are held back, so that later ones overtake them.
    pub reordering: u16,
    /// The delay of a datagram.
    pub delay: Delay,
    /// The maximum UDP payload in bytes; longer datagrams vanish, as on a path whose MTU is smaller than it seems.
    pub mtu: usize,
}

impl Conditions {
    /// A perfect link without delay.
    pub const PERFECT: Self =
        Self { loss: 0, duplication: 0, corruption: 0, reordering: 0, delay: Delay::NONE, mtu: usize::MAX };

    /// The longest time that a datagram is held back beyond its delay.
    pub(crate) fn held_back_max(&self) -> Duration {
        self.delay.most.saturating_mul(HELD_BACK_DELAYS).clamp(HELD_BACK_MIN, HELD_BACK_MAX)
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self::PERFECT
    }
}

/// The delay of datagrams: uniformly distributed between both bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// The shortest delay.
    pub least: Duration,
    /// The longest delay of a datagram that is not held back.
    pub most: Duration,
}

impl Delay {
    /// The datagram arrives when it is sent.
    pub const NONE: Self = Self { least: Duration::ZERO, most: Duration::ZERO };

    /// A constant delay.
    #[must_use]
    pub const fn exactly(delay: Duration) -> Self {
        Self { least: delay, most: delay }
    }
}

/// A held datagram is overtaken by everything sent within ten delays: a flight, and the answer to it.
const HELD_BACK_DELAYS: u32 = 10;
/// Even without a delay, another datagram must have time to overtake a held one.
const HELD_BACK_MIN: Duration = Duration::from_millis(50);
/// A longer hold exceeds the first timers of both protocols (DTLS 1 s, RFC 6347 §4.2.4.1; CoAP 2 s, RFC 7252 §4.8) and acts as a loss and a late
/// duplicate.
const HELD_BACK_MAX: Duration = Duration::from_secs(2);
