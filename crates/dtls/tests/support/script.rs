//! A client that a test controls: it makes the handshake message by message, with only `ring`. GCM, secp256r1.

use dtls::{Endpoint, Event, HandshakeRefusal};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use super::forge::{CHANGE_CIPHER_SPEC, Forger, HANDSHAKE, Piece, Raw, datagram, prf, records};
use super::{Clock, Known, World, path};

/// An extension: type and content.
pub type Extension = (u16, Vec<u8>);

/// The contents of a ClientHello.
#[derive(Clone, Debug)]
pub struct Hello {
    pub version: u16,
    pub random: [u8; 32],
    pub session_id: Vec<u8>,
    pub cookie: Vec<u8>,
    pub suites: Vec<u16>,
    pub compression: Vec<u8>,
    pub extensions: Option<Vec<Extension>>,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            version: 0xFEFD,
            random: [0x5A; 32],
            session_id: Vec::new(),
            cookie: Vec::new(),
            suites: vec![0xC02B],
            compression: vec![0],
            extensions: Some(vec![
                (10, vec![0, 2, 0, 23]),
                (11, vec![1, 0]),
                (13, vec![0, 2, 4, 3]),
                (23, vec![]),
                (0xFF01, vec![0]),
            ]),
        }
    }
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn longest(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[1..], bytes].concat()
}

impl Hello {
    pub fn body(&self) -> Vec<u8> {
        let mut out = self.version.to_be_bytes().to_vec();
        out.extend(self.random);
        out.extend(short(&self.session_id));
        out.extend(short(&self.cookie));
        out.extend(long(&self.suites.iter().flat_map(|suite| suite.to_be_bytes()).collect::<Vec<_>>()));
        out.extend(short(&self.compression));
        if let Some(extensions) = &self.extensions {
            let all =
                extensions.iter().flat_map(|(kind, content)| [kind.to_be_bytes().to_vec(), long(content)].concat());
            out.extend(long(&all.collect::<Vec<_>>()));
        }
        out
    }

    pub fn datagram(&self, message_seq: u16, record_sequence: u64) -> Vec<u8> {
        Raw::new(HANDSHAKE, 0, record_sequence, &Piece::whole(1, message_seq, &self.body()).bytes()).bytes()
    }

    pub fn without(mut self, extension: u16) -> Self {
        self.extensions.as_mut().unwrap().retain(|(kind, _)| *kind != extension);
        self
    }

    pub fn with(self, extension: u16, content: &[u8]) -> Self {
        let mut hello = self.without(extension);
        hello.extensions.as_mut().unwrap().push((extension, content.to_vec()));
        hello
    }
}

/// A hand-made client and a real endpoint.
pub struct Script {
    pub clock: Clock,
    pub endpoint: Endpoint<Known>,
    pub hello: Hello,
    pub path: dtls::Path,
    pub transcript: Vec<u8>,
    pub message_seq: u16,
    pub record_sequence: u64,
    pub server_random: [u8; 32],
    pub server_point: Vec<u8>,
    pub master_secret: [u8; 48],
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    pub events: Vec<super::ServerEvent>,
    /// All that the server sent.
    pub answers: Vec<Vec<u8>>,
}

impl Script {
    /// Asks for a cookie and returns it to the server; then reads the server's flight, if there is one.
    pub fn begin(world: &World, hello: Hello) -> Self {
        Self::begin_at(world, world.endpoint(), hello)
    }

    pub fn begin_at(world: &World, endpoint: Endpoint<Known>, hello: Hello) -> Self {
        let mut script = Self::unbegun(world, endpoint, hello);
        script.fetch_cookie();
        script.send_hello();
        script
    }

    pub fn unbegun(world: &World, endpoint: Endpoint<Known>, hello: Hello) -> Self {
        Self {
            clock: Clock::new(),
            endpoint,
            hello,
            path: path(50_000),
            transcript: Vec::new(),
            message_seq: 0,
            record_sequence: 0,
            server_random: [0; 32],
            server_point: Vec::new(),
            master_secret: [0; 48],
            certificate: world.client.chain()[0].clone(),
            key: world.client_key.clone(),
            events: Vec::new(),
            answers: Vec::new(),
        }
    }

    pub fn fetch_cookie(&mut self) {
        let hello = self.hello.datagram(self.message_seq, self.record_sequence);
        let answers = self.give(&hello);
        let request = Piece::parse(&records(&answers[0])[0].payload);
        assert_eq!(request.kind, 3, "HelloVerifyRequest");
        self.hello.cookie = request.body[3..].to_vec();
        self.message_seq += 1;
        self.record_sequence += 1;
    }

    pub fn send_hello(&mut self) {
        let piece = Piece::whole(1, self.message_seq, &self.hello.body());
        self.transcript.extend(piece.bytes());
        let bytes = self.hello.datagram(self.message_seq, self.record_sequence);
        self.message_seq += 1;
        self.record_sequence += 1;
        for answer in self.give(&bytes) {
            self.read_answer(&answer);
        }
    }

    /// Reads the server's flight, one message per record as our server sends it.
    pub fn read_answer(&mut self, answer: &[u8]) {
        for record in records(answer) {
            if record.handshake_type().is_none() {
                continue;
            }
            let piece = Piece::parse(&record.payload);
            assert_eq!(usize::try_from(piece.length).unwrap(), piece.body.len(), "whole messages");
            self.transcript.extend(piece.bytes());
            match piece.kind {
                2 => self.server_random = piece.body[2..34].try_into().unwrap(),
                12 => self.server_point = piece.body[4..4 + usize::from(piece.body[3])].to_vec(),
                _ => {}
            }
        }
    }

