//! Both real engines in one process and in virtual time: a small PKI, a server shard with the in-memory authority behind
//! it, and any number of clients. Datagrams arrive at once, unless a test loses or repeats them.

pub(crate) mod desk;
pub(crate) mod enrolled;
pub(crate) mod raw;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authority::{
    Actor, Authority, Ca, CaAuthority, CaProfile, CaProfileSpec, Deliver, Job, Ledger, LedgerEntry, Locator,
    MemoryLedger, Outcome, Profile, Revocation, Revoke, Revoked, RingSigner, VerifySignatures,
};
use est::{
    Attempt, Client, ClientConfig, ClientEvent, DtlsConfig, JobId, Now, Operation, Output, Path, Server, ServerConfig,
    ServerSpec, ServerVerifier, SocketIndex, UnixTime,
};
use pki::issue::{NodePrefix, RevocationReason, Serial};
use pki::make::{self, Parent};
use pki::{Certificate, Curve, GeneralNames, Name, PrivateKey, ServerName, SigningKey, Validity};

use self::desk::Desk;

/// 2026-01-01T00:00:00Z: the tests' calendar begins here.
pub(crate) const EPOCH: u64 = 1_767_225_600;
pub(crate) const DAY: u64 = 86_400;

/// The randomness of the system: these tests must hold for any.
pub(crate) struct TestRandom;

impl TestRandom {
    #[allow(clippy::disallowed_methods, reason = "a test is its own shell")]
    pub(crate) fn secure() -> ring::rand::SystemRandom {
        ring::rand::SystemRandom::new()
    }
}

impl dtls::Random for TestRandom {
    fn fill(&self, out: &mut [u8]) {
        ring::rand::SecureRandom::fill(&Self::secure(), out).unwrap();
    }
    fn with_secure(&self, operation: &mut dyn FnMut(&dyn ring::rand::SecureRandom)) {
        operation(&Self::secure());
    }
}

impl authority::Random for TestRandom {
    fn fill(&self, out: &mut [u8]) {
        dtls::Random::fill(self, out);
    }
    fn with_secure(&self, operation: &mut dyn FnMut(&dyn ring::rand::SecureRandom)) {
        dtls::Random::with_secure(self, operation);
    }
}

pub(crate) fn utc(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub(crate) fn life(days: u64) -> Validity {
    Validity { not_before: utc(EPOCH - DAY), not_after: utc(EPOCH + days * DAY) }
}

pub(crate) fn serial() -> Serial {
    let mut random = [0; 16];
    dtls::Random::fill(&TestRandom, &mut random);
    Serial::new(NodePrefix::new(1), random)
}

/// A key with its PKCS#8, which both `pki` and `dtls` read.
pub(crate) struct Key {
    pub(crate) private: PrivateKey,
    pub(crate) signing: SigningKey,
}

impl Key {
    pub(crate) fn new() -> Self {
        let private = PrivateKey::generate(Curve::P256, &TestRandom::secure()).unwrap();
        let signing = SigningKey::from_pkcs8(private.pkcs8(), &TestRandom::secure()).unwrap();
        Self { private, signing }
    }

    pub(crate) fn again(&self) -> PrivateKey {
        PrivateKey::from_pkcs8(self.private.pkcs8().to_vec())
    }
}

/// A certificate with its key and the certificates that are sent above it.
pub(crate) struct Holder {
    pub(crate) certificate: Arc<Certificate>,
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Key,
}

impl Holder {
    pub(crate) fn identity(&self) -> Arc<dtls::Identity> {
        est::identity(self.chain.clone(), self.key.private.pkcs8(), &TestRandom).unwrap()
    }

    pub(crate) fn package_signer(&self) -> authority::KeyPackageSigner {
        let key = SigningKey::from_pkcs8(self.key.private.pkcs8(), &TestRandom::secure()).unwrap();
        authority::KeyPackageSigner::new(Arc::clone(&self.certificate), key).unwrap()
    }

    pub(crate) fn parent(&self) -> Parent<'_> {
        Parent { certificate: &self.certificate, key: &self.key.signing }
    }
}

/// Root, issuing CA, server and manufacturer.
pub(crate) struct Pki {
    pub(crate) root: Holder,
    pub(crate) issuing: Holder,
    pub(crate) server: Holder,
    pub(crate) manufacturer: Holder,
}

