//! `cargo xtask seams`: tests that the walk of client authentication detects a missing check. `cargo xtask walk`: the
//! long walk.
//!
//! A seam is a `#[cfg(not(muster_seam = ".."))]` in crates/dtls that leaves one check out of a build. Each such build runs `tests/walk.rs`, which must fail
//! for the right reason: a handshake other than the honest one completed. See `cargo::wrapper` for how it is set. A
//! release build with the cfg does not compile.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::cargo;

/// The checks that can be left out.
const SEAMS: &[&str] = &["certificate_verify", "empty_certificate", "finished"];
/// The walk prints this when a handshake completed that must not.
const COMPLETED: &str = "completed, and is not the honest path: ";
/// Time for one build of crates/dtls and its walk.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Time for the words of seven letters, which take hours.
const WALK_TIMEOUT: Duration = Duration::from_secs(48 * 3600);

/// Runs every seam; the walk must detect each.
pub(crate) fn run() -> Result<()> {
    let mut unnoticed = Vec::new();
    for seam in SEAMS {
        match notice(seam)? {
            Some(walk) => println!("   without {seam}: detected, e.g. {walk}"),
            None => unnoticed.push(*seam),
        }
    }
    if !unnoticed.is_empty() {
        bail!("the walk does not detect these missing checks: {}", unnoticed.join(", "));
    }
    Ok(())
}

/// Runs the long walk, in a release build, with the arguments of crates/dtls/examples/walk.rs.
pub(crate) fn walk(arguments: &[String]) -> Result<()> {
    let program = cargo::cargo("run --quiet --release --locked -p dtls --example walk --");
    program.args(arguments).timeout(WALK_TIMEOUT).stream()
}

/// Builds without one check and runs the walk; returns the first walk that must not have completed.
fn notice(seam: &str) -> Result<Option<String>> {
    let wrapper = wrapper(seam)?;
    // With the features of the whole workspace the dependencies are those that the tests were built with; of dtls alone they would be built again.
    let walk = "test --quiet --locked --workspace --exclude xtask --test walk";
    let build = cargo::cargo(&format!("{walk} --no-run")).timeout(TIMEOUT);
    build.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).expect_success()?;
    // The words after the hello cover every handshake that a seam permits: the other prefixes cost time and add nothing.
    let test = cargo::cargo(&format!("{walk} -- impostors_after_the_hello")).timeout(TIMEOUT);
    let ended = test.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env("RUST_BACKTRACE", "0").output()?;
    let words = ended.stdout + &ended.stderr;
    let found = words.lines().find_map(|line| line.split(COMPLETED).nth(1).map(str::to_owned));
    match (ended.status.success(), found) {
        (true, _) => Ok(None),
        (false, Some(walk)) => Ok(Some(walk)),
        (false, None) => bail!("without {seam} the walk failed, but for another reason\n{words}"),
    }
}

/// A program that runs rustc without what this seam leaves out.
pub(crate) fn wrapper(seam: &str) -> Result<PathBuf> {
    cargo::wrapper(seam, &format!("muster_seam=\"{seam}\""))
}
