//! The record of one attempt and its result; log lines, metrics and the attempt ring are views of it. Also the counters
//! that need no record.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use authority::{Profile, ShownDevice};
use dtls::{Path, SessionCounts};

use crate::reason::{Reason, Stage};
use crate::resources::Resource;

/// Bytes of [`Attempt::offered`]: a log line with the names that a hello offers.
pub const OFFERED_BYTES_MAX: usize = 2_048;

/// Bytes of it that a path may take.
pub(super) const PATH_SHOWN_BYTES_MAX: usize = 128;
const _: () = assert!(PATH_SHOWN_BYTES_MAX < OFFERED_BYTES_MAX);

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The address of the peer.
    pub peer: SocketAddr,
    /// The device identity, if the attempt got far enough and a profile's rule yields one.
    pub device: Option<ShownDevice>,
    /// The profile that the request asked for, once its path had named one.
    pub profile: Option<Arc<str>>,
    /// The stage that the attempt reached.
    pub stage: Stage,
    /// The result.
    pub outcome: Result<Success, Reason>,
    /// A short text about what was offered or asked for; for a successful handshake, the suite.
    pub offered: Cow<'static, str>,
    /// What exactly is at fault, if known: the certificate (index, subject), the field and rule, or both of two values
    /// that differ. One line of our own text with the peer's values in it: for logs, which quote it, never for the
    /// wire.
    pub detail: Option<Box<str>>,
    /// The device that the peer claims to be, once a certificate was read and as long as no proof has arrived; `device`
    /// is `None` then.
    pub claimed: Option<Box<str>>,
    /// Further reasons for which a refused hello would also have failed.
    pub further: Vec<Reason>,
    /// Observations for the operator that did not cause a refusal.
    pub notices: Vec<Notice>,
    /// For a handshake, from its first hello with a valid cookie; for a function, from its complete request.
    pub elapsed: Duration,
}

/// Accepted, but reported to the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The client asked for a name that the server's certificate does not contain, and got that certificate anyway (RFC
    /// 6066 §3 leaves this to the server; libcoap asks for `localhost` if an address was dialled).
    UnknownServerName(Box<str>),
    /// The client sent an address as server_name: "Literal IPv4 and IPv6 addresses are not permitted" there (RFC 6066
    /// §3). It got our certificate as if it had sent no name.
    AddressAsServerName(IpAddr),
    /// The handshake needed datagrams of at most this many bytes: the path drops longer ones, or lost several in a row.
    NarrowPath(usize),
    /// The manufacturer certificate is past its notAfter, and `allow_expired_identity` accepts it.
    ExpiredIdentity,
}

impl Notice {
    /// The notice for a server_name that the server's certificate does not contain.
    pub(super) fn of_server_name(name: Box<str>) -> Self {
        // An IPv6 address may come with the brackets of a URI if a stack copies the host unchanged.
        let bare = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(&name);
        match bare.parse() {
            Ok(address) => Self::AddressAsServerName(address),
            Err(_) => Self::UnknownServerName(name),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownServerName(name) => {
                write!(
                    out,
                    "asked for the server name `{}`, which our certificate does not contain",
                    name.escape_debug()
                )
            }
            Self::AddressAsServerName(address) => {
                write!(out, "sent a literal address in SNI ({address}), where only DNS names are allowed (RFC 6066 §3)")
            }
            Self::NarrowPath(bytes) => {
                write!(out, "narrowing to {bytes} bytes per datagram: the path seems to drop longer ones")
            }
            Self::ExpiredIdentity => out.write_str("its manufacturer certificate has expired"),
        }
    }
}

/// What succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Success {
    /// The DTLS handshake: the device is authenticated.
    Handshake,
    /// A function was answered with certificates.
    Function(Resource),
}

impl fmt::Display for Success {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake => out.write_str("handshake"),
            Self::Function(resource) => out.write_str(resource.segment()),
        }
    }
}

impl Attempt {
    /// A refusal of what was offered, of which nothing else is known, for a front that has no [`crate::Server`].
    #[must_use]
    pub fn refused(peer: SocketAddr, reason: Reason, offered: String) -> Self {
        AttemptBuilder::refusal(reason).offered(offered).by(peer)
    }

    /// The same for a success.
    #[must_use]
    pub fn succeeded(peer: SocketAddr, success: Success) -> Self {
        AttemptBuilder::success(success).by(peer)
    }

    /// Why it was refused, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.outcome.err()
    }
}

/// An [`Attempt`] under construction: first its result, then what else is known. This is the only place that fills its
/// fields.
pub(super) struct AttemptBuilder {
    stage: Stage,
    outcome: Result<Success, Reason>,
    device: Option<ShownDevice>,
    profile: Option<Arc<str>>,
    offered: Cow<'static, str>,
    detail: Option<Box<str>>,
    claimed: Option<Box<str>>,
    further: Vec<Reason>,
    notices: Vec<Notice>,
    elapsed: Duration,
}

impl AttemptBuilder {
    pub(super) fn success(success: Success) -> Self {
        let stage = match success {
            Success::Handshake => Stage::Handshake,
            Success::Function(Resource::CaCertificates | Resource::CsrAttributes | Resource::RenewalInfo) => {
                Stage::Request
            }
            Success::Function(
                Resource::SimpleEnroll | Resource::SimpleReenroll | Resource::ServerKeygen | Resource::ServerKeygenBare,
            ) => Stage::Issuance,
        };
        Self::new(stage, Ok(success))
    }

