//! A server with a device that has authenticated and then sends arbitrary messages.
//!
//! An input is one byte of [`SiteSetup`], then a script: requests and single blocks of requests, arbitrary bytes as messages, repetitions,
//! passing time, answers of the authority, reloads, and the end. The handshake before the script is a real one.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use authority::{Actor, Busy, Ledger, Locator, Mismatch, Outcome, Refusal, Revocation, Revoke};
use coap::fuzz::Script;
use coap::{Block, BlockSize, Code, Encoder, Kind, Message, MessageId, Number, Token};
use dtls::ClientEvent;
use est::{DtlsConfig, ServerVerifier};
use pki::issue::RevocationReason;

use super::site::{FIXTURE, SEED, ServerDatagram, Site, SiteSetup};
use crate::chance::DerivedRandom;

const PORT: u16 = 1;
/// Only this many of the latest messages can be sent again.
const REPEATED_MAX: usize = 64;
/// The most datagrams that one side may send after one of the other, including all timers.
const SAID_AT_ONCE_MAX: usize = 64;
/// Round trips until both sides are silent.
const ROUNDS_MAX: u32 = 64;
/// The longest body that a device sends in place of its CSR.
const BODY_BYTES_MAX: usize = 6_000;

static DTLS: LazyLock<Arc<DtlsConfig>> = LazyLock::new(|| Arc::new(FIXTURE.dtls_config(&FIXTURE.devices[0].identity)));

/// Paths of requests: resources that exist, and some that do not.
const PATHS: &[&[&str]] = &[
    &[".well-known", "est", "sen"],
    &[".well-known", "est", "sren"],
    &[".well-known", "est", "crts"],
    &["est", "sen"],
    &["est", "crts"],
    &[".well-known", "core"],
    &["est", "skg"],
    &["est"],
];

/// The target's body: a session of a device, and its messages.
///
/// # Panics
/// If the server sends something unreadable or unrequested, exceeds a limit, or keeps state when everything has ended.
pub fn server_operations(data: &[u8]) {
    let (setup, script) = data.split_first().map_or((0, data), |(setup, rest)| (*setup, rest));
    let mut visit = Visit::begin(SiteSetup(setup));
    let mut script = Script::new(script);
    while let Some(operation) = script.byte() {
        visit.step(operation, &mut script);
    }
    visit.site.finish();
}

struct Visit {
    site: Site,
    dtls: dtls::Client<ServerVerifier>,
    sent: Vec<Vec<u8>>,
    tokens: Vec<Token>,
    /// Messages of the server that require an acknowledgement.
    confirmable: Vec<MessageId>,
    next_id: u16,
}

impl Visit {
    fn begin(setup: SiteSetup) -> Self {
        let site = Site::new(setup, "server");
        let random = Arc::new(DerivedRandom::new(SEED, "visitor"));
        let dtls = dtls::Client::new(Arc::clone(&DTLS), random, site.now());
        let mut visit = Self { site, dtls, sent: Vec::new(), tokens: Vec::new(), confirmable: Vec::new(), next_id: 0 };
        visit.carry(Vec::new());
        assert!(visit.dtls.facts().is_some(), "an honest handshake fails");
        visit
    }

    fn step(&mut self, operation: u8, script: &mut Script<'_>) {
        let said = match operation % 16 {
            0 => {
                let length = usize::from(script.or_zero()) << 8 | usize::from(script.or_zero());
                let message = script.take(length).to_vec();
                self.say(message);
                Vec::new()
            }
            1..=4 => {
                self.ask(script);
                Vec::new()
            }
            5 => {
                self.enrol(script.or_zero());
                Vec::new()
            }
            6 | 7 => {
                let latest = self.sent.len().saturating_sub(REPEATED_MAX);
                let at = latest + usize::from(script.or_zero()) % REPEATED_MAX;
                if let Some(message) = self.sent.get(at).cloned() {
                    self.say(message);
                }
                Vec::new()
            }
            8 => self.empty(script.or_zero()),
            9 | 10 => self.site.pass(Duration::from_millis(400) * u32::from(script.or_zero())),
            11 => self.site.answer(),
            12 => self.site.answer_with(outcome(script.or_zero())),
            13 => self.dislocate(script),
            14 => {
                self.site.reload();
                Vec::new()
            }
            _ => self.end(script.or_zero()),
        };
        self.carry(said);
    }

    /// A request, or one block of one; each byte of the script shapes a part of it.
    fn ask(&mut self, script: &mut Script<'_>) {
        let [which, options, num, shape] = [(); 4].map(|()| script.or_zero());
        let path = PATHS[usize::from(which) % PATHS.len()];
        let post = which & 0x08 == 0 && !path.contains(&"crts") && !path.contains(&"core");
        let code = Code::from_byte(if which & 0x80 != 0 { script.or_zero() } else { 1 + u8::from(post) });
        let kind = if which & 0x40 == 0 { Kind::Confirmable } else { Kind::NonConfirmable };
        let size = BlockSize::ALL[usize::from(shape) % 7];
        let csr = &FIXTURE.devices[usize::from(options & 1)].request.csr;
        let start = (usize::from(num) * size.bytes()).min(csr.len());
        let end = (start + size.bytes()).min(csr.len());
        let more = (end < csr.len()) != (shape & 0x80 != 0);
        let block = Block { num: u32::from(num), more, size }.value();
        let token = Token::new(&[which, num][..usize::from(shape >> 4 & 3).min(2)]).unwrap_or(Token::EMPTY);
        let mut message = Vec::new();
        let mut encoder = Encoder::new(&mut message, kind, code, self.next_id(), token);
        for segment in path {
            encoder = encoder.option(Number::URI_PATH, segment.as_bytes());
        }
        if post && options & 0x02 == 0 {
            encoder = encoder.uint(Number::CONTENT_FORMAT, 286);
        }
        if path.contains(&"core") {
            encoder = encoder.option(Number::URI_QUERY, b"rt=ace.est*");
        }
        if options & 0x04 != 0 {
            encoder = encoder.uint(Number::ACCEPT, if options & 0x08 == 0 { 281 } else { 287 });
        }
        if options & 0x10 != 0 {
            encoder = encoder.uint(Number::BLOCK2, Block { num: u32::from(num), more: false, size }.value());
        }
        let blockwise = post && options & 0x20 == 0;
        if blockwise {
            encoder = encoder.uint(Number::BLOCK1, block);
        }
        if options & 0x40 != 0 {
            encoder = encoder.option(Number::REQUEST_TAG, &[options >> 7]);
        }
        match (post, blockwise) {
            (true, true) => encoder.payload(&csr[start..end]),
            (true, false) => encoder.payload(&vec![num; usize::from(shape) * 32 % BODY_BYTES_MAX]),
            (false, _) => encoder.payload(b""),
        }
        self.say(message);
    }

