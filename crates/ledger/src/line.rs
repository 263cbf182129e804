//! A row as lines of JSON: what a journal and an export hold, and what rebuilds the row.
//!
//! ```text
//! {"type":"ledger.issued","version":1,"serial":"01…","at":1800000000,"function":"sen",…,"certificate":"MIIB…"}
//! {"type":"ledger.revoked","version":1,"serial":"01…","at":1800000100,"reason":"keyCompromise","actor":"alice"}
//! ```
//!
//! | type | members after `type` and `version` |
//! |---|---|
//! | `ledger.reserved` | those of a request |
//! | `ledger.issued` | those of a request, and `issued_at`, `repeat_until`, `certificate` |
//! | `ledger.abandoned` | those of a request |
//! | `ledger.revoked` | `serial`, `at`, `reason` (a name of RFC 5280 §5.3.1), `actor` |
//!
//! A request has `serial`, `at`, `function` (as in the paths of EST-coaps), `profile`, `profile_version`, `ca`, `manufacturer`, `device`, `anchor`,
//! `vouched_by` (`manufacturer` or `this_ca`), `client`, `factory_key` if the client authenticated with that, `csr`, `public_key`, `names`,
//! `to_be_signed`, `subject`, `not_before`, `not_after` and `peer`. Times are seconds since 1970; serial numbers and digests (SHA-256) are
//! hexadecimal; `subject` and `certificate` are DER in base64. A line of an export has a `cursor`, where another export goes on
//! behind it: see [`crate::export`].
//!
//! A reader ignores members that it does not know, and refuses a version that it does not know: a release that adds a member which an older one must
//! not ignore raises the version.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use authority::{
    Actor, Cursor, Device, DeviceId, Function, Intent, Issued, LedgerEntry, Origin, ProfileVersion, Record,
    RepeatWindow, Revocation, RowStage,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::issue::{RevocationReason, SERIAL_BYTES, Serial};
use pki::{AnchorId, Digest, Name, Validity};
use rustls_pki_types::UnixTime;
use serde_json::Value;

use crate::json::{JsonLine, octets};
use crate::seconds::{seconds, time};

/// The version of lines that this release writes, and the only one that it reads.
pub const LINE_VERSION: i64 = 1;

/// A longer line is refused before it is looked at. A certificate has at most some kilobytes, and everything else fits two.
pub const LINE_BYTES_MAX: usize = 64 * 1_024;

/// What one line says.
#[derive(Clone, Debug)]
pub struct RowLine {
    /// Where an export goes on behind the line, if the line says it.
    pub cursor: Option<Cursor>,
    /// What it says about the row.
    pub event: RowEvent,
}

/// What a line says about a row.
#[derive(Clone, Debug)]
pub enum RowEvent {
    /// Its serial number is reserved for this request.
    Reserved(Intent),
    /// This certificate was recorded for this request.
    Issued(Intent, Record),
    /// The reservation for this request was given up.
    Abandoned(Intent),
    /// The row of this serial number was revoked.
    Revoked(Serial, Revocation),
}

impl RowEvent {
    /// The serial number of the row.
    #[must_use]
    pub fn serial(&self) -> &Serial {
        match self {
            Self::Reserved(intent) | Self::Issued(intent, _) | Self::Abandoned(intent) => &intent.serial,
            Self::Revoked(serial, _) => serial,
        }
    }

    /// The latest of the times at which something happened, according to it.
    #[must_use]
    pub fn latest(&self) -> UnixTime {
        match self {
            Self::Reserved(intent) | Self::Abandoned(intent) => intent.at,
            Self::Issued(intent, record) => intent.at.max(record.issued.at),
            Self::Revoked(_, revocation) => revocation.at,
        }
    }
}

