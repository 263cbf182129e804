//! Certificates whose keys were made for their devices and have not reached them yet.
//!
//! A row here is written with the certificate, and removed when the key has arrived or the certificate is revoked. A start revokes what is left: the keys were
//! in the memory of a process that ended. Certificates of other functions never come here.

use pki::Digest;
use rusqlite::{Connection, Error};

use super::row::blob;

/// The tables, which version 2 of the schema adds. A file of an earlier build, or of version 1, gets them with the first such certificate.
pub(super) const TABLES: &str = "
-- Certificates whose keys are on their way to their devices, by the number of the row.
CREATE TABLE IF NOT EXISTS undelivered (
  number INTEGER PRIMARY KEY
) STRICT;

-- The same for relayed certificates, by their digest.
CREATE TABLE IF NOT EXISTS relay_undelivered (
  digest BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;
";

/// Notes that the key of this row's certificate is on its way.
pub(super) fn pend(connection: &Connection, number: i64) -> Result<(), Error> {
    make(connection)?;
    let sql = "INSERT OR IGNORE INTO undelivered (number) VALUES (?1)";
    connection.prepare_cached(sql)?.execute([number]).map(drop)
}

/// Notes that the key of this relayed certificate is on its way.
pub(super) fn pend_relayed(connection: &Connection, certificate: &Digest) -> Result<(), Error> {
    make(connection)?;
    let sql = "INSERT OR IGNORE INTO relay_undelivered (digest) VALUES (?1)";
    connection.prepare_cached(sql)?.execute([blob(certificate)]).map(drop)
}

/// Notes that the key of this row's certificate is not on its way any more.
pub(super) fn end(connection: &Connection, number: i64) -> Result<(), Error> {
    connection.prepare_cached("DELETE FROM undelivered WHERE number = ?1")?.execute([number]).map(drop)
}

/// Notes that the key of this relayed certificate is not on its way any more.
pub(super) fn end_relayed(connection: &Connection, certificate: &Digest) -> Result<(), Error> {
    let sql = "DELETE FROM relay_undelivered WHERE digest = ?1";
    connection.prepare_cached(sql)?.execute([blob(certificate)]).map(drop)
}

/// What is on its way: the numbers of rows, and the digests of relayed certificates. As many as exchanges were open when a process ended.
pub(super) fn pending(connection: &Connection) -> Result<(Vec<i64>, Vec<Digest>), Error> {
    if !has_tables(connection)? {
        return Ok((Vec::new(), Vec::new()));
    }
    let mut numbers = connection.prepare("SELECT number FROM undelivered ORDER BY number")?;
    let numbers = numbers.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut digests = connection.prepare("SELECT digest FROM relay_undelivered ORDER BY digest")?;
    let digests = digests.query_map([], |row| Ok(Digest::from_bytes(row.get(0)?)))?.collect::<Result<_, _>>()?;
    Ok((numbers, digests))
}

/// Forgets what was on its way when a backup was made: what became of it is not known, or stands in the journal as a revocation.
pub(super) fn forget(connection: &Connection) -> Result<(), Error> {
    if has_tables(connection)? {
        connection.execute_batch("DELETE FROM undelivered; DELETE FROM relay_undelivered")?;
    }
    Ok(())
}

fn make(connection: &Connection) -> Result<(), Error> {
    if has_tables(connection)? { Ok(()) } else { connection.execute_batch(TABLES) }
}

/// Asked each time: the tables come with the first certificate that needs them.
fn has_tables(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'relay_undelivered'";
    connection.prepare_cached(sql)?.exists([])
}
