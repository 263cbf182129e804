//! The developer's commands: `cargo xtask check` and its parts.
//!
//! It is not part of the product or of its build. It starts programs, reads the tree and prints to the terminal; it links none of our crates, so
//! that the first command on a fresh machine does not wait for their build.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a shell: it runs programs against the clock, reads files and prints to its user"
)]

mod bench;
mod cargo;
mod cases;
mod check;
mod crash;
mod dashboards;
mod fuzz;
mod interop;
mod invert;
mod named_tests;
mod openssl_fleet;
mod population;
mod ports;
mod power;
mod process;
mod requirements;
mod seams;
mod setup;
mod simulate;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The developer's commands of Muster")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the programs that the checks need: other implementations from Debian and PyPI, two cargo tools under
    /// target/
    Setup,
    /// Run every check; CI runs the same
    Check(check::CheckOptions),
    /// Rewrite crates/xtask/cases/STATUS.md: which named test cases are tested, and what the others wait for
    Cases,
    /// Rewrite crates/est/rfc/CAPABILITIES.md: the requirements of RFC 9148 and those that it leans on, with the tests that show them
    Requirements,
    /// Break the code of one requirement at a time, in a copy of the tree: a test that it names must fail. Kept in
    /// crates/est/rfc/inverted/results.txt
    Invert(invert::InvertOptions),
    /// Check the dependencies against the RustSec advisories (needs the network)
    Advisories,
    /// Build crates/dtls without one check of the client's authentication, for each such check: the walk in crates/dtls must
    /// detect each
    Seams,
    /// Walk client authentication further than the tests: all words of seven letters, in ranges (see crates/dtls/examples/walk.rs)
    Walk {
        /// Arguments such as `--from N --to M`, `--depth N`, `--letters all`, `--after HC`, `--word HOKU`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// End a million sessions of one server at the same instant; reports bytes, calls, close_notify, takes up to an hour. Kept in
    /// crates/sim/results/population.txt
    Population {
        /// Number of sessions: 10,000 or more, because fixed-size queues count too. The result is kept only for the default number
        #[arg(long, default_value_t = population::SESSIONS)]
        sessions: u32,
    },
    /// Take the power away under a working ledger, at as many moments as asked for; builds without one sync each must lose
    /// something. Kept in crates/ledger/results/power.txt
    Power(power::PowerOptions),
    /// Kill a server under load, again and again, and compare what its devices received with its ledger. Runs of 1,000 kills or more are kept in
    /// crates/ledger/results/crash.txt, of a Registrar in crash-registrar.txt
    Crash(crash::CrashOptions),
    /// Play a million enrolments in the simulator, of a server that crashes with its ledger on a bad link. Kept in crates/sim/results/crashes.txt
    Simulate(simulate::SimulateOptions),
    /// Test other implementations against ours: the part of `check` with this name
    Interop {
        /// Run only stories whose names contain this text
        #[arg(long, default_value = "")]
        story: String,
    },
    /// Run the fuzz targets, one after the other, and print the results
    Fuzz(fuzz::FuzzOptions),
    /// Measure: instruction counts compared with the committed baselines, the arithmetic floor, end to end
    Bench {
        #[command(subcommand)]
        command: bench::BenchCommand,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Setup => setup::run(setup::Runner::Now),
        Command::Check(options) => return check::run(&options),
        Command::Cases => cases::write(),
        Command::Requirements => requirements::write(),
        Command::Invert(options) => invert::run(&options),
        Command::Advisories => check::advisories(),
        Command::Seams => seams::run(),
        Command::Walk { arguments } => seams::walk(&arguments),
        Command::Population { sessions } => population::run(sessions),
        Command::Power(options) => power::run(&options),
        Command::Crash(options) => crash::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Interop { story } => interop::run(&story),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Bench { command } => bench::run(&command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
