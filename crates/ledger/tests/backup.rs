//! A ledger of a hundred thousand rows is copied while it is written: the copy is one moment of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test of a shell: it runs threads")]

#[allow(dead_code, reason = "several tests share it")]
#[path = "power/sample.rs"]
mod sample;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use authority::{Completion, Intended, Ledger, LedgerFault, Recorded};
use ledger::SqliteLedger;
use ledger::backup::backup;
use ledger::sqlite::Fresh;
use pki::issue::NodePrefix;
use rusqlite::Connection;

use sample::{NOW, utc};

const ROWS: u64 = 100_000;
const BATCH: u64 = 1_000;

fn ask<T: Send + 'static>(question: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> T {
    let (sender, answer) = mpsc::channel();
    question(Box::new(move |answer| sender.send(answer).unwrap()));
    answer.recv().unwrap().unwrap()
}

/// Reserves and records rows behind this number.
fn issue(ledger: &SqliteLedger, from: u64, rows: u64) {
    let serials: Vec<_> =
        (from..from + rows).map(|number| (number, ledger.draw(NodePrefix::new(1), [9; 16]))).collect();
    // Each device has a few rows, and no limit.
    let reserves = serials.iter().map(|(number, serial)| sample::reserve(sample::intent(*number, *serial))).collect();
    let answers = ask(|done| ledger.intend(reserves, done));
    assert!(answers.iter().all(|answer| matches!(answer, Intended::Reserved)));
    let records = serials.iter().map(|(number, serial)| sample::record(*number, *serial)).collect();
    assert!(ask(|done| ledger.record(records, done)).iter().all(|answer| *answer == Recorded::Durable));
}

fn number(file: &Path, sql: &str) -> i64 {
    Connection::open(file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What `journal_size_limit` leaves of a log that had to grow: twice the pages at which it is copied into the file.
const LOG_BYTES_MAX: u64 = 2 * 8_000 * 4_120;

#[test]
fn a_log_that_a_long_reading_made_long_is_shortened_when_that_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let log = || fs::metadata(folder.path().join("ledger.db-wal")).unwrap().len();
    let ledger = SqliteLedger::open(&file, Fresh { serial_key: [7; 16] }, utc(NOW)).unwrap();
    let reader = Connection::open(&file).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM intent;").unwrap();
    let mut next = 0;
    while log() < 2 * LOG_BYTES_MAX {
        issue(&ledger, next, BATCH);
        next += BATCH;
        assert!(next < 10 * ROWS, "the log does not grow: {}", log());
    }
    drop(reader);
    for _ in 0..3 {
        issue(&ledger, next, 10);
        next += 10;
    }
    assert!(log() <= LOG_BYTES_MAX, "{} bytes", log());
}

#[test]
fn a_copy_of_a_large_ledger_under_writes_is_one_moment_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (file, copy) = (folder.path().join("ledger.db"), folder.path().join("copy.db"));
    let open = |file: &Path| SqliteLedger::open(file, Fresh { serial_key: [7; 16] }, utc(NOW)).unwrap();
    let ledger = open(&file);
    for batch in 0..ROWS / BATCH {
        issue(&ledger, batch * BATCH, BATCH);
    }
    let is_over = AtomicBool::new(false);
    let (before, during) = thread::scope(|scope| {
        let copying = scope.spawn(|| {
            backup(&file, &copy).unwrap();
            is_over.store(true, Ordering::Release);
        });
        let (before, mut next) = (ledger.rows(), ROWS);
        while !is_over.load(Ordering::Acquire) {
            issue(&ledger, next, 10);
            next += 10;
            // Until it is whole it has another name: a backup that is killed leaves no file of this one.
            assert!(!(copy.exists() && folder.path().join("copy.db.part").exists()));
            if copying.is_finished() {
                break;
            }
        }
        (before, ledger.rows())
    });
    assert!(during > before, "rows were written meanwhile");
    let rows = number(&copy, "SELECT rows FROM tally");
    assert!((i64::try_from(before).unwrap()..=i64::try_from(during).unwrap()).contains(&rows));
    for table in ["intent", "place"] {
        assert_eq!(number(&copy, &format!("SELECT count(*) FROM {table}")), rows);
    }
    let issued = number(&copy, "SELECT issued FROM tally");
    assert_eq!(number(&copy, "SELECT count(*) FROM certificate"), issued);
    let said: String =
        Connection::open(&copy).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
    drop(ledger);
    // It opens, and issues.
    let place = tempfile::tempdir().unwrap();
    let restored = place.path().join("ledger.db");
    fs::copy(&copy, &restored).unwrap();
    let ledger = open(&restored);
    issue(&ledger, 10 * ROWS, 1);
    assert_eq!(i64::try_from(ledger.rows()).unwrap(), rows + 1);
}
