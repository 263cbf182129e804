//! What is asked, what is answered, and how an exchange can end.

use crate::{BlockSize, Code, ContentFormat, Kind, Method, Number};
use std::fmt;

/// What to ask.
#[derive(Clone, Debug)]
pub struct RequestSpec {
    /// The method.
    pub method: Method,
    /// Uri-Path, a segment each.
    pub path: Vec<String>,
    /// Uri-Query, an option each.
    pub queries: Vec<String>,
    /// Content-Format of the body.
    pub content_format: Option<ContentFormat>,
    /// Accept.
    pub accept: Option<ContentFormat>,
    /// The body, sent in blocks where it is longer than `block`.
    pub body: Vec<u8>,
    /// The block size of both directions; the server may ask for less.
    pub block: BlockSize,
    /// Confirmable, unless it is [`Kind::NonConfirmable`].
    pub kind: Kind,
}

impl RequestSpec {
    /// A confirmable GET of `path`, segments joined by `/`.
    pub fn get(path: &str) -> RequestSpec {
        RequestSpec {
            method: Method::Get,
            path: path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect(),
            queries: Vec::new(),
            content_format: None,
            accept: None,
            body: Vec::new(),
            block: BlockSize::B1024,
            kind: Kind::Confirmable,
        }
    }

    /// A confirmable POST of `body` to `path`.
    pub fn post(path: &str, content_format: ContentFormat, body: Vec<u8>) -> RequestSpec {
        RequestSpec { method: Method::Post, content_format: Some(content_format), body, ..RequestSpec::get(path) }
    }

    /// In blocks of this size.
    #[must_use]
    pub fn in_blocks(mut self, block: BlockSize) -> RequestSpec {
        self.block = block;
        self
    }

    /// With an Accept option.
    #[must_use]
    pub fn accepting(mut self, format: ContentFormat) -> RequestSpec {
        self.accept = Some(format);
        self
    }
}

/// Where the exchange stands after a message or a timeout.
#[derive(Debug)]
pub enum Progress {
    /// The message was not for this exchange, or a duplicate; there may be an acknowledgement or reset to transmit.
    Ignored,
    /// On its way: there is something to transmit.
    Pending,
    /// An empty acknowledgement: the server has the request and takes its time.
    Acknowledged,
    /// The whole answer.
    Done(Reply),
    /// It failed; no request will be transmitted any more.
    Failed(Failure),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The response code, an error code too.
    pub code: Code,
    /// Content-Format of the body.
    pub content_format: Option<ContentFormat>,
    /// Max-Age in seconds, where the server gave one.
    pub max_age: Option<u32>,
    /// The whole body; with an error code the diagnostic payload.
    pub body: Vec<u8>,
    /// Whether it, or its first block, came as a message of its own and not in the acknowledgement.
    pub separate: bool,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered.
    Timeout,
    /// The server reset the request.
    Reset,
    /// The answer has a critical option that we do not know (RFC 7252 §5.4.1).
    BadOption(Number),
    /// The answer's blocks do not follow one another, or the request's are not acknowledged in their order.
    BadBlock,
    /// The representation changed, or was lost, again and again while it was fetched.
    Changing,
    /// The answer is larger than [`super::REPLY_BYTES_MAX`].
    TooLarge,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Timeout => f.write_str("no answer"),
            Failure::Reset => f.write_str("the server reset the request"),
            Failure::BadOption(number) => write!(f, "the answer has the critical option {number}, which is not known"),
            Failure::BadBlock => f.write_str("the blocks of the answer do not fit together"),
            Failure::Changing => f.write_str("the answer changed while it was fetched"),
            Failure::TooLarge => f.write_str("the answer is too large"),
        }
    }
}

impl std::error::Error for Failure {}
