//! Writes the lines of an export into a ledger: an empty one, or one that lacks these rows. No server has it open meanwhile.
//!
//! Everything is checked before the first row is written: each line is whole, each certificate is what its line says, and no line contradicts another
//! one or the ledger. A line that the ledger has already changes nothing, so that an import that was interrupted is run again.
//!
//! A line is refused if it would stop the ledger from issuing: no row is dated before an earlier one, and places and revocations are counted upwards. So
//! its times are not after the clock, and its cursor is one that a ledger reaches.
//!
//! What a Registrar relayed is imported too, from the lines of `export --relayed`: a request keeps its number, since its certificates are found by
//! that, so a ledger that has another request of the same number refuses the line.
//!
//! A row gets the place that its line names, or one behind the last row of the ledger. Its serial number leads to it if it was made with the key of
//! this ledger; for the serial numbers of another key there is a table.

mod relayed;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::{Actor, BEHIND_MAX};
use pki::{Certificate, Digest};
use rusqlite::{Connection, Error, OptionalExtension};
use rustls_pki_types::UnixTime;

use self::relayed::SeenRelayed;
use crate::LedgerSettings;
use crate::export_place::ExportPlace;
use crate::fault::OpenProblem;
use crate::line::{LINE_BYTES_MAX, LineFault, RowEvent};
use crate::relay_line::RelayEvent;
use crate::seconds::rfc3339;
use crate::sqlite::import::{
    ExportedLine, Imported, Importer, KnownRows, LineEffect, RelayedEffects, TrialLedger, effect,
};
use crate::sqlite::{Fresh, relay};
use crate::verify::{RowFlaw, certificate_of};

/// Lines of one transaction.
const LINES_AT_ONCE: usize = 512;

/// The last place that a cursor may name, and the last revocation: a ledger that counts a million a second reaches it in nine years. Each is counted
/// upwards from what was imported, so a higher one would leave no room for the rows that follow.
const PLACE_MAX: i64 = 1 << 48;

/// What is to be imported.
#[derive(Clone, Copy, Debug)]
pub struct ImportRequest<'a> {
    /// The file of lines.
    pub lines: &'a Path,
    /// The CAs whose signatures are checked.
    pub issuers: &'a [Arc<Certificate>],
    /// Who asks for it.
    pub actor: &'a Actor,
    /// The time now.
    pub now: UnixTime,
    /// Checks everything, and writes nothing.
    pub dry_run: bool,
}

/// What was imported, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Lines of the file.
    pub lines: u64,
    /// Rows that the ledger lacked.
    pub rows: u64,
    /// Requests that a Registrar relayed, and that it lacked.
    pub relayed: u64,
    /// Certificates that came back for them, and that it lacked.
    pub relayed_certificates: u64,
    /// Revocations that it lacked, and marks of relayed certificates.
    pub revocations: u64,
    /// Lines that it had already.
    pub known: u64,
    /// Certificates of CAs that were not given, and relayed ones: their signatures were not checked.
    pub unsigned: u64,
}

