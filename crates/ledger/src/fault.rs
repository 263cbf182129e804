//! Why a ledger cannot be opened.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::audit::KeyFileFault;
use crate::journal::{JournalFault, JournalProblem};

/// Why a ledger cannot be opened: names the file and what to do about it.
#[derive(Debug)]
pub struct OpenFault {
    /// The file of the ledger.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: OpenProblem,
}

/// What is wrong with a ledger's file.
#[derive(Debug)]
pub enum OpenProblem {
    /// Another process has it open.
    InUse,
    /// It cannot be read, written or created.
    File(io::Error),
    /// SQLite cannot use it.
    Database(rusqlite::Error),
    /// It is a database of something else.
    NotALedger,
    /// It was written by a release that is older than the one before.
    Older {
        /// The version of its schema.
        found: u32,
        /// The oldest version that this release can use.
        supported: u32,
    },
    /// It was written by a release that is newer than the next one.
    Newer {
        /// The version of its schema.
        found: u32,
        /// The newest version that this release can use.
        supported: u32,
    },
    /// It can be used, but not for this: what was asked for needs tables that a newer version has.
    NeedsMigration {
        /// The version of its schema.
        found: u32,
        /// The version that has these tables.
        needed: u32,
    },
    /// The key of its audit cannot be used.
    AuditKey(KeyFileFault),
    /// The file of its audit's checkpoints cannot be written.
    Checkpoints {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Its journal cannot be used.
    Journal(JournalFault),
    /// It lacks what its journal has: it was restored from a backup.
    Restored {
        /// The journal.
        journal: PathBuf,
    },
    /// It had a journal, which is not there.
    JournalGone {
        /// The journal.
        journal: PathBuf,
    },
    /// The log beside it is that of another file: of the ledger that was lost before this one was restored.
    ForeignLog {
        /// The log.
        log: PathBuf,
    },
    /// A restore was not finished.
    Unfinished,
    /// There is a journal, and no ledger.
    Lost {
        /// The journal.
        journal: PathBuf,
    },
    /// There are files that its audit keeps, and no ledger.
    Missing {
        /// These files: the checkpoints, and both halves of the key.
        kept: Vec<PathBuf>,
    },
    /// A row cannot be read.
    Damaged(String),
}

/// Why a batch was not written.
#[derive(Debug)]
pub(crate) enum WriteProblem {
    Database(rusqlite::Error),
    Journal(JournalFault),
}

impl WriteProblem {
    /// Whether the disk has no room.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Database(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            Self::Journal(JournalFault { problem: JournalProblem::File(error), .. }) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Journal(_) => false,
        }
    }
}

impl From<rusqlite::Error> for WriteProblem {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<WriteProblem> for OpenProblem {
    fn from(problem: WriteProblem) -> Self {
        match problem {
            WriteProblem::Database(error) => error.into(),
            WriteProblem::Journal(fault) => Self::Journal(fault),
        }
    }
}

impl fmt::Display for WriteProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => error.fmt(f),
            Self::Journal(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for OpenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger {}: {}", self.file.display(), self.problem)
    }
}

impl fmt::Display for OpenProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str(
                "another process has it open. One server writes a ledger: stop the other one, or name another file in `[ledger] url`",
            ),
            Self::File(error) => write!(f, "{error}. Check the folder, its owner and its free space"),
            Self::Database(error) => write!(f, "{error}. If the file is damaged, restore a backup of it, without the -wal and -shm files of the damaged one beside it"),
            Self::NotALedger => f.write_str("a database of another program. Name another file in `[ledger] url`"),
            Self::Older { found, supported } => write!(
                f,
                "its schema has version {found}, and this release knows versions from {supported} on. Run `muster ledger migrate` of the releases between, one after the other"
            ),
            Self::NeedsMigration { found, needed } => write!(
                f,
                "its schema has version {found}, and this needs version {needed}. Run `muster ledger migrate`: a server can run meanwhile"
            ),
            Self::Newer { found, supported } => write!(
                f,
                "its schema has version {found}, and this release knows versions up to {supported}. Use the release that wrote it, or a newer one"
            ),
            Self::AuditKey(fault) => fault.fmt(f),
            Self::Checkpoints { file, error } => write!(
                f,
                "cannot write the checkpoints of its audit to {}: {error}. Check the folder and its owner",
                file.display()
            ),
            Self::Journal(fault) => fault.fmt(f),
            Self::Restored { journal } => write!(
                f,
                "it is older than its journal {}: it was restored from a backup. See that no -wal or -shm file of the lost ledger is beside it, and run `muster ledger resume --after-restore`, which brings back what the journal has",
                journal.display()
            ),
            Self::JournalGone { journal } => write!(
                f,
                "its journal {} is not there: is its disk mounted? If the ledger was restored from a backup, run `muster ledger resume --after-restore`. To begin a new journal, create an empty file of that name",
                journal.display()
            ),
            Self::ForeignLog { log } => write!(
                f,
                "the log {} is not its own: it was left there by another file of this name, and would be mixed into this one. If the ledger was restored from a backup, move the log and the -shm file away and run `muster ledger resume --after-restore`",
                log.display()
            ),
            Self::Unfinished => f.write_str(
                "it was restored from a backup, and `muster ledger resume --after-restore` did not come to its end. Run it again",
            ),
            Self::Lost { journal } => write!(
                f,
                "it does not exist, and its journal {} does. Restore a backup, without a -wal or -shm file of the lost one beside it, and run `muster ledger resume --after-restore`; to begin a new ledger, move the journal away",
                journal.display()
            ),
            Self::Missing { kept } => {
                f.write_str("it does not exist, and files of its audit do:")?;
                kept.iter().try_for_each(|path| write!(f, " {}", path.display()))?;
                f.write_str(". Mount its disk or restore a backup; to begin a new ledger, move these files away")
            }
            Self::Damaged(what) => write!(f, "damaged: {what}. Restore a backup of it, without the -wal and -shm files of this one beside it"),
        }
    }
}

impl std::error::Error for OpenFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            OpenProblem::File(error) | OpenProblem::Checkpoints { error, .. } => Some(error),
            OpenProblem::AuditKey(fault) => Some(fault),
            OpenProblem::Database(error) => Some(error),
            OpenProblem::Journal(fault) => Some(fault),
            OpenProblem::InUse
            | OpenProblem::NotALedger
            | OpenProblem::Older { .. }
            | OpenProblem::Newer { .. }
            | OpenProblem::NeedsMigration { .. }
            | OpenProblem::Restored { .. }
            | OpenProblem::JournalGone { .. }
            | OpenProblem::ForeignLog { .. }
            | OpenProblem::Unfinished
            | OpenProblem::Lost { .. }
            | OpenProblem::Missing { .. }
            | OpenProblem::Damaged(_) => None,
        }
    }
}
