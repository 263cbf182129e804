//! One shard and its authority, as in `server`, without sockets and threads.

use std::net::SocketAddr;
use std::sync::Arc;

use authority::{Authority, CaAuthority, Collected, Deliver, Flights, Job, MemoryLedger, Outcome};
use dtls::{CookieKeys, Path, PublicKeySteps, SocketIndex};
use est::{JobId, Now, Output, PublicKeyJob, Server, ServerConfig, ServerSpec};
use pki::issue::NodePrefix;
use sim::{DerivedRandom, TestCa};

use crate::drag::{Drag, DraggedStep};

/// The seed of all randomness in a benchmark.
const SEED: u64 = 9148;
/// Rows of the ledger: each benchmark issues once.
const ROWS_MAX: usize = 16;

/// What the shards of one server have in common.
struct SharedParts {
    config: Arc<ServerConfig>,
    authority: Arc<dyn Authority<JobId>>,
    random: Arc<DerivedRandom>,
}

impl SharedParts {
    fn new(ca: &TestCa, rows_max: usize, steps: PublicKeySteps) -> Self {
        let random = Arc::new(DerivedRandom::new(SEED, "server"));
        let signer = Arc::new(ca.signer(Arc::new(DerivedRandom::new(SEED, "signer"))));
        let ledger = Arc::new(MemoryLedger::new(rows_max));
        let authority_random = Arc::new(DerivedRandom::new(SEED, "authority"));
        let authority =
            CaAuthority::new(ledger, signer, authority_random, NodePrefix::new(1), Arc::new(Flights::default()));
        let identity = ca.server().for_dtls(&random);
        let cookie = CookieKeys::from_random(&*random);
        let mut spec = ServerSpec::new(identity, cookie, vec![ca.profile(|_| ())]);
        spec.public_key_steps = steps;
        let config = Arc::new(ServerConfig::new(spec).expect("the defaults are a configuration"));
        Self { config, authority: Arc::new(authority), random }
    }
}

/// One shard and its authority.
pub(crate) struct Shard {
    server: Server,
    authority: Arc<dyn Authority<JobId>>,
    finished: Arc<Collected<JobId>>,
    now: Now,
    drag: Drag,
    /// Attempts that the server has reported.
    pub(crate) attempts: u32,
}

impl Shard {
    /// The PKI that every shard of the benchmarks belongs to.
    pub(crate) fn ca() -> TestCa {
        TestCa::new(SEED)
    }

    /// A new shard; all new shards are identical.
    pub(crate) fn new(ca: &TestCa, now: Now) -> Self {
        Self::with_rows(ca, now, (ROWS_MAX, PublicKeySteps::Inline))
    }

    /// A new shard over a ledger with room for so many certificates, whose public-key steps run there.
    pub(crate) fn with_rows(ca: &TestCa, now: Now, (rows_max, steps): (usize, PublicKeySteps)) -> Self {
        let shared = SharedParts::new(ca, rows_max, steps);
        Self::of(&shared, Arc::clone(&shared.random), now)
    }

    /// Shards of one server, whose randomness is named by these labels.
    pub(crate) fn of_one_server(ca: &TestCa, now: Now, labels: &[&str]) -> Vec<Self> {
        let shared = SharedParts::new(ca, ROWS_MAX, PublicKeySteps::Inline);
        let random = |label: &&str| Arc::new(DerivedRandom::new(SEED, label));
        labels.iter().map(|label| Self::of(&shared, random(label), now)).collect()
    }

    fn of(shared: &SharedParts, random: Arc<DerivedRandom>, now: Now) -> Self {
        Self {
            server: Server::new(0, Arc::clone(&shared.config), random),
            authority: Arc::clone(&shared.authority),
            finished: Arc::default(),
            now,
            drag: Drag::of(DraggedStep::Issuance),
            attempts: 0,
        }
    }

    /// Takes a datagram of the device and does all work that follows; answers go to `answer`. Jobs go to the authority immediately.
    pub(crate) fn handle(&mut self, datagram: &mut [u8], mut answer: impl FnMut(&[u8])) {
        if let Some(work) = self.handle_until_job(datagram, &mut answer) {
            self.drag.pull();
            self.run(work, answer);
        }
    }

    /// Takes the outcome of a job that [`Shard::handle_until_job`] returned.
    pub(crate) fn run(&mut self, (id, job): (JobId, Job), mut answer: impl FnMut(&[u8])) {
        Arc::clone(&self.authority).submit(
            self.now.utc,
            vec![(id, job)],
            Arc::clone(&self.finished) as Arc<dyn Deliver<JobId>>,
        );
        for (id, outcome) in self.finished.take() {
            self.server.complete(self.now, id, outcome);
        }
        self.drain(&mut answer);
    }

    /// Like [`Shard::handle`], but returns a job instead of running it.
    pub(crate) fn handle_until_job(
        &mut self,
        datagram: &mut [u8],
        answer: &mut impl FnMut(&[u8]),
    ) -> Option<(JobId, Job)> {
        self.server.handle_datagram(self.now, device_path(1), datagram);
        self.drain(answer)
    }

