//! `cargo xtask bench crl`: what it costs to revoke a part of a CA's certificates and to write all its lists: `benches/programs/src/bin/crl.rs` on a ledger that
//! `benches/programs/src/bin/ledger.rs` fills.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::facts::TimingFacts;
use super::run_file::RunFile;
use crate::process::Program;
use crate::{cargo, tree};

#[derive(Args)]
pub(crate) struct CrlOptions {
    /// Rows of the ledger, of four CAs; 10,000,000 of them take a quarter of an hour and 31 GB
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
    rows: u64,
    /// Where to write the JSON [default: a new file in benches/runs]
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Ten million rows are written in this time.
const TIMEOUT: Duration = Duration::from_secs(7200);
/// One row in so many is revoked: two fifths of those of one CA.
const REVOKED_ONE_IN: u64 = 10;

#[derive(Serialize)]
struct CrlRecord {
    schema: &'static str,
    facts: TimingFacts,
    command: String,
    rows: u64,
    #[serde(flatten)]
    lists: MeasuredLists,
}

/// As the program prints it.
#[derive(Serialize, Deserialize)]
struct MeasuredLists {
    revoked: u64,
    revoking_seconds: f64,
    lists: u64,
    entries: u64,
    seconds: f64,
    bytes: u64,
    largest_list_bytes: u64,
    rss_before_kib: u64,
    rss_peak_kib: u64,
}

pub(super) fn run(options: &CrlOptions) -> Result<()> {
    let facts = TimingFacts::here();
    cargo::cargo("build --quiet --release --locked --package programs --bin ledger --bin crl").stream()?;
    let released = tree::target().join("release");
    let folder = tree::scratch("crl")?;
    let fill = Program::new(released.join("ledger")).arg(&folder).arg(options.rows.to_string()).arg("fill");
    let publish = Program::new(released.join("crl")).arg("ledger").arg(&folder);
    let publish = publish.arg((options.rows / REVOKED_ONE_IN).to_string()).timeout(TIMEOUT);
    let ended = fill.timeout(TIMEOUT).expect_success().and_then(|_| publish.expect_success());
    std::fs::remove_dir_all(&folder)?;
    let printed = ended?.stdout;
    let lists: MeasuredLists = serde_json::from_str(&printed).with_context(|| format!("crl printed {printed}"))?;
    println!("   {}", printed.trim());
    let command = format!("cargo xtask bench crl --rows {}", options.rows);
    let record = CrlRecord { schema: "muster-crl/1", command, rows: options.rows, lists, facts };
    RunFile::write("crl", &record.facts.at, options.json.as_deref(), &record)
}
