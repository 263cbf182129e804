//! `cargo xtask bench scale`: sessions by the hundred thousand through the real handshake code, in one process and over loopback.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::e2e::{Bench, CpuTime, LedgerFiles, pinned, resident_kib};
use super::facts::TimingFacts;
use super::figures::{Figures, measured};
use super::released::ReleasedServer;
use super::run_file::RunFile;
use crate::dashboards::http;
use crate::process::MEASURED_THE_GENERATOR;
use crate::{cargo, tree};

#[derive(Args)]
pub(crate) struct ScaleOptions {
    /// Numbers of idle sessions in one process; 1,000,000 take a quarter of an hour
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000, 1_000_000])]
    sessions: Vec<u32>,
    /// Rounds at each number of sessions, and over loopback [default: 3, and 1 where there are more than 100,000 sessions]. A round measures a number of
    /// sessions twice, once for each end, and takes five minutes over loopback. Fewer than three samples decide no promise
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: Option<u32>,
    /// Enrolments that are measured at each number
    #[arg(long, default_value_t = 20_000)]
    enrolments: u32,
    /// Devices that enrol over loopback and vanish; 0 leaves that out
    #[arg(long, default_value_t = 20_000)]
    loopback: u32,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The rounds where nobody says how many, up to this number of sessions. Above there is one: a million take a quarter of an hour.
const ROUNDS: u32 = 3;
const SESSIONS_OF_ROUNDS: u32 = 100_000;
/// The rows that the ledger keeps while sessions are measured: a session does not hold its row.
const FEW_ROWS: u32 = 64;
/// The seeds of the fleets over loopback.
const FIRST_FLEET: &str = "2";
const SECOND_FLEET: &str = "3";
const TIMEOUT: Duration = Duration::from_secs(3 * 3600);
/// What an enrolment leaves is kept for EXCHANGE_LIFETIME; the rest is for the server's timers. An idle session ends after 300 s, and those of the second fleet
/// must come before.
const UNTIL_IDLE: Duration = Duration::from_secs(247 + 5);

#[derive(Serialize)]
struct ScaleRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: String,
    /// For `bench record`.
    figures: Figures,
    /// As `benches/programs/src/bin/scale.rs` prints them, with the number of the round: one for each end.
    in_process: Vec<Value>,
    /// What a ledger in memory holds for each certificate, beside the sessions.
    ledger_row_bytes: f64,
    /// One for each round.
    loopback: Vec<Loopback>,
}

/// A server as a process, and two fleets of as many devices each that enrol and vanish.
///
/// What a process has resident does not fall when its sessions become idle: what they had beside their idle form is free again, between sessions that stay, and
/// the C library keeps it for the next. So an idle session is measured by the second fleet: its transient memory is that of the first, used again, and what the
/// process grows by is what the sessions of the first still hold.
#[derive(Serialize)]
struct Loopback {
    devices: u32,
    server_cpu_us_per_enrolment: f64,
    /// What the first enrolment of a device leaves behind when its session is closed: the row of the ledger in memory, and the certificate in the cache.
    bytes_of_ledger_and_cache: f64,
    /// What the server has resident for each session of devices that it knows, soon after the last enrolment.
    bytes_within_247_s: f64,
    /// The same when all are idle: what they still hold and what is free for others.
    bytes_resident_when_idle: f64,
    /// What the server grows by for each session of the second fleet beside the first one, which is idle.
    bytes_idle_beside_others: f64,
}

impl ScaleOptions {
    fn rounds_at(&self, sessions: u32) -> u32 {
        self.rounds.unwrap_or(if sessions <= SESSIONS_OF_ROUNDS { ROUNDS } else { 1 })
    }

    fn rounds_over_loopback(&self) -> u32 {
        if self.loopback > 0 { self.rounds.unwrap_or(ROUNDS) } else { 0 }
    }

    /// The numbers of sessions of each round.
    fn plan(&self) -> Vec<(u32, Vec<u32>)> {
        let rounds = self.sessions.iter().map(|sessions| self.rounds_at(*sessions)).max().unwrap_or_default();
        let of = |round: u32| self.sessions.iter().copied().filter(|it| round <= self.rounds_at(*it)).collect();
        (1..=rounds).map(|round| (round, of(round))).collect()
    }

