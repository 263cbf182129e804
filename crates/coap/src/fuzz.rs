//! Bodies of the fuzz targets, as functions: the targets outside the workspace call them, and tests replay them with
//! generated inputs and with every input that once failed. They panic if a property does not hold.

mod client;

use std::time::{Duration, Instant};

use crate::server::{Admit, Config, ExchangeId, Handled, Head, Peer, Repeat, Resources, Response, Shared};
use crate::{Block, BlockSize, Code, ContentFormat, Encoder, Kind, Message, MessageId, Method, Number, Outbox, Token};

pub use client::client_operations;

/// Parses a datagram; a valid message is encoded again from its parts and must give the same bytes: the format has
/// exactly one encoding of each message.
///
/// # Panics
/// If the bytes differ.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::parse(data) else { return };
    let mut buffer = Vec::new();
    let mut encoder = Encoder::new(&mut buffer, message.kind(), message.code(), message.message_id(), message.token());
    for option in message.options() {
        encoder = encoder.option(option.number, option.value);
    }
    encoder.payload(message.payload());
    assert_eq!(buffer, data);
}

/// Joins and decodes a collection of representations; a valid one is encoded again, must read the same, and is not longer in the preferred form.
///
/// # Panics
/// If it does not.
pub fn multipart(data: &[u8]) {
    let Ok(joined) = crate::multipart::joined(data) else { return };
    let whole = joined.as_ref().map_or(data, |joined| joined.as_slice());
    let parts = crate::multipart::decode(whole).expect("it is in one piece");
    let again = crate::multipart::encode(&parts).expect("no more parts than may be decoded");
    assert_eq!(crate::multipart::decode(&again).as_ref(), Ok(&parts));
    assert!(again.len() <= data.len(), "the preferred form is the shortest");
    assert_eq!(crate::multipart::joined(&again), Ok(None));
}

/// Drives one server peer through a script of requests, blocks, duplicates, answers, acknowledgements and time, as
/// `data` says. Each upload consists of one repeated byte, and of another byte each time it begins, so that a body with
/// two kinds of bytes has been spliced.
///
/// # Panics
/// If a body is spliced, a limit is exceeded, or state remains at the end.
pub fn server_operations(start: Instant, data: &[u8]) {
    let mut run = Run::new(start);
    let mut script = Script::new(data);
    while let Some(operation) = script.byte() {
        run.step(operation, &mut script);
    }
    run.finish();
}

/// Limits small enough for a script to reach.
const UPLOAD_BYTES_MAX: usize = 4 << 10;
const RESPONSE_BYTES_MAX: usize = 16 << 10;
const BODY_BYTES_MAX: usize = 1_500;
/// For one peer: eight exchanges, two uploads, 128 remembered messages.
const EXCHANGE_BYTES_MAX: usize = 10 * 512 + 1_024;
/// Answers have at most this many bytes.
const ANSWER_BYTES_MAX: usize = 4 * 255;
/// Only this many messages are replayed, and only for this long: after that, the network has dropped them too.
const REPLAYED_MAX: usize = 100;
const REPLAYED_FOR: Duration = Duration::from_secs(200);
const UPLOADS: usize = 4;

struct Run {
    peer: Peer,
    shared: Shared,
    out: Outbox,
    now: Instant,
    sent: Vec<(Instant, Vec<u8>)>,
    pending: Vec<ExchangeId>,
    /// The byte that each upload consists of at present.
    fill: [u8; UPLOADS],
    next_id: u16,
    fills: u8,
    own: Vec<MessageId>,
}

impl Run {
    fn new(start: Instant) -> Self {
        let config = Config {
            upload_bytes_total_max: UPLOAD_BYTES_MAX,
            response_bytes_total_max: RESPONSE_BYTES_MAX,
            ..Config::default()
        };
        Self {
            peer: Peer::new(),
            shared: Shared::new(config, 1),
            out: Outbox::new(),
            now: start,
            sent: Vec::new(),
            pending: Vec::new(),
            fill: [0; UPLOADS],
            next_id: 0,
            fills: 0,
            own: Vec::new(),
        }
    }

