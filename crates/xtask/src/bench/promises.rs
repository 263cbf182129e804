//! The promises of performance, each with its goal, the figure of the newest run that has it, the spread and the command, as a table of the README.

mod sessions;

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::Value;

use self::sessions::session_rows;
use super::e2e::promised;
use super::e2e_record::{self, CoreUse};
use super::median::median;
use super::promised::PROMISED;
use super::run_file::{RunFile, list, number, word};
use super::simulated::{SIMULATED_RESULTS, SimulatedOverload};

/// The schemas of the runs that the figures come from.
const E2E: (&str, &str) = ("e2e", "muster-e2e/4");
const OVERLOAD: (&str, &str) = ("overload", "muster-overload/1");
const SERVICE: (&str, &str) = ("service", "muster-service/2");
const SERVICE_OF_ONE_ROUND: &str = "muster-service/1";
const COUNTS: (&str, &str) = ("counts", "muster-counts/1");
const SHARDS: (&str, &str) = ("shards", "muster-shards/1");

/// The durable ledger may cost this many times the CPU of the one in memory: the goal, beside the bar of `bench e2e`.
const DURABLE_GOAL: f64 = 1.15;

/// The part of the peak that is promised under overload.
const GOODPUT_MIN: f64 = 0.9;

/// Rounds below which nothing that has no interval is decided.
const ROUNDS_MIN: usize = 3;

/// One row.
struct Row {
    what: &'static str,
    goal: String,
    evidence: Option<Evidence>,
    /// What measures it, for a row without a run. Empty for what is not built.
    command: &'static str,
}

/// What a run says.
struct Evidence {
    figure: String,
    spread: String,
    verdict: String,
    run: String,
    /// The command of the record, with its options; the first records of a kind had none.
    command: Option<String>,
}

impl Evidence {
    fn of(run: &RunFile, figure: String, spread: String, verdict: String) -> Self {
        let command = run.record["command"].as_str().map(str::to_owned);
        Self { figure, spread, verdict, run: run.path.clone(), command }
    }
}

pub(super) fn rendered() -> Result<String> {
    let mut rows = enrolment_rows()?;
    rows.extend(session_rows()?);
    rows.extend(counted_rows()?);
    rows.extend(shard_rows()?);
    rows.extend(overload_rows()?);
    rows.push(simulated_row()?);
    rows.extend(hello_rows()?);
    written(rows)
}

fn written(rows: Vec<Row>) -> Result<String> {
    let mut text =
        String::from("\n| promise | goal | measured | spread | | run | command |\n|---|---|---|---|---|---|---|\n");
    for Row { what, goal, evidence, command } in rows {
        match evidence {
            Some(Evidence { figure, spread, verdict, run, command: own }) => {
                let (run, own) = (run.trim_start_matches("benches/runs/"), own.unwrap_or_else(|| command.to_owned()));
                writeln!(text, "| {what} | {goal} | {figure} | {spread} | {verdict} | `{run}` | `{own}` |")?;
            }
            None if command.is_empty() => writeln!(text, "| {what} | {goal} | | | not built | | |")?,
            None => writeln!(text, "| {what} | {goal} | | | not measured | | `{command}` |")?,
        }
    }
    text.push('\n');
    Ok(text)
}

