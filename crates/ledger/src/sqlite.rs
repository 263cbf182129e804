//! A ledger in one file of SQLite.
//!
//! The order of one issuance: its serial number is drawn, its intent is durable, it is signed, its certificate is durable, it is released. A crash
//! between any two of these steps leaves a row that the next start resolves: a reservation without a certificate is given up and its serial
//! number is revoked, because its certificate may have been signed.
//!
//! ```text
//!  pool, any thread ──► queue of writes ──► writer: BEGIN, the rows of all that wait, COMMIT (one sync) ──► completions
//!                  └──► queues of questions ──► readers, with connections of their own                 ──► completions
//! ```
//!
//! SQLite runs in WAL mode with `synchronous=FULL`: a commit is durable when it returns. Rows of many jobs share one commit.
//!
//! What happened stands in the audit too, in the same transaction: see [`crate::audit`].
//!
//! **Bounds.** Both queues hold a bounded number of rows; whoever finds them full is told that the ledger is unavailable. The caches of SQLite are
//! bounded, so memory does not grow with the rows.
//!
//! **Faults.** When a write fails, the batch is answered as failed, nothing more is written, and the file is opened anew every second until that works,
//! and until there is room where that was missing. Reading goes on meanwhile. What was written before the fault and not synced is not trusted: see
//! `connect::make_durable`.

#[doc(hidden)]
pub mod alone;
mod attach;
mod book;
mod ca_ledger;
mod closing;
pub(crate) mod compromised;
mod connect;
pub(crate) mod crl;
mod deliveries;
mod delivery;
pub(crate) mod foreign;
pub(crate) mod import;
mod index;
pub(crate) mod locate;
mod lock;
pub(crate) mod newer_code;
pub(crate) mod own_log;
mod place;
pub(crate) mod pruned;
mod queue;
mod reader;
pub(crate) mod relay;
mod relay_ledger;
mod restore;
pub(crate) mod restoring;
mod revocation_order;
mod room;
pub(crate) mod row;
pub mod schema;
mod writer;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use authority::{Inquiry, LedgerFault};
use pki::issue::NodePrefix;
use rusqlite::Connection;
use rustls_pki_types::UnixTime;
use tracing::warn;

use self::book::{Book, Tally};
use self::closing::{CLOSING_TIME, Closing};
use self::connect::{connect_anchor, connect_reader, connect_writer, make_durable};
use self::deliveries::Deliveries;
use self::index::{Unmerged, YOUNG_MAX};
use self::place::{FileIdentity, create, expect_ledger_of_audit, give_to_owner, open_or_create};
use self::queue::Queue;
use self::reader::{Question, Reader};
use self::restore::Restore;
use self::room::Room;
use self::schema::Meta;
use self::writer::{Write, Writer};
use crate::audit::refusals::Refusals;
use crate::audit::signer::{CheckpointFailures, CheckpointTimer, CheckpointWriter, checkpoints};
use crate::audit::{AuditClock, AuditKey, AuditPublicKey, AuditSettings};
use crate::fault::{OpenFault, OpenProblem};
use crate::journal::frame::LedgerId;
use crate::journal::{JournalSettings, segments};
use crate::paths::with_suffix;
use crate::seconds::{seconds, time};
use crate::serial::{SERIAL_KEY_BYTES, SerialCipher};

pub use self::connect::{Beside, connect, connect_beside};
pub(crate) use self::connect::{connect_measured, connect_trial};
pub(crate) use self::lock::{is_open_elsewhere, lock, lock_if_there};
pub(crate) use self::room::NEEDED_BYTES;

/// Rows that wait for the writer: as many as a server has enrolments in flight, twice over. Whoever comes then is told to come later.
const WAITING_ROWS_MAX: usize = 65_536;

/// A ledger without a new row for this long: a fleet that renews once a year has some each day.
const QUIET_SECONDS: i64 = 30 * 86_400;

/// What a new ledger begins with.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// The key of its serial numbers: random, see [`crate::serial`].
    pub serial_key: [u8; SERIAL_KEY_BYTES],
}

/// What a ledger keeps outside its file.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// Its audit's key and checkpoints.
    pub audit: AuditSettings,
    /// Its journal, if it has one.
    pub journal: Option<JournalSettings>,
}

/// See the module.
pub struct SqliteLedger {
    shared: Arc<Shared>,
    audit_key: AuditPublicKey,
    complete_since: UnixTime,
    /// Taken when it is dropped.
    closing: Mutex<Option<Closing>>,
    /// Read once: a restore is made while nobody has the ledger open.
    restores: Vec<Restore>,
}

