//! The lines of a journal that are not about a row: its first line, and the last line of each batch.

use pki::Digest;
use pki::issue::NodePrefix;
use serde_json::Value;

use super::JournalProblem;
use crate::audit::chain::AuditHead;
use crate::json::{JsonLine, octets};
use crate::line::LineFault;
use crate::serial::SERIAL_KEY_BYTES;

/// The version of these lines that this release writes, and the only one that it reads.
const VERSION: i64 = 1;

const JOURNAL: &str = "ledger.journal";
const BATCH: &str = "ledger.batch";

/// What the last line of a batch begins with, and no other line.
pub(crate) const BATCH_BEGINNING: &str = "{\"type\":\"ledger.batch\",";

/// Which ledger a journal belongs to: a digest of what its serial numbers are made with, which a copy of the ledger has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LedgerId([u8; 16]);

impl LedgerId {
    pub(crate) fn new(serial_key: &[u8; SERIAL_KEY_BYTES]) -> Self {
        let digest = Digest::of_parts(&[b"muster ledger 1", serial_key]);
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_bytes()[..16]);
        Self(id)
    }
}

/// A row of the audit, named by its number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AuditPoint {
    pub(crate) node: NodePrefix,
    pub(crate) sequence: i64,
    pub(crate) hash: Digest,
}

impl From<&AuditHead> for AuditPoint {
    fn from(head: &AuditHead) -> Self {
        Self { node: head.node, sequence: head.sequence, hash: head.hash }
    }
}

/// The first line of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) ledger: LedgerId,
    /// How often the ledger was resumed after a restore: the first number that is drawn differs.
    pub(crate) life: i64,
    /// The last row of the audit that stands before this file.
    pub(crate) after: AuditPoint,
}

impl Header {
    pub(crate) fn push(&self, out: &mut String) {
        let line = JsonLine::begin(out, JOURNAL).number("version", VERSION).hex("ledger", &self.ledger.0);
        point(line.number("life", self.life), &self.after).end();
        out.push('\n');
    }

    /// Reads the first line of a journal of this ledger.
    pub(crate) fn read(line: &str, ledger: LedgerId) -> Result<Self, JournalProblem> {
        let value: Value = serde_json::from_str(line).map_err(|_| JournalProblem::NotAJournal)?;
        if value.get("type").and_then(Value::as_str) != Some(JOURNAL) {
            return Err(JournalProblem::NotAJournal);
        }
        let fault = |fault| JournalProblem::Line { line: 1, fault };
        version(&value).map_err(fault)?;
        let id = text(&value, "ledger").and_then(octets).ok_or(fault(LineFault::Member("ledger")))?;
        if LedgerId(id) != ledger {
            return Err(JournalProblem::Foreign);
        }
        let life = number(&value, "life").map_err(fault)?;
        Ok(Self { ledger, life, after: read_point(&value).map_err(fault)? })
    }
}

/// The last line of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchEnd {
    /// Its row in the audit.
    pub(crate) at: AuditPoint,
    /// The hash of the row of the audit before.
    pub(crate) before: Digest,
    /// How many lines stand before.
    pub(crate) lines: i64,
    /// Bytes of these lines.
    pub(crate) bytes: i64,
    /// The digest of these lines: a write that was not synced may come to the disk in parts, the last line before the others.
    pub(crate) digest: Digest,
}

impl BatchEnd {
    /// The end of a batch of these lines.
    pub(crate) fn of(text: &str, lines: i64, at: AuditPoint, before: Digest) -> Self {
        let bytes = i64::try_from(text.len()).unwrap_or(i64::MAX);
        Self { at, before, lines, bytes, digest: Digest::of(text.as_bytes()) }
    }

    pub(crate) fn push(&self, out: &mut String) {
        let line = JsonLine::begin(out, BATCH).number("version", VERSION);
        let line = point(line, &self.at).hex("before", self.before.as_bytes()).number("lines", self.lines);
        line.number("bytes", self.bytes).hex("digest", self.digest.as_bytes()).end();
        out.push('\n');
    }

    /// Reads a line that begins with [`BATCH_BEGINNING`].
    pub(crate) fn read(line: &str) -> Result<Self, LineFault> {
        let value: Value = serde_json::from_str(line).map_err(|_| LineFault::NotJson)?;
        version(&value)?;
        let digest = |name: &'static str| {
            text(&value, name).and_then(octets).map(Digest::from_bytes).ok_or(LineFault::Member(name))
        };
        let (lines, bytes) = (number(&value, "lines")?, number(&value, "bytes")?);
        Ok(Self { at: read_point(&value)?, before: digest("before")?, lines, bytes, digest: digest("digest")? })
    }
}

fn point<'o>(line: JsonLine<'o>, at: &AuditPoint) -> JsonLine<'o> {
    let line = line.number("node", i64::from(at.node.number())).number("sequence", at.sequence);
    line.hex("hash", at.hash.as_bytes())
}

fn read_point(value: &Value) -> Result<AuditPoint, LineFault> {
    let node = u16::try_from(number(value, "node")?).map_err(|_| LineFault::Member("node"))?;
    let hash = text(value, "hash").and_then(octets).ok_or(LineFault::Member("hash"))?;
    Ok(AuditPoint { node: NodePrefix::new(node), sequence: number(value, "sequence")?, hash: Digest::from_bytes(hash) })
}

fn version(value: &Value) -> Result<(), LineFault> {
    match number(value, "version")? {
        VERSION => Ok(()),
        other => Err(LineFault::Version(other)),
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

fn number(value: &Value, name: &'static str) -> Result<i64, LineFault> {
    value.get(name).and_then(Value::as_i64).filter(|number| *number >= 0).ok_or(LineFault::Member(name))
}