/// The ratios of `bench e2e`, each of the newest run that has it. How much of its core the server used is a part of what a figure says.
fn enrolment_rows() -> Result<Vec<Row>> {
    let runs = RunFile::all(E2E.0, E2E.1)?;
    let row = |what, name: &str, command| -> Result<Row> {
        let found = e2e_record::newest(&runs, name);
        let evidence = found.map(|(run, ratio)| of_ratio(run, ratio)).transpose()?;
        let goal = found.and_then(|(_, ratio)| ratio["promise"]["at_most"].as_f64()).or_else(|| promised(name));
        Ok(Row { what, goal: goal.map_or_else(String::new, |goal| format!("<= {goal:.2}")), evidence, command })
    };
    // A bar that is kept, and beside it a goal.
    let durable = |what, name, command| -> Result<Row> {
        let mut row = row(what, name, command)?;
        let interval = e2e_record::newest(&runs, name).map(|(_, ratio)| &ratio["interval"]);
        if let (Some(evidence), Some(interval)) = (&mut row.evidence, interval) {
            let [low, high] = [number(interval, "low")?, number(interval, "high")?];
            let goal = match (low, high) {
                (_, high) if high <= DURABLE_GOAL => "reached",
                (low, _) if low > DURABLE_GOAL => "missed",
                _ => "not decidable",
            };
            write!(evidence.verdict, "; goal {goal}")?;
            write!(row.goal, ", goal {DURABLE_GOAL:.2}")?;
        }
        Ok(row)
    };
    const COMMAND: &str = "cargo xtask bench e2e";
    const MILLION: &str = "cargo xtask bench e2e --rows 1000000 --only sqlite";
    const UNSATURATED: &str = "ratio_to_floor/ccm8_512.memory.closing";
    Ok(vec![
        row("server CPU of an enrolment, over the floor", "ratio_to_floor/ccm8_512.memory.closing", COMMAND)?,
        row("the same, over floor and datagrams", "ratio_to_floor_and_datagrams/ccm8_512.memory.closing", COMMAND)?,
        row(
            "in 64-byte blocks, over floor and datagrams",
            "ratio_to_floor_and_datagrams/ccm8_64.memory.closing",
            COMMAND,
        )?,
        row(
            "16 at once of our own fleet (`muster load`), each as soon as the one before is done, over the floor",
            &format!("{UNSATURATED}.sixteen"),
            COMMAND,
        )?,
        row(
            "by an independent client that never saturates the server (OpenSSL, 16 at once), over the floor",
            &format!("{UNSATURATED}.openssl"),
            COMMAND,
        )?,
        row("at 300 enrolments a second, over the floor", &format!("{UNSATURATED}.unhurried"), COMMAND)?,
        durable("in SQLite with 10,000 rows, over memory", "ratio_to_memory/ccm8_512.sqlite_10000.closing", COMMAND)?,
        durable(
            "in SQLite with 1,000,000 rows, over memory",
            "ratio_to_memory/ccm8_512.sqlite_1000000.closing",
            MILLION,
        )?,
    ])
}

fn of_ratio(run: &RunFile, ratio: &Value) -> Result<Evidence> {
    let interval = &ratio["interval"];
    let [mean, low, high] = [number(interval, "mean")?, number(interval, "low")?, number(interval, "high")?];
    let verdict = match word(&ratio["promise"], "decision")? {
        "holds" => "holds",
        "missed" => "missed",
        _ => "not decidable",
    }
    .to_owned();
    let configuration = word(ratio, "name")?.split('/').nth(1).unwrap_or_default();
    let used = e2e_record::medians(&run.record, configuration).and_then(CoreUse::of);
    let used = used.map_or(String::new(), |it| format!(", with {} of the core used{}", it.percent(), it.mark()));
    let figure = format!("{mean:.2} ({low:.2} to {high:.2}){used}");
    Ok(Evidence::of(run, figure, format!("{:.0} %", number(ratio, "spread_percent")?), verdict))
}

/// What tests count, by `bench counts`.
fn counted_rows() -> Result<Vec<Row>> {
    const COMMAND: &str = "cargo xtask bench counts";
    let newest = RunFile::all(COUNTS.0, COUNTS.1)?.into_iter().next();
    let row = |what, goal: &str, names: &[&str], unit: &str| {
        let evidence = newest.as_ref().and_then(|run| counted(run, names, unit));
        Row { what, goal: goal.to_owned(), evidence, command: COMMAND }
    };
    Ok(vec![
        row(
            "memory of a handshake, typical: what it holds between two datagrams",
            "<= 4 KiB",
            &["handshake_bytes_between_datagrams"],
            " B",
        ),
        row(
            "memory of a handshake at worst: all that a proven peer can make it hold",
            "<= 48 KiB",
            &["handshake_bytes_at_worst", "handshake_bytes_at_worst_in_the_pool", "handshake_bytes_within_a_datagram"],
            " B",
        ),
        row(
            "memory before the cookie: allocations of 1,000,000 hellos",
            "0",
            &["allocations_of_a_million_cookieless_hellos"],
            "",
        ),
        row(
            "entries that 1,000,000 hellos without a cookie leave: sessions, handshakes, timers, events",
            "0",
            &["entries_of_a_million_cookieless_hellos"],
            "",
        ),
        row(
            "allocations per datagram once a session is established",
            "0",
            &["allocations_of_600_datagrams_of_established_sessions"],
            "",
        ),
    ])
}