/// What the threads share with whoever asks.
struct Shared {
    file: PathBuf,
    serials: Arc<SerialCipher>,
    unmerged: Arc<Unmerged>,
    writes: Queue<Write>,
    /// Questions of issuances: points of the tables.
    points: Queue<Question>,
    /// Questions of operators: they may look at every row.
    scans: Queue<Question>,
    next_number: AtomicU64,
    /// Whether a serial number that was not drawn here may have a row.
    has_foreign: AtomicBool,
    rows: AtomicI64,
    /// The time of the latest row, in seconds since 1970; 0 where there is none.
    time: AtomicI64,
    commits: AtomicU64,
    /// Batches that could not be written.
    faults: AtomicU64,
    /// The file of its journal.
    journal: Option<PathBuf>,
    /// The room on its disk or that of its journal, as the writer measured it last.
    disk: Mutex<Option<Room>>,
    state: Mutex<WriteState>,
    /// Refusals that are not in the audit yet. Not in the queue of writes: they take no room from enrolments.
    refusals: Mutex<Refusals>,
    /// Keys that have arrived and are not noted yet. Not in the queue of writes either: they share the sync of the next batch.
    deliveries: Deliveries,
    checkpoint_failures: Arc<CheckpointFailures>,
}

/// Whether the ledger can write.
#[derive(Clone, Debug, PartialEq, Eq)]
enum WriteState {
    Writes,
    Fails(String),
    Broken,
}

impl Shared {
    fn publish(&self, tally: Tally) {
        self.rows.store(tally.rows, Ordering::Release);
        self.time.store(tally.time, Ordering::Release);
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    fn set_fault(&self, fault: Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != WriteState::Broken {
            *state = fault.map_or(WriteState::Writes, WriteState::Fails);
        }
    }

    fn measure_room(&self) {
        let room = room::shortest(&self.file, self.journal.as_deref());
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }

    fn is_broken(&self) -> bool {
        self.write_fault() == Some(LedgerFault::Broken)
    }

    fn set_broken(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = WriteState::Broken;
    }

    fn write_fault(&self) -> Option<LedgerFault> {
        match *self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            WriteState::Writes => None,
            WriteState::Fails(_) => Some(LedgerFault::Unavailable),
            WriteState::Broken => Some(LedgerFault::Broken),
        }
    }

    /// Whether no row can have the certificate of this client: it is that of a manufacturer, or of another CA.
    fn is_without_row(&self, inquiry: &Inquiry) -> bool {
        let Some(serial) = &inquiry.serial else { return true };
        self.serials.number(serial) >= self.next_number.load(Ordering::Relaxed)
            && !self.has_foreign.load(Ordering::Acquire)
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, write: Write) {
        if self.is_broken() {
            return write.refuse(LedgerFault::Broken);
        }
        if let Err(write) = self.writes.push(write.rows().max(1), write) {
            write.refuse(LedgerFault::Unavailable);
        }
    }

    fn ask(queue: &Queue<Question>, question: Question) {
        if let Err(question) = queue.push(question.weight().max(1), question) {
            question.refuse(LedgerFault::Unavailable);
        }
    }
}

impl SqliteLedger {
    /// Opens the ledger in this file, or begins one where there is no file. Resolves what a crash left. Its audit is that of node 0, with key and
    /// checkpoints beside the file.
    ///
    /// # Errors
    /// [`OpenFault`] names the file and what to do.
    pub fn open(file: &Path, fresh: Fresh, now: UnixTime) -> Result<Self, OpenFault> {
        Self::open_audited(file, fresh, &AuditSettings::beside(file, NodePrefix::new(0)), now)
    }

    /// The same with an audit of these settings.
    ///
    /// # Errors
    /// [`OpenFault`] names the file and what to do.
    pub fn open_audited(file: &Path, fresh: Fresh, audit: &AuditSettings, now: UnixTime) -> Result<Self, OpenFault> {
        Self::open_with(file, fresh, &LedgerSettings { audit: audit.clone(), journal: None }, now)
    }

    /// The same with these settings.
    ///
    /// # Errors
    /// [`OpenFault`] names the file and what to do.
    pub fn open_with(file: &Path, fresh: Fresh, settings: &LedgerSettings, now: UnixTime) -> Result<Self, OpenFault> {
        Self::try_open(file, fresh, settings, now).map_err(|problem| OpenFault { file: file.to_owned(), problem })
    }