    pub(super) fn refusal(reason: Reason) -> Self {
        Self::new(reason.stage(), Err(reason))
    }

    const fn new(stage: Stage, outcome: Result<Success, Reason>) -> Self {
        Self {
            stage,
            outcome,
            device: None,
            profile: None,
            offered: Cow::Borrowed(""),
            detail: None,
            claimed: None,
            further: Vec::new(),
            notices: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    pub(super) fn device(self, device: Option<ShownDevice>) -> Self {
        Self { device, ..self }
    }

    pub(super) fn profile(self, profile: Option<&Profile>) -> Self {
        Self { profile: profile.map(|profile| Arc::clone(profile.shared_name())), ..self }
    }

    /// A fixed name that needs no check, such as that of a suite.
    pub(super) fn offered_name(self, name: &'static str) -> Self {
        Self { offered: Cow::Borrowed(name), ..self }
    }

    /// A text with a peer's values in it: its length is bounded and terminal control characters are removed.
    pub(super) fn offered(self, offered: String) -> Self {
        Self { offered: bounded(offered), ..self }
    }

    pub(super) fn detail(self, detail: Option<Box<str>>) -> Self {
        Self { detail, ..self }
    }

    pub(super) fn claimed(self, claimed: Option<Box<str>>) -> Self {
        Self { claimed, ..self }
    }

    pub(super) fn further(self, further: Vec<Reason>) -> Self {
        Self { further, ..self }
    }

    pub(super) fn notices(self, notices: Vec<Notice>) -> Self {
        Self { notices, ..self }
    }

    pub(super) fn elapsed(self, elapsed: Duration) -> Self {
        Self { elapsed, ..self }
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        self.outcome.err()
    }

    /// The attempt of the peer at the other end of `path`.
    pub(super) fn of(self, path: Path) -> Attempt {
        self.by(path.peer)
    }

    fn by(self, peer: SocketAddr) -> Attempt {
        let Self { stage, outcome, device, profile, offered, detail, claimed, further, notices, elapsed } = self;
        Attempt { peer, device, profile, stage, outcome, offered, detail, claimed, further, notices, elapsed }
    }
}

/// The detail of a handshake refusal beyond its reason.
pub(super) fn handshake_detail(refusal: &dtls::HandshakeRefusal, narrowed_to: Option<usize>) -> Option<Box<str>> {
    let what = match refusal {
        dtls::HandshakeRefusal::AlertReceived(alert) => Some(format!("alert {} ({})", alert.name(), alert.0)),
        dtls::HandshakeRefusal::TimedOut { expected } => Some(format!("{} was due", expected.name())),
        dtls::HandshakeRefusal::UnsupportedExtension { extension } => Some(format!("extension {extension}")),
        _ => None,
    };
    let narrow = narrowed_to.map(|bytes| format!("narrowing to {bytes} bytes per datagram did not help"));
    let parts: Vec<String> = what.into_iter().chain(narrow).collect();
    (!parts.is_empty()).then(|| parts.join("; ").into())
}

/// The detail of a session's end beyond its reason.
pub(super) fn session_detail(why: dtls::Closed) -> Option<Box<str>> {
    match why {
        dtls::Closed::Alert(alert) => Some(format!("alert {} ({}), after the handshake", alert.name(), alert.0).into()),
        _ => None,
    }
}

/// Cuts a text to [`OFFERED_BYTES_MAX`] and removes terminal control characters.
fn bounded(text: String) -> Cow<'static, str> {
    bounded_to(OFFERED_BYTES_MAX, text)
}

/// The same for another maximum.
pub(super) fn bounded_to(bytes_max: usize, mut text: String) -> Cow<'static, str> {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    if text.chars().any(char::is_control) {
        text = text.chars().map(|character| if character.is_control() { '.' } else { character }).collect();
    }
    Cow::Owned(text)
}

/// Cumulative, except `sessions` and `pending`, which are present values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Handshakes that succeeded.
    pub handshakes: u64,
    /// Handshakes that were refused.
    pub handshakes_refused: u64,
    /// Whole requests that the table accepted.
    pub requests: u64,
    /// Requests that were refused, by the table, by the CoAP layer or by the authority.
    pub requests_refused: u64,
    /// Requests that were answered with 5.03.
    pub requests_later: u64,
    /// Answers to `/crts`.
    pub ca_certificates: u64,
    /// Answers to `/att`.
    pub csr_attributes: u64,
    /// Answers to discovery.
    pub discoveries: u64,
    /// Jobs handed to the authority.
    pub submitted: u64,
    /// Certificates sent, repeats included.
    pub issued: u64,
    /// Outcomes for a session or an exchange that is gone.
    pub stale_outcomes: u64,
    /// Messages that could not be sent: the session was gone, or the message was too long for a datagram.
    pub unsent: u64,
    /// The present number of sessions and handshakes.
    pub sessions: Option<SessionCounts>,
    /// The present number of enrolments that wait for the authority.
    pub pending: usize,
    /// The counters of the CoAP layer.
    pub coap: coap::server::MessageCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_offered_is_bounded_and_printable() {
        assert_eq!(bounded("a\u{1b}[2Jb".into()), "a.[2Jb");
        assert_eq!(bounded("é".repeat(OFFERED_BYTES_MAX)).len(), OFFERED_BYTES_MAX);
        assert_eq!(bounded("x".repeat(OFFERED_BYTES_MAX + 1)).len(), OFFERED_BYTES_MAX);
    }
}
