//! What the README says of the ledger on disk: its cost beside the one in memory, and that of revocation lists, by the newest runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use super::run_file::{RunFile, list, number, word};

const E2E_SCHEMA: &str = "muster-e2e/4";
const CRL_SCHEMA: &str = "muster-crl/1";

/// The table of the ledger on disk: each number of rows by the newest run that has it.
pub(super) fn durable() -> Result<String> {
    let mut newest: BTreeMap<u64, (RunFile, Value)> = BTreeMap::new();
    for run in RunFile::all("e2e", E2E_SCHEMA)? {
        for cost in list(&run.record, "durable")?.clone() {
            // A run without the ledger in memory beside it, or of one pair, compares nothing.
            if cost["percent"]["high"].as_f64().is_none_or(|high| high == f64::MAX) {
                continue;
            }
            let rows = cost["ledger"]["sqlite"]["rows"].as_u64().context("a durable ledger has rows")?;
            let found = RunFile { path: run.path.clone(), record: run.record.clone() };
            newest.entry(rows).or_insert((found, cost));
        }
    }
    let mut text = String::from(
        "\n| rows before | CPU more than in memory (95 % interval) | enrolments a commit | alone, in memory / durable, p50 | bytes, database / journal | listening after | RSS | run |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (rows, (run, cost)) in &newest {
        text.push_str(&durable_row(*rows, run, cost)?);
    }
    if let Some((_, cost)) = newest.values().next() {
        let bytes = number(cost, "ledger_bytes_per_enrolment")? + number(cost, "journal_bytes_per_enrolment")?;
        writeln!(text, "\nA device that enrols once a year takes {:.1} KB of disk a year.\n", bytes / 1e3)?;
    }
    Ok(text)
}

fn durable_row(rows: u64, run: &RunFile, cost: &Value) -> Result<String> {
    let percent = &cost["percent"];
    let lone = list(cost, "lone_p50_us")?;
    let [memory, durable] = [0, 1].map(|it| lone.get(it).and_then(Value::as_f64).unwrap_or_default() / 1e3);
    Ok(format!(
        "| {} | {:+.1} % ({:.1} to {:.1}) | {:.1} | {memory:.1} / {durable:.1} ms | {:.0} / {:.0} | {:.0} ms | {:.0} MiB | `{}` |\n",
        grouped(rows),
        number(percent, "mean")?,
        number(percent, "low")?,
        number(percent, "high")?,
        number(cost, "enrolments_per_commit")?,
        number(cost, "ledger_bytes_per_enrolment")?,
        number(cost, "journal_bytes_per_enrolment")?,
        number(cost, "listening_ms")?,
        number(cost, "server_rss_kib")? / 1024.0,
        run.path.trim_start_matches("benches/runs/"),
    ))
}

/// The newest run of `bench crl`, in a sentence.
pub(super) fn revocations() -> Result<String> {
    let newest = RunFile::all("crl", CRL_SCHEMA)?.into_iter().next();
    let run = newest.with_context(|| format!("no run with the schema {CRL_SCHEMA}: run `cargo xtask bench crl`"))?;
    revocation_text(&run)
}

fn revocation_text(run: &RunFile) -> Result<String> {
    let record = &run.record;
    let count = |key: &str| record[key].as_u64().with_context(|| format!("the run has no count {key}"));
    let (bytes, entries) = (number(record, "bytes")?, number(record, "entries")?);
    Ok(format!(
        "\nRevoking {} certificates of {} took {:.1} s, and writing the {} lists that have them {:.1} s; the largest list has\n{} bytes ({:.1} a certificate), and \
         the process grew from {:.0} to {:.0} MiB (`{}`, commit {}, `{}`).\n\n",
        grouped(count("revoked")?),
        grouped(count("rows")?),
        number(record, "revoking_seconds")?,
        count("lists")?,
        number(record, "seconds")?,
        grouped(count("largest_list_bytes")?),
        bytes / entries.max(1.0),
        number(record, "rss_before_kib")? / 1024.0,
        number(record, "rss_peak_kib")? / 1024.0,
        word(record, "command")?,
        word(&record["facts"], "commit")?,
        run.path.trim_start_matches("benches/runs/"),
    ))
}

/// `1,000,000`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap_or_default()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_becomes_a_row_and_a_sentence() {
        let cost = serde_json::json!({
            "percent": { "mean": 10.79, "low": 6.8, "high": 14.8 }, "enrolments_per_commit": 17.6, "ledger_bytes_per_enrolment": 1399.4,
            "journal_bytes_per_enrolment": 1735.9, "lone_p50_us": [920.0, 1959.0], "listening_ms": 26.0, "server_rss_kib": 24212.0,
        });
        let run = RunFile { path: "benches/runs/e2e-x.json".to_owned(), record: Value::Null };
        let row = durable_row(10_000, &run, &cost).unwrap();
        assert!(
            row.starts_with("| 10,000 | +10.8 % (6.8 to 14.8) | 17.6 | 0.9 / 2.0 ms | 1399 / 1736 | 26 ms | 24 MiB |"),
            "{row}"
        );
        let record = serde_json::json!({
            "command": "cargo xtask bench crl", "facts": { "commit": "c0ffee" }, "rows": 1_000_000, "revoked": 100_000, "revoking_seconds": 2.84,
            "lists": 128, "entries": 100_000, "seconds": 0.2, "bytes": 5_200_000, "largest_list_bytes": 41_665, "rss_before_kib": 51_200, "rss_peak_kib": 61_440,
        });
        let text = revocation_text(&RunFile { path: "benches/runs/crl-x.json".to_owned(), record }).unwrap();
        assert!(text.contains("Revoking 100,000 certificates of 1,000,000 took 2.8 s"), "{text}");
        assert!(text.contains("41,665 bytes (52.0 a certificate), and the process grew from 50 to 60 MiB"), "{text}");
    }
}