    fn try_open(file: &Path, fresh: Fresh, settings: &LedgerSettings, now: UnixTime) -> Result<Self, OpenProblem> {
        let Opened { lock, meta, book, anchor, key, serials, unmerged, journal, restores } =
            open_book(file, fresh, settings, now)?;
        let audit = &settings.audit;
        let audit_key = key.public();
        let tally = book.tally();
        compare_clock(now, tally.time);
        let journal_file = journal.as_ref().map(|(settings, _)| settings.file.clone());
        let shared = Arc::new(Shared {
            file: file.to_owned(),
            serials,
            unmerged,
            writes: Queue::new(WAITING_ROWS_MAX),
            points: Queue::new(WAITING_ROWS_MAX),
            scans: Queue::new(WAITING_ROWS_MAX),
            next_number: AtomicU64::new(u64::try_from(tally.numbers + 1).unwrap_or(1)),
            has_foreign: AtomicBool::new(foreign::are_there(book.connection())?),
            rows: AtomicI64::new(tally.rows),
            time: AtomicI64::new(tally.time),
            commits: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            disk: Mutex::new(room::shortest(file, journal_file.as_deref())),
            journal: journal_file,
            state: Mutex::new(WriteState::Writes),
            refusals: Mutex::default(),
            deliveries: Deliveries::default(),
            checkpoint_failures: Arc::default(),
        });
        let (timer, checkpoints) = checkpoints(audit, key, &shared.checkpoint_failures);
        let auditor = Auditor { timer, clock: Arc::clone(&audit.clock), node: audit.node };
        let (readers, writers) = start(&shared, (book, journal), auditor, checkpoints).map_err(OpenProblem::File)?;
        let closing = Closing { shared: Arc::clone(&shared), readers, writers, anchor, lock };
        let complete_since = time(meta.complete_since);
        Ok(Self { shared, audit_key, complete_since, restores, closing: Mutex::new(Some(closing)) })
    }

    /// How many rows it has.
    #[must_use]
    pub fn rows(&self) -> u64 {
        u64::try_from(self.shared.rows.load(Ordering::Acquire)).unwrap_or(0)
    }

    /// How many batches were committed since it was opened: each one is one sync of the disk.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// The key that signs its checkpoints: a server compares it with those of its CAs, since it is never one of them.
    #[must_use]
    pub fn audit_key(&self) -> &AuditPublicKey {
        &self.audit_key
    }

    /// Checkpoints of its audit that were not written to their file, and those that the syslog did not take.
    #[must_use]
    pub fn checkpoint_failures(&self) -> &CheckpointFailures {
        &self.shared.checkpoint_failures
    }
}

/// A ledger whose book is open, and that no other process has.
struct Opened {
    lock: File,
    meta: Meta,
    book: Book,
    /// See [`connect_anchor`].
    anchor: Connection,
    key: AuditKey,
    serials: Arc<SerialCipher>,
    unmerged: Arc<Unmerged>,
    journal: Option<(JournalSettings, LedgerId)>,
    restores: Vec<Restore>,
}

/// Opens the book of the ledger in this file, or begins one, and resolves what a crash left.
fn open_book(
    file: &Path,
    fresh: Fresh,
    LedgerSettings { audit, journal }: &LedgerSettings,
    now: UnixTime,
) -> Result<Opened, OpenProblem> {
    let lock = lock(file)?;
    expect_journal_of_ledger(file, journal.as_ref())?;
    expect_ledger_of_audit(file, audit)?;
    own_log::expect_own_log(file, audit.node)?;
    create(file)?;
    let mut connection = connect_writer(file)?;
    let fresh = Meta { serial_key: fresh.serial_key, complete_since: seconds(now) };
    let meta = schema::prepare(&mut connection, &fresh)?;
    make_durable(&connection, file)?;
    let anchor = connect_anchor(file)?;
    let had_key = audit.key.exists();
    let key = AuditKey::read_or_make(&audit.key).map_err(OpenProblem::AuditKey)?;
    if !had_key {
        give_to_owner(&[&audit.key, &with_suffix(&audit.key, ".pub")], file).map_err(OpenProblem::File)?;
    }
    check_checkpoints(&audit.checkpoints, file)?;
    let serials = Arc::new(SerialCipher::new(&meta.serial_key));
    let unmerged = Arc::new(Unmerged::new(YOUNG_MAX));
    let remembered = (Arc::clone(&serials), Arc::clone(&unmerged));
    restore::expect_finished(&connection)?;
    let restores = Restore::read_all(&connection)?;
    let mut book = Book::new(connection, remembered, audit.node)?;
    let journal = journal.as_ref().map(|settings| (settings.resolved(), LedgerId::new(&meta.serial_key)));
    if let Some((settings, ledger)) = &journal {
        book.attach(settings, *ledger)?;
    }
    book.begin()?;
    let given_up = book.give_up_all(now)?;
    let undelivered = book.revoke_undelivered(now)?;
    book.commit()?;
    if given_up > 0 {
        warn!(
            rows = given_up,
            "certificates were being issued when the server ended: they were not released, and are revoked. `muster cert list --state abandoned` shows them"
        );
    }
    if undelivered > 0 {
        warn!(
            certificates = undelivered,
            "keys were on their way to their devices when the server ended: their certificates are revoked, and the devices ask again"
        );
    }
    Ok(Opened { lock, meta, book, anchor, key, serials, unmerged, journal, restores })
}

