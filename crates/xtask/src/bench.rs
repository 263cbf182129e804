//! `cargo xtask bench`: what an enrolment costs, counted and timed.
//!
//! Counting (`gate`, `bless`) is exact enough to hold a change against its parent on any machine; timing (`floor`, `e2e`) is what a user pays, told as a
//! ratio to the arithmetic that nobody can avoid, measured in the same run.

mod attacks;
mod callgrind;
mod counts;
mod e2e;
pub(crate) mod facts;
mod hello;

use anyhow::Result;
use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Count instructions and compare them with the committed baselines: more than 1 % more fails
    Gate,
    /// Count instructions and make them the baselines; prints the differences for the commit message
    Bless,
    /// Count instructions and show whose they are: our crates, the libraries, the allocator
    Breakdown,
    /// Count instructions of a commit and of this tree, and list the functions outside cryptography whose counts differ
    Growth {
        /// The commit to compare with
        commit: String,
    },
    /// Measure the arithmetic of one enrolment with the primitives that Muster uses
    Floor,
    /// Server and load generator as processes: the server's CPU per enrolment over the floor of the same run
    E2e(e2e::Options),
    /// Attack a released server on loopback: one cookie, begun handshakes, enrolments that never close
    Attacks(attacks::Options),
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Gate => counts::gate(),
        Command::Bless => counts::bless(),
        Command::Breakdown => counts::breakdown(),
        Command::Growth { commit } => counts::growth(commit),
        Command::Floor => e2e::print_floor(),
        Command::E2e(options) => e2e::run(options),
        Command::Attacks(options) => attacks::run(options),
    }
}

/// The part of `cargo xtask check`.
pub(crate) fn gate() -> Result<()> {
    counts::gate()
}
