//! Resumes a ledger that was restored from a backup: brings back what its journal has, and begins a new life.
//!
//! 1. Everything is checked before anything is changed: each journal belongs to this ledger, its lines are whole, no line contradicts a row, and each
//!    certificate is what its line says and is signed by its CA. No line has a time after the clock: no row is dated before an earlier one, so nothing
//!    could be issued until then.
//! 2. The restore is marked in the audit, signed with its key, so that checkpoints of the lost part are not taken for a cut tail. Serial numbers go on
//!    from a number behind every one that the lost part can have drawn: the key stays, so that old serial numbers still lead to their rows, and a
//!    permutation makes no two numbers equal.
//! 3. The rows and revocations of the journal are written. An interrupted resume leaves a ledger that no server opens, and is run again.
//! 4. The journal of the lost life is closed, and the next one begins.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::{Actor, BEHIND_MAX, GapTreatment, LedgerEntry, RowStage, State};
use pki::Certificate;
use pki::issue::Serial;
use rusqlite::Connection;
use rustls_pki_types::UnixTime;

use crate::audit::AuditKey;
use crate::fault::{OpenFault, OpenProblem};
use crate::journal::event::JournalEvent;
use crate::journal::frame::LedgerId;
use crate::journal::reading::{Next, Reading};
use crate::journal::segments;
use crate::journal::{JournalFault, JournalProblem, JournalSettings};
use crate::line::RowEvent;
use crate::relay_line::RelayEvent;
use crate::seconds::{rfc3339, seconds, time};
use crate::serial::SerialCipher;
use crate::sqlite::locate::by_serial;
use crate::sqlite::own_log::expect_own_log;
use crate::sqlite::pruned::PrunedRows;
use crate::sqlite::restoring::{self, Restoring};
use crate::sqlite::{Beside, LedgerSettings, connect_beside, connect_trial, lock, lock_if_there, relay, row, schema};
use crate::verify::{RowFlaw, RowReport, one_row};

/// How long before the moment of its issuance a certificate can begin, and how wrong two clocks may be.
const GAP_MARGIN: i64 = 2 * 3_600;

/// The first day of the numbering of lives: a second restore of the same backup does not draw the numbers of the first one, even if no journal shows
/// them.
const LIVES_BEGIN: i64 = 1_767_225_600;

/// What is to be resumed, and how.
#[derive(Clone, Copy, Debug)]
pub struct ResumeRequest<'a> {
    /// The ledger.
    pub file: &'a Path,
    /// Its audit and its journal.
    pub settings: &'a LedgerSettings,
    /// Journals beside the one of the settings and its closed segments.
    pub journals: &'a [PathBuf],
    /// The CAs whose signatures are checked.
    pub issuers: &'a [Arc<Certificate>],
    /// What becomes of certificates that no journal brings back, until a time. Without it they were never issued.
    pub gap: Option<(GapTreatment, UnixTime)>,
    /// The time now.
    pub now: UnixTime,
    /// Who asks for it.
    pub actor: &'a Actor,
}

/// What a resume brings back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResumeReport {
    /// The latest row of the restored ledger; `None` if it has none.
    pub restored_until: Option<UnixTime>,
    /// The latest time in the journals; `None` if there are none.
    pub journal_until: Option<UnixTime>,
    /// The journals, in their order.
    pub journals: Vec<PathBuf>,
    /// Rows that the ledger lacks.
    pub rows: u64,
    /// Certificates that a Registrar relayed, and that it lacks.
    pub relayed: u64,
    /// Revocations that it lacks.
    pub revocations: u64,
    /// Rows of the journals that were pruned: they stay removed.
    pub pruned: u64,
    /// Revocations of rows that neither the ledger nor a journal has.
    pub without_row: u64,
    /// Certificates whose CA is not among those that were given: their signature was not checked.
    pub unsigned: u64,
    /// Certificates of the journal whose row the ledger has given up since the restore: they stay given up.
    pub given_up: u64,
    /// Lines of a last batch that was never synced, so that nobody got an answer by it.
    pub unfinished: u64,
    /// The audit's rows between two journals, or between the ledger and the first journal, of which no journal was found.
    pub hole: Option<(i64, i64)>,
    /// The highest number of a row, before and after.
    pub numbers: (i64, i64),
    /// The life that begins.
    pub life: i64,
}

/// A step of a resume, for whoever shows the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeStep {
    /// Bytes of the journals are checked.
    Check,
    /// Bytes of the journals are written to the ledger.
    Write,
}

/// Who is told the step, how much is done and how much there is.
pub type ResumeProgress<'p> = &'p mut dyn FnMut(ResumeStep, u64, u64);

