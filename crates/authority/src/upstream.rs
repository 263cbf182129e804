//! Why a Registrar has no certificate for its device: what the upstream CA said, or what was wrong with its answer.
//!
//! Nothing here carries text of the upstream: it reaches neither a device nor a log line that is made from a refusal.

use std::fmt;
use std::time::Duration;

/// The upstream refused the request, by its status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamRefusal {
    /// 400: it does not accept the CSR.
    BadRequest,
    /// 401: it does not accept the Registrar's authentication.
    Unauthorized,
    /// 403: the device or the Registrar may not have this certificate.
    Forbidden,
    /// 404: it has no such function or label.
    NotFound,
    /// 405: it does not take the method there.
    MethodNotAllowed,
    /// 406: it has no answer of a type that the Registrar takes.
    NotAcceptable,
    /// 412: a condition of the request does not hold.
    PreconditionFailed,
    /// 413: the request is too large for it.
    TooLarge,
    /// 415: it does not take the type of the request.
    UnsupportedType,
    /// 500: it failed.
    Failed,
    /// 501: it does not implement the function.
    NotImplemented,
    /// 504: a proxy in front of it got no answer.
    TimedOut,
}

/// Why an answer of the upstream cannot be passed on. The device gets 5.02 and nothing of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamAnswerFlaw {
    /// Its status has no meaning for a device: a redirect, a success other than 200 and 202.
    Status,
    /// It has another media type than the function has.
    MediaType,
    /// It is longer than any honest answer.
    TooLong,
    /// It cannot be read as its media type says: base64, multipart, CMS, certificate.
    Malformed,
    /// It does not have exactly one certificate.
    NotOneCertificate,
    /// The certificate is for another public key than the request.
    OtherKey,
    /// The certificate is not issued by one of the profile's issuers.
    OtherIssuer,
    /// The certificate is a CA's, or is outside its validity.
    Unusable,
    /// The certificate was relayed before, to another device or by another profile.
    OfAnother,
    /// The private key is protected in another way than the request asked for, is not that of the certificate, or is of a kind that the profile does
    /// not certify or the session's cipher does not protect.
    PrivateKey,
}

/// Why there is no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamBusy {
    /// No upstream could be reached; nothing was sent.
    Unreachable,
    /// The request was sent, and what became of it is unknown: the repeat goes to the same upstream.
    Silent,
    /// The upstream has accepted the request and not decided yet (202): it is asked again at the time that it named.
    Accepted {
        /// When.
        wait: Duration,
    },
    /// The upstream has no time for the request now (503).
    Later {
        /// When.
        wait: Duration,
    },
    /// The upstream is asked too often (429 with Retry-After).
    TooMany {
        /// When to come again.
        wait: Duration,
    },
    /// Every upstream failed a moment ago, and rests: nothing was tried for this request.
    Resting,
    /// The maximum of requests to upstreams is in flight.
    Full,
    /// The CA certificates of the upstream are not known yet.
    NotReady,
}

impl UpstreamRefusal {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "est.upstream.bad_request",
            Self::Unauthorized => "est.upstream.unauthorized",
            Self::Forbidden => "est.upstream.forbidden",
            Self::NotFound => "est.upstream.not_found",
            Self::MethodNotAllowed => "est.upstream.method_not_allowed",
            Self::NotAcceptable => "est.upstream.not_acceptable",
            Self::PreconditionFailed => "est.upstream.precondition_failed",
            Self::TooLarge => "est.upstream.too_large",
            Self::UnsupportedType => "est.upstream.unsupported_type",
            Self::Failed => "est.upstream.failed",
            Self::NotImplemented => "est.upstream.not_implemented",
            Self::TimedOut => "est.upstream.timed_out",
        }
    }
}

impl UpstreamAnswerFlaw {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Status => "est.upstream.answer_status",
            Self::MediaType => "est.upstream.answer_media_type",
            Self::TooLong => "est.upstream.answer_too_long",
            Self::Malformed => "est.upstream.answer_malformed",
            Self::NotOneCertificate => "est.upstream.answer_not_one_certificate",
            Self::OtherKey => "est.upstream.answer_other_key",
            Self::OtherIssuer => "est.upstream.answer_other_issuer",
            Self::Unusable => "est.upstream.answer_unusable",
            Self::OfAnother => "est.upstream.answer_of_another",
            Self::PrivateKey => "est.upstream.answer_private_key",
        }
    }
}

impl UpstreamBusy {
    /// When a repetition makes sense, before jitter.
    #[must_use]
    pub const fn max_age(self) -> Duration {
        match self {
            Self::Accepted { wait } | Self::Later { wait } | Self::TooMany { wait } => wait,
            Self::Full => Duration::from_secs(5),
            Self::Unreachable | Self::Resting | Self::Silent | Self::NotReady => Duration::from_secs(15),
        }
    }
}

impl fmt::Display for UpstreamRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => "the upstream CA does not accept the request (400)",
            Self::Unauthorized => "the upstream CA does not accept this Registrar (401)",
            Self::Forbidden => "the upstream CA refuses the certificate (403)",
            Self::NotFound => "the upstream CA does not have this function or label (404)",
            Self::MethodNotAllowed => "the upstream CA does not take the method of this function (405)",
            Self::NotAcceptable => "the upstream CA has no answer that this Registrar takes (406)",
            Self::PreconditionFailed => "a condition of the upstream CA does not hold (412)",
            Self::TooLarge => "the request is too large for the upstream CA (413)",
            Self::UnsupportedType => "the upstream CA does not take the type of the request (415)",
            Self::Failed => "the upstream CA failed (500)",
            Self::NotImplemented => "the upstream CA does not implement this function (501)",
            Self::TimedOut => "a proxy in front of the upstream CA got no answer (504)",
        })
    }
}

impl fmt::Display for UpstreamAnswerFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "the upstream CA answered with a status that no device can use",
            Self::MediaType => "the upstream CA answered with another media type",
            Self::TooLong => "the answer of the upstream CA is too long",
            Self::Malformed => "the answer of the upstream CA cannot be read",
            Self::NotOneCertificate => "the answer of the upstream CA does not have exactly one certificate",
            Self::OtherKey => "the upstream CA certified another key",
            Self::OtherIssuer => "the certificate was not issued by one of the profile's issuers",
            Self::Unusable => "the certificate is a CA's, or is outside its validity",
            Self::OfAnother => "the certificate was relayed before, to another device or by another profile",
            Self::PrivateKey => {
                "the private key is not that of the certificate, or is not protected as the request asked for"
            }
        })
    }
}

impl fmt::Display for UpstreamBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("no upstream CA can be reached"),
            Self::Resting => f.write_str("every upstream CA failed a moment ago and rests"),
            Self::Silent => f.write_str("the upstream CA did not answer, and may have issued the certificate"),
            Self::Accepted { wait } => {
                write!(f, "the upstream CA has accepted the request, and is asked again in {} s", wait.as_secs())
            }
            Self::Later { wait } => write!(f, "the upstream CA asks to come again in {} s", wait.as_secs()),
            Self::TooMany { wait } => {
                write!(f, "the upstream CA is asked too often, and asks to come again in {} s", wait.as_secs())
            }
            Self::Full => f.write_str("too many requests to upstream CAs in flight"),
            Self::NotReady => f.write_str("the CA certificates of the upstream are not known yet"),
        }
    }
}
