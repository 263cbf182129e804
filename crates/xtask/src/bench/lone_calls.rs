//! The gate of system calls: what one enrolment alone costs the server, against `benches/baselines/system_calls.json`.
//!
//! The engines have no system calls, so that none of their counts sees one flight that leaves in two calls, a receive that finds nothing, or a wake of
//! another thread. The number depends a little on how datagrams meet in time; what is more in each of several counts is more.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::facts::TimingFacts;
use super::syscalls::{self, SystemCalls};
use crate::tree;

const BASELINE: &str = "benches/baselines/system_calls.json";
/// How many more of a kind for an enrolment count as more.
pub(super) const TOLERANCE: f64 = 0.5;
/// Counts until nothing is more, at most.
const COUNTS: usize = 3;

/// Kinds of calls, and their names. Those that have no name here are `others`.
const KINDS: &[(&str, &[&str])] = &[
    ("sends", &["sendto", "sendmsg", "sendmmsg"]),
    ("receives", &["recvfrom", "recvmsg", "recvmmsg"]),
    ("sleeps", &["epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll"]),
    // An eventfd, and a futex that somebody waits for or wakes.
    ("wakes", &["write", "futex"]),
];
const OTHERS: &str = "others";
/// A heap that grows does so in a server's first minutes, and not once an enrolment.
const OF_THE_HEAP: &[&str] = &["brk", "mmap", "mremap", "munmap", "mprotect", "madvise"];

/// Calls of an enrolment by kind.
type CallsByKind = BTreeMap<String, f64>;

/// The committed baseline.
#[derive(Serialize, Deserialize)]
struct LoneCalls {
    /// The kernel on which they were counted.
    kernel: String,
    calls: CallsByKind,
}

/// Fails if an enrolment alone needs more calls of a kind than the baseline says.
/// The first count is given; without one nothing is compared.
pub(super) fn gate(first: Option<&SystemCalls>) -> Result<()> {
    let Some(first) = first else { return Ok(()) };
    let text = tree::read(BASELINE).context("no baseline: run `cargo xtask bench bless`")?;
    let baseline: LoneCalls = serde_json::from_str(&text).with_context(|| format!("{BASELINE} is not a baseline"))?;
    let mut first = Some(printed(first));
    let now = least(|| first.take().map_or_else(count, Ok), |now| more(&baseline.calls, now).is_empty())?;
    judge(&baseline, &now)
}

/// Makes the current calls the baseline.
pub(super) fn bless() -> Result<()> {
    if let Some(why) = syscalls::why_not() {
        println!("   NOT MOVED: the system calls of one enrolment alone: {why}");
        return Ok(());
    }
    let calls = least(count, |_| false)?;
    let rounded = calls.into_iter().map(|(kind, calls)| (kind, (calls * 100.0).round() / 100.0)).collect();
    let baseline = LoneCalls { kernel: TimingFacts::here().kernel, calls: rounded };
    tree::write(&tree::root().join(BASELINE), &format!("{}\n", serde_json::to_string_pretty(&baseline)?))
}

/// Counts, and prints them.
fn count() -> Result<CallsByKind> {
    syscalls::count(1).map(|counted| printed(&counted))
}

/// Prints a count by kind and by name.
fn printed(counted: &SystemCalls) -> CallsByKind {
    let SystemCalls { calls, .. } = counted;
    let by_kind = by_kind(calls);
    let words = |calls: &BTreeMap<String, f64>| -> String {
        let mut calls: Vec<(&String, &f64)> = calls.iter().collect();
        calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
        calls.iter().map(|(name, calls)| format!("{name} {calls:.1}")).collect::<Vec<_>>().join(", ")
    };
    let all: f64 = calls.values().sum();
    println!("   system calls of one enrolment alone: {all:.1}: {}; by name: {}", words(&by_kind), words(calls));
    by_kind
}

/// Prints the calls of the muster that the tests use.
pub(super) fn report() -> Result<()> {
    count().map(drop)
}

fn by_kind(calls: &BTreeMap<String, f64>) -> CallsByKind {
    let kinds = KINDS.iter().map(|(kind, _)| *kind).chain([OTHERS]);
    let mut by_kind: CallsByKind = kinds.map(|kind| (kind.to_owned(), 0.0)).collect();
    for (name, calls) in calls.iter().filter(|(name, _)| !OF_THE_HEAP.contains(&name.as_str())) {
        let kind = KINDS.iter().find(|(_, names)| names.contains(&name.as_str())).map_or(OTHERS, |(kind, _)| *kind);
        *by_kind.entry(kind.to_owned()).or_default() += calls;
    }
    by_kind
}

