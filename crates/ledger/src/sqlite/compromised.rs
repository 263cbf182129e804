//! Keys that must not be certified again: those of certificates that were revoked because the key is compromised.
//!
//! They are few, so that each request asks a small table. A key stays in it when the row of its certificate is pruned. A trigger writes those of the CA's
//! rows, so that revocations of the release before count too; the writer adds those of relayed certificates, of which the release before knows nothing, and
//! those of rows that had been revoked for another reason.

use pki::Digest;
use pki::issue::RevocationReason;
use rusqlite::{Connection, Error, params};

use super::relay;
use super::row::blob;
use super::schema::{self, Fill};

/// The table, which version 2 of the schema adds. A file of version 2 that an earlier build made gets it when it is opened, and a file of version 1 with
/// the first such revocation.
pub(super) const TABLES: &str = "
-- Public keys (SHA-256) that must not be certified again: a certificate of each was revoked for keyCompromise. They stay when its row is pruned.
CREATE TABLE IF NOT EXISTS compromised_key (
  spki BLOB PRIMARY KEY,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS revocation_compromised AFTER INSERT ON revocation WHEN new.reason = 1 BEGIN
  INSERT OR IGNORE INTO compromised_key (spki, at) SELECT spki, new.at FROM intent WHERE number = new.number;
END;
";

/// The keys of version 1.
pub(super) const FILL: Fill = Fill {
    what: "the keys of earlier revocations for keyCompromise",
    count: "SELECT count(*) FROM revocation WHERE reason = 1",
    page: "SELECT number, at FROM revocation WHERE reason = 1 AND number > ?1 ORDER BY number LIMIT ?2",
    order: "key",
    insert: "INSERT OR IGNORE INTO compromised_key (spki, at) SELECT spki, ?2 FROM intent WHERE number = ?1",
};

/// The version of the schema that has the table from the start.
const NEEDED: u32 = 2;

/// Whether this revocation says that the key is compromised.
pub(super) fn is_meant_by(reason: RevocationReason) -> bool {
    reason == RevocationReason::KeyCompromise
}

/// Gives the table to a file of version 2 that an earlier build made, with the keys that it has been told of.
pub(super) fn make_at_start(connection: &Connection) -> Result<(), Error> {
    if schema::version(connection)? < NEEDED || has_table(connection)? {
        return Ok(());
    }
    connection.execute_batch("BEGIN IMMEDIATE")?;
    make(connection)?;
    connection.execute_batch("COMMIT")
}

/// Adds the table if the file lacks it, with the keys of earlier revocations.
pub(super) fn make(connection: &Connection) -> Result<(), Error> {
    if has_table(connection)? {
        return Ok(());
    }
    connection.execute_batch(TABLES)?;
    connection.execute_batch(
        "INSERT OR IGNORE INTO compromised_key (spki, at)
SELECT i.spki, r.at FROM revocation r JOIN intent i ON i.number = r.number WHERE r.reason = 1",
    )?;
    if relay::has_tables(connection)? {
        connection.execute_batch(
            "INSERT OR IGNORE INTO compromised_key (spki, at)
SELECT spki, revoked_at FROM relay_certificate WHERE revocation_reason = 1",
        )?;
    }
    Ok(())
}

/// Notes a key; says whether it is a new one.
pub(super) fn note(connection: &Connection, key: &Digest, at: i64) -> Result<bool, Error> {
    make(connection)?;
    let sql = "INSERT OR IGNORE INTO compromised_key (spki, at) VALUES (?1, ?2)";
    Ok(connection.prepare_cached(sql)?.execute(params![blob(key), at])? > 0)
}

/// Whether any key must not be certified. The file has the table.
pub(super) fn has_any(connection: &Connection) -> Result<bool, Error> {
    connection.prepare_cached("SELECT 1 FROM compromised_key")?.exists([])
}

/// Whether this key must not be certified. The file has the table.
pub(super) fn has(connection: &Connection, key: &Digest) -> Result<bool, Error> {
    connection.prepare_cached("SELECT 1 FROM compromised_key WHERE spki = ?1")?.exists([blob(key)])
}

/// Whether the file has the table. A migration adds it beside the writer.
pub(crate) fn has_table(connection: &Connection) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'compromised_key'";
    connection.prepare_cached(sql)?.exists([])
}

/// The reason as the tables have it.
const _: () = assert!(RevocationReason::KeyCompromise.code() == 1, "the trigger names it");
