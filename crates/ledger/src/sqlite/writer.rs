//! The one thread that writes: it takes what waits, writes it in one transaction, and answers when that is durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use authority::{Completion, CrlLayout, Intended, LedgerFault, NextCrl, Record, Recorded, Reserve, Revoke, Revoked};
use crashpoint::Step;
use pki::AnchorId;
use pki::issue::Serial;
use rusqlite::Error;
use tracing::{error, info};

use super::book::Book;
use super::room::Needed;
use super::{Auditor, Shared};
use crate::audit::refusals::{Due, DueRefusals};
use crate::fault::WriteProblem;

/// Rows of one transaction. It holds the answers of all of them until it is durable.
const BATCH_ROWS_MAX: usize = 1_024;

/// A batch of this many rows shows that more of them are on the way: the next batch waits for some, so that they share a sync.
const BATCH_ROWS_BUSY: usize = 16;

/// How many rows a busy ledger waits for, and how long.
const GATHERED_ROWS: usize = 128;
const GATHERING_TIME: Duration = Duration::from_millis(2);

/// How often a ledger that cannot write tries again.
const RETRY_TIME: Duration = Duration::from_secs(1);

/// How often the room on the disk is measured.
const MEASURING_TIME: Duration = Duration::from_secs(5);

/// What the writer is asked for.
pub(super) enum Write {
    Intend(Vec<Reserve>, Completion<Result<Vec<Intended>, LedgerFault>>),
    Record(Vec<Record>, Completion<Result<Vec<Recorded>, LedgerFault>>),
    Abandon(Vec<Serial>),
    Revoke(Vec<Revoke>, Completion<Result<Vec<Revoked>, LedgerFault>>),
    FixCrlLayout(AnchorId, CrlLayout, Completion<Result<CrlLayout, LedgerFault>>),
    NumberCrls(Vec<NextCrl>, Completion<Result<Vec<u64>, LedgerFault>>),
    Flush(Completion<Result<(), LedgerFault>>),
}

/// An answer that is given once the batch is durable.
type Answer = Box<dyn FnOnce(Result<(), LedgerFault>) + Send>;

impl Write {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Intend(rows, _) => rows.len(),
            Self::Record(rows, _) => rows.len(),
            Self::Abandon(rows) => rows.len(),
            Self::Revoke(rows, _) => rows.len(),
            Self::NumberCrls(lists, _) => lists.len(),
            Self::FixCrlLayout(..) => 1,
            Self::Flush(_) => 0,
        }
    }

    fn is_flush(&self) -> bool {
        matches!(self, Self::Flush(_))
    }

    /// Writes the rows into the open transaction. What is answered is not said before it is durable.
    fn write(self, book: &mut Book) -> Result<Answer, (Error, Answer)> {
        match self {
            Self::Intend(rows, done) => answer_each(&rows, INTENT_STEPS, done, |row| book.intend(row)),
            Self::Record(rows, done) => answer_each(&rows, RECORD_STEPS, done, |row| book.record(row)),
            Self::Abandon(rows) => answer_each(&rows, None, Box::new(drop), |serial| book.abandon_serial(serial)),
            Self::Revoke(rows, done) => answer_each(&rows, None, done, |row| book.revoke(row)),
            Self::FixCrlLayout(ca, layout, done) => answer_migrated(book.fix_crl_layout(&ca, layout), done),
            Self::NumberCrls(lists, done) => answer_migrated(book.number_crls(&lists), done),
            Self::Flush(done) => Ok(Box::new(done)),
        }
    }

    /// Says that nothing was written.
    pub(super) fn refuse(self, fault: LedgerFault) {
        match self {
            Self::Intend(_, done) => call(|| done(Err(fault))),
            Self::Record(_, done) => call(|| done(Err(fault))),
            Self::Abandon(_) => {}
            Self::Revoke(_, done) => call(|| done(Err(fault))),
            Self::FixCrlLayout(_, _, done) => call(|| done(Err(fault))),
            Self::NumberCrls(_, done) => call(|| done(Err(fault))),
            Self::Flush(done) => call(|| done(Err(fault))),
        }
    }
}

