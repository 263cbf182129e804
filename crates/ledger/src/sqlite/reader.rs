//! Threads that read: they see what is durable, and wait for no write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use authority::{
    Completion, CrlEntryPage, CrlEntryQuery, CrlListQuery, CrlListing, Finding, Inquiry, LedgerEntry, LedgerFault,
    ListQuery, Listing, Locator, Registration, RelayHolder, RelayListing, RelayQuery, RowFilter, RowState,
};
use pki::Digest;
use rusqlite::{Connection, Error, params};
use tracing::error;

use super::Shared;
use super::crl;
use super::index::Unmerged;
use super::locate::{by_serial, locate};
use super::queue::Queue;
use super::relay;
use super::row::{self, BEHIND, place, short_device};
use super::schema;
use crate::serial::SerialCipher;

/// Rows that one call of `list` looks at: a few milliseconds.
const LOOKS_MAX: i64 = 1_024;

/// Questions that are taken at a time.
const QUESTIONS_MAX: usize = 256;

/// What a reader is asked for.
pub(super) enum Question {
    Standing(Vec<Inquiry>, Completion<Result<Vec<Finding>, LedgerFault>>),
    Find(Vec<Locator>, Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>),
    List(ListQuery, Completion<Result<Listing, LedgerFault>>),
    Count(RowFilter, Completion<Result<u64, LedgerFault>>),
    CrlLists(CrlListQuery, Completion<Result<CrlListing, LedgerFault>>),
    CrlEntries(CrlEntryQuery, Completion<Result<CrlEntryPage, LedgerFault>>),
    RelayHolders(Vec<Digest>, Completion<Result<Vec<Option<RelayHolder>>, LedgerFault>>),
    Relayed(RelayQuery, Completion<Result<RelayListing, LedgerFault>>),
    RelayRows(Completion<Result<u64, LedgerFault>>),
}

impl Question {
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Standing(of, _) => of.len(),
            Self::Find(rows, _) => rows.len(),
            Self::RelayHolders(of, _) => of.len(),
            Self::List(..)
            | Self::Count(..)
            | Self::CrlLists(..)
            | Self::CrlEntries(..)
            | Self::Relayed(..)
            | Self::RelayRows(_) => 1,
        }
    }

    /// Says that nobody can answer.
    pub(super) fn refuse(self, fault: LedgerFault) {
        match self {
            Self::Standing(_, done) => done(Err(fault)),
            Self::Find(_, done) => done(Err(fault)),
            Self::List(_, done) => done(Err(fault)),
            Self::Count(_, done) => done(Err(fault)),
            Self::CrlLists(_, done) => done(Err(fault)),
            Self::CrlEntries(_, done) => done(Err(fault)),
            Self::RelayHolders(_, done) => done(Err(fault)),
            Self::Relayed(_, done) => done(Err(fault)),
            Self::RelayRows(done) => done(Err(fault)),
        }
    }
}

/// One thread that reads, with a connection of its own.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Option<Connection>,
    pub(super) open: Box<dyn Fn() -> Result<Connection, String> + Send>,
}

impl Reader {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self, questions: &Queue<Question>) {
        while let Some(taken) = questions.take(QUESTIONS_MAX, Duration::from_secs(60)) {
            for question in taken.items {
                let asked = AssertUnwindSafe(|| self.answer(question));
                let _the_panic_was_reported = catch_unwind(asked);
            }
        }
    }

    fn answer(&mut self, question: Question) {
        match question {
            Question::Standing(of, done) => {
                let answer = self.read(|reading| of.iter().map(|inquiry| reading.finding(inquiry)).collect());
                done(answer);
            }
            Question::Find(rows, done) => {
                let answer = self.read(|reading| rows.iter().map(|locator| reading.find(locator)).collect());
                done(answer);
            }
            Question::List(query, done) => {
                let answer = self.read(|reading| reading.list(&query));
                done(answer);
            }
            Question::Count(filter, done) => {
                let answer = self.read(|reading| reading.count(&filter));
                done(answer);
            }
            Question::CrlLists(query, done) => {
                let answer = self.read_migrated(|connection| crl::lists(connection, &query));
                done(answer);
            }
            Question::CrlEntries(query, done) => {
                let answer = self.read_migrated(|connection| crl::entries(connection, &query));
                done(answer);
            }
            Question::RelayHolders(of, done) => {
                let answer = self.read(|reading| of.iter().map(|it| relay::holder(reading.connection, it)).collect());
                done(answer);
            }
            Question::Relayed(query, done) => done(self.read(|reading| relay::page(reading.connection, &query))),
            Question::RelayRows(done) => done(self.read(|reading| relay::rows(reading.connection))),
        }
    }

    /// Reads from the tables of the revocation lists.
    fn read_migrated<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, LedgerFault> {
        let answer = self.read(|reading| match crl::has_tables(reading.connection)? {
            true => read(reading.connection).map(Some),
            false => Ok(None),
        });
        answer?.ok_or(LedgerFault::NeedsMigration)
    }

    /// Reads, with a fresh connection after a fault.
    fn read<T>(&mut self, read: impl FnOnce(&Reading<'_>) -> Result<T, Error>) -> Result<T, LedgerFault> {
        if self.connection.is_none() {
            self.connection = (self.open)().ok();
        }
        let connection = self.connection.as_ref().ok_or(LedgerFault::Unavailable)?;
        read(&Reading { connection, serials: &self.shared.serials, unmerged: &self.shared.unmerged }).map_err(|why| {
            error!(file = %self.shared.file.display(), "the ledger cannot be read: {why}");
            self.connection = None;
            LedgerFault::Unavailable
        })
    }
}

