//! The developer's commands: `cargo xtask check` and what it is made of.
//!
//! What it is not: part of the product, or of its build. It starts programs, reads the tree and talks to whoever typed the command; it links none of
//! our crates, so that the first command ever typed on a fresh machine does not wait for them.
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
mod dashboards;
mod fuzz;
mod interop;
mod population;
mod process;
mod seams;
mod setup;
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
    /// Install what the checks need: other people's implementations from Debian and PyPI, two cargo tools under target/
    Setup,
    /// Check everything; CI runs the same
    Check(check::Options),
    /// Rewrite crates/xtask/cases/STATUS.md: which named test cases are in, and which wait for what
    Cases,
    /// Look the dependencies up in the RustSec advisories (needs the network)
    Advisories,
    /// Leave one check of the client's authentication out of a build after the other: the walk in crates/dtls must notice each
    Seams,
    /// Walk client authentication further than the tests: all words of seven letters, in ranges (see crates/dtls/examples/walk.rs)
    Walk {
        /// As `--from N --to M`, `--depth N`, `--letters all`, `--after HC`, `--word HOKU`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// End a million sessions of one server in one instant, which takes up to an hour: bytes, calls, close_notify. Kept in crates/sim/results/population.txt
    Population {
        /// How many sessions: 10,000 or more, since queues of a fixed size count too. Another number than the default is printed and not kept
        #[arg(long, default_value_t = population::SESSIONS)]
        sessions: u32,
    },
    /// Play other implementations against ours: a part of `check`, alone
    Interop {
        /// Only stories with this text in their names
        #[arg(long, default_value = "")]
        story: String,
    },
    /// Run the fuzz targets, one after the other, and print what they did
    Fuzz(fuzz::Options),
    /// Measure: instruction counts against the committed baselines, the arithmetic floor, end to end
    Bench {
        #[command(subcommand)]
        command: bench::Command,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Setup => setup::run(),
        Command::Check(options) => return check::run(&options),
        Command::Cases => cases::write(),
        Command::Advisories => check::advisories(),
        Command::Seams => seams::run(),
        Command::Walk { arguments } => seams::walk(&arguments),
        Command::Population { sessions } => population::run(sessions),
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
