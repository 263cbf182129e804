//! `cargo xtask requirements`: the requirements of RFC 9148 and of what it leans on, and the tests that show them.
//!
//! `crates/est/rfc/rfcNNNN.toml` lists them by hand; `CAPABILITIES.md` beside them is derived and committed. `cargo xtask check` fails if a named test is
//! gone, an entry has no answer, the page is stale, or a patch of `cargo xtask invert` no longer applies or has no result.

mod inversions;
mod page;
mod table;

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::named_tests::{self, NamedFunction};
use crate::process::Program;
use crate::tree;

pub(crate) use inversions::{KeptInversion, KeptInversions, RESULTS, shown};
pub(crate) use table::{FOLDER, Requirement, RequirementTable, read};

const PAGE: &str = "crates/est/rfc/CAPABILITIES.md";
/// Fewer inverted requirements than this say little about the others.
const INVERTED_MIN: usize = 20;

/// Writes the page.
pub(crate) fn write() -> Result<()> {
    let (tables, patches) = (read()?, patches()?);
    let faults = faults(&tables, &named_tests::in_tree()?, &patches);
    if !faults.is_empty() {
        bail!("{}", faults.join("\n      "));
    }
    tree::write(&tree::root().join(PAGE), &page::render(&tables, &patches))?;
    println!("   {}", page::summary(&tables, &patches));
    Ok(())
}

/// Everything that is wrong with the tables, their page and the patches.
pub(crate) fn check() -> Result<Vec<String>> {
    let (tables, patches) = (read()?, patches()?);
    println!("   {}", page::summary(&tables, &patches));
    let mut found = faults(&tables, &named_tests::in_tree()?, &patches);
    found.extend(stale(&tree::read(PAGE).unwrap_or_default(), &tables, &patches));
    found.extend(KeptInversions::parse(&tree::read(RESULTS).unwrap_or_default())?.faults(&tables, &patches));
    for id in &patches {
        found.extend(does_not_apply(&patch_file(id))?);
    }
    Ok(found)
}

fn stale(committed: &str, tables: &[RequirementTable], patches: &[String]) -> Option<String> {
    (committed != page::render(tables, patches))
        .then(|| format!("{PAGE} is stale: run `cargo xtask requirements` and commit it"))
}

/// The ids of the requirements that have a patch, sorted.
pub(crate) fn patches() -> Result<Vec<String>> {
    let files = tree::files(&[".patch"])?;
    let folder = format!("{FOLDER}/inverted/");
    let ids = files.iter().filter_map(|file| file.strip_prefix(&folder)?.strip_suffix(".patch"));
    Ok(ids.map(str::to_owned).collect())
}

/// The file of a patch, relative to the root.
pub(crate) fn patch_file(id: &str) -> String {
    format!("{FOLDER}/inverted/{id}.patch")
}

/// The test that a table names; an error says what is wrong with the name.
pub(crate) fn find<'f>(named: &str, functions: &'f [NamedFunction]) -> Result<&'f NamedFunction, String> {
    let (package, name) = named.split_once("::").map_or((None, named), |(package, name)| (Some(package), name));
    let mut found = functions.iter().filter(|function| {
        function.is_test && function.name == name && package.is_none_or(|package| function.package() == Some(package))
    });
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(format!("no test is called `{named}`")),
        (Some(one), Some(other)) => {
            Err(format!("`{named}` is in {} and in {}: write CRATE::{name}", one.file, other.file))
        }
    }
}

fn does_not_apply(file: &str) -> Result<Option<String>> {
    let ended = Program::line("git apply --check").arg(file).directory(&tree::root()).output()?;
    let why = ended.stderr.lines().next().unwrap_or_default().to_owned();
    Ok((!ended.status.success()).then(|| format!("{file} does not apply: {why}")))
}

