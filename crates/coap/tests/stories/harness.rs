//! A server peer in virtual time, and hand-written messages.

use std::time::{Duration, Instant};

use coap::server::{Admit, Config, Done, ExchangeId, Handled, Head, Peer, Repeat, Resources, Response, Shared};
use coap::{Block, BlockSize, Code, ContentFormat, Encoder, Kind, Message, MessageId, Method, Number, Outbox, Token};

pub(crate) const BODY_MAX: usize = 2_000;

/// `POST est/sen` is executed once; `GET est/crts` and `POST calc` are computed again; the rest is 4.04 or 4.05.
pub(crate) struct Table;

impl Resources for Table {
    type Target = Admit;
    type Refusal = Response<'static>;

    fn find(&self, head: &Head<'_>) -> Result<Admit, Response<'static>> {
        match (head.method(), head.path_is("est/sen"), head.path_is("est/crts"), head.path_is("calc")) {
            (Method::Post, ..) if head.path_is("est/skg") => {
                Ok(Admit { body_bytes_max: BODY_MAX, repeat: Repeat::Irreplaceable })
            }
            (Method::Post, true, ..) => Ok(Admit { body_bytes_max: BODY_MAX, repeat: Repeat::Remembered }),
            (Method::Get, _, true, _) => Ok(Admit { body_bytes_max: 0, repeat: Repeat::Computed }),
            (Method::Post, _, _, true) => Ok(Admit { body_bytes_max: BODY_MAX, repeat: Repeat::Computed }),
            (_, false, false, false) => Err(Response::error(Code::NOT_FOUND, "no such resource")),
            _ => Err(Response::empty(Code::METHOD_NOT_ALLOWED)),
        }
    }

    fn admit(&self, target: &Admit) -> Result<Admit, Response<'static>> {
        Ok(*target)
    }

    fn response(&self, refusal: &Response<'static>) -> Response<'static> {
        *refusal
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    Done(Done),
    RefusedByTable(Code),
    Request { id: ExchangeId, body: Vec<u8> },
}

pub(crate) struct Server {
    pub(crate) peer: Peer,
    pub(crate) shared: Shared,
    pub(crate) now: Instant,
    pub(crate) out: Outbox,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        Self { peer: Peer::new(), shared: Shared::new(config, 7), now: Instant::now(), out: Outbox::new() }
    }

    /// Another association of the same shard.
    pub(crate) fn other_peer(&mut self) -> Peer {
        std::mem::take(&mut self.peer)
    }

    /// Delivers a datagram; also returns what the server sends.
    pub(crate) fn deliver(&mut self, datagram: &[u8]) -> (Got, Vec<Vec<u8>>) {
        self.out.clear();
        let got = match self.peer.handle(self.now, datagram, &mut self.shared, &Table, &mut self.out) {
            Handled::Done { done, .. } => Got::Done(done),
            Handled::RefusedByTable(response) => Got::RefusedByTable(response.code),
            Handled::Request { id, request, .. } => Got::Request { id, body: request.into_body() },
        };
        (got, self.sent())
    }

    pub(crate) fn done(&mut self, datagram: &[u8]) -> (Done, Vec<Vec<u8>>) {
        match self.deliver(datagram) {
            (Got::Done(done), sent) => (done, sent),
            (got, _) => panic!("handed up: {got:?}"),
        }
    }

    /// Delivers a datagram that the message layer answers itself; returns the one answer.
    pub(crate) fn reply(&mut self, datagram: &[u8]) -> Vec<u8> {
        let (got, mut sent) = self.deliver(datagram);
        assert!(!matches!(got, Got::Request { .. }), "handed up: {got:?}");
        assert_eq!(sent.len(), 1, "one answer");
        sent.remove(0)
    }

    pub(crate) fn request(&mut self, datagram: &[u8]) -> (ExchangeId, Vec<u8>) {
        match self.deliver(datagram) {
            (Got::Request { id, body }, sent) => {
                assert!(sent.is_empty(), "nothing is sent before the handler answers");
                (id, body)
            }
            (got, _) => panic!("not handed up: {got:?}"),
        }
    }

    pub(crate) fn respond(&mut self, id: ExchangeId, response: &Response<'_>) -> Vec<Vec<u8>> {
        self.out.clear();
        self.peer.respond(self.now, id, response, &mut self.shared, &mut self.out).expect("the exchange is pending");
        self.sent()
    }

    /// Delivers a request and answers it at once.
    pub(crate) fn exchange(&mut self, datagram: &[u8], response: &Response<'_>) -> Vec<u8> {
        let (id, _) = self.request(datagram);
        let mut sent = self.respond(id, response);
        assert_eq!(sent.len(), 1, "one answer");
        sent.remove(0)
    }

    /// Lets time pass and runs all timeouts on the way.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        let mut sent = Vec::new();
        while let Some(at) = self.peer.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.out.clear();
            self.peer.handle_timeout(self.now, &mut self.shared, &mut self.out);
            sent.extend(self.sent());
        }
        self.now = end;
        sent
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.out.iter().map(<[u8]>::to_vec).collect()
    }
}

