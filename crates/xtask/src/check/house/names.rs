//! Names of types: one meaning for each name in the workspace, suffixes that classify errors, and no bools in disguise.

use std::collections::{BTreeMap, BTreeSet};

/// Public names that several crates use, and why each has one meaning.
const SHARED: &[(&str, &str)] = &[
    ("Client", "each protocol layer's client: users write `dtls::Client`, `est::Client`"),
    ("ClientConfig", "the configuration of each layer's `Client`"),
    ("ClientEvent", "the events of each layer's `Client`"),
    ("PublicKeyDone", "`est`'s is an alias for `dtls`'s with the device verifier"),
    ("PublicKeyJob", "`est`'s is an alias for `dtls`'s with the device verifier"),
    ("Random", "deliberately identical: `authority` and `dtls` do not depend on each other"),
    ("ServerConfig", "the configuration of each layer's server"),
];

/// The crates that read and write formats and may call a type `…Error`: the bytes are wrong.
const ERRORS: &[&str] = &["coap", "pki"];
/// The crates that only read and write formats and call no type `…Fault`.
const NO_FAULTS: &[&str] = &["pki"];

/// How the name of a type that implements `std::error::Error` ends.
const SUFFIXES: &[&str] = &["Error", "Failure", "Fault", "Faults", "Flaw", "Refusal"];

/// A type's declaration.
#[derive(Debug, PartialEq, Eq)]
struct Declared<'a> {
    name: &'a str,
    public: bool,
    /// An alias for a type that is declared elsewhere.
    alias: bool,
    line: usize,
}

/// All findings over the sources, given as (file, text).
pub(super) fn check(sources: &[(String, String)]) -> Vec<String> {
    let mut found = doubles(&public_types(sources));
    found.extend(suffixes(sources));
    for (file, text) in sources {
        found.extend(disguised_bools(file, text));
    }
    found
}

/// The number of public types, and of names that stand for more than one.
pub(super) fn summary(sources: &[(String, String)]) -> String {
    let types = public_types(sources);
    let shared = types.values().filter(|places| places.len() > 1).count();
    format!("{} names of public types, {shared} of them in several crates", types.len())
}

/// The name of each public type, and where it is declared.
fn public_types(sources: &[(String, String)]) -> BTreeMap<&str, Vec<String>> {
    let mut types: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (file, text) in sources.iter().filter(|(file, _)| file.contains("/src/")) {
        for declared in declarations(text).filter(|declared| declared.public) {
            types.entry(declared.name).or_default().push(format!("{file}:{}", declared.line));
        }
    }
    types
}

fn doubles(types: &BTreeMap<&str, Vec<String>>) -> Vec<String> {
    let shared: BTreeSet<&str> = SHARED.iter().map(|(name, _)| *name).collect();
    let double = types.iter().filter(|(_, places)| places.len() > 1);
    let mut found: Vec<String> = double
        .clone()
        .filter(|(name, _)| !shared.contains(*name))
        .map(|(name, places)| format!("`{name}` stands for {} public types: {}", places.len(), places.join(", ")))
        .collect();
    let needed: BTreeSet<&str> = double.map(|(name, _)| *name).collect();
    found.extend(shared.difference(&needed).map(|name| format!("`{name}` no longer needs an exception for its name")));
    found
}

/// Types declared before the tests of a file.
fn declarations(text: &str) -> impl Iterator<Item = Declared<'_>> {
    let lines = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines.filter_map(|(number, line)| {
        let declaration = line.trim_start();
        let public = declaration.starts_with("pub ");
        let inner = declaration.strip_prefix("pub(").and_then(|rest| rest.split_once(") ")).map(|(_, rest)| rest);
        let rest = inner.or_else(|| declaration.strip_prefix("pub ")).unwrap_or(declaration);
        let alias = rest.starts_with("type ");
        // A type in a trait belongs to that trait.
        if alias && line.starts_with(' ') {
            return None;
        }
        let rest = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| rest.strip_prefix(kind))?;
        let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?;
        name.starts_with(char::is_uppercase).then_some(Declared { name, public, alias, line: number + 1 })
    })
}

