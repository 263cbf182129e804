//! Reads a ledger as lines of JSON, beside a server or without one, and goes on where an earlier reading ended.
//!
//! A line is an issuance, a reservation that was given up, or a revocation: see [`crate::line`]. Rows come in the order in which they were reserved,
//! revocations in the order in which they were made, and each revocation after its row. Between the two, the times decide, so that the same ledger
//! gives the same lines. The cursor of a line says how far both orders are behind it: the place of the last row, and the last revocation.
//!
//! A row whose certificate is still being made has no line yet, and no row behind it has one: otherwise a cursor would pass it. A server makes a
//! certificate within a second or so, or gives it up after a minute.
//!
//! Each page is read in a snapshot of its own, so that the log of the database is shortened meanwhile.

mod relayed;

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

use authority::{Cursor, LedgerEntry, RowStage};
use pki::issue::Serial;
use rusqlite::{Connection, Error};

use crate::fault::OpenProblem;
use crate::line::{RowEvent, RowLine};
use crate::sqlite::{Beside, connect_beside, row, schema};

pub use self::relayed::RelayExport;
pub use crate::export_place::ExportPlace;

/// Rows that are read at a time: about a megabyte.
const PAGE_ROWS: usize = 512;

/// An export under way.
pub struct Export {
    file: PathBuf,
    connection: Beside,
    at: ExportPlace,
    /// Rows and revocations that were read and have no line yet.
    rows: VecDeque<(i64, LedgerEntry)>,
    revocations: VecDeque<RevocationRead>,
}

/// A revocation as its tables have it.
struct RevocationRead {
    sequence: i64,
    /// The place of its row.
    place: i64,
    serial: Serial,
    revocation: authority::Revocation,
}

impl Export {
    /// Begins behind this cursor, or at the first row.
    ///
    /// # Errors
    /// [`ExportFault`] names the file.
    pub fn begin(file: &Path, after: Option<&Cursor>) -> Result<Self, ExportFault> {
        let fault = |problem| ExportFault { file: file.to_owned(), problem };
        let connection = connect_beside(file).map_err(|it| fault(ExportProblem::Ledger(it.problem)))?;
        schema::require(&connection, 2).map_err(|problem| fault(ExportProblem::Ledger(problem)))?;
        let database = |error| fault(ExportProblem::Database(error));
        let at = match after {
            None => ExportPlace::default(),
            Some(cursor) => {
                let end = end(&connection).map_err(database)?;
                let at = ExportPlace::of(cursor).filter(|at| at.row <= end.row && at.revocation <= end.revocation);
                at.ok_or_else(|| fault(ExportProblem::Cursor(*cursor)))?
            }
        };
        Ok(Self { file: file.to_owned(), connection, at, rows: VecDeque::new(), revocations: VecDeque::new() })
    }

    /// Where it is: behind the last line.
    #[must_use]
    pub fn place(&self) -> ExportPlace {
        self.at
    }

    /// Where the ledger ends now.
    ///
    /// # Errors
    /// [`ExportFault`] names the file.
    pub fn end(&self) -> Result<ExportPlace, ExportFault> {
        end(&self.connection).map_err(|error| self.fault(error))
    }

    /// Appends the next line, with a newline, unless it is behind this place. Says whether there was one.
    ///
    /// # Errors
    /// [`ExportFault`] names the file.
    pub fn next_line(&mut self, until: ExportPlace, out: &mut String) -> Result<bool, ExportFault> {
        let line = self.next(until).map_err(|error| self.fault(error))?;
        if let Some(line) = &line {
            line.push(out);
        }
        Ok(line.is_some())
    }