/// Imports lines into the ledger in `file`. `progress` is told octets done and octets in all, of the check and then of the writing.
///
/// # Errors
/// [`ImportFault`] names the file and the line. If a line is at fault, nothing was written.
pub fn import(
    file: &Path,
    fresh: Fresh,
    settings: &LedgerSettings,
    request: ImportRequest<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<ImportReport, ImportFault> {
    let ledger = |problem: OpenProblem| ImportFault::Ledger { file: file.to_owned(), problem };
    if request.dry_run {
        let trial = TrialLedger::open(file, fresh, settings).map_err(ledger)?;
        let mut source = Source::open(request.lines)?;
        let total = source.length;
        let checked = check(trial.rows(), &mut source, &request, &mut |done| progress(done, total));
        return checked.map(|(report, _)| report);
    }
    let mut importer = Importer::open(file, fresh, settings, request.now).map_err(ledger)?;
    let mut source = Source::open(request.lines)?;
    let total = source.length;
    let (mut report, digest) = check(importer.rows(), &mut source, &request, &mut |done| progress(done, total * 2))?;
    report = ImportReport { lines: report.lines, unsigned: report.unsigned, ..ImportReport::default() };
    let mut source = Source::open(request.lines)?;
    let mut batch = Vec::with_capacity(LINES_AT_ONCE);
    loop {
        batch.clear();
        while batch.len() < LINES_AT_ONCE
            && let Some(line) = source.next()?
        {
            batch.push(line);
        }
        if batch.is_empty() {
            break;
        }
        for imported in importer.write(&batch, request.actor, &digest, request.now).map_err(ledger)? {
            match imported {
                Imported::Row(effect) => report.count(effect),
                Imported::Relay(effects) => report.count_relayed(effects),
            }
        }
        progress(total + source.octets, total * 2);
    }
    if source.digest() != digest {
        return Err(ImportFault::Changed { file: request.lines.to_owned() });
    }
    Ok(report)
}

impl ImportReport {
    fn count(&mut self, effect: LineEffect) {
        match effect {
            LineEffect::Row => self.rows += 1,
            LineEffect::Revocation => self.revocations += 1,
            LineEffect::Known | LineEffect::NoRow | LineEffect::Contradiction => self.known += 1,
        }
    }

    fn count_relayed(&mut self, RelayedEffects { effect, marks, is_certificate }: RelayedEffects) {
        match effect {
            LineEffect::Row if is_certificate => self.relayed_certificates += 1,
            LineEffect::Row => self.relayed += 1,
            effect => self.count(effect),
        }
        self.revocations += u64::from(marks);
    }
}

/// Checks every line, and writes nothing into the ledger. Says the digest of the file too.
fn check(
    known: KnownRows<'_>,
    source: &mut Source,
    request: &ImportRequest<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<(ImportReport, Digest), ImportFault> {
    let mut report = ImportReport::default();
    let database = |error: Error| ImportFault::Database { error };
    let seen = Seen::begin(known.connection).map_err(database)?;
    let seen_relayed = SeenRelayed::begin(known.connection).map_err(database)?;
    while let Some(line) = source.next()? {
        let wrong = |flaw| ImportFault::Line { file: request.lines.to_owned(), line: source.number, flaw };
        expect_reachable(&line, request.now).map_err(wrong)?;
        match &line {
            ExportedLine::Row(line) => {
                check_row(known, &seen, (&line.event, request), &mut report).map_err(database)?.map_err(wrong)?;
            }
            ExportedLine::Relay(event) => {
                check_relayed(&seen_relayed, event, &mut report).map_err(database)?.map_err(wrong)?;
            }
        }
        report.lines += 1;
        if report.lines.is_multiple_of(LINES_AT_ONCE as u64) {
            progress(source.octets);
        }
    }
    seen.end().map_err(database)?;
    seen_relayed.end().map_err(database)?;
    Ok((report, source.digest()))
}

/// Checks a line about a row of a CA, and counts what it brings.
fn check_row(
    known: KnownRows<'_>,
    seen: &Seen<'_>,
    (event, request): (&RowEvent, &ImportRequest<'_>),
    report: &mut ImportReport,
) -> Result<Result<(), ImportFlaw>, Error> {
    if let RowEvent::Issued(intent, record) = event {
        match certificate_of(intent, &record.issued, request.issuers) {
            Ok(is_signed) => report.unsigned += u64::from(!is_signed),
            Err(flaw) => return Ok(Err(ImportFlaw::Row(flaw))),
        }
    }
    let row = known.row_of(event.serial())?;
    let effect = effect(event, row.as_ref());
    let of_file = seen.note(event)?;
    let effect = match (effect, of_file) {
        (LineEffect::Contradiction, _) | (_, LineEffect::Contradiction) => LineEffect::Contradiction,
        (LineEffect::NoRow | LineEffect::Row | LineEffect::Revocation, of_file) => of_file,
        (LineEffect::Known, _) => LineEffect::Known,
    };
    match effect {
        LineEffect::Contradiction => return Ok(Err(ImportFlaw::Contradiction)),
        LineEffect::NoRow if row.is_none() => return Ok(Err(ImportFlaw::NoRow)),
        LineEffect::NoRow => report.count(LineEffect::Revocation),
        effect => report.count(effect),
    }
    Ok(Ok(()))
}

/// The same for a line about a relayed request.
fn check_relayed(
    seen: &SeenRelayed<'_>,
    event: &RelayEvent,
    report: &mut ImportReport,
) -> Result<Result<(), ImportFlaw>, Error> {
    if let RelayEvent::Certificate(of) = event {
        if let Some(what) = relayed::differs(of) {
            return Ok(Err(ImportFlaw::Row(RowFlaw::Differs(what))));
        }
        report.unsigned += 1;
    }
    let effects = seen.note(event)?;
    match effects.effect {
        LineEffect::Contradiction => return Ok(Err(ImportFlaw::RelayedContradiction)),
        LineEffect::NoRow => return Ok(Err(ImportFlaw::NoRequest)),
        LineEffect::Known | LineEffect::Row | LineEffect::Revocation => report.count_relayed(effects),
    }
    Ok(Ok(()))
}

/// Refuses a line behind which the ledger could not go on.
fn expect_reachable(line: &ExportedLine, now: UnixTime) -> Result<(), ImportFlaw> {
    let ahead = line.latest().as_secs().saturating_sub(now.as_secs());
    if ahead > BEHIND_MAX.as_secs() {
        return Err(ImportFlaw::Ahead { at: line.latest(), seconds: ahead });
    }
    let line = match line {
        ExportedLine::Row(line) => line,
        // Requests are numbered upwards, too.
        ExportedLine::Relay(event) if relay::number(event.id()) > PLACE_MAX => return Err(ImportFlaw::Cursor),
        ExportedLine::Relay(_) => return Ok(()),
    };
    let Some(cursor) = &line.cursor else { return Ok(()) };
    match ExportPlace::of(cursor) {
        Some(place) if place.row <= PLACE_MAX && place.revocation <= PLACE_MAX => Ok(()),
        _ => Err(ImportFlaw::Cursor),
    }
}

/// The rows of the file so far, in a table of the connection that is gone afterwards: memory does not grow with the lines.
struct Seen<'a>(&'a Connection);

impl<'a> Seen<'a> {
    fn begin(connection: &'a Connection) -> Result<Self, Error> {
        connection.execute_batch(
            "PRAGMA temp_store = FILE;
CREATE TEMP TABLE seen (serial BLOB PRIMARY KEY, content BLOB NOT NULL, is_revoked INTEGER NOT NULL) WITHOUT ROWID;",
        )?;
        Ok(Self(connection))
    }

    /// What the line is to the lines before it.
    fn note(&self, event: &RowEvent) -> Result<LineEffect, Error> {
        let serial = &event.serial().as_bytes()[..];
        let sql = "SELECT content, is_revoked FROM temp.seen WHERE serial = ?1";
        let before: Option<(Vec<u8>, bool)> =
            self.0.prepare_cached(sql)?.query_row([serial], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let content = match event {
            RowEvent::Issued(_, record) => record.issued.digest,
            // Given up: it has no certificate, and no certificate has this digest.
            RowEvent::Abandoned(intent) => Digest::of_parts(&[b"abandoned", intent.to_be_signed.as_bytes()]),
            RowEvent::Reserved(_) => return Ok(LineEffect::Contradiction),
            RowEvent::Revoked(..) => {
                let sql = "UPDATE temp.seen SET is_revoked = 1 WHERE serial = ?1";
                self.0.prepare_cached(sql)?.execute([serial])?;
                return Ok(match before {
                    None => LineEffect::NoRow,
                    Some((_, true)) => LineEffect::Known,
                    Some((_, false)) => LineEffect::Revocation,
                });
            }
        };
        if let Some((before, _)) = before {
            let is_same = before == content.as_bytes();
            return Ok(if is_same { LineEffect::Known } else { LineEffect::Contradiction });
        }
        let sql = "INSERT INTO temp.seen VALUES (?1, ?2, 0)";
        self.0.prepare_cached(sql)?.execute((serial, &content.as_bytes()[..]))?;
        Ok(LineEffect::Row)
    }

    fn end(self) -> Result<(), Error> {
        self.0.flush_prepared_statement_cache();
        self.0.execute_batch("DROP TABLE temp.seen")
    }
}

/// The file of lines.
struct Source {
    path: PathBuf,
    reader: BufReader<File>,
    buffer: Vec<u8>,
    /// The last line, from 1.
    number: u64,
    octets: u64,
    length: u64,
    digest: Digest,
}

impl Source {
    fn open(path: &Path) -> Result<Self, ImportFault> {
        let fault = |error| ImportFault::File { file: path.to_owned(), error };
        let file = File::open(path).map_err(fault)?;
        let length = file.metadata().map_err(fault)?.len();
        let (reader, digest) = (BufReader::new(file), Digest::of(b""));
        Ok(Self { path: path.to_owned(), reader, buffer: Vec::new(), number: 0, octets: 0, length, digest })
    }

    /// A chain of the digests of its lines: which file it was.
    fn digest(&self) -> Digest {
        self.digest
    }

    fn next(&mut self) -> Result<Option<ExportedLine>, ImportFault> {
        use io::Read as _;
        self.buffer.clear();
        let longest = u64::try_from(LINE_BYTES_MAX).unwrap_or(0) + 1;
        let read = self.reader.by_ref().take(longest).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|error| ImportFault::File { file: self.path.clone(), error })?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.octets += u64::try_from(read).unwrap_or(0);
        self.digest = Digest::of_parts(&[self.digest.as_bytes(), &self.buffer]);
        let wrong = |flaw| ImportFault::Line { file: self.path.clone(), line: self.number, flaw };
        let Some(text) = self.buffer.strip_suffix(b"\n") else {
            return Err(wrong(if read > LINE_BYTES_MAX {
                ImportFlaw::Line(LineFault::TooLong(read))
            } else {
                ImportFlaw::Cut
            }));
        };
        let text = std::str::from_utf8(text).map_err(|_| wrong(ImportFlaw::Line(LineFault::NotJson)))?;
        ExportedLine::read(text).map(Some).map_err(|fault| wrong(ImportFlaw::Line(fault)))
    }
}

/// Why nothing, or not everything, was imported.
#[derive(Debug)]
pub enum ImportFault {
    /// The ledger cannot be used. Lines that were written before stay; the next import goes on.
    Ledger {
        /// Its file.
        file: PathBuf,
        /// What is wrong with it.
        problem: OpenProblem,
    },
    /// The ledger cannot be read.
    Database {
        /// What SQLite says.
        error: Error,
    },
    /// The file of lines cannot be read.
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A line is at fault, and nothing was written.
    Line {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        flaw: ImportFlaw,
    },
    /// The file was changed after it was checked.
    Changed {
        /// The file.
        file: PathBuf,
    },
}

/// What is wrong with a line.
#[derive(Debug)]
pub enum ImportFlaw {
    /// It is not a line of an export.
    Line(LineFault),
    /// It does not end with a newline: the file was cut.
    Cut,
    /// It has this time, so many seconds after the clock.
    Ahead {
        /// The time.
        at: UnixTime,
        /// How far it is ahead.
        seconds: u64,
    },
    /// Its cursor, or the number of its relayed request, is none that a ledger reaches.
    Cursor,
    /// Its certificate is not what the line says.
    Row(RowFlaw),
    /// A line before it or the ledger says something else of its serial number.
    Contradiction,
    /// It revokes a row that neither the ledger nor a line before it has.
    NoRow,
    /// A line before it or the ledger says something else of the request of its number, or of its certificate.
    RelayedContradiction,
    /// It has a certificate for a relayed request that neither the ledger nor a line before it has.
    NoRequest,
}

impl fmt::Display for ImportFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger { file, problem } => write!(f, "the ledger {}: {problem}", file.display()),
            Self::Database { error } => write!(f, "cannot read the ledger: {error}"),
            Self::File { file, error } => write!(f, "cannot read {}: {error}", file.display()),
            Self::Line { file, line, flaw } => {
                write!(f, "{}, line {line}: {flaw}. Nothing was imported", file.display())
            }
            Self::Changed { file } => write!(
                f,
                "{} was changed while it was imported: what was read before was checked, and what came then was not. Run `muster ledger verify`, and import it again",
                file.display()
            ),
        }
    }
}

impl fmt::Display for ImportFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(fault) => fault.fmt(f),
            Self::Cut => f.write_str("the end of the line is missing: the file was cut"),
            Self::Ahead { at, seconds } => write!(
                f,
                "its time {} is {seconds} seconds after the clock of this machine. No row is dated before an earlier one, so nothing could be issued until then. Set the clock, or leave the line out",
                rfc3339(*at)
            ),
            Self::Cursor => {
                f.write_str("its cursor, or the number of its request, is not one that a ledger reaches: the line was changed")
            }
            Self::Row(flaw) => flaw.fmt(f),
            Self::Contradiction => {
                f.write_str("the ledger, or a line before this one, says something else of this serial number")
            }
            Self::NoRow => f.write_str("it revokes a row that neither the ledger nor a line before it has"),
            Self::RelayedContradiction => f.write_str(
                "the ledger, or a line before this one, has another request of its number, or has its certificate for another request",
            ),
            Self::NoRequest => f.write_str(
                "it has a certificate for a relayed request that neither the ledger nor a line before it has",
            ),
        }
    }
}

impl std::error::Error for ImportFault {}
