//! Checks that the pure crates stay pure, and that dependencies point downward.
//!
//! `clippy.toml` keeps clocks, sockets, files, threads and global randomness out of their code. clippy cannot detect an opt-out of that lint, or a
//! dependency with its own clock: this module checks both.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::Program;
use crate::tree;

/// A pure crate, and the crates of the workspace that it may use.
struct Pure {
    name: &'static str,
    ours: &'static [&'static str],
}

const PURE: &[Pure] = &[
    Pure { name: "splitmix", ours: &[] },
    Pure { name: "coap", ours: &["splitmix"] },
    Pure { name: "dtls", ours: &[] },
    Pure { name: "pki", ours: &[] },
    Pure { name: "link", ours: &["splitmix"] },
    Pure { name: "authority", ours: &["pki"] },
    Pure { name: "est", ours: &["splitmix", "dtls", "coap", "pki", "authority"] },
];

/// Packages without socket, thread or global state that a pure crate may use. `ring` and `rcgen` draw from the system only through
/// `SystemRandom`, whose constructor clippy forbids; `p256` and `p384` are built without their feature `getrandom`; the functions of `time` and `rustls-pki-types` that read a clock are forbidden by clippy
/// too.
const PACKAGES: &[&str] = &[
    "aes",
    "aes-kw",
    "base64",
    "cbc",
    "ccm",
    "dashmap",
    "hex",
    "p256",
    "p384",
    "rcgen",
    "ring",
    "rustls-pki-types",
    "rustls-webpki",
    "slab",
    "subtle",
    "time",
    "x509-parser",
    "zeroize",
];

/// The names of the pure crates.
pub(super) fn crates() -> impl Iterator<Item = &'static str> {
    PURE.iter().map(|pure| pure.name)
}

pub(super) fn check() -> Result<()> {
    let mut findings = forbidden_dependencies(&metadata()?)?;
    for pure in PURE {
        for file in tree::files(&[".rs"])?.iter().filter(|file| file.starts_with(&format!("crates/{}/src/", pure.name)))
        {
            findings.extend(opt_outs(file, &tree::read(file)?));
        }
    }
    if !findings.is_empty() {
        bail!("{}", findings.join("\n      "));
    }
    Ok(())
}

fn metadata() -> Result<Value> {
    let cargo = Program::line("cargo metadata --format-version 1 --no-deps --locked").directory(&tree::root());
    Ok(serde_json::from_str(&cargo.expect_success()?.stdout)?)
}

fn forbidden_dependencies(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut findings = Vec::new();
    for pure in PURE {
        let package = packages
            .iter()
            .find(|package| package["name"] == pure.name)
            .with_context(|| format!("there is no crate {}", pure.name))?;
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        // `kind` is null for dependencies of the crate itself, "dev" for those of its tests.
        for name in dependencies
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
        {
            if !pure.ours.contains(&name) && !PACKAGES.contains(&name) {
                findings.push(format!("crates/{}: a pure crate must not depend on {name}", pure.name));
            }
        }
    }
    Ok(findings)
}

/// Only tests may opt out: they come last in a file, or have their own file.
fn opt_outs(file: &str, text: &str) -> Vec<String> {
    if file.ends_with("/tests.rs") || file.contains("/tests/") {
        return Vec::new();
    }
    let shipped = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    let found = shipped.filter(|(_, line)| line.contains("disallowed_methods") || line.contains("disallowed_types"));
    found.map(|(number, _)| format!("{file}:{}: a pure crate must not opt out of its purity", number + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_in_a_pure_crate_is_found_and_one_in_its_tests_is_not() {
        let package = |name: &str| {
            let kind_of_mio = if name == "dtls" { Value::Null } else { "dev".into() };
            serde_json::json!({ "name": name, "dependencies": [{ "name": "ring", "kind": null }, { "name": "mio", "kind": kind_of_mio }] })
        };
        let packages: Vec<Value> = PURE.iter().map(|pure| package(pure.name)).collect();
        let findings = forbidden_dependencies(&serde_json::json!({ "packages": packages })).unwrap();
        assert_eq!(findings, ["crates/dtls: a pure crate must not depend on mio"]);
    }

    #[test]
    fn the_engines_must_not_see_each_other() {
        let package =
            |name: &str| serde_json::json!({ "name": name, "dependencies": [{ "name": "coap", "kind": null }] });
        let packages: Vec<Value> = PURE.iter().map(|pure| package(pure.name)).collect();
        let findings = forbidden_dependencies(&serde_json::json!({ "packages": packages })).unwrap();
        assert!(findings.contains(&"crates/dtls: a pure crate must not depend on coap".to_owned()));
        assert!(!findings.iter().any(|finding| finding.starts_with("crates/est:")));
    }

    #[test]
    fn an_opt_out_is_found_before_the_tests_only() {
        let text = "#![allow(clippy::disallowed_methods)]\n#[cfg(test)]\n#[allow(clippy::disallowed_methods)]\n";
        assert_eq!(opt_outs("crates/dtls/src/lib.rs", text).len(), 1);
    }
}
