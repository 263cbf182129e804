//! More load than one core can serve: what a released `muster serve`, pinned to a core, still finishes.
//!
//! First the peak is searched with devices that start as others finish. Then, at each multiple of the peak, honest devices start at the rate of the peak
//! on a schedule, and the rest of the load comes from `benches/src/bin/hellos.rs`: hellos with a live cookie exchange, which cost the sender so little that
//! one core can offer four times what another can serve. The hellos begin when the first honest device does. Goodput is what the server's own counters say
//! it enrolled in each second while the load lasts. A run that offered less than its schedule is void. Five seconds after the load, new devices show
//! whether the server is back.
//!
//! Beside each goodput stands how many enrolments a second of the server's own CPU time gave, in the same seconds and while the peak was searched: where
//! another process takes a part of the core, that ratio says what the clock cannot.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::e2e::{CpuTime, pinned};
use super::facts::TimingFacts;
use super::figures::{Figures, measured};
use super::median::median;
use super::released::{ReleasedServer, Threads, in_memory};
use super::run_file::RunFile;
use crate::dashboards::http;
use crate::process::{MEASURED_THE_GENERATOR, Program};
use crate::{cargo, tree};

#[derive(Args)]
pub(crate) struct OverloadOptions {
    /// The released program to load, such as one built from an older commit [default: this tree, built now]
    #[arg(long, value_name = "MUSTER")]
    target: Option<PathBuf>,
    /// The program that plays honest devices; it must support `load --cache` [default: this tree, built now]
    #[arg(long, value_name = "MUSTER")]
    fleet: Option<PathBuf>,
    /// Multiples of the peak
    #[arg(long, value_delimiter = ',', default_values_t = [1.0, 1.5, 2.0, 4.0])]
    multiples: Vec<f64>,
    /// Rounds; each measures the peak and then every multiple
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Seconds that each load lasts
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(6..=120))]
    seconds: u32,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Devices at work at the same time while the peak is searched.
const CONCURRENCIES: [u32; 3] = [32, 64, 128];
/// Devices of one step of the search.
const PEAK_DEVICES: u32 = 8_000;
/// The first seconds of a load are not counted: the queues fill.
const SETTLING: usize = 2;
/// A load that offered less than this part of its schedule measured the sender.
const OFFERED_MIN: f64 = 0.98;
/// After this time new devices must find the server as before.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// The first honest device starts within this time: before, the fleet makes its identities or reads them.
const FIRST_WITHIN: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// The devices that look whether it is, as a part of the peak, and for how long they start.
const PROBE_PART: f64 = 0.1;
const PROBE_SECONDS: f64 = 3.0;
/// A handshake without one retransmission.
const AT_ONCE: Duration = Duration::from_millis(900);
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Serialize)]
struct OverloadRecord {
    schema: &'static str,
    facts: TimingFacts,
    target: String,
    command: String,
    /// For `bench record`.
    figures: Figures,
    seconds: u32,
    rounds: Vec<Round>,
    /// Medians over the rounds of what a round's peak and loads say.
    summary: Vec<Summary>,
}

#[derive(Serialize)]
struct Round {
    peak_per_second: f64,
    peak_per_cpu_second: f64,
    loads: Vec<Overloaded>,
}

/// One multiple of the peak.
#[derive(Serialize)]
pub(super) struct Overloaded {
    multiple: f64,
    offered_per_second: f64,
    /// The part of the schedules that was offered.
    offered_share: f64,
    pub(super) void: bool,
    /// Enrolments in each second, by the server's counter.
    enrolled_each_second: Vec<f64>,
    goodput_per_second: f64,
    pub(super) of_peak: f64,
    /// Enrolments for each second of the server's CPU time, and that of the peak; the part of the core that the server had.
    per_cpu_second: f64,
    pub(super) of_peak_by_cpu: f64,
    core_share: f64,
    honest: u64,
    enrolled: u64,
    /// Attempts of honest devices that ended after their handshake, and devices that gave up.
    cut_off: u64,
    failed: u64,
    total_p50_ms: f64,
    total_p99_ms: f64,
    hellos: u64,
    hellos_begun: u64,
    socket_drops: f64,
    behind_drops: f64,
    probe_at_once: bool,
}