    /// Hands the server a datagram; returns its answers.
    pub fn give(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut bytes = bytes.to_vec();
        self.endpoint.handle_datagram(self.clock.now(), self.path, &mut bytes);
        self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
        let mut answers = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            answers.push(transmit.bytes.to_vec());
        }
        self.answers.extend(answers.iter().cloned());
        answers
    }

    /// Adds a message of the client to the transcript, and returns it as a record of epoch 0.
    pub fn message(&mut self, kind: u8, body: &[u8]) -> Raw {
        let piece = Piece::whole(kind, self.message_seq, body);
        self.message_seq += 1;
        self.transcript.extend(piece.bytes());
        self.plain(HANDSHAKE, &piece.bytes())
    }

    pub fn plain(&mut self, content_type: u8, payload: &[u8]) -> Raw {
        self.record_sequence += 1;
        Raw::new(content_type, 0, self.record_sequence - 1, payload)
    }

    pub fn certificate(&mut self) -> Raw {
        let body = longest(&longest(&self.certificate));
        self.message(11, &body)
    }

    /// ClientKeyExchange with an honest key; computes the master secret.
    pub fn key_exchange(&mut self) -> Raw {
        #[allow(clippy::disallowed_methods, reason = "a test owns its randomness")]
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let point = private.compute_public_key().unwrap().as_ref().to_vec();
        let record = self.message(16, &short(&point));
        let peer = UnparsedPublicKey::new(&ECDH_P256, self.server_point.clone());
        let premaster = agreement::agree_ephemeral(private, &peer, <[u8]>::to_vec).unwrap();
        let extended = self.hello.extensions.as_ref().is_some_and(|all| all.iter().any(|(kind, _)| *kind == 23));
        let secret = if extended {
            prf(&premaster, b"extended master secret", digest(&SHA256, &self.transcript).as_ref(), 48)
        } else {
            prf(&premaster, b"master secret", &[self.hello.random, self.server_random].concat(), 48)
        };
        self.master_secret = secret.try_into().unwrap();
        record
    }

    /// ClientKeyExchange with any bytes as a point.
    pub fn key_exchange_with(&mut self, point: &[u8]) -> Raw {
        self.message(16, &short(point))
    }

    pub fn sign(&self) -> Vec<u8> {
        #[allow(clippy::disallowed_methods, reason = "a test owns its randomness")]
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &self.key, &random).unwrap();
        pair.sign(&random, &self.transcript).unwrap().as_ref().to_vec()
    }

    pub fn certificate_verify(&mut self) -> Raw {
        let signature = self.sign();
        self.certificate_verify_with(0x0403, &signature)
    }

    pub fn certificate_verify_with(&mut self, scheme: u16, signature: &[u8]) -> Raw {
        let body = [&scheme.to_be_bytes()[..], &long(signature)].concat();
        self.message(15, &body)
    }

    pub fn change_cipher_spec(&mut self) -> Raw {
        self.plain(CHANGE_CIPHER_SPEC, &[1])
    }

    pub fn verify_data(&self) -> Vec<u8> {
        prf(&self.master_secret, b"client finished", digest(&SHA256, &self.transcript).as_ref(), 12)
    }

    pub fn finished_piece(&self) -> Piece {
        Piece::whole(20, self.message_seq, &self.verify_data())
    }

    /// Protects records with the client's keys of the session.
    pub fn forger(&self) -> Forger {
        Forger::new(&self.master_secret, &self.hello.random, &self.server_random, true)
    }

    pub fn finished(&self) -> Vec<u8> {
        self.forger().seal(HANDSHAKE, 0, &self.finished_piece().bytes())
    }

    /// The whole flight of an honest client.
    pub fn honest_flight(&mut self) -> Vec<u8> {
        let all = self.flight_before_finished();
        [all, self.finished()].concat()
    }

    /// The same, with these bytes for a Finished.
    pub fn flight_with_finished(&mut self, verify_data: &[u8]) -> Vec<u8> {
        let all = self.flight_before_finished();
        let piece = Piece::whole(20, self.message_seq, verify_data);
        [all, self.forger().seal(HANDSHAKE, 0, &piece.bytes())].concat()
    }

    fn flight_before_finished(&mut self) -> Vec<u8> {
        let mut all = vec![self.certificate(), self.key_exchange(), self.certificate_verify()];
        all.push(self.change_cipher_spec());
        datagram(&all)
    }

    pub fn refusal(&self) -> Option<HandshakeRefusal> {
        self.events.iter().find_map(|event| match event {
            Event::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        })
    }

    /// The plaintext alerts that the server sent.
    pub fn alerts(&self) -> Vec<Vec<u8>> {
        let all = self.answers.iter().flat_map(|answer| records(answer));
        all.filter(|record| record.content_type == super::forge::ALERT && record.epoch == 0)
            .map(|record| record.payload)
            .collect()
    }

    pub fn is_established(&self) -> bool {
        self.endpoint.counts().established == 1
    }

    /// Lets the endpoint's timers run until nothing is half open.
    pub fn wait_out(&mut self) {
        while self.endpoint.counts().half_open > 0 {
            let at = self.endpoint.poll_timeout().unwrap();
            self.clock.advance_to(at);
            self.endpoint.handle_timeout(self.clock.now());
            self.events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
            while self.endpoint.poll_transmit().is_some() {}
        }
    }
}
