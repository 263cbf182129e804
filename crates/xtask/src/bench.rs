//! `cargo xtask bench`.
use anyhow::Result;
use clap::Subcommand;
#[derive(Subcommand)]
pub(crate) enum Command {
    Gate,
}
pub(crate) fn run(_: &Command) -> Result<()> {
    Ok(())
}
pub(crate) fn gate() -> Result<()> {
    Ok(())
}
