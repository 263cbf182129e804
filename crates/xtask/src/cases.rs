//! `cargo xtask cases`: which named cases are tested, and what the others wait for.
//!
//! `cases/cases.txt` lists every case; a test's name starts with the number of the case that it tests (`d31_cookieless_hello_allocates_nothing`).
//! `cases/STATUS.md` is derived from both and committed; `cargo xtask check` fails if it is stale.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

use crate::named_tests::{self, NamedFunction};
use crate::tree;

const LIST: &str = "crates/xtask/cases/cases.txt";
const STATUS: &str = "crates/xtask/cases/STATUS.md";

/// The pieces of work that a case can wait for.
const PIECES: &[(&str, &str)] = &[
    ("enrol", "the whole path"),
    ("engines", "the hardened engines"),
    ("review", "what reviews of the code and the field found"),
    ("ledger", "the durable ledger and the decision to issue"),
    ("speed", "admission under overload"),
    ("rfc9148", "the rest of RFC 9148 and the Registrar"),
    ("resumption", "session resumption"),
    ("cid", "connection IDs (RFC 9146)"),
    ("dtls13", "DTLS 1.3 (RFC 9147)"),
    ("nodes", "several nodes on one database"),
];

struct TestCase {
    number: String,
    waits_for: &'static str,
    title: String,
}

/// Writes STATUS.md.
pub(crate) fn write() -> Result<()> {
    let status = status()?;
    tree::write(&tree::root().join(STATUS), &status)?;
    println!("   {STATUS}: {}", status.lines().find(|line| line.contains(" of ")).unwrap_or_default());
    Ok(())
}

/// Fails if STATUS.md differs from the output of `write`.
pub(crate) fn check() -> Result<()> {
    if tree::read(STATUS).unwrap_or_default() != status()? {
        bail!("{STATUS} is stale: run `cargo xtask cases` and commit it");
    }
    Ok(())
}

fn status() -> Result<String> {
    let cases = parse_list(&tree::read(LIST)?)?;
    let tests = by_case(named_tests::in_tree()?);
    let stray = tests.keys().find(|number| !cases.iter().any(|case| case.number == **number));
    if let Some(number) = stray {
        bail!("a test names case {number}, which {LIST} does not list: {}", tests[number][0].name);
    }
    Ok(render(&cases, &tests))
}

fn parse_list(text: &str) -> Result<Vec<TestCase>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.splitn(3, '\t');
            let (Some(number), Some(piece), Some(title)) = (fields.next(), fields.next(), fields.next()) else {
                bail!("{LIST}: expected three fields: {line}");
            };
            let waits_for = PIECES
                .iter()
                .find(|(name, _)| *name == piece)
                .with_context(|| format!("{LIST}: unknown piece of work {piece}"))?
                .1;
            Ok(TestCase { number: number.to_owned(), waits_for, title: title.to_owned() })
        })
        .collect()
}

/// Finds `fn d31_..` (and `fn d53_d54_..`, one test for two cases).
fn by_case(functions: Vec<NamedFunction>) -> BTreeMap<String, Vec<NamedFunction>> {
    let mut tests: BTreeMap<String, Vec<NamedFunction>> = BTreeMap::new();
    for function in functions {
        for number in function.name.split('_').map_while(case_number) {
            tests.entry(number).or_default().push(function.clone());
        }
    }
    tests
}

fn case_number(word: &str) -> Option<String> {
    let digits = word.strip_prefix(['d', 'c', 'e'])?;
    (matches!(digits.len(), 2 | 3) && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| word.to_uppercase())
}

fn render(cases: &[TestCase], tests: &BTreeMap<String, Vec<NamedFunction>>) -> String {
    let shown = cases.iter().filter(|case| tests.contains_key(&case.number)).count();
    let mut out = String::from(
        "# Named cases\n\nDerived by `cargo xtask cases` from `cases.txt` and the tests in the tree; `cargo xtask check` fails when it is stale.\n\n",
    );
    // Writing to a String cannot fail.
    let _ = write!(out, "{shown} of {} cases are tested.\n\n", cases.len());
    out.push_str("## In\n\n| case | what must come of it | tests |\n|---|---|---|\n");
    for case in cases {
        if let Some(found) = tests.get(&case.number) {
            let names: Vec<String> = found.iter().map(|test| format!("`{}` in {}", test.name, test.file)).collect();
            let _ = writeln!(out, "| {} | {} | {} |", case.number, tree::cell(&case.title), names.join("<br>"));
        }
    }
    out.push_str("\n## Waiting\n\n| case | what must come of it | waits for |\n|---|---|---|\n");
    for case in cases.iter().filter(|case| !tests.contains_key(&case.number)) {
        let _ = writeln!(out, "| {} | {} | {} |", case.number, tree::cell(&case.title), case.waits_for);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_is_whole() {
        let cases = parse_list(&tree::read(LIST).unwrap()).unwrap();
        let count = |letter| cases.iter().filter(|case| case.number.starts_with(letter)).count();
        assert_eq!((count('D'), count('C'), count('E')), (107, 50, 86));
    }

    #[test]
    fn a_test_is_found_by_its_number_and_may_show_two() {
        let text = "    fn d31_cookieless_hello_allocates_nothing() {\nfn c01_c06_duplicates() {\nfn decode() {\nfn e1_x() {\nfn d100_y() {\n";
        let tests = by_case(named_tests::in_file("a.rs", text));
        assert_eq!(tests.keys().collect::<Vec<_>>(), ["C01", "C06", "D100", "D31"]);
    }

    #[test]
    fn a_case_is_in_or_waits() {
        let cases = parse_list("D01\tengines\tone\nD02\tcid\ttwo | three\n").unwrap();
        let tests = by_case(named_tests::in_file("a.rs", "fn d01_x()"));
        let page = render(&cases, &tests);
        assert!(page.contains("1 of 2 cases") && page.contains("| D01 | one | `d01_x` in a.rs |"), "{page}");
        assert!(page.contains("| D02 | two \\| three | connection IDs (RFC 9146) |"), "{page}");
    }

    #[test]
    fn an_unknown_piece_of_work_is_refused() {
        assert!(parse_list("D01\tsoon\tone\n").is_err());
    }
}
