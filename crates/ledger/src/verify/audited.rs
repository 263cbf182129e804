//! What the audit says about each row, in a table of the connection that is gone afterwards: memory does not grow with the rows.

use authority::{Intent, LedgerEntry, Revocation, RowStage};
use pki::Digest;
use rusqlite::{Connection, Error, OptionalExtension, params};

use super::RowFlaw;
use crate::audit::is_stub;
use crate::audit::record::{AuditedKind, AuditedRow};
use crate::seconds::seconds;
use crate::serial::SerialCipher;
use crate::sqlite::{foreign, row};

/// Rows of the audit that are read at a time: some megabytes.
const PAGE_ROWS: i64 = 256;

/// The records of the audit, by the number of the row that they are about.
pub(super) struct Audited<'a> {
    connection: &'a Connection,
    serials: &'a SerialCipher,
    /// The last row of the audit that was read.
    read: (i64, i64),
    /// The time up to which records were pruned; before every time if none were.
    pruned_until: i64,
}

/// What the records say about one row.
struct Said {
    certificate: Option<Vec<u8>>,
    content: Option<Vec<u8>>,
    revocation: Option<Vec<u8>>,
    is_abandoned: bool,
}

impl<'a> Audited<'a> {
    pub(super) fn begin(connection: &'a Connection, serials: &'a SerialCipher) -> Result<Self, Error> {
        connection.execute_batch(
            "PRAGMA temp_store = FILE;
CREATE TEMP TABLE audited (number INTEGER PRIMARY KEY, certificate BLOB, content BLOB, revocation BLOB,
abandoned INTEGER NOT NULL DEFAULT 0, compared INTEGER NOT NULL DEFAULT 0);",
        )?;
        Ok(Self { connection, serials, read: (-1, 0), pruned_until: i64::MIN })
    }

    /// Reads what the audit has behind the last row that was read.
    pub(super) fn read_on(&mut self) -> Result<Result<(), RowFlaw>, Error> {
        loop {
            let page = self.page()?;
            if page.is_empty() {
                return Ok(Ok(()));
            }
            for (node, sequence, at, body) in page {
                self.read = (node, sequence);
                if is_stub(&body) {
                    self.pruned_until = self.pruned_until.max(at);
                    continue;
                }
                for record in body.lines() {
                    if let Some(about) = AuditedRow::read(record)
                        && !self.note(&about, record)?
                    {
                        return Ok(Err(RowFlaw::Missing(about.serial.to_string())));
                    }
                }
            }
        }
    }

    fn page(&self) -> Result<Vec<(i64, i64, i64, String)>, Error> {
        let sql = "SELECT node, sequence, at, body FROM audit WHERE (node, sequence) > (?1, ?2) ORDER BY node, sequence LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![self.read.0, self.read.1, PAGE_ROWS], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        rows.collect()
    }

    /// Notes a record; says whether its serial number can lead to a row.
    fn note(&self, about: &AuditedRow, record: &str) -> Result<bool, Error> {
        let Some(number) = self.number(about)? else { return Ok(false) };
        let sql = match about.kind {
            AuditedKind::Issued => {
                "INSERT INTO temp.audited (number, certificate, content) VALUES (?1, ?2, ?3)
ON CONFLICT (number) DO UPDATE SET certificate = ?2, content = ?3, compared = 0"
            }
            AuditedKind::Revoked => {
                "INSERT INTO temp.audited (number, revocation) VALUES (?1, ?3)
ON CONFLICT (number) DO UPDATE SET revocation = ?3, compared = 0"
            }
            AuditedKind::Abandoned => {
                "INSERT INTO temp.audited (number, abandoned) VALUES (?1, 1)
ON CONFLICT (number) DO UPDATE SET abandoned = 1, compared = 0"
            }
        };
        let content = match about.kind {
            AuditedKind::Issued => about.content(record),
            AuditedKind::Revoked => about.revocation(record),
            AuditedKind::Abandoned => None,
        };
        let certificate = about.certificate.map(|digest| digest.as_bytes().to_vec());
        let content = content.map(|digest| digest.as_bytes().to_vec());
        let mut statement = self.connection.prepare_cached(sql)?;
        match about.kind {
            AuditedKind::Issued => statement.execute(params![number, certificate, content])?,
            AuditedKind::Revoked => statement.execute(params![number, None::<i64>, content])?,
            AuditedKind::Abandoned => statement.execute(params![number])?,
        };
        Ok(true)
    }

    fn number(&self, about: &AuditedRow) -> Result<Option<i64>, Error> {
        if let Some(number) = foreign::number(self.connection, &about.serial)? {
            return Ok(Some(number));
        }
        Ok(i64::try_from(self.serials.number(&about.serial)).ok().filter(|number| *number > 0))
    }

    fn said(&self, number: i64) -> Result<Option<Said>, Error> {
        let sql = "SELECT certificate, content, revocation, abandoned FROM temp.audited WHERE number = ?1";
        let said = self.connection.prepare_cached(sql)?.query_row([number], |row| {
            Ok(Said {
                certificate: row.get(0)?,
                content: row.get(1)?,
                revocation: row.get(2)?,
                is_abandoned: row.get(3)?,
            })
        });
        said.optional()
    }

