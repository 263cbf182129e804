//! One shard: a thread with its sockets, its sessions and its event loop.
//!
//! It blocks only in `poll`, takes no lock in the path of a datagram, and reads the clock once per turn; in a turn in which it handles enrolments
//! itself also around each few of them.
//!
//! ```text
//!          ┌──────────────────────── poll (until the next deadline) ◄───────────────────────┐
//!          ▼                                                                                │
//!   clock ─► control, snapshot ─► datagrams ─► own share of jobs ─► outcomes ─► deadlines ─► hand over work
//!                                    │                                 │            │            ─► flush sockets
//!                                    └─────────────────────────────────┴────────────┘            ─► publish counters
//!                                      est::Server: transmits ─► sockets
//!                                                   outputs   ─► work, log, meters
//! ```

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::{Busy, Deliver, Job, Outcome};
use crashpoint::Step;
use dtls::{Now, Path, SocketIndex};
use est::{Alarm, Attempt, Backlog, Output, PublicKeyDone, PublicKeyJob, Success};
use mio::{Events, Poll, Token, Waker};
use net::Clock;
use net::udp::{BATCH_MAX, Batch, Socket, finish, is_passing};

use super::control::{Control, Phase};
use super::kernel_drops::KernelDrops;
use super::mailbox::{Mailbox, Sender, mailbox};
use super::own_share::OwnShare;
use super::publish::{Own, Publisher};
use super::snapshot::SnapshotReader;
use super::work::{Pool, Ticket, TicketOwner};
use crate::logging::{Journal, Refusals};
use crate::metrics::Meters;

/// Datagrams handled of one socket per turn; then results of the pool and deadlines get their turn. So many are about 2 ms of ClientHellos. They are
/// counted, and not the receives that brought them: where the kernel joins the datagrams of one peer, one receive may bring 2,048, and what is too many
/// for a turn waits in the batch for the next.
const DATAGRAMS_PER_TURN_MAX: usize = 4 * BATCH_MAX;
/// The shard counts as overloaded when more steps of handshakes than this wait for a thread of the pool: about 20 ms of work.
const STEPS_AHEAD_MAX: usize = 128;
/// Events per `poll`: a readable and a writable event for each of several sockets, and the waker.
const EVENTS_MAX: usize = 64;
/// The waker's token; sockets count from 0.
const WAKER: Token = Token(usize::MAX);

/// The parts from which a shard is made.
pub(super) struct Parts {
    pub(super) sockets: Vec<Socket>,
    pub(super) server: est::Server,
    pub(super) snapshot: SnapshotReader,
    pub(super) control: Arc<Control>,
    pub(super) pool: Arc<Pool>,
    pub(super) own_share: OwnShare,
    pub(super) outside_max: usize,
    pub(super) meters: Meters,
    pub(super) publisher: Publisher,
    pub(super) refusals: Refusals,
    pub(super) journal: Journal,
}

/// What comes back from the pool.
pub(super) enum PoolResults {
    Outcomes(Vec<(Ticket, Outcome)>),
    /// `handed` is the number of steps that were handed over together; a step that panicked is not among the completed ones.
    PublicKeys {
        handed: usize,
        done: Vec<PublicKeyDone>,
    },
}

/// One shard, ready to run on a thread of its own.
pub(super) struct Shard {
    poll: Poll,
    clock: Clock,
    sockets: Vec<Socket>,
    /// Sockets that may still have datagrams: the event loop is edge-triggered.
    readable: Vec<bool>,
    intake: Intake,
    server: est::Server,
    snapshot: SnapshotReader,
    control: Arc<Control>,
    pool: Arc<Pool>,
    desk: Desk,
    mailbox: Mailbox<PoolResults>,
    meters: Meters,
    refusals: Refusals,
    publisher: Publisher,
    kernel_drops: KernelDrops,
    not_unicast: u64,
    draining: bool,
}

/// How far the sockets have had their turns.
#[derive(Default)]
struct Intake {
    /// The socket of the datagrams that are left in the batch.
    left: Option<usize>,
    /// The socket that comes first in the next turn: the one after that which filled the last.
    first: usize,
}

