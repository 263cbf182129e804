//! A ledger in SQLite does what every ledger has to do.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use authority::{Ledger, LedgerFault};
use ledger::sqlite::Fresh;
use ledger::{AuditSettings, SqliteLedger};
use pki::issue::NodePrefix;
use rustls_pki_types::UnixTime;

#[test]
fn the_contract_of_every_ledger_holds() {
    let folders = RefCell::new(Vec::new());
    let make = || -> Arc<dyn Ledger> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        folders.borrow_mut().push(folder);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_000));
        Arc::new(SqliteLedger::open(&file, Fresh { serial_key: [7; 16] }, now).unwrap())
    };
    sim::ledger_contract::holds(&make);
}

/// A panic of the writer outside of a row: whoever asks is told that the ledger is broken, and nobody waits for a thread that is gone.
#[test]
fn e56_a_writer_that_panics_says_that_the_ledger_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let panics = Arc::new(AtomicBool::new(false));
    let clock = Arc::clone(&panics);
    let mut settings = AuditSettings::beside(&file, NodePrefix::new(0));
    settings.clock = Arc::new(move || {
        assert!(!clock.load(Ordering::Relaxed), "the clock is broken");
        UnixTime::since_unix_epoch(Duration::from_secs(1_000))
    });
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_000));
    let ledger = SqliteLedger::open_audited(&file, Fresh { serial_key: [7; 16] }, &settings, now).unwrap();
    panics.store(true, Ordering::Relaxed);
    // The thread that panics has taken the first one: its completion is dropped, which counts as a fault. The second one is answered.
    let (dropped, nothing) = mpsc::channel::<()>();
    ledger.flush(Box::new(move |_| drop(dropped)));
    assert!(nothing.recv().is_err());
    let (sender, answer) = mpsc::channel();
    ledger.flush(Box::new(move |flushed| sender.send(flushed).unwrap()));
    assert_eq!(answer.recv().unwrap(), Err(LedgerFault::Broken));
    let (sender, health) = mpsc::channel();
    ledger.health(Box::new(move |answer| sender.send(answer.map(drop)).unwrap()));
    assert_eq!(health.recv().unwrap(), Err(LedgerFault::Broken));
}
