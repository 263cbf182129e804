//! One device's script: handshake, its function, and for some a return over a second session.
//!
//! ```text
//!   Handshake ──Connected──► /crts ──2.05──► /sen, /skg, /skc ──2.04──► its certificate ──► Done
//!       ▲                      │                │                        │ returns
//!       │                      │                │                        ▼
//!       │                      │                │     Handshake with it ──► /sren, /skg, /ren ──► Done
//!       └─────── Again ◄───────┴────────────────┴──────────────┴─────────┘   no answer, a lost session, or "later": `est::Client` repeats
//!       └─────── a reboot, or a device without patience: a new client from the same port
//!   refused, not trusted, out of time or attempts ──► GaveUp
//! ```
//!
//! A device that asks for `/crts` or `/att` alone is done after that; one of an earlier phase begins with the second handshake. `est::Client` has the
//! protocol and its persistence; this module decides what to request and what to measure. Driven by `fleet`.

mod conduct;
mod script;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dtls::{Now, Random};
use est::{Answer, Client, ClientEvent, Failure, Operation, Packing, ReceivedKey};
use pki::linking::LinkingText;
use pki::{Certificate, CsrContents, Encoding, PrivateKey};

use crate::function::FleetFunction;
use crate::identities::{self, FleetIdentity};
use crate::samples::{Sample, SampleBuffer};
use crate::seed::{DeviceRandom, Purpose, Stream};
use crate::stats::{MeasuredStage, Stats};
use conduct::{Farewell, REBOOT_TIME, number, reboot_drawn};

pub(crate) use script::RunScript;

/// What a thread measures in.
pub(crate) struct Measuring<'m> {
    pub(crate) stats: &'m mut Stats,
    pub(crate) samples: &'m mut SampleBuffer,
    /// The beginning of the run.
    pub(crate) began: Instant,
}

/// How a device's script ends.
#[derive(Debug)]
pub(crate) enum DeviceEnd {
    /// It got all that it asked for, and perhaps holds this certificate, the last one that it got.
    Done(Option<HeldCertificate>),
    /// It did not; the statistics say why.
    GaveUp,
}

/// A certificate that a device holds.
#[derive(Debug, Clone)]
pub(crate) struct HeldCertificate {
    /// Its DER.
    pub(crate) der: Box<[u8]>,
    /// Its key, if the server has made it; otherwise it is the key of the request.
    pub(crate) key: Option<Arc<PrivateKey>>,
}

