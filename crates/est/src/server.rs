//! The EST-coaps server of one shard: DTLS sessions, a CoAP peer for each session that is not idle, the resource table,
//! and the jobs that wait for the authority.
//!
//! ```text
//!   datagram ──► dtls::Endpoint ──Data──► coap::server::Peer ──whole request──► resource table
//!                    ▲   │                        ▲                              │       │
//!                    │   └─ Established, Refused ─┼──► Output::Attempt           │       └─ crts, att, core: answered now
//!                    │                            │                              ▼
//!                    └────────── records ◄── Outbox ◄── complete(JobId) ◄── Output::Submit(JobId, Job)
//! ```
//!
//! A shell drives it: it hands in datagrams, the time and outcomes, then calls `poll_transmit` and `poll_output` until
//! both are empty, and sleeps until `poll_timeout`. The server reads no clock, opens no socket, and decides nothing
//! about certificates: the authority does, on whatever thread the shell runs it.

mod attempt;
mod backlog;
mod far_deadlines;
mod jitter;
mod live;
mod places;
mod request;
mod sent_away;
mod slots;
mod throughput;
mod waiting;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use authority::{Issued, Outcome, ShownDevice};
use coap::Outbox;
use dtls::{Admission, Closed, Endpoint, Event, Now, Path, Random, SessionId, TraceEvent, Transmit};

use crate::config::ServerConfig;
use crate::reason::Reason;
use crate::verify::{PeerDevice, PeerVerifier};
use attempt::AttemptBuilder;
use backlog::Pace;
use live::{KeyEnd, Sessions};
use places::WaitingPlace;
use sent_away::SentAway;
use throughput::Throughput;
use waiting::{Asker, Waited};

pub use attempt::{Attempt, Counters, Notice, OFFERED_BYTES_MAX, Success};
pub use backlog::Backlog;
pub use jitter::Jitter;
pub use live::JobId;

/// A suspended public-key step of a handshake.
pub type PublicKeyJob = dtls::PublicKeyJob<PeerVerifier>;
/// Its result.
pub type PublicKeyDone = dtls::PublicKeyDone<PeerVerifier>;

/// Sessions whose deadline one call serves: this takes less than a millisecond, then datagrams are handled.
const TIMEOUTS_PER_CALL_MAX: usize = 256;

/// Slots that one call visits to close their sessions.
const SWEPT_PER_CALL_MAX: u32 = 256;

/// The capacity that an emptied output queue keeps.
const OUTPUTS_KEPT: usize = 256;

/// The position of a walk over all sessions. Slots are walked in order; a session that is created behind the position
/// while the shard stops is closed as soon as it is established.
#[derive(Clone, Copy)]
struct Sweep {
    since: Instant,
    /// The next slot.
    next: u32,
    spares: Spares,
}

/// Sessions that a sweep does not close.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spares {
    Occupied,
    Nobody,
}

// With a 16-byte index entry and one pointer of ours, an idle session stays below 320 bytes. There are a million of
// them: this checks the peer type of the real verifier, not of a stand-in (D93).
const _: () = assert!(Endpoint::<PeerVerifier>::SLOT_BYTES + 16 + 8 <= 320);

/// What the shell has to do for the server.
pub enum Output {
    /// Hand this job to the authority, and its outcome to [`Server::complete`].
    Submit(JobId, authority::Job),
    /// Run this anywhere, and hand the result to [`Server::complete_public_key`].
    PublicKey(PublicKeyJob),
    /// A peer attempted something: log it, count it, store it.
    Attempt(Attempt),
    /// Report this to the operator at once.
    Alarm(Alarm),
    /// The key of this certificate has not reached its device: tell the authority ([`authority::Authority::undelivered`]).
    Undelivered(Arc<Issued>),
    /// The key of this certificate has reached its device: tell the authority ([`authority::Authority::delivered`]).
    Delivered(Arc<Issued>),
}

impl From<KeyEnd> for Output {
    fn from(end: KeyEnd) -> Self {
        match end {
            KeyEnd::Delivered(issued) => Self::Delivered(issued),
            KeyEnd::Undelivered(issued) => Self::Undelivered(issued),
        }
    }
}

/// An event that does not belong to one attempt. The source limits the rate of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Forged records arrive at a high rate; the last one had this source address, which may be forged too.
    Forgeries(SocketAddr),
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Forgeries(peer) => write!(
                out,
                "forged records arrive at a high rate, the last with the address of {peer}: a session ends at its limit (SECURITY.md)"
            ),
        }
    }
}

/// A handle of the configuration whose counter is on a cache line of its own: the shards of a server are made one after the other by one thread, so that
/// their small allocations are neighbours.
#[repr(align(128))]
struct OwnHandle(Arc<ServerConfig>);

