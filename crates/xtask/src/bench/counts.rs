//! Instruction counts with committed baselines.
//!
//! The benchmarks are `benches/benches/instructions.rs`; gungraun runs them under callgrind, one profile each, and this module reads the profiles. A
//! count is compared with the committed baseline if valgrind, rustc, C library and CPU features are those of the baseline. If they differ, the old
//! counts cannot be compared: the parent commit is counted in the same run and replaces the baseline.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::callgrind::{self, Instructions};
use super::facts::CountingFacts;
use crate::process::{Daemon, Program};
use crate::{setup, tree};

const BASELINE: &str = "benches/baselines/instructions.json";
const SOURCE: &str = "benches/benches/instructions.rs";
/// A count fails if it exceeds its baseline by more than this many per mille, in all or outside the cryptographic
/// libraries.
const GROWTH_PER_MILLE_MAX: u64 = 10;
/// `growth` lists a function if its counts differ by more than this.
const GROWTH_SHOWN_MIN: u64 = 100;
/// Number of runs, of which the lowest count is used; the gate ends earlier, as soon as no count has grown. One run takes half a minute.
const COUNTED_TIMES: usize = 9;

#[derive(Serialize, Deserialize)]
struct Baseline {
    facts: CountingFacts,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    all: u64,
    outside_cryptography: u64,
}

type Counts = BTreeMap<String, Count>;

impl Count {
    fn least(self, other: Self) -> Self {
        let outside_cryptography = self.outside_cryptography.min(other.outside_cryptography);
        Self { all: self.all.min(other.all), outside_cryptography }
    }
}

impl From<Instructions> for Count {
    fn from(sum: Instructions) -> Self {
        Self { all: sum.all, outside_cryptography: sum.outside_cryptography }
    }
}

/// Fails if a count grew.
pub(super) fn gate() -> Result<()> {
    let baseline = committed()?;
    let facts = CountingFacts::here();
    let differences = facts.differences(&baseline.facts);
    let reference = if differences.is_empty() {
        baseline.counts
    } else {
        println!(
            "   the baselines come from another environment ({}): comparing with the parent commit instead",
            differences.join("; ")
        );
        count_parent()?
    };
    let has_grown = |now: &Counts| compare(&reference, now).iter().any(Row::has_grown);
    let now = count_while(&tree::root(), &tree::target(), has_grown)?;
    let rows = compare(&reference, &now);
    print_table(&rows);
    let grown: Vec<String> = rows.iter().filter(|row| row.has_grown()).map(|row| row.name.clone()).collect();
    if !grown.is_empty() {
        bail!(
            "counts grew by more than {} %: {}. If intended, run `cargo xtask bench bless` and commit it with the reason",
            GROWTH_PER_MILLE_MAX / 10,
            grown.join(", ")
        );
    }
    let gone: Vec<&String> = reference.keys().filter(|name| !now.contains_key(*name)).collect();
    ensure!(gone.is_empty(), "benchmarks are missing: {gone:?}; if intended, run `cargo xtask bench bless`");
    Ok(())
}

/// Makes the current counts the baseline.
pub(super) fn bless() -> Result<()> {
    let before = committed().map(|baseline| baseline.counts).unwrap_or_default();
    let counts = count(&tree::root(), &tree::target())?;
    let rows = compare(&before, &counts);
    let baseline = Baseline { facts: CountingFacts::here(), counts };
    tree::write(&tree::root().join(BASELINE), &format!("{}\n", serde_json::to_string_pretty(&baseline)?))?;
    println!("For the commit message:\n");
    print_table(&rows);
    Ok(())
}

/// Prints where the instructions of each benchmark are spent.
pub(super) fn breakdown() -> Result<()> {
    for (name, profile) in profile(&tree::root(), &tree::target())? {
        let mut components: Vec<(String, u64)> = callgrind::components(&profile)?.into_iter().collect();
        let all: u64 = components.iter().map(|(_, cost)| cost).sum();
        components.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
        println!("{name}: {all} instructions");
        for (component, cost) in components.iter().filter(|(_, cost)| cost * 1000 >= all) {
            println!("   {component:<24} {cost:>10} {:>6.1} %", share(*cost, all));
        }
    }
    Ok(())
}

