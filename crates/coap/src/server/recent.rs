//! Messages that were dealt with and left nothing else behind: blocks of uploads, non-confirmable requests.
//!
//! A copy of them that the network delivers late must not count as new (RFC 7252 §4.5): the first block of an earlier
//! transfer would begin it anew in the middle of the present one, whose next block would then be joined to it.

use crate::EXCHANGE_LIFETIME;
use std::time::Instant;

/// How many messages of one peer are known. 128 blocks are 8 KiB in blocks of 64 bytes, far more than a certificate
/// request; they cost 1 KiB, and a usual enrolment of 8 blocks costs 64 bytes.
const RECENT_MAX: usize = 128;

/// Fingerprints of the latest messages, forgotten together when none has come for EXCHANGE_LIFETIME.
#[derive(Debug, Default)]
pub(super) struct Recent {
    fingerprints: Vec<u64>,
    /// The oldest, once there are as many as there may be.
    oldest: usize,
    expires: Option<Instant>,
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }

    pub(super) fn contains(&self, fingerprint: u64) -> bool {
        self.fingerprints.contains(&fingerprint)
    }

    pub(super) fn insert(&mut self, now: Instant, fingerprint: u64) {
        self.expires = Some(now + EXCHANGE_LIFETIME);
        if self.fingerprints.len() < RECENT_MAX {
            self.fingerprints.push(fingerprint);
            return;
        }
        self.fingerprints[self.oldest] = fingerprint;
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
