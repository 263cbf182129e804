//! Connections to the file of a ledger, and what makes durable what is read through them.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::schema;
use crate::fault::{OpenFault, OpenProblem};
use crate::paths::{sync_folder, with_suffix};

/// Pages of 4,096 bytes that the log may have before it is copied into the file: at a thousand certificates a second, some seconds.
pub(super) const CHECKPOINT_PAGES: u32 = 8_000;

/// What is left of a log that had to grow.
const LOG_BYTES_MAX: i64 = 2 * CHECKPOINT_PAGES as i64 * 4_120;

/// Memory for pages, of the writer and of each reader, in KiB.
const WRITER_CACHE_KIB: i64 = 65_536;
const READER_CACHE_KIB: i64 = 8_192;

/// How long a statement waits for a lock of another process, such as `sqlite3` with the file open for writing.
const BUSY_TIME: Duration = Duration::from_secs(5);

/// A connection is used by one thread at a time: SQLite needs no mutex of its own, which costs a row 7 %.
const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// Bytes of the log that are written again at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// How a commit is synced. A build with a seam is for the tests of power losses, which have to detect it.
const SYNCHRONOUS: &str = if cfg!(muster_seam = "ledger_synchronous") { "NORMAL" } else { "FULL" };

#[cfg(all(
    not(debug_assertions),
    any(muster_seam = "ledger_synchronous", muster_seam = "ledger_log", muster_seam = "ledger_folder")
))]
compile_error!("a build with a seam loses certificates with the power: it is for tests alone");

/// What all connections have in common. The file is never created here: one that is gone is a fault, not a new ledger.
fn open(file: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(file, FLAGS)?;
    connection.busy_timeout(BUSY_TIME)?;
    keep_log_when_closed(&connection)?;
    Ok(connection)
}

/// A connection that writes. It has to be given to [`make_durable`] before anything is answered by what it reads.
pub(super) fn connect_writer(file: &Path) -> Result<Connection, OpenProblem> {
    let connection = open(file)?;
    // Before anything changes the file: it may be that of another program or release.
    schema::check_or_empty(&connection)?;
    // The answer is the mode that the file has now.
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenProblem::Damaged(format!("its folder does not allow a write-ahead log: the mode is {mode}")));
    }
    connection.pragma_update(None, "synchronous", SYNCHRONOUS)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    // A long reader makes it longer: it is cut when it begins anew.
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    keep_plans(&connection)?;
    Ok(connection)
}

/// A connection to the ledger in this file that may write, for the functions of [`crate::audit`]. A server may have it open meanwhile.
///
/// # Errors
/// [`OpenFault`] names the file and what to do.
pub fn connect(file: &Path) -> Result<Connection, OpenFault> {
    connect_measured(file).map(|(connection, _)| connection)
}

/// The same, with the time for which nobody else could write.
pub(crate) fn connect_measured(file: &Path) -> Result<(Connection, Duration), OpenFault> {
    let try_connect = || -> Result<_, OpenProblem> {
        let connection = open_checked(file)?;
        connection.pragma_update(None, "synchronous", SYNCHRONOUS)?;
        let held = make_durable(&connection, file)?;
        Ok((connection, held))
    };
    try_connect().map_err(|problem| OpenFault { file: file.to_owned(), problem })
}

fn open_checked(file: &Path) -> Result<Connection, OpenProblem> {
    let connection = open(file)?;
    schema::check(&connection)?;
    Ok(connection)
}

/// A connection to the ledger in this file that reads, beside whoever writes it.
///
/// # Errors
/// [`OpenFault`] names the file and what to do.
pub fn connect_beside(file: &Path) -> Result<Beside, OpenFault> {
    // Reading a log needs the right to write its index.
    match open_checked(file) {
        Ok(connection) => Ok(Beside { connection, file: file.to_owned() }),
        Err(problem) => Err(OpenFault { file: file.to_owned(), problem }),
    }
}

/// A connection that leaves every file as it is, for whoever holds the lock of the ledger: the index of the log is in memory. Where there is no ledger
/// yet, an empty database in memory stands for it.
pub(crate) fn connect_trial(file: &Path) -> Result<Beside, OpenProblem> {
    let beside = |connection| Beside { connection, file: file.to_owned() };
    let is_written = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    if is_written(file) || is_written(&with_suffix(file, "-wal")) {
        let connection = beside(open(file)?);
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        if !schema::is_empty(&connection)? {
            schema::check(&connection)?;
            return Ok(connection);
        }
    }
    Ok(beside(Connection::open_in_memory()?))
}

/// See [`connect_beside`]. A log that this connection created and nobody wrote is removed with it: the file alone is the ledger, as before.
pub struct Beside {
    connection: Connection,
    file: PathBuf,
}

impl Deref for Beside {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Beside {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Beside").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let is_empty = with_suffix(&self.file, "-wal").metadata().is_ok_and(|log| log.len() == 0);
        if is_empty {
            // If it fails, an empty log stays.
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }
}

/// A connection that reads.
pub(super) fn connect_reader(file: &Path) -> Result<Connection, OpenProblem> {
    let connection = open(file)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    keep_plans(&connection)?;
    Ok(connection)
}

/// A connection that is open as long as the ledger. When the writer's connection is closed after a fault, the others still know where the last
/// commit ends, and the next one overwrites what failed. Without any connection SQLite reads the log anew, and takes the failed commit for a good one.
pub(super) fn connect_anchor(file: &Path) -> Result<Connection, OpenProblem> {
    let connection = connect_reader(file)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

/// A statement keeps its plan whatever its parameters are. Otherwise SQLite compiles some statements again each time they run.
fn keep_plans(connection: &Connection) -> Result<(), OpenProblem> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// The last connection copies the log into the file when it is closed. Not while the log may hold what is not durable: half of it in the file and
/// nothing of it in the log would be a damaged file after a power loss.
pub(super) fn keep_log_when_closed(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Makes durable what the log holds, and the names of the files.
///
/// A process that ended between a write and its sync leaves in the log what only the kernel's memory holds. So does a sync that failed, and after it
/// no other sync helps: the kernel takes the pages for written, though they may not be. SQLite takes both for committed. So the log is written
/// again, whole, and synced, before anything is answered or copied into the file by it. SQLite also syncs the folder of a new log and overlooks it
/// when that fails. Says for how long nobody else could write.
pub(super) fn make_durable(connection: &Connection, file: &Path) -> Result<Duration, OpenProblem> {
    // Nobody else changes the log or begins it anew meanwhile.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let began = Instant::now();
    let done = write_log_again(file).and_then(|()| sync_name(file)).map_err(OpenProblem::File);
    connection.execute_batch("ROLLBACK")?;
    let held = began.elapsed();
    done?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(held)
}

/// No lock of SQLite is on this file: closing it gives none up.
fn write_log_again(file: &Path) -> Result<(), io::Error> {
    if cfg!(muster_seam = "ledger_log") {
        return Ok(());
    }
    let log = match File::options().read(true).write(true).open(with_suffix(file, "-wal")) {
        Ok(log) => log,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (mut chunk, mut at) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let read = log.read_at(&mut chunk, at)?;
        if read == 0 {
            return log.sync_all();
        }
        log.write_all_at(&chunk[..read], at)?;
        at += u64::try_from(read).unwrap_or(u64::MAX);
    }
}

fn sync_name(file: &Path) -> Result<(), io::Error> {
    if cfg!(muster_seam = "ledger_folder") { Ok(()) } else { sync_folder(file) }
}
