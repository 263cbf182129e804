//! What the daemon has to do with its ledger: it ends the process when the ledger breaks, shows how many certificates there are, and waits for
//! the last rows at its end.
//!
//! A panic in the pool ends one job. A panic inside the ledger may leave half a row behind its lock: the ledger then refuses every call, and no
//! enrolment can succeed. A server in that state must not stay up. It ends as it does when a shard has failed: it reports not ready, finishes and
//! closes its sessions, and returns an error to the service manager, which restarts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use authority::{
    Adoption, Completion, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListQuery, CrlListing, Finding, Gap, Inquiry,
    Intended, Ledger, LedgerEntry, LedgerFault, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator, NextCrl,
    Record, Recorded, RefusalRecord, Reserve, Revoke, Revoked, RowFilter, RowState,
};
use pki::AnchorId;
use pki::issue::{NodePrefix, Serial};
use rustls_pki_types::UnixTime;

use super::control::{Breakdown, Control};

/// A ledger, and what to end when it breaks.
pub(super) struct GuardedLedger {
    inner: Arc<dyn Ledger>,
    control: Arc<Control>,
    /// When the process began, by a monotonic clock.
    began: Instant,
}

impl GuardedLedger {
    pub(super) fn new(inner: Arc<dyn Ledger>, control: Arc<Control>) -> Self {
        Self { inner, control, began: Instant::now() }
    }

    /// Calls the ledger. A panic before the ledger has answered counts as the ledger's; a panic after its answer belongs to the work that the answer
    /// started.
    fn ask<T: 'static>(
        &self,
        call: impl FnOnce(&dyn Ledger, Completion<Result<T, LedgerFault>>),
        done: Completion<Result<T, LedgerFault>>,
    ) {
        let answered = Arc::new(AtomicBool::new(false));
        let mut inside = self.enter(Some(Arc::clone(&answered)));
        let control = Arc::clone(&self.control);
        let watched = move |answer: Result<T, LedgerFault>| {
            answered.store(true, Ordering::Relaxed);
            if matches!(answer, Err(LedgerFault::Broken)) {
                control.broke(Breakdown::Ledger);
            }
            done(answer);
        };
        call(&*self.inner, Box::new(watched));
        inside.returned = true;
    }

    fn enter(&self, answered: Option<Arc<AtomicBool>>) -> Inside<'_> {
        Inside { control: &self.control, answered, returned: false }
    }
}

/// When the process began, by the wall clock as it is now. A machine without a battery starts with a clock that is behind until it is synchronised;
/// compared with that first reading, certificates issued before the start would seem to be issued after it.
fn start_by(utc: UnixTime, running: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(utc.as_secs()).saturating_sub(running))
}

/// A call of the ledger. If it is dropped before it has returned, a panic is unwinding.
struct Inside<'a> {
    control: &'a Control,
    answered: Option<Arc<AtomicBool>>,
    returned: bool,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let answered = self.answered.as_ref().is_some_and(|answered| answered.load(Ordering::Relaxed));
        if !self.returned && !answered {
            self.control.broke(Breakdown::Ledger);
        }
    }
}

