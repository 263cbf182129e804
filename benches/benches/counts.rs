//! Allocations, datagrams and bytes of one enrolment, each side alone: exact, so that any growth is a change of ours. Prints one JSON object, which
//! `cargo xtask bench gate` compares with `baselines/counts.json`.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use allocation_counter::{AllocationInfo, measure};
use benches::{Case, Recording};

fn main() {
    let cases: serde_json::Map<String, serde_json::Value> =
        Case::ALL.into_iter().map(|(name, case)| (name.to_owned(), counts(&Recording::new(case)))).collect();
    println!("{}", serde_json::Value::Object(cases));
}

fn counts(recording: &Recording) -> serde_json::Value {
    let (server, server_allocations) = measured(|| recording.enrolment(), benches::Replay::run);
    let (client, client_allocations) = measured(|| recording.client_enrolment(), benches::ClientReplay::run);
    serde_json::json!({
        "server_allocations": server_allocations.count_total,
        "server_allocated_bytes": server_allocations.bytes_total,
        "client_allocations": client_allocations.count_total,
        "client_allocated_bytes": client_allocations.bytes_total,
        "datagrams_up": client.datagrams_sent,
        "datagrams_down": server.datagrams_sent,
        "bytes_up": client.bytes_sent,
        "bytes_down": server.bytes_sent,
    })
}

/// What a replay allocates: its preparation, and what is freed after it, do not count.
fn measured<R>(prepare: impl Fn() -> R, run: impl FnOnce(R) -> R) -> (R, AllocationInfo) {
    let prepared = prepare();
    let mut done = None;
    let allocations = measure(|| done = Some(run(prepared)));
    (done.expect("the replay was run"), allocations)
}
