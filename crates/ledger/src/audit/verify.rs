//! Recomputes the chains of a ledger, and compares them with checkpoints.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use pki::Digest;
use pki::issue::NodePrefix;
use rusqlite::{Connection, Error, OptionalExtension, Row};

use super::chain::{AuditHead, ROW_VERSION};
use super::checkpoint::{Checkpoint, LINE_BYTES_MAX};
use super::key::AuditPublicKey;
use super::restored::{self, AuditRestore};
use super::stub;

/// Rows that are read at a time: some megabytes.
const PAGE_ROWS: i64 = 256;

/// Steps of work between two calls of whoever shows the progress.
const PROGRESS_STEPS: u64 = 1_000;

/// What a ledger is compared with: best are copies from another machine.
#[derive(Clone, Copy, Debug)]
pub struct VerifySources<'a> {
    /// Files of checkpoints.
    pub checkpoints: &'a [PathBuf],
    /// Keys that may have signed them.
    pub keys: &'a [AuditPublicKey],
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Rows whose hash was computed.
    pub rows: u64,
    /// Checkpoints whose signature was verified, and whose row agrees with them or was pruned.
    pub checkpoints: u64,
    /// Those of them whose row was pruned.
    pub pruned_checkpoints: u64,
    /// Those of them whose row was lost before the ledger was restored from a backup.
    pub lost_checkpoints: u64,
    /// The restores that the chains name.
    pub restores: Vec<AuditRestore>,
    /// The chain of each node.
    pub nodes: Vec<AuditNode>,
    /// The first fault; what comes behind it was not verified.
    pub fault: Option<AuditFault>,
}

/// The chain of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditNode {
    /// The node.
    pub node: NodePrefix,
    /// Its first row: 1, or the stub of what was pruned.
    pub first: i64,
    /// Whether that is a stub.
    pub is_pruned: bool,
    /// Its last row.
    pub last: i64,
    /// Records from its beginning, pruned ones included.
    pub records: i64,
    /// The last row that a checkpoint covers; 0 if none does. What stands behind it can have been rewritten or cut off without a trace.
    pub covered: i64,
}

/// Where a chain, or a checkpoint of it, is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFault {
    /// The node.
    pub node: u16,
    /// The number of the row.
    pub sequence: i64,
    /// What is wrong.
    pub flaw: AuditFlaw,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditFlaw {
    /// The row is missing, and rows behind it are there.
    Missing,
    /// The row, or a part of it, is not what its hash was computed over.
    Edited,
    /// The row does not name the hash of the row before.
    Unchained,
    /// The stub that says what was pruned is not signed by one of the keys.
    Stub,
    /// The row was written by a release that is newer than this one.
    Version(i64),
    /// A checkpoint says that the chain had this row, and it ends before.
    CutTail {
        /// The last row that is there.
        last: i64,
        /// Where the checkpoint stands.
        checkpoint: CheckpointPlace,
    },
    /// A checkpoint has signed another hash for this row: it was rewritten, and every hash behind it computed anew.
    Rewritten(CheckpointPlace),
    /// The line is not a checkpoint that one of the keys has signed: it was edited, or its key is not given. The node and the row are not known.
    Checkpoint(CheckpointPlace),
}

/// A line of a file of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPlace {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
}

/// What is being verified, for whoever shows the progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyStep {
    /// Rows of the chains.
    Rows,
    /// Octets of the files of checkpoints.
    Checkpoints,
}

