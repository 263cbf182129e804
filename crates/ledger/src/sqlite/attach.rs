//! Ties the book to its journal: resolves what a crash left between the two, and appends what the journal lacks. See [`crate::journal`].

use std::io;
use std::path::Path;

use authority::{LedgerEntry, RowStage};
use pki::Digest;
use pki::issue::Serial;
use rusqlite::{Connection, Error, OptionalExtension};
use tracing::{info, warn};

use super::book::{Book, LIFE_BITS};
use super::locate::by_serial;
use super::pruned::PrunedRows;
use super::room::JOURNAL_BYTES;
use super::{relay, restore, row};
use crate::audit::chain::AuditHead;
use crate::audit::record::{Abandonment, AuditedKind, AuditedRow};
use crate::audit::relay_record::AuditedRelay;
use crate::fault::OpenProblem;
use crate::journal::event::JournalEvent;
use crate::journal::frame::{AuditPoint, Header, LedgerId};
use crate::journal::tail::Tail;
use crate::journal::{Filling, JournalFault, JournalProblem, JournalSettings, JournalWriter, segments};
use crate::line::{self, RowEvent};
use crate::paths::free_bytes;
use crate::relay_line::push_relay_row;

/// Rows between two reports of progress.
const STEP: u64 = 100_000;

/// Relayed requests that are read at a time, with their certificates.
const RELAYED_AT_ONCE: usize = 256;

/// Rows whose length is taken for that of every row.
const SAMPLED_ROWS: i64 = 256;

/// How the end of a journal stands to the ledger.
enum Standing {
    /// The ledger has its last batch.
    Contained,
    /// Its last batch was not committed, and all of its rows are there.
    Ahead(Vec<JournalEvent>),
    /// What it lacks cannot be told from the audit: another life, another node, or rows of the audit that were pruned.
    Unrelated,
    /// The ledger lacks what the journal has.
    Older,
}

