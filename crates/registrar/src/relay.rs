//! The Registrar (RFC 9148 §5): the second implementation of `Authority`. It decides by the same profiles as a CA of ours, and has an upstream CA
//! issue over HTTPS (RFC 7030).
//!
//! ```text
//!  submit     CSR verified                                          ─► Refused
//!  holders    relay ledger: whose certificate is it, if relayed     ─► Refused, Later
//!  standing   ledger: lists of devices                              ─► Later
//!  decide     link, key, names: RelayPermit                         ─► Refused
//!  claim      the request is free; else it waits for that flight    ─► Later
//!  begin      relay ledger: a row with the upstream's name, durable ─► Issued (a repeat), Refused, Later
//!  send       upstream  ◄────────────────────────┐                  ─► Later (unknown: the row stays unresolved)
//!                  nothing was sent, another is healthy: begin ─┘   ─► Refused (its status; 5.02 for a wrong answer)
//!  record     relay ledger: the certificate, durable                ─► Later
//!  deliver                                                          ─► Issued
//! ```
//!
//! No step blocks. A request that was sent and has no known end never goes to another upstream: its repeat is sent to the same one again, and the
//! row says so over a restart.

mod answer;
mod answered;
mod checked;
mod client;
mod connections;
mod connector;
mod health;
mod kept_keys;
mod probe;
mod retry_after;
#[cfg(test)]
mod tests;
mod upstream;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authority::{
    Actor, Authority, Begun, Busy, Claim, Deliver, Executor, Finding, Flights, Inline, Isolate, Issued, Job, JobBatch,
    Joined, KnownRelay, Ledger, LedgerFault, MadeKey, Outcome, Random, Refusal, RefusalRecord, RelayEnd, RelayHolder,
    RelayId, RelayJob, RelayLedger, RelayPermit, RelayRecord, Relayed, RepeatWindow, Revocation, UpstreamAnswerFlaw,
    UpstreamBusy, ledger_time,
};
use pki::issue::RevocationReason;
use pki::{Certificate, Digest};
use rustls_pki_types::UnixTime;

use self::answered::Answered;
use self::health::AttemptBegan;

pub use answer::{read_ca_certificates, read_certificate, read_csr_attributes, read_key_and_certificate};
pub use client::{HttpUpstream, HttpUpstreamFault, HttpUpstreamService, HttpUpstreamSpec};
pub use connections::UPSTREAM_CONNECTIONS_MAX;
pub use health::UpstreamPool;
pub use kept_keys::KeptKeys;
pub use retry_after::retry_after;
pub use upstream::{HttpAnswer, Upstream, UpstreamFailure, UpstreamOperation, UpstreamReply, UpstreamRequest};

/// Asks upstream CAs, for profiles that [`authority::RelayProfile::compile`] made. Shared by all shards.
pub struct RelayAuthority {
    parts: RelayParts,
    isolate: Isolate,
    executor: Arc<dyn Executor>,
}

/// What a Registrar is made of.
pub struct RelayParts {
    /// The lists of devices and the audit.
    pub ledger: Arc<dyn Ledger>,
    /// What was relayed.
    pub relayed: Arc<dyn RelayLedger>,
    /// The transport.
    pub upstream: Arc<dyn Upstream>,
    /// The upstreams, in order of preference.
    pub pool: Arc<UpstreamPool>,
    /// For keys that are made here.
    pub random: Arc<dyn Random>,
    /// Requests in progress, of the process.
    pub flights: Arc<Flights>,
    /// The maximum of requests that wait for an upstream.
    pub in_flight_max: usize,
    /// How many wait, of the process: a reload begins no new count.
    pub waiting: Arc<AtomicUsize>,
    /// Keys of unresolved requests that were made here, of the process.
    pub kept_keys: Arc<KeptKeys>,
}

impl RelayAuthority {
    /// A Registrar without threads of its own.
    #[must_use]
    pub fn new(parts: RelayParts) -> Self {
        Self { parts, isolate: |step| step(), executor: Arc::new(Inline) }
    }

    /// See [`authority::CaAuthority::isolating`].
    #[must_use]
    pub fn isolating(self, isolate: Isolate) -> Self {
        Self { isolate, ..self }
    }

    /// See [`authority::CaAuthority::executing_on`].
    #[must_use]
    pub fn executing_on(self, executor: Arc<dyn Executor>) -> Self {
        Self { executor, ..self }
    }