/// The highest of these counts; `None` where the run lacks one, because its tests did not count it yet. Each has its own bound.
fn counted(run: &RunFile, names: &[&str], unit: &str) -> Option<Evidence> {
    let counts = &run.record["counts"];
    let mut most: f64 = 0.0;
    let mut holds = true;
    for (name, bound) in PROMISED.iter().filter(|(name, _)| names.contains(name)) {
        let count = counts[*name].as_f64()?;
        // Counts of memory of one handshake.
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        let bound = *bound as f64;
        holds &= count <= bound;
        most = most.max(count);
    }
    let verdict = if holds { "holds" } else { "missed" }.to_owned();
    Some(Evidence::of(run, format!("{most:.0}{unit}"), "counted".to_owned(), verdict))
}

/// What a second shard costs each datagram, by `bench shards`.
fn shard_rows() -> Result<Vec<Row>> {
    let newest = RunFile::all(SHARDS.0, SHARDS.1)?.into_iter().next();
    Ok(vec![Row {
        what: "for each datagram with two shards instead of one: cache lines written that both use, atomic exchanges (no lock is taken without one), wakes of a shard / of the pool",
        goal: "none more".to_owned(),
        evidence: newest.as_ref().map(second_shard).transpose()?,
        command: "cargo xtask bench shards",
    }])
}

fn second_shard(run: &RunFile) -> Result<Evidence> {
    let words = |costs: &Value| -> Result<String> {
        let of = |key: &str| number(costs, key).map(rounded);
        Ok(format!(
            "{}, {}, {} / {}",
            of("shared_lines_written_per_datagram")?,
            of("exchanges_per_datagram")?,
            of("wakes_of_a_poll_per_datagram")?,
            of("wakes_of_the_pool_per_datagram")?
        ))
    };
    let figure = format!("{}; with one {}", words(&run.record["two_shards"])?, words(&run.record["one_shard"])?);
    let verdict = if run.record["holds"] == true { "holds" } else { "missed" }.to_owned();
    Ok(Evidence::of(run, figure, "counted".to_owned(), verdict))
}

/// The goodput of `bench overload`.
fn overload_rows() -> Result<Vec<Row>> {
    const COMMAND: &str = "cargo xtask bench overload";
    let newest = RunFile::all(OVERLOAD.0, OVERLOAD.1)?.into_iter().next();
    let settled = |what, multiple: f64| -> Result<Row> {
        let evidence = newest.as_ref().map(|run| goodput(run, multiple)).transpose()?.flatten();
        let goal = ">= 90 % of the peak after the first two seconds, none cut off, back within 5 s".to_owned();
        Ok(Row { what, goal, evidence, command: COMMAND })
    };
    let whole = |what, multiple: f64| -> Result<Row> {
        let evidence = newest.as_ref().map(|run| goodput_of_all(run, multiple)).transpose()?.flatten();
        Ok(Row { what, goal: ">= 90 % of the peak".to_owned(), evidence, command: COMMAND })
    };
    Ok(vec![
        settled("goodput when twice the peak is offered: the median second after the first two", 2.0)?,
        whole("the same over the whole load, its first two seconds included", 2.0)?,
        settled("goodput when four times the peak is offered: the median second after the first two", 4.0)?,
        whole("the same over the whole load, its first two seconds included", 4.0)?,
    ])
}

/// The mean of all seconds of each load that is not void. The first records do not have it.
fn goodput_of_all(run: &RunFile, multiple: f64) -> Result<Option<Evidence>> {
    let place = list(&run.record, "summary")?.iter().position(|it| it["multiple"].as_f64() == Some(multiple));
    let Some(place) = place else { return Ok(None) };
    let loads = list(&run.record, "rounds")?.iter().map(|round| &round["loads"][place]);
    let whole = loads.filter(|load| load["void"] != true).filter_map(|load| load["whole_of_peak"].as_f64());
    let samples: Vec<f64> = whole.collect();
    Ok(GOODPUT.evidence(run, &samples))
}

