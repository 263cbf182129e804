//! Finds the records in a datagram (RFC 6347 §4.1).

use std::ops::Range;

use crate::drops::DropReason;
use crate::limits::{CIPHERTEXT_BYTES_MAX, PLAINTEXT_BYTES_MAX};
use crate::wire::{ContentType, DTLS_1_0, DTLS_1_2, Epoch, RecordHeader, RecordNumber};

/// A record whose header has been checked, and the range of its payload in the datagram.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) content_type: ContentType,
    pub(crate) number: RecordNumber,
    pub(crate) payload: Range<usize>,
}

impl Record {
    pub(crate) const fn epoch(&self) -> Epoch {
        self.number.epoch()
    }
}

/// Walks the records of a datagram. A record with a fault is skipped by its length, and the rest still counts: "invalid records
/// SHOULD be silently discarded, thus preserving the association" (RFC 6347 §4.1.2.7).
pub(crate) struct Records {
    at: usize,
}

impl Records {
    pub(crate) const fn new() -> Self {
        Self { at: 0 }
    }

    pub(crate) fn next(&mut self, datagram: &[u8]) -> Option<Result<Record, DropReason>> {
        let rest = datagram.get(self.at..).filter(|rest| !rest.is_empty())?;
        let header = RecordHeader::parse(rest).ok();
        if let Some(header) = header {
            let start = self.at + header.bytes();
            let end = start + header.length;
            if end <= datagram.len() {
                self.at = end;
                return Some(Self::judge(&header, start..end));
            }
        }
        self.at = datagram.len();
        Some(Err(DropReason::RecordTruncated))
    }

    fn judge(header: &RecordHeader, payload: Range<usize>) -> Result<Record, DropReason> {
        // Before the version is agreed on a client may write either version (RFC 6347 §4.2.1), and nothing depends on the version of its
        // later plaintext records; protected records have the agreed version.
        let in_the_clear = header.number.epoch() == Epoch::PLAINTEXT;
        let version = header.version == DTLS_1_2 || in_the_clear && header.version == DTLS_1_0;
        if !version {
            return Err(DropReason::RecordVersion);
        }
        let content_type = ContentType::from_code(header.content_type).ok_or(DropReason::ContentType)?;
        if header.length > CIPHERTEXT_BYTES_MAX || in_the_clear && header.length > PLAINTEXT_BYTES_MAX {
            return Err(DropReason::RecordOversize);
        }
        // "Implementations MUST NOT send zero-length fragments of Handshake, Alert, or ChangeCipherSpec" (RFC 5246 §6.2.1).
        if payload.is_empty() {
            return Err(DropReason::RecordEmpty);
        }
        Ok(Record { content_type, number: header.number, payload })
    }
}