    fn slot(&self) -> Option<UpstreamSlot> {
        let count = Arc::clone(&self.parts.waiting);
        let slot = UpstreamSlot(count);
        // The slot counts from here on, and gives itself back if there was no room.
        (slot.0.fetch_add(1, Ordering::Relaxed) < self.parts.in_flight_max).then_some(slot)
    }
}

impl fmt::Debug for RelayAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayAuthority").field("pool", &self.parts.pool).finish_non_exhaustive()
    }
}

impl<J: Send + 'static> Authority<J> for RelayAuthority {
    fn submit(self: Arc<Self>, utc: UnixTime, batch: Vec<(J, Job)>, deliver: Arc<dyn Deliver<J>>) {
        let batch = JobBatch::new(deliver, self.isolate, batch);
        let utc = match ledger_time(utc, self.parts.ledger.time()) {
            Ok(utc) => utc,
            Err(why) => {
                batch.advance(|_| Err::<(), _>(why.into()));
                return;
            }
        };
        let mut refused = Vec::new();
        let verified = batch.advance(|job| RelayJob::verify(job, utc, &mut refused));
        let submission = RelaySubmission { authority: self, utc };
        submission.audit(refused);
        submission.ask_holders(verified);
    }

    /// The upstream has to revoke the certificate; here it opens nothing any more.
    fn undelivered(&self, utc: UnixTime, issued: &Issued) {
        let revocation =
            Revocation { reason: RevocationReason::CessationOfOperation, at: utc, actor: Actor::undelivered() };
        tracing::warn!(
            device = %issued.device.id.as_str(),
            digest = %issued.digest,
            "the key of a relayed certificate did not reach its device: revoke the certificate at the upstream CA"
        );
        self.parts.relayed.mark_revoked(vec![(issued.digest, revocation)], Box::new(drop));
    }

    fn delivered(&self, issued: &Issued) {
        self.parts.relayed.delivered(vec![issued.digest]);
    }
}

/// A place among the requests that wait for an upstream.
struct UpstreamSlot(Arc<AtomicUsize>);

impl Drop for UpstreamSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One submission in progress.
#[derive(Clone)]
struct RelaySubmission {
    authority: Arc<RelayAuthority>,
    utc: UnixTime,
}

/// A permitted request on its way upstream.
struct RelayFlight<J: Send + 'static> {
    single: JobBatch<J, ()>,
    permit: RelayPermit,
    claim: Claim,
    slot: UpstreamSlot,
    /// Upstreams that could not be reached for it.
    tried: Vec<usize>,
}

/// Where a request is sent.
#[derive(Clone, Copy)]
struct Attempt {
    id: RelayId,
    upstream: usize,
    /// An earlier attempt has an unknown end: no other upstream may be asked.
    again: bool,
    began: AttemptBegan,
    /// When.
    at: UnixTime,
}

impl Attempt {
    /// What the upstream says at `at` ends this attempt. An earlier one may have been answered with a certificate that was lost. If this one may have
    /// been, the row holds until the device has come again, whatever the repeat window is: without its row, another upstream might be asked.
    fn ended(self, how: RelayEnd, at: UnixTime) -> RelayEnd {
        match how {
            RelayEnd::NotSent | RelayEnd::Refused if self.again => RelayEnd::Unknown,
            RelayEnd::Unknown => RelayEnd::unheard(at, UpstreamBusy::Silent.max_age()),
            how => how,
        }
    }
}

impl<J: Send + 'static> RelayFlight<J> {
    fn end(self, outcome: Outcome) {
        let Self { single, claim, slot, .. } = self;
        drop(slot);
        let outcome = claim.end(outcome);
        single.finish_all(&outcome);
    }

    /// Why no upstream is asked: those that were tried for it just now, or, if none was, those that failed before it came.
    fn without_upstream(&self) -> UpstreamBusy {
        if self.tried.is_empty() { UpstreamBusy::Resting } else { UpstreamBusy::Unreachable }
    }
}

impl RelaySubmission {
    fn resume(self, step: impl FnOnce(Self) + Send + 'static) {
        if self.authority.executor.is_here() {
            return step(self);
        }
        let executor = Arc::clone(&self.authority.executor);
        executor.spawn(Box::new(move || step(self)));
    }

    fn parts(&self) -> &RelayParts {
        &self.authority.parts
    }