    fn next(&mut self, until: ExportPlace) -> Result<Option<RowLine>, Error> {
        if self.rows.is_empty() {
            self.rows = rows(&self.connection, self.at.row)?;
        }
        if self.revocations.is_empty() {
            self.revocations = revocations(&self.connection, self.at.revocation)?;
        }
        let row = self.rows.front().filter(|(place, _)| *place <= until.row);
        let revocation = self.revocations.front();
        let revocation = revocation.filter(|it| it.sequence <= until.revocation && it.place <= self.at.row);
        let is_revocation_next = match (row, revocation) {
            (None, None) => return Ok(None),
            (Some((_, row)), Some(revocation)) => revocation.revocation.at < row.intent.at,
            (None, Some(_)) => true,
            (Some(_), None) => false,
        };
        if is_revocation_next && let Some(next) = self.revocations.pop_front() {
            self.at.revocation = next.sequence;
            let event = RowEvent::Revoked(next.serial, next.revocation);
            return Ok(Some(RowLine { cursor: Some(self.at.cursor()), event }));
        }
        let Some((place, entry)) = self.rows.pop_front() else { return Ok(None) };
        self.at.row = place;
        let event = match entry.stage {
            RowStage::Issued(record) => RowEvent::Issued(entry.intent, record),
            RowStage::Abandoned => RowEvent::Abandoned(entry.intent),
            RowStage::Reserved => RowEvent::Reserved(entry.intent),
        };
        Ok(Some(RowLine { cursor: Some(self.at.cursor()), event }))
    }

    fn fault(&self, error: Error) -> ExportFault {
        ExportFault { file: self.file.clone(), problem: ExportProblem::Database(error) }
    }
}

fn end(connection: &Connection) -> Result<ExportPlace, Error> {
    let row = connection.query_row("SELECT places FROM tally", [], |row| row.get(0))?;
    // Not the highest one that is there: that may have been pruned.
    let sql = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'revocation_order'";
    Ok(ExportPlace { row, revocation: connection.query_row(sql, [], |row| row.get(0))? })
}

/// Rows behind this place, up to the first one whose certificate is still being made.
fn rows(connection: &Connection, after: i64) -> Result<VecDeque<(i64, LedgerEntry)>, Error> {
    let mut statement = connection.prepare_cached(row::BEHIND)?;
    let mut found = statement.query([after, i64::try_from(PAGE_ROWS).unwrap_or(1)])?;
    let mut rows = VecDeque::new();
    while let Some(row) = found.next()? {
        let entry = row::entry(connection, row)?;
        if matches!(entry.stage, RowStage::Reserved) {
            break;
        }
        rows.push_back((row::place(&entry.cursor), entry));
    }
    Ok(rows)
}

fn revocations(connection: &Connection, after: i64) -> Result<VecDeque<RevocationRead>, Error> {
    let sql = "SELECT o.sequence, i.place, i.serial, r.at, r.reason, r.actor FROM revocation_order o
JOIN revocation r ON r.number = o.number JOIN intent i ON i.number = o.number
WHERE o.sequence > ?1 ORDER BY o.sequence LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut found = statement.query([after, i64::try_from(PAGE_ROWS).unwrap_or(1)])?;
    let mut revocations = VecDeque::new();
    while let Some(row) = found.next()? {
        let (serial, revocation) = (row::serial(row, 2)?, row::revocation(row, 3)?);
        revocations.push_back(RevocationRead { sequence: row.get(0)?, place: row.get(1)?, serial, revocation });
    }
    Ok(revocations)
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("file", &self.file).field("at", &self.at).finish_non_exhaustive()
    }
}

/// Why a ledger is not exported.
#[derive(Debug)]
pub struct ExportFault {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub problem: ExportProblem,
}

/// What is wrong with an export.
#[derive(Debug)]
pub enum ExportProblem {
    /// The ledger cannot be used.
    Ledger(OpenProblem),
    /// A row cannot be read.
    Database(Error),
    /// The ledger has no such place.
    Cursor(Cursor),
    /// What changed behind this place was pruned from the audit.
    Pruned(Cursor),
}

impl fmt::Display for ExportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger {}: ", self.file.display())?;
        match &self.problem {
            ExportProblem::Ledger(problem) => problem.fmt(f),
            ExportProblem::Database(error) => write!(f, "cannot read a row: {error}. `muster ledger verify` names it"),
            ExportProblem::Pruned(cursor) => write!(
                f,
                "its audit was pruned behind {:032x}: what changed since then is not known. Export without --after",
                u128::from_be_bytes(*cursor.as_bytes())
            ),
            ExportProblem::Cursor(cursor) => write!(
                f,
                "it has no place {:032x}: the cursor is of another ledger, or of this one before a backup of it was restored",
                u128::from_be_bytes(*cursor.as_bytes())
            ),
        }
    }
}

impl std::error::Error for ExportFault {}