impl Book {
    /// Opens the journal, or begins it; from then on each batch is written to it.
    pub(super) fn attach(&mut self, settings: &JournalSettings, ledger: LedgerId) -> Result<(), OpenProblem> {
        let fault = |problem| OpenProblem::Journal(settings.fault(problem));
        let file = |error| fault(JournalProblem::File(error));
        let bytes = match settings.file.metadata() {
            Ok(metadata) => Some(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(file(error)),
        };
        if bytes.is_none_or(|bytes| bytes == 0) {
            if let Some(newest) = segments::closed(&settings.file).map_err(file)?.pop() {
                self.begin_behind(settings, ledger, &newest.file)?;
            } else if bytes.is_none() && restore::has_journal(self.connection())? {
                return Err(OpenProblem::JournalGone { journal: settings.file.clone() });
            } else {
                self.begin_whole(settings, ledger)?;
            }
            return Ok(restore::set_journal(self.connection(), true)?);
        }
        let tail = Tail::read(&settings.file, ledger).map_err(fault)?;
        match self.compare(&tail, &settings.file)? {
            Standing::Older => return Err(OpenProblem::Restored { journal: settings.file.clone() }),
            Standing::Unrelated => {
                let numbers = (tail.header.after.sequence, tail.at().sequence);
                let name = segments::close(&settings.file, tail.header.life, numbers).map_err(file)?;
                warn!(
                    file = %name.display(),
                    "the journal is not the continuation of this ledger's audit: it was closed under this name, and a new one begins"
                );
                self.begin_whole(settings, ledger)?;
            }
            Standing::Contained => {
                self.open_journal(settings, &tail, (tail.at(), tail.end))?;
                self.append_missing(tail.at(), settings, ledger)?;
            }
            Standing::Ahead(events) => {
                // It is written again, whole: whether it was ever synced is not known.
                let head = AuditPoint::from(&self.audit.head());
                let begin = tail.last.as_ref().map_or(tail.end, |last| last.begin);
                self.open_journal(settings, &tail, (head, begin))?;
                self.roll_forward(&events, settings)?;
            }
        }
        Ok(restore::set_journal(self.connection(), true)?)
    }

    /// Begins the file behind a closed segment: a crash came when that was closed and the next one was not begun, or the file was lost.
    fn begin_behind(&mut self, settings: &JournalSettings, ledger: LedgerId, newest: &Path) -> Result<(), OpenProblem> {
        let tail = Tail::read(newest, ledger)
            .map_err(|problem| OpenProblem::Journal(JournalFault { file: newest.to_owned(), problem }))?;
        match self.compare(&tail, newest)? {
            Standing::Older => Err(OpenProblem::Restored { journal: newest.to_owned() }),
            Standing::Unrelated => self.begin_whole(settings, ledger),
            Standing::Contained => {
                self.begin_empty(settings, ledger, tail.at())?;
                self.append_missing(tail.at(), settings, ledger)
            }
            Standing::Ahead(events) => {
                self.begin_empty(settings, ledger, AuditPoint::from(&self.audit.head()))?;
                self.roll_forward(&events, settings)
            }
        }
    }

    /// Commits the last batch of the journal. Its lines have the whole rows.
    fn roll_forward(&mut self, events: &[JournalEvent], settings: &JournalSettings) -> Result<(), OpenProblem> {
        info!(lines = events.len(), "the last batch of the journal was not committed: it is completed");
        self.begin()?;
        for event in events {
            match self.replay_unless_pruned(event)? {
                Replayed::NoRow | Replayed::Contradiction => {
                    let problem = JournalProblem::Contradiction(event.to_string());
                    return Err(OpenProblem::Journal(settings.fault(problem)));
                }
                Replayed::Row => self.pend_completed(event)?,
                Replayed::Known | Replayed::Revocation => {}
            }
        }
        self.commit().map_err(OpenProblem::from)
    }

    /// Opens a journal of which everything up to this place is good.
    fn open_journal(
        &mut self,
        settings: &JournalSettings,
        tail: &Tail,
        (last, end): (AuditPoint, u64),
    ) -> Result<(), OpenProblem> {
        if tail.end < tail.length {
            let bytes = tail.length - tail.end;
            warn!(file = %settings.file.display(), bytes, "the end of the journal was never whole: it is cut off");
        }
        let opened = JournalWriter::open(settings, tail.header, (last, end, tail.length));
        self.journal = Some(opened.map_err(|error| OpenProblem::Journal(settings.fault(JournalProblem::File(error))))?);
        Ok(())
    }

    /// Which life of the ledger this is: each restore begins one, with numbers of its own.
    pub(super) fn life(&self) -> i64 {
        self.tally().numbers >> LIFE_BITS
    }

    fn compare(&self, tail: &Tail, file: &Path) -> Result<Standing, OpenProblem> {
        if tail.header.life > self.life() {
            return Ok(Standing::Older);
        }
        if tail.header.life < self.life() {
            return Ok(Standing::Unrelated);
        }
        let last = tail.at();
        let head = AuditHead::read(self.connection(), last.node)?;
        if last.sequence > head.sequence + 1 {
            return Ok(Standing::Older);
        }
        let hash = hash_of(self.connection(), last)?;
        if hash == Some(last.hash) || last.sequence == 0 {
            let is_same_node = last.node == self.audit.head().node;
            return Ok(if is_same_node { Standing::Contained } else { Standing::Unrelated });
        }
        let Some(batch) = &tail.last else { return Ok(Standing::Older) };
        let events =
            batch.events().map_err(|problem| OpenProblem::Journal(JournalFault { file: file.to_owned(), problem }))?;
        if last.sequence == head.sequence + 1 {
            // The batch follows this very row of the audit, or the ledger went another way.
            return Ok(if batch.end.before == head.hash { Standing::Ahead(events) } else { Standing::Older });
        }
        if hash.is_none() {
            return Ok(Standing::Unrelated);
        }
        for event in &events {
            let event = match event {
                JournalEvent::Row(event) => event,
                JournalEvent::Relay(event) if relay::has(self.connection(), event)? => continue,
                JournalEvent::Relay(_) => return Ok(Standing::Older),
            };
            let Some(row) = self.row_of(event.serial())? else {
                if self.is_pruned(event)? {
                    continue;
                }
                return Ok(Standing::Older);
            };
            let is_known = match &**event {
                // The audit went on without this batch: the ledger has its revocations in another one.
                RowEvent::Revoked(..) => row.revocation.is_some(),
                RowEvent::Issued(_, record) => row.issued().is_none_or(|known| known.digest == record.issued.digest),
                RowEvent::Abandoned(_) | RowEvent::Reserved(_) => true,
            };
            if !is_known {
                return Ok(Standing::Older);
            }
        }
        Ok(Standing::Unrelated)
    }

    /// Whether the ledger lacks the row of this line because it was pruned.
    pub(super) fn is_pruned(&self, event: &RowEvent) -> Result<bool, Error> {
        let explained = PrunedRows::read(self.connection())?.explains(event, self.serials());
        Ok(explained && self.row_of(event.serial())?.is_none())
    }

    fn row_of(&self, serial: &Serial) -> Result<Option<LedgerEntry>, Error> {
        Ok(by_serial(self.connection(), self.serials(), serial)?.map(|(_, row)| row))
    }

    /// Begins a journal behind this row of the audit.
    pub(super) fn begin_empty(
        &mut self,
        settings: &JournalSettings,
        ledger: LedgerId,
        at: AuditPoint,
    ) -> Result<(), OpenProblem> {
        let header = Header { ledger, life: self.life(), after: at };
        let begun = JournalWriter::begin(settings, header, at, |_| Ok::<(), FillFault>(()));
        self.journal = Some(begun.map_err(|fault| fault.of(settings))?);
        Ok(())
    }

    /// Begins a journal with every row of the ledger.
    fn begin_whole(&mut self, settings: &JournalSettings, ledger: LedgerId) -> Result<(), OpenProblem> {
        let head = self.audit.head();
        let header = Header { ledger, life: self.life(), after: AuditPoint::from(&AuditHead::start(head.node)) };
        let rows = self.tally().rows;
        if rows > 0 {
            self.expect_room(settings)?;
            info!(file = %settings.file.display(), rows, "the ledger has no journal: one is begun with every row");
        }
        let connection = self.connection();
        let begun = JournalWriter::begin(settings, header, AuditPoint::from(&head), |out| every_row(connection, out));
        self.journal = Some(begun.map_err(|fault| fault.of(settings))?);
        if rows > 0 {
            info!(file = %settings.file.display(), "the journal has every row");
        }
        Ok(())
    }

    /// Whether the disk of a new journal has room for every row: a disk that fills up after an hour stops what else writes to it, too.
    fn expect_room(&self, settings: &JournalSettings) -> Result<(), OpenProblem> {
        // Where the system does not say, writing does.
        let Ok(free_bytes) = free_bytes(&settings.file) else { return Ok(()) };
        let rows = u64::try_from(self.tally().rows).unwrap_or(0);
        let needed_bytes = rows.saturating_mul(bytes_of_row(self.connection())?).saturating_add(JOURNAL_BYTES);
        if free_bytes >= needed_bytes {
            return Ok(());
        }
        Err(OpenProblem::Journal(settings.fault(JournalProblem::NoRoom { rows, needed_bytes, free_bytes })))
    }

    /// Appends what the audit says that happened since this row of it.
    fn append_missing(
        &mut self,
        last: AuditPoint,
        settings: &JournalSettings,
        ledger: LedgerId,
    ) -> Result<(), OpenProblem> {
        let head = AuditPoint::from(&self.audit.head());
        if last == head {
            return Ok(());
        }
        let Some(mut journal) = self.journal.take() else { return Ok(()) };
        let is_complete = self.copy_rows_since(last, &mut journal)?;
        if !is_complete {
            drop(journal);
            warn!("the audit was pruned behind the end of the journal: the journal begins anew");
            segments::close(&settings.file, self.life(), (last.sequence, last.sequence))
                .map_err(|error| OpenProblem::Journal(settings.fault(JournalProblem::File(error))))?;
            return self.begin_whole(settings, ledger);
        }
        journal.reach(head);
        journal.flush().map_err(OpenProblem::Journal)?;
        self.journal = Some(journal);
        Ok(())
    }

    fn copy_rows_since(&self, last: AuditPoint, journal: &mut JournalWriter) -> Result<bool, OpenProblem> {
        let sql = "SELECT sequence, hash, body FROM audit WHERE node = ?1 AND sequence > ?2 ORDER BY sequence";
        let mut statement = self.connection().prepare(sql)?;
        let mut rows = statement.query((last.node.number(), last.sequence))?;
        let (mut expected, mut appended) = (last.sequence + 1, 0_u64);
        while let Some(found) = rows.next()? {
            let sequence: i64 = found.get(0)?;
            if sequence != expected {
                return Ok(false);
            }
            expected += 1;
            let body = found.get_ref(2)?.as_str().map_err(Error::from)?;
            for event in body.lines().filter_map(AuditedRow::read) {
                let Some(row) = self.row_of(&event.serial)? else { continue };
                append_event(event.kind, &row, journal);
                appended += 1;
                if appended.is_multiple_of(STEP) {
                    info!(rows = appended, "appending to the journal what it lacks");
                }
            }
            for event in body.lines().filter_map(AuditedRelay::read) {
                // As it is now: a request that was closed later is closed at once.
                match relay::read(self.connection(), event.id)? {
                    Some(row) => journal.relay_row(&row),
                    None => journal.relay_closed(event.id),
                }
                appended += 1;
            }
            let hash = Digest::from_bytes(found.get(1)?);
            journal.end(AuditPoint { node: last.node, sequence, hash });
            journal.follows(hash);
            if journal.is_long() {
                journal.flush().map_err(OpenProblem::Journal)?;
            }
        }
        if appended > 0 {
            info!(rows = appended, file = %journal.path().display(), "the journal lacked these events, and has them now");
        }
        Ok(true)
    }

    /// Makes the ledger say what a line says, if it does not already, and its row was not pruned. The caller has begun a batch.
    pub(super) fn replay_unless_pruned(&mut self, event: &JournalEvent) -> Result<Replayed, Error> {
        match event {
            JournalEvent::Row(event) if self.is_pruned(event)? => Ok(Replayed::Known),
            JournalEvent::Row(event) => self.replay(event),
            JournalEvent::Relay(event) => self.relay_replay(event),
        }
    }

    /// Makes the ledger say what a line says, if it does not already. The caller has begun a batch.
    pub(super) fn replay(&mut self, event: &RowEvent) -> Result<Replayed, Error> {
        let row = by_serial(self.connection(), self.serials(), event.serial())?;
        Ok(match (event, row) {
            (RowEvent::Reserved(_), _) => Replayed::Known,
            (RowEvent::Issued(intent, record), None) => match self.restore_row(intent)? {
                Some(number) => self.record_at(number, record).map(|()| Replayed::Row)?,
                None => Replayed::Contradiction,
            },
            (RowEvent::Issued(_, record), Some((number, row))) => match row.stage {
                RowStage::Reserved => self.record_at(number, record).map(|()| Replayed::Row)?,
                RowStage::Issued(known) if known.issued.digest == record.issued.digest => Replayed::Known,
                RowStage::Issued(_) => Replayed::Contradiction,
                // It was given up after its certificate was in the journal: that certificate was never released.
                RowStage::Abandoned => Replayed::Known,
            },
            (RowEvent::Abandoned(intent), None) => match self.restore_row(intent)? {
                Some(number) => self.give_up_again(number)?,
                None => Replayed::Contradiction,
            },
            (RowEvent::Abandoned(_), Some((number, row))) => match row.stage {
                RowStage::Reserved => self.give_up_again(number)?,
                RowStage::Issued(_) | RowStage::Abandoned => Replayed::Known,
            },
            (RowEvent::Revoked(_, revocation), Some((number, row))) if row.revocation.is_none() => {
                self.revoke_found((number, &row), revocation)?;
                Replayed::Revocation
            }
            (RowEvent::Revoked(_, revocation), Some((number, row))) => {
                // It may say that the key is compromised.
                self.revoke_found((number, &row), revocation)?;
                Replayed::Known
            }
            (RowEvent::Revoked(..), None) => Replayed::NoRow,
        })
    }

    fn give_up_again(&mut self, number: i64) -> Result<Replayed, Error> {
        let at = self.tally().time;
        self.abandon(number, Abandonment::NotIssued, at).map(|_| Replayed::Row)
    }
}

/// What a line brought to the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replayed {
    /// Nothing: the ledger had it.
    Known,
    /// A row, or its certificate.
    Row,
    /// A revocation.
    Revocation,
    /// Nothing: it revokes a row that neither the ledger nor the journal has.
    NoRow,
    /// Nothing: the ledger says something else of this serial number.
    Contradiction,
}

