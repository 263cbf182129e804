//! End to end: `muster serve` and `muster load` as processes, and the server's CPU for each enrolment over the floor of the same run.
//!
//! The server is pinned to one core with one shard and one pool thread, the load generator to another, so that neither evicts the other's caches. The
//! floor (`benches/programs/src/bin/floor.rs`) and a bare datagram (`benches/programs/src/bin/bare.rs`) are measured in each repetition on the server's core, so that each
//! repetition yields a pair. What is decided is decided on the 95 % interval of the paired ratio; a promise inside of it is not decidable. CPU is user
//! and system time together, as the kernel accounts it in nanoseconds.

mod core_watch;
mod cpu;
mod durable;
mod floor;
mod ledgers;
mod others;
mod pairs;
mod programs;
mod run;
mod table;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use self::durable::{DurableCost, print_durable};
use self::floor::{Floor, median_floor};
use self::others::{HandshakeCost, print_handshakes};
use self::pairs::{PairedRatio, print_ratios};
use self::programs::FleetSize;
use self::run::{BenchConfiguration, Leaving, LedgerKind, MeasuredRun, UNSATURATED, median_run};
use self::table::print_table;
use super::facts::TimingFacts;
use super::figures::Figures;
use super::run_file::RunFile;

pub(crate) use self::cpu::pinned;
pub(super) use self::cpu::{CpuTime, resident_kib};
pub(super) use self::ledgers::LedgerFiles;
pub(super) use self::programs::Bench;

#[derive(Args)]
pub(crate) struct E2eOptions {
    /// Devices in each run, after those that warm the server up: the default takes about one second of its CPU. At a rate there are two thirds of them
    #[arg(long, default_value_t = 3000)]
    devices: u32,
    /// Pairs of each configuration: a run, and the floor and bare datagrams of the same repetition
    #[arg(long, default_value_t = 10)]
    repetitions: u32,
    /// Devices that enrol at the same time, where the server is to be saturated: a durable ledger holds most of them back until their rows are synced
    #[arg(long, default_value_t = 256)]
    concurrency: u32,
    /// Rows that the durable ledgers have already; 10,000,000 of them take a quarter of an hour to fill and 11 GB
    #[arg(long, value_delimiter = ',', default_values_t = [10_000])]
    rows: Vec<u64>,
    /// Measure only configurations whose name contains one of these, such as `openssl` or `sqlite`; a durable ledger brings the runs in memory that it is
    /// paired with
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out the handshakes of libcoap's servers
    #[arg(long)]
    without_others: bool,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What is measured: the ledger in memory, then the durable one with so many rows each, then devices that vanish and those that do not saturate the server, then the other suites and blocks.
///
/// Blocks of 64 bytes and devices that vanish are measured with the first of the durable ledgers too: more datagrams pass between its two steps, and a
/// session stays. GCM is not: the ledger gets the same rows after the same requests, so that a suite and a ledger add up. Neither is a device that vanishes
/// in blocks of 64 bytes or with GCM: it sends one datagram less, its close_notify, whatever came before.
fn configurations(rows: &[u64]) -> Vec<BenchConfiguration> {
    let compared = BenchConfiguration::compared;
    let memory = compared(LedgerKind::Memory);
    let durable = rows.iter().map(|rows| compared(LedgerKind::Sqlite { rows: *rows }));
    let vanishing = BenchConfiguration { leaving: Leaving::Vanishing, ..memory };
    let others = [("gcm", 512), ("ccm8", 64), ("gcm", 64)];
    let others = others.map(|(suite, block)| BenchConfiguration { suite, block, ..memory });
    let unsaturated = UNSATURATED.map(|pace| BenchConfiguration { pace, ..memory });
    let first = rows.iter().take(1).map(|rows| LedgerKind::Sqlite { rows: *rows });
    let combined = first.flat_map(|ledger| {
        [BenchConfiguration { block: 64, ..compared(ledger) }, BenchConfiguration { ledger, ..vanishing }]
    });
    let plain = std::iter::once(memory).chain(durable).chain([vanishing]).chain(unsaturated);
    plain.chain(others).chain(combined).collect()
}

/// The configurations with one of these words in their names, or all if there is none; and the runs in memory that chosen runs on disk are paired with.
fn chosen(configurations: Vec<BenchConfiguration>, only: &[String]) -> Result<Vec<BenchConfiguration>> {
    let is_named =
        |it: &BenchConfiguration| only.is_empty() || only.iter().any(|word| it.name().contains(word.as_str()));
    let named: Vec<BenchConfiguration> = configurations.iter().copied().filter(is_named).collect();
    ensure!(!named.is_empty(), "no configuration has {} in its name", only.join(" or "));
    let is_pair = |it: &BenchConfiguration| named.iter().any(|named| named.in_memory() == *it);
    Ok(configurations.into_iter().filter(|it| named.contains(it) || is_pair(it)).collect())
}

/// The names of what is measured for the README.
pub(super) fn names() -> Vec<String> {
    configurations(&[10_000, 1_000_000]).iter().map(BenchConfiguration::name).collect()
}

/// What is promised to a ratio, by its name in a run.
pub(super) fn promised(ratio: &str) -> Option<f64> {
    pairs::promised(ratio, &configurations(&[10_000, 1_000_000]))
}

/// Devices that enrol one after the other, for the latency of a lone enrolment.
const LONE_DEVICES: u32 = 200;

#[derive(Serialize)]
struct E2eRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: String,
    repetitions: u32,
    floor: Floor,
    /// For `bench record`: the mean of each ratio and half of its interval.
    figures: Figures,
    ratios: Vec<PairedRatio>,
    handshakes: Vec<HandshakeCost>,
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
    println!("{:<36} {:>8.2} us", "one bare datagram received", floor.bare.receive_us);
    println!("{:<36} {:>8.2} us", "one bare datagram sent", floor.bare.send_us);
    Ok(())
}

