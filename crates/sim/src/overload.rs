//! A simulation with a model of service time, for more devices than one core can serve.
//!
//! In the other simulations the server's computations take no time. Here each datagram occupies the server's one core for as long as on a
//! real core, multiplied by `SLOWER`, so that a few hundred devices overload it. Meanwhile datagrams wait in a receive queue, which drops
//! them when it is full, as a socket does. Devices arrive at a steady rate, enrol once and close.
//!
//! ```text
//!   new device every 1/rate ──► link ──► queue (bounded) ──► core: busy for the cost of the datagram's work ──► link
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::{Authority, CaAuthority, Collected, Deliver, Flights, MemoryLedger};
use dtls::{CookieKeys, Path, SocketIndex};
use est::{
    Backlog, Client, ClientConfig, ClientEvent, DtlsConfig, JobId, Operation, Output, Server, ServerConfig, ServerSpec,
};
use pki::issue::NodePrefix;

use crate::chance::{Chance, DerivedRandom};
use crate::clock::VirtualClock;
use crate::trust::{SERVER_NAME, TestCa, TestIdentity};

/// The factor by which a real core is faster than the modelled one.
const SLOWER: u32 = 200;
/// The time of a real core for a datagram without public-key operations: reading it, a cookie, a block.
const DATAGRAM: Duration = Duration::from_micros(2);
/// The additional time for a hello that begins a handshake: a key pair and a signature.
const BEGIN: Duration = Duration::from_micros(50);
/// The additional time for the flight that completes it: a chain, a key exchange and a proof of possession.
const AUTHENTICATE: Duration = Duration::from_micros(110);
/// The additional time for the rest of an enrolment: the request's signature and the certificate's.
const ISSUE: Duration = Duration::from_micros(50);
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
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outturn {
    /// Devices that started.
    pub devices: u32,
    /// Devices that have their certificate.
    pub enrolled: u32,
    /// Handshakes and requests that the server refused, and sessions that devices lost before they had their certificate.
    pub cut_off: usize,
    /// Datagrams that the full receive queue dropped.
    pub dropped: usize,
    /// Handshakes that are not finished at the end.
    pub unfinished: usize,
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

/// The most enrolments per second that the modelled core can serve, without the cost of the datagrams themselves.
#[must_use]
pub fn capacity() -> f64 {
    1.0 / ((BEGIN + AUTHENTICATE + ISSUE) * SLOWER).as_secs_f64()
}

/// The time of a real core for one call of the server, by what its counters say that the call did.
pub(crate) fn service_time(before: &est::Counters, after: &est::Counters) -> Duration {
    let half_open = |counters: &est::Counters| counters.sessions.map_or(0, |sessions| sessions.half_open);
    let mut cost = DATAGRAM;
    if half_open(after) > half_open(before) {
        cost += BEGIN;
    }
    if after.handshakes > before.handshakes {
        cost += AUTHENTICATE;
    }
    if after.submitted > before.submitted {
        cost += ISSUE;
    }
    cost
}

enum Destination {
    Server,
    Device,
}

struct OverloadRun<'c> {
    crowd: &'c Crowd,
    shell: Shell,
    clock: VirtualClock,
    server: Server,
    authority: Arc<dyn Authority<JobId>>,
    finished: Arc<Collected<JobId>>,
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
    let mut run = OverloadRun::new(crowd, clock, load.shell);
    let between = Duration::from_secs_f64(1.0 / (capacity() * load.offered));
    let mut next_device = start;
    let between_floods = (load.flood > 0.0).then(|| (DATAGRAM * SLOWER).div_f64(load.flood));
    let mut next_flood = between_floods.map(|_| start);
    loop {
        let turn = (!run.queue.is_empty() || run.server_is_due()).then_some(run.free_at);
        let link = run.link.keys().next().map(|(at, _)| *at);
        let timer = run.timers.first().map(|(at, _)| *at);
        // While the core is busy, an expired deadline waits for it.
        let sleeping = run.server.poll_timeout().map(|at| at.max(run.free_at));
        let next = [turn, link, timer, sleeping, next_flood].into_iter().flatten().fold(next_device, Instant::min);
        run.clock.advance_to(next);
        let now = run.clock.now().mono;
        if now - start >= load.time {
            run.outturn.unfinished = run.server.counters().sessions.map_or(0, |sessions| sessions.half_open);
            return run.outturn;
        }
        if next_device <= now {
            run.set_out();
            next_device += between;
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
    fn new(crowd: &'c Crowd, clock: VirtualClock, shell: Shell) -> Self {
        let random = Arc::new(DerivedRandom::new(1, "overload"));
        let identity = crowd.ca.server().for_dtls(&random);
        let profile = crowd.ca.profile(|_| {});
        let spec = ServerSpec::new(identity, CookieKeys::from_random(&*random), vec![profile]);
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
            shell,
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
            outturn: Outturn::default(),
            clock,
        }
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
            if self.shell == Shell::Tells {
                let backlog = if since < now { Backlog::Waiting } else { Backlog::Empty };
                self.server.note_backlog(self.clock.now(), backlog);
            }
            self.server.handle_datagram(self.clock.now(), path(device), &mut bytes);
        } else {
            return;
        }
        self.finish(&before, now);
    }

    /// Handles the server's outputs, and occupies the core for their cost.
    fn finish(&mut self, before: &est::Counters, now: Instant) {
        let clock = self.clock.now();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Submit(id, job) => {
                    let deliver = Arc::clone(&self.finished) as Arc<dyn Deliver<JobId>>;
                    Arc::clone(&self.authority).submit(clock.utc, vec![(id, job)], deliver);
                    let outcomes = self.finished.take();
                    for (job, outcome) in outcomes {
                        self.server.complete(clock, job, outcome);
                    }
                }
                Output::PublicKey(step) => self.server.complete_public_key(clock, step.run()),
                Output::Attempt(attempt) => self.outturn.cut_off += usize::from(attempt.outcome.is_err()),
                Output::Alarm(_) | Output::Undelivered(_) | Output::Delivered(_) => {}
            }
        }
        let cost = service_time(before, &self.server.counters());
        self.free_at = now + cost * SLOWER;
        let mut said = Vec::new();
        while let Some(transmit) = self.server.poll_transmit() {
            said.push((device(transmit.path), transmit.bytes.to_vec()));
        }
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
                    client.close(now);
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
