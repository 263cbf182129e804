//! End to end: `muster serve` and `muster load` as processes, and the server's CPU for each enrolment over the floor of the same run.
//!
//! The server is pinned to one core with one shard and one pool thread, the load generator to another, so that neither evicts the other's caches. The
//! floor (`benches/src/bin/floor.rs`) is measured between the runs on the server's core; all figures are medians over the repetitions. CPU is user and
//! system time together, as the kernel accounts it in nanoseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::facts::TimingFacts;
use crate::dashboards::http;
use crate::process::{Daemon, Program};
use crate::{cargo, tree};

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

/// One line of the table.
#[derive(Clone, Copy, Serialize)]
struct BenchConfiguration {
    suite: &'static str,
    block: u16,
    ledger: LedgerKind,
}

/// Where the server records certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum LedgerKind {
    Memory,
    /// An empty file.
    Sqlite,
}

const CONFIGURATIONS: &[BenchConfiguration] = &[
    BenchConfiguration { suite: "ccm8", block: 512, ledger: LedgerKind::Memory },
    BenchConfiguration { suite: "ccm8", block: 512, ledger: LedgerKind::Sqlite },
    BenchConfiguration { suite: "gcm", block: 512, ledger: LedgerKind::Memory },
    BenchConfiguration { suite: "ccm8", block: 64, ledger: LedgerKind::Memory },
    BenchConfiguration { suite: "gcm", block: 64, ledger: LedgerKind::Memory },
];
/// Hello, HelloVerifyRequest, hello with cookie, the server's flight: all other datagrams carry one sealed record each.
const PLAIN_DATAGRAMS: f64 = 4.0;
/// Devices that leave without closing, as in every real fleet.
const VANISH: &str = "30%";
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// Microseconds, as `benches/src/bin/floor.rs` prints them.
#[derive(Clone, Serialize, Deserialize)]
struct Floor {
    sign_us: f64,
    verify_us: f64,
    agreement_us: f64,
    handshake_symmetric_us: f64,
    ccm8_record_us: f64,
    gcm_record_us: f64,
    /// The server's side of a whole enrolment in memory, by suite and block (`ccm8_512`).
    engine_us: BTreeMap<String, f64>,
}

impl LedgerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "SQLite",
        }
    }
}

impl Floor {
    fn engine(&self, configuration: BenchConfiguration) -> f64 {
        self.engine_us.get(&format!("{}_{}", configuration.suite, configuration.block)).copied().unwrap_or_default()
    }

    /// Two signatures (key exchange, certificate), three verifications (device certificate, its proof, the request's proof), one agreement, and one
    /// record for each datagram that carries one.
    fn of(&self, suite: &str, records: f64) -> f64 {
        let record = if suite == "ccm8" { self.ccm8_record_us } else { self.gcm_record_us };
        2.0 * self.sign_us + 3.0 * self.verify_us + self.agreement_us + self.handshake_symmetric_us + records * record
    }
}

