//! What a Registrar asks of the transport to its upstream CAs: one request out, one completion in. The real one is [`super::HttpUpstream`]; a
//! simulator plays another.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use authority::{Completion, Function};

/// Sends requests to upstream CAs.
pub trait Upstream: Send + Sync {
    /// Sends one request and completes once, on any thread; it never blocks. A completion that is dropped counts as silence.
    fn send(&self, request: UpstreamRequest, done: Completion<UpstreamReply>);
}

/// A request to an upstream CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRequest {
    /// The upstream: the URL of its EST service, up to and with `/.well-known/est`.
    pub upstream: Arc<str>,
    /// What is asked for.
    pub operation: UpstreamOperation,
    /// The label of the path (RFC 7030 §3.2.2).
    pub label: Option<Arc<str>>,
    /// The CSR in DER; empty for a GET.
    pub csr: Vec<u8>,
}

/// An operation of RFC 7030 (§3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamOperation {
    /// `/cacerts`
    CaCertificates,
    /// `/csrattrs`
    CsrAttributes,
    /// `/simpleenroll`, `/simplereenroll`, `/serverkeygen`
    Enrol(Function),
}

impl UpstreamOperation {
    /// The last segment of its path.
    #[must_use]
    pub const fn segment(self) -> &'static str {
        match self {
            Self::CaCertificates => "cacerts",
            Self::CsrAttributes => "csrattrs",
            Self::Enrol(Function::SimpleEnroll) => "simpleenroll",
            Self::Enrol(Function::SimpleReenroll) => "simplereenroll",
            Self::Enrol(Function::ServerKeygen) => "serverkeygen",
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReply {
    /// How long it took from [`Upstream::send`], by a clock that nobody sets. It is not a time of day: a calendar clock that is wrong for the moment of
    /// a reply would date a row of the ledger, and every later request would count as one before that row.
    pub took: Duration,
    /// The answer.
    pub answer: Result<HttpAnswer, UpstreamFailure>,
}

/// An answer, read to its end.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// Content-Type.
    pub content_type: Option<String>,
    /// Retry-After.
    pub retry_after: Option<String>,
    /// The body, without the framing of HTTP.
    pub body: Vec<u8>,
}

/// The body may hold a key, and is never shown.
impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, content_type, retry_after, body } = self;
        f.debug_struct("HttpAnswer")
            .field("status", status)
            .field("content_type", content_type)
            .field("retry_after", retry_after)
            .field("bytes", &body.len())
            .finish()
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// Nothing of the request was sent: no connection, or no TLS session with a trusted upstream.
    NotSent,
    /// Nothing of the request was sent: all connections stayed in use.
    Crowded,
    /// The request, or a part of it, was sent, and no whole answer came in time.
    Unknown,
    /// The answer is longer than [`crate::BODY_BYTES_MAX`], and nothing of it is looked at: what became of the request is unknown.
    TooLong,
}

impl fmt::Display for UpstreamFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "it cannot be reached, or its TLS handshake failed",
            Self::Crowded => "every connection to it is in use by requests that it has not answered",
            Self::Unknown => "it did not answer, or its answer broke off",
            Self::TooLong => "its answer is too long",
        })
    }
}

impl std::error::Error for UpstreamFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_shows_its_body() {
        let reply = UpstreamReply {
            took: Duration::ZERO,
            answer: Ok(HttpAnswer { body: b"SECRET".to_vec(), ..HttpAnswer::default() }),
        };
        let shown = format!("{reply:?}");
        assert!(shown.contains("bytes: 6") && !shown.contains("83, 69") && !shown.contains("SECRET"), "{shown}");
    }

    /// RFC 9148 §4.1, Table 1, which RFC 9148 §5 has a Registrar adhere to.
    #[test]
    fn each_function_has_the_path_of_table_1() {
        for (operation, segment) in [
            (UpstreamOperation::CaCertificates, "cacerts"),
            (UpstreamOperation::CsrAttributes, "csrattrs"),
            (UpstreamOperation::Enrol(Function::SimpleEnroll), "simpleenroll"),
            (UpstreamOperation::Enrol(Function::SimpleReenroll), "simplereenroll"),
            (UpstreamOperation::Enrol(Function::ServerKeygen), "serverkeygen"),
        ] {
            assert_eq!(operation.segment(), segment);
        }
    }
}