/// Work that leaves the engine: collected during a turn. The shard handles its share of the enrolments when all datagrams are in, and hands over the
/// rest at the end of the turn.
struct Desk {
    jobs: Vec<(Ticket, Job)>,
    own_share: OwnShare,
    public_keys: Vec<PublicKeyJob>,
    /// Pieces of work outside the shard, and their bound: the capacity of the mailbox.
    outside: usize,
    outside_max: usize,
    /// How many of the pieces outside are steps of handshakes, and how many steps the pool completes in a negligible time.
    steps: usize,
    steps_ahead_max: usize,
    results: Sender<PoolResults>,
    outcomes: Arc<dyn Deliver<Ticket>>,
}

struct ToMailbox {
    results: Sender<PoolResults>,
    journal: Journal,
}

impl Deliver<Ticket> for ToMailbox {
    fn deliver(&self, outcomes: Vec<(Ticket, Outcome)>) {
        for (ticket, outcome) in &outcomes {
            self.journal.note(|| ticket.issuance(outcome));
        }
        if !outcomes.is_empty() {
            self.results.send(PoolResults::Outcomes(outcomes));
        }
    }
}

impl Shard {
    /// Registers everything; returns the waker of the shard.
    pub(super) fn new(parts: Parts) -> io::Result<(Self, Arc<Waker>)> {
        let Parts { mut sockets, server, snapshot, control, pool, own_share, .. } = parts;
        let Parts { outside_max, meters, publisher, refusals, journal, .. } = parts;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        for (index, socket) in sockets.iter_mut().enumerate() {
            socket.register(poll.registry(), Token(index))?;
        }
        let (results, mailbox) = mailbox(outside_max, Arc::clone(&waker));
        let outcomes = Arc::new(ToMailbox { results: results.clone(), journal });
        let desk = Desk {
            jobs: Vec::new(),
            own_share,
            public_keys: Vec::new(),
            outside: 0,
            outside_max,
            steps: 0,
            steps_ahead_max: STEPS_AHEAD_MAX * pool.threads(),
            results,
            outcomes,
        };
        let shard = Self {
            poll,
            clock: Clock,
            // A datagram that arrived between bind and registration triggers no edge.
            readable: vec![true; sockets.len()],
            intake: Intake::default(),
            sockets,
            server,
            snapshot,
            control,
            pool,
            desk,
            mailbox,
            meters,
            refusals,
            publisher,
            kernel_drops: KernelDrops::default(),
            not_unicast: 0,
            draining: false,
        };
        Ok((shard, waker))
    }

