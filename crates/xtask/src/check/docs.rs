//! Documentation that holds: rustdoc without a warning, and no relative link of a Markdown file into the void.

use crate::tree;
use anyhow::{Result, bail};
use std::path::Path;

pub(super) fn check() -> Result<()> {
    let doc = super::cargo("doc --quiet --workspace --no-deps --locked --keep-going --document-private-items");
    doc.env("RUSTDOCFLAGS", "-D warnings").stream()?;
    let mut broken = Vec::new();
    for file in tree::files(&[".md"])? {
        broken.extend(broken_links(&file, &tree::read(&file)?, |path| tree::root().join(path).exists()));
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n      "));
    }
    Ok(())
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
}
