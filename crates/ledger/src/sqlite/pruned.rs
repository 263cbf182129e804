//! Which rows were pruned, and how many: see [`crate::prune`].

use authority::Intent;
use pki::issue::Serial;
use rusqlite::{Connection, Error, OptionalExtension};

use crate::line::RowEvent;
use crate::seconds::seconds;
use crate::serial::SerialCipher;

/// What version 2 adds.
pub(super) const TABLES: &str = "
-- How many rows were pruned, and how many of them had a certificate: they stay counted in `tally`.
CREATE TABLE IF NOT EXISTS pruned (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  rows INTEGER NOT NULL,
  issued INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO pruned (id, rows, issued) VALUES (1, 0, 0);
";

/// The name in `meta` of the latest time before which rows were pruned.
const UNTIL: &str = "pruned_until";

/// Which rows were pruned. A journal still has them: they are not missing, and do not come back by a replay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PrunedRows {
    /// Rows whose certificates ended before this time were pruned; `None` if no row ever was.
    until: Option<i64>,
    /// The highest number of a row.
    numbers: i64,
}

impl PrunedRows {
    pub(crate) fn read(connection: &Connection) -> Result<Self, Error> {
        let until = until(connection)?;
        let numbers = connection.query_row("SELECT numbers FROM tally", [], |row| row.get(0))?;
        Ok(Self { until, numbers })
    }

    /// Whether the row of this request was pruned, if the ledger does not have it.
    pub(crate) fn has(&self, intent: &Intent) -> bool {
        self.until.is_some_and(|until| seconds(intent.validity.not_after) < until)
    }

    /// Whether what this line says can be missing because its row was pruned. A revocation does not say when its certificate ends: its row may have
    /// been pruned if the ledger ever had one of its number.
    pub(crate) fn explains(&self, event: &RowEvent, serials: &SerialCipher) -> bool {
        match event {
            RowEvent::Reserved(intent) | RowEvent::Issued(intent, _) | RowEvent::Abandoned(intent) => self.has(intent),
            RowEvent::Revoked(serial, _) => self.until.is_some() && self.had_number(serial, serials),
        }
    }

    fn had_number(&self, serial: &Serial, serials: &SerialCipher) -> bool {
        i64::try_from(serials.number(serial)).is_ok_and(|number| 0 < number && number <= self.numbers)
    }
}

/// Whether any row was ever pruned.
pub(super) fn is_any(connection: &Connection) -> Result<bool, Error> {
    connection.prepare_cached("SELECT 1 FROM meta WHERE name = ?1")?.exists([UNTIL])
}

/// The time before which certificates had ended whose rows were pruned.
pub(super) fn until(connection: &Connection) -> Result<Option<i64>, Error> {
    connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([UNTIL], |row| row.get(0)).optional()
}

/// Notes that rows whose certificates ended before this time are being pruned.
pub(crate) fn note(connection: &Connection, before: i64) -> Result<(), Error> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = max(value, ?2)";
    connection.prepare_cached(sql)?.execute((UNTIL, before)).map(drop)
}
