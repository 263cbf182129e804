//! A ledger whose process crashes between any two steps: what was not durable is lost, its callers hear nothing, and the next start gives up and
//! revokes what was left reserved.
//!
//! ```text
//!   write ──► queue ──(a sync)──► applied to the durable rows ──(a moment)──► completions
//!         ▲                 ▲                              ▲                              ▲
//!         └─────────────────┴──────── crashes here ────────┴──────────────────────────────┘
//! ```
//!
//! Rows of several calls share a sync, as in the ledger on disk. A process is one life of the ledger; what an earlier life still does has no effect.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use authority::{
    Actor, Completion, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListQuery, CrlListing, Finding, Inquiry, Intended,
    Ledger, LedgerEntry, LedgerFault, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator, MemoryLedger, NextCrl,
    Record, Recorded, RefusalRecord, Reserve, Revocation, Revoke, Revoked, RowFilter, RowState,
};
use pki::issue::{NodePrefix, RevocationReason, Serial};
use pki::{AnchorId, UnixTime};

use crate::agenda::Agenda;
use crate::chance::Chance;

/// The longest sync, and the longest time from the end of a sync to a completion.
const SYNC_MAX: Duration = Duration::from_millis(20);
const TOLD_MAX: Duration = Duration::from_millis(5);

/// Tells the caller of a write what became of it.
type Told = Box<dyn FnOnce() + Send>;

/// Applies a write to the durable rows.
type Apply<L> = Box<dyn FnOnce(&L) -> Told + Send>;

/// The rows on disk, and the process that has them open.
pub struct CrashingStore<L = MemoryLedger> {
    durable: Arc<L>,
    /// Of a thousand steps, the number behind which the process crashes.
    crashes: u16,
    agenda: Agenda,
    process: Mutex<Process<L>>,
}

struct Process<L> {
    chance: Chance,
    /// Counts the starts.
    life: u64,
    is_down: bool,
    is_syncing: bool,
    queue: Vec<Apply<L>>,
    /// Crashes, and reservations that starts gave up.
    tally: CrashTally,
}

/// What a [`CrashingStore`] went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashTally {
    /// How often its process crashed.
    pub crashes: u64,
    /// Crashes with a write that was applied and whose caller was not told.
    pub untold: u64,
    /// Calls that were lost before they were durable.
    pub lost: u64,
    /// Reservations that a start gave up and revoked.
    pub given_up: u64,
    /// Certificates that a start revoked, because their keys had not reached their devices.
    pub undelivered: u64,
}

impl CrashingStore {
    /// The ledger of a process that starts now: it gives up and revokes what is reserved, and revokes what was not delivered.
    pub fn start(self: &Arc<Self>, now: UnixTime) -> Arc<CrashingLedger> {
        let given_up = self.give_up_all(now);
        let undelivered = self.revoke_undelivered(now);
        {
            let tally = &mut self.lock().tally;
            tally.given_up += given_up;
            tally.undelivered += undelivered;
        }
        self.open()
    }

    fn revoke_undelivered(&self, now: UnixTime) -> u64 {
        let revocation =
            Revocation { reason: RevocationReason::CessationOfOperation, at: now, actor: Actor::undelivered() };
        let row = |serial| Revoke { row: Locator::Serial(serial), revocation: revocation.clone() };
        let revokes: Vec<Revoke> = self.durable.undelivered().into_iter().map(row).collect();
        let count = revokes.len() as u64;
        let revoked = at_once(|done| self.durable.revoke(revokes, done));
        assert!(revoked.is_ok(), "a ledger in memory revokes");
        count
    }

    fn give_up_all(&self, now: UnixTime) -> u64 {
        let revocation = Revocation { reason: RevocationReason::CessationOfOperation, at: now, actor: Actor::server() };
        let mut given_up = 0;
        loop {
            let reserved = RowFilter { state: Some(RowState::Reserved), ..RowFilter::default() };
            let query = ListQuery { filter: reserved, after: None, rows_max: usize::MAX };
            let rows = at_once(|done| self.durable.list(query, done)).map(|listing| listing.rows).unwrap_or_default();
            if rows.is_empty() {
                return given_up;
            }
            given_up += rows.len() as u64;
            let row = |row: &LedgerEntry| Locator::Serial(row.intent.serial);
            let revokes = rows.iter().map(|it| Revoke { row: row(it), revocation: revocation.clone() }).collect();
            let revoked = at_once(|done| self.durable.revoke(revokes, done));
            assert!(revoked.is_ok(), "a ledger in memory revokes");
        }
    }
}

