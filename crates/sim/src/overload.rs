//! A simulation with a model of service time, for more devices than one core can serve.
//!
//! In the other simulations the server's computations take no time. Here each datagram occupies the server's one core for as long as on a
//! real core, as `cargo xtask bench service` has measured it ([`ServiceTimes`]), multiplied by `SLOWER`, so that a few hundred devices overload
//! it. Meanwhile datagrams wait in a receive queue, which drops them when it is full, as a socket does. Devices arrive at a steady rate, enrol once
//! and close.
//!
//! ```text
//!   new device every 1/rate ──► link ──► queue (bounded) ──► core: busy for the cost of the datagram's work ──► link
//! ```

mod curve;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::{Authority, CaAuthority, Collected, Deliver, Flights, Job, MemoryLedger};
use dtls::{CookieKeys, DropReason, Path, SocketIndex};
use est::{
    Backlog, Client, ClientConfig, ClientEvent, DtlsConfig, Failure, JobId, Operation, Output, Reason, Server,
    ServerConfig, ServerSpec, Success,
};
use pki::issue::NodePrefix;

use crate::chance::{Chance, DerivedRandom};
use crate::clock::VirtualClock;
use crate::service_times::ServiceTimes;
use crate::trust::{SERVER_NAME, TestCa, TestIdentity};

pub use self::curve::{CURVE_TIME, CurvePoint, curve, curve_crowd};

/// The factor by which a real core is faster than the modelled one.
const SLOWER: u32 = 200;
/// Datagrams that the receive queue holds.
const QUEUE_MAX: usize = 256;
/// The delay of a datagram, one way.
const DELAY: Duration = Duration::from_millis(20);

/// Whether the shell tells the server how much work waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// The shell calls [`Server::note_backlog`].
    Tells,
    /// The shell does not, and the server starts every handshake that is requested.
    Silent,
}

/// The load on the server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Rate at which devices start, in multiples of [`capacity`].
    pub offered: f64,
    /// ClientHellos without a cookie from spoofed addresses, in multiples of the rate that the core could handle if it did nothing else.
    pub flood: f64,
    /// Duration of the run.
    pub time: Duration,
    /// How the server is driven.
    pub shell: Shell,
    /// Limits of the authority and a time without devices; `None` if the authority answers at once.
    pub storm: Option<Storm>,
}

/// Devices arrive, then none for a while, then devices again. An authority that is slower than the core decides about one request at a time, and devices
/// that are sent away do not return.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// The time of one decision.
    pub decision: Duration,
    /// Requests that may wait for the authority.
    pub pending_max: usize,
    /// When no device starts.
    pub silence: (Duration, Duration),
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outturn {
    /// Devices that started.
    pub devices: u32,
    /// Devices that have their certificate.
    pub enrolled: u32,
    /// Handshakes and requests that the server refused, and sessions that devices lost before they had their certificate.
    pub cut_off: usize,
    /// Hellos that the server turned away.
    pub refused: u32,
    /// Datagrams that the full receive queue dropped.
    pub dropped: usize,
    /// Handshakes that are not finished at the end.
    pub unfinished: usize,
    /// From the hello that began a handshake to its end: 99 of 100 took no longer.
    pub handshake_p99: Duration,
    /// From a device's start to its certificate.
    pub total_p50: Duration,
    /// The same.
    pub total_p99: Duration,
    /// A device's hello finds a place when it starts, or when it repeats it. How long it took at most from the last such time to the certificate.
    pub after_hello_max: Duration,
    /// When devices were sent away, and their Max-Age in seconds.
    pub sent_away: Vec<(Duration, u32)>,
}

/// Devices and their requests, used in several runs.
pub struct Crowd {
    ca: TestCa,
    devices: Vec<(TestIdentity, Vec<u8>)>,
}

impl Crowd {
    /// A crowd of `devices` devices.
    #[must_use]
    pub fn new(seed: u64, devices: u32) -> Self {
        let ca = TestCa::new(seed);
        let devices = (1..=devices).map(|number| {
            let device = ca.device(number);
            let csr = ca.request(device.certificate.subject()).csr;
            (device, csr)
        });
        let devices = devices.collect();
        Self { ca, devices }
    }
}

/// The most enrolments per second that the modelled core can serve.
#[must_use]
pub fn capacity() -> f64 {
    1.0 / (ServiceTimes::measured().enrolment() * SLOWER).as_secs_f64()
}

enum Destination {
    Server,
    Device,
}

