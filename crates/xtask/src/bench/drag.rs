//! `cargo xtask bench drag`: shows that the gate notices a step that became two per cent dearer.
//!
//! - **In the code that measures.** One step at a time is slowed down by a loop around it (`benches/src/drag.rs`), by two per cent of what the step itself
//!   counts outside the cryptographic libraries. The gate's comparison must be red for the step's own benchmark, and for nothing that does not contain
//!   the step. The gate does the same in each run with a step of each side ([`ensure_noticed`]).
//! - **In the code that is measured.** A work tree of the commit gets the same loop inside the engine's own handling of the client's Finished, and the
//!   whole of `cargo xtask bench gate --engines` runs there: without the loop it must pass, with the loop it must fail and name the server's handshake.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::counts;
use super::facts::TimingFacts;
use super::figures::{self, Compared, Figures, Line};
use super::profiles::{BenchTree, in_work_tree};
use super::run_file::RunFile;
use crate::process::{Ended, Program};
use crate::tree;

#[derive(Args)]
pub(crate) struct DragOptions {
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// A step, the benchmark that counts it alone, and the beginnings of those that contain it.
const STEPS: &[(&str, &str, &[&str])] = &[
    ("server_handshake", "server_handshake.ccm8", &["server_handshake.", "whole_enrolment."]),
    ("client_handshake", "client_handshake.ccm8", &["client_handshake.", "client_enrolment."]),
    ("issuance", "csr_to_certificate.p256", &["csr_to_certificate.", "whole_enrolment."]),
    ("coap_parse", "coap_parse.of_64", &["coap_parse."]),
];
/// The steps that the gate itself slows down, one of each side, and the benchmarks that count them.
const GATED_STEPS: [&str; 2] = ["server_handshake", "client_handshake"];
const GATED_BENCHMARKS: &str = "*_handshake::ccm8";
/// By how much a step is slowed down, and how close to that the loop has to come.
const SLOWER_PERCENT: f64 = 2.0;
const SLOWER_PERCENT_TOLERANCE: f64 = 0.1;
/// Instructions of one turn of the loop.
const INSTRUCTIONS_PER_TURN: f64 = 4.0;

/// The step of the engine that is slowed down in a work tree: once in each handshake of a server.
const ENGINE_STEP: &str = "server_handshake.ccm8";
const ENGINE_FILE: &str = "crates/dtls/src/handshake/server/finished.rs";
/// The loop stands behind this line.
const ENGINE_LINE: &str =
    "let Self(ExpectChangeCipherSpec { proven, master_secret, extended_master_secret }) = self;\n";
/// Both builds of the work tree, and that of its commit.
const GATE_TIMEOUT: Duration = Duration::from_secs(7200);

#[derive(Serialize)]
struct DragRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: &'static str,
    seconds: u64,
    steps: Vec<DraggedBenchmark>,
    engine: DraggedEngine,
}

/// A step that was slowed down around its benchmark.
#[derive(Serialize)]
struct DraggedBenchmark {
    step: &'static str,
    benchmark: &'static str,
    outside_cryptography: f64,
    slower_percent: f64,
    /// What the gate calls grown, with per cents.
    red: Vec<String>,
}

/// A step that was slowed down in the engine.
#[derive(Serialize)]
struct DraggedEngine {
    file: &'static str,
    benchmark: &'static str,
    turns: f64,
    /// Exit statuses of the gate.
    gate_without: Option<i32>,
    gate_with: Option<i32>,
    /// What the gate says is wrong, and the functions that it names.
    said: Vec<String>,
}

pub(super) fn run(options: &DragOptions) -> Result<()> {
    let (facts, began) = (TimingFacts::here(), Instant::now());
    let before = instructions(&BenchTree::here())?;
    let steps = STEPS.iter().map(|step| dragged(&before, step)).collect::<Result<_>>()?;
    let engine = in_work_tree("dragged", "HEAD", |root| engine(root, turns(&before, ENGINE_STEP)?.1))?;
    let record = DragRecord {
        schema: "muster-drag/1",
        command: "cargo xtask bench drag",
        seconds: began.elapsed().as_secs(),
        steps,
        engine,
        facts,
    };
    RunFile::write("drag", &record.facts.at, options.json.as_deref(), &record)
}

