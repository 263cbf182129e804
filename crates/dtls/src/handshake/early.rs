//! Protected records that arrive before their keys: a Finished overtakes the messages before it, or a public-key step is still
//! running.
//!
//! Nothing can be verified without the keys, so anybody who forges the peer's address can fill this buffer as well as the peer. Several
//! records with one sequence number are therefore kept: the first need not be the genuine one.

use crate::limits::{EARLY_RECORD_BYTES_MAX, EARLY_RECORDS_MAX};
use crate::record::Record;
use crate::wire::ContentType;

#[derive(Default)]
pub(crate) struct EarlyRecords(Vec<(Record, Vec<u8>)>);

impl EarlyRecords {
    /// Keeps a record, unless it does not belong here, is already known or does not fit.
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

    /// Takes all records, in order of arrival.
    pub(crate) fn take(&mut self) -> Vec<(Record, Vec<u8>)> {
        std::mem::take(&mut self.0)
    }
}
