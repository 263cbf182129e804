//! What a Registrar relayed, as lines of JSON: what a journal and an export hold, and what rebuilds the rows.
//!
//! | type | members after `type` and `version` |
//! |---|---|
//! | `relay.request` | `request` (its number), `at`, `attempted_at` (of an unresolved one, the time before which it is not sent again), `attempts`, `state` (`in_flight`, `unresolved`, `recorded`), `function`, `profile`, `manufacturer`, `device`, `anchor`, `vouched_by`, `client`, `csr`, `public_key` if the device made it, `names`, `upstream`, `peer`, `repeat_until`, `certificates_max` |
//! | `relay.certificate` | `request`, `issued_at`, `repeat_until`, `not_before`, `not_after`, `serial` (the upstream's), `public_key`, `certificate`, and if an operator marked it `revoked_at`, `reason`, `actor` |
//! | `relay.closed` | `request`: it was not sent or was refused, and is forgotten |
//!
//! A line of a request says how far it was at that moment. The lines of its certificates come behind it. A line of an export has a `cursor` behind
//! `version`, where another export goes on behind it.

use std::sync::Arc;

use authority::{
    Actor, Cursor, Device, DeviceId, Function, Issued, NewRow, Origin, RelayEntry, RelayId, RelayRecord, RelayRequest,
    RelayStage, RelayedCertificate, RepeatWindow, Revocation,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::issue::RevocationReason;
use pki::{Digest, Validity};
use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::json::JsonLine;
use crate::line::{LINE_BYTES_MAX, LINE_VERSION, LineFault, Members, function_name, origin_name};
use crate::seconds::{seconds, time};

/// How every line of this module begins.
pub(crate) const RELAY_BEGINNING: &str = "{\"type\":\"relay.";

const REQUEST: &str = "relay.request";
const CERTIFICATE: &str = "relay.certificate";
const CLOSED: &str = "relay.closed";

/// A row with the time of its last attempt.
#[derive(Clone, Debug)]
pub(crate) struct RelayRow {
    pub(crate) entry: RelayEntry,
    /// When the last attempt began. If its upstream has named a time since, it is that one: what is unresolved is not sent again before it.
    pub(crate) attempted_at: i64,
}

impl RelayRow {
    /// When something last happened to it, as far as it says: an upstream may have named a time that has not come.
    pub(crate) fn latest(&self) -> i64 {
        let at = seconds(self.entry.request.at);
        if matches!(self.entry.stage, RelayStage::Unresolved) { at } else { at.max(self.attempted_at) }
    }
}

/// What one line says.
#[derive(Clone, Debug)]
pub(crate) enum RelayEvent {
    /// This request was begun, and was so far. Its certificates are not in it.
    Request(Box<RelayRow>),
    /// This certificate came back for its request.
    Certificate(Box<ReplayedCertificate>),
    /// The request of this number was closed without a certificate.
    Closed(RelayId),
}

/// A certificate without what the row of its request says of it.
#[derive(Clone, Debug)]
pub(crate) struct ReplayedCertificate {
    pub(crate) id: RelayId,
    pub(crate) der: Vec<u8>,
    pub(crate) validity: Validity,
    pub(crate) at: UnixTime,
    pub(crate) serial: Box<[u8]>,
    pub(crate) spki: Digest,
    pub(crate) window: RepeatWindow,
    pub(crate) revocation: Option<Revocation>,
}

impl ReplayedCertificate {
    /// Digest of the certificate.
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The record of it in the row of this request.
    pub(crate) fn record(&self, of: &RelayRequest) -> RelayRecord {
        let issued = Issued {
            device: of.device.clone(),
            profile: Arc::clone(&of.profile),
            certificate: self.der.clone(),
            digest: self.digest(),
            validity: self.validity,
            at: self.at,
        };
        RelayRecord {
            id: self.id,
            issued: Arc::new(issued),
            serial: self.serial.clone(),
            spki: self.spki,
            window: self.window,
        }
    }
}

impl RelayEvent {
    /// Reads a line, without its newline.
    pub(crate) fn read(line: &str) -> Result<Self, LineFault> {
        if line.len() > LINE_BYTES_MAX {
            return Err(LineFault::TooLong(line.len()));
        }
        let value: Value = serde_json::from_str(line).map_err(|_| LineFault::NotJson)?;
        let members = Members(&value);
        let read: fn(&Members<'_>) -> Result<Self, LineFault> = match members.text("type")? {
            REQUEST => |members| request_of(members).map(|row| Self::Request(Box::new(row))),
            CERTIFICATE => |members| certificate_of(members).map(|it| Self::Certificate(Box::new(it))),
            CLOSED => |members| id_of(members).map(Self::Closed),
            kind => return Err(LineFault::kind(kind)),
        };
        match members.number("version")? {
            LINE_VERSION => read(&members),
            version => Err(LineFault::Version(version)),
        }
    }

    /// The number of the request.
    pub(crate) fn id(&self) -> RelayId {
        match self {
            Self::Request(row) => row.entry.id,
            Self::Certificate(of) => of.id,
            Self::Closed(id) => *id,
        }
    }

    /// The latest of the times at which something happened, according to it.
    pub(crate) fn latest(&self) -> UnixTime {
        match self {
            Self::Request(row) => time(row.latest()),
            Self::Certificate(of) => of.revocation.as_ref().map_or(of.at, |revocation| revocation.at.max(of.at)),
            Self::Closed(_) => time(0),
        }
    }
}

/// Appends the lines of this row, each with a newline; says how many they are.
pub(crate) fn push_relay_row(out: &mut String, row: &RelayRow) -> i64 {
    let lines = relay_row_lines(row);
    lines.iter().for_each(|line| line.push(out, None));
    i64::try_from(lines.len()).unwrap_or(i64::MAX)
}

/// One line of a row.
pub(crate) enum RelayRowLine<'a> {
    Request(&'a RelayRow),
    Certificate(&'a RelayedCertificate),
}

/// The lines of this row: its request, and what came back for it.
pub(crate) fn relay_row_lines(row: &RelayRow) -> Vec<RelayRowLine<'_>> {
    let held: &[RelayedCertificate] = match &row.entry.stage {
        RelayStage::Recorded(held) => held,
        RelayStage::InFlight | RelayStage::Unresolved => &[],
    };
    std::iter::once(RelayRowLine::Request(row)).chain(held.iter().map(RelayRowLine::Certificate)).collect()
}

impl RelayRowLine<'_> {
    /// Appends it, with a newline.
    pub(crate) fn push(&self, out: &mut String, cursor: Option<&Cursor>) {
        match self {
            Self::Request(row) => push_relay_request(out, cursor, row),
            Self::Certificate(of) => push_relay_certificate(out, cursor, of),
        }
    }
}