/// Verifies every chain of a ledger against these checkpoints. `progress` gets the step, how much of it is done and how much there is. The ledger can
/// be in use: rows are read a bounded number at a time, and none changes but by [`prune()`](super::prune()), which is not run meanwhile.
///
/// # Errors
/// [`AuditReadFault`] if something cannot be read. What is wrong with the audit stands in the report.
pub fn verify(
    connection: &Connection,
    sources: VerifySources<'_>,
    progress: &mut dyn FnMut(VerifyStep, u64, u64),
) -> Result<AuditReport, AuditReadFault> {
    // The files first: a checkpoint that is written meanwhile may be ahead of what is read.
    let mut files = Vec::new();
    for path in sources.checkpoints {
        let unreadable = |error| AuditReadFault::Checkpoints { file: path.clone(), error };
        let file = File::open(path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        files.push((path.as_path(), file, length));
    }
    let mut report = AuditReport::default();
    report.fault = verify_chains(connection, sources.keys, &mut report, progress)?;
    let total = files.iter().map(|(_, _, length)| length).sum();
    let mut done = 0;
    for (path, file, length) in files {
        if report.fault.is_some() {
            break;
        }
        let step = &mut |octets| progress(VerifyStep::Checkpoints, done + octets, total);
        let fault = CheckpointFile { path, keys: sources.keys }.verify(connection, (file, length), &mut report, step);
        report.fault = fault.map_err(|error| match error {
            AuditReadFault::Checkpoints { error, .. } => AuditReadFault::Checkpoints { file: path.to_owned(), error },
            database @ AuditReadFault::Database(_) => database,
        })?;
        done += length;
    }
    Ok(report)
}

/// Follows the chain of each node, and notes it in the report.
fn verify_chains(
    connection: &Connection,
    keys: &[AuditPublicKey],
    report: &mut AuditReport,
    progress: &mut dyn FnMut(VerifyStep, u64, u64),
) -> Result<Option<AuditFault>, Error> {
    let total = "SELECT coalesce(sum(rows), 0) FROM (SELECT max(sequence) - min(sequence) + 1 AS rows FROM audit GROUP BY node)";
    let total: i64 = connection.query_row(total, [], |row| row.get(0))?;
    let total = u64::try_from(total).unwrap_or(0);
    let mut chains = Chains { keys, head: None };
    let mut behind = Some((-1, 0));
    while let Some(last) = behind {
        behind = match chains.follow_page(connection, last, report)? {
            Ok(next) => next,
            Err(fault) => return Ok(Some(fault)),
        };
        if report.rows < total {
            progress(VerifyStep::Rows, report.rows, total);
        }
    }
    progress(VerifyStep::Rows, report.rows, total);
    Ok(None)
}

/// The chains of all nodes, one after the other.
struct Chains<'a> {
    keys: &'a [AuditPublicKey],
    head: Option<AuditHead>,
}

/// Where the next page begins, if there is one, or the first fault of this one.
type Page = Result<Option<(i64, i64)>, AuditFault>;

impl Chains<'_> {
    /// Follows the rows behind this one, up to a bounded number of them.
    fn follow_page(
        &mut self,
        connection: &Connection,
        (node, sequence): (i64, i64),
        report: &mut AuditReport,
    ) -> Result<Page, Error> {
        let sql = "SELECT node, sequence, version, at, records, prev, hash, body FROM audit
WHERE (node, sequence) > (?1, ?2) ORDER BY node, sequence LIMIT ?3";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query((node, sequence, PAGE_ROWS))?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            last = Some((row.get(0)?, row.get(1)?));
            let Some(row) = AuditRow::of(row)? else {
                let (node, sequence) = (row.get(0).unwrap_or(0), row.get(1)?);
                return Ok(Err(AuditFault { node, sequence, flaw: AuditFlaw::Edited }));
            };
            if let Err(fault) = self.follow(&row, report) {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(last))
    }

    fn follow(&mut self, row: &AuditRow<'_>, report: &mut AuditReport) -> Result<(), AuditFault> {
        let before = self.head.filter(|head| head.node == row.node);
        report.restores.extend(before.and_then(|before| restored::read(row.body, &before, self.keys)));
        let next = row.follow(before, self.keys);
        self.head = Some(next.map_err(|(sequence, flaw)| AuditFault { node: row.node.number(), sequence, flaw })?);
        match report.nodes.last_mut().filter(|_| before.is_some()) {
            Some(node) => (node.last, node.records) = (row.sequence, row.records),
            None => report.nodes.push(AuditNode {
                node: row.node,
                first: row.sequence,
                is_pruned: row.is_stub(),
                last: row.sequence,
                records: row.records,
                covered: 0,
            }),
        }
        report.rows += 1;
        Ok(())
    }
}

/// A row as it stands in the table.
struct AuditRow<'a> {
    node: NodePrefix,
    sequence: i64,
    version: i64,
    at: i64,
    records: i64,
    prev: Digest,
    hash: Digest,
    body: &'a str,
}

