//! The tables of requirements as they are written: `crates/est/rfc/rfcNNNN.toml`.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::tree;

/// The folder of the tables and of what derives from them.
pub(crate) const FOLDER: &str = "crates/est/rfc";

/// The requirements of one RFC.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequirementTable {
    /// Its number.
    pub(crate) rfc: u32,
    pub(crate) title: String,
    /// The sections that are listed, and why those.
    pub(crate) scope: String,
    /// The title of each listed section.
    pub(crate) sections: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) requirement: Vec<Requirement>,
}

/// One requirement, in our words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requirement {
    /// `rfc9148-4.1-2`: the RFC, the section, a number in the order of the text.
    pub(crate) id: String,
    pub(crate) level: Level,
    pub(crate) binds: Vec<BoundParty>,
    pub(crate) says: String,
    /// The tests that fail if it does not hold. A name that several crates use is written `est::name`.
    #[serde(default)]
    pub(crate) tests: Vec<String>,
    /// Why it is not followed, or why no test can show it.
    pub(crate) why_not: Option<String>,
    /// What the project does not have yet; with tests, what they do not cover.
    pub(crate) missing: Option<String>,
}

/// The keyword of RFC 2119 in the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Level {
    #[serde(rename = "MUST", alias = "REQUIRED")]
    Must,
    #[serde(rename = "MUST NOT")]
    MustNot,
    #[serde(rename = "SHOULD", alias = "RECOMMENDED")]
    Should,
    #[serde(rename = "SHOULD NOT", alias = "NOT RECOMMENDED")]
    ShouldNot,
    #[serde(rename = "MAY", alias = "OPTIONAL")]
    May,
    /// The RFC states it without a keyword, such as the response codes of RFC 9148 §4.5.
    #[serde(rename = "stated")]
    Stated,
}

/// The party that has to do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BoundParty {
    Server,
    Client,
    Registrar,
    /// The operator, the CA behind the server, or the manufacturer of the device.
    Deployment,
}

/// What the project answers to a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RequirementStatus {
    Tested,
    InPart,
    NotYet,
    Reasoned,
}

impl Requirement {
    /// The section in its id; empty if the id has another form.
    pub(crate) fn section(&self) -> &str {
        self.id.split('-').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> RequirementStatus {
        match (self.tests.is_empty(), &self.missing) {
            (false, None) => RequirementStatus::Tested,
            (false, Some(_)) => RequirementStatus::InPart,
            (true, Some(_)) => RequirementStatus::NotYet,
            (true, None) => RequirementStatus::Reasoned,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Must => "MUST",
            Self::MustNot => "MUST NOT",
            Self::Should => "SHOULD",
            Self::ShouldNot => "SHOULD NOT",
            Self::May => "MAY",
            Self::Stated => "stated",
        })
    }
}

impl fmt::Display for BoundParty {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Registrar => "Registrar",
            Self::Deployment => "deployment",
        })
    }
}

/// Reads every table: RFC 9148 first, then those that it leans on.
pub(crate) fn read() -> Result<Vec<RequirementTable>> {
    let mut tables = Vec::new();
    for file in tree::files(&[".toml"])?.iter().filter(|file| file.starts_with(&format!("{FOLDER}/rfc"))) {
        tables.push(parse(&tree::read(file)?).with_context(|| file.clone())?);
    }
    tables.sort_by_key(|table| (table.rfc != 9148, table.rfc));
    Ok(tables)
}

pub(crate) fn parse(text: &str) -> Result<RequirementTable> {
    Ok(toml::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "rfc = 9148\ntitle = \"T\"\nscope = \"S\"\nsections = { \"4.1\" = \"Discovery\" }\n";

    #[test]
    fn a_requirement_is_read_with_its_answer() {
        let entry =
            "[[requirement]]\nid = \"rfc9148-4.1-2\"\nlevel = \"REQUIRED\"\nbinds = [\"server\"]\nsays = \"x\"\n";
        let status = |rest: &str| {
            let table = parse(&format!("{HEAD}{entry}{rest}")).unwrap();
            assert_eq!((table.requirement[0].section(), table.requirement[0].level), ("4.1", Level::Must));
            table.requirement[0].status()
        };
        assert_eq!(status("tests = [\"a\"]\n"), RequirementStatus::Tested);
        assert_eq!(status("tests = [\"a\"]\nmissing = \"m\"\n"), RequirementStatus::InPart);
        assert_eq!(status("missing = \"m\"\n"), RequirementStatus::NotYet);
        assert_eq!(status("why_not = \"m\"\n"), RequirementStatus::Reasoned);
        assert!(parse(&format!("{HEAD}{entry}test = [\"a\"]\n")).is_err(), "an unknown key");
        assert!(parse(&format!("{HEAD}{}", entry.replace("REQUIRED", "must"))).is_err(), "an unknown level");
    }
}
