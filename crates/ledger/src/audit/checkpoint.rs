//! Checkpoints: the signed head of a chain at a time, one line of JSON each.
//!
//! ```text
//! {"type":"audit.checkpoint","version":1,"node":7,"sequence":12,"records":340,"hash":"…","at":1800000000,"key":"…","signature":"…"}
//! ```
//!
//! The signature is ECDSA over the text of the line before `,"signature"`, as base64 of DER. `key` is the SHA-256 of the SubjectPublicKeyInfo of the
//! key that signed. A line without an end is one that a crash cut off; it is removed before the next one is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::Digest;
use pki::issue::NodePrefix;
use serde_json::Value;

use super::chain::AuditHead;
use super::key::{AuditKey, AuditPublicKey};
use crate::json::{JsonLine, octets};
use crate::paths::sync_folder;

/// The type of a line.
const KIND: &str = "audit.checkpoint";
/// The version of lines that this release writes.
const VERSION: i64 = 1;
/// What stands between the signed text and its signature.
const SIGNATURE: &str = ",\"signature\":\"";
/// No line is longer.
pub(crate) const LINE_BYTES_MAX: usize = 1_024;

/// A checkpoint whose signature was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The node whose chain it is about.
    pub node: NodePrefix,
    /// The last row of the chain then.
    pub sequence: i64,
    /// Records of the chain then.
    pub records: i64,
    /// The hash of that row.
    pub hash: Digest,
    /// When it was signed, in seconds since 1970.
    pub at: i64,
}

impl Checkpoint {
    /// Reads a line and verifies it with the key that it names; `None` for any line that is not exactly as one of these keys has signed it.
    #[must_use]
    pub fn read(line: &str, keys: &[AuditPublicKey]) -> Option<Self> {
        let value = signed(line, keys)?;
        let number = |name: &str| value.get(name).and_then(Value::as_i64);
        (value.get("type")?.as_str()? == KIND && number("version")? == VERSION).then_some(())?;
        Some(Self {
            node: NodePrefix::new(u16::try_from(number("node")?).ok()?),
            sequence: number("sequence")?,
            records: number("records")?,
            hash: Digest::from_bytes(octets(value.get("hash")?.as_str()?)?),
            at: number("at")?,
        })
    }

    /// The line of this head at this time; `None` if the system provides no randomness.
    pub(crate) fn line(head: &AuditHead, at: i64, key: &AuditKey) -> Option<String> {
        let mut text = String::with_capacity(LINE_BYTES_MAX);
        let line = JsonLine::begin(&mut text, KIND).number("version", VERSION);
        let line = line.number("node", i64::from(head.node.number())).number("sequence", head.sequence);
        let line = line.number("records", head.records).hex("hash", head.hash.as_bytes()).number("at", at);
        line.hex("key", key.id().as_bytes()).unfinished();
        sign(text, key)
    }
}

/// Ends an object with the signature of what was written before.
pub(crate) fn sign(mut text: String, key: &AuditKey) -> Option<String> {
    let signature = BASE64.encode(key.sign(&text)?);
    text.push_str(SIGNATURE);
    text.push_str(&signature);
    text.push_str("\"}");
    Some(text)
}

/// The object of a line that one of these keys has signed.
pub(crate) fn signed(line: &str, keys: &[AuditPublicKey]) -> Option<Value> {
    (line.len() <= LINE_BYTES_MAX).then_some(())?;
    let (text, signature) = line.split_once(SIGNATURE)?;
    let value: Value = serde_json::from_str(line).ok()?;
    let id = Digest::from_bytes(octets(value.get("key")?.as_str()?)?);
    let key = keys.iter().find(|key| key.id() == id)?;
    let signature = BASE64.decode(signature.strip_suffix("\"}")?).ok()?;
    key.verifies(text, &signature).then_some(value)
}

/// Appends a line durably. The file is opened each time, so that it can be moved away while the ledger is open.
pub(crate) fn append(path: &Path, line: &str) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    cut_unfinished(&mut file)?;
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_data()?;
    if is_new { sync_folder(path) } else { Ok(()) }
}

/// Removes a last line without an end.
fn cut_unfinished(file: &mut File) -> io::Result<()> {
    let length = file.seek(SeekFrom::End(0))?;
    let from = length.saturating_sub(u64::try_from(LINE_BYTES_MAX).unwrap_or(0) + 1);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::with_capacity(LINE_BYTES_MAX + 1);
    file.read_to_end(&mut tail)?;
    let end = match tail.iter().rposition(|octet| *octet == b'\n') {
        Some(newline) if newline + 1 == tail.len() => return Ok(()),
        Some(newline) => from + u64::try_from(newline + 1).unwrap_or(0),
        None if from == 0 => 0,
        None => return Err(io::Error::other("the file does not hold checkpoints: its last line is too long")),
    };
    if end < length {
        file.set_len(end)?;
    }
    Ok(())
}
