//! Writes the lines of an export into a ledger that no server has open: see [`crate::import`].

use std::fs::File;
use std::path::Path;

use authority::{Actor, Intent, LedgerEntry, RowStage};
use pki::Digest;
use pki::issue::Serial;
use rusqlite::{Connection, Error};
use rustls_pki_types::UnixTime;

use super::attach::Replayed;
use super::book::{Book, LIFE_BITS};
use super::connect::connect_trial;
use super::locate::by_serial;
use super::own_log::expect_own_log;
use super::place::expect_ledger_of_audit;
use super::row::short_device;
use super::schema::Meta;
use super::{
    Beside, Fresh, LedgerSettings, Opened, expect_journal_of_ledger, foreign, lock_if_there, open_book, relay, restore,
    schema,
};
use crate::audit::record::Abandonment;
use crate::export_place::ExportPlace;
use crate::fault::OpenProblem;
use crate::line::{LineFault, RowEvent, RowLine};
use crate::relay_line::{RELAY_BEGINNING, RelayEvent};
use crate::seconds::seconds;
use crate::serial::SerialCipher;

/// A serial number that leads further than this beyond the last row is of another ledger's key: it leads anywhere.
const AHEAD_MAX: i64 = 1 << 32;

/// The rows that a ledger has.
#[derive(Clone, Copy)]
pub(crate) struct KnownRows<'a> {
    pub(crate) connection: &'a Connection,
    serials: &'a SerialCipher,
}

impl KnownRows<'_> {
    /// The row of this serial number.
    pub(crate) fn row_of(&self, serial: &Serial) -> Result<Option<LedgerEntry>, Error> {
        Ok(by_serial(self.connection, self.serials, serial)?.map(|(_, row)| row))
    }
}

/// A ledger that lines are compared with and not written to: opening it changes and creates no file. Where there is no ledger, an empty one in memory.
pub(crate) struct TrialLedger {
    connection: Beside,
    serials: SerialCipher,
    _lock: Option<File>,
}

impl TrialLedger {
    pub(crate) fn open(file: &Path, fresh: Fresh, settings: &LedgerSettings) -> Result<Self, OpenProblem> {
        let lock = lock_if_there(file)?;
        expect_journal_of_ledger(file, settings.journal.as_ref())?;
        expect_ledger_of_audit(file, &settings.audit)?;
        expect_own_log(file, settings.audit.node)?;
        let mut connection = connect_trial(file)?;
        let meta = schema::prepare(&mut connection, &Meta { serial_key: fresh.serial_key, complete_since: 0 })?;
        schema::require(&connection, 2)?;
        restore::expect_finished(&connection)?;
        Ok(Self { connection, serials: SerialCipher::new(&meta.serial_key), _lock: lock })
    }

    pub(crate) fn rows(&self) -> KnownRows<'_> {
        KnownRows { connection: &self.connection, serials: &self.serials }
    }
}

/// A line of an export: of the rows of a CA, or of what a Registrar relayed.
pub(crate) enum ExportedLine {
    Row(Box<RowLine>),
    Relay(RelayEvent),
}

impl ExportedLine {
    /// Reads a line, without its newline.
    pub(crate) fn read(line: &str) -> Result<Self, LineFault> {
        if line.starts_with(RELAY_BEGINNING) {
            return RelayEvent::read(line).map(Self::Relay);
        }
        RowLine::read(line).map(|line| Self::Row(Box::new(line)))
    }

    /// The latest of the times at which something happened, according to it.
    pub(crate) fn latest(&self) -> UnixTime {
        match self {
            Self::Row(line) => line.event.latest(),
            Self::Relay(event) => event.latest(),
        }
    }
}

/// What a line about a relayed request is to a ledger: a certificate and its mark stand in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelayedEffects {
    pub(crate) effect: LineEffect,
    /// It brings a mark too.
    pub(crate) marks: bool,
    /// It is the line of a certificate.
    pub(crate) is_certificate: bool,
}