impl Ledger for GuardedLedger {
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.ask(|inner, done| inner.standing(of, done), done);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        let mut inside = self.enter(None);
        let since = self.inner.complete_since();
        inside.returned = true;
        since.map(|since| since.max(start_by(UnixTime::now(), self.began.elapsed())))
    }

    fn time(&self) -> Option<UnixTime> {
        let mut inside = self.enter(None);
        let time = self.inner.time();
        inside.returned = true;
        time
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        let mut inside = self.enter(None);
        let serial = self.inner.draw(node, random);
        inside.returned = true;
        serial
    }

    fn gap(&self, serial: &Serial, not_before: UnixTime) -> Option<Gap> {
        let mut inside = self.enter(None);
        let gap = self.inner.gap(serial, not_before);
        inside.returned = true;
        gap
    }

    fn adopt(&self, rows: Vec<Adoption>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.ask(|inner, done| inner.adopt(rows, done), done);
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.ask(|inner, done| inner.intend(rows, done), done);
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.ask(|inner, done| inner.record(rows, done), done);
    }

    fn abandon(&self, serials: Vec<Serial>) {
        let mut inside = self.enter(None);
        self.inner.abandon(serials);
        inside.returned = true;
    }

    fn delivered(&self, serials: Vec<Serial>) {
        let mut inside = self.enter(None);
        self.inner.delivered(serials);
        inside.returned = true;
    }

    fn refused(&self, records: Vec<RefusalRecord>) {
        let mut inside = self.enter(None);
        self.inner.refused(records);
        inside.returned = true;
    }

    fn find(&self, rows: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        self.ask(|inner, done| inner.find(rows, done), done);
    }

    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        self.ask(|inner, done| inner.list(query, done), done);
    }

    fn count(&self, rows: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        self.ask(|inner, done| inner.count(rows, done), done);
    }

    fn revoke(&self, rows: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        self.ask(|inner, done| inner.revoke(rows, done), done);
    }

    fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>) {
        self.ask(|inner, done| inner.fix_crl_layout(ca, layout, done), done);
    }

    fn crl_lists(&self, query: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>) {
        self.ask(|inner, done| inner.crl_lists(query, done), done);
    }

    fn number_crls(&self, lists: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
        self.ask(|inner, done| inner.number_crls(lists, done), done);
    }

    fn crl_entries(&self, query: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>) {
        self.ask(|inner, done| inner.crl_entries(query, done), done);
    }

    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.ask(|inner, done| inner.health(done), done);
    }

    fn writes(&self) -> LedgerWrites {
        let mut inside = self.enter(None);
        let writes = self.inner.writes();
        inside.returned = true;
        writes
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        self.ask(|inner, done| inner.flush(done), done);
    }
}

/// How many certificates the ledger has, for those who must not wait for it: the last count, while the next one is asked for. One count is under way
/// at a time, however often this is read.
pub(super) struct CertificateCount {
    ask: Box<AskCount>,
    state: Arc<CertificateCountState>,
}

type AskCount = dyn Fn(Completion<Result<u64, LedgerFault>>) + Send + Sync;

#[derive(Default)]
struct CertificateCountState {
    counted: AtomicU64,
    is_counting: AtomicBool,
}

impl CertificateCount {
    pub(super) fn of(ledger: Arc<dyn Ledger>) -> Self {
        let issued = RowFilter { state: Some(RowState::Issued), ..RowFilter::default() };
        Self::new(Box::new(move |done| ledger.count(issued.clone(), done)))
    }

    fn new(ask: Box<AskCount>) -> Self {
        Self { ask, state: Arc::default() }
    }

    pub(super) fn read(&self) -> u64 {
        if !self.state.is_counting.swap(true, Ordering::AcqRel) {
            let under_way = CountUnderWay(Arc::clone(&self.state));
            (self.ask)(Box::new(move |answer| {
                if let Ok(count) = answer {
                    under_way.0.counted.store(count, Ordering::Release);
                }
            }));
        }
        self.state.counted.load(Ordering::Acquire)
    }
}

/// Ends with its completion, also where the ledger drops that.
struct CountUnderWay(Arc<CertificateCountState>);

impl Drop for CountUnderWay {
    fn drop(&mut self) {
        self.0.is_counting.store(false, Ordering::Release);
    }
}