impl<L: Send + Sync + 'static> CrashingStore<L> {
    /// A store of these rows, that crashes as often as `crashes` says and is driven by `agenda`.
    #[must_use]
    pub fn new(durable: Arc<L>, crashes: u16, chance: Chance, agenda: Agenda) -> Arc<Self> {
        let process = Process {
            chance,
            life: 0,
            is_down: false,
            is_syncing: false,
            queue: Vec::new(),
            tally: CrashTally::default(),
        };
        Arc::new(Self { durable, crashes, agenda, process: Mutex::new(process) })
    }

    /// The ledger of a process that starts now and leaves its rows as they are.
    pub(crate) fn open(self: &Arc<Self>) -> Arc<CrashingLedger<L>> {
        let mut process = self.lock();
        process.life += 1;
        process.is_down = false;
        process.is_syncing = false;
        Arc::new(CrashingLedger { store: Arc::clone(self), life: process.life })
    }

    /// Ends the process. What waits is lost.
    pub fn crash(&self) {
        let lost = {
            let mut process = self.lock();
            process.is_down = true;
            process.life += 1;
            process.tally.crashes += 1;
            process.tally.lost += process.queue.len() as u64;
            mem::take(&mut process.queue)
        };
        drop(lost);
    }

    /// Whether the process has crashed and was not started again.
    pub fn is_down(&self) -> bool {
        self.lock().is_down
    }

    /// What happened so far.
    pub fn tally(&self) -> CrashTally {
        self.lock().tally
    }

    fn lock(&self) -> MutexGuard<'_, Process<L>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lives(&self, life: u64) -> bool {
        let process = self.lock();
        process.life == life && !process.is_down
    }

    /// Whether the process goes on behind this step.
    fn goes_on(&self, life: u64) -> bool {
        if !self.lives(life) {
            return false;
        }
        let crashes = self.lock().chance.permille(self.crashes);
        if crashes {
            self.crash();
        }
        !crashes
    }

    fn delay(&self, most: Duration) -> Duration {
        self.lock().chance.between(Duration::ZERO, most)
    }

    /// Queues a write. A process that has ended takes none.
    fn write(self: &Arc<Self>, life: u64, apply: Apply<L>) {
        if !self.goes_on(life) {
            return;
        }
        self.lock().queue.push(apply);
        if self.goes_on(life) {
            self.begin_sync(life);
        }
    }

    fn begin_sync(self: &Arc<Self>, life: u64) {
        let is_first = !mem::replace(&mut self.lock().is_syncing, true);
        if is_first {
            let store = Arc::clone(self);
            self.agenda.after(self.delay(SYNC_MAX), move || store.sync(life));
        }
    }

    /// Before the commit, behind it, and behind the completions: the process may crash at each.
    fn sync(self: &Arc<Self>, life: u64) {
        if !self.goes_on(life) {
            return;
        }
        let batch = mem::take(&mut self.lock().queue);
        let told: Vec<Told> = batch.into_iter().map(|apply| apply(&self.durable)).collect();
        if !self.goes_on(life) {
            self.lock().tally.untold += 1;
            return;
        }
        let store = Arc::clone(self);
        self.agenda.after(self.delay(TOLD_MAX), move || {
            if !store.lives(life) {
                return;
            }
            told.into_iter().for_each(|told| told());
            if store.goes_on(life) {
                store.lock().is_syncing = false;
                if !store.lock().queue.is_empty() {
                    store.begin_sync(life);
                }
            }
        });
    }

    /// Answers from the durable rows.
    fn read<T: Send + 'static>(
        self: &Arc<Self>,
        life: u64,
        read: impl FnOnce(&L, Completion<T>) + Send + 'static,
        done: Completion<T>,
    ) {
        let store = Arc::clone(self);
        self.agenda.after(self.delay(TOLD_MAX), move || {
            if store.goes_on(life) {
                read(&store.durable, done);
            }
        });
    }
}

