//! The result of a run, as a table for people and as JSON for programs.
//!
//! The JSON is one object, schema `muster-load/1`. Times are microseconds unless the name says otherwise; sizes are bytes of UDP
//! payload; fields are only ever added.
//!
//! ```text
//! schema               "muster-load/1"
//! server               "coaps://127.0.0.1:5684"
//! devices              devices of the run
//! enrolled, failed     devices that hold a certificate; devices that gave up
//! renewed              devices among the enrolled that also renewed
//! vanished             devices among the enrolled that went away without close_notify
//! later_answers        answers 5.03 and 4.29
//! repeated_attempts    attempts that failed and were repeated by the same device
//! seconds              length of the run
//! enrolled_per_second  enrolled / seconds
//! arrivals             {"mode": "rate", "per_second": N} or {"mode": "concurrency", "devices": N}
//! schedule             {"asked_per_second", "offered_per_second", "offered_share", "void"}, or null in closed loop: void if less than
//!                      98 % of the rate was offered: no figure of such a run describes the server at that rate
//! block, suite, seed   block size in bytes, IANA name of the suite, seed
//! stages               [{"stage", "count", "p50_us", "p90_us", "p99_us", "max_us"}]: handshake, crts, enrol, skg, renew,
//!                      total; handshake counts the sessions of renewals too
//! errors               [{"stage", "reason", "count"}]: failed attempts, repeated ones included
//! traffic              {"datagrams_sent", "bytes_sent", "datagrams_received", "bytes_received"}
//! generator            {"cpu_seconds", "send_lag": {"count", "p50_us", ..}, "stray_datagrams"}: its one thread, user and system together
//! link                 {"lost", "repeated"}, or null without a lossy link
//! ```

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::schedule::{Arrivals, LastStart};
use crate::stats::{MeasuredStage, Percentiles, Stats};

/// The report of a finished run.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// `muster-load/1`.
    pub schema: &'static str,
    /// The server's URI.
    pub server: String,
    /// Devices of the run.
    pub devices: u64,
    /// Devices that hold a certificate.
    pub enrolled: u64,
    /// Devices among the enrolled that also renewed.
    pub renewed: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// Devices among the enrolled that went away without close_notify.
    pub vanished: u64,
    /// Answers 5.03 and 4.29.
    pub later_answers: u64,
    /// Attempts that failed and were repeated.
    pub repeated_attempts: u64,
    /// Length of the run.
    pub seconds: f64,
    /// `enrolled / seconds`.
    pub enrolled_per_second: f64,
    /// How the devices arrived.
    pub arrivals: ArrivalsRow,
    /// Whether they arrived at the requested rate; `None` in closed loop, which has no rate.
    pub schedule: Option<ScheduleRow>,
    /// Block size in bytes.
    pub block: u16,
    /// IANA name of the suite offered.
    pub suite: String,
    /// The seed that replays the fleet.
    pub seed: u64,
    /// Latency by stage.
    pub stages: Vec<StageRow>,
    /// Failed attempts by stage and reason.
    pub errors: Vec<ErrorRow>,
    /// Datagrams and bytes.
    pub traffic: TrafficRow,
    /// The cost of the generator itself.
    pub generator: GeneratorRow,
    /// The counts of the lossy link, if there was one.
    pub link: Option<LinkRow>,
}

/// The parameters and circumstances of a run, for the report.
#[derive(Debug, Clone)]
pub(crate) struct RunFacts {
    /// The server's URI.
    pub(crate) server: String,
    /// Devices of the run.
    pub(crate) devices: usize,
    /// How they arrived.
    pub(crate) arrivals: Arrivals,
    /// Block size in bytes.
    pub(crate) block: u16,
    /// IANA name of the suite offered.
    pub(crate) suite: String,
    /// The seed.
    pub(crate) seed: u64,
    /// Length of the run.
    pub(crate) took: Duration,
    /// CPU that the generator's thread used during the run.
    pub(crate) cpu: Duration,
    /// The last start.
    pub(crate) starts: LastStart,
    /// The counts of the lossy link, if there was one.
    pub(crate) link: Option<LinkRow>,
}

/// How the devices arrived.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum ArrivalsRow {
    /// Open loop.
    Rate {
        /// Starts per second.
        per_second: f64,
    },
    /// Closed loop.
    Concurrency {
        /// Devices at work at any moment.
        devices: u64,
    },
}

