//! The one thread that writes: it takes what waits, writes it in one transaction, and answers when that is durable.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use authority::{
    Adoption, Begun, Completion, CrlLayout, Intended, LedgerFault, NextCrl, Record, Recorded, RelayEnd, RelayId,
    RelayRecord, RelayRequest, Relayed, Reserve, Revocation, Revoke, Revoked,
};
use crashpoint::Step;
use pki::issue::Serial;
use pki::{AnchorId, Digest};
use rusqlite::Error;
use tracing::{error, info};

use super::book::Book;
use super::deliveries::Arrived;
use super::room::Needed;
use super::{Auditor, Shared};
use crate::audit::refusals::{Due, DueRefusals};
use crate::fault::WriteProblem;

/// Rows of one transaction. It holds the answers of all of them until it is durable.
const BATCH_ROWS_MAX: usize = 1_024;

/// A batch of this many rows shows that more of them are on the way: the next batch waits for some, so that they share a sync.
const BATCH_ROWS_BUSY: usize = 16;

/// How many rows a busy ledger waits for, and how long: a commit costs about 0.5 ms of CPU, whether of ten rows or of forty, so that at most a tenth
/// of a core goes into commits. An enrolment has two of them; a lone one never waits.
const GATHERED_ROWS: usize = 256;
const GATHERING_TIME: Duration = Duration::from_millis(5);

/// How often a ledger that cannot write tries again.
const RETRY_TIME: Duration = Duration::from_secs(1);

/// How often the room on the disk is measured.
const MEASURING_TIME: Duration = Duration::from_secs(5);

/// What the writer is asked for.
pub(super) enum Write {
    /// With the time when it was asked for.
    Intend(Vec<Reserve>, Instant, Completion<Result<Vec<Intended>, LedgerFault>>),
    Record(Vec<Record>, Completion<Result<Vec<Recorded>, LedgerFault>>),
    Abandon(Vec<Serial>),
    Revoke(Vec<Revoke>, Completion<Result<Vec<Revoked>, LedgerFault>>),
    Adopt(Vec<Adoption>, Completion<Result<Vec<Recorded>, LedgerFault>>),
    FixCrlLayout(AnchorId, CrlLayout, Completion<Result<CrlLayout, LedgerFault>>),
    NumberCrls(Vec<NextCrl>, Completion<Result<Vec<u64>, LedgerFault>>),
    RelayBegin(Vec<RelayRequest>, Completion<Result<Vec<Begun>, LedgerFault>>),
    RelayRecord(Vec<RelayRecord>, Completion<Result<Vec<Relayed>, LedgerFault>>),
    RelayEnd(Vec<(RelayId, RelayEnd)>),
    RelayRevoke(Vec<(Digest, Revocation)>, Completion<Result<Vec<Revoked>, LedgerFault>>),
    Flush(Completion<Result<(), LedgerFault>>),
}

/// An answer that is given once the batch is durable.
type Answer = Box<dyn FnOnce(Result<(), LedgerFault>) + Send>;

