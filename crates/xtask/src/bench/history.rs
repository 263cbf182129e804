//! The history of the figures: one line of JSON a commit in `benches/history.jsonl`, and how two commits compare.
//!
//! ```text
//! {"schema":"muster-history/1","commit":"<12 hex>","at":"<time of the commit>","facts":{"valgrind":..,"rustc":..,"libc":..,"cpu_features":..,"cpu":..},
//!  "figures":{"instructions/whole_enrolment.ccm8_512":{"value":4029947,"noise":0}, ..}}
//! ```
//!
//! Less is better for every figure. `noise` is the distance between the runs of one build for counts, and half of the 95 % interval for what was
//! measured end to end. A commit that is recorded again has the figures of its last line, beside those of its earlier lines that it does not repeat.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::baselines::Baselines;
use super::facts::{CountingFacts, TimingFacts, is_committed};
use super::figures::{self, Compared, Figure, FigureKind, Figures};
use super::profiles::{BenchTree, git};
use crate::tree;

pub(super) const HISTORY: &str = "benches/history.jsonl";
const SCHEMA: &str = "muster-history/1";
/// Counts of two builds may differ by this share without a change of ours: code moves as its neighbours do.
const COUNT_NOISE: f64 = 0.002;
/// A commit is named by as many digits of its hash.
const COMMIT_DIGITS: usize = 12;

#[derive(Args)]
pub(crate) struct RecordOptions {
    /// Take the committed baselines of every commit that changed them, instead of counting this tree
    #[arg(long)]
    from_baselines: bool,
    /// Record this earlier commit, with its committed baselines, instead of counting this tree: for results that were committed after it
    #[arg(long, value_name = "COMMIT", conflicts_with = "from_baselines")]
    of: Option<String>,
    /// A result of `bench e2e`, `scale`, `service` or `overload` of the recorded commit, whose figures are recorded too
    #[arg(long, value_name = "JSON")]
    measured: Vec<std::path::PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedCommit {
    schema: String,
    pub(super) commit: String,
    pub(super) at: String,
    pub(super) facts: BTreeMap<String, String>,
    pub(super) figures: Figures,
}

/// Appends the figures of this commit, or of all commits that changed the baselines.
pub(super) fn record(options: &RecordOptions) -> Result<()> {
    let lines = match &options.of {
        Some(commit) => vec![earlier(commit, &options.measured)?],
        None if options.from_baselines => from_baselines()?,
        None => vec![counted(options)?],
    };
    ensure!(!lines.is_empty(), "every commit that changed the baselines is recorded already");
    let text = lines.iter().map(|line| Ok(serde_json::to_string(line)? + "\n")).collect::<Result<String>>()?;
    println!("   {} recorded", lines.iter().map(|line| line.commit.as_str()).collect::<Vec<_>>().join(", "));
    tree::append(HISTORY, &text)
}

fn counted(options: &RecordOptions) -> Result<RecordedCommit> {
    ensure!(is_committed(), "files have changed since the last commit: the figures would not be those of a commit");
    let mut line = RecordedCommit::of("HEAD", &CountingFacts::here(), Figures::new())?;
    line.facts.insert("cpu".to_owned(), TimingFacts::here().cpu);
    line.add_measured(&options.measured)?;
    line.figures.extend(Baselines::measure(&BenchTree::here())?.figures());
    Ok(line)
}

/// The committed baselines of a commit, and results that were measured of it.
fn earlier(commit: &str, measured: &[std::path::PathBuf]) -> Result<RecordedCommit> {
    let baselines = Baselines::of_commit(commit)?.with_context(|| format!("{commit} has no baselines"))?;
    let mut line = RecordedCommit::of(commit, &baselines.facts, baselines.figures())?;
    line.add_measured(measured)?;
    Ok(line)
}

/// The figures that a record of `bench e2e`, `scale`, `service` or `overload` offers: `figures`, by name.
fn measured(record: &serde_json::Value) -> Result<Figures> {
    serde_json::from_value(record["figures"].clone()).context("its `figures` are not figures by name")
}

/// One line for each commit that changed the committed baselines and is not recorded.
fn from_baselines() -> Result<Vec<RecordedCommit>> {
    let recorded = read(&tree::read(HISTORY).unwrap_or_default())?;
    let log = git("log --reverse --format=%H -- benches/baselines").expect_success()?.stdout;
    let mut lines = Vec::new();
    for commit in log.lines() {
        let is_recorded = recorded.iter().any(|line| commit.starts_with(&line.commit));
        // The first baselines had another form.
        let Ok(Some(baselines)) = Baselines::of_commit(commit) else { continue };
        if !is_recorded {
            lines.push(RecordedCommit::of(commit, &baselines.facts, baselines.figures())?);
        }
    }
    Ok(lines)
}

impl RecordedCommit {
    fn of(commit: &str, facts: &CountingFacts, figures: Figures) -> Result<Self> {
        let shown = git("show -s --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%H@%cd").env("TZ", "UTC0").arg(commit);
        let shown = shown.expect_success()?.stdout;
        let (hash, at) = shown.trim().split_once('@').context("git names no commit")?;
        let facts = [
            ("valgrind", &facts.valgrind),
            ("rustc", &facts.rustc),
            ("libc", &facts.libc),
            ("cpu_features", &facts.cpu_features),
        ];
        Ok(Self {
            schema: SCHEMA.to_owned(),
            commit: hash.chars().take(COMMIT_DIGITS).collect(),
            at: at.to_owned(),
            facts: facts.map(|(name, fact)| (name.to_owned(), fact.clone())).into(),
            figures,
        })
    }

