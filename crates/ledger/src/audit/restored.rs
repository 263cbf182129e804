//! The mark that a ledger was restored from a backup: its chain goes on from where the backup ended, and what was signed of the lost part no longer has
//! a row.
//!
//! ```text
//! {"type":"audit.restored","version":1,"node":7,"sequence":320,"records":911,"hash":"…","at":…,"actor":"…","key":"…","signature":"…"}
//! ```
//!
//! It is the only record of its row, and names the head before it. It is signed as a checkpoint is, so only the holder of the audit's key can say that a
//! checkpoint belongs to a lost part, and each mark stands in the report of the verification.

use authority::Actor;
use pki::Digest;
use pki::issue::NodePrefix;
use rustls_pki_types::UnixTime;
use serde_json::Value;

use super::chain::AuditHead;
use super::checkpoint::{sign, signed};
use super::key::{AuditKey, AuditPublicKey};
use crate::json::{JsonLine, octets};
use crate::seconds::seconds;

const KIND: &str = "audit.restored";
/// What a mark begins with, and no other record.
const BEGINNING: &str = "{\"type\":\"audit.restored\",";
const VERSION: i64 = 1;

/// A restore that the audit names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditRestore {
    /// The node.
    pub node: NodePrefix,
    /// The last row that was restored.
    pub sequence: i64,
    /// When the ledger was resumed, in seconds since 1970. What was signed before may be about rows that were lost.
    pub at: i64,
}

/// The text of a mark; `None` if the system provides no randomness for its signature.
pub(crate) fn mark(head: &AuditHead, now: UnixTime, actor: &Actor, key: &AuditKey) -> Option<String> {
    let mut text = String::new();
    let line = JsonLine::begin(&mut text, KIND).number("version", VERSION);
    let line = line.number("node", i64::from(head.node.number())).number("sequence", head.sequence);
    let line = line.number("records", head.records).hex("hash", head.hash.as_bytes()).number("at", seconds(now));
    line.text("actor", actor.as_str()).hex("key", key.id().as_bytes()).unfinished();
    sign(text, key)
}

/// The restore that the text of a row marks, if one of these keys has signed it for the head before the row.
pub(super) fn read(body: &str, before: &AuditHead, keys: &[AuditPublicKey]) -> Option<AuditRestore> {
    body.starts_with(BEGINNING).then_some(())?;
    let value = signed(body, keys)?;
    let number = |name: &str| value.get(name).and_then(Value::as_i64);
    (value.get("type")?.as_str()? == KIND && number("version")? == VERSION).then_some(())?;
    let restored = (
        number("node")? == i64::from(before.node.number()),
        number("sequence")? == before.sequence,
        number("records")? == before.records,
        octets(value.get("hash")?.as_str()?).map(Digest::from_bytes)? == before.hash,
    );
    let at = number("at")?;
    (restored == (true, true, true, true)).then_some(AuditRestore { node: before.node, sequence: before.sequence, at })
}