pub(crate) const SERVER_NAME: &str = "est.example.net";

pub(crate) fn authority(common_name: &str, parent: Option<&Holder>) -> Holder {
    authority_living(life(3_650), common_name, parent)
}

pub(crate) fn authority_living(validity: Validity, common_name: &str, parent: Option<&Holder>) -> Holder {
    let key = Key::new();
    let spec = make::AuthorityCertificateSpec {
        common_name,
        organization: Some("Muster tests"),
        serial: serial(),
        validity,
        path_len: None,
    };
    let random = TestRandom::secure();
    let certificate = match parent {
        None => make::root(&spec, &key.signing, &random),
        Some(parent) => make::authority(&spec, key.signing.public_key(), parent.parent(), &random),
    };
    let certificate = Arc::new(certificate.unwrap());
    Holder { chain: vec![certificate.der().to_vec()], certificate, key }
}

impl Pki {
    pub(crate) fn new() -> Self {
        Self::living(life(3_650), life(365))
    }

    /// Authorities and a server certificate with these lifetimes.
    pub(crate) fn living(authorities: Validity, server: Validity) -> Self {
        let root = authority_living(authorities, "Root", None);
        let issuing = authority_living(authorities, "Issuing", Some(&root));
        let manufacturer = authority_living(authorities, "Manufacturer", None);
        let server = server_of(&root, &[SERVER_NAME], server);
        Self { root, issuing, server, manufacturer }
    }

    /// The expected certificates of `/crts`, in an order that can be compared.
    pub(crate) fn ca_certificates(&self) -> Vec<Vec<u8>> {
        sorted([&self.root, &self.issuing].map(|ca| ca.certificate.der().to_vec()).to_vec())
    }

    /// A device with its factory certificate.
    pub(crate) fn device(&self, number: u32) -> Holder {
        device_of(&self.manufacturer, number)
    }

    pub(crate) fn ca(&self) -> Arc<Ca> {
        let chain = vec![Arc::clone(&self.issuing.certificate), Arc::clone(&self.root.certificate)];
        Arc::new(Ca::new("main", chain, authority::Urls::default(), VerifySignatures::Always).unwrap())
    }

    pub(crate) fn profile_spec(&self, name: &str) -> CaProfileSpec {
        CaProfileSpec::new(name, self.ca(), vec![Arc::clone(&self.manufacturer.certificate)])
    }
}

pub(crate) fn sorted(mut certificates: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    certificates.sort();
    certificates
}

/// A server with these names.
pub(crate) fn server_of(root: &Holder, names: &[&str], validity: Validity) -> Holder {
    let key = Key::new();
    let names: Vec<ServerName<'_>> = names.iter().map(|name| ServerName::try_from(*name).unwrap()).collect();
    let spec = make::ServerCertificateSpec { names: &names, serial: serial(), validity };
    let certificate = make::server(&spec, key.signing.public_key(), root.parent(), &TestRandom::secure()).unwrap();
    let certificate = Arc::new(certificate);
    Holder { chain: vec![certificate.der().to_vec()], certificate, key }
}

/// The same authority certified by another one, as in a roll-over: its name and its key, another signature.
pub(crate) fn cross(of: &Holder, common_name: &str, parent: &Holder) -> Arc<Certificate> {
    let spec = make::AuthorityCertificateSpec {
        common_name,
        organization: Some("Muster tests"),
        serial: serial(),
        validity: life(3_650),
        path_len: None,
    };
    let random = TestRandom::secure();
    let certificate = make::authority(&spec, of.key.signing.public_key(), parent.parent(), &random).unwrap();
    assert!(certificate.subject().matches(of.certificate.subject()));
    Arc::new(certificate)
}

pub(crate) fn device_of(manufacturer: &Holder, number: u32) -> Holder {
    device_living(life(3_650), manufacturer, number)
}

pub(crate) fn device_living(validity: Validity, manufacturer: &Holder, number: u32) -> Holder {
    let key = Key::new();
    let (common_name, serial_number) = (format!("device-{number:06}"), format!("{number:06}"));
    let spec = make::DeviceCertificateSpec {
        common_name: &common_name,
        serial_number: &serial_number,
        organization: Some("Muster tests"),
        serial: serial(),
        validity,
    };
    let random = TestRandom::secure();
    let certificate = make::idevid(&spec, key.signing.public_key(), manufacturer.parent(), &random).unwrap();
    Holder { chain: vec![certificate.der().to_vec()], certificate: Arc::new(certificate), key }
}

