//! One server, its authority, the devices, and the link between them: everything that a run drives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use authority::{Collected, Deliver, Job, MemoryLedger, Profile};
use dtls::{CookieKeys, Now, Path, SocketIndex};
use est::{JobId, Output, PublicKeyDone, Server, ServerConfig, ServerSpec};
use link::Tally;
use ring::digest::{Context, SHA256};

use crate::agenda::Agenda;
use crate::backend::{Backend, CaBackend, WorldParts};
use crate::chance::{Chance, DerivedRandom};
use crate::clock::VirtualClock;
use crate::crashing::CrashTally;
use crate::device::{Reboot, SimulatedDevice};
use crate::link::{SimulatedLink, Towards};
use crate::scenario::Scenario;
use crate::trace::Tracer;
use crate::trust::TestCa;

/// Turns without time passing: more of them mean that an engine asks to be called without reason.
const TURNS_AT_ONCE_MAX: u32 = 10_000;

/// A public-key step that is suspended takes this long.
const PUBLIC_KEY_STEP: Duration = Duration::from_millis(2);

/// A server that has crashed is started again within this time.
const DOWN_MAX: Duration = Duration::from_secs(5);

/// Why a world stopped before all devices had reached their goals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// An engine asks to be called again and again, and nothing changes.
    Spinning,
    /// No engine waits for anything, and a device is not done.
    Idle,
    /// A device tried too often: its number, and its last failure.
    GaveUp(u32, Option<String>),
    /// The time limit has passed.
    TimeOver,
}

/// One simulated world; the documentation of this module describes it.
pub struct World<B = CaBackend> {
    clock: VirtualClock,
    server: Server,
    site: ServerSite,
    backend: B,
    /// Results of the authority and the pool, kept until the server's turn.
    outcomes: Arc<Collected<JobId>>,
    steps: Arc<Mutex<Vec<PublicKeyDone>>>,
    /// When the server that has crashed starts again.
    starts_at: Option<Instant>,
    ca: Arc<TestCa>,
    devices: Vec<SimulatedDevice>,
    by_address: BTreeMap<SocketAddr, usize>,
    link: SimulatedLink,
    agenda: Agenda,
    wire: Context,
    /// Datagrams that reached the server.
    heard: u64,
    /// The datagrams before which the server restarts.
    restarts: Vec<u64>,
}

impl World {
    /// The world of a seed, with a CA behind the server, at its start.
    ///
    /// # Panics
    /// If a scenario cannot be configured.
    #[must_use]
    pub fn new(seed: u64, scenario: &Scenario, tracer: Option<&Tracer>) -> Self {
        let parts = WorldParts::new(seed);
        let backend = CaBackend::new(seed, scenario, &parts);
        Self::with(seed, scenario, tracer, parts, backend)
    }

    /// What the ledger went through, if it crashes.
    #[must_use]
    pub fn crash_tally(&self) -> CrashTally {
        self.backend.crash_tally()
    }

    /// The ledger, wrapped in its faults.
    #[must_use]
    pub fn ledger(&self) -> &MemoryLedger {
        self.backend.ledger()
    }
}

impl<B: Backend> World<B> {
    /// The world of a seed with this backend, at its start.
    pub(crate) fn with(
        seed: u64,
        scenario: &Scenario,
        tracer: Option<&Tracer>,
        WorldParts { clock, ca, agenda }: WorldParts,
        backend: B,
    ) -> Self {
        let start = clock.now().mono;
        let mut devices: Vec<SimulatedDevice> =
            (1..=scenario.devices).map(|number| SimulatedDevice::new(number, seed, scenario, &ca, start)).collect();
        for device in &mut devices {
            device.observe_with(tracer.map(|tracer| tracer.party(&format!("device {}", device.number))));
        }
        let site = ServerSite::new(seed, scenario, &ca, backend.profile(), tracer);
        Self {
            backend,
            starts_at: None,
            server: site.start(),
            site,
            clock,
            outcomes: Arc::default(),
            steps: Arc::default(),
            ca,
            by_address: devices.iter().enumerate().map(|(index, device)| (device.address, index)).collect(),
            devices,
            link: SimulatedLink::new(scenario.link, seed, "link"),
            agenda,
            wire: Context::new(&SHA256),
            heard: 0,
            restarts: Vec::new(),
        }
    }

    /// Loses exactly these datagrams, counted from zero, in addition to random losses.
    pub fn lose(&mut self, numbers: &[u64]) {
        self.link.lose(numbers);
    }

