//! Protected records that come before their keys: a Finished overtakes the messages before it, or a public-key step is not done yet.
//!
//! Nothing can be checked before the keys are there, so that whoever writes from the peer's address fills this as well as the peer does.
//! Several records of one sequence number are kept therefore: the first one need not be the true one.

use crate::limits::{EARLY_RECORD_BYTES_MAX, EARLY_RECORDS_MAX};
use crate::record::Record;
use crate::wire::ContentType;

#[derive(Default)]
pub(crate) struct EarlyRecords(Vec<(Record, Vec<u8>)>);

impl EarlyRecords {
    /// Keeps a record, unless it does not belong here, is known already or finds no room.
    pub(crate) fn keep(&mut self, record: &Record, payload: &[u8]) -> bool {
        let known = |(early, bytes): &(Record, Vec<u8>)| early.number == record.number && bytes == payload;
        if record.content_type != ContentType::Handshake
            || payload.len() > EARLY_RECORD_BYTES_MAX
            || self.0.len() >= EARLY_RECORDS_MAX
            || self.0.iter().any(known)
        {
            return false;
        }
        self.0.push((record.clone(), payload.to_vec()));
        true
    }

    /// All of them, in the order in which they came.
    pub(crate) fn take(&mut self) -> Vec<(Record, Vec<u8>)> {
        std::mem::take(&mut self.0)
    }
}
