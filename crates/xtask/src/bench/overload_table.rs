//! What the README says of an overload, by the newest run of `bench overload`.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use super::median::median;
use super::run_file::{RunFile, list, number, word};

const SCHEMA: &str = "muster-overload/1";
/// What is promised, and at which multiples of the peak.
const GOAL: &str = "90 %";
const GOODPUT_MIN: f64 = 0.9;
const PROMISED: [f64; 2] = [2.0, 4.0];

pub(super) fn overload() -> Result<String> {
    let newest = RunFile::all("overload", SCHEMA)?.into_iter().next();
    let newest =
        newest.with_context(|| format!("no run with the schema {SCHEMA}: run `cargo xtask bench overload`"))?;
    rendered(&newest)
}

fn rendered(run: &RunFile) -> Result<String> {
    let record = &run.record;
    let rounds = list(record, "rounds")?;
    let peak = median(rounds.iter().filter_map(|round| round["peak_per_second"].as_f64()));
    let mut text = format!(
        "\nOffered more than one core can serve (honest devices at the rate of the peak, the rest hellos with a live cookie exchange that are never heard of\n\
         again), the server finishes, of its peak of {peak:.0} enrolments a second{}:\n\n\
         | offered | goodput after the first two seconds, of the peak | of the peak, over the whole load | in its first two seconds | by each second of the server's CPU | part of its core that the server had \
         | honest devices, p50 / p99 | cut off | back within 5 s | void | goal |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
        peak_core(rounds)
    );
    let summaries = list(record, "summary")?;
    for summary in summaries {
        text.push_str(&row(summary, rounds)?);
    }
    write!(
        text,
        "\nMedians of {} rounds (least to most). Goodput is that of the median second after the first two: those belong to hellos that find the queue full and come\n\
         back with their retransmission, after 1 s (RFC 6347 section 4.2.4.1). The mean over the whole load has them in it{}.{} A load is void if less\n\
         than 98 % of it was offered in time or the server had less than 95 % of its core; it is played up to three times.{}{}\n",
        rounds.len(),
        whole(summaries),
        first_seconds(summaries),
        cut_off(rounds),
        spoiled(summaries, rounds.len()),
    )?;
    let facts = &record["facts"];
    writeln!(
        text,
        "`{}`, {}, {}, kept in `{}`.\n",
        record["command"].as_str().unwrap_or("cargo xtask bench overload"),
        target(record)?,
        word(facts, "at")?,
        run.path
    )?;
    Ok(text)
}

fn row(summary: &Value, rounds: &[Value]) -> Result<String> {
    let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let of = |key: &str| percent(summary[key].as_f64());
    let seconds = |key: &str| summary[key].as_f64().map(|ms| format!("{:.1}", ms / 1e3));
    let multiple = number(summary, "multiple")?;
    let [least, most] = ["least", "most"].map(|key| number(summary, key).map(|share| share * 100.0));
    let times = seconds("total_p50_ms").zip(seconds("total_p99_ms"));
    let back = if summary["back_within_5_s"] == true { "yes" } else { "no" };
    Ok(format!(
        "| {multiple}x | **{}** ({:.0} to {:.0}) | {} | {} | {} | {} | {} | {} | {back} | {} | {} |\n",
        percent(Some(number(summary, "of_peak")?)),
        least?,
        most?,
        of("whole_of_peak"),
        of("first_two_seconds_of_peak"),
        of("of_peak_by_cpu"),
        of("core_share"),
        times.map_or("-".to_owned(), |(p50, p99)| format!("{p50} / {p99} s")),
        number(summary, "cut_off")?,
        void(summary, rounds.len())?,
        if PROMISED.contains(&multiple) { GOAL } else { "" },
    ))
}

