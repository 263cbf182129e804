//! `cargo xtask bench shards`: what a second shard costs each datagram. No time is measured: counts say the same on every machine. The part `gate` of
//! `cargo xtask check` counts the same, and writes no file.
//!
//! - **Cache lines and locks.** Valgrind's lackey prints every instruction and every access to memory of one shard, and of two shards of one server
//!   (`benches/src/traced_shards.rs`). No line that one shard writes for a datagram of an established session is touched by the other one. A lock or a
//!   counter that both use would be such a line, whether or not anybody waits for it. Atomic instructions are counted beside it: no lock is taken
//!   without one.
//! - **Wakes.** strace counts the system calls of a server with one shard and with two under the same load: none that wakes a thread comes on top. It
//!   also says which threads wake another one: a shard wakes threads of the pool, and no shard. The exception, which this load does not have, is a
//!   repetition of a request in flight that comes to another shard: it waits for the same outcome, and the thread that has it wakes that shard, if it
//!   sleeps, by one `write` of eight bytes.

mod atomics;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde::Serialize;

use self::trace::{TracedShard, Tracer};
use super::facts::TimingFacts;
use super::lone_calls::TOLERANCE;
use super::run_file::RunFile;
use super::syscalls::{self, SystemCalls, Wakes};

#[derive(Args)]
pub(crate) struct ShardsOptions {
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// System calls that wake a thread, a futex's wait too.
const WAKES: &[&str] = &["futex", "write"];
/// The call in which a shard sleeps. How often it does depends on how datagrams meet, and on what else the machine does: it is reported, not compared. What
/// ends it too early is a wake, which is one of the calls above.
const SLEEP: &str = "epoll_wait";

#[derive(Serialize)]
struct ShardsRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: &'static str,
    seconds: u64,
    one_shard: ShardCosts,
    two_shards: ShardCosts,
    /// The promise: nothing more with two shards than with one.
    holds: bool,
}

/// What datagrams cost at a server with so many shards.
#[derive(Serialize)]
struct ShardCosts {
    #[serde(flatten)]
    memory: MemoryCosts,
    #[serde(flatten)]
    wakes: WakeCosts,
}

/// What datagrams of established sessions write, read and lock.
#[derive(Serialize)]
struct MemoryCosts {
    /// Those that were traced, on all shards.
    datagrams: usize,
    /// For each of them: cache lines that a shard wrote and another one touches.
    shared_lines_written_per_datagram: f64,
    /// All cache lines that are written for them, and those that two shards read.
    lines_written: usize,
    lines_read_by_both: usize,
    /// Atomic exchanges of ours (`cmpxchg`, `xchg`) for each: no lock is taken without one, so as many locks at most.
    exchanges_per_datagram: f64,
    /// All atomic read-modify-writes for each; beside exchanges, references that are cloned and counters.
    atomics_per_datagram: f64,
}

/// What wakes for datagrams of devices that enrol one after the other.
#[derive(Serialize)]
struct WakeCosts {
    /// Wakes by a shard for each: of a poll, which is how shards sleep, and of a thread of the pool.
    wakes_of_a_poll_per_datagram: f64,
    wakes_of_the_pool_per_datagram: f64,
    /// System calls for each that wake a thread, a futex's wait too.
    waking_calls_per_datagram: BTreeMap<String, f64>,
    /// How often a shard sleeps.
    sleeps_per_datagram: f64,
    /// Datagrams from the device in such an enrolment.
    datagrams_per_enrolment: f64,
}

/// Builds what `gate` runs.
pub(super) fn build() -> Result<()> {
    trace::build()
}

pub(super) fn run(options: &ShardsOptions) -> Result<()> {
    let (facts, began) = (TimingFacts::here(), Instant::now());
    let [one_shard, two_shards] = memory()?;
    let one_shard = ShardCosts { memory: one_shard, wakes: WakeCosts::counted(1)? };
    let two_shards = ShardCosts { memory: two_shards, wakes: WakeCosts::counted(2)? };
    for (shards, costs) in [("one shard", &one_shard), ("two shards", &two_shards)] {
        println!("   {shards}: {}", serde_json::to_string(costs)?);
    }
    let mut found = two_shards.memory.more_than(&one_shard.memory);
    found.extend(two_shards.wakes.more_than(&one_shard.wakes));
    let record = ShardsRecord {
        schema: "muster-shards/1",
        command: "cargo xtask bench shards",
        seconds: began.elapsed().as_secs(),
        one_shard,
        two_shards,
        holds: found.is_empty(),
        facts,
    };
    RunFile::write("shards", &record.facts.at, options.json.as_deref(), &record)?;
    ensure_nothing_more(&found)
}

/// Fails if anything is more with two shards than with one, whose system calls are given; without them the wakes are not compared.
pub(super) fn gate(one_shard: Option<&SystemCalls>) -> Result<()> {
    let [one, two] = memory()?;
    println!(
        "   a datagram of two shards writes {} lines that both use, with {:.2} exchanges; of one shard {:.2}",
        two.shared_lines_written_per_datagram, two.exchanges_per_datagram, one.exchanges_per_datagram
    );
    let mut found = two.more_than(&one);
    if let Some(one_shard) = one_shard {
        found.extend(WakeCosts::counted(2)?.more_than(&WakeCosts::of(one_shard)));
    }
    ensure_nothing_more(&found)
}

fn ensure_nothing_more(found: &[String]) -> Result<()> {
    ensure!(found.is_empty(), "with two shards: {}", found.join("; "));
    Ok(())
}

