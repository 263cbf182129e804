//! A device: its goals, its certificates, and how it continues after a failure.
//!
//! ```text
//!   Resting ──(time)──► new est::Client ──Connected──► /crts, then the enrolment ──Done──► next goal, Resting
//!      ▲                        │                        │
//!      └──────── a while ◄──────┴──── Failed, reboot ◄───┘      the same CSR again, never a new one
//! ```
//!
//! [`est::Persistence`] handles a lost datagram, a lost session and a "later"; `Failed` follows when its attempts are used up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dtls::Now;
use est::{Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Failure, Operation, Packing, ReceivedKey};
use pki::{Certificate, PrivateKey};

use crate::chance::{Chance, DerivedRandom};
use crate::scenario::{Goal, Scenario};
use crate::trust::{SERVER_NAME, TestCa, TestIdentity, TestRequest, linked_request};

/// Clients that a device starts for one goal before the device and the run give up. A device that needs more than this is stuck, not unlucky.
pub(crate) const ATTEMPTS_MAX: u32 = 60;

/// The pause before a device asks again for a certificate that it has.
const REPEAT_PAUSE: Duration = Duration::from_secs(60);

/// The certificate that a device received for an enrolment.
pub(crate) struct ReceivedCertificate {
    pub(crate) goal: Goal,
    pub(crate) certificate: Vec<u8>,
    /// The time since the first datagram that the device sent for it, including the `/crts` before it.
    pub(crate) took: Duration,
}

/// A power loss after a number of datagrams have reached the device. The device sends no close_notify and keeps only its keys,
/// its certificates and the CSR. It returns from the same address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reboot {
    /// The datagram after which power is lost, counted from one.
    pub at: u64,
    /// Whether the device still sends its answer to that datagram.
    pub answers: bool,
}

pub(crate) struct SimulatedDevice {
    pub(crate) address: SocketAddr,
    pub(crate) number: u32,
    factory: TestIdentity,
    csr: Vec<u8>,
    key: Arc<PrivateKey>,
    spki: Vec<u8>,
    enrolled: Option<TestIdentity>,
    goals: &'static [Goal],
    rest: Duration,
    reached: usize,
    attempts: u32,
    /// When it started to request the certificate of its current goal.
    began: Option<Instant>,
    /// Datagrams that reached it.
    heard: u64,
    /// The certificate of its current goal and how long it took, while the device asks again for it; and how often it did.
    answered: Option<ReceivedCertificate>,
    repeated: u32,
    reboots: Vec<Reboot>,
    client: Option<Client>,
    /// When it acts by itself: connects, or asks again.
    wake: Option<Instant>,
    chance: Chance,
    random: Arc<DerivedRandom>,
    asks: Arc<ClientConfig>,
    scenario: Scenario,
    anchors: Vec<Arc<Certificate>>,
    pub(crate) received: Vec<ReceivedCertificate>,
    pub(crate) last_failure: Option<String>,
    /// Requests for a key whose answer it may not have received.
    pub(crate) abandoned: usize,
    observer: Option<Arc<dyn dtls::Observer>>,
}

impl SimulatedDevice {
    pub(crate) fn new(number: u32, seed: u64, scenario: &Scenario, ca: &TestCa, start: Instant) -> Self {
        let factory = ca.device(number);
        let TestRequest { csr, key, spki } = ca.request(factory.certificate.subject());
        let domain = format!("device {number}");
        let mut chance = Chance::new(seed, &domain);
        let port = 40_000 + u16::try_from(number).unwrap_or(u16::MAX - 40_000);
        Self {
            address: SocketAddr::from(([192, 0, 2, 1], port)),
            number,
            factory,
            csr,
            key,
            spki,
            enrolled: None,
            goals: scenario.goals,
            rest: scenario.rest,
            reached: 0,
            attempts: 0,
            began: None,
            heard: 0,
            answered: None,
            repeated: 0,
            reboots: Vec::new(),
            client: None,
            wake: Some(start + chance.between(Duration::ZERO, Duration::from_secs(2))),
            chance,
            random: Arc::new(DerivedRandom::new(seed, &domain)),
            asks: Arc::new(ClientConfig {
                block: scenario.block,
                persistence: Some(scenario.persistence),
                ..ClientConfig::default()
            }),
            scenario: *scenario,
            anchors: vec![Arc::clone(ca.root())],
            received: Vec::new(),
            last_failure: None,
            abandoned: 0,
            observer: None,
        }
    }

