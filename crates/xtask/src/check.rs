//! `cargo xtask check`: runs every part of the checks, then prints a table of the times and the number of passed parts.
//!
//! All parts run, even if earlier parts failed, so that one run reports every fault; a part is left out only if it needs a build that failed.
//! Everything builds in the dev profile, as for the tests, so that `muster` for the interoperation tests and the demo costs a link instead of a third
//! build of 200 crates. Only the instruction counts need a release build, because they measure the released code; it is built beside the parts that
//! mostly wait.

mod docs;
mod house;
mod purity;
mod room;
mod suite;

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};

use crate::cargo::{BUILD, cargo, muster};
use crate::process::{Daemon, Program};
use crate::{bench, crash, dashboards, interop, power, seams, setup, tree};

/// Time for the release build of the benchmarks.
const GATE_BUILD_TIMEOUT: Duration = Duration::from_secs(1200);

#[derive(Args)]
pub(crate) struct CheckOptions {
    /// Only formatting, lints, docs and the unit tests of the pure crates
    #[arg(long)]
    quick: bool,
    /// Run only these parts, in their usual order
    #[arg(long, value_enum)]
    only: Vec<CheckPart>,
}

/// The parts, in the order in which they run: parts that fail soonest and cheapest come first.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CheckPart {
    /// Installs missing programs, or lists them if not run as root
    Setup,
    /// rustfmt
    Fmt,
    /// File lengths, forbidden words, reasons for dependencies, the README's commands, the list of test cases
    House,
    /// The pure crates: their dependencies, and that none opts out of the lints that keep them pure
    Purity,
    /// clippy over every target, warnings are errors
    Clippy,
    /// Licences, bans and sources of the dependencies
    Deny,
    /// Unit tests of the pure crates: with --quick, in place of `tests`
    Units,
    /// Unit tests, stories, the simulator's seeds
    Tests,
    /// Builds that leave out one check of the client's authentication, or one sync of the ledger: the walk in crates/dtls and
    /// the power losses in crates/ledger must detect each
    Seams,
    /// rustdoc without warnings; every relative link in the Markdown has a target
    Docs,
    /// Other implementations against a running `muster serve`, and `muster` against theirs
    Interop,
    /// `muster demo`, as a new user runs it
    Demo,
    /// A server that is killed under load again and again: what its devices received is in its ledger, once
    Crash,
    /// A real Prometheus scrapes a real server under load: rules, their tests, every query of the dashboard
    Dashboards,
    /// Instruction counts against the committed baselines
    Gate,
}

impl CheckPart {
    /// What `--quick` runs. Building the other tests takes longer than all of this.
    fn in_quick(self) -> bool {
        matches!(self, Self::Fmt | Self::House | Self::Purity | Self::Clippy | Self::Units | Self::Docs)
    }

