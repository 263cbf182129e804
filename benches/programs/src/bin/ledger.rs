//! What both durable steps of an issuance cost in a ledger of SQLite that has many rows already.
//!
//! `cargo run --release -p programs --bin ledger -- FOLDER ROWS`: fills a ledger in this folder with as many rows as a fleet makes, then issues more
//! of them with 16, 64 and 256 jobs in flight, and one alone. The ledger has an audit and a journal, as `muster init` makes it. The rows are made
//! before the clock starts. CPU time is that of the process, user and system, so the completions of the jobs are in it. Prints one JSON object;
//! `cargo xtask bench ledger` runs it and makes a table. With `fill` behind it, it fills the ledger and ends.
#![allow(clippy::print_stdout, reason = "its result goes to whoever started it")]
#![allow(clippy::disallowed_methods, reason = "a measurement of its own: no engine runs here")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use std::{env, fs};

use authority::{Intended, Ledger, LedgerFault, Record, Recorded, Reserve};
use benches::{Fleet, IssuanceRows};
use ledger::journal::JournalSettings;
use ledger::sqlite::Fresh;
use ledger::{AuditSettings, LedgerSettings, SqliteLedger};
use pki::issue::NodePrefix;
use rustix::time::{ClockId, clock_gettime};
use rustls_pki_types::UnixTime;

const IN_FLIGHT: &[usize] = &[16, 64, 256];
/// Certificates of each measurement: enough for several checkpoints of the log, and not many times the rows of a small ledger.
const CERTIFICATES_MIN: u64 = 10_000;
const CERTIFICATES_MAX: u64 = 40_000;
const LONE_CERTIFICATES: u64 = 200;
/// Rows of one call while the ledger is filled, and calls in flight.
const FILL_ROWS: u64 = 512;
const FILLS_IN_FLIGHT: usize = 2;
/// Rows between two looks at the segments of the journal.
const PART_ROWS: u64 = 250_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (folder, rows, is_measured) = match &arguments[..] {
        [folder, rows] => (folder, rows, true),
        [folder, rows, word] if word == "fill" => (folder, rows, false),
        _ => return Err("usage: ledger FOLDER ROWS [fill]".into()),
    };
    let file = Path::new(folder).join("ledger.db");
    let rows: u64 = rows.parse()?;
    let fleet = Fleet::of(rows);
    let (ledger, _) = open(&file)?;
    let filling = Instant::now();
    fill(&ledger, &file, fleet, rows)?;
    let fill_seconds = filling.elapsed().as_secs_f64();
    drop(ledger);
    if !is_measured {
        return Ok(());
    }
    let bytes_after_fill = bytes(&file)?;
    let journal = JournalSettings::beside(&file).file;
    let rss_before_kib = kib("VmRSS:")?;
    let (ledger, open_ms) = open(&file)?;
    let rss_opened_kib = kib("VmRSS:")?;
    let (mut next_row, mut measured) = (rows, Vec::new());
    let certificates = rows.clamp(CERTIFICATES_MIN, CERTIFICATES_MAX);
    for in_flight in IN_FLIGHT {
        let issuances: Vec<IssuanceRows> =
            (next_row..next_row + certificates).map(|row| fleet.issuance(row, &ledger)).collect();
        next_row += certificates;
        measured.push(Measured::of(&ledger, issuances, *in_flight)?);
    }
    let journal_bytes = bytes(&journal)?;
    let lone = lone(&ledger, fleet, next_row)?;
    let journal_bytes_per_certificate =
        float(bytes(&journal)?.saturating_sub(journal_bytes)) / float(LONE_CERTIFICATES);
    let result = serde_json::json!({
        "rows": rows,
        "fill_us_per_certificate": fill_seconds * 1e6 / float(rows),
        "bytes_per_certificate": float(bytes_after_fill) / float(rows),
        "journal_bytes_per_certificate": journal_bytes_per_certificate,
        "log_bytes": bytes(&with_suffix(&file, "-wal")).unwrap_or(0),
        "open_ms": open_ms,
        "rss_before_kib": rss_before_kib,
        "rss_opened_kib": rss_opened_kib,
        "rss_end_kib": kib("VmRSS:")?,
        "rss_peak_kib": kib("VmHWM:")?,
        "in_flight": measured.iter().map(Measured::json).collect::<Vec<_>>(),
        "lone_p50_us": lone[lone.len() / 2],
        "lone_p99_us": lone[lone.len() * 99 / 100],
    });
    println!("{result}");
    Ok(())
}

fn open(file: &Path) -> Result<(SqliteLedger, f64)> {
    let start = Instant::now();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_767_225_600));
    let audit = AuditSettings::beside(file, NodePrefix::new(0));
    let settings = LedgerSettings { audit, journal: Some(JournalSettings::beside(file)) };
    let ledger = SqliteLedger::open_with(file, Fresh { serial_key: [7; 16] }, &settings, now)?;
    Ok((ledger, start.elapsed().as_secs_f64() * 1e3))
}