    fn step(&mut self, operation: u8, script: &mut Script<'_>) {
        match operation % 8 {
            0 => {
                let length = usize::from(script.or_zero());
                let datagram = script.take(length);
                // Only `block` sends uploads to `u`, since only it knows their bytes.
                if !Message::parse(datagram).is_ok_and(|message| message.option(Number::REQUEST_TAG).is_some()) {
                    self.deliver(datagram);
                }
            }
            1 | 2 => self.block(script),
            3 => self.plain(script),
            4 => self.again(script),
            5 => self.answer(script),
            6 => self.own_message(script),
            _ => {
                self.now += Duration::from_millis(u64::from(script.or_zero()) * 400);
                self.out.clear();
                self.peer.handle_timeout(self.now, &mut self.shared, &mut self.out);
                self.collect();
            }
        }
        assert!(self.shared.upload_bytes() <= UPLOAD_BYTES_MAX + 2 * BODY_BYTES_MAX);
        assert!(self.shared.response_bytes() <= RESPONSE_BYTES_MAX + 16 * ANSWER_BYTES_MAX);
        assert!(self.shared.exchange_bytes() <= EXCHANGE_BYTES_MAX);
        assert!(self.peer.poll_timeout().is_some() || self.peer.is_idle() || self.peer.has_pending());
    }

    /// Sends a block of one of four uploads.
    fn block(&mut self, script: &mut Script<'_>) {
        let which = script.or_zero();
        let upload = usize::from(which) % UPLOADS;
        let num = u32::from(script.or_zero() % 8);
        let shape = script.or_zero();
        let size = BlockSize::ALL[usize::from(shape % 7)];
        let more = shape & 0x80 == 0;
        if num == 0 {
            self.fills = self.fills.wrapping_add(1);
            self.fill[upload] = self.fills;
        }
        let length = if more { size.bytes() } else { size.bytes() / 2 };
        let payload = vec![self.fill[upload]; length];
        let block = Block { num, more, size };
        let kind = if which & 0x80 == 0 { Kind::Confirmable } else { Kind::NonConfirmable };
        let datagram = self.request(kind, Method::Post, |encoder| {
            encoder
                .option(Number::URI_PATH, b"u")
                .uint(Number::CONTENT_FORMAT, 286)
                .uint(Number::BLOCK1, block.value())
                .option(Number::REQUEST_TAG, &[u8::try_from(upload).unwrap_or(0)])
                .payload(&payload);
        });
        self.send(datagram);
    }

    /// Sends a request in one piece, or a request for a later block of an answer.
    fn plain(&mut self, script: &mut Script<'_>) {
        let shape = script.or_zero();
        let size = BlockSize::ALL[usize::from(script.or_zero() % 7)];
        let method = if shape & 1 == 0 { Method::Get } else { Method::Post };
        let kind = if shape & 2 == 0 { Kind::Confirmable } else { Kind::NonConfirmable };
        let block2 = Block { num: u32::from(shape >> 4), more: false, size }.value();
        let path: &[u8] = if shape & 4 == 0 { b"g" } else { b"u" };
        let datagram = self.request(kind, method, |encoder| {
            let encoder = encoder.option(Number::URI_PATH, path);
            if shape & 8 == 0 { encoder } else { encoder.uint(Number::BLOCK2, block2) }.payload(b"");
        });
        self.send(datagram);
    }

    fn again(&mut self, script: &mut Script<'_>) {
        let latest = self.sent.len().saturating_sub(REPLAYED_MAX);
        let recent = &self.sent[latest..];
        if recent.is_empty() {
            return;
        }
        let (at, datagram) = recent[usize::from(script.or_zero()) % recent.len()].clone();
        if self.now - at < REPLAYED_FOR {
            self.deliver(&datagram);
        }
    }

