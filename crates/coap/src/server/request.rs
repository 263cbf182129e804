//! A request as the resource table and the handler see it.

use std::{fmt, str};

use super::refusal::{OptionFault, RequestRefusal};
use crate::block::BlockError;
use crate::length::Length;
use crate::message::uint;
use crate::{Block, ContentFormat, Message, Method, Number};

/// A whole request: its head and its body, gathered from as many blocks as it took.
#[derive(Debug)]
pub struct Request<'d> {
    head: Head<'d>,
    body: Body<'d>,
}

/// The body of a request: in one datagram, or gathered by an upload.
pub(super) enum Body<'d> {
    Borrowed(&'d [u8]),
    Gathered(Vec<u8>),
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Length(self.len()).fmt(f)
    }
}

impl Body<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Body::Borrowed(bytes) => bytes.len(),
            Body::Gathered(bytes) => bytes.len(),
        }
    }
}

impl<'d> Request<'d> {
    pub(super) fn new(head: Head<'d>, body: Body<'d>) -> Self {
        Request { head, body }
    }

    /// Method, path and options; for an upload, those of its last block.
    #[must_use]
    pub fn head(&self) -> &Head<'d> {
        &self.head
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        match &self.body {
            Body::Borrowed(bytes) => bytes,
            Body::Gathered(bytes) => bytes,
        }
    }

    /// The whole body, without a copy if an upload gathered it.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        match self.body {
            Body::Borrowed(bytes) => bytes.to_vec(),
            Body::Gathered(bytes) => bytes,
        }
    }

    /// See [`Head::method`].
    #[must_use]
    pub fn method(&self) -> Method {
        self.head.method
    }

    /// See [`Head::path`].
    pub fn path(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.head.path()
    }

    /// See [`Head::path_is`].
    #[must_use]
    pub fn path_is(&self, path: &str) -> bool {
        self.head.path_is(path)
    }

    /// See [`Head::queries`].
    pub fn queries(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        self.head.queries()
    }

    /// See [`Head::content_format`].
    #[must_use]
    pub fn content_format(&self) -> Option<ContentFormat> {
        self.head.content_format()
    }

    /// See [`Head::accept`].
    #[must_use]
    pub fn accept(&self) -> Option<ContentFormat> {
        self.head.accept()
    }
}

/// Method, path and options of a request. Every critical option in it is known, has a length within its definition and
/// is repeated only if it may be; path and queries are UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Head<'d> {
    message: Message<'d>,
    method: Method,
    /// The values of the options that have a [`place`].
    values: [Option<&'d [u8]>; PLACES],
    /// Accept: that of the message or, for an upload, the latest of its blocks.
    accept: Option<ContentFormat>,
}

/// Options that are looked up for each request: [`Head::check`] finds them all in one pass.
const PLACES: usize = 6;
/// The place of Accept.
const ACCEPT: usize = 1;

const fn place(number: Number) -> Option<usize> {
    match number {
        Number::CONTENT_FORMAT => Some(0),
        Number::ACCEPT => Some(ACCEPT),
        Number::BLOCK2 => Some(2),
        Number::BLOCK1 => Some(3),
        Number::SIZE2 => Some(4),
        Number::SIZE1 => Some(5),
        _ => None,
    }
}