    fn command(&self) -> String {
        let list = self.sessions.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let rounds = self.rounds.map_or_else(String::new, |rounds| format!(" --rounds {rounds}"));
        let Self { enrolments, loopback, .. } = self;
        format!("cargo xtask bench scale --sessions {list}{rounds} --enrolments {enrolments} --loopback {loopback}")
    }
}

pub(super) fn run(options: &ScaleOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let program = ScaleProgram::build(options.enrolments)?;
    let mut in_process = Vec::new();
    for (round, levels) in options.plan() {
        for sessions in levels {
            in_process.extend(program.both_ends(sessions, round)?);
        }
    }
    let with_rows = program.measure(0, options.sessions[0], "expiry", 2 * options.enrolments.max(FEW_ROWS))?;
    let within = |level: &Value| level["within_247_s_bytes"].as_f64().unwrap_or_default();
    let ledger_row_bytes = within(&with_rows) - within(&in_process[0]);
    println!("   a row of the ledger in memory, its certificate included: {ledger_row_bytes:.0} bytes");
    let rounds = 1..=options.rounds_over_loopback();
    let loopback = rounds.map(|_| over_loopback(options.loopback)).collect::<Result<Vec<_>>>()?;
    let record = ScaleRecord {
        schema: "muster-scale/2",
        command: options.command(),
        figures: figures(&in_process, &loopback),
        in_process,
        ledger_row_bytes,
        loopback,
        facts,
    };
    RunFile::write("scale", &record.facts.at, options.json.as_deref(), &record)
}

/// `benches/programs/src/bin/scale.rs`.
struct ScaleProgram {
    path: PathBuf,
    enrolments: u32,
}

impl ScaleProgram {
    fn build(enrolments: u32) -> Result<Self> {
        cargo::cargo("build --quiet --release --locked --package programs --bin scale").stream()?;
        Ok(Self { path: tree::target().join("release/scale"), enrolments })
    }

    fn measure(&self, core: usize, sessions: u32, end: &str, rows: u32) -> Result<Value> {
        let scale = pinned(core, &self.path).arg(sessions.to_string()).arg(self.enrolments.to_string());
        let (status, printed) = scale.arg(end).arg(rows.to_string()).timeout(TIMEOUT).stdout()?;
        ensure!(status.success(), "scale ended with {status}");
        serde_json::from_str(&printed).with_context(|| format!("scale printed {printed}"))
    }

    /// Both ends at once, each on a core of its own: a million sessions take many minutes.
    fn both_ends(&self, sessions: u32, round: u32) -> Result<[Value; 2]> {
        let (drain, expiry) = std::thread::scope(|scope| {
            let expiry = scope.spawn(|| self.measure(0, sessions, "expiry", FEW_ROWS));
            (self.measure(1, sessions, "drain", FEW_ROWS), expiry.join())
        });
        let expiry = expiry.map_err(|_| anyhow!("the thread that waits for scale panicked"))?;
        let mut ends = [expiry?, drain?];
        for measured in &mut ends {
            measured["round"] = round.into();
            print(measured);
        }
        Ok(ends)
    }
}

fn over_loopback(devices: u32) -> Result<Loopback> {
    let it = loopback(devices)?;
    println!(
        "   {} over loopback: {:.0} us of CPU an enrolment; {:.0} bytes a session within 247 s, {:.0} idle (resident with what is free again: {:.0}), \
         {:.0} of ledger and cache",
        it.devices,
        it.server_cpu_us_per_enrolment,
        it.bytes_within_247_s,
        it.bytes_idle_beside_others,
        it.bytes_resident_when_idle,
        it.bytes_of_ledger_and_cache
    );
    Ok(it)
}

