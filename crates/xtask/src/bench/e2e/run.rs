//! One run, and the median of several.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::cpu::CpuTime;
use super::floor::Floor;
use crate::bench::e2e_record::SATURATED_MIN;
use crate::bench::generator::spoiled_by;
use crate::bench::median::median;

/// Hello, HelloVerifyRequest, hello with cookie, the server's flight: all other datagrams carry one sealed record each.
const PLAIN_DATAGRAMS: f64 = 4.0;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BenchConfiguration {
    pub(super) suite: &'static str,
    pub(super) block: u16,
    pub(super) ledger: LedgerKind,
    pub(super) leaving: Leaving,
    pub(super) pace: Pace,
}

/// How fast devices come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pace {
    /// As many at the same time as the options say, so that the server is never idle: [`MeasuredRun::core_share`] says whether it was.
    Saturating,
    /// [`SIXTEEN`] at the same time, one after another: the server often finds one datagram alone, and pays for waking.
    Sixteen,
    /// The same by a process on OpenSSL, which does more for an enrolment than the server does: the server waits for it most of the time.
    OpenSsl,
    /// [`UNHURRIED_RATE`]: the server sleeps between most datagrams.
    Unhurried,
}

impl Pace {
    /// What stands behind the name of a configuration.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Saturating => "",
            Self::Sixteen => ".sixteen",
            Self::OpenSsl => ".openssl",
            Self::Unhurried => ".unhurried",
        }
    }
}

/// The paces that leave the server idle again and again.
pub(super) const UNSATURATED: [Pace; 3] = [Pace::Sixteen, Pace::OpenSsl, Pace::Unhurried];

/// Devices at the same time in a closed loop; far fewer than it takes to fill the server's batches.
pub(super) const SIXTEEN: u32 = 16;

/// Devices a second, in an open loop; about a tenth of what one core serves.
pub(super) const UNHURRIED_RATE: u32 = 300;

/// How the devices of a run leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Leaving {
    /// With close_notify.
    Closing,
    /// Without a word, as a device does that goes to sleep.
    Vanishing,
}

impl Leaving {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Closing => "closing",
            Self::Vanishing => "vanishing",
        }
    }

    /// For `muster load --vanish`.
    pub(super) const fn vanish(self) -> &'static str {
        match self {
            Self::Closing => "0%",
            Self::Vanishing => "100%",
        }
    }
}

/// Where the server records certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LedgerKind {
    Memory,
    /// A file that has so many rows already, with audit and journal.
    Sqlite {
        rows: u64,
    },
}

impl BenchConfiguration {
    /// The ledgers are compared with this suite and block.
    pub(super) const fn compared(ledger: LedgerKind) -> Self {
        Self { suite: "ccm8", block: 512, ledger, leaving: Leaving::Closing, pace: Pace::Saturating }
    }

    /// As figures are named: `ccm8_512.memory.closing`, with `.sixteen`, `.openssl` or `.unhurried` behind it at that pace.
    pub(super) fn name(&self) -> String {
        let ledger = match self.ledger {
            LedgerKind::Memory => "memory".to_owned(),
            LedgerKind::Sqlite { rows } => format!("sqlite_{rows}"),
        };
        format!("{}_{}.{ledger}.{}{}", self.suite, self.block, self.leaving.name(), self.pace.suffix())
    }

    /// The seed of the fleet in a repetition. Configurations that share a ledger have fleets of their own: it would answer a repetition of a request
    /// without issuing.
    pub(super) fn seed(&self, repetition: u32) -> u32 {
        let fleet = 2 * u32::from(self.block == 64) + u32::from(self.leaving == Leaving::Vanishing);
        4 * (repetition + 1) + fleet
    }

    /// The seed of the fleet that warms the server up before: other devices than those of any run.
    pub(super) fn warm_up_seed(&self, repetition: u32) -> u32 {
        const APART: u32 = 1 << 20;
        APART + self.seed(repetition)
    }

    pub(super) fn suite_of_openssl(&self) -> &'static str {
        if self.suite == "ccm8" { "ECDHE-ECDSA-AES128-CCM8" } else { "ECDHE-ECDSA-AES128-GCM-SHA256" }
    }

    /// What a durable ledger is paired with.
    pub(super) fn in_memory(&self) -> Self {
        Self { ledger: LedgerKind::Memory, ..*self }
    }

    pub(super) fn is_compared(&self) -> bool {
        *self == Self::compared(self.ledger)
    }
}

impl LedgerKind {
    pub(super) fn name(self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            Self::Sqlite { rows } => format!("SQLite, {rows} rows"),
        }
    }
}

