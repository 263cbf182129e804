//! The devices: each from the moment when it is ready until it has its certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dtls::Now;
use est::{Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Failure, Operation, Persistence, ServerVerifier};
use pki::{Digest, DnsName, ServerName};

use super::field::PowerField;
use super::sent_away::SentAwayTally;
use crate::addresses::address_of;
use crate::chance::DerivedRandom;
use crate::clock::VirtualClock;
use crate::link::{SimulatedLink, Towards};
use crate::trust::{SERVER_NAME, TestCa, TestRequest};

/// The devices of a field.
pub(super) struct Fleet {
    ca: Arc<TestCa>,
    seed: u64,
    start: Instant,
    config: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
    /// Devices that are not ready yet, the next one last.
    absent: Vec<(Duration, u32)>,
    waiting: BTreeMap<u32, WaitingDevice>,
    timers: BTreeSet<(Instant, u32)>,
    certificates: Vec<FieldCertificate>,
    tally: FleetTally,
}

/// A device without its certificate.
struct WaitingDevice {
    client: Box<Client>,
    /// Until it is asked for; from then on the client has it.
    csr: Option<Vec<u8>>,
    armed: Option<Instant>,
    sent_away: bool,
    has_session: bool,
}

/// The certificate of a device.
pub(super) struct FieldCertificate {
    pub(super) device: u32,
    pub(super) digest: Digest,
    /// The time from the return of the power.
    pub(super) took: Duration,
}

/// What the devices went through.
#[derive(Default)]
pub(super) struct FleetTally {
    /// Handshakes that succeeded.
    pub(super) handshakes: u64,
    /// Handshakes that a device gave up: its timers ran out, or they failed.
    pub(super) given_up: u64,
    /// Sessions that ended, and requests that failed, between a handshake and its certificate; with what each device says about the first of them.
    pub(super) cut_off: Vec<String>,
    /// Devices that make no further try; with what each says.
    pub(super) failed: Vec<String>,
    pub(super) sent_away: SentAwayTally,
    /// The largest number of devices that waited at one time.
    pub(super) waiting_max: usize,
    /// Devices that have a session and no certificate now, and the largest number of them at one time.
    pub(super) in_session: usize,
    pub(super) in_session_max: usize,
}

impl Fleet {
    pub(super) fn new(field: &PowerField, seed: u64, ca: Arc<TestCa>, start: Instant) -> Self {
        let mut absent: Vec<_> = (1..=field.devices).map(|device| (field.ready_after(seed, device), device)).collect();
        absent.sort_unstable_by(|one, other| other.cmp(one));
        let name = DnsName::try_from(SERVER_NAME).expect("a DNS name").to_owned();
        let verifier = ServerVerifier::new(vec![Arc::clone(ca.root())], ServerName::DnsName(name));
        Self {
            ca,
            seed,
            start,
            config: Arc::new(ClientConfig { persistence: Some(Persistence::DEFAULT), ..ClientConfig::default() }),
            verifier: Arc::new(verifier.expect("a root is an anchor")),
            absent,
            waiting: BTreeMap::new(),
            timers: BTreeSet::new(),
            certificates: Vec::new(),
            tally: FleetTally::default(),
        }
    }