    /// What runs without `--quick`: everything, and nothing twice.
    fn in_full(self) -> bool {
        self != Self::Units
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The part whose build this part needs.
    fn depends_on(self) -> Option<Self> {
        match self {
            // All of these use the tests' build; a failing test does not stop them, a failing build does: see `PartResult::NotBuilt`.
            Self::Interop | Self::Demo | Self::Crash | Self::Dashboards | Self::Gate => Some(Self::Tests),
            _ => None,
        }
    }

    fn run(self, runner: setup::Runner) -> Result<()> {
        match self {
            Self::Setup => setup_or_name_what_is_missing(runner),
            Self::Fmt => cargo("fmt --all --check").stream(),
            Self::House => house::check(),
            Self::Purity => purity::check(),
            Self::Clippy => cargo("clippy --quiet --workspace --all-targets --locked -- -D warnings").stream(),
            Self::Deny => deny("licenses bans sources"),
            Self::Units => {
                let packages = purity::crates().fold(String::new(), |list, name| list + " -p " + name);
                cargo(&format!("test --lib --locked --no-fail-fast{packages}")).stream()
            }
            Self::Tests => suite::run(),
            Self::Seams => seams::run().and_then(|()| power::one_seam()),
            Self::Docs => docs::check(),
            Self::Interop => interop::run(""),
            Self::Demo => demo(),
            Self::Crash => crash::check(),
            Self::Dashboards => dashboards::check(),
            Self::Gate => bench::gate(),
        }
    }
}

enum PartResult {
    Passed,
    Failed(String),
    /// Left out because the build that it needs failed.
    NotBuilt,
}

/// Runs the requested parts.
pub(crate) fn run(options: &CheckOptions) -> ExitCode {
    let chosen: Vec<CheckPart> =
        CheckPart::value_variants().iter().copied().filter(|part| options.chooses(*part)).collect();
    // A part on its own builds less, and `--quick` much less.
    if options.is_full()
        && let Err(error) = room::check()
    {
        println!("nothing was checked: {error:#}");
        return ExitCode::FAILURE;
    }
    let started = Instant::now();
    let mut results: Vec<(CheckPart, PartResult, Cost)> = Vec::new();
    let mut gate_build: Option<Daemon> = None;
    // Its build costs a minute of two cores, and is needed last.
    let runner = if chosen.contains(&CheckPart::Gate) { setup::Runner::WithTheGate } else { setup::Runner::Now };
    for part in chosen.iter().copied() {
        let (began, worked) = (Instant::now(), processor_time());
        println!("== {}", part.name());
        match part {
            // From here on the parts wait more than they compute. A build that fails is repeated by `gate`, which reports why.
            CheckPart::Interop if chosen.contains(&CheckPart::Gate) => gate_build = bench::build_gate_aside().ok(),
            CheckPart::Gate => wait_for(gate_build.take()),
            _ => {}
        }
        let outcome = outcome_of(part, &results, runner);
        match &outcome {
            PartResult::Passed => println!("   passed in {:.1} s", began.elapsed().as_secs_f64()),
            PartResult::Failed(why) => println!("   FAILED: {why}"),
            PartResult::NotBuilt => println!("   left out: the workspace does not build"),
        }
        let cost = Cost { elapsed: began.elapsed(), processor: processor_time().saturating_sub(worked) };
        results.push((part, outcome, cost));
    }
    let processor = results.iter().map(|(_, _, cost)| cost.processor).sum();
    let (table, ended) = summarise(&results, Cost { elapsed: started.elapsed(), processor });
    print!("{table}");
    ended
}

/// Waits for a build in the background.
fn wait_for(build: Option<Daemon>) {
    if let Some(mut build) = build {
        // What went wrong is reported by whoever needs the build.
        drop(build.end(GATE_BUILD_TIMEOUT));
    }
}

/// The cost of a part: wall-clock time, which includes delays from other work on the machine, and processor time, which
/// does not.
#[derive(Clone, Copy, Default)]
struct Cost {
    elapsed: Duration,
    processor: Duration,
}

/// Processor time of all child programs that have ended (`cutime` and `cstime` of proc(5)).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may contain anything; after it `cutime` is the 14th field and `cstime` the 15th.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split(' ').skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// Checks the dependencies against the RustSec database, which it downloads. It is a separate command because the other checks need no
/// network after setup.
pub(crate) fn advisories() -> Result<()> {
    deny("advisories")
}

impl CheckOptions {
    fn is_full(&self) -> bool {
        self.only.is_empty() && !self.quick
    }