fn hash_of(connection: &Connection, at: AuditPoint) -> Result<Option<Digest>, Error> {
    let sql = "SELECT hash FROM audit WHERE node = ?1 AND sequence = ?2";
    let hash = connection.query_row(sql, (at.node.number(), at.sequence), |row| row.get(0)).optional()?;
    Ok(hash.map(Digest::from_bytes))
}

/// Appends what a record of the audit says about this row.
fn append_event(kind: AuditedKind, row: &LedgerEntry, journal: &mut JournalWriter) {
    match (kind, &row.stage) {
        (AuditedKind::Issued, RowStage::Issued(record)) => journal.issued(&row.intent, record),
        (AuditedKind::Abandoned, RowStage::Abandoned) => journal.abandoned(&row.intent),
        (AuditedKind::Revoked, _) => {
            row.revocation.iter().for_each(|revocation| journal.revoked(&row.intent.serial, revocation));
        }
        _ => {}
    }
}

/// Bytes that a row takes in a journal: the mean of some of the latest, whose profiles, names and keys are those of today.
fn bytes_of_row(connection: &Connection) -> Result<u64, Error> {
    let last: i64 = connection.query_row("SELECT coalesce(max(place), 0) FROM place", [], |row| row.get(0))?;
    let mut statement = connection.prepare(row::BEHIND)?;
    let mut rows = statement.query((last.saturating_sub(SAMPLED_ROWS), SAMPLED_ROWS))?;
    let (mut text, mut count) = (String::new(), 0_u64);
    while let Some(found) = rows.next()? {
        push_row(&mut text, &row::entry(connection, found)?);
        count += 1;
    }
    Ok(u64::try_from(text.len()).unwrap_or(u64::MAX).div_ceil(count.max(1)))
}

