//! A client that sends whatever a test wants: regular DTLS, hand-written CoAP.

use std::sync::Arc;

use coap::{Code, ContentFormat, Encoder, Kind, Message, MessageId, Number, Token};
use est::Path;

use super::{Holder, TestRandom, World};

pub(crate) struct Raw {
    pub(crate) dtls: dtls::Client<est::ServerVerifier>,
    pub(crate) path: Path,
    next_id: u16,
}

/// A request with all its parts.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) method: u8,
    pub(crate) path: &'a str,
    pub(crate) queries: &'a [&'a str],
    pub(crate) content_format: Option<u16>,
    pub(crate) accept: Option<u16>,
    pub block1: Option<coap::Block>,
    pub block2: Option<coap::Block>,
    pub(crate) payload: &'a [u8],
    /// Further options, by number.
    pub(crate) more: &'a [(u16, &'a [u8])],
    pub(crate) non: bool,
}

pub(crate) const GET: u8 = 1;
pub(crate) const POST: u8 = 2;
pub(crate) const PUT: u8 = 3;
pub(crate) const DELETE: u8 = 4;

/// An answer, split into its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) kind: Kind,
    pub(crate) code: Code,
    pub(crate) id: u16,
    pub(crate) token: Vec<u8>,
    pub(crate) content_format: Option<ContentFormat>,
    pub(crate) max_age: Option<u32>,
    pub block1: Option<coap::Block>,
    pub block2: Option<coap::Block>,
    pub size1: Option<u32>,
    pub(crate) etag: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
}

impl Said {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let message = Message::parse(bytes).unwrap();
        Self {
            kind: message.kind(),
            code: message.code(),
            id: message.message_id().0,
            token: message.token().as_bytes().to_vec(),
            content_format: message.uint(Number::CONTENT_FORMAT).map(|n| ContentFormat(u16::try_from(n).unwrap())),
            max_age: message.uint(Number::MAX_AGE),
            block1: message.block(Number::BLOCK1).unwrap(),
            block2: message.block(Number::BLOCK2).unwrap(),
            size1: message.uint(Number::SIZE1),
            etag: message.option(Number::ETAG).map(<[u8]>::to_vec),
            payload: message.payload().to_vec(),
        }
    }

    pub(crate) fn diagnostic(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

impl Raw {
    pub(crate) fn connect(world: &mut World, port: u16, holder: &Holder) -> Self {
        Self::connect_with(world, port, holder, |_| {})
    }

    /// Like `connect`, with another hello.
    pub(crate) fn connect_with(
        world: &mut World,
        port: u16,
        holder: &Holder,
        change: impl FnOnce(&mut est::DtlsConfig),
    ) -> Self {
        let mut config = world.dtls_config(holder);
        change(&mut config);
        let dtls = dtls::Client::new(Arc::new(config), Arc::new(TestRandom), world.now);
        let mut raw = Self { dtls, path: World::path(port), next_id: 100 };
        assert!(raw.carry(world).is_empty());
        assert!(raw.dtls.facts().is_some(), "no handshake");
        raw
    }

    /// Carries datagrams until neither side has any; returns the server's CoAP messages.
    pub(crate) fn carry(&mut self, world: &mut World) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        loop {
            let mut moved = false;
            while let Some(mut datagram) = self.dtls.poll_transmit().map(<[u8]>::to_vec) {
                moved = true;
                world.server.handle_datagram(world.now, self.path, &mut datagram);
                world.serve();
            }
            for mut datagram in world.server_says(self.path) {
                moved = true;
                self.dtls.handle_datagram(world.now, &mut datagram);
                while let Some(event) = self.dtls.poll_event() {
                    if let dtls::ClientEvent::Data { plaintext } = event {
                        said.push(datagram[plaintext].to_vec());
                    }
                }
            }
            if !moved {
                return said;
            }
        }
    }

    /// Sends a message unchanged.
    pub(crate) fn send(&mut self, world: &mut World, message: &[u8]) -> Vec<Said> {
        self.dtls.send(world.now, message).unwrap();
        self.carry(world).iter().map(|bytes| Said::of(bytes)).collect()
    }

    /// A request with the next message id; returns its bytes, so that a test can send them again.
    pub(crate) fn message(&mut self, ask: &Ask<'_>) -> Vec<u8> {
        self.next_id += 1;
        message(ask, self.next_id, &self.next_id.to_be_bytes())
    }

    /// Sends a request, and expects exactly one answer.
    pub(crate) fn ask(&mut self, world: &mut World, ask: &Ask<'_>) -> Said {
        let message = self.message(ask);
        let mut said = self.send(world, &message);
        assert_eq!(said.len(), 1, "{said:?}");
        let said = said.remove(0);
        assert_eq!(said.token, self.next_id.to_be_bytes(), "another token than the request's");
        said
    }
}

pub(crate) fn message(ask: &Ask<'_>, id: u16, token: &[u8]) -> Vec<u8> {
    let kind = if ask.non { Kind::NonConfirmable } else { Kind::Confirmable };
    let mut options: Vec<(u16, Vec<u8>)> = Vec::new();
    options.extend(ask.path.split('/').map(|segment| (Number::URI_PATH.0, segment.as_bytes().to_vec())));
    options.extend(ask.queries.iter().map(|query| (Number::URI_QUERY.0, query.as_bytes().to_vec())));
    let uints = [
        (Number::CONTENT_FORMAT, ask.content_format.map(u32::from)),
        (Number::ACCEPT, ask.accept.map(u32::from)),
        (Number::BLOCK1, ask.block1.map(coap::Block::value)),
        (Number::BLOCK2, ask.block2.map(coap::Block::value)),
    ];
    for (number, value) in uints {
        options.extend(value.map(|value| (number.0, minimal(value))));
    }
    options.extend(ask.more.iter().map(|(number, value)| (*number, value.to_vec())));
    options.sort_by_key(|(number, _)| *number);
    let mut bytes = Vec::new();
    let code = Code::from_byte(ask.method);
    let mut encoder = Encoder::new(&mut bytes, kind, code, MessageId(id), Token::new(token).unwrap());
    for (number, value) in &options {
        encoder = encoder.option(Number(*number), value);
    }
    if !ask.payload.is_empty() {
        encoder.payload(ask.payload);
    }
    bytes
}

fn minimal(value: u32) -> Vec<u8> {
    value.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect()
}
