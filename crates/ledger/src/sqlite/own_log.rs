//! Whether the log beside a ledger is its own.
//!
//! SQLite does not bind a log to its database: it replays whatever `FILE-wal` has into whatever file has the name. Somebody who copies a backup to the
//! place of a lost ledger and leaves the log of that one beside it gets a mixture of both. So before a log is read for the first time, the file is
//! looked at without it: with its own log the audit goes on from there, link by link.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use pki::Digest;
use pki::issue::NodePrefix;
use rusqlite::{Connection, Error, ErrorCode, OpenFlags, OptionalExtension, ffi};

use super::connect::connect_trial;
use crate::audit::chain::AuditHead;
use crate::fault::OpenProblem;
use crate::paths::with_suffix;

/// Rows of the audit that are compared: more than a log has that was not copied into the file.
const LINKS_MAX: i64 = 65_536;

/// Refuses a log that does not belong to the ledger. The caller has the lock of the ledger.
pub(crate) fn expect_own_log(file: &Path, node: NodePrefix) -> Result<(), OpenProblem> {
    let log = with_suffix(file, "-wal");
    if !log.metadata().is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(());
    }
    // A file that cannot be read alone was being written: only with its log it is whole.
    let Ok((key, head)) = without_log(file).and_then(|alone| beginning(&alone, node)) else { return Ok(()) };
    match goes_on(file, &key, &head) {
        Ok(true) => Ok(()),
        Ok(false) => Err(OpenProblem::ForeignLog { log }),
        Err(OpenProblem::Database(error)) if !is_of_system(&error) => Err(OpenProblem::ForeignLog { log }),
        Err(OpenProblem::Damaged(_) | OpenProblem::NotALedger) => Err(OpenProblem::ForeignLog { log }),
        Err(problem) => Err(problem),
    }
}

/// The key of the serial numbers and the head of the audit.
fn beginning(connection: &Connection, node: NodePrefix) -> Result<(Vec<u8>, AuditHead), Error> {
    let sql = "SELECT value FROM meta WHERE name = 'serial_key'";
    Ok((connection.query_row(sql, [], |row| row.get(0))?, AuditHead::read(connection, node)?))
}

/// Reads the file as if it had no log, and changes nothing.
fn without_log(file: &Path) -> Result<Connection, Error> {
    let mut uri = "file:".to_owned();
    for octet in file.as_os_str().as_bytes() {
        match octet {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(*octet)),
            octet => drop(write!(uri, "%{octet:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags)
}

/// Whether the ledger with its log is the same one, with an audit that goes on from this head.
fn goes_on(file: &Path, key: &[u8], head: &AuditHead) -> Result<bool, OpenProblem> {
    let connection = connect_trial(file)?;
    if beginning(&connection, head.node)?.0 != key {
        return Ok(false);
    }
    if head.sequence == 0 {
        return Ok(true);
    }
    let node = head.node.number();
    let sql = "SELECT hash FROM audit WHERE node = ?1 AND sequence = ?2";
    let same: Option<[u8; 32]> = connection.query_row(sql, (node, head.sequence), |row| row.get(0)).optional()?;
    let Some(hash) = same else {
        // It may have been pruned: then every row of it was.
        let sql = "SELECT coalesce(min(sequence), 0) FROM audit WHERE node = ?1";
        let first: i64 = connection.query_row(sql, [node], |row| row.get(0))?;
        return Ok(first > head.sequence);
    };
    if Digest::from_bytes(hash) != head.hash {
        return Ok(false);
    }
    let sql = "SELECT sequence, prev, hash FROM audit WHERE node = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query((node, head.sequence, LINKS_MAX))?;
    let mut last = (head.sequence, hash);
    while let Some(row) = rows.next()? {
        let (sequence, prev): (i64, [u8; 32]) = (row.get(0)?, row.get(1)?);
        if sequence != last.0 + 1 || prev != last.1 {
            return Ok(false);
        }
        last = (sequence, row.get(2)?);
    }
    Ok(true)
}

/// Whether the system is at fault, and not the content. A log that leads behind the end of the file is content.
fn is_of_system(error: &Error) -> bool {
    let extended = error.sqlite_error().map(|error| error.extended_code);
    if extended == Some(ffi::SQLITE_IOERR_SHORT_READ) {
        return false;
    }
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::OutOfMemory
        )
    )
}