    /// Compares a row with its records. A record that came after the audit was read is read first.
    pub(super) fn compare(&mut self, number: i64, entry: &LedgerEntry) -> Result<Result<(), RowFlaw>, Error> {
        let mut flaw = self.flaw(number, entry)?;
        if flaw.is_some() {
            if let Err(flaw) = self.read_on()? {
                return Ok(Err(flaw));
            }
            flaw = self.flaw(number, entry)?;
        }
        let sql = "UPDATE temp.audited SET compared = 1 WHERE number = ?1";
        self.connection.prepare_cached(sql)?.execute([number])?;
        Ok(flaw.map_or(Ok(()), |what| Err(RowFlaw::Audit(what))))
    }

    fn flaw(&self, number: i64, entry: &LedgerEntry) -> Result<Option<&'static str>, Error> {
        let said = self.said(number)?;
        let (certificate, content, revocation, is_abandoned) = match &said {
            Some(said) => {
                (said.certificate.as_deref(), said.content.as_deref(), said.revocation.as_deref(), said.is_abandoned)
            }
            None => (None, None, None, false),
        };
        let flaw = match &entry.stage {
            RowStage::Issued(record) => match certificate {
                None if seconds(record.issued.at) <= self.pruned_until => None,
                None => Some("has no record of its certificate"),
                Some(said) if said != record.issued.digest.as_bytes() => Some("has a record of another certificate"),
                Some(_) if content != Some(&content_of(&entry.intent).as_bytes()[..]) => {
                    Some("differs in the device, profile, function, client or address of the request")
                }
                Some(_) => None,
            },
            _ if certificate.is_some() => Some("has a record of its certificate, which is missing"),
            RowStage::Abandoned if !is_abandoned && seconds(entry.intent.at) > self.pruned_until => {
                Some("has no record that it was given up")
            }
            RowStage::Reserved if is_abandoned => Some("has a record that it was given up, and it is reserved"),
            RowStage::Abandoned | RowStage::Reserved => None,
        };
        if flaw.is_some() {
            return Ok(flaw);
        }
        Ok(match (&entry.revocation, revocation) {
            (None, Some(_)) => Some("has a record of its revocation, which is missing"),
            (Some(known), None) if seconds(known.at) > self.pruned_until => Some("has no record of its revocation"),
            (Some(known), Some(said)) if said != revocation_of(known).as_bytes() => {
                Some("has a record of its revocation with another reason, time or actor")
            }
            _ => None,
        })
    }

    /// Compares the rows of records that no row was compared with. The first that has no row, or another one.
    pub(super) fn finish(&mut self) -> Result<Option<(i64, RowFlaw)>, Error> {
        let mut after = 0;
        loop {
            let sql = "SELECT number FROM temp.audited WHERE number > ?1 AND NOT compared ORDER BY number LIMIT 1";
            let next = self.connection.prepare_cached(sql)?.query_row([after], |row| row.get(0)).optional()?;
            let Some(number) = next else { break };
            after = number;
            let flaw = match row::read(self.connection, number)? {
                None => Some(RowFlaw::Audit("has records, and is missing")),
                Some(entry) => self.compare(number, &entry)?.err(),
            };
            if let Some(flaw) = flaw {
                return Ok(Some((number, flaw)));
            }
        }
        self.connection.flush_prepared_statement_cache();
        self.connection.execute_batch("DROP TABLE temp.audited")?;
        Ok(None)
    }
}

/// What a record of an issuance says about the request, from its row.
fn content_of(intent: &Intent) -> Digest {
    let function = match intent.function {
        authority::Function::SimpleEnroll => "sen",
        authority::Function::SimpleReenroll => "sren",
        authority::Function::ServerKeygen => "skg",
    };
    Digest::of_parts(&[
        function.as_bytes(),
        intent.profile.as_bytes(),
        intent.profile_version.to_string().as_bytes(),
        intent.device.id.as_str().as_bytes(),
        intent.device.manufacturer.to_string().as_bytes(),
        intent.client.to_string().as_bytes(),
        intent.peer.to_string().as_bytes(),
    ])
}

fn revocation_of(revocation: &Revocation) -> Digest {
    let (at, reason) = (seconds(revocation.at).to_string(), revocation.reason.to_string());
    Digest::of_parts(&[at.as_bytes(), reason.as_bytes(), revocation.actor.as_str().as_bytes()])
}

impl AuditedRow {
    fn content(&self, record: &str) -> Option<Digest> {
        let value: serde_json::Value = serde_json::from_str(record).ok()?;
        let names = ["function", "profile", "profile_version", "device", "manufacturer", "client", "peer"];
        let texts: Option<Vec<&[u8]>> = names.iter().map(|name| Some(value.get(name)?.as_str()?.as_bytes())).collect();
        Some(Digest::of_parts(&texts?))
    }

    fn revocation(&self, record: &str) -> Option<Digest> {
        let value: serde_json::Value = serde_json::from_str(record).ok()?;
        let at = value.get("at")?.as_i64()?.to_string();
        let text = |name| Some(value.get(name)?.as_str()?.as_bytes());
        Some(Digest::of_parts(&[at.as_bytes(), text("reason")?, text("actor")?]))
    }
}
