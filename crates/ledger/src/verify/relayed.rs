//! Checks what a Registrar relayed: each certificate against its row, and both against the audit.

use authority::{RelayEntry, RelayId, RelayStage, RelayedCertificate};
use pki::{Certificate, Digest};
use rusqlite::{Connection, Error, OptionalExtension, params};

use super::{RowFlaw, RowReport};
use crate::audit::is_stub;
use crate::audit::relay_record::AuditedRelay;
use crate::seconds::seconds;
use crate::sqlite::relay;

/// Rows that are looked at in one snapshot.
const PAGE_ROWS: usize = 512;

/// Rows of the audit that are read at a time: some megabytes.
const AUDIT_ROWS: i64 = 256;

/// Checks every relayed request that was there when the audit had been read. The first flaw.
pub(super) fn check(connection: &Connection, report: &mut RowReport) -> Result<Result<(), RowFlaw>, Error> {
    if !relay::has_tables(connection)? {
        return Ok(Ok(()));
    }
    let mut audited = AuditedRelays::begin(connection)?;
    audited.read_on()?;
    let mut after = None;
    loop {
        let rows = relay::behind(connection, after, PAGE_ROWS)?;
        let Some(last) = rows.last() else { break };
        after = Some(last.entry.id);
        for row in &rows {
            if let Err(flaw) = check_row(&row.entry, &mut audited, report)? {
                return Ok(Err(flaw));
            }
        }
    }
    if let Some((id, what)) = audited.unseen()? {
        return Ok(Err(RowFlaw::Relayed { request: id, what }));
    }
    let alone = "SELECT request FROM relay_certificate WHERE request NOT IN (SELECT id FROM relay_request) LIMIT 1";
    let alone: Option<i64> = connection.query_row(alone, [], |row| row.get(0)).optional()?;
    Ok(match alone.and_then(|id| u64::try_from(id).ok()) {
        Some(request) => Err(RowFlaw::Relayed { request, what: "has a certificate, and is missing" }),
        None => Ok(()),
    })
}

fn check_row(
    entry: &RelayEntry,
    audited: &mut AuditedRelays<'_>,
    report: &mut RowReport,
) -> Result<Result<(), RowFlaw>, Error> {
    let flaw = |what| Ok(Err(RowFlaw::Relayed { request: entry.id.as_u64(), what }));
    report.relayed += 1;
    let RelayStage::Recorded(held) = &entry.stage else {
        return match audited.is_recorded(entry.id)? {
            true => flaw("has a record of a certificate, and has none"),
            false => Ok(Ok(())),
        };
    };
    if held.is_empty() {
        return flaw("is answered by a certificate that is missing");
    }
    for certificate in held {
        if let Some(what) = differs(certificate) {
            return flaw(what);
        }
        let mut said = audited.flaw(entry.id, certificate)?;
        if said.is_some() {
            audited.read_on()?;
            said = audited.flaw(entry.id, certificate)?;
        }
        if let Some(what) = said {
            return flaw(what);
        }
        report.relayed_certificates += 1;
    }
    Ok(Ok(()))
}

/// In what a row differs from its certificate.
fn differs(of: &RelayedCertificate) -> Option<&'static str> {
    let issued = &of.record.issued;
    let Ok(certificate) = Certificate::parse(&issued.certificate) else {
        return Some("holds something that is no certificate");
    };
    [
        ("differs from its certificate in the digest", certificate.digest() == issued.digest),
        ("differs from its certificate in the serial number", certificate.serial() == &*of.record.serial),
        ("differs from its certificate in the public key", Digest::of(certificate.spki()) == of.record.spki),
        ("differs from its certificate in the validity", certificate.validity() == issued.validity),
    ]
    .into_iter()
    .find_map(|(what, is_same)| (!is_same).then_some(what))
}

/// What the audit says of relayed certificates, in a table of the connection: memory does not grow with them.
struct AuditedRelays<'a> {
    connection: &'a Connection,
    /// The last row of the audit that was read.
    read: (i64, i64),
    /// The time up to which records were pruned; before every time if none were.
    pruned_until: i64,
}