/// Prints the functions whose counts differ from those of another commit: a function that was renamed or inlined elsewhere occurs twice.
pub(super) fn growth(commit: &str) -> Result<()> {
    let then = at_commit(commit, profile)?;
    for (name, now) in profile(&tree::root(), &tree::target())? {
        let Some(then) = then.get(&name) else { continue };
        let (then, now) = (callgrind::functions(then)?, callgrind::functions(&now)?);
        let (all_then, all_now): (u64, u64) = (then.values().sum(), now.values().sum());
        println!("{name}: {all_then} -> {all_now} ({})", change(Some(all_then), all_now));
        let functions: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
        let count = |counts: &callgrind::Components, function| counts.get(function).copied().unwrap_or(0);
        let mut rows: Vec<(u64, u64, &String)> =
            functions.into_iter().map(|function| (count(&then, function), count(&now, function), function)).collect();
        rows.retain(|(then, now, _)| then.abs_diff(*now) > GROWTH_SHOWN_MIN);
        rows.sort_by_key(|(then, now, _)| then.wrapping_sub(*now).cast_signed());
        for (then, now, function) in rows {
            println!("   {then:>7} {now:>7} {:>+7}  {function}", now.wrapping_sub(then).cast_signed());
        }
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "counts of one benchmark are far below 2^52, and this is for reading")]
fn share(part: u64, all: u64) -> f64 {
    part as f64 * 100.0 / all as f64
}

fn committed() -> Result<Baseline> {
    let text = tree::read(BASELINE).context("no baselines: run `cargo xtask bench bless`")?;
    serde_json::from_str(&text).with_context(|| format!("{BASELINE} is not a baseline"))
}

/// Counts several times and keeps the lowest of each: the standard library's hash tables draw new keys in each process, which changes the protocol's
/// own count by half a per cent.
fn count(root: &Path, target: &Path) -> Result<Counts> {
    count_while(root, target, |_| true)
}

/// The same, but no longer than the lowest counts so far need another run: they only fall.
fn count_while(root: &Path, target: &Path, needs_another: impl Fn(&Counts) -> bool) -> Result<Counts> {
    let mut least = Counts::new();
    for _ in 0..COUNTED_TIMES {
        for (name, profile) in profile(root, target)? {
            let now: Count = callgrind::read(&profile)?.into();
            least.entry(name).and_modify(|count| *count = count.least(now)).or_insert(now);
        }
        if !needs_another(&least) {
            break;
        }
    }
    ensure!(least.values().all(|count| count.all > 0), "a profile is empty: {least:?}");
    Ok(least)
}

/// Cargo with the benchmarks of a work tree.
fn benchmarks(program: Program, root: &Path, target: &Path) -> Result<Program> {
    let bench = program.args("bench --quiet --locked --package benches --bench instructions".split(' '));
    Ok(bench.directory(root).env("CARGO_TARGET_DIR", target).env("GUNGRAUN_RUNNER", setup::bench_runner()?))
}

/// Builds them in the background, at the lowest priority.
pub(super) fn build_aside() -> Result<Daemon> {
    let nice = Program::bound_to_us("nice").args(["-n", "19", "cargo"]);
    benchmarks(nice, &tree::root(), &tree::target())?.arg("--no-run").spawn(&tree::scratch("gate")?.join("build.log"))
}

/// Runs the benchmarks of a work tree and returns their profiles by name.
fn profile(root: &Path, target: &Path) -> Result<BTreeMap<String, String>> {
    let profiles = target.join("gungraun");
    if profiles.exists() {
        std::fs::remove_dir_all(&profiles)?;
    }
    let bench = benchmarks(Program::new("cargo"), root, target)?.args(["--", "--output-format=default"]);
    // The profiles contain file names, which tell library code from ours.
    let ended = bench.env("GUNGRAUN_HOME", &profiles).expect_success()?;
    let mut found = BTreeMap::new();
    for file in profiles_below(&profiles)? {
        let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        found.insert(name_of(&file)?, String::from_utf8_lossy(&text).into_owned());
    }
    ensure!(
        !found.is_empty(),
        "the benchmarks left no profile in {}\n{}{}",
        profiles.display(),
        ended.stdout,
        ended.stderr
    );
    Ok(found)
}

fn profiles_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("no profiles in {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            found.extend(profiles_below(&path)?);
        } else if name.starts_with("callgrind.") && name.ends_with(".out") {
            found.push(path);
        }
    }
    Ok(found)
}