impl<'a> AuditRow<'a> {
    /// `None` if a column does not have the form that every row of ours has.
    fn of(row: &'a Row<'_>) -> Result<Option<Self>, Error> {
        let node: i64 = row.get(0)?;
        let digest = |column| -> Result<Option<Digest>, Error> {
            let octets = row.get_ref(column)?.as_blob().ok().and_then(|octets| octets.try_into().ok());
            Ok(octets.map(Digest::from_bytes))
        };
        let (prev, hash) = (digest(5)?, digest(6)?);
        let body = row.get_ref(7)?.as_str().ok();
        let (Ok(node), Some(prev), Some(hash), Some(body)) = (u16::try_from(node), prev, hash, body) else {
            return Ok(None);
        };
        let node = NodePrefix::new(node);
        let (sequence, version, at, records) = (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        Ok(Some(Self { node, sequence, version, at, records, prev, hash, body }))
    }

    /// Whether it looks like the stub of what was pruned. No record begins like one.
    fn is_stub(&self) -> bool {
        stub::is_stub(self.body)
    }

    /// The head that this row makes behind that one, or the number of a row and what is wrong with it.
    fn follow(&self, before: Option<AuditHead>, keys: &[AuditPublicKey]) -> Result<AuditHead, (i64, AuditFlaw)> {
        let Self { node, sequence, at, records, hash, .. } = *self;
        let head = AuditHead { node, sequence, at, records, hash };
        if before.is_none() && self.is_stub() {
            let is_signed = stub::is_stub_of(self.body, &head, keys);
            return if is_signed { Ok(head) } else { Err((sequence, AuditFlaw::Stub)) };
        }
        let before = before.unwrap_or_else(|| AuditHead::start(node));
        if sequence != before.sequence + 1 {
            return Err((before.sequence + 1, AuditFlaw::Missing));
        }
        if self.version != ROW_VERSION {
            return Err((sequence, AuditFlaw::Version(self.version)));
        }
        if self.prev != before.hash {
            return Err((sequence, AuditFlaw::Unchained));
        }
        let computed = before.with_row(at, records, self.body);
        if computed == head { Ok(head) } else { Err((sequence, AuditFlaw::Edited)) }
    }
}

/// One file of checkpoints.
struct CheckpointFile<'a> {
    path: &'a Path,
    keys: &'a [AuditPublicKey],
}

impl CheckpointFile<'_> {
    fn verify(
        &self,
        connection: &Connection,
        (file, length): (File, u64),
        report: &mut AuditReport,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<AuditFault>, AuditReadFault> {
        let mut reader = BufReader::new(file.take(length));
        let (mut line, mut number, mut octets) = (Vec::new(), 0, 0);
        let mut last: Option<Checkpoint> = None;
        let longest = u64::try_from(LINE_BYTES_MAX).unwrap_or(0) + 1;
        loop {
            line.clear();
            let read = reader.by_ref().take(longest).read_until(b'\n', &mut line)?;
            number += 1;
            octets += u64::try_from(read).unwrap_or(0);
            let place = CheckpointPlace { file: self.path.to_owned(), line: number };
            let Some(text) = line.strip_suffix(b"\n") else {
                // What a crash cut off is no checkpoint; a line that is too long is not ours.
                let is_ours = read <= LINE_BYTES_MAX;
                let flaw = AuditFlaw::Checkpoint(place);
                return Ok((!is_ours).then_some(AuditFault { node: 0, sequence: 0, flaw }));
            };
            let read = std::str::from_utf8(text).ok().and_then(|text| Checkpoint::read(text, self.keys));
            let Some(checkpoint) = read else {
                return Ok(Some(AuditFault { node: 0, sequence: 0, flaw: AuditFlaw::Checkpoint(place) }));
            };
            // A ledger in which nothing happens signs the same head again and again.
            let is_same = last.is_some_and(|last| Checkpoint { at: last.at, ..checkpoint } == last);
            let flaw = if is_same { None } else { compare(connection, &checkpoint, place, report)? };
            if flaw.is_some() && is_of_lost_part(&checkpoint, &report.restores) {
                report.lost_checkpoints += 1;
            } else if let Some(flaw) = flaw {
                let (node, sequence) = (checkpoint.node.number(), checkpoint.sequence);
                return Ok(Some(AuditFault { node, sequence, flaw }));
            }
            report.checkpoints += 1;
            last = Some(checkpoint);
            if number.is_multiple_of(PROGRESS_STEPS) || octets == length {
                progress(octets);
            }
        }
    }
}

