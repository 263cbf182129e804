//! What an enrolment costs the engines of a server that has been running, over the floor of the same moment.
//!
//! `warm` prints the ratio with its 95 % interval, from pairs: for devices one after the other, and for groups of devices that send at the same time, with
//! public-key steps at once and at the end of a turn. `warm replay N` only replays N enrolments one after the other, to be run under callgrind or perf;
//! `warm replay N T` those of groups of T.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;

use benches::{Arithmetic, Case, WarmLoad, WarmRecording, cpu_microseconds};
use dtls::{PublicKeySteps, Suite};

/// Pairs of a batch of enrolments and as much arithmetic.
const PAIRS: usize = 60;
const ENROLMENTS_PER_BATCH: u32 = 16;
/// Batches that come before the first pair.
const WARM_UP: usize = 2;
/// Datagrams up and down, without hello, HelloVerifyRequest, hello with cookie and the flight of the server: the others carry one sealed record each.
const RECORDS: usize = 9;

const CASE: Case = Case { suite: Suite::EcdheEcdsaAes128Ccm8, block: 512 };

#[allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]
fn main() -> Result<(), Box<dyn Error>> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if let [word, devices, together @ ..] = asked.as_slice()
        && word == "replay"
    {
        let together = together.first().map_or(Ok(1), |it| it.parse())?;
        let load = WarmLoad { case: CASE, devices: devices.parse()?, together, steps: PublicKeySteps::Inline };
        println!(
            "{} datagrams sent",
            WarmRecording::new(load).replay().run(usize::try_from(load.devices.div_ceil(together))?)
        );
        return Ok(());
    }
    for (together, steps) in
        [(1, PublicKeySteps::Inline), (16, PublicKeySteps::Inline), (16, PublicKeySteps::Suspended)]
    {
        pairs(together, steps)?;
    }
    Ok(())
}

fn pairs(together: u32, steps: PublicKeySteps) -> Result<(), Box<dyn Error>> {
    let devices = ENROLMENTS_PER_BATCH * u32::try_from(WARM_UP + PAIRS)?;
    let groups_per_batch = usize::try_from(ENROLMENTS_PER_BATCH / together)?;
    let recording = WarmRecording::new(WarmLoad { case: CASE, devices, together, steps });
    let mut replay = recording.replay();
    let mut arithmetic = Arithmetic::new()?;
    replay.run(WARM_UP * groups_per_batch);
    let (mut floors, mut engines, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let start = cpu_microseconds();
        for _ in 0..ENROLMENTS_PER_BATCH {
            arithmetic.enrolment(CASE.suite, RECORDS)?;
        }
        let middle = cpu_microseconds();
        replay.run(groups_per_batch);
        let end = cpu_microseconds();
        let each = f64::from(ENROLMENTS_PER_BATCH);
        floors.push((middle - start) / each);
        engines.push((end - middle) / each);
        ratios.push((end - middle) / (middle - start));
    }
    let (mean, half) = mean_and_half(&ratios);
    println!(
        "{together:2} together, {steps:?}: engines over floor {mean:.3} ({:.3} to {:.3}); medians {:.1} and {:.1} us, {:.3}",
        mean - half,
        mean + half,
        median(&mut engines),
        median(&mut floors),
        median(&mut ratios),
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
