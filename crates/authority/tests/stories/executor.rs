//! Where an issuance continues when the ledger completes on a separate thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};

use authority::{
    Authority, Busy, CaAuthority, Completion, Custody, Deliver, Executor, Finding, Flights, Function, Inquiry,
    Intended, Job, Ledger, LedgerFault, LedgerOver, MemoryLedger, Outcome, Random, Record, Recorded, Reserve,
    RingSigner, Signer, SignerFault, ToSign,
};
use pki::Signature;
use pki::issue::NodePrefix;
use ring::rand::SecureRandom;

use crate::support::{DAY, Derived, START, World, at, issued, run_one};

type Task = Box<dyn FnOnce() + Send>;

/// A thread that runs the tasks that it is given, until it is dropped.
struct Worker {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    id: ThreadId,
    /// Tasks that it was given from other threads.
    given: AtomicUsize,
}

impl Worker {
    fn new() -> Arc<Self> {
        let (tasks, queue): (Sender<Task>, Receiver<Task>) = mpsc::channel();
        #[allow(clippy::disallowed_methods, reason = "a test is its own shell")]
        let thread = thread::spawn(move || queue.into_iter().for_each(|task| task()));
        let id = thread.thread().id();
        Arc::new(Self { tasks: Some(tasks), thread: Some(thread), id, given: AtomicUsize::new(0) })
    }

    fn give(&self, task: Task) {
        if thread::current().id() != self.id {
            self.given.fetch_add(1, Ordering::SeqCst);
        }
        self.tasks.as_ref().unwrap().send(task).unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.tasks.take();
        // Its last task may be to drop itself.
        if let Some(thread) = self.thread.take().filter(|_| thread::current().id() != self.id) {
            thread.join().unwrap();
        }
    }
}

impl Executor for Worker {
    fn is_here(&self) -> bool {
        thread::current().id() == self.id
    }

    fn spawn(&self, task: Task) {
        self.give(task);
    }
}

/// A ledger in memory that completes on a separate thread.
struct Elsewhere {
    inner: Arc<MemoryLedger>,
    writer: Arc<Worker>,
}

impl Elsewhere {
    fn on_writer(&self, call: impl FnOnce(&MemoryLedger) + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        self.writer.give(Box::new(move || call(&inner)));
    }
}

impl LedgerOver for Elsewhere {
    fn inner(&self) -> &dyn Ledger {
        &*self.inner
    }

    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.on_writer(|inner| inner.standing(of, done));
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.on_writer(|inner| inner.intend(rows, done));
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.on_writer(|inner| inner.record(rows, done));
    }
}

/// Signs, and records the thread of each call and its number of certificates.
struct Observed {
    inner: RingSigner,
    calls: Mutex<Vec<(ThreadId, usize)>>,
}

impl Signer for Observed {
    fn custody(&self) -> Custody {
        self.inner.custody()
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>) {
        self.calls.lock().unwrap().push((thread::current().id(), batch.len()));
        self.inner.sign(batch, done);
    }
}

struct Outcomes(Sender<(usize, Outcome)>);

impl Deliver<usize> for Outcomes {
    fn deliver(&self, outcomes: Vec<(usize, Outcome)>) {
        outcomes.into_iter().for_each(|outcome| self.0.send(outcome).unwrap());
    }
}

/// Panics when the second serial is drawn.
struct PanicsOnSecond(Arc<Derived>, AtomicUsize);

impl Random for PanicsOnSecond {
    fn fill(&self, out: &mut [u8]) {
        assert!(self.1.fetch_add(1, Ordering::SeqCst) != 1, "the second serial");
        self.0.fill(out);
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn SecureRandom)) {
        self.0.with_secure(operation);
    }
}

/// A world whose ledger has a separate thread, and the jobs of one batch: a renewal, so that the ledger is asked three times, and two
/// enrolments.
struct Stage {
    world: World,
    ledger: Arc<Elsewhere>,
    signer: Arc<Observed>,
    flights: Arc<Flights>,
    jobs: Vec<(usize, Job)>,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let (authority, inner) = world.plain();
        let profile = world.profile();
        let old = world.device(0);
        let first = issued(run_one(&authority, START, world.enroll(&profile, &old, old.csr())));
        let renewal = world.with_issued(Function::SimpleReenroll, &profile, &first, old.csr());
        let new = [1, 2].map(|number| world.device(number));
        let jobs = [renewal].into_iter().chain(new.iter().map(|new| world.enroll(&profile, new, new.csr())));
        let jobs = jobs.enumerate().collect();
        let signer = Arc::new(Observed { inner: world.signer(), calls: Mutex::default() });
        let ledger = Arc::new(Elsewhere { inner, writer: Worker::new() });
        Self { world, ledger, signer, flights: Arc::default(), jobs }
    }

    fn authority(&self, random: Arc<dyn Random>) -> CaAuthority {
        let ledger = Arc::clone(&self.ledger) as Arc<dyn Ledger>;
        let signer = Arc::clone(&self.signer) as Arc<dyn Signer>;
        CaAuthority::new(ledger, signer, random, NodePrefix::new(7), Arc::clone(&self.flights))
    }
}

