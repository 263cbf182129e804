//! `cargo xtask bench drag`: shows that the gate notices a step that became two per cent dearer.
//!
//! One step at a time is slowed down by a loop in the code that measures (`benches/src/drag.rs`), by two per cent of what the step itself counts outside
//! the cryptographic libraries. The gate must be red for the step's own benchmark, and for nothing that does not contain the step.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::counts;
use super::facts::TimingFacts;
use super::figures::{self, Compared, Figures, Line};
use super::profiles::BenchTree;
use crate::tree;

const RESULT: &str = "benches/runs/drag.txt";
/// A step, the benchmark that counts it alone, and the beginnings of those that contain it.
const STEPS: &[(&str, &str, &[&str])] = &[
    ("server_handshake", "server_handshake.ccm8", &["server_handshake.", "whole_enrolment."]),
    ("client_handshake", "client_handshake.ccm8", &["client_handshake.", "client_enrolment."]),
    ("issuance", "csr_to_certificate.p256", &["csr_to_certificate.", "whole_enrolment."]),
    ("coap_parse", "coap_parse.of_64", &["coap_parse."]),
];
/// By how much a step is slowed down, and how close to that the loop has to come.
const SLOWER_PERCENT: f64 = 2.0;
const SLOWER_PERCENT_TOLERANCE: f64 = 0.1;
/// Instructions of one turn of the loop.
const INSTRUCTIONS_PER_TURN: f64 = 4.0;

pub(super) fn run() -> Result<()> {
    let (facts, began) = (TimingFacts::here(), Instant::now());
    let before = instructions(&BenchTree::here())?;
    let mut report = format!("cargo xtask bench drag\ncommit {}, {}, {}\n", facts.commit, facts.at, facts.rustc);
    for (step, benchmark, containing) in STEPS {
        let own = format!("outside_cryptography/{benchmark}");
        let count = before.get(&own).with_context(|| format!("nothing counts {own}"))?.value;
        let turns = (count * SLOWER_PERCENT / 100.0 / INSTRUCTIONS_PER_TURN).round();
        let slowed = BenchTree::slowed_down(format!("{step}={turns}"));
        let compared = figures::compare(&before, &instructions(&slowed)?);
        let red: Vec<&Compared> = compared.iter().filter(|it| it.has_grown(Line::Parent)).collect();
        let slower = compared.iter().find(|it| it.name == own).map_or(0.0, Compared::percent);
        let line = format!("{step}: {own} {count} {slower:+.2} %; red: {}\n", named(&red));
        print!("   {line}");
        report.write_str(&line)?;
        ensure!((slower - SLOWER_PERCENT).abs() <= SLOWER_PERCENT_TOLERANCE, "{step} became {slower:.2} % dearer");
        ensure!(red.iter().any(|it| it.name == own), "the gate does not notice that {step} became dearer");
        let strays: Vec<&&Compared> = red.iter().filter(|it| !contains(containing, &it.name)).collect();
        ensure!(strays.is_empty(), "red without the step {step}: {strays:?}");
    }
    writeln!(report, "{} s", began.elapsed().as_secs())?;
    tree::write(&tree::root().join(RESULT), &report)?;
    println!("   written: {RESULT}");
    Ok(())
}

fn instructions(tree: &BenchTree) -> Result<Figures> {
    let counts = counts::of_profiles(&tree.profiles()?)?;
    Ok(figures::counted(&counts, &counts::Enrolments::new()))
}

fn contains(containing: &[&str], figure: &str) -> bool {
    let benchmark = figure.split_once('/').map_or(figure, |(_, benchmark)| benchmark);
    containing.iter().any(|prefix| benchmark.starts_with(prefix))
}

fn named(red: &[&Compared]) -> String {
    red.iter().map(|it| format!("{} {:+.2} %", it.name, it.percent())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_part_of_its_own_benchmark() {
        for (step, benchmark, containing) in STEPS {
            assert!(contains(containing, &format!("instructions/{benchmark}")), "{step}");
        }
        assert!(!contains(STEPS[0].2, "instructions/ledger_rows.of_1"));
    }
}
