//! Reads typed values out of a document, keeps what was read with its origin, and collects what is wrong.
//!
//! Each section is read once: a key that its reader asks for is known; any other key is a fault that names the most similar known
//! one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::document::{Node, Placed, TomlTable};
use super::fault::{ConfigurationFault, Location, Problem};
use super::nearest::nearest;
use super::value::{FromText, Span, Value};

/// One effective value with its origin, for `muster check --print`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The dotted key.
    pub key: String,
    /// The value in TOML syntax.
    pub value: String,
    /// Where it comes from.
    pub origin: ValueOrigin,
}

/// Where an effective value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueOrigin {
    /// It was written at this place.
    Written(Location),
    /// It is the default.
    Default,
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(place) => write!(f, "{place}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  # {}", self.key, self.value, self.origin)
    }
}

/// Reads sections, and collects faults and effective values.
#[derive(Debug)]
pub(super) struct SectionReader {
    pub(super) file: PathBuf,
    pub(super) faults: Vec<ConfigurationFault>,
    pub(super) effective: Vec<Effective>,
}

/// One table being read.
#[derive(Debug)]
pub(super) struct Section<'d> {
    path: String,
    pub(super) place: Location,
    table: Option<&'d TomlTable>,
    known: Vec<&'static str>,
    /// Keys that were refused with their own reason.
    refused: Vec<&'static str>,
}

impl<'d> Section<'d> {
    pub(super) fn root(file: &std::path::Path, table: &'d TomlTable) -> Self {
        Self {
            path: String::new(),
            place: Location::File(file.into()),
            table: Some(table),
            known: Vec::new(),
            refused: Vec::new(),
        }
    }

    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The dotted name of a key of this section.
    pub(super) fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the key is written.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.table.is_some_and(|table| table.get(key).is_some())
    }

    /// A value that no key of this section has.
    pub(super) fn unwritten<T>(&self, value: T) -> Read<T> {
        Read { key: self.path.clone(), place: self.place.clone(), value }
    }

    fn get(&mut self, key: &'static str) -> Option<&'d Placed> {
        self.known.push(key);
        self.table?.get(key)
    }
}

/// A value with its place, for faults that are found after reading.
#[derive(Clone, Debug)]
pub struct Read<T> {
    /// The dotted key.
    pub key: String,
    /// Where it was written; the file if it has its default.
    pub place: Location,
    /// The value.
    pub value: T,
}

impl<T> Read<T> {
    /// Separates the value from the place where it was read.
    pub(super) fn take(self) -> (T, Read<()>) {
        let Self { key, place, value } = self;
        (value, Read { key, place, value: () })
    }

    /// A fault with this value.
    #[must_use]
    pub fn fault(&self, problem: Problem) -> ConfigurationFault {
        ConfigurationFault { place: self.place.clone(), key: self.key.clone(), problem }
    }
}