/// At the start there is nothing to measure a gap with: it is reported, and the operator decides (E30).
fn compare_clock(now: UnixTime, latest: i64) {
    let ahead = seconds(now).saturating_sub(latest);
    if latest > 0 && ahead > QUIET_SECONDS {
        warn!(
            days = ahead / 86_400,
            "the latest row of the ledger is old: check the clock before devices enrol, because no row may be dated before one that is dated too late"
        );
    } else if ahead < 0 {
        warn!(
            seconds = -ahead,
            "the clock is before the latest row of the ledger: nothing is issued if it is more than a minute, until the clock is correct"
        );
    }
}

/// The checkpoints are written later, by a thread; at the start an operator can be told.
fn check_checkpoints(file: &Path, ledger: &Path) -> Result<(), OpenProblem> {
    let opened = open_or_create(File::options().append(true), file, 0o666, ledger);
    opened.map(drop).map_err(|error| OpenProblem::Checkpoints { file: file.to_owned(), error })
}

/// What the writer needs for the audit.
struct Auditor {
    timer: CheckpointTimer,
    clock: AuditClock,
    node: NodePrefix,
}

impl Auditor {
    fn now(&self) -> i64 {
        seconds((self.clock)())
    }
}

type Threads = Vec<JoinHandle<()>>;

/// Starts the threads. Those that read: one answers issuances, one answers operators. Those that write: one the rows, one the checkpoints of the audit.
fn start(
    shared: &Arc<Shared>,
    (book, journal): (Book, Option<(JournalSettings, LedgerId)>),
    auditor: Auditor,
    checkpoints: CheckpointWriter,
) -> Result<(Threads, Threads), std::io::Error> {
    let named = |name: &str| thread::Builder::new().name(name.to_owned());
    let (file, node) = (shared.file.clone(), auditor.node);
    let remembered = (Arc::clone(&shared.serials), Arc::clone(&shared.unmerged));
    let identity = FileIdentity::of(&file)?;
    let open = move || {
        identity.expect(&file)?;
        let connection = connect_writer(&file).map_err(|why| why.to_string())?;
        make_durable(&connection, &file).map_err(|why| why.to_string())?;
        // A transaction that writes: whether the disk takes one again. What the book remembers is read only then.
        book::count_fault(&connection).map_err(|why| why.to_string())?;
        let mut book = Book::new(connection, remembered.clone(), node).map_err(|why| why.to_string())?;
        if let Some((settings, ledger)) = &journal {
            book.attach(settings, *ledger).map_err(|why| why.to_string())?;
        }
        Ok(book)
    };
    let writer = Writer::new(Arc::clone(shared), book, auditor, Box::new(open));
    let writers = vec![
        named("ledger-writer").spawn(move || writer.run())?,
        named("ledger-checkpoints").spawn(move || checkpoints.run())?,
    ];
    let mut readers = Vec::new();
    for (name, is_points) in [("ledger-reader", true), ("ledger-scan", false)] {
        let file = shared.file.clone();
        let open = move || connect_reader(&file).map_err(|why| why.to_string());
        let reader = Reader { shared: Arc::clone(shared), connection: None, open: Box::new(open) };
        let shared = Arc::clone(shared);
        let run = move || reader.run(if is_points { &shared.points } else { &shared.scans });
        readers.push(named(name).spawn(run)?);
    }
    Ok((readers, writers))
}

/// A journal without its ledger shows that the ledger was lost: a new one must not begin in its place.
fn expect_journal_of_ledger(file: &Path, journal: Option<&JournalSettings>) -> Result<(), OpenProblem> {
    let Some(settings) = journal else { return Ok(()) };
    let is_written = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.len() > 0);
    // A new file has its first page before it has a log. A log without its file is what somebody left.
    if is_written(file) {
        return Ok(());
    }
    if is_written(&settings.file) {
        return Err(OpenProblem::Lost { journal: settings.file.clone() });
    }
    match segments::closed(&settings.resolved().file).map_err(OpenProblem::File)?.pop() {
        Some(closed) => Err(OpenProblem::Lost { journal: closed.file }),
        None => Ok(()),
    }
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLedger")
            .field("file", &self.shared.file)
            .field("rows", &self.rows())
            .finish_non_exhaustive()
    }
}

/// What was asked for is written before the file is closed.
impl Drop for SqliteLedger {
    fn drop(&mut self) {
        let closing = self.closing.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(closing) = closing {
            closing.close_within(CLOSING_TIME);
        }
    }
}