#[derive(Serialize)]
struct Summary {
    multiple: f64,
    of_peak: f64,
    of_peak_by_cpu: f64,
    least: f64,
    most: f64,
    void_runs: usize,
    cut_off: u64,
    back_within_5_s: bool,
}

pub(super) fn run(options: &OverloadOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let stage = OverloadStage::build(options.target.as_ref(), options.fleet.as_ref())?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let peak = stage.peak()?;
        println!(
            "round {number}: peak {:.0} enrolments/s, {:.0} for each second of CPU",
            peak.per_second, peak.per_cpu_second
        );
        let mut loads = Vec::new();
        for multiple in &options.multiples {
            let hellos = Hellos::Strangers { per_second: peak.per_second * (multiple - 1.0) };
            let load = stage.load(peak, hellos, options.seconds)?;
            println!("{}", load.line());
            loads.push(load);
        }
        let Peak { per_second: peak_per_second, per_cpu_second: peak_per_cpu_second } = peak;
        rounds.push(Round { peak_per_second, peak_per_cpu_second, loads });
    }
    let summary = summary(&options.multiples, &rounds);
    let target = options.target.as_ref().map_or_else(|| facts.commit.clone(), |path| path.display().to_string());
    let command = format!(
        "cargo xtask bench overload --multiples {} --rounds {} --seconds {}",
        options.multiples.iter().map(f64::to_string).collect::<Vec<_>>().join(","),
        options.rounds,
        options.seconds
    );
    let (schema, seconds, figures) = ("muster-overload/1", options.seconds, figures(&options.multiples, &rounds));
    let record = OverloadRecord { schema, target, command, figures, seconds, rounds, summary, facts };
    print_summary(&record.summary);
    RunFile::write("overload", &record.facts.at, options.json.as_deref(), &record)
}

/// The programs and a PKI.
pub(super) struct OverloadStage {
    target: PathBuf,
    fleet: PathBuf,
    hellos: PathBuf,
    folder: PathBuf,
}

impl OverloadStage {
    pub(super) fn build(target: Option<&PathBuf>, fleet: Option<&PathBuf>) -> Result<Self> {
        if target.is_none() || fleet.is_none() {
            cargo::cargo("build --quiet --release --locked --package muster").stream()?;
        }
        cargo::cargo("build --quiet --release --locked --package benches --bin hellos").stream()?;
        let released = tree::target().join("release");
        let [ours, hellos] = ["muster", "hellos"].map(|name| released.join(name));
        let target = target.cloned().unwrap_or_else(|| ours.clone());
        let fleet = fleet.cloned().unwrap_or(ours);
        let stage = Self { target, fleet, hellos, folder: tree::scratch("overload")? };
        Program::new(&stage.fleet).arg("init").arg(stage.folder.join("pki")).expect_success()?;
        Ok(stage)
    }

    /// A fresh server for each load: none inherits the backlog of another.
    pub(super) fn serve(&self) -> Result<Server> {
        ReleasedServer::start(in_memory(pinned(0, &self.target)), &self.folder, Threads::Shards(1)).map(Server)
    }