/// Runs every configuration in each repetition, beside the floor.
pub(super) fn run(options: &E2eOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let bench = Bench::build()?;
    let configurations = chosen(configurations(&options.rows), &options.only)?;
    let (floors, runs) = repeat(&bench, options, &configurations)?;
    let floor = median_floor(&floors);
    let medians: Vec<MeasuredRun> = configurations.iter().map(|it| median_run(&runs, *it)).collect();
    let mut lone = Vec::new();
    for configuration in configurations.iter().filter(|it| it.is_compared()) {
        let alone = FleetSize { devices: LONE_DEVICES, concurrency: 1 };
        lone.push(bench.run(alone, *configuration, options.repetitions, &floor)?);
    }
    let handshakes = if options.without_others { Vec::new() } else { others::measure(&bench, options.repetitions)? };
    let ratios = pairs::ratios(&runs, &configurations);
    let ledgers = configurations.iter().filter(|it| it.is_compared() && it.ledger != LedgerKind::Memory);
    let durable: Vec<DurableCost> = ledgers.map(|it| DurableCost::of(&runs, &lone, it.ledger)).collect();
    print_table(&medians, &facts);
    print_ratios(&ratios);
    print_durable(&durable);
    print_handshakes(&handshakes);
    let (command, at) = (options.command(), facts.at.clone());
    let (repetitions, figures) = (options.repetitions, pairs::figures(&ratios));
    let schema = "muster-e2e/4";
    let record = E2eRecord {
        schema,
        facts,
        command,
        repetitions,
        floor,
        figures,
        ratios,
        handshakes,
        medians,
        durable,
        lone,
        runs,
    };
    RunFile::write("e2e", &at, options.json.as_deref(), &record)
}

impl E2eOptions {
    /// As the record has it: every option that the figures depend on.
    fn command(&self) -> String {
        let only = if self.only.is_empty() { String::new() } else { format!(" --only {}", self.only.join(",")) };
        format!(
            "cargo xtask bench e2e --devices {} --repetitions {} --concurrency {} --rows {}{only}{}",
            self.devices,
            self.repetitions,
            self.concurrency,
            self.rows.iter().map(u64::to_string).collect::<Vec<_>>().join(","),
            if self.without_others { " --without-others" } else { "" }
        )
    }
}

