//! Brings a ledger to the version of tables that this release writes, while a server writes it or without one.
//!
//! Each step is a transaction of its own, or many of a bounded number of rows, so that a server that writes meanwhile waits for a fraction of a second.
//! What is done is noted in the same transaction: a migration that was interrupted goes on where it was. The last transaction sets the version, and
//! from then on a running server uses what was added. The release before can still write the file: see [`schema`].

use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pki::Digest;
use rusqlite::{Connection, Error, TransactionBehavior};

use crate::fault::OpenProblem;
use crate::paths::with_suffix;
use crate::sqlite::schema::{self, ADDED_IN_2, FILLED_IN_2, Fill, SCHEMA_VERSION};
use crate::sqlite::{connect_beside, connect_measured, is_open_elsewhere, newer_code};

/// Rows of one transaction of a step that copies rows: some milliseconds, in which a server waits.
const ROWS_AT_ONCE: i64 = 1_000;

/// Rows that are read in one transaction.
const PAGE_ROWS: i64 = 10_000;

/// A longer log is not written again beside a server, which waits meanwhile: somebody reads the ledger for a long time. It is four times as long as a
/// log that nobody reads.
const LOG_BYTES_MAX: u64 = 128 << 20;

/// What a migration did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The version of the file before.
    pub from: u32,
    /// The version after.
    pub to: u32,
    /// What was done, in order; nothing if the file has the version already.
    pub steps: Vec<MigrationStep>,
    /// The longest time for which others could not write; nothing if no step was done.
    pub longest_lock: Option<Duration>,
}

/// One step of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationStep {
    /// What it adds.
    pub what: String,
    /// Rows that it writes. Rows that are there are not changed, but for codes that the release before cannot read.
    pub rows: u64,
}

/// How far a migration is.
#[derive(Clone, Copy, Debug)]
pub struct MigrationProgress<'a> {
    /// The step.
    pub what: &'a str,
    /// Rows of it that are done.
    pub done: u64,
    /// Rows of it in all, when it began.
    pub total: u64,
}

/// What is called after each transaction; it can end the migration there.
pub type MigrationWatch<'a> = &'a mut dyn FnMut(MigrationProgress<'_>) -> ControlFlow<()>;

/// Says what [`migrate`] would do. Nothing is written: the steps are tried on a copy of the tables without rows.
///
/// # Errors
/// [`MigrateFault`] names the file and why it cannot be migrated.
pub fn plan(file: &Path) -> Result<Migration, MigrateFault> {
    let fault = |problem| MigrateFault { file: file.to_owned(), problem };
    let connection = connect_beside(file).map_err(|it| fault(MigrateProblem::Ledger(it.problem)))?;
    try_plan(&connection).map_err(fault)
}

fn try_plan(connection: &Connection) -> Result<Migration, MigrateProblem> {
    let from = schema::version(connection)?;
    let mut plan = Migration { from, to: from.max(SCHEMA_VERSION), steps: Vec::new(), longest_lock: None };
    if from < SCHEMA_VERSION {
        plan_version(connection, &mut plan.steps)?;
    }
    let codes = newer_code::count_unknown_before(connection)?;
    if codes > 0 {
        plan.steps.push(MigrationStep { what: newer_code::REWRITE.to_owned(), rows: codes });
    }
    Ok(plan)
}

fn plan_version(connection: &Connection, steps: &mut Vec<MigrationStep>) -> Result<(), MigrateProblem> {
    let trial = empty_copy(connection)?;
    for text in ADDED_IN_2 {
        if !is_noted(connection, text)? {
            let before = objects(&trial)?;
            trial.execute_batch(text).map_err(|error| MigrateProblem::Step { what: first_object(text), error })?;
            steps.push(MigrationStep { what: new_objects(&before, &objects(&trial)?), rows: 0 });
        }
    }
    for fill in FILLED_IN_2 {
        let rows = fill.count(connection)?;
        steps.push(MigrationStep { what: fill.what.to_owned(), rows });
    }
    Ok(())
}

/// Migrates the ledger in this file. `watch` is called after each transaction.
///
/// # Errors
/// [`MigrateFault`] names the file and the step that failed. What was done stays, and the next call goes on behind it.
pub fn migrate(file: &Path, watch: MigrationWatch<'_>) -> Result<Migration, MigrateFault> {
    let fault = |problem| MigrateFault { file: file.to_owned(), problem };
    let opened = |it: crate::OpenFault| fault(MigrateProblem::Ledger(it.problem));
    let log_bytes = with_suffix(file, "-wal").metadata().map_or(0, |log| log.len());
    if log_bytes > LOG_BYTES_MAX && is_open_elsewhere(file) {
        return Err(fault(MigrateProblem::LongLog { log_bytes }));
    }
    let (connection, held) = connect_measured(file).map_err(opened)?;
    let from = schema::version(&connection).map_err(|error| fault(error.into()))?;
    // Others wait while the log is written again, too.
    let mut work = Work { connection, longest_lock: Some(held), watch };
    let mut migration = Migration { from, to: from.max(SCHEMA_VERSION), steps: Vec::new(), longest_lock: None };
    if from < SCHEMA_VERSION {
        let source = connect_beside(file).map_err(opened)?;
        work.migrate(&source, &mut migration.steps).map_err(fault)?;
    }
    work.rewrite_codes(&mut migration.steps).map_err(fault)?;
    migration.longest_lock = work.longest_lock.filter(|_| !migration.steps.is_empty());
    Ok(migration)
}

/// A migration under way.
struct Work<'a> {
    connection: Connection,
    longest_lock: Option<Duration>,
    watch: MigrationWatch<'a>,
}

