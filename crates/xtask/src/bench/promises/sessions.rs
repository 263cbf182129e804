//! What is promised of sessions by the thousand to the million, by `bench scale`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use super::{Evidence, ROUNDS_MIN, Row, ends, rounded};
use crate::bench::interval::{Decision, Interval};
use crate::bench::run_file::{RunFile, list};

/// The kind of the runs, and their schemas, the newest first: the first runs had one round, and one object for loopback.
const SCALE: &str = "scale";
const SCHEMAS: [&str; 2] = ["muster-scale/2", "muster-scale/1"];
const COMMAND: &str = "cargo xtask bench scale";

/// The sessions that the promises to them are made for.
const SESSIONS: u64 = 1_000_000;

/// A promise about samples.
#[derive(Clone, Copy)]
enum AtMost {
    /// Their mean is promised: decided on its 95 % interval.
    Mean(f64),
    /// Each is promised, as "no turn is longer" is.
    Each(f64),
}

/// Samples of one number of sessions.
type Samples = Vec<f64>;

/// What `bench scale` says at its largest number of sessions, once for each of both ends: the newest of the runs with the most sessions. Over loopback, the
/// newest run that has it.
pub(super) fn session_rows() -> Result<Vec<Row>> {
    let mut runs = Vec::new();
    for schema in SCHEMAS {
        runs.extend(RunFile::all(SCALE, schema)?);
    }
    let newest =
        runs.iter().rev().max_by_key(|run| largest(&run.record).first().and_then(|level| level["sessions"].as_u64()));
    let mut rows = rows_of(newest);
    rows.extend(loopback_rows(&runs));
    Ok(rows)
}

fn rows_of(newest: Option<&RunFile>) -> Vec<Row> {
    let levels: Vec<Value> = newest.iter().flat_map(|run| largest(&run.record)).collect();
    // What is promised for a million sessions is not shown by fewer.
    let sessions = levels.first().and_then(|level| level["sessions"].as_u64()).unwrap_or_default();
    let smaller = if sessions < SESSIONS { format!(" with {sessions} sessions") } else { String::new() };
    let row = |what, goal: &str, at_most: AtMost, unit: &str, samples: &[Samples]| {
        let evidence = newest.and_then(|run| at_most.evidence(run, samples, unit));
        let evidence = evidence.map(|it| Evidence { verdict: it.verdict + &smaller, ..it });
        Row { what, goal: goal.to_owned(), evidence, command: COMMAND }
    };
    let of = |key: &str| [levels.iter().filter_map(|level| level[key].as_f64()).collect::<Samples>()];
    let end = |key: &str| [levels.iter().filter_map(|level| level["end"][key].as_f64()).collect::<Samples>()];
    let within = newest.map(|run| at_each_level(&run.record, "within_247_s_bytes")).unwrap_or_default();
    let growth = newest.map(|run| cpu_growth(&run.record)).unwrap_or_default();
    vec![
        row(
            "CPU of an enrolment beside 1,000,000 idle sessions, over that beside 1,000: of the engines, in one process, without the kernel and the authority",
            "<= 1.10",
            AtMost::Mean(1.10),
            "",
            &[growth],
        ),
        row("memory of an idle session", "<= 320 B", AtMost::Mean(320.0), "B", &of("idle_bytes_per_session")),
        Row {
            what: "memory of an idle session with a connection ID and resumption: the server has neither",
            goal: "<= 448 B".into(),
            evidence: None,
            command: "",
        },
        // Soon after an enrolment the bound holds at every number of sessions.
        row(
            "memory of a session within 247 s of an enrolment, at the number of sessions where it is most",
            "<= 1.25 KiB",
            AtMost::Mean(1280.0),
            "B",
            &within,
        ),
        row("mass expiry and drain: memory", "<= 5 % more", AtMost::Each(5.0), "%", &end("resident_growth_percent")),
        row(
            "mass expiry and drain: longest turn of a shard",
            "<= 5 ms",
            AtMost::Each(5000.0),
            "us",
            &end("longest_turn_us"),
        ),
    ]
}

