//! Checks every row of a ledger against the certificate that it holds, and names the first that is not what it says.
//!
//! It reads through a connection of its own, beside a running server, in one snapshot. Rows that come meanwhile are not looked at; while it reads, the
//! log of the database is not shortened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authority::{Intent, Issued, LedgerEntry, RowStage};
use pki::issue::Serial;
use pki::{Certificate, Digest};
use rusqlite::Connection;

use crate::fault::OpenProblem;
use crate::serial::SerialCipher;
use crate::sqlite::{connect_beside, foreign, row, schema};

/// How many rows are between two reports of progress.
const STEP: u64 = 1_024;

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
    /// This many rows of one table have no row in another.
    Orphans {
        /// How many.
        count: i64,
        /// Which.
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
    let database = |error: rusqlite::Error| whole(RowFlaw::Database(error.to_string()));
    let connection = connect_beside(file).map_err(|fault| whole(RowFlaw::Open(fault.problem)))?;
    let meta = schema::read(&connection).map_err(|problem| whole(RowFlaw::Open(problem)))?;
    let serials = SerialCipher::new(&meta.serial_key);
    connection.execute_batch("BEGIN").map_err(database)?;
    structures(&connection).map_err(whole)?;
    let total: i64 = connection.query_row("SELECT count(*) FROM place", [], |row| row.get(0)).map_err(database)?;
    let total = u64::try_from(total).unwrap_or(0);
    let mut report = RowReport::default();
    let mut statement = connection.prepare(row::EVERY).map_err(database)?;
    let mut rows = statement.query([]).map_err(database)?;
    while let Some(found) = rows.next().map_err(database)? {
        let number: i64 = found.get(row::NUMBER_COLUMN).map_err(database)?;
        let entry = row::entry(found)
            .map_err(|error| fault(Some(FaultyRow { number, serial: None }), RowFlaw::Database(error.to_string())))?;
        let serial = entry.intent.serial;
        let at = || Some(FaultyRow { number, serial: Some(serial) });
        let leads_to_it = i64::try_from(serials.number(&serial)) == Ok(number);
        if !leads_to_it && foreign::number(&connection, &serial).map_err(database)? != Some(number) {
            return Err(fault(at(), RowFlaw::Differs("the serial number, which leads to another row")));
        }
        one_row(&entry, issuers, &mut report).map_err(|flaw| fault(at(), flaw))?;
        report.rows += 1;
        if report.rows % STEP == 0 {
            progress(report.rows, total);
        }
    }
    progress(report.rows, total);
    counts(&connection, &report).map_err(whole)?;
    Ok(report)
}

/// What SQLite says of the file, and rows that stand alone.
fn structures(connection: &Connection) -> Result<(), RowFlaw> {
    let database = |error: rusqlite::Error| RowFlaw::Database(error.to_string());
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(database)?;
    if said != "ok" {
        return Err(RowFlaw::Database(said));
    }
    for (what, sql) in [
        (
            "certificates without a row",
            "SELECT count(*) FROM certificate WHERE number NOT IN (SELECT number FROM intent)",
        ),
        (
            "revocations without a row",
            "SELECT count(*) FROM revocation WHERE number NOT IN (SELECT number FROM intent)",
        ),
        (
            "rows without a place",
            "SELECT count(*) FROM intent i WHERE NOT EXISTS (SELECT 1 FROM place p WHERE p.place = i.place AND p.number = i.number)",
        ),
        ("places without a row", "SELECT count(*) FROM place WHERE number NOT IN (SELECT number FROM intent)"),
    ] {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0)).map_err(database)?;
        if count != 0 {
            return Err(RowFlaw::Orphans { count, what });
        }
    }
    Ok(())
}

fn counts(connection: &Connection, report: &RowReport) -> Result<(), RowFlaw> {
    let kept: (i64, i64) = connection
        .query_row("SELECT rows, issued FROM tally", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|error| RowFlaw::Database(error.to_string()))?;
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    for (what, kept, counted) in
        [("rows", kept.0, report.rows), ("certificates", kept.1, report.certificates + report.unsigned)]
    {
        if kept != signed(counted) {
            return Err(RowFlaw::Count { what, kept, counted: signed(counted) });
        }
    }
    Ok(())
}

fn one_row(entry: &LedgerEntry, issuers: &[Arc<Certificate>], report: &mut RowReport) -> Result<(), RowFlaw> {
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
            Self::Orphans { count, what } => write!(f, "{count} {what}"),
            Self::Count { what, kept, counted } => write!(f, "{kept} {what} are counted, and {counted} are there"),
        }
    }
}