/// The requested rate, and the rate offered.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ScheduleRow {
    /// Starts per second, as requested.
    pub asked_per_second: f64,
    /// Starts per second that the generator made.
    pub offered_per_second: f64,
    /// The offered rate divided by the requested rate, at most 1.
    pub offered_share: f64,
    /// The share is below [`OFFERED_SHARE_MIN`].
    pub void: bool,
}

/// A run that offered a smaller share has measured the generator, not the server.
pub const OFFERED_SHARE_MIN: f64 = 0.98;

impl ScheduleRow {
    fn new(arrivals: Arrivals, starts: LastStart) -> Option<Self> {
        let Arrivals::Rate(asked_per_second) = arrivals else { return None };
        let offered_share = starts.offered_share();
        Some(Self {
            asked_per_second,
            offered_per_second: asked_per_second * offered_share,
            offered_share,
            void: offered_share < OFFERED_SHARE_MIN,
        })
    }
}

impl fmt::Display for ScheduleRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked_per_second, offered_per_second, offered_share, void } = *self;
        let percent = offered_share * 100.0;
        let verdict = if void { "this run is void: it " } else { "" };
        write!(
            f,
            "{verdict}offered {offered_per_second:.0}/s of the requested {asked_per_second:.0}/s ({percent:.1} %)"
        )
    }
}

/// Latency of one stage.
#[derive(Debug, Clone, Serialize)]
pub struct StageRow {
    /// Its name.
    pub stage: &'static str,
    /// Its percentiles.
    #[serde(flatten)]
    pub took: PercentilesRow,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PercentilesRow {
    /// The number of measured durations.
    pub count: u64,
    /// The median.
    pub p50_us: u64,
    /// Nine of ten were at most this.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// The largest.
    pub max_us: u64,
}

/// Failed attempts of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorRow {
    /// The stage in which they failed.
    pub stage: &'static str,
    /// A reason code, or what the client saw.
    pub reason: String,
    /// The number of failed attempts.
    pub count: u64,
}

/// Datagrams and bytes of UDP payload.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TrafficRow {
    /// Datagrams from the devices.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Datagrams to the devices.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

/// The cost of the generator itself.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct GeneratorRow {
    /// CPU time of its thread, user and system together.
    pub cpu_seconds: f64,
    /// How much later than scheduled the devices started.
    pub send_lag: PercentilesRow,
    /// Datagrams for devices that were done.
    pub stray_datagrams: u64,
}

/// The counts of the lossy link.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LinkRow {
    /// Datagrams lost.
    pub lost: u64,
    /// Answers that arrived twice.
    pub repeated: u64,
}

impl LoadReport {
    /// Builds the report from the measurements of a run.
    pub(crate) fn new(facts: RunFacts, stats: &Stats) -> Self {
        let seconds = facts.took.as_secs_f64();
        let traffic = stats.traffic;
        Self {
            schema: "muster-load/1",
            server: facts.server,
            devices: count(facts.devices),
            enrolled: stats.enrolled,
            renewed: stats.renewed,
            failed: stats.failed,
            vanished: stats.vanished,
            later_answers: stats.later_answers,
            repeated_attempts: stats.repeated_attempts,
            seconds,
            enrolled_per_second: if seconds > 0.0 { float(stats.enrolled) / seconds } else { 0.0 },
            arrivals: match facts.arrivals {
                Arrivals::Rate(per_second) => ArrivalsRow::Rate { per_second },
                Arrivals::Concurrency(devices) => ArrivalsRow::Concurrency { devices: count(devices) },
            },
            schedule: ScheduleRow::new(facts.arrivals, facts.starts),
            block: facts.block,
            suite: facts.suite,
            seed: facts.seed,
            stages: MeasuredStage::ALL
                .into_iter()
                .map(|stage| StageRow { stage: stage.name(), took: stats.stage(stage).into() })
                .collect(),
            errors: stats
                .failures()
                .map(|(stage, reason, count)| ErrorRow { stage: stage.name(), reason: reason.to_owned(), count })
                .collect(),
            traffic: TrafficRow {
                datagrams_sent: traffic.datagrams_sent,
                bytes_sent: traffic.bytes_sent,
                datagrams_received: traffic.datagrams_received,
                bytes_received: traffic.bytes_received,
            },
            generator: GeneratorRow {
                cpu_seconds: facts.cpu.as_secs_f64(),
                send_lag: stats.send_lag().into(),
                stray_datagrams: stats.stray_datagrams,
            },
            link: facts.link,
        }
    }
}

