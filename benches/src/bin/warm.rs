//! What an enrolment costs the engines of a server that has been running, over the floor of the same moment.
//!
//! `warm` prints the ratio with its 95 % interval, from pairs; `warm replay N` only replays N enrolments, to be run under callgrind or perf.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;

use benches::{Arithmetic, Case, WarmRecording, cpu_microseconds};
use dtls::Suite;

/// Pairs of a batch of enrolments and as much arithmetic.
const PAIRS: usize = 60;
const ENROLMENTS_PER_BATCH: usize = 20;
/// Enrolments that come before the first pair.
const WARM_UP: usize = 40;
/// Datagrams up and down, without hello, HelloVerifyRequest, hello with cookie and the flight of the server: the others carry one sealed record each.
const RECORDS: usize = 9;

const CASE: Case = Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 512 };

#[allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]
fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(2) {
        Some(count) => {
            let mut replay = WarmRecording::new(CASE, count.parse()?).replay();
            println!("{} datagrams sent", replay.run(count.parse()?));
            Ok(())
        }
        None => pairs(),
    }
}

#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn pairs() -> Result<(), Box<dyn Error>> {
    let recording = WarmRecording::new(CASE, u32::try_from(WARM_UP + PAIRS * ENROLMENTS_PER_BATCH)?);
    let mut replay = recording.replay();
    let mut arithmetic = Arithmetic::new()?;
    replay.run(WARM_UP);
    let (mut floors, mut engines, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let start = cpu_microseconds();
        for _ in 0..ENROLMENTS_PER_BATCH {
            arithmetic.enrolment(CASE.suite, RECORDS)?;
        }
        let middle = cpu_microseconds();
        replay.run(ENROLMENTS_PER_BATCH);
        let end = cpu_microseconds();
        let each = ENROLMENTS_PER_BATCH as f64;
        floors.push((middle - start) / each);
        engines.push((end - middle) / each);
        ratios.push((end - middle) / (middle - start));
    }
    let (mean, half) = mean_and_half(&ratios);
    let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
    println!(
        "engines over floor: {mean:.3} ({:.3} to {:.3}), median {:.3}; medians {:.1} and {:.1} us; least {:.1} and {:.1} us, {:.3}",
        mean - half,
        mean + half,
        median(&mut ratios),
        median(&mut engines.clone()),
        median(&mut floors.clone()),
        least(&engines),
        least(&floors),
        least(&engines) / least(&floors),
    );
    Ok(())
}

/// The mean, and half of its 95 % interval.
#[allow(clippy::cast_precision_loss, reason = "small counts")]
fn mean_and_half(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, 2.0 * (variance / count).sqrt())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
