//! The shared parts of the targets with both ends: one PKI for all inputs, and a server with its authority for each input.
//!
//! Everything derives from one seed, so the server is the same for each input, byte for byte, and a recorded exchange has the same result
//! when it is replayed, until the fuzzer changes it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use authority::{Authority, CaAuthority, CaProfileSpec, Collected, Deliver, Job, MemoryLedger, Outcome};
use dtls::{CookieKeys, ExtendedMasterSecret, Now, Path, PublicKeySteps, SocketIndex};
use est::{DtlsConfig, JobId, NameAuthorities, Output, PublicKeyJob, Server, ServerConfig, ServerSpec, ServerVerifier};
use pki::issue::NodePrefix;
use pki::{DnsName, ServerName};

use crate::chance::DerivedRandom;
use crate::clock::VirtualClock;
use crate::trust::{SERVER_NAME, TestCa, TestIdentity, TestRequest};

pub(super) const SEED: u64 = 0x6d75_7374_6572;

/// Rows of the ledger: more than the enrolments of any input.
const ROWS_MAX: usize = 1_000;

/// Deadlines served in one step, or until no work is left. More mean that the server asks to be called without reason.
const TURNS_MAX: u32 = 20_000;

/// Certificates of one device: one by `/sen`, and by `/sren` one with the factory's identity and one with the enrolled identity. Each further
/// request is a repeat.
const CERTIFICATES_MAX: usize = 3;

/// Virtual time of one input. It is shorter than the repeat window, so an equal request is always a repeat.
const LIFE_MAX: Duration = Duration::from_secs(5 * 3_600);
const REPEAT_WINDOW: Duration = Duration::from_secs(24 * 3_600);
const _: () = assert!(LIFE_MAX.as_secs() < REPEAT_WINDOW.as_secs());

/// A device: its factory identity and its request.
pub(super) struct FixtureDevice {
    pub(super) identity: TestIdentity,
    pub(super) request: TestRequest,
}

/// The PKI and its devices.
pub(super) struct Fixture {
    pub(super) ca: TestCa,
    pub(super) devices: Vec<FixtureDevice>,
    server: TestIdentity,
}

pub(super) static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let ca = TestCa::new(SEED);
    let server = ca.server();
    let devices = (1..=2).map(|number| {
        let identity = ca.device(number);
        let request = ca.request(identity.certificate.subject());
        FixtureDevice { identity, request }
    });
    Fixture { devices: devices.collect(), server, ca }
});

impl Fixture {
    /// The DTLS side of a device with this certificate.
    pub(super) fn dtls_config(&self, identity: &TestIdentity) -> DtlsConfig {
        let name = DnsName::try_from(SERVER_NAME).expect("a DNS name").to_owned();
        let verifier = ServerVerifier::new(vec![Arc::clone(self.ca.root())], ServerName::DnsName(name));
        let random = DerivedRandom::new(SEED, "identity");
        DtlsConfig::new(Some(identity.for_dtls(&random)), Arc::new(verifier.expect("a root is an anchor")))
    }
}

/// The settings of the server, from one byte of an input.
#[derive(Clone, Copy, Debug)]
pub(super) struct SiteSetup(pub(super) u8);

impl SiteSetup {
    /// Public-key steps are jobs, which wait for [`Site::run_steps`].
    pub(super) const SUSPENDED: u8 = 0x01;
    /// The authority's outcomes wait for [`Site::answer`].
    pub(super) const HELD: u8 = 0x02;
    /// Very small limits.
    pub(super) const TIGHT: u8 = 0x04;
    /// Extended master secret is required.
    pub(super) const BOUND: u8 = 0x08;
    /// CertificateRequest names the authorities.
    pub(super) const NAMED: u8 = 0x10;
    /// The server's flights are split into the smallest pieces.
    pub(super) const SMALL: u8 = 0x20;

