//! One thread of a Registrar's load: requests over HTTPS (RFC 7030) that vouch for many devices under one client certificate.
//!
//! ```text
//!   schedule.due ──► request ──► HttpUpstream ──► TLS, HTTP ──► reply ──► next request of the device, or done
//!                       ▲                                        │ 202, 503: Retry-After
//!                       └────────────────────────────────────────┘
//! ```
//!
//! The schedule, the devices and the measurements are those of `fleet`; the HTTPS client is the Registrar's own (`registrar::relay`). A stage is a request;
//! there is no handshake with a device. `traffic` of the report counts requests and answers, and the bytes of their bodies. `crew` runs several of these.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use authority::{Function, MadeKey};
use net::Clock;
use pki::{Certificate, UnixTime};
use registrar::relay::{
    HttpAnswer, HttpUpstream, HttpUpstreamSpec, Upstream as _, UpstreamFailure, UpstreamOperation, UpstreamReply,
    UpstreamRequest, read_ca_certificates, read_certificate, read_csr_attributes, read_key_and_certificate,
    retry_after,
};
use rustls_pki_types::CertificateDer;
use tokio::sync::mpsc;

use crate::device::HeldCertificate;
use crate::fleet::{FleetFault, FleetRemains, FleetShared};
use crate::function::FleetFunction;
use crate::identities;
use crate::last_start::LastStart;
use crate::live::{LiveFigures, PUBLISH_EVERY};
use crate::own_time::ThreadTime;
use crate::part::Part;
use crate::plan::PhasePopulation;
use crate::run::RegistrarIdentity;
use crate::samples::{Sample, SampleBuffer};
use crate::schedule::{Schedule, Start};
use crate::stats::{MeasuredStage, Stats, micros};
use crate::strain::{Load, StrainMeter};
use crate::timers::Timers;

/// The loop publishes its figures and looks at Ctrl-C at least this often.
const TICK: Duration = Duration::from_millis(100);

/// The devices of one thread.
pub(crate) struct Vouching<'r> {
    shared: FleetShared<'r>,
    thread: usize,
    part: Part,
    schedule: Schedule,
    timers: Timers,
    at_work: HashMap<usize, Vouched>,
    held: Vec<Option<HeldCertificate>>,
    stats: Stats,
    samples: SampleBuffer,
    starts: LastStart,
    now: Instant,
    time: ThreadTime,
    strain: StrainMeter,
    next_publication: Instant,
    upstream: Arc<str>,
}

/// One device whose request is under way.
struct Vouched {
    phase: usize,
    function: FleetFunction,
    scheduled: Instant,
    stage: MeasuredStage,
    stage_began: Instant,
    csr: Vec<u8>,
    comes_back: bool,
    held: Option<HeldCertificate>,
}

/// A reply and the slot of its device.
type SlotReply = (usize, UpstreamReply);

/// What a device does after a reply.
enum Step {
    Done,
    Failed(String),
    Again(Duration),
    Ask(MeasuredStage),
}

impl<'r> Vouching<'r> {
    /// The devices of thread number `thread`.
    pub(crate) fn new(shared: FleetShared<'r>, thread: usize) -> Result<Self, FleetFault> {
        let run = shared.run;
        let part = run.segment.thread(thread, run.threads);
        let phases = &run.plan.phases;
        let beyond = phases.iter().find_map(|phase| Some((&phase.name, phase.beyond_registrar()?)));
        if let Some((phase, key)) = beyond {
            let why = format!("phase `{phase}`: a Registrar asks over HTTPS and cannot play `{key}`: leave it out");
            return Err(FleetFault::Client(why));
        }
        let slots = part.count(shared.devices);
        let now = Clock.now().mono;
        Ok(Self {
            thread,
            part,
            schedule: Schedule::new(phases, part, run.seed),
            timers: Timers::new(slots),
            at_work: HashMap::new(),
            held: if run.keep || run.plan.has_returning_devices() { vec![None; slots] } else { Vec::new() },
            stats: Stats::of_phases(phases.len()),
            samples: SampleBuffer::new(run.samples.clone()),
            starts: LastStart::default(),
            now,
            time: ThreadTime::default(),
            strain: StrainMeter::default(),
            next_publication: now,
            upstream: Arc::from(run.server.uri.as_str()),
            shared,
        })
    }

