//! The lock of a ledger: a file beside it, which the process holds that has it open.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;

use super::place::open_or_create;
use crate::fault::OpenProblem;
use crate::paths::with_suffix;

/// One process has a ledger open: two would draw the same numbers.
pub(crate) fn lock(file: &Path) -> Result<File, OpenProblem> {
    let name = with_suffix(file, ".lock");
    // Who may open it may hold it, and keep a server from starting.
    let lock = open_or_create(File::options().write(true), &name, 0o600, file).map_err(OpenProblem::File)?;
    take(lock)
}

/// The same for what changes no file: without a lock file no process has the ledger open.
pub(crate) fn lock_if_there(file: &Path) -> Result<Option<File>, OpenProblem> {
    match File::options().write(true).open(with_suffix(file, ".lock")) {
        Ok(lock) => take(lock).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenProblem::File(error)),
    }
}

/// Whether a server has the ledger open now.
pub(crate) fn is_open_elsewhere(file: &Path) -> bool {
    let Ok(lock) = File::options().write(true).open(with_suffix(file, ".lock")) else { return false };
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

fn take(lock: File) -> Result<File, OpenProblem> {
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenProblem::InUse),
        Err(TryLockError::Error(error)) => Err(OpenProblem::File(error)),
    }
}
