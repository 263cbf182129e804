//! `cargo xtask population`: a million sessions of one server end in one instant. The last result is committed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bench::facts::TimingFacts;
use crate::{cargo, tree};

/// What the committed result is of.
pub(crate) const SESSIONS: u32 = 1_000_000;
/// Where it lies.
const RESULT: &str = "crates/sim/results/population.txt";
/// Three times a million handshakes, both ends of each, on one core: up to an hour.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// Runs it, prints what it found and keeps that of a whole run.
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
        bail!("a promise is not kept: {status}");
    }
    Ok(())
}
