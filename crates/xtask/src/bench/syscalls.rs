//! System calls of the server for one enrolment, as strace counts them: reported, not gated, because their number depends on how datagrams meet.
//!
//! One device enrols after the other, so that nothing shares a call: the number is the highest that an enrolment can cost.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::released::{ReleasedServer, Threads, in_memory};
use crate::process::{MEASURED_THE_GENERATOR, Program};
use crate::{cargo, tree};

/// Devices that enrol before the counting starts, and while it lasts.
const WARM_DEVICES: u32 = 2;
const DEVICES: u32 = 20;
const TIMEOUT: Duration = Duration::from_secs(60);
/// strace needs this time to attach to all threads of the server.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// What one enrolment alone costs the server.
pub(super) struct SystemCalls {
    /// Calls by name, the most frequent first.
    pub(super) calls: Vec<(String, f64)>,
    /// Datagrams from the device.
    pub(super) datagrams_each: f64,
}

/// Prints them on one line; a machine without strace, or one that forbids it, says so.
pub(super) fn report() {
    match count(1) {
        Ok(SystemCalls { calls, .. }) => {
            let all: f64 = calls.iter().map(|(_, calls)| calls).sum();
            let named: Vec<String> = calls.iter().map(|(name, calls)| format!("{name} {calls:.1}")).collect();
            println!("   system calls for one enrolment alone (reported): {all:.1}: {}", named.join(", "));
        }
        Err(error) => println!("   system calls are not counted here: {error:#}"),
    }
}

/// Counts those of the muster that the tests use, with so many shards.
pub(super) fn count(shards: u32) -> Result<SystemCalls> {
    let traced = traced(shards, &["-c", "-U", "name,calls"])?;
    Ok(SystemCalls { calls: parse(&traced.lines)?, datagrams_each: traced.datagrams_each })
}

/// How often threads wake another thread for one enrolment alone.
#[derive(Debug, PartialEq)]
pub(super) struct Wakes {
    /// By an event that a poll waits for, as the shards do.
    pub(super) of_a_poll: f64,
    /// By a futex, as the threads of the pool wait.
    pub(super) of_a_futex: f64,
}

/// Counts the wakes by the shards of the muster that the tests use.
pub(super) fn wakes_by_shards(shards: u32) -> Result<Wakes> {
    let traced = traced(shards, &["-y", "-e", "trace=write,futex"])?;
    Ok(wakes(&traced.lines, &traced.threads, "muster-shard-"))
}

/// What strace says of a server while devices enrol one after the other.
struct Traced {
    lines: String,
    /// The names of the server's threads.
    threads: BTreeMap<u32, String>,
    /// Datagrams from a device in its enrolment.
    datagrams_each: f64,
}

fn traced(shards: u32, arguments: &[&str]) -> Result<Traced> {
    let strace = tree::find_program("strace").context("strace is missing: run `cargo xtask setup`")?;
    let (muster, folder) = (cargo::muster()?, tree::scratch("syscalls")?);
    Program::new(&muster).arg("init").arg(folder.join("pki")).expect_success()?;
    let muster_in_memory = in_memory(Program::new(&muster));
    let ReleasedServer { daemon: server, uri, .. } =
        ReleasedServer::start(muster_in_memory, &folder, Threads::Shards(shards))?;
    let report = folder.join("load.json");
    let enrol = |devices: u32, seed: u32| {
        let load = Program::new(&muster).args(["load", "--server", &uri, "--concurrency", "1", "--pki"]);
        let load = load.arg(folder.join("pki")).arg("--devices").arg(devices.to_string());
        let load = load.arg("--seed").arg(seed.to_string()).arg("--json").arg(&report);
        // How fast they were does not matter.
        load.timeout(TIMEOUT).expect_status(&[0, MEASURED_THE_GENERATOR])
    };
    enrol(WARM_DEVICES, 1)?;
    let table = folder.join("calls.txt");
    let trace = Program::new(strace).arg("-f").args(arguments.iter().copied()).arg("-o").arg(&table).arg("-p");
    let trace = trace.arg(server.process_id().to_string()).spawn(&folder.join("strace.log"))?;
    let mut trace = trace;
    trace.wait_for_line(&["attached"], ATTACH_TIMEOUT)?;
    enrol(DEVICES, 2)?;
    trace.interrupt(TIMEOUT)?;
    let threads = threads_of(server.process_id())?;
    drop(server.stop_well()?);
    let lines = std::fs::read_to_string(&table).with_context(|| format!("strace left no {}", table.display()))?;
    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&report)?)?;
    let sent = report["traffic"]["datagrams_sent"].as_f64().context("the load does not say what it sent")?;
    Ok(Traced { lines, threads, datagrams_each: sent / f64::from(DEVICES) })
}