impl RowLine {
    /// Reads a line, without its newline.
    ///
    /// # Errors
    /// [`LineFault`] says what is wrong with it.
    pub fn read(line: &str) -> Result<Self, LineFault> {
        if line.len() > LINE_BYTES_MAX {
            return Err(LineFault::TooLong(line.len()));
        }
        let value: Value = serde_json::from_str(line).map_err(|_| LineFault::NotJson)?;
        let members = Members(&value);
        let kind = members.text("type")?;
        let read: fn(&Members<'_>) -> Result<RowEvent, LineFault> = match kind {
            RESERVED => |members| Ok(RowEvent::Reserved(members.intent()?)),
            ISSUED => |members| members.issued(),
            ABANDONED => |members| Ok(RowEvent::Abandoned(members.intent()?)),
            REVOKED => |members| members.revoked(),
            _ => return Err(LineFault::kind(kind)),
        };
        let version = members.number("version")?;
        if version != LINE_VERSION {
            return Err(LineFault::Version(version));
        }
        let cursor = match value.get("cursor") {
            Some(_) => Some(Cursor::from_bytes(members.octets("cursor")?)),
            None => None,
        };
        Ok(Self { cursor, event: read(&members)? })
    }

    /// Appends the line, with a newline.
    pub fn push(&self, out: &mut String) {
        let cursor = self.cursor.as_ref();
        match &self.event {
            RowEvent::Reserved(intent) => request(out, RESERVED, cursor, intent).end(),
            RowEvent::Issued(intent, record) => certificate(request(out, ISSUED, cursor, intent), record),
            RowEvent::Abandoned(intent) => request(out, ABANDONED, cursor, intent).end(),
            RowEvent::Revoked(serial, revocation) => revoked(out, cursor, serial, revocation),
        }
        out.push('\n');
    }
}

const RESERVED: &str = "ledger.reserved";
const ISSUED: &str = "ledger.issued";
const ABANDONED: &str = "ledger.abandoned";
const REVOKED: &str = "ledger.revoked";

/// How much of a type that is not known is shown.
const KIND_SHOWN_MAX: usize = 32;

/// Appends the lines of this row, each with a newline: one for its stage and, if it is revoked, one for that.
pub fn push_entry(out: &mut String, entry: &LedgerEntry) {
    let cursor = Some(&entry.cursor);
    match &entry.stage {
        RowStage::Reserved => request(out, RESERVED, cursor, &entry.intent).end(),
        RowStage::Abandoned => request(out, ABANDONED, cursor, &entry.intent).end(),
        RowStage::Issued(record) => certificate(request(out, ISSUED, cursor, &entry.intent), record),
    }
    out.push('\n');
    if let Some(revocation) = &entry.revocation {
        revoked(out, cursor, &entry.intent.serial, revocation);
        out.push('\n');
    }
}

/// Appends the line of a certificate that was recorded, with a newline.
pub fn push_issued(out: &mut String, intent: &Intent, record: &Record) {
    certificate(request(out, ISSUED, None, intent), record);
    out.push('\n');
}

/// Appends the line of a reservation that was given up, with a newline.
pub fn push_abandoned(out: &mut String, intent: &Intent) {
    request(out, ABANDONED, None, intent).end();
    out.push('\n');
}

/// Appends the line of a revocation, with a newline.
pub fn push_revoked(out: &mut String, serial: &Serial, revocation: &Revocation) {
    revoked(out, None, serial, revocation);
    out.push('\n');
}

fn begin<'o>(out: &'o mut String, kind: &str, cursor: Option<&Cursor>) -> JsonLine<'o> {
    let line = JsonLine::begin(out, kind).number("version", LINE_VERSION);
    match cursor {
        Some(cursor) => line.hex("cursor", cursor.as_bytes()),
        None => line,
    }
}

fn request<'o>(out: &'o mut String, kind: &str, cursor: Option<&Cursor>, of: &Intent) -> JsonLine<'o> {
    let line = begin(out, kind, cursor).hex("serial", of.serial.as_bytes()).number("at", seconds(of.at));
    let line = line.plain("function", function_name(of.function)).text("profile", &of.profile);
    let line = line.hex("profile_version", of.profile_version.as_bytes()).hex("ca", of.ca.as_bytes());
    let line = line.hex("manufacturer", of.device.manufacturer.as_bytes()).text("device", of.device.id.as_str());
    let line = line.hex("anchor", of.anchor.as_bytes()).plain("vouched_by", origin_name(of.vouched_by));
    let line = line.hex("client", of.client.as_bytes());
    let line = match &of.factory_key {
        Some(key) => line.hex("factory_key", key.as_bytes()),
        None => line,
    };
    let line = line.hex("csr", of.csr.as_bytes()).hex("public_key", of.spki.as_bytes());
    let line = line.hex("names", of.names.as_bytes()).hex("to_be_signed", of.to_be_signed.as_bytes());
    let line = line.base64("subject", of.subject.der()).number("not_before", seconds(of.validity.not_before));
    line.number("not_after", seconds(of.validity.not_after)).plain("peer", of.peer)
}

