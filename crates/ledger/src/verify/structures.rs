//! What belongs together in the tables, read in ranges. What only version 2 of the schema has is looked at by `lists`.

use std::path::Path;

use rusqlite::{Connection, Error};

use super::RowFlaw;
use crate::sqlite::{compromised, is_open_elsewhere, schema};

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

/// The same for version 2.
const PAIRS_OF_2: [(&str, &str); 4] = [
    (
        "a place in the order of revocations without a revocation",
        "SELECT t.number, r.number IS NULL FROM revocation_order t LEFT JOIN revocation r ON r.number = t.number WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
    ),
    (
        "a revocation without a place in the order of revocations",
        "SELECT t.number, o.number IS NULL FROM revocation t LEFT JOIN revocation_order o ON o.number = t.number WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
    ),
    (
        "a serial number of another ledger without a row",
        "SELECT t.number, i.number IS NULL FROM foreign_serial t LEFT JOIN intent i ON i.number = t.number AND i.serial = t.serial WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
    ),
    (
        "a revocation that waits for its list, and is not there",
        "SELECT t.number, r.number IS NULL FROM crl_unfiled t LEFT JOIN revocation r ON r.number = t.number WHERE t.number > ?1 ORDER BY t.number LIMIT ?2",
    ),
];

/// The same for a file that has the table of compromised keys.
const COMPROMISED: [(&str, &str); 1] = [(
    "a revocation for keyCompromise whose key is not among the compromised ones",
    "SELECT t.number, k.spki IS NULL FROM revocation t JOIN intent i ON i.number = t.number LEFT JOIN compromised_key k ON k.spki = i.spki WHERE t.reason = 1 AND t.number > ?1 ORDER BY t.number LIMIT ?2",
)];

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

/// The first row that stands alone.
pub(super) fn check_pairs(connection: &Connection) -> Result<Option<(i64, &'static str)>, Error> {
    first_alone(connection, &PAIRS)
}

/// The same for what version 2 of the schema has.
pub(super) fn check_pairs_of_2(connection: &Connection) -> Result<Option<(i64, &'static str)>, Error> {
    if schema::version(connection)? < 2 {
        return Ok(None);
    }
    if compromised::has_table(connection)?
        && let Some(alone) = first_alone(connection, &COMPROMISED)?
    {
        return Ok(Some(alone));
    }
    first_alone(connection, &PAIRS_OF_2)
}

fn first_alone(connection: &Connection, pairs: &[(&'static str, &str)]) -> Result<Option<(i64, &'static str)>, Error> {
    for (what, sql) in pairs {
        let mut statement = connection.prepare(sql)?;
        let mut after = i64::MIN;
        loop {
            let mut rows = statement.query([after, PAGE_ROWS])?;
            let mut is_last = true;
            while let Some(row) = rows.next()? {
                (after, is_last) = (row.get(0)?, false);
                if row.get(1)? {
                    return Ok(Some((after, *what)));
                }
            }
            if is_last {
                break;
            }
        }
    }
    Ok(None)
}
