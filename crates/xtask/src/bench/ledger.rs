//! What the durable ledger costs for each certificate, by the number of rows that it has: `benches/programs/src/bin/ledger.rs`, pinned to one core.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::e2e::pinned;
use super::facts::TimingFacts;
use super::run_file::RunFile;
use crate::{cargo, tree};

#[derive(Args)]
pub(crate) struct LedgerOptions {
    /// Rows of the ledgers; 10,000,000 of them take a quarter of an hour and 10 GB
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000])]
    rows: Vec<u64>,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The largest ledger is filled in this time.
const TIMEOUT: Duration = Duration::from_secs(7200);
/// What a whole enrolment costs with the ledger in memory, for the last column of the table.
const ENROLMENT_US: f64 = 242.0;

#[derive(Serialize)]
struct LedgerRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: String,
    ledgers: Vec<MeasuredLedger>,
}

/// As `benches/programs/src/bin/ledger.rs` prints it.
#[derive(Serialize, Deserialize)]
struct MeasuredLedger {
    rows: u64,
    fill_us_per_certificate: f64,
    bytes_per_certificate: f64,
    journal_bytes_per_certificate: f64,
    log_bytes: u64,
    open_ms: f64,
    rss_before_kib: u64,
    rss_opened_kib: u64,
    rss_end_kib: u64,
    rss_peak_kib: u64,
    in_flight: Vec<MeasuredLoad>,
    lone_p50_us: f64,
    lone_p99_us: f64,
}

#[derive(Serialize, Deserialize)]
struct MeasuredLoad {
    in_flight: u64,
    cpu_us_per_certificate: f64,
    commits_per_certificate: f64,
    certificates_per_second: f64,
}

pub(super) fn run(options: &LedgerOptions) -> Result<()> {
    let facts = TimingFacts::here();
    cargo::cargo("build --quiet --release --locked --package programs --bin ledger").stream()?;
    let program = tree::target().join("release/ledger");
    let mut ledgers = Vec::new();
    for rows in &options.rows {
        let folder = tree::scratch("ledger")?;
        let ended = pinned(0, &program).arg(&folder).arg(rows.to_string()).timeout(TIMEOUT).expect_success();
        std::fs::remove_dir_all(&folder)?;
        let ended = ended?;
        let measured: MeasuredLedger =
            serde_json::from_str(&ended.stdout).with_context(|| format!("the ledger printed {}", ended.stdout))?;
        println!("   {rows} rows measured");
        ledgers.push(measured);
    }
    print_table(&ledgers, &facts);
    let rows: Vec<String> = options.rows.iter().map(u64::to_string).collect();
    let command = format!("cargo xtask bench ledger --rows {}", rows.join(","));
    let at = facts.at.clone();
    let record = LedgerRecord { schema: "muster-ledger/1", facts, command, ledgers };
    RunFile::write("ledger", &at, options.json.as_deref(), &record)
}

/// Prints Markdown.
fn print_table(ledgers: &[MeasuredLedger], facts: &TimingFacts) {
    println!("\n{}, {}, {}\n", facts.cpu, facts.kernel, facts.rustc);
    println!(
        "| rows | in flight | CPU of both steps, us | of an enrolment of {ENROLMENT_US:.0} us | certificates a commit | certificates/s |"
    );
    println!("|---|---|---|---|---|---|");
    for ledger in ledgers {
        for load in &ledger.in_flight {
            println!(
                "| {} | {} | **{:.1}** | {:.1} % | {:.1} | {:.0} |",
                ledger.rows,
                load.in_flight,
                load.cpu_us_per_certificate,
                load.cpu_us_per_certificate / ENROLMENT_US * 100.0,
                1.0 / load.commits_per_certificate,
                load.certificates_per_second,
            );
        }
    }
    println!(
        "\n| rows | alone, p50 / p99, us | bytes a certificate, database / journal | log, MiB | opened after, ms | RSS before / opened / end, MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for ledger in ledgers {
        println!(
            "| {} | {:.0} / {:.0} | {:.0} / {:.0} | {} | {:.0} | {} / {} / {} |",
            ledger.rows,
            ledger.lone_p50_us,
            ledger.lone_p99_us,
            ledger.bytes_per_certificate,
            ledger.journal_bytes_per_certificate,
            ledger.log_bytes >> 20,
            ledger.open_ms,
            ledger.rss_before_kib >> 10,
            ledger.rss_opened_kib >> 10,
            ledger.rss_end_kib >> 10,
        );
    }
}