impl RelayedEffects {
    pub(crate) const fn of(effect: LineEffect) -> Self {
        Self { effect, marks: false, is_certificate: false }
    }

    pub(crate) const fn of_certificate(is_new: bool, marks: bool) -> Self {
        let effect = if is_new {
            LineEffect::Row
        } else if marks {
            LineEffect::Revocation
        } else {
            LineEffect::Known
        };
        Self { effect, marks: is_new && marks, is_certificate: true }
    }
}

/// What was written of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Imported {
    Row(LineEffect),
    Relay(RelayedEffects),
}

impl Imported {
    fn is_known(self) -> bool {
        let effect = match self {
            Self::Row(effect) => effect,
            Self::Relay(effects) => effects.effect,
        };
        effect == LineEffect::Known
    }
}

/// A ledger that takes lines.
pub(crate) struct Importer {
    opened: Opened,
}

/// What a line is to a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEffect {
    /// It has it.
    Known,
    /// It lacks the row.
    Row,
    /// It lacks the revocation.
    Revocation,
    /// It has no row that the line could revoke.
    NoRow,
    /// Its row of this serial number says something else.
    Contradiction,
}

impl Importer {
    /// Opens the ledger in this file, or begins one.
    pub(crate) fn open(
        file: &Path,
        fresh: Fresh,
        settings: &LedgerSettings,
        now: UnixTime,
    ) -> Result<Self, OpenProblem> {
        let opened = open_book(file, fresh, settings, now)?;
        schema::require(opened.book.connection(), 2)?;
        Ok(Self { opened })
    }

    pub(crate) fn rows(&self) -> KnownRows<'_> {
        KnownRows { connection: self.opened.book.connection(), serials: &self.opened.serials }
    }

    /// Writes these lines in one transaction, with a record of the import.
    pub(crate) fn write(
        &mut self,
        lines: &[ExportedLine],
        actor: &Actor,
        digest: &Digest,
        now: UnixTime,
    ) -> Result<Vec<Imported>, OpenProblem> {
        let book = &mut self.opened.book;
        book.begin()?;
        let import = |line: &ExportedLine| match line {
            ExportedLine::Row(line) => book.import(line).map(Imported::Row),
            ExportedLine::Relay(event) => book.import_relayed(event).map(Imported::Relay),
        };
        let effects = lines.iter().map(import).collect::<Result<Vec<_>, _>>()?;
        let written = effects.iter().filter(|imported| !imported.is_known()).count();
        if written > 0 {
            book.audit.body.imported(actor, i64::try_from(written).unwrap_or(i64::MAX), digest, seconds(now));
        }
        book.commit()?;
        Ok(effects)
    }
}

/// What the line is to a ledger with this row of its serial number.
pub(crate) fn effect(event: &RowEvent, row: Option<&LedgerEntry>) -> LineEffect {
    let Some(row) = row else {
        return match event {
            RowEvent::Issued(..) | RowEvent::Abandoned(_) => LineEffect::Row,
            RowEvent::Revoked(..) => LineEffect::NoRow,
            RowEvent::Reserved(_) => LineEffect::Contradiction,
        };
    };
    let is_same = match (event, &row.stage) {
        (RowEvent::Issued(_, record), RowStage::Issued(known)) => known.issued.digest == record.issued.digest,
        (RowEvent::Abandoned(intent), RowStage::Abandoned) => intent.to_be_signed == row.intent.to_be_signed,
        // The first revocation stands, whatever another ledger says.
        (RowEvent::Revoked(..), _) if row.revocation.is_none() => return LineEffect::Revocation,
        (RowEvent::Revoked(..), _) => true,
        _ => false,
    };
    if is_same { LineEffect::Known } else { LineEffect::Contradiction }
}

