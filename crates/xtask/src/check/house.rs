//! Rules of this repository that no compiler checks: the length of files, forbidden words, a reason for each dependency, the lock of the
//! fuzzer, the commands in the README.

mod circles;
mod imports;
mod locks;
mod names;
mod pages;

use anyhow::{Result, bail};

use crate::{bench, cases, requirements, tree};

/// One concept for each file: a file with more lines than this before its tests hides a type.
const FILE_LINES_MAX: usize = 600;
/// The allowed entries at the top level: the layout of the design, and files that tools expect there.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "SECURITY.md",
    "benches",
    "clippy.toml",
    "crates",
    "dashboards",
    "deny.toml",
    "fuzz",
    "loadgen",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

/// Words that mark unfinished work. Each is written in two halves, because this file is searched too.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("todo", "!(", "write it, or leave the feature out"),
    ("unimplemented", "!(", "write it, or leave the feature out"),
    ("#[ign", "ore", "a test that does not run is not a test"),
    ("FIX", "ME", "fix it, or file an issue"),
    ("XX", "X", "fix it, or file an issue"),
    ("TO", "DO", "do it, or file an issue"),
];

/// Checks every rule and reports all findings together.
pub(super) fn check() -> Result<()> {
    let mut findings = Vec::new();
    let pages = tree::files(&[".md"])?;
    let mut sources = Vec::new();
    for file in tree::files(&[".rs"])? {
        let text = tree::read(&file)?;
        findings.extend(too_long(&file, &text));
        findings.extend(forbidden_words(&file, &text));
        findings.extend(allows_without_reason(&file, &text));
        findings.extend(doc_tests(&file, &text));
        findings.extend(imports::check(&file, &text));
        findings.extend(pages::check(&file, &text, &pages));
        sources.push((file, text));
    }
    for file in tree::files(&[".toml", ".sh", ".py", ".ci/run"])? {
        findings.extend(pages::check(&file, &tree::read(&file)?, &pages));
    }
    findings.extend(circles::check(&sources));
    findings.extend(names::check(&sources));
    println!("   {}", names::summary(&sources));
    findings.extend(top_level()?);
    findings.extend(locks::check()?);
    findings.extend(dependencies_without_reason(&tree::read("Cargo.toml")?));
    findings.extend(readme_commands(&tree::read("README.md")?, &tree::read("crates/cli/src/main.rs")?));
    findings.extend(bench::readme::findings()?);
    findings.extend(cases::check().err().map(|error| error.to_string()));
    findings.extend(requirements::check()?);
    if !findings.is_empty() {
        bail!("{} findings\n      {}", findings.len(), findings.join("\n      "));
    }
    Ok(())
}

fn too_long(file: &str, text: &str) -> Option<String> {
    // A file in tests/ is test code from its first line on.
    if file.contains("/tests/") || file.ends_with("/tests.rs") {
        return None;
    }
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    (lines > FILE_LINES_MAX)
        .then(|| format!("{file}: {lines} lines before its tests, at most {FILE_LINES_MAX} are allowed"))
}

fn forbidden_words(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (first, second, instead) in FORBIDDEN {
            if line.contains(&format!("{first}{second}")) {
                found.push(format!("{file}:{}: {first}{second}: {instead}", number + 1));
            }
        }
    }
    found
}

/// An `allow` without a `reason` does not tell readers why it is there.
fn allows_without_reason(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for opening in ["#[allow(", "#![allow("] {
        for (at, _) in text.match_indices(opening) {
            let attribute = text[at..].split(")]").next().unwrap_or_default();
            // An attribute is the first text on its line; in a string or comment it is not an attribute.
            let starts_line = text[..at].rsplit('\n').next().is_some_and(|before| before.trim().is_empty());
            if starts_line && !attribute.contains("reason =") {
                let number = text[..at].lines().count() + 1;
                found.push(format!("{file}:{number}: {opening}..)] without a reason"));
            }
        }
    }
    found
}

/// No part of the check runs the examples of doc comments: one that rustdoc would take for Rust is code that nobody compiles. What it shows is a test.
fn doc_tests(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_open = false;
    for (number, line) in text.lines().enumerate() {
        let comment = line.trim_start();
        let Some(comment) = comment.strip_prefix("///").or_else(|| comment.strip_prefix("//!")) else {
            is_open = false;
            continue;
        };
        let Some(language) = comment.trim_start().strip_prefix("```") else { continue };
        is_open = !is_open;
        let is_other = ["text", "json", "toml", "console"].contains(&language.trim());
        if is_open && !is_other {
            found.push(format!(
                "{file}:{}: an example that no test runs: write a test, or name its language",
                number + 1
            ));
        }
    }
    found
}

