//! The journal: a file outside the database that has every issuance, abandonment and revocation too, on another disk if the operator says so.
//!
//! ```text
//! {"type":"ledger.journal","version":1,"ledger":"…","life":0,"node":7,"sequence":320,"hash":"…"}     first line: what stands before
//! {"type":"ledger.issued",…}                                                                         lines of one batch, see [`crate::line`]
//! {"type":"ledger.revoked",…}
//! {"type":"ledger.batch","version":1,"node":7,"sequence":321,"hash":"…","lines":2}                    last line of the batch
//! ```
//!
//! **Order.** The lines of a batch are appended and synced, then its transaction is committed, then its answers are given. So whatever was answered
//! is in both. Each batch with lines has one row in the audit (see [`crate::audit`]); the last line of the batch names its node, its number and its
//! hash, which ties the journal to the chain: a start sees at once whether one of the two lacks what the other has.
//!
//! **A batch that was not committed** is the last one of the journal, because nothing is appended behind it before it is resolved: at the start, or
//! when a writer that failed goes on, the journal is rolled forward. Its certificates are recorded as if the answer had been lost on the way; nobody
//! received them, and a device that asks again gets that certificate. A batch whose last line is missing was not synced, so it was never
//! committed: it is cut off.
//!
//! **What the journal lacks** is appended at the start: by the audit, or every row if there is no journal. Work grows with what is missing.
//! Every row is written only where its disk has room for all of them.
//!
//! **A database that is older than the journal** was restored from a backup: the server does not start, and `muster ledger resume --after-restore`
//! brings back what the journal has.
//!
//! **Segments.** A file that has grown to [`SEGMENT_BYTES`] is closed and renamed: `ledger.journal.LIFE.FIRST-LAST`, by the numbers of the rows of the
//! audit before its first and of its last batch. A life begins with the ledger and with each restore. Closed segments are not touched again: an
//! operator may move or delete those that end before the oldest backup that could be restored. A certificate takes about 2.2 kB.

pub(crate) mod event;
pub(crate) mod frame;
pub(crate) mod reading;
pub(crate) mod segments;
pub(crate) mod tail;
mod writer;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::line::LineFault;
use crate::paths::with_suffix;

pub(crate) use writer::{Filling, JournalWriter};

/// The size from which a file of the journal is closed: half a million certificates.
pub const SEGMENT_BYTES: u64 = 1 << 30;

const MEBIBYTE: u64 = 1 << 20;

/// Where a ledger keeps its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// The file that lines are appended to: on another disk than the ledger, if what happens to that must not happen to it.
    pub file: PathBuf,
    /// The size from which it is closed.
    pub segment_bytes: u64,
}

impl JournalSettings {
    /// A journal in this file.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), segment_bytes: SEGMENT_BYTES }
    }

    /// The same file by its own name: what a link leads to is renamed when it is full, not the link.
    #[must_use]
    pub(crate) fn resolved(&self) -> Self {
        let file = self.file.canonicalize().unwrap_or_else(|_| self.file.clone());
        Self { file, ..self.clone() }
    }

    /// What is wrong with it.
    pub(crate) fn fault(&self, problem: JournalProblem) -> JournalFault {
        JournalFault { file: self.file.clone(), problem }
    }

    /// The journal that `init` gives a ledger: in its folder.
    #[must_use]
    pub fn beside(ledger: &Path) -> Self {
        Self::new(&with_suffix(&ledger.with_extension(""), ".journal"))
    }
}

/// Why a journal cannot be used.
#[derive(Debug)]
pub struct JournalFault {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: JournalProblem,
}

/// What is wrong with a journal.
#[derive(Debug)]
pub enum JournalProblem {
    /// It cannot be read or written.
    File(io::Error),
    /// It does not begin as a journal does.
    NotAJournal,
    /// It is the journal of another ledger.
    Foreign,
    /// This line cannot be used.
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
    /// The batch that ends at this line does not have the lines that it had.
    Batch {
        /// The line, from 1.
        line: u64,
    },
    /// Its last batch is not whole, and other segments come after it.
    Cut,
    /// A line contradicts the ledger.
    Contradiction(String),
    /// What happened to a row has a time after the clock.
    Ahead {
        /// The row and the time, in words.
        what: Box<str>,
        /// How far it is ahead.
        seconds: u64,
    },
    /// A new one gets every row of the ledger, and its disk has no room for them.
    NoRoom {
        /// The rows.
        rows: u64,
        /// Bytes that have to be free.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
}

impl fmt::Display for JournalFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal {}", self.file.display())?;
        match &self.problem {
            JournalProblem::File(error) => write!(f, ": {error}. Check the folder, its owner and its free space"),
            JournalProblem::NotAJournal => f.write_str(
                " is not a journal of a ledger. Name another file in `[ledger] journal`, or move this one away",
            ),
            JournalProblem::Foreign => f.write_str(
                " belongs to another ledger. Name another file in `[ledger] journal`, or move this one away",
            ),
            JournalProblem::Line { line, fault } => write!(f, ", line {line}: {fault}"),
            JournalProblem::Batch { line } => {
                write!(
                    f,
                    ", line {line}: the batch that ends here does not have the lines that it had: the file is damaged"
                )
            }
            JournalProblem::Cut => {
                f.write_str(" ends in the middle of a batch, and other segments come after it: it was cut")
            }
            JournalProblem::Contradiction(what) => write!(f, " contradicts the ledger: {what}"),
            JournalProblem::Ahead { what, seconds } => write!(
                f,
                ": {what}, which is {seconds} seconds after the clock of this machine. No row is dated before an earlier one, so nothing could be issued until then. Set the clock"
            ),
            JournalProblem::NoRoom { rows, needed_bytes, free_bytes } => write!(
                f,
                " does not exist, and a new one gets every row of the ledger: {rows} rows need {} MiB of free space there, and {} MiB are free. \
                 Make room, or name a file on another disk in `[ledger] journal`",
                needed_bytes.div_ceil(MEBIBYTE),
                free_bytes / MEBIBYTE
            ),
        }
    }
}

impl std::error::Error for JournalFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            JournalProblem::File(error) => Some(error),
            JournalProblem::Line { fault, .. } => Some(fault),
            JournalProblem::NotAJournal
            | JournalProblem::Foreign
            | JournalProblem::Batch { .. }
            | JournalProblem::Cut
            | JournalProblem::Contradiction(_)
            | JournalProblem::Ahead { .. }
            | JournalProblem::NoRoom { .. } => None,
        }
    }
}