    /// Cuts the power of the device with this index, in addition to random power cuts.
    ///
    /// # Panics
    /// If there is no such device.
    pub fn reboot(&mut self, device: usize, reboot: Reboot) {
        self.devices[device].reboot(reboot);
    }

    /// Restarts the server before this datagram reaches it, counted from one, in addition to random restarts.
    pub fn restart_at(&mut self, datagram: u64) {
        self.restarts.push(datagram);
    }

    /// Datagrams that reached the server and the device of this index.
    #[must_use]
    pub fn heard(&self, device: usize) -> (u64, u64) {
        (self.heard, self.devices.get(device).map_or(0, SimulatedDevice::heard))
    }

    /// Runs until every device has what it wants.
    ///
    /// # Errors
    /// [`Stopped`] gives the reason if the run ended before that.
    pub fn run(&mut self, at_most: Duration) -> Result<(), Stopped> {
        let mut turns_at_once = 0;
        loop {
            self.turn();
            if self.devices.iter().all(SimulatedDevice::is_done) {
                return Ok(());
            }
            if let Some(device) = self.devices.iter().find(|device| device.has_given_up()) {
                return Err(Stopped::GaveUp(device.number, device.last_failure.clone()));
            }
            let next = self.next().ok_or(Stopped::Idle)?;
            turns_at_once = if next <= self.clock.now().mono { turns_at_once + 1 } else { 0 };
            if turns_at_once > TURNS_AT_ONCE_MAX {
                return Err(Stopped::Spinning);
            }
            self.clock.advance_to(next);
            if self.clock.elapsed() > at_most {
                return Err(Stopped::TimeOver);
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let devices = self.devices.iter().filter_map(SimulatedDevice::poll_timeout).min();
        let server = self.starts_at.or_else(|| self.server.poll_timeout());
        [self.link.next(), self.agenda.next(), server, devices].into_iter().flatten().min()
    }

    /// What is due now, in an order that is always the same: arrivals, answers of ledger and signer, deadlines.
    fn turn(&mut self) {
        let now = self.clock.now();
        while let Some((towards, mut datagram)) = self.link.receive(now.mono) {
            match towards {
                Towards::Server(peer) => {
                    self.heard += 1;
                    if self.is_down(now) {
                        continue;
                    }
                    if self.site.restarts() || self.restarts.contains(&self.heard) {
                        self.restart();
                    }
                    self.server.handle_datagram(now, path(peer), &mut datagram);
                    self.serve();
                }
                Towards::Device(address) => {
                    if let Some(&index) = self.by_address.get(&address) {
                        self.devices[index].handle_datagram(now, &mut datagram);
                        self.attend(index);
                        self.devices[index].after_datagram(now);
                    }
                }
            }
        }
        self.agenda.run(now.mono);
        if !self.is_down(now) {
            self.complete();
            if self.server.poll_timeout().is_some_and(|at| at <= now.mono) {
                self.server.handle_timeout(now);
                self.serve();
            }
        }
        for index in 0..self.devices.len() {
            if self.devices[index].poll_timeout().is_some_and(|at| at <= now.mono) {
                self.devices[index].handle_timeout(now);
                self.attend(index);
            }
        }
    }

    /// Whether the server has crashed with its ledger. It starts again after a while: nothing is left but what was durable.
    fn is_down(&mut self, now: Now) -> bool {
        if !self.backend.is_down() {
            return false;
        }
        let at = *self.starts_at.get_or_insert_with(|| now.mono + self.site.chance.between(Duration::ZERO, DOWN_MAX));
        if at > now.mono {
            return true;
        }
        self.starts_at = None;
        self.backend.start(now);
        self.restart();
        false
    }

    /// A server without sessions. Work in flight goes on elsewhere, but nobody is left to receive the result.
    fn restart(&mut self) {
        self.server = self.site.start();
        self.outcomes = Arc::default();
        self.steps = Arc::default();
    }

    /// Passes results from elsewhere to the server, until nothing more happens.
    fn complete(&mut self) {
        let now = self.clock.now();
        loop {
            let (outcomes, steps) = (self.outcomes.take(), std::mem::take(&mut *lock(&self.steps)));
            if outcomes.is_empty() && steps.is_empty() {
                return;
            }
            for (job, outcome) in outcomes {
                self.server.complete(now, job, outcome);
            }
            for step in steps {
                self.server.complete_public_key(now, step);
            }
            self.serve();
        }
    }

    /// Takes the server's datagrams and what it wants done.
    fn serve(&mut self) {
        let now = self.clock.now();
        let mut jobs: Vec<(JobId, Job)> = Vec::new();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Submit(id, job) => jobs.push((id, job)),
                Output::PublicKey(step) => {
                    let steps = Arc::clone(&self.steps);
                    self.agenda.after(PUBLIC_KEY_STEP, move || {
                        lock(&steps).push(step.run());
                    });
                }
                Output::Undelivered(issued) => self.backend.authority().undelivered(now.utc, &issued),
                Output::Delivered(issued) => self.backend.authority().delivered(&issued),
                Output::Attempt(_) | Output::Alarm(_) => {}
            }
        }
        if !jobs.is_empty() {
            let deliver = Arc::clone(&self.outcomes) as Arc<dyn Deliver<JobId>>;
            Arc::clone(self.backend.authority()).submit(now.utc, jobs, deliver);
        }
        while let Some(transmit) = self.server.poll_transmit() {
            let peer = transmit.path.peer;
            mark(&mut self.wire, self.clock.elapsed(), b'<', peer, transmit.bytes);
            self.link.send(now.mono, Towards::Device(peer), transmit.bytes);
        }
    }