/// Whether a checkpoint without its row was signed before a restore, behind what was restored.
fn is_of_lost_part(checkpoint: &Checkpoint, restores: &[AuditRestore]) -> bool {
    restores.iter().any(|restore| {
        restore.node == checkpoint.node && restore.sequence < checkpoint.sequence && checkpoint.at <= restore.at
    })
}

/// Compares a checkpoint with the row that it is about, and notes in the report that this row is covered.
fn compare(
    connection: &Connection,
    checkpoint: &Checkpoint,
    place: CheckpointPlace,
    report: &mut AuditReport,
) -> Result<Option<AuditFlaw>, Error> {
    let Checkpoint { node, sequence, records, hash, .. } = *checkpoint;
    if sequence == 0 {
        let start = AuditHead::start(node);
        return Ok(((records, hash) != (0, start.hash)).then_some(AuditFlaw::Rewritten(place)));
    }
    let known = report.nodes.iter_mut().find(|known| known.node == node);
    let last = known.as_ref().map_or(0, |known| known.last);
    let Some(known) = known.filter(|known| sequence <= known.last) else {
        return Ok(Some(AuditFlaw::CutTail { last, checkpoint: place }));
    };
    if sequence < known.first {
        report.pruned_checkpoints += 1;
        return Ok(None);
    }
    let sql = "SELECT records, hash FROM audit WHERE node = ?1 AND sequence = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let row = statement.query_row((node.number(), sequence), |row| Ok((row.get(0)?, Digest::from_bytes(row.get(1)?))));
    if row.optional()? != Some((records, hash)) {
        return Ok(Some(AuditFlaw::Rewritten(place)));
    }
    known.covered = known.covered.max(sequence);
    Ok(None)
}

/// Why an audit could not be verified.
#[derive(Debug)]
pub enum AuditReadFault {
    /// A file of checkpoints cannot be read.
    Checkpoints {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// SQLite cannot read the ledger.
    Database(Error),
}

impl From<Error> for AuditReadFault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for AuditReadFault {
    fn from(error: io::Error) -> Self {
        Self::Checkpoints { file: PathBuf::new(), error }
    }
}

impl fmt::Display for AuditReadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoints { file, error } => write!(
                f,
                "cannot read the checkpoints {}: {error}. Without checkpoints nobody can tell whether the end of the audit was cut off",
                file.display()
            ),
            Self::Database(error) => write!(f, "cannot read the audit: {error}"),
        }
    }
}

impl std::error::Error for AuditReadFault {}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, sequence, flaw } = self;
        match flaw {
            AuditFlaw::Checkpoint(place) => {
                write!(
                    f,
                    "{place} is not a checkpoint that was signed with the given key: it was edited, or the key is another one"
                )
            }
            AuditFlaw::Missing => write!(f, "audit row {sequence} of node {node} is missing: it was removed"),
            AuditFlaw::Edited => write!(f, "audit row {sequence} of node {node} was edited: it does not have its hash"),
            AuditFlaw::Unchained => {
                write!(f, "audit row {sequence} of node {node} was edited: it does not name the hash of the row before")
            }
            AuditFlaw::Stub => {
                write!(
                    f,
                    "audit row {sequence} of node {node} says that older rows were pruned, and is not signed with the given key"
                )
            }
            AuditFlaw::Version(version) => {
                write!(f, "audit row {sequence} of node {node} has version {version}: use the release that wrote it")
            }
            AuditFlaw::CutTail { last, checkpoint } => write!(
                f,
                "the audit of node {node} ends with row {last}, and {checkpoint} has signed row {sequence}: its end was cut off"
            ),
            AuditFlaw::Rewritten(place) => write!(
                f,
                "audit row {sequence} of node {node} is not the one that {place} has signed: the audit was rewritten"
            ),
        }
    }
}

impl std::error::Error for AuditFault {}

impl fmt::Display for CheckpointPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of {}", self.line, self.file.display())
    }
}
