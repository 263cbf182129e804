//! Removes rows whose certificates ended long ago, beside a server or without one.
//!
//! The audit is pruned first, see [`crate::audit::prune()`]. Then a row is removed if its certificate ended before the given time and nothing that is left
//! of the audit is about it: what the audit still says has its row, so that a verification finds a row that somebody removed otherwise. A reservation
//! stays, and so does a certificate without an end.
//!
//! A revoked row stays as long as its certificate has to be in the revocation list of its CA. Its entry there is removed with it.
//!
//! **What it means.** No request is answered by a row whose certificate has ended, so no repeat becomes a second certificate. The time since which the
//! ledger is complete stays: a certificate that was pruned is refused because it has ended, and one that never had a row is still known as never
//! issued. A key that only pruned rows had can be certified for another device. An export does not have the pruned rows; cursors stay good.
//! The time is noted in the ledger: a journal that has pruned rows does not bring them back.
//!
//! What a Registrar relayed goes by the same rule: a request with its certificates once the last of these has ended, and one without once its window
//! has.
//!
//! **Room.** SQLite reuses the pages of removed rows for new ones; the file does not become smaller. A backup has no free pages.

mod relayed;

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use authority::RowStage;
use pki::issue::Serial;
use rusqlite::{Connection, Error, TransactionBehavior};
use rustls_pki_types::UnixTime;

use crate::audit::record::AuditedRow;
use crate::fault::OpenProblem;
use crate::seconds::{rfc3339, seconds};
use crate::sqlite::crl::Layouts;
use crate::sqlite::{crl, newer_code, pruned, row, schema};

/// Rows that are looked at in one transaction: some milliseconds, in which a server waits.
const ROWS_AT_ONCE: i64 = 500;

/// How long an entry of a revocation list stays after the end of its certificate, at most. RFC 5280 §3.3: "An entry MUST NOT be removed from the CRL
/// until it appears on one regularly scheduled CRL issued beyond the revoked certificate's validity period." A list is made anew after a day at the
/// latest, and then without what ended before the one before it. An entry that is left after thirty days is in a list that is not made any more.
const LISTED_SECONDS: i64 = 30 * 86_400;

/// How long rows of one profile stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The name of the profile.
    pub profile: String,
    /// How long a row stays after the end of its certificate: `renew_grace`.
    pub grace: Duration,
}

/// Which rows are to be removed.
#[derive(Clone, Copy, Debug)]
pub struct RowPruneRequest<'a> {
    /// Those whose certificates ended before this time.
    pub before: UnixTime,
    /// The time now.
    pub now: UnixTime,
    /// The profiles of the configuration. A row of another profile stays as long as the longest of them says.
    pub retentions: &'a [Retention],
    /// Counts, and removes nothing.
    pub dry_run: bool,
}

impl RowPruneRequest<'_> {
    /// Whether each profile allows this.
    ///
    /// # Errors
    /// [`RowPruneFault::TooLate`] names the profile whose rows have to stay longest.
    pub fn check(&self) -> Result<(), RowPruneFault> {
        let longest = self.retentions.iter().max_by_key(|it| it.grace);
        let grace = longest.map_or(0, |it| i64::try_from(it.grace.as_secs()).unwrap_or(i64::MAX));
        let latest = seconds(self.now).saturating_sub(grace);
        if seconds(self.before) <= latest {
            return Ok(());
        }
        let profile = longest.filter(|it| !it.grace.is_zero()).cloned();
        Err(RowPruneFault::TooLate { profile, latest: crate::seconds::time(latest) })
    }
}

/// What was removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowPruneReport {
    /// Rows.
    pub rows: u64,
    /// Those of them that had a certificate.
    pub issued: u64,
    /// Rows that are old enough, and stay because the audit still has a record about them.
    pub audited: u64,
    /// Rows that are old enough, and stay because a revocation list still has to have them.
    pub listed: u64,
    /// Requests that a Registrar relayed.
    pub relayed: u64,
}

/// Removes old rows. `progress` gets rows that were looked at and rows in all, after each transaction; it can end the work there.
///
/// # Errors
/// [`RowPruneFault`] says why not. Rows that were removed before stay removed.
pub fn prune_rows(
    connection: &mut Connection,
    request: &RowPruneRequest<'_>,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<RowPruneReport, RowPruneFault> {
    request.check()?;
    schema::require(connection, 2).map_err(RowPruneFault::Ledger)?;
    note_audited(connection)?;
    let layouts = Layouts::read(connection)?;
    let total: i64 = connection.query_row("SELECT count(*) FROM place", [], |row| row.get(0))?;
    let (mut report, mut after, mut looked) = (RowPruneReport::default(), 0, 0);
    loop {
        let transaction = if request.dry_run {
            connection.transaction_with_behavior(TransactionBehavior::Deferred)?
        } else {
            connection.transaction_with_behavior(TransactionBehavior::Immediate)?
        };
        let page = prune_page(&transaction, request, &layouts, after, &mut report)?;
        if !request.dry_run {
            transaction.commit()?;
        }
        let Some((last, rows)) = page else { break };
        (after, looked) = (last, looked + rows);
        if progress(looked, u64::try_from(total).unwrap_or(0)).is_break() {
            return Err(RowPruneFault::Stopped(report));
        }
    }
    connection.flush_prepared_statement_cache();
    connection.execute_batch("DROP TABLE temp.audited")?;
    report.relayed = relayed::prune(connection, request)?;
    Ok(report)
}

