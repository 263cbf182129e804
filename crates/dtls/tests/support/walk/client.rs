//! The client that walks: it writes each letter as a peer that keeps its state would, and reads the server's
//! answers.

use std::time::Duration;

use dtls::{Endpoint, Event, Now, UnixTime};
use ring::digest::{Context, SHA256};

use super::super::forge::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, Piece, Raw, records};
use super::super::path;
use super::letter::Letter;
use super::oracle::{Arrival, Oracle};
use super::scene::{CLIENT, Hash, Judge, OTHER, Scene, Signer, Who};

pub struct Walker<'s> {
    scene: &'s mut Scene,
    endpoint: Endpoint<Judge>,
    oracle: Oracle,
    /// The client's own view of its place on the legal path.
    stage: usize,
    state: State,
    message_seq: u16,
    plain_sequence: u64,
    protected_sequence: u64,
    transcript: Transcript,
    server_random: [u8; 32],
    server_point: Vec<u8>,
    /// All zero before a key exchange.
    secret: [u8; 48],
    /// Its keys are in use; a later key exchange does not change them.
    finished: bool,
    last: Option<Sent>,
    late: Late,
    heard: Heard,
    /// How long it has waited in total before new handshakes.
    waited: Duration,
    /// The first difference between engine and oracle.
    wrong: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// No hello has been sent.
    Idle,
    /// A hello has been sent; its answer has not arrived yet.
    Begun,
    /// The server's flight has arrived.
    UnderWay,
    /// The server sent a fatal alert.
    Refused,
}

/// The client's last handshake record, to be sent again: without number and protection.
#[derive(Clone)]
struct Sent {
    protect: bool,
    content_type: u8,
    payload: Vec<u8>,
    arrival: Option<Arrival>,
}

enum Late {
    /// Datagrams are sent in order.
    InOrder,
    /// The next datagram will be held back.
    Next,
    Held(Vec<u8>, Option<Arrival>),
}

/// What the server has sent.
#[derive(Default)]
struct Heard {
    established: Vec<Who>,
    data: usize,
    closed: usize,
}

#[derive(Clone)]
struct Transcript {
    bytes: Vec<u8>,
    hash: Context,
    last_message_at: usize,
}

impl Transcript {
    fn new() -> Self {
        Self { bytes: Vec::with_capacity(1_024), hash: Context::new(&SHA256), last_message_at: 0 }
    }

    fn add(&mut self, message: &[u8]) {
        self.last_message_at = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.hash.update(message);
    }

    fn hash(&self) -> Hash {
        self.hash.clone().finish().as_ref().try_into().unwrap()
    }
}

impl<'s> Walker<'s> {
    pub fn new(scene: &'s mut Scene) -> Self {
        Self {
            endpoint: scene.endpoint(),
            scene,
            oracle: Oracle::default(),
            stage: 0,
            state: State::Idle,
            // The hello without a cookie had 0.
            message_seq: 1,
            plain_sequence: 1,
            protected_sequence: 0,
            transcript: Transcript::new(),
            server_random: [0; 32],
            server_point: Vec::new(),
            secret: [0; 48],
            finished: false,
            last: None,
            late: Late::InOrder,
            heard: Heard::default(),
            waited: Duration::ZERO,
            wrong: None,
        }
    }

    /// The place of the next letter on the legal path.
    pub const fn stage(&self) -> usize {
        self.stage
    }

