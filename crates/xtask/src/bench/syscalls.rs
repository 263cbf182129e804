//! System calls of the server for one enrolment, as strace counts them.
//!
//! One device enrols after the other, so that nothing shares a call: the number is the highest that an enrolment can cost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

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
    /// Calls by name.
    pub(super) calls: BTreeMap<String, f64>,
    pub(super) woken_by_shards: Wakes,
    /// Datagrams from the device.
    pub(super) datagrams_each: f64,
}

/// How often threads wake another thread for one enrolment alone.
#[derive(Debug, PartialEq)]
pub(super) struct Wakes {
    /// By an event that a poll waits for, as the shards do.
    pub(super) of_a_poll: f64,
    /// By a futex, as the threads of the pool wait.
    pub(super) of_a_futex: f64,
}

/// Counts those of the muster that the tests use, with so many shards.
pub(super) fn count(shards: u32) -> Result<SystemCalls> {
    let Traced { lines, threads, datagrams_each } = traced(shards)?;
    let woken_by_shards = wakes(&lines, &threads, "muster-shard-");
    Ok(SystemCalls { calls: calls(&lines)?, woken_by_shards, datagrams_each })
}

/// The same, or `None` and a line about what is not checked where nothing can be traced.
pub(super) fn count_where_possible(shards: u32) -> Result<Option<SystemCalls>> {
    if let Some(why) = why_not() {
        println!("   NOT CHECKED: system calls of one enrolment alone, and whether a second shard wakes more: {why}");
        return Ok(None);
    }
    count(shards).map(Some)
}

/// Why nothing can be traced here: strace is missing, or the machine forbids it.
pub(super) fn why_not() -> Option<String> {
    let Some(strace) = tree::find_program("strace") else {
        return Some("strace is missing: run `cargo xtask setup`".to_owned());
    };
    let tried = Program::new(strace).args(["-f", "-o", "/dev/null", "true"]).expect_success();
    tried.err().map(|error| format!("{error:#}"))
}

/// What strace says of a server while devices enrol one after the other.
struct Traced {
    lines: String,
    /// The names of the server's threads.
    threads: BTreeMap<u32, String>,
    /// Datagrams from a device in its enrolment.
    datagrams_each: f64,
}

fn traced(shards: u32) -> Result<Traced> {
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
    let calls = folder.join("calls.txt");
    let trace = Program::new(strace).args(["-f", "-y", "-s", "8"]).arg("-o").arg(&calls).arg("-p");
    let mut trace = trace.arg(server.process_id().to_string()).spawn(&folder.join("strace.log"))?;
    trace.wait_for_line(&["attached"], ATTACH_TIMEOUT)?;
    enrol(DEVICES, 2)?;
    trace.interrupt(TIMEOUT)?;
    let threads = threads_of(server.process_id())?;
    drop(server.stop_well()?);
    let lines = std::fs::read(&calls).with_context(|| format!("strace left no {}", calls.display()))?;
    let lines = String::from_utf8_lossy(&lines).into_owned();
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

/// The calls in strace's lines: the number of the thread, and the call from its name on. The first one of each thread is where it slept when strace
/// attached, which belongs to no enrolment.
fn called(lines: &str) -> impl Iterator<Item = (u32, &str)> {
    let mut seen = BTreeSet::new();
    let calls = lines.lines().filter_map(|line| {
        let (thread, call) = line.trim_start().split_once(' ')?;
        let call = call.trim_start();
        // A call that another thread interrupts has a second line, `<... write resumed>`; signals and ends begin with signs too.
        call.starts_with(|c: char| c.is_ascii_alphabetic()).then_some((thread.parse().ok()?, call))
    });
    calls.filter(move |(thread, _)| !seen.insert(*thread))
}

fn calls(lines: &str) -> Result<BTreeMap<String, f64>> {
    let mut calls: BTreeMap<String, u32> = BTreeMap::new();
    for (_, call) in called(lines) {
        if let Some((name, _)) = call.split_once('(') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    ensure!(!calls.is_empty(), "strace counted no call:\n{lines}");
    Ok(calls.into_iter().map(|(name, calls)| (name, f64::from(calls) / f64::from(DEVICES))).collect())
}

/// The wakes by threads whose names begin with `by`.
fn wakes(lines: &str, threads: &BTreeMap<u32, String>, by: &str) -> Wakes {
    let (mut of_a_poll, mut of_a_futex) = (0.0, 0.0);
    for (thread, call) in called(lines) {
        if !threads.get(&thread).is_some_and(|name| name.starts_with(by)) {
            continue;
        }
        if call.starts_with("write(") && call.contains("eventfd") {
            of_a_poll += 1.0;
        } else if call.starts_with("futex(") && call.contains("FUTEX_WAKE") {
            of_a_futex += 1.0;
        }
    }
    let each = f64::from(DEVICES);
    Wakes { of_a_poll: of_a_poll / each, of_a_futex: of_a_futex / each }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_once_although_it_has_two_lines() {
        let lines = "7 epoll_wait(4<anon_inode:[eventpoll]>, [], 8, -1) = 1\n8 futex(0x7f, FUTEX_WAIT_PRIVATE, 2, NULL) = 0\n7 recvmmsg(6<UDP:[127.0.0.1:5684]>, [{msg_hdr={..}}], 32, 0, NULL) = 1\n7  epoll_wait(4<anon_inode:[eventpoll]>,  <unfinished ...>\n\
                     8 sendmsg(6, {..}, 0) = 64\n7  <... epoll_wait resumed>[], 8, 9) = 0\n7 --- SIGURG {si_signo=SIGURG} ---\n8 +++ exited with 0 +++\n";
        let each = 1.0 / f64::from(DEVICES);
        let names = ["epoll_wait", "recvmmsg", "sendmsg"];
        assert_eq!(calls(lines).unwrap(), BTreeMap::from(names.map(|name| (name.to_owned(), each))));
        assert!(calls("").is_err());
    }

    #[test]
    fn a_wake_counts_for_the_thread_that_wakes() {
        let lines = "7 epoll_wait(4<anon_inode:[eventpoll]>, [], 8, -1) = 1\n8 futex(0x7f, FUTEX_WAIT_PRIVATE, 2, NULL) = 0\n7 write(9<anon_inode:[eventfd]>, \"\\1\\0\\0\\0\\0\\0\\0\\0\", 8) = 8\n8 write(9<anon_inode:[eventfd]>, \"\", 8 <unfinished ...>\n\
                     8 <... write resumed>) = 8\n7 write(1</dev/null>, \"a\", 1) = 1\n  7 futex(0x7f, FUTEX_WAKE_PRIVATE, 1) = 1\n7 futex(0x7f, FUTEX_WAIT_PRIVATE, 2, NULL) = 0\n";
        let threads = BTreeMap::from([(7, "muster-shard-0".to_owned()), (8, "muster-pool-0".to_owned())]);
        let each = 1.0 / f64::from(DEVICES);
        assert_eq!(wakes(lines, &threads, "muster-shard-"), Wakes { of_a_poll: each, of_a_futex: each });
        assert_eq!(wakes(lines, &threads, "muster-pool-"), Wakes { of_a_poll: each, of_a_futex: 0.0 });
    }
}
