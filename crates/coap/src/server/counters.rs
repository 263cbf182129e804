//! Counters of the message layer, by name.

use super::done::{Done, Dropped};
use super::refusal::RequestRefusal;

/// Counters of the message layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounters {
    /// Requests handed up.
    pub requests: u64,
    /// Duplicates of remembered requests.
    pub duplicates: u64,
    /// Blocks taken into uploads.
    pub blocks: u64,
    /// Blocks of kept responses sent on request.
    pub continuations: u64,
    /// Empty acknowledgements sent because an answer took too long.
    pub separate: u64,
    /// Separate responses sent again.
    pub retransmissions: u64,
    /// Separate responses that were never acknowledged.
    pub given_up: u64,
    /// Uploads that expired or were evicted.
    pub uploads_dropped: u64,
    /// Kept responses that were evicted.
    pub answers_evicted: u64,
    /// Requests refused here, except with 5.03.
    pub refused: u64,
    /// Requests refused with 5.03 because a shared limit or a limit of the peer was reached.
    pub full: u64,
    /// Datagrams dropped because they are not CoAP or are malformed.
    pub malformed: u64,
    /// Messages dropped because they do not match an exchange or are not requests.
    pub unmatched: u64,
}

impl MessageCounters {
    /// Counts what was handled without the caller.
    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Dropped(dropped) => self.dropped(dropped),
            Done::Refused(refusal) => self.refused(refusal),
            Done::Duplicate => self.duplicates += 1,
            Done::Continuation => self.continuations += 1,
            Done::Continued => self.blocks += 1,
            Done::Acknowledged | Done::Reset | Done::Ping => {}
        }
    }

    fn refused(&mut self, refusal: RequestRefusal) {
        match refusal {
            RequestRefusal::Full(_) => self.full += 1,
            _ => self.refused += 1,
        }
    }

    fn dropped(&mut self, dropped: Dropped) {
        match dropped {
            Dropped::NotCoap | Dropped::Malformed(_) => self.malformed += 1,
            Dropped::NotARequest | Dropped::Unmatched => self.unmatched += 1,
            Dropped::BadOption(_) => self.refused += 1,
        }
    }
}