impl<'d> Head<'d> {
    /// Checks the options of a request; later code relies on this check.
    pub(super) fn check(message: Message<'d>) -> Result<Self, RequestRefusal> {
        let mut values = [None; PLACES];
        let mut previous = None;
        let mut proxy = false;
        for option in message.options() {
            let repeated = previous == Some(option.number);
            previous = Some(option.number);
            if let Some(place) = place(option.number) {
                values[place].get_or_insert(option.value);
            }
            let length = option.value.len();
            // An option whose length is outside its definition (RFC 7252 §5.4.3), or that is repeated although it must
            // not be (§5.4.5), "MUST be treated like an unrecognized option": elective ones are ignored, critical ones
            // refused (§5.4.1). "uri-path" and "uri-query" are strings: UTF-8 (RFC 7252 §3.2).
            let is_text = matches!(option.number, Number::URI_PATH | Number::URI_QUERY | Number::URI_HOST);
            let fault = match option.number.request_definition() {
                None => Some(OptionFault::Unknown),
                Some(definition) if !definition.repeatable && repeated => Some(OptionFault::Repeated),
                Some(definition) if !(definition.bytes_min..=definition.bytes_max).contains(&length) => {
                    Some(OptionFault::Length)
                }
                Some(_) if is_text && str::from_utf8(option.value).is_err() => Some(OptionFault::NotText),
                Some(_) => None,
            };
            match fault {
                Some(fault) if option.number.is_critical() => {
                    return Err(RequestRefusal::BadOption(option.number, fault));
                }
                Some(_) => {}
                None => proxy |= matches!(option.number, Number::PROXY_URI | Number::PROXY_SCHEME),
            }
        }
        if proxy {
            return Err(RequestRefusal::Proxy);
        }
        let method = Method::from_code(message.code()).ok_or(RequestRefusal::UnknownMethod)?;
        let accept = values[ACCEPT].and_then(ContentFormat::from_value);
        Ok(Head { message, method, values, accept })
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// The segments of Uri-Path, as received.
    pub fn segments(&self) -> impl Iterator<Item = &'d [u8]> + use<'d> {
        self.message.options_of(Number::URI_PATH)
    }

    /// The segments of Uri-Path.
    pub fn path(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        texts(&self.message, Number::URI_PATH)
    }

    /// Whether the path is exactly `path`, given as segments joined by `/` without a leading one: `"est/sen"`. A
    /// segment that itself contains a `/` matches nothing.
    #[must_use]
    pub fn path_is(&self, path: &str) -> bool {
        if path.is_empty() {
            return self.path().next().is_none();
        }
        self.path().eq(path.split('/'))
    }

    /// The Uri-Query options, such as `rt=ace.est.crts`.
    pub fn queries(&self) -> impl Iterator<Item = &'d str> + use<'d> {
        texts(&self.message, Number::URI_QUERY)
    }

    /// Uri-Host; it is accepted but not needed.
    #[must_use]
    pub fn host(&self) -> Option<&'d str> {
        texts(&self.message, Number::URI_HOST).next()
    }

    /// Content-Format.
    #[must_use]
    pub fn content_format(&self) -> Option<ContentFormat> {
        self.format(Number::CONTENT_FORMAT)
    }

    /// Accept; of an upload, the latest that came with one of its blocks.
    #[must_use]
    pub fn accept(&self) -> Option<ContentFormat> {
        self.accept
    }

    /// The head of an upload with this Accept.
    pub(super) const fn accepting(self, accept: Option<ContentFormat>) -> Self {
        Self { accept, ..self }
    }

    /// Size1: the size of the body as the client announces it.
    pub fn size1(&self) -> Option<u32> {
        self.option(Number::SIZE1).and_then(uint)
    }

    /// The payload of this message; empty if the method defines none.
    pub(super) fn payload(&self) -> &'d [u8] {
        if self.method.has_payload() { self.message.payload() } else { &[] }
    }

    /// The value of the first option of this number.
    #[must_use]
    pub fn option(&self, number: Number) -> Option<&'d [u8]> {
        match place(number) {
            Some(place) => self.values[place],
            None => self.message.option(number),
        }
    }

    /// The first option of this number as a block.
    ///
    /// # Errors
    /// Those of [`Block::parse`].
    pub fn block(&self, number: Number) -> Result<Option<Block>, BlockError> {
        self.option(number).map(Block::parse).transpose()
    }

    /// The message itself; for an upload, its last block.
    #[must_use]
    pub fn message(&self) -> &Message<'d> {
        &self.message
    }

    fn format(&self, number: Number) -> Option<ContentFormat> {
        self.option(number).and_then(ContentFormat::from_value)
    }
}

fn texts<'d>(message: &Message<'d>, number: Number) -> impl Iterator<Item = &'d str> + use<'d> {
    // `check` has verified that they are UTF-8.
    message.options_of(number).filter_map(|value| str::from_utf8(value).ok())
}
