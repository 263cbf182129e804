//! Writes what a journal has into a restored ledger, and begins its next life.

use std::path::Path;
use std::sync::Arc;

use authority::{Actor, GapTreatment};
use pki::issue::NodePrefix;
use rusqlite::{Connection, Error};
use rustls_pki_types::UnixTime;

use super::attach::Replayed;
use super::book::Book;
use super::connect::{connect_writer, make_durable};
use super::delivery;
use super::index::{Unmerged, YOUNG_MAX};
use super::restore::{self, Restore};
use super::schema;
use crate::audit::AuditKey;
use crate::audit::chain::AuditHead;
use crate::audit::restored;
use crate::fault::OpenProblem;
use crate::journal::event::JournalEvent;
use crate::journal::frame::{AuditPoint, LedgerId};
use crate::journal::tail::Tail;
use crate::journal::{JournalProblem, JournalSettings, segments};
use crate::seconds::seconds;
use crate::serial::SerialCipher;

pub(crate) use super::book::LIFE_BITS;

/// The last life whose numbers fit a row.
pub(crate) const LIFE_MAX: i64 = (1 << (62 - LIFE_BITS)) - 1;

/// Rows of one transaction.
const ROWS_AT_ONCE: usize = 1_000;

/// How far a ledger is.
pub(crate) struct LedgerState {
    pub(crate) head: AuditHead,
    pub(crate) life: i64,
    pub(crate) numbers: i64,
    pub(crate) time: i64,
}

/// Reads how far the ledger is, without writing it.
pub(crate) fn state(connection: &Connection, node: NodePrefix) -> Result<LedgerState, Error> {
    let (numbers, time): (i64, i64) =
        connection.query_row("SELECT numbers, time FROM tally", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let head = AuditHead::read(connection, node)?;
    Ok(LedgerState { head, life: numbers >> LIFE_BITS, numbers, time })
}

/// A ledger that is being restored. No server opens it until [`Restoring::end`].
pub(crate) struct Restoring {
    book: Book,
    life: i64,
    /// Rows in the open transaction; `None` if none is open.
    open: Option<usize>,
    rows: u64,
    revocations: u64,
}

/// What begins a life.
pub(crate) struct Beginning<'a> {
    pub(crate) life: i64,
    pub(crate) gap: (i64, i64),
    pub(crate) treatment: Option<(GapTreatment, UnixTime)>,
    pub(crate) now: UnixTime,
    pub(crate) actor: &'a Actor,
    pub(crate) key: &'a AuditKey,
}

impl Restoring {
    pub(crate) fn open(file: &Path, node: NodePrefix) -> Result<Self, OpenProblem> {
        let connection = connect_writer(file)?;
        let meta = schema::read(&connection)?;
        make_durable(&connection, file)?;
        let remembered = (Arc::new(SerialCipher::new(&meta.serial_key)), Arc::new(Unmerged::new(YOUNG_MAX)));
        let book = Book::new(connection, remembered, node)?;
        Ok(Self { book, life: 0, open: None, rows: 0, revocations: 0 })
    }

    /// Marks the restore in the audit, and takes the numbers of the next life. One that was interrupted goes on in the life that it began.
    pub(crate) fn begin(&mut self, beginning: &Beginning<'_>) -> Result<(), OpenProblem> {
        if restore::is_unfinished(self.book.connection())? {
            self.life = self.book.life();
            return self.treat_all(beginning);
        }
        let Beginning { life, gap, treatment, now, actor, key } = *beginning;
        self.life = life;
        let before = self.book.tally().numbers;
        let head = self.book.audit.head();
        let mark = restored::mark(&head, now, actor, key);
        let mark = mark.ok_or_else(|| OpenProblem::File(std::io::Error::other("the system provides no randomness")))?;
        self.book.begin()?;
        self.book.audit.body.mark(&mark, seconds(now));
        self.book.begin_life(life);
        let numbers = (before + 1, life << LIFE_BITS);
        let restore = Restore { life, numbers, gap, treatment };
        restore.insert(self.book.connection(), now, actor.as_str())?;
        restore::set_unfinished(self.book.connection())?;
        self.book.commit()?;
        self.treat_all(beginning)
    }

    fn treat_all(&self, beginning: &Beginning<'_>) -> Result<(), OpenProblem> {
        if let Some(treatment) = beginning.treatment {
            Restore::treat_all(self.book.connection(), treatment)?;
        }
        Ok(())
    }

    /// Writes what these lines say, if the ledger does not have it.
    pub(crate) fn write(&mut self, events: &[JournalEvent]) -> Result<(), OpenProblem> {
        for event in events {
            let open = match self.open {
                Some(open) => open,
                None => self.book.begin().map(|()| 0)?,
            };
            self.open = Some(open + 1);
            match self.book.replay_unless_pruned(event)? {
                Replayed::Row => self.rows += 1,
                Replayed::Revocation => self.revocations += 1,
                Replayed::Known | Replayed::NoRow => {}
                Replayed::Contradiction => {
                    let what = format!("{event}, in a row that the journal does not have");
                    return Err(OpenProblem::Damaged(what));
                }
            }
            if self.open >= Some(ROWS_AT_ONCE) {
                self.book.commit()?;
                self.open = None;
            }
        }
        Ok(())
    }

    /// Makes everything durable: from now on a server may open the ledger.
    pub(crate) fn end(&mut self) -> Result<(), OpenProblem> {
        if self.open.take().is_none() {
            self.book.begin()?;
        }
        delivery::forget(self.book.connection())?;
        restore::set_finished(self.book.connection(), self.life, (self.rows, self.revocations))?;
        self.book.commit()?;
        Ok(())
    }

    /// Closes the journal of the lost life, and begins the next one, which has nothing that the closed segments have. Without any journal the next
    /// start of a server begins one with every row.
    pub(crate) fn begin_journal(
        &mut self,
        settings: Option<&JournalSettings>,
        ledger: LedgerId,
    ) -> Result<(), OpenProblem> {
        let Some(settings) = settings else { return Ok(()) };
        let fault = |problem| OpenProblem::Journal(settings.fault(problem));
        if !settings.file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            return Ok(restore::set_journal(self.book.connection(), false)?);
        }
        let tail = Tail::read(&settings.file, ledger).map_err(fault)?;
        let numbers = (tail.header.after.sequence, tail.at().sequence);
        segments::close(&settings.file, tail.header.life, numbers)
            .map_err(|error| fault(JournalProblem::File(error)))?;
        let head = AuditPoint::from(&self.book.audit.head());
        self.book.begin_empty(settings, ledger, head)
    }
}
