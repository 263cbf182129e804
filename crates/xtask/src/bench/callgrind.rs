//! Reads callgrind's profiles: all instructions, and those outside the cryptographic libraries.
//!
//! The libraries execute nine of ten instructions of an enrolment: a change of one per cent of the sum can hide a protocol that became ten per cent more
//! expensive. Therefore the rest is counted and gated separately.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};

/// The cryptographic libraries, by package. `core_arch` holds the processor's AES and vector instructions, which only these libraries
/// use here.
const LIBRARIES: &[&str] = &[
    "ring",
    "aes",
    "ccm",
    "ctr",
    "cipher",
    "aead",
    "sha2",
    "p256",
    "crypto-bigint",
    "hybrid-array",
    "inout",
    "dbl",
    "core-arch",
];
/// Substrings of a symbol that mark ring's C and assembly.
const RING_SYMBOLS: &[&str] = &["ring_core", "nistz256", "aesni", "vpaes", "aes_gcm", "sha256_block", "sha512_block"];

/// The instructions that one benchmark executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instructions {
    pub(super) all: u64,
    pub(super) outside_cryptography: u64,
}

/// Instructions by component: one of our crates, a package, `allocator`, `memory` (copies and comparisons), or `other`.
pub(super) type Components = BTreeMap<String, u64>;

/// Sums a profile.
pub(super) fn read(profile: &str) -> Result<Instructions> {
    let components = components(profile)?;
    let outside = components.iter().filter(|(name, _)| !LIBRARIES.contains(&name.as_str()));
    Ok(Instructions { all: components.values().sum(), outside_cryptography: outside.map(|(_, cost)| cost).sum() })
}

/// Sums a profile by component.
pub(super) fn components(profile: &str) -> Result<Components> {
    sum(profile, |file, function| Some(component(file, function)))
}

/// Sums the instructions outside the cryptographic libraries by function, as compiled: inlined code counts for the function that
/// contains it.
pub(super) fn functions(profile: &str) -> Result<Components> {
    sum(profile, |file, function| {
        let outside = !LIBRARIES.contains(&component(file, function).as_str());
        outside.then(|| undecorated(function).to_owned())
    })
}

/// The name without the recursion mark and without the hash, which differs in each build.
fn undecorated(function: &str) -> &str {
    let function = function.split_once('\'').map_or(function, |(function, _)| function);
    match function.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => function,
    }
}

/// Sums a profile by the key that `key` derives from file and function. Its grammar is Valgrind's "Callgrind Format Specification": a name may be given once as `(7) name` and
/// then as `(7)`; a `calls=` line is followed by the inclusive cost of the call, which belongs to the callee's own lines.
fn sum(profile: &str, key: impl Fn(&str, &str) -> Option<String>) -> Result<Components> {
    let mut names = Names::default();
    let mut sum = Components::new();
    let (mut file, mut function) = (String::new(), String::new());
    let mut skip_inclusive = false;
    for line in profile.lines() {
        if let Some((key, value)) =
            line.split_once('=').filter(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase()))
        {
            match key {
                "fl" | "fi" | "fe" => file = names.resolve("file", value)?,
                "fn" => function = names.resolve("function", value)?,
                "cfl" | "cfi" => drop(names.resolve("file", value)?),
                "cfn" => drop(names.resolve("function", value)?),
                "calls" => skip_inclusive = true,
                _ => {}
            }
            continue;
        }
        let Some(cost) = cost_of(line) else { continue };
        if !std::mem::take(&mut skip_inclusive)
            && let Some(key) = key(&file, &function)
        {
            *sum.entry(key).or_default() += cost;
        }
    }
    Ok(sum)
}