/// The least of each kind of several counts.
fn least(
    mut count: impl FnMut() -> Result<CallsByKind>,
    is_enough: impl Fn(&CallsByKind) -> bool,
) -> Result<CallsByKind> {
    let mut least = count()?;
    for _ in 1..COUNTS {
        if is_enough(&least) {
            break;
        }
        for (kind, calls) in count()? {
            least.entry(kind).and_modify(|least| *least = least.min(calls)).or_insert(calls);
        }
    }
    Ok(least)
}

fn judge(baseline: &LoneCalls, now: &CallsByKind) -> Result<()> {
    let LoneCalls { kernel, calls: then } = baseline;
    let grew = more(then, now);
    ensure!(
        grew.is_empty(),
        "system calls of one enrolment alone grew: {} (counted on {kernel}). If intended, run `cargo xtask bench bless` and commit it with the reason",
        grew.join(", ")
    );
    let fell = more(now, then);
    if !fell.is_empty() {
        // No failure: where datagrams meet, as on a busy machine, an enrolment needs fewer.
        println!(
            "   fewer than the baseline: it says {}; if that stays, run `cargo xtask bench bless`",
            fell.join(", ")
        );
    }
    Ok(())
}

/// The kinds of `now` that are more than those of `then`, in words.
fn more(then: &CallsByKind, now: &CallsByKind) -> Vec<String> {
    let of = |kind: &String| then.get(kind).copied().unwrap_or_default();
    let grew = now.iter().filter(|(kind, calls)| **calls > of(kind) + TOLERANCE);
    grew.map(|(kind, calls)| format!("{kind} {calls:.2} instead of {:.2}", of(kind))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(of: &[(&str, f64)]) -> BTreeMap<String, f64> {
        of.iter().map(|(name, calls)| ((*name).to_owned(), *calls)).collect()
    }

    fn baseline() -> LoneCalls {
        LoneCalls { kernel: "Linux 6.18".to_owned(), calls: calls(&[("sends", 6.0), ("wakes", 0.0)]) }
    }

    #[test]
    fn calls_are_counted_by_what_they_do() {
        let named = [("sendmsg", 5.0), ("sendmmsg", 1.0), ("recvmmsg", 6.0), ("epoll_wait", 6.05), ("getrandom", 5.0)];
        let by_kind = by_kind(&calls(&[&named[..], &[("mprotect", 0.4)]].concat()));
        let expected = [("sends", 6.0), ("receives", 6.0), ("sleeps", 6.05), ("wakes", 0.0), ("others", 5.0)];
        assert_eq!(by_kind, calls(&expected));
    }

    #[test]
    fn one_more_wake_or_a_flight_in_two_calls_is_growth() {
        let said = |now: &[(&str, f64)]| judge(&baseline(), &calls(now)).map_err(|error| error.to_string());
        assert!(said(&[("sends", 6.4), ("wakes", 0.05)]).is_ok(), "within what two counts differ by");
        let wakes = said(&[("sends", 6.0), ("wakes", 1.0)]).unwrap_err();
        assert!(wakes.contains("grew: wakes 1.00 instead of 0.00 (counted on Linux 6.18)"), "{wakes}");
        assert!(said(&[("sends", 7.0), ("wakes", 0.0)]).is_err());
        assert!(said(&[("sends", 6.0), ("wakes", 0.0), ("others", 1.0)]).is_err(), "a kind that was not there");
    }

    #[test]
    fn fewer_calls_are_no_failure() {
        assert!(judge(&baseline(), &calls(&[("sends", 4.0), ("wakes", 0.0)])).is_ok(), "datagrams met");
    }

    #[test]
    fn only_what_is_more_in_each_count_is_more() {
        let mut counts = [("sends", 7.0), ("sends", 6.0), ("sends", 9.0)].into_iter();
        let count = || Ok(calls(&[counts.next().unwrap()]));
        let enough = |now: &CallsByKind| more(&baseline().calls, now).is_empty();
        assert_eq!(least(count, enough).unwrap(), calls(&[("sends", 6.0)]));
        assert_eq!(counts.next(), Some(("sends", 9.0)), "the third count was not needed");
    }

    #[test]
    fn the_committed_baseline_has_each_kind() {
        let baseline: LoneCalls = serde_json::from_str(&tree::read(BASELINE).unwrap()).unwrap();
        assert_eq!(
            baseline.calls.keys().cloned().collect::<Vec<_>>(),
            by_kind(&BTreeMap::new()).into_keys().collect::<Vec<_>>()
        );
    }
}
