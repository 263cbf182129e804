//! `cargo xtask bench`: counts and times the cost of an enrolment.
//!
//! Counts (`gate`, `bless`) are exact enough to compare a change with its parent on any machine. Times (`floor`, `e2e`) show the cost to a user, as a
//! ratio to the unavoidable arithmetic, measured in the same run.

mod allocations;
mod attacks;
mod baselines;
mod callgrind;
mod counts;
mod crl;
mod drag;
mod durable_tables;
mod e2e;
mod e2e_record;
pub(crate) mod facts;
mod figures;
mod gate;
mod generator;
mod hello;
mod history;
mod interval;
mod ledger;
mod lone_calls;
mod measured_program;
mod median;
mod movers;
mod overload;
mod overload_table;
mod placement;
mod profiles;
mod promised;
mod promises;
pub(crate) mod readme;
mod released;
mod report;
mod run_file;
mod scale;
mod service;
mod shards;
pub(crate) mod simulated;
mod syscalls;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::cargo::cargo;
use crate::process::Daemon;
use crate::setup;

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Count instructions, allocations, datagrams and bytes, system calls of a lone enrolment, and what a second shard costs. Fails if instructions
    /// grew by more than 0.2 % or their noise over the committed baselines, if anything grew by more than 2 % over the last release, if there is one
    /// allocation, datagram, byte or system call more, if two shards share what one does not, or if something improved and was not blessed
    Gate(GateOptions),
    /// Build what `gate` needs, in the background of `cargo xtask check`
    #[command(hide = true)]
    GateBuild,
    /// Count and write the new baselines; prints the differences for the commit message. The line of the last release stays
    Bless,
    /// Draw the line of a new version at the committed baselines; refused while the workspace has the version of the line
    Release,
    /// Slow down one step after the other by 2 % of its own count, and the engine of a work tree: the gate must notice each
    Drag(drag::DragOptions),
    /// Count the server's system calls for one enrolment alone
    Syscalls,
    /// Count instructions and show where they are spent: our crates, the libraries, the allocator
    Breakdown,
    /// Count where a server that has been running allocates for one enrolment
    Allocations,
    /// Count instructions of a commit and of this tree, and list the functions outside cryptography whose counts differ
    Growth {
        /// The commit to compare with
        commit: String,
    },
    /// Append the figures of this commit to benches/history.jsonl
    Record(history::RecordOptions),
    /// Compare the recorded figures of two commits: better, worse or noise for each; fails if one is worse
    Compare(history::CompareOptions),
    /// Draw the history as one HTML page with a chart for each figure
    Report(report::ReportOptions),
    /// Measure the arithmetic of one enrolment with the primitives that Muster uses
    Floor,
    /// Run server and load generator as processes: the server's CPU per enrolment relative to the floor of the same
    /// run
    E2e(e2e::E2eOptions),
    /// Measure memory for each session and CPU for an enrolment with many sessions, made by real handshakes in one process and over loopback
    Scale(scale::ScaleOptions),
    /// Count what a second shard costs each datagram: cache lines that both shards use, locks, and wakes. Fails if there are more than with one
    Shards(shards::ShardsOptions),
    /// Count what is promised in bytes and allocations: a handshake, hellos without a cookie, datagrams of established sessions
    Counts(promised::CountsOptions),
    /// Write the figures of the newest runs into the README
    Readme,
    /// Run the criterion benchmarks of the hot steps
    Steps {
        /// Only those whose names contain this text, such as `record/` or `handshake/ccm8`
        #[arg(default_value = "")]
        filter: String,
    },
    /// Measure what the durable ledger costs for each certificate when it has many rows already: CPU, syncs, bytes, memory
    Ledger(ledger::LedgerOptions),
    /// Measure what it costs to revoke a tenth of a ledger's certificates and to write all revocation lists
    Crl(crl::CrlOptions),
    /// Attack a released server on loopback: one cookie, unfinished handshakes, enrolments without close_notify
    Attacks(attacks::AttackOptions),
    /// Measure where public-key steps run and how many threads the pool has: CPU of an enrolment and rate, in pairs
    Placement(placement::PlacementOptions),
    /// Offer a released server on one core up to four times what it can serve, and say what it still finishes
    Overload(overload::OverloadOptions),
    /// Measure what each step costs a released server's core, for the simulator's model of an overload, and what hellos without a cookie cost
    Service(service::ServiceOptions),
}

#[derive(Args)]
pub(crate) struct GateOptions {
    /// Only the counts of the engines, for which no server is built
    #[arg(long)]
    engines: bool,
}

pub(crate) fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Gate(GateOptions { engines: true }) => gate::gate(),
        BenchCommand::Gate(GateOptions { engines: false }) => gate(),
        BenchCommand::GateBuild => profiles::build(),
        BenchCommand::Bless => gate::bless().and_then(|()| lone_calls::bless()),
        BenchCommand::Release => baselines::release(),
        BenchCommand::Drag(options) => drag::run(options),
        BenchCommand::Syscalls => lone_calls::report(),
        BenchCommand::Allocations => allocations::run(),
        BenchCommand::Breakdown => movers::breakdown(),
        BenchCommand::Growth { commit } => movers::growth(commit),
        BenchCommand::Record(options) => history::record(options),
        BenchCommand::Compare(options) => history::compare(options),
        BenchCommand::Report(options) => report::run(options),
        BenchCommand::Floor => e2e::print_floor(),
        BenchCommand::E2e(options) => e2e::run(options),
        BenchCommand::Scale(options) => scale::run(options),
        BenchCommand::Shards(options) => shards::run(options),
        BenchCommand::Counts(options) => promised::run(options),
        BenchCommand::Readme => readme::write(),
        BenchCommand::Steps { filter } => {
            let steps = cargo("bench --locked --package benches --bench steps --");
            if filter.is_empty() { steps.stream() } else { steps.arg(filter).stream() }
        }
        BenchCommand::Ledger(options) => ledger::run(options),
        BenchCommand::Crl(options) => crl::run(options),
        BenchCommand::Attacks(options) => attacks::run(options),
        BenchCommand::Placement(options) => placement::run(options),
        BenchCommand::Overload(options) => overload::run(options),
        BenchCommand::Service(options) => service::run(options),
    }
}

/// Runs the part of `cargo xtask check`: every count, although one before it failed.
pub(crate) fn gate() -> Result<()> {
    // Where the build in the background has failed, this says why.
    setup::runner()?;
    let engines = gate::gate();
    let (alone, traced) = match syscalls::count_where_possible(1) {
        Ok(alone) => (alone, Ok(())),
        Err(error) => (None, Err(error)),
    };
    let faults: Vec<String> = [engines, traced, lone_calls::gate(alone.as_ref()), shards::gate(alone.as_ref())]
        .into_iter()
        .filter_map(|counted| counted.err().map(|error| format!("{error:#}")))
        .collect();
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Builds what the part `gate` runs, in the background, at the lowest priority.
pub(crate) fn build_gate_aside() -> Result<Daemon> {
    profiles::build_aside()
}
