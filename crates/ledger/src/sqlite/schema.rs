//! The tables, and the versions of them.
//!
//! A release writes the tables of its own version N, and runs on those of N - 1, N and N + 1: a change adds first, and the release after the next one
//! removes. So what a version adds has to leave the statements of the release before correct: it adds tables and indexes, and columns that may be
//! absent from an `INSERT`. A file keeps its version until `muster ledger migrate` is run: see [`crate::migrate`].
//!
//! | version | what it adds |
//! |---|---|
//! | 1 | `TABLES` |
//! | 2 | `ADDED_IN_2` |

use rusqlite::{Connection, Error, OptionalExtension};

use super::{compromised, crl, delivery, foreign, newer_code, pruned, relay, restore, revocation_order};
use crate::fault::OpenProblem;
use crate::serial::SERIAL_KEY_BYTES;

/// The oldest version that this release can use: that of the release before.
pub const SCHEMA_VERSION_MIN: u32 = SCHEMA_VERSION - 1;

/// The version of the tables that this release writes.
pub const SCHEMA_VERSION: u32 = 2;

/// The newest version that this release can use: that of the release after.
pub const SCHEMA_VERSION_MAX: u32 = SCHEMA_VERSION + 1;

/// What version 2 adds to version 1: each entry is the text of one module, and is run in a transaction of its own, while a server may write. It
/// changes no table of version 1, whose rows the release before inserts without naming columns, and it copies and indexes no rows of it: that is
/// for [`FILLED_IN_2`]. Code that needs these tables asks [`require`] first.
pub(crate) const ADDED_IN_2: &[&str] = &[
    crl::TABLES,
    revocation_order::TABLES,
    foreign::TABLES,
    pruned::TABLES,
    restore::TABLES,
    relay::TABLES,
    newer_code::TABLES,
    delivery::TABLES,
    compromised::TABLES,
];

/// The rows that the tables of [`ADDED_IN_2`] get from those of version 1.
pub(crate) const FILLED_IN_2: &[Fill] = &[crl::FILL, revocation_order::FILL, compromised::FILL];

/// Rows that a new table gets from the tables before it. They are read and written a bounded number at a time. Rows that come meanwhile are written by
/// the triggers of the new table.
pub(crate) struct Fill {
    /// What they are.
    pub(crate) what: &'static str,
    /// How many there are.
    pub(crate) count: &'static str,
    /// Reads the key and one value of the rows behind a key, in the order of the keys: the first ones.
    pub(crate) page: &'static str,
    /// The order in which they are written, of `key` and `value`.
    pub(crate) order: &'static str,
    /// Writes one of them: its first parameter is the key, and its second the value. It may be run a second time for a row, after a migration that was
    /// interrupted.
    pub(crate) insert: &'static str,
}

impl Fill {
    /// How many rows it reads.
    pub(crate) fn count(&self, connection: &Connection) -> Result<u64, Error> {
        let rows: i64 = connection.query_row(self.count, [], |row| row.get(0))?;
        Ok(u64::try_from(rows).unwrap_or(0))
    }
}

/// "MUST" in `PRAGMA application_id`: tells a ledger from a database of another program.
const APPLICATION_ID: i32 = 0x4d55_5354;

