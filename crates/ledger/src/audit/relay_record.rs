//! The records of what a Registrar relayed, beside those of [`super::record`].
//!
//! | type | actor | members |
//! |---|---|---|
//! | `relay.begun` | `device` | `request`, `attempt`, `upstream`, `function`, `profile`, `device`, `manufacturer`, `client`, `peer`: before each attempt |
//! | `relay.recorded` | `device` | those of `relay.begun` without `attempt`, and `serial` (the upstream's), `certificate` |
//! | `relay.closed` | `muster` | `reason` (`not_sent`, `refused` by the upstream or with an answer that was no certificate), `request`, `upstream`, `device`, `manufacturer` |
//! | `relay.unresolved` | `muster` | `request`, `upstream`, `device`, `manufacturer`: it was sent, and nobody knows what became of it |
//! | `relay.revoked` | the operator | `reason`, `request`, `upstream`, `serial`, `certificate`, `device`, `manufacturer` |

use authority::{RelayEnd, RelayEntry, RelayId, RelayRecord, RelayedCertificate, Revocation};
use pki::Digest;
use serde_json::Value;

use super::record::{AuditBody, DEVICE, SERVER, device, function_name};
use crate::json::{JsonLine, octets};
use crate::seconds::seconds;

/// How every record of this module begins.
const BEGINNING: &str = "{\"type\":\"relay.";

/// A record, as it is read back.
pub(crate) struct AuditedRelay {
    /// The number of the request.
    pub(crate) id: RelayId,
    /// The digest of the certificate that it says came back.
    pub(crate) recorded: Option<Digest>,
    /// The digest of the certificate that it says was marked as revoked.
    pub(crate) revoked: Option<Digest>,
}

impl AuditedRelay {
    /// Reads a record; nothing if it is not about a relayed request.
    pub(crate) fn read(record: &str) -> Option<Self> {
        let kind = record.strip_prefix(BEGINNING)?.split_once('"')?.0;
        let value: Value = serde_json::from_str(record).ok()?;
        let id = RelayId::new(value.get("request")?.as_u64()?);
        let certificate = value.get("certificate").and_then(Value::as_str).and_then(octets).map(Digest::from_bytes);
        let (recorded, revoked) = match kind {
            "recorded" => (certificate, None),
            "revoked" => (None, certificate),
            _ => (None, None),
        };
        Some(Self { id, recorded, revoked })
    }
}

impl AuditBody {
    /// A request is about to be sent, at this time.
    pub(crate) fn relay_begun(&mut self, entry: &RelayEntry, at: i64) {
        let line = self.line("relay.begun", at).plain("actor", DEVICE);
        let line = request(line, entry).number("attempt", i64::from(entry.attempts));
        asked(line, entry).end();
    }

    pub(crate) fn relay_recorded(&mut self, entry: &RelayEntry, record: &RelayRecord) {
        let line = self.line("relay.recorded", seconds(record.issued.at)).plain("actor", DEVICE);
        let line = asked(request(line, entry), entry).hex("serial", &record.serial);
        line.hex("certificate", record.issued.digest.as_bytes()).end();
    }

    pub(crate) fn relay_ended(&mut self, entry: &RelayEntry, end: RelayEnd, at: i64) {
        let line = match end {
            RelayEnd::NotSent => self.line("relay.closed", at).plain("actor", SERVER).plain("reason", "not_sent"),
            RelayEnd::Refused => self.line("relay.closed", at).plain("actor", SERVER).plain("reason", "refused"),
            RelayEnd::Unknown | RelayEnd::Later { .. } => self.line("relay.unresolved", at).plain("actor", SERVER),
        };
        device(request(line, entry), &entry.request.device).end();
    }

    pub(crate) fn relay_revoked(&mut self, entry: &RelayEntry, of: &RelayedCertificate, revocation: &Revocation) {
        let line = self.line("relay.revoked", seconds(revocation.at)).text("actor", revocation.actor.as_str());
        let line = request(line.plain("reason", revocation.reason), entry).hex("serial", &of.record.serial);
        let line = line.hex("certificate", of.record.issued.digest.as_bytes());
        device(line, &entry.request.device).end();
    }
}

fn request<'o>(line: JsonLine<'o>, entry: &RelayEntry) -> JsonLine<'o> {
    let id = i64::try_from(entry.id.as_u64()).unwrap_or(i64::MAX);
    line.number("request", id).text("upstream", &entry.request.upstream)
}

/// Who asked for what.
fn asked<'o>(line: JsonLine<'o>, entry: &RelayEntry) -> JsonLine<'o> {
    let of = &entry.request;
    let line = line.plain("function", function_name(of.function)).text("profile", &of.profile);
    device(line, &of.device).hex("client", of.client.as_bytes()).plain("peer", of.peer)
}
