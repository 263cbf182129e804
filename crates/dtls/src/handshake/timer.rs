//! When a flight is retransmitted, and when a handshake is given up (RFC 6347 §4.2.4.1).

use std::time::{Duration, Instant};

use super::terms::Terms;
use crate::limits::{REPEAT_ANSWERS_MAX, RETRANSMISSION_TIMEOUT_MAX, RETRANSMISSIONS_MAX};

/// All tries or all the time of a handshake are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GaveUp;

/// Whether a repetition from the peer may be answered although our flight was sent a moment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// The answer would be identical: the one already sent is given time to arrive.
    Rested,
    /// The answer goes out in smaller datagrams, because the one already sent does not arrive.
    AtOnce,
}

/// Minimum time between answers to a peer that repeats its flight every few milliseconds. A second is the first timer of most peers (RFC 6347
/// §4.2.4.1), so each of their repetitions may be answered.
const REST_MAX: Duration = Duration::from_millis(500);

/// The retransmission timer and the deadline of the whole handshake.
pub(crate) struct Timer {
    initial: Duration,
    timeout: Duration,
    /// When to retransmit; `None` while no answer is expected.
    expiry: Option<Instant>,
    deadline: Instant,
    last_sent: Option<Instant>,
    /// Flights sent, repetitions included.
    sent: u8,
    retransmissions: u8,
    answers: u8,
}

impl Timer {
    pub(crate) fn new(terms: &Terms, now: Instant) -> Self {
        Self {
            initial: terms.retransmission_initial,
            timeout: terms.retransmission_initial,
            expiry: None,
            deadline: now + terms.handshake_deadline,
            last_sent: None,
            sent: 0,
            retransmissions: 0,
            answers: 0,
        }
    }

    /// A new flight is sent.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.timeout = self.initial;
        self.retransmissions = 0;
        self.expiry = Some(now + self.timeout);
    }

    pub(crate) const fn pause(&mut self) {
        self.expiry = None;
    }

    pub(crate) fn resume(&mut self, now: Instant) {
        self.expiry = Some(now + self.timeout);
    }

    /// Whether an answer is expected.
    pub(crate) const fn is_running(&self) -> bool {
        self.expiry.is_some()
    }

    /// When the timer is due next.
    pub(crate) fn due(&self) -> Instant {
        self.expiry.map_or(self.deadline, |expiry| expiry.min(self.deadline))
    }

    pub(crate) const fn note_sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
        self.sent = self.sent.saturating_add(1);
    }

    /// Number of flights sent so far, repetitions included, and the time of the last one.
    pub(crate) const fn sent(&self) -> (u8, Option<Instant>) {
        (self.sent, self.last_sent)
    }

    /// The time for a flight to arrive before the same flight is sent again.
    fn rest(&self) -> Duration {
        (self.initial / 2).min(REST_MAX)
    }

    /// Whether to retransmit now. "double the value at each retransmission, up to no less than the RFC 6298 maximum of 60 seconds" (RFC 6347
    /// §4.2.4.1).
    pub(crate) fn on_expiry(&mut self, now: Instant) -> Result<bool, GaveUp> {
        if now >= self.deadline {
            return Err(GaveUp);
        }
        if self.expiry.is_none_or(|expiry| now < expiry) {
            return Ok(false);
        }
        // An answer to a repetition was sent a moment ago: this flight would be a duplicate.
        if let Some(rested) = self.last_sent.map(|last| last + self.rest())
            && now < rested
        {
            self.expiry = Some(rested);
            return Ok(false);
        }
        if self.retransmissions >= RETRANSMISSIONS_MAX {
            return Err(GaveUp);
        }
        self.retransmissions += 1;
        self.timeout = (self.timeout * 2).min(RETRANSMISSION_TIMEOUT_MAX.max(self.initial));
        self.expiry = Some(now + self.timeout);
        Ok(true)
    }

    pub(crate) fn may_answer(&mut self, now: Instant, haste: Haste) -> bool {
        let rested = self.last_sent.is_none_or(|last| now.saturating_duration_since(last) >= self.rest());
        let may = (rested || haste == Haste::AtOnce) && self.answers < REPEAT_ANSWERS_MAX;
        if may {
            self.answers += 1;
        }
        may
    }
}