fn threads_of(process: u32) -> Result<BTreeMap<u32, String>> {
    let mut threads = BTreeMap::new();
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let thread = thread?;
        if let Some(id) = thread.file_name().to_str().and_then(|id| id.parse().ok()) {
            threads.insert(id, std::fs::read_to_string(thread.path().join("comm"))?.trim().to_owned());
        }
    }
    Ok(threads)
}

/// The wakes by threads whose names begin with `by`, in lines that begin with the number of the thread.
fn wakes(lines: &str, threads: &BTreeMap<u32, String>, by: &str) -> Wakes {
    let calls = lines.lines().filter_map(|line| {
        let (thread, call) = line.trim_start().split_once(' ')?;
        let name = threads.get(&thread.parse().ok()?)?;
        name.starts_with(by).then_some(call.trim_start())
    });
    let (mut of_a_poll, mut of_a_futex) = (0.0, 0.0);
    for call in calls {
        // A call that another thread interrupts has a second line, `<... write resumed>`.
        if call.starts_with("write(") && call.contains("eventfd") {
            of_a_poll += 1.0;
        } else if call.starts_with("futex(") && call.contains("FUTEX_WAKE") {
            of_a_futex += 1.0;
        }
    }
    let each = f64::from(DEVICES);
    Wakes { of_a_poll: of_a_poll / each, of_a_futex: of_a_futex / each }
}

/// Reads strace's summary with the columns `name,calls`.
fn parse(text: &str) -> Result<Vec<(String, f64)>> {
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(Ok(count))) = (words.next(), words.next().map(str::parse::<u32>))
            && name != "total"
        {
            calls.insert(name.to_owned(), f64::from(count) / f64::from(DEVICES));
        }
    }
    if calls.is_empty() {
        bail!("strace counted no call:\n{text}");
    }
    let mut calls: Vec<(String, f64)> = calls.into_iter().collect();
    calls.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strace_s_summary_is_read() {
        let text = "syscall              calls\n---------------- ---------\nrecvmmsg                40\nsendmsg                140\n---------------- ---------\ntotal                  180\n";
        let calls = parse(text).unwrap();
        assert_eq!(calls, [("sendmsg".to_owned(), 7.0), ("recvmmsg".to_owned(), 2.0)]);
        assert!(parse("").is_err());
    }

    #[test]
    fn a_wake_counts_for_the_thread_that_wakes() {
        let lines = "7 write(9<anon_inode:[eventfd]>, \"\\1\\0\\0\\0\\0\\0\\0\\0\", 8) = 8\n8 write(9<anon_inode:[eventfd]>, \"\", 8 <unfinished ...>\n\
                     8 <... write resumed>) = 8\n7 write(1</dev/null>, \"a\", 1) = 1\n  7 futex(0x7f, FUTEX_WAKE_PRIVATE, 1) = 1\n7 futex(0x7f, FUTEX_WAIT_PRIVATE, 2, NULL) = 0\n";
        let threads = BTreeMap::from([(7, "muster-shard-0".to_owned()), (8, "muster-pool-0".to_owned())]);
        let each = 1.0 / f64::from(DEVICES);
        assert_eq!(wakes(lines, &threads, "muster-shard-"), Wakes { of_a_poll: each, of_a_futex: each });
        assert_eq!(wakes(lines, &threads, "muster-pool-"), Wakes { of_a_poll: each, of_a_futex: 0.0 });
    }
}