impl Book {
    fn import(&mut self, line: &RowLine) -> Result<LineEffect, Error> {
        let found = by_serial(self.connection(), self.serials(), line.event.serial())?;
        let effect = effect(&line.event, found.as_ref().map(|(_, row)| row));
        let place = line.cursor.as_ref().and_then(ExportPlace::of).unwrap_or_default();
        match (effect, &line.event, found) {
            (LineEffect::Row, RowEvent::Issued(intent, record), _) => {
                let number = self.import_row(intent, place)?;
                self.record_at(number, record)?;
            }
            (LineEffect::Row, RowEvent::Abandoned(intent), _) => {
                let number = self.import_row(intent, place)?;
                self.abandon(number, Abandonment::Imported, seconds(intent.at))?;
            }
            (LineEffect::Revocation, RowEvent::Revoked(_, revocation), Some((number, row))) => {
                go_on_behind(self.connection(), place.revocation - 1)?;
                self.write_revocation(number, &row.intent, revocation)?;
            }
            _ => {}
        }
        Ok(effect)
    }

    fn import_relayed(&mut self, event: &RelayEvent) -> Result<RelayedEffects, Error> {
        let held = match event {
            RelayEvent::Certificate(of) => relay::place_of_any(self.connection(), &of.digest())?,
            RelayEvent::Request(_) | RelayEvent::Closed(_) => None,
        };
        let replayed = self.relay_replay(event)?;
        Ok(match (event, replayed) {
            (_, Replayed::NoRow) => RelayedEffects::of(LineEffect::NoRow),
            (_, Replayed::Contradiction) => RelayedEffects::of(LineEffect::Contradiction),
            (RelayEvent::Certificate(_), Replayed::Known) => RelayedEffects::of_certificate(false, false),
            (RelayEvent::Certificate(_), _) => {
                RelayedEffects::of_certificate(held.is_none(), replayed == Replayed::Revocation)
            }
            (_, Replayed::Row | Replayed::Revocation) => RelayedEffects::of(LineEffect::Row),
            (_, Replayed::Known) => RelayedEffects::of(LineEffect::Known),
        })
    }

    /// Reserves a row for a request of another ledger: at its place, if that is free.
    fn import_row(&mut self, intent: &Intent, place: ExportPlace) -> Result<i64, Error> {
        let number = self.number_for(&intent.serial)?;
        self.go_on_at(place.row, seconds(intent.at));
        self.reserve(intent, number, short_device(&intent.device))?;
        Ok(number)
    }

    /// The number that the serial number leads to, if it was made with the key of this ledger; else the next one, which is noted.
    fn number_for(&self, serial: &Serial) -> Result<i64, Error> {
        let (numbers, own) = (self.tally().numbers, i64::try_from(self.serials().number(serial)));
        let is_own = |number: &i64| {
            *number > 0 && *number <= numbers.saturating_add(AHEAD_MAX) && *number >> LIFE_BITS <= numbers >> LIFE_BITS
        };
        if let Some(number) = own.ok().filter(is_own)
            && !self.connection().prepare_cached("SELECT 1 FROM intent WHERE number = ?1")?.exists([number])?
        {
            return Ok(number);
        }
        foreign::note(self.connection(), serial, numbers + 1)?;
        Ok(numbers + 1)
    }
}

/// The next revocation stands behind this one in the order of revocations.
fn go_on_behind(connection: &Connection, revocation: i64) -> Result<(), Error> {
    let last = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'revocation_order'";
    let last: i64 = connection.prepare_cached(last)?.query_row([], |row| row.get(0))?;
    if revocation <= last {
        return Ok(());
    }
    let sql = "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'revocation_order'";
    if connection.prepare_cached(sql)?.execute([revocation])? == 0 {
        let sql = "INSERT INTO sqlite_sequence (name, seq) VALUES ('revocation_order', ?1)";
        connection.prepare_cached(sql)?.execute([revocation])?;
    }
    Ok(())
}
