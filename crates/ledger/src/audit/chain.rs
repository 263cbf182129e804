//! The chain of hashes of one node.
//!
//! ```text
//! hash(0)        = SHA-256("muster audit chain 1", node)
//! hash(sequence) = SHA-256("muster audit row 1", node, sequence, at, records, hash(sequence - 1), body)
//! ```
//!
//! Each part is preceded by its length as 8 octets; numbers are 8 octets, big-endian, the node 2. `at` is the time of the row in seconds since 1970
//! and does not fall; `records` counts the records from the beginning of the chain to the end of this row; `body` is the text of the row.
//!
//! Rows begin at 1. A row whose number is not one more than that of the row before has lost its neighbour.

use pki::Digest;
use pki::issue::NodePrefix;
use rusqlite::{Connection, Error, OptionalExtension, params};

use super::record::AuditBody;
use super::refusals::DueRefusals;

/// The version of rows that this release writes.
pub const ROW_VERSION: i64 = 1;

/// How far the chain of a node is: its last row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The node.
    pub node: NodePrefix,
    /// The number of its last row; 0 for a chain without rows.
    pub sequence: i64,
    /// The time of that row, in seconds since 1970.
    pub at: i64,
    /// Records of the chain.
    pub records: i64,
    /// The hash of that row.
    pub hash: Digest,
}

impl AuditHead {
    /// The beginning of a chain.
    #[must_use]
    pub fn start(node: NodePrefix) -> Self {
        let hash = Digest::of_parts(&[b"muster audit chain 1", &node.number().to_be_bytes()]);
        Self { node, sequence: 0, at: 0, records: 0, hash }
    }

    /// The head that a row behind this one makes.
    #[must_use]
    pub fn with_row(&self, at: i64, records: i64, body: &str) -> Self {
        let sequence = self.sequence.saturating_add(1);
        let hash = Digest::of_parts(&[
            b"muster audit row 1",
            &self.node.number().to_be_bytes(),
            &sequence.to_be_bytes(),
            &at.to_be_bytes(),
            &records.to_be_bytes(),
            self.hash.as_bytes(),
            body.as_bytes(),
        ]);
        Self { node: self.node, sequence, at, records, hash }
    }

    pub(crate) fn read(connection: &Connection, node: NodePrefix) -> Result<Self, Error> {
        let sql = "SELECT sequence, at, records, hash FROM audit WHERE node = ?1 ORDER BY sequence DESC LIMIT 1";
        let row = connection.query_row(sql, [node.number()], |row| {
            let hash = Digest::from_bytes(row.get(3)?);
            Ok(Self { node, sequence: row.get(0)?, at: row.get(1)?, records: row.get(2)?, hash })
        });
        Ok(row.optional()?.unwrap_or_else(|| Self::start(node)))
    }
}

/// Writes the chain of this node: the records of a batch are collected, and become one row before the batch is committed. After a fault it is thrown
/// away and read again, with the book that it belongs to.
pub(crate) struct ChainWriter {
    head: AuditHead,
    pub(crate) body: AuditBody,
}

impl ChainWriter {
    pub(crate) fn new(connection: &Connection, node: NodePrefix) -> Result<Self, Error> {
        Ok(Self { head: AuditHead::read(connection, node)?, body: AuditBody::default() })
    }

    pub(crate) fn head(&self) -> AuditHead {
        self.head
    }

    pub(crate) fn refused(&mut self, due: &DueRefusals, now: i64) {
        due.refusals.iter().for_each(|refusal| self.body.refused(refusal));
        if due.dropped > 0 {
            self.body.refusals_dropped(due.dropped, now);
        }
    }

    /// Writes the records of the batch into its transaction, under the latest time of them and of the row before.
    pub(crate) fn write(&mut self, connection: &Connection) -> Result<(), Error> {
        if self.body.is_empty() {
            return Ok(());
        }
        let prev = self.head.hash;
        let records = self.head.records + self.body.records();
        self.head = self.head.with_row(self.body.latest().max(self.head.at), records, self.body.text());
        let AuditHead { node, sequence, at, records, hash } = self.head;
        let sql = "INSERT INTO audit (node, sequence, version, at, records, prev, hash, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let (prev, hash) = (&prev.as_bytes()[..], &hash.as_bytes()[..]);
        let values = params![node.number(), sequence, ROW_VERSION, at, records, prev, hash, self.body.text()];
        connection.prepare_cached(sql)?.execute(values)?;
        self.body.clear();
        Ok(())
    }
}
