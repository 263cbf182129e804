//! The record layer (RFC 6347 §4.1): finds records in a datagram, checks them, opens them in place, and seals
//! new ones.
//!
//! It knows no handshake and no session; both give it keys and call it.

mod protection;
mod records;
mod replay;

pub(crate) use protection::{PlainRecords, RecordProtection, Role, Unopened};
pub(crate) use records::{Record, Records};
