//! The types of configuration values: how each is written, read and shown.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use pki::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::Node;
use super::fault::Problem;
use crate::rfc3339::rfc3339;

/// A type that a key can have.
pub(super) trait Value: Sized {
    /// Reads it from the file's type, or from the text of an environment variable.
    fn read(node: &Node) -> Result<Self, Problem>;
    /// In TOML syntax.
    fn show(&self) -> String;
}

/// A type whose file form is a string.
pub(super) trait FromText: Sized {
    const WANTED: &'static str;
    fn from_text(text: &str) -> Result<Self, Problem>;
    fn to_text(&self) -> String;
}

impl<T: FromText> Value for T {
    fn read(node: &Node) -> Result<Self, Problem> {
        match node {
            Node::Text(text) | Node::Raw(text) => T::from_text(text),
            other => Err(Problem::Type { wanted: T::WANTED, found: other.type_name() }),
        }
    }

    fn show(&self) -> String {
        quoted(&self.to_text())
    }
}

impl<T: FromText> Value for Vec<T> {
    fn read(node: &Node) -> Result<Self, Problem> {
        match node {
            Node::Array(items) => items.iter().map(|item| T::read(&item.node)).collect(),
            // `MUSTER_SERVER__LISTEN=a,b`; an empty text is a list with one empty item, as `labels`
            // uses it.
            Node::Raw(text) => text.split(',').map(|item| T::from_text(item.trim())).collect(),
            other => Err(Problem::Type { wanted: "an array of strings", found: other.type_name() }),
        }
    }

    fn show(&self) -> String {
        let items: Vec<String> = self.iter().map(T::show).collect();
        format!("[{}]", items.join(", "))
    }
}

impl Value for bool {
    fn read(node: &Node) -> Result<Self, Problem> {
        match node {
            Node::Boolean(value) => Ok(*value),
            Node::Raw(text) if text == "true" => Ok(true),
            Node::Raw(text) if text == "false" => Ok(false),
            Node::Raw(text) => Err(unknown(text, "`true` or `false`")),
            other => Err(Problem::Type { wanted: "`true` or `false`", found: other.type_name() }),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for u32 {
    fn read(node: &Node) -> Result<Self, Problem> {
        let out_of_bounds = |found: String| Problem::Range { found, min: "0".into(), max: Self::MAX.to_string() };
        match node {
            Node::Integer(value) => Self::try_from(*value).map_err(|_| out_of_bounds(value.to_string())),
            Node::Raw(text) => text.parse().map_err(|_| unknown(text, "an integer")),
            other => Err(Problem::Type { wanted: "an integer", found: other.type_name() }),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl FromText for String {
    const WANTED: &'static str = "a string";

    fn from_text(text: &str) -> Result<Self, Problem> {
        Ok(text.to_owned())
    }

    fn to_text(&self) -> String {
        self.clone()
    }
}

impl FromText for PathBuf {
    const WANTED: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, Problem> {
        if text.is_empty() { Err(unknown(text, Self::WANTED)) } else { Ok(Self::from(text)) }
    }

    fn to_text(&self) -> String {
        self.display().to_string()
    }
}

impl FromText for SocketAddr {
    const WANTED: &'static str = "an address and a port, such as `127.0.0.1:5684` or `[::]:5684`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        text.parse().map_err(|_| unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// A span of time: a number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// A moment, in RFC 3339.
pub(super) struct Moment(pub(super) UnixTime);

impl FromText for Moment {
    const WANTED: &'static str = "a time in UTC, such as `2027-01-31T12:00:00Z`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
        let seconds = parsed.and_then(|at| u64::try_from(at.unix_timestamp()).ok());
        let moment = seconds.map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        moment.map(Self).ok_or_else(|| unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        rfc3339(self.0)
    }
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromText for Span {
    const WANTED: &'static str = "a duration, such as `30s`, `5m`, `24h` or `365d`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let milliseconds = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, milliseconds)| *milliseconds);
        let span = number.parse::<u64>().ok().zip(milliseconds).and_then(|(number, unit)| number.checked_mul(unit));
        span.map(|milliseconds| Self(Duration::from_millis(milliseconds))).ok_or_else(|| unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        let milliseconds = self.0.as_millis();
        let fitting = UNITS.iter().find(|(_, unit)| milliseconds.is_multiple_of(u128::from(*unit)));
        match fitting {
            Some((name, unit)) if milliseconds > 0 => format!("{}{name}", milliseconds / u128::from(*unit)),
            _ => "0s".into(),
        }
    }
}

/// Where a secret is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretUri {
    /// `file:PATH`.
    File(PathBuf),
}

impl FromText for SecretUri {
    const WANTED: &'static str = "a URI of a secret, such as `file:server.key`";

    fn from_text(text: &str) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("file:") {
            return PathBuf::from_text(path).map(SecretUri::File).map_err(|_| unknown(text, Self::WANTED));
        }
        if text.starts_with("pkcs11:") {
            let what = "a key in a PKCS #11 token".to_owned();
            return Err(Problem::NotAvailable {
                what,
                instead: "keep the key in a file of mode 0600 and write `file:PATH`",
            });
        }
        Err(unknown(text, Self::WANTED))
    }

    fn to_text(&self) -> String {
        let Self::File(path) = self;
        format!("file:{}", path.display())
    }
}

/// A closed set of words.
pub(super) trait Words: Copy + PartialEq + 'static {
    const ALL: &'static [(&'static str, Self)];
    const WANTED: &'static str;

    /// For a word that is not available in this version: what to write instead.
    fn not_available(_word: &str) -> Option<&'static str> {
        None
    }
}

/// One word of a closed set, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word<W>(pub(super) W);

impl<W: Words> FromText for Word<W> {
    const WANTED: &'static str = W::WANTED;

    fn from_text(text: &str) -> Result<Self, Problem> {
        if let Some((_, word)) = W::ALL.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*word));
        }
        match W::not_available(text) {
            Some(instead) => Err(Problem::NotAvailable { what: format!("`{text}`"), instead }),
            None => Err(unknown(text, W::WANTED)),
        }
    }

    fn to_text(&self) -> String {
        let name = W::ALL.iter().find(|(_, word)| *word == self.0).map(|(name, _)| *name);
        name.expect("ALL lists every word").to_owned()
    }
}