fn goodput(run: &RunFile, multiple: f64) -> Result<Option<Evidence>> {
    let summaries = list(&run.record, "summary")?;
    let Some(summary) = summaries.iter().find(|it| it["multiple"].as_f64() == Some(multiple)) else { return Ok(None) };
    let [of_peak, least, most] = [number(summary, "of_peak")?, number(summary, "least")?, number(summary, "most")?];
    let (cut_off, back) = (number(summary, "cut_off")?, summary["back_within_5_s"] == true);
    let rounds = list(&run.record, "rounds").map_or(0, Vec::len);
    let void = summary["void_runs"].as_u64().map_or(0, |void| usize::try_from(void).unwrap_or(usize::MAX));
    let decides = rounds.saturating_sub(void) >= ROUNDS_MIN;
    let verdict = if cut_off > 0.0 || !back || (decides && most < GOODPUT_MIN) {
        "missed".to_owned()
    } else if decides && least >= GOODPUT_MIN {
        "holds".to_owned()
    } else if void > 0 && !decides {
        format!("void in {void} of {rounds} rounds")
    } else {
        "not decidable".to_owned()
    };
    let back = if back { "back" } else { "not back" };
    let figure = format!("{:.0} %, {cut_off} cut off, {back}", of_peak * 100.0);
    Ok(Some(Evidence::of(run, figure, format!("{:.0} to {:.0} %", least * 100.0, most * 100.0), verdict)))
}

/// The goodput of the simulator's model of a server that takes as long as a real one.
fn simulated_row() -> Result<Row> {
    let newest = SimulatedOverload::committed(10)?;
    let evidence = newest.map(|it| Evidence {
        figure: format!(
            "{:.0} % of the peak, {:.0} % of what refusing leaves; {} cut off; p99 of a handshake {:.1} s, of an enrolment {:.1} s",
            it.of_peak_percent, it.of_left_percent, it.cut_off, it.handshake_p99_s, it.total_p99_s
        ),
        spread: "virtual time".to_owned(),
        verdict: if it.holds() { "holds" } else { "missed" }.to_owned(),
        run: SIMULATED_RESULTS.to_owned(),
        command: None,
    });
    Ok(Row {
        what: "ten times the peak offered, in the simulator with measured service times",
        goal: "none cut off, >= 90 % of what refusing leaves of the core, a handshake within 1 s".to_owned(),
        evidence,
        command: "cargo xtask simulate --overload",
    })
}

/// What `bench service` says of hellos that lead to nothing.
fn hello_rows() -> Result<Vec<Row>> {
    // The first of these has one round, without a list of rounds.
    let newest = RunFile::all(SERVICE.0, SERVICE.1)?.into_iter().next();
    let newest = newest.map_or_else(
        || Ok(RunFile::all(SERVICE.0, SERVICE_OF_ONE_ROUND)?.into_iter().next()),
        |it| anyhow::Ok(Some(it)),
    )?;
    let row = |what, goal: &str, judged: &JudgedRounds| {
        let evidence = newest.as_ref().and_then(|run| judged.evidence(run));
        Row { what, goal: goal.to_owned(), evidence, command: "cargo xtask bench service" }
    };
    let goodput = |value| JudgedRounds::new(value, |share| format!("{:.1} %", share * 100.0), Bound::AtLeast(0.7));
    Ok(vec![
        row(
            "CPU of a hello without a cookie, with its answer",
            "<= 4 us",
            &JudgedRounds::new(
                |round| round["times"]["cookieless_us"].as_f64(),
                |us| format!("{us:.2} us"),
                Bound::AtMost(4.0),
            ),
        ),
        row(
            "memory that 1,000,000 of them take",
            "<= 4 MiB",
            &JudgedRounds::new(
                |round| round["cookieless_memory_growth_kib"].as_f64(),
                |kib| format!("{kib:.0} KiB"),
                Bound::AtMost(4096.0),
            ),
        ),
        row(
            "goodput of honest devices while such hellos take a quarter of the core, by the clock: what the promise means",
            ">= 70 % of the peak",
            &goodput(|round| of_junk(round, "of_peak")),
        ),
        row(
            "the same for each second of the server's CPU: what the clock would say if the server had the core alone",
            "beside it",
            &goodput(|round| of_junk(round, "of_peak_by_cpu")),
        ),
    ])
}

/// `None` of a round whose hellos were not all sent.
fn of_junk(round: &Value, key: &str) -> Option<f64> {
    let junk = &round["junk"];
    if junk["void"] == true { None } else { junk[key].as_f64() }
}

/// A value of each round, and what is promised of it.
struct JudgedRounds {
    value: fn(&Value) -> Option<f64>,
    judged: JudgedSamples,
}

/// What is promised of samples, one of each round.
struct JudgedSamples {
    shown: fn(f64) -> String,
    bound: Bound,
}