struct OverloadRun<'c> {
    crowd: &'c Crowd,
    load: Load,
    clock: VirtualClock,
    start: Instant,
    server: Server,
    authority: Arc<dyn Authority<JobId>>,
    finished: Arc<Collected<JobId>>,
    /// Requests that wait for an authority that takes its time, and when it is free.
    waiting: VecDeque<(JobId, Job)>,
    decides_at: Instant,
    random: Arc<DerivedRandom>,
    clients: Vec<Option<Client>>,
    timers: BTreeSet<(Instant, usize)>,
    armed: Vec<Option<Instant>>,
    link: BTreeMap<(Instant, u64), (Destination, usize, Vec<u8>)>,
    sent: u64,
    /// The receive queue, with the arrival time of each datagram.
    queue: VecDeque<(Instant, usize, Vec<u8>)>,
    free_at: Instant,
    /// A hello without a cookie, of which the flood sends copies.
    hello: Vec<u8>,
    chance: Chance,
    flooded: usize,
    times: ServiceTimes,
    /// When each device started.
    started: Vec<Instant>,
    handshakes: Vec<Duration>,
    totals: Vec<Duration>,
    outturn: Outturn,
}

/// Starts devices, and floods the server if the load contains a flood.
///
/// # Panics
/// If there are too few devices, or something cannot be configured.
#[must_use]
pub fn run(crowd: &Crowd, load: Load) -> Outturn {
    let clock = VirtualClock::start();
    let start = clock.now().mono;
    let mut run = OverloadRun::new(crowd, clock, load);
    let between = Duration::from_secs_f64(1.0 / (capacity() * load.offered));
    let mut next_device = start;
    let between_floods = (load.flood > 0.0).then(|| (run.times.cookieless * SLOWER).div_f64(load.flood));
    let mut next_flood = between_floods.map(|_| start);
    loop {
        let turn = (!run.queue.is_empty() || run.server_is_due()).then_some(run.free_at);
        let link = run.link.keys().next().map(|(at, _)| *at);
        let timer = run.timers.first().map(|(at, _)| *at);
        // While the core is busy, an expired deadline waits for it.
        let sleeping = run.server.poll_timeout().map(|at| at.max(run.free_at));
        let decision = (!run.waiting.is_empty()).then_some(run.decides_at.max(run.free_at));
        let next =
            [turn, link, timer, sleeping, decision, next_flood].into_iter().flatten().fold(next_device, Instant::min);
        run.clock.advance_to(next);
        let now = run.clock.now().mono;
        if now - start >= load.time {
            return run.ended();
        }
        if next_device <= now {
            run.set_out();
            next_device += between;
            let silence =
                load.storm.map(|storm| storm.silence).filter(|(from, to)| (*from..*to).contains(&(now - start)));
            if let Some((_, ends)) = silence {
                next_device = start + ends;
            }
        }
        if let (Some(at), Some(between)) = (&mut next_flood, between_floods)
            && *at <= now
        {
            // At random intervals, so that the flood does not run in step with the core.
            *at += run.chance.between(Duration::ZERO, between * 2);
            run.flood(now);
        }
        run.deliver(now);
        run.time_out(now);
        run.work(now);
    }
}

impl<'c> OverloadRun<'c> {
    fn new(crowd: &'c Crowd, clock: VirtualClock, load: Load) -> Self {
        let random = Arc::new(DerivedRandom::new(1, "overload"));
        let identity = crowd.ca.server().for_dtls(&random);
        let profile = crowd.ca.profile(|_| {});
        let mut spec = ServerSpec::new(identity, CookieKeys::from_random(&*random), vec![profile]);
        if let Some(storm) = load.storm {
            spec.limits.pending_max = storm.pending_max;
        }
        let config = Arc::new(ServerConfig::new(spec).expect("a configuration"));
        let authority = CaAuthority::new(
            Arc::new(MemoryLedger::new(crowd.devices.len() * 2)),
            Arc::new(crowd.ca.signer(Arc::clone(&random))),
            Arc::clone(&random) as Arc<dyn authority::Random>,
            NodePrefix::new(1),
            Arc::new(Flights::default()),
        );
        OverloadRun {
            crowd,
            load,
            start: clock.now().mono,
            waiting: VecDeque::new(),
            decides_at: clock.now().mono,
            server: Server::new(0, config, Arc::clone(&random) as Arc<dyn dtls::Random>),
            authority: Arc::new(authority),
            finished: Arc::default(),
            random,
            clients: Vec::new(),
            timers: BTreeSet::new(),
            armed: Vec::new(),
            link: BTreeMap::new(),
            sent: 0,
            queue: VecDeque::new(),
            free_at: clock.now().mono,
            hello: Vec::new(),
            chance: Chance::new(1, "flood"),
            flooded: 0,
            times: ServiceTimes::measured(),
            started: Vec::new(),
            handshakes: Vec::new(),
            totals: Vec::new(),
            outturn: Outturn::default(),
            clock,
        }
    }