impl Write {
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Intend(rows, ..) => rows.len(),
            Self::Record(rows, _) => rows.len(),
            Self::Abandon(rows) => rows.len(),
            Self::Revoke(rows, _) => rows.len(),
            Self::Adopt(rows, _) => rows.len(),
            Self::NumberCrls(lists, _) => lists.len(),
            Self::RelayBegin(rows, _) => rows.len(),
            Self::RelayRecord(rows, _) => rows.len(),
            Self::RelayEnd(rows) => rows.len(),
            Self::RelayRevoke(rows, _) => rows.len(),
            Self::FixCrlLayout(..) => 1,
            Self::Flush(_) => 0,
        }
    }

    fn is_flush(&self) -> bool {
        matches!(self, Self::Flush(_))
    }

    /// Writes the rows into the open transaction. What is answered is not said before it is durable.
    fn write(self, book: &mut Book) -> (Answer, Result<(), Halt>) {
        match self {
            Self::Intend(rows, asked, done) => {
                let waited = i64::try_from(asked.elapsed().as_secs()).unwrap_or(i64::MAX);
                answer_each(&rows, INTENT_STEPS, done, |row| book.intend(row, waited))
            }
            Self::Record(rows, done) => answer_each(&rows, RECORD_STEPS, done, |row| book.record(row)),
            Self::Abandon(rows) => answer_each(&rows, None, Box::new(drop), |serial| book.abandon_serial(serial)),
            Self::Revoke(rows, done) => answer_each(&rows, None, done, |row| book.revoke(row)),
            Self::Adopt(rows, done) => answer_each(&rows, None, done, |row| book.adopt(row)),
            Self::FixCrlLayout(ca, layout, done) => answer_migrated(None, done, || book.fix_crl_layout(&ca, layout)),
            Self::NumberCrls(lists, done) => answer_migrated(None, done, || book.number_crls(&lists)),
            Self::RelayBegin(rows, done) => answer_migrated(INTENT_STEPS, done, || book.relay_begin(&rows)),
            Self::RelayRecord(rows, done) => answer_migrated(RECORD_STEPS, done, || book.relay_record(&rows)),
            Self::RelayEnd(rows) => answer_migrated(None, Box::new(drop), || book.relay_end(&rows)),
            Self::RelayRevoke(rows, done) => answer_migrated(None, done, || book.relay_revoke(&rows)),
            Self::Flush(done) => (Box::new(done), Ok(())),
        }
    }

    /// Says that nothing was written.
    pub(super) fn refuse(self, fault: LedgerFault) {
        match self {
            Self::Intend(.., done) => call(|| done(Err(fault))),
            Self::Record(_, done) => call(|| done(Err(fault))),
            Self::Abandon(_) => {}
            Self::Revoke(_, done) => call(|| done(Err(fault))),
            Self::Adopt(_, done) => call(|| done(Err(fault))),
            Self::FixCrlLayout(_, _, done) => call(|| done(Err(fault))),
            Self::RelayBegin(_, done) => call(|| done(Err(fault))),
            Self::RelayRecord(_, done) => call(|| done(Err(fault))),
            Self::RelayEnd(_) => {}
            Self::RelayRevoke(_, done) => call(|| done(Err(fault))),
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
) -> (Answer, Result<(), Halt>) {
    let written = catch_unwind(AssertUnwindSafe(|| rows.iter().map(write).collect::<Result<Vec<A>, Error>>()));
    let halt = match written {
        Ok(Ok(answers)) => {
            if let Some([written, _]) = steps {
                crashpoint::passed(written);
            }
            let answer = move |outcome: Result<(), LedgerFault>| {
                if let (Ok(()), Some([_, durable])) = (outcome, steps) {
                    crashpoint::passed(durable);
                }
                done(outcome.map(|()| answers));
            };
            return (Box::new(answer), Ok(()));
        }
        Ok(Err(error)) => Halt::Fault(error.into()),
        Err(_panic_was_reported) => Halt::Panic,
    };
    (Box::new(move |outcome| done(outcome.map(|()| Vec::new()))), Err(halt))
}

/// Why a batch ends before its rows are durable.
enum Halt {
    Fault(WriteProblem),
    /// A defect: half a row may be in memory.
    Panic,
}

impl<E: Into<WriteProblem>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Fault(error.into())
    }
}

/// The answer of a step that needs tables of the current schema; nothing if the file does not have them yet.
fn answer_migrated<A: Send + 'static>(
    steps: Steps,
    done: Completion<Result<A, LedgerFault>>,
    write: impl FnOnce() -> Result<Option<A>, Error>,
) -> (Answer, Result<(), Halt>) {
    let halt = match catch_unwind(AssertUnwindSafe(write)) {
        Ok(Ok(answer)) => {
            if let Some([written, _]) = steps {
                crashpoint::passed(written);
            }
            let answer = move |outcome: Result<(), LedgerFault>| {
                if let (Ok(()), Some([_, durable])) = (outcome, steps) {
                    crashpoint::passed(durable);
                }
                done(outcome.and_then(|()| answer.ok_or(LedgerFault::NeedsMigration)));
            };
            return (Box::new(answer), Ok(()));
        }
        Ok(Err(error)) => Halt::Fault(error.into()),
        Err(_panic_was_reported) => Halt::Panic,
    };
    (Box::new(move |outcome| done(outcome.and(Err(LedgerFault::Unavailable)))), Err(halt))
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
    in_hand: InHand,
}