fn begin<'o>(out: &'o mut String, kind: &str, cursor: Option<&Cursor>, id: RelayId) -> JsonLine<'o> {
    let line = JsonLine::begin(out, kind).number("version", LINE_VERSION);
    let line = match cursor {
        Some(cursor) => line.hex("cursor", cursor.as_bytes()),
        None => line,
    };
    line.number("request", number(id))
}

/// Appends the line of a request, with a newline.
pub(crate) fn push_relay_request(out: &mut String, cursor: Option<&Cursor>, row: &RelayRow) {
    let RelayEntry { id, request: of, attempts, stage } = &row.entry;
    let line = begin(out, REQUEST, cursor, *id).number("at", seconds(of.at)).number("attempted_at", row.attempted_at);
    let line = line.number("attempts", i64::from(*attempts)).plain("state", state_name(stage));
    let line = line.plain("function", function_name(of.function)).text("profile", &of.profile);
    let line = line.hex("manufacturer", of.device.manufacturer.as_bytes()).text("device", of.device.id.as_str());
    let line = line.hex("anchor", of.anchor.as_bytes()).plain("vouched_by", origin_name(of.vouched_by));
    let line = line.hex("client", of.client.as_bytes()).hex("csr", of.csr.as_bytes());
    let line = match &of.spki {
        Some(key) => line.hex("public_key", key.as_bytes()),
        None => line,
    };
    let line = line.hex("names", of.names.as_bytes()).text("upstream", &of.upstream).plain("peer", of.peer);
    line.number("repeat_until", seconds(of.window.until))
        .number("certificates_max", i64::from(of.certificates_max))
        .end();
    out.push('\n');
}

