//! Checks the documentation: rustdoc without warnings, no broken relative link in a Markdown file, and no name in `ARCHITECTURE.md` that does not
//! exist in the tree.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use crate::cargo::cargo;
use crate::tree;

pub(super) fn check() -> Result<()> {
    // Examples, as all of clippy's targets, take the features that tests need: what it has checked of the dependencies serves here too.
    let targets = "--lib --bins --examples";
    let doc =
        cargo(&format!("doc --quiet --workspace {targets} --no-deps --locked --keep-going --document-private-items"));
    doc.env("RUSTDOCFLAGS", "-D warnings").stream()?;
    let mut broken = Vec::new();
    for file in tree::files(&[".md"])? {
        broken.extend(broken_links(&file, &tree::read(&file)?, |path| tree::root().join(path).exists()));
    }
    broken.extend(names_without_code()?);
    if !broken.is_empty() {
        bail!("{}", broken.join("\n      "));
    }
    Ok(())
}

/// A page with the name of a renamed or removed item misleads: each name that `ARCHITECTURE.md` writes as code must occur in the code or be a
/// file.
fn names_without_code() -> Result<Vec<String>> {
    const FILE: &str = "ARCHITECTURE.md";
    let mut missing = names_in_code_type(&tree::read(FILE)?);
    for file in tree::files(&[".rs", ".toml"])? {
        for name in names(&tree::read(&file)?) {
            missing.remove(name);
        }
        for part in file.split(['/', '.']) {
            missing.remove(part);
        }
    }
    Ok(missing.into_iter().map(|name| format!("{FILE}: nothing in the tree is called `{name}`")).collect())
}

/// The names between backticks, without those in drawings and commands.
fn names_in_code_type(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2);
    let spans = prose.flat_map(|part| part.split('`').skip(1).step_by(2)).filter(|span| !span.starts_with("cargo "));
    spans.flat_map(|span| names(span).map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_'))
}

/// Targets of `[text](target)` that are neither a URL nor an anchor, resolved from the folder of the file.
fn broken_links(file: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    let relative =
        targets.filter(|target| !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:"));
    let path = |target: &str| folder.join(target.split('#').next().unwrap_or_default());
    relative.filter(|target| !exists(&path(target))).map(|target| format!("{file}: broken link {target}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_resolved_from_its_file() {
        let text = "[a](b.md#part) [u](https://example.net/x) [h](#here) [gone](c.md)\n```\n[code](nowhere)\n```\n";
        let broken = broken_links("docs/a.md", text, |path| path == Path::new("docs/b.md"));
        assert_eq!(broken, ["docs/a.md: broken link c.md"]);
    }

    #[test]
    fn the_names_of_a_page_are_those_in_code_type() {
        let text =
            "the `dtls::Path` of a `send(now)`, by `cargo xtask check`\n```\na `drawing`\n```\nand `x-y` after it\n";
        let found: Vec<_> = names_in_code_type(text).into_iter().collect();
        assert_eq!(found, ["Path", "dtls", "now", "send", "x", "y"]);
    }
}
