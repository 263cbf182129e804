//! The answer of a handler.

use std::fmt;

use crate::length::Length;
use crate::{Code, ContentFormat};

/// An answer. This crate adds Block2, ETag, Block1, token and message id; the handler provides the representation.
#[derive(Clone, Copy)]
pub struct Response<'r> {
    /// The response code.
    pub code: Code,
    /// The format of `body`; `None` for an empty body and for a diagnostic payload.
    pub content_format: Option<ContentFormat>,
    /// Max-Age in seconds; absent means 60 (RFC 7252 §5.10.5).
    pub max_age: Option<u32>,
    /// The representation, or for an error code the diagnostic payload (RFC 7252 §5.5.2), which is never sent in blocks
    /// and is cut at [`Response::DIAGNOSTIC_BYTES_MAX`].
    pub body: &'r [u8],
}

impl<'r> Response<'r> {
    /// A diagnostic payload is a short text; it must fit the smallest datagram together with the options.
    pub const DIAGNOSTIC_BYTES_MAX: usize = 128;

    /// A response with a code only.
    #[must_use]
    pub const fn empty(code: Code) -> Response<'static> {
        Response { code, content_format: None, max_age: None, body: &[] }
    }

    /// A success with a representation.
    #[must_use]
    pub const fn content(code: Code, content_format: ContentFormat, body: &'r [u8]) -> Self {
        Response { code, content_format: Some(content_format), max_age: None, body }
    }

    /// An error with a diagnostic payload.
    #[must_use]
    pub const fn error(code: Code, diagnostic: &'r str) -> Self {
        Response { code, content_format: None, max_age: None, body: diagnostic.as_bytes() }
    }

    /// 5.03 with Max-Age, the time after which to retry (RFC 7252 §5.9.3.4).
    #[must_use]
    pub const fn unavailable(max_age: u32, diagnostic: &'r str) -> Self {
        Response {
            code: Code::SERVICE_UNAVAILABLE,
            content_format: None,
            max_age: Some(max_age),
            body: diagnostic.as_bytes(),
        }
    }

    /// Sets Max-Age.
    #[must_use]
    pub const fn with_max_age(mut self, seconds: u32) -> Self {
        self.max_age = Some(seconds);
        self
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("code", &self.code)
            .field("content_format", &self.content_format)
            .field("max_age", &self.max_age)
            .field("body", &Length(self.body.len()))
            .finish()
    }
}