/// `…Error` means wrong bytes, in the crates that read and write formats, and implements `std::error::Error`; `…Fault` means wrong configuration, a
/// wrong call or a failed resource.
fn suffixes(sources: &[(String, String)]) -> Vec<String> {
    let mut found = Vec::new();
    for (file, text) in sources.iter().filter(|(file, _)| file.contains("/src/")) {
        let is_in = |crates: &[&str]| crates.iter().any(|name| file.starts_with(&format!("crates/{name}/")));
        for Declared { name, line, .. } in declarations(text).filter(|declared| !declared.alias) {
            if name.ends_with("Error") && !is_in(ERRORS) {
                found.push(format!("{file}:{line}: `{name}` is not about the bytes of a format: call it a `Fault`"));
            }
            if name.ends_with("Fault") && is_in(NO_FAULTS) {
                found.push(format!(
                    "{file}:{line}: `{name}` is about the bytes of a format: call it an `Error`, or its cause a `Flaw`"
                ));
            }
            let heads = [format!("Error for {name} {{"), format!("Error for {name}<")];
            let implemented = || sources.iter().any(|(_, text)| heads.iter().any(|head| text.contains(head)));
            if name.ends_with("Error") && !implemented() {
                found.push(format!(
                    "{file}:{line}: `{name}` must implement `std::error::Error`, or be a `Flaw` inside an error"
                ));
            }
        }
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with("impl")) {
            let Some((_, rest)) = line.split_once("Error for ") else { continue };
            let name = rest.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or_default();
            if !SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
                found.push(format!(
                    "{file}:{}: the error `{name}` ends in none of {}",
                    number + 1,
                    SUFFIXES.join(", ")
                ));
            }
        }
    }
    found
}

/// An enum of yes and no is a bool; its variants must say what they do.
fn disguised_bools(file: &str, text: &str) -> Vec<String> {
    const ANSWERS: &[&str] = &["Yes", "No", "On", "Off", "True", "False"];
    let mut found = Vec::new();
    let mut in_enum = false;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        let opens = line.split_whitespace().any(|word| word == "enum") && !trimmed.starts_with("//");
        in_enum = opens || (in_enum && trimmed != "}");
        let body = if opens { trimmed.split_once('{').map_or("", |(_, body)| body) } else { trimmed };
        let variants = body.split([',', '}']).map(str::trim);
        for answer in variants.filter(|variant| in_enum && ANSWERS.contains(variant)) {
            found.push(format!("{file}:{}: a variant `{answer}` is half a bool: name it by what it does", number + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(file: &str, text: &str) -> (String, String) {
        (file.to_owned(), text.to_owned())
    }

    #[test]
    fn a_name_that_stands_for_two_public_types_is_found() {
        let sources = [
            source(
                "crates/a/src/x.rs",
                "pub struct Outcome;\npub(crate) struct Own;\n#[cfg(test)]\npub struct InTests;\n",
            ),
            source(
                "loadgen/src/y.rs",
                "pub enum Outcome<'a> {}\nstruct Own;\npub struct InTests;\n    type Outcome = ();\n",
            ),
            source("crates/a/tests/z.rs", "pub struct Outcome;\n"),
        ];
        let found = doubles(&public_types(&sources));
        assert_eq!(found[0], "`Outcome` stands for 2 public types: crates/a/src/x.rs:1, loadgen/src/y.rs:1");
        assert_eq!(found.len(), 1 + SHARED.len(), "an exception that nothing needs is a finding too");
        assert_eq!(summary(&sources), "2 names of public types, 1 of them in several crates");
    }

    #[test]
    fn a_suffix_says_what_an_error_is() {
        let bad = [
            source("crates/pki/src/a.rs", "pub enum KeyFault {}\nimpl std::error::Error for KeyFault {}\n"),
            source("crates/net/src/a.rs", "enum BindError {}\nimpl Error for BindError {}\n"),
            source("crates/coap/src/a.rs", "pub(crate) struct NotOneError;\npub type LikeError = ();\n"),
            source("loadgen/src/a.rs", "struct NotAFile;\nimpl std::error::Error for NotAFile {}\n"),
        ];
        assert_eq!(suffixes(&bad).len(), 4, "{:?}", suffixes(&bad));
        let good = [
            source("crates/pki/src/a.rs", "pub enum DerError {}\nimpl Error for DerError {}\npub enum CsrFlaw {}\n"),
            source("crates/pki/src/b.rs", "pub struct AtError<F>(F);\nimpl<F> Error for AtError<F> {}\n"),
            source("crates/net/src/a.rs", "pub enum BindFault {}\n"),
        ];
        assert!(suffixes(&good).is_empty());
    }

    #[test]
    fn a_bool_in_disguise_is_found() {
        assert_eq!(disguised_bools("a.rs", "enum Named {\n    /// Not.\n    No,\n    Yes,\n}\n").len(), 2);
        assert_eq!(disguised_bools("a.rs", &format!("pub enum Switch {{ {}, {} }}\n", "On", "Off")).len(), 2);
        assert!(disguised_bools("a.rs", "enum Way {\n    On(u8),\n}\nmatch a {\n    No,\n}\n").is_empty());
    }
}