fn certificate(line: JsonLine<'_>, record: &Record) {
    let line = line.number("issued_at", seconds(record.issued.at));
    line.number("repeat_until", seconds(record.window.until)).base64("certificate", &record.issued.certificate).end();
}

fn revoked(out: &mut String, cursor: Option<&Cursor>, serial: &Serial, revocation: &Revocation) {
    let line = begin(out, REVOKED, cursor).hex("serial", serial.as_bytes()).number("at", seconds(revocation.at));
    line.plain("reason", revocation.reason.name()).text("actor", revocation.actor.as_str()).end();
}

/// As in the paths of EST-coaps (RFC 9148 §5.1).
pub(crate) const fn function_name(function: Function) -> &'static str {
    match function {
        Function::SimpleEnroll => "sen",
        Function::SimpleReenroll => "sren",
        Function::ServerKeygen => "skg",
    }
}

pub(crate) const fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Manufacturer => "manufacturer",
        Origin::ThisCa => "this_ca",
        Origin::Registrar => "registrar",
    }
}

/// The members of an object.
pub(crate) struct Members<'v>(pub(crate) &'v Value);

impl<'v> Members<'v> {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<&'v str, LineFault> {
        self.0.get(name).and_then(Value::as_str).ok_or(LineFault::Member(name))
    }

    pub(crate) fn number(&self, name: &'static str) -> Result<i64, LineFault> {
        self.0.get(name).and_then(Value::as_i64).ok_or(LineFault::Member(name))
    }

    pub(crate) fn time(&self, name: &'static str) -> Result<UnixTime, LineFault> {
        let seconds = Some(self.number(name)?).filter(|seconds| *seconds >= 0);
        seconds.map(time).ok_or(LineFault::Member(name))
    }

    pub(crate) fn read<T>(&self, name: &'static str, read: impl FnOnce(&str) -> Option<T>) -> Result<T, LineFault> {
        read(self.text(name)?).ok_or(LineFault::Member(name))
    }

    pub(crate) fn octets<const N: usize>(&self, name: &'static str) -> Result<[u8; N], LineFault> {
        self.read(name, octets)
    }

    pub(crate) fn digest(&self, name: &'static str) -> Result<Digest, LineFault> {
        self.octets(name).map(Digest::from_bytes)
    }

    pub(crate) fn authority(&self, name: &'static str) -> Result<AnchorId, LineFault> {
        self.octets(name).map(AnchorId::from_bytes)
    }

    fn serial(&self) -> Result<Serial, LineFault> {
        let octets: [u8; SERIAL_BYTES] = self.octets("serial")?;
        Serial::from_bytes(&octets).map_err(|_| LineFault::Member("serial"))
    }

    fn intent(&self) -> Result<Intent, LineFault> {
        let function = |text: &str| Function::ALL.into_iter().find(|it| function_name(*it) == text);
        let origin = |text: &str| {
            [Origin::Manufacturer, Origin::ThisCa, Origin::Registrar].into_iter().find(|it| origin_name(*it) == text)
        };
        let subject = |text: &str| BASE64.decode(text).ok().and_then(|der| Name::parse(&der).ok());
        let factory_key = match self.0.get("factory_key") {
            Some(_) => Some(self.digest("factory_key")?),
            None => None,
        };
        Ok(Intent {
            serial: self.serial()?,
            ca: self.authority("ca")?,
            to_be_signed: self.digest("to_be_signed")?,
            function: self.read("function", function)?,
            profile: self.text("profile")?.into(),
            profile_version: ProfileVersion::from_bytes(self.octets("profile_version")?),
            device: Device { manufacturer: self.authority("manufacturer")?, id: self.read("device", DeviceId::new)? },
            anchor: self.authority("anchor")?,
            vouched_by: self.read("vouched_by", origin)?,
            client: self.digest("client")?,
            factory_key,
            csr: self.digest("csr")?,
            spki: self.digest("public_key")?,
            names: self.digest("names")?,
            subject: self.read("subject", subject)?,
            validity: Validity { not_before: self.time("not_before")?, not_after: self.time("not_after")? },
            peer: self.read("peer", |text| text.parse::<SocketAddr>().ok())?,
            at: self.time("at")?,
        })
    }

    fn issued(&self) -> Result<RowEvent, LineFault> {
        let intent = self.intent()?;
        let certificate = self.read("certificate", |text| BASE64.decode(text).ok())?;
        let issued = Issued {
            device: intent.device.clone(),
            profile: Arc::clone(&intent.profile),
            digest: Digest::of(&certificate),
            certificate,
            validity: intent.validity,
            at: self.time("issued_at")?,
        };
        let window = RepeatWindow { until: self.time("repeat_until")? };
        let record = Record { serial: intent.serial, issued: Arc::new(issued), window };
        Ok(RowEvent::Issued(intent, record))
    }

    fn revoked(&self) -> Result<RowEvent, LineFault> {
        let reason = |text: &str| RevocationReason::ALL.into_iter().find(|reason| reason.name() == text);
        let revocation = Revocation {
            reason: self.read("reason", reason)?,
            at: self.time("at")?,
            actor: self.read("actor", Actor::new)?,
        };
        Ok(RowEvent::Revoked(self.serial()?, revocation))
    }
}

