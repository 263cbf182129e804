//! The table of capabilities, as Markdown.

use std::fmt::Write;

use super::table::{FOLDER, Requirement, RequirementStatus, RequirementTable};
use crate::tree;

const HEAD: &str = "# Capabilities: what Muster does of EST-coaps

Derived by `cargo xtask requirements` from the tables in this folder; `cargo xtask check` fails when it is stale. Each sentence of RFC 9148 with a keyword of RFC 2119
is listed in our words, and those of other RFCs in the sections that RFC 9148 leans on. What an RFC only *states*, without a keyword, is listed where other
parties rely on it. REQUIRED is shown as MUST, RECOMMENDED as SHOULD and OPTIONAL as MAY.

- *tested*: a named test fails if it does not hold. *Inverted* means that `cargo xtask invert` breaks the code and sees that happen.
- *in part*: the same, and something that is named is missing.
- *not yet*: Muster does not have the function that this asks for.
- *reason*: it binds somebody else, or Muster does not do it; the reason is given.

";

/// Renders every table; `inverted` are the ids that have a patch.
pub(super) fn render(tables: &[RequirementTable], inverted: &[String]) -> String {
    let mut out = String::from(HEAD);
    out.push_str(
        "| RFC | requirements | tested | in part | not yet | reason | inverted |\n|---|---|---|---|---|---|---|\n",
    );
    let all: Vec<&Requirement> = tables.iter().flat_map(|table| &table.requirement).collect();
    for table in tables {
        let name = format!("[{}](#rfc-{})", table.rfc, table.rfc);
        counts(&mut out, &name, &table.requirement.iter().collect::<Vec<_>>(), inverted);
    }
    counts(&mut out, "all", &all, inverted);
    for table in tables {
        // Writing to a String cannot fail.
        let _ = write!(out, "\n## RFC {}\n\n{}. {}\n", table.rfc, table.title, table.scope.trim());
        for section in sections(table) {
            let title = table.sections.get(section).map_or("", String::as_str);
            let _ = write!(
                out,
                "\n### §{section} {title}\n\n| id | level | binds | requirement | answer |\n|---|---|---|---|---|\n"
            );
            for entry in table.requirement.iter().filter(|entry| entry.section() == section) {
                row(&mut out, entry, inverted);
            }
        }
    }
    out
}

/// One line: how many requirements have which answer.
pub(super) fn summary(tables: &[RequirementTable], inverted: &[String]) -> String {
    let of = |status| tables.iter().flat_map(|table| &table.requirement).filter(|it| it.status() == status).count();
    format!(
        "{FOLDER}: {} requirements tested, {} in part, {} not yet, {} with a reason; {} inverted",
        of(RequirementStatus::Tested),
        of(RequirementStatus::InPart),
        of(RequirementStatus::NotYet),
        of(RequirementStatus::Reasoned),
        inverted.len()
    )
}

/// The sections in the order in which the table mentions them first.
fn sections(table: &RequirementTable) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for entry in &table.requirement {
        if !found.contains(&entry.section()) {
            found.push(entry.section());
        }
    }
    found
}

fn counts(out: &mut String, name: &str, entries: &[&Requirement], inverted: &[String]) {
    let of = |status| entries.iter().filter(|entry| entry.status() == status).count();
    let broken = entries.iter().filter(|entry| inverted.contains(&entry.id)).count();
    let _ = writeln!(
        out,
        "| {name} | {} | {} | {} | {} | {} | {broken} |",
        entries.len(),
        of(RequirementStatus::Tested),
        of(RequirementStatus::InPart),
        of(RequirementStatus::NotYet),
        of(RequirementStatus::Reasoned),
    );
}

fn row(out: &mut String, entry: &Requirement, inverted: &[String]) {
    let binds: Vec<String> = entry.binds.iter().map(ToString::to_string).collect();
    let tests: Vec<String> = entry.tests.iter().map(|test| format!("`{test}`")).collect();
    let missing = entry.missing.as_deref().unwrap_or_default();
    let mut answer = match entry.status() {
        RequirementStatus::Tested => format!("tested: {}", tests.join(", ")),
        RequirementStatus::InPart => format!("in part: {}; missing: {missing}", tests.join(", ")),
        RequirementStatus::NotYet => format!("not yet: {missing}"),
        RequirementStatus::Reasoned => format!("reason: {}", entry.why_not.as_deref().unwrap_or_default()),
    };
    if inverted.contains(&entry.id) {
        answer.push_str("; inverted");
    }
    let id = entry.id.split_once('-').map_or(entry.id.as_str(), |(_, rest)| rest);
    let says = tree::cell(entry.says.trim());
    let _ = writeln!(out, "| {id} | {} | {} | {says} | {} |", entry.level, binds.join(", "), tree::cell(&answer));
}
