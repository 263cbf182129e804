//! Reads what a Registrar relayed, as lines of JSON: see [`crate::relay_line`].
//!
//! First comes each request as it is then, with its certificates behind it; after that each request that the audit says has changed, as it is when it is
//! read. So a request that goes on has lines again, and the last ones say how far it is; one that was forgotten without a certificate has a line that says
//! so. The cursor of a line says how far both are: the request, and the row of the audit.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};

use authority::{Cursor, RelayId};
use pki::issue::NodePrefix;
use rusqlite::Error;

use super::{ExportFault, ExportProblem};
use crate::audit::chain::AuditHead;
use crate::audit::is_stub;
use crate::audit::relay_record::AuditedRelay;
use crate::relay_line::{RelayRow, push_relay_closed, relay_row_lines};
use crate::sqlite::{Beside, connect_beside, relay};

/// Requests that are read at a time.
const PAGE_ROWS: usize = 512;

/// Rows of the audit that are read at a time: some megabytes.
const AUDIT_ROWS: i64 = 256;

/// A request has at most so many lines, and so many bits of a cursor count them.
const LINES_BITS: u32 = 4;

/// The bit of a cursor that says that every request was read once.
const CHANGES: u64 = 1 << 63;

/// An export of what was relayed, under way.
pub struct RelayExport {
    file: PathBuf,
    node: NodePrefix,
    connection: Beside,
    at: Place,
    /// Lines that were read, each with the place behind it.
    ready: VecDeque<(Place, String)>,
    /// Where the lines that were read end.
    read: Place,
}

/// How far an export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The last row of the audit that is not read any more.
    sequence: i64,
    step: Step,
    /// How many lines of the next request, or of the same one, are behind it; 0 between two requests.
    lines: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Requests up to this number are behind it; that number itself only up to some of its lines, if any are counted.
    Whole(u64),
    /// So many records of the next row of the audit are behind it.
    Changes(u64),
}

impl Place {
    fn cursor(self) -> Cursor {
        let (flag, number) = match self.step {
            Step::Whole(id) => (0, id),
            Step::Changes(record) => (CHANGES, record),
        };
        let low = flag | number << LINES_BITS | self.lines;
        let high = u128::try_from(self.sequence).unwrap_or(0);
        Cursor::from_bytes((high << 64 | u128::from(low)).to_be_bytes())
    }

    fn of(cursor: &Cursor) -> Option<Self> {
        let whole = u128::from_be_bytes(*cursor.as_bytes());
        let low = u64::try_from(whole & u128::from(u64::MAX)).ok()?;
        let (lines, number) = (low & ((1 << LINES_BITS) - 1), (low & !CHANGES) >> LINES_BITS);
        let step = if low & CHANGES == 0 { Step::Whole(number) } else { Step::Changes(number) };
        Some(Self { sequence: i64::try_from(whole >> 64).ok()?, step, lines })
    }

    /// Behind this row of the audit.
    const fn behind(sequence: i64) -> Self {
        Self { sequence, step: Step::Changes(0), lines: 0 }
    }
}

impl RelayExport {
    /// Begins behind this cursor, or at the first request. The audit is that of this node.
    ///
    /// # Errors
    /// [`ExportFault`] names the file.
    pub fn begin(file: &Path, node: NodePrefix, after: Option<&Cursor>) -> Result<Self, ExportFault> {
        let fault = |problem| ExportFault { file: file.to_owned(), problem };
        let connection = connect_beside(file).map_err(|it| fault(ExportProblem::Ledger(it.problem)))?;
        let head = AuditHead::read(&connection, node).map_err(|error| fault(ExportProblem::Database(error)))?;
        let at = match after {
            None => Place { sequence: head.sequence, step: Step::Whole(0), lines: 0 },
            Some(cursor) => {
                let at = Place::of(cursor).filter(|at| at.sequence <= head.sequence);
                at.ok_or_else(|| fault(ExportProblem::Cursor(*cursor)))?
            }
        };
        Ok(Self { file: file.to_owned(), node, connection, at, ready: VecDeque::new(), read: at })
    }

