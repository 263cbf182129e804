//! One device's script: handshake, `GET /crts`, `POST /sen` or `/skg`, and for some a renewal over a second session.
//!
//! ```text
//!   Handshake ──Connected──► /crts ──2.05──► /sen, /skg ──2.04──► its certificate ──► Enrolled
//!       ▲                      │               │                        │ renews
//!       │                      │               │                        ▼
//!       │                      │               │        Handshake with it ──► /sren, /skg ──2.04──► Enrolled
//!       └─────── Again ◄───────┴───────────────┴──────────────┴─────────┘   no answer, a lost session, or "later": `est::Client` repeats
//!   refused, not trusted, out of time or attempts ──► GaveUp
//! ```
//!
//! `est::Client` has the protocol and its persistence; this module decides what to request and what to measure. Driven by `fleet`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use dtls::{Now, Random};
use est::{
    AnchorUpdate, Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Failure, Operation, Packing, ReceivedKey,
    ServerVerifier,
};
use pki::{Certificate, PrivateKey};

use crate::function::{FirstFunction, FleetFunctions};
use crate::identities::{self, FleetIdentity};
use crate::run::{Patience, Run};
use crate::seed::{DeviceRandom, Purpose, Stream};
use crate::stats::{MeasuredStage, Stats};

/// The shared part of all devices of a run.
pub(crate) struct RunScript {
    client: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
    dtls: DtlsTemplate,
    seed: u64,
    patience: Patience,
    functions: FleetFunctions,
    vanish_per_mille: u16,
}

/// How a device that holds its certificate leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// With close_notify.
    Closes,
    /// Without close_notify: pending datagrams are sent.
    FallsSilent,
    /// Without close_notify, as at a power cut: pending datagrams are lost.
    CutOff,
}

impl Farewell {
    /// Draws the farewell of device `index` in the run of `seed` if `vanish_per_mille` of 1,000 devices vanish.
    fn drawn(seed: u64, index: usize, vanish_per_mille: u16) -> Self {
        let mut stream = Stream::new(seed, Purpose::Farewell(u32::try_from(index).unwrap_or(u32::MAX)));
        if stream.next_u64() % 1_000 >= u64::from(vanish_per_mille) {
            return Self::Closes;
        }
        if stream.next_u64().is_multiple_of(2) { Self::FallsSilent } else { Self::CutOff }
    }
}

struct DtlsTemplate {
    suite: dtls::Suite,
    server_name: Option<String>,
}

/// How a device's script ends.
#[derive(Debug)]
pub(crate) enum DeviceEnd {
    /// It holds this certificate, the last one that it got.
    Enrolled(HeldCertificate),
    /// It holds no certificate; the statistics say why.
    GaveUp,
}

/// A certificate that a device holds.
#[derive(Debug)]
pub(crate) struct HeldCertificate {
    /// Its DER.
    pub(crate) der: Box<[u8]>,
    /// Its key, if the server has made it; otherwise it is the key of the request.
    pub(crate) key: Option<Arc<PrivateKey>>,
}

/// One device at work.
pub(crate) struct FleetDevice {
    script: Arc<RunScript>,
    index: usize,
    random: Arc<dyn Random>,
    client: Client,
    /// Datagrams of the session before, which go first.
    last_words: VecDeque<Vec<u8>>,
    /// The one of them that is being sent.
    last_word: Vec<u8>,
    /// Whether it comes back to renew.
    renews: bool,
    stage: MeasuredStage,
    stage_began: Instant,
    /// What is requested, also while a lost association is re-established.
    asking: MeasuredStage,
    scheduled: Instant,
    deadline: Instant,
    csr: Box<[u8]>,
    farewell: Farewell,
    /// Whether it has stopped sending.
    off: bool,
}