/// How many rounds are void, and why.
fn void(summary: &Value, rounds: usize) -> Result<String> {
    let causes: Vec<&str> =
        summary["void_because"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Ok(match number(summary, "void_runs")? {
        0.0 => "none".to_owned(),
        void if causes.is_empty() => format!("{void} of {rounds}"),
        void => format!("{void} of {rounds}: {}", causes.join("; ")),
    })
}

fn peak_core(rounds: &[Value]) -> String {
    let shares: Vec<f64> = rounds.iter().filter_map(|round| round["peak_core_share"].as_f64()).collect();
    if shares.is_empty() {
        return String::new();
    }
    format!(" (found with {:.0} % of its core)", median(shares) * 100.0)
}

/// The means over the whole load of the promised multiples, and which of them are below the goal.
fn whole(summaries: &[Value]) -> String {
    let means = at_promised(summaries, |summary| {
        let mean = summary["whole_of_peak"].as_f64()?;
        let below = if mean < GOODPUT_MIN { ", below the goal" } else { "" };
        Some((mean, below))
    });
    if means.is_empty() { means } else { format!(": {means}") }
}

/// Whether the first seconds were seconds of work. The first records do not have it.
fn first_seconds(summaries: &[Value]) -> String {
    let shares = at_promised(summaries, |summary| Some((summary["first_two_seconds_core_share"].as_f64()?, "")));
    if shares.is_empty() {
        return shares;
    }
    format!(" In the first two seconds the server used, of its core, {shares}: the rest of it waited.")
}

/// A share of each promised multiple that has it, and a word behind it.
fn at_promised(summaries: &[Value], share: fn(&Value) -> Option<(f64, &'static str)>) -> String {
    let shares = summaries.iter().filter_map(|summary| {
        let multiple = summary["multiple"].as_f64().filter(|multiple| PROMISED.contains(multiple))?;
        let (share, word) = share(summary)?;
        Some(format!("{:.0} % at {multiple}x{word}", share * 100.0))
    });
    shares.collect::<Vec<_>>().join("; ")
}

/// What is counted as cut off. The first records count neither handshakes nor uploads.
fn cut_off(rounds: &[Value]) -> &'static str {
    let mut loads = rounds.iter().filter_map(|round| round["loads"].as_array()).flatten().peekable();
    if loads.peek().is_some() && loads.all(|load| load["cut_handshakes"].is_u64() && load["cut_uploads"].is_u64()) {
        " Cut off\nis what an honest device saw begin and not end: its handshake after the ServerHello, its upload, or its session."
    } else {
        ""
    }
}

fn spoiled(summaries: &[Value], rounds: usize) -> String {
    let loads = summaries.len() * rounds;
    let counts: Option<Vec<u64>> = summaries.iter().map(|summary| summary["spoiled_runs"].as_u64()).collect();
    match counts.map(|counts| counts.iter().sum::<u64>()) {
        None => String::new(),
        Some(0) => " The generator of the honest devices had reserves in each load.".to_owned(),
        Some(spoiled) => format!(
            " In {spoiled} of {loads} loads the\ngenerator of the honest devices had no reserves: their times are too long then, the goodput is the server's own count."
        ),
    }
}

/// Which program it was. The first records have a path or a commit here, and the commit among their facts.
fn target(record: &Value) -> Result<String> {
    let target = &record["target"];
    Ok(match (target["commit"].as_str(), target["sha256"].as_str()) {
        (Some(commit), _) => format!("commit {commit}"),
        (None, Some(digest)) => format!("a program given by hand, sha256 {digest}"),
        (None, None) => format!("commit {}", word(&record["facts"], "commit")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Value {
        serde_json::json!({
            "multiple": 4.0, "of_peak": 0.94, "of_peak_by_cpu": 0.92, "least": 0.89, "most": 0.96, "void_runs": 0, "cut_off": 0,
            "back_within_5_s": true,
        })
    }

    fn run(summary: &Value) -> RunFile {
        let record = serde_json::json!({
            "facts": { "commit": "c0ffee", "at": "now" }, "target": "target/release/muster", "summary": [summary],
            "rounds": [{ "peak_per_second": 2_600.4 }, { "peak_per_second": 2_500.0 }, { "peak_per_second": 2_700.0 }],
        });
        RunFile { path: "benches/runs/overload-x.json".to_owned(), record }
    }

    #[test]
    fn a_record_of_today_becomes_a_row_with_the_whole_load_and_the_first_seconds() {
        let mut new = summary();
        for (key, value) in [
            ("whole_of_peak", 0.81),
            ("first_two_seconds_of_peak", 0.45),
            ("first_two_seconds_core_share", 0.52),
            ("core_share", 0.96),
        ] {
            new[key] = value.into();
        }
        (new["total_p50_ms"], new["total_p99_ms"], new["spoiled_runs"]) = (1_040.0.into(), 7_049.0.into(), 1.into());
        let mut record = run(&new);
        record.record["target"] = serde_json::json!({ "commit": null, "sha256": "ab12", "origin": "given by hand" });
        record.record["rounds"][0]["peak_core_share"] = 0.97.into();
        let text = rendered(&record).unwrap();
        let row = "| 4x | **94 %** (89 to 96) | 81 % | 45 % | 92 % | 96 % | 1.0 / 7.0 s | 0 | yes | none | 90 % |";
        assert!(text.contains(row), "{text}");
        for words in [
            ": 81 % at 4x, below the goal. In the first two seconds the server used, of its core, 52 % at 4x: the rest of it waited. A load",
            "peak of 2600 enrolments a second (found with 97 % of its core)",
            "In 1 of 3 loads",
            "sha256 ab12",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn what_is_cut_off_is_said_of_records_that_count_it() {
        let words = "its handshake after the ServerHello, its upload, or its session.";
        let mut record = run(&summary());
        let load = serde_json::json!({ "cut_off": 3, "cut_handshakes": 1, "cut_uploads": 2 });
        for round in record.record["rounds"].as_array_mut().unwrap() {
            round["loads"] = vec![load.clone()].into();
        }
        assert!(rendered(&record).unwrap().contains(words));
        record.record["rounds"][1]["loads"][0].as_object_mut().unwrap().remove("cut_handshakes");
        assert!(!rendered(&record).unwrap().contains(words));
        assert!(!rendered(&run(&summary())).unwrap().contains(words), "a record of before");
    }

    #[test]
    fn a_record_that_lacks_the_new_fields_has_dashes() {
        let text = rendered(&run(&summary())).unwrap();
        assert!(text.contains("| 4x | **94 %** (89 to 96) | - | - | 92 % | - | - | 0 | yes | none | 90 % |"), "{text}");
        assert!(text.contains("commit c0ffee, now"), "{text}");
    }

    #[test]
    fn a_void_row_says_how_often_and_why() {
        let mut void = summary();
        void["void_runs"] = 2.into();
        void["void_because"] =
            serde_json::json!(["the server had 91 % of its core", "the server had 90 % of its core"]);
        let text = rendered(&run(&void)).unwrap();
        assert!(
            text.contains("| 2 of 3: the server had 91 % of its core; the server had 90 % of its core | 90 % |"),
            "{text}"
        );
    }
}
