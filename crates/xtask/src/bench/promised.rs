//! `cargo xtask bench counts`: what tests count for the promises that are not about time. The same on every machine, so that one run decides.
//!
//! A test prints `counted NAME VALUE` beside its assertion. The names are [`PROMISED`]: one that no test prints is a failure, as is one that nobody knows.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use super::facts::TimingFacts;
use super::run_file::RunFile;
use crate::cargo;

#[derive(Args)]
pub(crate) struct CountsOptions {
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The tests that count.
const TESTS: &str = "test --quiet --locked --package dtls --test stories allocations:: -- --nocapture --test-threads 1";
/// What they count, and the most that is promised.
pub(super) const PROMISED: &[(&str, u64)] = &[
    ("handshake_bytes_between_datagrams", 4 * 1024),
    ("handshake_bytes_within_a_datagram", 48 * 1024),
    ("handshake_bytes_at_worst", 48 * 1024),
    ("handshake_bytes_at_worst_in_the_pool", 48 * 1024),
    ("allocations_of_a_million_cookieless_hellos", 0),
    ("entries_of_a_million_cookieless_hellos", 0),
    ("allocations_of_600_datagrams_of_established_sessions", 0),
];

#[derive(Serialize)]
struct CountsRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: &'static str,
    tests: String,
    counts: BTreeMap<String, u64>,
}

pub(super) fn run(options: &CountsOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let counts = read(&cargo::cargo(TESTS).expect_success()?.stdout)?;
    for (name, count) in &counts {
        println!("   {name}: {count}");
    }
    let record = CountsRecord {
        schema: "muster-counts/1",
        command: "cargo xtask bench counts",
        tests: format!("cargo {TESTS}"),
        counts,
        facts,
    };
    RunFile::write("counts", &record.facts.at, options.json.as_deref(), &record)?;
    for (name, most) in PROMISED {
        let count = record.counts[*name];
        ensure!(count <= *most, "{name}: {count}, and at most {most} are promised");
    }
    Ok(())
}

/// Reads the lines of the tests. A test harness may print the name of its test in front of one.
fn read(printed: &str) -> Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for line in printed.lines() {
        let Some((_, counted)) = line.split_once("counted ") else { continue };
        let Some((name, count)) = counted.split_once(' ') else { continue };
        if !PROMISED.iter().any(|(promised, _)| *promised == name) {
            bail!("a test counts {name}, for which nothing is promised");
        }
        counts.insert(name.to_owned(), count.trim().parse().with_context(|| format!("{line} has no number"))?);
    }
    let missing: Vec<&str> =
        PROMISED.iter().map(|(name, _)| *name).filter(|name| !counts.contains_key(*name)).collect();
    ensure!(missing.is_empty(), "no test counts {missing:?}");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promised_count_is_printed_and_no_other() {
        let line = |(name, most): &(&str, u64)| format!("test x ... counted {name} {most}\n");
        let all: String = PROMISED.iter().map(line).collect();
        assert_eq!(read(&all).unwrap()["handshake_bytes_between_datagrams"], 4096);
        assert!(read(all.split_once('\n').unwrap().1).unwrap_err().to_string().contains("no test counts"));
        assert!(read(&format!("{all}counted something_else 4\n")).is_err());
    }
}
