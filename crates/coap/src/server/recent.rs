//! Recent messages that leave no other state behind: blocks of uploads, non-confirmable requests.
//!
//! A copy that the network delivers late must not count as a new message (RFC 7252 §4.5). Otherwise a copy of the first
//! block of an earlier transfer would restart the upload in the middle of the present one, whose next block would then
//! be appended to it; and a copy of a refused block (an earlier block was missing, or no request was admitted) could
//! fit into a later transfer.

use std::time::Instant;

use super::refusal::{BlockFault, Limit, RequestRefusal};
use crate::{Code, EXCHANGE_LIFETIME};

/// How many messages are remembered for one peer. 128 blocks of 64 bytes are 8 KiB, far more than a certificate
/// request; they cost 1 KiB.
const RECENT_MAX: usize = 128;

/// The latest three messages are always remembered, without an allocation: the 512-byte blocks of a usual enrolment, or
/// the refusals of a full server.
const FEW: usize = 3;

/// The first allocation: room for a usual certificate request in blocks of 64 bytes.
const MANY_FIRST: usize = 8;

/// How a message was handled, in enough detail to answer a copy in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandledAs {
    /// A copy is not answered from here.
    Silently,
    /// Answered with 2.31.
    Continued,
    Refused(RefusedBlock),
}

/// How a block of an upload was refused; each variant stands for the refusal of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedBlock {
    BadBlock(BlockFault),
    BlockMissing,
    BlockDiffers,
    ContentFormatChanged,
    TooLarge,
    NoResponse,
    Full(Limit),
    /// The table refused it with this code: 4.xx or 5.xx.
    ByTable(Code),
}

impl RefusedBlock {
    /// `None` for a refusal that depends on the options alone: a copy is judged again, with the same result. Any other
    /// refusal is remembered, because judging the copy could give another answer or end an upload that has begun since.
    pub(super) fn of(refusal: RequestRefusal) -> Option<Self> {
        Some(match refusal {
            RequestRefusal::BadBlock(fault) => Self::BadBlock(fault),
            RequestRefusal::BlockMissing => Self::BlockMissing,
            RequestRefusal::BlockDiffers => Self::BlockDiffers,
            RequestRefusal::ContentFormatChanged => Self::ContentFormatChanged,
            RequestRefusal::TooLarge { .. } => Self::TooLarge,
            RequestRefusal::NoResponse => Self::NoResponse,
            RequestRefusal::Full(limit) => Self::Full(limit),
            RequestRefusal::BadOption(..)
            | RequestRefusal::UnknownMethod
            | RequestRefusal::Proxy
            | RequestRefusal::PastEnd => return None,
        })
    }
}

impl HandledAs {
    /// All variants except the refusals by the table: those are stored as their code byte, which is 0x80 or above.
    const NUMBERED: [Self; 16] = [
        Self::Silently,
        Self::Continued,
        Self::Refused(RefusedBlock::BadBlock(BlockFault::ReservedSize)),
        Self::Refused(RefusedBlock::BadBlock(BlockFault::Short)),
        Self::Refused(RefusedBlock::BadBlock(BlockFault::Long)),
        Self::Refused(RefusedBlock::BadBlock(BlockFault::LastLong)),
        Self::Refused(RefusedBlock::BadBlock(BlockFault::BothDirections)),
        Self::Refused(RefusedBlock::BlockMissing),
        Self::Refused(RefusedBlock::BlockDiffers),
        Self::Refused(RefusedBlock::ContentFormatChanged),
        Self::Refused(RefusedBlock::TooLarge),
        Self::Refused(RefusedBlock::NoResponse),
        Self::Refused(RefusedBlock::Full(Limit::Uploads)),
        Self::Refused(RefusedBlock::Full(Limit::Responses)),
        Self::Refused(RefusedBlock::Full(Limit::Pending)),
        Self::Refused(RefusedBlock::Full(Limit::Exchanges)),
    ];

    /// Encodes the value in one byte.
    fn byte(self) -> u8 {
        if let Self::Refused(RefusedBlock::ByTable(code)) = self {
            return code.byte();
        }
        let number = Self::NUMBERED.iter().position(|noted| *noted == self);
        number.and_then(|number| u8::try_from(number).ok()).unwrap_or(0)
    }

    fn from_byte(byte: u8) -> Self {
        let by_table = Self::Refused(RefusedBlock::ByTable(Code::from_byte(byte)));
        Self::NUMBERED.get(usize::from(byte)).copied().unwrap_or(by_table)
    }
}

/// The latest messages. All are forgotten together when no message arrives for EXCHANGE_LIFETIME.
#[derive(Debug, Default)]
pub(super) struct Recent {
    places: Places,
    expires: Option<Instant>,
}

/// Each message takes 56 bits of fingerprint, and 8 bits for how it was handled. `known` places are taken; `oldest` is the index of the oldest message,
/// once all are.
#[derive(Debug)]
enum Places {
    Few {
        known: u8,
        oldest: u8,
        messages: [u64; FEW],
    },
    /// After [`Places::Few`] is full.
    Many {
        known: u8,
        oldest: u8,
        messages: Box<[u64]>,
    },
}