/// What is promised of goodput under overload.
const GOODPUT: JudgedSamples =
    JudgedSamples { shown: |share| format!("{:.0} %", share * 100.0), bound: Bound::AtLeast(GOODPUT_MIN) };

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl JudgedRounds {
    fn new(value: fn(&Value) -> Option<f64>, shown: fn(f64) -> String, bound: Bound) -> Self {
        Self { value, judged: JudgedSamples { shown, bound } }
    }

    /// `None` where no round has the value.
    fn evidence(&self, run: &RunFile) -> Option<Evidence> {
        let rounds = run.record["rounds"].as_array().map_or_else(|| std::slice::from_ref(&run.record), Vec::as_slice);
        let samples: Vec<f64> = rounds.iter().filter_map(self.value).collect();
        self.judged.evidence(run, &samples)
    }
}

impl JudgedSamples {
    /// The median with its least and most; `None` where there are no samples.
    fn evidence(&self, run: &RunFile, samples: &[f64]) -> Option<Evidence> {
        if samples.is_empty() {
            return None;
        }
        let [least, most] = ends(samples);
        let (all, none) = match self.bound {
            Bound::AtMost(bound) => (most <= bound, least > bound),
            Bound::AtLeast(bound) => (least >= bound, most < bound),
        };
        let verdict = match samples.len() {
            rounds if rounds < ROUNDS_MIN => "not decidable",
            _ if all => "holds",
            _ if none => "missed",
            _ => "not decidable",
        };
        let rounds = if samples.len() == 1 { "one round".to_owned() } else { format!("{} rounds", samples.len()) };
        let spread = format!("{} to {}, {rounds}", (self.shown)(least), (self.shown)(most));
        Some(Evidence::of(run, (self.shown)(median(samples.iter().copied())), spread, verdict.to_owned()))
    }
}

fn ends(samples: &[f64]) -> [f64; 2] {
    [samples.iter().copied().fold(f64::INFINITY, f64::min), samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)]
}