/// A connection that reads.
struct Reading<'a> {
    connection: &'a Connection,
    serials: &'a SerialCipher,
    unmerged: &'a Unmerged,
}

impl Reading<'_> {
    /// The row of the client's certificate, found by its serial number. There is no list of devices.
    fn finding(&self, inquiry: &Inquiry) -> Result<Finding, Error> {
        let row = match &inquiry.serial {
            Some(serial) => by_serial(self.connection, self.serials, serial)?,
            None => None,
        };
        let holder = row.and_then(|(_, row)| match row.issued() {
            Some(issued) if issued.digest == inquiry.client => row.standing(),
            Some(_) => None,
            None => row.revocation_of_unissued(),
        });
        Ok(Finding { holder, registration: Registration::Unlisted })
    }

    fn find(&self, locator: &Locator) -> Result<Option<LedgerEntry>, Error> {
        Ok(locate(self.connection, self.serials, self.unmerged, locator)?.map(|(_, row)| row))
    }

    fn list(&self, query: &ListQuery) -> Result<Listing, Error> {
        let after = query.after.as_ref().map_or(0, place);
        let rows_max = query.bound();
        match &query.filter.device {
            Some(_) => self.list_of_device(&query.filter, after, rows_max),
            None => self.scan(&query.filter, after, rows_max),
        }
    }

    /// Looks at the rows behind a place, in their order.
    fn scan(&self, filter: &RowFilter, after: i64, rows_max: usize) -> Result<Listing, Error> {
        let mut statement = self.connection.prepare_cached(BEHIND)?;
        // One more than is looked at: whether any is left.
        let mut rows = statement.query(params![after, LOOKS_MAX + 1])?;
        let (mut listing, mut looks, mut last) = (Listing::default(), 0, None);
        while let Some(found) = rows.next()? {
            if looks >= LOOKS_MAX || listing.rows.len() >= rows_max {
                listing.next = last;
                break;
            }
            looks += 1;
            let row = row::entry(self.connection, found)?;
            last = Some(row.cursor);
            if filter.matches(&row) {
                listing.rows.push(row);
            }
        }
        Ok(listing)
    }

    /// The rows of one device: those that it holds, and those that were given up. It has few.
    fn list_of_device(&self, filter: &RowFilter, after: i64, rows_max: usize) -> Result<Listing, Error> {
        let mut rows = self.rows_of_device(filter)?;
        rows.retain(|row| place(&row.cursor) > after);
        let is_more = rows.len() > rows_max;
        rows.truncate(rows_max);
        let next = rows.last().filter(|_| is_more).map(|row| row.cursor);
        Ok(Listing { rows, next })
    }

    fn rows_of_device(&self, filter: &RowFilter) -> Result<Vec<LedgerEntry>, Error> {
        let Some(device) = &filter.device else { return Ok(Vec::new()) };
        let given_up = "SELECT i.number FROM intent i JOIN party m ON m.id = i.manufacturer
WHERE i.abandoned AND m.digest = ?1 AND i.device = ?2";
        let held = self.unmerged.of_device(self.connection, short_device(device))?;
        let mut numbers: Vec<i64> = held.into_iter().map(|entry| entry.number).collect();
        let mut statement = self.connection.prepare_cached(given_up)?;
        let values = params![&device.manufacturer.as_bytes()[..], device.id.as_str()];
        numbers.extend(statement.query_map(values, |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?);
        let mut rows = Vec::new();
        for number in numbers {
            rows.extend(row::read(self.connection, number)?.filter(|row| filter.matches(row)));
        }
        rows.sort_by_key(|row| row.cursor);
        Ok(rows)
    }

    fn count(&self, filter: &RowFilter) -> Result<u64, Error> {
        if filter.device.is_some() {
            return Ok(count(self.rows_of_device(filter)?.len()));
        }
        // What the metrics ask for, again and again.
        if *filter == (RowFilter { state: Some(RowState::Issued), ..RowFilter::default() }) {
            let is_pruned = schema::version(self.connection)? >= 2;
            let sql = if is_pruned {
                "SELECT t.issued - p.issued FROM tally t, pruned p"
            } else {
                "SELECT issued FROM tally"
            };
            let issued: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
            return Ok(u64::try_from(issued).unwrap_or(0));
        }
        let (mut counted, mut after) = (0, 0);
        loop {
            let listing = self.scan(filter, after, usize::MAX)?;
            counted += count(listing.rows.len());
            match listing.next {
                Some(next) => after = place(&next),
                None => return Ok(counted),
            }
        }
    }
}

fn count(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}
