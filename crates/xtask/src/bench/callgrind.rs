//! Reads the profiles that callgrind writes: instructions in all, and those outside the cryptographic libraries.
//!
//! Of one enrolment's instructions nine in ten are the libraries': one per cent of the sum hides a protocol that became ten per cent dearer. The rest is
//! therefore counted, and gated, by itself.

use anyhow::{Context, Result};
use std::collections::HashMap;

/// Parts of a source path that mean a cryptographic library.
const LIBRARY_PATHS: &[&str] = &[
    "/ring-",
    "/aes-",
    "/ccm-",
    "/ctr-",
    "/cipher-",
    "/aead-",
    "/sha2-",
    "/p256-",
    "/crypto-bigint-",
    "/hybrid-array-",
    "/inout-",
    "/dbl-",
];
/// Parts of a symbol that mean ring: its assembly, and what of the standard library is inlined into it.
const LIBRARY_SYMBOLS: &[&str] = &[
    "ring::",
    "ring_core",
    "nistz256",
    "aesni",
    "vpaes",
    "aes_gcm",
    "gcm_",
    "sha256_block",
    "sha512_block",
    "bn_mul",
    "bn_sqr",
    "p256_",
    "p384_",
];

/// What one benchmark executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instructions {
    pub(super) all: u64,
    pub(super) outside_cryptography: u64,
}

/// Sums a profile. Its grammar is Valgrind's "Callgrind Format Specification": names are given once as `(7) name` and then as `(7)`; a `calls=` line is
/// followed by the inclusive cost of the call, which belongs to the callee's own lines.
pub(super) fn read(profile: &str) -> Result<Instructions> {
    let mut names = Names::default();
    let mut sum = Instructions { all: 0, outside_cryptography: 0 };
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
        if std::mem::take(&mut skip_inclusive) {
            continue;
        }
        sum.all += cost;
        if !is_cryptography(&file, &function) {
            sum.outside_cryptography += cost;
        }
    }
    Ok(sum)
}

/// A cost line is a position (`12`, `+3`, `-1`, `*`) and the events, instructions first.
fn cost_of(line: &str) -> Option<u64> {
    let (position, events) = line.split_once(' ')?;
    let position = position.trim_start_matches(['+', '-', '*']);
    position.bytes().all(|byte| byte.is_ascii_digit()).then(|| events.split(' ').next()?.parse().ok())?
}

fn is_cryptography(file: &str, function: &str) -> bool {
    LIBRARY_PATHS.iter().any(|part| file.contains(part)) || LIBRARY_SYMBOLS.iter().any(|part| function.contains(part))
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

    const PROFILE: &str = "version: 1\npositions: line\nevents: Ir\n\nfl=(1) /work/crates/dtls/src/lib.rs\nfn=(1) dtls::accept\n10 100\n+2 5\ncfi=(2) /registry/ring-0.17.14/src/ec.rs\ncfn=(2) ring::sign\ncalls=1 7\n* 900\nfi=(2)\n3 40\nfe=(1)\n-1 1\n\nfl=(2)\nfn=(2)\n7 900\n\nfl=(3) ???\nfn=(3) ring_core_0_17_14__p256_mul\n0 50\n\ntotals: 1096\n";

    #[test]
    fn the_sum_is_callgrind_s_own_and_calls_are_not_counted_twice() {
        assert_eq!(read(PROFILE).unwrap().all, 1096);
    }

    #[test]
    fn inlined_library_code_is_the_library_s() {
        assert_eq!(read(PROFILE).unwrap().outside_cryptography, 106);
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