    fn answer(&mut self, script: &mut Script<'_>) {
        let length = usize::from(script.or_zero()) * 4;
        let Some(id) = self.pending.pop() else { return };
        let body = vec![7; length];
        let response = Response::content(Code::CHANGED, ContentFormat::PKIX_CERT, &body);
        self.out.clear();
        self.peer
            .respond(self.now, id, &response, &mut self.shared, &mut self.out)
            .expect("what is pending is never dropped");
        self.collect();
    }

    /// Sends an acknowledgement or a reset for a message of the server.
    fn own_message(&mut self, script: &mut Script<'_>) {
        let kind = if script.or_zero() & 1 == 0 { Kind::Acknowledgement } else { Kind::Reset };
        let Some(id) = self.own.pop() else { return };
        let mut datagram = Vec::new();
        Encoder::empty(&mut datagram, kind, id);
        self.deliver(&datagram);
    }

    fn request(&mut self, kind: Kind, method: Method, options: impl FnOnce(Encoder<'_>)) -> Vec<u8> {
        self.next_id = self.next_id.wrapping_add(1);
        let mut datagram = Vec::new();
        options(Encoder::new(&mut datagram, kind, method.code(), MessageId(self.next_id), Token::EMPTY));
        datagram
    }

    fn send(&mut self, datagram: Vec<u8>) {
        self.deliver(&datagram);
        self.sent.push((self.now, datagram));
    }

    fn deliver(&mut self, datagram: &[u8]) {
        self.out.clear();
        let handled = self.peer.handle(self.now, datagram, &mut self.shared, &Table, &mut self.out);
        if let Handled::Request { id, request, .. } = handled {
            let body = request.body();
            assert!(body.len() <= BODY_BYTES_MAX, "the limit of the resource holds");
            if request.path_is("u") && request.head().option(Number::REQUEST_TAG).is_some() {
                assert!(body.iter().all(|byte| Some(byte) == body.first()), "spliced");
            }
            self.pending.push(id);
        }
        self.collect();
    }

    /// Checks that every outgoing message can be parsed.
    fn collect(&mut self) {
        for datagram in self.out.iter() {
            let message = Message::parse(datagram).expect("what we write we can read");
            if message.kind() == Kind::Confirmable {
                self.own.push(message.message_id());
            }
        }
    }

    /// Checks that no state remains once everything is answered and time has passed.
    fn finish(mut self) {
        while let Some(id) = self.pending.pop() {
            self.out.clear();
            let response = Response::empty(Code::CHANGED);
            self.peer
                .respond(self.now, id, &response, &mut self.shared, &mut self.out)
                .expect("what is pending is never dropped");
        }
        let mut turns = 0;
        while let Some(at) = self.peer.poll_timeout() {
            self.now = self.now.max(at);
            self.out.clear();
            self.peer.handle_timeout(self.now, &mut self.shared, &mut self.out);
            turns += 1;
            assert!(turns < 1_000, "time comes to an end");
        }
        assert!(self.peer.is_idle());
        let left = [self.shared.upload_bytes(), self.shared.response_bytes(), self.shared.exchange_bytes()];
        assert_eq!(left, [0; 3]);
    }
}

/// `u` is executed once, `g` is computed again.
struct Table;

impl Resources for Table {
    type Target = Repeat;
    type Refusal = Code;

    fn find(&self, head: &Head<'_>) -> Result<Repeat, Code> {
        match head.path().next() {
            Some("u") => Ok(Repeat::Remembered),
            Some("g") => Ok(Repeat::Computed),
            _ => Err(Code::NOT_FOUND),
        }
    }

    fn admit(&self, repeat: &Repeat) -> Result<Admit, Code> {
        Ok(Admit { body_bytes_max: BODY_BYTES_MAX, repeat: *repeat })
    }

    fn response(&self, code: &Code) -> Response<'static> {
        Response::empty(*code)
    }
}

/// The input, byte by byte.
#[derive(Debug)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// A script that begins with the first byte of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// The next byte; `None` at the end.
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    /// The next byte; zero at the end.
    pub fn or_zero(&mut self) -> u8 {
        self.byte().unwrap_or(0)
    }

    /// The next `length` bytes, or as many as there are.
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
