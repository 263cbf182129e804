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
pub(super) const JOURNAL_BYTES: u64 = MARGIN_BYTES;

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

    /// What a journal in this file needs.
    pub(super) fn of_journal(journal: &Path) -> Self {
        Self { file: journal.to_owned(), bytes: JOURNAL_BYTES }
    }

    /// What this fault of the ledger in `ledger` shows to be missing.
    pub(super) fn by(problem: &WriteProblem, ledger: &Path) -> Self {
        match problem {
            WriteProblem::Database(_) => Self::of(ledger),
            WriteProblem::Journal(fault) => Self::of_journal(&fault.file),
        }
    }

    /// What is free on that disk, for users other than root; nothing where the system does not say.
    pub(super) fn room(&self) -> Option<Room> {
        Some(Room { free_bytes: free_bytes(&self.file).ok()?, needed_bytes: self.bytes })
    }
}

/// The room of the ledger in `ledger`: that of its disk, or that of its journal's disk if that is shorter of what it needs. Both stop the writing, and on one
/// disk the ledger needs more.
pub(super) fn shortest(ledger: &Path, journal: Option<&Path>) -> Option<Room> {
    let needed = [Some(Needed::of(ledger)), journal.map(Needed::of_journal)];
    let rooms = needed.into_iter().flatten().filter_map(|needed| needed.room());
    rooms.min_by(|one, other| one.times().total_cmp(&other.times()))
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
    /// How many times what is needed is free.
    #[allow(clippy::cast_precision_loss, reason = "a ratio, to compare two disks")]
    fn times(self) -> f64 {
        self.free_bytes as f64 / self.needed_bytes as f64
    }

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