    /// Whether every device has its certificate, or has given up.
    pub(super) fn is_done(&self) -> bool {
        self.absent.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn ca(&self) -> &TestCa {
        &self.ca
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn certificates(&self) -> &[FieldCertificate] {
        &self.certificates
    }

    pub(super) fn tally(&self) -> &FleetTally {
        &self.tally
    }

    /// When a device acts by itself next.
    pub(super) fn next(&self) -> Option<Instant> {
        let ready = self.absent.last().map(|(after, _)| self.start + *after);
        [ready, self.timers.first().map(|(at, _)| *at)].into_iter().flatten().min()
    }

    /// Starts devices that are ready, and handles the deadlines of the others.
    pub(super) fn time_out(&mut self, clock: &VirtualClock, link: &mut SimulatedLink) {
        let now = clock.now();
        while let Some((_, device)) = self.absent.pop_if(|(after, _)| self.start + *after <= now.mono) {
            let waiting = self.switch_on(device, now);
            self.waiting.insert(device, waiting);
            self.tally.waiting_max = self.tally.waiting_max.max(self.waiting.len());
            self.attend(now, device, link);
        }
        while let Some((_, device)) = self.timers.first().copied().filter(|(at, _)| *at <= now.mono) {
            if let Some(waiting) = self.waiting.get_mut(&device) {
                waiting.client.handle_timeout(now);
            }
            self.attend(now, device, link);
        }
    }

    /// A datagram has reached a device.
    pub(super) fn hear(&mut self, clock: &VirtualClock, device: u32, datagram: &mut [u8], link: &mut SimulatedLink) {
        let Some(waiting) = self.waiting.get_mut(&device) else { return };
        waiting.client.handle_datagram(clock.now(), datagram);
        self.attend(clock.now(), device, link);
    }

    /// Makes the device: its keys, its IDevID and its CSR.
    fn switch_on(&self, device: u32, now: Now) -> WaitingDevice {
        let random = Arc::new(DerivedRandom::new(self.seed, &format!("device {device}")));
        let factory = self.ca.device(device);
        let TestRequest { csr, .. } = self.ca.request(factory.certificate.subject());
        let dtls = Arc::new(DtlsConfig::new(Some(factory.for_dtls(&random)), Arc::clone(&self.verifier)));
        let client = Client::new(Arc::clone(&self.config), dtls, random, now);
        WaitingDevice { client: Box::new(client), csr: Some(csr), armed: None, sent_away: false, has_session: false }
    }

    /// Sends a device's datagrams, handles its events and sets its timer.
    fn attend(&mut self, now: Now, device: u32, link: &mut SimulatedLink) {
        let Some(mut waiting) = self.waiting.remove(&device) else { return };
        if let Some(armed) = waiting.armed.take() {
            self.timers.remove(&(armed, device));
        }
        let mut over = false;
        loop {
            while let Some(bytes) = waiting.client.poll_transmit() {
                link.send(now.mono, Towards::Server(address_of(device)), bytes);
            }
            let Some(event) = waiting.client.poll_event() else { break };
            over |= self.handle_event(now, device, &mut waiting, event);
        }
        if over {
            return;
        }
        if let Some(at) = waiting.client.poll_timeout() {
            waiting.armed = Some(at);
            self.timers.insert((at, device));
        }
        self.waiting.insert(device, waiting);
    }

    /// Handles an event of a device; whether the device is done.
    fn handle_event(&mut self, now: Now, device: u32, waiting: &mut WaitingDevice, event: ClientEvent) -> bool {
        match event {
            ClientEvent::Connected { .. } => {
                self.tally.connect(waiting);
                if let Some(csr) = waiting.csr.take() {
                    waiting.client.start(now, Operation::Enroll { csr }).expect("connected, and nothing asked yet");
                }
            }
            ClientEvent::Reconnected { .. } => self.tally.connect(waiting),
            ClientEvent::Acknowledged => {}
            ClientEvent::Again { after: Failure::Handshake(_), .. } => self.tally.given_up += 1,
            ClientEvent::Again { after: Failure::Later { max_age, .. }, .. } => {
                self.tally.sent_away.note(max_age, !waiting.sent_away);
                waiting.sent_away = true;
            }
            ClientEvent::Again { after, .. } => {
                self.tally.disconnect(waiting);
                self.tally.cut_off.push(format!("device {device}: {after}"));
            }
            ClientEvent::Closed(why) => {
                self.tally.disconnect(waiting);
                self.tally.cut_off.push(format!("device {device}: {why:?}"));
            }
            ClientEvent::Failed(failure) => {
                self.tally.failed.push(format!("device {device}: {failure}"));
                return true;
            }
            ClientEvent::Done(answer) => {
                let Answer::Certificate(certificate) = answer else { return false };
                let took = now.mono.saturating_duration_since(self.start);
                self.certificates.push(FieldCertificate { device, digest: Digest::of(&certificate), took });
                self.tally.disconnect(waiting);
                waiting.client.close(now);
                return true;
            }
        }
        false
    }
}

impl FleetTally {
    fn connect(&mut self, device: &mut WaitingDevice) {
        self.handshakes += 1;
        self.in_session += usize::from(!device.has_session);
        device.has_session = true;
        self.in_session_max = self.in_session_max.max(self.in_session);
    }

    fn disconnect(&mut self, device: &mut WaitingDevice) {
        self.in_session -= usize::from(device.has_session);
        device.has_session = false;
    }
}