/// Why a line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineFault {
    /// It has this many bytes, more than [`LINE_BYTES_MAX`].
    TooLong(usize),
    /// It is not an object of JSON.
    NotJson,
    /// Its type is not one of a row.
    Kind(String),
    /// It was written in this version.
    Version(i64),
    /// This member is missing, or does not have the form that it has in this version.
    Member(&'static str),
}

impl LineFault {
    /// The fault of a line whose type is not known.
    pub(crate) fn kind(kind: &str) -> Self {
        Self::Kind(kind.chars().take(KIND_SHOWN_MAX).collect())
    }
}

impl fmt::Display for LineFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "it has {bytes} bytes; a line has at most {LINE_BYTES_MAX}"),
            Self::NotJson => f.write_str("it is not an object of JSON"),
            Self::Kind(kind) => write!(f, "its type `{}` is not that of a row", kind.escape_default()),
            Self::Version(version) => {
                write!(
                    f,
                    "it has version {version}, and this release reads version {LINE_VERSION}: use the release that wrote it"
                )
            }
            Self::Member(name) => write!(f, "its member `{name}` is missing or damaged"),
        }
    }
}

impl std::error::Error for LineFault {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest() -> impl Strategy<Value = Digest> {
        any::<[u8; 32]>().prop_map(Digest::from_bytes)
    }

    fn authority() -> impl Strategy<Value = AnchorId> {
        any::<[u8; 32]>().prop_map(AnchorId::from_bytes)
    }

    fn moment() -> impl Strategy<Value = UnixTime> {
        (0..=i64::MAX).prop_map(time)
    }

    /// Text without control characters, with quotes and characters that a line of JSON escapes.
    fn printable() -> impl Strategy<Value = String> {
        "[a-z\"\\\\/ü€\u{202e}\u{2028}😀]{1,16}"
    }