/// Turns `callgrind.server_handshake.ccm8.out` into `server_handshake.ccm8`.
fn name_of(profile: &Path) -> Result<String> {
    let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_prefix("callgrind.").and_then(|name| name.strip_suffix(".out"));
    name.map(str::to_owned).with_context(|| format!("{} does not have the name of a profile", profile.display()))
}

/// The parent of this commit, in its own work tree under the target directory.
fn count_parent() -> Result<Counts> {
    let git = |line: &str| Program::new("git").args(line.split(' ')).directory(&tree::root());
    let changed = !git("status --porcelain --untracked-files=no").expect_success()?.stdout.is_empty();
    let parent = if changed { "HEAD" } else { "HEAD^" };
    let has_benchmarks = git(&format!("cat-file -e {parent}:{SOURCE}")).output()?.status.success();
    if !has_benchmarks {
        println!("   {parent} does not have these benchmarks: the counts are not compared");
        return Ok(Counts::new());
    }
    at_commit(parent, count)
}

/// Runs a closure in a work tree of another commit, with its own target directory.
fn at_commit<T>(commit: &str, work: impl FnOnce(&Path, &Path) -> Result<T>) -> Result<T> {
    let git = |line: &str| Program::new("git").args(line.split(' ')).directory(&tree::root());
    let folder = tree::target().join("scratch/parent");
    let remove = || git("worktree remove --force").arg(&folder).output();
    drop(remove());
    git("worktree add --force --detach").arg(&folder).arg(commit).expect_success()?;
    let result = work(&folder, &tree::target().join("parent"));
    remove()?;
    result
}

/// One benchmark, then and now.
struct Row {
    name: String,
    then: Option<Count>,
    now: Count,
}

impl Row {
    fn has_grown(&self) -> bool {
        let grown = |then: u64, now: u64| now * 1000 > then * (1000 + GROWTH_PER_MILLE_MAX);
        self.then.is_some_and(|then| {
            grown(then.all, self.now.all) || grown(then.outside_cryptography, self.now.outside_cryptography)
        })
    }
}

fn compare(then: &Counts, now: &Counts) -> Vec<Row> {
    now.iter().map(|(name, now)| Row { name: name.clone(), then: then.get(name).copied(), now: *now }).collect()
}

fn print_table(rows: &[Row]) {
    println!(
        "   {:<36} {:>12} {:>9}   {:>22} {:>9}",
        "benchmark", "instructions", "change", "outside cryptography", "change"
    );
    for row in rows {
        let (all, outside) = (row.then.map(|then| then.all), row.then.map(|then| then.outside_cryptography));
        println!(
            "   {:<36} {:>12} {:>9}   {:>22} {:>9}",
            row.name,
            row.now.all,
            change(all, row.now.all),
            row.now.outside_cryptography,
            change(outside, row.now.outside_cryptography)
        );
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of one benchmark are far below 2^52, and this is for reading")]
fn change(then: Option<u64>, now: u64) -> String {
    then.filter(|then| *then > 0)
        .map_or_else(|| "new".to_owned(), |then| format!("{:+.2} %", (now as f64 / then as f64 - 1.0) * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(then: (u64, u64), now: (u64, u64)) -> Row {
        let count = |(all, outside_cryptography)| Count { all, outside_cryptography };
        Row { name: "x".to_owned(), then: Some(count(then)), now: count(now) }
    }

    #[test]
    fn one_per_cent_is_allowed_and_more_is_not() {
        assert!(!row((1000, 100), (1010, 101)).has_grown());
        assert!(row((1000, 100), (1011, 100)).has_grown());
    }

    #[test]
    fn a_protocol_two_per_cent_dearer_is_seen_although_the_sum_hides_it() {
        assert!(row((3_500_000, 100_000), (3_502_000, 102_000)).has_grown());
    }

    #[test]
    fn a_new_benchmark_is_no_growth() {
        let new = Row { then: None, ..row((1, 1), (10, 10)) };
        assert!(!new.has_grown());
    }

    #[test]
    fn profiles_are_named_by_function_and_case() {
        assert_eq!(name_of(Path::new("a/callgrind.enrolment.ccm8_64.out")).unwrap(), "enrolment.ccm8_64");
        assert!(name_of(Path::new("a/summary.json")).is_err());
    }
}