impl Deref for OwnHandle {
    type Target = ServerConfig;

    fn deref(&self) -> &ServerConfig {
        &self.0
    }
}

/// The state of one shard.
pub struct Server {
    shard: u16,
    /// A handle of this shard alone: it is cloned for each datagram, and the counter of a handle that shards share would be a cache line that all of
    /// them write.
    config: Arc<OwnHandle>,
    endpoint: Endpoint<PeerVerifier>,
    coap: coap::server::Shared,
    sessions: Sessions,
    outbox: Outbox,
    outputs: VecDeque<Output>,
    counters: Counters,
    jitter: Jitter,
    sent_away: SentAway,
    throughput: Throughput,
    observer: Option<Arc<dyn dtls::Observer>>,
    /// Sessions that still have to be visited because the shard stops.
    sweep: Option<Sweep>,
    admission: Admission,
    pace: Pace,
    /// In the order of their `SocketIndex`.
    addresses: Box<[SocketAddr]>,
}

impl Server {
    /// An empty shard. Each [`JobId`] contains `shard`.
    #[must_use]
    pub fn new(shard: u16, config: Arc<ServerConfig>, random: Arc<dyn Random>) -> Self {
        let mut seeds = [[0; 8]; 2];
        for seed in &mut seeds {
            random.fill(seed);
        }
        let [coap_seed, jitter_seed] = seeds.map(u64::from_be_bytes);
        Self {
            shard,
            endpoint: Endpoint::new(Arc::clone(&config.dtls), random),
            coap: coap::server::Shared::new(config.coap, coap_seed),
            sessions: Sessions::default(),
            outbox: Outbox::new(),
            outputs: VecDeque::new(),
            counters: Counters::default(),
            jitter: Jitter::new(jitter_seed),
            sent_away: SentAway::default(),
            throughput: Throughput::default(),
            observer: None,
            sweep: None,
            admission: Admission::Open,
            pace: Pace::default(),
            addresses: Box::default(),
            config: Arc::new(OwnHandle(config)),
        }
    }

    /// The addresses that the shell listens on, in the order of their `SocketIndex`: discovery writes absolute links for
    /// those whose port is not that of coaps. Without them it writes paths.
    pub fn set_addresses(&mut self, addresses: &[SocketAddr]) {
        self.addresses = addresses.into();
    }

    /// Reports once a turn, before datagrams are handed in, whether work waits for this server. While the server is
    /// behind, it begins few new handshakes, and so it does while it has sent away nearly as many devices as it can remember; a
    /// shell that never calls this gets no such limit.
    pub fn note_backlog(&mut self, now: Now, backlog: Backlog) {
        let admission = match self.pace.admission(now.mono, backlog) {
            Admission::Open if self.config.certificates.is_crowded(now.mono) => Admission::Behind,
            admission => admission,
        };
        if self.admission != Admission::Draining && self.admission != admission {
            self.admission = admission;
            self.endpoint.refuse_new(now, admission);
        }
    }

    /// Handles one datagram; records in it are decrypted in place.
    pub fn handle_datagram(&mut self, now: Now, path: Path, datagram: &mut [u8]) {
        self.endpoint.handle_datagram(now, path, datagram);
        self.drain_events(now, datagram);
    }

    /// Handles every deadline that has passed: retransmissions of both layers, expiry, empty acknowledgements,
    /// draining.
    pub fn handle_timeout(&mut self, now: Now) {
        self.endpoint.handle_timeout(now);
        self.drain_events(now, &[]);
        for _ in 0..TIMEOUTS_PER_CALL_MAX {
            let Some(session) = self.sessions.next_due(now.mono) else { break };
            self.serve_timeout(now, session);
        }
        self.sweep(now);
    }

