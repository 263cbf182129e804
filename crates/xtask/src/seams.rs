//! `cargo xtask seams`: would the walk of client authentication notice? `cargo xtask walk`: the long walk.
//!
//! A seam is a `#[cfg(not(muster_seam = ".."))]` in crates/dtls that leaves one check out of a build. Each such build runs `tests/walk.rs`, and must turn it
//! red for the right reason: a handshake completed that is not the honest one. A `RUSTC_WORKSPACE_WRAPPER` sets the cfg, because cargo gives it to our crates
//! only and files what it makes apart: the dependencies are those of every other build, and the normal build stays as it was. Nothing of the product can
//! set it: no feature, no build script, and a release that has it does not compile.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cargo;
use crate::tree;

/// The checks that can be left out.
const SEAMS: &[&str] = &["certificate_verify", "empty_certificate", "finished"];
/// What the walk says when a handshake completed that must not.
const COMPLETED: &str = "completed, and is not the honest path: ";
/// One build of crates/dtls and its walk.
const TIMEOUT: Duration = Duration::from_secs(600);
/// The words of seven letters take hours.
const WALK_TIMEOUT: Duration = Duration::from_secs(48 * 3600);

/// Every seam; all of them must be noticed.
pub(crate) fn run() -> Result<()> {
    let mut unnoticed = Vec::new();
    for seam in SEAMS {
        match notice(seam)? {
            Some(walk) => println!("   without {seam}: noticed, e.g. {walk}"),
            None => unnoticed.push(*seam),
        }
    }
    if !unnoticed.is_empty() {
        bail!("the walk does not notice the lack of: {}", unnoticed.join(", "));
    }
    Ok(())
}

/// The long walk, released, with the arguments of crates/dtls/examples/walk.rs.
pub(crate) fn walk(arguments: &[String]) -> Result<()> {
    let program = cargo::cargo("run --quiet --release --locked -p dtls --example walk --");
    program.args(arguments).timeout(WALK_TIMEOUT).stream()
}

/// Builds without one check, and walks: the first walk that completed and should not have.
fn notice(seam: &str) -> Result<Option<String>> {
    let wrapper = wrapper(seam)?;
    let build = cargo::cargo("test --quiet --locked -p dtls --test walk --no-run").timeout(TIMEOUT);
    build.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).expect_success()?;
    // The words after the hello hold every way in that a seam opens: what the other prefixes say costs time and adds nothing.
    let test = cargo::cargo("test --quiet --locked -p dtls --test walk -- impostors_after_the_hello").timeout(TIMEOUT);
    let ended = test.env("RUSTC_WORKSPACE_WRAPPER", &wrapper).env("RUST_BACKTRACE", "0").output()?;
    let words = ended.stdout + &ended.stderr;
    let found = words.lines().find_map(|line| line.split(COMPLETED).nth(1).map(str::to_owned));
    match (ended.status.success(), found) {
        (true, _) => Ok(None),
        (false, Some(walk)) => Ok(Some(walk)),
        (false, None) => bail!("without {seam} the walk failed, but for another reason\n{words}"),
    }
}

/// A program that is rustc with one cfg more.
fn wrapper(seam: &str) -> Result<PathBuf> {
    let path = tree::target().join("seams").join(seam);
    tree::write(&path, &format!("#!/bin/sh\nexec \"$@\" --cfg 'muster_seam=\"{seam}\"'\n"))?;
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, executable)
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    Ok(path)
}
