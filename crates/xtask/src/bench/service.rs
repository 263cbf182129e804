//! What the server's core pays for each step of an enrolment and for hellos that lead to nothing: CPU time of a released `muster serve`, pinned to a
//! core, with the kernel's part.
//!
//! The times are written where the simulator reads them (`crates/sim/results/service_times.txt`), so that its model of an overloaded core pays what a real
//! one pays. The same run shows the promises about hellos without a cookie: the price of one, the memory after a million, and what honest devices still
//! get when such hellos take a quarter of the core.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use super::e2e::{CpuTime, resident_kib};
use super::facts::TimingFacts;
use super::figures::{Figures, measured};
use super::measured_program::MeasuredProgram;
use super::median::median;
use super::overload::{Hellos, OverloadStage, Overloaded, Server, by_hand};
use super::run_file::RunFile;
use crate::tree;

#[derive(Args)]
pub(crate) struct ServiceOptions {
    /// The released program to measure [default: this tree, built now]
    #[arg(long, value_name = "MUSTER")]
    target: Option<PathBuf>,
    /// The program that plays honest devices; it must support `load --cache` [default: this tree, built now]
    #[arg(long, value_name = "MUSTER")]
    fleet: Option<PathBuf>,
    /// Rounds; each measures every time once. Fewer than three decide no promise
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds for which honest devices enrol beside hellos that take a quarter of the core
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(6..=120))]
    seconds: u32,
    /// Where to write the JSON [default: a new file in benches/runs]; the simulator's file is written in the second case only
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Hellos without a cookie: a million, at a rate that leaves a part of the core idle.
const COOKIELESS: u32 = 1_000_000;
const COOKIELESS_PER_SECOND: u32 = 100_000;
/// Hellos with a cookie: at first as many as find a free slot, in a time in which no flight is repeated.
const BEGUN_PER_SECOND: u32 = 2_000;
const BEGUN_SECONDS: f64 = 0.75;
/// Then so many that nearly all are turned away.
const TURNED_AWAY_PER_SECOND: u32 = 60_000;
const TURNED_AWAY_SECONDS: f64 = 5.0;
const DEVICES: u32 = 8_000;
const CONCURRENCY: u32 = 64;
/// The part of the core that junk takes.
const JUNK_PART: f64 = 0.25;

/// Microseconds of one core.
#[derive(Clone, Copy, Serialize)]
struct ServiceTimes {
    /// A hello without a cookie, received and answered.
    cookieless_us: f64,
    /// A hello with a cookie that is turned away.
    turned_away_us: f64,
    /// A hello that begins a handshake, with the flight that answers it.
    begin_us: f64,
    /// All else of a device that authenticates and fetches `/crts`.
    authenticate_us: f64,
    /// What an enrolment costs more than that.
    issue_us: f64,
}

#[derive(Serialize)]
struct ServiceRecord {
    schema: &'static str,
    facts: TimingFacts,
    target: MeasuredProgram,
    fleet: MeasuredProgram,
    command: String,
    /// For `bench record`.
    figures: Figures,
    /// Medians over the rounds.
    times: ServiceTimes,
    rounds: Vec<ServiceRound>,
}

#[derive(Serialize)]
struct ServiceRound {
    times: ServiceTimes,
    cookieless_hellos: u64,
    cookieless_memory_growth_kib: f64,
    peak_per_second: f64,
    /// Honest devices at the rate of the peak beside hellos without a cookie that take a quarter of the core.
    junk: Overloaded,
}

pub(super) fn run(options: &ServiceOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let stage = OverloadStage::build(options.target.as_ref(), options.fleet.as_ref())?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        println!("round {number} of {}", options.rounds);
        rounds.push(ServiceRound::measure(&stage, options.seconds)?);
    }
    let times = ServiceTimes::median(&rounds);
    println!("{}", serde_json::to_string_pretty(&times)?);
    let record = ServiceRecord {
        schema: "muster-service/2",
        target: stage.target(&facts.commit)?,
        fleet: stage.played_by(&facts.commit)?,
        command: format!(
            "cargo xtask bench service --rounds {} --seconds {}{}",
            options.rounds,
            options.seconds,
            by_hand(options.target.is_some(), options.fleet.is_some())
        ),
        figures: figures(&rounds),
        times,
        rounds,
        facts,
    };
    RunFile::write("service", &record.facts.at, options.json.as_deref(), &record)?;
    if options.json.is_none() {
        tree::write(&tree::root().join("crates/sim/results/service_times.txt"), &for_the_simulator(&record))?;
    }
    Ok(())
}

