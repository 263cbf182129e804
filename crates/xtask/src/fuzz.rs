//! `cargo xtask fuzz`: runs the fuzz targets one after the other, each for its share of the given time, and prints a table of the
//! results.
//!
//! `cargo-fuzz` needs a nightly compiler. Besides the sanitizers, it only switches on LLVM's coverage pass, a code generator flag that a stable
//! compiler accepts too: see `COVERAGE`. The corpus that a run finds stays under `fuzz/corpus` for the next run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{Ended, Program};
use crate::tree;

#[derive(Args)]
pub(crate) struct FuzzOptions {
    /// How long all targets run together
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Run only these targets: folders of fuzz/seeds
    #[arg(long)]
    target: Vec<String>,
}

/// The pass that counts edges, eight bits each, in a table that libFuzzer reads, and that reports comparisons, so that libFuzzer learns the
/// expected values.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// An input that takes longer than this is a finding.
const INPUT_SECONDS_MAX: u64 = 20;
/// A process that uses more memory than this is a finding. Every engine here is limited to far less.
const MEMORY_MIB_MAX: u64 = 1_024;
/// The time that a target may take beyond its share, to read its corpus and to exit.
const OVERTIME: Duration = Duration::from_secs(180);
/// Every target reaches more edges than this before the first mutation: with fewer, the counters are missing.
const EDGES_MIN: u64 = 10;

/// The result of one run of a target.
#[derive(Debug, PartialEq, Eq)]
struct FuzzRun {
    executions: u64,
    edges: u64,
    corpus: String,
    /// The first line of a finding, and the file with its input.
    finding: Option<(String, PathBuf)>,
}

/// Builds the targets, runs them and prints the results.
pub(crate) fn run(options: &FuzzOptions) -> Result<()> {
    let targets = targets(&options.target)?;
    let program = build()?;
    let count = u64::try_from(targets.len())?;
    let share = Duration::from_secs((options.minutes * 60 / count).max(1));
    println!("== fuzz: {count} targets, {} s each", share.as_secs());
    println!("\n{:<20} {:>8} {:>14} {:>8} {:>18}  result", "target", "seconds", "executions", "edges", "corpus");
    let started = Instant::now();
    let mut findings = Vec::new();
    let mut executions = 0;
    for target in &targets {
        let began = Instant::now();
        let run = fuzz(&program, target, share)?;
        let result = if run.finding.is_some() { "FINDING" } else { "no finding" };
        let seconds = began.elapsed().as_secs();
        println!("{target:<20} {seconds:>8} {:>14} {:>8} {:>18}  {result}", run.executions, run.edges, run.corpus);
        executions += run.executions;
        findings.extend(run.finding.map(|(words, input)| (target, words, input)));
    }
    println!("{:<20} {:>8} {executions:>14}", "all", started.elapsed().as_secs());
    for (target, words, input) in &findings {
        let input = input.display();
        println!("\n{target}: {words}\n   run again: MUSTER_FUZZ_TARGET={target} {} {input}", program.display());
        println!(
            "   then:      commit it as fuzz/seeds/{target}/found-NAME, with a test named after the bug in the crate that owns it"
        );
    }
    if !findings.is_empty() {
        bail!("{} findings", findings.len());
    }
    println!("\n{count} targets passed, 0 findings");
    Ok(())
}

/// The folders of `fuzz/seeds`; a test of the simulator compares them with the table of targets.
fn targets(chosen: &[String]) -> Result<Vec<String>> {
    let folder = tree::root().join("fuzz/seeds");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut all: Vec<String> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()
        .context("cannot list the targets")?;
    all.sort_unstable();
    if let Some(unknown) = chosen.iter().find(|name| !all.contains(name)) {
        bail!("there is no target `{unknown}`: {}", all.join(", "));
    }
    Ok(if chosen.is_empty() { all } else { chosen.to_vec() })
}

fn build() -> Result<PathBuf> {
    let folder = tree::root().join("fuzz");
    // With `--target`, the flags do not apply to build scripts and procedural macros, which would not link with them.
    let host = host()?;
    let built = folder.join("target");
    Program::line("cargo build --quiet --release --locked --target")
        .arg(&host)
        .directory(&folder)
        .env("RUSTFLAGS", COVERAGE)
        .env("CARGO_TARGET_DIR", &built)
        .stream()?;
    Ok(built.join(host).join("release/fuzz"))
}

