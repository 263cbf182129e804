//! Messages that were dealt with and left nothing else behind: blocks of uploads, non-confirmable requests.
//!
//! A copy of them that the network delivers late must not count as new (RFC 7252 §4.5): the first block of an earlier
//! transfer would begin it anew in the middle of the present one, whose next block would then be joined to it; and a block
//! that was refused, because one before it was missing or because nobody was let in, would fit into a later transfer.

use super::{BlockFault, Limit, Refusal};
use crate::{Code, EXCHANGE_LIFETIME};
use std::time::Instant;

/// How many messages of one peer are known. 128 blocks are 8 KiB in blocks of 64 bytes, far more than a certificate
/// request; they cost 1 KiB, and a usual enrolment costs 128 bytes.
const RECENT_MAX: usize = 128;

/// Room for a usual enrolment at once.
const RECENT_FIRST: usize = 16;

/// What was made of a message, as far as it takes to answer a copy alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// A copy gets no answer from here.
    Silently,
    /// 2.31.
    Continued,
    Refused(RefusedBlock),
}

/// How a block of an upload was refused: the refusals of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedBlock {
    BadBlock(BlockFault),
    BlockMissing,
    BlockDiffers,
    ContentFormatChanged,
    TooLarge,
    NoResponse,
    Full(Limit),
    /// With this code: 4.xx or 5.xx.
    ByTable(Code),
}

impl RefusedBlock {
    /// Another time it could have another answer, or end an upload that has begun since; what is refused for its options alone
    /// is judged again to the same, and is `None`.
    pub(super) fn of(refusal: Refusal) -> Option<RefusedBlock> {
        Some(match refusal {
            Refusal::BadBlock(fault) => RefusedBlock::BadBlock(fault),
            Refusal::BlockMissing => RefusedBlock::BlockMissing,
            Refusal::BlockDiffers => RefusedBlock::BlockDiffers,
            Refusal::ContentFormatChanged => RefusedBlock::ContentFormatChanged,
            Refusal::TooLarge { .. } => RefusedBlock::TooLarge,
            Refusal::NoResponse => RefusedBlock::NoResponse,
            Refusal::Full(limit) => RefusedBlock::Full(limit),
            Refusal::ByTable(code) => RefusedBlock::ByTable(code),
            Refusal::BadOption(..) | Refusal::UnknownMethod | Refusal::Proxy | Refusal::PastEnd => return None,
        })
    }
}

impl Noted {
    /// All but the refusals by the table, whose codes begin at 0x80 and are their own byte.
    const NUMBERED: [Noted; 15] = [
        Noted::Silently,
        Noted::Continued,
        Noted::Refused(RefusedBlock::BadBlock(BlockFault::ReservedSize)),
        Noted::Refused(RefusedBlock::BadBlock(BlockFault::Short)),
        Noted::Refused(RefusedBlock::BadBlock(BlockFault::Long)),
        Noted::Refused(RefusedBlock::BadBlock(BlockFault::LastLong)),
        Noted::Refused(RefusedBlock::BadBlock(BlockFault::BothDirections)),
        Noted::Refused(RefusedBlock::BlockMissing),
        Noted::Refused(RefusedBlock::BlockDiffers),
        Noted::Refused(RefusedBlock::ContentFormatChanged),
        Noted::Refused(RefusedBlock::TooLarge),
        Noted::Refused(RefusedBlock::NoResponse),
        Noted::Refused(RefusedBlock::Full(Limit::Uploads)),
        Noted::Refused(RefusedBlock::Full(Limit::Responses)),
        Noted::Refused(RefusedBlock::Full(Limit::Pending)),
    ];

    /// In one byte.
    fn byte(self) -> u8 {
        if let Noted::Refused(RefusedBlock::ByTable(code)) = self {
            return code.byte();
        }
        let number = Self::NUMBERED.iter().position(|noted| *noted == self);
        number.and_then(|number| u8::try_from(number).ok()).unwrap_or(0)
    }

    fn from_byte(byte: u8) -> Noted {
        let by_table = Noted::Refused(RefusedBlock::ByTable(Code::from_byte(byte)));
        Self::NUMBERED.get(usize::from(byte)).copied().unwrap_or(by_table)
    }
}

/// The latest messages, forgotten together when none has come for EXCHANGE_LIFETIME.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// 56 bits of fingerprint and what was noted.
    messages: Vec<u64>,
    /// The oldest, once there are as many as there may be.
    oldest: usize,
    expires: Option<Instant>,
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What was made of a message, if it is known.
    pub(super) fn noted(&self, fingerprint: u64) -> Option<Noted> {
        let known = self.messages.iter().find(|message| (*message ^ fingerprint) >> 8 == 0)?;
        Some(Noted::from_byte(known.to_le_bytes()[0]))
    }

    pub(super) fn insert(&mut self, now: Instant, fingerprint: u64, noted: Noted) {
        let message = fingerprint & !0xff | u64::from(noted.byte());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_note_is_one_byte_and_comes_back() {
        let by_table = [Code::BAD_REQUEST, Code::NOT_FOUND, Code::SERVICE_UNAVAILABLE];
        let by_table = by_table.map(|code| Noted::Refused(RefusedBlock::ByTable(code)));
        for noted in Noted::NUMBERED.into_iter().chain(by_table) {
            assert_eq!(Noted::from_byte(noted.byte()), noted);
        }
    }
}
