//! Prints the durations of enrolments on bad links, compared with the prediction from the timers of the RFCs:
//!
//! ```text
//! cargo run --release -p sim --bin soak -- [--seeds N] [--from N] [--profile NAME]
//! ```
//!
//! It exits with 1 if a promise of `sim::soak::PROFILES` is not kept.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]

use std::process::ExitCode;

use sim::soak::{PREDICTED, PROFILES, SoakProfile};

/// The number that `tests/soak.rs` plays.
const SEEDS_DEFAULT: u64 = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(Arguments { from, seeds, profiles }) = parse(&arguments) else {
        eprintln!("usage: soak [--seeds N] [--from N] [--profile NAME]");
        return ExitCode::from(2);
    };
    let only = match profiles {
        [one] => format!(" --profile {}", one.scenario.name),
        _ => String::new(),
    };
    println!("cargo run --release -p sim --bin soak -- --seeds {seeds} --from {from}{only}");
    println!("The prediction is of {PREDICTED} enrolments of the model, sim::ideal.");
    let mut kept = true;
    for profile in profiles {
        let (outcome, predicted) = (profile.play(from..from.saturating_add(seeds)), profile.predict());
        println!("\n{}", profile.table(&outcome, &predicted).trim_end());
        for fault in profile.faults(&outcome, &predicted) {
            println!("not kept: {fault}");
            kept = false;
        }
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Arguments {
    from: u64,
    seeds: u64,
    profiles: &'static [SoakProfile],
}

fn parse(arguments: &[String]) -> Option<Arguments> {
    let mut parsed = Arguments { from: 0, seeds: SEEDS_DEFAULT, profiles: PROFILES };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let value = rest.next()?;
        match argument.as_str() {
            "--from" => parsed.from = value.parse().ok()?,
            "--seeds" => parsed.seeds = value.parse().ok()?,
            "--profile" => {
                parsed.profiles = PROFILES.chunks(1).find(|one| one.iter().any(|it| it.scenario.name == value))?;
            }
            _ => return None,
        }
    }
    Some(parsed)
}
