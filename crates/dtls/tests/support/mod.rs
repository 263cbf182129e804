//! Shared by the tests: identities, a verifier that knows them, a clock that a test sets, and a pair of engines; a test can drop,
//! copy, reorder and forge the datagrams between them.

#![allow(clippy::unwrap_used, reason = "helpers of tests: what fails here fails the test")]
#![allow(dead_code, reason = "each story uses its part")]
#![allow(unreachable_pub, reason = "a module of tests")]

pub mod forge;
pub mod script;
pub mod walk;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dtls::{
    CertificateFault, Client, ClientConfig, ClientEvent, CookieKeys, EcdsaPublicKey, EcdsaSigningKey, Endpoint, Event,
    Identity, NamedCurve, Now, Observer, Path, Random, ServerConfig, SocketIndex, TraceEvent, UnixTime, VerifyPeer,
};
use ring::rand::SecureRandom;

/// The system's randomness: the rules for pure crates do not apply to tests.
pub struct SystemRandom(ring::rand::SystemRandom);

impl SystemRandom {
    #[allow(clippy::disallowed_methods, reason = "a test owns its randomness")]
    pub fn shared() -> Arc<dyn Random> {
        Arc::new(Self(ring::rand::SystemRandom::new()))
    }
}

impl Random for SystemRandom {
    fn fill(&self, out: &mut [u8]) {
        self.0.fill(out).unwrap();
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        operation(&self.0);
    }
}

/// Recognizes peers by their leaf; a test may set a fault.
#[derive(Default)]
pub struct Known {
    pub peers: Vec<(Vec<u8>, EcdsaPublicKey)>,
    pub fault: Option<CertificateFault>,
    pub authorities: Vec<Vec<u8>>,
    /// What a client's hello names.
    pub trusted: Vec<dtls::AuthorityKeyHash>,
    pub asked: Mutex<usize>,
    /// How many peers it was told to remember.
    pub admitted: Mutex<usize>,
    /// The chains that peers sent, if it should record them.
    pub shown: Option<Mutex<Vec<Vec<Vec<u8>>>>>,
}

impl Known {
    pub fn of(identities: &[&Identity]) -> Self {
        let peers = identities.iter().map(|one| (one.chain()[0].clone(), one.key().public_key().clone())).collect();
        Self { peers, ..Self::default() }
    }
}

impl VerifyPeer for Known {
    type Peer = Arc<Vec<u8>>;
    type Unproven = dtls::KeyAlone<Arc<Vec<u8>>>;
    type Proven = Arc<Vec<u8>>;

    fn holder(proven: &Self::Proven) -> u64 {
        proven.iter().fold(0, |sum, byte| sum * 31 % 1_000_007 + u64::from(*byte))
    }

    fn collect(&self, chain: &[&[u8]], _utc: UnixTime) -> Result<Self::Unproven, dtls::CertificateRefusal> {
        *self.asked.lock().unwrap() += 1;
        if let Some(shown) = &self.shown {
            shown.lock().unwrap().push(chain.iter().map(|der| der.to_vec()).collect());
        }
        if let Some(fault) = self.fault {
            return Err(fault.into());
        }
        let found = self.peers.iter().find(|(leaf, _)| leaf == chain[0]);
        let (leaf, key) = found.ok_or(CertificateFault::UnknownIssuer)?;
        Ok(dtls::KeyAlone::new(Arc::new(leaf.clone()), key.clone()))
    }

    fn admit(&self, proven: Self::Proven) -> Self::Peer {
        *self.admitted.lock().unwrap() += 1;
        proven
    }

    fn claimed(&self, leaf: &[u8]) -> Option<Box<str>> {
        Some(format!("{} bytes", leaf.len()).into())
    }

    fn claimed_by(&self, proven: &Self::Proven) -> Option<Box<str>> {
        self.claimed(proven)
    }

    fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }

    fn trusted_authorities(&self) -> &[dtls::AuthorityKeyHash] {
        &self.trusted
    }
}

/// A self-signed certificate and its key.
pub fn identity(curve: NamedCurve) -> Arc<Identity> {
    identity_and_key(curve).0
}

/// The same, with the key as PKCS#8.
pub fn identity_and_key(curve: NamedCurve) -> (Arc<Identity>, Vec<u8>) {
    let algorithm = match curve {
        NamedCurve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        NamedCurve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
    };
    let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let params = rcgen::CertificateParams::new(vec!["peer.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&pair).unwrap();
    let key = EcdsaSigningKey::from_pkcs8(&pair.serialize_der(), SystemRandom::shared().as_ref()).unwrap();
    (Arc::new(Identity::new(vec![certificate.der().to_vec()], key)), pair.serialize_der())
}

/// A clock that a test sets.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
    pub elapsed: Duration,
}

impl Clock {
    #[allow(clippy::disallowed_methods, reason = "an Instant can only come from the clock; its value does not matter")]
    pub fn new() -> Self {
        Self { start: Instant::now(), elapsed: Duration::ZERO }
    }

    pub fn now(&self) -> Now {
        let utc = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000) + self.elapsed);
        Now { mono: self.start + self.elapsed, utc }
    }

    /// `at`, as time since this clock's start.
    pub fn until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    pub fn advance_to(&mut self, at: Instant) {
        self.elapsed = self.elapsed.max(at.saturating_duration_since(self.start));
    }
}

