//! A ledger in SQLite does what every ledger has to do.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use authority::{
    Completion, Finding, Function, Inquiry, Ledger, LedgerFault, ProfileVersion, RefusalRecord, Registration,
    RelayLedger,
};
use ledger::sqlite::{Fresh, connect_beside};
use ledger::{AuditSettings, SqliteLedger};
use pki::Digest;
use pki::issue::{NodePrefix, Serial};
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
    let make = || -> Arc<dyn RelayLedger> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ledger.db");
        folders.borrow_mut().push(folder);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_000));
        Arc::new(SqliteLedger::open(&file, Fresh { serial_key: [7; 16] }, now).unwrap())
    };
    sim::relay_contract::holds(&make);
}

/// Each start is that of a process after one that ended without a word to its devices.
#[test]
fn e39_a_key_that_was_on_its_way_when_the_process_ended_leaves_no_good_certificate() {
    let (folder, time) = (tempfile::tempdir().unwrap(), Cell::new(1_000));
    let open = |name: &str| {
        time.set(time.get() + 1);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(time.get()));
        let fresh = Fresh { serial_key: [7; 16] };
        Arc::new(SqliteLedger::open(&folder.path().join(name), fresh, now).unwrap())
    };
    sim::ledger_contract::holds_over_starts(&mut || open("ca.db"), &|| false);
    sim::relay_contract::holds_over_starts(&mut || open("registrar.db"));
}

fn answer<T: Send + 'static>(ask: impl FnOnce(Completion<Result<T, LedgerFault>>)) -> Result<T, LedgerFault> {
    let (sender, receiver) = mpsc::channel();
    ask(Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap()
}

/// The certificate of a manufacturer, or of another CA whose serial numbers look like ours, has no row: a first enrolment waits for no other thread.
/// Whoever shows a serial number that was drawn here is looked up.
#[test]
fn a_factory_certificate_is_answered_by_the_thread_that_asks() {
    let folder = tempfile::tempdir().unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_000));
    let file = folder.path().join("ledger.db");
    let ledger = SqliteLedger::open(&file, Fresh { serial_key: [7; 16] }, now).unwrap();
    let asks = |serial: Option<Serial>| {
        let (sender, receiver) = mpsc::channel();
        let inquiry = Inquiry { client: Digest::of(b"client"), serial, device: None, profile: "meters".into() };
        let answered = move |answer: Result<Vec<Finding>, LedgerFault>| {
            sender.send((thread::current().id(), answer.unwrap())).unwrap();
        };
        ledger.standing(vec![inquiry], Box::new(answered));
        receiver.recv().unwrap()
    };
    let drawn = ledger.draw(NodePrefix::new(0), [9; 16]);
    let unknown = vec![Finding { holder: None, registration: Registration::Unlisted }];
    for (serial, is_here) in
        [(None, true), (Some(Serial::new(NodePrefix::new(0), [0x5A; 16])), true), (Some(drawn), false)]
    {
        let (answered_by, findings) = asks(serial);
        assert_eq!((answered_by == thread::current().id(), findings), (is_here, unknown.clone()), "{serial:?}");
    }
}

/// A panic of the writer: whoever asks is told that the ledger is broken, first of all the one whose batch it was, and nobody waits for a thread that
/// is gone. What the audit has to record of refusals is written all the same.
#[test]
fn e56_a_writer_that_panics_says_that_the_ledger_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let panics = Arc::new(AtomicBool::new(false));
    let clock = Arc::clone(&panics);
    let mut settings = AuditSettings::beside(&file, NodePrefix::new(0));
    settings.clock = Arc::new(move || {
        assert!(!clock.swap(false, Ordering::Relaxed), "the clock is broken");
        UnixTime::since_unix_epoch(Duration::from_secs(1_000))
    });
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_000));
    let ledger = SqliteLedger::open_audited(&file, Fresh { serial_key: [7; 16] }, &settings, now).unwrap();
    ledger.refused(vec![RefusalRecord {
        reason: "est.client.expired",
        function: Function::SimpleEnroll,
        profile: "meters".into(),
        profile_version: ProfileVersion::from_bytes([3; 8]),
        device: None,
        client: Digest::of(b"client"),
        peer: ([192, 0, 2, 1], 40_000).into(),
        at: now,
    }]);
    panics.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(answer(|done| ledger.flush(done)), Err(LedgerFault::Broken));
    }
    assert_eq!(answer(|done| ledger.health(done)).map(drop), Err(LedgerFault::Broken));
    assert_eq!(ledger.writes().fault, Some(LedgerFault::Broken.to_string()));
    drop(ledger);
    let body: String =
        connect_beside(&file).unwrap().query_row("SELECT body FROM audit", [], |row| row.get(0)).unwrap();
    assert!(body.contains("est.client.expired"), "{body}");
}