    prop_compose! {
        fn request_of_a_device()(
            (serial, device, profile) in (any::<[u8; 16]>(), printable(), printable()),
            (ca, manufacturer, anchor) in (authority(), authority(), authority()),
            (client, csr, spki, names, to_be_signed) in (digest(), digest(), digest(), digest(), digest()),
            (factory_key, profile_version) in (prop::option::of(digest()), any::<[u8; 8]>()),
            (at, not_before, not_after) in (moment(), moment(), moment()),
            (node, port, v4, v6) in (any::<u16>(), any::<u16>(), any::<[u8; 4]>(), prop::option::of(any::<[u8; 16]>())),
            (is_renewal, is_ours, name) in (any::<bool>(), any::<bool>(), "[a-zA-Z0-9 ]{0,14}[a-z]"),
        ) -> Intent {
            let address = v6.map_or(std::net::IpAddr::from(v4), std::net::IpAddr::from);
            Intent {
                serial: Serial::new(pki::issue::NodePrefix::new(node), serial),
                ca,
                to_be_signed,
                function: if is_renewal { Function::SimpleReenroll } else { Function::SimpleEnroll },
                profile: profile.into(),
                profile_version: ProfileVersion::from_bytes(profile_version),
                device: Device { manufacturer, id: DeviceId::new(&device).unwrap() },
                anchor,
                vouched_by: if is_ours { Origin::ThisCa } else { Origin::Manufacturer },
                client,
                factory_key,
                csr,
                spki,
                names,
                subject: pki::NameBuilder::new().push(pki::oid::COMMON_NAME, &name).unwrap().finish().unwrap(),
                validity: Validity { not_before, not_after },
                peer: (address, port).into(),
                at,
            }
        }
    }

    prop_compose! {
        fn revocation()(reason in prop::sample::select(&RevocationReason::ALL[..]), at in moment(), actor in printable()) -> Revocation {
            Revocation { reason, at, actor: Actor::new(&actor).unwrap() }
        }
    }

    prop_compose! {
        fn entry()(
            intent in request_of_a_device(),
            (cursor, stage) in (any::<[u8; 16]>(), 0_usize..3),
            (certificate, issued_at, until) in (prop::collection::vec(any::<u8>(), 0..700), moment(), moment()),
            revocation in prop::option::of(revocation()),
        ) -> LedgerEntry {
            let issued = Issued {
                device: intent.device.clone(),
                profile: Arc::clone(&intent.profile),
                digest: Digest::of(&certificate),
                certificate,
                validity: intent.validity,
                at: issued_at,
            };
            let record = Record { serial: intent.serial, issued: Arc::new(issued), window: RepeatWindow { until } };
            let stage: RowStage = [RowStage::Reserved, RowStage::Abandoned, RowStage::Issued(record)].into_iter().nth(stage).unwrap();
            LedgerEntry { cursor: Cursor::from_bytes(cursor), intent, stage, revocation }
        }
    }

    /// The row that these lines rebuild.
    fn rebuilt(lines: &str) -> LedgerEntry {
        let mut row: Option<LedgerEntry> = None;
        for line in lines.lines() {
            let RowLine { cursor, event } = RowLine::read(line).unwrap();
            let (intent, stage) = match event {
                RowEvent::Reserved(intent) => (intent, RowStage::Reserved),
                RowEvent::Abandoned(intent) => (intent, RowStage::Abandoned),
                RowEvent::Issued(intent, record) => (intent, RowStage::Issued(record)),
                RowEvent::Revoked(serial, revocation) => {
                    let row = row.as_mut().unwrap();
                    assert_eq!(row.intent.serial, serial);
                    row.revocation = Some(revocation);
                    continue;
                }
            };
            row = Some(LedgerEntry { cursor: cursor.unwrap(), intent, stage, revocation: None });
        }
        row.unwrap()
    }