    /// The cursor of the last line, or of where it is if there was none.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.at.cursor()
    }

    /// Appends the next line, with a newline; says whether there was one. Later there may be one.
    ///
    /// # Errors
    /// [`ExportFault`] names the file.
    pub fn next_line(&mut self, out: &mut String) -> Result<bool, ExportFault> {
        while self.ready.is_empty() {
            self.at = self.read;
            if !self.read_on()? {
                return Ok(false);
            }
        }
        if let Some((place, line)) = self.ready.pop_front() {
            self.at = place;
            out.push_str(&line);
        }
        Ok(true)
    }

    /// Reads on; says whether anything was read.
    fn read_on(&mut self) -> Result<bool, ExportFault> {
        let problem = match self.at.step {
            Step::Whole(id) => match self.whole(id) {
                Ok(true) => return Ok(true),
                // Every request was read once: what changed since then comes now.
                Ok(false) => {
                    self.read = Place::behind(self.at.sequence);
                    return Ok(true);
                }
                Err(error) => ExportProblem::Database(error),
            },
            Step::Changes(record) => match self.changes(record) {
                Ok(Some(more)) => return Ok(more),
                Ok(None) => ExportProblem::Pruned(self.at.cursor()),
                Err(error) => ExportProblem::Database(error),
            },
        };
        Err(ExportFault { file: self.file.clone(), problem })
    }

    fn whole(&mut self, id: u64) -> Result<bool, Error> {
        if !relay::has_tables(&self.connection)? {
            return Ok(false);
        }
        let mut skipped = usize::try_from(self.at.lines).unwrap_or(0);
        // A request of which some lines are behind it is read again.
        let after = if skipped > 0 { id.saturating_sub(1) } else { id };
        let rows = relay::behind(&self.connection, Some(RelayId::new(after)), PAGE_ROWS)?;
        // Behind the last request come changes: one that is begun later is a change.
        let end = rows.last().filter(|_| rows.len() < PAGE_ROWS).map(|row| row.entry.id.as_u64());
        for row in &rows {
            let id = row.entry.id.as_u64();
            let from = if row.entry.id == RelayId::new(after + 1) { std::mem::take(&mut skipped) } else { 0 };
            self.push(row, from, |sequence, lines| match lines {
                0 if end == Some(id) => Place::behind(sequence),
                lines => Place { sequence, step: Step::Whole(id), lines },
            });
        }
        let Some(last) = rows.last() else { return Ok(false) };
        self.read = match end {
            Some(_) => Place::behind(self.at.sequence),
            None => Place { step: Step::Whole(last.entry.id.as_u64()), lines: 0, ..self.at },
        };
        Ok(true)
    }

    /// Nothing if the audit was pruned behind the place where it goes on.
    fn changes(&mut self, records: u64) -> Result<Option<bool>, Error> {
        let sql = "SELECT sequence, body FROM audit WHERE node = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
        let mut changed: BTreeMap<RelayId, (i64, u64)> = BTreeMap::new();
        let mut last = self.at.sequence;
        {
            let mut statement = self.connection.prepare_cached(sql)?;
            let mut rows = statement.query((self.node.number(), self.at.sequence, AUDIT_ROWS))?;
            while let Some(row) = rows.next()? {
                let (sequence, body): (i64, String) = (row.get(0)?, row.get(1)?);
                if sequence != last + 1 || is_stub(&body) {
                    return Ok(None);
                }
                last = sequence;
                // Of several changes of a request the last one alone is told.
                let abouts = (0..).zip(body.lines().filter_map(AuditedRelay::read));
                changed.extend(abouts.map(|(number, about)| (about.id, (sequence, number))));
            }
        }
        let mut ordered: Vec<((i64, u64), RelayId)> = changed.into_iter().map(|(id, at)| (at, id)).collect();
        ordered.sort_unstable();
        let first = (self.at.sequence + 1, records);
        let skipped = usize::try_from(self.at.lines).unwrap_or(0);
        for ((sequence, number), id) in ordered.into_iter().filter(|(at, _)| *at >= first) {
            let from = if (sequence, number) == first { skipped } else { 0 };
            let behind = |lines| match lines {
                0 => Place { sequence: sequence - 1, step: Step::Changes(number + 1), lines: 0 },
                lines => Place { sequence: sequence - 1, step: Step::Changes(number), lines },
            };
            match relay::has_tables(&self.connection)? {
                true => match relay::read(&self.connection, id)? {
                    Some(row) => self.push(&row, from, |_, lines| behind(lines)),
                    None => self.closed(id, behind(0)),
                },
                false => self.closed(id, behind(0)),
            }
        }
        let is_new = last > self.at.sequence;
        self.read = Place::behind(last);
        Ok(Some(is_new))
    }

    /// Makes the lines of a row behind the first ones. `behind` says the place behind so many of them, or behind all for 0.
    fn push(&mut self, row: &RelayRow, from: usize, behind: impl Fn(i64, u64) -> Place) {
        let all = relay_row_lines(row);
        let count = all.len();
        for (number, line) in (1..).zip(all).skip(from) {
            let lines = if number == count { 0 } else { u64::try_from(number).unwrap_or(0) };
            let place = behind(self.at.sequence, lines);
            let mut out = String::new();
            line.push(&mut out, Some(&place.cursor()));
            self.ready.push_back((place, out));
        }
    }

    fn closed(&mut self, id: RelayId, place: Place) {
        let mut out = String::new();
        push_relay_closed(&mut out, Some(&place.cursor()), id);
        self.ready.push_back((place, out));
    }
}

impl fmt::Debug for RelayExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayExport").field("file", &self.file).field("at", &self.at).finish_non_exhaustive()
    }
}
