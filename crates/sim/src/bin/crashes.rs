//! Plays enrolments on a bad link, of a server that crashes with its ledger, until there are enough of them:
//!
//! ```text
//! cargo run --release -p sim --bin crashes -- [--enrolments N] [--from SEED]
//! ```
//!
//! It prints one line, and exits with 1 if a promise of `sim::crashes` is not kept. One thread per core plays every n-th seed.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program that prints its result and plays seeds on every core"
)]

use std::process::ExitCode;
use std::thread;

use sim::crashes::{CrashResult, LIVES, play};

const ENROLMENTS_DEFAULT: u64 = 1_000_000;
/// Enrolments between two lines of progress.
const PROGRESS: u64 = 50_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((from, enrolments)) = parse(&arguments) else {
        eprintln!("usage: crashes [--enrolments N] [--from SEED]");
        return ExitCode::from(2);
    };
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let result = thread::scope(|scope| {
        let run = |first| move || play_seeds(first, threads, enrolments.div_ceil(threads));
        let threads: Vec<_> = (0..threads).map(|index| scope.spawn(run(from + index))).collect();
        let mut result = CrashResult::default();
        for thread in threads {
            result.add(thread.join().unwrap_or_default());
        }
        result
    });
    println!("{result}");
    for broken in &result.broken {
        println!("not kept: {broken}");
    }
    if result.broken.is_empty() && result.enrolments >= enrolments { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays every n-th seed, and says on the way how far it is.
fn play_seeds(first: u64, every: u64, enrolments: u64) -> CrashResult {
    let step = usize::try_from(every).unwrap_or(1);
    let mut seeds = (first..).step_by(step);
    let mut result = CrashResult::default();
    while result.enrolments < enrolments && result.broken.is_empty() {
        let left = (enrolments - result.enrolments).min(PROGRESS);
        result.add(play(&LIVES, &mut seeds, left));
        eprintln!("seeds from {first}: {result}");
    }
    result
}

fn parse(arguments: &[String]) -> Option<(u64, u64)> {
    let (mut from, mut enrolments) = (0, ENROLMENTS_DEFAULT);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let number = rest.next()?.parse().ok()?;
        match argument.as_str() {
            "--from" => from = number,
            "--enrolments" => enrolments = number,
            _ => return None,
        }
    }
    Some((from, enrolments))
}