fn faults(tables: &[RequirementTable], functions: &[NamedFunction], patches: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut ids = BTreeSet::new();
    let entries = || tables.iter().flat_map(|table| table.requirement.iter().map(move |entry| (table, entry)));
    for (table, entry) in entries() {
        if !ids.insert(entry.id.as_str()) {
            found.push(format!("{}: the id is used twice", entry.id));
        }
        found.extend(faults_of(table, entry, functions).into_iter().map(|fault| format!("{}: {fault}", entry.id)));
    }
    for id in patches {
        let file = patch_file(id);
        match entries().find(|(_, entry)| entry.id == *id) {
            None => found.push(format!("{file} inverts nothing: no table has this id")),
            Some((_, entry)) if entry.tests.is_empty() => found.push(format!("{file}: {id} names no test")),
            Some(_) => {}
        }
    }
    if patches.len() < INVERTED_MIN {
        found.push(format!("{FOLDER}/inverted: {} patches, at least {INVERTED_MIN} are wanted", patches.len()));
    }
    found
}

fn faults_of(table: &RequirementTable, entry: &Requirement, functions: &[NamedFunction]) -> Vec<String> {
    let mut found = Vec::new();
    let expected = format!("rfc{}-{}-", table.rfc, entry.section());
    let number = entry.id.strip_prefix(&expected).filter(|rest| rest.parse::<u32>().is_ok());
    if number.is_none() || !table.sections.contains_key(entry.section()) {
        found.push(format!("an id is rfc{}-SECTION-NUMBER, with a section that the file names", table.rfc));
    }
    let texts = [Some(&entry.says), entry.why_not.as_ref(), entry.missing.as_ref()];
    if texts.into_iter().flatten().any(|text| text.trim().is_empty()) || entry.binds.is_empty() {
        found.push("a text is empty, or it binds nobody".to_owned());
    }
    match (entry.tests.is_empty(), &entry.why_not, &entry.missing) {
        (true, None, None) => found.push("neither a test nor a reason".to_owned()),
        (false, Some(_), _) => found.push("tests and a reason why not: one of them is wrong".to_owned()),
        (true, Some(_), Some(_)) => found.push("a reason why not, and yet something is missing".to_owned()),
        _ => {}
    }
    found.extend(entry.tests.iter().filter_map(|test| find(test, functions).err()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "rfc = 9148\ntitle = \"T\"\nscope = \"S\"\nsections = { \"4.1\" = \"Discovery\" }\n";

    fn entry(id: &str, rest: &str) -> String {
        format!("[[requirement]]\nid = \"{id}\"\nlevel = \"MUST\"\nbinds = [\"server\"]\nsays = \"a | b\"\n{rest}\n")
    }

    fn tables(entries: &[String]) -> Vec<RequirementTable> {
        vec![table::parse(&format!("{HEAD}{}", entries.concat())).unwrap()]
    }

    fn functions() -> Vec<NamedFunction> {
        let shared = "#[test]\nfn everywhere() {}\n";
        let mut found = named_tests::in_file(
            "crates/est/src/a.rs",
            &format!("fn helper() {{}}\n#[test]\nfn shows() {{}}\n{shared}"),
        );
        found.extend(named_tests::in_file("crates/coap/src/a.rs", shared));
        found
    }

    /// The faults, without the one about the number of patches.
    fn faults_in(entries: &[String], patches: &[&str]) -> Vec<String> {
        let patches: Vec<String> = patches.iter().map(|id| (*id).to_owned()).collect();
        let mut found = faults(&tables(entries), &functions(), &patches);
        assert!(found.pop().is_some_and(|last| last.contains("patches, at least")), "too few patches are a fault");
        found
    }

    #[test]
    fn a_test_that_does_not_exist_is_found() {
        assert!(faults_in(&[entry("rfc9148-4.1-1", "tests = [\"shows\", \"coap::everywhere\"]")], &[]).is_empty());
        let gone = faults_in(&[entry("rfc9148-4.1-1", "tests = [\"shows\", \"gone\", \"helper\"]")], &[]);
        assert_eq!(
            gone,
            ["rfc9148-4.1-1: no test is called `gone`", "rfc9148-4.1-1: no test is called `helper`"],
            "a function that is no test shows nothing"
        );
        let twice = faults_in(&[entry("rfc9148-4.1-1", "tests = [\"everywhere\"]")], &[]);
        assert!(twice[0].contains("write CRATE::everywhere"), "{twice:?}");
    }

    #[test]
    fn an_entry_without_an_answer_or_with_two_is_found() {
        let answers = [
            ("", Some("neither a test nor a reason")),
            ("missing = \"m\"", None),
            ("why_not = \"w\"", None),
            ("why_not = \" \"", Some("a text is empty, or it binds nobody")),
            ("tests = [\"shows\"]\nmissing = \"m\"", None),
            ("tests = [\"shows\"]\nwhy_not = \"w\"", Some("tests and a reason why not: one of them is wrong")),
            ("missing = \"m\"\nwhy_not = \"w\"", Some("a reason why not, and yet something is missing")),
        ];
        for (rest, fault) in answers {
            let found = faults_in(&[entry("rfc9148-4.1-1", rest)], &[]);
            let expected: Vec<String> = fault.map(|fault| format!("rfc9148-4.1-1: {fault}")).into_iter().collect();
            assert_eq!(found, expected, "{rest}");
        }
    }

    #[test]
    fn ids_are_unique_and_say_where_the_sentence_is() {
        let answer = "why_not = \"w\"";
        let twice = faults_in(&[entry("rfc9148-4.1-1", answer), entry("rfc9148-4.1-1", answer)], &[]);
        assert_eq!(twice, ["rfc9148-4.1-1: the id is used twice"]);
        for id in ["rfc7030-4.1-1", "rfc9148-4.2-1", "rfc9148-4.1-x", "4.1"] {
            assert_eq!(faults_in(&[entry(id, answer)], &[]).len(), 1, "{id}");
        }
    }

    #[test]
    fn a_patch_belongs_to_an_entry_with_tests() {
        let entries = [entry("rfc9148-4.1-1", "tests = [\"shows\"]"), entry("rfc9148-4.1-2", "why_not = \"w\"")];
        assert!(faults_in(&entries, &["rfc9148-4.1-1"]).is_empty());
        assert!(faults_in(&entries, &["rfc9148-4.1-2"])[0].ends_with("names no test"));
        assert!(faults_in(&entries, &["rfc9148-4.1-3"])[0].ends_with("no table has this id"));
    }

    #[test]
    fn a_page_of_other_tables_is_stale() {
        let before = tables(&[entry("rfc9148-4.1-1", "missing = \"m\"")]);
        let page = page::render(&before, &[]);
        assert_eq!(stale(&page, &before, &[]), None);
        assert!(stale(&page, &tables(&[entry("rfc9148-4.1-1", "tests = [\"shows\"]")]), &[]).is_some());
        assert!(stale(&page, &before, &["rfc9148-4.1-1".to_owned()]).is_some(), "another patch");
    }

    #[test]
    fn a_patch_that_does_not_apply_is_found() {
        let file = tree::scratch("invert-patch").unwrap().join("one.patch");
        let adds_below = |text: &str| {
            let (lines, context) = (text.lines().count(), text.replace('\n', "\n "));
            let head = format!("Why.\n\n--- a/rustfmt.toml\n+++ b/rustfmt.toml\n@@ -1,{lines} +1,{} @@\n ", lines + 1);
            std::fs::write(&file, format!("{head}{}\n+more\n", context.trim_end())).unwrap();
            does_not_apply(file.to_str().unwrap()).unwrap()
        };
        let text = tree::read("rustfmt.toml").unwrap();
        assert_eq!(adds_below(&text), None);
        assert!(adds_below(&text.to_uppercase()).is_some_and(|fault| fault.contains("does not apply")));
    }

    #[test]
    fn the_page_counts_and_names_each_answer() {
        let tables = tables(&[
            entry("rfc9148-4.1-1", "tests = [\"shows\"]"),
            entry("rfc9148-4.1-2", "missing = \"the Registrar\""),
            entry("rfc9148-4.1-3", "why_not = \"ours to decide\""),
        ]);
        let page = page::render(&tables, &["rfc9148-4.1-1".to_owned()]);
        assert!(page.contains("| [9148](#rfc-9148) | 3 | 1 | 0 | 1 | 1 | 1 |"), "{page}");
        assert!(page.contains("### §4.1 Discovery\n"), "{page}");
        assert!(page.contains("| 4.1-1 | MUST | server | a \\| b | tested: `shows`; inverted |"), "{page}");
        assert!(page.contains("| not yet: the Registrar |") && page.contains("| reason: ours to decide |"), "{page}");
    }
}
