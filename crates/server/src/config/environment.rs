//! Variables of the environment that begin with `MUSTER_`: overrides of keys (`MUSTER_SERVER__LISTEN` is `server.listen`), the few that other parts
//! read, and unknown ones. An unknown one is a fault: a person who sets a variable expects it to have an effect.

use std::ffi::OsString;

use super::fault::{ConfigurationFault, Location, Problem};
use super::nearest::nearest;
use crate::logging::FILTER_VARIABLE;

const PREFIX: &str = "MUSTER_";
/// Separates the parts of a dotted key.
pub(super) const SEPARATOR: &str = "__";

/// Variables with the prefix that are not keys.
const READ_ELSEWHERE: &[&str] = &[FILTER_VARIABLE];

/// A variable whose name has the form of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Override {
    pub(super) name: String,
    pub(super) value: String,
}

impl Override {
    /// The parts of the key with [`SEPARATOR`] between them.
    pub(super) fn path(&self) -> &str {
        self.name.strip_prefix(PREFIX).unwrap_or(&self.name)
    }
}

/// The variables with our prefix.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// In the order of their names.
    pub(super) overrides: Vec<Override>,
    /// Names that do not have the form of a key.
    nameless: Vec<String>,
    /// Names of variables whose name or value is not UTF-8; U+FFFD replaces invalid bytes.
    not_utf8: Vec<String>,
}

impl Variables {
    pub(super) fn of(environment: &[(OsString, OsString)]) -> Self {
        let mut variables = Self::default();
        for (name, value) in environment {
            let shown = name.to_string_lossy();
            if !shown.starts_with(PREFIX) {
                continue;
            }
            match (name.to_str(), value.to_str()) {
                (Some(name), Some(_)) if READ_ELSEWHERE.contains(&name) => {}
                (Some(name), Some(value)) if name[PREFIX.len()..].contains(SEPARATOR) => {
                    variables.overrides.push(Override { name: name.to_owned(), value: value.to_owned() });
                }
                (Some(name), Some(_)) => variables.nameless.push(name.to_owned()),
                _ => variables.not_utf8.push(shown.into_owned()),
            }
        }
        variables.overrides.sort();
        variables.nameless.sort();
        variables.not_utf8.sort();
        variables
    }

    /// The faults of variables that override nothing; `keys` are the dotted keys that exist.
    pub(super) fn stray_faults<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Vec<ConfigurationFault> {
        let fault = |name: &String, problem| ConfigurationFault {
            place: Location::Environment(name.clone()),
            key: String::new(),
            problem,
        };
        let known: Vec<String> = keys.map(of_key).chain(READ_ELSEWHERE.iter().map(|name| (*name).to_owned())).collect();
        let nameless = self.nameless.iter().map(|name| {
            let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            fault(name, Problem::UnknownVariable { nearest })
        });
        let not_utf8 = self.not_utf8.iter().map(|name| fault(name, Problem::NotUtf8));
        nameless.chain(not_utf8).collect()
    }
}

/// The variable that overrides a dotted key; an item of a list is named by its place, `profile[0].mode` by `MUSTER_PROFILE__0__MODE`.
fn of_key(key: &str) -> String {
    let parts = key.split(['.', '[']).map(|part| variable(part.trim_end_matches(']')));
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join(SEPARATOR))
}

/// How a key is written in a variable's name: upper case, and `_` for each character that a shell does not allow.
pub(super) fn variable(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}
