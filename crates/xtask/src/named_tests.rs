//! The functions of the tree by name: `cases` and `requirements` say which of them test what.

use anyhow::Result;

use crate::tree;

/// A function, and the file that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFunction {
    pub(crate) name: String,
    /// Relative to the root of the tree.
    pub(crate) file: String,
    /// It has the attribute `#[test]`.
    pub(crate) is_test: bool,
}

/// The target of a package that a test is compiled into.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TestTarget {
    /// The unit tests of the library, or of the binary of a package without a library.
    Unit,
    /// A program of its own: `tests/NAME.rs` or `tests/NAME/main.rs`.
    Program(String),
}

impl NamedFunction {
    /// The package: its folder has its name. `None` outside `crates/`.
    pub(crate) fn package(&self) -> Option<&str> {
        self.file.strip_prefix("crates/")?.split('/').next()
    }

    /// Where cargo finds it as a test.
    pub(crate) fn target(&self) -> TestTarget {
        let below = self.file.split_once("/tests/").filter(|(before, _)| before.matches('/').count() == 1);
        below.map_or(TestTarget::Unit, |(_, rest)| {
            let name = rest.split('/').next().unwrap_or_default();
            TestTarget::Program(name.trim_end_matches(".rs").to_owned())
        })
    }
}

/// Every function of the tree, in the order of the files.
pub(crate) fn in_tree() -> Result<Vec<NamedFunction>> {
    let mut found = Vec::new();
    for file in tree::files(&[".rs"])? {
        found.extend(in_file(&file, &tree::read(&file)?));
    }
    Ok(found)
}

/// The private functions of one file: a test is never public.
pub(crate) fn in_file(file: &str, text: &str) -> Vec<NamedFunction> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[test]") {
            is_test = true;
        }
        let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next()) else { continue };
        found.push(NamedFunction { name: name.to_owned(), file: file.to_owned(), is_test });
        is_test = false;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_told_from_a_helper() {
        let text = "fn helper() {}\n    #[test]\n    #[should_panic]\n    fn shows<T>() {}\nfn other() {}\n";
        let found = in_file("crates/est/src/a.rs", text);
        let seen: Vec<(&str, bool)> = found.iter().map(|it| (it.name.as_str(), it.is_test)).collect();
        assert_eq!(seen, [("helper", false), ("shows", true), ("other", false)]);
    }

    #[test]
    fn a_test_is_found_where_cargo_compiles_it() {
        let place = |file: &str| {
            let it = NamedFunction { name: String::new(), file: file.to_owned(), is_test: true };
            (it.package().map(str::to_owned), it.target())
        };
        let program = |name: &str| TestTarget::Program(name.to_owned());
        assert_eq!(place("crates/est/src/server/live.rs"), (Some("est".to_owned()), TestTarget::Unit));
        assert_eq!(place("crates/est/tests/stories/enrol.rs"), (Some("est".to_owned()), program("stories")));
        assert_eq!(place("crates/dtls/tests/walk.rs"), (Some("dtls".to_owned()), program("walk")));
        assert_eq!(place("crates/a/src/b/tests/c.rs").1, TestTarget::Unit);
        assert_eq!(place("fuzz/src/a.rs").0, None);
    }
}
