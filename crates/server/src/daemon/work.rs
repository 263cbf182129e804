//! The pool: it verifies certificate requests, signs certificates and runs suspended steps of handshakes.
//!
//! A shard hands work over in batches, once per turn: the hand-over of a single job and its answer costs twenty times its share of a batch. A shard
//! runs some of its jobs itself (`own_share.rs`) by the same calls. Blocking work does not run here.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use authority::{Authority, Deliver, Executor, Job, Outcome, Profile};
use est::{JobId, Now, PublicKeyDone, PublicKeyJob};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use rustls_pki_types::UnixTime;

use super::clock::IssuanceClock;
use crate::logging::Issuance;
use crate::panics::guarded;

/// Jobs per task: enough to make the hand-over cheap, few enough to spread the work of a turn over the threads. One job takes about 150 us.
const CHUNK_MAX: usize = 16;
/// The prefix under which a panic here is logged.
const WHAT: &str = "a job of the pool";

/// Identifies a job in flight, with the time at which it left the shard.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) job: TicketOwner,
    pub(super) since: Instant,
    /// The time that the authority uses as the time of issuance.
    pub(super) at: UnixTime,
    pub(super) profile: Arc<Profile>,
    pub(super) peer: Option<SocketAddr>,
}

impl Ticket {
    /// The certificate that this very job had issued, not an earlier job: a repeated request returns a certificate with an earlier time. One that an
    /// upstream issued has the time of its answer.
    pub(super) fn issuance(&self, outcome: &Outcome) -> Option<Issuance> {
        let Outcome::Issued { issued, .. } = outcome else { return None };
        (issued.at >= self.at).then(|| Issuance {
            issued: Arc::clone(issued),
            profile: Arc::clone(&self.profile),
            peer: self.peer,
        })
    }
}

/// Who waits for the outcome.
#[derive(Clone, Copy, Debug)]
pub(super) enum TicketOwner {
    /// A shard, for this job of its server.
    Shard(JobId),
    /// A connection of the HTTPS front, which is known to the one who delivers.
    Https,
}

/// The threads that do the expensive work of all shards.
pub(super) struct Pool {
    threads: ThreadPool,
    clock: Arc<IssuanceClock>,
}

impl Pool {
    /// `threads` of 0 means one per core.
    pub(super) fn new(threads: u32, clock: Arc<IssuanceClock>) -> Result<Self, ThreadPoolBuildError> {
        let threads = usize::try_from(threads).unwrap_or(0);
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("muster-pool-{index}"));
        Ok(Self { threads: builder.build()?, clock })
    }

    /// The clock that dates what its jobs do.
    pub(super) const fn clock(&self) -> &Arc<IssuanceClock> {
        &self.clock
    }

    /// The number of threads.
    pub(super) fn threads(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Hands enrolments to the authority on the calling thread, a shard. What a ledger or a signer completes elsewhere continues in the pool.
    pub(super) fn submit_here(
        &self,
        now: Now,
        authority: &Arc<dyn Authority<Ticket>>,
        jobs: Vec<(Ticket, Job)>,
        deliver: &Arc<dyn Deliver<Ticket>>,
    ) {
        if let Some(jobs) = self.datable(now, jobs, deliver) {
            let (authority, deliver) = (Arc::clone(authority), Arc::clone(deliver));
            let _here = Here::enter();
            guarded(WHAT, || authority.submit(now.utc, jobs, deliver));
        }
    }

    /// Hands enrolments to the authority, in tasks that spread over the threads.
    pub(super) fn submit(
        &self,
        now: Now,
        authority: &Arc<dyn Authority<Ticket>>,
        jobs: Vec<(Ticket, Job)>,
        deliver: &Arc<dyn Deliver<Ticket>>,
    ) {
        let Some(jobs) = self.datable(now, jobs, deliver) else { return };
        let utc = now.utc;
        self.in_chunks(jobs, |chunk| {
            let (authority, deliver) = (Arc::clone(authority), Arc::clone(deliver));
            self.spawn(move || authority.submit(utc, chunk, deliver));
        });
    }

    /// The jobs, if certificates may be dated by this clock; otherwise each of them is answered.
    fn datable(
        &self,
        now: Now,
        jobs: Vec<(Ticket, Job)>,
        deliver: &Arc<dyn Deliver<Ticket>>,
    ) -> Option<Vec<(Ticket, Job)>> {
        let Err(why) = self.clock.check(now.utc) else { return Some(jobs) };
        let later = |(ticket, _): (Ticket, Job)| (ticket, Outcome::from(why));
        deliver.deliver(jobs.into_iter().map(later).collect());
        None
    }

    /// Runs steps of handshakes. `done` is called once per task, with the number of steps in that task.
    pub(super) fn run_public_keys(
        &self,
        jobs: Vec<PublicKeyJob>,
        done: impl Fn(usize, Vec<PublicKeyDone>) + Clone + Send + 'static,
    ) {
        self.in_chunks(jobs, |chunk| {
            let done = done.clone();
            let handed = chunk.len();
            // A step that panics never completes: its handshake ends at its deadline. The other steps of the task complete.
            self.spawn(move || done(handed, PublicKeyJob::run_many(chunk, &isolate)));
        });
    }

    /// Waits until each thread has ended what it runs, at most so long: what a task holds of the ledger is given up before the server has ended, and not
    /// behind its back.
    pub(super) fn settle(&self, time: Duration) {
        let (running, ended) = mpsc::channel::<Infallible>();
        self.threads.spawn_broadcast(move |_| _ = &running);
        // Nothing is ever sent: the channel closes when the last thread has passed.
        let _ = ended.recv_timeout(time);
    }

    /// Runs a task; a panic ends only that task (rayon would abort the process). A panic in the step of one job is already caught by [`isolate`], and
    /// the other jobs of the task continue.
    fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        self.threads.spawn(move || {
            guarded(WHAT, task);
        });
    }

    fn in_chunks<J>(&self, mut jobs: Vec<J>, mut hand_over: impl FnMut(Vec<J>)) {
        let size = jobs.len().div_ceil(self.threads.current_num_threads()).clamp(1, CHUNK_MAX);
        while jobs.len() > size {
            let rest = jobs.split_off(size);
            hand_over(std::mem::replace(&mut jobs, rest));
        }
        hand_over(jobs);
    }
}

