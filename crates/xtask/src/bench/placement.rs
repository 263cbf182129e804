//! `cargo xtask bench placement`: where the public-key steps of handshakes run (`dtls.public_key_steps`) and how many threads the pool has
//! (`server.pool_threads`), measured in interleaved pairs: the server's CPU for each enrolment and how many of them it serves a second.
//!
//! A server on one core has the load generator on another one, as in `e2e`. A server on all cores shares them with the load generator, so that its rate is
//! that of the machine. It has one shard in both, so that a pool has a core to win in the second.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::e2e::{Bench, CpuTime, pinned};
use super::facts::TimingFacts;
use super::interval::Interval;
use super::median::median;
use super::released::{ReleasedServer, Threads, in_memory};
use super::run_file::RunFile;
use crate::process::{MEASURED_THE_GENERATOR, Program};

#[derive(Args)]
pub(crate) struct PlacementOptions {
    /// Devices in each run
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    devices: u32,
    /// Runs of each placement, one after the other in each repetition
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(2..))]
    repetitions: u32,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

const TIMEOUT: Duration = Duration::from_secs(300);
/// Devices at the same time.
const CONCURRENCIES: [u32; 2] = [64, 16];
/// Values of `dtls.public_key_steps`.
const STEPS: [&str; 2] = ["shard", "pool"];
const POOL_THREADS: [u32; 2] = [1, 2];

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Placement {
    cores: ServerCores,
    concurrency: u32,
    public_key_steps: &'static str,
    pool_threads: u32,
}

/// What the server runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum ServerCores {
    One,
    All,
}

#[derive(Clone, Copy, Serialize)]
struct PlacementRun {
    #[serde(flatten)]
    placement: Placement,
    cpu_us: f64,
    enrolled_per_second: f64,
}

/// What a placement costs, and its ratio to steps on the shard and one thread in the same repetition.
#[derive(Serialize)]
struct PlacementCost {
    #[serde(flatten)]
    placement: Placement,
    cpu_us: f64,
    enrolled_per_second: f64,
    cpu_ratio: Interval,
    rate_ratio: Interval,
}

#[derive(Serialize)]
struct PlacementRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: String,
    costs: Vec<PlacementCost>,
    runs: Vec<PlacementRun>,
}

impl Placement {
    /// What it is compared with.
    fn compared(self) -> Self {
        Self { public_key_steps: STEPS[0], pool_threads: POOL_THREADS[0], ..self }
    }

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for cores in [ServerCores::One, ServerCores::All] {
            for concurrency in CONCURRENCIES {
                for public_key_steps in STEPS {
                    let of = |pool_threads| Self { cores, concurrency, public_key_steps, pool_threads };
                    all.extend(POOL_THREADS.map(of));
                }
            }
        }
        all
    }
}

pub(super) fn run(options: &PlacementOptions) -> Result<()> {
    let (facts, bench) = (TimingFacts::here(), Bench::build()?);
    let placements = Placement::all();
    let mut runs = Vec::new();
    for repetition in 0..options.repetitions {
        for placement in &placements {
            runs.push(measured(&bench, options.devices, *placement, repetition)?);
        }
        println!("   {}/{}", repetition + 1, options.repetitions);
    }
    let costs: Vec<PlacementCost> = placements.iter().map(|placement| cost(&runs, *placement)).collect();
    print_table(&costs);
    let (devices, repetitions) = (options.devices, options.repetitions);
    let command = format!("cargo xtask bench placement --devices {devices} --repetitions {repetitions}");
    let record = PlacementRecord { schema: "muster-placement/1", command, costs, runs, facts };
    RunFile::write("placement", &record.facts.at, options.json.as_deref(), &record)
}

