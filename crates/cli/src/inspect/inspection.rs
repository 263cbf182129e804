//! The result of an inspection: a tree of named fields and remarks, written as text for people or as JSON for programs.
//!
//! The parts of `muster inspect` fill it; none of them prints. Its values never contain a private key.

use std::fmt::{self, Write as _};

use est::Reason;
use serde_json::{Map, Value, json};

/// One thing that a file contains, with the things inside it.
#[derive(Debug)]
pub(super) struct Inspection {
    /// What it is: `certificate 1`.
    kind: String,
    /// One line that shows it whole; if it is set, text output leaves out the fields.
    line: Option<String>,
    fields: Vec<(&'static str, Value)>,
    remarks: Vec<Remark>,
    parts: Vec<Self>,
}

/// Something to know about a thing, and what to do.
#[derive(Debug)]
struct Remark {
    weight: RemarkWeight,
    text: String,
    reason: Option<Reason>,
    remedy: Option<String>,
}

/// Whether a remark decides anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RemarkWeight {
    /// A server of Muster refuses it.
    Refused,
    /// It is accepted, or not judged here.
    Noted,
}

impl Inspection {
    pub(super) fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), line: None, fields: Vec::new(), remarks: Vec::new(), parts: Vec::new() }
    }

    /// Shows it on one line.
    pub(super) fn line(mut self, line: impl Into<String>) -> Self {
        self.line = Some(line.into());
        self
    }

    pub(super) fn field(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// A field that may be absent.
    pub(super) fn field_if<V: Into<Value>>(self, name: &'static str, value: Option<V>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => self,
        }
    }

    /// A server of Muster refuses it.
    pub(super) fn refused(
        mut self,
        text: impl Into<String>,
        reason: Option<Reason>,
        remedy: impl Into<String>,
    ) -> Self {
        let (text, remedy) = (text.into(), Some(remedy.into()));
        self.remarks.push(Remark { weight: RemarkWeight::Refused, text, reason, remedy });
        self
    }

    /// Worth knowing, whatever a server does with it.
    pub(super) fn noted(mut self, text: impl Into<String>, reason: Option<Reason>, remedy: Option<&str>) -> Self {
        let (text, remedy) = (text.into(), remedy.map(str::to_owned));
        self.remarks.push(Remark { weight: RemarkWeight::Noted, text, reason, remedy });
        self
    }

    pub(super) fn part(mut self, part: Self) -> Self {
        self.parts.push(part);
        self
    }

    pub(super) fn parts(mut self, parts: impl IntoIterator<Item = Self>) -> Self {
        self.parts.extend(parts);
        self
    }

    /// The first fault for which a server refuses it, here or inside.
    pub(super) fn first_refusal(&self) -> Option<String> {
        let own = self.remarks.iter().find(|remark| remark.weight == RemarkWeight::Refused);
        let own = own.map(|remark| match remark.reason {
            Some(reason) => format!("{}: {} ({})", self.kind, remark.text, reason.code()),
            None => format!("{}: {}", self.kind, remark.text),
        });
        own.or_else(|| self.parts.iter().find_map(Self::first_refusal))
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let fields: Map<_, _> = self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let remark = |remark: &Remark| {
            json!({
                "weight": match remark.weight { RemarkWeight::Refused => "refused", RemarkWeight::Noted => "noted" },
                "text": remark.text,
                "reason": remark.reason.map(Reason::code),
                "remedy": remark.remedy,
            })
        };
        json!({
            "kind": self.kind,
            "fields": fields,
            "remarks": self.remarks.iter().map(remark).collect::<Vec<_>>(),
            "parts": self.parts.iter().map(Self::json).collect::<Vec<_>>(),
        })
    }

    fn text(&self, depth: usize, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = "  ".repeat(depth);
        match &self.line {
            Some(line) => writeln!(out, "{indent}{line}")?,
            None => {
                writeln!(out, "{indent}{}", self.kind)?;
                let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
                for (name, value) in &self.fields {
                    writeln!(out, "{indent}  {name:width$}  {}", ShownValue(value))?;
                }
            }
        }
        for remark in &self.remarks {
            let word = match remark.weight {
                RemarkWeight::Refused => "REFUSED",
                RemarkWeight::Noted => "note",
            };
            write!(out, "{indent}  {word}: {}", remark.text)?;
            match remark.reason {
                Some(reason) => writeln!(out, " ({})", reason.code())?,
                None => writeln!(out)?,
            }
            if let Some(remedy) = &remark.remedy {
                writeln!(out, "{indent}    -> {remedy}")?;
            }
        }
        self.parts.iter().try_for_each(|part| part.text(depth + 1, out))
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(0, out)
    }
}

/// A value on one line, without the quotes of JSON; a list is separated by commas. What does not show on a terminal is escaped.
struct ShownValue<'v>(&'v Value);

impl fmt::Display for ShownValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => text.chars().try_for_each(|character| {
                if pki::shows(character) {
                    out.write_char(character)
                } else {
                    write!(out, "{}", character.escape_debug())
                }
            }),
            Value::Array(values) if values.is_empty() => out.write_str("none"),
            Value::Array(values) => values.iter().enumerate().try_for_each(|(index, value)| {
                out.write_str(if index > 0 { ", " } else { "" })?;
                ShownValue(value).fmt(out)
            }),
            other => other.fmt(out),
        }
    }
}