/// Checks everything, and says what [`resume`] would do. No file is written or created.
///
/// # Errors
/// [`ResumeFault`] names the file.
pub fn plan(request: &ResumeRequest<'_>, progress: ResumeProgress<'_>) -> Result<ResumeReport, ResumeFault> {
    let _lock = lock_if_there(request.file).map_err(|problem| fault(request, problem))?;
    let connect = || connect_trial(request.file).map_err(|problem| fault(request, problem));
    Plan::make(request, &connect, progress).map(|plan| plan.report)
}

/// Checks everything, and then resumes the ledger.
///
/// # Errors
/// [`ResumeFault`] names the file. If writing failed, the ledger is not opened by a server until a resume came to its end.
pub fn resume(request: &ResumeRequest<'_>, progress: ResumeProgress<'_>) -> Result<ResumeReport, ResumeFault> {
    let _lock = lock(request.file).map_err(|problem| fault(request, problem))?;
    let connect = || connect_beside(request.file).map_err(ResumeFault::Open);
    let plan = Plan::make(request, &connect, progress)?;
    let written = plan.write(request, progress);
    written.map_err(|problem| fault(request, problem))?;
    Ok(plan.report)
}

fn fault(request: &ResumeRequest<'_>, problem: OpenProblem) -> ResumeFault {
    ResumeFault::Open(OpenFault { file: request.file.to_owned(), problem })
}

/// What was checked.
struct Plan {
    report: ResumeReport,
    ledger: LedgerId,
    bytes: u64,
}

impl Plan {
    /// The ledger is read through a connection that `connect` makes.
    fn make(
        request: &ResumeRequest<'_>,
        connect: &dyn Fn() -> Result<Beside, ResumeFault>,
        progress: ResumeProgress<'_>,
    ) -> Result<Self, ResumeFault> {
        if !request.file.exists() {
            return Err(ResumeFault::NoLedger(request.file.to_owned()));
        }
        let open = |problem| fault(request, problem);
        expect_own_log(request.file, request.settings.audit.node).map_err(open)?;
        let connection = connect()?;
        schema::require(&connection, 2).map_err(open)?;
        let meta = schema::read(&connection).map_err(open)?;
        let ledger = LedgerId::new(&meta.serial_key);
        let files = journals(request, ledger)?;
        let state = restoring::state(&connection, request.settings.audit.node).map_err(|error| open(error.into()))?;
        let mut check = Check {
            connection: &connection,
            serials: SerialCipher::new(&meta.serial_key),
            issuers: request.issuers,
            now: request.now,
            new: BTreeSet::new(),
            relayed: BTreeSet::new(),
            revoked: BTreeSet::new(),
            pruned: PrunedRows::read(&connection).map_err(|error| open(error.into()))?,
            report: ResumeReport::default(),
            covered: (state.life, state.head.sequence),
            life: state.life,
        };
        let bytes = files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
        let mut done = 0;
        for (index, file) in files.iter().enumerate() {
            let read = &mut |read| progress(ResumeStep::Check, done + read, bytes);
            done += check.file(file, ledger, index + 1 == files.len(), read)?;
        }
        let mut report = check.report;
        report.journals = files;
        report.restored_until = (state.time > 0).then(|| time(state.time));
        let days = (seconds(request.now) - LIVES_BEGIN) / 86_400;
        report.life = days.max(check.life + 1).min(restoring::LIFE_MAX);
        report.numbers.0 = report.numbers.0.max(state.numbers);
        report.numbers.1 = report.life << restoring::LIFE_BITS;
        Ok(Self { report, ledger, bytes })
    }

    fn write(&self, request: &ResumeRequest<'_>, progress: ResumeProgress<'_>) -> Result<(), OpenProblem> {
        let key = AuditKey::read_or_make(&request.settings.audit.key).map_err(OpenProblem::AuditKey)?;
        let mut restoring = Restoring::open(request.file, request.settings.audit.node)?;
        let from = self.report.restored_until.map_or(0, seconds).saturating_sub(GAP_MARGIN);
        restoring.begin(&restoring::Beginning {
            life: self.report.life,
            gap: (from, seconds(request.now)),
            treatment: request.gap,
            now: request.now,
            actor: request.actor,
            key: &key,
        })?;
        let mut done = 0;
        for file in &self.report.journals {
            let mut reading = Reading::open(file, self.ledger).map_err(OpenProblem::Journal)?;
            while let Next::Batch(batch) = reading.next().map_err(OpenProblem::Journal)? {
                restoring.write(&batch.events)?;
                progress(ResumeStep::Write, done + reading.bytes, self.bytes);
            }
            done += reading.bytes;
        }
        restoring.end()?;
        let journal = request.settings.journal.as_ref().map(JournalSettings::resolved);
        restoring.begin_journal(journal.as_ref(), self.ledger)
    }
}