/// A CSR for `subject` by `key`.
pub(crate) fn csr(subject: &Name, key: &Key) -> Vec<u8> {
    csr_with(subject, &GeneralNames::empty(), key)
}

pub(crate) fn csr_with(subject: &Name, san: &GeneralNames, key: &Key) -> Vec<u8> {
    let spec = make::CsrSpec { subject, san, challenge_password: None };
    make::csr(&spec, &key.signing, &TestRandom::secure()).unwrap()
}

/// A CSR that is linked to a session.
pub(crate) fn csr_linked(subject: &Name, challenge: &str, key: &Key) -> Vec<u8> {
    let spec = make::CsrSpec { subject, san: &GeneralNames::empty(), challenge_password: Some(challenge) };
    make::csr(&spec, &key.signing, &TestRandom::secure()).unwrap()
}

/// Collects outcomes from any thread.
#[derive(Default)]
struct Mailbox(Mutex<Vec<(JobId, Outcome)>>);

impl Deliver<JobId> for Mailbox {
    fn deliver(&self, outcomes: Vec<(JobId, Outcome)>) {
        self.0.lock().unwrap().extend(outcomes);
    }
}

/// The fate of one datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Arrives,
    Lost,
    Twice,
}

/// Whether the authority answers at once.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    /// Jobs wait in `held` until a test calls `release`.
    Held,
}

/// One device on the network.
pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) path: Path,
    pub(crate) events: VecDeque<ClientEvent>,
}

/// Server, authority, network and clock.
pub(crate) struct World {
    pub(crate) pki: Pki,
    pub(crate) now: Now,
    pub(crate) server: Server,
    pub(crate) ledger: Arc<MemoryLedger>,
    pub(crate) desk: Arc<Desk>,
    authority: Arc<dyn Authority<JobId>>,
    pub(crate) pace: Pace,
    pub(crate) held: Vec<(JobId, Job)>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) submitted: usize,
    /// Datagrams so far, to the server and from it.
    pub(crate) datagrams: (usize, usize),
    mailbox: Arc<Mailbox>,
    /// Ports that were dialled from.
    dialled: BTreeSet<u16>,
}

