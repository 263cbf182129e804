//! What the authority asks of the durable record.
//!
//! ```text
//!               intend                     record
//!   (nothing) ─────────► Intended ───────────────────► Recorded ──► answers repeats until its window ends
//!                           │ abandon, or INTENT_LIFETIME passes and the key is asked for again
//!                           ▼
//!                        Abandoned: a record that comes after all is turned away, its certificate never released
//! ```
//!
//! Every method takes a batch, so that the rows of many jobs share one write, and a completion that is called once: at
//! once or later, on any thread, in any order. One that is dropped counts as a fault.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pki::Digest;
use pki::issue::Serial;
use rustls_pki_types::UnixTime;

use crate::completion::Completion;
use crate::device::Device;
use crate::intent::{Intended, Intent, Record, Recorded};

/// An intent that has not become a certificate after this time is taken for abandoned when its key is asked for again:
/// longer than any signer and ledger we wait for, shorter than MAX_TRANSMIT_WAIT (93 s, RFC 7252 §4.8.2), so that a
/// device that still tries gets its certificate.
pub const INTENT_LIFETIME: Duration = Duration::from_secs(60);

/// The durable record of what was issued.
pub trait Ledger: Send + Sync {
    /// Who holds these certificates, and is each still good? Nothing for one that the ledger does not know.
    fn standing(&self, of: Vec<Digest>, done: Completion<Result<Vec<Option<Standing>>, LedgerFault>>);

    /// Every certificate of this node whose notBefore is later than this has a row here: one that has none was never issued. Nothing where
    /// the ledger cannot say that. Asked after [`Ledger::standing`] has answered that it does not know a certificate.
    fn complete_since(&self) -> Option<UnixTime>;

    /// Reserves each serial for its request, durably, unless the request is already answered. One answer a row, in order.
    ///
    /// The search for an earlier answer and the reservation are one step: with two, two requests alike could both be issued.
    fn intend(&self, rows: Vec<Intent>, done: Completion<Result<Vec<Intended>, LedgerFault>>);

    /// Keeps the certificate of each reserved serial, durably. One answer a row, in order.
    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>);

    /// Gives up reservations whose certificate will not come; a row that is recorded stays. Nobody waits for it: where it
    /// is lost, [`INTENT_LIFETIME`] does the same later.
    fn abandon(&self, serials: Vec<Serial>);
}

/// What the ledger knows about the holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The device that it was issued to, with the manufacturer that vouched for it.
    pub device: Device,
    /// The name of the profile that issued it.
    pub profile: Arc<str>,
    /// Whether it is still good.
    pub state: State,
}

/// The state of an issued certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing speaks against it.
    Good,
    /// It is revoked.
    Revoked,
}

/// Why the ledger could not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerFault {
    /// It cannot be reached, or cannot write.
    Unavailable,
    /// It panicked half way through a step: what it holds may be inconsistent, and every call fails from then on. The process has to start again.
    Broken,
    /// It has no room for another row.
    Full,
    /// It gave up the reservation before the certificate came.
    Abandoned,
    /// It answered with another number of rows than were asked: a defect in the ledger.
    Answer,
}

impl fmt::Display for LedgerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LedgerFault::Unavailable => "unavailable",
            LedgerFault::Broken => "broken: it panicked half way through a step, and the process has to start again",
            LedgerFault::Full => "full: every row still answers repeats or carries a revocation",
            LedgerFault::Abandoned => "the reservation was given up before the certificate came",
            LedgerFault::Answer => "answered with another number of rows than were asked",
        })
    }
}