impl RunScript {
    /// The script of a run.
    pub(crate) fn new(run: &Run<'_>) -> Result<Self, String> {
        let verifier = ServerVerifier::new(run.anchors.clone(), run.server_name.clone())
            .map_err(|fault| format!("the devices cannot trust that: {fault}"))?;
        // An address belongs neither in server_name (RFC 6066 §3) nor in Uri-Host (RFC 7252 §5.10.1).
        let name = match &run.server_name {
            pki::ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let mut client = ClientConfig {
            anchor_update: AnchorUpdate::Ignore,
            block: run.block,
            ack_timeout: run.patience.ack_timeout,
            uri_host: name.clone(),
            persistence: Some(run.patience.persistence()),
            ..ClientConfig::default()
        };
        client.path.extend(run.label.clone());
        Ok(Self {
            client: Arc::new(client),
            verifier: Arc::new(verifier),
            dtls: DtlsTemplate { suite: run.suite, server_name: name },
            seed: run.seed,
            patience: run.patience,
            functions: run.functions,
            vanish_per_mille: run.vanish_per_mille,
        })
    }

    /// Connects with a certificate and its key.
    fn connect(
        &self,
        (certificate, key): (&[u8], &PrivateKey),
        random: &Arc<dyn Random>,
        now: Now,
    ) -> Result<Client, String> {
        let shown = est::identity(vec![certificate.to_vec()], key.pkcs8(), &**random)
            .map_err(|fault| format!("a device's identity cannot be used: {fault}"))?;
        let dtls = DtlsConfig {
            suites: vec![self.dtls.suite],
            server_name: self.dtls.server_name.clone(),
            retransmission_initial: self.patience.handshake_timeout,
            handshake_deadline: self.patience.handshake_deadline(),
            ..DtlsConfig::new(Some(shown), Arc::clone(&self.verifier))
        };
        Ok(Client::new(Arc::clone(&self.client), Arc::new(dtls), Arc::clone(random), now))
    }
}

impl FleetDevice {
    /// The device with this number begins; its time counts from `scheduled`.
    pub(crate) fn start(
        script: &Arc<RunScript>,
        index: usize,
        identity: &FleetIdentity,
        scheduled: Instant,
        now: Now,
    ) -> Result<Self, String> {
        let random: Arc<dyn Random> = Arc::new(DeviceRandom::new(script.seed, index));
        Ok(Self {
            client: script.connect((&identity.certificate, &identity.key), &random, now)?,
            script: Arc::clone(script),
            index,
            random,
            last_words: VecDeque::new(),
            last_word: Vec::new(),
            renews: script.functions.renews(script.seed, index),
            stage: MeasuredStage::Handshake,
            stage_began: scheduled,
            asking: MeasuredStage::CaCertificates,
            scheduled,
            deadline: scheduled + script.patience.timeout,
            csr: identity.csr.clone(),
            farewell: Farewell::drawn(script.seed, index, script.vanish_per_mille),
            off: false,
        })
    }

    /// A datagram from the server.
    pub(crate) fn receive(&mut self, now: Now, bytes: &mut [u8], stats: &mut Stats) -> Option<DeviceEnd> {
        self.client.handle_datagram(now, bytes);
        self.events(now, stats)
    }