fn top_level() -> Result<Vec<String>> {
    let files = tree::files(&[""])?;
    let mut strays: Vec<&str> =
        files.iter().filter_map(|file| file.split('/').next()).filter(|name| !TOP_LEVEL.contains(name)).collect();
    strays.dedup();
    Ok(strays.iter().map(|name| format!("{name}: not a part of the top level's layout")).collect())
}

/// Each external dependency needs a reason on its line.
fn dependencies_without_reason(manifest: &str) -> Vec<String> {
    let section = manifest.split("[workspace.dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let external =
        section.lines().filter(|line| line.contains(" = ") && !line.starts_with('#') && !line.contains("path = "));
    external.filter(|line| !line.contains(" # ")).map(|line| format!("Cargo.toml: no reason beside `{line}`")).collect()
}

/// Checks that every command in the README's code blocks exists.
fn readme_commands(readme: &str, arguments: &str) -> Vec<String> {
    let blocks = readme.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(str::lines).map(|line| line.trim_start_matches("$ ").trim());
    let known = |command: &str| {
        let mut name = command.to_owned();
        name.get_mut(..1).map(str::make_ascii_uppercase);
        // A variant of the subcommand enum: `Demo,` `Demo(` or `Demo {`.
        [",", "(", " {"].iter().any(|after| arguments.contains(&format!("    {name}{after}")))
    };
    let ours = |line: &str| -> Option<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["muster", command, ..] | ["cargo", "run", "--release", "--", command, ..] => Some((*command).to_owned()),
            _ => None,
        }
    };
    let unknown = lines.filter_map(ours).filter(|command| !command.starts_with('-') && !known(command));
    unknown.map(|command| format!("README.md: `muster {command}` is not a command")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_measured_up_to_its_tests() {
        let body = "x\n".repeat(FILE_LINES_MAX);
        assert!(too_long("a.rs", &format!("{body}#[cfg(test)]\n{body}")).is_none());
        assert!(too_long("a.rs", &format!("{body}x\n")).is_some());
        assert!(too_long("crates/a/tests/b.rs", &format!("{body}x\n")).is_none());
    }

    #[test]
    fn an_unfinished_place_is_found_with_its_line() {
        let stub = format!("fn a() {{\n    {}{}) }}", "todo", "!(");
        assert_eq!(forbidden_words("a.rs", &stub).len(), 1);
        assert!(forbidden_words("a.rs", &stub)[0].starts_with("a.rs:2:"));
    }

    #[test]
    fn an_allow_needs_its_reason_even_over_several_lines() {
        let without = ["#[", "allow(dead_code)]"].concat();
        let with = ["#[", "allow(\n    dead_code,\n    reason = \"why\"\n)]"].concat();
        assert_eq!(allows_without_reason("a.rs", &without).len(), 1);
        assert!(allows_without_reason("a.rs", &with).is_empty());
    }

    #[test]
    fn an_example_that_no_test_runs_is_found() {
        let fence =
            |language: &str| format!("/// Shows:\n///\n/// ```{language}\n/// a();\n/// ```\npub fn a() {{}}\n");
        assert!(doc_tests("a.rs", &fence("text")).is_empty());
        assert_eq!(doc_tests("a.rs", &fence("")).len(), 1);
        assert!(doc_tests("a.rs", &fence("rust"))[0].starts_with("a.rs:3:"));
    }

    #[test]
    fn a_dependency_needs_its_reason() {
        let manifest = "[workspace.dependencies]\nours = { path = \"x\" }\ngood = \"1\" # why\nbad = \"1\"\n[workspace.lints]\nother = \"1\"\n";
        assert_eq!(dependencies_without_reason(manifest), ["Cargo.toml: no reason beside `bad = \"1\"`"]);
    }

    #[test]
    fn a_command_that_does_not_exist_is_found() {
        let readme =
            "text\n```console\n$ muster demo\n$ muster dance --now\n$ cargo run --release -- demo\n```\nmuster fly\n";
        assert_eq!(
            readme_commands(readme, "enum Command {\n    Demo(Demo),\n}"),
            ["README.md: `muster dance` is not a command"]
        );
    }
}