/// What a device of a phase begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Beginning<'b> {
    /// Its IDevID.
    New(FleetIdentity<'b>),
    /// The certificate that it got in an earlier phase.
    Enrolled(&'b HeldCertificate),
}

/// One device at work.
pub(crate) struct FleetDevice {
    script: Arc<RunScript>,
    /// Its number in the fleet.
    index: usize,
    phase: usize,
    function: FleetFunction,
    random: Arc<dyn Random>,
    client: Client,
    /// Datagrams of the session before, which go first.
    last_words: VecDeque<Vec<u8>>,
    /// The one of them that is being sent.
    last_word: Vec<u8>,
    /// Whether it comes back when it has its certificate.
    comes_back: bool,
    /// What its present session begins with.
    session_begins: MeasuredStage,
    stage: MeasuredStage,
    stage_began: Instant,
    /// What is requested, also while a lost association is re-established.
    asking: MeasuredStage,
    scheduled: Instant,
    deadline: Instant,
    csr: Box<[u8]>,
    held: Option<HeldCertificate>,
    farewell: Farewell,
    /// Received datagrams until it loses its state.
    reboots_after: Option<u64>,
    /// While it boots it neither hears nor says anything.
    boots_until: Option<Instant>,
    /// When it loses its patience, and how long it has any.
    storms: Option<(Instant, Duration)>,
    /// Sessions that it opened because a linked request could not be repeated.
    sessions: u32,
    /// Whether it has stopped sending.
    off: bool,
    /// Whether the server has begun the handshake.
    server_began: bool,
}

fn unusable(fault: impl std::fmt::Display) -> String {
    format!("the certificate cannot be used: {fault}")
}

impl FleetDevice {
    /// The device with this number begins; its time counts from `scheduled`.
    pub(crate) fn start(
        script: &Arc<RunScript>,
        (index, phase): (usize, usize),
        beginning: Beginning<'_>,
        scheduled: Instant,
        now: Now,
    ) -> Result<Self, String> {
        let seed = script.seed;
        let rules = &script.phases[phase].phase;
        let function = rules.functions.of(seed, index);
        let (returning, own_key);
        let (shown, csr, held) = match beginning {
            Beginning::New(identity) => {
                returning = false;
                ((identity.certificate, identity.pkcs8), identity.csr.into(), None)
            }
            Beginning::Enrolled(held) => {
                returning = true;
                own_key = script.key_of(index, held)?;
                let csr = renewal_csr(&held.der, &own_key, None)?;
                ((&*held.der, own_key.pkcs8()), csr, Some(held.clone()))
            }
        };
        let random: Arc<dyn Random> = Arc::new(DeviceRandom::new(seed ^ (as_u64(phase) << 32), index));
        let session_begins = match returning {
            true => function.returning_stage(),
            false => script.first_stage(function),
        };
        let storm = rules.behaviour.storm.filter(|storm| {
            Stream::new(seed, Purpose::Storm(number(index))).next_u64() % 1_000 < u64::from(storm.per_mille)
        });
        Ok(Self {
            client: script.connect(phase, shown, &random, now)?,
            script: Arc::clone(script),
            index,
            phase,
            function,
            random,
            last_words: VecDeque::new(),
            last_word: Vec::new(),
            comes_back: !returning && rules.functions.returns(function, seed, index),
            session_begins,
            stage: MeasuredStage::Handshake,
            stage_began: scheduled,
            asking: session_begins,
            scheduled,
            deadline: scheduled + script.patience.timeout,
            csr,
            held,
            farewell: Farewell::drawn(seed, index, rules.behaviour.vanish_per_mille),
            reboots_after: reboot_drawn(seed, index, rules.behaviour.reboot_per_mille),
            boots_until: None,
            storms: storm.map(|storm| (now.mono + storm.every, storm.every)),
            sessions: 1,
            off: false,
            server_began: false,
        })
    }

    /// A datagram from the server.
    pub(crate) fn receive(&mut self, now: Now, bytes: &mut [u8], into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        if self.boots_until.is_some() {
            return None;
        }
        match self.reboots_after.as_mut() {
            Some(0) => {
                self.reboots_after = None;
                into.stats.counts.reboots += 1;
                self.boots_until = Some(now.mono + REBOOT_TIME);
                return None;
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.server_began |= self.stage == MeasuredStage::Handshake && is_server_hello(bytes);
        self.client.handle_datagram(now, bytes);
        self.events(now, into)
    }

    /// A deadline has come.
    pub(crate) fn timeout(&mut self, now: Now, into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        if now.mono >= self.deadline {
            return Some(self.give_up(now, OUT_OF_TIME, into));
        }
        if let Some(at) = self.boots_until {
            if now.mono >= at {
                self.boots_until = None;
                self.begin_again(now);
            }
            return None;
        }
        if let Some((at, every)) = &mut self.storms
            && now.mono >= *at
        {
            *at = now.mono + *every;
            into.stats.counts.storm_restarts += 1;
            self.begin_again(now);
            return None;
        }
        self.client.handle_timeout(now);
        self.events(now, into)
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<&[u8]> {
        if self.off || self.boots_until.is_some() {
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
        if let Some(at) = self.boots_until {
            return at.min(self.deadline);
        }
        let own = self.storms.map_or(self.deadline, |(at, _)| at.min(self.deadline));
        self.client.poll_timeout().map_or(own, |at| at.min(own))
    }

    /// Its phase.
    pub(crate) fn phase(&self) -> usize {
        self.phase
    }

    /// The device has lost its state, or does not wait any longer: a new client, with the identity of before.
    fn begin_again(&mut self, now: Now) {
        let config = Arc::clone(&self.script.phases[self.phase].client);
        let dtls = Arc::clone(self.client.dtls_config());
        self.client = Client::new(config, dtls, Arc::clone(&self.random), now);
        self.last_words.clear();
        self.asking = self.session_begins;
        self.enter(MeasuredStage::Handshake, now);
    }

    fn events(&mut self, now: Now, into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        into.stats.counts.cut_uploads += self.client.take_uploads_sent_away();
        while let Some(event) = self.client.poll_event() {
            let end = match event {
                ClientEvent::Acknowledged => None,
                ClientEvent::Connected { .. } => {
                    self.finish_stage(now, into);
                    self.ask(now, into)
                }
                ClientEvent::Reconnected { .. } => {
                    self.finish_stage(now, into);
                    self.enter(self.asking, now);
                    None
                }
                ClientEvent::Done(Answer::Certificate(certificate)) => {
                    // A renewal certifies the key that the device has, which the server may have made.
                    let key = self.held.as_ref().and_then(|held| held.key.clone());
                    self.received(now, HeldCertificate { der: certificate.into(), key }, into)
                }
                ClientEvent::Done(Answer::Key(ReceivedKey { private_key, certificate })) => {
                    self.received(now, HeldCertificate { der: certificate.into(), key: Some(private_key) }, into)
                }
                ClientEvent::Done(Answer::CaCertificates(_) | Answer::CsrAttributes(_) | Answer::RenewalInfo(_)) => {
                    self.finish_stage(now, into);
                    self.after_answer(now, into)
                }
                // No device requests these.
                ClientEvent::Done(Answer::EnvelopedKey(_) | Answer::Links(_)) => None,
                ClientEvent::Again { after: Failure::Later { .. }, .. } => {
                    into.stats.counts.later_answers += 1;
                    None
                }
                ClientEvent::Again { after, .. } => self.again(now, &reason(&after), into),
                ClientEvent::Failed(failure) => self.fail(now, &reason(&failure), into),
                ClientEvent::Closed(why) => self.fail(now, &reason(&Failure::Closed(why)), into),
            };
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// An attempt failed, and the client makes another one.
    fn again(&mut self, now: Now, reason: &str, into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        self.record_failure(reason, into);
        into.stats.counts.repeated_attempts += 1;
        self.enter(MeasuredStage::Handshake, now);
        if self.script.linked_requests && self.asking != self.session_begins {
            // The link of the request is to the session that is gone: the client would repeat it over another one.
            if self.sessions >= self.script.patience.attempts {
                return Some(self.give_up(now, reason, into));
            }
            self.sessions += 1;
            self.begin_again(now);
        }
        None
    }

    /// The client gave up. A device without patience begins again soon; flights of its earlier handshakes are a common reason.
    fn fail(&mut self, now: Now, reason: &str, into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        if self.storms.is_none() {
            return Some(self.give_up(now, reason, into));
        }
        self.record_failure(reason, into);
        into.stats.counts.repeated_attempts += 1;
        None
    }

    /// An answer without a certificate has come: `/crts`, `/att`, `/ren`.
    fn after_answer(&mut self, now: Now, into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        let more = match self.asking {
            MeasuredStage::CaCertificates if self.held.is_none() => self.function.certifying_stage(),
            _ => None,
        };
        match more {
            Some(stage) => {
                self.asking = stage;
                self.ask(now, into)
            }
            None => Some(self.finish(now, into)),
        }
    }

    fn ask(&mut self, now: Now, into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        self.enter(self.asking, now);
        if self.script.linked_requests
            && let Err(why) = self.link_request()
        {
            return Some(self.give_up(now, &why, into));
        }
        let csr = self.csr.to_vec();
        let made_by_server = |packing| Operation::GenerateKey { csr: csr.clone(), packing };
        let operation = match self.asking {
            MeasuredStage::CsrAttributes => Operation::CsrAttributes,
            MeasuredStage::RenewalInfo => Operation::RenewalInfo,
            MeasuredStage::KeyGeneration => made_by_server(Packing::CertsOnly),
            MeasuredStage::KeyGenerationBare => made_by_server(Packing::Single),
            MeasuredStage::Enrol => Operation::Enroll { csr },
            // RFC 7030 §4.4.1: a request for a key by a client that has one of the server is treated as a re-enrolment.
            MeasuredStage::Renewal => match self.function {
                FleetFunction::KeyGeneration => made_by_server(Packing::CertsOnly),
                FleetFunction::KeyGenerationBare => made_by_server(Packing::Single),
                _ => Operation::Reenroll { csr },
            },
            MeasuredStage::CaCertificates | MeasuredStage::Handshake | MeasuredStage::Total => {
                Operation::CaCertificates
            }
        };
        let started = self.client.start(now, operation);
        started.err().map(|fault| self.give_up(now, &format!("cannot ask: {fault}"), into))
    }

    /// Signs the request again, with the tls-unique of the session in it (RFC 9148 §3).
    fn link_request(&mut self) -> Result<(), String> {
        if !matches!(
            self.asking,
            MeasuredStage::Enrol
                | MeasuredStage::Renewal
                | MeasuredStage::KeyGeneration
                | MeasuredStage::KeyGenerationBare
        ) {
            return Ok(());
        }
        let facts = self.client.facts().ok_or("cannot link the request: no session")?;
        if !facts.extended_master_secret {
            return Err("cannot link the request: the session has no extended master secret".to_owned());
        }
        let link = LinkingText::of(&facts.tls_unique);
        self.csr = match &self.held {
            Some(held) => renewal_csr(&held.der, &*self.script.key_of(self.index, held)?, Some(link.as_str()))?,
            None => {
                let key =
                    identities::operational_key(self.script.seed, self.script.first + self.index).map_err(unusable)?;
                let own = CsrContents::parse_as(self.csr.to_vec(), Encoding::AsIssued).map_err(unusable)?;
                identities::request(&key, own.subject(), Some(link.as_str())).map_err(unusable)?
            }
        };
        Ok(())
    }

    /// The device has a certificate: it leaves, or comes back with it.
    fn received(&mut self, now: Now, held: HeldCertificate, into: &mut Measuring<'_>) -> Option<DeviceEnd> {
        self.finish_stage(now, into);
        if self.asking == MeasuredStage::Renewal {
            into.stats.counts.renewed += 1;
        }
        if std::mem::take(&mut self.comes_back) {
            return self.come_back(now, held).err().map(|why| self.give_up(now, &why, into));
        }
        self.held = Some(held);
        Some(self.finish(now, into))
    }

    /// The device has all that it asked for.
    fn finish(&mut self, now: Now, into: &mut Measuring<'_>) -> DeviceEnd {
        let (at, took) = (self.since(into.began, now), self.since(self.scheduled, now));
        into.stats.done(self.phase, at, took);
        into.samples.push(self.sample(MeasuredStage::Total, false, at, took));
        self.leave(now, into.stats);
        DeviceEnd::Done(self.held.take())
    }

    /// Closes the session and begins another one with this certificate, for a renewal.
    fn come_back(&mut self, now: Now, held: HeldCertificate) -> Result<(), String> {
        let key = self.script.key_of(self.index, &held)?;
        self.csr = renewal_csr(&held.der, &key, None)?;
        self.client.close(now);
        while let Some(datagram) = self.client.poll_transmit() {
            self.last_words.push_back(datagram.to_vec());
        }
        self.client = self.script.connect(self.phase, (&held.der, key.pkcs8()), &self.random, now)?;
        self.held = Some(held);
        // With renewals, a function that would end with its certificate goes on to the next one.
        self.asking = self.function.returning_stage();
        self.session_begins = self.asking;
        self.enter(MeasuredStage::Handshake, now);
        Ok(())
    }

    fn leave(&mut self, now: Now, stats: &mut Stats) {
        match self.farewell {
            Farewell::Closes => return self.client.close(now),
            Farewell::FallsSilent => {}
            Farewell::CutOff => self.off = true,
        }
        stats.counts.vanished += 1;
    }

    fn enter(&mut self, stage: MeasuredStage, now: Now) {
        self.stage = stage;
        self.stage_began = now.mono;
        self.server_began = false;
    }

    fn finish_stage(&mut self, now: Now, into: &mut Measuring<'_>) {
        let took = self.since(self.stage_began, now);
        into.stats.record(self.stage, took);
        into.samples.push(self.sample(self.stage, false, self.since(into.began, now), took));
    }

    fn give_up(&mut self, now: Now, reason: &str, into: &mut Measuring<'_>) -> DeviceEnd {
        let at = self.since(into.began, now);
        self.record_failure(reason, into);
        into.stats.gave_up(self.phase, self.stage, at);
        into.samples.push(self.sample(self.stage, true, at, self.since(self.stage_began, now)));
        self.client.close(now);
        DeviceEnd::GaveUp
    }

    /// An attempt failed. One that had its ServerHello is one that the server did not finish, and not one that it never began.
    fn record_failure(&mut self, reason: &str, into: &mut Measuring<'_>) {
        into.stats.record_failure(self.stage, reason);
        into.stats.counts.cut_handshakes += u64::from(std::mem::take(&mut self.server_began));
    }

    fn sample(&self, stage: MeasuredStage, failed: bool, ended: Duration, took: Duration) -> Sample {
        Sample { device: self.script.first + self.index, phase: self.phase, stage, failed, ended, took }
    }

    fn since(&self, then: Instant, now: Now) -> Duration {
        now.mono.saturating_duration_since(then)
    }
}

/// Whether a datagram begins with a ServerHello: a plaintext record (RFC 6347 §4.1) with a handshake message (§4.2.2) of this type. A HelloVerifyRequest is another one.
fn is_server_hello(datagram: &[u8]) -> bool {
    const RECORD_HEADER_BYTES: usize = 13;
    const HANDSHAKE: u8 = 22;
    const SERVER_HELLO: u8 = 2;
    let is_plain = datagram.first() == Some(&HANDSHAKE) && datagram.get(3..5) == Some(&[0, 0]);
    is_plain && datagram.get(RECORD_HEADER_BYTES) == Some(&SERVER_HELLO)
}

/// What a new device asks for after its handshake.
/// "the Subject field [...] MUST be identical to the corresponding fields in the certificate being renewed" (RFC 7030 §4.2.2): a profile may have issued
/// another name than that of the first request.
fn renewal_csr(held: &[u8], key: &PrivateKey, link: Option<&str>) -> Result<Box<[u8]>, String> {
    let certificate = Certificate::parse(held).map_err(unusable)?;
    identities::request(key, certificate.subject(), link).map_err(unusable)
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
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
mod tests;
