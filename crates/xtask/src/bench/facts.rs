//! The facts besides our code that a figure depends on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::process::Program;
use crate::tree;

/// The features by which ring, RustCrypto and the C library choose their code at run time, as far as valgrind exposes them.
const FEATURES_UNDER_VALGRIND: &[&str] =
    &["aes", "avx", "avx2", "bmi1", "bmi2", "fma", "movbe", "pclmulqdq", "rdrand", "sse4_1", "sse4_2", "ssse3"];

/// The facts that instruction counts depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CountingFacts {
    pub(super) valgrind: String,
    pub(super) rustc: String,
    pub(super) libc: String,
    pub(super) cpu_features: String,
}

/// The facts that times depend on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TimingFacts {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) cpu_features: String,
    pub(crate) kernel: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    pub(crate) at: String,
}

impl CountingFacts {
    pub(super) fn here() -> Self {
        let present = cpu_flags();
        let features: Vec<&str> =
            FEATURES_UNDER_VALGRIND.iter().copied().filter(|feature| present.contains(*feature)).collect();
        Self {
            valgrind: say("valgrind --version"),
            rustc: say("rustc --version"),
            libc: say("getconf GNU_LIBC_VERSION"),
            cpu_features: features.join(" "),
        }
    }

    /// The facts that differ, in words; empty if the counts can be compared.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = [
            ("valgrind", &self.valgrind, &other.valgrind),
            ("rustc", &self.rustc, &other.rustc),
            ("C library", &self.libc, &other.libc),
            ("CPU features", &self.cpu_features, &other.cpu_features),
        ];
        pairs
            .iter()
            .filter(|(_, mine, theirs)| mine != theirs)
            .map(|(what, mine, theirs)| format!("{what}: {theirs} then, {mine} now"))
            .collect()
    }
}

impl TimingFacts {
    pub(crate) fn here() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, model)| model);
        let timing: Vec<String> =
            cpu_flags().into_iter().filter(|flag| TIMING_FEATURES.contains(&flag.as_str())).collect();
        let dirty = if is_committed() { "" } else { " with changes" };
        Self {
            cpu: model.to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu_features: timing.join(" "),
            kernel: say("uname -sr"),
            rustc: say("rustc --version"),
            commit: format!("{}{dirty}", say("git rev-parse --short=12 HEAD")),
            at: say("date -u +%Y-%m-%dT%H:%M:%SZ"),
        }
    }
}

/// Whether what is measured is what the last commit has. Results that a measurement has just written are not measured by the next one.
pub(super) fn is_committed() -> bool {
    let measured = [
        ".",
        ":(exclude)crates/sim/results",
        ":(exclude)benches/runs",
        ":(exclude)benches/history.jsonl",
        ":(exclude)README.md",
    ];
    let changed =
        Program::line("git status --porcelain --untracked-files=no --").args(measured).directory(&tree::root());
    changed.output().is_ok_and(|ended| ended.status.success() && ended.stdout.trim().is_empty())
}

/// The CPU features that determine the speed of P-256, AES and SHA-2.
const TIMING_FEATURES: &[&str] =
    &["adx", "aes", "avx2", "avx512ifma", "bmi2", "pclmulqdq", "sha_ni", "vaes", "vpclmulqdq"];

fn cpu_flags() -> BTreeSet<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = info
        .lines()
        .find(|line| line.starts_with("flags") || line.starts_with("Features"))
        .and_then(|line| line.split_once(':'));
    flags.map(|(_, flags)| flags.split_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

fn say(line: &str) -> String {
    Program::line(line)
        .directory(&tree::root())
        .output()
        .map(|ended| ended.stdout.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_compiler_is_named() {
        let then =
            CountingFacts { valgrind: "v".into(), rustc: "1.94".into(), libc: "l".into(), cpu_features: "aes".into() };
        let now = CountingFacts { rustc: "1.95".into(), ..then.clone() };
        assert_eq!(now.differences(&then), ["rustc: 1.94 then, 1.95 now"]);
        assert!(now.differences(&now.clone()).is_empty());
    }
}
