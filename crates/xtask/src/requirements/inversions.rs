//! The last result of each patch of `cargo xtask invert`, as `crates/est/rfc/inverted/results.txt` keeps it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::table::RequirementTable;

/// The file, relative to the root.
pub(crate) const RESULTS: &str = "crates/est/rfc/inverted/results.txt";
const HEAD: &str = "cargo xtask invert: each line is the last run of its patch, at the commit that it names";
/// The only result that a committed file may have.
const RED: &str = "red";

/// The lines of the file, by the id of their requirement.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptInversions(BTreeMap<String, KeptInversion>);

/// What became of one patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptInversion {
    /// `red`, `GREEN` or `VOID`.
    pub(crate) word: String,
    pub(crate) seconds: u64,
    /// The code that was broken: a commit, with a `+` if it had changes.
    pub(crate) commit: String,
    /// The test that failed, or why none did.
    pub(crate) text: String,
}

impl KeptInversion {
    pub(crate) fn is_red(&self) -> bool {
        self.word == RED
    }
}

impl KeptInversions {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (_, lines) = text.split_once("\n\n").unwrap_or_default();
        let read = |line: &str| line_of(line).with_context(|| format!("{RESULTS}: cannot read `{line}`"));
        lines.lines().map(read).collect::<Result<_>>().map(Self)
    }

    pub(crate) fn keep(&mut self, id: &str, result: KeptInversion) {
        self.0.insert(id.to_owned(), result);
    }

    /// Drops the lines of patches that are gone.
    pub(crate) fn retain(&mut self, patches: &[String]) {
        self.0.retain(|id, _| patches.contains(id));
    }

    pub(crate) fn render(&self) -> String {
        let red = self.0.values().filter(|result| result.is_red()).count();
        let sum = format!("{} requirements inverted, {red} of them turned a test red", self.0.len());
        let lines: Vec<String> = self.0.iter().map(|(id, result)| shown(id, result)).collect();
        format!("{HEAD}\n{sum}\n\n{}\n", lines.join("\n"))
    }

    /// What the file says that is not, or no longer, so, and the patches about which it says nothing.
    pub(super) fn faults(&self, tables: &[RequirementTable], patches: &[String]) -> Vec<String> {
        let again = |id: &str| format!("run `cargo xtask invert --id {id}`");
        let mut found = Vec::new();
        for id in patches.iter().filter(|id| !self.0.contains_key(*id)) {
            found.push(format!("{RESULTS} says nothing of {id}.patch: {}", again(id)));
        }
        for (id, result) in &self.0 {
            let KeptInversion { word, text, .. } = result;
            let entry = tables.iter().flat_map(|table| &table.requirement).find(|entry| entry.id == *id);
            if !patches.contains(id) {
                found.push(format!("{RESULTS} names {id}, which has no patch: remove its line"));
            } else if !result.is_red() {
                found.push(format!("{RESULTS}: {id} is {word}: {text}"));
            } else if !entry.is_some_and(|entry| entry.tests.iter().any(|test| function(test) == text)) {
                found.push(format!("{RESULTS}: {id} names `{text}`, which its table does not: {}", again(id)));
            }
        }
        found
    }
}

/// The function of a test that a table may name with its crate.
fn function(named: &str) -> &str {
    named.rsplit("::").next().unwrap_or_default()
}

/// One line of the file, and of what a run prints.
pub(crate) fn shown(id: &str, KeptInversion { word, seconds, commit, text }: &KeptInversion) -> String {
    format!("{id:<18} {word:<5} {seconds:>4} s  {commit:<13} {text}")
}

fn line_of(line: &str) -> Option<(String, KeptInversion)> {
    let (before, after) = line.split_once(" s  ")?;
    let mut words = before.split_whitespace();
    let (id, word, seconds) = (words.next()?.to_owned(), words.next()?.to_owned(), words.next()?.parse().ok()?);
    let (commit, text) = after.split_once(' ')?;
    Some((id, KeptInversion { word, seconds, commit: commit.to_owned(), text: text.trim_start().to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    const ID: &str = "rfc9148-4.1-1";

    fn result(word: &str, text: &str) -> KeptInversion {
        KeptInversion { word: word.to_owned(), seconds: 3, commit: "1fa0186ba7f2".to_owned(), text: text.to_owned() }
    }

    fn kept(id: &str, word: &str, text: &str) -> KeptInversions {
        KeptInversions([(id.to_owned(), result(word, text))].into())
    }

    fn faults(kept: &KeptInversions) -> Vec<String> {
        let text = format!(
            "rfc = 9148\ntitle = \"T\"\nscope = \"S\"\nsections = {{ \"4.1\" = \"D\" }}\n[[requirement]]\nid = \"{ID}\"\nlevel = \
             \"MUST\"\nbinds = [\"server\"]\nsays = \"a\"\ntests = [\"shows\", \"est::everywhere\"]\n"
        );
        kept.faults(&[table::parse(&text).unwrap()], &[ID.to_owned()])
    }

    #[test]
    fn every_patch_has_a_red_line_of_a_test_that_its_table_names() {
        assert!(faults(&kept(ID, "red", "shows")).is_empty());
        assert!(faults(&kept(ID, "red", "everywhere")).is_empty(), "a test that the table names with its crate");
        let one = |kept: &KeptInversions, fault: &str| {
            let found = faults(kept);
            assert!(found.len() == 1 && found[0].contains(fault), "{found:?}");
        };
        one(&KeptInversions::default(), "says nothing of rfc9148-4.1-1.patch");
        one(&kept(ID, "GREEN", "no named test notices"), "rfc9148-4.1-1 is GREEN");
        one(&kept(ID, "VOID", "does not apply"), "rfc9148-4.1-1 is VOID");
        one(&kept(ID, "red", "gone"), "names `gone`, which its table does not");
        let mut more = kept(ID, "red", "shows");
        more.keep("rfc9148-4.1-2", result("red", "shows"));
        one(&more, "names rfc9148-4.1-2, which has no patch");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut kept = kept(ID, "VOID", "does not compile: error[E0308]: mismatched types");
        kept.keep("rfc7030-4.4.1.2-3", result("red", "shows"));
        assert_eq!(KeptInversions::parse(&kept.render()).unwrap(), kept);
        assert!(kept.render().contains("2 requirements inverted, 1 of them turned a test red\n\nrfc7030-4.4.1.2-3"));
        kept.retain(&[ID.to_owned()]);
        assert_eq!(kept.render().lines().count(), 4);
        assert!(KeptInversions::parse("head\n\nrfc9148-4.1-1 red\n").is_err());
    }
}
