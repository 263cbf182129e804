//! The README's figures, generated from the newest committed runs.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::e2e_record::{self, CoreUse, SATURATED_MIN};
use super::run_file::{RunFile, list, number, word};
use super::{durable_tables, e2e, overload_table, promises, simulated};
use crate::tree;

const README: &str = "README.md";
const SCHEMA: &str = "muster-e2e/4";
/// What is written, by the marks around it.
const SECTIONS: [(&str, &str, Section); 6] = [
    (
        "<!-- written by `cargo xtask bench readme` from the newest runs of `bench e2e` -->\n",
        "<!-- end of what `cargo xtask bench readme` writes of an enrolment -->\n",
        costs,
    ),
    (
        "<!-- written by `cargo xtask bench readme` from the newest runs of each kind -->\n",
        "<!-- end of what `cargo xtask bench readme` writes of the promises -->\n",
        promises::rendered,
    ),
    (
        "<!-- written by `cargo xtask bench readme` from the newest runs of `bench e2e` with a durable ledger -->\n",
        "<!-- end of what `cargo xtask bench readme` writes of the durable ledger -->\n",
        durable_tables::durable,
    ),
    (
        "<!-- written by `cargo xtask bench readme` from the newest run of `bench overload` -->\n",
        "<!-- end of what `cargo xtask bench readme` writes of an overload -->\n",
        overload_table::overload,
    ),
    (
        "<!-- written by `cargo xtask bench readme` from the newest result of `simulate --power-restore` -->\n",
        "<!-- end of what `cargo xtask bench readme` writes of the return of the power -->\n",
        simulated::power_restored,
    ),
    (
        "<!-- written by `cargo xtask bench readme` from the newest run of `bench crl` -->\n",
        "<!-- end of what `cargo xtask bench readme` writes of revocation lists -->\n",
        durable_tables::revocations,
    ),
];

type Section = fn() -> Result<String>;

/// Rewrites what stands between the marks.
pub(super) fn write() -> Result<()> {
    let readme = tree::read(README)?;
    let written = with_figures(&readme)?;
    if written == readme {
        println!("   {README} has the figures of the newest runs already");
        return Ok(());
    }
    tree::write(&tree::root().join(README), &written)?;
    println!("   written: {README}");
    Ok(())
}

/// What is wrong with the committed README, for `check`.
pub(crate) fn findings() -> Result<Vec<String>> {
    let readme = tree::read(README)?;
    Ok(if with_figures(&readme)? == readme {
        Vec::new()
    } else {
        vec![format!("{README}: its figures are not those of the newest runs: run `cargo xtask bench readme`")]
    })
}

fn with_figures(readme: &str) -> Result<String> {
    let mut written = readme.to_owned();
    for (begin, end, section) in SECTIONS {
        let (before, rest) = written.split_once(begin).with_context(|| format!("{README} lacks the mark {begin}"))?;
        let (_, after) = rest.split_once(end).with_context(|| format!("{README} lacks the mark {end}"))?;
        written = format!("{before}{begin}{}{end}{after}", section()?);
    }
    Ok(written)
}

/// The costs of an enrolment: each configuration by the newest run that has it.
fn costs() -> Result<String> {
    rendered(&RunFile::all("e2e", SCHEMA)?, &e2e::names())
}

