//! The network between the Registrar and its upstream CAs, in virtual time: it carries out the script of each upstream.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use authority::{Completion, Function, MemoryRelayLedger, RELAY_LIFETIME, RelayLedger as _, RelayQuery, RelayStage};
use pki::Digest;
use registrar::relay::{HttpAnswer, Upstream, UpstreamFailure, UpstreamOperation, UpstreamReply, UpstreamRequest};

use super::lies::Liar;
use super::scenario::{Treatment, UpstreamScript};
use super::upstream_ca::UpstreamCa;
use super::witness::{Known, Witness};
use crate::agenda::Agenda;
use crate::chance::Chance;
use crate::crashing::{CrashingLedger, at_once};

/// The longest time from the beginning of a request to the end of its answer: the default of the configuration.
const TIMEOUT: Duration = Duration::from_secs(30);
/// One way.
const LATENCY_LEAST: Duration = Duration::from_millis(5);
const LATENCY_MOST: Duration = Duration::from_millis(200);

/// What a late answer takes beyond the time after which its request counts as unresolved: by then the device has come again.
const LATE_LEAST: Duration = Duration::from_secs(60);
const LATE_MOST: Duration = Duration::from_secs(180);

type Answer = Result<HttpAnswer, UpstreamFailure>;

/// The upstreams of a run. They outlive the processes of the Registrar.
pub(super) struct SimulatedUpstreams {
    pub(super) agenda: Agenda,
    pub(super) liar: Liar,
    pub(super) witness: Arc<Witness>,
    pub(super) upstreams: Vec<SimulatedUpstream>,
    /// What the Registrar has recorded.
    pub(super) rows: Arc<MemoryRelayLedger>,
}

/// One upstream, and the CA that answers there.
pub(super) struct SimulatedUpstream {
    name: Arc<str>,
    script: UpstreamScript,
    ca: Arc<UpstreamCa>,
    mood: Mutex<Mood>,
}

struct Mood {
    chance: Chance,
    /// Requests that it has treated.
    treated: usize,
    /// The end of its outage.
    down_until: Option<Instant>,
}

