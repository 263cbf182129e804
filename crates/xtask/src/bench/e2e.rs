//! End to end: `muster serve` and `muster load` as processes, and the server's CPU for each enrolment over the floor of the same run.
//!
//! The server is pinned to one core with one shard and one pool thread, the load generator to another, so that neither evicts the other's caches. The
//! floor (`benches/src/bin/floor.rs`) is measured between the runs on the server's core; all figures are medians over the repetitions. CPU is user and
//! system time together, as the kernel accounts it in nanoseconds.

mod cpu;
mod floor;
mod programs;
mod run;
mod table;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::floor::{Floor, median_floor};
use self::programs::{Bench, FleetSize};
use self::run::{BenchConfiguration, LedgerKind, MeasuredRun, median_run};
use self::table::print_table;
use super::facts::TimingFacts;
use super::median::median;
use crate::tree;

pub(crate) use self::cpu::pinned;

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
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

const CONFIGURATIONS: &[BenchConfiguration] = &[
    BenchConfiguration { suite: "ccm8", block: 512, ledger: LedgerKind::Memory },
    BenchConfiguration { suite: "ccm8", block: 512, ledger: LedgerKind::Sqlite },
    BenchConfiguration { suite: "gcm", block: 512, ledger: LedgerKind::Memory },
    BenchConfiguration { suite: "ccm8", block: 64, ledger: LedgerKind::Memory },
    BenchConfiguration { suite: "gcm", block: 64, ledger: LedgerKind::Memory },
];

#[derive(Serialize)]
struct E2eRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: String,
    floor: Floor,
    medians: Vec<MeasuredRun>,
    durable: DurableCost,
    runs: Vec<MeasuredRun>,
}

/// What the durable ledger adds to the CPU of an enrolment, each repetition compared with the one in memory beside it.
#[derive(Serialize)]
struct DurableCost {
    median_percent: f64,
    least_percent: f64,
    most_percent: f64,
    enrolments_per_commit: f64,
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
    let (mut floors, mut runs) = (Vec::new(), Vec::new());
    for repetition in 0..options.repetitions {
        floors.push(bench.floor()?);
        let floor = median_floor(&floors);
        for configuration in CONFIGURATIONS {
            let run = bench.run(fleet, *configuration, repetition, &floor)?;
            println!(
                "   {}/{}  {:>5} {:>3} {:<6}  {:.1} us, {:.3} x floor",
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
        CONFIGURATIONS.iter().map(|configuration| median_run(&runs, *configuration, &floor)).collect();
    print_table(&medians, &facts);
    let durable = durable_cost(&runs);
    println!(
        "\nThe durable ledger costs {:+.1} % of CPU (between the repetitions {:+.1} to {:+.1} %); {:.1} enrolments for each sync",
        durable.median_percent, durable.least_percent, durable.most_percent, durable.enrolments_per_commit
    );
    let command = format!(
        "cargo xtask bench e2e --devices {} --repetitions {} --concurrency {}",
        options.devices, options.repetitions, options.concurrency
    );
    let path = options
        .json
        .clone()
        .unwrap_or_else(|| tree::root().join(format!("benches/runs/e2e-{}.json", facts.at.replace(':', ""))));
    let record = E2eRecord { schema: "muster-e2e/1", facts, command, floor, medians, durable, runs };
    tree::write(&path, &format!("{}\n", serde_json::to_string_pretty(&record)?))?;
    println!("   written to {}", path.display());
    Ok(())
}

fn durable_cost(runs: &[MeasuredRun]) -> DurableCost {
    let of = |ledger| {
        let compared = BenchConfiguration { ledger, ..CONFIGURATIONS[0] };
        runs.iter().filter(move |run| run.configuration == compared)
    };
    let pairs = of(LedgerKind::Memory).zip(of(LedgerKind::Sqlite));
    let percents: Vec<f64> =
        pairs.map(|(memory, sqlite)| (sqlite.server_cpu_us / memory.server_cpu_us - 1.0) * 100.0).collect();
    DurableCost {
        median_percent: median(percents.iter().copied()),
        least_percent: percents.iter().copied().fold(f64::INFINITY, f64::min),
        most_percent: percents.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        enrolments_per_commit: 1.0 / median(of(LedgerKind::Sqlite).map(|run| run.commits)),
    }
}