    pub(super) fn fleet(&self, server: &Server, seed: u32, arguments: &[String]) -> Result<Value> {
        let file = self.folder.join(format!("load-{seed}.json"));
        let load =
            pinned(1, &self.fleet).args(["load", "--server", &server.0.uri, "--pki"]).arg(self.folder.join("pki"));
        let load =
            load.args(["--seed", &seed.to_string(), "--timeout", "60s"]).args(arguments).arg("--json").arg(&file);
        let load = load.arg("--cache").arg(self.folder.join("identities"));
        // Failed devices are a result, and so is a schedule that was not kept: `void` says so. A peak that the fleet bounds is reported beside the one by
        // the server's CPU.
        load.timeout(LOAD_TIMEOUT).expect_status(&[0, 1, MEASURED_THE_GENERATOR]).context("the fleet did not run")?;
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub(super) fn peak(&self) -> Result<Peak> {
        let mut peak = Peak { per_second: 0.0, per_cpu_second: 0.0 };
        for concurrency in CONCURRENCIES {
            let server = self.serve()?;
            let arguments = [("--devices", PEAK_DEVICES), ("--concurrency", concurrency)];
            let arguments = arguments.map(|(flag, value)| [flag.to_owned(), value.to_string()]).concat();
            let before = server.cpu_seconds()?;
            let report = self.fleet(&server, 1, &arguments)?;
            for why in report["generator"]["spoiled_by"].as_array().into_iter().flatten() {
                println!(
                    "   {concurrency} devices at a time measured the fleet, and the server's peak is higher: {why}"
                );
            }
            let per_cpu_second = f64::from(PEAK_DEVICES) / (server.cpu_seconds()? - before);
            peak.per_second = peak.per_second.max(report["enrolled_per_second"].as_f64().unwrap_or_default());
            peak.per_cpu_second = peak.per_cpu_second.max(per_cpu_second);
            server.stop()?;
        }
        ensure!(peak.per_second > 0.0, "no device enrolled");
        Ok(peak)
    }

    /// Honest devices at the rate of the peak, and these hellos beside them.
    pub(super) fn load(&self, peak: Peak, hellos: Hellos, seconds: u32) -> Result<Overloaded> {
        let server = self.serve()?;
        let lasts = Duration::from_secs(seconds.into());
        let (each_second, report, junk, probe) = std::thread::scope(|scope| {
            let honest = scope.spawn(|| self.fleet(&server, 2, &scheduled(peak.per_second, f64::from(seconds))));
            let began = server.first_datagram()?;
            let junk = scope.spawn(|| {
                let some = hellos.per_second() > 0.0;
                some.then(|| self.hellos(&server, hellos, f64::from(seconds))).transpose()
            });
            let server = &server;
            let probe = scope.spawn(move || {
                let back = began + lasts + BACK_WITHIN;
                std::thread::sleep(back.saturating_duration_since(Instant::now()));
                self.fleet(server, 3, &scheduled(peak.per_second * PROBE_PART, PROBE_SECONDS))
            });
            let each_second = server.watch(began, seconds)?;
            let [honest, probe] = [honest, probe].map(|fleet| fleet.join().map_err(panicked));
            anyhow::Ok((each_second, honest??, junk.join().map_err(panicked)??, probe??))
        })?;
        let page = http::get(server.0.metrics, "/metrics")?;
        server.stop()?;
        Ok(Overloaded::of(&Run { peak, hellos: hellos.per_second(), seconds, each_second, report, junk, page, probe }))
    }

    pub(super) fn hellos(&self, server: &Server, hellos: Hellos, seconds: f64) -> Result<Value> {
        let address = server.0.uri.strip_prefix("coaps://").unwrap_or_default();
        let program = pinned(1, &self.hellos).args([address, &hellos.per_second().to_string(), &seconds.to_string()]);
        let program = match hellos {
            Hellos::Strangers { .. } => program,
            Hellos::Cookieless { .. } => program.arg("cookieless"),
        };
        Ok(serde_json::from_str(&program.timeout(LOAD_TIMEOUT).expect_success()?.stdout)?)
    }
}

/// The most that one core serves.
#[derive(Clone, Copy)]
pub(super) struct Peak {
    pub(super) per_second: f64,
    pub(super) per_cpu_second: f64,
}

/// Hellos of clients that do not mean to enrol.
#[derive(Clone, Copy)]
pub(super) enum Hellos {
    /// They return the cookie, and are not heard of again.
    Strangers { per_second: f64 },
    /// They ignore the cookie.
    Cookieless { per_second: f64 },
}

impl Hellos {
    fn per_second(self) -> f64 {
        match self {
            Self::Strangers { per_second } | Self::Cookieless { per_second } => per_second,
        }
    }
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> anyhow::Error {
    anyhow::anyhow!("a sender panicked")
}

fn scheduled(rate: f64, seconds: f64) -> Vec<String> {
    let devices = format!("{:.0}", (rate * seconds).max(1.0));
    ["--rate", &format!("{rate:.1}"), "--devices", &devices].map(str::to_owned).to_vec()
}

/// A server that is loaded and watched.
pub(super) struct Server(ReleasedServer);

impl Server {
    pub(super) fn process_id(&self) -> u32 {
        self.0.daemon.process_id()
    }

