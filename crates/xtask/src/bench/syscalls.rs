//! System calls of the server for one enrolment, as strace counts them: reported, not gated, because their number depends on how datagrams meet.
//!
//! One device enrols after the other, so that nothing shares a call: the number is the highest that an enrolment can cost.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::released::{ReleasedServer, Threads, in_memory};
use crate::process::Program;
use crate::{cargo, tree};

/// Devices that enrol before the counting starts, and while it lasts.
const WARM_DEVICES: u32 = 2;
const DEVICES: u32 = 20;
const TIMEOUT: Duration = Duration::from_secs(60);
/// strace needs this time to attach to all threads of the server.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);

/// Calls per enrolment by name, the most frequent first.
pub(super) type SystemCalls = Vec<(String, f64)>;

/// Prints them on one line; a machine without strace, or one that forbids it, says so.
pub(super) fn report() {
    match count(1) {
        Ok(calls) => {
            let all: f64 = calls.iter().map(|(_, calls)| calls).sum();
            let named: Vec<String> = calls.iter().map(|(name, calls)| format!("{name} {calls:.1}")).collect();
            println!("   system calls for one enrolment alone (reported): {all:.1}: {}", named.join(", "));
        }
        Err(error) => println!("   system calls are not counted here: {error:#}"),
    }
}

/// Counts those of the muster that the tests use, with so many shards.
pub(super) fn count(shards: u32) -> Result<SystemCalls> {
    let strace = tree::find_program("strace").context("strace is missing: run `cargo xtask setup`")?;
    let (muster, folder) = (cargo::muster()?, tree::scratch("syscalls")?);
    Program::new(&muster).arg("init").arg(folder.join("pki")).expect_success()?;
    let muster_in_memory = in_memory(Program::new(&muster));
    let ReleasedServer { daemon: server, uri, .. } =
        ReleasedServer::start(muster_in_memory, &folder, Threads::Shards(shards))?;
    let enrol = |devices: u32, seed: u32| {
        let load = Program::new(&muster).args(["load", "--server", &uri, "--concurrency", "1", "--pki"]);
        let load = load.arg(folder.join("pki")).arg("--devices").arg(devices.to_string());
        load.arg("--seed").arg(seed.to_string()).timeout(TIMEOUT).expect_success()
    };
    enrol(WARM_DEVICES, 1)?;
    let table = folder.join("calls.txt");
    let trace = Program::new(strace).args(["-f", "-c", "-U", "name,calls", "-o"]).arg(&table).arg("-p");
    let trace = trace.arg(server.process_id().to_string()).spawn(&folder.join("strace.log"))?;
    let mut trace = trace;
    trace.wait_for_line(&["attached"], ATTACH_TIMEOUT)?;
    enrol(DEVICES, 2)?;
    trace.interrupt(TIMEOUT)?;
    drop(server.stop_well()?);
    read(&table)
}

fn read(table: &Path) -> Result<SystemCalls> {
    let text = std::fs::read_to_string(table).with_context(|| format!("strace left no {}", table.display()))?;
    parse(&text)
}

/// Reads strace's summary with the columns `name,calls`.
fn parse(text: &str) -> Result<SystemCalls> {
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
    let mut calls: SystemCalls = calls.into_iter().collect();
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
}