fn measured(bench: &Bench, devices: u32, placement: Placement, repetition: u32) -> Result<PlacementRun> {
    let Placement { cores, concurrency, public_key_steps, pool_threads } = placement;
    let on = |core: usize| match cores {
        ServerCores::One => pinned(core, &bench.muster),
        ServerCores::All => Program::new(&bench.muster),
    };
    let muster = in_memory(on(0)).env("MUSTER_DTLS__PUBLIC_KEY_STEPS", public_key_steps);
    let threads = Threads::Both { shards: 1, pool: pool_threads };
    let ReleasedServer { daemon, uri, .. } = ReleasedServer::start(muster, &bench.folder, threads)?;
    let before = CpuTime::of(daemon.process_id())?;
    let file = bench.folder.join("placement.json");
    let load = on(1).args(["load", "--server", &uri, "--pki"]).arg(bench.folder.join("pki"));
    let load = load.args(["--suite", "ccm8", "--block", "512", "--concurrency"]).arg(concurrency.to_string());
    let load = load.arg("--devices").arg(devices.to_string()).arg("--seed").arg((repetition + 1).to_string());
    load.arg("--json").arg(&file).timeout(TIMEOUT).expect_status(&[0, MEASURED_THE_GENERATOR])?;
    let spent = CpuTime::of(daemon.process_id())?.since(&before).nanoseconds();
    let (status, words) = daemon.stop()?;
    ensure!(status.success(), "muster serve ended with {status}:\n{words}");
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    let number = |key: &str| report[key].as_f64().with_context(|| format!("the report has no {key}"));
    ensure!(number("failed")? == 0.0 && number("enrolled")? > 0.0, "devices failed: {report}");
    Ok(PlacementRun {
        placement,
        cpu_us: Duration::from_nanos(spent).as_secs_f64() * 1e6 / number("enrolled")?,
        enrolled_per_second: number("enrolled_per_second")?,
    })
}

fn cost(runs: &[PlacementRun], placement: Placement) -> PlacementCost {
    let of = |placement: Placement, field: fn(&PlacementRun) -> f64| -> Vec<f64> {
        runs.iter().filter(|run| run.placement == placement).map(field).collect()
    };
    let ratio = |field: fn(&PlacementRun) -> f64| {
        let pairs = of(placement, field).into_iter().zip(of(placement.compared(), field));
        Interval::of(&pairs.map(|(it, compared)| it / compared).collect::<Vec<f64>>())
    };
    PlacementCost {
        placement,
        cpu_us: median(of(placement, |run| run.cpu_us)),
        enrolled_per_second: median(of(placement, |run| run.enrolled_per_second)),
        cpu_ratio: ratio(|run| run.cpu_us),
        rate_ratio: ratio(|run| run.enrolled_per_second),
    }
}

/// Prints Markdown.
fn print_table(costs: &[PlacementCost]) {
    println!(
        "\n| cores | at once | steps | pool threads | CPU, us | over shard, 1 thread | enrolments/s | over shard, 1 thread |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for cost in costs {
        let Placement { cores, concurrency, public_key_steps, pool_threads } = cost.placement;
        let cores = if cores == ServerCores::One { "one" } else { "all, with the load" };
        let is_compared = cost.placement == cost.placement.compared();
        let [cpu, rate] =
            [&cost.cpu_ratio, &cost.rate_ratio].map(|it| if is_compared { "1".to_owned() } else { format!("{it:.3}") });
        println!(
            "| {cores} | {concurrency} | {public_key_steps} | {pool_threads} | {:.0} | {cpu} | {:.0} | {rate} |",
            cost.cpu_us, cost.enrolled_per_second
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_is_compared_with_steps_on_the_shard_and_one_thread_of_the_same_repetition() {
        let placements = Placement::all();
        assert_eq!(placements.len(), 16);
        let dearer = Placement { public_key_steps: "pool", pool_threads: 2, ..placements[0] };
        let run = |placement, cpu_us| PlacementRun { placement, cpu_us, enrolled_per_second: 1e6 / cpu_us };
        let runs = [run(placements[0], 100.0), run(dearer, 110.0), run(placements[0], 200.0), run(dearer, 220.0)];
        let cost = cost(&runs, dearer);
        assert!((cost.cpu_ratio.mean - 1.1).abs() < 1e-9 && (cost.rate_ratio.mean - 1.0 / 1.1).abs() < 1e-9);
        assert!((cost.cpu_us - 165.0).abs() < 1e-9, "{}", cost.cpu_us);
    }
}