impl ServiceRound {
    fn measure(stage: &OverloadStage, seconds: u32) -> Result<Self> {
        let cookieless = cookieless(stage)?;
        let times = times(stage, cookieless.each_us)?;
        let peak = stage.peak()?;
        let junk_per_second = JUNK_PART * 1e6 / times.cookieless_us;
        let junk = stage.load(&peak, Hellos::Cookieless { per_second: junk_per_second }, seconds)?;
        Ok(Self {
            times,
            cookieless_hellos: cookieless.hellos,
            cookieless_memory_growth_kib: cookieless.growth_kib,
            peak_per_second: peak.per_second,
            junk,
        })
    }
}

impl ServiceTimes {
    fn median(rounds: &[ServiceRound]) -> Self {
        let of = |time: fn(&Self) -> f64| median(rounds.iter().map(|round| time(&round.times)));
        Self {
            cookieless_us: of(|times| times.cookieless_us),
            turned_away_us: of(|times| times.turned_away_us),
            begin_us: of(|times| times.begin_us),
            authenticate_us: of(|times| times.authenticate_us),
            issue_us: of(|times| times.issue_us),
        }
    }
}

/// Less is better for each. A round whose hellos were not all sent says nothing about what they cost honest devices.
fn figures(rounds: &[ServiceRound]) -> Figures {
    let of = |value: fn(&ServiceRound) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
    let lost = |kept: fn(&Overloaded) -> f64| {
        let sent = rounds.iter().filter(|round| !round.junk.void);
        sent.map(|round| 1.0 - kept(&round.junk)).collect::<Vec<_>>()
    };
    let samples = [
        ("step_cpu_us/cookieless", of(|round| round.times.cookieless_us)),
        ("step_cpu_us/turned_away", of(|round| round.times.turned_away_us)),
        ("step_cpu_us/begin", of(|round| round.times.begin_us)),
        ("step_cpu_us/authenticate", of(|round| round.times.authenticate_us)),
        ("step_cpu_us/issue", of(|round| round.times.issue_us)),
        ("memory_kib/a_million_cookieless_hellos", of(|round| round.cookieless_memory_growth_kib)),
        ("goodput_lost/beside_junk", lost(|junk| junk.of_peak)),
        ("goodput_lost/beside_junk_by_cpu", lost(|junk| junk.of_peak_by_cpu)),
    ];
    samples.into_iter().filter_map(|(name, samples)| Some((name.to_owned(), measured(&samples)?))).collect()
}

/// One line for each time, in nanoseconds.
fn for_the_simulator(record: &ServiceRecord) -> String {
    let ServiceRecord { facts, target, times, .. } = record;
    // Far below 2^53 nanoseconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive time")]
    let nanoseconds = |us: f64| (us * 1e3).max(0.0) as u64;
    let head = format!(
        "# cargo xtask bench service: CPU time of one core, in nanoseconds\n# {}, {}, {}\n# {}, {}\n",
        facts.cpu,
        facts.kernel,
        facts.rustc,
        target.words(),
        facts.at
    );
    let lines = [
        ("cookieless", times.cookieless_us),
        ("turned_away", times.turned_away_us),
        ("begin", times.begin_us),
        ("authenticate", times.authenticate_us),
        ("issue", times.issue_us),
    ];
    head + &lines.map(|(name, us)| format!("{name} {}\n", nanoseconds(us))).concat()
}

struct Cookieless {
    hellos: u64,
    each_us: f64,
    growth_kib: f64,
}

fn cookieless(stage: &OverloadStage) -> Result<Cookieless> {
    let server = stage.serve()?;
    // The first second warms up the buffers.
    let per_second = f64::from(COOKIELESS_PER_SECOND);
    stage.hellos(&server, Hellos::Cookieless { per_second }, 1.0)?;
    let before = resident_kib(server.process_id());
    let (received, microseconds, _) = spent(&server, || {
        stage.hellos(&server, Hellos::Cookieless { per_second }, f64::from(COOKIELESS / COOKIELESS_PER_SECOND))
    })?;
    let growth_kib = resident_kib(server.process_id()) - before;
    server.stop()?;
    let each_us = microseconds / received.max(1.0);
    println!("   {received:.0} hellos without a cookie: {each_us:.2} us each, {growth_kib:.0} KiB more memory");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive count")]
    let hellos = received as u64;
    Ok(Cookieless { hellos, each_us, growth_kib })
}