impl SimulatedUpstream {
    pub(super) fn new(seed: u64, number: usize, script: UpstreamScript, ca: Arc<UpstreamCa>) -> Self {
        let chance = Chance::new(seed, &format!("upstream {number}"));
        let name = format!("https://upstream-{number}.muster.test/.well-known/est").into();
        Self { name, script, ca, mood: Mutex::new(Mood { chance, treated: 0, down_until: None }) }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn ca(&self) -> &Arc<UpstreamCa> {
        &self.ca
    }

    fn with<T>(&self, act: impl FnOnce(&mut Mood) -> T) -> T {
        act(&mut self.mood.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What becomes of the next request.
    fn treatment(&self, now: Instant) -> Treatment {
        self.with(|mood| {
            if mood.down_until.is_some_and(|until| now < until) {
                return Treatment::Refused;
            }
            let treatment = match self.script.first.get(mood.treated) {
                Some(first) => *first,
                None => mood.draw(self.script.then),
            };
            mood.treated += 1;
            if treatment == Treatment::Refused {
                mood.down_until = Some(now + mood.chance.between(Duration::ZERO, self.script.outage_max));
            }
            treatment
        })
    }

    fn between(&self, least: Duration, most: Duration) -> Duration {
        self.with(|mood| mood.chance.between(least, most))
    }

    fn latency(&self) -> Duration {
        self.between(LATENCY_LEAST, LATENCY_MOST)
    }

    fn retry_after(&self) -> String {
        self.between(Duration::from_secs(5), Duration::from_secs(60)).as_secs().to_string()
    }
}

impl Mood {
    fn draw(&mut self, shares: &[(u16, Treatment)]) -> Treatment {
        let mut drawn = self.chance.below(1_000);
        for (share, treatment) in shares {
            match drawn.checked_sub(u64::from(*share)) {
                None => return *treatment,
                Some(rest) => drawn = rest,
            }
        }
        Treatment::Honest
    }
}

/// A process of the Registrar, as its transport sees it.
pub(super) struct Transport {
    pub(super) upstreams: Arc<SimulatedUpstreams>,
    pub(super) process: Arc<CrashingLedger<MemoryRelayLedger>>,
    pub(super) in_flight: Arc<AtomicUsize>,
    pub(super) in_flight_max: usize,
}

/// A request that waits; one whose completion is dropped waits no longer.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream for Transport {
    fn send(&self, request: UpstreamRequest, done: Completion<UpstreamReply>) {
        let (agenda, witness) = (self.upstreams.agenda.clone(), Arc::clone(&self.upstreams.witness));
        let began = agenda.now();
        let place = self.upstreams.upstreams.iter().position(|it| it.name == request.upstream);
        let UpstreamOperation::Enrol(function) = request.operation else {
            if let Some(place) = place {
                self.upstreams.say(place, done);
            }
            return;
        };
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        let waiting = Waiting(Arc::clone(&self.in_flight));
        witness.in_flight(now, self.in_flight_max);
        let key = witness.request(function, &request.csr);
        let spki = pki::Csr::parse(request.csr.clone()).and_then(pki::Csr::verify).map(|csr| Digest::of(csr.spki()));
        let (Some(place), Some(key), Ok(spki)) = (place, key, spki) else {
            witness.broken(format!("{:?} of {} cannot be sent", request.operation, request.upstream));
            return;
        };
        let sent = witness.sent(key, spki, (place, agenda.utc()), |spki| self.upstreams.has_recorded(spki));
        let process = Arc::clone(&self.process);
        let reply = move |(answer, known): (Answer, Known)| {
            drop(waiting);
            // Nobody hears what comes after a crash.
            if process.is_alive() {
                witness.ended(sent, known);
                done(UpstreamReply { took: agenda.now() - began, answer });
            }
        };
        self.upstreams.treat(place, function, request.csr, Box::new(reply));
    }
}

impl SimulatedUpstreams {
    /// Whether the Registrar has recorded a certificate for this key.
    fn has_recorded(&self, spki: &Digest) -> bool {
        let query = RelayQuery { rows_max: usize::MAX, ..RelayQuery::default() };
        let rows = at_once(|done| self.rows.relayed(query, done)).unwrap_or_default().rows;
        rows.iter().any(|row| match &row.stage {
            RelayStage::Recorded(certificates) => certificates.iter().any(|it| it.record.spki == *spki),
            RelayStage::InFlight | RelayStage::Unresolved => false,
        })
    }

    /// Answers for its CA certificates: an upstream that swallows requests is there.
    fn say(&self, place: usize, done: Completion<UpstreamReply>) {
        let (upstream, agenda) = (&self.upstreams[place], self.agenda.clone());
        let began = agenda.now();
        let is_down = upstream.with(|mood| mood.down_until.is_some_and(|until| agenda.now() < until));
        let answer = HttpAnswer { status: 200, ..HttpAnswer::default() };
        let answer = if is_down { Err(UpstreamFailure::NotSent) } else { Ok(answer) };
        let back = upstream.latency() + upstream.latency();
        self.agenda.after(back, move || done(UpstreamReply { took: agenda.now() - began, answer }));
    }

    fn treat(self: &Arc<Self>, place: usize, function: Function, csr: Vec<u8>, reply: Completion<(Answer, Known)>) {
        let upstream = &self.upstreams[place];
        let back = upstream.latency() + upstream.latency();
        let after = |delay: Duration, reply: Completion<(Answer, Known)>, end: (Answer, Known)| {
            self.agenda.after(delay, move || reply(end));
        };
        let status = |status: u16, retry_after| {
            let content_type = Some("text/plain".to_owned());
            Ok(HttpAnswer { status, content_type, retry_after, body: b"upstream text".to_vec() })
        };
        let unheard: Completion<HttpAnswer> = Box::new(drop);
        match upstream.treatment(self.agenda.now()) {
            Treatment::Honest => self.forward(place, function, csr, self.answer_after(upstream.latency(), reply)),
            Treatment::Refused => {
                self.witness.not_sent();
                after(back, reply, (Err(UpstreamFailure::NotSent), Known::NoneOfThis));
            }
            Treatment::Lost => after(TIMEOUT, reply, (Err(UpstreamFailure::Unknown), Known::Nothing)),
            Treatment::Silent => {
                self.forward(place, function, csr, unheard);
                // The connection breaks, or the time is over.
                let wait = upstream.between(back, TIMEOUT);
                after(wait, reply, (Err(UpstreamFailure::Unknown), Known::Nothing));
            }
            Treatment::Dropped => {
                self.forward(place, function, csr, unheard);
                self.agenda.after(upstream.between(back, TIMEOUT), move || drop(reply));
            }
            Treatment::Late => {
                let wait = RELAY_LIFETIME + upstream.between(LATE_LEAST, LATE_MOST);
                self.forward(place, function, csr, self.answer_after(wait, reply));
            }
            Treatment::Accepted => {
                self.forward(place, function, csr, unheard);
                after(back, reply, (status(202, Some(upstream.retry_after())), Known::Nothing));
            }
            Treatment::Busy(code) => {
                after(back, reply, (status(code, Some(upstream.retry_after())), Known::NoneOfThis));
            }
            Treatment::Failed(code) => {
                self.forward(place, function, csr, unheard);
                after(back, reply, (status(code, None), Known::Nothing));
            }
            Treatment::Denied(code) => after(back, reply, (status(code, None), Known::None)),
            Treatment::Lie(lie) => {
                let (answer, certificates) = self.liar.answer(lie, &csr);
                self.witness.lied(certificates);
                // 200 says that it issued, and nobody sees what.
                let claims = answer.as_ref().is_ok_and(|answer| answer.status == 200);
                after(back, reply, (answer, if claims { Known::Nothing } else { Known::NoneOfThis }));
            }
        }
    }

    /// Passes the request to the CA.
    fn forward(&self, place: usize, function: Function, csr: Vec<u8>, reply: Completion<HttpAnswer>) {
        let upstream = &self.upstreams[place];
        let (ca, agenda) = (Arc::clone(&upstream.ca), self.agenda.clone());
        self.agenda.after(upstream.latency(), move || ca.post(agenda.utc(), (function, &csr), reply));
    }

    /// Passes the CA's answer back. A certificate is open until it is delivered: the Registrar may crash before it is durable.
    fn answer_after(&self, delay: Duration, reply: Completion<(Answer, Known)>) -> Completion<HttpAnswer> {
        let agenda = self.agenda.clone();
        Box::new(move |answer: HttpAnswer| {
            let known = match answer.status {
                200 => Known::Certificate,
                429 | 503 => Known::NoneOfThis,
                400..500 => Known::None,
                _ => Known::Nothing,
            };
            agenda.after(delay, move || reply((Ok(answer), known)));
        })
    }
}
