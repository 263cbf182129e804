//! The schema of the admin socket: lines of JSON, a request in one line, its answer in one line or more.
//!
//! The socket is the path of `[admin] socket`. Its mode is 0600, and the server accepts its own user and root. The user of the peer, as the kernel
//! reports it, is the actor of what the request changes.
//!
//! Each request is an object with the version `"v":1` and its name in `"request"`; unknown fields are refused. A connection can carry any number of
//! requests, each answered before the next one is read:
//!
//! ```json
//! {"v":1,"request":"status"}
//! {"v":1,"request":"cert.list"}
//! {"v":1,"request":"cert.list","filter":{"device":"000001","manufacturer":"5d1f0c2a","profile":"meters","state":"good"},"rows_max":100}
//! {"v":1,"request":"cert.list","filter":{"expires_from":"2026-01-01","expires_before":"2026-07-01T00:00:00Z"},"after":"00000000000000000000000000000007"}
//! {"v":1,"request":"cert.show","row":{"serial":"010000a8c4…"}}
//! {"v":1,"request":"cert.show","row":{"certificate":"MIIB…"}}
//! {"v":1,"request":"cert.relayed","state":"unresolved","after":"7"}
//! {"v":1,"request":"cert.revoke","rows":[{"serial":"010000a8c4…"}],"reason":"keyCompromise","dry_run":true}
//! {"v":1,"request":"cert.revoke_relayed","certificates":["4f0c2a9d…"],"reason":"keyCompromise"}
//! {"v":1,"request":"cert.close_relayed","requests":[17],"dry_run":true}
//! ```
//!
//! Each line of an answer is an object with one field, which names what it is. The last line is `done` or `error`:
//!
//! | line | has | answers |
//! |---|---|---|
//! | `{"status":…}` | [`LedgerStatus`] | `status` |
//! | `{"row":…}` | [`CertificateRow`] | `cert.list`, `cert.show`; the certificate itself only for `cert.show` |
//! | `{"revocation":…}` | [`RevocationAnswer`] | `cert.revoke`, one a row, in order |
//! | `{"relayed":…}` | [`RelayedRow`] | `cert.relayed`; `cert.close_relayed`, one a request as it was, in order |
//! | `{"relayed_revocation":…}` | [`RelayedRevocationAnswer`] | `cert.revoke_relayed`, one a certificate, in order |
//! | `{"done":{"next":…}}` | where a list goes on (`after` of the next request), or null | all |
//! | `{"error":…}` | [`AdminFault`] | all |
//!
//! Times are RFC 3339 in UTC; a request may also give a date. Digests and serial numbers are lower-case hexadecimal, certificates are DER in base64.
//!
//! `cert.revoke` and `cert.revoke_relayed` revoke all of their rows or, if one of them is not in the ledger, none. A revocation is final: a row that was revoked before keeps the
//! first one, and its answer shows it.
//!
//! Bounds: a line has at most [`LINE_BYTES_MAX`] bytes, a page at most [`authority::LISTING_ROWS_MAX`] rows, a revocation or closing at
//! most [`REVOKED_ROWS_MAX`]. A page can be empty and still have a `next`.

use std::fmt;
use std::time::Duration;

use pki::issue::{RevocationReason, Serial};
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};

/// The version of the schema.
pub const PROTOCOL_VERSION: u64 = 1;

/// Bytes of one line of a request: [`REVOKED_ROWS_MAX`] certificates of a common size.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// Rows of one `cert.revoke`: a batch of the ledger that no enrolment notices. An operator who revokes more sends several.
pub const REVOKED_ROWS_MAX: usize = 100;