/// Version 1. Its text does not change: files have these tables.
///
/// Every issuance appends to `intent`, `place` and `certificate`, and has one entry in `of_device` and `of_key`, up to the place `tally.indexed`:
/// see the module `index`. These two hold the first bits of digests: what they lead to is compared whole in `intent`. Certificates and devices of an issuance are read by the views at the end.
const TABLES: &str = "
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- CAs, manufacturers and other anchors, by name and key (SHA-256).
CREATE TABLE party (
  id INTEGER PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE profile (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  version BLOB NOT NULL,
  UNIQUE (name, version)
) STRICT;

-- One issuance: durable before its certificate is signed. The serial number leads to `number`.
CREATE TABLE intent (
  number INTEGER PRIMARY KEY,
  place INTEGER NOT NULL,
  serial BLOB NOT NULL,
  at INTEGER NOT NULL,
  function INTEGER NOT NULL,
  profile INTEGER NOT NULL,
  ca INTEGER NOT NULL,
  manufacturer INTEGER NOT NULL,
  device TEXT NOT NULL,
  anchor INTEGER NOT NULL,
  vouched_by INTEGER NOT NULL,
  client BLOB NOT NULL,
  factory_key BLOB,
  csr BLOB NOT NULL,
  spki BLOB NOT NULL,
  names BLOB NOT NULL,
  to_be_signed BLOB NOT NULL,
  subject BLOB NOT NULL,
  not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  peer TEXT NOT NULL,
  abandoned INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX abandoned ON intent (manufacturer, device, place) WHERE abandoned;

-- The order in which intents became durable: numbers are drawn before.
CREATE TABLE place (
  place INTEGER PRIMARY KEY,
  number INTEGER NOT NULL
) STRICT;

CREATE TABLE of_device (
  device INTEGER NOT NULL,
  number INTEGER NOT NULL,
  not_after INTEGER NOT NULL,
  csr INTEGER NOT NULL,
  spki INTEGER NOT NULL,
  factory_key INTEGER,
  PRIMARY KEY (device, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE of_key (
  spki INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (spki, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE certificate (
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  repeat_until INTEGER NOT NULL,
  digest BLOB NOT NULL,
  der BLOB NOT NULL
) STRICT;

CREATE TABLE revocation (
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  reason INTEGER NOT NULL,
  actor TEXT NOT NULL
) STRICT;

-- What happened: one row a batch, in a chain of hashes for each node. `sqlite3 ledger.db 'SELECT body FROM audit'` shows one event a line.
CREATE TABLE audit (
  node INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  version INTEGER NOT NULL,
  at INTEGER NOT NULL,
  records INTEGER NOT NULL,
  prev BLOB NOT NULL,
  hash BLOB NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (node, sequence)
) STRICT, WITHOUT ROWID;

-- One row: what is counted and how far the ledger is, in the transaction of each batch.
CREATE TABLE tally (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  places INTEGER NOT NULL,
  rows INTEGER NOT NULL,
  issued INTEGER NOT NULL,
  numbers INTEGER NOT NULL,
  open_from INTEGER NOT NULL,
  indexed INTEGER NOT NULL,
  time INTEGER NOT NULL
) STRICT;
INSERT INTO tally VALUES (1, 0, 0, 0, 0, 1, 0, 0);

-- For people: `sqlite3 ledger.db 'SELECT * FROM certificates'`.
CREATE VIEW certificates AS
SELECT lower(hex(i.serial)) AS serial,
  CASE WHEN c.number IS NOT NULL AND r.number IS NOT NULL THEN 'revoked'
       WHEN c.number IS NOT NULL THEN 'good'
       WHEN i.abandoned AND r.number IS NOT NULL THEN 'abandoned, revoked'
       WHEN i.abandoned THEN 'abandoned' ELSE 'reserved' END AS state,
  i.device, p.name AS profile, lower(hex(p.version)) AS profile_version,
  CASE i.function WHEN 1 THEN 'sen' WHEN 2 THEN 'sren' ELSE i.function END AS function,
  datetime(i.at, 'unixepoch') AS at,
  datetime(i.not_before, 'unixepoch') AS not_before, datetime(i.not_after, 'unixepoch') AS not_after,
  i.peer, datetime(r.at, 'unixepoch') AS revoked_at, r.reason AS revocation_reason, r.actor AS revoked_by,
  lower(hex(m.digest)) AS manufacturer, lower(hex(ca.digest)) AS ca, lower(hex(a.digest)) AS anchor,
  lower(hex(i.client)) AS client, lower(hex(i.csr)) AS csr, lower(hex(i.spki)) AS public_key,
  lower(hex(i.to_be_signed)) AS to_be_signed, lower(hex(c.digest)) AS certificate
FROM intent i
JOIN profile p ON p.id = i.profile
JOIN party ca ON ca.id = i.ca
JOIN party m ON m.id = i.manufacturer
JOIN party a ON a.id = i.anchor
LEFT JOIN certificate c ON c.number = i.number
LEFT JOIN revocation r ON r.number = i.number;
";

/// What a ledger keeps about itself.
pub(crate) struct Meta {
    pub(crate) serial_key: [u8; SERIAL_KEY_BYTES],
    /// Since when every certificate of this node has a row, in seconds since 1970.
    pub(super) complete_since: i64,
}

/// Creates the tables in an empty file, or checks that those of the file can be used.
pub(super) fn prepare(connection: &mut Connection, fresh: &Meta) -> Result<Meta, OpenProblem> {
    if is_empty(connection)? {
        create(connection, fresh)?;
    }
    read(connection)
}

/// Whether the file is to become a new ledger, or is one that this release can use. Nothing is written.
pub(super) fn check_or_empty(connection: &Connection) -> Result<(), OpenProblem> {
    if is_empty(connection)? { Ok(()) } else { check(connection) }
}

/// Whether the file has nothing yet.
pub(super) fn is_empty(connection: &Connection) -> Result<bool, OpenProblem> {
    let has_tables = connection.prepare("SELECT 1 FROM sqlite_schema")?.exists([])?;
    Ok(!has_tables && application(connection)? == 0 && version(connection)? == 0)
}

/// What the ledger keeps about itself, if this release can use it.
pub(crate) fn read(connection: &Connection) -> Result<Meta, OpenProblem> {
    check(connection)?;
    let meta = |name: &'static str| -> Result<_, OpenProblem> { Ok((name, read_meta(connection, name)?)) };
    let serial_key: Vec<u8> = required(meta("serial_key")?)?;
    let complete_since: i64 = required(meta("complete_since")?)?;
    let serial_key = serial_key.try_into().map_err(|_| OpenProblem::Damaged("`serial_key` in `meta`".into()))?;
    Ok(Meta { serial_key, complete_since })
}

/// Whether the file is a ledger that this release can use. Nothing is written.
pub(super) fn check(connection: &Connection) -> Result<(), OpenProblem> {
    if application(connection)? != APPLICATION_ID {
        return Err(OpenProblem::NotALedger);
    }
    match version(connection)? {
        found if found < SCHEMA_VERSION_MIN => Err(OpenProblem::Older { found, supported: SCHEMA_VERSION_MIN }),
        found if found > SCHEMA_VERSION_MAX => Err(OpenProblem::Newer { found, supported: SCHEMA_VERSION_MAX }),
        _ => Ok(()),
    }
}

/// Whether the file has the tables of this version already. Asked by what needs them, each time: a file can be migrated while it is open.
///
/// # Errors
/// [`OpenProblem::NeedsMigration`] says what to run.
pub fn require(connection: &Connection, needed: u32) -> Result<(), OpenProblem> {
    let found = version(connection)?;
    if found < needed { Err(OpenProblem::NeedsMigration { found, needed }) } else { Ok(()) }
}

fn application(connection: &Connection) -> Result<i32, Error> {
    connection.query_row("PRAGMA application_id", [], |row| row.get(0))
}

/// The version of the tables in the file.
pub(crate) fn version(connection: &Connection) -> Result<u32, Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn create(connection: &mut Connection, fresh: &Meta) -> Result<(), OpenProblem> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    for added in ADDED_IN_2 {
        transaction.execute_batch(added)?;
    }
    transaction.execute("INSERT INTO meta (name, value) VALUES ('serial_key', ?1)", [&fresh.serial_key[..]])?;
    transaction.execute("INSERT INTO meta (name, value) VALUES ('complete_since', ?1)", [fresh.complete_since])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn read_meta(connection: &Connection, name: &str) -> Result<Option<rusqlite::types::Value>, Error> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn required<T: rusqlite::types::FromSql>(
    (name, value): (&str, Option<rusqlite::types::Value>),
) -> Result<T, OpenProblem> {
    let damaged = || OpenProblem::Damaged(format!("`{name}` in `meta`"));
    let value = value.ok_or_else(damaged)?;
    T::column_result((&value).into()).map_err(|_| damaged())
}

impl From<Error> for OpenProblem {
    fn from(error: Error) -> Self {
        match &error {
            Error::SqliteFailure(failure, _) if failure.code == rusqlite::ErrorCode::NotADatabase => Self::NotALedger,
            _ => Self::Database(error),
        }
    }
}