    pub(super) const fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// A server, its authority and its clock.
pub(super) struct Site {
    pub(super) clock: VirtualClock,
    pub(super) server: Server,
    /// Jobs that have not been passed to the authority.
    pub(super) held: Vec<(JobId, Job)>,
    pub(super) ledger: Arc<MemoryLedger>,
    setup: SiteSetup,
    end: Instant,
    cookie: CookieKeys,
    steps: Vec<PublicKeyJob>,
    authority: Option<Arc<dyn Authority<JobId>>>,
    mailbox: Arc<Collected<JobId>>,
    heard: BTreeSet<SocketAddr>,
    sessions_max: usize,
    half_open_max: usize,
    pending_max: usize,
}

/// A datagram of the server.
pub(super) struct ServerDatagram {
    pub(super) port: u16,
    pub(super) bytes: Vec<u8>,
}

impl Site {
    /// `domain` names the server's stream of randomness: a cookie of one domain is not valid for the server of another.
    pub(super) fn new(setup: SiteSetup, domain: &str) -> Self {
        let random = Arc::new(DerivedRandom::new(SEED, domain));
        let cookie = CookieKeys::from_random(&*random);
        let spec = spec(setup, cookie.clone());
        let (sessions_max, half_open_max) = (spec.dtls.sessions_max, spec.dtls.half_open_max);
        let pending_max = spec.limits.pending_max + spec.limits.repeats_max();
        let config = Arc::new(ServerConfig::new(spec).expect("a configuration"));
        let clock = VirtualClock::start();
        Self {
            clock,
            server: Server::new(0, config, random),
            held: Vec::new(),
            ledger: Arc::new(MemoryLedger::new(ROWS_MAX)),
            setup,
            end: clock.now().mono + LIFE_MAX,
            cookie,
            steps: Vec::new(),
            authority: None,
            mailbox: Arc::default(),
            heard: BTreeSet::new(),
            sessions_max,
            half_open_max,
            pending_max,
        }
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Delivers a datagram from `port`; the server's answers.
    pub(super) fn hear(&mut self, port: u16, datagram: &mut [u8]) -> Vec<ServerDatagram> {
        let path = path(port);
        self.heard.insert(path.peer);
        self.server.handle_datagram(self.clock.now(), path, datagram);
        self.serve()
    }

    /// Lets time pass, deadline by deadline; what the server sends meanwhile.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<ServerDatagram> {
        let until = (self.clock.now().mono + time).min(self.end);
        let mut said = Vec::new();
        let mut turns = 0;
        while let Some(at) = self.server.poll_timeout().filter(|at| *at <= until) {
            self.clock.advance_to(at);
            self.server.handle_timeout(self.clock.now());
            said.extend(self.serve());
            turns += 1;
            assert!(turns < TURNS_MAX, "the server spins");
        }
        self.clock.advance_to(until);
        said
    }

    /// Passes the held jobs to the authority, and its outcomes to the server.
    pub(super) fn answer(&mut self) -> Vec<ServerDatagram> {
        let jobs = std::mem::take(&mut self.held);
        if !jobs.is_empty() {
            let deliver = Arc::clone(&self.mailbox) as Arc<dyn Deliver<JobId>>;
            self.authority().submit(self.clock.now().utc, jobs, deliver);
        }
        let outcomes = self.mailbox.take();
        for (job, outcome) in outcomes {
            self.server.complete(self.clock.now(), job, outcome);
        }
        self.serve()
    }

    /// Answers the oldest held job with `outcome`.
    pub(super) fn answer_with(&mut self, outcome: Outcome) -> Vec<ServerDatagram> {
        if !self.held.is_empty() {
            let (id, _) = self.held.remove(0);
            self.server.complete(self.clock.now(), id, outcome);
        }
        self.serve()
    }

    /// Runs the waiting public-key steps, the newest first, because a pool keeps no order.
    pub(super) fn run_steps(&mut self) -> Vec<ServerDatagram> {
        while let Some(step) = self.steps.pop() {
            self.server.complete_public_key(self.clock.now(), step.run());
        }
        self.serve()
    }

    /// Sets an equal configuration, as a reload does.
    pub(super) fn reload(&mut self) {
        let config = ServerConfig::new(spec(self.setup, self.cookie.clone())).expect("a configuration");
        self.server.set_config(Arc::new(config));
    }