/// What a server as a process has resident for each session, over loopback, by the newest run that has it.
pub(super) fn loopback_rows(runs: &[RunFile]) -> [Row; 3] {
    let row = |what, goal: &str, bound: f64, key: &str| {
        let evidence = runs.iter().find_map(|run| {
            let rounds = loopback_rounds(&run.record);
            let samples: Samples = rounds.iter().filter_map(|round| round[key].as_f64()).collect();
            let devices = rounds.first()?["devices"].as_u64()?;
            let it = AtMost::Mean(bound).evidence(run, &[samples], "B")?;
            Some(Evidence { figure: format!("{} with {devices} sessions", it.figure), ..it })
        });
        Row { what, goal: goal.into(), evidence, command: COMMAND }
    };
    [
        row(
            "memory of an idle session, over loopback: what a process that has as many idle sessions grows by for each further one",
            "<= 320 B",
            320.0,
            "bytes_idle_beside_others",
        ),
        Row {
            what: "what such a process has resident for each session once all have become idle, over loopback: its memory does not fall, and what a session \
                   held within 247 s is free for the next",
            goal: "beside it".into(),
            evidence: runs.iter().find_map(resident_when_idle),
            command: COMMAND,
        },
        row(
            "memory of a session within 247 s of an enrolment, over loopback",
            "<= 1.25 KiB",
            1280.0,
            "bytes_within_247_s",
        ),
    ]
}

/// The raw figure beside that of an idle session. Nothing is promised of it.
fn resident_when_idle(run: &RunFile) -> Option<Evidence> {
    let rounds = loopback_rounds(&run.record);
    let of = |key: &str| rounds.iter().filter_map(|round| round[key].as_f64()).collect::<Samples>();
    let (resident, idle) = (of("bytes_resident_when_idle"), of("bytes_idle_beside_others"));
    if resident.is_empty() || resident.len() != idle.len() {
        return None;
    }
    let [all, held] = [&resident, &idle].map(|samples| Interval::of(samples).mean);
    let figure = format!("{} B, of which {} B are free for the next", rounded(all), rounded(all - held));
    Some(Evidence::of(run, figure, spread(&resident, resident.len()), String::new()))
}

/// `249 to 251, 3 samples`.
fn spread(all: &[f64], samples: usize) -> String {
    let [least, most] = ends(all);
    format!("{} to {}, {}", rounded(least), rounded(most), counted_samples(samples))
}

fn counted_samples(samples: usize) -> String {
    if samples == 1 { "1 sample".to_owned() } else { format!("{samples} samples") }
}

impl AtMost {
    /// Of the samples of each level: the figure is that of the level with the most. `None` where there are none.
    fn evidence(self, run: &RunFile, levels: &[Samples], unit: &str) -> Option<Evidence> {
        let levels: Vec<&Samples> = levels.iter().filter(|samples| !samples.is_empty()).collect();
        let means = levels.iter().map(|samples| Interval::of(samples));
        let highest = means.max_by(|one, other| one.mean.total_cmp(&other.mean))?;
        let all: Samples = levels.iter().copied().flatten().copied().collect();
        let figure = match self {
            Self::Mean(_) if highest.high < f64::MAX => {
                format!("{} {unit} ({} to {})", rounded(highest.mean), rounded(highest.low), rounded(highest.high))
            }
            Self::Mean(_) => format!("{} {unit}", rounded(highest.mean)),
            Self::Each(_) => format!("at most {} {unit}", rounded(ends(&all)[1])),
        };
        let figure = figure.replace("  ", " ");
        let fewest = levels.iter().map(|samples| samples.len()).min().unwrap_or_default();
        let verdict = match self.decide(&levels) {
            Decision::NotDecidable if fewest < ROUNDS_MIN => format!("not decidable ({})", counted_samples(fewest)),
            decision => decision.word().to_owned(),
        };
        Some(Evidence::of(run, figure.trim().to_owned(), spread(&all, fewest), verdict))
    }