pub fn path(port: u16) -> Path {
    Path {
        peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), port),
        local: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254))),
        socket: SocketIndex(0),
    }
}

/// The identities of both ends.
pub struct World {
    pub server: Arc<Identity>,
    pub client: Arc<Identity>,
    /// PKCS#8 of the client's key.
    pub client_key: Vec<u8>,
    pub random: Arc<dyn Random>,
}

impl World {
    pub fn new() -> Self {
        let (client, client_key) = identity_and_key(NamedCurve::P256);
        Self { server: identity(NamedCurve::P256), client, client_key, random: SystemRandom::shared() }
    }

    pub fn server_config(&self) -> ServerConfig<Known> {
        let cookie = CookieKeys::shared([7; 32], Duration::from_secs(60));
        ServerConfig::new(self.server.clone(), Arc::new(Known::of(&[&self.client])), cookie)
    }

    pub fn client_config(&self) -> ClientConfig<Known> {
        ClientConfig::new(Some(self.client.clone()), Arc::new(Known::of(&[&self.server])))
    }

    pub fn endpoint(&self) -> Endpoint<Known> {
        self.endpoint_with(|_| ())
    }

    pub fn endpoint_with(&self, change: impl FnOnce(&mut ServerConfig<Known>)) -> Endpoint<Known> {
        let mut config = self.server_config();
        change(&mut config);
        Endpoint::new(Arc::new(config), self.random.clone())
    }

    pub fn client(&self, clock: &Clock) -> Client<Known> {
        self.client_with(clock, |_| ())
    }

    pub fn client_with(&self, clock: &Clock, change: impl FnOnce(&mut ClientConfig<Known>)) -> Client<Known> {
        let mut config = self.client_config();
        change(&mut config);
        Client::new(Arc::new(config), self.random.clone(), clock.now())
    }
}

pub type ServerEvent = Event<Arc<Vec<u8>>>;
pub type PeerEvent = ClientEvent<Arc<Vec<u8>>>;

/// Direction of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

/// Two engines, and the datagrams between them.
pub struct Pair {
    pub clock: Clock,
    pub endpoint: Endpoint<Known>,
    pub client: Client<Known>,
    pub path: Path,
    pub to_server: VecDeque<Vec<u8>>,
    pub to_client: VecDeque<Vec<u8>>,
    pub server_events: Vec<ServerEvent>,
    pub client_events: Vec<PeerEvent>,
    /// Application data that each side received.
    pub server_received: Vec<Vec<u8>>,
    pub client_received: Vec<Vec<u8>>,
    /// Every datagram that was sent, in order.
    pub sent: Vec<(Way, Vec<u8>)>,
}

impl Pair {
    pub fn new(world: &World) -> Self {
        let clock = Clock::new();
        Self::of(world.endpoint(), world.client(&clock), clock)
    }

    pub fn of(endpoint: Endpoint<Known>, client: Client<Known>, clock: Clock) -> Self {
        let mut pair = Self {
            clock,
            endpoint,
            client,
            path: path(40_000),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            server_events: Vec::new(),
            client_events: Vec::new(),
            server_received: Vec::new(),
            client_received: Vec::new(),
            sent: Vec::new(),
        };
        pair.collect();
        pair
    }

    /// An established pair with nothing in transit.
    pub fn established(world: &World) -> Self {
        let mut pair = Self::new(world);
        pair.run();
        assert!(pair.is_established(), "{:?} {:?}", pair.server_events, pair.client_events);
        pair
    }

    /// A pair whose server has sent its flight, which is in transit.
    pub fn half_open(world: &World) -> Self {
        Self::new(world).until_half_open()
    }

    /// The same, from the beginning of this pair on.
    pub fn until_half_open(mut self) -> Self {
        for _ in 0..3 {
            self.step();
        }
        assert_eq!(self.endpoint.counts().half_open, 1);
        self
    }

    pub fn is_established(&self) -> bool {
        self.client.facts().is_some() && self.endpoint.counts().established == 1
    }

