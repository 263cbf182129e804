//! Reads the tables of a scenario and remembers their lines: what nobody asked for is refused at the end.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::number::{Spell, read_duration};

/// What is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioFault {
    /// The line, from 1.
    pub line: usize,
    /// The key, with those of its tables.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to write.
    pub remedy: String,
}

impl fmt::Display for ScenarioFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, key, problem, remedy } = self;
        write!(f, "line {line}: {key}: {problem}: {remedy}")
    }
}

impl std::error::Error for ScenarioFault {}

/// A table, and the keys that were asked for.
pub(super) struct Section<'t> {
    text: &'t str,
    /// The keys of the tables around it, with a dot at the end.
    path: String,
    place: Range<usize>,
    table: DeTable<'t>,
    known: BTreeSet<&'static str>,
}

impl<'t> Section<'t> {
    /// The whole file.
    pub(super) fn parse(text: &'t str) -> Result<Self, ScenarioFault> {
        let parsed = DeTable::parse(text).map_err(|error| ScenarioFault {
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            key: "TOML".to_owned(),
            problem: error.message().to_owned(),
            remedy: "see https://toml.io".to_owned(),
        })?;
        let place = parsed.span();
        Ok(Self { text, path: String::new(), place, table: parsed.into_inner(), known: BTreeSet::new() })
    }

    /// A fault of a key of this table.
    pub(super) fn fault(&self, key: &str, problem: &str, remedy: &str) -> ScenarioFault {
        let place = self.table.iter().find(|(name, _)| name.get_ref() == key);
        let start = place.map_or(self.place.start, |(name, _)| name.span().start);
        ScenarioFault {
            line: line_of(self.text, start),
            key: format!("{}{key}", self.path),
            problem: problem.to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&Spanned<DeValue<'t>>> {
        self.known.insert(key);
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// A text.
    pub(super) fn text(&mut self, key: &'static str) -> Result<Option<String>, ScenarioFault> {
        self.parsed(key, |text| Ok(text.to_owned()))
    }

    /// A text that is read further.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ScenarioFault> {
        let read = match self.value(key).map(Spanned::get_ref) {
            None => return Ok(None),
            Some(DeValue::String(text)) => read(text),
            Some(_) => Err("write a text in quotation marks".to_owned()),
        };
        read.map(Some).map_err(|why| self.fault(key, "its value cannot be used", &why))
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Result<Option<T>, ScenarioFault> {
        self.parsed(key, |text| {
            let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, meaning)| *meaning).ok_or_else(|| format!("expected {}", all.join(" or ")))
        })
    }

    /// A duration such as `"10m"`.
    pub(super) fn duration(&mut self, key: &'static str, most: Duration) -> Result<Option<Duration>, ScenarioFault> {
        self.parsed(key, |text| match read_duration(text)? {
            duration if duration <= most => Ok(duration),
            _ => Err(format!("`{text}` is too long: write at most {}", Spell(most))),
        })
    }

    /// A number, whole or not.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<f64>,
    ) -> Result<Option<f64>, ScenarioFault> {
        let number = match self.value(key).map(Spanned::get_ref) {
            None => return Ok(None),
            Some(DeValue::Integer(number)) => plain(number.as_str(), number.radix()),
            Some(DeValue::Float(number)) => plain(number.as_str(), 10),
            Some(_) => None,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(key, "it is not a number in its range", &written("a number", &range))),
        }
    }

    /// A whole number.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, ScenarioFault> {
        let number = match self.value(key).map(Spanned::get_ref) {
            None => return Ok(None),
            Some(DeValue::Integer(number)) if number.radix() == 10 => number.as_str().replace('_', "").parse().ok(),
            Some(_) => None,
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(key, "it is not a number in its range", &written("a whole number", &range))),
        }
    }

    /// A table.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Option<Self>, ScenarioFault> {
        let (text, path) = (self.text, format!("{}{key}.", self.path));
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Table(table) => {
                Ok(Some(Self { text, path, place: value.span(), table: table.clone(), known: BTreeSet::new() }))
            }
            _ => Err(self.fault(key, "it is not a table", &format!("write {key} = {{ .. }}"))),
        }
    }

    /// An array of tables.
    pub(super) fn sections(&mut self, key: &'static str) -> Result<Vec<Self>, ScenarioFault> {
        let (text, path) = (self.text, format!("{}{key}.", self.path));
        let rows = match self.value(key).map(Spanned::get_ref) {
            None => return Ok(Vec::new()),
            Some(DeValue::Array(rows)) => rows.iter().map(|row| match row.get_ref() {
                DeValue::Table(table) => Some(Self {
                    text,
                    path: path.clone(),
                    place: row.span(),
                    table: table.clone(),
                    known: BTreeSet::new(),
                }),
                _ => None,
            }),
            Some(_) => {
                return Err(self.fault(key, "it is not a list of tables", &format!("begin each with [[{key}]]")));
            }
        };
        let rows: Option<Vec<_>> = rows.collect();
        rows.ok_or_else(|| self.fault(key, "it is not a list of tables", &format!("begin each with [[{key}]]")))
    }

    /// Refuses these keys.
    pub(super) fn refuse(&self, keys: &[&str], problem: &str, remedy: &str) -> Result<(), ScenarioFault> {
        let there = |key: &&&str| self.table.iter().any(|(name, _)| name.get_ref() == **key);
        keys.iter().find(there).map_or(Ok(()), |key| Err(self.fault(key, problem, remedy)))
    }

    /// Refuses what nobody asked for.
    pub(super) fn end(&self) -> Result<(), ScenarioFault> {
        let stranger = self.table.iter().find(|(name, _)| !self.known.contains(&**name.get_ref()));
        let Some((name, _)) = stranger else { return Ok(()) };
        let key: &Cow<'_, str> = name.get_ref();
        let known: Vec<_> = self.known.iter().copied().collect();
        Err(self.fault(key, "it has no meaning here", &format!("leave it out; known are {}", known.join(", "))))
    }
}

fn written(what: &str, range: &RangeInclusive<impl fmt::Display>) -> String {
    format!("write {what} from {} to {}, without quotation marks", range.start(), range.end())
}

/// An integer of any radix, or a float.
fn plain(text: &str, radix: u32) -> Option<f64> {
    let digits = text.replace('_', "");
    if radix == 10 { digits.parse().ok() } else { u32::from_str_radix(&digits, radix).ok().map(f64::from) }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}