    fn audit(&self, refused: Vec<RefusalRecord>) {
        if !refused.is_empty() {
            self.parts().ledger.refused(refused);
        }
    }

    fn ask_holders<J: Send + 'static>(self, batch: JobBatch<J, RelayJob>) {
        if batch.is_empty() {
            return;
        }
        let asked: Vec<Digest> = batch.states().filter_map(RelayJob::asks_holder).collect();
        if asked.is_empty() {
            return self.identify(batch, Ok(Vec::new()));
        }
        let (relayed, count) = (Arc::clone(&self.parts().relayed), asked.len());
        relayed
            .holders(asked, Box::new(move |answer| self.resume(move |it| it.identify(batch, one_each(answer, count)))));
    }

    fn identify<J: Send + 'static>(
        self,
        batch: JobBatch<J, RelayJob>,
        holders: Result<Vec<Option<RelayHolder>>, LedgerFault>,
    ) {
        let mut holders = match holders {
            Ok(holders) => holders.into_iter(),
            Err(fault) => return batch.finish_all(&Busy::Ledger(fault).into()),
        };
        let mut refused = Vec::new();
        let known = batch.advance(|job| {
            let holder = job.asks_holder().and_then(|_| holders.next().flatten());
            job.identify(holder, self.utc, &mut refused)
        });
        self.audit(refused);
        if known.is_empty() {
            return;
        }
        let inquiries: Vec<_> = known.states().map(KnownRelay::inquiry).collect();
        let (ledger, count) = (Arc::clone(&self.parts().ledger), inquiries.len());
        ledger.standing(
            inquiries,
            Box::new(move |answer| self.resume(move |it| it.decide(known, one_each(answer, count)))),
        );
    }

    fn decide<J: Send + 'static>(self, batch: JobBatch<J, KnownRelay>, findings: Result<Vec<Finding>, LedgerFault>) {
        let mut findings = match findings {
            Ok(findings) => findings.into_iter(),
            Err(fault) => return batch.finish_all(&Busy::Ledger(fault).into()),
        };
        let (random, mut refused) = (Arc::clone(&self.parts().random), Vec::new());
        let permitted = batch.advance(|known| {
            let finding = findings.next().ok_or(Busy::Ledger(LedgerFault::Answer))?;
            known.decide(&finding, self.utc, &*random, &mut refused)
        });
        self.audit(refused);
        self.claim(permitted);
    }

    fn claim<J: Send + 'static>(self, mut batch: JobBatch<J, RelayPermit>) {
        while let Some((single, permit)) = batch.pop() {
            let mut single = Some(single);
            let waiter = || -> authority::Waiter {
                let single = single.take();
                Box::new(move |outcome| single.into_iter().for_each(|single| single.finish_all(&outcome)))
            };
            let (flights, key) = (&self.parts().flights, permit.key());
            let joined = if permit.is_for_one_exchange() {
                // Its twin would get the same key, and the end of one exchange would decide about the certificate of both.
                let claim = flights.claim(key, permit.device(), permit.client());
                claim.map_or(Joined::Turned(Busy::InFlight), Joined::Claimed)
            } else {
                flights.join(key, permit.device(), permit.client(), waiter)
            };
            match (joined, single) {
                (Joined::Claimed(claim), Some(single)) => match self.authority.slot() {
                    Some(slot) => {
                        let at = self.utc;
                        self.clone().begin(RelayFlight { single, permit, claim, slot, tried: Vec::new() }, at);
                    }
                    None => single.finish_all(&claim.end(Busy::Upstream(UpstreamBusy::Full).into())),
                },
                (Joined::Turned(why), Some(single)) => single.finish_all(&why.into()),
                _ => {}
            }
        }
    }

    /// Writes the row for the upstream that comes next, at the time `at` of this attempt: a row in flight outlives its time from there on. A repeat
    /// of an unresolved request is found here even if no upstream is healthy.
    fn begin<J: Send + 'static>(self, flight: RelayFlight<J>, at: UnixTime) {
        self.probe(flight.permit.rules().spec().upstream_label.as_deref(), at);
        let pool = &self.parts().pool;
        let chosen = pool.choose(at, &flight.tried);
        let name = chosen.and_then(|place| pool.name(place)).or_else(|| pool.name(0)).cloned();
        let Some(name) = name else { return flight.end(Busy::Upstream(UpstreamBusy::Unreachable).into()) };
        let mut request = flight.permit.request(&name, at);
        if chosen.is_none() {
            // Nothing could be sent: only what is known already is answered.
            request.new_row = authority::NewRow::Held;
        }
        let relayed = Arc::clone(&self.parts().relayed);
        let begun = move |answer| self.resume(move |it| it.begun(flight, (chosen, at), one(answer)));
        relayed.begin(vec![request], Box::new(begun));
    }

    fn begun<J: Send + 'static>(
        self,
        mut flight: RelayFlight<J>,
        (chosen, at): (Option<usize>, UnixTime),
        answer: Result<Begun, LedgerFault>,
    ) {
        let kept_keys = &self.parts().kept_keys;
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => return flight.end(Busy::Ledger(fault).into()),
        };
        let certificates_max = flight.permit.rules().spec().certificates_per_device_max;
        let outcome: Outcome = match (answer, chosen) {
            (Begun::New(id), Some(upstream)) if flight.permit.waits().is_none() => {
                if let Some(began) = self.parts().pool.claim(upstream, at) {
                    self.keep_key(&flight, (id, upstream), at);
                    return self.send(flight, Attempt { id, upstream, again: false, began, at });
                }
                // Another request tries it meanwhile.
                self.parts().relayed.end(vec![(id, RelayEnd::NotSent)]);
                flight.tried.push(upstream);
                return self.begin(flight, at);
            }
            // A defect in the ledger: what waits must have no row.
            (Begun::New(id), _) => {
                self.parts().relayed.end(vec![(id, RelayEnd::NotSent)]);
                Busy::Ledger(LedgerFault::Answer).into()
            }
            (Begun::Unresolved { id, upstream }, _) => match self.parts().pool.place(&upstream) {
                Some(upstream) => {
                    let makes_key = flight.permit.made().is_some();
                    match kept_keys.of_row(id).filter(|_| makes_key) {
                        Some(made) => flight.permit.send_again(made),
                        None if makes_key => self.lost_key(&flight, (id, upstream), at),
                        None => {}
                    }
                    let began = self.parts().pool.repeat(upstream, at);
                    return self.send(flight, Attempt { id, upstream, again: true, began, at });
                }
                None => return self.begin_anew(flight, (id, &upstream), at),
            },
            (Begun::Waits { id, upstream, until }, _) => {
                if self.parts().pool.place(&upstream).is_none() {
                    return self.begin_anew(flight, (id, &upstream), at);
                }
                let wait = Duration::from_secs(until.as_secs().saturating_sub(at.as_secs()));
                Busy::Upstream(UpstreamBusy::Accepted { wait }).into()
            }
            (Begun::Repeat(issued), _) => Outcome::issued(issued),
            (Begun::InProgress, _) => Busy::InFlight.into(),
            (Begun::Held, _) => flight.permit.waits().unwrap_or(Busy::Upstream(flight.without_upstream())).into(),
            (Begun::ClientRevoked, _) => self.refuse(&flight, Refusal::ClientRevoked, at),
            (Begun::KeyCompromised, _) => self.refuse(&flight, Refusal::KeyCompromised, at),
            (Begun::KeyOfAnother, _) => self.refuse(&flight, Refusal::KeyOfAnotherDevice, at),
            (Begun::DeviceFull, _) => self.refuse(&flight, Refusal::DeviceFull(certificates_max), at),
            (Begun::Full, _) => Busy::Ledger(LedgerFault::Full).into(),
        };
        flight.end(outcome);
    }

    /// An operator has removed the upstream of an unresolved request: nobody can resolve its row, and the request is a new one.
    fn begin_anew<J: Send + 'static>(self, flight: RelayFlight<J>, (id, upstream): (RelayId, &str), at: UnixTime) {
        self.parts().kept_keys.forget(id);
        self.parts().relayed.end(vec![(id, RelayEnd::Refused)]);
        tracing::warn!(upstream, "the upstream CA of an unresolved request is no longer configured");
        self.begin(flight, at);
    }

    /// An exchange ended at `at` without a certificate.
    fn end_attempt(&self, attempt: Attempt, how: RelayEnd, at: UnixTime) {
        let how = attempt.ended(how, at);
        match how {
            RelayEnd::NotSent | RelayEnd::Refused => self.parts().kept_keys.forget(attempt.id),
            RelayEnd::Later { until, .. } => self.parts().kept_keys.prolong(attempt.id, until),
            RelayEnd::Unknown => {}
        }
        self.parts().relayed.end(vec![(attempt.id, how)]);
    }

    /// Keeps a key that was made here before its request is sent.
    fn keep_key<J: Send + 'static>(&self, flight: &RelayFlight<J>, (id, upstream): (RelayId, usize), at: UnixTime) {
        let Some((made, name)) = flight.permit.made().zip(self.parts().pool.name(upstream)) else { return };
        let until = flight.permit.request(name, at).window.until;
        self.parts().kept_keys.keep(id, made.clone(), (at, until));
    }

    /// The key of an unresolved request is gone: see `kept_keys.rs`.
    fn lost_key<J: Send + 'static>(&self, flight: &RelayFlight<J>, (id, upstream): (RelayId, usize), at: UnixTime) {
        tracing::warn!(
            device = %flight.permit.device().id.as_str(),
            upstream = self.parts().pool.name(upstream).map_or("", |name| name),
            row = id.as_u64(),
            "the key of a request whose end is unknown is gone (after a restart, or because too many were kept), and the device gets another one: if the \
             upstream CA has issued a certificate for the lost key, revoke it there"
        );
        self.keep_key(flight, (id, upstream), at);
    }

    fn refuse<J: Send + 'static>(&self, flight: &RelayFlight<J>, why: Refusal, at: UnixTime) -> Outcome {
        self.audit(vec![flight.permit.refused(&why, at)]);
        Outcome::Refused(why)
    }

    fn send<J: Send + 'static>(self, flight: RelayFlight<J>, attempt: Attempt) {
        let Some(name) = self.parts().pool.name(attempt.upstream).cloned() else {
            return flight.end(Busy::Upstream(UpstreamBusy::Unreachable).into());
        };
        let request = UpstreamRequest {
            upstream: name,
            operation: UpstreamOperation::Enrol(flight.permit.operation()),
            label: flight.permit.rules().spec().upstream_label.as_deref().map(Arc::from),
            csr: flight.permit.csr().to_vec(),
        };
        let upstream = Arc::clone(&self.parts().upstream);
        upstream.send(request, Box::new(move |reply| self.resume(move |it| it.replied(flight, attempt, reply))));
    }

    fn replied<J: Send + 'static>(self, mut flight: RelayFlight<J>, attempt: Attempt, reply: UpstreamReply) {
        let UpstreamReply { took, answer } = reply;
        let at = after(attempt.at, took);
        self.parts().pool.ended(attempt.upstream, attempt.began, at, &answer);
        let end = |how| self.end_attempt(attempt, how, at);
        let answer = match answer {
            Ok(answer) => answer,
            Err(UpstreamFailure::NotSent | UpstreamFailure::Crowded) => {
                end(RelayEnd::NotSent);
                if attempt.again {
                    return flight.end(Busy::Upstream(UpstreamBusy::Unreachable).into());
                }
                flight.tried.push(attempt.upstream);
                return self.begin(flight, at);
            }
            Err(UpstreamFailure::Unknown) => {
                end(RelayEnd::Unknown);
                return flight.end(Busy::Upstream(UpstreamBusy::Silent).into());
            }
            // Its status may be that of a failure after the certificate was issued, and its body may hold one.
            Err(UpstreamFailure::TooLong) => {
                end(RelayEnd::Unknown);
                let outcome = self.refuse_answer(&flight, attempt, (UpstreamAnswerFlaw::TooLong, at));
                return flight.end(outcome);
            }
        };
        let answered = Answered::read(&answer, &flight.permit, at, &*self.parts().random);
        // It may hold a key.
        drop(zeroize::Zeroizing::new(answer.body));
        match answered {
            Answered::Certificate(certificate, made) => self.record(flight, attempt, (&certificate, made, at)),
            Answered::Refused(why, how) => {
                end(how);
                let outcome = self.refuse(&flight, Refusal::Upstream(why), at);
                flight.end(outcome);
            }
            Answered::Later(busy, how) => {
                let is_open = !matches!(attempt.ended(how, at), RelayEnd::NotSent | RelayEnd::Refused);
                end(if is_open { RelayEnd::later(at, busy.max_age()) } else { how });
                flight.end(Busy::Upstream(busy).into());
            }
            Answered::Flawed(flaw, how) => {
                end(how);
                let outcome = self.refuse_answer(&flight, attempt, (flaw, at));
                flight.end(outcome);
            }
        }
    }

    fn refuse_answer<J: Send + 'static>(
        &self,
        flight: &RelayFlight<J>,
        attempt: Attempt,
        (flaw, at): (UpstreamAnswerFlaw, UnixTime),
    ) -> Outcome {
        let name = self.parts().pool.name(attempt.upstream).map_or("", |name| name);
        tracing::warn!(upstream = name, device = %flight.permit.device().id.as_str(), "nothing is passed on: {flaw}");
        self.refuse(flight, Refusal::UpstreamAnswer(flaw), at)
    }

    /// A certificate is passed on when it is durable. If the ledger cannot write it, the row is unresolved, and the repeat asks the same upstream
    /// again.
    fn record<J: Send + 'static>(
        self,
        flight: RelayFlight<J>,
        attempt: Attempt,
        (certificate, made, at): (&Certificate, Option<Arc<MadeKey>>, UnixTime),
    ) {
        let permit = &flight.permit;
        let validity = certificate.validity();
        let issued = Arc::new(Issued {
            device: permit.device().clone(),
            profile: Arc::clone(permit.profile().shared_name()),
            certificate: certificate.der().to_vec(),
            digest: certificate.digest(),
            validity,
            at,
        });
        let record = RelayRecord {
            id: attempt.id,
            issued: Arc::clone(&issued),
            serial: certificate.serial().into(),
            spki: Digest::of(certificate.spki()),
            window: RepeatWindow::new(at, permit.rules().spec().repeat_window, &validity),
        };
        let relayed = Arc::clone(&self.parts().relayed);
        relayed.record(
            vec![record],
            Box::new(move |answer| {
                self.resume(move |it| {
                    let outcome = it.recorded(&flight, attempt, (issued, made), one(answer));
                    flight.end(outcome);
                });
            }),
        );
    }

    fn recorded<J: Send + 'static>(
        &self,
        flight: &RelayFlight<J>,
        attempt: Attempt,
        (issued, made): (Arc<Issued>, Option<Arc<MadeKey>>),
        answer: Result<Relayed, LedgerFault>,
    ) -> Outcome {
        if !matches!(answer, Ok(Relayed::OfAnother) | Err(_)) {
            self.parts().kept_keys.forget(attempt.id);
        }
        match answer {
            Ok(Relayed::Second(first)) => {
                tracing::warn!(
                    device = %issued.device.id.as_str(),
                    first = %first.digest,
                    second = %issued.digest,
                    "the upstream CA issued a second certificate for one request; both are recorded"
                );
                // The first one is the answer, unless its key is in no answer any more.
                let issued = if made.is_some() { issued } else { first };
                Outcome::Issued { issued, private_key: made }
            }
            Ok(Relayed::First) => Outcome::Issued { issued, private_key: made },
            Ok(Relayed::OfAnother) => {
                // Its status said that it issued.
                self.end_attempt(attempt, RelayEnd::Unknown, issued.at);
                self.refuse_answer(flight, attempt, (UpstreamAnswerFlaw::OfAnother, issued.at))
            }
            Ok(Relayed::KeyCompromised) => self.refuse(flight, Refusal::KeyCompromised, issued.at),
            Ok(Relayed::Unknown) => Busy::Ledger(LedgerFault::Abandoned).into(),
            Err(fault) => {
                self.end_attempt(attempt, RelayEnd::Unknown, issued.at);
                Busy::Ledger(fault).into()
            }
        }
    }
}

/// The time `took` after `at`. Only a submission reads the calendar clock, which was checked for it; what follows counts from there, so that a clock
/// that is set meanwhile dates nothing.
fn after(at: UnixTime, took: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(at.as_secs().saturating_add(took.as_secs())))
}

/// An answer with the wrong number of rows counts as no answer.
fn one_each<T>(answer: Result<Vec<T>, LedgerFault>, asked: usize) -> Result<Vec<T>, LedgerFault> {
    answer.and_then(|rows| if rows.len() == asked { Ok(rows) } else { Err(LedgerFault::Answer) })
}

fn one<T>(answer: Result<Vec<T>, LedgerFault>) -> Result<T, LedgerFault> {
    one_each(answer, 1)?.pop().ok_or(LedgerFault::Answer)
}
