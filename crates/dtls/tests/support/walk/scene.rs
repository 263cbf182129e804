//! The parties of the walks, and a cache of the client's computations.

#![allow(deprecated, reason = "ring seals SecureRandom; its own test source is the way to feed it derived bytes")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dtls::{
    CertificateFault, CookieKeys, EcdsaPublicKey, EcdsaSigningKey, Endpoint, Identity, NamedCurve, Now, Random,
    ServerConfig, UnixTime, VerifyPeer,
};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey};
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use ring::test::rand::FixedSliceRandom;

use super::super::forge::{Forger, Piece, prf, records};
use super::super::script::Hello;
use super::super::{Clock, path};

/// The client's identity, in the server's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The client that walks.
    Client,
    /// Another device: anybody may have seen its certificate, but only the device has its key.
    Other,
    /// A client that sent no certificate.
    Nobody,
}

/// The certificates: for the engine they are bytes that a verifier knows.
pub const CLIENT: &[u8] = b"certificate of the client";
pub const OTHER: &[u8] = b"certificate of the other one";

/// A verifier that would accept even an empty chain, with any key: the engine itself must refuse a client without a certificate.
pub struct Judge {
    client: EcdsaPublicKey,
    other: EcdsaPublicKey,
}

impl VerifyPeer for Judge {
    type Peer = Who;
    type Unproven = dtls::KeyAlone<Who>;
    type Proven = Who;

    fn collect(&self, chain: &[&[u8]], _utc: UnixTime) -> Result<Self::Unproven, dtls::CertificateRefusal> {
        match chain {
            [CLIENT] => Ok(dtls::KeyAlone::new(Who::Client, self.client.clone())),
            [OTHER] => Ok(dtls::KeyAlone::new(Who::Other, self.other.clone())),
            [] => Ok(dtls::KeyAlone::new(Who::Nobody, self.client.clone())),
            _ => Err(CertificateFault::UnknownIssuer.into()),
        }
    }

    fn admit(&self, proven: Self::Proven) -> Self::Peer {
        proven
    }
}

/// A stream of derived bytes.
pub struct Derived {
    stream: u64,
    drawn: AtomicU64,
}

impl Derived {
    pub const fn new(stream: u64) -> Self {
        Self { stream, drawn: AtomicU64::new(0) }
    }

    fn next(&self) -> [u8; 32] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let bytes = [self.stream.to_be_bytes(), number.to_be_bytes()].concat();
        digest(&SHA256, &bytes).as_ref().try_into().unwrap()
    }
}

impl Random for Derived {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            chunk.copy_from_slice(&self.next()[..chunk.len()]);
        }
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&FixedSliceRandom { bytes: &self.next() });
    }
}

/// The owner of the key that signs a CertificateVerify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signer {
    Client,
    Stray,
}

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Entries of one cache. Consecutive words begin alike, so little is lost when the cache is emptied.
const CACHED_MAX: usize = 100_000;

/// Everything that walks share.
pub struct Scene {
    config: Arc<ServerConfig<Judge>>,
    clock: Clock,
    /// The client's hello, with a cookie that is valid for all endpoints of this configuration.
    pub hello: Hello,
    /// Its body.
    pub hello_body: Vec<u8>,
    keys: [EcdsaKeyPair; 2],
    /// The client's share of the key agreement.
    pub point: Vec<u8>,
    premasters: HashMap<Vec<u8>, Vec<u8>>,
    secrets: HashMap<(Vec<u8>, Hash), [u8; 48]>,
    signatures: HashMap<(Signer, Hash), Vec<u8>>,
    verify_data: HashMap<([u8; 48], Hash), Vec<u8>>,
    forgers: HashMap<([u8; 48], [u8; 32]), Forger>,
}

/// Streams of randomness.
const SERVER: u64 = 0;
const SHARE: u64 = 1;
const SIGNATURES: u64 = 2;
const KEYS: u64 = 3;