fn loopback(devices: u32) -> Result<Loopback> {
    let bench = Bench::build()?;
    let ReleasedServer { daemon: server, uri, metrics } = bench.serve(&LedgerFiles { folder: None })?;
    let id = server.process_id();
    let load = |devices: u32, seed: &str, vanish: &str| {
        let load = pinned(1, &bench.muster).args(["load", "--server", &uri, "--vanish", vanish, "--seed", seed]);
        let load = load.arg("--pki").arg(bench.folder.join("pki")).arg("--devices").arg(devices.to_string());
        // From the cache the requests are the same, byte for byte.
        let load = load.arg("--cache").arg(bench.folder.join("identities"));
        // Memory and CPU of the server are measured, which a fleet without reserves leaves as they are.
        let ended = load.timeout(TIMEOUT).expect_status(&[0, MEASURED_THE_GENERATOR])?;
        ensure!(ended.words().contains(&format!("{devices} of {devices} devices enrolled")), "{}", ended.words());
        anyhow::Ok(())
    };
    // Tables and threads have their sizes before memory is first looked at.
    load(100, "1", "0%")?;
    let (empty, cpu) = (resident_kib(id), CpuTime::of(id)?);
    // The devices of one seed are the same ones each time: the second time, the ledger and the cache of certificates have them.
    load(devices, FIRST_FLEET, "0%")?;
    let cpu = CpuTime::of(id)?.since(&cpu);
    load(devices, SECOND_FLEET, "0%")?;
    let before = resident_kib(id);
    load(devices, FIRST_FLEET, "100%")?;
    let within = resident_kib(id);
    std::thread::sleep(UNTIL_IDLE);
    let idle = resident_kib(id);
    load(devices, SECOND_FLEET, "100%")?;
    let with_second = resident_kib(id);
    let present = established(&http::get(metrics, "/metrics")?);
    drop(server.stop()?);
    ensure!(before > 0.0 && with_second > 0.0, "the kernel does not say what the server has resident");
    let expected = 2.0 * f64::from(devices);
    ensure!(
        present >= expected,
        "{present} of {expected} sessions are present: the fleets took too long, and the first ones ended"
    );
    let each = |kib: f64| kib * 1024.0 / f64::from(devices);
    Ok(Loopback {
        devices,
        server_cpu_us_per_enrolment: Duration::from_nanos(cpu.nanoseconds()).as_secs_f64() * 1e6 / f64::from(devices),
        bytes_of_ledger_and_cache: each(before - empty) / 2.0,
        bytes_within_247_s: each(within - before),
        bytes_resident_when_idle: each(idle - before),
        bytes_idle_beside_others: each(with_second - idle),
    })
}