/// The journals of a request in their order, each once.
fn journals(request: &ResumeRequest<'_>, ledger: LedgerId) -> Result<Vec<PathBuf>, ResumeFault> {
    let mut files: BTreeSet<PathBuf> = request.journals.iter().cloned().collect();
    if let Some(settings) = request.settings.journal.as_ref().map(JournalSettings::resolved) {
        let closed = segments::closed(&settings.file)
            .map_err(|error| ResumeFault::Journal(settings.fault(JournalProblem::File(error))))?;
        files.extend(closed.into_iter().map(|segment| segment.file));
        if settings.file.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            files.insert(settings.file.clone());
        }
    }
    let mut ordered = Vec::new();
    for file in files {
        let header = Reading::open(&file, ledger).map_err(ResumeFault::Journal)?.header;
        ordered.push((header.life, header.after.sequence, file));
    }
    ordered.sort();
    Ok(ordered.into_iter().map(|(.., file)| file).collect())
}

/// Checks journals against the restored ledger.
struct Check<'a> {
    connection: &'a Connection,
    serials: SerialCipher,
    issuers: &'a [Arc<Certificate>],
    now: UnixTime,
    /// Rows that the ledger gets: some forty bytes for each.
    new: BTreeSet<Serial>,
    /// Relayed certificates that it gets, by their digest, and marks of them.
    relayed: BTreeSet<([u8; 32], bool)>,
    /// Rows that will be revoked.
    revoked: BTreeSet<Serial>,
    pruned: PrunedRows,
    report: ResumeReport,
    /// Up to where the ledger and the journals so far have everything: life and row of the audit.
    covered: (i64, i64),
    /// The highest life.
    life: i64,
}