    /// A whole enrolment in one message.
    fn enrol(&mut self, shape: u8) {
        let path = PATHS[usize::from(shape & 1)];
        let csr = &FIXTURE.devices[usize::from(shape >> 1 & 1)].request.csr;
        let mut message = Vec::new();
        let id = self.next_id();
        let mut encoder = Encoder::new(&mut message, Kind::Confirmable, Code::from_byte(2), id, Token::EMPTY);
        for segment in path {
            encoder = encoder.option(Number::URI_PATH, segment.as_bytes());
        }
        encoder.uint(Number::CONTENT_FORMAT, 286).payload(csr);
        self.say(message);
    }

    /// An acknowledgement or a reset of a message of the server.
    fn empty(&mut self, shape: u8) -> Vec<ServerDatagram> {
        if let Some(id) = self.confirmable.pop() {
            let kind = if shape & 1 == 0 { Kind::Acknowledgement } else { Kind::Reset };
            let mut message = Vec::new();
            Encoder::empty(&mut message, kind, id);
            self.say(message);
        }
        Vec::new()
    }

    /// A datagram that is not a record of this session, or one from a port without a session.
    fn dislocate(&mut self, script: &mut Script<'_>) -> Vec<ServerDatagram> {
        let port = PORT + u16::from(script.or_zero() & 1);
        let length = usize::from(script.or_zero());
        self.site.hear(port, &mut script.take(length).to_vec())
    }

    fn end(&mut self, how: u8) -> Vec<ServerDatagram> {
        let now = self.site.now();
        match how % 4 {
            0 => self.dtls.close(now),
            1 => self.site.server.drain(now),
            2 => self.site.server.close_all(now),
            _ => {
                let row = Locator::of(&FIXTURE.devices[0].identity.certificate)
                    .expect("the fixture's serial numbers are ours");
                let revocation =
                    Revocation { reason: RevocationReason::Unspecified, at: now.utc, actor: Actor::server() };
                self.site.ledger.revoke(vec![Revoke { row, revocation }], Box::new(drop));
            }
        }
        self.site.serve()
    }

    fn next_id(&mut self) -> MessageId {
        self.next_id = self.next_id.wrapping_add(1);
        MessageId(self.next_id)
    }

    fn say(&mut self, message: Vec<u8>) {
        if let Ok(parsed) = Message::parse(&message) {
            self.tokens.push(parsed.token());
        }
        // If the session has ended or the message is too long for a record, nothing is sent.
        let _gone_or_too_long = self.dtls.send(self.site.now(), &message);
        self.sent.push(message);
    }

    /// Carries datagrams until neither side has any.
    fn carry(&mut self, mut said: Vec<ServerDatagram>) {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "both sides keep sending");
            assert!(said.len() <= SAID_AT_ONCE_MAX, "{} datagrams at once", said.len());
            for mut datagram in std::mem::take(&mut said) {
                if datagram.port == PORT {
                    self.dtls.handle_datagram(self.site.now(), &mut datagram.bytes);
                    self.read(&datagram.bytes);
                }
            }
            while let Some(datagram) = self.dtls.poll_transmit().map(<[u8]>::to_vec) {
                said.extend(self.site.hear(PORT, &mut datagram.clone()));
                said.extend(self.site.run_steps());
            }
            if said.is_empty() {
                return;
            }
        }
    }

    /// Checks that the server's messages in the session are CoAP and that each response belongs to a request.
    fn read(&mut self, datagram: &[u8]) {
        while let Some(event) = self.dtls.poll_event() {
            let ClientEvent::Data { plaintext } = event else { continue };
            let message = Message::parse(&datagram[plaintext]).expect("the server's message can be parsed");
            assert!(!message.code().is_request(), "the server sent a request");
            if message.code().is_response() {
                assert!(self.tokens.contains(&message.token()), "a response without a request");
            }
            if message.kind() == Kind::Confirmable {
                self.confirmable.push(message.message_id());
            }
        }
    }
}

/// An outcome of the authority without a certificate.
fn outcome(which: u8) -> Outcome {
    match which % 4 {
        0 => {
            let mismatch = Mismatch { asked: "CN=asked".into(), held: "CN=held".into() };
            Outcome::Refused(Refusal::SubjectMismatch(Box::new(mismatch)))
        }
        1 => Outcome::Refused(Refusal::ClientRevoked),
        2 => Outcome::Later {
            max_age: Duration::from_secs(u64::from(which)).max(Duration::from_secs(1)),
            why: Busy::Full,
        },
        _ => Outcome::Later { max_age: Duration::MAX, why: Busy::Serials },
    }
}