pub(super) fn unknown(found: &str, wanted: &str) -> Problem {
    Problem::Value { found: found.to_owned(), wanted: wanted.to_owned() }
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_show_alike() {
        for (text, milliseconds) in
            [("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("365d", 31_536_000_000), ("250ms", 250)]
        {
            assert_eq!(Span::from_text(text), Ok(Span(Duration::from_millis(milliseconds))), "{text}");
        }
        assert_eq!(Span(Duration::from_secs(86_400)).to_text(), "1d");
        assert_eq!(Span(Duration::from_secs(90)).to_text(), "90s");
        assert_eq!(Span(Duration::ZERO).to_text(), "0s");
        for text in ["", "30", "s", "1.5s", "-1s", "30 s", "1h30m", "99999999999999999999d", "18446744073709551615d"] {
            assert!(Span::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_secret_is_a_file_and_a_token_is_said_to_be_missing() {
        assert_eq!(SecretUri::from_text("file:a/b.key"), Ok(SecretUri::File("a/b.key".into())));
        assert!(matches!(SecretUri::from_text("pkcs11:token=x"), Err(Problem::NotAvailable { .. })));
        assert!(matches!(SecretUri::from_text("server.key"), Err(Problem::Value { .. })));
        assert!(matches!(SecretUri::from_text("file:"), Err(Problem::Value { .. })));
    }

    #[test]
    fn strings_are_shown_as_toml_reads_them() {
        let text = "a \"b\" \\ c\n";
        let document = format!("k = {}", quoted(text));
        let table = toml::de::DeTable::parse(&document).unwrap();
        assert_eq!(table.get_ref().get("k").unwrap().get_ref().as_str(), Some(text));
    }
}