/// The results of one run, per enrolment.
#[derive(Clone, Serialize)]
struct MeasuredRun {
    #[serde(flatten)]
    configuration: BenchConfiguration,
    enrolled: f64,
    enrolled_per_second: f64,
    server_cpu_us: f64,
    floor_us: f64,
    /// The engines alone, in memory: the difference to `server_cpu_us` is sockets, threads and the kernel.
    engine_us: f64,
    ratio: f64,
    /// The part of `server_cpu_us` that the kernel spent.
    kernel_us: f64,
    /// The same time by the name of the thread.
    by_thread_us: BTreeMap<String, f64>,
    datagrams_up: f64,
    datagrams_down: f64,
    bytes_up: f64,
    bytes_down: f64,
    handshake_p50_us: f64,
    total_p50_us: f64,
    total_p99_us: f64,
    server_rss_kib: f64,
    /// Syncs of the durable ledger.
    commits: f64,
}

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
    let (mut floors, mut runs) = (Vec::new(), Vec::new());
    for repetition in 0..options.repetitions {
        floors.push(bench.floor()?);
        let floor = median_floor(&floors);
        for configuration in CONFIGURATIONS {
            let run = bench.run(options, *configuration, repetition, &floor)?;
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

/// The released programs, and a PKI.
struct Bench {
    muster: PathBuf,
    floor: PathBuf,
    folder: PathBuf,
}

impl Bench {
    fn build() -> Result<Self> {
        cargo::cargo("build --quiet --release --locked --package muster").stream()?;
        cargo::cargo("build --quiet --release --locked --package benches --bin floor").stream()?;
        let released = tree::target().join("release");
        let bench =
            Self { muster: released.join("muster"), floor: released.join("floor"), folder: tree::scratch("e2e")? };
        Program::new(&bench.muster).arg("init").arg(bench.folder.join("pki")).expect_success()?;
        Ok(bench)
    }

    fn floor(&self) -> Result<Floor> {
        let ended = pinned(0, &self.floor).timeout(LOAD_TIMEOUT).expect_success()?;
        serde_json::from_str(&ended.stdout).with_context(|| format!("the floor printed {}", ended.stdout))
    }

    fn run(
        &self,
        options: &E2eOptions,
        configuration: BenchConfiguration,
        repetition: u32,
        floor: &Floor,
    ) -> Result<MeasuredRun> {
        let metrics = free_address()?;
        let (server, uri) = self.serve(configuration.ledger, metrics)?;
        let before = CpuTime::of(server.process_id())?;
        let report = self.load(options, configuration, repetition, &uri)?;
        let cpu = CpuTime::of(server.process_id())?.since(&before);
        let server_rss_kib = resident_kib(server.process_id());
        let commits = commits(&http::get(metrics, "/metrics")?)?;
        let (status, words) = server.stop()?;
        ensure!(status.success(), "muster serve ended with {status}:\n{words}");
        let run = measured(configuration, &report, &cpu, server_rss_kib, floor)?;
        Ok(MeasuredRun { commits: commits / run.enrolled, ..run })
    }

    fn serve(&self, ledger: LedgerKind, metrics: SocketAddr) -> Result<(Daemon, String)> {
        let url = match ledger {
            LedgerKind::Memory => "memory:".to_owned(),
            LedgerKind::Sqlite => {
                let folder = tree::scratch("e2e-ledger")?;
                format!("sqlite:{}", folder.join("ledger.db").display())
            }
        };
        let serve = pinned(0, &self.muster)
            .env("MUSTER_LEDGER__URL", url)
            .arg("serve")
            .arg("--config")
            .arg(self.folder.join("pki/muster.toml"));
        let serve = serve
            .args(["--listen", "127.0.0.1:0"])
            .env("MUSTER_METRICS__LISTEN", metrics.to_string())
            .env("MUSTER_LOG", "warn");
        let serve = serve.env("MUSTER_SERVER__SHARDS", "1").env("MUSTER_SERVER__POOL_THREADS", "1");
        let (server, line) = serve.daemon("listening on coaps://", &self.folder.join("serve.log"))?;
        let uri = line.split_whitespace().last().unwrap_or_default().to_owned();
        Ok((server, uri))
    }

    fn load(
        &self,
        options: &E2eOptions,
        configuration: BenchConfiguration,
        repetition: u32,
        uri: &str,
    ) -> Result<serde_json::Value> {
        let file = self.folder.join("load.json");
        let load = pinned(1, &self.muster).args(["load", "--server", uri, "--pki"]).arg(self.folder.join("pki"));
        let load = load
            .arg("--devices")
            .arg(options.devices.to_string())
            .arg("--concurrency")
            .arg(options.concurrency.to_string());
        let load = load.args(["--suite", configuration.suite, "--block"]).arg(configuration.block.to_string());
        let load = load
            .args(["--vanish", VANISH, "--seed"])
            .arg((repetition + 1).to_string())
            .arg("--json")
            .arg(&file)
            .timeout(LOAD_TIMEOUT);
        load.expect_success()?;
        Ok(serde_json::from_str(&std::fs::read_to_string(&file)?)?)
    }
}

/// An address on loopback that is free now: the log of a server that only warns does not say which one it took.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// What the page of metrics says of the ledger.
fn commits(page: &str) -> Result<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix("muster_ledger_commits_total "));
    Ok(value.context("the metrics have no muster_ledger_commits_total")?.parse()?)
}