    pub(crate) fn observe_with(&mut self, observer: Option<Arc<dyn dtls::Observer>>) {
        self.observer = observer;
    }

    pub(crate) fn reboot(&mut self, reboot: Reboot) {
        self.reboots.push(reboot);
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    pub(crate) fn goal(&self) -> Option<Goal> {
        self.goals.get(self.reached).copied()
    }

    /// The number of its goals that end with a certificate.
    pub(crate) fn enrolments(&self) -> usize {
        self.goals.iter().filter(|goal| goal.is_enrolment()).count()
    }

    /// The key that it wants certified, as SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(crate) fn is_done(&self) -> bool {
        self.goal().is_none()
    }

    pub(crate) fn has_given_up(&self) -> bool {
        self.attempts > ATTEMPTS_MAX
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let client = self.client.as_ref().and_then(Client::poll_timeout);
        [self.wake, client].into_iter().flatten().min()
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.client.as_mut()?.poll_transmit()
    }

    pub(crate) fn handle_datagram(&mut self, now: Now, datagram: &mut [u8]) {
        self.heard += 1;
        let Some(client) = &mut self.client else { return };
        client.handle_datagram(now, datagram);
        if !client.is_over() && self.chance.permille(self.scenario.reboots) || self.reboots_now(false) {
            self.lose_power(now);
        }
    }

    /// To be called after the device's datagrams have been sent.
    pub(crate) fn after_datagram(&mut self, now: Now) {
        if self.reboots_now(true) {
            self.lose_power(now);
        }
    }

    fn reboots_now(&self, answers: bool) -> bool {
        !self.is_done() && self.reboots.contains(&Reboot { at: self.heard, answers })
    }

    /// A request for a key is repeated over another session: the server cannot know it again and makes another key.
    fn tries_again(&mut self) {
        self.abandoned += usize::from(self.goal() == Some(Goal::GenerateKey));
    }

    fn lose_power(&mut self, now: Now) {
        self.tries_again();
        self.client = None;
        self.wait(now, Duration::from_secs(1));
    }

    pub(crate) fn handle_timeout(&mut self, now: Now) {
        if self.wake.is_some_and(|at| at <= now.mono) {
            self.wake = None;
            self.go_on(now);
        }
        if let Some(client) = &mut self.client
            && client.poll_timeout().is_some_and(|at| at <= now.mono)
        {
            client.handle_timeout(now);
        }
    }

    /// Handles one event of its client; false if there was none.
    pub(crate) fn handle_event(&mut self, now: Now) -> bool {
        let Some(event) = self.client.as_mut().and_then(Client::poll_event) else { return false };
        match event {
            ClientEvent::Connected { facts, .. } => {
                if self.scenario.linking {
                    let subject = self.identity().certificate.subject().clone();
                    self.csr = linked_request(&subject, &facts.tls_unique, &self.key, &self.random);
                }
                self.ask(now);
            }
            // A session that was closed between requests is re-established with the next request.
            ClientEvent::Acknowledged | ClientEvent::Reconnected { .. } | ClientEvent::Closed(_) => {}
            ClientEvent::Again { after, .. } => {
                self.tries_again();
                self.last_failure = Some(after.to_string());
            }
            ClientEvent::Done(answer) => self.done(now, answer),
            ClientEvent::Failed(failure) => self.failed(now, &failure),
        }
        true
    }

    fn go_on(&mut self, now: Now) {
        if self.is_done() {
            return;
        }
        self.began.get_or_insert(now.mono);
        match &self.client {
            Some(client) if !client.is_over() => self.ask(now),
            _ => {
                let (asks, dtls) = (Arc::clone(&self.asks), Arc::new(self.dtls_config(self.identity())));
                let random = Arc::clone(&self.random);
                let client = Client::with_observer(asks, dtls, random, now, self.observer.clone());
                self.client = Some(client);
                self.attempts += 1;
            }
        }
    }

