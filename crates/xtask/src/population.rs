//! `cargo xtask population`: a million sessions of one server end at the same instant. The last result is committed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bench::facts::TimingFacts;
use crate::{cargo, tree};

/// The number of sessions of the committed result.
pub(crate) const SESSIONS: u32 = 1_000_000;
/// The file of the committed result.
const RESULT: &str = "crates/sim/results/population.txt";
/// Three times a million handshakes, both ends of each, on one core: up to an hour.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// Runs it and prints the result; keeps the result of a full run.
pub(crate) fn run(sessions: u32) -> Result<()> {
    let facts = TimingFacts::here();
    let line = format!("run --quiet --release --locked -p sim --example population -- {sessions}");
    let began = Instant::now();
    let (status, found) = cargo::cargo(&line).timeout(TIMEOUT).stdout()?;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let TimingFacts { commit, at, cpu, rustc, .. } = facts;
    let report = format!(
        "cargo xtask population --sessions {sessions}\ncommit {commit}, begun {at}, {minutes:.1} min; {cpu}; {rustc}\n\
         Everything derives from seed 90, so that another run prints the same figures.\n\n{found}"
    );
    print!("{report}");
    if sessions == SESSIONS {
        tree::write(&tree::root().join(RESULT), &report)?;
        println!("written: {RESULT}");
    }
    if !status.success() {
        bail!("the population test failed: {status}");
    }
    Ok(())
}