    /// Adds the figures of results of this commit, and the processor that they depend on.
    fn add_measured(&mut self, files: &[std::path::PathBuf]) -> Result<()> {
        for file in files {
            let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let record: serde_json::Value = serde_json::from_str(&text)?;
            let of = record["facts"]["commit"].as_str().unwrap_or_default();
            ensure!(of == self.commit, "{} is of {of}, not of {}", file.display(), self.commit);
            self.figures.extend(measured(&record).with_context(|| format!("{} cannot be recorded", file.display()))?);
            let cpu = record["facts"]["cpu"].as_str().with_context(|| format!("{} names no CPU", file.display()))?;
            self.facts.insert("cpu".to_owned(), cpu.to_owned());
        }
        Ok(())
    }

    /// The facts that differ and that figures of this kind depend on.
    fn differing_facts(&self, other: &Self, kind: FigureKind) -> Vec<&str> {
        let matters: &[&str] = match kind {
            FigureKind::Instructions | FigureKind::OutsideCryptography => {
                &["valgrind", "rustc", "libc", "cpu_features"]
            }
            FigureKind::Measured => &["cpu"],
            _ => &[],
        };
        matters.iter().copied().filter(|fact| self.facts.get(*fact) != other.facts.get(*fact)).collect()
    }
}

/// The recorded commits in the order in which they were made; several lines of one commit become one.
pub(super) fn read(text: &str) -> Result<Vec<RecordedCommit>> {
    let mut commits: Vec<RecordedCommit> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line: RecordedCommit =
            serde_json::from_str(line).with_context(|| format!("{HISTORY}:{}: not a record", number + 1))?;
        ensure!(line.schema == SCHEMA, "{HISTORY}:{}: the schema is {}, not {SCHEMA}", number + 1, line.schema);
        match commits.iter_mut().find(|it| it.commit == line.commit) {
            Some(earlier) => {
                earlier.facts.extend(line.facts);
                earlier.figures.extend(line.figures);
            }
            None => commits.push(line),
        }
    }
    commits.sort_by(|one, other| one.at.cmp(&other.at));
    Ok(commits)
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Better,
    Worse,
    Noise,
    /// The facts of the machines differ: the figures say nothing about the code.
    Incomparable,
}

#[derive(Args)]
pub(crate) struct CompareOptions {
    /// The earlier commit
    then: String,
    /// The later commit
    now: String,
    /// The history that has both, relative to the root of the repository
    #[arg(long, value_name = "JSONL", default_value = HISTORY)]
    history: std::path::PathBuf,
}

