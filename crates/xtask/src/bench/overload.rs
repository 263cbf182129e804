//! More load than one core can serve: what a released `muster serve`, pinned to a core, still finishes.
//!
//! First the peak is searched with devices that start as others finish, twice as many at a time until the rate falls. Then, at each multiple of the
//! peak, honest devices start at the rate of the peak on a schedule, and the rest of the load comes from `benches/programs/src/bin/hellos.rs`: hellos with
//! a live cookie exchange, which cost the sender so little that
//! one core can offer four times what another can serve. The hellos begin when the first honest device does. Goodput is what the server's own counters say
//! it enrolled in each second while the load lasts. A load that was not offered whole and in time, or whose server did not have its core, is void and played
//! again; what it says then stands in `judged`. What an honest device saw begin and not end is cut off: its handshake after the ServerHello, its upload, or its session. Five seconds after the load, new devices show whether the server is back.
//!
//! Beside each goodput stands how many enrolments a second of the server's own CPU time gave, in the same seconds and while the peak was searched: where
//! another process takes a part of the core, that ratio says what the clock cannot.

mod judged;
mod peak;
mod summary;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use self::judged::{LoadRun, Second, sum};
use self::peak::{ATTEMPTS_MAX, PeakStep};
use self::summary::{Round, Summary, figures, print_summary, summary};
use super::e2e::{CpuTime, pinned};
use super::facts::TimingFacts;
use super::figures::Figures;
use super::generator::spoiled_by;
use super::measured_program::MeasuredProgram;
use super::released::{ReleasedServer, Threads, in_memory};
use super::run_file::RunFile;
use crate::dashboards::http;
use crate::process::{MEASURED_THE_GENERATOR, Program};
use crate::{cargo, tree};

pub(super) use self::judged::Overloaded;
pub(super) use self::peak::Peak;

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

/// Devices of one step of the search.
const PEAK_DEVICES: u32 = 8_000;
/// After this time new devices must find the server as before.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// The first honest device starts within this time: before, the fleet makes its identities or reads them.
const FIRST_WITHIN: Duration = Duration::from_secs(120);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// The devices that look whether it is, as a part of the peak, and for how long they start.
const PROBE_PART: f64 = 0.1;
const PROBE_SECONDS: f64 = 3.0;
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Serialize)]
struct OverloadRecord {
    schema: &'static str,
    facts: TimingFacts,
    /// The server, and what played the honest devices.
    target: MeasuredProgram,
    fleet: MeasuredProgram,
    command: String,
    /// For `bench record`.
    figures: Figures,
    seconds: u32,
    rounds: Vec<Round>,
    /// Medians over the rounds of what a round's peak and loads say.
    summary: Vec<Summary>,
}

pub(super) fn run(options: &OverloadOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let stage = OverloadStage::build(options.target.as_ref(), options.fleet.as_ref())?;
    let [target, fleet] = [stage.target(&facts.commit)?, stage.played_by(&facts.commit)?];
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let peak = stage.peak()?;
        println!(
            "round {number}: peak {:.0} enrolments/s with {:.0} % of the core, {:.0} for each second of CPU",
            peak.per_second,
            peak.core_share() * 100.0,
            peak.per_cpu_second
        );
        let mut loads = Vec::new();
        for multiple in &options.multiples {
            let hellos = Hellos::Strangers { per_second: peak.per_second * (multiple - 1.0) };
            loads.push(stage.load(&peak, hellos, options.seconds)?);
        }
        rounds.push(Round::new(peak, loads));
    }
    let summary = summary(&options.multiples, &rounds);
    let command = format!(
        "cargo xtask bench overload --multiples {} --rounds {} --seconds {}{}",
        options.multiples.iter().map(f64::to_string).collect::<Vec<_>>().join(","),
        options.rounds,
        options.seconds,
        by_hand(options.target.is_some(), options.fleet.is_some())
    );
    let (schema, seconds, figures) = ("muster-overload/1", options.seconds, figures(&options.multiples, &rounds));
    let record = OverloadRecord { schema, target, fleet, command, figures, seconds, rounds, summary, facts };
    print_summary(&record.summary);
    RunFile::write("overload", &record.facts.at, options.json.as_deref(), &record)
}

/// The options that name programs, as the command of a record has them: without the paths of this machine.
pub(super) fn by_hand(target: bool, fleet: bool) -> String {
    let option = |given: bool, name: &str| if given { format!(" --{name} MUSTER") } else { String::new() };
    option(target, "target") + &option(fleet, "fleet")
}

/// The programs and a PKI.
pub(super) struct OverloadStage {
    target: StagedProgram,
    fleet: StagedProgram,
    hellos: PathBuf,
    folder: PathBuf,
}

struct StagedProgram {
    path: PathBuf,
    given_by_hand: bool,
}

