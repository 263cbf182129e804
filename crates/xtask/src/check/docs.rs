//! Documentation that holds: rustdoc without a warning, no relative link of a Markdown file into the void, and no name in the contracts of
//! `ARCHITECTURE.md` that the code does not have.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use crate::cargo::cargo;
use crate::tree;

pub(super) fn check() -> Result<()> {
    let doc = cargo("doc --quiet --workspace --no-deps --locked --keep-going --document-private-items");
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

/// A contract that names what was renamed or removed misleads: each name in the Rust blocks of `ARCHITECTURE.md` stands somewhere in the code.
fn names_without_code() -> Result<Vec<String>> {
    const FILE: &str = "ARCHITECTURE.md";
    let mut missing = names_in_contracts(&tree::read(FILE)?);
    for file in tree::files(&[".rs"])? {
        for name in names(&tree::read(&file)?) {
            missing.remove(name);
        }
    }
    Ok(missing.into_iter().map(|name| format!("{FILE}: nothing in the code is called `{name}`")).collect())
}

/// The names in the blocks marked as Rust, comments left out.
fn names_in_contracts(text: &str) -> BTreeSet<String> {
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("rust\n"));
    let without_blocks = |line: &str| {
        let outside = line.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, rest)| rest));
        outside.collect::<Vec<_>>().join(" ")
    };
    let code = blocks.flat_map(str::lines).map(|line| without_blocks(line.split("//").next().unwrap_or_default()));
    code.flat_map(|line| names(&line).map(str::to_owned).collect::<Vec<_>>()).collect()
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
    fn the_names_of_a_contract_are_those_outside_comments() {
        let text =
            "pub `word`\n```rust\npub fn send(now: Now /* of the call */, b: &[u8]); // puts\n```\n```\nplain\n```\n";
        let found: Vec<_> = names_in_contracts(text).into_iter().collect();
        assert_eq!(found, ["Now", "b", "fn", "now", "pub", "send", "u8"]);
    }
}