impl From<Percentiles> for PercentilesRow {
    fn from(p: Percentiles) -> Self {
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        Self { count: p.count, p50_us: us(p.p50), p90_us: us(p.p90), p99_us: us(p.p99), max_us: us(p.max) }
    }
}

/// The table for people.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schedule) = self.schedule {
            writeln!(f, "{schedule}")?;
        }
        writeln!(
            f,
            "{} of {} devices enrolled in {:.1} s ({:.0}/s), {} failed, {} told to retry later, {} attempts repeated",
            self.enrolled,
            self.devices,
            self.seconds,
            self.enrolled_per_second,
            self.failed,
            self.later_answers,
            self.repeated_attempts
        )?;
        if self.renewed > 0 {
            writeln!(f, "{} of them renewed", self.renewed)?;
        }
        if self.vanished > 0 {
            writeln!(f, "{} devices left without closing", self.vanished)?;
        }
        writeln!(f)?;
        writeln!(f, "{:<10} {:>9} {:>10} {:>10} {:>10} {:>10}", "stage", "count", "p50", "p90", "p99", "max")?;
        let functions: Vec<_> = MeasuredStage::ALL.into_iter().filter(|stage| !stage.is_common()).collect();
        for StageRow { stage, took } in &self.stages {
            // A function that the run did not ask for.
            if took.count == 0 && functions.iter().any(|function| function.name() == *stage) {
                continue;
            }
            let cells = [took.p50_us, took.p90_us, took.p99_us, took.max_us];
            // A stage that no device completed has no percentiles.
            let [p50, p90, p99, max] =
                cells.map(|us| if took.count == 0 { "-".to_owned() } else { Micros(us).to_string() });
            writeln!(f, "{stage:<10} {:>9} {p50:>10} {p90:>10} {p99:>10} {max:>10}", took.count)?;
        }
        if !self.errors.is_empty() {
            writeln!(f)?;
            writeln!(f, "{:<10} {:>9} reason for failed attempts", "stage", "count")?;
            for row in &self.errors {
                writeln!(f, "{:<10} {:>9} {}", row.stage, row.count, row.reason)?;
            }
        }
        writeln!(f)?;
        self.write_costs(f)
    }
}

impl LoadReport {
    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_device = |total: u64| if self.devices == 0 { 0.0 } else { float(total) / float(self.devices) };
        let traffic = self.traffic;
        writeln!(
            f,
            "sent {} datagrams, {} bytes ({:.1} datagrams, {:.0} bytes per device)",
            traffic.datagrams_sent,
            traffic.bytes_sent,
            per_device(traffic.datagrams_sent),
            per_device(traffic.bytes_sent)
        )?;
        writeln!(
            f,
            "received {} datagrams, {} bytes ({:.1} datagrams, {:.0} bytes per device)",
            traffic.datagrams_received,
            traffic.bytes_received,
            per_device(traffic.datagrams_received),
            per_device(traffic.bytes_received)
        )?;
        if let Some(link) = self.link {
            writeln!(f, "the lossy link lost {} datagrams and repeated {} answers", link.lost, link.repeated)?;
        }
        let generator = self.generator;
        writeln!(
            f,
            "the generator used {:.2} s of CPU; devices started {} late (p99), {} at most",
            generator.cpu_seconds,
            Micros(generator.send_lag.p99_us),
            Micros(generator.send_lag.max_us)
        )
    }
}

/// Microseconds, shown in a fitting unit.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = float(self.0);
        match self.0 {
            0..1_000 => write!(f, "{} us", self.0),
            1_000..10_000 => write!(f, "{:.2} ms", us / 1e3),
            10_000..1_000_000 => write!(f, "{:.0} ms", us / 1e3),
            _ => write!(f, "{:.1} s", us / 1e6),
        }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// For display only: numbers above 2^53 lose digits.