fn rendered(runs: &[RunFile], names: &[String]) -> Result<String> {
    let mut text = String::from(
        "\n| suite | block | ledger | devices | floor, us | floor and datagrams, us | engines in memory, us | server CPU, us | part of the core used | over the floor | over floor and datagrams | datagrams up / down | bytes up / down | runs whose generator had no reserves | run |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut used: Vec<&RunFile> = Vec::new();
    for name in names {
        let Some((run, _)) = e2e_record::newest(runs, &format!("ratio_to_floor/{name}")) else { continue };
        text.push_str(&row(run, name)?);
        if used.iter().all(|it| it.path != run.path) {
            used.push(run);
        }
    }
    ensure!(!used.is_empty(), "no run with the schema {SCHEMA} has pairs: run `cargo xtask bench e2e`");
    text.push_str(&handshakes(runs)?);
    writeln!(
        text,
        "\nEach ratio is the mean of the pairs of its run with its 95 % interval; a pair is one run of the server and the floor, and as many bare datagrams, of the \
         same repetition. A server that was to be saturated and used less than {:.0} % of its core is marked.\n",
        SATURATED_MIN * 100.0,
    )?;
    for run in used {
        text.push_str(&facts_of(run)?);
    }
    text.push('\n');
    Ok(text)
}

/// One configuration.
fn row(run: &RunFile, name: &str) -> Result<String> {
    let (file, record) = (file_name(run), &run.record);
    let run = e2e_record::medians(record, name).with_context(|| format!("{file} has no medians of {name}"))?;
    let [floor, bare] = [number(run, "floor_us")?, number(run, "bare_us")?];
    let core = CoreUse::of(run).with_context(|| format!("{file} does not say how much of its core {name} used"))?;
    Ok(format!(
        "| {} | {} | {} | {} | {floor:.0} | {:.0} | {:.0} | {:.0} | {} | **{}** | **{}** | {:.0} / {:.0} | {:.0} / {:.0} | {} | `{file}` |\n",
        suite(run)?,
        run["block"],
        ledger(run),
        devices(run)?,
        floor + bare,
        number(run, "engine_us")?,
        number(run, "server_cpu_us")?,
        core.percent() + &core.mark(),
        interval(record, &format!("ratio_to_floor/{name}"))?,
        interval(record, &format!("ratio_to_floor_and_datagrams/{name}"))?,
        number(run, "datagrams_up")?,
        number(run, "datagrams_down")?,
        number(run, "bytes_up")?,
        number(run, "bytes_down")?,
        spoiled(record, run),
    ))
}

fn file_name(run: &RunFile) -> &str {
    run.path.trim_start_matches("benches/runs/")
}

/// What a run was made of.
fn facts_of(run: &RunFile) -> Result<String> {
    let (record, facts) = (&run.record, &run.record["facts"]);
    Ok(format!(
        "- `{}`: {} pairs, {}, {} cores, {}, {}; commit {}, {}: `{}`\n",
        file_name(run),
        record["repetitions"],
        word(facts, "cpu")?,
        facts["cores"],
        word(facts, "kernel")?,
        word(facts, "rustc")?,
        word(facts, "commit")?,
        word(facts, "at")?,
        word(record, "command")?,
    ))
}

/// The servers of libcoap, by the newest run that has them.
fn handshakes(runs: &[RunFile]) -> Result<String> {
    let measured = |run: &&RunFile| list(&run.record, "handshakes").is_ok_and(|costs| !costs.is_empty());
    let Some(run) = runs.iter().find(measured) else { return Ok(String::new()) };
    let costs = list(&run.record, "handshakes")?;
    let mut text = format!(
        "\nOne handshake and one answer to `coap-client-openssl`, one session after the other (`{}`):\n\n\
         | server | CPU, us (95 % interval) | over ours (95 % interval) |\n|---|---|---|\n",
        file_name(run)
    );
    for cost in costs {
        let (cpu, over) = (with_ends(&cost["cpu_us"], 0)?, with_ends(&cost["over_ours"], 2)?);
        writeln!(text, "| {} | {cpu} | {over} |", word(cost, "server")?)?;
    }
    Ok(text)
}

/// `1.33 (1.31 to 1.35)` of the ratio with this name.
fn interval(record: &Value, name: &str) -> Result<String> {
    let found = list(record, "ratios")?.iter().find(|ratio| ratio["name"] == name);
    with_ends(&found.with_context(|| format!("the run has no {name}"))?["interval"], 2)
}

/// The mean and the ends of an interval, with so many digits behind the point; of what is compared with itself, the mean.
fn with_ends(interval: &Value, digits: usize) -> Result<String> {
    let [mean, low, high] = ["mean", "low", "high"].map(|key| number(interval, key));
    let [mean, low, high] = [mean?, low?, high?].map(|value| format!("{value:.digits$}"));
    Ok(if low == high { mean } else { format!("{mean} ({low} to {high})") })
}

/// In how many runs the generator says that it measured itself. The first records do not have it.
fn spoiled(record: &Value, run: &Value) -> String {
    run["spoiled_runs"].as_u64().map_or("-".to_owned(), |runs| format!("{runs} of {}", record["repetitions"]))
}

/// How they come and leave.
fn devices(run: &Value) -> Result<String> {
    let leaving = word(run, "leaving")?;
    Ok(match word(run, "pace")? {
        "unhurried" => format!("{leaving}, {:.0} a second", number(run, "enrolled_per_second")?),
        "sixteen" => format!("{leaving}, 16 at once"),
        "openssl" => format!("{leaving}, 16 at once on OpenSSL"),
        _ => leaving.to_owned(),
    })
}

fn suite(run: &Value) -> Result<&'static str> {
    Ok(if word(run, "suite")? == "ccm8" { "CCM_8" } else { "GCM" })
}