/// A message under construction; options may come in any order.
#[derive(Clone)]
pub(crate) struct Make {
    kind: Kind,
    code: Code,
    id: u16,
    token: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Make {
    pub(crate) fn new(kind: Kind, code: Code, id: u16) -> Self {
        Self { kind, code, id, token: id.to_be_bytes().to_vec(), options: Vec::new(), payload: Vec::new() }
    }

    pub(crate) fn get(path: &str, id: u16) -> Self {
        Self::new(Kind::Confirmable, Method::Get.code(), id).path(path)
    }

    pub(crate) fn post(path: &str, id: u16) -> Self {
        Self::new(Kind::Confirmable, Method::Post.code(), id).path(path)
    }

    /// `POST est/sen` with the Content-Format of a certificate request.
    pub(crate) fn enroll(id: u16) -> Self {
        Self::post("est/sen", id).uint(Number::CONTENT_FORMAT, 286)
    }

    pub(crate) fn non(mut self) -> Self {
        self.kind = Kind::NonConfirmable;
        self
    }

    pub(crate) fn token(mut self, token: &[u8]) -> Self {
        self.token = token.to_vec();
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        for segment in path.split('/') {
            self = self.option(Number::URI_PATH, segment.as_bytes());
        }
        self
    }

    pub(crate) fn option(mut self, number: Number, value: &[u8]) -> Self {
        self.options.push((number.0, value.to_vec()));
        self
    }

    pub(crate) fn uint(self, number: Number, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(4);
        self.option(number, &bytes[start..])
    }

    /// Adds Block1 and the matching piece of `body`.
    pub(crate) fn piece(self, body: &[u8], num: u32, size: BlockSize) -> Self {
        let start = num as usize * size.bytes();
        let end = body.len().min(start + size.bytes());
        self.block1(num, end < body.len(), size).payload(&body[start..end])
    }

    pub(crate) fn block1(self, num: u32, more: bool, size: BlockSize) -> Self {
        self.uint(Number::BLOCK1, Block { num, more, size }.value())
    }

    pub(crate) fn block2(self, num: u32, size: BlockSize) -> Self {
        self.uint(Number::BLOCK2, Block { num, more: false, size }.value())
    }

    pub(crate) fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.sort_by_key(|(number, _)| *number);
        let mut buffer = Vec::new();
        let token = Token::new(&self.token).expect("at most 8 bytes");
        let mut encoder = Encoder::new(&mut buffer, self.kind, self.code, MessageId(self.id), token);
        for (number, value) in &options {
            encoder = encoder.option(Number(*number), value);
        }
        encoder.payload(&self.payload);
        buffer
    }
}

pub(crate) fn empty(kind: Kind, id: u16) -> Vec<u8> {
    let mut buffer = Vec::new();
    Encoder::empty(&mut buffer, kind, MessageId(id));
    buffer
}

pub(crate) fn parse(datagram: &[u8]) -> Message<'_> {
    Message::parse(datagram).expect("a message")
}

pub(crate) fn code(datagram: &[u8]) -> Code {
    parse(datagram).code()
}

pub(crate) fn block1(datagram: &[u8]) -> Option<Block> {
    parse(datagram).block(Number::BLOCK1).expect("a block")
}

pub(crate) fn block2(datagram: &[u8]) -> Option<Block> {
    parse(datagram).block(Number::BLOCK2).expect("a block")
}

/// Bytes that differ between neighbouring positions, and between values of `seed`.
pub(crate) fn body(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i * 7 % 251).unwrap().wrapping_add(seed)).collect()
}

pub(crate) fn certificate(bytes: &[u8]) -> Response<'_> {
    Response::content(Code::CHANGED, ContentFormat::PKIX_CERT, bytes)
}

/// Sends all pieces but the last and checks that each is accepted; returns the last message unsent.
pub(crate) fn upload(server: &mut Server, body: &[u8], size: BlockSize, first_id: u16) -> Vec<u8> {
    let pieces = u32::try_from(body.len().div_ceil(size.bytes())).unwrap();
    for num in 0..pieces - 1 {
        let id = first_id + u16::try_from(num).unwrap();
        let reply = server.reply(&Make::enroll(id).piece(body, num, size).bytes());
        assert_eq!(code(&reply), Code::CONTINUE);
        assert_eq!(block1(&reply), Some(Block { num, more: true, size }), "Block1 is echoed");
    }
    Make::enroll(first_id + u16::try_from(pieces - 1).unwrap()).piece(body, pieces - 1, size).bytes()
}
