//! Why something was refused: the closed set of reasons, each with a stable code, and the one table that drives the log,
//! the metric's label, the CoAP diagnostic payload, `muster explain` and the documentation.
//!
//! A crate below refuses with an enum of its own that carries data; each variant gets a code here. The matches are
//! exhaustive: a variant added below does not compile here until it has an entry.
//!
//! Codes are part of the interface: once released, a code keeps its meaning and is never used for another.

mod from;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fmt::Write as _;

use coap::Code;
use dtls::AlertDescription;

pub use table::Reason;

/// A diagnostic payload is at most this long (RFC 7252 §5.5.2 asks for brevity): a code fits, and with it the whole
/// answer fits the smallest block that anyone uses.
pub const DIAGNOSTIC_BYTES_MAX: usize = 64;

/// How far an attempt got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// The DTLS handshake.
    Handshake,
    /// The CoAP request: its blocks, path, method and formats.
    Request,
    /// The decision on a certificate signing request.
    Decision,
    /// The issuance: serial, signature, record.
    Issuance,
    /// The device's own check of what the server sent.
    Answer,
}

impl Stage {
    /// Its name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Request => "request",
            Self::Decision => "decision",
            Self::Issuance => "issuance",
            Self::Answer => "answer",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What the other side sees of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// A fatal alert (RFC 5246 §7.2).
    Alert(AlertDescription),
    /// A CoAP response code (RFC 7252 §5.9).
    Response(Code),
    /// close_notify: the session ends, nothing was wrong with the request.
    Close,
    /// Nothing: the peer cannot be told, or should not be.
    Silence,
}

impl fmt::Display for Wire {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alert(description) => write!(out, "alert {}", description.name()),
            Self::Response(code) => write!(out, "{code}"),
            Self::Close => out.write_str("close_notify"),
            Self::Silence => out.write_str("nothing"),
        }
    }
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stable code, at most [`DIAGNOSTIC_BYTES_MAX`] bytes: `est.sen.subject_mismatch`.
    pub code: &'static str,
    /// Where it arises.
    pub stage: Stage,
    /// What the peer sees.
    pub wire: Wire,
    /// What it means, in one or two sentences.
    pub meaning: &'static str,
    /// What to do about it on the device.
    pub device: &'static str,
    /// What to do about it on the server.
    pub server: &'static str,
}

impl Reason {
    /// The reason with this code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.entry().code
    }

    /// Where it arises.
    #[must_use]
    pub const fn stage(self) -> Stage {
        self.entry().stage
    }

    /// The CoAP code of the response, if the reason is answered with one.
    #[must_use]
    pub const fn response_code(self) -> Option<Code> {
        match self.entry().wire {
            Wire::Response(code) => Some(code),
            Wire::Alert(_) | Wire::Close | Wire::Silence => None,
        }
    }

    /// What `muster explain` prints.
    #[must_use]
    pub fn explain(self) -> String {
        let Entry { code, stage, wire, meaning, device, server } = self.entry();
        format!(
            "{code}\n  stage    {stage}\n  on wire  {wire}\n\n{meaning}\n\nOn the server: {server}\n\nOn the device: {device}\n"
        )
    }

    /// The codes nearest to a mistyped `code`: those that share the most leading segments.
    pub fn near(code: &str) -> impl Iterator<Item = Self> {
        let shared = |reason: Self| {
            let words = reason.code().split('.').zip(code.split('.'));
            words.take_while(|(ours, theirs)| ours == theirs).count()
        };
        let most = Self::ALL.iter().map(|&reason| shared(reason)).max().unwrap_or(0);
        Self::ALL.iter().copied().filter(move |&reason| {
            most > 0 && {
                let words = reason.code().split('.').zip(code.split('.'));
                words.take_while(|(ours, theirs)| ours == theirs).count() == most
            }
        })
    }

    /// The whole table as Markdown, for the documentation.
    #[must_use]
    pub fn markdown() -> String {
        let mut text = String::from(
            "| code | stage | on the wire | meaning | on the device | on the server |\n|---|---|---|---|---|---|\n",
        );
        for Entry { code, stage, wire, meaning, device, server } in Self::ALL.iter().map(|reason| reason.entry()) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| `{code}` | {stage} | {wire} | {meaning} | {device} | {server} |");
        }
        text
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.code())
    }
}