impl StagedProgram {
    fn new(given: Option<&PathBuf>, ours: &Path) -> Self {
        Self { path: given.cloned().unwrap_or_else(|| ours.to_owned()), given_by_hand: given.is_some() }
    }

    fn measured(&self, commit: &str) -> Result<MeasuredProgram> {
        if self.given_by_hand {
            return MeasuredProgram::given_by_hand(&self.path);
        }
        MeasuredProgram::built(&self.path, commit)
    }
}

impl OverloadStage {
    pub(super) fn build(target: Option<&PathBuf>, fleet: Option<&PathBuf>) -> Result<Self> {
        if target.is_none() || fleet.is_none() {
            cargo::cargo("build --quiet --release --locked --package muster").stream()?;
        }
        cargo::cargo("build --quiet --release --locked --package programs --bin hellos").stream()?;
        let released = tree::target().join("release");
        let [ours, hellos] = ["muster", "hellos"].map(|name| released.join(name));
        let [target, fleet] = [target, fleet].map(|given| StagedProgram::new(given, &ours));
        let stage = Self { target, fleet, hellos, folder: tree::scratch("overload")? };
        Program::new(&stage.fleet.path).arg("init").arg(stage.folder.join("pki")).expect_success()?;
        Ok(stage)
    }

    /// The server of a run whose tree is at this commit.
    pub(super) fn target(&self, commit: &str) -> Result<MeasuredProgram> {
        self.target.measured(commit)
    }

    /// What plays the honest devices.
    pub(super) fn played_by(&self, commit: &str) -> Result<MeasuredProgram> {
        self.fleet.measured(commit)
    }

    /// A fresh server for each load: none inherits the backlog of another.
    pub(super) fn serve(&self) -> Result<Server> {
        ReleasedServer::start(in_memory(pinned(0, &self.target.path)), &self.folder, Threads::Shards(1)).map(Server)
    }

    pub(super) fn fleet(&self, server: &Server, seed: u32, arguments: &[String]) -> Result<Value> {
        let file = self.folder.join(format!("load-{seed}.json"));
        let load =
            pinned(1, &self.fleet.path).args(["load", "--server", &server.0.uri, "--pki"]).arg(self.folder.join("pki"));
        let load =
            load.args(["--seed", &seed.to_string(), "--timeout", "60s"]).args(arguments).arg("--json").arg(&file);
        let load = load.arg("--cache").arg(self.folder.join("identities"));
        // Failed devices are a result, and so is a schedule that was not kept: `void` says so. A peak that the fleet bounds is reported beside the one by
        // the server's CPU.
        load.timeout(LOAD_TIMEOUT).expect_status(&[0, 1, MEASURED_THE_GENERATOR]).context("the fleet did not run")?;
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Searches the peak.
    pub(super) fn peak(&self) -> Result<Peak> {
        Peak::search(&mut |concurrency| self.peak_step(concurrency))
    }

    fn peak_step(&self, concurrency: u32) -> Result<PeakStep> {
        let server = self.serve()?;
        let arguments = [("--devices", PEAK_DEVICES), ("--concurrency", concurrency)];
        let arguments = arguments.map(|(flag, value)| [flag.to_owned(), value.to_string()]).concat();
        let before = server.cpu_seconds()?;
        let report = self.fleet(&server, 1, &arguments)?;
        let cpu_seconds = server.cpu_seconds()? - before;
        server.stop()?;
        let spoiled_by = spoiled_by(&report);
        for why in &spoiled_by {
            println!("   {concurrency} devices at a time measured the fleet, and the server's peak is higher: {why}");
        }
        let number = |key: &str| report[key].as_f64().unwrap_or_default();
        Ok(PeakStep {
            concurrency,
            enrolled_per_second: number("enrolled_per_second"),
            // With many at a time some give up: who did not enrol does not count.
            per_cpu_second: number("enrolled") / cpu_seconds,
            core_share: cpu_seconds / number("seconds").max(f64::MIN_POSITIVE),
            spoiled_by,
        })
    }

    /// Honest devices at the rate of the peak, and these hellos beside them; again if that is void.
    pub(super) fn load(&self, peak: &Peak, hellos: Hellos, seconds: u32) -> Result<Overloaded> {
        let mut attempts = 0;
        loop {
            let mut load = self.load_once(peak, hellos, seconds)?;
            attempts += 1;
            load.attempts = attempts;
            println!("{}", load.line());
            if !load.void || attempts == ATTEMPTS_MAX {
                return Ok(load);
            }
        }
    }

    fn load_once(&self, peak: &Peak, hellos: Hellos, seconds: u32) -> Result<Overloaded> {
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
        let hellos = hellos.per_second();
        Ok(Overloaded::of(&LoadRun { peak, hellos, seconds, each_second, report, probe, junk, page }))
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