/// The rows of one call, for both steps.
type Call = (Vec<Reserve>, Vec<Record>);

/// Writes the first rows of the fleet, many in a call. The journal keeps its last segment: nothing here reads the others, and they are large.
fn fill(ledger: &SqliteLedger, file: &Path, fleet: Fleet, rows: u64) -> Result<()> {
    for first in (0..rows).step_by(usize::try_from(PART_ROWS)?) {
        let end = (first + PART_ROWS).min(rows);
        let calls = (first..end).step_by(usize::try_from(FILL_ROWS)?).map(|first| {
            let rows = first..(first + FILL_ROWS).min(end);
            rows.map(|row| fleet.issuance(row, ledger)).map(|it| (it.reserve, it.record)).unzip()
        });
        issue(ledger, calls, FILLS_IN_FLIGHT)?;
        remove_closed_segments(&JournalSettings::beside(file).file)?;
    }
    Ok(())
}

fn remove_closed_segments(journal: &Path) -> Result<()> {
    let open = journal.file_name().and_then(|name| name.to_str()).ok_or("the journal has no name")?;
    for entry in fs::read_dir(journal.parent().ok_or("the journal has no folder")?)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.strip_prefix(open).is_some_and(|rest| rest.starts_with('.')) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Takes both steps of each call, so many calls at the same time: as one ends, the next begins.
fn issue(ledger: &SqliteLedger, mut calls: impl Iterator<Item = Call>, in_flight: usize) -> Result<()> {
    let (sender, receiver) = channel();
    let mut open = 0;
    loop {
        while open < in_flight
            && let Some((reserves, records)) = calls.next()
        {
            open += 1;
            let sender = sender.clone();
            ledger.intend(reserves, Box::new(move |answer| drop(sender.send(Step::Intended(records, answer)))));
        }
        if open == 0 {
            return Ok(());
        }
        match receiver.recv()? {
            Step::Intended(records, answer) => {
                all_reserved(&answer.map_err(fault)?)?;
                let sender = sender.clone();
                ledger.record(records, Box::new(move |answer| drop(sender.send(Step::Recorded(answer)))));
            }
            Step::Recorded(answer) => {
                all_durable(&answer.map_err(fault)?)?;
                open -= 1;
            }
        }
    }
}

/// Where a call is.
enum Step {
    Intended(Vec<Record>, std::result::Result<Vec<Intended>, LedgerFault>),
    Recorded(std::result::Result<Vec<Recorded>, LedgerFault>),
}

struct Measured {
    in_flight: usize,
    cpu_us: f64,
    commits: f64,
    per_second: f64,
}

impl Measured {
    /// Issues the certificates, so many at the same time: as one ends, the next begins.
    fn of(ledger: &SqliteLedger, issuances: Vec<IssuanceRows>, in_flight: usize) -> Result<Self> {
        let certificates = issuances.len();
        let (commits, cpu, start) = (ledger.commits(), cpu_microseconds(), Instant::now());
        issue(ledger, issuances.into_iter().map(call_of), in_flight)?;
        let certificates = float(u64::try_from(certificates)?);
        Ok(Self {
            in_flight,
            cpu_us: (cpu_microseconds() - cpu) / certificates,
            commits: float(ledger.commits() - commits) / certificates,
            per_second: certificates / start.elapsed().as_secs_f64(),
        })
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "in_flight": self.in_flight,
            "cpu_us_per_certificate": self.cpu_us,
            "commits_per_certificate": self.commits,
            "certificates_per_second": self.per_second,
        })
    }
}

fn call_of(issuance: IssuanceRows) -> Call {
    (vec![issuance.reserve], vec![issuance.record])
}

/// The time of both steps with nothing else in flight, in microseconds, sorted.
fn lone(ledger: &SqliteLedger, fleet: Fleet, first: u64) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for row in first..first + LONE_CERTIFICATES {
        let call = call_of(fleet.issuance(row, ledger));
        let start = Instant::now();
        issue(ledger, std::iter::once(call), 1)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

fn all_reserved(answers: &[Intended]) -> Result<()> {
    match answers.iter().find(|answer| !matches!(answer, Intended::Reserved)) {
        None => Ok(()),
        Some(other) => Err(format!("a row of the fleet was answered with {other:?}").into()),
    }
}

fn all_durable(answers: &[Recorded]) -> Result<()> {
    if answers.iter().all(|answer| *answer == Recorded::Durable) {
        Ok(())
    } else {
        Err("a reserved row was given up".into())
    }
}

fn fault(fault: LedgerFault) -> Box<dyn Error> {
    format!("the ledger is {fault}").into()
}

fn bytes(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file)?.len())
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[allow(clippy::cast_precision_loss, reason = "rows and bytes of a measurement are far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}

#[allow(clippy::cast_precision_loss, reason = "seconds and nanoseconds of one process are far below 2^52")]
fn cpu_microseconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}

/// A value of this process's `/proc/self/status`, in KiB.
fn kib(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