/// Two digits behind the point where they say something.
fn rounded(value: f64) -> String {
    if value.abs() < 20.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(record: Value) -> RunFile {
        RunFile { path: "benches/runs/x.json".to_owned(), record }
    }

    #[test]
    fn goodput_below_the_goal_or_a_device_cut_off_is_missed() {
        let with_void = |rounds: usize, [least, most]: [f64; 2], cut_off: u32, void: u32| {
            run(serde_json::json!({ "rounds": vec![0; rounds], "summary": [{
                "multiple": 2.0, "of_peak": 0.92, "least": least, "most": most, "void_runs": void, "cut_off": cut_off,
                "back_within_5_s": true,
            }] }))
        };
        let summary = |rounds, ends, cut_off| with_void(rounds, ends, cut_off, 0);
        let verdict = |run: &RunFile| goodput(run, 2.0).unwrap().map(|it| it.verdict);
        assert_eq!(verdict(&summary(3, [0.91, 0.97], 0)).as_deref(), Some("holds"));
        assert_eq!(verdict(&summary(3, [0.85, 0.89], 0)).as_deref(), Some("missed"));
        assert_eq!(verdict(&summary(3, [0.91, 0.97], 1)).as_deref(), Some("missed"));
        assert_eq!(verdict(&summary(3, [0.88, 0.97], 0)).as_deref(), Some("not decidable"), "the rounds disagree");
        assert_eq!(verdict(&summary(1, [0.92, 0.92], 0)).as_deref(), Some("not decidable"), "one round has no spread");
        let void = |rounds, ends| verdict(&with_void(rounds, ends, 0, 1));
        assert_eq!(void(3, [0.91, 0.97]).as_deref(), Some("void in 1 of 3 rounds"), "two rounds decide nothing");
        assert_eq!(void(4, [0.91, 0.97]).as_deref(), Some("holds"), "three rounds do");
        assert_eq!(verdict(&with_void(3, [0.91, 0.97], 1, 1)).as_deref(), Some("missed"), "whatever was offered");
        assert!(goodput(&summary(3, [0.91, 0.97], 0), 4.0).unwrap().is_none());
    }

    #[test]
    fn goodput_over_the_whole_load_is_decided_beside_that_after_the_first_two_seconds() {
        let round =
            |whole: f64, void: bool| serde_json::json!({ "loads": [{}, { "whole_of_peak": whole, "void": void }] });
        let summary = serde_json::json!([{ "multiple": 1.0 }, { "multiple": 2.0 }]);
        let of = |rounds: &[Value]| {
            let record = serde_json::json!({ "summary": summary, "rounds": rounds });
            goodput_of_all(&run(record), 2.0).unwrap().map(|it| [it.figure, it.spread, it.verdict])
        };
        let missed = of(&[round(0.86, false), round(0.88, false), round(0.87, false)]).unwrap();
        assert_eq!(missed, ["87 %", "86 % to 88 %, 3 rounds", "missed"]);
        let void = of(&[round(0.95, false), round(0.94, false), round(0.3, true)]).unwrap();
        assert_eq!(void, ["94 %", "94 % to 95 %, 2 rounds", "not decidable"], "a void load does not count");
        let older = serde_json::json!({ "loads": [{}, {}] });
        assert!(of(&[older]).is_none(), "the first records do not have it");
        assert!(goodput_of_all(&run(serde_json::json!({ "summary": [], "rounds": [] })), 2.0).unwrap().is_none());
    }

    #[test]
    fn fewer_than_three_rounds_decide_nothing_and_neither_do_rounds_that_disagree() {
        let shown = |share| format!("{:.0} %", share * 100.0);
        let judged = JudgedRounds::new(|round| of_junk(round, "of_peak"), shown, Bound::AtLeast(0.7));
        let round = |of_peak: f64| serde_json::json!({ "junk": { "of_peak": of_peak, "void": false } });
        let of = |rounds: &[Value]| judged.evidence(&run(serde_json::json!({ "rounds": rounds }))).unwrap();
        let [low, middle, high] = [0.6, 0.71, 0.75].map(round);
        let held = of(&[high.clone(), middle.clone(), high.clone()]);
        assert_eq!([held.verdict, held.figure, held.spread], ["holds", "75 %", "71 % to 75 %, 3 rounds"]);
        assert_eq!(of(&[low.clone(), middle.clone(), high.clone()]).verdict, "not decidable");
        assert_eq!(of(&[low.clone(), low.clone(), low]).verdict, "missed");
        assert_eq!(of(&[high.clone(), high.clone()]).verdict, "not decidable");
        let void = serde_json::json!({ "junk": { "of_peak": 0.2, "void": true } });
        assert_eq!(of(&[high.clone(), high.clone(), void]).verdict, "not decidable", "a void round does not count");
        let single = judged.evidence(&run(high)).unwrap();
        assert_eq!([single.verdict, single.spread], ["not decidable", "75 % to 75 %, one round"]);
    }

    #[test]
    fn a_row_has_the_command_of_its_record_with_its_options() {
        let row = |record: Value| {
            let evidence = Some(Evidence::of(&run(record), "1 B".into(), String::new(), "holds".into()));
            written(vec![Row { what: "memory", goal: "<= 2 B".into(), evidence, command: "cargo xtask bench x" }])
                .unwrap()
        };
        let with = row(serde_json::json!({ "command": "cargo xtask bench x --devices 300" }));
        assert!(with.contains("| `x.json` | `cargo xtask bench x --devices 300` |"), "{with}");
        assert!(row(serde_json::json!({})).contains("| `cargo xtask bench x` |"));
    }

    #[test]
    fn a_ratio_says_how_much_of_the_core_was_used_for_it() {
        let ratio = serde_json::json!({
            "name": "ratio_to_floor/ccm8_512.memory.closing.openssl", "spread_percent": 4.0,
            "interval": { "mean": 1.5, "low": 1.48, "high": 1.52 }, "promise": { "at_most": 1.4, "decision": "missed" },
        });
        let medians = serde_json::json!({ "suite": "ccm8", "block": 512, "ledger": "memory", "leaving": "closing",
                                          "pace": "openssl", "enrolled_per_second": 1_000.0, "server_cpu_us": 400.0 });
        let evidence = |medians: &[&Value]| of_ratio(&run(serde_json::json!({ "medians": medians })), &ratio).unwrap();
        assert_eq!(evidence(&[&medians]).figure, "1.50 (1.48 to 1.52), with 40 % of the core used");
        assert_eq!(evidence(&[]).figure, "1.50 (1.48 to 1.52)");
    }

    #[test]
    fn a_promise_without_a_run_keeps_its_row() {
        let rows = sessions::loopback_rows(&[run(serde_json::json!({ "loopback": null }))]);
        assert!(rows.iter().all(|row| row.evidence.is_none() && !row.goal.is_empty()));
        let written = written(rows.into());
        assert_eq!(written.unwrap().matches("| not measured | |").count(), 3);
        assert!(counted(&run(serde_json::json!({ "counts": {} })), &[PROMISED[0].0], "").is_none());
    }
}