/// Traces one shard and two, beside each other: what is counted does not depend on what else runs.
fn memory() -> Result<[MemoryCosts; 2]> {
    let tracer = Tracer::build()?;
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| tracer.trace("one"));
        let two = tracer.trace("two");
        (one.join(), two)
    });
    let (one, two) = (one.map_err(|_| anyhow!("the trace of one shard panicked"))??, two?);
    let [one, two] = [&one, &two].map(|traced| MemoryCosts::of(traced));
    ensure!(
        two.lines_read_by_both > 0,
        "the shards share their configuration: a trace without a line that both read has missed something"
    );
    Ok([one, two])
}

impl MemoryCosts {
    fn of(traced: &[TracedShard]) -> Self {
        let datagrams: usize = traced.iter().map(|shard| shard.datagrams.len()).sum();
        let sum = |of: fn(&trace::TracedDatagram) -> u32| {
            traced.iter().flat_map(|shard| &shard.datagrams).map(|it| f64::from(of(it))).sum::<f64>()
        };
        let written: BTreeSet<u64> = traced.iter().flat_map(TracedShard::written).collect();
        let (shared_writes, lines_read_by_both) = match traced {
            [one, two] => (
                writes_touched_by(one, two) + writes_touched_by(two, one),
                one.read().intersection(&two.read()).count(),
            ),
            _ => (0, 0),
        };
        let each = |count: f64| count / float(datagrams);
        Self {
            datagrams,
            shared_lines_written_per_datagram: each(float(shared_writes)),
            lines_written: written.len(),
            lines_read_by_both,
            exchanges_per_datagram: each(sum(|it| it.exchanges)),
            atomics_per_datagram: each(sum(|it| it.atomics)),
        }
    }

    /// What is more than with one shard, in words.
    fn more_than(&self, one: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, of: fn(&Self) -> f64| found.extend(more(what, of(one), of(self), 0.0));
        compare("shared cache lines written", |it| it.shared_lines_written_per_datagram);
        compare("atomic exchanges", |it| it.exchanges_per_datagram);
        compare("atomic read-modify-writes", |it| it.atomics_per_datagram);
        found
    }
}

impl WakeCosts {
    fn counted(shards: u32) -> Result<Self> {
        syscalls::count(shards).map(|counted| Self::of(&counted)).context("the wakes are not counted")
    }

    fn of(counted: &SystemCalls) -> Self {
        let SystemCalls { calls, woken_by_shards: Wakes { of_a_poll, of_a_futex }, datagrams_each } = counted;
        let of = |name: &str| calls.get(name).copied().unwrap_or_default() / datagrams_each;
        Self {
            wakes_of_a_poll_per_datagram: of_a_poll / datagrams_each,
            wakes_of_the_pool_per_datagram: of_a_futex / datagrams_each,
            waking_calls_per_datagram: WAKES.iter().map(|name| ((*name).to_owned(), of(name))).collect(),
            sleeps_per_datagram: of(SLEEP),
            datagrams_per_enrolment: *datagrams_each,
        }
    }

    /// What is more than with one shard, in words.
    fn more_than(&self, one: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, one, two, tolerance| found.extend(more(what, one, two, tolerance));
        compare("wakes of a shard", 0.0, self.wakes_of_a_poll_per_datagram, 0.0);
        let tolerance = TOLERANCE / self.datagrams_per_enrolment.max(1.0);
        compare(
            "wakes of the pool",
            one.wakes_of_the_pool_per_datagram,
            self.wakes_of_the_pool_per_datagram,
            tolerance,
        );
        for (name, calls) in &self.waking_calls_per_datagram {
            compare(name, one.waking_calls_per_datagram.get(name).copied().unwrap_or_default(), *calls, tolerance);
        }
        found
    }
}

fn more(what: &str, one: f64, two: f64, tolerance: f64) -> Option<String> {
    (two > one + tolerance).then(|| format!("{what}: {two:.3} a datagram instead of {one:.3}"))
}

/// How often a shard wrote a line, for a datagram, that another one touches.
fn writes_touched_by(by: &TracedShard, other: &TracedShard) -> usize {
    by.writes_to(&other.written().union(&other.read()).copied().collect())
}

#[allow(clippy::cast_precision_loss, reason = "counts of one trace are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(shared: f64, exchanges: f64) -> MemoryCosts {
        MemoryCosts {
            datagrams: 40,
            shared_lines_written_per_datagram: shared,
            lines_written: 100,
            lines_read_by_both: 9,
            exchanges_per_datagram: exchanges,
            atomics_per_datagram: exchanges + 2.0,
        }
    }

    fn wakes(of_a_poll: f64, futex: f64) -> WakeCosts {
        WakeCosts {
            wakes_of_a_poll_per_datagram: of_a_poll,
            wakes_of_the_pool_per_datagram: 0.1,
            waking_calls_per_datagram: BTreeMap::from([("futex".to_owned(), futex)]),
            sleeps_per_datagram: 0.9,
            datagrams_per_enrolment: 10.0,
        }
    }

    #[test]
    fn a_shared_line_or_a_lock_more_is_named() {
        let one = memory(0.0, 1.0);
        assert!(memory(0.0, 1.0).more_than(&one).is_empty());
        assert_eq!(memory(0.1, 1.0).more_than(&one), ["shared cache lines written: 0.100 a datagram instead of 0.000"]);
        assert_eq!(memory(0.0, 2.0).more_than(&one).len(), 2);
    }

    #[test]
    fn a_wake_more_is_named() {
        let one = wakes(0.0, 0.2);
        assert!(wakes(0.0, 0.24).more_than(&one).is_empty(), "within what two runs differ by");
        assert_eq!(wakes(0.0, 0.3).more_than(&one), ["futex: 0.300 a datagram instead of 0.200"]);
        assert_eq!(wakes(0.05, 0.2).more_than(&one), ["wakes of a shard: 0.050 a datagram instead of 0.000"]);
    }
}
