//! Steps of several handshakes in one `PublicKeyJob::run_many`: each client gets the verdict on its own signatures, whatever the others are
//! (D89).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use dtls::{
    CertificateFault, CertificateRefusal, Client, ClientConfig, EcdsaPublicKey, EcdsaSigningKey, Endpoint, Event,
    HandshakeRefusal, Identity, Judgement, NamedCurve, PublicKeyJob, PublicKeySteps, ServerConfig, SignatureCheck,
    SignatureScheme, UnixTime, UnprovenPeer, Verdicts, VerifyPeer,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};

use crate::support::{Clock, Known, SystemRandom, World, identity, identity_and_key, path};

/// The kind of a client, which decides the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Good,
    /// It signs the handshake with another key than its certificate's.
    WrongKey,
    /// No anchor has signed its certificate.
    BadChain,
    /// The first of two anchors of one name has not signed its certificate, the second has.
    TwoAnchors,
    /// Its judgement panics.
    Panics,
    /// Good, with more signatures than the others.
    LongChain,
}

const KINDS: [Kind; 6] = [Kind::Good, Kind::WrongKey, Kind::BadChain, Kind::TwoAnchors, Kind::Panics, Kind::LongChain];

/// The expected result of its judgement; `None` if the judgement panics.
fn expected(kind: Kind) -> Option<Result<(), HandshakeRefusal>> {
    match kind {
        Kind::Good | Kind::TwoAnchors | Kind::LongChain => Some(Ok(())),
        Kind::WrongKey => Some(Err(HandshakeRefusal::BadCertificateVerify)),
        Kind::BadChain => Some(Err(HandshakeRefusal::Certificate(CertificateFault::BadSignature))),
        Kind::Panics => None,
    }
}

/// A certificate, and the signature over it that a chain represents in these tests.
#[derive(Clone)]
struct Shown {
    kind: Kind,
    leaf: Vec<u8>,
    key: EcdsaPublicKey,
    signature: Vec<u8>,
    /// The keys to try, the next one last.
    anchors: Vec<EcdsaPublicKey>,
}

impl Shown {
    /// Signatures of one round.
    fn signatures(&self) -> usize {
        if self.kind == Kind::LongChain { 3 } else { 1 }
    }
}

impl UnprovenPeer for Shown {
    type Proven = Vec<u8>;

    fn key(&self) -> &EcdsaPublicKey {
        &self.key
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        let check = self.anchors.last().map(|anchor| SignatureCheck {
            curve: anchor.curve(),
            point: anchor.point(),
            scheme: SignatureScheme::EcdsaSecp256r1Sha256,
            message: &self.leaf,
            signature: &self.signature,
        });
        check.into_iter().flat_map(|check| std::iter::repeat_n(check, self.signatures()))
    }

    fn conclude(mut self, verdicts: &Verdicts<'_>) -> Result<Judgement<Self, Vec<u8>>, CertificateRefusal> {
        assert_ne!(self.kind, Kind::Panics, "this client's judgement panics");
        assert_eq!(verdicts.iter().len(), self.signatures(), "{:?}: not as many verdicts as checks", self.kind);
        if verdicts.iter().all(|good| good) {
            return Ok(Judgement::Proven(self.leaf));
        }
        self.anchors.pop();
        if self.anchors.is_empty() { Err(CertificateFault::BadSignature.into()) } else { Ok(Judgement::Further(self)) }
    }
}

/// Knows what each certificate represents.
struct Anchors(Vec<Shown>);

impl VerifyPeer for Anchors {
    type Peer = Arc<Vec<u8>>;
    type Unproven = Shown;
    type Proven = Vec<u8>;

    fn collect(&self, chain: &[&[u8]], _utc: UnixTime) -> Result<Shown, CertificateRefusal> {
        let found = self.0.iter().find(|shown| shown.leaf == chain[0]);
        found.cloned().ok_or_else(|| CertificateFault::UnknownIssuer.into())
    }

    fn admit(&self, proven: Vec<u8>) -> Arc<Vec<u8>> {
        Arc::new(proven)
    }
}

/// A server, and a client of each kind connecting to it.
struct Crowd {
    clock: Clock,
    endpoint: Endpoint<Anchors>,
    clients: Vec<(Kind, Client<Known>)>,
}

