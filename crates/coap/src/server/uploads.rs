//! Request bodies that arrive in Block1 pieces (RFC 7959 §2.5, RFC 9175 §3).
//!
//! ```text
//!            NUM 0, M 1                  next block, M 1
//!   (none) ------------> gathering ----+------------------> gathering
//!                          |  ^  |     |
//!                          |  |  |     +-- M 0 -----------> complete: the body leaves
//!                          |  |  +-- gap, other bytes, Content-Format, too large, deadline --> (none), 4.08 or 4.13
//!                          |  +-- NUM 0 again: begins anew
//!                          +-- a block that is there already, byte for byte: 2.31 again
//! ```
//!
//! An upload is named by method, path, queries and Request-Tag ([`RequestKey`]), so that two bodies for one resource
//! never mix. It holds the bytes that have arrived, never the announced size. It sends no responses; [`super::Peer`]
//! does.

use std::fmt;
use std::time::Instant;

use super::accounts::{Charge, Owner};
use super::config::{Config, UPLOAD_LIFETIME_MAX};
use super::key::RequestKey;
use super::refusal::{Limit, RequestRefusal};
use super::resources::Admit;
use super::shared::Shared;
use crate::length::Length;
use crate::{Block, ContentFormat};

/// The first allocation of an upload: most certificate requests fit, so that their blocks are copied once.
const BODY_BYTES_FIRST: usize = 512;

/// The uploads of one peer: a list, whose head takes a pointer in each peer that remembers something.
#[derive(Debug, Default)]
pub(super) struct Uploads(Option<Box<Upload>>);

struct Upload {
    next: Option<Box<Self>>,
    key: RequestKey,
    content_format: Option<ContentFormat>,
    /// The latest Accept that came with a block.
    accept: Option<ContentFormat>,
    admit: Admit,
    body: Vec<u8>,
    began: Instant,
    touched: Instant,
    expires: Instant,
    charge: Charge,
}

/// One block as it arrived.
#[derive(Clone, Copy)]
pub(super) struct UploadBlock<'d> {
    pub(super) key: RequestKey,
    pub(super) block: Block,
    pub(super) content_format: Option<ContentFormat>,
    pub(super) accept: Option<ContentFormat>,
    pub(super) payload: &'d [u8],
}

/// The result of a block.
pub(super) enum Taken {
    /// The block is in place, because of this message or an earlier one.
    Continue,
    /// It was the last block.
    Complete(Complete),
}

/// A complete body.
pub(super) struct Complete {
    pub(super) body: Vec<u8>,
    /// The latest Accept that came with a block.
    pub(super) accept: Option<ContentFormat>,
    pub(super) admit: Admit,
}

impl Uploads {
    /// The bytes of one upload without its body.
    pub(super) const ONE_BYTES: usize = size_of::<Upload>();

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether an upload of this name is in progress.
    pub(super) fn contains(&self, key: RequestKey) -> bool {
        self.iter().any(|upload| upload.key == key)
    }

    /// The admission that was granted to the first block of this upload.
    pub(super) fn admitted(&self, key: RequestKey) -> Option<Admit> {
        self.iter().find(|upload| upload.key == key).map(|upload| upload.admit)
    }