impl Work<'_> {
    fn migrate(&mut self, source: &Connection, steps: &mut Vec<MigrationStep>) -> Result<(), MigrateProblem> {
        for text in ADDED_IN_2 {
            if let Some(what) = self.add(text)? {
                self.report(&what, 0, 0)?;
                steps.push(MigrationStep { what, rows: 0 });
            }
        }
        for fill in FILLED_IN_2 {
            let rows = self.fill(fill, source)?;
            steps.push(MigrationStep { what: fill.what.to_owned(), rows });
        }
        self.finish().map_err(|error| MigrateProblem::Step { what: "the new version".to_owned(), error })
    }

    /// Adds the tables of one module, and says their names; nothing if an earlier call did.
    fn add(&mut self, text: &str) -> Result<Option<String>, MigrateProblem> {
        let added = self.locked(|connection| {
            if is_noted(connection, text)? {
                return Ok(None);
            }
            let before = objects(connection)?;
            connection.execute_batch(text)?;
            connection.execute("INSERT INTO meta (name, value) VALUES (?1, 1)", [note(text)])?;
            Ok(Some(new_objects(&before, &objects(connection)?)))
        });
        added.map_err(|error| MigrateProblem::Step { what: first_object(text), error })
    }

    /// Writes the rows that a new table needs. They are read into a table of the connection first, each page in a transaction of its own: one that
    /// lasted as long as the migration would let the log of a server grow meanwhile. A row that comes meanwhile is written by a trigger too.
    fn fill(&mut self, fill: &Fill, source: &Connection) -> Result<u64, MigrateProblem> {
        let failed = |error| MigrateProblem::Step { what: fill.what.to_owned(), error };
        let total = fill.count(source).map_err(failed)?;
        self.read_pages(fill, source)?;
        let ordered =
            format!("CREATE TABLE temp.ordered AS SELECT key, value FROM temp.filling ORDER BY {}", fill.order);
        source.execute_batch("DROP TABLE IF EXISTS temp.ordered").map_err(failed)?;
        source.execute_batch(&ordered).map_err(failed)?;
        let (mut after, mut done, mut written) = (0_i64, 0_u64, 0_u64);
        loop {
            let batch = behind(source, after).map_err(failed)?;
            let Some((last, ..)) = batch.last() else { return Ok(written) };
            after = *last;
            written += self.locked(|connection| insert(connection, fill, &batch)).map_err(failed)?;
            done += u64::try_from(batch.len()).unwrap_or(0);
            self.report(fill.what, done, total)?;
        }
    }

    /// Copies what the rows of a step have into a table of the connection.
    fn read_pages(&mut self, fill: &Fill, source: &Connection) -> Result<(), MigrateProblem> {
        let failed = |error| MigrateProblem::Step { what: fill.what.to_owned(), error };
        let begin = "PRAGMA temp_store = FILE;
DROP TABLE IF EXISTS temp.filling;
CREATE TEMP TABLE filling (key INTEGER PRIMARY KEY, value INTEGER NOT NULL);";
        source.execute_batch(begin).map_err(failed)?;
        let mut after = i64::MIN;
        loop {
            let copy = format!("INSERT INTO temp.filling {}", fill.page);
            let rows = source.prepare_cached(&copy).and_then(|mut copy| copy.execute([after, PAGE_ROWS]));
            if rows.map_err(failed)? == 0 {
                return Ok(());
            }
            let last = source.query_row("SELECT max(key) FROM temp.filling", [], |row| row.get(0));
            after = last.map_err(failed)?;
        }
    }

    /// Gives rows of an earlier build codes that the release before knows.
    fn rewrite_codes(&mut self, steps: &mut Vec<MigrationStep>) -> Result<(), MigrateProblem> {
        let failed = |error| MigrateProblem::Step { what: newer_code::REWRITE.to_owned(), error };
        let total = newer_code::count_unknown_before(&self.connection).map_err(failed)?;
        let (mut after, mut done) = (i64::MIN, 0);
        while done < total
            && let Some((last, rows)) =
                self.locked(|connection| newer_code::rewrite(connection, after, ROWS_AT_ONCE)).map_err(failed)?
        {
            (after, done) = (last, done + rows);
            self.report(newer_code::REWRITE, done, total)?;
        }
        if done > 0 {
            steps.push(MigrationStep { what: newer_code::REWRITE.to_owned(), rows: done });
        }
        Ok(())
    }

    /// Sets the version, unless another migration was faster.
    fn finish(&mut self) -> Result<(), Error> {
        self.locked(|connection| {
            for text in ADDED_IN_2 {
                connection.execute("DELETE FROM meta WHERE name = ?1", [note(text)])?;
            }
            if schema::version(connection)? < SCHEMA_VERSION {
                connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            Ok(())
        })
    }

    /// Runs this in a transaction, and measures for how long nobody else can write.
    fn locked<T>(&mut self, write: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let began = Instant::now();
        let done = write(&transaction)?;
        transaction.commit()?;
        let held = began.elapsed();
        self.longest_lock = Some(self.longest_lock.map_or(held, |longest| longest.max(held)));
        Ok(done)
    }

    fn report(&mut self, what: &str, done: u64, total: u64) -> Result<(), MigrateProblem> {
        match (self.watch)(MigrationProgress { what, done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(MigrateProblem::Stopped),
        }
    }
}

/// The place of a row in the order of a step, its key and its value.
type Filled = (i64, i64, i64);

fn behind(source: &Connection, after: i64) -> Result<Vec<Filled>, Error> {
    let sql = "SELECT rowid, key, value FROM temp.ordered WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
    let mut statement = source.prepare_cached(sql)?;
    let rows = statement.query_map([after, ROWS_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

fn insert(connection: &Connection, fill: &Fill, batch: &[Filled]) -> Result<u64, Error> {
    let mut statement = connection.prepare_cached(fill.insert)?;
    let mut written = 0;
    for (_, key, value) in batch {
        written += u64::try_from(statement.execute([key, value])?).unwrap_or(0);
    }
    Ok(written)
}

/// The name in `meta` which says that the tables of this text were added.
fn note(text: &str) -> String {
    format!("added {}", &Digest::of(text.as_bytes()).to_string()[..16])
}

fn is_noted(connection: &Connection, text: &str) -> Result<bool, Error> {
    connection.prepare("SELECT 1 FROM meta WHERE name = ?1")?.exists([note(text)])
}

/// The tables, indexes, views and triggers of the file, without a row.
fn empty_copy(connection: &Connection) -> Result<Connection, Error> {
    let copy = Connection::open_in_memory()?;
    let sql =
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        copy.execute_batch(&row.get::<_, String>(0)?)?;
    }
    Ok(copy)
}

/// What the file has, by type and name.
fn objects(connection: &Connection) -> Result<BTreeSet<String>, Error> {
    let sql = "SELECT type || ' ' || name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

fn new_objects(before: &BTreeSet<String>, after: &BTreeSet<String>) -> String {
    after.difference(before).map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The line that creates the first object of a text: names it in a message.
fn first_object(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("CREATE ")).unwrap_or("its tables");
    line.trim_end_matches(['(', ' ']).to_owned()
}

/// Why a ledger was not migrated.
#[derive(Debug)]
pub struct MigrateFault {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub problem: MigrateProblem,
}

/// What is wrong with a migration.
#[derive(Debug)]
pub enum MigrateProblem {
    /// The ledger cannot be used.
    Ledger(OpenProblem),
    /// SQLite cannot read the ledger.
    Database(Error),
    /// A step failed; what was done before stays.
    Step {
        /// The step.
        what: String,
        /// What SQLite says.
        error: Error,
    },
    /// Its log is too long to be written again beside a server.
    LongLog {
        /// Bytes of the log.
        log_bytes: u64,
    },
    /// It was asked to stop; what was done stays.
    Stopped,
}

impl From<Error> for MigrateProblem {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for MigrateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the ledger {}: {}", self.file.display(), self.problem)
    }
}

impl fmt::Display for MigrateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GOES_ON: &str =
            "The ledger can be used as it is, and the next `muster ledger migrate` goes on from there";
        match self {
            Self::Ledger(problem) => problem.fmt(f),
            Self::Database(error) => write!(f, "{error}"),
            Self::Step { what, error } => write!(f, "cannot add {what}: {error}. {GOES_ON}"),
            Self::LongLog { log_bytes } => write!(
                f,
                "its log is {} MiB long, because a backup or a verification reads it, and the server would wait while the log is made durable. Run this again when that has ended",
                log_bytes >> 20
            ),
            Self::Stopped => write!(f, "the migration was stopped. {GOES_ON}"),
        }
    }
}

impl std::error::Error for MigrateFault {}
