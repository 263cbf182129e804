//! Why a request has no usable answer: one closed set, with the reason of each in the table.

use std::fmt;

use coap::{Code, ContentFormat};
use pki::chain::{AnchorFlaw, CertificateListError, PassedOver, Unusable};
use pki::cms::CmsError;
use pki::csr_attributes::CsrAttributesError;
use pki::enveloped_key::EnvelopedKeyError;
use pki::{AlgorithmError, CertificateError, KeyError};

use crate::key_delivery::KeyDeliveryFlaw;
use crate::reason::Reason;
use crate::renewal_info::RenewalInfoFlaw;

/// Why there is no usable answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The handshake failed: the server did not answer, did not prove a certificate and its key, or refused.
    Handshake(dtls::HandshakeRefusal),
    /// The server's chain is not trusted.
    Untrusted {
        /// The kind of fault.
        fault: dtls::CertificateFault,
        /// One line: the certificate (index, subject), the field, the rule.
        detail: Option<Box<str>>,
    },
    /// The CA certificates of `/crts` do not authenticate the server that sent them. The association is closed without the
    /// request; new associations are judged by the new anchors (RFC 9148 §9.1).
    Disowned {
        /// The kind of fault.
        fault: dtls::CertificateFault,
        /// One line: the certificate (index, subject), the field, the rule.
        detail: Option<Box<str>>,
    },
    /// The association ended while the request was in progress.
    Closed(dtls::Closed),
    /// The exchange failed below EST.
    Request(coap::client::ExchangeFailure),
    /// The request does not fit a datagram of this association.
    TooLong {
        /// The most bytes that fit.
        plaintext_bytes_max: usize,
    },
    /// The server refused: 4.xx, or a 5.xx that does not mean "later".
    Refused(ErrorResponse),
    /// The server asked for a later retry: 5.03, or 4.29 (RFC 8516).
    Later {
        /// The error response.
        refused: ErrorResponse,
        /// "The client SHOULD wait" this many seconds (RFC 9148 §4.7) before it sends the identical request.
        max_age: u32,
    },
    /// The answer cannot be used.
    Answer(AnswerFault),
    /// The time for the request passed during the first try (see [`super::Persistence`]).
    Deadline,
}

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorResponse {
    /// The response code.
    pub code: Code,
    /// The diagnostic payload, if it is text.
    pub diagnostic: Option<String>,
}

impl ErrorResponse {
    /// The reason that the diagnostic payload names, if it is one of the table.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.diagnostic.as_deref().and_then(Reason::from_code)
    }
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerFault {
    /// The Content-Format is not the one that was requested.
    Format(Option<ContentFormat>),
    /// The content does not match its Content-Format.
    Malformed(UnreadableAnswer),
    /// An enrolment was not answered with exactly one certificate; the number received.
    NotOneCertificate(usize),
    /// The certificate is for another key than that of the request.
    OtherKey,
    /// The private key is not protected as the request wanted: it is not encrypted, or it is although nobody asked for that.
    KeyProtection,
    /// The certificate is not that of the private key beside it.
    KeyMismatch,
}

/// Which part of an answer cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableAnswer {
    /// The certs-only message.
    CertsOnly(CmsError),
    /// A certificate.
    Certificate {
        /// Counted from 0, in the order of the answer.
        index: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// A CA certificate that cannot sign certificates.
    Authority {
        /// Counted from 0, in the order of the answer.
        index: usize,
        /// Why it cannot.
        fault: AnchorFlaw,
    },
    /// There is no certificate.
    Empty,
    /// Each certificate is signed by another one of the list: paths would end nowhere.
    NoRoot,
    /// The CSR attributes.
    CsrAttributes(CsrAttributesError),
    /// The collection of a key and its certificate.
    KeyDelivery(KeyDeliveryFlaw),
    /// The private key.
    PrivateKey(KeyError),
    /// The encrypted private key.
    Envelope(EnvelopedKeyError),
    /// When to renew.
    RenewalInfo(RenewalInfoFlaw),
    /// The links of discovery are not UTF-8.
    Links,
}

impl UnreadableAnswer {
    /// Whether it is a private key whose algorithm or curve is not ours: the server's choice, and not a fault of its encoding.
    const fn is_foreign_key(self) -> bool {
        use AlgorithmError::{UnsupportedCurve, UnsupportedKey};
        let (Self::PrivateKey(error) | Self::Envelope(EnvelopedKeyError::Key(error))) = self else { return false };
        matches!(error, KeyError::Algorithm(UnsupportedKey { .. } | UnsupportedCurve { .. }))
    }
}

impl fmt::Display for UnreadableAnswer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertsOnly(error) => error.fmt(out),
            Self::Certificate { index, error } => write!(out, "certificate {}: {error}", index + 1),
            Self::Authority { index, fault } => write!(out, "certificate {}: {fault}", index + 1),
            Self::Empty => out.write_str("it contains no certificate"),
            Self::NoRoot => out.write_str("no certificate of it can be a trust anchor: each is signed by another one"),
            Self::KeyDelivery(flaw) => flaw.fmt(out),
            Self::Envelope(error) => write!(out, "the encrypted private key: {error}"),
            Self::RenewalInfo(flaw) => write!(out, "the time of renewal: {flaw}"),
            Self::PrivateKey(error) => write!(out, "the private key: {error}"),
            Self::CsrAttributes(error) => write!(out, "the CSR attributes: {error}"),
            Self::Links => out.write_str("the links are not UTF-8"),
        }
    }
}