    /// Performs a letter.
    pub fn send(&mut self, letter: Letter) {
        if letter.stage() == Some(self.stage) {
            self.stage += 1;
        }
        match letter {
            Letter::Hello => self.hello(),
            Letter::Certificate => self.message(letter, 11, &certificate_list(&[CLIENT])),
            Letter::EmptyCertificate => self.message(letter, 11, &certificate_list(&[])),
            Letter::OthersCertificate => self.message(letter, 11, &certificate_list(&[OTHER])),
            Letter::KeyExchange => self.key_exchange(),
            Letter::Verify => self.verify(letter, Signer::Client, self.transcript.bytes.len()),
            Letter::StraysVerify => self.verify(letter, Signer::Stray, self.transcript.bytes.len()),
            Letter::WrongTranscriptVerify => self.verify(letter, Signer::Client, self.transcript.last_message_at),
            Letter::ChangeCipherSpec => {
                self.give_new(false, CHANGE_CIPHER_SPEC, vec![1], Some(Arrival::ChangeCipherSpec));
            }
            Letter::Finished | Letter::WrongFinished => self.finished(letter),
            Letter::ClearFinished => {
                let piece = Piece::whole(20, self.message_seq, &self.verify_data());
                let bytes = self.seal(false, HANDSHAKE, &piece.bytes());
                self.give(bytes, None);
            }
            Letter::ClearData => {
                let bytes = self.seal(false, APPLICATION_DATA, b"GET /crts");
                self.give(bytes, None);
            }
            Letter::Data => {
                let bytes = self.seal(true, APPLICATION_DATA, b"GET /crts");
                self.give(bytes, Some(Arrival::Data));
            }
            Letter::Warning => {
                // user_canceled (RFC 5246 §7.2.2).
                let bytes = self.seal(false, ALERT, &[1, 90]);
                self.give(bytes, None);
            }
            Letter::HelloRequest => self.message(letter, 0, &[]),
            Letter::Repeat => {
                if let Some(sent) = self.last.clone() {
                    let bytes = self.seal(sent.protect, sent.content_type, &sent.payload);
                    self.give(bytes, sent.arrival);
                }
            }
            Letter::Ahead => {
                let message_seq = self.message_seq + 1;
                let piece = Piece::whole(11, message_seq, &certificate_list(&[CLIENT]));
                let bytes = self.seal(false, HANDSHAKE, &piece.bytes());
                self.give(bytes, Some(Arrival::Message { letter, message_seq }));
            }
            Letter::Late => {
                if matches!(self.late, Late::InOrder) {
                    self.late = Late::Next;
                }
            }
        }
    }

