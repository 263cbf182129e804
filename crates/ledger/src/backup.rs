//! Copies a ledger while a server writes it.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::fault::OpenProblem;
use crate::paths::{sync_folder, with_suffix};
use crate::sqlite::{connect_beside, schema};

/// Why a ledger was not copied. Nothing is left behind.
#[derive(Debug)]
pub struct BackupFault {
    /// The file at fault.
    pub file: PathBuf,
    /// What is wrong.
    pub problem: BackupProblem,
}

/// What is wrong with a backup.
#[derive(Debug)]
pub enum BackupProblem {
    /// The ledger cannot be used.
    Ledger(OpenProblem),
    /// The copy cannot be written.
    File(io::Error),
    /// SQLite cannot write the copy, or the copy is damaged.
    Copy(String),
}

/// Copies the ledger in `file` to `copy`, which must not exist: one moment of it, whole, readable by its owner alone, durable when this returns. A
/// server that writes meanwhile is not held up; its log is not shortened until the copy is made.
///
/// # Errors
/// [`BackupFault`] names the file.
pub fn backup(file: &Path, copy: &Path) -> Result<(), BackupFault> {
    let fault = |file: &Path, problem| BackupFault { file: file.to_owned(), problem };
    let connection = connect_beside(file).map_err(|it| fault(file, BackupProblem::Ledger(it.problem)))?;
    let part = with_suffix(copy, ".part");
    if copy.exists() {
        return Err(fault(copy, BackupProblem::File(io::ErrorKind::AlreadyExists.into())));
    }
    // What a backup that was killed left behind.
    let _there_may_be_none = fs::remove_file(&part);
    File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&part)
        .map_err(|error| fault(&part, BackupProblem::File(error)))?;
    let made = write(&connection, &part).and_then(|()| publish(&part, copy).map_err(BackupProblem::File));
    made.map_err(|problem| {
        let _the_fault_is_reported = fs::remove_file(&part);
        fault(copy, problem)
    })
}

fn write(connection: &Connection, part: &Path) -> Result<(), BackupProblem> {
    let failed = |error: rusqlite::Error| BackupProblem::Copy(error.to_string());
    let name = part.to_str().ok_or_else(|| BackupProblem::Copy("its name is not UTF-8".to_owned()))?;
    // An empty file is taken for a new one.
    connection.execute("VACUUM INTO ?1", [name]).map_err(failed)?;
    let copy = Connection::open(part).map_err(failed)?;
    schema::read(&copy).map_err(BackupProblem::Ledger)?;
    let said: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if said == "ok" { Ok(()) } else { Err(BackupProblem::Copy(said)) }
}

fn publish(part: &Path, copy: &Path) -> Result<(), io::Error> {
    File::open(part)?.sync_all()?;
    fs::rename(part, copy)?;
    sync_folder(copy)
}

impl fmt::Display for BackupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.problem {
            BackupProblem::Ledger(problem) => problem.fmt(f),
            BackupProblem::File(error) => error.fmt(f),
            BackupProblem::Copy(what) => write!(f, "the copy failed: {what}"),
        }
    }
}

impl std::error::Error for BackupFault {}