/// What the batch at work will answer. It outlives a panic, so that whoever waits is told.
#[derive(Default)]
struct InHand {
    writes: VecDeque<Write>,
    answers: Vec<Answer>,
    refusals: DueRefusals,
    arrived: Arrived,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, book: Book, auditor: Auditor, open: Reopen) -> Self {
        let now = Instant::now();
        Self {
            shared,
            book: Some(book),
            auditor,
            open,
            missing: None,
            opened: now,
            measured: now,
            in_hand: InHand::default(),
        }
    }

    /// Runs until the queue is closed and empty.
    ///
    /// A panic breaks the ledger: whoever waits is told, and nobody waits for a thread that is gone.
    pub(super) fn run(mut self) {
        if catch_unwind(AssertUnwindSafe(|| self.write_until_closed())).is_ok() {
            return;
        }
        self.broke();
        self.shared.writes.close();
        while let Some(taken) = self.shared.writes.take(BATCH_ROWS_MAX, Duration::ZERO) {
            taken.items.into_iter().for_each(|write| write.refuse(LedgerFault::Broken));
        }
        call(|| self.write_last());
    }

    fn write_until_closed(&mut self) {
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
        self.write_last();
    }

    /// Writes what the audit still lacks, and has its head signed. After a fault the file is opened once more for it: the audit of what was refused is
    /// not in memory any more than its rows are.
    fn write_last(&mut self) {
        if self.book.is_none() {
            self.book = (self.open)().ok();
        }
        self.write(Vec::new(), Due::Everything);
        if let Some(book) = &self.book {
            self.auditor.timer.close(book.audit.head(), self.auditor.now());
        }
    }

    /// Writes a batch and what is due in the audit, and has the head of the audit signed once a minute.
    fn write(&mut self, writes: Vec<Write>, due: Due) {
        self.in_hand.writes = writes.into();
        let now = self.auditor.now();
        // Without a book they wait until something can be written.
        if self.book.is_some() {
            self.in_hand.refusals = self.shared.refusals().take(now, due);
            self.in_hand.arrived = self.shared.deliveries.take();
        }
        if !self.in_hand.is_empty() {
            self.batch(now);
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
    fn batch(&mut self, now: i64) {
        let Some(mut book) = self.book.take() else {
            return self.refuse(self.shared.write_fault().unwrap_or(LedgerFault::Unavailable));
        };
        match self.in_hand.transact(&mut book, now) {
            Ok(()) => {
                self.shared.publish(book.tally());
                self.book = Some(book);
                self.in_hand.refusals = DueRefusals::default();
                self.in_hand.arrived = Arrived::default();
                self.in_hand.answers.drain(..).for_each(|answer| call(|| answer(Ok(()))));
            }
            Err(Halt::Fault(problem)) => {
                // The connection is closed before anybody hears of it: its transaction is over.
                book.close_after_fault();
                self.failed(&problem);
                self.refuse(LedgerFault::Unavailable);
            }
            Err(Halt::Panic) => {
                drop(book);
                self.broke();
            }
        }
    }

    /// Answers the batch with this fault. What the audit has to record is kept for another one.
    fn refuse(&mut self, fault: LedgerFault) {
        let InHand { writes, answers, refusals, arrived } = std::mem::take(&mut self.in_hand);
        self.shared.deliveries.give_back(arrived);
        if !refusals.is_empty() {
            self.shared.refusals().give_back(refusals);
        }
        answers.into_iter().for_each(|answer| call(|| answer(Err(fault))));
        writes.into_iter().for_each(|write| write.refuse(fault));
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

    /// After a panic, which is a defect: nothing of the batch was committed, and the process has to start again.
    fn broke(&mut self) {
        self.book = None;
        self.shared.set_broken();
        self.refuse(LedgerFault::Broken);
    }
}

impl InHand {
    fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.refusals.is_empty() && self.arrived.is_empty()
    }

    /// Writes all of it in one transaction.
    fn transact(&mut self, book: &mut Book, now: i64) -> Result<(), Halt> {
        self.answers.reserve(self.writes.len());
        book.begin()?;
        while let Some(write) = self.writes.pop_front() {
            let (answer, written) = write.write(book);
            self.answers.push(answer);
            written?;
        }
        if !self.arrived.is_empty() {
            book.delivered(&self.arrived.serials, &self.arrived.relayed)?;
        }
        book.audit.refused(&self.refusals, now);
        Ok(book.commit()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The completion of the row that panics is not lost in the unwinding: it may be alone in its batch.
    #[test]
    fn e56_whoever_asked_for_a_row_that_panics_is_told() {
        let (sender, answers) = mpsc::channel();
        let done = Box::new(move |answer: Result<Vec<()>, LedgerFault>| sender.send(answer).unwrap());
        let (answer, written) = answer_each(&[1, 2], None, done, |row| {
            assert!(*row != 2, "row {row} is at fault");
            Ok(())
        });
        assert!(matches!(written, Err(Halt::Panic)));
        answer(Err(LedgerFault::Broken));
        assert_eq!(answers.recv().unwrap(), Err(LedgerFault::Broken));
    }
}
