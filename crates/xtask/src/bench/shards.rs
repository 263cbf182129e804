//! `cargo xtask bench shards`: what a second shard costs each datagram. No time is measured: counts say the same on every machine.
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

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use self::trace::{TracedShard, Tracer};
use super::facts::TimingFacts;
use super::run_file::RunFile;
use super::syscalls::{self, Wakes};

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
/// How many more of them for an enrolment count as more: how datagrams meet in time differs a little from run to run.
const WAKES_TOLERANCE: f64 = 0.5;

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
    /// Datagrams of established sessions that were traced, on all shards.
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
    /// Wakes by a shard for each datagram of devices that enrol one after the other: of a poll, which is how shards sleep, and of a thread of the pool.
    wakes_of_a_poll_per_datagram: f64,
    wakes_of_the_pool_per_datagram: f64,
    /// System calls for each of these datagrams that wake a thread, a futex's wait too.
    waking_calls_per_datagram: BTreeMap<String, f64>,
    /// How often a shard sleeps.
    sleeps_per_datagram: f64,
    /// Datagrams from the device in such an enrolment.
    datagrams_per_enrolment: f64,
}

pub(super) fn run(options: &ShardsOptions) -> Result<()> {
    let (facts, began) = (TimingFacts::here(), Instant::now());
    let tracer = Tracer::build()?;
    let one_shard = costs(&tracer.trace("one")?, 1)?;
    let two_shards = costs(&tracer.trace("two")?, 2)?;
    for (shards, costs) in [("one shard", &one_shard), ("two shards", &two_shards)] {
        println!("   {shards}: {}", serde_json::to_string(costs)?);
    }
    ensure!(
        two_shards.lines_read_by_both > 0,
        "the shards share their configuration: a trace without a line that both read has missed something"
    );
    let found = more(&one_shard, &two_shards);
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
    ensure!(found.is_empty(), "with two shards: {}", found.join("; "));
    Ok(())
}

fn costs(traced: &[TracedShard], shards: u32) -> Result<ShardCosts> {
    let datagrams: usize = traced.iter().map(|shard| shard.datagrams.len()).sum();
    let sum = |of: fn(&trace::TracedDatagram) -> u32| {
        traced.iter().flat_map(|shard| &shard.datagrams).map(|it| f64::from(of(it))).sum::<f64>()
    };
    let written: BTreeSet<u64> = traced.iter().flat_map(TracedShard::written).collect();
    let (shared_writes, lines_read_by_both) = match traced {
        [one, two] => {
            (writes_touched_by(one, two) + writes_touched_by(two, one), one.read().intersection(&two.read()).count())
        }
        _ => (0, 0),
    };
    let each = |count: f64| count / float(datagrams);
    let woken = woken(shards).context("the wakes are not counted")?;
    Ok(ShardCosts {
        datagrams,
        shared_lines_written_per_datagram: each(float(shared_writes)),
        lines_written: written.len(),
        lines_read_by_both,
        exchanges_per_datagram: each(sum(|it| it.exchanges)),
        atomics_per_datagram: each(sum(|it| it.atomics)),
        wakes_of_a_poll_per_datagram: woken.by_shards.of_a_poll / woken.datagrams,
        wakes_of_the_pool_per_datagram: woken.by_shards.of_a_futex / woken.datagrams,
        waking_calls_per_datagram: woken
            .calls
            .iter()
            .map(|(name, calls)| (name.clone(), calls / woken.datagrams))
            .collect(),
        sleeps_per_datagram: woken.sleeps / woken.datagrams,
        datagrams_per_enrolment: woken.datagrams,
    })
}

/// How often a shard wrote a line, for a datagram, that another one touches.
fn writes_touched_by(by: &TracedShard, other: &TracedShard) -> usize {
    by.writes_to(&other.written().union(&other.read()).copied().collect())
}

/// What wakes for one enrolment alone.
struct Woken {
    by_shards: Wakes,
    calls: BTreeMap<String, f64>,
    sleeps: f64,
    datagrams: f64,
}

fn woken(shards: u32) -> Result<Woken> {
    let counted = syscalls::count(shards)?;
    let of = |name: &str| counted.calls.iter().find(|(it, _)| it == name).map_or(0.0, |(_, count)| *count);
    let calls = WAKES.iter().map(|name| ((*name).to_owned(), of(name))).collect();
    let by_shards = syscalls::wakes_by_shards(shards)?;
    Ok(Woken { by_shards, calls, sleeps: of(SLEEP), datagrams: counted.datagrams_each })
}

/// What is more with two shards than with one, in words.
fn more(one: &ShardCosts, two: &ShardCosts) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, one: f64, two: f64, tolerance: f64| {
        if two > one + tolerance {
            found.push(format!("{what}: {two:.3} a datagram instead of {one:.3}"));
        }
    };
    let shared = |costs: &ShardCosts| costs.shared_lines_written_per_datagram;
    compare("shared cache lines written", shared(one), shared(two), 0.0);
    compare("atomic exchanges", one.exchanges_per_datagram, two.exchanges_per_datagram, 0.0);
    compare("atomic read-modify-writes", one.atomics_per_datagram, two.atomics_per_datagram, 0.0);
    compare("wakes of a shard", 0.0, two.wakes_of_a_poll_per_datagram, 0.0);
    let tolerance = WAKES_TOLERANCE / two.datagrams_per_enrolment.max(1.0);
    let pool = |costs: &ShardCosts| costs.wakes_of_the_pool_per_datagram;
    compare("wakes of the pool", pool(one), pool(two), tolerance);
    for (name, calls) in &two.waking_calls_per_datagram {
        compare(name, one.waking_calls_per_datagram.get(name).copied().unwrap_or_default(), *calls, tolerance);
    }
    found
}

#[allow(clippy::cast_precision_loss, reason = "counts of one trace are far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(shared: f64, exchanges: f64, futex: f64) -> ShardCosts {
        ShardCosts {
            datagrams: 40,
            shared_lines_written_per_datagram: shared,
            lines_written: 100,
            lines_read_by_both: 9,
            exchanges_per_datagram: exchanges,
            atomics_per_datagram: exchanges + 2.0,
            wakes_of_a_poll_per_datagram: 0.0,
            wakes_of_the_pool_per_datagram: 0.1,
            waking_calls_per_datagram: BTreeMap::from([("futex".to_owned(), futex)]),
            sleeps_per_datagram: 0.9,
            datagrams_per_enrolment: 10.0,
        }
    }

    #[test]
    fn a_shared_line_a_lock_or_a_wake_more_is_named() {
        let one = costs(0.0, 1.0, 0.2);
        assert!(more(&one, &costs(0.0, 1.0, 0.2)).is_empty());
        assert!(more(&one, &costs(0.0, 1.0, 0.24)).is_empty(), "within what two runs differ by");
        assert_eq!(
            more(&one, &costs(0.1, 1.0, 0.2)),
            ["shared cache lines written: 0.100 a datagram instead of 0.000"]
        );
        assert_eq!(more(&one, &costs(0.0, 2.0, 0.2)).len(), 2);
        assert_eq!(more(&one, &costs(0.0, 1.0, 0.3)), ["futex: 0.300 a datagram instead of 0.200"]);
    }
}
