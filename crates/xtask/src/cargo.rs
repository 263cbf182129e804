//! Cargo, as the other modules call it, and the binary that it builds.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::Program;
use crate::tree;

/// Cargo with these words, at the root of the work tree.
pub(crate) fn cargo(line: &str) -> Program {
    Program::line("cargo").args(line.split(' ')).directory(&tree::root())
}

/// Builds the binary as the tests have it, and gives its path. `--tests` beside `--bins` keeps the features of the dependencies those of the tests'
/// build, so that nothing is built twice. `MUSTER_BINARY` names one to use instead: a released one, say.
pub(crate) fn muster() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("MUSTER_BINARY") {
        return Ok(binary.into());
    }
    cargo("build --quiet --locked --workspace --bins --tests").stream()?;
    Ok(tree::target().join("debug/muster"))
}
