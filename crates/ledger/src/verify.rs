//! Checks every row of a ledger against the certificate that it holds, and names the first that is not what it says.
//!
//! It reads through a connection of its own, beside a running server or without one, a range of rows at a time, so that the log of the database is
//! shortened meanwhile. That means: each row is compared with its own certificate, index and records as they stood at one moment, and different rows
//! at different moments. Rows that come meanwhile are not looked at, and a row that is pruned meanwhile may be taken for one that is missing. SQLite's own
//! look at the whole file is one long reading, so it is left out while a server runs.
//!
//! What leads to rows is looked at from both ends: no row lacks its entry in an index, and no entry leads elsewhere; no revocation of a certificate that
//! has not ended lacks its entry in a revocation list, and no entry is of another revocation.
//!
//! Each row is also compared with what the audit says of it: a certificate without a record, a record without its row, its certificate or its revocation,
//! and what they both have and say differently. Of a row whose records were pruned only the rest is compared. What neither the certificate nor the
//! audit has, such as the digest of the CSR, can be changed without a trace. [`crate::audit::verify()`] says whether the audit itself is as it was written.

mod audited;
mod lists;
mod relayed;
mod structures;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::{Intent, Issued, LedgerEntry, RowStage};
use pki::issue::Serial;
use pki::{Certificate, Digest};
use rusqlite::{Connection, Error};
use rustls_pki_types::UnixTime;

use self::audited::Audited;
use crate::fault::OpenProblem;
use crate::serial::SerialCipher;
use crate::sqlite::{connect_beside, foreign, row, schema};

/// Rows that are looked at in one snapshot.
const PAGE_ROWS: i64 = 512;

/// What was found to be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowReport {
    /// Rows, whatever their stage.
    pub rows: u64,
    /// Certificates whose content and signature were checked.
    pub certificates: u64,
    /// Certificates of CAs whose certificate was not given: content checked, signature not.
    pub unsigned: u64,
    /// Rows that were given up.
    pub abandoned: u64,
    /// Rows that are revoked.
    pub revoked: u64,
    /// Requests that a Registrar relayed.
    pub relayed: u64,
    /// Certificates that came back for them: content checked, signature not.
    pub relayed_certificates: u64,
    /// Whether SQLite has looked at the whole file: not while a server runs.
    pub is_file_checked: bool,
}

/// The first row that is not what it says.
#[derive(Debug)]
pub struct RowFault {
    /// The file of the ledger.
    pub file: PathBuf,
    /// What finds the row.
    pub row: Option<FaultyRow>,
    /// What is wrong.
    pub flaw: RowFlaw,
}

/// What finds a faulty row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultyRow {
    /// Its number, the key of the table `intent`.
    pub number: i64,
    /// Its serial number, if that can be read.
    pub serial: Option<Serial>,
}

