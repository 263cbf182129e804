//! How much room a ledger needs on its disk.

use std::fmt;
use std::path::Path;

use super::connect::CHECKPOINT_PAGES;
use crate::paths::folder_of;

/// Bytes of a page in the log: 24 before the page.
const LOG_PAGE_BYTES: u64 = 4_096 + 24;

/// Bytes for what comes beside the log and its copy: an export, a rotated log, other programs.
const MARGIN_BYTES: u64 = 16 << 20;

/// What has to be free before a ledger that found its disk full writes again: the whole log, and all of it once more when it is copied into the
/// file. With less it would fail again at the next copy.
pub(super) const NEEDED_BYTES: u64 = 2 * CHECKPOINT_PAGES as u64 * LOG_PAGE_BYTES + MARGIN_BYTES;

/// What is free on the disk of a ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) free_bytes: u64,
}

impl Room {
    /// Of the disk that this file is on, for users other than root; nothing where the system does not say.
    pub(super) fn of(file: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(folder_of(file)).ok()?;
        Some(Self { free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize) })
    }

    pub(super) fn is_enough(self) -> bool {
        self.free_bytes >= NEEDED_BYTES
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the ledger needs {} MiB of free space there, and {} MiB are free",
            NEEDED_BYTES >> 20,
            self.free_bytes >> 20
        )
    }
}
