//! End to end: `muster serve` and `muster load` as processes, and the server's CPU for each enrolment over the floor of the same run.
//!
//! The server is pinned to one core with one shard and one pool thread, the load generator to another, so that neither evicts the other's caches. The
//! floor (`benches/src/bin/floor.rs`) is measured between the runs on the server's core; all figures are medians over the repetitions. CPU is user and
//! system time together, as the kernel accounts it in nanoseconds.

mod cpu;
mod durable;
mod floor;
mod ledgers;
mod programs;
mod run;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::durable::{DurableCost, print_durable};
use self::floor::{Floor, median_floor};
use self::programs::{Bench, FleetSize};
use self::run::{BenchConfiguration, LedgerKind, MeasuredRun, median_run};
use self::table::print_table;
use super::facts::TimingFacts;
use crate::tree;

pub(crate) use self::cpu::pinned;
pub(super) use self::programs::free_address;

#[derive(Args)]
pub(crate) struct E2eOptions {
    /// Devices in each run
    #[arg(long, default_value_t = 3000)]
    devices: u32,
    /// Runs of each configuration; the median is reported
    #[arg(long, default_value_t = 5)]
    repetitions: u32,
    /// Devices that enrol at the same time
    #[arg(long, default_value_t = 64)]
    concurrency: u32,
    /// Rows that the durable ledgers have already; 10,000,000 of them take a quarter of an hour to fill and 11 GB
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000])]
    rows: Vec<u64>,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is measured: the ledger in memory, then the durable one with so many rows each, then the other suites and blocks.
fn configurations(rows: &[u64]) -> Vec<BenchConfiguration> {
    let compared = BenchConfiguration::compared;
    let durable = rows.iter().map(|rows| compared(LedgerKind::Sqlite { rows: *rows }));
    let others = [("gcm", 512), ("ccm8", 64), ("gcm", 64)];
    let others = others.map(|(suite, block)| BenchConfiguration { suite, block, ledger: LedgerKind::Memory });
    std::iter::once(compared(LedgerKind::Memory)).chain(durable).chain(others).collect()
}

/// Devices that enrol one after the other, for the latency of a lone enrolment.
const LONE_DEVICES: u32 = 200;

#[derive(Serialize)]
struct E2eRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: String,
    floor: Floor,
    medians: Vec<MeasuredRun>,
    durable: Vec<DurableCost>,
    /// Devices one after the other.
    lone: Vec<MeasuredRun>,
    runs: Vec<MeasuredRun>,
}

/// Prints the floor by operation.
pub(super) fn print_floor() -> Result<()> {
    let floor = Bench::build()?.floor()?;
    let rows = [
        ("P-256 sign", floor.sign_us),
        ("P-256 verify", floor.verify_us),
        ("ECDH key generation and agreement", floor.agreement_us),
        ("symmetric work of a handshake", floor.handshake_symmetric_us),
        ("one record of 100 bytes, CCM_8", floor.ccm8_record_us),
        ("one record of 100 bytes, GCM", floor.gcm_record_us),
        ("one enrolment of 25 records, CCM_8", floor.of("ccm8", 25.0)),
        ("one enrolment of 25 records, GCM", floor.of("gcm", 25.0)),
    ];
    for (what, microseconds) in rows {
        println!("{what:<36} {microseconds:>8.2} us");
    }
    for (case, microseconds) in &floor.engine_us {
        println!("{:<36} {microseconds:>8.2} us", format!("the engines in memory, {case}"));
    }
    Ok(())
}

/// Runs every configuration, interleaved with the floor.
pub(super) fn run(options: &E2eOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let bench = Bench::build()?;
    let fleet = FleetSize { devices: options.devices, concurrency: options.concurrency };
    let configurations = configurations(&options.rows);
    let (mut floors, mut runs, mut lone) = (Vec::new(), Vec::new(), Vec::new());
    for repetition in 0..options.repetitions {
        floors.push(bench.floor()?);
        let floor = median_floor(&floors);
        for configuration in &configurations {
            let run = bench.run(fleet, *configuration, repetition, &floor)?;
            println!(
                "   {}/{}  {:>5} {:>3} {:<22}  {:.1} us, {:.3} x floor",
                repetition + 1,
                options.repetitions,
                run.configuration.suite,
                run.configuration.block,
                run.configuration.ledger.name(),
                run.server_cpu_us,
                run.ratio
            );
            runs.push(run);
        }
    }
    let floor = median_floor(&floors);
    let medians: Vec<MeasuredRun> =
        configurations.iter().map(|configuration| median_run(&runs, *configuration, &floor)).collect();
    for configuration in configurations.iter().filter(|it| it.is_compared()) {
        let alone = FleetSize { devices: LONE_DEVICES, concurrency: 1 };
        lone.push(bench.run(alone, *configuration, options.repetitions, &floor)?);
    }
    print_table(&medians, &facts);
    let durable: Vec<DurableCost> =
        options.rows.iter().map(|rows| DurableCost::of(&runs, &lone, LedgerKind::Sqlite { rows: *rows })).collect();
    print_durable(&durable);
    let command = format!(
        "cargo xtask bench e2e --devices {} --repetitions {} --concurrency {} --rows {}",
        options.devices,
        options.repetitions,
        options.concurrency,
        options.rows.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
    );
    let path = options
        .json
        .clone()
        .unwrap_or_else(|| tree::root().join(format!("benches/runs/e2e-{}.json", facts.at.replace(':', ""))));
    let record = E2eRecord { schema: "muster-e2e/2", facts, command, floor, medians, durable, lone, runs };
    tree::write(&path, &format!("{}\n", serde_json::to_string_pretty(&record)?))?;
    println!("   written to {}", path.display());
    Ok(())
}
