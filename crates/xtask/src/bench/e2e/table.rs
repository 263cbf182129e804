//! The medians of each configuration.

use super::run::MeasuredRun;
use crate::bench::e2e_record::SATURATED_MIN;
use crate::bench::facts::TimingFacts;

/// The part of its core, and in how many runs a server that was to be saturated was not.
fn used(run: &MeasuredRun) -> String {
    let percent = run.core_share * 100.0;
    if run.unsaturated_runs == 0 {
        return format!("{percent:.0} %");
    }
    format!("{percent:.0} %, below {:.0} in {} runs", SATURATED_MIN * 100.0, run.unsaturated_runs)
}

/// Prints Markdown.
pub(super) fn print_table(medians: &[MeasuredRun], facts: &TimingFacts) {
    println!("\n{}, {}, {}\n", facts.cpu, facts.kernel, facts.rustc);
    println!(
        "| suite | block | ledger | devices | floor, us | datagrams, us | engines in memory, us | server CPU, us | part of the core | ratio | datagrams up / down | bytes up / down | enrolments/s | p50 / p99, ms | spoiled |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for run in medians {
        println!(
            "| {} | {} | {} | {}{} | {:.0} | {:.0} | {:.0} | {:.0} | {} | **{:.2}** | {:.1} / {:.1} | {:.0} / {:.0} | {:.0} | {:.1} / {:.1} | {} |",
            run.configuration.suite.to_uppercase(),
            run.configuration.block,
            run.configuration.ledger.name(),
            run.configuration.leaving.name(),
            run.configuration.pace.suffix(),
            run.floor_us,
            run.bare_us,
            run.engine_us,
            run.server_cpu_us,
            used(run),
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
