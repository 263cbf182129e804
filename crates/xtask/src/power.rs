//! `cargo xtask power`: power losses under a working ledger, see crates/ledger/tests/power.rs. The result of a long run is committed.
//!
//! Builds that leave out one sync of the ledger each must lose something: see `seams` for how a build gets its cfg.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::bench::facts::TimingFacts;
use crate::process::Program;
use crate::seams::wrapper;
use crate::{cargo, tree};

/// The file of the committed results, one line for each run.
const RESULT: &str = "crates/ledger/results/power.txt";
/// Runs with fewer images say less than the tests, and are not kept.
const IMAGES_KEPT: usize = 10_000;
/// The syncs that can be left out of a build (crates/ledger/src/sqlite/connect.rs).
const SEAMS: &[&str] = &["ledger_synchronous", "ledger_log", "ledger_folder"];
/// Images within which a missing sync has to be noticed: a whole one is noticed within the first ten.
const SEAM_IMAGES: usize = 4_000;
/// The first seed of a seam: an odd one has syncs that fail, without which two of the seams change nothing.
const SEAM_SEED: u64 = 1;
/// Time for one build and its images.
const SEAM_TIMEOUT: Duration = Duration::from_secs(600);
/// Time for a million images.
const TIMEOUT: Duration = Duration::from_secs(12 * 3600);

#[derive(Args)]
pub(crate) struct PowerOptions {
    /// Disks to look at. The result is kept in crates/ledger/results/power.txt from 10,000 on
    #[arg(long, default_value_t = 20_000)]
    images: usize,
    /// The first seed: each trace has the next one
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the long form, and the seams after it.
pub(crate) fn run(options: &PowerOptions) -> Result<()> {
    let PowerOptions { images, seed } = options;
    let facts = TimingFacts::here();
    let began = Instant::now();
    let line = format!("run --quiet --locked -p ledger --example power -- {seed} {images}");
    let (status, found) = cargo::cargo(&line).timeout(TIMEOUT).stdout()?;
    print!("{found}");
    let seams = seams();
    let TimingFacts { commit, at, cpu, .. } = facts;
    let result = found.lines().last().unwrap_or("no result");
    let noticed = if seams.is_ok() { "each missing sync is noticed" } else { "A MISSING SYNC IS NOT NOTICED" };
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let report = format!("{at} commit {commit}, {minutes:.1} min, {cpu}: {result}; {noticed}\n");
    if *images >= IMAGES_KEPT {
        let before = tree::read(RESULT).unwrap_or_else(|_| "cargo xtask power\n".to_owned());
        tree::write(&tree::root().join(RESULT), &(before + &report))?;
        println!("written: {RESULT}");
    }
    if !status.success() {
        bail!("the power took something that was acknowledged: {status}");
    }
    seams
}

/// Builds the ledger without one sync, for each of them: a power loss must take something then.
pub(crate) fn seams() -> Result<()> {
    notice(SEAMS)
}

/// The same for one of them, because each is a build of its own. The tests leave out every kind of sync from the images that they look at.
pub(crate) fn one_seam() -> Result<()> {
    notice(&SEAMS[..1])
}

fn notice(seams: &[&str]) -> Result<()> {
    let mut unnoticed = Vec::new();
    for seam in seams {
        let wrapper = wrapper(seam)?;
        // `cargo run` has no `--workspace`, and with other features the dependencies would be built again.
        let build = cargo::cargo("build --quiet --locked --workspace --exclude xtask --example power");
        build.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).timeout(SEAM_TIMEOUT).expect_success()?;
        let power = Program::new(tree::target().join("debug/examples/power"));
        let seed_and_images = [SEAM_SEED.to_string(), SEAM_IMAGES.to_string()];
        let ended = power.arg("until-faulty").args(seed_and_images).timeout(SEAM_TIMEOUT).output()?;
        let loss = ended.stdout.lines().find_map(|line| line.strip_prefix("  seed "));
        match (ended.status.success(), loss) {
            (true, _) => unnoticed.push(*seam),
            (false, Some(loss)) => println!("   without {seam}: detected, e.g. seed {loss}"),
            (false, None) => bail!("without {seam} the ledger failed, but for another reason\n{}", ended.words()),
        }
    }
    if !unnoticed.is_empty() {
        bail!("power losses do not detect these missing syncs: {}", unnoticed.join(", "));
    }
    Ok(())
}