/// What is wrong with a ledger.
#[derive(Debug)]
pub enum RowFlaw {
    /// The file cannot be read as a ledger.
    Open(OpenProblem),
    /// SQLite cannot read a row, or finds its own structures damaged.
    Database(String),
    /// The row and its certificate differ in this.
    Differs(&'static str),
    /// A certificate is no certificate.
    Certificate(String),
    /// The signature of the certificate is not that of its CA.
    Signature,
    /// It has no row in another table: this is what it is, and the number is its key.
    Alone(&'static str),
    /// An index does not lead to the row, or says something else of it: a repeat of its request would not find it.
    Index,
    /// What the audit has about the row.
    Audit(&'static str),
    /// The audit has a record of this serial number, which leads to no row.
    Missing(String),
    /// A request that was relayed, by its number.
    Relayed {
        /// The key of the table `relay_request`.
        request: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A number that is kept is not the number of rows.
    Count {
        /// What is counted.
        what: &'static str,
        /// What is kept.
        kept: i64,
        /// What was counted.
        counted: i64,
    },
}

/// Checks the rows of the ledger in `file`. `issuers` are the CAs whose signatures are checked; `progress` is told rows done and rows in all.
///
/// # Errors
/// [`RowFault`] names the first fault and its row.
pub fn verify_rows(
    file: &Path,
    issuers: &[Arc<Certificate>],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<RowReport, RowFault> {
    let fault = |row, flaw| RowFault { file: file.to_owned(), row, flaw };
    let whole = |flaw| fault(None, flaw);
    let database = |error: Error| whole(RowFlaw::Database(error.to_string()));
    let connection = connect_beside(file).map_err(|fault| whole(RowFlaw::Open(fault.problem)))?;
    let meta = schema::read(&connection).map_err(|problem| whole(RowFlaw::Open(problem)))?;
    let serials = SerialCipher::new(&meta.serial_key);
    let is_file_checked = structures::check_file(&connection, file).map_err(whole)?;
    if let Some((number, what)) = structures::check_pairs(&connection).map_err(database)? {
        return Err(fault(Some(FaultyRow { number, serial: None }), RowFlaw::Alone(what)));
    }
    let before = Counts::read(&connection).map_err(database)?;
    let mut audited = Audited::begin(&connection, &serials).map_err(database)?;
    audited.read_on().map_err(database)?.map_err(whole)?;
    let mut work = Work { connection: &connection, serials: &serials, issuers, audited, after: 0 };
    let mut report = RowReport { is_file_checked, ..RowReport::default() };
    let total = u64::try_from(before.rows).unwrap_or(0);
    while work.page(before.places, &mut report).map_err(|(row, flaw)| fault(row, flaw))? {
        progress(report.rows, total);
    }
    let unseen = work.audited.finish().map_err(database)?;
    if let Some((number, flaw)) = unseen {
        return Err(fault(Some(FaultyRow { number, serial: None }), flaw));
    }
    // What leads to the rows comes last: a row that is at fault says more.
    if let Some((number, flaw)) = what_leads_to_rows(&connection).map_err(database)? {
        return Err(fault(Some(FaultyRow { number, serial: None }), flaw));
    }
    relayed::check(&connection, &mut report).map_err(database)?.map_err(whole)?;
    progress(report.rows, total);
    before.compare(&Counts::read(&connection).map_err(database)?, &report).map_err(whole)?;
    Ok(report)
}

fn what_leads_to_rows(connection: &Connection) -> Result<Option<(i64, RowFlaw)>, Error> {
    if let Some((number, what)) = structures::check_pairs_of_2(connection)? {
        return Ok(Some((number, RowFlaw::Alone(what))));
    }
    match lists::check_indexes(connection)? {
        None => lists::check_lists(connection, UnixTime::now()),
        found => Ok(found),
    }
}

/// A row that is at fault, and how.
type Found = (Option<FaultyRow>, RowFlaw);

/// A verification under way.
struct Work<'a> {
    connection: &'a Connection,
    serials: &'a SerialCipher,
    issuers: &'a [Arc<Certificate>],
    audited: Audited<'a>,
    /// The last place that was looked at.
    after: i64,
}

impl Work<'_> {
    /// Looks at the next rows up to this place, in one snapshot. Says whether there were any.
    fn page(&mut self, until: i64, report: &mut RowReport) -> Result<bool, Found> {
        let database = |error: Error| (None, RowFlaw::Database(error.to_string()));
        let snapshot = self.connection.unchecked_transaction().map_err(database)?;
        let sql = "SELECT indexed FROM tally";
        let indexed: i64 = snapshot.query_row(sql, [], |row| row.get(0)).map_err(database)?;
        let mut statement = snapshot.prepare_cached(row::PAGE).map_err(database)?;
        let mut rows = statement.query([self.after, until, PAGE_ROWS]).map_err(database)?;
        let mut entries = Vec::new();
        while let Some(found) = rows.next().map_err(database)? {
            let number: i64 = found.get(row::NUMBER_COLUMN).map_err(database)?;
            let entry = row::entry(&snapshot, found)
                .map_err(|error| (Some(FaultyRow { number, serial: None }), RowFlaw::Database(error.to_string())))?;
            entries.push((number, entry));
        }
        drop(rows);
        drop(statement);
        for (number, entry) in &entries {
            self.row(*number, entry, indexed, report)
                .map_err(|flaw| (Some(FaultyRow { number: *number, serial: Some(entry.intent.serial) }), flaw))?;
            self.after = row::place(&entry.cursor);
        }
        drop(snapshot);
        // What came since the snapshot is read outside of it.
        for (number, entry) in &entries {
            let compared = self.audited.compare(*number, entry).map_err(database)?;
            compared.map_err(|flaw| (Some(FaultyRow { number: *number, serial: Some(entry.intent.serial) }), flaw))?;
        }
        Ok(!entries.is_empty())
    }

    fn row(&self, number: i64, entry: &LedgerEntry, indexed: i64, report: &mut RowReport) -> Result<(), RowFlaw> {
        let database = |error: Error| RowFlaw::Database(error.to_string());
        let serial = &entry.intent.serial;
        let leads_to_it = i64::try_from(self.serials.number(serial)) == Ok(number);
        if !leads_to_it && foreign::number(self.connection, serial).map_err(database)? != Some(number) {
            return Err(RowFlaw::Differs("the serial number, which leads to another row"));
        }
        let is_indexed = row::place(&entry.cursor) <= indexed && !matches!(entry.stage, RowStage::Abandoned);
        if is_indexed && !row::has_index(self.connection, number, &entry.intent).map_err(database)? {
            return Err(RowFlaw::Index);
        }
        one_row(entry, self.issuers, report)?;
        report.rows += 1;
        Ok(())
    }
}

/// What is counted in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    places: i64,
    rows: i64,
    issued: i64,
    pruned: (i64, i64),
}

impl Counts {
    fn read(connection: &Connection) -> Result<Self, Error> {
        let pruned = pruned(connection)?;
        connection.query_row("SELECT places, rows, issued FROM tally", [], |row| {
            let (rows, issued): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(Self { places: row.get(0)?, rows: rows - pruned.0, issued: issued - pruned.1, pruned })
        })
    }

    /// Compares the counts at the beginning with what was found, and with those at the end: a server may have gone on meanwhile.
    fn compare(&self, after: &Self, report: &RowReport) -> Result<(), RowFlaw> {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let pruned = (after.pruned.0 - self.pruned.0, after.pruned.1 - self.pruned.1);
        let (rows, issued) = (signed(report.rows), signed(report.certificates + report.unsigned));
        if !(self.rows - pruned.0..=self.rows).contains(&rows) {
            return Err(RowFlaw::Count { what: "rows", kept: self.rows, counted: rows });
        }
        if !(self.issued - pruned.1..=after.issued + pruned.1).contains(&issued) {
            return Err(RowFlaw::Count { what: "certificates", kept: self.issued, counted: issued });
        }
        Ok(())
    }
}

/// How many rows were pruned, and how many of them had a certificate.
fn pruned(connection: &Connection) -> Result<(i64, i64), Error> {
    if schema::version(connection)? < 2 {
        return Ok((0, 0));
    }
    connection.query_row("SELECT rows, issued FROM pruned", [], |row| Ok((row.get(0)?, row.get(1)?)))
}

pub(crate) fn one_row(
    entry: &LedgerEntry,
    issuers: &[Arc<Certificate>],
    report: &mut RowReport,
) -> Result<(), RowFlaw> {
    report.revoked += u64::from(entry.revocation.is_some());
    let issued = match &entry.stage {
        RowStage::Issued(record) => &record.issued,
        RowStage::Abandoned => {
            report.abandoned += 1;
            return Ok(());
        }
        RowStage::Reserved => return Ok(()),
    };
    match certificate_of(&entry.intent, issued, issuers)? {
        true => report.certificates += 1,
        false => report.unsigned += 1,
    }
    Ok(())
}

/// Whether the certificate is the one of this request. Says whether its CA is among the issuers, and has signed it.
pub(crate) fn certificate_of(intent: &Intent, issued: &Issued, issuers: &[Arc<Certificate>]) -> Result<bool, RowFlaw> {
    let certificate =
        Certificate::parse(&issued.certificate).map_err(|error| RowFlaw::Certificate(error.to_string()))?;
    for (what, is_same) in [
        ("the digest of the certificate", certificate.digest() == issued.digest),
        ("the serial number of the certificate", certificate.serial() == intent.serial.as_bytes()),
        ("the digest of what was signed", Digest::of(certificate.to_be_signed()) == intent.to_be_signed),
        ("the public key", Digest::of(certificate.spki()) == intent.spki),
        ("the subject", certificate.subject().der() == intent.subject.to_strict().der()),
        ("the validity", certificate.validity() == intent.validity),
    ] {
        if !is_same {
            return Err(RowFlaw::Differs(what));
        }
    }
    let mut of_ca = issuers.iter().filter(|issuer| issuer.anchor_id() == intent.ca).peekable();
    if of_ca.peek().is_none() {
        return Ok(false);
    }
    if of_ca.all(|issuer| certificate.verify_signed_by(issuer).is_err()) {
        return Err(RowFlaw::Signature);
    }
    Ok(true)
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger {}", self.file.display())?;
        if let Some(row) = &self.row {
            write!(f, ", row {}", row.number)?;
            if let Some(serial) = &row.serial {
                write!(f, " (serial number {serial})")?;
            }
        }
        write!(f, ": {}", self.flaw)
    }
}

impl std::error::Error for RowFault {}

impl fmt::Display for RowFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(problem) => problem.fmt(f),
            Self::Database(what) => write!(f, "damaged: {what}"),
            Self::Differs(what) => write!(f, "the row differs from its certificate in {what}"),
            Self::Certificate(what) => write!(f, "what it holds is no certificate: {what}"),
            Self::Signature => f.write_str("the signature of the certificate is not that of its CA"),
            Self::Alone(what) => write!(f, "{what}"),
            Self::Index => f.write_str("an index does not lead to the row"),
            Self::Audit(what) => write!(f, "compared with the audit, it {what}"),
            Self::Missing(serial) => {
                write!(f, "the audit has a record of the serial number {serial}, which leads to no row")
            }
            Self::Relayed { request, what } => write!(f, "the relayed request {request} {what}"),
            Self::Count { what, kept, counted } => write!(f, "{kept} {what} are counted, and {counted} are there"),
        }
    }
}