/// Says for each figure whether `now` is better, worse or as `then`; an error if one is worse.
pub(super) fn compare(options: &CompareOptions) -> Result<()> {
    let commits = read(&tree::read(&options.history)?)?;
    let (then, now) = (find(&commits, &options.then)?, find(&commits, &options.now)?);
    let mut tally = BTreeMap::new();
    println!("{:<46} {:>14} {:>14} {:>9}  verdict", "figure", then.commit, now.commit, "change");
    for it in figures::compare(&then.figures, &now.figures).iter().filter(|it| it.then.is_some()) {
        let verdict = judge(it, &then.differing_facts(now, it.kind()));
        *tally.entry(format!("{verdict:?}").to_lowercase()).or_insert(0) += 1;
        let before = it.then.map_or(0.0, |then| then.value);
        let word = format!("{verdict:?}").to_lowercase();
        println!("{:<46} {before:>14} {:>14} {:>+8.2}%  {word}", it.name, it.now.value, it.percent());
    }
    println!("{}", tally.iter().map(|(word, count)| format!("{count} {word}")).collect::<Vec<_>>().join(", "));
    let missing = missing(&then.figures, &now.figures);
    for name in &missing {
        println!("{name:<46} is missing in {}", now.commit);
    }
    if let Some(worse) = tally.get("worse") {
        bail!("{worse} figures of {} are worse than those of {}", now.commit, then.commit);
    }
    ensure!(missing.is_empty(), "{} figures of {} are missing in {}", missing.len(), then.commit, now.commit);
    let is_compared = tally.keys().any(|word| word != "incomparable");
    ensure!(
        is_compared,
        "nothing of {} can be compared with {}: their machines or figures differ",
        now.commit,
        then.commit
    );
    Ok(())
}

/// Counts that `now` no longer has. What is measured is not recorded for each commit.
fn missing<'f>(then: &'f Figures, now: &Figures) -> Vec<&'f String> {
    let is_counted = |name: &&String| FigureKind::of(name) != FigureKind::Measured;
    then.keys().filter(|name| !now.contains_key(*name)).filter(is_counted).collect()
}

/// How far a figure may differ without a change of ours.
pub(super) fn noise(kind: FigureKind, figure: Figure) -> f64 {
    if kind.is_instructions() { figure.noise.max(figure.value * COUNT_NOISE) } else { figure.noise }
}

fn judge(it: &Compared, differing: &[&str]) -> Verdict {
    let then = it.then.unwrap_or_default();
    if !differing.is_empty() {
        return Verdict::Incomparable;
    }
    let (before, after) = (noise(it.kind(), then), noise(it.kind(), it.now));
    // Half of each interval: where they touch, the difference is not decided.
    let noise = if it.kind() == FigureKind::Measured { before + after } else { before.max(after) };
    match it.now.value - then.value {
        more if more > noise => Verdict::Worse,
        more if -more > noise => Verdict::Better,
        _ => Verdict::Noise,
    }
}

