//! The functions whose counts differ most from those of another commit.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::callgrind::{self, Components};
use super::figures::Compared;
use super::profiles::{BenchTree, Profiles, at_commit};

/// As many functions are printed for each benchmark that grew.
const SHOWN: usize = 10;
/// `growth` lists a function if its counts differ by more than this.
const GROWTH_SHOWN_MIN: u64 = 100;

/// A function and its counts.
struct Moved {
    function: String,
    then: u64,
    now: u64,
}

/// Prints the ten functions that moved most in each benchmark that grew: the commit is counted in this run.
pub(super) fn print(commit: &str, grown: &[Compared]) -> Result<()> {
    let benchmarks: BTreeSet<&str> = grown
        .iter()
        .filter(|it| it.kind().is_instructions())
        .filter_map(|it| it.name.split_once('/').map(|(_, benchmark)| benchmark))
        .collect();
    if benchmarks.is_empty() {
        return Ok(());
    }
    println!("   counting {commit}, to name the functions that moved ...");
    let (then, now) = (at_commit(commit, BenchTree::profiles)?, BenchTree::here().profiles()?);
    for benchmark in benchmarks {
        let empty = String::new();
        let of = |profiles: &Profiles| callgrind::functions(profiles.get(benchmark).unwrap_or(&empty));
        println!("   {benchmark}: the functions that moved most, {commit} and now");
        for moved in moved(&of(&then)?, &of(&now)?).iter().take(SHOWN) {
            moved.print();
        }
    }
    Ok(())
}

/// Prints every function whose count differs from that of another commit: one that was renamed or inlined elsewhere occurs twice.
pub(super) fn growth(commit: &str) -> Result<()> {
    let then = at_commit(commit, BenchTree::profiles)?;
    for (name, now) in BenchTree::here().profiles()? {
        let Some(then) = then.get(&name) else { continue };
        let (then, now) = (callgrind::functions(then)?, callgrind::functions(&now)?);
        let (all_then, all_now): (u64, u64) = (then.values().sum(), now.values().sum());
        println!("{name}: {all_then} -> {all_now}");
        for moved in moved(&then, &now).iter().filter(|moved| moved.distance() > GROWTH_SHOWN_MIN) {
            moved.print();
        }
    }
    Ok(())
}

/// Prints where the instructions of each benchmark are spent.
pub(super) fn breakdown() -> Result<()> {
    for (name, profile) in BenchTree::here().profiles()? {
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

/// The functions whose counts differ, the largest difference first.
fn moved(then: &Components, now: &Components) -> Vec<Moved> {
    let functions: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let count = |counts: &BTreeMap<String, u64>, function| counts.get(function).copied().unwrap_or(0);
    let rows = functions.into_iter().map(|function| Moved {
        function: function.clone(),
        then: count(then, function),
        now: count(now, function),
    });
    let mut rows: Vec<Moved> = rows.filter(|row| row.distance() > 0).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.distance()));
    rows
}

impl Moved {
    fn distance(&self) -> u64 {
        self.then.abs_diff(self.now)
    }

    fn print(&self) {
        let by = self.now.wrapping_sub(self.then).cast_signed();
        println!("   {:>9} {:>9} {by:>+8}  {}", self.then, self.now, self.function);
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of one benchmark are far below 2^52, and this is for reading")]
fn share(part: u64, all: u64) -> f64 {
    part as f64 * 100.0 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_most_comes_first_and_what_did_not_move_is_left_out() {
        let counts = |a, b, c| Components::from([("a".to_owned(), a), ("b".to_owned(), b), ("c".to_owned(), c)]);
        let mut now = counts(10, 50, 7);
        now.insert("new".to_owned(), 30);
        let names: Vec<String> = moved(&counts(10, 100, 8), &now).into_iter().map(|row| row.function).collect();
        assert_eq!(names, ["b", "new", "c"]);
    }
}