    /// Begins an upload. A restart "simply overwrites the context the server may still be keeping" (RFC 7959 §2.5).
    ///
    /// # Errors
    /// 4.13 above the limit of the resource, 5.03 above that of the shard or above the owner's share of it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        piece: &UploadBlock<'_>,
        (owner, admit): (Owner, Admit),
        shared: &mut Shared,
    ) -> Result<(), RequestRefusal> {
        debug_assert!(!self.contains(piece.key), "the upload of the same name is gone");
        if piece.payload.len() > admit.body_bytes_max {
            return Err(RequestRefusal::TooLarge { body_bytes_max: admit.body_bytes_max });
        }
        let reserve = BODY_BYTES_FIRST.max(piece.payload.len()).min(admit.body_bytes_max);
        if !shared.uploads.lock().has_room(owner, reserve, shared.config.upload_bytes_total_max) {
            return Err(RequestRefusal::Full(Limit::Uploads));
        }
        self.make_room(shared);
        let mut upload = Upload {
            next: self.0.take(),
            key: piece.key,
            content_format: piece.content_format,
            accept: piece.accept,
            admit,
            body: Vec::with_capacity(reserve),
            began: now,
            touched: now,
            expires: now,
            charge: shared.uploads.charge(owner),
        };
        upload.append(now, piece, &shared.config);
        self.0 = Some(Box::new(upload));
        Ok(())
    }

    /// Takes a block after the first.
    ///
    /// # Errors
    /// 4.08 for a block that is neither the next one nor one that arrived before, 4.13 above the limit; the upload is
    /// dropped.
    pub(super) fn take(
        &mut self,
        now: Instant,
        piece: &UploadBlock<'_>,
        shared: &Shared,
    ) -> Result<Taken, RequestRefusal> {
        let upload = self.named_mut(piece.key).ok_or(RequestRefusal::BlockMissing)?;
        let taken = upload.judge(piece).and_then(|place| match place {
            BlockPlace::Next if upload.must_grow(piece) && !upload.may_grow(piece, shared) => {
                Err(RequestRefusal::Full(Limit::Uploads))
            }
            BlockPlace::Next => {
                upload.append(now, piece, &shared.config);
                Ok(())
            }
            BlockPlace::There => Ok(()),
        });
        match taken {
            Err(refusal) => {
                self.drop_named(piece.key);
                Err(refusal)
            }
            Ok(()) if piece.block.more => Ok(Taken::Continue),
            Ok(()) => {
                let whole = self.remove(|upload| upload.key == piece.key).ok_or(RequestRefusal::BlockMissing)?;
                let Upload { body, accept, admit, .. } = *whole;
                Ok(Taken::Complete(Complete { body, accept: piece.accept.or(accept), admit }))
            }
        }
    }

    /// Drops the upload of this name, if there is one.
    pub(super) fn drop_named(&mut self, key: RequestKey) {
        drop(self.remove(|upload| upload.key == key));
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.iter().map(|upload| upload.expires).min()
    }

    /// Drops the uploads that have waited too long for their next block.
    pub(super) fn expire(&mut self, now: Instant, shared: &mut Shared) {
        while self.remove(|upload| upload.expires <= now).is_some() {
            shared.counters.uploads_dropped += 1;
        }
    }

    fn make_room(&mut self, shared: &mut Shared) {
        while self.len() >= shared.config.uploads_per_peer_max.max(1) {
            let Some(oldest) = self.iter().map(|upload| upload.touched).min() else { return };
            drop(self.remove(|upload| upload.touched == oldest));
            shared.counters.uploads_dropped += 1;
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Upload> {
        std::iter::successors(self.0.as_deref(), |upload| upload.next.as_deref())
    }

    fn named_mut(&mut self, key: RequestKey) -> Option<&mut Upload> {
        let mut upload = self.0.as_deref_mut()?;
        while upload.key != key {
            upload = upload.next.as_deref_mut()?;
        }
        Some(upload)
    }

    /// Takes the first upload that `is_it` out of the list.
    fn remove(&mut self, is_it: impl Fn(&Upload) -> bool) -> Option<Box<Upload>> {
        let mut link = &mut self.0;
        while !is_it(link.as_deref()?) {
            link = &mut link.as_mut()?.next;
        }
        let mut upload = link.take()?;
        *link = upload.next.take();
        Some(upload)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("key", &self.key).field("body", &Length(self.body.len())).finish_non_exhaustive()
    }
}

/// Where a block belongs.
enum BlockPlace {
    Next,
    There,
}

impl Upload {
    fn judge(&self, piece: &UploadBlock<'_>) -> Result<BlockPlace, RequestRefusal> {
        // 4.08 also if the Content-Formats of the blocks differ (RFC 7959 §2.9.2).
        if piece.content_format != self.content_format {
            return Err(RequestRefusal::ContentFormatChanged);
        }
        // Computed with *this* block's size: the client may shrink the blocks during the upload (RFC 7959 §2.3).
        let start = piece.block.offset();
        let end = start.saturating_add(piece.payload.len());
        if start == self.body.len() {
            let body_bytes_max = self.admit.body_bytes_max;
            return if end <= body_bytes_max {
                Ok(BlockPlace::Next)
            } else {
                Err(RequestRefusal::TooLarge { body_bytes_max })
            };
        }
        match self.body.get(start..end) {
            // A last block that ends before the end of the bytes received so far would cut the body short: it is
            // accepted only at their end.
            Some(there) if there == piece.payload && (piece.block.more || end == self.body.len()) => {
                Ok(BlockPlace::There)
            }
            _ if start < self.body.len() => Err(RequestRefusal::BlockDiffers),
            _ => Err(RequestRefusal::BlockMissing),
        }
    }

    fn must_grow(&self, piece: &UploadBlock<'_>) -> bool {
        self.body.capacity() - self.body.len() < piece.payload.len()
    }

    fn may_grow(&self, piece: &UploadBlock<'_>, shared: &Shared) -> bool {
        let more = self.body.len().max(piece.payload.len());
        shared.uploads.lock().has_room(self.charge.owner(), more, shared.config.upload_bytes_total_max)
    }

    fn append(&mut self, now: Instant, piece: &UploadBlock<'_>, config: &Config) {
        self.body.extend_from_slice(piece.payload);
        self.accept = piece.accept.or(self.accept);
        self.touched = now;
        self.expires = (now + config.upload_idle_max).min(self.began + UPLOAD_LIFETIME_MAX);
        self.charge.set(self.body.capacity());
    }
}
