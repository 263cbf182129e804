//! Allocations, datagrams and bytes of one enrolment, each side alone: exact, so that any growth is a change of ours. Prints one JSON object, which
//! `cargo xtask bench gate` compares with `baselines/enrolments.json`.
//!
//! The first enrolment of a server also grows its tables and queues. What an enrolment allocates at a server that has been running is counted beside it.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use allocation_counter::{AllocationInfo, measure};
use benches::{Case, Recording, WarmLoad, WarmRecording};
use dtls::PublicKeySteps;

/// Enrolments that come before those that are counted, and those.
const WARM_UP: u32 = 40;
const COUNTED: u32 = 100;

fn main() {
    let cases: serde_json::Map<String, serde_json::Value> =
        Case::ALL.into_iter().map(|(name, case)| (name.to_owned(), counts(&Recording::new(case), case))).collect();
    println!("{}", serde_json::Value::Object(cases));
}

fn counts(recording: &Recording, case: Case) -> serde_json::Value {
    let (server, server_allocations) = measured(|| recording.enrolment(), benches::Replay::run);
    let (client, client_allocations) = measured(|| recording.client_enrolment(), benches::ClientReplay::run);
    let warm = warm_allocations(case);
    serde_json::json!({
        "server_allocations": server_allocations.count_total,
        "server_allocated_bytes": server_allocations.bytes_total,
        "warm_allocations": warm.count_total / u64::from(COUNTED),
        "warm_allocated_bytes": warm.bytes_total / u64::from(COUNTED),
        "client_allocations": client_allocations.count_total,
        "client_allocated_bytes": client_allocations.bytes_total,
        "datagrams_up": client.datagrams_sent,
        "datagrams_down": server.datagrams_sent,
        "bytes_up": client.bytes_sent,
        "bytes_down": server.bytes_sent,
    })
}

/// What enrolments allocate at a server that has been running, one after the other. Tables that grow now and then are less than one for each.
fn warm_allocations(case: Case) -> AllocationInfo {
    let load = WarmLoad { case, devices: WARM_UP + COUNTED, together: 1, steps: PublicKeySteps::Inline };
    let mut replay = WarmRecording::new(load).replay();
    let groups = |devices: u32| usize::try_from(devices).unwrap_or(usize::MAX);
    replay.run(groups(WARM_UP));
    measure(|| {
        replay.run(groups(COUNTED));
    })
}

/// What a replay allocates: its preparation, and what is freed after it, do not count.
fn measured<R>(prepare: impl Fn() -> R, run: impl FnOnce(R) -> R) -> (R, AllocationInfo) {
    let prepared = prepare();
    let mut done = None;
    let allocations = measure(|| done = Some(run(prepared)));
    (done.expect("the replay was run"), allocations)
}