pub(crate) fn start() -> Now {
    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time; nothing is measured with it")]
    let mono = Instant::now();
    Now { mono, utc: utc(EPOCH) }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// A world whose server specification a test changes before it is built.
    pub(crate) fn with(change: impl FnOnce(&Pki, &mut ServerSpec)) -> Self {
        let pki = Pki::new();
        let profile = Arc::new(CaProfile::compile(pki.profile_spec("meters")).unwrap());
        Self::of(pki, vec![profile], change)
    }

    pub(crate) fn of(pki: Pki, profiles: Vec<Arc<Profile>>, change: impl FnOnce(&Pki, &mut ServerSpec)) -> Self {
        let key = pki.issuing.key.again();
        Self::signing(pki, profiles, key, change)
    }

    /// A world whose one CA has this key.
    pub(crate) fn signing(
        pki: Pki,
        profiles: Vec<Arc<Profile>>,
        key: PrivateKey,
        change: impl FnOnce(&Pki, &mut ServerSpec),
    ) -> Self {
        let ledger = Arc::new(MemoryLedger::default());
        let desk = Arc::new(Desk::new(Arc::clone(&ledger)));
        let mut signer = RingSigner::new(Arc::new(TestRandom));
        signer.add(CaProfile::of(&profiles[0]).unwrap().ca(), key).unwrap();
        let authority = CaAuthority::new(
            Arc::clone(&desk) as Arc<dyn Ledger>,
            Arc::new(signer),
            Arc::new(TestRandom),
            NodePrefix::new(7),
            Arc::new(authority::Flights::default()),
        )
        .signing_key_packages(Arc::new(pki.server.package_signer()));
        Self { ledger, desk, ..Self::before(pki, profiles, Arc::new(authority), change) }
    }

    /// A world with this authority; it does not use the world's ledger.
    pub(crate) fn before(
        pki: Pki,
        profiles: Vec<Arc<Profile>>,
        authority: Arc<dyn Authority<JobId>>,
        change: impl FnOnce(&Pki, &mut ServerSpec),
    ) -> Self {
        let cookie = dtls::CookieKeys::from_random(&TestRandom);
        let mut spec = ServerSpec::new(pki.server.identity(), cookie, profiles);
        change(&pki, &mut spec);
        let config = Arc::new(ServerConfig::new(spec).unwrap());
        let ledger = Arc::default();
        Self {
            server: Server::new(3, config, Arc::new(TestRandom)),
            now: start(),
            authority,
            pki,
            desk: Arc::new(Desk::new(Arc::clone(&ledger))),
            ledger,
            pace: Pace::AtOnce,
            held: Vec::new(),
            attempts: Vec::new(),
            submitted: 0,
            datagrams: (0, 0),
            mailbox: Arc::default(),
            dialled: BTreeSet::new(),
        }
    }

    /// Revokes a certificate in the ledger.
    pub(crate) fn revoke(&self, certificate: &Certificate) {
        let revocation =
            Revocation { reason: RevocationReason::KeyCompromise, at: self.now.utc, actor: Actor::server() };
        let row = Locator::of(certificate).unwrap();
        let revoked = |answer: Result<Vec<Revoked>, _>| assert_eq!(answer.unwrap(), [Revoked::Now]);
        self.ledger.revoke(vec![Revoke { row, revocation }], Box::new(revoked));
    }

    /// A row of the ledger.
    pub(crate) fn row(&self, row: Locator) -> Option<LedgerEntry> {
        let (sender, answer) = std::sync::mpsc::channel();
        self.ledger.find(vec![row], Box::new(move |rows| sender.send(rows).unwrap()));
        answer.recv().unwrap().unwrap().remove(0)
    }

    pub(crate) fn path(port: u16) -> Path {
        let peer = SocketAddr::from(([192, 0, 2, 1], port));
        Path { peer, local: None, socket: SocketIndex(0) }
    }

    /// The DTLS side of a device that trusts the root and dials the server by its name.
    pub(crate) fn dtls_config(&self, holder: &Holder) -> DtlsConfig {
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let verifier = ServerVerifier::new(vec![Arc::clone(&self.pki.root.certificate)], name).unwrap();
        dtls::ClientConfig::new(Some(holder.identity()), Arc::new(verifier))
    }

    pub(crate) fn connect(&mut self, port: u16, holder: &Holder, config: ClientConfig) -> Device {
        let dtls = self.dtls_config(holder);
        let mut device = self.dial(port, dtls, config);
        self.run(&mut device);
        assert!(matches!(device.events.pop_front(), Some(ClientEvent::Connected { .. })), "{:?}", device.events);
        device
    }

    pub(crate) fn dial(&mut self, port: u16, dtls: DtlsConfig, config: ClientConfig) -> Device {
        // An address gets one flight each half second, so a device does not come back at once.
        if !self.dialled.insert(port) {
            self.advance_to(self.now.mono + Duration::from_millis(500));
        }
        let client = Client::new(Arc::new(config), Arc::new(dtls), Arc::new(TestRandom), self.now);
        Device { client, path: Self::path(port), events: VecDeque::new() }
    }

    /// Lets the device start `operation`, and carries datagrams until neither side has any.
    pub(crate) fn ask(&mut self, device: &mut Device, operation: Operation) {
        device.client.start(self.now, operation).unwrap();
        self.run(device);
    }

    /// Carries datagrams until neither side has any.
    pub(crate) fn run(&mut self, device: &mut Device) {
        self.run_over(device, |_| Fate::Arrives);
    }

    /// Like `run`, over a link on which `fate` decides about each datagram by its number.
    pub(crate) fn run_over(&mut self, device: &mut Device, mut fate: impl FnMut(usize) -> Fate) {
        let mut count = 0;
        loop {
            let mut moved = false;
            while let Some(datagram) = device.client.poll_transmit().map(<[u8]>::to_vec) {
                moved = true;
                self.datagrams.0 += 1;
                for _ in 0..copies(fate(count)) {
                    self.server.handle_datagram(self.now, device.path, &mut datagram.clone());
                    self.serve();
                }
                count += 1;
            }
            for datagram in self.server_says(device.path) {
                moved = true;
                for _ in 0..copies(fate(count)) {
                    device.client.handle_datagram(self.now, &mut datagram.clone());
                }
                count += 1;
            }
            while let Some(event) = device.client.poll_event() {
                device.events.push_back(event);
            }
            if !moved {
                return;
            }
        }
    }

    /// The server's datagrams to this path; it may send to no other.
    pub(crate) fn server_says(&mut self, path: Path) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            assert_eq!(transmit.path, path, "a datagram to another path");
            datagrams.push(transmit.bytes.to_vec());
        }
        self.datagrams.1 += datagrams.len();
        datagrams
    }

    /// Carries out the server's outputs.
    pub(crate) fn serve(&mut self) {
        loop {
            let mut moved = false;
            while let Some(output) = self.server.poll_output() {
                moved = true;
                match output {
                    Output::Submit(id, job) => {
                        self.submitted += 1;
                        self.held.push((id, job));
                    }
                    Output::PublicKey(job) => self.server.complete_public_key(self.now, job.run()),
                    Output::Attempt(attempt) => self.attempts.push(attempt),
                    Output::Undelivered(issued) => self.authority.undelivered(self.now.utc, &issued),
                    Output::Delivered(issued) => self.authority.delivered(&issued),
                    Output::Alarm(_) => {}
                }
            }
            if self.pace == Pace::AtOnce {
                self.release();
            }
            if !moved {
                return;
            }
        }
    }

    /// Hands the held jobs to the authority and their outcomes to the server.
    pub(crate) fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return;
        }
        let deliver = Arc::clone(&self.mailbox) as Arc<dyn Deliver<JobId>>;
        Arc::clone(&self.authority).submit(self.now.utc, held, deliver);
        self.complete();
    }

    /// Hands the server the outcomes that the authority has delivered so far.
    pub(crate) fn complete(&mut self) {
        let outcomes = std::mem::take(&mut *self.mailbox.0.lock().unwrap());
        for (id, outcome) in outcomes {
            self.server.complete(self.now, id, outcome);
        }
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Attempt(attempt) => self.attempts.push(attempt),
                Output::Undelivered(issued) => self.authority.undelivered(self.now.utc, &issued),
                Output::Delivered(issued) => self.authority.delivered(&issued),
                _ => panic!("an outcome leads to no other job"),
            }
        }
    }

    /// Lets time pass, handles every deadline on the way, and carries the resulting datagrams.
    pub(crate) fn sleep(&mut self, device: &mut Device, duration: Duration) {
        let end = self.now.mono + duration;
        loop {
            let next = [self.server.poll_timeout(), device.client.poll_timeout()].into_iter().flatten().min();
            match next.filter(|next| *next <= end) {
                None => break,
                Some(next) => {
                    self.advance_to(next.max(self.now.mono));
                    self.server.handle_timeout(self.now);
                    self.serve();
                    device.client.handle_timeout(self.now);
                    self.run(device);
                }
            }
        }
        self.advance_to(end);
        self.run(device);
    }

    /// Moves only the clock.
    pub(crate) fn advance_to(&mut self, mono: Instant) {
        let passed = mono - self.now.mono;
        let micros = u64::try_from(passed.as_micros()).unwrap();
        self.elapsed_micros(micros, mono);
    }

    fn elapsed_micros(&mut self, micros: u64, mono: Instant) {
        let seconds = self.now.utc.as_secs() + micros / 1_000_000;
        self.now = Now { mono, utc: utc(seconds) };
    }

    pub(crate) fn advance(&mut self, duration: Duration) {
        self.advance_to(self.now.mono + duration);
    }
}

fn copies(fate: Fate) -> usize {
    match fate {
        Fate::Arrives => 1,
        Fate::Lost => 0,
        Fate::Twice => 2,
    }
}

impl Device {
    /// The next event; there must be one.
    pub(crate) fn event(&mut self) -> ClientEvent {
        self.events.pop_front().expect("an event")
    }

    /// The certificate of an enrolment.
    pub(crate) fn certificate(&mut self) -> Vec<u8> {
        loop {
            match self.event() {
                ClientEvent::Done(est::Answer::Certificate(certificate)) => return certificate,
                ClientEvent::Acknowledged => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The failure of a request.
    pub(crate) fn failure(&mut self) -> est::Failure {
        loop {
            match self.event() {
                ClientEvent::Failed(failure) => return failure,
                ClientEvent::Acknowledged => {}
                other => panic!("{other:?}"),
            }
        }
    }
}