/// The steps that are passed when rows are in the open transaction, and when they are durable and nobody was told: for a build that crashes there.
type Steps = Option<[Step; 2]>;
const INTENT_STEPS: Steps = Some([Step::IntentWritten, Step::IntentDurable]);
const RECORD_STEPS: Steps = Some([Step::RecordWritten, Step::RecordDurable]);

fn answer_each<R, A: Send + 'static>(
    rows: &[R],
    steps: Steps,
    done: Completion<Result<Vec<A>, LedgerFault>>,
    write: impl FnMut(&R) -> Result<A, Error>,
) -> Result<Answer, (Error, Answer)> {
    match rows.iter().map(write).collect::<Result<Vec<A>, Error>>() {
        Ok(answers) => {
            if let Some([written, _]) = steps {
                crashpoint::passed(written);
            }
            Ok(Box::new(move |outcome| {
                if let (Ok(()), Some([_, durable])) = (outcome, steps) {
                    crashpoint::passed(durable);
                }
                done(outcome.map(|()| answers));
            }))
        }
        Err(error) => Err((error, Box::new(move |outcome| done(outcome.map(|()| Vec::new()))))),
    }
}

/// The answer of a step that needs tables of the current schema; nothing if the file does not have them yet.
fn answer_migrated<A: Send + 'static>(
    written: Result<Option<A>, Error>,
    done: Completion<Result<A, LedgerFault>>,
) -> Result<Answer, (Error, Answer)> {
    match written {
        Ok(answer) => {
            Ok(Box::new(move |outcome| done(outcome.and_then(|()| answer.ok_or(LedgerFault::NeedsMigration)))))
        }
        Err(error) => Err((error, Box::new(move |outcome| done(outcome.and(Err(LedgerFault::Unavailable)))))),
    }
}

/// A completion is code of others: what it panics over is its own affair, and the writer goes on.
fn call(done: impl FnOnce()) {
    let _the_panic_was_reported = catch_unwind(AssertUnwindSafe(done));
}

/// Opens the file anew after a fault.
pub(super) type Reopen = Box<dyn Fn() -> Result<Book, String> + Send>;

