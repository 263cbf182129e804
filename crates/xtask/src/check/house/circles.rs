//! No circular imports among the modules of a crate: a file can be read without the files that depend on it.
//!
//! There are two views. By folder, a module is a file directly below `src/` with the folder of its name; by file, each file is a module. An import
//! is any `crate::…` or `super::…` outside tests and comments. A module and those below it always depend on each other, so imports between them do
//! not count.

use std::collections::{BTreeMap, BTreeSet};

/// Held by file alone. In `pki`, files of `der/` read and write the values of `oid` and `time`, which are encoded with other files of `der/`.
const BY_FILE_ALONE: &[&str] = &["crates/pki/src/"];

/// For each module the modules that it imports.
type Imports<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

pub(super) fn check(sources: &[(String, String)]) -> Vec<String> {
    let roots = sources.iter().filter_map(|(file, _)| file.find("/src/").map(|at| &file[..at + "/src/".len()]));
    roots.collect::<BTreeSet<&str>>().into_iter().flat_map(|root| circles(root, sources)).collect()
}

/// The modules of a crate that reach themselves, in each view that has some.
fn circles(root: &str, sources: &[(String, String)]) -> Vec<String> {
    let by_file = imports(root, sources);
    let mut by_folder = Imports::new();
    for (module, others) in &by_file {
        by_folder.entry(folder(module)).or_default().extend(others.iter().map(|other| folder(other)));
    }
    by_folder.iter_mut().for_each(|(module, others)| _ = others.remove(module));
    if BY_FILE_ALONE.contains(&root) {
        by_folder.clear();
    }
    [("files", by_file), ("modules", by_folder)]
        .into_iter()
        .filter_map(|(what, imports)| {
            let within: Vec<&str> = imports.keys().copied().filter(|from| reaches(&imports, from, from)).collect();
            (!within.is_empty())
                .then(|| format!("{root}: {what} import one another in a circle: {}", within.join(", ")))
        })
        .collect()
}

/// What each file of a crate imports.
fn imports<'a>(root: &str, sources: &'a [(String, String)]) -> Imports<'a> {
    let files = || sources.iter().filter_map(|(file, text)| Some((module(file.strip_prefix(root)?)?, text.as_str())));
    let modules: BTreeSet<&str> = files().map(|(module, _)| module).collect();
    let mut imports = Imports::new();
    for (module, text) in files() {
        let named = named(module, text).filter_map(|path| longest(&modules, path));
        let others = named.filter(|other| !is_within(module, other) && !is_within(other, module));
        imports.entry(module).or_default().extend(others);
    }
    imports
}

/// The module of a file below `src/`, as `folder/file`; `None` for the root of a crate and for tests.
fn module(path: &str) -> Option<&str> {
    let tests = path.ends_with("tests.rs") || path.contains("/tests/");
    let module = path.strip_suffix(".rs")?;
    (!tests && !["lib", "main", "bin"].contains(&folder(module))).then_some(module)
}

fn folder(module: &str) -> &str {
    module.split('/').next().unwrap_or(module)
}

fn is_within(module: &str, outer: &str) -> bool {
    module.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The file that a path leads to: what follows it are names inside the file.
fn longest<'a>(modules: &BTreeSet<&'a str>, mut path: String) -> Option<&'a str> {
    loop {
        if let Some(module) = modules.get(path.as_str()) {
            return Some(module);
        }
        path.truncate(path.rfind('/')?);
    }
}

/// Each path of the code, up to the tests, that begins with `crate::` or `super::`: from the root of the crate, with `/` between its parts.
fn named(module: &str, text: &str) -> impl Iterator<Item = String> {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let words = lines.flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter)));
    words.filter_map(move |word| {
        if let Some(path) = word.strip_prefix("crate::") {
            return Some(path.trim_end_matches(':').replace("::", "/"));
        }
        let (mut from, mut path) = (module, word);
        while let Some(rest) = path.strip_prefix("super::") {
            (from, path) = (from.rsplit_once('/').map_or("", |(outer, _)| outer), rest);
        }
        let path = path.trim_end_matches(':').replace("::", "/");
        word.starts_with("super::").then(|| if from.is_empty() { path } else { format!("{from}/{path}") })
    })
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
    fn a_circle_of_folders_or_of_files_is_found_and_its_neighbours_are_not_blamed() {
        let mut sources = vec![
            source("a.rs", "use crate::b::B;\n"),
            source("b.rs", "mod inner;\n"),
            source("b/inner.rs", "fn f() -> crate::c::C {}\n"),
            source("c.rs", "use crate::d::D;\n"),
            source("d.rs", "// crate::b\n\n#[cfg(test)]\nmod tests { use crate::a::A; }\n"),
            source("d/tests.rs", "use crate::a::A;\n"),
            source("lib.rs", "pub use crate::a::A;\n"),
        ];
        assert_eq!(check(&sources), Vec::<String>::new());
        sources.push(source("d/more.rs", "use crate::b::B;\n"));
        let found = check(&sources);
        let by_file = "crates/coap/src/: files import one another in a circle: b/inner, c, d";
        let by_folder = "crates/coap/src/: modules import one another in a circle: b, c, d";
        assert_eq!(found, [by_folder]);
        sources.push(source("d.rs", "use super::b::inner::Inner;\n"));
        assert_eq!(check(&sources), [by_file, by_folder]);
    }
}