thread_local! {
    /// Whether this thread, a shard, runs jobs at the moment.
    static RUNS_JOBS: Cell<bool> = const { Cell::new(false) };
}

/// As long as it lives, its thread counts as one of the pool.
struct Here;

impl Here {
    fn enter() -> Self {
        RUNS_JOBS.set(true);
        Self
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        RUNS_JOBS.set(false);
    }
}

/// Where enrolments continue after a ledger or signer has completed on a separate thread. It does not keep the pool alive: what completes after the
/// last shard has ended is dropped, because no shard is left to answer. Each step is an entry of the pool's queue, which is not bounded itself; each
/// of the enrolments in flight (`limits.enrolments_in_flight_max`) has at most one entry.
pub(super) struct PoolExecutor(Weak<Pool>);

impl PoolExecutor {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self(Arc::downgrade(pool))
    }
}

impl Executor for PoolExecutor {
    fn is_here(&self) -> bool {
        RUNS_JOBS.get() || self.0.upgrade().is_some_and(|pool| pool.threads.current_thread_index().is_some())
    }

    fn spawn(&self, task: Box<dyn FnOnce() + Send>) {
        if let Some(pool) = self.0.upgrade() {
            pool.spawn(task);
        }
    }
}

/// Runs a step of one job. A panic ends the step and is logged with its reason. Unwinding frees the claim of an enrolment and answers its job with
/// 5.03.
pub(super) fn isolate(step: &mut dyn FnMut()) {
    guarded(WHAT, step);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::{Format, logged};

    /// Both cases share one test: a second test that panics in the pool at the same time, without a log, may make `tracing` cache that there is no
    /// listener.
    #[test]
    fn e56_a_panic_ends_one_job_is_logged_with_its_reason_and_the_pool_goes_on() {
        let mut ended = Vec::new();
        let log = logged(Format::Human, || {
            for job in 0..3 {
                isolate(&mut || {
                    assert!(job != 1, "job {job} is at fault");
                    ended.push(job);
                });
            }
        });
        assert_eq!((ended.as_slice(), log.lines().count()), (&[0, 2][..], 1), "{log}");
        assert!(log.contains("ERROR") && log.contains("a job of the pool panicked: job 1 is at fault"), "{log}");

        let pool = Pool::new(1, Arc::new(IssuanceClock::new())).unwrap();
        let (sender, receiver) = mpsc::channel();
        for number in 0..3 {
            let sender = sender.clone();
            pool.spawn(move || {
                assert!(number != 1, "job {number} is at fault");
                sender.send(number).unwrap();
            });
        }
        drop(sender);
        assert_eq!(receiver.iter().collect::<std::collections::BTreeSet<_>>(), [0, 2].into());
    }

    #[test]
    fn a_hop_ends_on_a_thread_of_the_pool_or_with_it() {
        let pool = Arc::new(Pool::new(1, Arc::new(IssuanceClock::new())).unwrap());
        let executor = Arc::new(PoolExecutor::new(&pool));
        assert!(!executor.is_here(), "the thread of a test");
        let (sender, receiver) = mpsc::channel();
        let (there, of_task) = (Arc::clone(&executor), sender.clone());
        executor.spawn(Box::new(move || of_task.send(there.is_here()).unwrap()));
        assert!(receiver.recv().unwrap());
        drop(pool);
        executor.spawn(Box::new(move || sender.send(true).unwrap()));
        assert!(receiver.recv().is_err(), "what comes after the end is dropped");
    }
}
