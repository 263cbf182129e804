//! One device's script: handshake, `GET /crts`, `POST /sen`; again when told "later" or when nothing came back.
//!
//! ```text
//!        ┌──────── rests, begins anew ◄── nothing came back, attempts left ──┐
//!        ▼                                                                   │
//!   Handshake ──Connected──► /crts ──2.05──► /sen ──2.04──► certificate for its key ──► Enrolled
//!                                             ▲ │
//!                                             │ └─5.03, 4.29──► waits Max-Age ─┐
//!                                             └────────────────────────────────┘
//!   refused, not trusted, out of time or attempts ──► GaveUp
//! ```
//!
//! The protocol is `est::Client`'s; here is what a device's firmware would add: patience. Driven by `fleet`.

use crate::fleet::{Patience, Run};
use crate::identities::DeviceIdentity;
use crate::seed::{Purpose, Stream};
use crate::stats::{Stage, Stats};
use dtls::{Now, Random};
use est::{Answer, Client, ClientConfig, ClientEvent, DtlsConfig, Failure, Operation, ServerVerifier};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two attempts a device rests this long at most, however many failed.
const REST_MAX: Duration = Duration::from_secs(20);

/// What all devices of a run share.
pub(crate) struct Script {
    client: Arc<ClientConfig>,
    verifier: Arc<ServerVerifier>,
    dtls: DtlsTemplate,
    random: Arc<dyn Random>,
    patience: Patience,
    seed: u64,
}

struct DtlsTemplate {
    suite: dtls::Suite,
    server_name: Option<String>,
}

/// How a device's script ends.
#[derive(Debug)]
pub(crate) enum End {
    /// It holds this certificate (DER), for its key.
    Enrolled(Box<[u8]>),
    /// It holds none, and the statistics say why.
    GaveUp,
}

/// One device at work.
pub(crate) struct Device {
    state: State,
    stage: Stage,
    stage_began: Instant,
    scheduled: Instant,
    deadline: Instant,
    csr: Box<[u8]>,
    attempt: u32,
    jitter: Stream,
}

enum State {
    /// A handshake or a request is under way.
    Working(Client),
    /// The server said "later"; the association stays.
    Waiting { client: Client, until: Instant },
    /// An attempt failed; the next begins then.
    Resting { until: Instant },
}

impl Script {
    /// The script of a run.
    pub(crate) fn new(run: &Run<'_>, random: Arc<dyn Random>) -> Result<Self, String> {
        let verifier = ServerVerifier::new(run.anchors.clone(), run.server_name.clone())
            .map_err(|fault| format!("the devices cannot trust that: {fault}"))?;
        // An address belongs neither in server_name (RFC 6066 §3) nor in Uri-Host (RFC 7252 §5.10.1).
        let name = match &run.server_name {
            pki::ServerName::DnsName(name) => Some(name.as_ref().to_owned()),
            _ => None,
        };
        let mut client = ClientConfig {
            block: run.block,
            ack_timeout: run.patience.ack_timeout,
            uri_host: name.clone(),
            ..ClientConfig::default()
        };
        client.path.extend(run.label.clone());
        Ok(Self {
            client: Arc::new(client),
            verifier: Arc::new(verifier),
            dtls: DtlsTemplate { suite: run.suite, server_name: name },
            random,
            patience: run.patience,
            seed: run.seed,
        })
    }

    fn connect(&self, identity: &DeviceIdentity, now: Now) -> Result<Client, String> {
        let shown = est::identity(vec![identity.certificate.to_vec()], identity.key.pkcs8(), &*self.random)
            .map_err(|fault| format!("a device's identity cannot be used: {fault}"))?;
        let dtls = DtlsConfig {
            suites: vec![self.dtls.suite],
            server_name: self.dtls.server_name.clone(),
            retransmission_initial: self.patience.handshake_timeout,
            ..DtlsConfig::new(Some(shown), Arc::clone(&self.verifier))
        };
        Ok(Client::new(Arc::clone(&self.client), Arc::new(dtls), Arc::clone(&self.random), now))
    }
}

impl Device {
    /// Device `index` begins; its time counts from `scheduled`.
    pub(crate) fn start(
        script: &Script,
        index: usize,
        identity: &DeviceIdentity,
        scheduled: Instant,
        now: Now,
    ) -> Result<Self, String> {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Ok(Self {
            state: State::Working(script.connect(identity, now)?),
            stage: Stage::Handshake,
            stage_began: scheduled,
            scheduled,
            deadline: scheduled + script.patience.timeout,
            csr: identity.csr.clone(),
            attempt: 1,
            jitter: Stream::new(script.seed, Purpose::Jitter(index)),
        })
    }

    /// A datagram from the server.
    pub(crate) fn receive(&mut self, script: &Script, now: Now, bytes: &mut [u8], stats: &mut Stats) -> Option<End> {
        self.client()?.handle_datagram(now, bytes);
        self.events(script, now, stats)
    }

