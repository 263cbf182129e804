//! The records, version 1: one JSON object a line, each with `type`, `at` (seconds since 1970) and `actor`.
//!
//! | type | actor | members |
//! |---|---|---|
//! | `issued` | `device` | `function`, `profile`, `profile_version`, `device`, `manufacturer`, `client`, `peer`, `serial`, `certificate` |
//! | `refused` | `device` | `reason`, `count`, `until`, `function`, `profile`, `profile_version`, `device` and `manufacturer` if known, `client`, `peer` |
//! | `revoked` | the operator | `reason`, `serial`, `device`, `manufacturer` |
//! | `key_compromised` | the operator | `spki`, `device`, `manufacturer`: a certificate of this key that was revoked before is revoked again, for keyCompromise |
//! | `abandoned` | `muster` | `reason`, `serial`, `device`, `manufacturer`, `profile`, `profile_version`, `peer` |
//! | `imported` | the operator | `count` of lines, `file`: the records of these lines stand in the same row |
//! | `adopted` | `device` | as `issued`: a certificate of a lost row, whose row was rebuilt from it |
//! | `audit.restored` | the operator | see `restored` |
//! | `refusals_dropped` | `muster` | `count` |
//! | `relay.begun`, `relay.recorded`, `relay.closed`, `relay.unresolved`, `relay.revoked` | see `relay_record` | |
//!
//! `client`, `certificate` and `manufacturer` are SHA-256: of a certificate, or of the name and key of an authority. `count` is the number of
//! requests from `at` to `until` that were refused for this reason; `peer` is the address of the first of them. A request that is repeated gets the
//! certificate that was recorded, and has no record of its own.

use std::net::SocketAddr;

use authority::{Actor, Device, Function, Intent, Issued, ProfileVersion, Revocation};
use pki::Digest;
use pki::issue::{SERIAL_BYTES, Serial};
use serde_json::Value;

use super::refusals::CoalescedRefusal;
use crate::json::{JsonLine, octets};
use crate::seconds::seconds;

/// What the actor of a request is called. Operators have names; a device is named by the members of the record.
pub(super) const DEVICE: &str = "device";
/// What the server does by itself.
pub(super) const SERVER: &str = "muster";

/// What is recorded of a request beside its certificate; kept while its certificate is being signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestOrigin {
    pub(crate) function: Function,
    pub(crate) profile_version: ProfileVersion,
    pub(crate) client: Digest,
    pub(crate) peer: SocketAddr,
}

impl RequestOrigin {
    pub(crate) fn of(intent: &Intent) -> Self {
        let Intent { function, profile_version, client, peer, .. } = intent;
        Self { function: *function, profile_version: *profile_version, client: *client, peer: *peer }
    }
}

/// Why a reservation was given up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Abandonment {
    /// The server ended before the certificate was recorded.
    Restart,
    /// The certificate did not come in time.
    Outlived,
    /// It was not signed, or did not pass the checks before its release.
    NotIssued,
    /// An operator revoked it.
    Revoked,
    /// It had been given up in the ledger that it was imported from.
    Imported,
}

impl Abandonment {
    const fn reason(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Outlived => "outlived",
            Self::NotIssued => "not_issued",
            Self::Revoked => "revoked",
            Self::Imported => "imported",
        }
    }
}

/// A record about a row, as it is read back.
pub(crate) struct AuditedRow {
    pub(crate) kind: AuditedKind,
    pub(crate) serial: Serial,
    /// The digest of the certificate, if the record has it.
    pub(crate) certificate: Option<Digest>,
}

/// What a record says about its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuditedKind {
    /// Its certificate was issued, or adopted after a restore.
    Issued,
    /// It was revoked.
    Revoked,
    /// It was given up.
    Abandoned,
}

impl AuditedRow {
    /// Reads a record; nothing if it is not about a row.
    pub(crate) fn read(record: &str) -> Option<Self> {
        let kind = record.strip_prefix("{\"type\":\"")?.split_once('"')?.0;
        let kind = match kind {
            "issued" | "adopted" => AuditedKind::Issued,
            "revoked" => AuditedKind::Revoked,
            "abandoned" => AuditedKind::Abandoned,
            _ => return None,
        };
        let value: Value = serde_json::from_str(record).ok()?;
        let serial: [u8; SERIAL_BYTES] = octets(value.get("serial")?.as_str()?)?;
        let certificate = value.get("certificate").and_then(Value::as_str).and_then(octets).map(Digest::from_bytes);
        Some(Self { kind, serial: Serial::from_bytes(&serial).ok()?, certificate })
    }
}

/// The records of one batch.
#[derive(Default)]
pub(crate) struct AuditBody {
    text: String,
    records: i64,
    latest: i64,
}

