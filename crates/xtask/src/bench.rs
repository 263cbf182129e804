//! `cargo xtask bench`: counts and times the cost of an enrolment.
//!
//! Counts (`gate`, `bless`) are exact enough to compare a change with its parent on any machine. Times (`floor`, `e2e`) show the cost to a user, as a
//! ratio to the unavoidable arithmetic, measured in the same run.

mod attacks;
mod callgrind;
mod counts;
mod e2e;
pub(crate) mod facts;
mod hello;
mod ledger;
mod median;
mod overload;

use anyhow::Result;
use clap::Subcommand;

use crate::process::Daemon;

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Count instructions and compare them with the committed baselines; fails if a count grew by more than 1 %
    Gate,
    /// Count instructions and write them as the new baselines; prints the differences for the commit message
    Bless,
    /// Count instructions and show where they are spent: our crates, the libraries, the allocator
    Breakdown,
    /// Count instructions of a commit and of this tree, and list the functions outside cryptography whose counts differ
    Growth {
        /// The commit to compare with
        commit: String,
    },
    /// Measure the arithmetic of one enrolment with the primitives that Muster uses
    Floor,
    /// Run server and load generator as processes: the server's CPU per enrolment relative to the floor of the same
    /// run
    E2e(e2e::E2eOptions),
    /// Measure what the durable ledger costs for each certificate when it has many rows already: CPU, syncs, bytes, memory
    Ledger(ledger::LedgerOptions),
    /// Attack a released server on loopback: one cookie, unfinished handshakes, enrolments without close_notify
    Attacks(attacks::AttackOptions),
    /// Offer a released server on one core up to four times what it can serve, and say what it still finishes
    Overload(overload::OverloadOptions),
}

pub(crate) fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Gate => counts::gate(),
        BenchCommand::Bless => counts::bless(),
        BenchCommand::Breakdown => counts::breakdown(),
        BenchCommand::Growth { commit } => counts::growth(commit),
        BenchCommand::Floor => e2e::print_floor(),
        BenchCommand::E2e(options) => e2e::run(options),
        BenchCommand::Ledger(options) => ledger::run(options),
        BenchCommand::Attacks(options) => attacks::run(options),
        BenchCommand::Overload(options) => overload::run(options),
    }
}

/// Runs the part of `cargo xtask check`.
pub(crate) fn gate() -> Result<()> {
    counts::gate()
}

/// Builds what the part `gate` runs, in the background, at the lowest priority.
pub(crate) fn build_gate_aside() -> Result<Daemon> {
    counts::build_aside()
}