/// Appends the line of a certificate, with a newline.
pub(crate) fn push_relay_certificate(out: &mut String, cursor: Option<&Cursor>, of: &RelayedCertificate) {
    let RelayRecord { id, issued, serial, spki, window } = &of.record;
    let line = begin(out, CERTIFICATE, cursor, *id).number("issued_at", seconds(issued.at));
    let line = line.number("repeat_until", seconds(window.until));
    let line = line.number("not_before", seconds(issued.validity.not_before));
    let line = line.number("not_after", seconds(issued.validity.not_after)).hex("serial", serial);
    let line = line.hex("public_key", spki.as_bytes()).base64("certificate", &issued.certificate);
    match &of.revocation {
        None => line.end(),
        Some(Revocation { reason, at, actor }) => {
            let line = line.number("revoked_at", seconds(*at)).plain("reason", reason.name());
            line.text("actor", actor.as_str()).end();
        }
    }
    out.push('\n');
}

/// Appends the line of a request that was closed, with a newline.
pub(crate) fn push_relay_closed(out: &mut String, cursor: Option<&Cursor>, id: RelayId) {
    begin(out, CLOSED, cursor, id).end();
    out.push('\n');
}

fn state_name(stage: &RelayStage) -> &'static str {
    match stage {
        RelayStage::InFlight => "in_flight",
        RelayStage::Unresolved => "unresolved",
        RelayStage::Recorded(_) => "recorded",
    }
}

fn number(id: RelayId) -> i64 {
    i64::try_from(id.as_u64()).unwrap_or(i64::MAX)
}

fn id_of(members: &Members<'_>) -> Result<RelayId, LineFault> {
    let id = u64::try_from(members.number("request")?).ok().filter(|id| *id > 0);
    id.map(RelayId::new).ok_or(LineFault::Member("request"))
}

fn count(members: &Members<'_>, name: &'static str) -> Result<u32, LineFault> {
    u32::try_from(members.number(name)?).map_err(|_| LineFault::Member(name))
}

fn request_of(members: &Members<'_>) -> Result<RelayRow, LineFault> {
    let stage = |text: &str| match text {
        "in_flight" => Some(RelayStage::InFlight),
        "unresolved" => Some(RelayStage::Unresolved),
        "recorded" => Some(RelayStage::Recorded(Vec::new())),
        _ => None,
    };
    let function = |text: &str| Function::ALL.into_iter().find(|it| function_name(*it) == text);
    let origin = |text: &str| {
        [Origin::Manufacturer, Origin::ThisCa, Origin::Registrar].into_iter().find(|it| origin_name(*it) == text)
    };
    let request = RelayRequest {
        function: members.read("function", function)?,
        profile: members.text("profile")?.into(),
        device: Device { manufacturer: members.authority("manufacturer")?, id: members.read("device", DeviceId::new)? },
        anchor: members.authority("anchor")?,
        vouched_by: members.read("vouched_by", origin)?,
        client: members.digest("client")?,
        csr: members.digest("csr")?,
        spki: if members.has("public_key") { Some(members.digest("public_key")?) } else { None },
        names: members.digest("names")?,
        upstream: members.text("upstream")?.into(),
        peer: members.read("peer", |text| text.parse().ok())?,
        at: members.time("at")?,
        window: RepeatWindow { until: members.time("repeat_until")? },
        new_row: NewRow::Allowed,
        certificates_max: count(members, "certificates_max")?,
    };
    let entry = RelayEntry {
        id: id_of(members)?,
        request,
        attempts: count(members, "attempts")?,
        stage: members.read("state", stage)?,
    };
    Ok(RelayRow { entry, attempted_at: seconds(members.time("attempted_at")?) })
}