    /// The worst decision of the levels.
    fn decide(self, levels: &[&Samples]) -> Decision {
        let decisions: Vec<Decision> = levels.iter().map(|samples| self.decide_one(samples)).collect();
        let worst = [Decision::Missed, Decision::NotDecidable].into_iter().find(|it| decisions.contains(it));
        worst.unwrap_or(Decision::Holds)
    }

    fn decide_one(self, samples: &[f64]) -> Decision {
        match self {
            // However few there are: one shows it.
            Self::Each(bound) if ends(samples)[1] > bound => Decision::Missed,
            _ if samples.len() < ROUNDS_MIN => Decision::NotDecidable,
            Self::Each(_) => Decision::Holds,
            Self::Mean(bound) => Interval::of(samples).decide(bound),
        }
    }
}

fn levels(record: &Value) -> Vec<Value> {
    list(record, "in_process").cloned().unwrap_or_default()
}

/// The levels with the most sessions, of each round.
fn largest(record: &Value) -> Vec<Value> {
    let levels = levels(record);
    let most = levels.iter().filter_map(|level| level["sessions"].as_u64()).max();
    levels.into_iter().filter(|level| level["sessions"].as_u64() == most).collect()
}

/// The samples of each number of sessions.
fn at_each_level(record: &Value, key: &str) -> Vec<Samples> {
    let mut found = BTreeMap::<u64, Samples>::new();
    for level in levels(record) {
        if let (Some(sessions), Some(value)) = (level["sessions"].as_u64(), level[key].as_f64()) {
            found.entry(sessions).or_default().push(value);
        }
    }
    found.into_values().collect()
}

/// The CPU of an enrolment beside the most sessions over that beside the fewest of the same round and end.
fn cpu_growth(record: &Value) -> Samples {
    let levels = levels(record);
    let fewest = levels.iter().filter_map(|level| level["sessions"].as_u64()).min();
    let growth = largest(record).into_iter().filter_map(|most| {
        let mut few = levels.iter().filter(|level| level["sessions"].as_u64() == fewest);
        let few = few.find(|few| few["round"] == most["round"] && few["end"]["how"] == most["end"]["how"])?;
        Some(most["enrolment_cpu_us"].as_f64()? / few["enrolment_cpu_us"].as_f64()?)
    });
    growth.collect()
}