    /// Takes the server's outputs and datagrams, and checks its limits.
    pub(super) fn serve(&mut self) -> Vec<ServerDatagram> {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Submit(id, job) => {
                    Self::check_client(&job);
                    self.held.push((id, job));
                }
                Output::PublicKey(step) => self.steps.push(step),
                Output::Attempt(attempt) => {
                    assert!(self.heard.contains(&attempt.peer), "an attempt of a peer that sent nothing");
                    assert!(!attempt.offered.contains(char::is_control), "control characters in a log line");
                }
                Output::Alarm(_) | Output::Undelivered(_) | Output::Delivered(_) => {}
            }
        }
        let mut said = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            let peer = transmit.path.peer;
            assert!(self.heard.contains(&peer), "a datagram to {peer}, which sent nothing");
            said.push(ServerDatagram { port: peer.port(), bytes: transmit.bytes.to_vec() });
        }
        let counters = self.server.counters();
        let sessions = counters.sessions.expect("a server counts its sessions");
        assert!(sessions.established <= self.sessions_max && sessions.half_open <= self.half_open_max, "{sessions:?}");
        assert!(counters.pending <= self.pending_max, "{} wait", counters.pending);
        if !self.setup.has(SiteSetup::HELD) && !self.held.is_empty() {
            said.extend(self.answer());
        }
        said
    }

    /// Checks that the client of a job has a key of one of the devices: the key from the factory, or the key of its request. (This ledger
    /// may not have issued the certificate for the second key; the ledger of the recording has.)
    fn check_client(job: &Job) {
        let key = job.client.spki();
        let known = |device: &FixtureDevice| device.identity.certificate.spki() == key || device.request.spki == key;
        assert!(FIXTURE.devices.iter().any(known), "a job of an unknown client");
    }

    /// Ends the input: answers all waiting work, lets the rest expire, and checks that no state is left.
    pub(super) fn finish(mut self) {
        self.run_steps();
        self.answer();
        let mut turns = 0;
        while let Some(at) = self.server.poll_timeout() {
            self.clock.advance_to(at);
            self.server.handle_timeout(self.clock.now());
            self.serve();
            self.run_steps();
            self.answer();
            turns += 1;
            assert!(turns < TURNS_MAX, "the server never stops asking to be called");
        }
        let counters = self.server.counters();
        let sessions = counters.sessions.expect("a server counts its sessions");
        assert_eq!((sessions.established, sessions.half_open, counters.pending), (0, 0, 0), "state is left at the end");
        for issued in self.ledger.issued() {
            let certificate =
                pki::Certificate::parse(&issued.certificate).expect("an issued certificate can be parsed");
            let asked_for = FIXTURE.devices.iter().any(|device| device.request.spki == certificate.spki());
            assert!(asked_for, "a certificate for a key that no device requested");
        }
        assert!(
            self.ledger.issued_count() <= CERTIFICATES_MAX * FIXTURE.devices.len(),
            "more than one certificate for a request"
        );
    }

    fn authority(&mut self) -> Arc<dyn Authority<JobId>> {
        let ledger = Arc::clone(&self.ledger);
        let authority = self.authority.get_or_insert_with(|| {
            let random = |domain| Arc::new(DerivedRandom::new(SEED, domain));
            let signer = Arc::new(FIXTURE.ca.signer(random("signature")));
            let flights = Arc::new(authority::Flights::default());
            Arc::new(CaAuthority::new(ledger, signer, random("authority"), NodePrefix::new(1), flights))
        });
        Arc::clone(authority)
    }
}

fn spec(setup: SiteSetup, cookie: CookieKeys) -> ServerSpec {
    let random = DerivedRandom::new(SEED, "identity");
    let profile = FIXTURE.ca.profile(|spec: &mut CaProfileSpec| spec.repeat_window = REPEAT_WINDOW);
    let mut spec = ServerSpec::new(FIXTURE.server.for_dtls(&random), cookie, vec![profile]);
    if setup.has(SiteSetup::SUSPENDED) {
        spec.public_key_steps = PublicKeySteps::Suspended;
    }
    if setup.has(SiteSetup::BOUND) {
        spec.extended_master_secret = ExtendedMasterSecret::Require;
    }
    if setup.has(SiteSetup::NAMED) {
        spec.name_authorities = NameAuthorities::List;
    }
    if setup.has(SiteSetup::SMALL) {
        spec.dtls.mtu = dtls::MTU_MIN;
    }
    if setup.has(SiteSetup::TIGHT) {
        spec.dtls.sessions_max = 1;
        spec.dtls.half_open_max = 2;
        spec.limits.pending_max = 1;
        spec.coap.upload_bytes_total_max = 1_024;
        spec.coap.response_bytes_total_max = 2_048;
    }
    spec
}

pub(super) fn path(port: u16) -> Path {
    let peer = SocketAddr::from(([192, 0, 2, 1], port));
    Path { peer, local: None, socket: SocketIndex(0) }
}