    /// When [`Server::handle_timeout`] has something to do: a time in the past if a call has left work for the next
    /// one.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sweep = self.sweep.map(|sweep| sweep.since);
        [self.endpoint.poll_timeout(), self.sessions.poll_timeout(), sweep].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        self.endpoint.poll_transmit()
    }

    /// The next output for the shell.
    pub fn poll_output(&mut self) -> Option<Output> {
        let job = self.endpoint.poll_public_key_job().map(Output::PublicKey);
        let output = job.or_else(|| self.outputs.pop_front());
        let output = output.or_else(|| self.sessions.next_key_end().map(Output::from));
        if output.is_none() && self.outputs.capacity() > OUTPUTS_KEPT {
            self.outputs.shrink_to(OUTPUTS_KEPT);
        }
        output
    }

    /// Takes the outcome of a job. An outcome for a session that is gone, or for an exchange that its client abandoned,
    /// is dropped and counted: the certificate is in the ledger, and the same request yields it again.
    pub fn complete(&mut self, now: Now, job: JobId, outcome: Outcome) {
        let waited = self.sessions.take_waiting(job);
        self.throughput.note_left(now.mono, self.sessions.pending());
        if let (Some(waited), Outcome::Issued { private_key, .. }) = (&waited, &outcome) {
            let Asker { certificate, request, place, ahead, since, .. } = waited.asker();
            // A repetition is answered from what is known, past the queue.
            if place != WaitingPlace::ForRepeats {
                self.throughput.note_issued(ahead, now.mono.saturating_duration_since(since));
            }
            // A request whose key is made here is never a repeat.
            self.config.certificates.note_issued(&certificate, private_key.is_none().then_some(request));
        }
        match waited {
            Some(Waited::Present(waiting)) => self.answer(now, job, &waiting, outcome),
            Some(Waited::Orphan(_)) | None => {
                self.counters.stale_outcomes += 1;
                if let Outcome::Issued { issued, private_key: Some(_) } = outcome {
                    self.outputs.push_back(Output::Undelivered(issued));
                }
            }
        }
    }

    /// Takes the result of a public-key step.
    pub fn complete_public_key(&mut self, now: Now, done: PublicKeyDone) {
        self.endpoint.complete_public_key_job(now, done);
        self.drain_events(now, &[]);
    }

    /// Replaces the configuration for everything that begins from now on; sessions stay, and an enrolment in progress
    /// keeps its profile.
    pub fn set_config(&mut self, config: Arc<ServerConfig>) {
        self.endpoint.set_config(Arc::clone(&config.dtls));
        self.coap.set_config(config.coap);
        self.config = Arc::new(OwnHandle(config));
    }

    /// Begins to stop: no new handshakes and no new enrolments. Sessions that wait for nothing are closed at once, the
    /// others once their client has had time to fetch the answer. One call visits a bounded number of sessions, and
    /// [`Server::handle_timeout`] visits the rest.
    pub fn drain(&mut self, now: Now) {
        self.admission = Admission::Draining;
        self.endpoint.refuse_new(now, Admission::Draining);
        self.sweep = Some(Sweep { since: now.mono, next: 0, spares: Spares::Occupied });
        self.sweep(now);
    }

    /// Whether [`Server::drain`] was called and no session is left to wait for.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.admission == Admission::Draining && self.endpoint.counts().established == 0
    }

    /// Closes every session, even one that waits for an answer: some at once, and more with each
    /// [`Server::handle_timeout`], until [`Server::is_sweeping`] reports that all have been visited.
    pub fn close_all(&mut self, now: Now) {
        self.sweep = Some(Sweep { since: now.mono, next: 0, spares: Spares::Nobody });
        self.sweep(now);
    }

    /// Whether sessions still have to be visited after [`Server::drain`] or [`Server::close_all`].
    #[must_use]
    pub fn is_sweeping(&self) -> bool {
        self.sweep.is_some()
    }

    /// The counters so far, and the present number of sessions and jobs.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: Some(self.endpoint.counts()),
            pending: self.sessions.pending(),
            coap: self.coap.counters(),
            ..self.counters
        }
    }

    /// Datagrams that the DTLS layer dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> &dtls::DropCounters {
        self.endpoint.drops()
    }

    /// The path to the client of a job, as long as its session exists.
    #[must_use]
    pub fn peer(&self, job: JobId) -> Option<SocketAddr> {
        self.endpoint.path(job.session).map(|path| path.peer)
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config.0
    }

    /// Sets the observer of the DTLS layer's event stream.
    pub fn set_observer(&mut self, observer: Option<Arc<dyn dtls::Observer>>) {
        self.observer.clone_from(&observer);
        self.endpoint.set_observer(observer);
    }

    fn drain_events(&mut self, now: Now, datagram: &[u8]) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                Event::Data { session, plaintext } => {
                    if let Some(plaintext) = datagram.get(plaintext) {
                        self.handle_message(now, session, plaintext);
                    }
                }
                Event::Established { session, path, peer, facts, server_name, narrowed_to, elapsed } => {
                    self.counters.handshakes += 1;
                    let device = self.identify(&peer);
                    let mut notices = self.notices(now, &peer, server_name);
                    notices.extend(narrowed_to.map(Notice::NarrowPath));
                    let attempt = AttemptBuilder::success(Success::Handshake)
                        .device(device)
                        .offered_name(facts.suite.name())
                        .notices(notices)
                        .elapsed(elapsed);
                    self.outputs.push_back(Output::Attempt(attempt.of(path)));
                    if self.admission == Admission::Draining {
                        self.close(now, session);
                    }
                }
                Event::Closed { session, path, peer, why } => {
                    self.sessions.forget(session);
                    self.config.certificates.note_ended(peer.certificate());
                    self.note_end(now, path, &peer, why);
                }
                Event::ForgeryAlarm { path, .. } => {
                    self.outputs.push_back(Output::Alarm(Alarm::Forgeries(path.peer)));
                }
                Event::Refused { path, refusal, account, further, offered, narrowed_to, elapsed } => {
                    self.counters.handshakes_refused += 1;
                    let attempt = AttemptBuilder::refusal(Reason::from(&refusal))
                        .offered(offered.to_string())
                        .detail(account.detail.or_else(|| attempt::handshake_detail(&refusal, narrowed_to)))
                        .claimed(account.claimed)
                        .further(further.iter().map(Reason::from).collect())
                        .elapsed(elapsed);
                    self.report(now, path, attempt);
                }
            }
        }
    }

    /// Reports a session that ended abnormally. Each of these follows a handshake of an authenticated device, so there
    /// are at most as many reports as such handshakes.
    fn note_end(&mut self, now: Now, path: Path, peer: &PeerDevice, why: Closed) {
        let Some(reason) = Reason::of_session(why) else { return };
        let attempt = AttemptBuilder::refusal(reason).device(self.identify(peer)).detail(attempt::session_detail(why));
        self.report(now, path, attempt);
    }

    /// Outputs a refusal, and writes the same reason to the trace.
    fn report(&mut self, now: Now, path: Path, attempt: AttemptBuilder) {
        let attempt = attempt.of(path);
        if let (Some(observer), Err(reason)) = (&self.observer, attempt.outcome) {
            let event = TraceEvent::Failed { reason: reason.code(), detail: attempt.detail.as_deref() };
            observer.observe(now, Some(path), &event);
        }
        self.outputs.push_back(Output::Attempt(attempt));
    }

    /// Visits the next sessions that have to be closed.
    fn sweep(&mut self, now: Now) {
        let Some(sweep) = self.sweep else { return };
        let end = self.endpoint.slot_count();
        let next = sweep.next.saturating_add(SWEPT_PER_CALL_MAX).min(end);
        let sessions: Vec<SessionId> = self.endpoint.sessions_in(sweep.next..next).collect();
        for session in sessions {
            if sweep.spares == Spares::Occupied && self.sessions.is_occupied(session) {
                self.settle(now, session);
            } else {
                self.close(now, session);
            }
        }
        self.sweep = (next < end).then_some(Sweep { next, ..sweep });
    }

    fn serve_timeout(&mut self, now: Now, session: SessionId) {
        let Some(live) = self.sessions.find(session) else { return };
        self.outbox.clear();
        live.peer.handle_timeout(now.mono, &mut self.coap, &mut self.outbox);
        self.flush(now, session);
        self.settle(now, session);
    }

    /// Sends the output of the CoAP layer: one message, one record, one datagram.
    fn flush(&mut self, now: Now, session: SessionId) {
        for message in self.outbox.iter() {
            if self.endpoint.send(now, session, message).is_err() {
                self.counters.unsent += 1;
            }
        }
        // A key is encrypted in place for the wire: this was the last plain copy beside the one that is kept for duplicates.
        if self.outbox.is_secret() {
            self.outbox.clear();
        }
    }

    /// Call it after any change to a session: updates its deadline, drops its state if it is idle, and closes it while
    /// draining if nothing waits.
    fn settle(&mut self, now: Now, session: SessionId) {
        let draining = self.admission == Admission::Draining;
        if let Some(occupation) = self.sessions.changed_occupation(session, self.config.dtls.limits.sessions_max) {
            self.endpoint.occupy(now, session, occupation);
        }
        if self.sessions.settle(session, now.mono, draining) == live::SessionFate::Close {
            self.close(now, session);
        }
    }

    /// What is accepted, but reported to the operator.
    fn notices(&self, now: Now, peer: &PeerDevice, server_name: Option<Box<str>>) -> Vec<Notice> {
        let unknown = server_name.filter(|name| !self.config.bears(name)).map(Notice::of_server_name);
        let certificate = self.config.certificates.find(peer.certificate());
        let expired = certificate.is_some_and(|it| now.utc > it.certificate.validity().not_after);
        unknown.into_iter().chain(expired.then_some(Notice::ExpiredIdentity)).collect()
    }

    fn close(&mut self, now: Now, session: SessionId) {
        self.sessions.forget(session);
        self.endpoint.close(now, session);
    }

    /// The device identity by the rule of the first profile that accepts the origin of its certificate.
    fn identify(&self, peer: &PeerDevice) -> Option<ShownDevice> {
        let authenticated = self.config.certificates.find(peer.certificate())?;
        let mut profiles = self.config.profiles();
        profiles.find_map(|profile| profile.device_shown(&authenticated.certificate, &authenticated.anchor))
    }
}