/// Each repetition measures the floor, then each configuration once.
fn repeat(
    bench: &Bench,
    options: &E2eOptions,
    configurations: &[BenchConfiguration],
) -> Result<(Vec<Floor>, Vec<MeasuredRun>)> {
    let fleet = FleetSize { devices: options.devices, concurrency: options.concurrency };
    let (mut floors, mut runs) = (Vec::new(), Vec::new());
    for repetition in 0..options.repetitions {
        let floor = bench.floor()?;
        for configuration in configurations {
            let run = bench.run(fleet, *configuration, repetition, &floor)?;
            println!(
                "   {}/{}  {:<28}  {:.1} us, {:.3} x floor, {:.3} x floor and datagrams, {:.0} % of the core{}{}",
                repetition + 1,
                options.repetitions,
                run.configuration.name(),
                run.server_cpu_us,
                run.ratio,
                run.ratio_bare,
                run.core_share * 100.0,
                if run.unsaturated_runs == 0 { "" } else { ": not saturated" },
                if run.spoiled_by.is_empty() { "" } else { ", the generator had no reserves" }
            );
            runs.push(run);
        }
        floors.push(floor);
    }
    Ok((floors, runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ledgers_are_measured_in_both_block_sizes_and_both_ways_to_leave() {
        let names: Vec<String> = configurations(&[10_000, 1_000_000]).iter().map(BenchConfiguration::name).collect();
        for ledger in ["memory", "sqlite_10000"] {
            for rest in ["ccm8_512.L.closing", "ccm8_64.L.closing", "ccm8_512.L.vanishing"] {
                assert!(names.contains(&rest.replace('L', ledger)), "{rest} with {ledger}: {names:?}");
            }
        }
        assert!(names.contains(&"ccm8_512.sqlite_1000000.closing".to_owned()));
        for unsaturated in ["sixteen", "openssl", "unhurried"] {
            assert!(names.contains(&format!("ccm8_512.memory.closing.{unsaturated}")));
        }
        assert_eq!(names.len(), 12);
    }

    #[test]
    fn a_part_of_the_runs_can_be_measured_and_those_on_disk_have_their_pairs_in_memory() {
        let chosen = |only: &[&str]| -> Result<Vec<String>> {
            let only: Vec<String> = only.iter().map(|&word| word.to_owned()).collect();
            let chosen = chosen(configurations(&[10_000, 1_000_000]), &only)?;
            Ok(chosen.iter().map(BenchConfiguration::name).collect())
        };
        assert_eq!(chosen(&["openssl", "unhurried"]).unwrap().len(), 2);
        let million = ["ccm8_512.memory.closing", "ccm8_512.sqlite_1000000.closing"];
        assert_eq!(chosen(&["sqlite_1000000"]).unwrap(), million);
        let sqlite = chosen(&["sqlite"]).unwrap();
        assert!(sqlite.contains(&"ccm8_64.memory.closing".to_owned()) && sqlite.len() == 7, "{sqlite:?}");
        assert_eq!(chosen(&[]).unwrap(), names());
        assert!(chosen(&["openssl", "gnutls"]).is_ok() && chosen(&["gnutls"]).is_err());
    }

    #[test]
    fn no_two_runs_on_one_ledger_have_the_same_devices() {
        let configurations = configurations(&[10_000]);
        let durable: Vec<_> = configurations.iter().filter(|it| it.ledger != LedgerKind::Memory).collect();
        let mut seeds: Vec<u32> =
            (0..3).flat_map(|repetition| durable.iter().map(move |it| it.seed(repetition))).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 3 * durable.len());
        let warm = durable.iter().flat_map(|it| (0..3).map(move |repetition| it.warm_up_seed(repetition)));
        let warm: std::collections::BTreeSet<u32> = warm.collect();
        assert_eq!(warm.len(), 3 * durable.len(), "those that warm up are others again");
        assert!(seeds.iter().all(|seed| !warm.contains(seed)));
        // Those who come one after the other have the next repetition's.
        assert!(!seeds.contains(&BenchConfiguration::compared(LedgerKind::Sqlite { rows: 10_000 }).seed(3)));
    }
}
