//! The server: its receive queue, its one core, and the authority behind it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::{Authority, CaAuthority, Collected, Deliver, Flights, Job, MemoryLedger, Outcome};
use dtls::{CookieKeys, Now};
use est::{Backlog, CertificateCache, JobId, Output, Server, ServerConfig, ServerSpec};
use pki::issue::NodePrefix;

use super::field::PowerField;
use crate::addresses::path_from;
use crate::chance::DerivedRandom;
use crate::clock::VirtualClock;
use crate::link::{SimulatedLink, Towards};
use crate::service_times::ServiceTimes;
use crate::trust::TestCa;

/// See the module.
pub(super) struct Site {
    server: Server,
    desk: Desk,
    ledger: Arc<MemoryLedger>,
    /// The receive queue, with the arrival time of each datagram.
    queue: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    queue_max: usize,
    times: ServiceTimes,
    slower: u32,
    free_at: Instant,
    tally: SiteTally,
}

/// What the server went through.
#[derive(Clone, Debug, Default)]
pub(super) struct SiteTally {
    /// Datagrams that the full receive queue dropped.
    pub(super) dropped: u64,
    /// The time for which the core was busy.
    pub(super) busy: Duration,
    /// The largest number of handshakes in progress at one time.
    pub(super) half_open_max: usize,
    /// The largest number of enrolments that waited for the authority at one time.
    pub(super) pending_max: usize,
    /// How often the server refused something, by reason.
    pub(super) refusals: BTreeMap<&'static str, u64>,
}

impl Site {
    pub(super) fn new(field: &PowerField, seed: u64, ca: &TestCa, now: Instant) -> Self {
        let random = Arc::new(DerivedRandom::new(seed, "server"));
        let cookie = CookieKeys::from_random(&*random);
        let mut spec = ServerSpec::new(ca.server().for_dtls(&random), cookie, vec![ca.profile(|_| {})]);
        spec.dtls.half_open_max = field.half_open_max;
        spec.limits.pending_max = field.pending_max;
        spec.certificates = Arc::new(CertificateCache::new(field.certificates_max));
        let config = Arc::new(ServerConfig::new(spec).expect("a configuration"));
        // Room for each device twice, so that a second certificate would be found.
        let rows_max = usize::try_from(field.devices).unwrap_or(usize::MAX).saturating_mul(2);
        let ledger = Arc::new(MemoryLedger::new(rows_max));
        let authority = CaAuthority::new(
            Arc::clone(&ledger) as Arc<dyn authority::Ledger>,
            Arc::new(ca.signer(Arc::clone(&random))),
            Arc::clone(&random) as Arc<dyn authority::Random>,
            NodePrefix::new(1),
            Arc::new(Flights::default()),
        );
        Self {
            server: Server::new(0, config, random),
            desk: Desk::new(Arc::new(authority), field.certificates_per_second),
            ledger,
            queue: VecDeque::new(),
            queue_max: field.queue_max,
            times: ServiceTimes::measured(),
            slower: field.slower,
            free_at: now,
            tally: SiteTally::default(),
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }

    pub(super) fn tally(&self) -> &SiteTally {
        &self.tally
    }

    /// A datagram reaches the receive queue.
    pub(super) fn arrive(&mut self, now: Instant, from: SocketAddr, datagram: Vec<u8>) {
        if self.queue.len() >= self.queue_max {
            self.tally.dropped += 1;
        } else {
            self.queue.push_back((now, from, datagram));
        }
    }

    /// When the core or the authority has something to do. While the core is busy, all else waits for it.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let queue = (!self.queue.is_empty()).then_some(now);
        let core = [queue, self.server.poll_timeout(), self.desk.next()].into_iter().flatten().min();
        core.map(|at| at.max(self.free_at))
    }

    /// Gives the core work if it is free: deadlines first, then an outcome of the authority, then the next datagram.
    pub(super) fn work(&mut self, clock: &VirtualClock, link: &mut SimulatedLink) {
        let now = clock.now();
        if self.free_at > now.mono {
            return;
        }
        let before = self.server.counters();
        if self.server.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.server.handle_timeout(now);
        } else if let Some((job, outcome)) = self.desk.decide(now) {
            self.server.complete(now, job, outcome);
        } else if let Some((since, from, mut datagram)) = self.queue.pop_front() {
            let backlog = if since < now.mono { Backlog::Waiting } else { Backlog::Empty };
            self.server.note_backlog(now, backlog);
            self.server.handle_datagram(now, path_from(from), &mut datagram);
        } else {
            return;
        }
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Submit(id, job) => self.desk.accept(now.mono, id, job),
                Output::PublicKey(step) => self.server.complete_public_key(now, step.run()),
                Output::Attempt(attempt) => {
                    if let Some(reason) = attempt.reason() {
                        *self.tally.refusals.entry(reason.code()).or_default() += 1;
                    }
                }
                Output::Alarm(_) | Output::Undelivered(_) | Output::Delivered(_) => {}
            }
        }
        let after = self.server.counters();
        let mut said = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            said.push((transmit.path.peer, transmit.bytes.to_vec()));
        }
        let busy = self.times.of_call(&before, &after, !said.is_empty()) * self.slower;
        self.free_at = now.mono + busy;
        self.tally.busy += busy;
        self.tally.pending_max = self.tally.pending_max.max(after.pending);
        let half_open = after.sessions.map_or(0, |sessions| sessions.half_open);
        self.tally.half_open_max = self.tally.half_open_max.max(half_open);
        for (peer, bytes) in said {
            link.send(self.free_at, Towards::Device(peer), &bytes);
        }
    }
}

/// The authority, which takes the same time for each certificate.
struct Desk {
    authority: Arc<dyn Authority<JobId>>,
    finished: Arc<Collected<JobId>>,
    takes: Duration,
    /// Jobs with the time at which each will be decided, in this order.
    waiting: VecDeque<(Instant, JobId, Job)>,
}

impl Desk {
    fn new(authority: Arc<dyn Authority<JobId>>, per_second: Option<u32>) -> Self {
        let takes = per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate);
        Self { authority, finished: Arc::default(), takes, waiting: VecDeque::new() }
    }

    fn accept(&mut self, now: Instant, id: JobId, job: Job) {
        let begins = self.waiting.back().map_or(now, |(at, ..)| *at).max(now);
        self.waiting.push_back((begins + self.takes, id, job));
    }

    fn next(&self) -> Option<Instant> {
        self.waiting.front().map(|(at, ..)| *at)
    }

    /// The outcome of the next job, once its time has passed.
    fn decide(&mut self, now: Now) -> Option<(JobId, Outcome)> {
        let (_, id, job) = self.waiting.pop_front_if(|(at, ..)| *at <= now.mono)?;
        let deliver = Arc::clone(&self.finished) as Arc<dyn Deliver<JobId>>;
        Arc::clone(&self.authority).submit(now.utc, vec![(id, job)], deliver);
        self.finished.take().pop()
    }
}
