//! Calls cargo for the other modules, and builds the binary.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::Program;
use crate::tree;

/// Cargo with these arguments, at the root of the work tree.
pub(crate) fn cargo(line: &str) -> Program {
    Program::line("cargo").args(line.split(' ')).directory(&tree::root())
}

/// Builds the binary with the same features as the tests, and returns its path. `--tests` beside `--bins` keeps the features of the dependencies
/// the same as in the tests' build, so that nothing is built twice. `MUSTER_BINARY` names another binary to use, such as a released one.
pub(crate) fn muster() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("MUSTER_BINARY") {
        return Ok(binary.into());
    }
    cargo("build --quiet --locked --workspace --bins --tests").stream()?;
    Ok(tree::target().join("debug/muster"))
}
