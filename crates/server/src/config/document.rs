//! The configuration as a tree that remembers where each value comes from: the file's lines, then the environment over them.
//!
//! It does not know what keys mean: `reader` and its callers do. The file is not deserialized with serde, which stops at the first fault
//! and forgets where a value came from: `muster check` reports all faults, and the origin of every value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::{Override, SEPARATOR, variable};
use super::fault::{ConfigurationFault, Location, Problem};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) node: Node,
    pub(super) place: Location,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Integer(i64),
    Boolean(bool),
    /// From the environment: read as the type that the key expects; commas separate the items of an array.
    Raw(String),
    /// A float, a date or an integer beyond 64 bits: no key has such a type.
    Other(&'static str),
    Array(Vec<Placed>),
    Table(TomlTable),
}

pub(super) type TomlTable = BTreeMap<String, Placed>;

impl Node {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) | Self::Raw(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Other(name) => name,
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Parses the text of `file`.
pub(super) fn parse(file: &Path, text: &str) -> Result<TomlTable, Vec<ConfigurationFault>> {
    let lines = Lines { file, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return Ok(lines.table(document.get_ref()));
    }
    let fault = |error: &toml::de::Error| ConfigurationFault {
        place: error.span().map_or_else(|| Location::File(file.into()), |span| lines.place(span.start)),
        key: String::new(),
        problem: Problem::Syntax { message: error.message().to_owned() },
    };
    Err(errors.iter().map(fault).collect())
}

struct Lines<'t> {
    file: &'t Path,
    text: &'t str,
}

impl Lines<'_> {
    fn place(&self, offset: usize) -> Location {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Location::Line(PathBuf::from(self.file), line)
    }

    fn table(&self, table: &DeTable<'_>) -> TomlTable {
        let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &Spanned<std::borrow::Cow<'_, str>> = key;
            // The key's line, not the value's: an array may begin some lines further down.
            (
                key.get_ref().to_string(),
                Placed { node: self.node(value.get_ref()), place: self.place(key.span().start) },
            )
        };
        table.iter().map(entry).collect()
    }

    fn node(&self, value: &DeValue<'_>) -> Node {
        match value {
            DeValue::String(text) => Node::Text(text.to_string()),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map_or(Node::Other("a huge integer"), Node::Integer),
            DeValue::Float(_) => Node::Other("a float"),
            DeValue::Boolean(boolean) => Node::Boolean(*boolean),
            DeValue::Datetime(_) => Node::Other("a date"),
            DeValue::Array(array) => {
                let item = |item: &Spanned<DeValue<'_>>| Placed {
                    node: self.node(item.get_ref()),
                    place: self.place(item.span().start),
                };
                Node::Array(array.iter().map(item).collect())
            }
            DeValue::Table(table) => Node::Table(self.table(table)),
        }
    }
}

/// Applies the environment's overrides to the file. An override that cannot be placed is a fault; the reader of the tree finds unknown keys.
pub(super) fn overlay(table: &mut TomlTable, overrides: &[Override]) -> Vec<ConfigurationFault> {
    let put = |it: &Override| put(table, &it.name, it.path(), &it.value).err().map(|fault| *fault);
    overrides.iter().filter_map(put).collect()
}

fn put(root: &mut TomlTable, name: &str, path: &str, value: &str) -> Result<(), Box<ConfigurationFault>> {
    let place = Location::Environment(name.to_owned());
    let keys: Vec<&str> = path.split(SEPARATOR).collect();
    let (last, above) = keys.split_last().expect("split yields at least one item");
    let mut table = root;
    let mut dotted = Vec::new();
    for key in above {
        let key = existing(table, key);
        dotted.push(key.clone());
        let placed =
            table.entry(key).or_insert_with(|| Placed { node: Node::Table(TomlTable::new()), place: place.clone() });
        table = match &mut placed.node {
            Node::Table(table) => table,
            // An array of tables: the next key is the name or the index of one.
            Node::Array(items) if items.iter().any(|item| matches!(item.node, Node::Table(_))) => {
                return put_in_array(items, name, path, value, dotted.len());
            }
            other => {
                let found = other.type_name();
                let problem = Problem::Type { wanted: "a table", found };
                return Err(Box::new(ConfigurationFault { place, key: dotted.join("."), problem }));
            }
        };
    }
    table.insert(existing(table, last), Placed { node: Node::Raw(value.to_owned()), place });
    Ok(())
}

fn put_in_array(
    items: &mut [Placed],
    name: &str,
    path: &str,
    value: &str,
    depth: usize,
) -> Result<(), Box<ConfigurationFault>> {
    let keys: Vec<&str> = path.split(SEPARATOR).collect();
    let array = keys[..depth].join(".").to_lowercase();
    let wanted = keys.get(depth).copied().unwrap_or_default();
    let known: Vec<String> = items.iter().map(|item| name_of(item).unwrap_or_default()).collect();
    let index = wanted.parse::<usize>().ok().filter(|index| *index < items.len());
    let found = index.or_else(|| known.iter().position(|name| variable(name) == variable(wanted)));
    let unknown = || {
        let problem = Problem::UnknownReference { kind: "profile", name: wanted.to_owned(), known: known.clone() };
        Box::new(ConfigurationFault { place: Location::Environment(name.to_owned()), key: array.clone(), problem })
    };
    let item = found.ok_or_else(unknown)?;
    match &mut items[item].node {
        Node::Table(table) if keys.len() > depth + 1 => put(table, name, &keys[depth + 1..].join(SEPARATOR), value),
        _ => Err(unknown()),
    }
}

fn name_of(item: &Placed) -> Option<String> {
    let Node::Table(table) = &item.node else { return None };
    match &table.get("name")?.node {
        Node::Text(name) | Node::Raw(name) => Some(name.clone()),
        _ => None,
    }
}

/// The key of `table` that a part of a variable's name stands for; a new key in lower case if there is none.
fn existing(table: &TomlTable, part: &str) -> String {
    table.keys().find(|key| variable(key) == variable(part)).cloned().unwrap_or_else(|| part.to_lowercase())
}