/// Appends the lines of a row that is more than a reservation; says how many they are.
fn push_row(out: &mut String, entry: &LedgerEntry) -> i64 {
    match &entry.stage {
        RowStage::Issued(record) => line::push_issued(out, &entry.intent, record),
        RowStage::Abandoned => line::push_abandoned(out, &entry.intent),
        RowStage::Reserved => return 0,
    }
    let Some(revocation) = &entry.revocation else { return 1 };
    line::push_revoked(out, &entry.intent.serial, revocation);
    2
}

/// Appends every row that is more than a reservation, in the order of places.
fn every_row(connection: &Connection, out: &mut Filling) -> Result<(), FillFault> {
    let mut statement = connection.prepare(row::EVERY)?;
    let mut rows = statement.query([])?;
    let mut appended = 0_u64;
    while let Some(found) = rows.next()? {
        let lines = push_row(out.text(), &row::entry(connection, found)?);
        if lines == 0 {
            continue;
        }
        out.added(lines)?;
        appended += 1;
        if appended.is_multiple_of(STEP) {
            info!(rows = appended, "writing the journal");
        }
    }
    every_relayed_row(connection, out)
}

fn every_relayed_row(connection: &Connection, out: &mut Filling) -> Result<(), FillFault> {
    let mut after = None;
    while relay::has_tables(connection)? {
        let rows = relay::behind(connection, after, RELAYED_AT_ONCE)?;
        let Some(last) = rows.last() else { break };
        after = Some(last.entry.id);
        for row in &rows {
            let lines = push_relay_row(out.text(), row);
            out.added(lines)?;
        }
    }
    Ok(())
}

/// Why a journal could not be filled with the rows of its ledger.
enum FillFault {
    Database(Error),
    File(io::Error),
}

impl FillFault {
    fn of(self, settings: &JournalSettings) -> OpenProblem {
        match self {
            Self::Database(error) => error.into(),
            Self::File(error) => OpenProblem::Journal(settings.fault(JournalProblem::File(error))),
        }
    }
}

impl From<Error> for FillFault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for FillFault {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}