/// Each round over loopback.
fn loopback_rounds(record: &Value) -> Vec<Value> {
    match &record["loopback"] {
        Value::Null => Vec::new(),
        Value::Array(rounds) => rounds.clone(),
        first => vec![first.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(record: Value) -> RunFile {
        RunFile { path: "benches/runs/x.json".to_owned(), record }
    }

    fn level(sessions: u32, [round, cpu]: [f64; 2], how: &str) -> Value {
        serde_json::json!({ "sessions": sessions, "round": round, "enrolment_cpu_us": cpu, "end": { "how": how } })
    }

    #[test]
    fn growth_compares_the_most_sessions_with_the_fewest_of_the_same_round_and_end() {
        let in_process = [
            level(1000, [1.0, 50.0], "expiry"),
            level(1000, [1.0, 40.0], "drain"),
            level(9000, [1.0, 55.0], "expiry"),
            level(9000, [1.0, 42.0], "drain"),
            level(1000, [2.0, 20.0], "drain"),
            level(9000, [2.0, 20.0], "drain"),
            level(9000, [3.0, 99.0], "drain"),
        ];
        let growth = cpu_growth(&serde_json::json!({ "in_process": in_process }));
        assert_eq!(growth.len(), 3, "the third round has nothing to compare with");
        let expected = [1.1, 1.05, 1.0];
        assert!(growth.iter().zip(expected).all(|(found, it)| (found - it).abs() < 1e-9), "{growth:?}");
    }

    #[test]
    fn what_has_fewer_than_three_samples_is_not_decided() {
        let of = |at_most: AtMost, levels: &[&[f64]]| {
            let levels: Vec<Samples> = levels.iter().map(|samples| samples.to_vec()).collect();
            let it = at_most.evidence(&run(Value::Null), &levels, "B").unwrap();
            [it.figure, it.spread, it.verdict]
        };
        let two = of(AtMost::Mean(320.0), &[&[286.0, 286.0]]);
        assert_eq!(two, ["286 B (286 to 286)", "286 to 286, 2 samples", "not decidable (2 samples)"]);
        let one = of(AtMost::Mean(320.0), &[&[249.0]]);
        assert_eq!(one, ["249 B", "249 to 249, 1 sample", "not decidable (1 sample)"]);
        assert_eq!(of(AtMost::Mean(320.0), &[&[286.0, 287.0, 286.0]])[2], "holds");
        assert_eq!(of(AtMost::Mean(320.0), &[&[300.0, 320.0, 310.0]])[2], "not decidable", "its interval has 320");
        assert_eq!(of(AtMost::Mean(320.0), &[&[330.0, 331.0, 332.0]])[2], "missed");
        let levels = of(AtMost::Mean(320.0), &[&[286.0, 287.0, 286.0], &[330.0, 331.0, 332.0]]);
        assert_eq!(levels, ["331 B (329 to 333)", "286 to 332, 3 samples", "missed"], "each level must hold");
    }

    #[test]
    fn of_what_is_promised_each_time_one_sample_decides_that_it_is_missed() {
        let verdict = |samples: &[f64]| {
            let it = AtMost::Each(5_000.0).evidence(&run(Value::Null), &[samples.to_vec()], "us").unwrap();
            (it.figure, it.verdict)
        };
        assert_eq!(verdict(&[588.0, 598.0, 590.0]), ("at most 598 us".to_owned(), "holds".to_owned()));
        assert_eq!(verdict(&[588.0, 598.0]).1, "not decidable (2 samples)");
        assert_eq!(verdict(&[588.0, 5_001.0]).1, "missed");
    }

    #[test]
    fn rounds_over_loopback_decide_and_a_single_one_of_the_first_records_does_not() {
        let round = |bytes: f64| serde_json::json!({ "devices": 20_000, "bytes_idle_beside_others": bytes });
        let idle = |loopback: Value| {
            let [idle, ..] = loopback_rows(&[run(serde_json::json!({ "loopback": loopback }))]);
            idle.evidence.map(|it| [it.figure, it.verdict])
        };
        let three = idle(serde_json::json!([round(249.0), round(251.0), round(250.0)])).unwrap();
        assert_eq!(three, ["250 B (248 to 252) with 20000 sessions", "holds"]);
        assert_eq!(idle(round(249.0)).unwrap(), ["249 B with 20000 sessions", "not decidable (1 sample)"]);
        assert!(idle(Value::Null).is_none() && idle(serde_json::json!([])).is_none());
    }

    #[test]
    fn what_is_resident_when_all_are_idle_stands_beside_what_an_idle_session_holds() {
        let round = |resident: f64| serde_json::json!({ "devices": 20_000, "bytes_idle_beside_others": 249.0, "bytes_resident_when_idle": resident });
        let of = |loopback: Value| {
            let [_, resident, _] = loopback_rows(&[run(serde_json::json!({ "loopback": loopback }))]);
            (resident.goal, resident.evidence.map(|it| [it.figure, it.spread, it.verdict]))
        };
        let (goal, evidence) = of(serde_json::json!([round(1_197.0), round(1_199.0)]));
        assert_eq!(goal, "beside it");
        assert_eq!(evidence.unwrap(), ["1198 B, of which 949 B are free for the next", "1197 to 1199, 2 samples", ""]);
        let first = of(round(1_198.0)).1.unwrap();
        assert_eq!(first[1], "1198 to 1198, 1 sample", "the first records have one round");
        assert!(of(serde_json::json!([{ "devices": 20_000, "bytes_idle_beside_others": 249.0 }])).1.is_none());
    }
}
