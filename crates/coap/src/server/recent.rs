//! Messages that were dealt with and left nothing else behind: blocks of uploads, non-confirmable requests.
//!
//! A copy of them that the network delivers late must not count as new (RFC 7252 §4.5): the first block of an earlier
//! transfer would begin it anew in the middle of the present one, whose next block would then be joined to it; and a block
//! that was refused because one before it was missing would fit into a later transfer.

use crate::{Code, EXCHANGE_LIFETIME};
use std::time::Instant;

/// How many messages of one peer are known. 128 blocks are 8 KiB in blocks of 64 bytes, far more than a certificate
/// request; they cost 1 KiB, and a usual enrolment costs 128 bytes.
const RECENT_MAX: usize = 128;

/// Room for a usual enrolment at once.
const RECENT_FIRST: usize = 16;

/// The latest messages, forgotten together when none has come for EXCHANGE_LIFETIME.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// 56 bits of fingerprint and the code of the answer.
    messages: Vec<u64>,
    /// The oldest, once there are as many as there may be.
    oldest: usize,
    expires: Option<Instant>,
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How a message was answered; [`Code::EMPTY`] for one that gets no answer from here.
    pub(super) fn answer(&self, fingerprint: u64) -> Option<Code> {
        let known = self.messages.iter().find(|message| (*message ^ fingerprint) >> 8 == 0)?;
        Some(Code::from_byte(known.to_le_bytes()[0]))
    }

    pub(super) fn insert(&mut self, now: Instant, fingerprint: u64, answer: Code) {
        let message = fingerprint & !0xff | u64::from(answer.byte());
        self.expires = Some(now + EXCHANGE_LIFETIME);
        if self.messages.len() < RECENT_MAX {
            if self.messages.capacity() == 0 {
                self.messages.reserve_exact(RECENT_FIRST);
            }
            self.messages.push(message);
            return;
        }
        self.messages[self.oldest] = message;
        self.oldest = (self.oldest + 1) % RECENT_MAX;
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expires
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if self.expires.is_some_and(|expires| expires <= now) {
            *self = Recent::default();
        }
    }
}
