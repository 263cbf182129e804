//! The medians of each configuration.

use super::run::MeasuredRun;
use crate::bench::facts::TimingFacts;

/// Prints Markdown.
pub(super) fn print_table(medians: &[MeasuredRun], facts: &TimingFacts) {
    println!("\n{}, {}, {}\n", facts.cpu, facts.kernel, facts.rustc);
    println!(
        "| suite | block | ledger | devices | floor, us | datagrams, us | engines in memory, us | server CPU, us | ratio | datagrams up / down | bytes up / down | enrolments/s | p50 / p99, ms | spoiled |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for run in medians {
        println!(
            "| {} | {} | {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | **{:.2}** | {:.1} / {:.1} | {:.0} / {:.0} | {:.0} | {:.1} / {:.1} | {} |",
            run.configuration.suite.to_uppercase(),
            run.configuration.block,
            run.configuration.ledger.name(),
            run.configuration.leaving.name(),
            run.floor_us,
            run.bare_us,
            run.engine_us,
            run.server_cpu_us,
            run.ratio,
            run.datagrams_up,
            run.datagrams_down,
            run.bytes_up,
            run.bytes_down,
            run.enrolled_per_second,
            run.total_p50_us / 1e3,
            run.total_p99_us / 1e3,
            run.spoiled_runs
        );
    }
    println!();
    for run in medians {
        let threads: Vec<String> = run
            .by_thread_us
            .iter()
            .filter(|(_, spent)| **spent >= 1.0)
            .map(|(name, spent)| format!("{name} {spent:.0}"))
            .collect();
        println!(
            "{}: of {:.0} us the kernel {:.0}; by thread: {}",
            run.configuration.name(),
            run.server_cpu_us,
            run.kernel_us,
            threads.join(", ")
        );
    }
}