impl SectionReader {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, faults: Vec::new(), effective: Vec::new() }
    }

    pub(super) fn fault(&mut self, place: &Location, key: String, problem: Problem) {
        self.faults.push(ConfigurationFault { place: place.clone(), key, problem });
    }

    /// A table inside `parent`; an absent one reads as empty.
    pub(super) fn section<'d>(&mut self, parent: &mut Section<'d>, key: &'static str) -> Section<'d> {
        let path = parent.dotted(key);
        match parent.get(key) {
            Some(placed) => self.open(path, placed),
            None => Section { path, place: parent.place.clone(), table: None, known: Vec::new(), refused: Vec::new() },
        }
    }

    /// The tables inside a table, each under a name that the file chose: `[ca.main]`.
    pub(super) fn named_sections<'d>(
        &mut self,
        parent: &mut Section<'d>,
        key: &'static str,
    ) -> Vec<(String, Section<'d>)> {
        let section = self.section(parent, key);
        let Some(table) = section.table else { return Vec::new() };
        table.iter().map(|(name, placed)| (name.clone(), self.open(section.dotted(name), placed))).collect()
    }

    /// The tables of an array of tables: `[[profile]]`.
    pub(super) fn listed_sections<'d>(&mut self, parent: &mut Section<'d>, key: &'static str) -> Vec<Section<'d>> {
        let path = parent.dotted(key);
        match parent.get(key) {
            None => Vec::new(),
            Some(Placed { node: Node::Array(items), .. }) => {
                items.iter().enumerate().map(|(index, item)| self.open(format!("{path}[{index}]"), item)).collect()
            }
            Some(placed) => {
                let problem =
                    Problem::Type { wanted: "an array of tables (`[[profile]]`)", found: placed.node.type_name() };
                self.fault(&placed.place, path, problem);
                Vec::new()
            }
        }
    }

    fn open<'d>(&mut self, path: String, placed: &'d Placed) -> Section<'d> {
        let table = match &placed.node {
            Node::Table(table) => Some(table),
            other => {
                self.fault(&placed.place, path.clone(), Problem::Type { wanted: "a table", found: other.type_name() });
                None
            }
        };
        Section { path, place: placed.place.clone(), table, known: Vec::new(), refused: Vec::new() }
    }

    /// Reports every key that was not asked for as a fault.
    pub(super) fn finish(&mut self, section: &Section<'_>) {
        let Some(table) = section.table else { return };
        for (key, placed) in table {
            if section.known.contains(&key.as_str()) || section.refused.contains(&key.as_str()) {
                continue;
            }
            let nearest = nearest(key, section.known.iter().copied()).map(str::to_owned);
            let known = section.known.iter().map(|key| (*key).to_owned()).collect();
            self.fault(&placed.place, section.dotted(key), Problem::UnknownKey { nearest, known });
        }
    }

    /// Refuses a key whatever its value is: it asks for something that is never done.
    pub(super) fn refuse(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        what: &'static str,
        remedy: &'static str,
    ) {
        section.refused.push(key);
        if let Some(placed) = section.table.and_then(|table| table.get(key)) {
            self.fault(&placed.place, section.dotted(key), Problem::Conflict { what: what.into(), remedy });
        }
    }

    /// A required value.
    pub(super) fn required<T: Value>(
        &mut self,
        section: &mut Section<'_>,
        key: &'static str,
        example: &'static str,
    ) -> Option<Read<T>> {
        let dotted = section.dotted(key);
        match section.get(key) {
            Some(placed) => self.read(dotted, placed),
            None => {
                self.fault(&section.place, dotted, Problem::Missing { example });
                None
            }
        }
    }

    /// A value that may be absent; absence has its own meaning.
    pub(super) fn optional<T: Value>(&mut self, section: &mut Section<'_>, key: &'static str) -> Option<Read<T>> {
        let dotted = section.dotted(key);
        section.get(key).and_then(|placed| self.read(dotted, placed))
    }

    /// A value with a default. A faulty one reads as its default, so that reading goes on.
    pub(super) fn or<T: Value>(&mut self, section: &mut Section<'_>, key: &'static str, default: T) -> Read<T> {
        let dotted = section.dotted(key);
        let written = section.get(key).and_then(|placed| self.read(dotted.clone(), placed));
        written.unwrap_or_else(|| {
            self.effective.push(Effective { key: dotted.clone(), value: default.show(), origin: ValueOrigin::Default });
            Read { key: dotted, place: section.place.clone(), value: default }
        })
    }

    fn read<T: Value>(&mut self, key: String, placed: &Placed) -> Option<Read<T>> {
        match T::read(&placed.node) {
            Ok(value) => {
                let origin = ValueOrigin::Written(placed.place.clone());
                self.effective.push(Effective { key: key.clone(), value: value.show(), origin });
                Some(Read { key, place: placed.place.clone(), value })
            }
            Err(problem) => {
                self.fault(&placed.place, key, problem);
                None
            }
        }
    }
}

/// Reads a time within bounds.
pub(super) fn span(
    reader: &mut SectionReader,
    section: &mut Section<'_>,
    key: &'static str,
    default: Duration,
    bounds: (Duration, Duration),
) -> Duration {
    let read = reader.or(section, key, Span(default));
    check_span(reader, &read, bounds);
    read.value.0
}

/// Whether a time is within bounds.
pub(super) fn check_span(reader: &mut SectionReader, read: &Read<Span>, (min, max): (Duration, Duration)) {
    if !(min..=max).contains(&read.value.0) {
        let problem =
            Problem::Range { found: read.value.to_text(), min: Span(min).to_text(), max: Span(max).to_text() };
        reader.faults.push(read.fault(problem));
    }
}

/// A number within bounds, both included.
pub(super) fn number(
    reader: &mut SectionReader,
    section: &mut Section<'_>,
    key: &'static str,
    default: u32,
    (min, max): (u32, u32),
) -> u32 {
    let read = reader.or(section, key, default);
    if !(min..=max).contains(&read.value) {
        let problem = Problem::Range { found: read.value.to_string(), min: min.to_string(), max: max.to_string() };
        reader.faults.push(read.fault(problem));
    }
    read.value
}