    /// A deadline has come.
    pub(crate) fn timeout(&mut self, now: Now, stats: &mut Stats) -> Option<DeviceEnd> {
        if now.mono >= self.deadline {
            return Some(self.give_up(now, OUT_OF_TIME, stats));
        }
        self.client.handle_timeout(now);
        self.events(now, stats)
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<&[u8]> {
        if self.off {
            return None;
        }
        if let Some(word) = self.last_words.pop_front() {
            self.last_word = word;
            return Some(&self.last_word);
        }
        self.client.poll_transmit()
    }

    /// The time of the next call of [`FleetDevice::timeout`].
    pub(crate) fn poll_timeout(&self) -> Instant {
        self.client.poll_timeout().map_or(self.deadline, |at| at.min(self.deadline))
    }

    fn events(&mut self, now: Now, stats: &mut Stats) -> Option<DeviceEnd> {
        while let Some(event) = self.client.poll_event() {
            let end = match event {
                ClientEvent::Acknowledged => None,
                ClientEvent::Connected { .. } => {
                    self.finish_stage(now, stats);
                    self.ask(now, stats)
                }
                ClientEvent::Reconnected { .. } => {
                    self.finish_stage(now, stats);
                    self.enter(self.asking, now);
                    None
                }
                ClientEvent::Done(Answer::CaCertificates(_)) => {
                    self.finish_stage(now, stats);
                    self.asking = match self.script.functions.first {
                        FirstFunction::Enrol => MeasuredStage::Enrol,
                        FirstFunction::GenerateKey => MeasuredStage::KeyGeneration,
                    };
                    self.ask(now, stats)
                }
                ClientEvent::Done(Answer::Certificate(certificate)) => {
                    self.received(now, HeldCertificate { der: certificate.into(), key: None }, stats)
                }
                ClientEvent::Done(Answer::Key(ReceivedKey { private_key, certificate })) => {
                    let held = HeldCertificate { der: certificate.into(), key: Some(private_key) };
                    self.received(now, held, stats)
                }
                // No device requests these.
                ClientEvent::Done(
                    Answer::EnvelopedKey(_) | Answer::CsrAttributes(_) | Answer::RenewalInfo(_) | Answer::Links(_),
                ) => None,
                ClientEvent::Again { after: Failure::Later { .. }, .. } => {
                    stats.later_answers += 1;
                    None
                }
                ClientEvent::Again { after, .. } => {
                    stats.record_failure(self.stage, &reason(&after));
                    stats.repeated_attempts += 1;
                    self.enter(MeasuredStage::Handshake, now);
                    None
                }
                ClientEvent::Failed(failure) => Some(self.give_up(now, &reason(&failure), stats)),
                ClientEvent::Closed(why) => Some(self.give_up(now, &reason(&Failure::Closed(why)), stats)),
            };
            if end.is_some() {
                return end;
            }
        }
        None
    }

    fn ask(&mut self, now: Now, stats: &mut Stats) -> Option<DeviceEnd> {
        self.enter(self.asking, now);
        let csr = self.csr.to_vec();
        let generate_key = |csr| Operation::GenerateKey { csr, packing: Packing::CertsOnly };
        let operation = match (self.asking, self.script.functions.first) {
            (MeasuredStage::CaCertificates, _) => Operation::CaCertificates,
            (MeasuredStage::Renewal, FirstFunction::Enrol) => Operation::Reenroll { csr },
            (_, FirstFunction::GenerateKey) => generate_key(csr),
            (_, FirstFunction::Enrol) => Operation::Enroll { csr },
        };
        let started = self.client.start(now, operation);
        started.err().map(|fault| self.give_up(now, &format!("cannot ask: {fault}"), stats))
    }

    /// The device has its certificate: it leaves, or comes back with it.
    fn received(&mut self, now: Now, held: HeldCertificate, stats: &mut Stats) -> Option<DeviceEnd> {
        self.finish_stage(now, stats);
        if std::mem::take(&mut self.renews) {
            return self.come_back(now, &held).err().map(|why| self.give_up(now, &why, stats));
        }
        if self.asking == MeasuredStage::Renewal {
            stats.renewed += 1;
        }
        stats.record(MeasuredStage::Total, now.mono.saturating_duration_since(self.scheduled));
        self.leave(now, stats);
        Some(DeviceEnd::Enrolled(held))
    }

    /// Closes the session and begins another one with this certificate, for a renewal.
    fn come_back(&mut self, now: Now, held: &HeldCertificate) -> Result<(), String> {
        let unusable = |fault: &dyn std::fmt::Display| format!("the certificate cannot be used: {fault}");
        let own;
        let key = match &held.key {
            Some(key) => key,
            None => {
                own = identities::operational_key(self.script.seed, self.index).map_err(|fault| unusable(&fault))?;
                &own
            }
        };
        // "the Subject field [...] MUST be identical to the corresponding fields in the certificate being renewed" (RFC 7030 §4.2.2): a profile
        // may have issued another name than that of the first request.
        let certificate = Certificate::parse(&held.der).map_err(|fault| unusable(&fault))?;
        self.csr = identities::renewal_request(key, certificate.subject()).map_err(|fault| unusable(&fault))?;
        self.client.close(now);
        while let Some(datagram) = self.client.poll_transmit() {
            self.last_words.push_back(datagram.to_vec());
        }
        self.client = self.script.connect((&held.der, key), &self.random, now)?;
        self.asking = MeasuredStage::Renewal;
        self.enter(MeasuredStage::Handshake, now);
        Ok(())
    }

    fn leave(&mut self, now: Now, stats: &mut Stats) {
        match self.farewell {
            Farewell::Closes => return self.client.close(now),
            Farewell::FallsSilent => {}
            Farewell::CutOff => self.off = true,
        }
        stats.vanished += 1;
    }

    fn enter(&mut self, stage: MeasuredStage, now: Now) {
        self.stage = stage;
        self.stage_began = now.mono;
    }

    fn finish_stage(&mut self, now: Now, stats: &mut Stats) {
        stats.record(self.stage, now.mono.saturating_duration_since(self.stage_began));
    }

    fn give_up(&mut self, now: Now, reason: &str, stats: &mut Stats) -> DeviceEnd {
        stats.record_failure(self.stage, reason);
        self.client.close(now);
        DeviceEnd::GaveUp
    }
}

/// The reason in the statistics if a device runs out of time.
const OUT_OF_TIME: &str = "out of time";

fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Deadline => OUT_OF_TIME.to_owned(),
        _ => failure.reason().map_or_else(|| failure.to_string(), |reason| reason.code().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dtls::Now;
    use pki::{Certificate, ServerName, UnixTime};

    use super::*;
    use crate::identities::tests::{authority, fleet, manufacturer};
    use crate::schedule::Arrivals;

    /// The script of the run of `seed`.
    fn script(anchor: &Arc<Certificate>, devices: &[FleetIdentity], seed: u64, patience: Patience) -> Arc<RunScript> {
        let server = "127.0.0.1:5684".parse().unwrap();
        let run = Run {
            server,
            server_name: ServerName::from(server.ip()),
            uri: "coaps://127.0.0.1:5684".to_owned(),
            label: None,
            anchors: vec![Arc::clone(anchor)],
            devices,
            functions: FleetFunctions::ENROL,
            arrivals: Arrivals::Concurrency(1),
            block: coap::BlockSize::B64,
            suite: dtls::Suite::EcdheEcdsaAes128Ccm8,
            seed,
            patience,
            vanish_per_mille: 0,
            link: None,
            keep: false,
        };
        Arc::new(RunScript::new(&run).unwrap())
    }

    fn now() -> Now {
        Now { mono: Instant::now(), utc: UnixTime::now() }
    }

    /// The device's first datagram in the run of `seed`, before any answer.
    fn first_words(anchor: &Arc<Certificate>, devices: &[FleetIdentity], seed: u64, index: usize) -> Vec<u8> {
        let (script, now) = (script(anchor, devices, seed, Patience::default()), now());
        let mut device = FleetDevice::start(&script, index, &devices[index], now.mono, now).unwrap();
        device.poll_transmit().expect("a ClientHello").to_vec()
    }

    #[test]
    fn the_seed_decides_who_vanishes_and_how() {
        let drawn = |seed, share| (0..10_000).map(|index| Farewell::drawn(seed, index, share)).collect::<Vec<_>>();
        let of = |all: &[Farewell], kind| all.iter().filter(|farewell| **farewell == kind).count();
        let all = drawn(7, 300);
        assert_eq!(all, drawn(7, 300));
        assert_ne!(all, drawn(8, 300));
        assert!((6_800..7_200).contains(&of(&all, Farewell::Closes)), "{}", of(&all, Farewell::Closes));
        for kind in [Farewell::FallsSilent, Farewell::CutOff] {
            assert!((1_350..1_650).contains(&of(&all, kind)), "{kind:?}: {}", of(&all, kind));
        }
        assert_eq!(of(&drawn(7, 0), Farewell::Closes), 10_000);
        assert_eq!(of(&drawn(7, 1_000), Farewell::Closes), 0);
    }

    #[test]
    fn what_a_device_draws_is_the_same_in_every_run_of_a_seed() {
        let manufacturer = manufacturer();
        let (anchor, devices) = (Arc::new(authority(&manufacturer)), fleet(&manufacturer, 2, 3));
        let words = |seed, index| first_words(&anchor, &devices, seed, index);
        assert_eq!(words(1, 0), words(1, 0), "the hello derives from the seed");
        assert_ne!(words(1, 0), words(2, 0));
        assert_ne!(words(1, 0), words(1, 1));
    }

    #[test]
    fn a_server_that_is_silent_costs_one_attempt_and_not_the_time_of_all() {
        let manufacturer = manufacturer();
        let (anchor, devices) = (Arc::new(authority(&manufacturer)), fleet(&manufacturer, 1, 3));
        let patience = Patience { timeout: Duration::from_secs(50), attempts: 8, ..Patience::default() };
        let script = script(&anchor, &devices, 1, patience);
        let (began, mut stats) = (now(), Stats::default());
        let mut device = FleetDevice::start(&script, 0, &devices[0], began.mono, began).unwrap();
        let mut now = began;
        loop {
            while device.poll_transmit().is_some() {}
            now.mono = device.poll_timeout();
            if device.timeout(now, &mut stats).is_some() {
                break;
            }
        }
        // Eighths of the time, with pauses between them.
        assert_eq!(stats.repeated_attempts, 4);
        assert!(now.mono <= began.mono + patience.timeout);
    }
}
