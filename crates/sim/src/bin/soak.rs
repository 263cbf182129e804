//! Prints the durations of enrolments on bad links, compared with the prediction from the timers of the RFCs:
//!
//! ```text
//! cargo run --release -p sim --bin soak -- [--seeds N] [--from N]
//! ```
//!
//! It exits with 1 if a promise of `sim::soak::PROFILES` is not kept.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::process::ExitCode;

use sim::soak::{PREDICTED, PROFILES};

/// The number that `tests/soak.rs` plays.
const SEEDS_DEFAULT: u64 = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((from, seeds)) = parse(&arguments) else {
        eprintln!("usage: soak [--seeds N] [--from N]");
        return ExitCode::from(2);
    };
    println!("cargo run --release -p sim --bin soak -- --seeds {seeds} --from {from}");
    println!("The prediction is of {PREDICTED} enrolments of the model, sim::ideal.");
    let mut kept = true;
    for profile in PROFILES {
        let (outcome, predicted) = (profile.play(from..from.saturating_add(seeds)), profile.predict());
        println!("\n{}", profile.table(&outcome, &predicted).trim_end());
        for fault in profile.faults(&outcome, &predicted) {
            println!("not kept: {fault}");
            kept = false;
        }
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(arguments: &[String]) -> Option<(u64, u64)> {
    let (mut from, mut seeds) = (0, SEEDS_DEFAULT);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let number = rest.next()?.parse().ok()?;
        match argument.as_str() {
            "--from" => from = number,
            "--seeds" => seeds = number,
            _ => return None,
        }
    }
    Some((from, seeds))
}