fn host() -> Result<String> {
    let version = Program::line("rustc -vV").expect_success()?.stdout;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` does not print the host")
}

fn fuzz(program: &Path, target: &str, share: Duration) -> Result<FuzzRun> {
    let fuzz = tree::root().join("fuzz");
    let folder = |kind: &str| {
        let folder = fuzz.join(kind).join(target);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        anyhow::Ok(folder)
    };
    let (corpus, artifacts) = (folder("corpus")?, folder("artifacts")?);
    let ended = Program::line("nice -n 19")
        .arg(program)
        .arg(corpus)
        .arg(fuzz.join("seeds").join(target))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(format!("-max_total_time={}", share.as_secs()))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
        .arg("-print_final_stats=1")
        .env("MUSTER_FUZZ_TARGET", target)
        .timeout(share + OVERTIME)
        .output()?;
    let run = read(&ended.stderr);
    judge(target, &ended, run)
}

/// A run without plausible output does not count as a run without findings.
fn judge(target: &str, ended: &Ended, run: FuzzRun) -> Result<FuzzRun> {
    if run.finding.is_none() && (!ended.status.success() || run.executions == 0) {
        bail!("{target} did not run: {}\n{}", ended.status, ended.stderr);
    }
    if run.finding.is_none() && run.edges < EDGES_MIN {
        bail!("{target} ran without coverage: {} edges", run.edges);
    }
    Ok(run)
}

/// Parses libFuzzer's output.
fn read(words: &str) -> FuzzRun {
    let after = |line: &str, label: &str| -> Option<String> {
        line.split_once(label).and_then(|(_, rest)| rest.split_whitespace().next()).map(str::to_owned)
    };
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let last = words.lines().rfind(|line| line.contains(" cov: "));
    let executions = words.lines().find_map(|line| after(line, "stat::number_of_executed_units:"));
    let written = words.lines().find_map(|line| after(line, "Test unit written to "));
    let panicked = words.lines().skip_while(|line| !line.contains("panicked at"));
    let why = panicked.take(2).map(str::trim).collect::<Vec<_>>().join(" ");
    let why = if why.is_empty() {
        words.lines().find(|line| line.contains("ERROR: libFuzzer")).unwrap_or_default().to_owned()
    } else {
        why
    };
    FuzzRun {
        executions: number(executions),
        edges: number(last.and_then(|line| after(line, " cov: "))),
        corpus: last.and_then(|line| after(line, " corp: ")).unwrap_or_default(),
        finding: written.map(|input| (why, input.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: &str = "#7\tINITED cov: 258 ft: 322 corp: 6/2617b exec/s: 0 rss: 28Mb\n\
        #16881597\tDONE   cov: 830 ft: 1481 corp: 502/167Kb lim: 4096 exec/s: 167144 rss: 29Mb\n\
        stat::number_of_executed_units: 16881597\n";

    const FOUND: &str = "#14\tNEW    cov: 3463 ft: 5069 corp: 11/2376b lim: 614 exec/s: 0 rss: 31Mb\n\n\
        thread '<unnamed>' (29323) panicked at crates/est/src/server/request.rs:310:23:\n\
        attempt to add with overflow\nstack backtrace:\n\
        ==29323== ERROR: libFuzzer: deadly signal\nstat::number_of_executed_units: 1929\n\
        artifact_prefix='a/'; Test unit written to a/crash-77\n";

    #[test]
    fn a_quiet_run_is_read() {
        let run = read(QUIET);
        assert_eq!((run.executions, run.edges, run.corpus.as_str()), (16_881_597, 830, "502/167Kb"));
        assert_eq!(run.finding, None);
    }

    #[test]
    fn a_finding_has_its_words_and_its_input() {
        let run = read(FOUND);
        let (words, input) = run.finding.unwrap();
        assert!(words.ends_with("request.rs:310:23: attempt to add with overflow"), "{words}");
        assert_eq!((run.executions, input), (1_929, PathBuf::from("a/crash-77")));
    }

    #[test]
    fn without_executions_or_counters_a_run_proves_nothing() {
        let ended =
            |stderr: &str| Ended { status: Default::default(), stdout: String::new(), stderr: stderr.to_owned() };
        assert!(judge("t", &ended(QUIET), read(QUIET)).is_ok());
        assert!(judge("t", &ended(""), read("")).is_err());
        let blind = QUIET.replace("cov: 830", "cov: 0");
        assert!(judge("t", &ended(&blind), read(&blind)).is_err());
    }
}