/// Notes which rows the audit has a record about, in a table of the connection.
fn note_audited(connection: &Connection) -> Result<(), Error> {
    connection.execute_batch(
        "PRAGMA temp_store = FILE;
DROP TABLE IF EXISTS temp.audited;
CREATE TEMP TABLE audited (serial BLOB PRIMARY KEY) WITHOUT ROWID;",
    )?;
    let mut insert = connection.prepare("INSERT OR IGNORE INTO temp.audited (serial) VALUES (?1)")?;
    let mut bodies = connection.prepare("SELECT body FROM audit")?;
    let mut rows = bodies.query([])?;
    while let Some(found) = rows.next()? {
        for record in found.get_ref(0)?.as_str().unwrap_or_default().lines() {
            if let Some(about) = AuditedRow::read(record) {
                insert.execute([&about.serial.as_bytes()[..]])?;
            }
        }
    }
    Ok(())
}

/// Looks at the rows behind this place, and removes those that are to be. The last place, and how many there were.
fn prune_page(
    connection: &Connection,
    request: &RowPruneRequest<'_>,
    layouts: &Layouts,
    after: i64,
    report: &mut RowPruneReport,
) -> Result<Option<(i64, u64)>, Error> {
    let listed_from = seconds(request.now).saturating_sub(LISTED_SECONDS);
    let mut found = Vec::new();
    let (mut last, mut looked) = (after, 0);
    {
        let mut statement = connection.prepare_cached(row::BEHIND)?;
        let mut rows = statement.query((after, ROWS_AT_ONCE))?;
        while let Some(row) = rows.next()? {
            let entry = row::entry(connection, row)?;
            (last, looked) = (row::place(&entry.cursor), looked + 1);
            let is_over = entry.intent.validity.not_after < request.before;
            // Revoked a moment ago: its record is not among those that were read.
            let is_quiet = entry.revocation.as_ref().is_none_or(|revocation| revocation.at < request.before);
            if is_over && is_quiet && !matches!(entry.stage, RowStage::Reserved) {
                let ended = seconds(entry.intent.validity.not_after);
                found.push((last, entry.intent.serial, entry.issued().is_some(), ended));
            }
        }
    }
    if looked == 0 {
        return Ok(None);
    }
    let (mut rows, mut issued) = (0, 0);
    for (place, serial, has_certificate, ended) in found {
        if connection
            .prepare_cached("SELECT 1 FROM temp.audited WHERE serial = ?1")?
            .exists([&serial.as_bytes()[..]])?
        {
            report.audited += 1;
            continue;
        }
        if ended >= listed_from && crl::has_entry(connection, layouts, (place, &serial))? {
            report.listed += 1;
            continue;
        }
        if !request.dry_run {
            remove(connection, layouts, place, &serial)?;
        }
        rows += 1;
        issued += i64::from(has_certificate);
    }
    if rows > 0 && !request.dry_run {
        let sql = "UPDATE pruned SET rows = rows + ?1, issued = issued + ?2";
        connection.prepare_cached(sql)?.execute([rows, issued])?;
        pruned::note(connection, seconds(request.before))?;
    }
    report.rows += u64::try_from(rows).unwrap_or(0);
    report.issued += u64::try_from(issued).unwrap_or(0);
    Ok(Some((last, looked)))
}

/// Removes the row at this place from every table.
fn remove(connection: &Connection, layouts: &Layouts, place: i64, serial: &Serial) -> Result<(), Error> {
    crl::remove(connection, layouts, (place, serial))?;
    let number = "SELECT number FROM place WHERE place = ?1";
    let number: i64 = connection.prepare_cached(number)?.query_row([place], |row| row.get(0))?;
    row::remove_from_index(connection, number)?;
    for sql in [
        "DELETE FROM certificate WHERE number = ?1",
        "DELETE FROM revocation WHERE number = ?1",
        "DELETE FROM revocation_order WHERE number = ?1",
        "DELETE FROM intent WHERE number = ?1",
    ] {
        connection.prepare_cached(sql)?.execute([number])?;
    }
    connection.prepare_cached("DELETE FROM place WHERE place = ?1")?.execute([place])?;
    newer_code::remove(connection, place)?;
    connection.prepare_cached("DELETE FROM foreign_serial WHERE serial = ?1")?.execute([&serial.as_bytes()[..]])?;
    Ok(())
}

/// Why rows were not pruned.
#[derive(Debug)]
pub enum RowPruneFault {
    /// The time is too late.
    TooLate {
        /// The profile whose rows have to stay longest; nothing if the time is not past.
        profile: Option<Retention>,
        /// The latest time that is possible now.
        latest: UnixTime,
    },
    /// The ledger cannot be used.
    Ledger(OpenProblem),
    /// SQLite cannot read or write the ledger.
    Database(Error),
    /// It was asked to stop after this.
    Stopped(RowPruneReport),
}

impl From<Error> for RowPruneFault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

/// In days where they are whole, else in hours.
fn days_or_hours(of: Duration) -> String {
    match of.as_secs().div_ceil(3_600) {
        hours if hours.is_multiple_of(24) => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}

impl fmt::Display for RowPruneFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLate { profile: Some(Retention { profile, grace }), latest } => write!(
                f,
                "the profile `{profile}` keeps a row for {} after the end of its certificate (`renew_grace`): the latest time is {}",
                days_or_hours(*grace),
                rfc3339(*latest)
            ),
            Self::TooLate { profile: None, .. } => f.write_str("the time is not past: its certificates have not ended"),
            Self::Ledger(problem) => problem.fmt(f),
            Self::Database(error) => write!(f, "cannot prune rows: {error}"),
            Self::Stopped(report) => write!(f, "stopped after {} rows were pruned: run it again to go on", report.rows),
        }
    }
}

impl std::error::Error for RowPruneFault {}