impl<'a> AuditedRelays<'a> {
    fn begin(connection: &'a Connection) -> Result<Self, Error> {
        connection.execute_batch(
            "PRAGMA temp_store = FILE;
DROP TABLE IF EXISTS temp.audited_relay;
CREATE TEMP TABLE audited_relay (digest BLOB PRIMARY KEY, request INTEGER NOT NULL, recorded INTEGER NOT NULL DEFAULT 0,
revoked INTEGER NOT NULL DEFAULT 0, compared INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX temp.audited_relay_request ON audited_relay (request);",
        )?;
        Ok(Self { connection, read: (-1, 0), pruned_until: i64::MIN })
    }

    /// Reads what the audit has behind the last row that was read.
    fn read_on(&mut self) -> Result<(), Error> {
        loop {
            let page = self.page()?;
            if page.is_empty() {
                return Ok(());
            }
            for (node, sequence, at, body) in page {
                self.read = (node, sequence);
                if is_stub(&body) {
                    self.pruned_until = self.pruned_until.max(at);
                    continue;
                }
                body.lines().filter_map(AuditedRelay::read).try_for_each(|about| self.note(&about))?;
            }
        }
    }

    fn page(&self) -> Result<Vec<(i64, i64, i64, String)>, Error> {
        let sql = "SELECT node, sequence, at, body FROM audit WHERE (node, sequence) > (?1, ?2) ORDER BY node, sequence LIMIT ?3";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![self.read.0, self.read.1, AUDIT_ROWS], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        rows.collect()
    }

    fn note(&self, about: &AuditedRelay) -> Result<(), Error> {
        for (digest, sql) in [
            (
                about.recorded,
                "INSERT INTO temp.audited_relay (digest, request, recorded) VALUES (?1, ?2, 1) ON CONFLICT (digest) DO UPDATE SET recorded = 1",
            ),
            (
                about.revoked,
                "INSERT INTO temp.audited_relay (digest, request, revoked) VALUES (?1, ?2, 1) ON CONFLICT (digest) DO UPDATE SET revoked = 1",
            ),
        ] {
            if let Some(digest) = digest {
                let id = i64::try_from(about.id.as_u64()).unwrap_or(i64::MAX);
                self.connection.prepare_cached(sql)?.execute(params![&digest.as_bytes()[..], id])?;
            }
        }
        Ok(())
    }

    /// Whether the audit has a certificate of this request.
    fn is_recorded(&self, id: RelayId) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM temp.audited_relay WHERE request = ?1 AND recorded";
        self.connection.prepare_cached(sql)?.exists([i64::try_from(id.as_u64()).unwrap_or(i64::MAX)])
    }

    /// Compares a certificate with its records.
    fn flaw(&self, id: RelayId, of: &RelayedCertificate) -> Result<Option<&'static str>, Error> {
        let digest = &of.record.issued.digest.as_bytes()[..];
        let sql = "UPDATE temp.audited_relay SET compared = 1 WHERE digest = ?1 RETURNING request, recorded, revoked";
        let said: Option<(i64, bool, bool)> = self
            .connection
            .prepare_cached(sql)?
            .query_row([digest], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let (request, is_recorded, is_revoked) = said.unwrap_or((0, false, false));
        let is_pruned = |at| seconds(at) <= self.pruned_until;
        Ok(match &of.revocation {
            _ if !is_recorded && !is_pruned(of.record.issued.at) => {
                Some("compared with the audit, it has no record of its certificate")
            }
            _ if said.is_some() && u64::try_from(request) != Ok(id.as_u64()) => {
                Some("compared with the audit, it has the certificate of another request")
            }
            None if is_revoked => Some("compared with the audit, it has a record of its revocation, which is missing"),
            Some(mark) if !is_revoked && !is_pruned(mark.at) => {
                Some("compared with the audit, it has no record of its revocation")
            }
            _ => None,
        })
    }

    /// A record of a certificate that no row has. One that came behind the rows that were read has its row by now.
    fn unseen(&self) -> Result<Option<(u64, &'static str)>, Error> {
        let sql = "SELECT request, digest FROM temp.audited_relay WHERE NOT compared";
        let mut unseen = None;
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (id, digest): (i64, [u8; 32]) = (row.get(0)?, row.get(1)?);
            if relay::held(self.connection, &Digest::from_bytes(digest))?.is_none() {
                let id = u64::try_from(id).unwrap_or(0);
                unseen = Some((id, "has a record of a certificate that is missing"));
                break;
            }
        }
        drop(rows);
        drop(statement);
        self.connection.flush_prepared_statement_cache();
        self.connection.execute_batch("DROP TABLE temp.audited_relay")?;
        Ok(unseen)
    }
}