/// The writer's state: a book, or nothing while the ledger cannot write.
pub(super) struct Writer {
    shared: Arc<Shared>,
    book: Option<Book>,
    auditor: Auditor,
    open: Reopen,
    /// The last fault was a full disk: what has to be free there.
    missing: Option<Needed>,
    /// When the file was opened last.
    opened: Instant,
    /// When the room on the disk was measured last.
    measured: Instant,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, book: Book, auditor: Auditor, open: Reopen) -> Self {
        let now = Instant::now();
        Self { shared, book: Some(book), auditor, open, missing: None, opened: now, measured: now }
    }

    /// Runs until the queue is closed and empty.
    ///
    /// A panic outside of a row breaks the ledger: whoever waits is told, and nobody waits for a thread that is gone.
    pub(super) fn run(self) {
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.write_until_closed())).is_ok() {
            return;
        }
        shared.set_broken();
        shared.writes.close();
        while let Some(taken) = shared.writes.take(BATCH_ROWS_MAX, Duration::ZERO) {
            taken.items.into_iter().for_each(|write| write.refuse(LedgerFault::Broken));
        }
    }

    fn write_until_closed(mut self) {
        let mut last_rows = 0;
        while let Some(mut taken) = self.shared.writes.take(BATCH_ROWS_MAX, RETRY_TIME) {
            if last_rows >= BATCH_ROWS_BUSY && !taken.items.is_empty() {
                self.shared.writes.gather(&mut taken, GATHERED_ROWS, GATHERING_TIME);
            }
            last_rows = taken.weight;
            if self.measured.elapsed() >= MEASURING_TIME {
                self.measured = Instant::now();
                self.shared.measure_room();
            }
            if self.book.is_none() && !self.shared.is_broken() && self.opened.elapsed() >= RETRY_TIME {
                self.reopen();
            }
            let due = if taken.items.iter().any(Write::is_flush) { Due::Everything } else { Due::ByRate };
            self.write(taken.items, due);
        }
        self.write(Vec::new(), Due::Everything);
        if let Some(book) = &self.book {
            self.auditor.timer.close(book.audit.head(), self.auditor.now());
        }
    }

    /// Writes a batch and what is due in the audit, and has the head of the audit signed once a minute.
    fn write(&mut self, writes: Vec<Write>, due: Due) {
        let now = self.auditor.now();
        let refusals = match &self.book {
            Some(_) => self.shared.refusals().take(now, due),
            // They wait until something can be written.
            None => DueRefusals::default(),
        };
        if !writes.is_empty() || !refusals.is_empty() {
            self.batch(writes, refusals, now);
        }
        if let Some(book) = &self.book {
            self.auditor.timer.tick(book.audit.head(), now);
        }
    }

    fn reopen(&mut self) {
        self.opened = Instant::now();
        if let Some(room) = self.missing.as_ref().and_then(Needed::room)
            && !room.is_enough()
        {
            return self.shared.set_fault(Some(room.to_string()));
        }
        match (self.open)() {
            Ok(book) => {
                info!(file = %self.shared.file.display(), "the ledger writes again: enrolments are served");
                self.shared.set_fault(None);
                self.book = Some(book);
            }
            Err(why) => self.shared.set_fault(Some(why)),
        }
    }

    /// Writes a batch. Any fault ends the batch and the connection: whether its rows are durable is not known then, and they are asked for again.
    fn batch(&mut self, writes: Vec<Write>, refusals: DueRefusals, now: i64) {
        let Some(mut book) = self.book.take() else {
            writes.into_iter().for_each(|write| write.refuse(LedgerFault::Unavailable));
            return;
        };
        let mut answers: Vec<Answer> = Vec::with_capacity(writes.len());
        let mut waiting = writes.into_iter();
        let mut outcome = book.begin();
        while outcome.is_ok()
            && let Some(write) = waiting.next()
        {
            let written = catch_unwind(AssertUnwindSafe(|| write.write(&mut book)));
            match written {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err((error, answer))) => {
                    answers.push(answer);
                    outcome = Err(error);
                }
                Err(_panic) => return self.broke(answers, waiting),
            }
        }
        book.audit.refused(&refusals, now);
        match outcome.map_err(WriteProblem::from).and_then(|()| book.commit()) {
            Ok(()) => {
                self.shared.publish(book.tally());
                self.book = Some(book);
                answers.into_iter().for_each(|answer| call(|| answer(Ok(()))));
            }
            Err(error) => {
                // The connection is closed before anybody hears of it: its transaction is over.
                book.close_after_fault();
                self.failed(&error);
                self.shared.refusals().give_back(refusals);
                answers.into_iter().for_each(|answer| call(|| answer(Err(LedgerFault::Unavailable))));
                waiting.for_each(|write| write.refuse(LedgerFault::Unavailable));
            }
        }
    }

    fn failed(&mut self, why: &WriteProblem) {
        let needed = Needed::by(why, &self.shared.file);
        let file = self.shared.file.display();
        let is_full = why.is_full();
        self.opened = Instant::now();
        self.shared.faults.fetch_add(1, Ordering::Relaxed);
        self.shared.measure_room();
        let room = needed.room().filter(|room| is_full || !room.is_enough());
        let room = room.map_or_else(String::new, |room| format!(": {room}"));
        error!(%file, "the ledger cannot write: {why}{room}. Enrolments get 5.03 until it can; what was acknowledged is safe");
        self.shared.set_fault(Some(format!("{why}{room}")));
        self.missing = is_full.then_some(needed);
    }

    /// A panic half way through a row: a defect. Nothing of the batch was committed, and the process has to start again.
    fn broke(&self, answers: Vec<Answer>, waiting: impl Iterator<Item = Write>) {
        self.shared.set_broken();
        answers.into_iter().for_each(|answer| call(|| answer(Err(LedgerFault::Broken))));
        waiting.for_each(|write| write.refuse(LedgerFault::Broken));
    }
}