    /// A deadline has come.
    pub(crate) fn timeout(
        &mut self,
        script: &Script,
        identity: &DeviceIdentity,
        now: Now,
        stats: &mut Stats,
    ) -> Option<End> {
        if now.mono >= self.deadline {
            return Some(self.give_up(now, "out of time", stats));
        }
        match &mut self.state {
            State::Working(client) => client.handle_timeout(now),
            State::Waiting { client, until } if now.mono < *until => client.handle_timeout(now),
            State::Waiting { .. } => return self.ask_again(now, stats),
            State::Resting { until } if now.mono < *until => {}
            State::Resting { .. } => match script.connect(identity, now) {
                Ok(client) => {
                    self.attempt += 1;
                    stats.repeated_attempts += 1;
                    self.state = State::Working(client);
                    self.enter(Stage::Handshake, now);
                }
                Err(why) => return Some(self.give_up(now, &why, stats)),
            },
        }
        self.events(script, now, stats)
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<&[u8]> {
        self.client()?.poll_transmit()
    }

    /// When [`Device::timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let (client, until) = match &self.state {
            State::Working(client) => (client.poll_timeout(), None),
            State::Waiting { client, until } => (client.poll_timeout(), Some(*until)),
            State::Resting { until } => (None, Some(*until)),
        };
        [client, until].into_iter().flatten().fold(self.deadline, Instant::min)
    }

    fn client(&mut self) -> Option<&mut Client> {
        match &mut self.state {
            State::Working(client) | State::Waiting { client, .. } => Some(client),
            State::Resting { .. } => None,
        }
    }

    fn events(&mut self, script: &Script, now: Now, stats: &mut Stats) -> Option<End> {
        while let Some(event) = self.client().and_then(Client::poll_event) {
            let end = match event {
                ClientEvent::Acknowledged => None,
                ClientEvent::Connected { .. } => {
                    self.finish_stage(now, stats);
                    self.ask(Stage::CaCertificates, Operation::CaCertificates, now, stats)
                }
                ClientEvent::Done(Answer::CaCertificates(_)) => {
                    self.finish_stage(now, stats);
                    self.enrol(now, stats)
                }
                ClientEvent::Done(Answer::Certificate(certificate)) => {
                    self.finish_stage(now, stats);
                    stats.record(Stage::Total, now.mono.saturating_duration_since(self.scheduled));
                    self.close(now);
                    Some(End::Enrolled(certificate.into()))
                }
                // Nobody asked for links.
                ClientEvent::Done(Answer::Links(_)) => None,
                ClientEvent::Failed(Failure::Later { max_age, .. }) => {
                    stats.later_answers += 1;
                    self.wait(now.mono + Duration::from_secs(max_age.into()));
                    None
                }
                ClientEvent::Failed(failure) => self.failed(script, now, &failure, stats),
                ClientEvent::Closed(why) => self.failed(script, now, &Failure::Closed(why), stats),
            };
            if end.is_some() {
                return end;
            }
        }
        None
    }

    fn failed(&mut self, script: &Script, now: Now, failure: &Failure, stats: &mut Stats) -> Option<End> {
        let reason = failure.reason().map_or_else(|| failure.to_string(), |reason| reason.code().to_owned());
        let worth_repeating = failure.is_no_answer() || matches!(failure, Failure::Closed(_));
        if !worth_repeating || self.attempt >= script.patience.attempts {
            return Some(self.give_up(now, &reason, stats));
        }
        stats.record_failure(self.stage, &reason);
        // Spread over half to one and a half of a growing pause, so that a fleet that failed together does not come back together.
        let pause = script.patience.ack_timeout.saturating_mul(1 << self.attempt.min(6)).min(REST_MAX);
        self.state = State::Resting { until: now.mono + pause.mul_f64(0.5 + self.jitter.unit()) };
        None
    }

    fn ask_again(&mut self, now: Now, stats: &mut Stats) -> Option<End> {
        match self.stage {
            Stage::CaCertificates => self.ask(Stage::CaCertificates, Operation::CaCertificates, now, stats),
            Stage::Handshake | Stage::Enrol | Stage::Total => self.enrol(now, stats),
        }
    }

    /// Sends the request for a certificate: the identical one each time (RFC 9148 §4.7).
    fn enrol(&mut self, now: Now, stats: &mut Stats) -> Option<End> {
        let csr = self.csr.to_vec();
        self.ask(Stage::Enrol, Operation::Enroll { csr }, now, stats)
    }

    fn ask(&mut self, stage: Stage, operation: Operation, now: Now, stats: &mut Stats) -> Option<End> {
        if stage != self.stage {
            self.enter(stage, now);
        }
        if let State::Waiting { .. } = self.state {
            self.resume();
        }
        let started = self.client()?.start(now, operation);
        started.err().map(|fault| self.give_up(now, &format!("cannot ask: {fault:?}"), stats))
    }

    fn wait(&mut self, until: Instant) {
        self.state = match std::mem::replace(&mut self.state, State::Resting { until }) {
            State::Working(client) | State::Waiting { client, .. } => State::Waiting { client, until },
            resting @ State::Resting { .. } => resting,
        };
    }

    fn resume(&mut self) {
        let until = self.deadline;
        self.state = match std::mem::replace(&mut self.state, State::Resting { until }) {
            State::Waiting { client, .. } => State::Working(client),
            other => other,
        };
    }

    fn enter(&mut self, stage: Stage, now: Now) {
        self.stage = stage;
        self.stage_began = now.mono;
    }

    fn finish_stage(&mut self, now: Now, stats: &mut Stats) {
        stats.record(self.stage, now.mono.saturating_duration_since(self.stage_began));
    }

    fn close(&mut self, now: Now) {
        if let Some(client) = self.client() {
            client.close(now);
        }
    }

    fn give_up(&mut self, now: Now, reason: &str, stats: &mut Stats) -> End {
        stats.record_failure(self.stage, reason);
        self.close(now);
        End::GaveUp
    }
}