    /// Runs until the server is stopped or drained.
    pub(super) fn run(mut self) -> io::Result<ShardEnd> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut batch = Batch::new();
        let mut now = self.clock.now();
        loop {
            let sleep = self.sleep(now);
            match self.poll.poll(&mut events, sleep) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other?,
            }
            self.mailbox.attend();
            now = self.clock.now();
            self.server.note_backlog(now, self.backlog());
            for event in &events {
                if let Some(readable) = self.readable.get_mut(event.token().0) {
                    // The error of a socket is read like a datagram.
                    *readable |= event.is_readable() || event.is_error();
                }
            }
            now = self.turn(now, &mut batch)?;
            if let Some(ended) = self.ended(now)? {
                return Ok(ended);
            }
        }
    }

    /// What waits before a turn: datagrams left from the last turn, or steps of handshakes. Enrolments that wait for the authority have a limit of
    /// their own, and their refusals say how long to wait.
    fn backlog(&self) -> Backlog {
        let empty = !self.has_datagrams() && self.desk.steps <= self.desk.steps_ahead_max;
        if empty { Backlog::Empty } else { Backlog::Waiting }
    }

    /// Returns the time at which the turn ended, as far as it was read.
    fn turn(&mut self, now: Now, batch: &mut Batch) -> io::Result<Now> {
        self.obey(now);
        self.receive(now, batch)?;
        let now = self.handle_own_share(now);
        self.take_results(now);
        if self.server.poll_timeout().is_some_and(|at| at <= now.mono) {
            self.server.handle_timeout(now);
            self.collect(now);
        }
        self.hand_over(now);
        self.send()?;
        self.kernel_drops.look(now.mono, &self.sockets);
        self.publish();
        Ok(now)
    }

    fn publish(&self) {
        let Desk { outside, steps, .. } = self.desk;
        let own = Own {
            not_unicast: self.not_unicast,
            receive_full: self.kernel_drops.total(),
            enrolments: outside.saturating_sub(steps),
            handshake_steps: steps,
        };
        self.publisher.publish(&self.server, &self.sockets, own);
    }

    /// How long to sleep: not at all while datagrams or results wait, otherwise until the next deadline of a session or of draining. It is computed from
    /// the clock reading of the turn that ends, so the sleep is too long by the length of that turn, which is negligible for every timer of the
    /// protocols.
    fn sleep(&mut self, now: Now) -> Option<Duration> {
        if self.has_datagrams() || !self.mailbox.may_sleep() {
            return Some(Duration::ZERO);
        }
        let deadlines = [self.server.poll_timeout(), self.control.deadline()];
        let next: Option<Instant> = deadlines.into_iter().flatten().min();
        // mio rounds up to the milliseconds of epoll, so the deadline has passed when the shard wakes.
        next.map(|at| at.saturating_duration_since(now.mono))
    }

    fn obey(&mut self, now: Now) {
        if let Some(snapshot) = self.snapshot.changed() {
            self.server.set_config(Arc::clone(&snapshot.est));
        }
        if self.control.is_ending() && !self.draining {
            self.draining = true;
            self.server.drain(now);
            self.collect(now);
        }
    }

    /// Ends when nothing is left to wait for; at the deadline, the remaining sessions are closed with close_notify.
    fn ended(&mut self, now: Now) -> io::Result<Option<ShardEnd>> {
        if !self.draining {
            return Ok(None);
        }
        let cut_off = if self.server.is_drained() {
            None
        } else {
            let is_over = self.control.deadline().is_some_and(|at| at <= now.mono);
            if self.control.phase() != Phase::Stopping && !is_over {
                return Ok(None);
            }
            let enrolments = self.server.counters().pending;
            self.server.close_all(now);
            Some(CutOff { enrolments })
        };
        let datagrams_dropped = self.say_the_last(now)?;
        Ok(Some(ShardEnd { cut_off, datagrams_dropped }))
    }

    /// Makes the sockets send everything that remains: every close_notify is sent, or counted as dropped. It works batch by batch: one batch is
    /// handed to the kernel before the next one begins, as long as the kernel accepts data in time.
    fn say_the_last(&mut self, now: Now) -> io::Result<u64> {
        let dropped = |sockets: &[Socket]| sockets.iter().map(|it| it.counters().dropped_backlog_full).sum::<u64>();
        let before = dropped(&self.sockets);
        let until = now.mono + self.control.last_datagrams();
        loop {
            self.collect(now);
            finish(&mut self.sockets, &mut self.poll, until)?;
            if !self.server.is_sweeping() {
                break;
            }
            self.server.handle_timeout(now);
        }
        self.sockets.iter_mut().for_each(Socket::abandon);
        self.publish();
        Ok(dropped(&self.sockets) - before)
    }

    /// Whether datagrams wait: in the batch, or as far as is known in a socket.
    fn has_datagrams(&self) -> bool {
        self.intake.left.is_some() || self.readable.contains(&true)
    }

    fn receive(&mut self, now: Now, batch: &mut Batch) -> io::Result<()> {
        if let Some(index) = self.intake.left {
            self.handle_some(now, index, batch, DATAGRAMS_PER_TURN_MAX);
        }
        let (first, sockets) = (self.intake.first, self.sockets.len());
        for index in (first..sockets).chain(0..first) {
            if self.intake.left.is_some() {
                break;
            }
            self.receive_from(now, index, batch)?;
        }
        Ok(())
    }

    fn receive_from(&mut self, now: Now, index: usize, batch: &mut Batch) -> io::Result<()> {
        let mut room = DATAGRAMS_PER_TURN_MAX;
        while self.readable[index] && room > 0 {
            match self.sockets[index].receive(batch) {
                Ok(()) => {
                    // A receive that leaves messages unfilled has emptied the socket: the next datagram triggers an edge. Asking once more would
                    // cost a system call for each batch.
                    self.readable[index] = batch.is_full();
                    room = self.handle_some(now, index, batch, room);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable[index] = false,
                // As much as a batch, so that errors without end do not hold the turn.
                Err(error) if is_passing(&error) => room = room.saturating_sub(BATCH_MAX),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Handles so many datagrams of the batch at most, and returns for how many more there is room. What is left waits for the next turn, in which
    /// the other sockets come first.
    fn handle_some(&mut self, now: Now, index: usize, batch: &mut Batch, mut room: usize) -> usize {
        // A configuration has far fewer addresses than this.
        let socket = SocketIndex(u16::try_from(index).unwrap_or(u16::MAX));
        while room > 0
            && let Some(received) = batch.take_datagram()
        {
            room -= 1;
            // RFC 9148 defines no multicast, and an answer to a multicast request amplifies traffic.
            if received.local.is_some_and(|local| local.is_multicast() || is_broadcast(local)) {
                self.not_unicast += 1;
                continue;
            }
            let path = Path { peer: received.peer, local: received.local, socket };
            self.server.handle_datagram(now, path, received.bytes);
            self.collect(now);
        }
        self.intake.left = (!batch.is_taken()).then_some(index);
        if room == 0 {
            self.intake.first = (index + 1) % self.sockets.len().max(1);
        }
        room
    }

    /// Handles some of the enrolments on this thread. Their outcomes are in the mailbox afterwards. Returns the time after that.
    fn handle_own_share(&mut self, now: Now) -> Now {
        let mut piece = self.desk.own_share.piece(self.desk.jobs.len(), Duration::ZERO);
        if piece == 0 {
            return now;
        }
        let mut jobs = std::mem::take(&mut self.desk.jobs).into_iter();
        let began = self.clock.now();
        let mut after = began;
        while piece > 0 {
            let before = after;
            let some = jobs.by_ref().take(piece).collect();
            self.pool.submit_here(now, &self.snapshot.current().authority, some, &self.desk.outcomes);
            after = self.clock.now();
            self.desk.own_share.note(piece, after.mono.saturating_duration_since(before.mono));
            let spent = after.mono.saturating_duration_since(began.mono);
            piece = self.desk.own_share.piece(jobs.len(), spent);
        }
        self.desk.jobs = jobs.collect();
        after
    }

    fn take_results(&mut self, now: Now) {
        while let Some(results) = self.mailbox.take() {
            match results {
                PoolResults::Outcomes(outcomes) => {
                    self.desk.outside = self.desk.outside.saturating_sub(outcomes.len());
                    for (ticket, outcome) in outcomes {
                        let took = now.mono.saturating_duration_since(ticket.since);
                        let meters = self.snapshot.current().meters.of(Some(ticket.profile.name()));
                        meters.issuance(took.as_secs_f64());
                        let TicketOwner::Shard(job) = ticket.job else {
                            debug_assert!(false, "what a shard hands over comes back to it");
                            continue;
                        };
                        self.server.complete(now, job, outcome);
                    }
                    crashpoint::begun(Step::Answered);
                }
                PoolResults::PublicKeys { handed, done } => {
                    self.desk.outside = self.desk.outside.saturating_sub(handed);
                    self.desk.steps = self.desk.steps.saturating_sub(handed);
                    for done in done {
                        self.server.complete_public_key(now, done);
                    }
                }
            }
            self.collect(now);
        }
    }

    /// Takes all pending output out of the engine.
    fn collect(&mut self, now: Now) {
        loop {
            while let Some(transmit) = self.server.poll_transmit() {
                let path = transmit.path;
                if let Some(socket) = self.sockets.get_mut(usize::from(path.socket.0)) {
                    socket.send(path.peer, path.local, transmit.bytes);
                }
            }
            // Immediate answers produce new transmits.
            let Some(output) = self.server.poll_output() else { return };
            self.take_output(now, output);
        }
    }

    fn take_output(&mut self, now: Now, output: Output) {
        match output {
            Output::Attempt(attempt) => self.note(now, attempt),
            // At most one log line per thousand forged records.
            Output::Alarm(alarm @ Alarm::Forgeries(_)) => {
                self.meters.forgery_alarms.increment(1);
                tracing::warn!("{alarm}");
            }
            Output::Undelivered(issued) => {
                // As every revocation: not by a clock that jumped ahead.
                let utc = self.pool.clock().revocation_time();
                self.snapshot.current().authority.undelivered(utc, &issued);
            }
            Output::Delivered(issued) => self.snapshot.current().authority.delivered(&issued),
            Output::Submit(job_id, job) => match self.desk.admit() {
                Ok(()) => {
                    let (profile, peer) = (Arc::clone(&job.profile), self.server.peer(job_id));
                    self.desk.jobs.push((
                        Ticket { job: TicketOwner::Shard(job_id), since: now.mono, at: now.utc, profile, peer },
                        job,
                    ));
                }
                Err(Full) => self.server.complete(now, job_id, Outcome::from(Busy::Full)),
            },
            Output::PublicKey(job) => match self.desk.admit() {
                Ok(()) => {
                    self.desk.steps += 1;
                    self.desk.public_keys.push(job);
                }
                // The handshake is already paid for; running the step on this thread only makes the other devices wait a little.
                Err(Full) => self.server.complete_public_key(now, job.run()),
            },
        }
    }

    fn note(&self, now: Now, attempt: Attempt) {
        let seconds = attempt.elapsed.as_secs_f64();
        let meters = self.snapshot.current().meters.of(attempt.profile.as_deref());
        match attempt.outcome {
            Ok(Success::Handshake) => self.meters.handshake_seconds.record(seconds),
            Ok(Success::Function(function)) => meters.succeeded(now.utc, function, seconds),
            Err(reason) => meters.refused(reason),
        }
        if attempt.outcome.is_err() || !attempt.notices.is_empty() || tracing::enabled!(tracing::Level::DEBUG) {
            self.refusals.report(attempt);
        }
    }

    fn hand_over(&mut self, now: Now) {
        if !self.desk.jobs.is_empty() {
            let jobs = std::mem::take(&mut self.desk.jobs);
            self.pool.submit(now, &self.snapshot.current().authority, jobs, &self.desk.outcomes);
        }
        if !self.desk.public_keys.is_empty() {
            let jobs = std::mem::take(&mut self.desk.public_keys);
            let results = self.desk.results.clone();
            self.pool.run_public_keys(jobs, move |handed, done| results.send(PoolResults::PublicKeys { handed, done }));
        }
    }

    fn send(&mut self) -> io::Result<()> {
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            socket.flush();
            socket.update_interest(self.poll.registry(), Token(index))?;
        }
        crashpoint::passed_if_begun(Step::Answered);
        Ok(())
    }
}

/// How a shard ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShardEnd {
    /// Set if the deadline came first; otherwise every session was finished or closed.
    pub(super) cut_off: Option<CutOff>,
    /// The last datagrams that the network did not accept in time.
    pub(super) datagrams_dropped: u64,
}

/// What was cut off by the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CutOff {
    /// Enrolments that were still waiting for the authority.
    pub(super) enrolments: usize,
}

/// As much work is outside the shard as the mailbox can hold.
struct Full;

impl Desk {
    fn admit(&mut self) -> Result<(), Full> {
        if self.outside >= self.outside_max {
            return Err(Full);
        }
        self.outside += 1;
        Ok(())
    }
}

fn is_broadcast(local: std::net::IpAddr) -> bool {
    matches!(local, std::net::IpAddr::V4(v4) if v4.is_broadcast())
}