    pub(super) fn stop(self) -> Result<()> {
        self.0.daemon.stop().map(drop)
    }

    fn cpu_seconds(&self) -> Result<f64> {
        // Nanoseconds of a run, far below 2^53.
        #[allow(clippy::cast_precision_loss, reason = "a count far below 2^53")]
        let nanoseconds = CpuTime::of(self.process_id())?.nanoseconds() as f64;
        Ok(nanoseconds / 1e9)
    }

    /// Datagrams received so far.
    pub(super) fn received(&self) -> Result<f64> {
        Ok(sum(&http::get(self.0.metrics, "/metrics")?, "muster_datagrams_received_total", ""))
    }

    /// Waits for the first datagram; returns when it came.
    fn first_datagram(&self) -> Result<Instant> {
        let until = Instant::now() + FIRST_WITHIN;
        while Instant::now() < until {
            if self.received()? > 0.0 {
                return Ok(Instant::now());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        anyhow::bail!("no honest device has started within {} s", FIRST_WITHIN.as_secs())
    }

    /// What the counter of enrolments grew by in each second.
    fn watch(&self, began: Instant, seconds: u32) -> Result<Vec<Second>> {
        let mut each = Vec::new();
        let (mut last, mut at, mut cpu) = (0.0, began, self.cpu_seconds()?);
        for second in 1..=seconds {
            let due = began + Duration::from_secs(second.into());
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let page = http::get(self.0.metrics, "/metrics")?;
            let (now, enrolled) = (Instant::now(), sum(&page, "muster_requests_total", "function=\"sen\""));
            let (passed, cpu_now) = (now.saturating_duration_since(at).as_secs_f64(), self.cpu_seconds()?);
            each.push(Second { enrolled: (enrolled - last) / passed, core_share: (cpu_now - cpu) / passed });
            (last, at, cpu) = (enrolled, now, cpu_now);
        }
        Ok(each)
    }
}

/// Enrolments in one second, and the part of the core that the server had.
struct Second {
    enrolled: f64,
    core_share: f64,
}

/// The sum of a metric's series with this label.
fn sum(page: &str, name: &str, label: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

struct Run {
    peak: Peak,
    hellos: f64,
    seconds: u32,
    each_second: Vec<Second>,
    report: Value,
    junk: Option<Value>,
    page: String,
    probe: Value,
}

impl Overloaded {
    fn of(run: &Run) -> Self {
        let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_f64).unwrap_or_default();
        let count = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
        let of_junk = |key: &str| run.junk.as_ref().map_or(0, |junk| count(junk, key));
        let started = of_junk("started");
        let honest_share = number(&run.report, "/schedule/offered_share");
        let planned = run.hellos * f64::from(run.seconds);
        let junk_share = run.junk.as_ref().map_or(1.0, |junk| number(junk, "/started") / planned.max(1.0));
        let offered_share = honest_share.min(junk_share);
        let counted = || run.each_second.iter().skip(SETTLING);
        let goodput = median(counted().map(|second| second.enrolled));
        let per_cpu_second = counted().map(|second| second.enrolled).sum::<f64>()
            / counted().map(|second| second.core_share).sum::<f64>().max(f64::MIN_POSITIVE);
        Self {
            multiple: 1.0 + run.hellos / run.peak.per_second,
            offered_per_second: number(&run.report, "/schedule/offered_per_second") + run.hellos * junk_share,
            offered_share,
            void: offered_share < OFFERED_MIN,
            enrolled_each_second: run.each_second.iter().map(|second| second.enrolled).collect(),
            goodput_per_second: goodput,
            of_peak: goodput / run.peak.per_second,
            per_cpu_second,
            of_peak_by_cpu: per_cpu_second / run.peak.per_cpu_second,
            core_share: median(counted().map(|second| second.core_share)),
            honest: count(&run.report, "devices"),
            enrolled: count(&run.report, "enrolled"),
            cut_off: cut_off(&run.report),
            failed: count(&run.report, "failed"),
            total_p50_ms: stage(&run.report, "total", "p50_us") / 1e3,
            total_p99_ms: stage(&run.report, "total", "p99_us") / 1e3,
            hellos: started,
            hellos_begun: of_junk("begun"),
            socket_drops: sum(&run.page, "muster_drops_total", "\"receive_full\""),
            behind_drops: sum(&run.page, "muster_drops_total", "\"behind\""),
            probe_at_once: count(&run.probe, "failed") == 0
                && stage(&run.probe, "handshake", "p99_us") < AT_ONCE.as_secs_f64() * 1e6,
        }
    }

    pub(super) fn line(&self) -> String {
        let void = if self.void { " VOID: offered less than its schedule" } else { "" };
        format!(
            "   {:>4.1}x offered {:>6.0}/s, goodput {:>5.0}/s = {:>3.0} % of the peak, by its CPU {:.0} % with {:.0} % of the core; cut off {}, failed {}; total p50 {:.0} p99 {:.0} ms; \
             dropped by the socket {:.0}, while behind {:.0}; back within {} s: {}{void}",
            self.multiple,
            self.offered_per_second,
            self.goodput_per_second,
            self.of_peak * 100.0,
            self.of_peak_by_cpu * 100.0,
            self.core_share * 100.0,
            self.cut_off,
            self.failed,
            self.total_p50_ms,
            self.total_p99_ms,
            self.socket_drops,
            self.behind_drops,
            BACK_WITHIN.as_secs(),
            if self.probe_at_once { "yes" } else { "no" },
        )
    }
}

fn stage(report: &Value, name: &str, key: &str) -> f64 {
    let mut stages = report["stages"].as_array().into_iter().flatten();
    stages.find(|stage| stage["stage"] == name).and_then(|stage| stage[key].as_f64()).unwrap_or_default()
}

/// Attempts that had a session and lost it. A hello without an answer is no such attempt: nothing had begun.
fn cut_off(report: &Value) -> u64 {
    let errors = report["errors"].as_array().into_iter().flatten();
    errors.filter(|error| error["stage"] != "handshake").filter_map(|error| error["count"].as_u64()).sum()
}

/// Less is better for each: what is lost of the peak, and the CPU of an enrolment at the peak. A load that was not offered is no sample.
fn figures(multiples: &[f64], rounds: &[Round]) -> Figures {
    let lost = multiples.iter().enumerate().map(|(at, multiple)| {
        let loads = rounds.iter().filter_map(|round| round.loads.get(at)).filter(|load| !load.void);
        (format!("goodput_lost/at_{multiple}x"), loads.map(|load| 1.0 - load.of_peak).collect::<Vec<_>>())
    });
    let peak = rounds.iter().map(|round| 1e6 / round.peak_per_cpu_second).collect();
    let samples = lost.chain([("enrolment_cpu_us/at_the_peak".to_owned(), peak)]);
    samples.filter_map(|(name, samples)| Some((name, measured(&samples)?))).collect()
}

fn summary(multiples: &[f64], rounds: &[Round]) -> Vec<Summary> {
    let of = |at: usize| rounds.iter().filter_map(move |round| round.loads.get(at));
    let summarise = |(at, multiple): (usize, &f64)| {
        let shares: Vec<f64> = of(at).filter(|load| !load.void).map(|load| load.of_peak).collect();
        Summary {
            multiple: *multiple,
            of_peak: median(shares.iter().copied()),
            of_peak_by_cpu: median(of(at).filter(|load| !load.void).map(|load| load.of_peak_by_cpu)),
            least: shares.iter().copied().fold(f64::INFINITY, f64::min),
            most: shares.iter().copied().fold(0.0, f64::max),
            void_runs: of(at).filter(|load| load.void).count(),
            cut_off: of(at).map(|load| load.cut_off).sum(),
            back_within_5_s: of(at).all(|load| load.probe_at_once),
        }
    };
    multiples.iter().enumerate().map(summarise).collect()
}

fn print_summary(all: &[Summary]) {
    println!("\n   offered   goodput of the peak   least   most   by CPU   void   cut off   back within 5 s");
    for one in all {
        let percent = |share: f64| if share.is_finite() { format!("{:.0} %", share * 100.0) } else { "-".to_owned() };
        println!(
            "   {:>5.1}x   {:>19}   {:>5}   {:>4}   {:>6}   {:>4}   {:>7}   {}",
            one.multiple,
            percent(one.of_peak),
            percent(one.least),
            percent(one.most),
            percent(one.of_peak_by_cpu),
            one.void_runs,
            one.cut_off,
            if one.back_within_5_s { "yes" } else { "no" },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Overloaded {
        /// A load that finished this part of the peak.
        pub(in super::super) fn example(of_peak: f64) -> Self {
            let peak = Peak { per_second: 1_000.0, per_cpu_second: 1_000.0 };
            let second = || Second { enrolled: of_peak * 1_000.0, core_share: 1.0 };
            let report = serde_json::json!({ "schedule": { "offered_share": 1.0 } });
            let (junk, page, probe) = (None, String::new(), Value::Null);
            let each_second = std::iter::repeat_with(second).take(6).collect();
            Self::of(&Run { peak, hellos: 0.0, seconds: 6, each_second, report, junk, page, probe })
        }
    }

    #[test]
    fn what_is_lost_of_the_peak_is_a_figure_with_the_noise_of_the_rounds() {
        let round = |of_peak| Round {
            peak_per_second: 1_000.0,
            peak_per_cpu_second: 1_000.0,
            loads: vec![Overloaded::example(of_peak)],
        };
        let figures = figures(&[2.0], &[round(0.9), round(0.8), round(0.85)]);
        let lost = figures["goodput_lost/at_2x"];
        assert!((lost.value - 0.15).abs() < 1e-9 && lost.noise > 0.1, "{lost:?}");
        assert!((figures["enrolment_cpu_us/at_the_peak"].value - 1_000.0).abs() < 1e-9);
    }

    #[test]
    fn a_metric_is_summed_over_its_series() {
        let page = "# TYPE muster_requests_total counter\nmuster_requests_total{profile=\"a\",function=\"sen\"} 3\n\
                    muster_requests_total{profile=\"b\",function=\"sen\"} 4\nmuster_requests_total{profile=\"b\",function=\"crts\"} 9\n";
        assert!((sum(page, "muster_requests_total", "function=\"sen\"") - 7.0).abs() < 1e-9);
    }

    #[test]
    fn only_what_had_begun_is_cut_off() {
        let report = serde_json::json!({ "errors": [
            { "stage": "handshake", "reason": "device.server.no_answer", "count": 40 },
            { "stage": "enrol", "reason": "device.server.no_answer", "count": 2 },
        ]});
        assert_eq!(cut_off(&report), 2);
    }
}
