//! What stands in the place of removed rows of the audit.
//!
//! The stub stands in the row that was the last one removed, with its number, time, count and hash, so that the chain goes on behind it:
//!
//! ```text
//! {"type":"audit.stub","version":1,"node":7,"sequence":12,"records":340,"hash":"…","at":…,"pruned_at":…,"actor":"…","key":"…","signature":"…"}
//! ```
//!
//! It is signed as a checkpoint is.

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

/// The type of a stub.
const KIND: &str = "audit.stub";
/// What a stub begins with, and no record.
const BEGINNING: &str = "{\"type\":\"audit.stub\",";
/// The version of stubs that this release writes.
const VERSION: i64 = 1;

/// The text of a stub; `None` if the system provides no randomness for its signature.
pub(super) fn stub(head: &AuditHead, now: UnixTime, actor: &Actor, key: &AuditKey) -> Option<String> {
    let mut text = String::new();
    let line = JsonLine::begin(&mut text, KIND).number("version", VERSION);
    let line = line.number("node", i64::from(head.node.number())).number("sequence", head.sequence);
    let line = line.number("records", head.records).hex("hash", head.hash.as_bytes()).number("at", head.at);
    let line = line.number("pruned_at", seconds(now)).text("actor", actor.as_str());
    line.hex("key", key.id().as_bytes()).unfinished();
    sign(text, key)
}

/// Whether the text of a row is a stub.
pub(crate) fn is_stub(body: &str) -> bool {
    body.starts_with(BEGINNING)
}

/// Whether one of these keys has signed that the chain had this head when what is before it was removed.
pub(super) fn is_stub_of(body: &str, head: &AuditHead, keys: &[AuditPublicKey]) -> bool {
    signed(body, keys).and_then(|value| read(&value)).is_some_and(|of| of == *head)
}

fn read(value: &Value) -> Option<AuditHead> {
    let number = |name: &str| value.get(name).and_then(Value::as_i64);
    (value.get("type")?.as_str()? == KIND && number("version")? == VERSION).then_some(())?;
    Some(AuditHead {
        node: NodePrefix::new(u16::try_from(number("node")?).ok()?),
        sequence: number("sequence")?,
        at: number("at")?,
        records: number("records")?,
        hash: Digest::from_bytes(octets(value.get("hash")?.as_str()?)?),
    })
}