/// The end of a server waits this long for the rows that its ledger still writes: a disk that is busy takes a part of it, one that hangs must not hold
/// up the service manager. What is lost then was never acknowledged to a device.
pub(super) const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Waits until the ledger has written what was asked of it.
pub(super) fn flush(ledger: &dyn Ledger) {
    let (flushed, done) = mpsc::channel();
    ledger.flush(Box::new(move |answer| {
        // The receiver is gone after the timeout.
        let _ = flushed.send(answer);
    }));
    match done.recv_timeout(FLUSH_TIMEOUT) {
        Ok(Ok(())) => {}
        Ok(Err(fault)) => tracing::error!(%fault, "the ledger could not write its last rows"),
        Err(_) => {
            tracing::error!(seconds = FLUSH_TIMEOUT.as_secs(), "the ledger did not confirm its last rows in time");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Mutex;

    use authority::CrlListFilter;

    use super::*;
    use crate::daemon::control::Phase;
    use crate::logging::{Format, logged};

    /// What a test ledger does with a call.
    #[derive(Clone, Copy)]
    enum Does {
        Answers(Option<LedgerFault>),
        Panics,
    }

    impl Does {
        fn answer<T: Default>(self, done: Completion<Result<T, LedgerFault>>) {
            match self {
                Self::Answers(None) => done(Ok(T::default())),
                Self::Answers(Some(fault)) => done(Err(fault)),
                Self::Panics => panic!("half way"),
            }
        }
    }

    impl Ledger for Does {
        fn standing(&self, _: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
            self.answer(done);
        }

        fn complete_since(&self) -> Option<UnixTime> {
            assert!(matches!(self, Self::Answers(_)), "half way");
            None
        }

        fn time(&self) -> Option<UnixTime> {
            None
        }

        fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
            Serial::new(node, random)
        }

        fn intend(&self, _: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
            self.answer(done);
        }

        fn record(&self, _: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
            self.answer(done);
        }

        fn abandon(&self, _: Vec<Serial>) {
            assert!(matches!(self, Self::Answers(_)), "half way");
        }

        fn delivered(&self, _: Vec<Serial>) {
            assert!(matches!(self, Self::Answers(_)), "half way");
        }

        fn refused(&self, _: Vec<RefusalRecord>) {
            assert!(matches!(self, Self::Answers(_)), "half way");
        }

        fn find(&self, _: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
            self.answer(done);
        }

        fn list(&self, _: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
            self.answer(done);
        }

        fn count(&self, _: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
            self.answer(done);
        }

        fn revoke(&self, _: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
            self.answer(done);
        }

        fn fix_crl_layout(&self, _: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>) {
            self.answer(Box::new(move |it: Result<(), _>| done(it.map(|()| layout))));
        }

        fn crl_lists(&self, _: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>) {
            self.answer(done);
        }

        fn number_crls(&self, _: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
            self.answer(done);
        }

        fn crl_entries(&self, _: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>) {
            self.answer(done);
        }

        fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
            self.answer(Box::new(|it: Result<(), _>| {
                done(it.map(|()| LedgerHealth { rows: 0, room: None }));
            }));
        }

        fn writes(&self) -> LedgerWrites {
            assert!(matches!(self, Self::Answers(_)), "half way");
            LedgerWrites::default()
        }

        fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
            self.answer(done);
        }
    }

    #[test]
    fn e54_a_clock_that_was_behind_at_the_start_is_forgotten_once_it_is_right() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        assert_eq!(start_by(at(5_000), Duration::from_secs(60)), at(4_940));
        let control = Arc::new(Control::new(Duration::ZERO));
        let long_ago = authority::MemoryLedger::new(9).since(at(1));
        let before = UnixTime::now().as_secs();
        let since = GuardedLedger::new(Arc::new(long_ago), control).complete_since().unwrap();
        assert!(since.as_secs() + 1 >= before, "not 1970: {since:?}");
    }

    #[test]
    fn a_tally_shows_the_last_count_and_asks_for_one_at_a_time() {
        type Asked = Mutex<Vec<Completion<Result<u64, LedgerFault>>>>;
        let asked: Arc<Asked> = Arc::default();
        let asking = Arc::clone(&asked);
        let tally = CertificateCount::new(Box::new(move |done| asking.lock().unwrap().push(done)));
        let under_way = || asked.lock().unwrap().len();
        let next = || asked.lock().unwrap().pop().unwrap();
        assert_eq!((tally.read(), tally.read(), under_way()), (0, 0, 1), "one question, however often it is read");
        next()(Ok(7));
        assert_eq!((tally.read(), under_way()), (7, 1));
        drop(next());
        assert_eq!((tally.read(), under_way()), (7, 1), "a dropped answer is asked for again");
        next()(Err(LedgerFault::Unavailable));
        assert_eq!((tally.read(), under_way()), (7, 1), "a fault leaves the last count");
    }

    #[test]
    fn the_last_rows_are_waited_for_and_what_becomes_of_them_is_logged() {
        let said = |does| logged(Format::Human, || flush(&does));
        assert_eq!(said(Does::Answers(None)), "");
        assert!(said(Does::Answers(Some(LedgerFault::Unavailable))).contains("could not write its last rows"));
    }

    const CA: AnchorId = AnchorId::from_bytes([1; 32]);

    /// The calls that are answered, then the three that are not.
    const ANSWERED: usize = 13;
    const CALLS: [fn(&GuardedLedger); ANSWERED + 5] = [
        |ledger| ledger.standing(Vec::new(), Box::new(drop)),
        |ledger| ledger.intend(Vec::new(), Box::new(drop)),
        |ledger| ledger.record(Vec::new(), Box::new(drop)),
        |ledger| ledger.find(Vec::new(), Box::new(drop)),
        |ledger| ledger.list(ListQuery { filter: RowFilter::default(), after: None, rows_max: 1 }, Box::new(drop)),
        |ledger| ledger.count(RowFilter::default(), Box::new(drop)),
        |ledger| ledger.revoke(Vec::new(), Box::new(drop)),
        |ledger| ledger.fix_crl_layout(CA, CrlLayout::Whole, Box::new(drop)),
        |ledger| ledger.crl_lists(CrlListQuery { ca: CA, which: CrlListFilter::Known, after: None }, Box::new(drop)),
        |ledger| ledger.number_crls(Vec::new(), Box::new(drop)),
        |ledger| ledger.crl_entries(CrlEntryQuery { ca: CA, list: 0, after: None }, Box::new(drop)),
        |ledger| ledger.health(Box::new(drop)),
        |ledger| ledger.flush(Box::new(drop)),
        |ledger| ledger.abandon(Vec::new()),
        |ledger| ledger.delivered(Vec::new()),
        |ledger| ledger.refused(Vec::new()),
        |ledger| assert_eq!(ledger.writes(), LedgerWrites::default()),
        |ledger| assert_eq!(ledger.complete_since(), None),
    ];

    fn control() -> Arc<Control> {
        let control = Control::new(Duration::from_secs(20));
        control.admit();
        Arc::new(control)
    }

    /// Whether the server goes on after `call`, and what the log says.
    fn after(does: Does, call: impl Fn(&GuardedLedger)) -> (bool, String) {
        let control = control();
        let ledger = GuardedLedger::new(Arc::new(does), Arc::clone(&control));
        // `tracing` caches whether a line has a listener: a test that reaches this line first, without a log, may store that it has none.
        self::control().broke(Breakdown::Ledger);
        let log = logged(Format::Human, || {
            for _ in 0..2 {
                drop(catch_unwind(AssertUnwindSafe(|| call(&ledger))));
            }
        });
        let goes_on = control.phase() == Phase::Serving;
        assert_eq!(control.breakdown().is_none(), goes_on);
        (goes_on, log)
    }

    #[test]
    fn e56_a_ledger_that_panics_or_says_that_it_is_broken_ends_the_server_and_says_so_once() {
        for (index, call) in CALLS.into_iter().enumerate() {
            let (goes_on, log) = after(Does::Panics, call);
            assert!(!goes_on && log.lines().count() == 1, "{index}: {log}");
            assert!(log.contains("ERROR") && log.contains("the ledger is broken"), "{log}");
        }
        for call in &CALLS[..ANSWERED] {
            let (goes_on, log) = after(Does::Answers(Some(LedgerFault::Broken)), call);
            assert!(!goes_on && log.lines().count() == 1, "{log}");
        }
    }

    #[test]
    fn e56_a_panic_after_the_answer_and_a_fault_that_passes_end_nothing() {
        for answer in [None, Some(LedgerFault::Unavailable), Some(LedgerFault::Full)] {
            for call in CALLS {
                assert_eq!(after(Does::Answers(answer), call), (true, String::new()));
            }
        }
        let goes_wrong = |ledger: &GuardedLedger| ledger.intend(Vec::new(), Box::new(|_| panic!("of a job")));
        assert_eq!(after(Does::Answers(None), goes_wrong), (true, String::new()));
    }
}
