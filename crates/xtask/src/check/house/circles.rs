//! No circular imports among the modules of a crate: a file can be read without the files that depend on it.
//!
//! A module here is a file of `src/` with its folder; an import is any `crate::module` outside tests and comments.

use std::collections::{BTreeMap, BTreeSet};

/// Crates without circular imports, which must stay that way.
const CRATES: &[&str] = &["authority", "cli", "coap", "dtls", "est", "link", "net", "server", "sim", "xtask"];

/// For each module the modules that it imports.
type Imports<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

pub(super) fn check(sources: &[(String, String)]) -> Vec<String> {
    CRATES.iter().filter_map(|name| circle(name, sources)).collect()
}

/// The modules of a crate that reach themselves, if there are any.
fn circle(name: &str, sources: &[(String, String)]) -> Option<String> {
    let folder = format!("crates/{name}/src/");
    let files =
        || sources.iter().filter_map(|(file, text)| Some((module(file.strip_prefix(&folder)?)?, text.as_str())));
    let modules: BTreeSet<&str> = files().map(|(module, _)| module).collect();
    let mut imports = Imports::new();
    for (module, text) in files() {
        let named = named(text).filter(|other| *other != module && modules.contains(other));
        imports.entry(module).or_default().extend(named);
    }
    let within: Vec<&str> = modules.into_iter().filter(|module| reaches(&imports, module, module)).collect();
    (!within.is_empty()).then(|| format!("{folder}: modules import one another in a circle: {}", within.join(", ")))
}

/// The module of a file below `src/`; `None` for the root of the crate and for tests.
fn module(path: &str) -> Option<&str> {
    let first = path.split('/').next()?.trim_end_matches(".rs");
    let tests = path.ends_with("tests.rs") || path.contains("/tests/");
    (!tests && !["lib", "main", "bin"].contains(&first)).then_some(first)
}

/// The names after each `crate::`, up to the tests.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let code = lines.filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next().unwrap_or_default())
}

fn reaches(imports: &Imports<'_>, from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for other in imports.get(module).into_iter().flatten() {
            if *other == to {
                return true;
            }
            if seen.insert(*other) {
                next.push(other);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &str, text: &str) -> (String, String) {
        (format!("crates/coap/src/{file}"), text.to_owned())
    }

    #[test]
    fn a_circle_is_found_over_several_files_and_its_neighbours_are_not_blamed() {
        let mut sources = vec![
            source("a.rs", "use crate::b::B;\n"),
            source("b/inner.rs", "fn f() -> crate::c::C {}\n"),
            source("c.rs", "use crate::d::D;\n"),
            source("d.rs", "// crate::b\n\n#[cfg(test)]\nmod tests { use crate::a::A; }\n"),
            source("d/tests.rs", "use crate::a::A;\n"),
            source("lib.rs", "pub use crate::a::A;\n"),
        ];
        assert_eq!(check(&sources), Vec::<String>::new());
        sources.push(source("d/more.rs", "use crate::b::B;\n"));
        let found = check(&sources);
        assert_eq!(found, ["crates/coap/src/: modules import one another in a circle: b, c, d"]);
    }
}