/// The owner of a line: judged by the line's file, so that inlined code counts for its author; for lines of the standard library, judged by the function
/// that contains them.
fn component(file: &str, function: &str) -> String {
    if RING_SYMBOLS.iter().any(|part| function.contains(part)) {
        return "ring".to_owned();
    }
    if let Some(package) = file.split("/registry/src/").nth(1).and_then(|rest| rest.split('/').nth(1)) {
        // `rustls-webpki-0.103.17` is `rustls-webpki`.
        let version = package
            .rmatch_indices('-')
            .map(|(at, _)| at)
            .find(|at| package[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
        return package[..version.unwrap_or(package.len())].to_owned();
    }
    if let Some(ours) = file.split("crates/").nth(1).and_then(|rest| rest.split('/').next()) {
        return ours.to_owned();
    }
    if file.contains("malloc") || function.starts_with("malloc") || function == "free" {
        return "allocator".to_owned();
    }
    if file.contains("/multiarch/") || function.starts_with("mem") || function.starts_with("__mem") {
        return "memory".to_owned();
    }
    let path = function.trim_start_matches(['<', '&', '(', '[']);
    let owner: String = path.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    if path[owner.len()..].starts_with("::") && !matches!(owner.as_str(), "core" | "alloc" | "std") {
        owner.replace('_', "-")
    } else {
        "other".to_owned()
    }
}

/// A cost line is a position (`12`, `+3`, `-1`, `*`) and the events, with instructions first.
fn cost_of(line: &str) -> Option<u64> {
    let (position, events) = line.split_once(' ')?;
    let position = position.trim_start_matches(['+', '-', '*']);
    position.bytes().all(|byte| byte.is_ascii_digit()).then(|| events.split(' ').next()?.parse().ok())?
}

/// Names by kind and number.
#[derive(Default)]
struct Names(HashMap<(&'static str, String), String>);

impl Names {
    fn resolve(&mut self, kind: &'static str, value: &str) -> Result<String> {
        // `(7)` is a number, `(below main)` a name.
        let is_number = |(number, _): &(&str, &str)| number.bytes().all(|byte| byte.is_ascii_digit());
        let Some((number, name)) = value.strip_prefix('(').and_then(|rest| rest.split_once(')')).filter(is_number)
        else {
            return Ok(value.to_owned());
        };
        let key = (kind, number.to_owned());
        let name = name.trim();
        if name.is_empty() {
            return self
                .0
                .get(&key)
                .cloned()
                .with_context(|| format!("the profile uses {kind} ({number}) before it names it"));
        }
        self.0.insert(key, name.to_owned());
        Ok(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "version: 1\npositions: line\nevents: Ir\n\nfl=(1) /work/crates/dtls/src/lib.rs\nfn=(1) dtls::accept\n10 100\n+2 5\ncfi=(2) /registry/src/index-1/ring-0.17.14/src/ec.rs\ncfn=(2) ring::sign\ncalls=1 7\n* 900\nfi=(2)\n3 40\nfe=(1)\n-1 1\n\nfl=(2)\nfn=(2)\n7 900\n\nfl=(3) ???\nfn=(3) ring_core_0_17_14__p256_mul\n0 50\n\ntotals: 1096\n";

    #[test]
    fn the_sum_is_callgrind_s_own_and_calls_are_not_counted_twice() {
        assert_eq!(read(PROFILE).unwrap().all, 1096);
    }

    #[test]
    fn inlined_library_code_is_the_library_s() {
        assert_eq!(read(PROFILE).unwrap().outside_cryptography, 106);
    }

    #[test]
    fn functions_of_two_builds_have_one_name() {
        assert_eq!(functions(PROFILE).unwrap(), Components::from([("dtls::accept".to_owned(), 106)]));
        assert_eq!(undecorated("dtls::accept::h0123456789abcdef"), "dtls::accept");
        assert_eq!(undecorated("dtls::accept::h0123456789abcdef'2"), "dtls::accept");
        assert_eq!(undecorated("dtls::hello"), "dtls::hello");
    }

    #[test]
    fn whose_code_a_line_is() {
        let registry = "/home/x/registry/src/index.crates.io-1/rustls-webpki-0.103.17/src/verify_cert.rs";
        assert_eq!(component(registry, "est::verify"), "rustls-webpki");
        assert_eq!(component("crates/coap/src/message.rs", "est::server::handle"), "coap");
        assert_eq!(
            component("/rustc/1/library/core/src/slice/iter.rs", "<dtls::wire::Reader as core::iter::Iterator>::next"),
            "dtls"
        );
        assert_eq!(component("???", "__ecp_nistz256_mul_montq"), "ring");
        assert_eq!(component("./malloc/./malloc/malloc.c", "_int_malloc"), "allocator");
        assert_eq!(
            component("../sysdeps/x86_64/multiarch/memmove-vec-unaligned-erms.S", "__memcpy_avx_unaligned_erms"),
            "memory"
        );
        assert_eq!(component("/rustc/1/library/std/src/x.rs", "std::x"), "other");
    }

    #[test]
    fn a_profile_may_spell_every_name_out() {
        let profile = "fl=???\nfn=0x1ab70\ncfi=???\ncfn=(below main)\ncalls=1 0 \n0 70 3\nfl=a.rs\nfn=f\n1 70 3\n";
        assert_eq!(read(profile).unwrap(), Instructions { all: 70, outside_cryptography: 70 });
    }

    #[test]
    fn a_number_that_was_never_named_is_an_error() {
        assert!(read("fl=(9)\n1 1\n").is_err());
    }
}
