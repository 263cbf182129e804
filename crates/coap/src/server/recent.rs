//! Messages that were dealt with and left nothing else behind: blocks of uploads, non-confirmable requests.
//!
//! A copy of them that the network delivers late must not count as new (RFC 7252 §4.5): the first block of an earlier
//! transfer would begin it anew in the middle of the present one, whose next block would then be joined to it; and a block
//! that was refused, because one before it was missing or because nobody was let in, would fit into a later transfer.

use std::time::Instant;

use super::refusal::{BlockFault, Limit, RequestRefusal};
use crate::{Code, EXCHANGE_LIFETIME};

/// How many messages of one peer are known. 128 blocks are 8 KiB in blocks of 64 bytes, far more than a certificate
/// request; they cost 1 KiB.
const RECENT_MAX: usize = 128;

/// The latest so many are known in any case, without memory of their own: blocks of 512 bytes of a usual enrolment, or the refusals of a
/// house that is full.
const FEW: usize = 3;

/// Room for a usual enrolment in blocks of 64 bytes, at once.
const MANY_FIRST: usize = 16;

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
    pub(super) fn of(refusal: RequestRefusal) -> Option<RefusedBlock> {
        Some(match refusal {
            RequestRefusal::BadBlock(fault) => RefusedBlock::BadBlock(fault),
            RequestRefusal::BlockMissing => RefusedBlock::BlockMissing,
            RequestRefusal::BlockDiffers => RefusedBlock::BlockDiffers,
            RequestRefusal::ContentFormatChanged => RefusedBlock::ContentFormatChanged,
            RequestRefusal::TooLarge { .. } => RefusedBlock::TooLarge,
            RequestRefusal::NoResponse => RefusedBlock::NoResponse,
            RequestRefusal::Full(limit) => RefusedBlock::Full(limit),
            RequestRefusal::BadOption(..)
            | RequestRefusal::UnknownMethod
            | RequestRefusal::Proxy
            | RequestRefusal::PastEnd => return None,
        })
    }
}

impl Noted {
    /// All but the refusals by the table, whose codes begin at 0x80 and are their own byte.
    const NUMBERED: [Noted; 16] = [
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
        Noted::Refused(RefusedBlock::Full(Limit::Exchanges)),
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
    few: [u64; FEW],
    /// In place of the few, once they are more.
    many: Box<[u64]>,
    known: usize,
    /// The oldest, once all places are taken.
    oldest: usize,
    expires: Option<Instant>,
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.known == 0
    }

    /// Memory beside the peer itself.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.many)
    }

    /// What was made of a message, if it is known.
    pub(super) fn noted(&self, fingerprint: u64) -> Option<Noted> {
        let places = if self.many.is_empty() { &self.few[..] } else { &self.many };
        let known = places.iter().take(self.known).find(|message| (*message ^ fingerprint) >> 8 == 0)?;
        Some(Noted::from_byte(known.to_le_bytes()[0]))
    }

    /// Notes a message: in place of the oldest where all places are taken, and there are as many as there may be or `may_grow` denies more,
    /// of so many bytes.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        fingerprint: u64,
        noted: Noted,
        may_grow: impl FnOnce(usize) -> bool,
    ) {
        let message = fingerprint & !0xff | u64::from(noted.byte());
        self.expires = Some(now + EXCHANGE_LIFETIME);
        let places = self.places().len();
        if self.known == places && places < RECENT_MAX {
            let more = (2 * places).max(MANY_FIRST);
            if may_grow(more * size_of::<u64>()) {
                self.grow(more);
            }
        }
        let (known, oldest) = (self.known, self.oldest);
        let places = self.places();
        if let Some(free) = places.get_mut(known) {
            *free = message;
            self.known += 1;
        } else {
            places[oldest] = message;
            self.oldest = (oldest + 1) % places.len();
        }
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expires
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if self.expires.is_some_and(|expires| expires <= now) {
            *self = Recent::default();
        }
    }

    fn places(&mut self) -> &mut [u64] {
        if self.many.is_empty() { &mut self.few } else { &mut self.many }
    }

    /// More places; what is known comes first, the oldest before all.
    fn grow(&mut self, places: usize) {
        let mut many = vec![0; places].into_boxed_slice();
        let oldest = std::mem::take(&mut self.oldest);
        let before = self.places();
        before.rotate_left(oldest);
        many[..before.len()].copy_from_slice(before);
        self.many = many;
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
    #[test]
    fn the_latest_are_known_however_little_room_there_is() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Instant::now();
        let message = |number: u64| (number + 1) << 8;
        let known = |recent: &Recent, upto: u64| (0..upto).filter(|n| recent.noted(message(*n)).is_some()).collect();
        let mut recent = Recent::default();
        (0..6).for_each(|number| recent.insert(now, message(number), Noted::Continued, |_| false));
        assert_eq!((known(&recent, 6), recent.bytes()), (vec![3, 4, 5], 0));
        // There is room for some more, and then there is none.
        (6..19).for_each(|number| recent.insert(now, message(number), Noted::Continued, |bytes| bytes == 128));
        let latest: Vec<u64> = (3..19).collect();
        assert_eq!((known(&recent, 19), recent.bytes()), (latest, 128));
        (19..300).for_each(|number| recent.insert(now, message(number), Noted::Continued, |_| true));
        let latest: Vec<u64> = (300 - 128..300).collect();
        assert_eq!((known(&recent, 300), recent.bytes()), (latest, 1_024));
        recent.expire(now + EXCHANGE_LIFETIME);
        assert!(recent.is_empty() && recent.bytes() == 0 && recent.noted(message(299)).is_none());
    }
}