fn times(stage: &OverloadStage, cookieless_us: f64) -> Result<ServiceTimes> {
    let server = stage.serve()?;
    let hellos = |per_second: u32, seconds| {
        stage.hellos(&server, Hellos::Strangers { per_second: f64::from(per_second) }, seconds)
    };
    let (_, microseconds, begun) = spent(&server, || hellos(BEGUN_PER_SECOND, BEGUN_SECONDS))?;
    let count = |value: &serde_json::Value, key: &str| value[key].as_f64().unwrap_or_default();
    ensure!(count(&begun, "begun") >= count(&begun, "started") * 0.95, "not every handshake was begun: {begun}");
    let begin_us = microseconds / count(&begun, "begun") - cookieless_us;
    let (_, microseconds, turned) = spent(&server, || hellos(TURNED_AWAY_PER_SECOND, TURNED_AWAY_SECONDS))?;
    let strangers = count(&turned, "started");
    let turned_away_us = (microseconds - begin_us * count(&turned, "begun")) / strangers - cookieless_us;
    server.stop()?;
    let device_us = |function: &str| -> Result<f64> {
        let server = stage.serve()?;
        let arguments = ["--function", function, "--devices", &DEVICES.to_string(), "--concurrency"].map(str::to_owned);
        let arguments = [&arguments[..], &[CONCURRENCY.to_string()]].concat();
        let (_, microseconds, _) = spent(&server, || stage.fleet(&server, 1, &arguments))?;
        server.stop()?;
        Ok(microseconds / f64::from(DEVICES))
    };
    let (authenticated, enrolled) = (device_us("crts")?, device_us("sen")?);
    Ok(ServiceTimes {
        cookieless_us,
        turned_away_us,
        begin_us,
        authenticate_us: authenticated - begin_us - cookieless_us,
        issue_us: enrolled - authenticated,
    })
}

/// Datagrams that the server received, and microseconds of CPU that it spent, while something was done to it.
fn spent<T>(server: &Server, act: impl FnOnce() -> Result<T>) -> Result<(f64, f64, T)> {
    let (before, received) = (CpuTime::of(server.process_id())?, server.received()?);
    let done = act()?;
    // What has arrived is served.
    std::thread::sleep(Duration::from_millis(50));
    let (after, now) = (CpuTime::of(server.process_id())?, server.received()?);
    #[allow(clippy::cast_precision_loss, reason = "nanoseconds of a run, far below 2^53")]
    let microseconds = after.since(&before).nanoseconds() as f64 / 1e3;
    Ok((now - received, microseconds, done))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cookieless_us: f64, of_peak: f64) -> ServiceRound {
        let times =
            ServiceTimes { cookieless_us, turned_away_us: 2.0, begin_us: 76.0, authenticate_us: 150.0, issue_us: 99.0 };
        let junk = Overloaded::example(of_peak);
        let (cookieless_hellos, cookieless_memory_growth_kib, peak_per_second) = (1_000_000, 800.0, 3_000.0);
        ServiceRound { times, cookieless_hellos, cookieless_memory_growth_kib, peak_per_second, junk }
    }

    #[test]
    fn rounds_become_medians_and_figures_whose_noise_is_that_of_the_rounds() {
        let rounds = [round(4.0, 0.7), round(5.0, 0.8), round(3.5, 0.75)];
        assert!((ServiceTimes::median(&rounds).cookieless_us - 4.0).abs() < 1e-9);
        let several = figures(&rounds);
        let lost = several["goodput_lost/beside_junk"];
        assert!((lost.value - 0.25).abs() < 1e-9 && lost.noise > 0.05, "{lost:?}");
        assert!(several["step_cpu_us/cookieless"].noise > 0.5);
        assert!(figures(&rounds[..1]).is_empty(), "one round has no noise");
    }
}
