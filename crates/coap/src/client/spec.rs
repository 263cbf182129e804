//! The request, its answer, and the ways in which an exchange can end.

use std::fmt;
use std::time::Duration;

use crate::length::Length;
use crate::{ACK_TIMEOUT, BlockSize, Code, ContentFormat, EXCHANGE_LIFETIME, Kind, Method, Number};

/// A request to send.
#[derive(Clone)]
pub struct RequestSpec {
    /// The method.
    pub method: Method,
    /// Uri-Host, if the server is to receive its name (RFC 7252 §5.10.1).
    pub uri_host: Option<String>,
    /// Uri-Port, if the server is to receive its port.
    pub uri_port: Option<u16>,
    /// Uri-Path, one segment each.
    pub path: Vec<String>,
    /// Uri-Query, one option each.
    pub queries: Vec<String>,
    /// Content-Format of the body.
    pub content_format: Option<ContentFormat>,
    /// Accept.
    pub accept: Option<ContentFormat>,
    /// The body. It is sent in blocks if it is longer than `block`.
    pub body: Vec<u8>,
    /// The block size of both directions; the server may ask for less.
    pub block: BlockSize,
    /// [`Kind::NonConfirmable`] for a non-confirmable request; any other value means confirmable.
    pub kind: Kind,
    /// The first retransmission timeout, without its random part; [`ACK_TIMEOUT`] unless the path is known to be slower
    /// (RFC 7252 §4.8.1).
    pub ack_timeout: Duration,
    /// How often a request (each block is one) is sent again under a new message id and a new token after all its
    /// retransmissions went unanswered. Set it only for a request that may be executed twice.
    pub repeats: u8,
    /// How long a separate response is awaited after the request was acknowledged: [`EXCHANGE_LIFETIME`], after which the server has forgotten the
    /// request's message id. RFC 7252 names no limit.
    pub response_wait: Duration,
    /// The maximum bytes of the answer.
    pub answer_bytes_max: usize,
}

/// The default maximum bytes of an answer: 64 KiB is far above any certificate chain.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Segments of a location that are read: more than a resource directory or any function of ours has.
pub const LOCATION_SEGMENTS_MAX: usize = 8;

impl RequestSpec {
    /// A confirmable request to `path`, segments joined by `/`, without a body. An empty path has no segments.
    #[must_use]
    pub fn new(method: Method, path: &str) -> Self {
        Self {
            method,
            uri_host: None,
            uri_port: None,
            path: segments(path),
            queries: Vec::new(),
            content_format: None,
            accept: None,
            body: Vec::new(),
            block: BlockSize::B1024,
            kind: Kind::Confirmable,
            ack_timeout: ACK_TIMEOUT,
            repeats: 0,
            response_wait: EXCHANGE_LIFETIME,
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }

    /// A confirmable GET of `path`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new(Method::Get, path)
    }

    /// A confirmable POST of `body` to `path`.
    #[must_use]
    pub fn post(path: &str, content_format: ContentFormat, body: Vec<u8>) -> Self {
        Self { content_format: Some(content_format), body, ..Self::new(Method::Post, path) }
    }

    /// Sets the block size.
    #[must_use]
    pub fn in_blocks(mut self, block: BlockSize) -> Self {
        self.block = block;
        self
    }

    /// Adds an Accept option.
    #[must_use]
    pub fn accepting(mut self, format: ContentFormat) -> Self {
        self.accept = Some(format);
        self
    }
}

impl fmt::Debug for RequestSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} /{}", self.kind, self.method, self.path.join("/"))?;
        write!(f, " ({:?} in blocks of {:?})", Length(self.body.len()), Length(self.block.bytes()))
    }
}

/// The state of the exchange after a message or a timeout.
#[derive(Debug)]
pub enum ExchangeProgress {
    /// The message did not belong to this exchange, or was a duplicate; there may be an acknowledgement or reset to
    /// transmit.
    Ignored,
    /// The exchange continues: there is something to transmit.
    Pending,
    /// An empty acknowledgement arrived: the server has the request and will answer later.
    Acknowledged,
    /// The whole answer. There may be a last acknowledgement to transmit.
    Done(Reply),
    /// It failed. There may be a last reset to transmit.
    Failed(ExchangeFailure),
}

/// A whole answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The response code, an error code too.
    pub code: Code,
    /// Content-Format of the body.
    pub content_format: Option<ContentFormat>,
    /// Max-Age in seconds, if the server sent one.
    pub max_age: Option<u32>,
    /// Location-Path of the first block, one segment each: at most [`LOCATION_SEGMENTS_MAX`], and none if one is not UTF-8.
    pub location: Vec<String>,
    /// The whole body; with an error code the diagnostic payload.
    pub body: Vec<u8>,
    /// Whether the answer, or its first block, arrived as a separate response and not in the acknowledgement.
    pub separate: bool,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("code", &self.code)
            .field("content_format", &self.content_format)
            .field("max_age", &self.max_age)
            .field("location", &self.location)
            .field("body", &Length(self.body.len()))
            .field("separate", &self.separate)
            .finish()
    }
}

/// RFC 7252 §6.4: "for each segment in the `<path>` component, include a Uri-Path Option", also for the empty one behind a slash at the end: `a/` is
/// another resource than `a`.
fn segments(path: &str) -> Vec<String> {
    if path.is_empty() { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeFailure {
    /// No answer arrived.
    Timeout,
    /// The server reset the request.
    Reset,
    /// The answer has a critical option that we do not know (RFC 7252 §5.4.1).
    BadOption(Number),
    /// The answer's blocks are not in sequence, or the request's blocks are not acknowledged in their order.
    BadBlock,
    /// The representation changed, or was lost, too many times while it was fetched.
    Changing,
    /// The answer is larger than [`RequestSpec::answer_bytes_max`].
    TooLarge,
}

impl fmt::Display for ExchangeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer"),
            Self::Reset => f.write_str("the server reset the request"),
            Self::BadOption(number) => {
                write!(f, "the answer has the unknown critical option {number}")
            }
            Self::BadBlock => f.write_str("the blocks of the answer do not fit together"),
            Self::Changing => f.write_str("the answer changed while it was fetched"),
            Self::TooLarge => f.write_str("the answer is too large"),
        }
    }
}

impl std::error::Error for ExchangeFailure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_at_the_end_of_a_path_is_an_empty_segment() {
        assert_eq!(RequestSpec::get("est/crts").path, ["est", "crts"]);
        assert_eq!(RequestSpec::get("resource-lookup/").path, ["resource-lookup", ""]);
        assert!(RequestSpec::get("").path.is_empty());
    }
}