impl Scene {
    pub fn new() -> Self {
        let keys = Derived::new(KEYS);
        let new_key = || secure(&keys, |random| EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random));
        let pair = |pkcs8: &[u8]| {
            secure(&keys, |random| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, random))
        };
        let public = |pair: &EcdsaKeyPair| EcdsaPublicKey::new(NamedCurve::P256, pair.public_key().as_ref()).unwrap();
        let (client, stray, other) = (pair(new_key().as_ref()), pair(new_key().as_ref()), pair(new_key().as_ref()));
        let judge = Judge { client: public(&client), other: public(&other) };
        let key = EcdsaSigningKey::from_pkcs8(new_key().as_ref(), &keys).unwrap();
        let identity = Identity::new(vec![b"certificate of the server".to_vec()], key);
        let cookie = CookieKeys::shared([7; 32], Duration::from_secs(60));
        let mut scene = Self {
            config: Arc::new(ServerConfig::new(Arc::new(identity), Arc::new(judge), cookie)),
            clock: Clock::new(),
            hello: Hello::default(),
            hello_body: Vec::new(),
            keys: [client, stray],
            point: share().1,
            premasters: HashMap::new(),
            secrets: HashMap::new(),
            signatures: HashMap::new(),
            verify_data: HashMap::new(),
            forgers: HashMap::new(),
        };
        scene.fetch_cookie();
        scene
    }

    /// A new server, with the same randomness as every other one.
    pub fn endpoint(&self) -> Endpoint<Judge> {
        Endpoint::new(self.config.clone(), Arc::new(Derived::new(SERVER)))
    }

    /// The time does not pass.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    fn fetch_cookie(&mut self) {
        let mut endpoint = self.endpoint();
        endpoint.handle_datagram(self.now(), path(50_000), &mut self.hello.datagram(0, 0));
        let answer = endpoint.poll_transmit().unwrap().bytes.to_vec();
        let request = Piece::parse(&records(&answer)[0].payload);
        assert_eq!(request.kind, 3, "HelloVerifyRequest");
        self.hello.cookie = request.body[3..].to_vec();
        self.hello_body = self.hello.body();
    }

    /// Extended master secret (RFC 7627 §4).
    pub fn secret(&mut self, server_point: &[u8], session_hash: Hash) -> [u8; 48] {
        let premaster = self.premasters.entry(server_point.to_vec()).or_insert_with(|| {
            let peer = UnparsedPublicKey::new(&ECDH_P256, server_point);
            agreement::agree_ephemeral(share().0, &peer, <[u8]>::to_vec).unwrap()
        });
        empty_when_full(&mut self.secrets);
        *self
            .secrets
            .entry((server_point.to_vec(), session_hash))
            .or_insert_with(|| prf(premaster, b"extended master secret", &session_hash, 48).try_into().unwrap())
    }

    pub fn sign(&mut self, signer: Signer, message: &[u8]) -> Vec<u8> {
        let hash: Hash = digest(&SHA256, message).as_ref().try_into().unwrap();
        let pair = match signer {
            Signer::Client => &self.keys[0],
            Signer::Stray => &self.keys[1],
        };
        let signed = || secure(&Derived::new(SIGNATURES), |random| pair.sign(random, message)).as_ref().to_vec();
        empty_when_full(&mut self.signatures);
        self.signatures.entry((signer, hash)).or_insert_with(signed).clone()
    }

    pub fn verify_data(&mut self, secret: &[u8; 48], transcript: Hash) -> Vec<u8> {
        let computed = || prf(secret, b"client finished", &transcript, 12);
        empty_when_full(&mut self.verify_data);
        self.verify_data.entry((*secret, transcript)).or_insert_with(computed).clone()
    }

    pub fn seal(&mut self, secret: &[u8; 48], server_random: &[u8; 32], record: (u8, u64, &[u8])) -> Vec<u8> {
        let (content_type, sequence, plaintext) = record;
        let hello = &self.hello;
        let forger = || Forger::new(secret, &hello.random, server_random, true);
        empty_when_full(&mut self.forgers);
        self.forgers.entry((*secret, *server_random)).or_insert_with(forger).seal(content_type, sequence, plaintext)
    }
}

fn empty_when_full<K, T>(cache: &mut HashMap<K, T>) {
    if cache.len() >= CACHED_MAX {
        cache.clear();
    }
}

/// The client's ephemeral key, which `ring` consumes in one use, and its point: the same ones each time.
fn share() -> (EphemeralPrivateKey, Vec<u8>) {
    let private = secure(&Derived::new(SHARE), |random| EphemeralPrivateKey::generate(&ECDH_P256, random));
    let point = private.compute_public_key().unwrap().as_ref().to_vec();
    (private, point)
}

fn secure<T, E: std::fmt::Debug>(random: &Derived, operation: impl Fn(&dyn SecureRandom) -> Result<T, E>) -> T {
    let mut made = None;
    random.with_secure(&mut |secure| made = Some(operation(secure).unwrap()));
    made.unwrap()
}