fn ledger(run: &Value) -> String {
    match run["ledger"]["sqlite"]["rows"].as_u64() {
        None => "memory".to_owned(),
        Some(rows) => format!("SQLite, {rows} rows"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Value {
        let interval = serde_json::json!({ "mean": 1.332, "low": 1.311, "high": 1.351 });
        let ratio = |name: &str, promise: Value| serde_json::json!({ "name": name, "interval": interval, "spread_percent": 4.4, "promise": promise });
        let promise = serde_json::json!({ "at_most": 1.2, "decision": "not_decidable" });
        serde_json::json!({
            "schema": SCHEMA, "command": "cargo xtask bench e2e", "repetitions": 10,
            "facts": { "cpu": "CPU", "cores": 2, "kernel": "Linux", "rustc": "rustc", "commit": "c0ffee", "at": "now" },
            "ratios": [
                ratio("ratio_to_floor/ccm8_512.sqlite_10000.closing", promise),
                ratio("ratio_to_floor_and_datagrams/ccm8_512.sqlite_10000.closing", Value::Null),
            ],
            "handshakes": [
                { "server": "muster", "cpu_us": { "mean": 300.0, "low": 290.0, "high": 310.4 }, "over_ours": { "mean": 1.0, "low": 1.0, "high": 1.0 } },
                { "server": "other", "cpu_us": { "mean": 1200.0, "low": 1100.0, "high": 1300.0 },
                  "over_ours": { "mean": 4.0, "low": 3.8, "high": 4.2 } },
            ],
            "medians": [{
                "suite": "ccm8", "block": 512, "ledger": { "sqlite": { "rows": 10000 } }, "leaving": "closing", "pace": "saturating",
                "floor_us": 175.0, "bare_us": 15.0, "engine_us": 194.0, "server_cpu_us": 232.4,
                "enrolled_per_second": 3_000.0,
                "datagrams_up": 7.0, "datagrams_down": 6.0, "bytes_up": 1360.0, "bytes_down": 2357.0,
            }],
        })
    }

    fn tables_of(record: &Value, name: &str) -> Result<String> {
        rendered(&[RunFile { path: "benches/runs/e2e-x.json".to_owned(), record: record.clone() }], &[name.to_owned()])
    }

    const NAME: &str = "ccm8_512.sqlite_10000.closing";

    #[test]
    fn a_run_becomes_tables() {
        let text = tables_of(&record(), NAME).unwrap();
        let row = "| CCM_8 | 512 | SQLite, 10000 rows | closing | 175 | 190 | 194 | 232 | 70 %: not saturated | **1.33 (1.31 to 1.35)** |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| 1360 / 2357 | - | `e2e-x.json` |"), "an older record does not have it: {text}");
        let mut counted = record();
        counted["medians"][0]["spoiled_runs"] = 3.into();
        assert!(tables_of(&counted, NAME).unwrap().contains("| 1360 / 2357 | 3 of 10 |"));
        assert!(text.contains("| muster | 300 (290 to 310) | 1.00 |"), "{text}");
        assert!(text.contains("| other | 1200 (1100 to 1300) | 4.00 (3.80 to 4.20) |"), "{text}");
        assert!(text.contains("- `e2e-x.json`: 10 pairs, CPU, 2 cores"), "{text}");
    }

    #[test]
    fn devices_that_come_sixteen_at_once_have_a_row_of_their_own_and_so_have_those_on_openssl() {
        for (pace, row) in [("sixteen", "closing, 16 at once"), ("openssl", "closing, 16 at once on OpenSSL")] {
            let mut sixteen = record();
            for number in 0..2 {
                let name = sixteen["ratios"][number]["name"].as_str().unwrap();
                sixteen["ratios"][number]["name"] = format!("{name}.{pace}").into();
            }
            let name = format!("{NAME}.{pace}");
            let error = tables_of(&sixteen, &name).unwrap_err().to_string();
            assert!(error.contains(&format!("no medians of {name}")), "{error}");
            sixteen["medians"][0]["pace"] = pace.into();
            assert!(tables_of(&sixteen, &name).unwrap().contains(&format!("| {row} |")));
        }
    }

    #[test]
    fn each_configuration_has_its_newest_run_wherever_it_is() {
        let mut part = record();
        part["medians"][0]["block"] = 64.into();
        for number in 0..2 {
            let name = part["ratios"][number]["name"].as_str().unwrap().replace("512", "64");
            part["ratios"][number]["name"] = name.into();
        }
        part["handshakes"] = serde_json::json!([]);
        let run = |path: &str, record: &Value| RunFile { path: format!("benches/runs/{path}"), record: record.clone() };
        let runs = [run("e2e-3.json", &part), run("e2e-2.json", &record()), run("e2e-1.json", &record())];
        let text = rendered(&runs, &[NAME, "ccm8_64.sqlite_10000.closing"].map(str::to_owned)).unwrap();
        let of = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
        assert!(
            of("| CCM_8 | 512 |").ends_with("| `e2e-2.json` |") && of("| CCM_8 | 64 |").ends_with("| `e2e-3.json` |")
        );
        assert!(text.contains("one session after the other (`e2e-2.json`)") && !text.contains("e2e-1.json"), "{text}");
        assert!(text.contains("- `e2e-3.json`: 10 pairs") && text.contains("- `e2e-2.json`: 10 pairs"));
    }

    #[test]
    fn a_run_that_lacks_a_figure_is_refused() {
        let mut broken = record();
        broken["ratios"] = serde_json::json!([]);
        assert!(tables_of(&broken, NAME).unwrap_err().to_string().contains("has pairs"));
        let mut half = record();
        half["ratios"].as_array_mut().unwrap().truncate(1);
        assert!(tables_of(&half, NAME).unwrap_err().to_string().contains("ratio_to_floor_and_datagrams"));
    }
}
