//! What belongs together in the tables, read in ranges.

use std::fs::{File, TryLockError};
use std::path::Path;

use rusqlite::{Connection, Error};

use super::RowFlaw;
use crate::paths::with_suffix;

/// Rows that are looked at in one statement.
const PAGE_ROWS: i64 = 8_192;

/// Rows of one table that need a row in another one: what they are, and the statement that looks at those behind a key.
const PAIRS: [(&str, &str); 4] = [
    (
        "a certificate without a row",
        "SELECT t.number, i.number IS NULL FROM certificate t LEFT JOIN intent i ON i.number = t.number WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
    ),
    (
        "a revocation without a row",
        "SELECT t.number, i.number IS NULL FROM revocation t LEFT JOIN intent i ON i.number = t.number WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
    ),
    (
        "a row without a place",
        "SELECT t.number, p.place IS NULL FROM intent t LEFT JOIN place p ON p.place = t.place AND p.number = t.number WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
    ),
    (
        "a place without a row",
        "SELECT t.place, i.number IS NULL FROM place t LEFT JOIN intent i ON i.number = t.number WHERE t.place > ?1 ORDER BY t.place LIMIT ?2",
    ),
];

/// Whether the file was looked at as a whole. That takes one long reading, which a server beside it would pay with a long log.
pub(super) fn check_file(connection: &Connection, file: &Path) -> Result<bool, RowFlaw> {
    if is_open_elsewhere(file) {
        return Ok(false);
    }
    let said: Result<String, Error> = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    match said {
        Ok(said) if said == "ok" => Ok(true),
        Ok(said) => Err(RowFlaw::Database(said)),
        Err(error) => Err(RowFlaw::Database(error.to_string())),
    }
}

/// Whether a server has the ledger open now.
fn is_open_elsewhere(file: &Path) -> bool {
    let Ok(lock) = File::options().write(true).open(with_suffix(file, ".lock")) else { return false };
    matches!(lock.try_lock(), Err(TryLockError::WouldBlock))
}

/// The first row that stands alone.
pub(super) fn check_pairs(connection: &Connection) -> Result<Option<(i64, &'static str)>, Error> {
    for (what, sql) in PAIRS {
        let mut statement = connection.prepare(sql)?;
        let mut after = i64::MIN;
        loop {
            let mut rows = statement.query([after, PAGE_ROWS])?;
            let mut is_last = true;
            while let Some(row) = rows.next()? {
                (after, is_last) = (row.get(0)?, false);
                if row.get(1)? {
                    return Ok(Some((after, what)));
                }
            }
            if is_last {
                break;
            }
        }
    }
    Ok(None)
}