fn measured(
    configuration: BenchConfiguration,
    report: &serde_json::Value,
    cpu: &CpuTime,
    server_rss_kib: f64,
    floor: &Floor,
) -> Result<MeasuredRun> {
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(serde_json::Value::as_f64)
            .with_context(|| format!("the report has no {pointer}"))
    };
    let enrolled = number("/enrolled")?;
    ensure!(enrolled > 0.0 && number("/failed")? == 0.0, "devices failed: {report}");
    let stage = |name: &str, key: &str| {
        let stages = report["stages"].as_array().into_iter().flatten();
        stages
            .into_iter()
            .find(|stage| stage["stage"] == name)
            .and_then(|stage| stage[key].as_f64())
            .unwrap_or_default()
    };
    let datagrams_up = number("/traffic/datagrams_sent")? / enrolled;
    let datagrams_down = number("/traffic/datagrams_received")? / enrolled;
    let microseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6 / enrolled;
    let server_cpu_us = microseconds(cpu.nanoseconds());
    let floor_us = floor.of(configuration.suite, (datagrams_up + datagrams_down - PLAIN_DATAGRAMS).max(0.0));
    Ok(MeasuredRun {
        configuration,
        enrolled,
        enrolled_per_second: number("/enrolled_per_second")?,
        server_cpu_us,
        floor_us,
        engine_us: floor.engine(configuration),
        ratio: server_cpu_us / floor_us,
        kernel_us: server_cpu_us * cpu.system_share(),
        by_thread_us: cpu.by_thread.iter().map(|(name, spent)| (name.clone(), microseconds(*spent))).collect(),
        datagrams_up,
        datagrams_down,
        bytes_up: number("/traffic/bytes_sent")? / enrolled,
        bytes_down: number("/traffic/bytes_received")? / enrolled,
        handshake_p50_us: stage("handshake", "p50_us"),
        total_p50_us: stage("total", "p50_us"),
        total_p99_us: stage("total", "p99_us"),
        server_rss_kib,
        commits: 0.0,
    })
}

/// Runs a program on one core, if there are two cores to separate.
pub(super) fn pinned(core: usize, program: &Path) -> Program {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2) {
        Program::new("taskset").args(["-c", &core.to_string()]).arg(program)
    } else {
        Program::new(program)
    }
}

/// The CPU time of a process: user and system time of each thread from the scheduler's own account in nanoseconds, summed by the thread's name.
/// The server's threads live as long as the server; a thread that ends between listing and reading is left out.
struct CpuTime {
    by_thread: BTreeMap<String, u64>,
    user_ticks: f64,
    system_ticks: f64,
}

impl CpuTime {
    fn of(process_id: u32) -> Result<Self> {
        let mut by_thread = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{process_id}/task"))? {
            let folder = task?.path();
            let Ok(account) = std::fs::read_to_string(folder.join("schedstat")) else { continue };
            let running = account.split(' ').next().unwrap_or_default().parse::<u64>();
            let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default().trim().to_owned();
            *by_thread.entry(name).or_default() +=
                running.with_context(|| format!("schedstat contains {account:?}"))?;
        }
        let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat"))?;
        // After the name, which may hold anything, utime and stime are the 12th and 13th field (proc(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).unwrap_or_default();
        Ok(Self { by_thread, user_ticks: ticks(11), system_ticks: ticks(12) })
    }

    fn nanoseconds(&self) -> u64 {
        self.by_thread.values().sum()
    }

    fn since(&self, before: &Self) -> Self {
        let earlier = |name: &String| before.by_thread.get(name).copied().unwrap_or_default();
        Self {
            by_thread: self
                .by_thread
                .iter()
                .map(|(name, now)| (name.clone(), now.saturating_sub(earlier(name))))
                .collect(),
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
        }
    }

    /// The kernel's part, in clock ticks.
    fn system_share(&self) -> f64 {
        let all = self.user_ticks + self.system_ticks;
        if all > 0.0 { self.system_ticks / all } else { 0.0 }
    }
}