/// The results of one run, per enrolment.
#[derive(Clone, Serialize)]
pub(super) struct MeasuredRun {
    #[serde(flatten)]
    pub(super) configuration: BenchConfiguration,
    pub(super) enrolled: f64,
    pub(super) enrolled_per_second: f64,
    pub(super) server_cpu_us: f64,
    /// The part of its core that the server used for the middle of its work.
    pub(super) core_share: f64,
    /// Runs whose server was to be saturated and used less than [`SATURATED_MIN`] of its core: one or none, and of the medians their number.
    pub(super) unsaturated_runs: u32,
    /// The floor of the same repetition.
    pub(super) floor_us: f64,
    /// Receiving and sending as many datagrams with nothing done in between, in the same repetition.
    pub(super) bare_us: f64,
    /// The engines alone, in memory: the difference to `server_cpu_us` is sockets, threads and the kernel.
    pub(super) engine_us: f64,
    /// `server_cpu_us` over `floor_us`, and over the sum of `floor_us` and `bare_us`.
    pub(super) ratio: f64,
    pub(super) ratio_bare: f64,
    /// The part of `server_cpu_us` that the kernel spent.
    pub(super) kernel_us: f64,
    /// The same time by the name of the thread.
    pub(super) by_thread_us: BTreeMap<String, f64>,
    pub(super) datagrams_up: f64,
    pub(super) datagrams_down: f64,
    pub(super) bytes_up: f64,
    pub(super) bytes_down: f64,
    pub(super) handshake_p50_us: f64,
    pub(super) total_p50_us: f64,
    pub(super) total_p99_us: f64,
    pub(super) server_rss_kib: f64,
    /// Commits of the durable ledger.
    pub(super) commits: f64,
    /// Bytes by which its files grew.
    pub(super) ledger_bytes: f64,
    pub(super) journal_bytes: f64,
    /// From the start of the process to the line that says where it listens; of the run, not of an enrolment.
    pub(super) listening_ms: f64,
    /// Why the generator says that it measured itself, and in how many runs it does. The server's CPU is not concerned as long as the server has something to
    /// do: the rate and the times are.
    pub(super) spoiled_by: Vec<String>,
    pub(super) spoiled_runs: u32,
}

impl MeasuredRun {
    pub(super) fn with_core_share(self, core_share: f64) -> Self {
        let is_unsaturated = self.configuration.pace == Pace::Saturating && core_share < SATURATED_MIN;
        Self { core_share, unsaturated_runs: u32::from(is_unsaturated), ..self }
    }
}

pub(super) fn measured(
    configuration: BenchConfiguration,
    report: &serde_json::Value,
    cpu: &CpuTime,
    server_rss_kib: f64,
    floor: &Floor,
) -> Result<MeasuredRun> {
    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(serde_json::Value::as_f64)
            .with_context(|| format!("the report has no {pointer}"))
    };
    let enrolled = number("/enrolled")?;
    ensure!(enrolled > 0.0 && number("/failed")? == 0.0, "devices failed: {report}");
    let stage = |name: &str, key: &str| {
        let stages = report["stages"].as_array().into_iter().flatten();
        stages
            .into_iter()
            .find(|stage| stage["stage"] == name)
            .and_then(|stage| stage[key].as_f64())
            .unwrap_or_default()
    };
    let datagrams_up = number("/traffic/datagrams_sent")? / enrolled;
    let datagrams_down = number("/traffic/datagrams_received")? / enrolled;
    let microseconds = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs_f64() * 1e6 / enrolled;
    let server_cpu_us = microseconds(cpu.nanoseconds());
    let spoiled_by = spoiled_by(report);
    let floor_us = floor.of(configuration.suite, (datagrams_up + datagrams_down - PLAIN_DATAGRAMS).max(0.0));
    let bare_us = floor.bare.of(datagrams_up, datagrams_down);
    Ok(MeasuredRun {
        configuration,
        enrolled,
        enrolled_per_second: number("/enrolled_per_second")?,
        server_cpu_us,
        core_share: 0.0,
        unsaturated_runs: 0,
        floor_us,
        bare_us,
        engine_us: floor.engine(configuration.suite, configuration.block),
        ratio: server_cpu_us / floor_us,
        ratio_bare: server_cpu_us / (floor_us + bare_us),
        kernel_us: server_cpu_us * cpu.system_share(),
        by_thread_us: cpu.by_thread.iter().map(|(name, spent)| (name.clone(), microseconds(*spent))).collect(),
        datagrams_up,
        datagrams_down,
        bytes_up: number("/traffic/bytes_sent")? / enrolled,
        bytes_down: number("/traffic/bytes_received")? / enrolled,
        handshake_p50_us: stage("handshake", "p50_us"),
        total_p50_us: stage("total", "p50_us"),
        total_p99_us: stage("total", "p99_us"),
        server_rss_kib,
        commits: 0.0,
        ledger_bytes: 0.0,
        journal_bytes: 0.0,
        listening_ms: 0.0,
        spoiled_runs: u32::from(!spoiled_by.is_empty()),
        spoiled_by,
    })
}