    fn ended(mut self) -> Outturn {
        let drops = self.server.drops();
        let refused: u64 = TURNED_AWAY.iter().map(|reason| drops.count(*reason)).sum();
        self.outturn.refused = u32::try_from(refused).expect("a run of some seconds");
        self.outturn.unfinished = self.server.counters().sessions.map_or(0, |sessions| sessions.half_open);
        self.outturn.handshake_p99 = percentile(&mut self.handshakes, 99);
        self.outturn.total_p50 = percentile(&mut self.totals, 50);
        self.outturn.total_p99 = percentile(&mut self.totals, 99);
        self.outturn
    }

    /// Starts the next device.
    fn set_out(&mut self) {
        let (identity, _) = &self.crowd.devices[self.clients.len()];
        let name = pki::DnsName::try_from(SERVER_NAME).expect("a DNS name").to_owned();
        let anchors = vec![Arc::clone(self.crowd.ca.root())];
        let verifier = est::ServerVerifier::new(anchors, pki::ServerName::DnsName(name)).expect("a root is an anchor");
        let dtls = DtlsConfig::new(Some(identity.for_dtls(&self.random)), Arc::new(verifier));
        let random = Arc::clone(&self.random) as Arc<dyn dtls::Random>;
        let client = Client::new(Arc::new(ClientConfig::default()), Arc::new(dtls), random, self.clock.now());
        self.clients.push(Some(client));
        self.started.push(self.clock.now().mono);
        self.armed.push(None);
        self.outturn.devices += 1;
        self.attend(self.clients.len() - 1);
    }

    fn send(&mut self, at: Instant, towards: Destination, device: usize, bytes: Vec<u8>) {
        self.sent += 1;
        self.link.insert((at + DELAY, self.sent), (towards, device, bytes));
    }

    /// Delivers the datagrams that have arrived.
    fn deliver(&mut self, now: Instant) {
        while let Some(entry) = self.link.first_entry().filter(|entry| entry.key().0 <= now) {
            let (towards, device, mut bytes) = entry.remove();
            match towards {
                Destination::Server => self.arrive(now, device, bytes),
                Destination::Device => {
                    if let Some(client) = self.clients.get_mut(device).and_then(Option::as_mut) {
                        client.handle_datagram(self.clock.now(), &mut bytes);
                        self.attend(device);
                    }
                }
            }
        }
    }

    fn arrive(&mut self, now: Instant, device: usize, bytes: Vec<u8>) {
        if self.queue.len() >= QUEUE_MAX {
            self.outturn.dropped += 1;
        } else {
            self.queue.push_back((now, device, bytes));
        }
    }

    /// Sends one more hello from an address of its own.
    fn flood(&mut self, now: Instant) {
        self.flooded += 1;
        self.arrive(now, NOBODY + self.flooded, self.hello.clone());
    }

    fn time_out(&mut self, now: Instant) {
        while let Some((_, device)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            if let Some(client) = &mut self.clients[device] {
                client.handle_timeout(self.clock.now());
            }
            self.attend(device);
        }
    }

    fn server_is_due(&self) -> bool {
        self.server.poll_timeout().is_some_and(|at| at <= self.clock.now().mono)
    }

    /// Gives the core work if it is free: deadlines first, then the next datagram.
    fn work(&mut self, now: Instant) {
        if self.free_at > now {
            return;
        }
        let before = self.server.counters();
        if self.server_is_due() {
            self.server.handle_timeout(self.clock.now());
        } else if let Some((since, device, mut bytes)) = self.queue.pop_front() {
            if self.load.shell == Shell::Tells {
                let backlog = if since < now { Backlog::Waiting } else { Backlog::Empty };
                self.server.note_backlog(self.clock.now(), backlog);
            }
            self.server.handle_datagram(self.clock.now(), path(device), &mut bytes);
        } else if let Some((id, job)) = self.next_decision(now) {
            self.decides_at = now + self.load.storm.map_or(Duration::ZERO, |storm| storm.decision);
            self.decide(id, job);
        } else {
            return;
        }
        self.finish(&before, now);
    }

    fn next_decision(&mut self, now: Instant) -> Option<(JobId, Job)> {
        if self.decides_at <= now { self.waiting.pop_front() } else { None }
    }

    /// Gives the authority a request, and the server its outcome.
    fn decide(&mut self, id: JobId, job: Job) {
        let clock = self.clock.now();
        let deliver = Arc::clone(&self.finished) as Arc<dyn Deliver<JobId>>;
        Arc::clone(&self.authority).submit(clock.utc, vec![(id, job)], deliver);
        for (job, outcome) in self.finished.take() {
            self.server.complete(clock, job, outcome);
        }
    }