    /// Takes a device's events and datagrams.
    fn attend(&mut self, index: usize) {
        let now = self.clock.now();
        let device = &mut self.devices[index];
        let address = device.address;
        loop {
            while let Some(bytes) = device.poll_transmit() {
                mark(&mut self.wire, self.clock.elapsed(), b'>', address, bytes);
                self.link.send(now.mono, Towards::Server(address), bytes);
            }
            if !device.handle_event(now) {
                return;
            }
        }
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The profile that issues.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        self.backend.profile()
    }

    /// The PKI of the run.
    #[must_use]
    pub fn ca(&self) -> &TestCa {
        &self.ca
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// What stands behind the server.
    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// Lets what is on its way arrive.
    pub(crate) fn settle(&mut self, time: Duration) {
        let until = self.clock.now().mono + time;
        for _ in 0..TURNS_AT_ONCE_MAX {
            let Some(next) = self.next().filter(|next| *next <= until) else { return };
            self.clock.advance_to(next);
            self.turn();
        }
    }

    pub(crate) fn devices(&self) -> &[SimulatedDevice] {
        &self.devices
    }

    /// What the link did.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.link.tally()
    }

    /// SHA-256 over all datagrams that were sent, each with its time and its direction.
    #[must_use]
    pub fn wire_digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.wire.clone().finish().as_ref());
        digest
    }
}

/// The server's environment: what still exists when it restarts.
struct ServerSite {
    config: Arc<ServerConfig>,
    random: Arc<DerivedRandom>,
    observer: Option<Arc<dyn dtls::Observer>>,
    chance: Chance,
    restarts: u16,
}

impl ServerSite {
    fn new(seed: u64, scenario: &Scenario, ca: &TestCa, profile: &Arc<Profile>, tracer: Option<&Tracer>) -> Self {
        let random = Arc::new(DerivedRandom::new(seed, "server"));
        let identity = ca.server().for_dtls(&random);
        let mut spec = ServerSpec::new(identity, CookieKeys::from_random(&*random), vec![Arc::clone(profile)]);
        spec.public_key_steps = scenario.public_key_steps;
        spec.dtls.idle_timeout = scenario.idle_timeout;
        Self {
            config: Arc::new(ServerConfig::new(spec).expect("a configuration")),
            random,
            observer: tracer.map(|tracer| tracer.party("server")),
            chance: Chance::new(seed, "site"),
            restarts: scenario.restarts,
        }
    }

    fn start(&self) -> Server {
        let mut server = Server::new(0, Arc::clone(&self.config), self.random.clone());
        server.set_observer(self.observer.clone());
        server
    }

    fn restarts(&mut self) -> bool {
        self.chance.permille(self.restarts)
    }
}

fn path(peer: SocketAddr) -> Path {
    Path { peer, local: None, socket: SocketIndex(0) }
}

fn mark(wire: &mut Context, at: Duration, direction: u8, peer: SocketAddr, bytes: &[u8]) {
    wire.update(&at.as_nanos().to_be_bytes());
    wire.update(&[direction]);
    wire.update(&peer.port().to_be_bytes());
    wire.update(&(bytes.len() as u64).to_be_bytes());
    wire.update(bytes);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