    /// One turn of a shard: takes the datagrams of several devices, then does the work that they led to, each kind in one batch.
    pub(crate) fn turn(&mut self, datagrams: &mut [(u32, Vec<u8>)], mut answer: impl FnMut(u32, &[u8])) {
        for (number, datagram) in datagrams {
            self.server.handle_datagram(self.now, device_path(*number), datagram);
        }
        loop {
            let (mut steps, mut jobs) = (Vec::new(), Vec::new());
            while let Some(output) = self.server.poll_output() {
                match output {
                    Output::Submit(id, job) => jobs.push((id, job)),
                    Output::PublicKey(step) => steps.push(step),
                    Output::Attempt(_) | Output::Alarm(_) | Output::Undelivered(_) | Output::Delivered(_) => {}
                }
            }
            if steps.is_empty() && jobs.is_empty() {
                break;
            }
            for done in PublicKeyJob::run_many(steps, &|step| step()) {
                self.server.complete_public_key(self.now, done);
            }
            if !jobs.is_empty() {
                let deliver = Arc::clone(&self.finished) as Arc<dyn Deliver<JobId>>;
                Arc::clone(&self.authority).submit(self.now.utc, jobs, deliver);
                for (id, outcome) in self.finished.take() {
                    self.server.complete(self.now, id, outcome);
                }
            }
        }
        while let Some(transmit) = self.server.poll_transmit() {
            answer(device_at(transmit.path), transmit.bytes);
        }
    }

    fn drain(&mut self, answer: &mut impl FnMut(&[u8])) -> Option<(JobId, Job)> {
        let mut submitted = None;
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Submit(id, job) => submitted = Some((id, job)),
                Output::PublicKey(_) => unreachable!("public-key steps are inline by default"),
                Output::Attempt(_) => self.attempts += 1,
                Output::Alarm(_) | Output::Undelivered(_) | Output::Delivered(_) => {}
            }
        }
        while let Some(transmit) = self.server.poll_transmit() {
            answer(transmit.bytes);
        }
        submitted
    }
}

/// The path of the device with this number, below 2^24.
fn device_path(number: u32) -> Path {
    let [_, high, middle, low] = number.to_be_bytes();
    let peer = SocketAddr::from(([10, high, middle, low], 40_000));
    Path { peer, local: None, socket: SocketIndex(0) }
}

/// The number of the device at this path.
fn device_at(path: Path) -> u32 {
    match path.peer {
        SocketAddr::V4(peer) => peer.ip().to_bits() & 0x00ff_ffff,
        SocketAddr::V6(_) => 0,
    }
}

/// A fresh shard and the datagrams that it will receive.
pub struct Replay {
    shard: Shard,
    datagrams: Vec<Vec<u8>>,
    drag: Drag,
    /// The number of datagrams that the server sent.
    pub datagrams_sent: usize,
    /// Their bytes of UDP payload.
    pub bytes_sent: usize,
}

impl Replay {
    pub(crate) fn new(shard: Shard, datagrams: Vec<Vec<u8>>) -> Self {
        Self { shard, datagrams, drag: Drag::of(DraggedStep::ServerHandshake), datagrams_sent: 0, bytes_sent: 0 }
    }

    /// Replays the device. Returns `self`, so that the measurement does not include dropping it.
    #[must_use]
    pub fn run(mut self) -> Self {
        let (mut datagrams_sent, mut bytes_sent) = (self.datagrams_sent, self.bytes_sent);
        self.drag.pull();
        for datagram in &mut self.datagrams {
            self.shard.handle(datagram, |bytes| {
                datagrams_sent += 1;
                bytes_sent += bytes.len();
            });
        }
        Self { datagrams_sent, bytes_sent, ..self }
    }

    /// The same shard, and what the device sends next. Only the handshake is slowed down.
    pub(crate) fn then(self, datagrams: Vec<Vec<u8>>) -> Self {
        Self { datagrams, drag: Drag::default(), ..self }
    }

    /// Replays the device up to its request, and stops before the authority receives it.
    ///
    /// # Panics
    /// If the datagrams do not lead to a request.
    #[must_use]
    pub fn into_issuance(mut self) -> Issuance {
        let submitted =
            self.datagrams.iter_mut().find_map(|datagram| self.shard.handle_until_job(datagram, &mut |_| ()));
        let (id, job) = submitted.expect("a recorded enrolment submits its request");
        Issuance { shard: self.shard, work: Some((id, job)), outcome: None }
    }
}

/// A complete request, and the authority that decides it.
pub struct Issuance {
    shard: Shard,
    work: Option<(JobId, Job)>,
    outcome: Option<Outcome>,
}

impl Issuance {
    /// From the CSR to the certificate in the ledger.
    #[must_use]
    pub fn run(mut self) -> Self {
        self.shard.drag.pull();
        let work = self.work.take().into_iter().collect();
        Arc::clone(&self.shard.authority).submit(
            self.shard.now.utc,
            work,
            Arc::clone(&self.shard.finished) as Arc<dyn Deliver<JobId>>,
        );
        self.outcome = self.shard.finished.take().pop().map(|(_, outcome)| outcome);
        self
    }

    /// The certificate, DER, once it is issued.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        match &self.outcome {
            Some(Outcome::Issued { issued, .. }) => Some(&issued.certificate),
            _ => None,
        }
    }
}
