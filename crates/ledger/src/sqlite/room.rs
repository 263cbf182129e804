//! How much room a ledger needs on its disk.

use std::fmt;
use std::path::{Path, PathBuf};

use authority::DiskRoom;

use super::connect::CHECKPOINT_PAGES;
use crate::fault::WriteProblem;
use crate::paths::free_bytes;

/// Bytes of a page in the log: 24 before the page.
const LOG_PAGE_BYTES: u64 = 4_096 + 24;

/// Bytes for what comes beside the log and its copy: an export, a rotated log, other programs.
const MARGIN_BYTES: u64 = 16 << 20;

/// What has to be free before a ledger that found its disk full writes again: the whole log, and all of it once more when it is copied into the
/// file. With less it would fail again at the next copy.
pub(crate) const NEEDED_BYTES: u64 = 2 * CHECKPOINT_PAGES as u64 * LOG_PAGE_BYTES + MARGIN_BYTES;

/// What has to be free before a ledger whose journal found its disk full writes again: some batches of the longest lines.
const JOURNAL_BYTES: u64 = MARGIN_BYTES;

/// What has to be free on the disk of a file before it is written again.
#[derive(Clone, Debug)]
pub(super) struct Needed {
    file: PathBuf,
    bytes: u64,
}

impl Needed {
    /// What the ledger in `ledger` needs.
    pub(super) fn of(ledger: &Path) -> Self {
        Self { file: ledger.to_owned(), bytes: NEEDED_BYTES }
    }

    /// What this fault of the ledger in `ledger` shows to be missing.
    pub(super) fn by(problem: &WriteProblem, ledger: &Path) -> Self {
        match problem {
            WriteProblem::Database(_) => Self::of(ledger),
            WriteProblem::Journal(fault) => Self { file: fault.file.clone(), bytes: JOURNAL_BYTES },
        }
    }

    /// What is free on that disk, for users other than root; nothing where the system does not say.
    pub(super) fn room(&self) -> Option<Room> {
        Some(Room { free_bytes: free_bytes(&self.file).ok()?, needed_bytes: self.bytes })
    }
}

/// What is free on a disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    free_bytes: u64,
    needed_bytes: u64,
}

impl From<Room> for DiskRoom {
    fn from(Room { free_bytes, needed_bytes }: Room) -> Self {
        Self { free_bytes, needed_bytes }
    }
}

impl Room {
    pub(super) fn is_enough(self) -> bool {
        self.free_bytes >= self.needed_bytes
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ledger needs {} MiB of free space there, and {} MiB are free",
            self.needed_bytes >> 20,
            self.free_bytes >> 20
        )
    }
}