/// The answer of a ledger in memory, which it gives before the call returns.
pub(crate) fn at_once<T: Send + 'static>(call: impl FnOnce(Completion<T>)) -> T {
    let answer = Arc::new(Mutex::new(None));
    let told = Arc::clone(&answer);
    call(Box::new(move |it| *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(it)));
    let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
    answer.expect("a ledger in memory answers at once")
}

/// One life of the ledger: see the module.
pub struct CrashingLedger<L = MemoryLedger> {
    store: Arc<CrashingStore<L>>,
    life: u64,
}

impl<L: Send + Sync + 'static> CrashingLedger<L> {
    /// Whether the process still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.store.lives(self.life)
    }

    pub(crate) fn write<T: Send + 'static>(
        &self,
        effect: impl FnOnce(&L, Completion<T>) + Send + 'static,
        done: Completion<T>,
    ) {
        let apply: Apply<L> = Box::new(move |durable| {
            let answer = at_once(|told| effect(durable, told));
            Box::new(move || done(answer))
        });
        self.store.write(self.life, apply);
    }

    pub(crate) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&L, Completion<T>) + Send + 'static,
        done: Completion<T>,
    ) {
        self.store.read(self.life, read, done);
    }
}

impl Ledger for CrashingLedger {
    fn standing(&self, of: Vec<Inquiry>, done: Completion<Result<Vec<Finding>, LedgerFault>>) {
        self.read(move |durable, done| durable.standing(of, done), done);
    }

    fn complete_since(&self) -> Option<UnixTime> {
        self.store.durable.complete_since()
    }

    fn time(&self) -> Option<UnixTime> {
        self.store.durable.time()
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        self.store.durable.draw(node, random)
    }

    fn intend(&self, rows: Vec<Reserve>, done: Completion<Result<Vec<Intended>, LedgerFault>>) {
        self.write(move |durable, done| durable.intend(rows, done), done);
    }

    fn record(&self, rows: Vec<Record>, done: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        self.write(move |durable, done| durable.record(rows, done), done);
    }

    /// It keeps no audit.
    fn refused(&self, _: Vec<RefusalRecord>) {}

    fn abandon(&self, serials: Vec<Serial>) {
        let apply = |durable: &MemoryLedger, done: Completion<()>| {
            durable.abandon(serials);
            done(());
        };
        self.write(apply, Box::new(drop));
    }

    fn delivered(&self, serials: Vec<Serial>) {
        let apply = |durable: &MemoryLedger, done: Completion<()>| {
            durable.delivered(serials);
            done(());
        };
        self.write(apply, Box::new(drop));
    }

    fn find(&self, rows: Vec<Locator>, done: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        self.read(move |durable, done| durable.find(rows, done), done);
    }

    fn list(&self, query: ListQuery, done: Completion<Result<Listing, LedgerFault>>) {
        self.read(move |durable, done| durable.list(query, done), done);
    }

    fn count(&self, rows: RowFilter, done: Completion<Result<u64, LedgerFault>>) {
        self.read(move |durable, done| durable.count(rows, done), done);
    }

    fn revoke(&self, rows: Vec<Revoke>, done: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        self.write(move |durable, done| durable.revoke(rows, done), done);
    }

    fn fix_crl_layout(&self, ca: AnchorId, layout: CrlLayout, done: Completion<Result<CrlLayout, LedgerFault>>) {
        self.write(move |durable, done| durable.fix_crl_layout(ca, layout, done), done);
    }

    fn crl_lists(&self, query: CrlListQuery, done: Completion<Result<CrlListing, LedgerFault>>) {
        self.read(move |durable, done| durable.crl_lists(query, done), done);
    }

    fn number_crls(&self, lists: Vec<NextCrl>, done: Completion<Result<Vec<u64>, LedgerFault>>) {
        self.write(move |durable, done| durable.number_crls(lists, done), done);
    }

    fn crl_entries(&self, query: CrlEntryQuery, done: Completion<Result<CrlEntryPage, LedgerFault>>) {
        self.read(move |durable, done| durable.crl_entries(query, done), done);
    }

    fn health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.read(MemoryLedger::health, done);
    }

    fn writes(&self) -> LedgerWrites {
        LedgerWrites::default()
    }

    fn flush(&self, done: Completion<Result<(), LedgerFault>>) {
        self.write(MemoryLedger::flush, done);
    }
}
