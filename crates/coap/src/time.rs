//! Transmission parameters (RFC 7252 §4.8).

use std::time::{Duration, Instant};

use splitmix::SplitMix64;

/// How long a sender waits for an acknowledgement before it retransmits; doubled each time (RFC 7252 §4.8).
pub const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// ACK_RANDOM_FACTOR 1.5 in thousandths: the first timeout is drawn between ACK_TIMEOUT and this much of it.
pub const ACK_RANDOM_FACTOR_PERMILLE: u32 = 1_500;
/// How often a confirmable message is retransmitted (RFC 7252 §4.8).
pub const MAX_RETRANSMIT: u8 = 4;
/// From the first transmission of a confirmable message to its last (RFC 7252 §4.8.2).
pub const MAX_TRANSMIT_SPAN: Duration = Duration::from_secs(45);
/// From the first transmission of a confirmable message until its sender gives up (RFC 7252 §4.8.2).
pub const MAX_TRANSMIT_WAIT: Duration = Duration::from_secs(93);
/// From the first transmission of a confirmable message until its message id may be used again (RFC 7252 §4.8.2).
pub const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);
/// The same for a non-confirmable message (RFC 7252 §4.8.2).
pub const NON_LIFETIME: Duration = Duration::from_secs(145);

const _: () = assert!(NON_LIFETIME.as_secs() < EXCHANGE_LIFETIME.as_secs());
const _: () = assert!(MAX_TRANSMIT_WAIT.as_secs() < EXCHANGE_LIFETIME.as_secs());

/// When a confirmable message is retransmitted, and when its sender gives up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retransmission {
    timeout: Duration,
    pub(crate) deadline: Instant,
    sent_again: u8,
}

/// What to do when a deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    NotYet,
    SendAgain,
    GiveUp,
}

impl Retransmission {
    /// "The initial timeout is set to a random duration (often not an integral number of seconds) between
    /// ACK_TIMEOUT and (ACK_TIMEOUT * ACK_RANDOM_FACTOR)" (RFC 7252 §4.2). `jitter` is that random number.
    pub(crate) fn start(now: Instant, ack_timeout: Duration, jitter: u32) -> Self {
        // Longer than an hour is not useful; the cap keeps every later product small.
        let ack_timeout = ack_timeout.min(Duration::from_secs(3_600));
        let spread = ack_timeout * (ACK_RANDOM_FACTOR_PERMILLE - 1_000) / 1_000;
        let micros = u64::try_from(spread.as_micros()).unwrap_or(0);
        let drawn = Duration::from_micros((micros * u64::from(jitter)) >> 32);
        let timeout = ack_timeout + drawn;
        Self { timeout, deadline: now + timeout, sent_again: 0 }
    }

    /// "the timeout is doubled. If the retransmission counter reaches MAX_RETRANSMIT on a timeout [...] the attempt
    /// to transmit the message is canceled" (RFC 7252 §4.2).
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if now < self.deadline {
            return Due::NotYet;
        }
        if self.sent_again >= MAX_RETRANSMIT {
            return Due::GiveUp;
        }
        self.sent_again += 1;
        self.timeout *= 2;
        self.deadline = now + self.timeout;
        Due::SendAgain
    }
}

/// Derives jitters and message ids from the one random number given at construction. They are not secrets; the
/// association is DTLS (RFC 7252 §11.4 asks for randomness against blind spoofing only).
#[derive(Clone, Debug)]
pub(crate) struct Spread(SplitMix64);

impl Spread {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) fn u32(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.0.draw().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    pub(crate) fn u16(&mut self) -> u16 {
        let [a, b, ..] = self.0.draw().to_be_bytes();
        u16::from_be_bytes([a, b])
    }
}