    proptest! {
        #[test]
        fn a_row_is_rebuilt_from_its_lines(entry in entry()) {
            let mut lines = String::new();
            push_entry(&mut lines, &entry);
            prop_assert!(lines.lines().all(|line| line.len() <= LINE_BYTES_MAX));
            prop_assert_eq!(format!("{:?}", rebuilt(&lines)), format!("{entry:?}"));
        }

        #[test]
        fn an_event_is_read_back_from_its_line(entry in entry(), revocation in revocation()) {
            let mut lines = String::new();
            push_abandoned(&mut lines, &entry.intent);
            push_revoked(&mut lines, &entry.intent.serial, &revocation);
            if let RowStage::Issued(record) = &entry.stage {
                push_issued(&mut lines, &entry.intent, record);
            }
            for line in lines.lines() {
                let read = RowLine::read(line).unwrap();
                prop_assert!(read.cursor.is_none());
                prop_assert_eq!(read.event.serial(), &entry.intent.serial);
                match (read.event, &entry.stage) {
                    (RowEvent::Abandoned(intent), _) => prop_assert_eq!(format!("{intent:?}"), format!("{:?}", entry.intent)),
                    (RowEvent::Revoked(_, read), _) => prop_assert_eq!(&read, &revocation),
                    (RowEvent::Issued(_, read), RowStage::Issued(record)) => prop_assert_eq!(format!("{read:?}"), format!("{record:?}")),
                    (other, _) => prop_assert!(false, "{other:?} was not written"),
                }
            }
        }

        #[test]
        fn no_line_makes_the_reader_panic(line in ".{0,200}", entry in entry(), cut in any::<prop::sample::Index>()) {
            drop(RowLine::read(&line));
            let mut lines = String::new();
            push_entry(&mut lines, &entry);
            let whole = lines.lines().next().unwrap();
            let end = whole.floor_char_boundary(cut.index(whole.len()));
            prop_assert_eq!(RowLine::read(&whole[..end]).err(), Some(LineFault::NotJson));
        }
    }

    fn a_revocation() -> String {
        let mut line = String::new();
        let revocation = Revocation {
            reason: RevocationReason::KeyCompromise,
            at: time(1_800_000_000),
            actor: Actor::new("alice").unwrap(),
        };
        push_revoked(&mut line, &Serial::new(pki::issue::NodePrefix::new(7), [0xab; 16]), &revocation);
        line.trim_end().to_owned()
    }

    #[test]
    fn a_line_is_text_that_a_person_can_read() {
        let expected = format!(
            r#"{{"type":"ledger.revoked","version":1,"serial":"010007{}","at":1800000000,"reason":"keyCompromise","actor":"alice"}}"#,
            "ab".repeat(16)
        );
        assert_eq!(a_revocation(), expected);
    }

    #[test]
    fn members_of_a_newer_release_are_ignored_and_its_versions_are_refused_by_name() {
        let line = a_revocation();
        assert!(RowLine::read(&line.replace("\"at\":", "\"why\":{\"a\":[1]},\"at\":")).is_ok());
        let newer = RowLine::read(&line.replace("\"version\":1", "\"version\":2")).unwrap_err();
        assert_eq!(newer, LineFault::Version(2));
        assert!(newer.to_string().contains("version 2") && newer.to_string().contains("use the release that wrote it"));
        // Whatever its members are.
        let newer = RowLine::read(r#"{"type":"ledger.issued","version":9}"#).unwrap_err();
        assert_eq!(newer, LineFault::Version(9));
    }

    #[test]
    fn a_fault_names_the_member() {
        let line = a_revocation();
        for (from, to, member) in [
            ("\"at\":1800000000", "\"at\":-1", "at"),
            ("\"at\":1800000000", "\"at\":\"now\"", "at"),
            ("keyCompromise", "removeFromCRL", "reason"),
            ("\"alice\"", "\"\"", "actor"),
            ("\"010007", "\"020007", "serial"),
            ("\"010007", "\"0007", "serial"),
            ("\"version\":1,", "", "version"),
        ] {
            let fault = RowLine::read(&line.replace(from, to)).unwrap_err();
            assert_eq!(fault, LineFault::Member(member), "{to} for {from}");
        }
        assert_eq!(
            RowLine::read(&line.replace("ledger.revoked", "audit.stub")).unwrap_err(),
            LineFault::Kind("audit.stub".into())
        );
        assert_eq!(RowLine::read("[1]").unwrap_err(), LineFault::Member("type"));
        assert_eq!(RowLine::read("").unwrap_err(), LineFault::NotJson);
    }

    #[test]
    fn a_line_that_is_too_long_is_not_looked_at() {
        let line = a_revocation() + &" ".repeat(LINE_BYTES_MAX);
        assert_eq!(RowLine::read(&line).unwrap_err(), LineFault::TooLong(line.len()));
    }
}
