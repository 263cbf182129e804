//! The places of requests that wait for the authority, and of uploads that will.
//!
//! An upload that is admitted when its first block comes keeps a place until its request waits: otherwise as many as like would begin while nobody
//! waits, end together, and be sent away after all of their blocks. It keeps the place only as long as its blocks come ([`UPLOAD_KEEPS`]), so that
//! devices that vanish in the middle of an upload do not make a server full that has nothing to do. After that it continues, and its end is judged like
//! a request that comes at once.

use std::time::Duration;

use coap::server::{Accounts, Owner};

/// An upload keeps its place for so long after its latest block: a client with the usual timers repeats a block after 3 s and after 9 s at the latest
/// (RFC 7252 §4.8).
pub(super) const UPLOAD_KEEPS: Duration = Duration::from_secs(10);

/// The place of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitingPlace {
    /// One of `pending_max`.
    Common,
    /// The one of these that its upload has kept.
    OfUpload,
    /// One of those that only repetitions of issued requests take, when a new request would be sent away.
    ForRepeats,
}

/// Who has taken which places, by certificate.
#[derive(Default)]
pub(super) struct Places {
    /// Those of `pending_max`: requests that wait, and uploads.
    common: Accounts,
    /// How many of these are kept by uploads.
    uploads: usize,
    repeats: Accounts,
}

impl Places {
    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.taken() - self.uploads
    }

    /// How many wait or keep a place.
    pub(super) fn taken(&self) -> usize {
        self.common.total() + self.repeats.total()
    }

    /// How many certificates have places for requests that are not repetitions.
    pub(super) fn owners(&self) -> usize {
        self.common.owners()
    }

    /// How many are kept by uploads.
    #[cfg(test)]
    pub(super) fn of_uploads(&self) -> usize {
        self.uploads
    }

    /// Whether one more request of `owner` may wait if `most` may wait in total. The share is a limit only when room
    /// runs out, see [`Accounts`].
    pub(super) fn has_room(&self, owner: Owner, most: usize) -> bool {
        self.common.has_room(owner, 1, most)
    }

    /// Whether a repetition of an issued request of `owner` may wait, if `most` of them may: one of each owner, so that one
    /// device does not take the places of others.
    pub(super) fn has_room_to_repeat(&self, owner: Owner, most: usize) -> bool {
        self.repeats.held_by(owner) == 0 && self.repeats.total() < most
    }

    /// A request of `owner` begins to wait.
    pub(super) fn take(&mut self, place: WaitingPlace, owner: Owner) {
        match place {
            WaitingPlace::Common => _ = self.common.change(owner, 0, 1),
            WaitingPlace::OfUpload => self.uploads -= 1,
            WaitingPlace::ForRepeats => _ = self.repeats.change(owner, 0, 1),
        }
    }

    /// The outcome of a request of `owner` has come.
    pub(super) fn give_back(&mut self, place: WaitingPlace, owner: Owner) {
        match place {
            WaitingPlace::Common | WaitingPlace::OfUpload => self.common.change(owner, 1, 0),
            WaitingPlace::ForRepeats => self.repeats.change(owner, 1, 0),
        };
    }

    /// An upload of `owner` begins.
    pub(super) fn keep(&mut self, owner: Owner) {
        self.common.change(owner, 0, 1);
        self.uploads += 1;
    }

    /// Uploads of `owner` have ended, or stand still.
    pub(super) fn give_up(&mut self, owner: Owner, uploads: u8) {
        if uploads > 0 {
            self.common.change(owner, uploads.into(), 0);
            self.uploads -= usize::from(uploads);
        }
    }
}