    /// What it authenticates with for its current goal.
    fn identity(&self) -> &TestIdentity {
        match (self.goal(), &self.enrolled) {
            (Some(Goal::Renew), Some(enrolled)) => enrolled,
            _ => &self.factory,
        }
    }

    fn dtls_config(&self, identity: &TestIdentity) -> DtlsConfig {
        let name = pki::DnsName::try_from(SERVER_NAME).expect("a DNS name").to_owned();
        let verifier = est::ServerVerifier::new(self.anchors.clone(), pki::ServerName::DnsName(name));
        let verifier = Arc::new(verifier.expect("a root is an anchor"));
        let mut config = DtlsConfig::new(Some(identity.for_dtls(&self.random)), verifier);
        config.suites = self.scenario.suites.to_vec();
        config.mtu = self.scenario.mtu;
        config.retransmission_initial = self.scenario.handshake_timeout;
        config
    }

    fn ask(&mut self, now: Now) {
        let (Some(goal), Some(client)) = (self.goal(), &mut self.client) else { return };
        let csr = self.csr.clone();
        let operation = match goal {
            Goal::CaCertificates => Operation::CaCertificates,
            Goal::Enroll | Goal::EnrollAgain => Operation::Enroll { csr },
            Goal::Renew => Operation::Reenroll { csr },
            Goal::GenerateKey => Operation::GenerateKey { csr, packing: Packing::CertsOnly },
        };
        if let Err(fault) = client.start(now, operation) {
            self.last_failure = Some(format!("{fault:?}"));
            self.client = None;
            self.wait(now, Duration::from_secs(5));
        }
    }

    fn done(&mut self, now: Now, answer: Answer) {
        let Some(goal) = self.goal() else { return };
        self.attempts = 0;
        if let Answer::Key(ReceivedKey { certificate, .. }) = answer {
            // The client has compared it with its key. A repeat would be another request.
            let took = self.began.take().map_or(Duration::ZERO, |began| now.mono.saturating_duration_since(began));
            self.received.push(ReceivedCertificate { goal, certificate, took });
        } else if let Answer::Certificate(der) = answer
            && !self.has_certificate(now, goal, der)
        {
            return self.rest(now, REPEAT_PAUSE);
        }
        self.reached += 1;
        if goal.is_enrolment() {
            self.rest(now, self.rest);
        } else if self.scenario.pause.is_zero() {
            self.ask(now);
        } else {
            self.wait(now, self.scenario.pause);
        }
    }

    /// Keeps the certificate of a goal, and compares it with those of the repeats. False while it has to ask again: until then it authenticates with the
    /// certificate that it had before, as a device does that never received the answer.
    fn has_certificate(&mut self, now: Now, goal: Goal, der: Vec<u8>) -> bool {
        let took = self.began.take().map_or(Duration::ZERO, |began| now.mono.saturating_duration_since(began));
        match &self.answered {
            None => self.answered = Some(ReceivedCertificate { goal, certificate: der, took }),
            Some(answered) if answered.certificate == der => {}
            // One more certificate for one request: the check of the run finds it.
            Some(_) => self.received.push(ReceivedCertificate { goal, certificate: der, took }),
        }
        if self.repeated < self.scenario.repeats {
            self.repeated += 1;
            return false;
        }
        self.repeated = 0;
        if let Some(answered) = self.answered.take() {
            if let Ok(certificate) = Certificate::parse(&answered.certificate) {
                self.enrolled = Some(TestIdentity { certificate: Arc::new(certificate), key: Arc::clone(&self.key) });
            }
            self.received.push(answered);
        }
        true
    }

    fn rest(&mut self, now: Now, rest: Duration) {
        if let Some(client) = &mut self.client {
            client.close(now);
        }
        self.wait(now, rest);
    }

    fn failed(&mut self, now: Now, failure: &Failure) {
        self.tries_again();
        self.last_failure = Some(failure.to_string());
        self.client = None;
        self.wait(now, Duration::from_secs(5));
    }

    fn wait(&mut self, now: Now, least: Duration) {
        self.wake = Some(now.mono + self.chance.between(least, least + Duration::from_secs(2)));
    }
}
