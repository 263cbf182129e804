//! What is promised of sessions by the thousand to the million, by `bench scale`.

use anyhow::Result;
use serde_json::Value;

use super::{Evidence, Row, ends, rounded};
use crate::bench::run_file::{RunFile, list};

const SCALE: (&str, &str) = ("scale", "muster-scale/1");

/// The sessions that the promises to them are made for.
const SESSIONS: u64 = 1_000_000;

/// What `bench scale` says at its largest number of sessions, once for each of both ends: the newest of the runs with the most sessions. Over loopback, the
/// newest run that has it.
pub(super) fn session_rows() -> Result<Vec<Row>> {
    const COMMAND: &str = "cargo xtask bench scale";
    let runs = RunFile::all(SCALE.0, SCALE.1)?;
    let newest =
        runs.iter().rev().max_by_key(|run| largest(&run.record).first().and_then(|level| level["sessions"].as_u64()));
    let levels: Vec<Value> = newest.iter().flat_map(|run| largest(&run.record)).collect();
    // What is promised for a million sessions is not shown by fewer.
    let sessions = levels.first().and_then(|level| level["sessions"].as_u64()).unwrap_or_default();
    let smaller = if sessions < SESSIONS { format!(" with {sessions} sessions") } else { String::new() };
    let row = |what, goal: String, bound: f64, unit: &str, samples: Vec<f64>| {
        let evidence = newest.filter(|_| !samples.is_empty()).map(|run| {
            let [least, most] = ends(&samples);
            let mean = samples.iter().sum::<f64>() / f64::from(u32::try_from(samples.len()).unwrap_or(u32::MAX));
            let verdict = format!("{}{smaller}", if most <= bound { "holds" } else { "missed" });
            let spread = format!("{} to {}", rounded(least), rounded(most));
            Evidence::of(run, format!("{} {unit}", rounded(mean)), spread, verdict)
        });
        Row { what, goal, evidence, command: COMMAND }
    };
    let of = |key: &str| levels.iter().filter_map(|level| level[key].as_f64()).collect::<Vec<_>>();
    // Soon after an enrolment the bound holds at every number of sessions.
    let all = newest.iter().flat_map(|run| list(&run.record, "in_process").cloned().unwrap_or_default());
    let within = all.filter_map(|level| level["within_247_s_bytes"].as_f64()).collect::<Vec<_>>();
    let end = |key: &str| levels.iter().filter_map(|level| level["end"][key].as_f64()).collect::<Vec<_>>();
    let growth = newest.iter().flat_map(|run| cpu_growth(&run.record)).collect();
    let mut rows = vec![
        row(
            "CPU of an enrolment beside 1,000,000 idle sessions, over that beside 1,000: of the engines, in one process, without the kernel and the authority",
            "<= 1.10".into(),
            1.10,
            "",
            growth,
        ),
        row("memory of an idle session", "<= 320 B".into(), 320.0, "B", of("idle_bytes_per_session")),
        Row {
            what: "memory of an idle session with a connection ID and resumption: the server has neither",
            goal: "<= 448 B".into(),
            evidence: None,
            command: "",
        },
        row(
            "memory of a session within 247 s of an enrolment, at each number of sessions",
            "<= 1.25 KiB".into(),
            1280.0,
            "B",
            within,
        ),
        row("mass expiry and drain: memory", "<= 5 % more".into(), 5.0, "%", end("resident_growth_percent")),
        row("mass expiry and drain: longest turn of a shard", "<= 5 ms".into(), 5000.0, "us", end("longest_turn_us")),
    ];
    rows.extend(loopback_rows(&runs));
    Ok(rows)
}

/// What a server as a process has resident for each session, over loopback, by the newest run that has it.
pub(super) fn loopback_rows(runs: &[RunFile]) -> [Row; 2] {
    let row = |what, goal: &str, bound: f64, key: &str| {
        let evidence = runs.iter().find_map(|run| {
            let loopback = &run.record["loopback"];
            let (devices, bytes) = (loopback["devices"].as_u64()?, loopback[key].as_f64()?);
            let verdict = if bytes <= bound { "holds" } else { "missed" }.to_owned();
            Some(Evidence::of(run, format!("{bytes:.0} B with {devices} sessions"), String::new(), verdict))
        });
        Row { what, goal: goal.into(), evidence, command: "cargo xtask bench scale" }
    };
    [
        row(
            "memory of an idle session, over loopback: what a process that has as many idle sessions grows by for each further one",
            "<= 320 B",
            320.0,
            "bytes_idle_beside_others",
        ),
        row(
            "memory of a session within 247 s of an enrolment, over loopback",
            "<= 1.25 KiB",
            1280.0,
            "bytes_within_247_s",
        ),
    ]
}

/// The levels with the most sessions.
fn largest(record: &Value) -> Vec<Value> {
    let levels = list(record, "in_process").cloned().unwrap_or_default();
    let most = levels.iter().filter_map(|level| level["sessions"].as_u64()).max();
    levels.into_iter().filter(|level| level["sessions"].as_u64() == most).collect()
}

/// The CPU of an enrolment beside the most sessions over that beside the fewest, for each end.
fn cpu_growth(record: &Value) -> Vec<f64> {
    let levels = list(record, "in_process").cloned().unwrap_or_default();
    let fewest = levels.iter().filter_map(|level| level["sessions"].as_u64()).min();
    let cpu = |level: &Value| level["enrolment_cpu_us"].as_f64();
    let few = levels.iter().filter(|level| level["sessions"].as_u64() == fewest).filter_map(cpu);
    few.zip(largest(record).iter().filter_map(cpu)).map(|(few, most)| most / few).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_compares_the_most_sessions_with_the_fewest() {
        let level = |sessions: u32, cpu: f64| serde_json::json!({ "sessions": sessions, "enrolment_cpu_us": cpu });
        let record = serde_json::json!({ "in_process": [level(1000, 50.0), level(1000, 40.0), level(9000, 55.0), level(9000, 42.0)] });
        let growth = cpu_growth(&record);
        assert!((growth[0] - 1.1).abs() < 1e-9 && (growth[1] - 1.05).abs() < 1e-9, "{growth:?}");
    }
}