/// The recorded commit that a user names: by the beginning of its hash, or as git does.
fn find<'c>(commits: &'c [RecordedCommit], named: &str) -> Result<&'c RecordedCommit> {
    let resolved = git("rev-parse --verify --quiet").arg(format!("{named}^{{commit}}")).output()?;
    let hash = if resolved.status.success() { resolved.stdout.trim().to_owned() } else { named.to_owned() };
    let is_named = |it: &&RecordedCommit| hash.starts_with(&it.commit) || it.commit.starts_with(&hash);
    commits.iter().rev().find(is_named).with_context(|| {
        let known: Vec<&str> = commits.iter().map(|it| it.commit.as_str()).collect();
        format!("{named} is not recorded in {HISTORY}; recorded are {}", known.join(", "))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::baselines;
    use crate::bench::profiles::is_in_history;
    use crate::bench::run_file::RunFile;

    pub(in super::super) fn recorded(commit: &str, at: &str, figures: &[(&str, f64, f64)]) -> RecordedCommit {
        let figures =
            figures.iter().map(|(name, value, noise)| ((*name).to_owned(), Figure { value: *value, noise: *noise }));
        RecordedCommit {
            schema: SCHEMA.to_owned(),
            commit: commit.to_owned(),
            at: at.to_owned(),
            facts: BTreeMap::from([("rustc".to_owned(), "1".to_owned())]),
            figures: figures.collect(),
        }
    }

    fn judged(name: &str, then: (f64, f64), now: (f64, f64)) -> Verdict {
        let figure = |(value, noise)| Figure { value, noise };
        judge(&Compared { name: name.to_owned(), then: Some(figure(then)), now: figure(now) }, &[])
    }

    #[test]
    fn better_worse_and_noise_are_told_apart() {
        assert_eq!(judged("instructions/x", (1000.0, 0.0), (1002.0, 0.0)), Verdict::Noise);
        assert_eq!(judged("instructions/x", (1000.0, 0.0), (1003.0, 0.0)), Verdict::Worse);
        assert_eq!(judged("instructions/x", (1000.0, 0.0), (900.0, 0.0)), Verdict::Better);
        assert_eq!(judged("datagrams/up.x", (6.0, 0.0), (7.0, 0.0)), Verdict::Worse);
        assert_eq!(judged("ratio/x", (1.30, 0.05), (1.38, 0.04)), Verdict::Noise);
        assert_eq!(judged("ratio/x", (1.30, 0.05), (1.40, 0.04)), Verdict::Worse);
    }

    #[test]
    fn counts_of_another_compiler_say_nothing_about_the_code() {
        let (then, mut now) = (recorded("a", "1", &[]), recorded("b", "2", &[]));
        now.facts.insert("rustc".to_owned(), "2".to_owned());
        assert_eq!(then.differing_facts(&now, FigureKind::Instructions), ["rustc"]);
        assert!(then.differing_facts(&now, FigureKind::Datagrams).is_empty());
    }

    #[test]
    fn lines_of_one_commit_become_one_and_commits_are_in_the_order_of_time() {
        let lines = [
            recorded("b", "2", &[("ratio/x", 1.3, 0.1)]),
            recorded("a", "1", &[]),
            recorded("b", "2", &[("ratio/y", 1.4, 0.1)]),
        ];
        let text: String = lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        let commits = read(&text).unwrap();
        assert_eq!(commits.iter().map(|it| it.commit.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(commits[1].figures.len(), 2);
        assert!(read("{}\n").is_err());
    }

    #[test]
    fn a_count_that_is_gone_is_missing_and_a_measurement_that_was_not_taken_is_not() {
        let then = recorded("a", "1", &[("instructions/x", 1.0, 0.0), ("ratio/x", 1.3, 0.1)]).figures;
        assert_eq!(missing(&then, &Figures::new()), ["instructions/x"]);
        assert!(missing(&then, &then).is_empty());
    }

    #[test]
    fn a_record_without_figures_is_not_taken_for_one_that_measured_nothing() {
        assert!(measured(&serde_json::json!({ "schema": "muster-overload/1" })).is_err());
        let record = serde_json::json!({ "figures": { "ratio/x": { "value": 1.3, "noise": 0.1 } } });
        assert_eq!(measured(&record).unwrap().len(), 1);
    }

    #[test]
    fn an_earlier_commit_is_recorded_with_its_results_and_not_with_those_of_another() {
        let newest = RunFile::all("service", "muster-service/2").unwrap().swap_remove(0);
        let of = newest.record["facts"]["commit"].as_str().unwrap();
        let file = tree::root().join(&newest.path);
        let mut own = recorded(of, "1", &[("instructions/x", 1.0, 0.0)]);
        own.add_measured(std::slice::from_ref(&file)).unwrap();
        assert!(own.figures["step_cpu_us/cookieless"].value > 0.0);
        assert!(own.figures.contains_key("instructions/x") && newest.record["facts"]["cpu"] == own.facts["cpu"]);
        let mut other = recorded("000000000000", "1", &[]);
        assert!(other.add_measured(&[file]).unwrap_err().to_string().contains(&format!("is of {of}")));
    }

    #[test]
    fn each_kind_that_is_measured_has_recorded_figures() {
        let commits = read(&tree::read(HISTORY).unwrap()).unwrap();
        for name in ["ratio_to_floor", "enrolment_cpu_growth", "goodput_lost", "step_cpu_us"] {
            let is_recorded = commits.iter().flat_map(|it| it.figures.keys()).any(|it| it.starts_with(name));
            assert!(is_recorded, "{name}");
        }
    }

    #[test]
    fn each_recorded_commit_is_in_the_repository() {
        let recorded = read(&tree::read(HISTORY).unwrap()).unwrap();
        assert!(!recorded.is_empty());
        if baselines::is_shallow(&tree::root()).unwrap() {
            return;
        }
        // A commit that was rebased after it was recorded: its line belongs to the commit that took its place.
        let gone: Vec<&str> = recorded.iter().map(|it| it.commit.as_str()).filter(|it| !is_in_history(it)).collect();
        assert!(gone.is_empty(), "{HISTORY} has lines of commits that are not in the repository: {gone:?}");
        assert!(!is_in_history("92d6be8bb79a"), "a commit that was recorded and then rebased");
    }
}
