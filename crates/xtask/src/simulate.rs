//! `cargo xtask simulate`: a million enrolments in the simulator, of a server that crashes with its ledger; with `--registrar`, of a Registrar whose
//! upstreams fail and lie. The results are committed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bench::facts::TimingFacts;
use crate::{cargo, tree};

/// The number of enrolments of a committed result.
pub(crate) const ENROLMENTS: u64 = 1_000_000;
/// The file of the committed results, and the code that they cover.
pub(crate) const RESULTS: &str = "crates/sim/results/crashes.txt";
pub(crate) const COVERED: &[&str] = &["crates/authority/src", "crates/est/src", "crates/sim/src/crashing.rs"];
/// The same with a Registrar.
pub(crate) const RELAYED_RESULTS: &str = "crates/sim/results/registrar.txt";
pub(crate) const RELAYED_COVERED: &[&str] =
    &["crates/authority/src", "crates/est/src", "crates/registrar/src", "crates/sim/src/registrar"];
/// A million enrolments, both ends of each.
const TIMEOUT: Duration = Duration::from_secs(12 * 3600);

/// Runs it and prints the result; keeps the result of a full run.
pub(crate) fn run(enrolments: u64, from: u64, registrar: bool) -> Result<()> {
    let facts = TimingFacts::here();
    let (results, option) = if registrar { (RELAYED_RESULTS, " --registrar") } else { (RESULTS, "") };
    let line = format!(
        "run --quiet --release --locked -p sim --bin crashes -- --enrolments {enrolments} --from {from}{option}"
    );
    let began = Instant::now();
    let (status, found) = cargo::cargo(&line).timeout(TIMEOUT).stdout()?;
    print!("{found}");
    if enrolments >= ENROLMENTS {
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        let TimingFacts { commit, at, .. } = facts;
        let result = if status.success() { "passed" } else { "FAILED" };
        let first = found.lines().next().unwrap_or_default();
        let line = format!("commit {commit}, begun {at}, seeds from {from}, {minutes:.1} min, {result}: {first}\n");
        tree::append(results, &line)?;
    }
    if !status.success() {
        bail!("the simulation failed: {status}");
    }
    Ok(())
}