    fn chooses(&self, part: CheckPart) -> bool {
        match (&self.only[..], self.quick) {
            ([], true) => part.in_quick(),
            ([], false) => part.in_full(),
            (only, _) => only.contains(&part),
        }
    }
}

fn outcome_of(part: CheckPart, before: &[(CheckPart, PartResult, Cost)], runner: setup::Runner) -> PartResult {
    let failed = |other: CheckPart| {
        before.iter().any(|(done, outcome, _)| *done == other && !matches!(outcome, PartResult::Passed))
    };
    if part.depends_on().is_some_and(failed) && cargo(BUILD).output().is_ok_and(|ended| !ended.status.success()) {
        return PartResult::NotBuilt;
    }
    part.run(runner).map_or_else(|error| PartResult::Failed(format!("{error:#}")), |()| PartResult::Passed)
}

/// The table of the parts, why parts failed, and the numbers of each.
fn summarise(results: &[(CheckPart, PartResult, Cost)], total: Cost) -> (String, ExitCode) {
    let line = |name: &str, cost: Cost, result: &str| {
        let (elapsed, processor) = (cost.elapsed.as_secs_f64(), cost.processor.as_secs_f64());
        format!("{name:<10} {elapsed:>8.1} {processor:>10.1}  {result}\n")
    };
    let mut table = format!("\n{:<10} {:>8} {:>10}  result\n", "part", "seconds", "processor");
    for (part, outcome, cost) in results {
        let result = match outcome {
            PartResult::Passed => "passed".to_owned(),
            PartResult::Failed(_) => format!("FAILED    run again: cargo xtask check --only {}", part.name()),
            PartResult::NotBuilt => "left out: the workspace does not build".to_owned(),
        };
        table += &line(&part.name(), *cost, &result);
    }
    table += &line("all", total, "");
    for (part, outcome, _) in results {
        if let PartResult::Failed(why) = outcome {
            let _ = writeln!(table, "\n{}: {why}", part.name());
        }
    }
    let failed = results.iter().filter(|(_, outcome, _)| !matches!(outcome, PartResult::Passed)).count();
    let _ = writeln!(table, "\n{} passed, {failed} failed", results.len() - failed);
    (table, if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn setup_or_name_what_is_missing(runner: setup::Runner) -> Result<()> {
    if setup::is_root() {
        return setup::run(runner);
    }
    let missing = setup::missing()?;
    if !missing.is_empty() {
        bail!("missing, and only root can install everything (`cargo xtask setup`): {}", missing.join(", "));
    }
    println!("   everything is installed");
    Ok(())
}

fn deny(what: &str) -> Result<()> {
    let program = Program::new(setup::deny()?).args(["--all-features", "check", "--hide-inclusion-graph"]);
    program.args(what.split(' ')).directory(&tree::root()).stream()
}

fn demo() -> Result<()> {
    Program::new(muster()?).arg("demo").directory(&tree::root()).timeout(Duration::from_secs(240)).stream()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_leaves_out_what_takes_long_and_the_full_check_leaves_out_nothing() {
        let quick = CheckOptions { quick: true, only: Vec::new() };
        assert!(
            !quick.chooses(CheckPart::Interop) && !quick.chooses(CheckPart::Tests) && quick.chooses(CheckPart::Units)
        );
        let full = CheckOptions { quick: false, only: Vec::new() };
        let left_out = CheckPart::value_variants().iter().filter(|part| !full.chooses(**part));
        assert_eq!(left_out.map(|part| part.name()).collect::<Vec<_>>(), ["units"], "they are a part of `tests`");
        let one = CheckOptions { quick: true, only: vec![CheckPart::Interop] };
        assert!(one.chooses(CheckPart::Interop) && !one.chooses(CheckPart::Units));
    }

    #[test]
    fn the_work_of_a_program_that_ended_is_counted() {
        let before = processor_time();
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        Program::new("sh").args(["-c", busy]).expect_success().unwrap();
        assert!(processor_time() > before);
    }

    #[test]
    fn one_failure_makes_the_whole_fail() {
        let passed = (CheckPart::Fmt, PartResult::Passed, Cost::default());
        let failed = (CheckPart::Deny, PartResult::Failed("why".to_owned()), Cost::default());
        let ended = |results: &[(CheckPart, PartResult, Cost)]| format!("{:?}", summarise(results, Cost::default()).1);
        assert_eq!(ended(&[passed]), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(ended(&[failed]), format!("{:?}", ExitCode::FAILURE));
    }
}