/// Counts once more with a step of each side slowed down, for the gate: each must be red against `reference`, with which the gate has compared `now`.
pub(super) fn ensure_noticed(reference: &Figures, now: &Figures) -> Result<()> {
    let (mut asked, mut owns) = (Vec::new(), Vec::new());
    for (step, benchmark, _) in STEPS.iter().filter(|(step, ..)| GATED_STEPS.contains(step)) {
        let (own, turns) = turns(now, benchmark)?;
        asked.push(format!("{step}={turns}"));
        owns.push(own);
    }
    let slowed = BenchTree::slowed_down(asked.join(",")).profiles_of(GATED_BENCHMARKS)?;
    let slowed = figures::counted(&counts::of_profiles(&slowed)?, &counts::Enrolments::new());
    for own in owns {
        let slower = noticed(&own, reference, [now, &slowed])?;
        println!("   on purpose: {own} {slower:+.2} %, which the gate notices");
    }
    Ok(())
}

/// By how many per cent a step is dearer when it is slowed down; an error unless that is what was asked for, and unless the gate calls it grown.
fn noticed(own: &str, reference: &Figures, [now, slowed]: [&Figures; 2]) -> Result<f64> {
    let [before, after] = [now, slowed].map(|figures| figures.get(own).copied());
    let after = after.with_context(|| format!("nothing counts {own}"))?;
    let slower = Compared { name: own.to_owned(), then: before, now: after }.percent();
    ensure!((slower - SLOWER_PERCENT).abs() <= SLOWER_PERCENT_TOLERANCE, "{own} became {slower:.2} % dearer");
    // A parent that does not have this benchmark is nothing to compare with.
    let then = reference.get(own).copied().or(before);
    let is_red = Compared { name: own.to_owned(), then, now: after }.has_grown(Line::Parent);
    ensure!(is_red, "the gate does not notice that {own} became {slower:.2} % dearer");
    Ok(slower)
}

/// Slows one step down around its benchmark.
fn dragged(
    before: &Figures,
    (step, benchmark, containing): &(&'static str, &'static str, &[&str]),
) -> Result<DraggedBenchmark> {
    let (own, turns) = turns(before, benchmark)?;
    let slowed = BenchTree::slowed_down(format!("{step}={turns}"));
    let after = instructions(&slowed)?;
    let slower = noticed(&own, before, [before, &after])?;
    let compared = figures::compare(before, &after);
    let red: Vec<&Compared> = compared.iter().filter(|it| it.has_grown(Line::Parent)).collect();
    println!("   {step}: {own} {slower:+.2} %; red: {}", named(&red).join(", "));
    let strays: Vec<&&Compared> = red.iter().filter(|it| !contains(containing, &it.name)).collect();
    ensure!(strays.is_empty(), "red without the step {step}: {strays:?}");
    Ok(DraggedBenchmark {
        step,
        benchmark,
        outside_cryptography: before[&own].value,
        slower_percent: slower,
        red: named(&red),
    })
}

/// The figure of a benchmark's own count, and the turns of the loop that are two per cent of it.
fn turns(before: &Figures, benchmark: &str) -> Result<(String, f64)> {
    let own = format!("outside_cryptography/{benchmark}");
    let count = before.get(&own).with_context(|| format!("nothing counts {own}"))?.value;
    Ok((own, (count * SLOWER_PERCENT / 100.0 / INSTRUCTIONS_PER_TURN).round()))
}

/// Slows the engine down in a work tree, and runs the gate there.
fn engine(root: &Path, turns: f64) -> Result<DraggedEngine> {
    let without = gate(root)?;
    ensure!(without.status.success(), "the gate is red without any loop:\n{}", without.words());
    println!("   the gate passes in a work tree of the commit");
    let file = root.join(ENGINE_FILE);
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    tree::write(&file, &with_loop(&text, turns)?)?;
    let with = gate(root)?;
    let words = with.words();
    ensure!(!with.status.success(), "the gate does not notice {turns} turns of a loop in {ENGINE_FILE}");
    let grew = format!("outside_cryptography/{ENGINE_STEP}");
    let is_named = words.lines().any(|line| line.contains("grew: ") && line.contains(&grew));
    ensure!(is_named, "the gate is red, and does not say that {ENGINE_STEP} grew:\n{words}");
    let said: Vec<String> = said(&words).collect();
    println!("   {turns} turns of a loop in {ENGINE_FILE}:\n   {}", said.join("\n   "));
    let (gate_without, gate_with) = (without.status.code(), with.status.code());
    Ok(DraggedEngine { file: ENGINE_FILE, benchmark: ENGINE_STEP, turns, gate_without, gate_with, said })
}