/// The sessions that the page of metrics counts, of all shards.
fn established(page: &str) -> f64 {
    let of_state = |line: &&str| line.starts_with("muster_sessions{") && line.contains("state=\"established\"");
    page.lines().filter(of_state).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Sizes and growth; the microseconds depend on the machine, their growth with the sessions does not. Each number of sessions is measured once for each
/// end in a round, and the noise is that of these samples.
fn figures(in_process: &[Value], loopback: &[Loopback]) -> Figures {
    let mut samples: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let of = |level: &Value, key: &str| level[key].as_f64().unwrap_or_default();
    let mut insert = |name: String, value: f64| samples.entry(name).or_default().push(value);
    for level in in_process {
        let sessions = &level["sessions"];
        insert(format!("session_bytes/idle.{sessions}"), of(level, "idle_bytes_per_session"));
        insert(format!("session_bytes/within_247_s.{sessions}"), of(level, "within_247_s_bytes"));
        // The first number of sessions is what the others are compared with.
        let is_beside = |first: &&Value| first["round"] == level["round"] && first["end"]["how"] == level["end"]["how"];
        let first = in_process.iter().find(is_beside).unwrap_or(level);
        if first["sessions"] != level["sessions"] {
            let growth = of(level, "enrolment_cpu_us") / of(first, "enrolment_cpu_us");
            insert(format!("enrolment_cpu_growth/{sessions}"), growth);
        }
    }
    for it in loopback {
        insert("session_bytes/idle.loopback".to_owned(), it.bytes_idle_beside_others);
        insert("session_bytes/within_247_s.loopback".to_owned(), it.bytes_within_247_s);
    }
    samples.into_iter().filter_map(|(name, samples)| Some((name, measured(&samples)?))).collect()
}

fn print(measured: &Value) {
    let of = |value: &Value, key: &str| value[key].as_f64().unwrap_or_default();
    let end = &measured["end"];
    println!(
        "   {} sessions: {:.0} bytes each idle, {:.0} within 247 s of an enrolment; CPU of the engines {:.0} us a handshake, {:.0} us an enrolment \
         without its issuing and without the kernel; {} of {}: {} turns, longest {:.0} us, memory {:+.1} %",
        measured["sessions"],
        of(measured, "idle_bytes_per_session"),
        of(measured, "within_247_s_bytes"),
        of(measured, "handshake_cpu_us"),
        of(measured, "enrolment_cpu_us"),
        end["how"].as_str().unwrap_or_default(),
        end["sessions"],
        end["turns"],
        of(end, "longest_turn_us"),
        of(end, "resident_growth_percent"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_over_the_shards_and_only_those_that_are_established() {
        let page = "muster_sessions{shard=\"0\",state=\"established\"} 20\nmuster_sessions{shard=\"1\",state=\"established\"} 22\n\
                    muster_sessions{shard=\"0\",state=\"half_open\"} 7\nmuster_sessions_max{state=\"established\"} 1000\n";
        assert!((established(page) - 42.0).abs() < 1e-9);
    }

    #[test]
    fn growth_is_that_over_the_fewest_sessions_of_the_same_end_and_the_noise_that_of_both_ends() {
        let level = |sessions: u32, how: &str, cpu: f64, within: f64| {
            serde_json::json!({ "sessions": sessions, "within_247_s_bytes": within, "idle_bytes_per_session": 300.0,
                                "enrolment_cpu_us": cpu, "end": { "how": how }, "round": 1 })
        };
        let measured = [
            level(1_000, "expiry", 200.0, 1500.0),
            level(1_000, "drain", 100.0, 1500.0),
            level(100_000, "expiry", 210.0, 1500.0),
            level(100_000, "drain", 107.0, 1520.0),
        ];
        let found = figures(&measured, &[]);
        let growth = found["enrolment_cpu_growth/100000"];
        // Two samples: Student's quantile for one degree of freedom, times half of their distance.
        assert!((growth.value - 1.06).abs() < 1e-9 && (growth.noise - 12.706 * 0.01).abs() < 1e-9, "{growth:?}");
        assert!(!found.contains_key("enrolment_cpu_growth/1000"), "it is one by definition");
        let within = found["session_bytes/within_247_s.100000"];
        assert!((within.value - 1510.0).abs() < 1e-9 && (within.noise - 127.06).abs() < 1e-9, "{within:?}");
        assert!(found["session_bytes/idle.1000"].noise < 1e-9, "both ends agree");
        assert!(figures(&measured[..1], &[]).is_empty(), "one end has no noise");
        let mut second = measured[2..].to_vec();
        second.iter_mut().for_each(|level| level["round"] = 2.into());
        second.insert(0, level(1_000, "drain", 107.0, 1500.0));
        second[0]["round"] = 2.into();
        let with_second = figures(&[&measured[..], &second].concat(), &[])["enrolment_cpu_growth/100000"];
        assert!((with_second.value - (1.05 + 1.07 + 1.0) / 3.0).abs() < 1e-9, "each round by itself: {with_second:?}");
    }

    #[test]
    fn rounds_over_loopback_are_figures_with_their_noise() {
        let round = |bytes: f64| Loopback {
            devices: 20_000,
            server_cpu_us_per_enrolment: 300.0,
            bytes_of_ledger_and_cache: 900.0,
            bytes_within_247_s: 1_197.0,
            bytes_resident_when_idle: 1_197.0,
            bytes_idle_beside_others: bytes,
        };
        let found = figures(&[], &[round(249.0), round(251.0), round(250.0)]);
        assert!((found["session_bytes/idle.loopback"].value - 250.0).abs() < 1e-9);
        assert!(found["session_bytes/within_247_s.loopback"].noise < 1e-9);
        assert!(figures(&[], &[round(249.0)]).is_empty());
    }

    fn options(line: &str) -> ScaleOptions {
        let command = <ScaleOptions as Args>::augment_args(clap::Command::new("scale"));
        let matches = command.get_matches_from(std::iter::once("scale").chain(line.split_whitespace()));
        <ScaleOptions as clap::FromArgMatches>::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn what_takes_minutes_is_measured_three_times_and_a_million_once_unless_rounds_are_asked_for() {
        let default = options("");
        assert_eq!(
            default.plan(),
            [(1, vec![1_000, 100_000, 1_000_000]), (2, vec![1_000, 100_000]), (3, vec![1_000, 100_000])]
        );
        assert_eq!(default.rounds_over_loopback(), 3);
        let asked = options("--sessions 1000,1000000 --rounds 2");
        assert_eq!(asked.plan(), [(1, vec![1_000, 1_000_000]), (2, vec![1_000, 1_000_000])]);
        assert_eq!(asked.rounds_over_loopback(), 2);
        assert!(asked.command().contains(" --sessions 1000,1000000 --rounds 2 --enrolments 20000"));
        assert_eq!(options("--loopback 0").rounds_over_loopback(), 0);
    }
}
