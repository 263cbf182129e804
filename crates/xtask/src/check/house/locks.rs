//! The fuzzer is a workspace of its own, with a lock of its own, which no other check builds. It has to build as it is, and from the versions that the
//! server is built from.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use toml::{Table, Value};

use crate::tree;

const FUZZER: &str = "fuzz/Cargo.lock";

/// A lock file of cargo, as far as it matters here.
#[derive(Deserialize)]
struct Lock {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    /// Missing for our own.
    source: Option<String>,
    /// Each begins with a name.
    #[serde(default)]
    dependencies: Vec<String>,
}

pub(super) fn check() -> Result<Vec<String>> {
    let read = |path: &str| toml::from_str::<Lock>(&tree::read(path)?).with_context(|| format!("cannot read {path}"));
    let fuzzer = read(FUZZER)?;
    let mut found = other_versions(&fuzzer, &read("Cargo.lock")?);
    for package in fuzzer.package.iter().filter(|package| package.source.is_none() && package.name != "fuzz") {
        let folder = if package.name == "loadgen" { "loadgen" } else { &format!("crates/{}", package.name) };
        found.extend(missing(package, &tree::read(format!("{folder}/Cargo.toml"))?.parse()?));
    }
    if !found.is_empty() {
        found.push(format!("{FUZZER}: `cargo metadata` in its folder adds what is missing, `cargo update --precise` takes another version"));
    }
    Ok(found)
}

/// Packages of the fuzzer that the server has in other versions.
fn other_versions(fuzzer: &Lock, server: &Lock) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &server.package {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    let differs = |package: &&LockedPackage| {
        versions.get(&*package.name).is_some_and(|versions| !versions.contains(&*package.version))
    };
    let line = |package: &LockedPackage| {
        let LockedPackage { name, version, .. } = package;
        format!("{FUZZER}: {name} {version}, and the server is built from {:?}", versions[&**name])
    };
    fuzzer.package.iter().filter(differs).map(line).collect()
}

/// Dependencies in the manifest of one of our crates that its entry in the lock does not have.
fn missing(package: &LockedPackage, manifest: &Table) -> Vec<String> {
    let locked: BTreeSet<&str> =
        package.dependencies.iter().map(|line| line.split_once(' ').map_or(&**line, |(name, _)| name)).collect();
    let named = manifest.get("dependencies").and_then(Value::as_table).into_iter().flatten();
    let required = named.filter(|(_, value)| value.get("optional").and_then(Value::as_bool) != Some(true));
    let missing = required.filter(|(name, _)| !locked.contains(name.as_str()));
    missing.map(|(name, _)| format!("{FUZZER}: {} depends on {name} now", package.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(text: &str) -> Lock {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn another_version_than_the_servers_is_found() {
        let of = |version| {
            lock(&format!(
                "[[package]]\nname = \"a\"\nversion = \"{version}\"\n[[package]]\nname = \"b\"\nversion = \"1\"\n"
            ))
        };
        assert_eq!(other_versions(&of("1.0.0"), &of("1.0.0")), Vec::<String>::new());
        let found = other_versions(&of("1.0.1"), &of("1.0.0"));
        assert_eq!(found, ["fuzz/Cargo.lock: a 1.0.1, and the server is built from {\"1.0.0\"}"]);
    }

    #[test]
    fn a_dependency_that_the_lock_does_not_have_is_found() {
        let package = "[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\ndependencies = [\"a\", \"b 1.0.0\"]\n";
        let package = lock(package).package.remove(0);
        let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\nc.workspace = true\nd = { version = \"1\", optional = true }\n[dev-dependencies]\ne = \"1\"\n";
        assert_eq!(missing(&package, &manifest.parse().unwrap()), ["fuzz/Cargo.lock: ours depends on c now"]);
    }
}