const _: () = assert!(RECENT_MAX <= u8::MAX as usize, "a byte counts the messages");
const _: () = assert!(size_of::<Recent>() <= 48, "a device of the last EXCHANGE_LIFETIME has one");

impl Default for Places {
    fn default() -> Self {
        Self::Few { known: 0, oldest: 0, messages: [0; FEW] }
    }
}

/// A view of [`Places`], of both kinds.
struct PlacesMut<'p> {
    known: &'p mut u8,
    oldest: &'p mut u8,
    messages: &'p mut [u64],
}

impl Places {
    fn known(&self) -> &[u64] {
        let (known, messages) = match self {
            Self::Few { known, messages, .. } => (known, &messages[..]),
            Self::Many { known, messages, .. } => (known, &messages[..]),
        };
        &messages[..usize::from(*known)]
    }

    fn view(&mut self) -> PlacesMut<'_> {
        match self {
            Self::Few { known, oldest, messages } => PlacesMut { known, oldest, messages },
            Self::Many { known, oldest, messages } => PlacesMut { known, oldest, messages },
        }
    }

    /// Takes a free place, or that of the oldest message.
    fn put(&mut self, message: u64) {
        let PlacesMut { known, oldest, messages } = self.view();
        if let Some(free) = messages.get_mut(usize::from(*known)) {
            *free = message;
            *known += 1;
        } else {
            messages[usize::from(*oldest)] = message;
            *oldest = if usize::from(*oldest) + 1 < messages.len() { *oldest + 1 } else { 0 };
        }
    }

    /// Adds places, when all are taken. Remembered messages are moved to the front, the oldest first.
    fn grow(&mut self, places: usize) {
        let PlacesMut { known, oldest, messages } = self.view();
        messages.rotate_left(usize::from(*oldest));
        let (known, mut many) = (*known, vec![0; places].into_boxed_slice());
        many[..messages.len()].copy_from_slice(messages);
        *self = Self::Many { known, oldest: 0, messages: many };
    }
}

impl Recent {
    pub(super) fn is_empty(&self) -> bool {
        self.places.known().is_empty()
    }

    /// Bytes allocated beside the peer itself.
    pub(super) fn bytes(&self) -> usize {
        match &self.places {
            Places::Few { .. } => 0,
            Places::Many { messages, .. } => size_of_val(&**messages),
        }
    }

    /// How a message was handled, if it is remembered.
    pub(super) fn noted(&self, fingerprint: u64) -> Option<HandledAs> {
        let known = self.places.known().iter().find(|message| (*message ^ fingerprint) >> 8 == 0)?;
        Some(HandledAs::from_byte(known.to_le_bytes()[0]))
    }

    /// Remembers a message. Replaces the oldest one if all places are taken and no more can be added: the maximum is
    /// reached, or `may_grow`, which gets the bytes of the next allocation, returns false.
    pub(super) fn insert(
        &mut self,
        now: Instant,
        fingerprint: u64,
        noted: HandledAs,
        may_grow: impl FnOnce(usize) -> bool,
    ) {
        let message = fingerprint & !0xff | u64::from(noted.byte());
        self.expires = Some(now + EXCHANGE_LIFETIME);
        let (known, places) = (self.places.known().len(), self.places.view().messages.len());
        if known == places && places < RECENT_MAX {
            let more = (2 * places).max(MANY_FIRST);
            if may_grow(more * size_of::<u64>()) {
                self.places.grow(more);
            }
        }
        self.places.put(message);
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expires
    }

    pub(super) fn expire(&mut self, now: Instant) {
        if self.expires.is_some_and(|expires| expires <= now) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_note_is_one_byte_and_comes_back() {
        let by_table = [Code::BAD_REQUEST, Code::NOT_FOUND, Code::SERVICE_UNAVAILABLE];
        let by_table = by_table.map(|code| HandledAs::Refused(RefusedBlock::ByTable(code)));
        for noted in HandledAs::NUMBERED.into_iter().chain(by_table) {
            assert_eq!(HandledAs::from_byte(noted.byte()), noted);
        }
    }
    #[test]
    fn the_latest_are_known_however_little_room_there_is() {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        let now = Instant::now();
        let message = |number: u64| (number + 1) << 8;
        let known = |recent: &Recent, upto: u64| (0..upto).filter(|n| recent.noted(message(*n)).is_some()).collect();
        let mut recent = Recent::default();
        (0..6).for_each(|number| recent.insert(now, message(number), HandledAs::Continued, |_| false));
        assert_eq!((known(&recent, 6), recent.bytes()), (vec![3, 4, 5], 0));
        // `may_grow` allows the first growth and denies the next.
        (6..19).for_each(|number| recent.insert(now, message(number), HandledAs::Continued, |bytes| bytes <= 128));
        let latest: Vec<u64> = (3..19).collect();
        assert_eq!((known(&recent, 19), recent.bytes()), (latest, 128));
        (19..300).for_each(|number| recent.insert(now, message(number), HandledAs::Continued, |_| true));
        let latest: Vec<u64> = (300 - 128..300).collect();
        assert_eq!((known(&recent, 300), recent.bytes()), (latest, 1_024));
        recent.expire(now + EXCHANGE_LIFETIME);
        assert!(recent.is_empty() && recent.bytes() == 0 && recent.noted(message(299)).is_none());
    }
}