fn certificate_of(members: &Members<'_>) -> Result<ReplayedCertificate, LineFault> {
    let reason = |text: &str| RevocationReason::ALL.into_iter().find(|reason| reason.name() == text);
    let revocation = if members.has("revoked_at") {
        Some(Revocation {
            at: members.time("revoked_at")?,
            reason: members.read("reason", reason)?,
            actor: members.read("actor", Actor::new)?,
        })
    } else {
        None
    };
    Ok(ReplayedCertificate {
        id: id_of(members)?,
        der: members.read("certificate", |text| BASE64.decode(text).ok())?,
        validity: Validity { not_before: members.time("not_before")?, not_after: members.time("not_after")? },
        at: members.time("issued_at")?,
        serial: members.read("serial", any_octets)?.into(),
        spki: members.digest("public_key")?,
        window: RepeatWindow { until: members.time("repeat_until")? },
        revocation,
    })
}

/// Reads hexadecimal of any whole number of octets.
fn any_octets(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    hex.as_bytes().chunks(2).map(|two| Some(digit(*two.first()?)? << 4 | digit(*two.last()?)?)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use crate::sqlite::relay::tests::{certificate, request};

    #[test]
    fn each_line_is_read_as_it_was_written() {
        let revocation = Revocation {
            reason: RevocationReason::KeyCompromise,
            at: time(1_900_000_000),
            actor: Actor::new("alice").unwrap(),
        };
        for (spki, vouched_by, stage, revocation) in [
            (Some(Digest::of(b"key")), Origin::Manufacturer, RelayStage::InFlight, None),
            (None, Origin::ThisCa, RelayStage::Unresolved, None),
            (Some(Digest::of(b"key")), Origin::Registrar, RelayStage::Recorded(Vec::new()), Some(revocation)),
        ] {
            let id = RelayId::new(7);
            let request = RelayRequest { spki, vouched_by, ..request(1_800_000_000, "key \"1\"\n") };
            let mut row =
                RelayRow { entry: RelayEntry { id, request, attempts: 3, stage }, attempted_at: 1_800_000_009 };
            let of = RelayedCertificate { record: certificate(id, "certificate", "key"), revocation };
            let mut out = String::new();
            push_relay_request(&mut out, None, &row);
            push_relay_certificate(&mut out, None, &of);
            push_relay_closed(&mut out, None, id);
            let read: Vec<RelayEvent> = out.lines().map(|line| RelayEvent::read(line).unwrap()).collect();
            let [RelayEvent::Request(first), RelayEvent::Certificate(second), RelayEvent::Closed(third)] = &read[..]
            else {
                panic!("{read:?}")
            };
            assert_eq!(format!("{first:?}"), format!("{row:?}"));
            assert_eq!(format!("{:?}", second.record(&row.entry.request)), format!("{:?}", of.record));
            assert_eq!((&second.revocation, *third), (&of.revocation, id));
            row.entry.stage = RelayStage::Recorded(vec![of]);
            assert_eq!(push_relay_row(&mut out, &row), 2);
            assert!(out.lines().all(|line| line.starts_with(RELAY_BEGINNING)), "{out}");
        }
    }

    #[test]
    fn a_fault_names_the_member() {
        let line = r#"{"type":"relay.closed","version":1,"request":7}"#;
        assert!(RelayEvent::read(line).is_ok());
        for (from, to, fault) in [
            ("7", "0", LineFault::Member("request")),
            ("7", "-7", LineFault::Member("request")),
            (":1,", ":2,", LineFault::Version(2)),
            ("closed", "opened", LineFault::Kind("relay.opened".into())),
        ] {
            assert_eq!(RelayEvent::read(&line.replace(from, to)).unwrap_err(), fault, "{to}");
        }
        assert_eq!(any_octets("0aF"), None);
        assert_eq!(any_octets("0aff"), Some(vec![10, 255]));
        assert_eq!(any_octets("0x"), None);
    }
}