    /// Plays the devices of this thread to their end, or until the run is stopped.
    pub(crate) fn play(self, identity: &RegistrarIdentity) -> Result<FleetRemains, FleetFault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let anchors = self.shared.run.server.anchors.iter();
        let spec = HttpUpstreamSpec {
            trust: anchors.map(|anchor| CertificateDer::from(anchor.der().to_vec())).collect(),
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
            timeout: self.shared.run.patience.timeout,
        };
        let (upstream, service) = HttpUpstream::new(spec)
            .map_err(|fault| FleetFault::Client(format!("the Registrar cannot connect: {fault}")))?;
        runtime.block_on(async move {
            tokio::spawn(service.run());
            self.vouch(&upstream).await
        })
    }

    async fn vouch(mut self, upstream: &HttpUpstream) -> Result<FleetRemains, FleetFault> {
        let before = ThreadTime::now();
        // As many replies as requests are under way.
        let (sender, mut replies) = mpsc::unbounded_channel::<SlotReply>();
        while !self.schedule.is_over() && !self.shared.stop.load(Ordering::Relaxed) {
            self.now = Clock.now().mono;
            self.start_due(upstream, &sender)?;
            while let Some(slot) = self.timers.pop(self.now) {
                self.send(slot, upstream, &sender);
            }
            self.publish(before);
            let first = tokio::time::timeout(self.wait(), replies.recv()).await;
            self.now = Clock.now().mono;
            let mut next = first.ok().flatten();
            while let Some((slot, reply)) = next {
                self.take(slot, &reply, upstream, &sender);
                next = replies.try_recv().ok();
            }
        }
        self.next_publication = self.now;
        self.publish(before);
        Ok(FleetRemains {
            interrupted: !self.schedule.is_over(),
            took: self.shared.began.elapsed(),
            stats: self.stats,
            starts: self.starts,
            time: self.time,
            strain: self.strain.end(),
            part: self.part,
            held: self.held,
        })
    }

    fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.shared.began)
    }

    fn wait(&self) -> Duration {
        let timer = self.timers.next().map(|at| at.saturating_duration_since(self.now));
        let start = self.schedule.next().map(|at| at.saturating_sub(self.elapsed()));
        [timer, start].into_iter().flatten().fold(TICK, Duration::min)
    }

    fn publish(&mut self, before: ThreadTime) {
        if self.now < self.next_publication {
            return;
        }
        self.next_publication = self.now + PUBLISH_EVERY;
        let (time, elapsed) = (ThreadTime::now().since(before), self.elapsed());
        let slice = self.stats.timeline.slice(elapsed);
        slice.cpu_us += micros(time.since(self.time).cpu);
        slice.in_flight = slice.in_flight.max(u64::try_from(self.schedule.at_work()).unwrap_or(u64::MAX));
        self.time = time;
        let load = Load { phase: self.schedule.phase(), arriving: self.schedule.arrives(elapsed) };
        self.strain.note(elapsed, time, load);
        let asked = self.schedule.asked_at(elapsed);
        self.shared.board.publish(self.thread, LiveFigures::of(&self.stats, elapsed, asked, time.cpu));
    }

    fn start_due(
        &mut self,
        upstream: &HttpUpstream,
        sender: &mpsc::UnboundedSender<SlotReply>,
    ) -> Result<(), FleetFault> {
        while let Some(start) = self.schedule.due(self.elapsed()) {
            self.stats.scheduled(start.phase, start.scheduled);
            let slot = self.part.slot(start.device);
            match self.begin(start)? {
                Some(device) => {
                    self.at_work.insert(slot, device);
                    self.send(slot, upstream, sender);
                    let actual = self.shared.began.elapsed();
                    self.stats.started(start.phase, start.scheduled, actual.saturating_sub(start.scheduled));
                    self.starts = LastStart { scheduled: start.scheduled, actual };
                }
                None => {
                    self.stats.counts.starved += 1;
                    self.schedule.finished();
                }
            }
        }
        Ok(())
    }

    /// What the device of a start asks for; `None` if it has no certificate to come back with, or is still at work.
    fn begin(&self, Start { device, phase, scheduled }: Start) -> Result<Option<Vouched>, FleetFault> {
        let slot = self.part.slot(device);
        let run = self.shared.run;
        let rules = &run.plan.phases[phase];
        let function = rules.functions.of(run.seed, device);
        let scheduled = self.shared.began + scheduled;
        let begun = |stage, csr, held, comes_back| Vouched {
            phase,
            function,
            scheduled,
            stage,
            stage_began: scheduled,
            csr,
            comes_back,
            held,
        };
        match rules.population {
            PhasePopulation::New => {
                let number = self.shared.first + device;
                let identity = run.devices.get(number).ok_or(FleetFault::NoIdentity { device: number })?;
                let certifying = function.certifying_stage();
                let stage = certifying.unwrap_or(function.first_stage());
                let comes_back = rules.functions.returns(function, run.seed, device);
                Ok(Some(begun(stage, identity.csr.to_vec(), None, comes_back)))
            }
            PhasePopulation::Enrolled if !self.at_work.contains_key(&slot) => {
                let Some(held) = self.held.get(slot).and_then(Clone::clone) else { return Ok(None) };
                // A certificate that was read when it came can be renewed: if not, the fault is ours, as in `fleet`.
                let csr = self.renewal(slot, &held).map_err(FleetFault::Client)?;
                Ok(Some(begun(function.returning_stage(), csr, Some(held), false)))
            }
            PhasePopulation::Enrolled => Ok(None),
        }
    }

    fn renewal(&self, slot: usize, held: &HeldCertificate) -> Result<Vec<u8>, String> {
        let number = self.shared.first + self.part.device(slot);
        let key = match &held.key {
            Some(key) => Arc::clone(key),
            None => Arc::new(identities::operational_key(self.shared.run.seed, number).map_err(|f| f.to_string())?),
        };
        let certificate = Certificate::parse(&held.der).map_err(|fault| fault.to_string())?;
        let request = identities::request(&key, certificate.subject(), None).map_err(|fault| fault.to_string())?;
        Ok(request.into())
    }

    fn send(&mut self, slot: usize, upstream: &HttpUpstream, sender: &mpsc::UnboundedSender<SlotReply>) {
        let Some(device) = self.at_work.get(&slot) else { return };
        let operation = match device.stage {
            MeasuredStage::CaCertificates => UpstreamOperation::CaCertificates,
            MeasuredStage::CsrAttributes => UpstreamOperation::CsrAttributes,
            MeasuredStage::KeyGeneration | MeasuredStage::KeyGenerationBare => {
                UpstreamOperation::Enrol(Function::ServerKeygen)
            }
            MeasuredStage::Renewal => match device.function {
                FleetFunction::KeyGeneration | FleetFunction::KeyGenerationBare => {
                    UpstreamOperation::Enrol(Function::ServerKeygen)
                }
                _ => UpstreamOperation::Enrol(Function::SimpleReenroll),
            },
            _ => UpstreamOperation::Enrol(Function::SimpleEnroll),
        };
        let csr = if matches!(operation, UpstreamOperation::Enrol(_)) { device.csr.clone() } else { Vec::new() };
        self.stats.traffic.sent(csr.len());
        let label = self.shared.run.plan.phases[device.phase].label.as_deref().map(Arc::from);
        let request = UpstreamRequest { upstream: Arc::clone(&self.upstream), operation, label, csr };
        let sender = sender.clone();
        // The receiver lives as long as the loop that waits for this reply.
        upstream.send(request, Box::new(move |reply| drop(sender.send((slot, reply)))));
    }

    fn take(
        &mut self,
        slot: usize,
        reply: &UpstreamReply,
        upstream: &HttpUpstream,
        sender: &mpsc::UnboundedSender<SlotReply>,
    ) {
        let Some(mut device) = self.at_work.remove(&slot) else { return };
        let step = match &reply.answer {
            Ok(answer) => {
                self.stats.traffic.received(answer.body.len());
                self.step(slot, &mut device, answer, UnixTime::now())
            }
            Err(failure) => Step::Failed(describe(*failure).to_owned()),
        };
        match step {
            Step::Done => self.finish(slot, device),
            Step::Failed(why) => self.give_up(slot, &device, &why),
            Step::Again(wait) if self.now + wait >= device.scheduled + self.shared.run.patience.timeout => {
                self.give_up(slot, &device, "out of time");
            }
            Step::Again(wait) => {
                self.stats.counts.later_answers += 1;
                self.timers.arm(slot, self.now + wait);
                self.at_work.insert(slot, device);
            }
            Step::Ask(stage) => {
                (device.stage, device.stage_began) = (stage, self.now);
                self.at_work.insert(slot, device);
                self.send(slot, upstream, sender);
            }
        }
    }

    fn step(&mut self, slot: usize, device: &mut Vouched, answer: &HttpAnswer, at: UnixTime) -> Step {
        let is_request = !matches!(device.stage, MeasuredStage::CaCertificates | MeasuredStage::CsrAttributes);
        if matches!(answer.status, 202 | 503) {
            return Step::Again(retry_after(answer.retry_after.as_deref(), at));
        }
        if answer.status != 200 && !(answer.status == 204 && device.stage == MeasuredStage::CsrAttributes) {
            return Step::Failed(format!("HTTP {}", answer.status));
        }
        let by_server = matches!(device.function, FleetFunction::KeyGeneration | FleetFunction::KeyGenerationBare);
        let held = match device.stage {
            MeasuredStage::CaCertificates => read_ca_certificates(answer).map(|_| None),
            MeasuredStage::CsrAttributes => read_csr_attributes(answer).map(|_| None),
            _ if by_server => match read_key_and_certificate(answer) {
                Ok((MadeKey::Plain(key), certificate)) => {
                    Ok(Some(HeldCertificate { der: certificate.der().into(), key: Some(Arc::new(key)) }))
                }
                Ok((MadeKey::Enveloped(_), _)) => return Step::Failed("the key is encrypted and nobody asked".into()),
                Err(flaw) => Err(flaw),
            },
            _ => read_certificate(answer)
                .map(|certificate| Some(HeldCertificate { der: certificate.der().into(), key: None })),
        };
        let held = match held {
            Ok(held) => held,
            Err(flaw) => return Step::Failed(format!("unusable answer: {flaw}")),
        };
        self.finish_stage(slot, device);
        if !is_request {
            return Step::Done;
        }
        self.stats.counts.renewed += u64::from(device.stage == MeasuredStage::Renewal);
        device.held = held.or(device.held.take());
        if std::mem::take(&mut device.comes_back)
            && let Some(held) = &device.held
        {
            return match self.renewal(slot, held) {
                Ok(csr) => {
                    device.csr = csr;
                    Step::Ask(MeasuredStage::Renewal)
                }
                Err(why) => Step::Failed(why),
            };
        }
        Step::Done
    }

    fn finish_stage(&mut self, slot: usize, device: &Vouched) {
        let took = self.now.saturating_duration_since(device.stage_began);
        self.stats.record(device.stage, took);
        self.samples.push(self.sample(slot, device, device.stage, false, took));
    }

    fn finish(&mut self, slot: usize, device: Vouched) {
        let took = self.now.saturating_duration_since(device.scheduled);
        self.stats.done(device.phase, self.elapsed(), took);
        self.samples.push(self.sample(slot, &device, MeasuredStage::Total, false, took));
        let is_new = self.shared.run.plan.phases[device.phase].population == PhasePopulation::New;
        if let Some(held) = device.held {
            self.stats.counts.enrolled += u64::from(is_new);
            if let Some(place) = self.held.get_mut(slot) {
                *place = Some(held);
            }
        }
        self.schedule.finished();
    }

    fn give_up(&mut self, slot: usize, device: &Vouched, why: &str) {
        self.stats.record_failure(device.stage, why);
        self.stats.gave_up(device.phase, device.stage, self.elapsed());
        let took = self.now.saturating_duration_since(device.stage_began);
        self.samples.push(self.sample(slot, device, device.stage, true, took));
        self.schedule.finished();
    }

    fn sample(&self, slot: usize, device: &Vouched, stage: MeasuredStage, failed: bool, took: Duration) -> Sample {
        let number = self.shared.first + self.part.device(slot);
        Sample { device: number, phase: device.phase, stage, failed, ended: self.elapsed(), took }
    }
}

fn describe(failure: UpstreamFailure) -> &'static str {
    match failure {
        UpstreamFailure::NotSent => "no connection",
        UpstreamFailure::Crowded => "every connection in use",
        UpstreamFailure::Unknown => "no answer",
        UpstreamFailure::TooLong => "the answer is too long",
    }
}
