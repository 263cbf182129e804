//! Copies a ledger while a server writes it.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::fault::OpenProblem;
use crate::paths::{folder_of, free_bytes, sync_folder, with_suffix};
use crate::sqlite::{NEEDED_BYTES, connect_beside, schema};

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
    /// The disk of the copy has too little room.
    NoRoom {
        /// What the copy needs there, and what the ledger itself needs if it is on that disk.
        needed_bytes: u64,
        /// What is free there.
        free_bytes: u64,
    },
    /// Another backup to the same file is being made.
    UnderWay,
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
    if copy.exists() {
        return Err(fault(copy, BackupProblem::File(ErrorKind::AlreadyExists.into())));
    }
    expect_room(&connection, file, copy).map_err(|problem| fault(copy, problem))?;
    let part = with_suffix(copy, ".part");
    // Held until the copy has its name, or is gone.
    let _claimed = claim(&part).map_err(|problem| fault(&part, problem))?;
    let made = write(&connection, &part).and_then(|()| publish(&part, copy).map_err(BackupProblem::File));
    made.map_err(|problem| {
        let _the_fault_is_reported = fs::remove_file(&part);
        fault(copy, problem)
    })
}

/// The copy must not fill its disk: least of all that of the ledger, whose log also grows until the copy is made.
fn expect_room(connection: &Connection, file: &Path, copy: &Path) -> Result<(), BackupProblem> {
    let failed = |error: rusqlite::Error| BackupProblem::Ledger(error.into());
    let sql = "SELECT (c.page_count - f.freelist_count) * s.page_size FROM pragma_page_count c, pragma_freelist_count f, pragma_page_size s";
    let bytes: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(failed)?;
    let disk = |path: &Path| folder_of(path).metadata().map(|folder| folder.dev()).map_err(BackupProblem::File);
    let beside = if disk(file)? == disk(copy)? { NEEDED_BYTES } else { 0 };
    let needed_bytes = u64::try_from(bytes).unwrap_or(0).saturating_add(beside);
    match free_bytes(copy) {
        Ok(free_bytes) if free_bytes < needed_bytes => Err(BackupProblem::NoRoom { needed_bytes, free_bytes }),
        // Where the system does not say, the copy shows it.
        _ => Ok(()),
    }
}

/// Creates the file that the copy is written to. One that a backup left which was killed is replaced; one that a backup writes is not.
fn claim(part: &Path) -> Result<File, BackupProblem> {
    let create = || File::options().create_new(true).write(true).mode(0o600).open(part).map_err(BackupProblem::File);
    let lock = |file: &File| match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(BackupProblem::UnderWay),
        Err(TryLockError::Error(error)) => Err(BackupProblem::File(error)),
    };
    let created = match create() {
        Err(BackupProblem::File(error)) if error.kind() == ErrorKind::AlreadyExists => {
            let left = File::open(part).map_err(BackupProblem::File)?;
            lock(&left)?;
            fs::remove_file(part).map_err(BackupProblem::File)?;
            create()?
        }
        created => created?,
    };
    lock(&created)?;
    Ok(created)
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

/// Gives the copy its name, which nothing may have got meanwhile.
fn publish(part: &Path, copy: &Path) -> Result<(), io::Error> {
    File::open(part)?.sync_all()?;
    match renameat_with(CWD, part, CWD, copy, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // The file system has no such call. A link takes no name that is taken either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(part, copy)?;
            fs::remove_file(part)?;
        }
        Err(error) => return Err(error.into()),
    }
    sync_folder(copy)
}

impl fmt::Display for BackupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match &self.problem {
            BackupProblem::Ledger(problem) => problem.fmt(f),
            BackupProblem::File(error) => error.fmt(f),
            BackupProblem::NoRoom { needed_bytes, free_bytes } => write!(
                f,
                "the copy needs {} MiB of free space there, and {} MiB are free",
                needed_bytes.div_ceil(1 << 20),
                free_bytes >> 20
            ),
            BackupProblem::UnderWay => f.write_str("another backup to this file is being made"),
            BackupProblem::Copy(what) => write!(f, "the copy failed: {what}"),
        }
    }
}

impl std::error::Error for BackupFault {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn a_copy_takes_no_name_that_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (part, copy) = (folder.path().join("copy.part"), folder.path().join("copy"));
        fs::write(&part, "new").unwrap();
        // It was made between the first look and the last step.
        fs::write(&copy, "old").unwrap();
        assert_eq!(publish(&part, &copy).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(
            (fs::read_to_string(&copy).unwrap(), fs::read_to_string(&part).unwrap()),
            ("old".into(), "new".into())
        );
        fs::remove_file(&copy).unwrap();
        publish(&part, &copy).unwrap();
        assert_eq!(fs::read_to_string(&copy).unwrap(), "new");
        assert!(!part.exists());
    }

    #[test]
    fn two_backups_to_one_file_do_not_write_into_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("copy.part");
        let first = claim(&part).unwrap();
        assert!(matches!(claim(&part), Err(BackupProblem::UnderWay)));
        // It was killed: its file is left.
        fs::write(&part, "half a copy").unwrap();
        drop(first);
        let _second = claim(&part).unwrap();
        assert_eq!(fs::read_to_string(&part).unwrap(), "");
        assert!(matches!(claim(&part), Err(BackupProblem::UnderWay)));
    }

    #[test]
    fn a_copy_that_does_not_fit_says_how_much_it_needs() {
        let fault = BackupFault {
            file: "/backup/ledger.db".into(),
            problem: BackupProblem::NoRoom { needed_bytes: (100 << 20) + 1, free_bytes: 3 << 20 },
        };
        assert_eq!(
            fault.to_string(),
            "/backup/ledger.db: the copy needs 101 MiB of free space there, and 3 MiB are free"
        );
    }
}