#[allow(clippy::cast_precision_loss, reason = "a ratio for a table; counts stay far below 2^53")]
fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(arrivals: Arrivals) -> LoadReport {
        let mut stats = Stats::default();
        (stats.enrolled, stats.failed) = (3, 1);
        stats.record(MeasuredStage::Handshake, Duration::from_micros(900));
        stats.record(MeasuredStage::Total, Duration::from_millis(2500));
        stats.record_failure(MeasuredStage::Enrol, "est.sen.subject_mismatch");
        stats.traffic.sent(100);
        let facts = RunFacts {
            server: "coaps://127.0.0.1:5684".to_owned(),
            devices: 4,
            arrivals,
            block: 64,
            suite: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8".to_owned(),
            seed: 7,
            took: Duration::from_secs(2),
            cpu: Duration::from_millis(250),
            starts: LastStart { scheduled: Duration::from_secs(5), actual: Duration::from_secs(5) },
            link: Some(LinkRow { lost: 5, repeated: 6 }),
        };
        LoadReport::new(facts, &stats)
    }

    #[test]
    fn json_has_the_documented_schema() {
        let json = serde_json::to_value(report(Arrivals::Rate(100.0))).unwrap();
        assert_eq!(json["schema"], "muster-load/1");
        assert_eq!(json["arrivals"], serde_json::json!({"mode": "rate", "per_second": 100.0}));
        assert_eq!(json["enrolled_per_second"], 1.5);
        assert_eq!(json["stages"][0]["stage"], "handshake");
        assert_eq!(json["stages"][0]["p50_us"], 900);
        assert_eq!(json["stages"].as_array().unwrap().len(), 6);
        assert_eq!(
            json["errors"],
            serde_json::json!([{"stage": "enrol", "reason": "est.sen.subject_mismatch", "count": 1}])
        );
        assert_eq!(json["traffic"]["bytes_sent"], 100);
        assert_eq!(json["generator"]["cpu_seconds"], 0.25);
        assert_eq!(json["link"]["lost"], 5);
        let documented = include_str!("report.rs");
        for key in json.as_object().unwrap().keys() {
            let head =
                documented.lines().take_while(|line| line.starts_with("//!")).any(|line| line.contains(key.as_str()));
            assert!(head, "{key} is not in the module's description of the schema");
        }
    }

    #[test]
    fn e83_a_run_that_missed_its_schedule_says_so_first() {
        let row = |scheduled, actual| {
            let millis = Duration::from_millis;
            let starts = LastStart { scheduled: millis(scheduled), actual: millis(actual) };
            ScheduleRow::new(Arrivals::Rate(6000.0), starts).unwrap()
        };
        let missed = row(5_000, 8_600);
        assert!(missed.void && (3_500.0..3_600.0).contains(&missed.offered_per_second), "{missed:?}");
        assert!(missed.to_string().starts_with("this run is void: it offered 3529/s of the requested 6000/s (58.8 %)"));
        // 98 % is enough, and a short run is not void for one late turn.
        assert!(!row(9_800, 10_100).void);
        assert!(row(9_790, 10_100).void);
        assert!(!row(50, 150).void && !row(0, 100).void);
        assert!(row(0, 3_500).void);
        let mut report = report(Arrivals::Rate(6000.0));
        report.schedule = Some(missed);
        assert!(report.to_string().starts_with("this run is void"), "{report}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["schedule"]["void"], &json["schedule"]["asked_per_second"]), (&true.into(), &6000.0.into()));
    }

    #[test]
    fn concurrency_is_told_apart() {
        let json = serde_json::to_value(report(Arrivals::Concurrency(8))).unwrap();
        assert_eq!(json["arrivals"], serde_json::json!({"mode": "concurrency", "devices": 8}));
        assert!(json["schedule"].is_null(), "closed loop asks for no rate");
    }

    #[test]
    fn the_table_names_failures_and_units() {
        let text = report(Arrivals::Rate(100.0)).to_string();
        assert!(
            text.starts_with(
                "offered 100/s of the requested 100/s (100.0 %)\n3 of 4 devices enrolled in 2.0 s (2/s), 1 failed"
            ),
            "{text}"
        );
        assert!(text.contains("900 us") && text.contains("2.5 s"), "{text}");
        let crts = text.lines().find(|line| line.starts_with("crts")).unwrap();
        assert_eq!(crts.split_whitespace().collect::<Vec<_>>(), ["crts", "0", "-", "-", "-", "-"]);
        assert!(text.contains("est.sen.subject_mismatch"), "{text}");
        assert!(text.contains("lost 5 datagrams and repeated 6 answers"), "{text}");
    }
}
