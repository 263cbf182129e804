//! Plays enrolments on a bad link, of a server that crashes with its ledger, until there are enough of them:
//!
//! ```text
//! cargo run --release -p sim --bin crashes -- [--registrar] [--enrolments N] [--from SEED]
//! ```
//!
//! With `--registrar` the server is a Registrar, and each seed plays the next scenario of `sim::registrar`.
//!
//! It prints one line, and exits with 1 if a promise of `sim::crashes` or `sim::registrar` is not kept. One thread per core plays every n-th seed.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program that prints its result and plays seeds on every core"
)]

use std::fmt::Display;
use std::process::ExitCode;
use std::thread;

use sim::RunFaults;
use sim::crashes::{self, CrashResult, LIVES};
use sim::registrar::{self, RegistrarResult};

const ENROLMENTS_DEFAULT: u64 = 1_000_000;
/// Enrolments between two lines of progress.
const PROGRESS: u64 = 50_000;

struct Arguments {
    registrar: bool,
    from: u64,
    enrolments: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(Arguments { registrar, from, enrolments }) = parse(&arguments) else {
        eprintln!("usage: crashes [--registrar] [--enrolments N] [--from SEED]");
        return ExitCode::from(2);
    };
    let kept = if registrar {
        let mut result = RegistrarResult::default();
        on_every_core(from, enrolments, relay_seeds).into_iter().for_each(|part| result.add(part));
        report(&result, &result.broken) && result.enrolments >= enrolments
    } else {
        let mut result = CrashResult::default();
        on_every_core(from, enrolments, play_seeds).into_iter().for_each(|part| result.add(part));
        report(&result, &result.broken) && result.enrolments >= enrolments
    };
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every n-th seed from a first one, and how many enrolments they have to come to.
struct Part {
    first: u64,
    every: usize,
    enrolments: u64,
}

fn on_every_core<T: Default + Send>(from: u64, enrolments: u64, play: fn(Part) -> T) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let shares = threads as u64;
    thread::scope(|scope| {
        let part = |index| Part { first: from + index, every: threads, enrolments: enrolments.div_ceil(shares) };
        let running: Vec<_> = (0..shares).map(|index| scope.spawn(move || play(part(index)))).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

/// Whether no run is broken.
fn report(result: &dyn Display, broken: &[RunFaults]) -> bool {
    println!("{result}");
    broken.iter().for_each(|broken| println!("not kept: {broken}"));
    broken.is_empty()
}

/// Plays a part, and says on the way how far it is.
fn play_seeds(Part { first, every, enrolments }: Part) -> CrashResult {
    let mut seeds = (first..).step_by(every);
    let mut result = CrashResult::default();
    while result.enrolments < enrolments && result.broken.is_empty() {
        let left = (enrolments - result.enrolments).min(PROGRESS);
        result.add(crashes::play(&LIVES, &mut seeds, left));
        eprintln!("seeds from {first}: {result}");
    }
    result
}

/// The same with a Registrar.
fn relay_seeds(Part { first, every, enrolments }: Part) -> RegistrarResult {
    let mut seeds = (first..).step_by(every);
    let mut result = RegistrarResult::default();
    while result.enrolments < enrolments && result.broken.is_empty() {
        let left = (enrolments - result.enrolments).min(PROGRESS);
        result.add(registrar::play_all(&mut seeds, left));
        eprintln!("seeds from {first}: {result}");
    }
    result
}

fn parse(arguments: &[String]) -> Option<Arguments> {
    let mut parsed = Arguments { registrar: false, from: 0, enrolments: ENROLMENTS_DEFAULT };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--registrar" => parsed.registrar = true,
            "--from" => parsed.from = rest.next()?.parse().ok()?,
            "--enrolments" => parsed.enrolments = rest.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(parsed)
}