/// What an operator can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", deny_unknown_fields)]
pub enum AdminRequest {
    /// How the ledger is.
    #[serde(rename = "status")]
    Status {},
    /// One page of rows, in the order in which they were reserved.
    #[serde(rename = "cert.list")]
    CertificateList {
        /// Which rows; all of them without a filter.
        #[serde(default)]
        filter: ListFilter,
        /// The `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Rows of this page at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows_max: Option<usize>,
    },
    /// One row with every field.
    #[serde(rename = "cert.show")]
    CertificateShow {
        /// Which row.
        row: RowName,
    },
    /// One page of what a Registrar relayed, in the order in which it was begun.
    #[serde(rename = "cert.relayed")]
    CertificateRelayed {
        /// Only requests in this state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<RelayedState>,
        /// The `next` of the page before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// Rows of this page at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rows_max: Option<usize>,
    },
    /// Revokes for good.
    #[serde(rename = "cert.revoke")]
    CertificateRevoke {
        /// Which rows: at least one.
        rows: Vec<RowName>,
        /// The name of a [`RevocationReason`].
        reason: String,
        /// Shows what would be revoked, and changes nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// Marks certificates that a Registrar relayed as revoked, for good: it accepts them no more. The upstream does not hear of it.
    #[serde(rename = "cert.revoke_relayed")]
    CertificateRevokeRelayed {
        /// SHA-256 of each, in hexadecimal digits: at least one.
        certificates: Vec<String>,
        /// The name of a [`RevocationReason`].
        reason: String,
        /// Shows what would be marked, and changes nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// Forgets requests that a Registrar relayed and whose end is unknown, all of them or none: the next one of the device is a new request, which may
    /// go to another upstream.
    #[serde(rename = "cert.close_relayed")]
    CertificateCloseRelayed {
        /// The number of each: at least one.
        requests: Vec<u64>,
        /// Shows what would be forgotten, and changes nothing.
        #[serde(default)]
        dry_run: bool,
    },
}

/// Which rows a list has: those for which everything holds that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListFilter {
    /// The identity of a device, as the log and the rows show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The manufacturer of `device`: at least the first 8 digits of its identity, or all 64 if the configuration does not name the manufacturer any
    /// more. Without it, `device` means the device of each manufacturer in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// The name of a profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The state of the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<RowStateName>,
    /// Certificates whose notAfter is this or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_from: Option<String>,
    /// Certificates whose notAfter is before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_before: Option<String>,
}

/// A state that rows are listed by; see [`authority::RowState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are those of `authority::RowState`")]
pub enum RowStateName {
    Good,
    Revoked,
    Issued,
    Abandoned,
    Reserved,
}

/// How far a relayed request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayedState {
    /// It was sent, or is about to be, and its upstream may still answer.
    InFlight,
    /// It was sent, and nobody knows what became of it: the upstream may have issued a certificate.
    Unresolved,
    /// Its certificate came back.
    Recorded,
}

/// What names one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowName {
    /// Its serial number, see [`serial_number`].
    Serial(String),
    /// Its certificate, DER in base64.
    Certificate(String),
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminAnswer {
    /// How the ledger is.
    Status(LedgerStatus),
    /// A row.
    Row(Box<CertificateRow>),
    /// A relayed request.
    Relayed(Box<RelayedRow>),
    /// What a revocation did.
    Revocation(Box<RevocationAnswer>),
    /// What a mark of a relayed certificate did.
    RelayedRevocation(Box<RelayedRevocationAnswer>),
    /// The last line of an answer.
    Done {
        /// Where a list goes on.
        next: Option<String>,
    },
    /// The last line of a request that failed.
    Error(AdminFault),
}