pub(super) fn median_run(runs: &[MeasuredRun], configuration: BenchConfiguration) -> MeasuredRun {
    let same = |run: &&MeasuredRun| run.configuration == configuration;
    let of = |field: fn(&MeasuredRun) -> f64| median(runs.iter().filter(same).map(field));
    let names: BTreeSet<&String> = runs.iter().filter(same).flat_map(|run| run.by_thread_us.keys()).collect();
    let spent = |name: &String| median(runs.iter().filter(same).filter_map(|run| run.by_thread_us.get(name).copied()));
    let threads = names.into_iter().map(|name| (name.clone(), spent(name))).collect();
    MeasuredRun {
        configuration,
        enrolled: of(|run| run.enrolled),
        enrolled_per_second: of(|run| run.enrolled_per_second),
        server_cpu_us: of(|run| run.server_cpu_us),
        core_share: of(|run| run.core_share),
        unsaturated_runs: runs.iter().filter(same).map(|run| run.unsaturated_runs).sum(),
        floor_us: of(|run| run.floor_us),
        bare_us: of(|run| run.bare_us),
        engine_us: of(|run| run.engine_us),
        ratio: of(|run| run.ratio),
        ratio_bare: of(|run| run.ratio_bare),
        kernel_us: of(|run| run.kernel_us),
        by_thread_us: threads,
        datagrams_up: of(|run| run.datagrams_up),
        datagrams_down: of(|run| run.datagrams_down),
        bytes_up: of(|run| run.bytes_up),
        bytes_down: of(|run| run.bytes_down),
        handshake_p50_us: of(|run| run.handshake_p50_us),
        total_p50_us: of(|run| run.total_p50_us),
        total_p99_us: of(|run| run.total_p99_us),
        server_rss_kib: of(|run| run.server_rss_kib),
        commits: of(|run| run.commits),
        ledger_bytes: of(|run| run.ledger_bytes),
        journal_bytes: of(|run| run.journal_bytes),
        listening_ms: of(|run| run.listening_ms),
        spoiled_by: runs.iter().filter(same).flat_map(|run| run.spoiled_by.clone()).collect(),
        spoiled_runs: runs.iter().filter(same).map(|run| run.spoiled_runs).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::floor::tests::floor;
    use super::*;

    #[test]
    fn a_report_with_failures_is_no_measurement() {
        let report =
            serde_json::json!({ "enrolled": 9, "failed": 1, "enrolled_per_second": 1.0, "stages": [], "traffic": {} });
        let configuration = BenchConfiguration::compared(LedgerKind::Memory);
        let cpu = CpuTime::of(std::process::id()).unwrap();
        assert!(measured(configuration, &report, &cpu, 0.0, &floor()).is_err());
    }

    #[test]
    fn a_run_whose_server_was_to_be_saturated_and_was_not_is_marked() {
        let memory = BenchConfiguration::compared(LedgerKind::Memory);
        let cpu = CpuTime::of(std::process::id()).unwrap();
        let traffic = serde_json::json!({
            "datagrams_sent": 7, "datagrams_received": 6, "bytes_sent": 1, "bytes_received": 1,
        });
        let report = serde_json::json!({
            "enrolled": 1, "failed": 0, "enrolled_per_second": 1.0, "stages": [], "traffic": traffic,
        });
        let run = |pace, share: f64| {
            let run = measured(BenchConfiguration { pace, ..memory }, &report, &cpu, 0.0, &floor()).unwrap();
            run.with_core_share(share)
        };
        let runs = [0.96, 0.94, 0.97].map(|share| run(Pace::Saturating, share));
        let median = median_run(&runs, memory);
        assert!((median.core_share - 0.96).abs() < 1e-9);
        assert_eq!(median.unsaturated_runs, 1);
        assert_eq!(run(Pace::OpenSsl, 0.5).unsaturated_runs, 0, "it was not to be saturated");
    }

    #[test]
    fn runs_that_the_generator_spoiled_are_counted_with_their_reasons() {
        let run = |spoiled_by: &[&str]| {
            let traffic = serde_json::json!({
                "datagrams_sent": 70, "datagrams_received": 60, "bytes_sent": 1, "bytes_received": 1,
            });
            let report = serde_json::json!({
                "enrolled": 10, "failed": 0, "enrolled_per_second": 1.0, "stages": [], "traffic": traffic,
                "generator": { "spoiled_by": spoiled_by },
            });
            let cpu = CpuTime::of(std::process::id()).unwrap();
            measured(BenchConfiguration::compared(LedgerKind::Memory), &report, &cpu, 0.0, &floor()).unwrap()
        };
        let runs = [run(&[]), run(&["its busiest thread used 95 % of a core"]), run(&[])];
        let median = median_run(&runs, BenchConfiguration::compared(LedgerKind::Memory));
        assert_eq!((median.spoiled_runs, median.spoiled_by.len()), (1, 1));
        assert!(median.spoiled_by[0].starts_with("its busiest thread"));
    }
}
