//! Checks lines about what a Registrar relayed against the ledger and against the lines before them.

use pki::{Certificate, Digest};
use rusqlite::{Connection, Error, OptionalExtension};

use crate::relay_line::{RelayEvent, RelayRow, ReplayedCertificate};
use crate::sqlite::import::{LineEffect, RelayedEffects};
use crate::sqlite::relay;

/// Relayed requests and certificates of the file so far, in tables of the connection that are gone afterwards.
pub(super) struct SeenRelayed<'a>(&'a Connection);

impl<'a> SeenRelayed<'a> {
    pub(super) fn begin(connection: &'a Connection) -> Result<Self, Error> {
        connection.execute_batch(
            "CREATE TEMP TABLE seen_relay (request INTEGER PRIMARY KEY, content BLOB NOT NULL, is_closed INTEGER NOT NULL);
CREATE TEMP TABLE seen_relayed (digest BLOB PRIMARY KEY, request INTEGER NOT NULL, is_revoked INTEGER NOT NULL) WITHOUT ROWID;",
        )?;
        Ok(Self(connection))
    }

    pub(super) fn end(self) -> Result<(), Error> {
        self.0.flush_prepared_statement_cache();
        self.0.execute_batch("DROP TABLE temp.seen_relay; DROP TABLE temp.seen_relayed")
    }

    /// What the line is to the ledger and to the lines before it.
    pub(super) fn note(&self, event: &RelayEvent) -> Result<RelayedEffects, Error> {
        match event {
            RelayEvent::Request(row) => self.request(event, row),
            RelayEvent::Certificate(of) => self.certificate(of),
            RelayEvent::Closed(id) => {
                let sql = "UPDATE temp.seen_relay SET is_closed = 1 WHERE request = ?1
AND NOT EXISTS (SELECT 1 FROM temp.seen_relayed c WHERE c.request = ?1)";
                self.0.prepare_cached(sql)?.execute([relay::number(*id)])?;
                Ok(RelayedEffects::of(LineEffect::Known))
            }
        }
    }

    fn request(&self, event: &RelayEvent, row: &RelayRow) -> Result<RelayedEffects, Error> {
        if relay::contradicts(self.0, event)? {
            return Ok(RelayedEffects::of(LineEffect::Contradiction));
        }
        let (id, of) = (relay::number(row.entry.id), &row.entry.request);
        let at = of.at.as_secs().to_be_bytes();
        let device = (of.device.manufacturer.as_bytes(), of.device.id.as_str().as_bytes());
        let content = Digest::of_parts(&[of.csr.as_bytes(), device.0, device.1, &at]);
        let sql = "SELECT content, is_closed FROM temp.seen_relay WHERE request = ?1";
        let before = self.0.prepare_cached(sql)?.query_row([id], |row| Ok((row.get(0)?, row.get(1)?)));
        let before: Option<([u8; 32], bool)> = before.optional()?;
        Ok(RelayedEffects::of(match before {
            Some((before, false)) if before == *content.as_bytes() => LineEffect::Known,
            Some(_) => LineEffect::Contradiction,
            None => {
                let sql = "INSERT INTO temp.seen_relay VALUES (?1, ?2, 0)";
                self.0.prepare_cached(sql)?.execute((id, &content.as_bytes()[..]))?;
                if self.is_held(id)? { LineEffect::Known } else { LineEffect::Row }
            }
        }))
    }

    fn certificate(&self, of: &ReplayedCertificate) -> Result<RelayedEffects, Error> {
        let (id, digest) = (relay::number(of.id), of.digest());
        let held = relay::place_of_any(self.0, &digest)?;
        let sql = "SELECT request, is_revoked FROM temp.seen_relayed WHERE digest = ?1";
        let seen =
            self.0.prepare_cached(sql)?.query_row([&digest.as_bytes()[..]], |row| Ok((row.get(0)?, row.get(1)?)));
        let seen: Option<(i64, bool)> = seen.optional()?;
        let is_of_another = |request: Option<i64>| request.is_some_and(|request| request != id);
        if is_of_another(held.as_ref().map(|(request, _)| *request)) || is_of_another(seen.map(|(request, _)| request))
        {
            return Ok(RelayedEffects::of(LineEffect::Contradiction));
        }
        let open = "SELECT 1 FROM temp.seen_relay WHERE request = ?1 AND NOT is_closed";
        if !self.is_held(id)? && !self.0.prepare_cached(open)?.exists([id])? {
            return Ok(RelayedEffects::of(LineEffect::NoRow));
        }
        let was_revoked = held.as_ref().is_some_and(|(_, is_revoked)| *is_revoked) || seen.is_some_and(|(_, it)| it);
        let is_revoked = of.revocation.is_some();
        let sql = "INSERT INTO temp.seen_relayed VALUES (?1, ?2, ?3) ON CONFLICT (digest) DO UPDATE SET is_revoked = max(is_revoked, ?3)";
        self.0.prepare_cached(sql)?.execute((&digest.as_bytes()[..], id, is_revoked))?;
        Ok(RelayedEffects::of_certificate(held.is_none() && seen.is_none(), is_revoked && !was_revoked))
    }

    fn is_held(&self, id: i64) -> Result<bool, Error> {
        if !relay::has_tables(self.0)? {
            return Ok(false);
        }
        self.0.prepare_cached("SELECT 1 FROM relay_request WHERE id = ?1")?.exists([id])
    }
}

/// In what the certificate of a line differs from the line.
pub(super) fn differs(of: &ReplayedCertificate) -> Option<&'static str> {
    let Ok(certificate) = Certificate::parse(&of.der) else { return Some("the certificate, which is none") };
    [
        ("the serial number of the certificate", certificate.serial() == &*of.serial),
        ("the public key", Digest::of(certificate.spki()) == of.spki),
        ("the validity", certificate.validity() == of.validity),
    ]
    .into_iter()
    .find_map(|(what, is_same)| (!is_same).then_some(what))
}