/// How the ledger is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// Whether it can read and write now.
    pub healthy: bool,
    /// Why it cannot.
    pub fault: Option<String>,
    /// Rows, whatever their stage.
    pub rows: Option<u64>,
    /// How many more rows it has room for; null if it sets no bound itself.
    pub room: Option<u64>,
    /// Rows with a certificate.
    pub issued: Option<u64>,
    /// Every certificate of this node that was issued after this time has a row.
    pub complete_since: Option<String>,
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields that need one have a comment")]
pub struct CertificateRow {
    pub serial: String,
    /// `good`, `revoked`, `reserved`, `abandoned`, or `abandoned, revoked`: the certificate of an abandoned row may have been signed before a crash.
    pub state: String,
    pub revocation: Option<RowRevocation>,
    pub device: String,
    /// The identity of the manufacturer that vouched for the device first.
    pub manufacturer: String,
    pub profile: String,
    pub profile_version: String,
    /// `sen` or `sren`.
    pub function: String,
    pub subject: String,
    pub not_before: String,
    pub not_after: String,
    /// When the device asked.
    pub requested_at: String,
    /// When the certificate was issued.
    pub issued_at: Option<String>,
    /// Until when a repeat of the request gets the same certificate.
    pub repeats_until: Option<String>,
    /// The address that the request came from.
    pub peer: String,
    /// `manufacturer` if the device authenticated with its manufacturer's certificate, `this_ca` for one of this CA.
    pub vouched_by: String,
    /// The identity of the issuing CA.
    pub ca: String,
    /// The identity of the anchor that the certificate of the client chained to.
    pub anchor: String,
    /// SHA-256 of the certificate.
    pub certificate_sha256: Option<String>,
    /// SHA-256 of the certificate that the device authenticated with.
    pub client_sha256: String,
    /// SHA-256 of the key in the manufacturer's certificate, if the device authenticated with that.
    pub factory_key_sha256: Option<String>,
    pub csr_sha256: String,
    /// SHA-256 of the key that is certified.
    pub key_sha256: String,
    /// SHA-256 of the names that the request asked for.
    pub names_sha256: String,
    pub to_be_signed_sha256: String,
    /// The key by which a repeat of the request is recognised.
    pub request: String,
    /// The certificate: DER in base64. Only in the answer to `cert.show`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// A request that a Registrar relayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields that need one have a comment")]
pub struct RelayedRow {
    /// Its number.
    pub request: u64,
    pub state: RelayedState,
    /// The name of the upstream that it was sent to.
    pub upstream: String,
    /// How often it was sent, or was about to be.
    pub attempts: u32,
    pub device: String,
    pub manufacturer: String,
    pub profile: String,
    /// `sen`, `sren` or `skg`.
    pub function: String,
    pub requested_at: String,
    /// The address that the request came from.
    pub peer: String,
    pub client_sha256: String,
    pub csr_sha256: String,
    /// What came back, in order: the first one is the answer.
    pub certificates: Vec<RelayedCertificateRow>,
}

/// A certificate of a relayed request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields that need one have a comment")]
pub struct RelayedCertificateRow {
    /// The serial number, as the upstream chose it.
    pub upstream_serial: String,
    pub certificate_sha256: String,
    pub not_before: String,
    pub not_after: String,
    /// When it came back.
    pub recorded_at: String,
    /// The operator's mark: what verifiers are told is up to the upstream.
    pub revocation: Option<RowRevocation>,
}

/// The revocation of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRevocation {
    /// The name of the reason.
    pub reason: String,
    /// When.
    pub at: String,
    /// Who revoked it.
    pub actor: String,
}

/// What `cert.revoke` did with one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevocationAnswer {
    /// What it did.
    pub outcome: RevocationOutcome,
    /// The row as it is now.
    pub row: CertificateRow,
}

/// What `cert.revoke_relayed` did with one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields that need one have a comment")]
pub struct RelayedRevocationAnswer {
    /// What it did.
    pub outcome: RevocationOutcome,
    pub certificate_sha256: String,
    pub device: String,
    pub profile: String,
    pub not_after: String,
    /// The mark as it is now.
    pub revocation: Option<RowRevocation>,
}

/// What a revocation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationOutcome {
    /// The row is revoked from now on.
    Revoked,
    /// It was revoked before; that revocation stands.
    RevokedBefore,
    /// A dry run: it would be revoked.
    WouldBeRevoked,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminFault {
    /// What a program branches on.
    pub code: AdminFaultCode,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminFaultCode {
    /// The line is not a request.
    BadRequest,
    /// The server has another version of the schema.
    UnsupportedVersion,
    /// The line is too long; the server closes the connection.
    LineTooLong,
    /// The user may not use the socket; the server closes the connection.
    Forbidden,
    /// Too many connections are open; the server closes this one.
    Busy,
    /// The ledger has no such row. Nothing was changed.
    UnknownRow,
    /// The ledger cannot read or write now. Nothing was changed.
    LedgerUnavailable,
    /// The ledger did not answer in time: whether a revocation was written is not known. Asking for it again is safe.
    LedgerTimeout,
}

impl AdminFault {
    pub(super) fn new(code: AdminFaultCode, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(AdminFaultCode::BadRequest, message, remedy)
    }
}

impl fmt::Display for AdminFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.message, self.remedy)
    }
}