impl AuditBody {
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn records(&self) -> i64 {
        self.records
    }

    /// The latest time of a record.
    pub(crate) fn latest(&self) -> i64 {
        self.latest
    }

    /// Keeps its memory for the next batch.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        (self.records, self.latest) = (0, 0);
    }

    pub(super) fn line(&mut self, kind: &str, at: i64) -> JsonLine<'_> {
        if self.records > 0 {
            self.text.push('\n');
        }
        self.records += 1;
        self.latest = self.latest.max(at);
        JsonLine::begin(&mut self.text, kind).number("at", at)
    }

    pub(crate) fn issued(&mut self, serial: &Serial, issued: &Issued, origin: &RequestOrigin) {
        self.certificate("issued", (serial, issued), origin, seconds(issued.at));
    }

    pub(crate) fn adopted(&mut self, serial: &Serial, issued: &Issued, origin: &RequestOrigin, at: i64) {
        self.certificate("adopted", (serial, issued), origin, at);
    }

    fn certificate(&mut self, kind: &str, (serial, issued): (&Serial, &Issued), origin: &RequestOrigin, at: i64) {
        let line = self.line(kind, at).plain("actor", DEVICE);
        let line = line.plain("function", function_name(origin.function)).text("profile", &issued.profile);
        let line = line.hex("profile_version", origin.profile_version.as_bytes());
        let line = device(line, &issued.device).hex("client", origin.client.as_bytes()).plain("peer", origin.peer);
        line.hex("serial", serial.as_bytes()).hex("certificate", issued.digest.as_bytes()).end();
    }

    /// A record that was signed as it is.
    pub(crate) fn mark(&mut self, text: &str, at: i64) {
        if self.records > 0 {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.records += 1;
        self.latest = self.latest.max(at);
    }

    pub(crate) fn refused(&mut self, refusal: &CoalescedRefusal) {
        let record = &refusal.first;
        self.latest = self.latest.max(refusal.until);
        let line = self.line("refused", seconds(record.at)).number("until", refusal.until);
        let line = line.number("count", refusal.count).plain("actor", DEVICE).plain("reason", record.reason);
        let line = line.plain("function", function_name(record.function)).text("profile", &record.profile);
        let line = line.hex("profile_version", record.profile_version.as_bytes());
        let line = match &record.device {
            Some(known) => device(line, known),
            None => line,
        };
        line.hex("client", record.client.as_bytes()).plain("peer", record.peer).end();
    }

    pub(crate) fn refusals_dropped(&mut self, count: i64, at: i64) {
        self.line("refusals_dropped", at).plain("actor", SERVER).number("count", count).end();
    }

    /// The records of these lines follow or precede it in the same row.
    pub(crate) fn imported(&mut self, actor: &Actor, lines: i64, file: &Digest, at: i64) {
        let line = self.line("imported", at).text("actor", actor.as_str());
        line.number("count", lines).hex("file", file.as_bytes()).end();
    }

    pub(crate) fn revoked(&mut self, intent: &Intent, revocation: &Revocation) {
        let line = self.line("revoked", seconds(revocation.at)).text("actor", revocation.actor.as_str());
        let line = line.plain("reason", revocation.reason).hex("serial", intent.serial.as_bytes());
        device(line, &intent.device).end();
    }

    /// A certificate of this key was revoked before, and its key is known as compromised now.
    pub(crate) fn key_compromised(&mut self, of: &Device, key: &Digest, revocation: &Revocation) {
        let line = self.line("key_compromised", seconds(revocation.at)).text("actor", revocation.actor.as_str());
        device(line.hex("spki", key.as_bytes()), of).end();
    }

    pub(crate) fn abandoned(&mut self, intent: &Intent, why: Abandonment, at: i64) {
        let line = self.line("abandoned", at).plain("actor", SERVER).plain("reason", why.reason());
        let line = device(line.hex("serial", intent.serial.as_bytes()), &intent.device);
        let line = line.text("profile", &intent.profile).hex("profile_version", intent.profile_version.as_bytes());
        line.plain("peer", intent.peer).end();
    }
}

pub(super) fn device<'o>(line: JsonLine<'o>, of: &Device) -> JsonLine<'o> {
    line.text("device", of.id.as_str()).hex("manufacturer", of.manufacturer.as_bytes())
}

/// As in the paths of EST-coaps (RFC 9148 §5.1).
pub(super) const fn function_name(function: Function) -> &'static str {
    match function {
        Function::SimpleEnroll => "sen",
        Function::SimpleReenroll => "sren",
        Function::ServerKeygen => "skg",
    }
}
