//! What the durable ledger adds to an enrolment.

use serde::Serialize;

use super::run::{BenchConfiguration, LedgerKind, MeasuredRun};
use crate::bench::interval::Interval;
use crate::bench::median::median;

/// The cost of a ledger on disk beside the one in memory. CPU time is compared within each repetition.
#[derive(Serialize)]
pub(super) struct DurableCost {
    ledger: LedgerKind,
    /// How many per cent of CPU more than in memory.
    percent: Interval,
    enrolments_per_commit: f64,
    ledger_bytes_per_enrolment: f64,
    journal_bytes_per_enrolment: f64,
    /// Of an enrolment with nothing beside it, in memory and on disk.
    lone_p50_us: [f64; 2],
    lone_p99_us: [f64; 2],
    /// From the start of the process to its listening, the longest of all runs.
    listening_ms: f64,
    server_rss_kib: f64,
}

impl DurableCost {
    pub(super) fn of(runs: &[MeasuredRun], lone: &[MeasuredRun], ledger: LedgerKind) -> Self {
        let memory: Vec<&MeasuredRun> = with(runs, LedgerKind::Memory).collect();
        let durable: Vec<&MeasuredRun> = with(runs, ledger).collect();
        let percents: Vec<f64> = memory
            .iter()
            .zip(&durable)
            .map(|(memory, durable)| (durable.server_cpu_us / memory.server_cpu_us - 1.0) * 100.0)
            .collect();
        let of = |field: fn(&MeasuredRun) -> f64| median(durable.iter().map(|run| field(run)));
        let alone = |field: fn(&MeasuredRun) -> f64| {
            [LedgerKind::Memory, ledger].map(|ledger| median(with(lone, ledger).map(field)))
        };
        Self {
            ledger,
            percent: Interval::of(&percents),
            enrolments_per_commit: 1.0 / of(|run| run.commits),
            ledger_bytes_per_enrolment: of(|run| run.ledger_bytes),
            journal_bytes_per_enrolment: of(|run| run.journal_bytes),
            lone_p50_us: alone(|run| run.total_p50_us),
            lone_p99_us: alone(|run| run.total_p99_us),
            listening_ms: durable.iter().map(|run| run.listening_ms).fold(0.0, f64::max),
            server_rss_kib: of(|run| run.server_rss_kib),
        }
    }
}

fn with(runs: &[MeasuredRun], ledger: LedgerKind) -> impl Iterator<Item = &MeasuredRun> {
    runs.iter().filter(move |run| run.configuration == BenchConfiguration::compared(ledger))
}

/// Prints Markdown.
pub(super) fn print_durable(costs: &[DurableCost]) {
    println!(
        "\n| ledger | CPU more than in memory, % (95 % interval) | enrolments a commit | alone in memory / durable, p50, ms | p99, ms | bytes, database / journal | listening after, ms | RSS, MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for cost in costs {
        let [memory_p50, durable_p50] = cost.lone_p50_us.map(|us| us / 1e3);
        let [memory_p99, durable_p99] = cost.lone_p99_us.map(|us| us / 1e3);
        println!(
            "| {} | {:+.1} | {:.1} | {memory_p50:.1} / {durable_p50:.1} | {memory_p99:.1} / {durable_p99:.1} | {:.0} / {:.0} | {:.0} | {:.0} |",
            cost.ledger.name(),
            cost.percent,
            cost.enrolments_per_commit,
            cost.ledger_bytes_per_enrolment,
            cost.journal_bytes_per_enrolment,
            cost.listening_ms,
            cost.server_rss_kib / 1024.0
        );
    }
}
