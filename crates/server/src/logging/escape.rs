//! Escapes values in the log that come from devices: a path, a subject, a name. Such a value cannot forge a field or a line, nor hide or reverse
//! text.
//!
//! In the format for a person, a value of plain ASCII without `"`, `=`, `\` and blanks is written unchanged; every other value is quoted as Rust quotes a
//! string, which escapes controls, line separators (U+2028), directional marks (U+202E) and other invisible characters. Messages are treated in the same
//! way, so a value inside a message cannot forge anything either. JSON escapes controls itself; this module escapes the other invisible characters that
//! JSON would write unchanged.

use std::fmt;
use std::io;

use pki::{json_line_shown, shows};
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

/// The fields of a line in the format for a person: the message, then `name=value`.
#[derive(Debug)]
pub(super) struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut line = FieldWriter { writer: &mut writer, result: Ok(()), begun: false };
        fields.record(&mut line);
        line.result
    }
}

struct FieldWriter<'l, 'w> {
    writer: &'l mut Writer<'w>,
    result: fmt::Result,
    begun: bool,
}

impl FieldWriter<'_, '_> {
    fn put(&mut self, field: &Field, text: &str) {
        if self.result.is_ok() {
            self.result = self.try_put(field, text);
        }
    }

    fn try_put(&mut self, field: &Field, text: &str) -> fmt::Result {
        if std::mem::replace(&mut self.begun, true) {
            self.writer.write_char(' ')?;
        }
        let message = field.name() == "message";
        if !message {
            write!(self.writer, "{}=", field.name())?;
        }
        let plain = |c: char| is_plain(c) || message && (c == ' ' || !c.is_ascii() && shows(c));
        if !text.is_empty() && text.chars().all(plain) {
            self.writer.write_str(text)
        } else {
            write!(self.writer, "{text:?}")
        }
    }
}

impl Visit for FieldWriter<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\')
}

/// A writer of JSON lines.
pub(super) struct Escaping<W>(pub(super) W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaping<W> {
    type Writer = EscapingWriter<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapingWriter(self.0.make_writer())
    }
}

/// Takes whole lines: a character outside ASCII is always inside a JSON string, where `\u` can replace it.
pub(super) struct EscapingWriter<W>(W);

impl<W: io::Write> io::Write for EscapingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match str::from_utf8(bytes) {
            Ok(line) => self.0.write_all(json_line_shown(line).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, logged};
    use super::*;

    /// Each value, and what it would do to a line without escaping.
    const HOSTILE: [&str; 12] = [
        "a\n2026-01-01T00:00:00Z  INFO server: certificate issued device=forged",
        "a device=forged",
        "a\" device=\"forged",
        "a\\\" device=forged",
        "\u{1b}[2K\rrefused",
        "\u{202e}desufer",
        "a\u{2028}device=forged",
        "a\u{2029}device=forged",
        "\u{85}device=forged",
        "\u{200b}\u{2066}x\u{feff}\u{e0001}",
        "\u{7f}\u{8}",
        "",
    ];

    #[track_caller]
    fn assert_one_line_that_shows(text: &str) {
        let line = text.strip_suffix('\n').unwrap();
        assert!(line.chars().all(shows), "{line:?}");
    }

    #[test]
    fn e58_no_value_forges_a_field_or_a_line() {
        for hostile in HOSTILE {
            let text = logged(Format::Human, || {
                tracing::warn!(path = hostile, subject = %hostile, device = "000001", "refused");
            });
            assert_one_line_that_shows(&text);
            let (_, rest) = text.trim_end().split_once(": refused path=").unwrap_or_else(|| panic!("{text}"));
            assert_eq!(rest, format!("{hostile:?} subject={hostile:?} device=000001"));
        }
    }

    #[test]
    fn e58_no_message_forges_a_field_or_a_line() {
        for hostile in HOSTILE {
            let text = logged(Format::Human, || tracing::warn!(device = "000001", "asked for {hostile}"));
            assert_one_line_that_shows(&text);
            assert!(text.trim_end().ends_with(" device=000001"), "{text}");
            let unescaped = text.replace(r"\\", "").replace(r#"\""#, "");
            let outside: String = unescaped.split('"').step_by(2).collect();
            assert!(!outside.contains("forged"), "{text}");
        }
    }

    #[test]
    fn e58_what_is_plain_stands_as_it_is() {
        let text = logged(Format::Human, || {
            tracing::info!(peer = %"[::1]:5684", times = 7, name = "Zähler", "certificate issued: §4.2 · `x`");
        });
        assert!(text.ends_with(": certificate issued: §4.2 · `x` peer=[::1]:5684 times=7 name=\"Zähler\"\n"), "{text}");
    }

    #[test]
    fn e58_json_is_one_object_a_line_with_the_very_values() {
        for hostile in HOSTILE {
            let text = logged(Format::Json, || tracing::warn!(path = hostile, subject = %hostile, "asked {hostile}"));
            assert_one_line_that_shows(&text);
            let unescaped = |key: &str| {
                let value = text.split_once(&format!("\"{key}\":")).unwrap().1;
                // TOML's basic strings have the same escapes as JSON's, except for \/ and surrogate pairs.
                let end = (1..value.len()).find(|&at| value[at..].starts_with('"') && !value[..at].ends_with('\\'));
                value[1..end.unwrap()].to_owned()
            };
            assert_eq!(unescaped("path"), unescaped("subject"), "{text}");
            assert!(text.starts_with('{') && text.ends_with("}\n"), "{text}");
        }
    }
}