    /// Delivers what is still in transit, and compares. `Err` is the difference.
    pub fn end(mut self) -> Result<bool, &'static str> {
        self.deliver_late();
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        let completed = !self.heard.established.is_empty();
        if self.heard.established.iter().any(|who| *who != Who::Client) {
            return Err("completed as another client");
        }
        if self.heard.established.len() > 1 {
            return Err("completed more than once");
        }
        if self.heard.data != self.oracle.data() {
            return Err("delivered other data than what came after the handshake");
        }
        if self.heard.closed > 0 || self.endpoint.counts().established != usize::from(completed) {
            return Err("lost its session");
        }
        Ok(completed)
    }

    /// The hello of a new handshake, or a repetition of the hello of the current one.
    fn hello(&mut self) {
        if matches!(self.state, State::Begun | State::UnderWay) {
            let seq = self.hello_seq();
            let piece = Piece::whole(1, seq, &self.scene.hello_body);
            return self.give_new(false, HANDSHAKE, piece.bytes(), None);
        }
        // A datagram that was held back belongs to the previous handshake.
        self.deliver_late();
        if self.state == State::Refused {
            self.message_seq = 1;
            self.stage = 1;
        }
        self.transcript = Transcript::new();
        self.protected_sequence = 0;
        self.secret = [0; 48];
        self.finished = false;
        self.state = State::Begun;
        // An address gets one flight each half second, whichever handshake it is for.
        self.waited += Duration::from_secs(1);
        let message_seq = self.message_seq;
        self.message_seq += 1;
        let piece = Piece::whole(1, message_seq, &self.scene.hello_body).bytes();
        self.transcript.add(&piece);
        self.oracle.note(Arrival::Begin { message_seq });
        self.last = Some(Sent { protect: false, content_type: HANDSHAKE, payload: piece.clone(), arrival: None });
        let bytes = self.seal(false, HANDSHAKE, &piece);
        self.deliver(&bytes, None);
    }

    /// Number of the hello that began the handshake: it is in the first header of the transcript.
    fn hello_seq(&self) -> u16 {
        u16::from_be_bytes([self.transcript.bytes[4], self.transcript.bytes[5]])
    }

    /// A message of epoch 0 that uses up a number.
    fn message(&mut self, letter: Letter, kind: u8, body: &[u8]) {
        let message_seq = self.message_seq;
        self.message_seq += 1;
        let piece = Piece::whole(kind, message_seq, body).bytes();
        self.transcript.add(&piece);
        self.give_new(false, HANDSHAKE, piece, Some(Arrival::Message { letter, message_seq }));
    }

    fn key_exchange(&mut self) {
        let body = [&[65], &self.scene.point[..]].concat();
        let piece = Piece::whole(16, self.message_seq, &body);
        if self.state == State::UnderWay && !self.finished {
            let mut hashed = self.transcript.hash.clone();
            hashed.update(&piece.bytes());
            let session_hash = hashed.finish().as_ref().try_into().unwrap();
            self.secret = self.scene.secret(&self.server_point, session_hash);
        }
        self.message(Letter::KeyExchange, 16, &body);
    }

    fn verify(&mut self, letter: Letter, signer: Signer, signed: usize) {
        let signature = self.scene.sign(signer, &self.transcript.bytes[..signed]);
        let length = u16::try_from(signature.len()).unwrap().to_be_bytes();
        self.message(letter, 15, &[&[4, 3], &length[..], &signature].concat());
    }

    fn verify_data(&mut self) -> Vec<u8> {
        self.scene.verify_data(&self.secret, self.transcript.hash())
    }

    fn finished(&mut self, letter: Letter) {
        let message_seq = self.message_seq;
        self.message_seq += 1;
        let mut body = self.verify_data();
        if letter == Letter::WrongFinished {
            body[11] ^= 1;
        }
        let piece = Piece::whole(20, message_seq, &body).bytes();
        self.transcript.add(&piece);
        self.finished = true;
        self.give_new(true, HANDSHAKE, piece, Some(Arrival::Message { letter, message_seq }));
    }

    /// A record with the next number of its epoch.
    fn seal(&mut self, protect: bool, content_type: u8, payload: &[u8]) -> Vec<u8> {
        if protect {
            self.protected_sequence += 1;
            let record = (content_type, self.protected_sequence - 1, payload);
            self.scene.seal(&self.secret, &self.server_random, record)
        } else {
            self.plain_sequence += 1;
            Raw::new(content_type, 0, self.plain_sequence - 1, payload).bytes()
        }
    }

    /// Sends a record, and keeps it for `Repeat`.
    fn give_new(&mut self, protect: bool, content_type: u8, payload: Vec<u8>, arrival: Option<Arrival>) {
        let bytes = self.seal(protect, content_type, &payload);
        self.last = Some(Sent { protect, content_type, payload, arrival });
        self.give(bytes, arrival);
    }

    /// Sends, in the order that `Late` requires.
    fn give(&mut self, bytes: Vec<u8>, arrival: Option<Arrival>) {
        if matches!(self.late, Late::Next) {
            self.late = Late::Held(bytes, arrival);
            return;
        }
        self.deliver(&bytes, arrival);
        self.deliver_late();
    }

    fn now(&self) -> Now {
        let Now { mono, utc } = self.scene.now();
        Now {
            mono: mono + self.waited,
            utc: UnixTime::since_unix_epoch(Duration::from_secs(utc.as_secs()) + self.waited),
        }
    }

    fn deliver_late(&mut self) {
        if let Late::Held(..) = self.late
            && let Late::Held(bytes, arrival) = std::mem::replace(&mut self.late, Late::InOrder)
        {
            self.deliver(&bytes, arrival);
        }
    }

    fn deliver(&mut self, bytes: &[u8], arrival: Option<Arrival>) {
        if let Some(arrival) = arrival {
            self.oracle.note(arrival);
        }
        let mut bytes = bytes.to_vec();
        let now = self.now();
        self.endpoint.handle_datagram(now, path(50_000), &mut bytes);
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Established { peer, .. } => self.heard.established.push(peer),
                Event::Data { .. } => self.heard.data += 1,
                Event::Closed { .. } => self.heard.closed += 1,
                Event::Refused { .. } | Event::ForgeryAlarm { .. } => {}
            }
        }
        // Compare at every step: a handshake that completes too early is wrong even if it would have been right in
        // the end.
        self.wrong = self.wrong.or(match (self.heard.established.is_empty(), self.oracle.completes()) {
            (false, false) => Some("completed, and is not the honest path"),
            (true, true) => Some("did not complete, and is the honest path"),
            _ => None,
        });
        let mut answers = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            answers.extend_from_slice(transmit.bytes);
        }
        self.hear(&answers);
    }

    fn hear(&mut self, answers: &[u8]) {
        let begun = self.state == State::Begun;
        for record in records(answers) {
            match (record.content_type, record.epoch) {
                (ALERT, 0) if record.payload[0] == 2 => self.state = State::Refused,
                (HANDSHAKE, 0) if begun => {
                    self.state = State::UnderWay;
                    let piece = Piece::parse(&record.payload);
                    assert_eq!(usize::try_from(piece.length).unwrap(), piece.body.len(), "whole messages");
                    self.transcript.add(&record.payload);
                    match piece.kind {
                        2 => self.server_random = piece.body[2..34].try_into().unwrap(),
                        12 => self.server_point = piece.body[4..4 + usize::from(piece.body[3])].to_vec(),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
}

/// The body of a Certificate.
fn certificate_list(chain: &[&[u8]]) -> Vec<u8> {
    let longest = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..], bytes].concat();
    longest(&chain.iter().flat_map(|der| longest(der)).collect::<Vec<_>>())
}