    /// Takes what both sides have to send.
    pub fn collect(&mut self) {
        while let Some(bytes) = self.client.poll_transmit() {
            let bytes = bytes.to_vec();
            self.sent.push((Way::ToServer, bytes.clone()));
            self.to_server.push_back(bytes);
        }
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let bytes = transmit.bytes.to_vec();
            if transmit.path == self.path {
                self.sent.push((Way::ToClient, bytes.clone()));
                self.to_client.push_back(bytes);
            }
        }
    }

    pub fn give_server(&mut self, datagram: &[u8]) {
        self.give_server_from(self.path, datagram);
    }

    pub fn give_server_from(&mut self, path: Path, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        self.endpoint.handle_datagram(self.clock.now(), path, &mut datagram);
        while let Some(event) = self.endpoint.poll_event() {
            if let Event::Data { plaintext, .. } = &event {
                self.server_received.push(datagram[plaintext.clone()].to_vec());
            }
            self.server_events.push(event);
        }
        self.collect();
    }

    pub fn give_client(&mut self, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        self.client.handle_datagram(self.clock.now(), &mut datagram);
        while let Some(event) = self.client.poll_event() {
            if let ClientEvent::Data { plaintext } = &event {
                self.client_received.push(datagram[plaintext.clone()].to_vec());
            }
            self.client_events.push(event);
        }
        self.collect();
    }

    /// Delivers the next datagram, server first. Returns false if none is in transit.
    pub fn step(&mut self) -> bool {
        if let Some(datagram) = self.to_server.pop_front() {
            self.give_server(&datagram);
            true
        } else if let Some(datagram) = self.to_client.pop_front() {
            self.give_client(&datagram);
            true
        } else {
            false
        }
    }

    /// Delivers until no datagram is in transit. Time does not pass.
    pub fn run(&mut self) {
        for _ in 0..1_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the two ends keep sending");
    }

    /// Advances the clock to the next timeout of either side, and lets that side act. Returns false if there is none.
    pub fn tick(&mut self) -> bool {
        let due = [self.client.poll_timeout(), self.endpoint.poll_timeout()].into_iter().flatten().min();
        let Some(at) = due else { return false };
        self.clock.advance_to(at);
        self.handle_timeouts();
        true
    }

    pub fn handle_timeouts(&mut self) {
        let now = self.clock.now();
        self.client.handle_timeout(now);
        self.endpoint.handle_timeout(now);
        self.drain_events();
        self.collect();
    }

    pub fn drain_events(&mut self) {
        self.server_events.extend(std::iter::from_fn(|| self.endpoint.poll_event()));
        self.client_events.extend(std::iter::from_fn(|| self.client.poll_event()));
    }

    pub fn client_sends(&mut self, plaintext: &[u8]) {
        self.client.send(self.clock.now(), plaintext).unwrap();
        self.collect();
    }

    pub fn session(&self) -> dtls::SessionId {
        self.endpoint.sessions().next().unwrap()
    }

    pub fn server_sends(&mut self, plaintext: &[u8]) {
        let session = self.session();
        self.endpoint.send(self.clock.now(), session, plaintext).unwrap();
        self.collect();
    }

    /// Checks that data arrives in both directions.
    pub fn assert_alive(&mut self) {
        let (before_server, before_client) = (self.server_received.len(), self.client_received.len());
        self.client_sends(b"ping");
        self.server_sends(b"pong");
        self.run();
        assert_eq!(self.server_received[before_server..], [b"ping".to_vec()]);
        assert_eq!(self.client_received[before_client..], [b"pong".to_vec()]);
    }

    /// The server's refusal, which must be the only one.
    pub fn server_refusal(&self) -> dtls::HandshakeRefusal {
        let refusals: Vec<_> = self
            .server_events
            .iter()
            .filter_map(|event| if let Event::Refused { refusal, .. } = event { Some(*refusal) } else { None })
            .collect();
        assert_eq!(refusals.len(), 1, "{:?}", self.server_events);
        refusals[0]
    }

    pub fn client_refusal(&self) -> dtls::HandshakeRefusal {
        let refusals: Vec<_> = self
            .client_events
            .iter()
            .filter_map(|event| if let ClientEvent::Failed { refusal, .. } = event { Some(*refusal) } else { None })
            .collect();
        assert_eq!(refusals.len(), 1, "{:?}", self.client_events);
        refusals[0]
    }
}

/// Records what an observer sees, as text, and the secrets.
#[derive(Default)]
pub struct Notebook {
    pub lines: Mutex<Vec<String>>,
    pub secrets: Mutex<Vec<([u8; 32], [u8; 48])>>,
}

impl Observer for Notebook {
    fn observe(&self, _at: Now, _path: Option<Path>, event: &TraceEvent<'_>) {
        if let TraceEvent::Secrets { client_random, master_secret } = event {
            self.secrets.lock().unwrap().push((**client_random, **master_secret));
        }
        let line = match event {
            TraceEvent::Handshake { direction, message, fragments, .. } => {
                format!("{direction:?} {} {fragments}", message.name())
            }
            TraceEvent::Datagram { direction, bytes } => format!("{direction:?} datagram {}", bytes.len()),
            other => format!("{other:?}"),
        };
        self.lines.lock().unwrap().push(line);
    }
}