    /// Handles the server's outputs, and occupies the core for their cost.
    fn finish(&mut self, before: &est::Counters, now: Instant) {
        let clock = self.clock.now();
        let decision = self.load.storm.map_or(Duration::ZERO, |storm| storm.decision);
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Submit(id, job) if self.load.storm.is_some() => {
                    if self.waiting.is_empty() {
                        self.decides_at = self.decides_at.max(now + decision);
                    }
                    self.waiting.push_back((id, job));
                }
                Output::Submit(id, job) => self.decide(id, job),
                Output::PublicKey(step) => self.server.complete_public_key(clock, step.run()),
                Output::Attempt(attempt) => {
                    if attempt.outcome == Ok(Success::Handshake) {
                        self.handshakes.push(attempt.elapsed);
                    }
                    let is_later = attempt.outcome == Err(Reason::EstPendingFull);
                    self.outturn.cut_off += usize::from(attempt.outcome.is_err() && !is_later);
                }
                Output::Alarm(_) | Output::Undelivered(_) | Output::Delivered(_) => {}
            }
        }
        let mut said = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            said.push((device(transmit.path), transmit.bytes.to_vec()));
        }
        let cost = self.times.of_call(before, &self.server.counters(), !said.is_empty());
        self.free_at = now + cost * SLOWER;
        for (device, bytes) in said {
            self.send(self.free_at, Destination::Device, device, bytes);
        }
    }

    /// Handles a device's events and sends its datagrams.
    fn attend(&mut self, device: usize) {
        let now = self.clock.now();
        let Some(mut client) = self.clients[device].take() else { return };
        let mut over = false;
        loop {
            while let Some(bytes) = client.poll_transmit().map(<[u8]>::to_vec) {
                if self.hello.is_empty() {
                    self.hello.clone_from(&bytes);
                }
                self.send(now.mono, Destination::Server, device, bytes);
            }
            match client.poll_event() {
                Some(ClientEvent::Connected { .. }) => {
                    let csr = self.crowd.devices[device].1.clone();
                    client.start(now, Operation::Enroll { csr }).expect("connected, and nothing asked yet");
                }
                Some(ClientEvent::Done(_)) => {
                    self.outturn.enrolled += 1;
                    let total = now.mono.saturating_duration_since(self.started[device]);
                    self.totals.push(total);
                    let hello = HELLOS.into_iter().rev().find(|at| *at <= total).unwrap_or_default();
                    self.outturn.after_hello_max = self.outturn.after_hello_max.max(total - hello);
                    client.close(now);
                    over = true;
                }
                Some(ClientEvent::Failed(Failure::Later { max_age, .. })) => {
                    self.outturn.sent_away.push((now.mono.saturating_duration_since(self.start), max_age));
                    over = true;
                }
                Some(ClientEvent::Failed(_) | ClientEvent::Again { .. }) => {
                    self.outturn.cut_off += 1;
                    over = true;
                }
                Some(_) => {}
                None => break,
            }
        }
        if let Some(armed) = self.armed[device].take() {
            self.timers.remove(&(armed, device));
        }
        if over {
            return;
        }
        if let Some(at) = client.poll_timeout() {
            self.armed[device] = Some(at);
            self.timers.insert((at, device));
        }
        self.clients[device] = Some(client);
    }
}

/// Why a hello is turned away, by a server that is behind or has no slot for it.
const TURNED_AWAY: [DropReason; 3] = [DropReason::Behind, DropReason::HalfOpenFull, DropReason::NetworkFull];

/// When a device sends its hello after its start: timers from 1 s, doubling (RFC 6347 §4.2.4.1).
const HELLOS: [Duration; 4] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(7)];

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}

const PORTS: usize = 60_000;
/// Numbers from here on belong to no device.
const NOBODY: usize = 2 * PORTS;

/// An address of its own for each device.
fn path(device: usize) -> Path {
    let host = u8::try_from(device / PORTS + 1).unwrap_or(u8::MAX);
    let port = u16::try_from(device % PORTS + 1_024).unwrap_or(u16::MAX);
    let peer = SocketAddr::from(([192, 0, 2, host], port));
    Path { peer, local: None, socket: SocketIndex(0) }
}

fn device(path: Path) -> usize {
    let peer = path.peer;
    let SocketAddr::V4(peer) = peer else { return usize::MAX };
    usize::from(peer.ip().octets()[3] - 1) * PORTS + usize::from(peer.port() - 1_024)
}
