//! The record header (RFC 6347 §4.1).

use super::codec::{Malformed, Reader, put_u16, to_u16};
use super::record_number::RecordNumber;

/// Type of a record's content (RFC 5246 §6.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContentType {
    ChangeCipherSpec,
    Alert,
    Handshake,
    ApplicationData,
}

impl ContentType {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::ChangeCipherSpec => 20,
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::ApplicationData => 23,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            20 => Some(Self::ChangeCipherSpec),
            21 => Some(Self::Alert),
            22 => Some(Self::Handshake),
            23 => Some(Self::ApplicationData),
            _ => None,
        }
    }
}

/// type, version, epoch, sequence_number, length.
pub(crate) const RECORD_HEADER_BYTES: usize = 13;

/// A record header as received; [`crate::record`] judges its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) content_type: u8,
    pub(crate) version: u16,
    pub(crate) number: RecordNumber,
    pub(crate) length: usize,
}

impl RecordHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let content_type = reader.u8()?;
        let version = reader.u16()?;
        let number = RecordNumber::from_bytes(*reader.array::<8>()?);
        let length = reader.u16()?.into();
        Ok(Self { content_type, version, number, length })
    }

    /// Bytes of the header itself; the payload follows. The header of a record with a connection ID holds the ID without its length (RFC 9146
    /// §4): a parser that supports connection IDs would be told the length of ours, and return another size here.
    pub(crate) const fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES
    }
}

pub(crate) fn put_record_header(
    out: &mut Vec<u8>,
    content_type: ContentType,
    version: u16,
    number: RecordNumber,
    length: usize,
) {
    out.push(content_type.code());
    put_u16(out, version);
    out.extend_from_slice(&number.to_bytes());
    put_u16(out, to_u16(length));
}