impl Crowd {
    fn new() -> Self {
        let (world, clock) = (World::new(), Clock::new());
        let [(right, right_key), (wrong, _)] = [(); 2].map(|()| identity_and_key(NamedCurve::P256));
        let [right, wrong] = [right, wrong].map(|anchor| anchor.key().public_key().clone());
        #[allow(clippy::disallowed_methods, reason = "a test owns its randomness")]
        let random = ring::rand::SystemRandom::new();
        let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &right_key, &random).unwrap();
        let identities = KINDS.map(|kind| (kind, identity_and_key(NamedCurve::P256)));
        let shown = identities.iter().map(|(kind, (identity, _))| {
            let leaf = identity.chain()[0].clone();
            let anchors = match kind {
                Kind::BadChain => vec![wrong.clone()],
                Kind::TwoAnchors => vec![right.clone(), wrong.clone()],
                _ => vec![right.clone()],
            };
            let signature = signer.sign(&random, &leaf).unwrap().as_ref().to_vec();
            Shown { kind: *kind, leaf, key: identity.key().public_key().clone(), signature, anchors }
        });
        let cookie = dtls::CookieKeys::shared([7; 32], std::time::Duration::from_secs(60));
        let mut config = ServerConfig::new(world.server.clone(), Arc::new(Anchors(shown.collect())), cookie);
        config.public_key_steps = PublicKeySteps::Suspended;
        let clients = identities.map(|(kind, (identity, pkcs8))| {
            let pkcs8 = if kind == Kind::WrongKey { identity_and_key(NamedCurve::P256).1 } else { pkcs8 };
            let key = EcdsaSigningKey::from_pkcs8(&pkcs8, SystemRandom::shared().as_ref()).unwrap();
            let identity = Arc::new(Identity::new(identity.chain().to_vec(), key));
            (kind, dial(&world, clock, identity))
        });
        Self { clock, endpoint: Endpoint::new(Arc::new(config), world.random), clients: clients.into() }
    }

    /// The next step of the handshake of this client.
    fn step(&mut self, client: usize) -> PublicKeyJob<Anchors> {
        let (now, port) = (self.clock.now(), u16::try_from(client).unwrap());
        loop {
            if let Some(job) = self.endpoint.poll_public_key_job() {
                return job;
            }
            let mut datagram = self.clients[client].1.poll_transmit().expect("a client that goes on").to_vec();
            self.endpoint.handle_datagram(now, path(port), &mut datagram);
            while let Some(transmit) = self.endpoint.poll_transmit() {
                assert_eq!(transmit.path, path(port));
                let mut datagram = transmit.bytes.to_vec();
                self.clients[client].1.handle_datagram(now, &mut datagram);
            }
        }
    }

    /// The step in which a client is judged: all its datagrams have arrived.
    fn judgement(&mut self, client: usize) -> PublicKeyJob<Anchors> {
        let exchange = self.step(client).run();
        self.endpoint.complete_public_key_job(self.clock.now(), exchange);
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let mut datagram = transmit.bytes.to_vec();
            self.clients[client].1.handle_datagram(self.clock.now(), &mut datagram);
        }
        let judgement = self.step(client);
        while let Some(datagram) = self.clients[client].1.poll_transmit() {
            let mut datagram = datagram.to_vec();
            self.endpoint.handle_datagram(self.clock.now(), path(u16::try_from(client).unwrap()), &mut datagram);
        }
        judgement
    }
}

fn dial(world: &World, clock: Clock, identity: Arc<Identity>) -> Client<Known> {
    let config = ClientConfig::new(Some(identity), Arc::new(Known::of(&[&world.server])));
    Client::new(Arc::new(config), world.random.clone(), clock.now())
}

/// Judges a client of each kind in this order, and a first step among them, in one call; returns the results.
fn judged_together(order: &[usize]) -> BTreeMap<Kind, Result<(), HandshakeRefusal>> {
    let mut crowd = Crowd::new();
    let mut jobs: Vec<_> = order.iter().map(|client| crowd.judgement(*client)).collect();
    let newcomer = dial(&World::new(), crowd.clock, identity(NamedCurve::P256));
    crowd.clients.push((Kind::Good, newcomer));
    let exchange = crowd.step(KINDS.len());
    let first_step = exchange.session();
    jobs.insert(order.len() / 2, exchange);

    let isolate = |step: &mut dyn FnMut()| drop(catch_unwind(AssertUnwindSafe(step)));
    let done = PublicKeyJob::run_many(jobs, &isolate);
    assert_eq!(done.len(), KINDS.len(), "all but the one that panicked");
    assert!(done.iter().any(|done| done.session() == first_step));
    for done in done {
        crowd.endpoint.complete_public_key_job(crowd.clock.now(), done);
    }
    let mut ends = BTreeMap::new();
    while let Some(event) = crowd.endpoint.poll_event() {
        let (from, end) = match event {
            Event::Established { path, .. } => (path, Ok(())),
            Event::Refused { path, refusal, .. } => (path, Err(refusal)),
            _ => panic!("neither established nor refused"),
        };
        assert!(ends.insert(crowd.clients[usize::from(from.peer.port())].0, end).is_none());
    }
    ends
}

#[test]
fn d89_of_many_handshakes_judged_by_one_call_each_gets_its_own_verdict() {
    let expected: BTreeMap<_, _> = KINDS.iter().filter_map(|kind| Some((*kind, expected(*kind)?))).collect();
    let mut order: Vec<usize> = (0..KINDS.len()).collect();
    for _ in 0..KINDS.len() {
        order.rotate_left(1);
        assert_eq!(judged_together(&order), expected, "{order:?}");
    }
    order.reverse();
    assert_eq!(judged_together(&order), expected, "{order:?}");
}