impl Check<'_> {
    /// Checks one journal; says how many bytes it has.
    fn file(
        &mut self,
        file: &Path,
        ledger: LedgerId,
        is_last: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, ResumeFault> {
        let mut reading = Reading::open(file, ledger).map_err(ResumeFault::Journal)?;
        let (life, after) = (reading.header.life, reading.header.after.sequence);
        self.life = self.life.max(life);
        if life == self.covered.0 && after > self.covered.1 {
            self.report.hole = self.report.hole.or(Some((self.covered.1, after)));
        }
        loop {
            match reading.next().map_err(ResumeFault::Journal)? {
                Next::Batch(batch) => {
                    for event in &batch.events {
                        self.expect_past(event)
                            .map_err(|problem| ResumeFault::Journal(JournalFault { file: file.to_owned(), problem }))?;
                        self.journal_event(event).map_err(|what| {
                            ResumeFault::Journal(JournalFault {
                                file: file.to_owned(),
                                problem: JournalProblem::Contradiction(what),
                            })
                        })?;
                    }
                    self.covered = (life, self.covered.1.max(batch.at.sequence));
                    progress(reading.bytes);
                }
                Next::End { unfinished } if unfinished > 0 && !is_last => {
                    return Err(ResumeFault::Journal(JournalFault {
                        file: file.to_owned(),
                        problem: JournalProblem::Cut,
                    }));
                }
                Next::End { unfinished } => {
                    self.report.unfinished += unfinished;
                    return Ok(reading.bytes);
                }
            }
        }
    }

    /// Refuses a line behind which the ledger could not issue, as an import does.
    fn expect_past(&self, event: &JournalEvent) -> Result<(), JournalProblem> {
        let at = event.latest();
        let seconds = at.as_secs().saturating_sub(self.now.as_secs());
        if seconds <= BEHIND_MAX.as_secs() {
            return Ok(());
        }
        Err(JournalProblem::Ahead { what: format!("{event} has the time {}", rfc3339(at)).into(), seconds })
    }

    fn journal_event(&mut self, event: &JournalEvent) -> Result<(), String> {
        let relayed = match event {
            JournalEvent::Row(event) => return self.event(event),
            JournalEvent::Relay(event) => event,
        };
        let damaged = |error: rusqlite::Error| error.to_string();
        if relay::contradicts(self.connection, relayed).map_err(damaged)? {
            return Err(format!("{event}: the ledger has another request of this number"));
        }
        if let RelayEvent::Certificate(of) = relayed {
            let digest = of.digest();
            let held = relay::held(self.connection, &digest).map_err(damaged)?;
            let is_new = held.is_none() && self.relayed.insert((*digest.as_bytes(), false));
            self.report.relayed += u64::from(is_new);
            let is_marked = held.is_some_and(|state| state != State::Good) || of.revocation.is_none();
            let is_mark_new = !is_marked && self.relayed.insert((*digest.as_bytes(), true));
            self.report.revocations += u64::from(is_mark_new);
        }
        self.report.journal_until = self.report.journal_until.max(Some(event.latest()));
        Ok(())
    }

    fn event(&mut self, event: &RowEvent) -> Result<(), String> {
        let serial = *event.serial();
        let contradiction = |what: &str| format!("serial number {serial}: {what}");
        let row = self.row(&serial).map_err(|what| contradiction(&what))?;
        let at = match event {
            RowEvent::Issued(intent, record) => {
                self.certificate(event).map_err(|flaw| contradiction(&flaw.to_string()))?;
                if let Some(held) = row.as_ref().and_then(LedgerEntry::issued)
                    && held.digest != record.issued.digest
                {
                    return Err(contradiction("the ledger has another certificate"));
                }
                if row.is_none() && self.pruned.has(intent) {
                    self.report.pruned += 1;
                    return Ok(());
                }
                let is_given_up = row.as_ref().is_some_and(|row| matches!(row.stage, RowStage::Abandoned));
                self.report.given_up += u64::from(is_given_up);
                let is_new = row.is_none_or(|row| matches!(row.stage, RowStage::Reserved));
                self.report.rows += u64::from(is_new && self.new.insert(serial));
                intent.at
            }
            RowEvent::Abandoned(intent) if row.is_none() && self.pruned.has(intent) => {
                self.report.pruned += 1;
                return Ok(());
            }
            RowEvent::Abandoned(intent) => {
                let is_new = row.is_none_or(|row| matches!(row.stage, RowStage::Reserved));
                self.report.rows += u64::from(is_new && self.new.insert(serial));
                intent.at
            }
            RowEvent::Reserved(intent) => intent.at,
            RowEvent::Revoked(_, revocation) => {
                if row.is_none() && !self.new.contains(&serial) {
                    // That of a pruned row stays removed with it.
                    self.report.without_row += u64::from(!self.pruned.explains(event, &self.serials));
                } else if row.is_none_or(|row| row.revocation.is_none()) {
                    self.report.revocations += u64::from(self.revoked.insert(serial));
                }
                revocation.at
            }
        };
        if let Some(number) = self.own_number(&serial) {
            self.report.numbers.0 = self.report.numbers.0.max(number);
        }
        if self.report.journal_until.is_none_or(|until| until < at) {
            self.report.journal_until = Some(at);
        }
        Ok(())
    }

    /// The number that the serial number leads to, if a life of this ledger can have drawn it. Others are those of imported rows.
    fn own_number(&self, serial: &Serial) -> Option<i64> {
        let number = i64::try_from(self.serials.number(serial)).ok()?;
        (number > 0 && number >> restoring::LIFE_BITS <= self.life).then_some(number)
    }

    fn row(&self, serial: &Serial) -> Result<Option<LedgerEntry>, String> {
        let damaged = |error: rusqlite::Error| error.to_string();
        if let Some((_, row)) = by_serial(self.connection, &self.serials, serial).map_err(damaged)? {
            return Ok(Some(row));
        }
        let Some(number) = self.own_number(serial) else { return Ok(None) };
        match row::read(self.connection, number).map_err(damaged)? {
            Some(_) => Err("the ledger has another row of its number".to_owned()),
            None => Ok(None),
        }
    }

    /// The certificate is what its line says, and its CA has signed it.
    fn certificate(&mut self, event: &RowEvent) -> Result<(), RowFlaw> {
        let RowEvent::Issued(intent, record) = event else { return Ok(()) };
        let entry = LedgerEntry {
            cursor: authority::Cursor::from_bytes([0; 16]),
            intent: intent.clone(),
            stage: RowStage::Issued(record.clone()),
            revocation: None,
        };
        let mut report = RowReport::default();
        one_row(&entry, self.issuers, &mut report)?;
        self.report.unsigned += report.unsigned;
        Ok(())
    }
}

/// Why a ledger was not resumed.
#[derive(Debug)]
pub enum ResumeFault {
    /// There is no ledger in this file: a backup has to be restored first.
    NoLedger(PathBuf),
    /// The ledger cannot be used, or was not written to the end.
    Open(OpenFault),
    /// A journal cannot be used.
    Journal(JournalFault),
}

impl fmt::Display for ResumeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLedger(file) => {
                write!(f, "there is no ledger {}: copy a backup of it there first", file.display())
            }
            Self::Open(fault) => fault.fmt(f),
            Self::Journal(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for ResumeFault {}
