//! Copies a ledger while a server writes it.
//!
//! The copy is read in one transaction (`VACUUM INTO`). SQLite's online backup reads in steps, and begins anew whenever another connection has written
//! (<https://www.sqlite.org/backup.html>): beside a server that commits a hundred times a second it never ends, or its last step is one transaction
//! as well. The price of a transaction is the log: it cannot begin anew while it is read, and grows by what is written meanwhile. So it is watched:
//! a backup that makes it longer than 4 GiB, or leaves too little room for the server, is given up.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::fault::OpenProblem;
use crate::paths::{folder_of, free_bytes, sync_folder, with_suffix};
use crate::sqlite::{NEEDED_BYTES, connect_beside, schema};

/// A log that is longer ends a backup: a server that issues a thousand certificates a second writes it in ten minutes or more. It is shortened when the
/// server begins it anew.
const LOG_BYTES_MAX: u64 = 4 << 30;

/// How often the log is looked at.
const LOOKING_TIME: Duration = Duration::from_millis(100);

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
    /// What a server wrote meanwhile made the log of the ledger too long, or its disk too full.
    LogTooLong {
        /// Bytes of the log.
        log_bytes: u64,
        /// What is free on its disk, if the system says it.
        free_bytes: Option<u64>,
    },
    /// Another backup to the same file is being made.
    UnderWay,
    /// SQLite cannot write the copy, or the copy is damaged.
    Copy(String),
}

/// Copies the ledger in `file` to `copy`, which must not exist: one moment of it, whole, readable by its owner alone, durable when this returns. A
/// server that writes meanwhile is not held up; its log is not shortened until the copy is made, and the backup is given up if it grows too long.
///
/// # Errors
/// [`BackupFault`] names the file.
pub fn backup(file: &Path, copy: &Path) -> Result<(), BackupFault> {
    backup_within(file, copy, LOG_BYTES_MAX)
}

fn backup_within(file: &Path, copy: &Path, log_bytes_max: u64) -> Result<(), BackupFault> {
    let fault = |file: &Path, problem| BackupFault { file: file.to_owned(), problem };
    let connection = connect_beside(file).map_err(|it| fault(file, BackupProblem::Ledger(it.problem)))?;
    if copy.exists() {
        return Err(fault(copy, BackupProblem::File(ErrorKind::AlreadyExists.into())));
    }
    expect_room(&connection, file, copy).map_err(|problem| fault(copy, problem))?;
    let part = with_suffix(copy, ".part");
    // Held until the copy has its name, or is gone.
    let _claimed = claim(&part).map_err(|problem| fault(&part, problem))?;
    let made = write_watched(&connection, (file, log_bytes_max), &part)
        .and_then(|()| publish(&part, copy).map_err(BackupProblem::File));
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
            remove_journal(part).map_err(BackupProblem::File)?;
            fs::remove_file(part).map_err(BackupProblem::File)?;
            create()?
        }
        created => created?,
    };
    lock(&created)?;
    Ok(created)
}

/// Removes what SQLite keeps beside a file that it writes: it would be taken for the journal of the next file of this name.
fn remove_journal(part: &Path) -> Result<(), io::Error> {
    match fs::remove_file(with_suffix(part, "-journal")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes the copy, and gives it up when the log of the ledger has become too long.
fn write_watched(
    connection: &Connection,
    (ledger, log_bytes_max): (&Path, u64),
    part: &Path,
) -> Result<(), BackupProblem> {
    let interrupt = connection.get_interrupt_handle();
    let (written, is_written) = mpsc::channel::<()>();
    let watch = move || {
        while is_written.recv_timeout(LOOKING_TIME) == Err(RecvTimeoutError::Timeout) {
            if let Some(problem) = too_long(ledger, log_bytes_max) {
                interrupt.interrupt();
                return Some(problem);
            }
        }
        None
    };
    thread::scope(|scope| {
        let watching = scope.spawn(watch);
        let made = write(connection, part);
        drop(written);
        let given_up = watching.join().unwrap_or(None);
        // The copy may have come to its end before it could be given up.
        made.map_err(|problem| given_up.unwrap_or(problem))
    })
}

fn too_long(ledger: &Path, log_bytes_max: u64) -> Option<BackupProblem> {
    let log_bytes = with_suffix(ledger, "-wal").metadata().map_or(0, |log| log.len());
    let free_bytes = free_bytes(ledger).ok();
    // A short log is not what fills the disk.
    let is_long = log_bytes > NEEDED_BYTES && free_bytes.is_some_and(|free_bytes| free_bytes < NEEDED_BYTES);
    (log_bytes > log_bytes_max || is_long).then_some(BackupProblem::LogTooLong { log_bytes, free_bytes })
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
            BackupProblem::LogTooLong { log_bytes, free_bytes } => {
                write!(
                    f,
                    "given up, because what the server wrote meanwhile made the log of the ledger {} MiB long",
                    log_bytes >> 20
                )?;
                if let Some(free_bytes) = free_bytes {
                    write!(f, ", and {} MiB are free on its disk", free_bytes >> 20)?;
                }
                f.write_str(". Make the backup when fewer devices enrol, or to a faster disk")
            }
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
    fn a_backup_that_makes_the_log_too_long_is_given_up_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (file, copy) = (folder.path().join("ledger.db"), folder.path().join("copy"));
        let fresh = crate::sqlite::Fresh { serial_key: [7; 16] };
        let now = rustls_pki_types::UnixTime::now();
        drop(crate::SqliteLedger::open(&file, fresh, now).unwrap());
        // It takes longer than a look at the log, which a server has open.
        let connection = Connection::open(&file).unwrap();
        let rows = "CREATE TABLE ballast (x); INSERT INTO ballast
WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT randomblob(300) FROM n";
        connection.execute_batch(rows).unwrap();
        let log_bytes = with_suffix(&file, "-wal").metadata().unwrap().len();
        let fault = backup_within(&file, &copy, log_bytes - 1).unwrap_err();
        assert!(matches!(fault.problem, BackupProblem::LogTooLong { .. }), "{fault}");
        assert!(fault.to_string().contains("when fewer devices enrol"), "{fault}");
        assert!(!copy.exists() && !with_suffix(&copy, ".part").exists());
        backup_within(&file, &copy, log_bytes).unwrap();
    }

    #[test]
    fn two_backups_to_one_file_do_not_write_into_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("copy.part");
        let first = claim(&part).unwrap();
        assert!(matches!(claim(&part), Err(BackupProblem::UnderWay)));
        // It was killed: its file is left.
        fs::write(&part, "half a copy").unwrap();
        fs::write(with_suffix(&part, "-journal"), "the journal of half a copy").unwrap();
        drop(first);
        let _second = claim(&part).unwrap();
        assert!(!with_suffix(&part, "-journal").exists());
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
