//! The arithmetic that one full enrolment cannot avoid on the server's side, measured with the primitives that Muster uses.
//!
//! A full enrolment is a DTLS 1.2 handshake with certificates on both sides (P-256, the device's certificate directly under its anchor), GET /crts and
//! POST /sen with one request. If all protocol work were free, these operations would remain: two signatures, three verifications, one ephemeral key
//! agreement, and the symmetric work over the transmitted bytes. Each operation is timed in CPU time of this process, as the minimum over many
//! batches, so that other work on the machine has little effect. The ratios of one run are the result; the microseconds depend on the machine.
//!
//! It also measures the engines: the server's side of whole enrolments replayed in memory, with protocol, CoAP and issuing, but without sockets, threads
//! or kernel. A running server's additional time is spent in those three.
//!
//! Prints one JSON object; `cargo xtask bench floor` runs it and makes a table, `cargo xtask bench e2e` runs it between its own runs.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use std::error::Error;
use std::hint::black_box;

use benches::{Arithmetic, Case, Recording, Replay, cpu_microseconds};
use dtls::Suite;

/// Batches of each operation; the minimum over them counts. The slowest operation makes this 40 ms.
const BATCHES: usize = 40;
const RUNS_PER_BATCH: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arithmetic = Arithmetic::new()?;
    let mut time = |operation: Operation| least(|| operation(&mut arithmetic));
    let floor = serde_json::json!({
        "sign_us": time(Arithmetic::sign)?,
        "verify_us": time(Arithmetic::verify)?,
        "agreement_us": time(Arithmetic::agree)?,
        "handshake_symmetric_us": time(Arithmetic::handshake_symmetric)?,
        "ccm8_record_us": time(|it| it.record(Suite::EcdheEcdsaAes128Ccm8))?,
        "gcm_record_us": time(|it| it.record(Suite::EcdheEcdsaAes128GcmSha256))?,
        "engine_us": engine_times()?,
    });
    println!("{floor}");
    Ok(())
}

/// One of the operations of the floor.
type Operation = fn(&mut Arithmetic) -> Result<(), Box<dyn Error>>;

fn engine_times() -> Result<serde_json::Value, Box<dyn Error>> {
    let mut engine = serde_json::Map::new();
    for (name, case) in Case::ALL {
        engine.insert(name.to_owned(), engine_time(case)?.into());
    }
    Ok(engine.into())
}

/// The lowest CPU time of a whole enrolment replayed in memory.
fn engine_time(case: Case) -> Result<f64, Box<dyn Error>> {
    let recording = Recording::new(case);
    let mut least = f64::INFINITY;
    for _ in 0..BATCHES {
        let replays: Vec<Replay> = (0..RUNS_PER_BATCH).map(|_| recording.enrolment()).collect();
        let before = cpu_microseconds();
        let played: Vec<Replay> = replays.into_iter().map(Replay::run).collect();
        least = least.min(cpu_microseconds() - before);
        drop(black_box(played));
    }
    Ok(least / f64::from(u32::try_from(RUNS_PER_BATCH)?))
}

/// The lowest CPU time of one run, over all batches.
fn least(mut run: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut least = f64::INFINITY;
    for _ in 0..BATCHES {
        let before = cpu_microseconds();
        for _ in 0..RUNS_PER_BATCH {
            run()?;
        }
        least = least.min(cpu_microseconds() - before);
    }
    Ok(least / f64::from(u32::try_from(RUNS_PER_BATCH)?))
}
