//! The restores of a ledger: which numbers were lost, and what becomes of genuine certificates of them.

use authority::{Gap, GapTreatment};
use pki::issue::Serial;
use rusqlite::{Connection, Error, OptionalExtension, params};
use rustls_pki_types::UnixTime;

use crate::fault::OpenProblem;
use crate::seconds::{seconds, time};
use crate::serial::SerialCipher;

/// One row for each restore, written by `muster ledger resume`.
pub(crate) const TABLES: &str = "
-- Each restore from a backup: between `numbers_from` and `numbers_to` are the numbers of rows that were lost, with certificates whose notBefore is from
-- `gap_from` to `gap_to`. `treatment` says what becomes of those that no journal brought back, until `until`.
CREATE TABLE IF NOT EXISTS restore (
  life INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  numbers_from INTEGER NOT NULL,
  numbers_to INTEGER NOT NULL,
  gap_from INTEGER NOT NULL,
  gap_to INTEGER NOT NULL,
  treatment TEXT CHECK (treatment IN ('adopt', 'refuse')),
  until INTEGER,
  rows INTEGER NOT NULL DEFAULT 0,
  revocations INTEGER NOT NULL DEFAULT 0
) STRICT;
";

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restore {
    pub(crate) life: i64,
    /// The numbers that the lost part can have drawn.
    pub(crate) numbers: (i64, i64),
    /// The times of notBefore that its certificates can have.
    pub(crate) gap: (i64, i64),
    pub(crate) treatment: Option<(GapTreatment, UnixTime)>,
}

impl Restore {
    pub(crate) fn insert(&self, connection: &Connection, at: UnixTime, actor: &str) -> Result<(), Error> {
        let sql = "INSERT INTO restore (life, at, actor, numbers_from, numbers_to, gap_from, gap_to, treatment, until)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let treatment = self.treatment.map(|(treatment, _)| name_of(treatment));
        let until = self.treatment.map(|(_, until)| seconds(until));
        let ((from, to), (gap_from, gap_to)) = (self.numbers, self.gap);
        let values = params![self.life, seconds(at), actor, from, to, gap_from, gap_to, treatment, until];
        connection.execute(sql, values).map(drop)
    }

    /// Gives every gap another treatment: an operator decides again.
    pub(crate) fn treat_all(connection: &Connection, treatment: (GapTreatment, UnixTime)) -> Result<(), Error> {
        let sql = "UPDATE restore SET treatment = ?1, until = ?2";
        connection.execute(sql, params![name_of(treatment.0), seconds(treatment.1)]).map(drop)
    }

    /// The restores whose gap still matters. A ledger with the tables of version 1 has none.
    pub(crate) fn read_all(connection: &Connection) -> Result<Vec<Self>, Error> {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'restore'";
        if connection.query_row(sql, [], |_| Ok(())).optional()?.is_none() {
            return Ok(Vec::new());
        }
        let sql = "SELECT life, numbers_from, numbers_to, gap_from, gap_to, treatment, until FROM restore
WHERE treatment IS NOT NULL ORDER BY life DESC";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            let treatment: String = row.get(5)?;
            let treatment = if treatment == "adopt" { GapTreatment::Adopt } else { GapTreatment::Refuse };
            Ok(Self {
                life: row.get(0)?,
                numbers: (row.get(1)?, row.get(2)?),
                gap: (row.get(3)?, row.get(4)?),
                treatment: Some((treatment, time(row.get(6)?))),
            })
        })?;
        rows.collect()
    }
}

fn name_of(treatment: GapTreatment) -> &'static str {
    match treatment {
        GapTreatment::Adopt => "adopt",
        GapTreatment::Refuse => "refuse",
    }
}

/// What becomes of a genuine certificate with this serial number and notBefore that has no row.
pub(crate) fn gap_of(
    restores: &[Restore],
    serials: &SerialCipher,
    serial: &Serial,
    not_before: UnixTime,
) -> Option<Gap> {
    if restores.is_empty() {
        return None;
    }
    let number = i64::try_from(serials.number(serial)).ok()?;
    let at = seconds(not_before);
    let within = |(from, to): (i64, i64), it: i64| from <= it && it <= to;
    let restore = restores.iter().find(|it| within(it.numbers, number) && within(it.gap, at))?;
    restore.treatment.map(|(treatment, until)| Gap { treatment, until })
}

/// A restore that did not come to its end: its row is in `meta` until it does.
const UNFINISHED: &str = "resuming";

/// Refuses a ledger whose restore was interrupted: rows of the journal may be missing.
pub(crate) fn expect_finished(connection: &Connection) -> Result<(), OpenProblem> {
    if is_unfinished(connection)? { Err(OpenProblem::Unfinished) } else { Ok(()) }
}

pub(crate) fn is_unfinished(connection: &Connection) -> Result<bool, Error> {
    connection.prepare("SELECT 1 FROM meta WHERE name = ?1")?.exists([UNFINISHED])
}

pub(crate) fn set_unfinished(connection: &Connection) -> Result<(), Error> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, 1) ON CONFLICT (name) DO NOTHING";
    connection.execute(sql, [UNFINISHED]).map(drop)
}

/// Ends a restore: what it brought back.
pub(crate) fn set_finished(connection: &Connection, life: i64, (rows, revocations): (u64, u64)) -> Result<(), Error> {
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let sql = "UPDATE restore SET rows = ?2, revocations = ?3 WHERE life = ?1";
    connection.execute(sql, [life, signed(rows), signed(revocations)])?;
    connection.execute("DELETE FROM meta WHERE name = ?1", [UNFINISHED]).map(drop)
}

/// Notes in `meta` that the ledger has a journal, so that one that is missing is not taken for one that never was.
const JOURNAL: &str = "journal";

pub(crate) fn has_journal(connection: &Connection) -> Result<bool, Error> {
    connection.prepare("SELECT 1 FROM meta WHERE name = ?1")?.exists([JOURNAL])
}

pub(crate) fn set_journal(connection: &Connection, has: bool) -> Result<(), Error> {
    if has_journal(connection)? == has {
        return Ok(());
    }
    let sql = if has { "INSERT INTO meta (name, value) VALUES (?1, 1)" } else { "DELETE FROM meta WHERE name = ?1" };
    connection.execute(sql, [JOURNAL]).map(drop)
}