/// Submits on a thread of the executor, and waits for each outcome.
fn outcomes(pool: &Worker, authority: CaAuthority, jobs: Vec<(usize, Job)>) -> Vec<(usize, Outcome)> {
    let (sender, receiver) = mpsc::channel();
    let authority = Arc::new(authority);
    pool.give(Box::new(move || authority.submit(at(START + DAY), jobs, Arc::new(Outcomes(sender)))));
    // Wait until the last batch has been dropped.
    let mut outcomes: Vec<_> = receiver.into_iter().collect();
    outcomes.sort_by_key(|(index, _)| *index);
    outcomes
}

/// Number of certificates; every outcome must be one.
fn certificates(outcomes: Vec<(usize, Outcome)>) -> usize {
    let certificates: Vec<_> = outcomes.into_iter().map(|(_, outcome)| issued(outcome)).collect();
    certificates.len()
}

#[test]
fn a_ledger_that_completes_on_its_own_thread_signs_nothing_there_and_a_batch_hops_once() {
    let mut stage = Stage::new();
    let pool = Worker::new();
    let authority = stage.authority(Arc::clone(&stage.world.random) as Arc<dyn Random>);
    let authority = authority.executing_on(Arc::clone(&pool) as Arc<dyn Executor>);
    let outcomes = outcomes(&pool, authority, std::mem::take(&mut stage.jobs));
    assert_eq!(certificates(outcomes), 3);
    assert_eq!(*stage.signer.calls.lock().unwrap(), [(pool.id, 3)], "three certificates, in one call, on the pool");
    let completed = stage.ledger.writer.given.load(Ordering::SeqCst);
    assert_eq!(completed, 3, "standing, intend, record");
    // The first task is the submission.
    assert_eq!(pool.given.load(Ordering::SeqCst) - 1, completed, "each completion moved the whole batch in one hop");
}

#[test]
fn without_another_executor_the_next_step_runs_where_the_last_one_completed() {
    let mut stage = Stage::new();
    let pool = Worker::new();
    let authority = stage.authority(Arc::clone(&stage.world.random) as Arc<dyn Random>);
    let outcomes = outcomes(&pool, authority, std::mem::take(&mut stage.jobs));
    assert_eq!(outcomes.len(), 3);
    assert_eq!(*stage.signer.calls.lock().unwrap(), [(stage.ledger.writer.id, 3)]);
    assert_eq!(pool.given.load(Ordering::SeqCst), 1, "the submission");
}

#[test]
fn e56_a_step_that_panics_after_a_hop_costs_its_batch_nothing_else() {
    let mut stage = Stage::new();
    let pool = Worker::new();
    let random = Arc::new(PanicsOnSecond(Arc::clone(&stage.world.random), AtomicUsize::new(0)));
    let authority = stage.authority(random).executing_on(Arc::clone(&pool) as Arc<dyn Executor>);
    let authority = authority.isolating(|step| drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(step))));
    let mut outcomes = outcomes(&pool, authority, std::mem::take(&mut stage.jobs));
    let (_, second) = outcomes.remove(1);
    assert!(matches!(second, Outcome::Later { why: Busy::Dropped, .. }), "{second:?}");
    assert_eq!(certificates(outcomes), 2);
    assert!(stage.flights.is_empty());
}

/// Threads that have ended.
struct Ended;

impl Executor for Ended {
    fn is_here(&self) -> bool {
        false
    }

    fn spawn(&self, task: Task) {
        drop(task);
    }
}

#[test]
fn what_completes_after_the_end_of_the_executor_is_answered_with_later() {
    let mut stage = Stage::new();
    let pool = Worker::new();
    let authority = stage.authority(Arc::clone(&stage.world.random) as Arc<dyn Random>).executing_on(Arc::new(Ended));
    let outcomes = outcomes(&pool, authority, std::mem::take(&mut stage.jobs));
    assert_eq!(outcomes.len(), 3);
    for (_, outcome) in outcomes {
        assert!(matches!(outcome, Outcome::Later { why: Busy::Dropped, .. }), "{outcome:?}");
    }
    assert!(stage.signer.calls.lock().unwrap().is_empty() && stage.flights.is_empty());
}
