//! The record layer (RFC 6347 §4.1): records are found in a datagram, judged, opened in place, and sealed.
//!
//! It knows no handshake and no session; both bring it keys and ask it for records.

mod protection;
mod records;
mod replay;

pub(crate) use protection::{PlainRecords, RecordProtection, Role, Unopened};
pub(crate) use records::{Record, Records};