impl std::error::Error for AdminFault {}

impl AdminRequest {
    /// Reads the line of a request.
    ///
    /// # Errors
    /// [`AdminFaultCode::BadRequest`] or [`AdminFaultCode::UnsupportedVersion`].
    pub fn read(line: &[u8]) -> Result<Self, AdminFault> {
        const REMEDY: &str =
            "send one JSON object per line, such as {\"v\":1,\"request\":\"status\"}; see `server::admin::protocol`";
        let bad = |error: serde_json::Error| AdminFault::bad_request(format!("not a request: {error}"), REMEDY);
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(line).map_err(bad)?;
        match object.remove("v").map(|version| version.as_u64()) {
            Some(Some(PROTOCOL_VERSION)) => {}
            Some(Some(other)) => {
                return Err(AdminFault::new(
                    AdminFaultCode::UnsupportedVersion,
                    format!("the request has version {other} of the schema"),
                    format!("this server has version {PROTOCOL_VERSION}: use the `muster` of its release"),
                ));
            }
            _ => return Err(AdminFault::bad_request("the request has no version", REMEDY)),
        }
        serde_json::from_value(object.into()).map_err(bad)
    }

    /// The line of a request, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        let mut object = serde_json::to_value(self).unwrap_or_default();
        object["v"] = PROTOCOL_VERSION.into();
        format!("{object}\n")
    }
}

impl AdminAnswer {
    /// Whether it is the last line of its answer.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Error(_))
    }

    /// The line, with its end.
    pub(super) fn line(&self) -> String {
        let line = serde_json::to_string(self).unwrap_or_default();
        // Names that devices chose can contain characters that do not show, such as directional marks.
        format!("{}\n", pki::json_line_shown(&line))
    }
}

/// Reads a serial number of Muster: 38 hexadecimal digits. It may have the forms that OpenSSL prints: upper case, colons, and `serial=` in front.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn serial_number(text: &str) -> Result<Serial, String> {
    let digits = text.strip_prefix("serial=").or_else(|| text.strip_prefix("0x")).unwrap_or(text).replace(':', "");
    let octets = hex::decode(digits).map_err(|_| {
        format!("`{text}` is not a serial number: expected hexadecimal digits, as `muster cert list` prints")
    })?;
    Serial::from_bytes(&octets).map_err(|error| format!("`{text}` is not a serial number of this server: {error}"))
}

/// Reads a time: RFC 3339, or a date, which means its beginning in UTC.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn time_of(text: &str) -> Result<UnixTime, String> {
    use time::format_description::well_known::Rfc3339;
    let whole = if text.len() == "2026-01-01".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let seconds =
        time::OffsetDateTime::parse(&whole, &Rfc3339).ok().and_then(|at| u64::try_from(at.unix_timestamp()).ok());
    seconds.map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds))).ok_or_else(|| {
        format!(
            "`{text}` is not a time since 1970: write 2026-07-01T00:00:00Z, or 2026-07-01 for the beginning of that day"
        )
    })
}

/// Reads the name of a reason (RFC 5280 §5.3.1), without regard to case.
///
/// # Errors
/// What is wrong with it, as a sentence.
pub fn revocation_reason(text: &str) -> Result<RevocationReason, String> {
    if let Some(reason) = RevocationReason::ALL.into_iter().find(|reason| reason.name().eq_ignore_ascii_case(text)) {
        return Ok(reason);
    }
    let names = RevocationReason::ALL.map(RevocationReason::name).join(", ");
    let temporary = ["certificateHold", "removeFromCRL"].into_iter().find(|name| name.eq_ignore_ascii_case(text));
    Err(match temporary {
        Some(name) => format!(
            "{name} belongs to a revocation that can be lifted, and a revocation here is final: choose one of {names}"
        ),
        None => format!("`{text}` is not a reason of RFC 5280: choose one of {names}"),
    })
}

#[cfg(test)]
mod tests;