fn resident_kib(process_id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn durable_cost(runs: &[MeasuredRun]) -> DurableCost {
    let of = |ledger| {
        let is_it = move |run: &&MeasuredRun| {
            let BenchConfiguration { suite, block, ledger: used } = run.configuration;
            used == ledger && suite == CONFIGURATIONS[0].suite && block == CONFIGURATIONS[0].block
        };
        runs.iter().filter(is_it)
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

fn median_floor(floors: &[Floor]) -> Floor {
    let of = |field: fn(&Floor) -> f64| median(floors.iter().map(field));
    Floor {
        sign_us: of(|floor| floor.sign_us),
        verify_us: of(|floor| floor.verify_us),
        agreement_us: of(|floor| floor.agreement_us),
        handshake_symmetric_us: of(|floor| floor.handshake_symmetric_us),
        ccm8_record_us: of(|floor| floor.ccm8_record_us),
        gcm_record_us: of(|floor| floor.gcm_record_us),
        engine_us: CONFIGURATIONS
            .iter()
            .map(|configuration| format!("{}_{}", configuration.suite, configuration.block))
            .map(|name| (name.clone(), median(floors.iter().filter_map(|floor| floor.engine_us.get(&name).copied()))))
            .collect(),
    }
}

fn median_run(runs: &[MeasuredRun], configuration: BenchConfiguration, floor: &Floor) -> MeasuredRun {
    let same = |run: &&MeasuredRun| {
        run.configuration.suite == configuration.suite
            && run.configuration.block == configuration.block
            && run.configuration.ledger == configuration.ledger
    };
    let of = |field: fn(&MeasuredRun) -> f64| median(runs.iter().filter(same).map(field));
    let (datagrams_up, datagrams_down, server_cpu_us) =
        (of(|run| run.datagrams_up), of(|run| run.datagrams_down), of(|run| run.server_cpu_us));
    let floor_us = floor.of(configuration.suite, (datagrams_up + datagrams_down - PLAIN_DATAGRAMS).max(0.0));
    let names: BTreeSet<&String> = runs.iter().filter(same).flat_map(|run| run.by_thread_us.keys()).collect();
    let spent = |name: &String| median(runs.iter().filter(same).filter_map(|run| run.by_thread_us.get(name).copied()));
    let threads = names.into_iter().map(|name| (name.clone(), spent(name))).collect();
    MeasuredRun {
        configuration,
        enrolled: of(|run| run.enrolled),
        enrolled_per_second: of(|run| run.enrolled_per_second),
        server_cpu_us,
        floor_us,
        engine_us: floor.engine(configuration),
        ratio: server_cpu_us / floor_us,
        kernel_us: of(|run| run.kernel_us),
        by_thread_us: threads,
        datagrams_up,
        datagrams_down,
        bytes_up: of(|run| run.bytes_up),
        bytes_down: of(|run| run.bytes_down),
        handshake_p50_us: of(|run| run.handshake_p50_us),
        total_p50_us: of(|run| run.total_p50_us),
        total_p99_us: of(|run| run.total_p99_us),
        server_rss_kib: of(|run| run.server_rss_kib),
        commits: of(|run| run.commits),
    }
}

/// Prints Markdown for the README.
fn print_table(medians: &[MeasuredRun], facts: &TimingFacts) {
    println!("\n{}, {}, {}\n", facts.cpu, facts.kernel, facts.rustc);
    println!(
        "| suite | block | ledger | floor, us | engines in memory, us | server CPU, us | ratio | datagrams up / down | bytes up / down | enrolments/s | p50 / p99, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for run in medians {
        println!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.0} | **{:.2}** | {:.1} / {:.1} | {:.0} / {:.0} | {:.0} | {:.1} / {:.1} |",
            run.configuration.suite.to_uppercase(),
            run.configuration.block,
            run.configuration.ledger.name(),
            run.floor_us,
            run.engine_us,
            run.server_cpu_us,
            run.ratio,
            run.datagrams_up,
            run.datagrams_down,
            run.bytes_up,
            run.bytes_down,
            run.enrolled_per_second,
            run.total_p50_us / 1e3,
            run.total_p99_us / 1e3
        );
    }
    println!();
    for run in medians {
        let threads: Vec<String> = run
            .by_thread_us
            .iter()
            .filter(|(_, spent)| **spent >= 1.0)
            .map(|(name, spent)| format!("{name} {spent:.0}"))
            .collect();
        println!(
            "{} {}, ledger {}: of {:.0} us the kernel {:.0}; by thread: {}",
            run.configuration.suite,
            run.configuration.block,
            run.configuration.ledger.name(),
            run.server_cpu_us,
            run.kernel_us,
            threads.join(", ")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn the_floor_is_six_public_key_operations_and_the_records() {
        let floor = Floor {
            sign_us: 10.0,
            verify_us: 30.0,
            agreement_us: 50.0,
            handshake_symmetric_us: 5.0,
            ccm8_record_us: 0.5,
            gcm_record_us: 0.1,
            engine_us: BTreeMap::new(),
        };
        assert!((floor.of("ccm8", 20.0) - 175.0).abs() < 1e-9);
        assert!((floor.of("gcm", 20.0) - 167.0).abs() < 1e-9);
    }

    #[test]
    fn our_own_cpu_time_is_counted() {
        let now = CpuTime::of(std::process::id()).unwrap();
        assert!(now.nanoseconds() > 0);
        assert_eq!(now.since(&now).nanoseconds(), 0);
        assert!(CpuTime::of(u32::MAX).is_err());
    }

    #[test]
    fn a_report_with_failures_is_no_measurement() {
        let report =
            serde_json::json!({ "enrolled": 9, "failed": 1, "enrolled_per_second": 1.0, "stages": [], "traffic": {} });
        let floor = Floor {
            sign_us: 1.0,
            verify_us: 1.0,
            agreement_us: 1.0,
            handshake_symmetric_us: 1.0,
            ccm8_record_us: 1.0,
            gcm_record_us: 1.0,
            engine_us: BTreeMap::new(),
        };
        assert!(measured(CONFIGURATIONS[0], &report, &CpuTime::of(std::process::id()).unwrap(), 0.0, &floor).is_err());
    }
}
