//! Rows whose serial numbers do not lead to them: they were made with the key of another ledger, and imported.
//!
//! Such a row has a number of this ledger, and the table `foreign_serial` leads to it. It is asked last, for serial numbers that lead to no row.

use pki::issue::Serial;
use rusqlite::{Connection, Error, OptionalExtension};

use super::schema;

/// What version 2 adds.
pub(super) const TABLES: &str = "
-- Rows that were imported from another ledger, by serial numbers of its key.
CREATE TABLE IF NOT EXISTS foreign_serial (
  serial BLOB PRIMARY KEY,
  number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// The number of the row that has this serial number of another ledger.
pub(crate) fn number(connection: &Connection, serial: &Serial) -> Result<Option<i64>, Error> {
    if schema::version(connection)? < 2 {
        return Ok(None);
    }
    let sql = "SELECT number FROM foreign_serial WHERE serial = ?1";
    connection.prepare_cached(sql)?.query_row([&serial.as_bytes()[..]], |row| row.get(0)).optional()
}

/// Whether any row has a serial number of another ledger.
pub(super) fn are_there(connection: &Connection) -> Result<bool, Error> {
    if schema::version(connection)? < 2 {
        return Ok(false);
    }
    connection.query_row("SELECT EXISTS (SELECT 1 FROM foreign_serial)", [], |row| row.get(0))
}

/// Notes that this row has a serial number of another ledger.
pub(super) fn note(connection: &Connection, serial: &Serial, number: i64) -> Result<(), Error> {
    let sql = "INSERT INTO foreign_serial (serial, number) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute((&serial.as_bytes()[..], number)).map(drop)
}