/// The gate as `check` runs it, without the counts of a whole server. It builds in a folder of its own: cargo names what it builds by paths below the root of a work tree, so that a folder
/// that two work trees share gives the programs of one to the other.
fn gate(root: &Path) -> Result<Ended> {
    let gate = Program::line("cargo run --quiet --locked --package xtask -- bench gate --engines").directory(root);
    let mut path = tree::tools().join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    gate.env("CARGO_TARGET_DIR", tree::target().join("dragged")).env("PATH", path).timeout(GATE_TIMEOUT).output()
}

fn with_loop(text: &str, turns: f64) -> Result<String> {
    let (before, after) =
        text.split_once(ENGINE_LINE).with_context(|| format!("{ENGINE_FILE} does not have the line {ENGINE_LINE}"))?;
    let the_loop =
        format!("        for turn in 0..{turns}_u32 {{\n            std::hint::black_box(turn);\n        }}\n");
    Ok(format!("{before}{ENGINE_LINE}{the_loop}{after}"))
}

/// What went wrong, and the functions that moved in the step's own benchmark.
fn said(words: &str) -> impl Iterator<Item = String> {
    let heading = format!("{ENGINE_STEP}: the functions that moved most");
    let functions = words.lines().skip_while(move |line| !line.contains(&heading)).take(4);
    let grew = words.lines().filter(|line| line.contains("grew: "));
    grew.chain(functions).map(|line| line.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

fn instructions(tree: &BenchTree) -> Result<Figures> {
    let counts = counts::of_profiles(&tree.profiles()?)?;
    Ok(figures::counted(&counts, &counts::Enrolments::new()))
}

fn contains(containing: &[&str], figure: &str) -> bool {
    let benchmark = figure.split_once('/').map_or(figure, |(_, benchmark)| benchmark);
    containing.iter().any(|prefix| benchmark.starts_with(prefix))
}

fn named(red: &[&Compared]) -> Vec<String> {
    red.iter().map(|it| format!("{} {:+.2} %", it.name, it.percent())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::Figure;

    #[test]
    fn each_step_is_part_of_its_own_benchmark() {
        for (step, benchmark, containing) in STEPS {
            assert!(contains(containing, &format!("instructions/{benchmark}")), "{step}");
        }
        assert!(!contains(STEPS[0].2, "instructions/ledger_rows.of_1"));
    }

    #[test]
    fn the_gate_slows_down_a_step_of_each_side() {
        let benchmarks: Vec<&str> =
            STEPS.iter().filter(|(step, ..)| GATED_STEPS.contains(step)).map(|(_, benchmark, _)| *benchmark).collect();
        assert_eq!(benchmarks, ["server_handshake.ccm8", "client_handshake.ccm8"]);
    }

    #[test]
    fn a_gate_that_does_not_see_two_per_cent_fails() {
        let own = "outside_cryptography/server_handshake.ccm8";
        let of = |value, noise| Figures::from([(own.to_owned(), Figure { value, noise })]);
        let noticed = |reference: &Figures, slowed| {
            let noticed = noticed(own, reference, [&of(100_000.0, 0.0), &of(slowed, 0.0)]);
            noticed.map_err(|error| error.to_string())
        };
        assert!(noticed(&of(100_100.0, 20.0), 102_000.0).is_ok_and(|slower| (slower - 2.0).abs() < 1e-6));
        assert!(noticed(&Figures::new(), 102_000.0).is_ok(), "a parent without this benchmark");
        // A baseline that stands too high, or whose noise is wider than what has to be seen.
        for blind in [of(102_000.0, 0.0), of(100_000.0, 2_500.0)] {
            assert!(noticed(&blind, 102_000.0).unwrap_err().contains("does not notice"), "{blind:?}");
        }
        assert!(noticed(&of(100_000.0, 0.0), 100_000.0).unwrap_err().contains("became 0.00 % dearer"), "no loop ran");
    }

    #[test]
    fn the_loop_stands_in_the_engine_once() {
        let text = tree::read(ENGINE_FILE).unwrap();
        let slowed = with_loop(&text, 300.0).unwrap();
        assert_eq!(slowed.matches("for turn in 0..300_u32 {").count(), 1);
        assert_eq!(text.matches(ENGINE_LINE).count(), 1);
        assert!(with_loop("", 300.0).is_err());
    }

    #[test]
    fn what_the_gate_says_is_kept() {
        let words = "table\n   server_handshake.ccm8: the functions that moved most, HEAD and now\n   one\n   two\n   three\n   four\nError: grew: x +2 %\n";
        let said: Vec<String> = said(words).collect();
        assert_eq!(said[0], "Error: grew: x +2 %");
        assert_eq!(said.last().map(String::as_str), Some("three"));
    }
}
