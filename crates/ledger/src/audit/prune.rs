//! Removes old rows of the audit, and leaves a signed stub that says what was there (`stub`).
//!
//! Nothing is removed that does not verify, or that no checkpoint covers: pruning must not hide a change.

use std::fmt;

use authority::Actor;
use pki::Digest;
use rusqlite::{Connection, Error, TransactionBehavior, params};
use rustls_pki_types::UnixTime;

use super::chain::{AuditHead, ROW_VERSION};
use super::key::AuditKey;
use super::stub::stub;
use super::verify::{AuditFault, AuditNode, AuditReadFault, VerifySources, verify};
use crate::seconds::seconds;

/// Rows of one transaction: some 20 MB, so that a server that writes the ledger meanwhile waits for a fraction of a second.
const ROWS_AT_ONCE: i64 = 1_000;

/// What is to be removed.
#[derive(Clone, Copy, Debug)]
pub struct PruneRequest<'a> {
    /// Rows before this time.
    pub before: UnixTime,
    /// The time now.
    pub now: UnixTime,
    /// Who asks for it.
    pub actor: &'a Actor,
    /// What signs the stub.
    pub key: &'a AuditKey,
    /// What the audit is verified with first; the key of the stub is among its keys.
    pub sources: VerifySources<'a>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Rows that were removed.
    pub removed: i64,
    /// Rows that are old enough, and stay because no checkpoint covers them.
    pub uncovered: i64,
}

/// Removes old rows of every chain. The ledger can be in use. `progress` gets how many rows are removed and how many are to be.
///
/// # Errors
/// [`PruneFault`] says why not. Rows that were removed before stay removed, with a stub in their place.
pub fn prune(
    connection: &mut Connection,
    request: PruneRequest<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<PruneReport, PruneFault> {
    let verified = verify(connection, request.sources, &mut |_, _, _| ())?;
    if let Some(fault) = verified.fault {
        return Err(PruneFault::Audit(fault));
    }
    let mut report = PruneReport::default();
    let mut ranges = Vec::new();
    for node in &verified.nodes {
        let sql = "SELECT coalesce(max(sequence), 0) FROM audit WHERE node = ?1 AND at < ?2";
        let values = (node.node.number(), seconds(request.before));
        let wanted: i64 = connection.query_row(sql, values, |row| row.get(0))?;
        // The last row that is pruned already.
        let from = if node.is_pruned { node.first } else { node.first - 1 };
        let to = wanted.min(node.covered);
        if wanted > from && to <= from {
            return Err(PruneFault::Uncovered { node: node.node.number(), sequence: from + 1 });
        }
        if to > from {
            report.uncovered += wanted - to;
            ranges.push((*node, from, to));
        }
    }
    let total = count(ranges.iter().map(|(_, from, to)| to - from).sum());
    for (node, from, to) in ranges {
        let mut from = from;
        while from < to {
            let end = to.min(from.saturating_add(ROWS_AT_ONCE));
            remove(connection, &node, end, &request)?;
            report.removed += end - from;
            from = end;
            progress(count(report.removed), total);
        }
    }
    Ok(report)
}

/// Replaces the rows up to this one by a stub.
fn remove(
    connection: &mut Connection,
    node: &AuditNode,
    to: i64,
    request: &PruneRequest<'_>,
) -> Result<(), PruneFault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number = node.node.number();
    let sql = "SELECT at, records, hash FROM audit WHERE node = ?1 AND sequence = ?2";
    let head = transaction.query_row(sql, (number, to), |row| {
        let hash = Digest::from_bytes(row.get(2)?);
        Ok(AuditHead { node: node.node, sequence: to, at: row.get(0)?, records: row.get(1)?, hash })
    })?;
    let stub = stub(&head, request.now, request.actor, request.key).ok_or(PruneFault::NoRandomness)?;
    transaction.execute("DELETE FROM audit WHERE node = ?1 AND sequence <= ?2", (number, to))?;
    let sql = "INSERT INTO audit (node, sequence, version, at, records, prev, hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (prev, hash) = ([0_u8; 32], &head.hash.as_bytes()[..]);
    transaction.execute(sql, params![number, to, ROW_VERSION, head.at, head.records, prev, hash, stub])?;
    transaction.commit()?;
    Ok(())
}

fn count(of: i64) -> u64 {
    u64::try_from(of).unwrap_or(0)
}

/// Why an audit was not pruned.
#[derive(Debug)]
pub enum PruneFault {
    /// It could not be verified.
    Verify(AuditReadFault),
    /// It does not verify.
    Audit(AuditFault),
    /// No checkpoint covers the first row that is old enough.
    Uncovered {
        /// The node.
        node: u16,
        /// The row.
        sequence: i64,
    },
    /// SQLite cannot write the ledger.
    Database(Error),
    /// The system provides no randomness for a signature.
    NoRandomness,
}

impl From<Error> for PruneFault {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<AuditReadFault> for PruneFault {
    fn from(error: AuditReadFault) -> Self {
        Self::Verify(error)
    }
}

impl fmt::Display for PruneFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verify(error) => error.fmt(f),
            Self::Audit(fault) => write!(f, "{fault}. Nothing is pruned from an audit that does not verify"),
            Self::Uncovered { node, sequence } => write!(
                f,
                "no checkpoint covers audit row {sequence} of node {node}: give the file of checkpoints of its time, or prune later"
            ),
            Self::Database(error) => write!(f, "cannot prune the audit: {error}"),
            Self::NoRandomness => f.write_str("cannot sign what was pruned: the system provides no randomness"),
        }
    }
}

impl std::error::Error for PruneFault {}
