//! Takes datagrams apart, changes them and puts them together, as an attacker or a faulty peer would. It contains a second
//! implementation of record protection (GCM only) and of the PRF, so that tests can use the session's keys without the engine's code.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

pub const CHANGE_CIPHER_SPEC: u8 = 20;
pub const ALERT: u8 = 21;
pub const HANDSHAKE: u8 = 22;
pub const APPLICATION_DATA: u8 = 23;

/// One record of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    pub content_type: u8,
    pub version: u16,
    pub epoch: u16,
    pub sequence: u64,
    pub payload: Vec<u8>,
}

impl Raw {
    pub fn new(content_type: u8, epoch: u16, sequence: u64, payload: &[u8]) -> Self {
        Self { content_type, version: 0xFEFD, epoch, sequence, payload: payload.to_vec() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.content_type];
        out.extend(self.version.to_be_bytes());
        out.extend(self.epoch.to_be_bytes());
        out.extend(&self.sequence.to_be_bytes()[2..]);
        out.extend(u16::try_from(self.payload.len()).unwrap().to_be_bytes());
        out.extend(&self.payload);
        out
    }

    /// Type of its handshake message, if it is a handshake record in plaintext.
    pub fn handshake_type(&self) -> Option<u8> {
        (self.content_type == HANDSHAKE && self.epoch == 0).then(|| self.payload[0])
    }
}

pub fn records(datagram: &[u8]) -> Vec<Raw> {
    let mut rest = datagram;
    let mut all = Vec::new();
    while rest.len() >= 13 {
        let number = u64::from_be_bytes(rest[3..11].try_into().unwrap());
        let length = usize::from(u16::from_be_bytes([rest[11], rest[12]]));
        all.push(Raw {
            content_type: rest[0],
            version: u16::from_be_bytes([rest[1], rest[2]]),
            epoch: u16::from_be_bytes([rest[3], rest[4]]),
            sequence: number & ((1 << 48) - 1),
            payload: rest[13..13 + length].to_vec(),
        });
        rest = &rest[13 + length..];
    }
    assert!(rest.is_empty());
    all
}

pub fn datagram(records: &[Raw]) -> Vec<u8> {
    records.iter().flat_map(Raw::bytes).collect()
}

/// A handshake message, or a fragment of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub kind: u8,
    pub length: u32,
    pub message_seq: u16,
    pub offset: u32,
    pub body: Vec<u8>,
}

impl Piece {
    pub fn whole(kind: u8, message_seq: u16, body: &[u8]) -> Self {
        Self { kind, length: u32::try_from(body.len()).unwrap(), message_seq, offset: 0, body: body.to_vec() }
    }

    pub fn parse(payload: &[u8]) -> Self {
        let u24 = |at: usize| u32::from_be_bytes([0, payload[at], payload[at + 1], payload[at + 2]]);
        let end = 12 + usize::try_from(u24(9)).unwrap();
        Self {
            kind: payload[0],
            length: u24(1),
            message_seq: u16::from_be_bytes([payload[4], payload[5]]),
            offset: u24(6),
            body: payload[12..end].to_vec(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.kind];
        out.extend(&self.length.to_be_bytes()[1..]);
        out.extend(self.message_seq.to_be_bytes());
        out.extend(&self.offset.to_be_bytes()[1..]);
        out.extend(&u32::try_from(self.body.len()).unwrap().to_be_bytes()[1..]);
        out.extend(&self.body);
        out
    }

    /// Cuts it into fragments of at most `size` bytes.
    pub fn fragments(&self, size: usize) -> Vec<Self> {
        let mut offset = 0;
        self.body
            .chunks(size)
            .map(|chunk| {
                let piece = Self { offset, body: chunk.to_vec(), ..self.clone() };
                offset += u32::try_from(chunk.len()).unwrap();
                piece
            })
            .collect()
    }
}

/// Protects records with the client's or the server's write keys of a GCM session.
pub struct Forger {
    key: [u8; 16],
    salt: [u8; 4],
}

impl Forger {
    /// `server_random` is read from the ServerHello on the wire.
    pub fn new(master_secret: &[u8; 48], client_random: &[u8; 32], server_random: &[u8; 32], client: bool) -> Self {
        let block = prf(master_secret, b"key expansion", &[&server_random[..], &client_random[..]].concat(), 40);
        let (key_at, salt_at) = if client { (0, 32) } else { (16, 36) };
        Self {
            key: block[key_at..key_at + 16].try_into().unwrap(),
            salt: block[salt_at..salt_at + 4].try_into().unwrap(),
        }
    }

    pub fn seal(&self, content_type: u8, sequence: u64, plaintext: &[u8]) -> Vec<u8> {
        let number = (1_u64 << 48 | sequence).to_be_bytes();
        let nonce: [u8; 12] = [&self.salt[..], &number[..]].concat().try_into().unwrap();
        let length = u16::try_from(plaintext.len()).unwrap().to_be_bytes();
        let aad = [&number[..], &[content_type, 0xFE, 0xFD], &length].concat();
        let mut sealed = plaintext.to_vec();
        LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &self.key).unwrap())
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
            .unwrap();
        Raw::new(content_type, 1, sequence, &[&number[..], &sealed].concat()).bytes()
    }
}

pub fn prf(secret: &[u8], label: &[u8], seed: &[u8], length: usize) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let labelled = [label, seed].concat();
    let mut a = labelled.clone();
    let mut out = Vec::new();
    while out.len() < length {
        a = hmac::sign(&key, &a).as_ref().to_vec();
        out.extend(hmac::sign(&key, &[&a[..], &labelled[..]].concat()).as_ref());
    }
    out.truncate(length);
    out
}
