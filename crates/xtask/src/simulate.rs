//! `cargo xtask simulate`: a million enrolments in the simulator, of a server that crashes with its ledger; with `--registrar`, of a Registrar whose
//! upstreams fail and lie; with `--power-restore`, 200,000 devices that return at the same time; with
//! `--overload`, up to ten times the devices that one core can serve. The results are committed.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::bench::facts::TimingFacts;
use crate::bench::simulated::{RESTORE_RESULTS, SIMULATED_RESULTS};
use crate::{cargo, tree};

/// The number of enrolments of a run, and the least number of a committed result.
const ENROLMENTS: u64 = 1_000_000;
const KEPT_ENROLMENTS_MIN: u64 = 100_000;
/// The file of the committed results, and the code that they cover.
pub(crate) const RESULTS: &str = "crates/sim/results/crashes.txt";
pub(crate) const COVERED: &[&str] = &["crates/authority/src", "crates/est/src", "crates/sim/src/crashing.rs"];
/// The same with a Registrar.
pub(crate) const RELAYED_RESULTS: &str = "crates/sim/results/registrar.txt";
pub(crate) const RELAYED_COVERED: &[&str] =
    &["crates/authority/src", "crates/est/src", "crates/registrar/src", "crates/sim/src/registrar"];
/// The return of the power: the number of devices of a committed result, and the code that it covers.
const RETURNING: u32 = 200_000;
pub(crate) const RESTORE_COVERED: &[&str] =
    &["crates/dtls/src", "crates/est/src", "crates/sim/src/overload.rs", "crates/sim/src/power_restore"];
/// The code that the result of one to ten times what the modelled core can serve covers.
pub(crate) const OVERLOAD_COVERED: &[&str] = &["crates/dtls/src", "crates/est/src", "crates/sim/src/overload.rs"];
/// A million enrolments, both ends of each.
const TIMEOUT: Duration = Duration::from_secs(12 * 3600);

#[derive(clap::Args)]
pub(crate) struct SimulateOptions {
    /// The server is a Registrar whose upstream CAs fail and lie. Kept in crates/sim/results/registrar.txt
    #[arg(long)]
    registrar: bool,
    /// Number of enrolments. The result is kept only for 100,000 or more
    #[arg(long, default_value_t = ENROLMENTS)]
    enrolments: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// 200,000 devices have their power back at the same time: on good links, on lossy ones, with a slow authority. Kept in
    /// crates/sim/results/power-restore.txt
    #[arg(long, conflicts_with_all = ["registrar", "enrolments", "from"])]
    power_restore: bool,
    /// One to ten times what one core can serve, with the service times that `bench service` measured. Kept in crates/sim/results/overload.txt
    #[arg(long, conflicts_with_all = ["registrar", "enrolments", "from", "power_restore"])]
    overload: bool,
    /// Number of devices; for fewer, the server is as much slower. The result is kept only for the default number or more
    #[arg(long, requires = "power_restore", default_value_t = RETURNING)]
    devices: u32,
    /// The seed of the devices, their links and their server
    #[arg(long, requires = "power_restore", default_value_t = 0)]
    seed: u64,
}

/// Runs what the options ask for and prints the result; keeps the result of a full run.
pub(crate) fn run(options: &SimulateOptions) -> Result<()> {
    if options.overload {
        overload()
    } else if options.power_restore {
        power_restore(options.devices, options.seed)
    } else {
        enrol(options.enrolments, options.from, options.registrar)
    }
}

fn enrol(enrolments: u64, from: u64, registrar: bool) -> Result<()> {
    let (results, option) = if registrar { (RELAYED_RESULTS, " --registrar") } else { (RESULTS, "") };
    let line = format!(
        "run --quiet --release --locked -p sim --bin crashes -- --enrolments {enrolments} --from {from}{option}"
    );
    let played = Played::of(&line)?;
    if enrolments >= KEPT_ENROLMENTS_MIN {
        let first = played.found.lines().next().unwrap_or_default();
        tree::append(results, &format!("{}: {first}\n", played.heading(&format!("seeds from {from}"))))?;
    }
    played.judge()
}

fn power_restore(devices: u32, seed: u64) -> Result<()> {
    let line =
        format!("run --quiet --release --locked -p sim --bin power_restore -- --devices {devices} --seed {seed}");
    let played = Played::of(&line)?;
    if devices >= RETURNING {
        let heading = played.heading(&format!("seed {seed}"));
        tree::append(RESTORE_RESULTS, &format!("{heading}\n{}\n", played.found))?;
    }
    played.judge()
}

fn overload() -> Result<()> {
    let played = Played::of("run --quiet --release --locked -p sim --bin overload")?;
    let heading = played.heading("seeds 1 and 47");
    tree::append(SIMULATED_RESULTS, &format!("{heading}\n{}\n", played.found))?;
    played.judge()
}

/// A simulation that has ended.
struct Played {
    facts: TimingFacts,
    minutes: f64,
    status: ExitStatus,
    /// What it printed.
    found: String,
}

impl Played {
    /// Runs cargo with this line, and prints what it found.
    fn of(line: &str) -> Result<Self> {
        let facts = TimingFacts::here();
        let began = Instant::now();
        let (status, found) = cargo::cargo(line).timeout(TIMEOUT).stdout()?;
        print!("{found}");
        Ok(Self { facts, minutes: began.elapsed().as_secs_f64() / 60.0, status, found })
    }

    /// The first words of a committed result.
    fn heading(&self, seeds: &str) -> String {
        let Self { facts: TimingFacts { commit, at, .. }, minutes, status, .. } = self;
        let result = if status.success() { "passed" } else { "FAILED" };
        format!("commit {commit}, begun {at}, {seeds}, {minutes:.1} min, {result}")
    }

    fn judge(self) -> Result<()> {
        if !self.status.success() {
            bail!("the simulation failed: {}", self.status);
        }
        Ok(())
    }
}
