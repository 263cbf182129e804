//! Calls cargo for the other modules, and builds the binary.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::Program;
use crate::tree;

/// Builds the binary and the tests.
pub(crate) const BUILD: &str = "build --quiet --locked --workspace --exclude xtask --bin muster --tests";

/// Cargo with these arguments, at the root of the work tree.
pub(crate) fn cargo(line: &str) -> Program {
    Program::line("cargo").args(line.split(' ')).directory(&tree::root())
}

/// Builds the binary with the same features as the tests, and returns its path. `--tests` keeps the features of the dependencies the same as in the
/// tests' build, so that nothing is built twice; hence also without `xtask`. `MUSTER_BINARY` names another binary to use, such as a released one.
pub(crate) fn muster() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("MUSTER_BINARY") {
        return Ok(binary.into());
    }
    cargo(BUILD).stream()?;
    Ok(tree::target().join("debug/muster"))
}

/// A program that runs rustc with one additional cfg, for `RUSTC_WORKSPACE_WRAPPER`: cargo uses it only for our crates and keeps the results apart. The
/// dependencies are shared with every other build, and the normal build is not affected. No feature and no build script of the product can set the
/// cfg.
pub(crate) fn wrapper(name: &str, cfg: &str) -> Result<PathBuf> {
    let path = tree::target().join("seams").join(name);
    tree::write(&path, &format!("#!/bin/sh\nexec \"$@\" --cfg '{cfg}'\n"))?;
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, executable)
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    Ok(path)
}