impl From<CertificateListError> for UnreadableAnswer {
    /// Reports the first certificate on behalf of all.
    fn from(none: CertificateListError) -> Self {
        let Some(&PassedOver { index, reason, .. }) = none.passed_over.first() else { return Self::Empty };
        match reason {
            Unusable::Unreadable(error) | Unusable::NotStrict(error) => Self::Certificate { index, error },
            Unusable::NoAnchor(fault) => Self::Authority { index, fault },
        }
    }
}

impl Failure {
    /// The reason in the table.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        use coap::client::ExchangeFailure as Request;
        match self {
            // No answer at all has a remedy of its own.
            Self::Handshake(dtls::HandshakeRefusal::TimedOut { .. })
            | Self::Request(Request::Timeout)
            | Self::Deadline => Some(Reason::NoAnswer),
            Self::Handshake(refusal) => Some(Reason::from(refusal)),
            Self::Untrusted { fault, .. } | Self::Disowned { fault, .. } => Some(Reason::from(*fault)),
            Self::Closed(_) => None,
            Self::Request(Request::TooLarge) => Some(Reason::AnswerTooLarge),
            Self::Request(Request::Reset) => Some(Reason::AnswerReset),
            Self::Request(Request::BadOption(_)) => Some(Reason::AnswerCriticalOption),
            Self::Request(Request::BadBlock | Request::Changing) => Some(Reason::AnswerBlocks),
            Self::TooLong { .. } => Some(Reason::RequestTooLong),
            Self::Refused(refused) | Self::Later { refused, .. } => refused.reason(),
            Self::Answer(fault) => Some(fault.reason()),
        }
    }

    /// Whether the server is not trusted: its certificate, its name or its signature.
    #[must_use]
    pub const fn is_untrusted_server(&self) -> bool {
        matches!(
            self,
            Self::Untrusted { .. }
                | Self::Disowned { .. }
                | Self::Handshake(
                    dtls::HandshakeRefusal::Certificate(_)
                        | dtls::HandshakeRefusal::BadServerKeyExchange
                        | dtls::HandshakeRefusal::ServerKeyExchangeEncoding
                        | dtls::HandshakeRefusal::MissingCertificate
                )
        )
    }

    /// Whether no answer arrived.
    #[must_use]
    pub const fn is_no_answer(&self) -> bool {
        matches!(
            self,
            Self::Handshake(dtls::HandshakeRefusal::TimedOut { .. })
                | Self::Request(coap::client::ExchangeFailure::Timeout)
                | Self::Deadline
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handshake(refusal) => {
                write!(out, "the handshake failed: {}", Reason::from(refusal).entry().meaning)
            }
            Self::Untrusted { detail: Some(detail), .. } => {
                write!(out, "the server's chain is not trusted: {detail}")
            }
            Self::Untrusted { fault, detail: None } => {
                write!(out, "the server's chain is not trusted: {}", Reason::from(*fault).entry().meaning)
            }
            Self::Disowned { fault, detail } => {
                let why = detail.as_deref().unwrap_or(Reason::from(*fault).entry().meaning);
                write!(out, "the CA certificates that the server sent do not authenticate the server itself: {why}")
            }
            Self::Closed(why) => write!(out, "the association ended before the answer came: {why:?}"),
            Self::Request(coap::client::ExchangeFailure::Timeout) => {
                out.write_str("the server did not answer the request")
            }
            Self::Request(failure) => write!(out, "the request failed: {failure}"),
            Self::TooLong { plaintext_bytes_max } => {
                write!(out, "the request does not fit into the {plaintext_bytes_max} bytes that a datagram carries")
            }
            Self::Refused(refused) => write!(out, "the server refused: {refused}"),
            Self::Later { refused, max_age } => write!(out, "not now: {refused}; try again in {max_age} s"),
            Self::Answer(AnswerFault::Malformed(what)) if what.is_foreign_key() => {
                write!(out, "the server made a key that this device cannot use: {what}")
            }
            Self::Answer(AnswerFault::Malformed(what)) => write!(out, "the answer cannot be read: {what}"),
            Self::Answer(fault) => out.write_str(fault.reason().entry().meaning),
            Self::Deadline => out.write_str("the deadline for the request has passed"),
        }
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.code)?;
        if let Some(name) = self.code.name() {
            write!(out, " {name}")?;
        }
        match &self.diagnostic {
            Some(diagnostic) => write!(out, " ({diagnostic})"),
            None => Ok(()),
        }
    }
}

impl AnswerFault {
    const fn reason(self) -> Reason {
        match self {
            Self::Format(_) => Reason::AnswerFormat,
            Self::Malformed(what) if what.is_foreign_key() => Reason::AnswerKeyAlgorithm,
            Self::Malformed(_) => Reason::AnswerMalformed,
            Self::NotOneCertificate(_) => Reason::AnswerNotOneCertificate,
            Self::OtherKey => Reason::AnswerOtherKey,
            Self::KeyProtection => Reason::AnswerKeyProtection,
            Self::KeyMismatch => Reason::AnswerKeyMismatch,
        }
    }
}
