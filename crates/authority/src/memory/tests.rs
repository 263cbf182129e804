//! The promises of the in-memory ledger beyond the contract of every ledger, and its bounds.

use std::sync::mpsc;
use std::time::Duration;

use pki::issue::{NodePrefix, RevocationReason};
use pki::{Digest, Validity};

use super::*;
use crate::device::{Device, DeviceId};
use crate::entry::Cursor;
use crate::function::Function;
use crate::idempotency::RepeatWindow;
use crate::intent::{FactoryKeys, Intent, NewRow};
use crate::ledger::INTENT_LIFETIME;
use crate::origin::Origin;
use crate::profile_version::ProfileVersion;
use crate::revocation::{Actor, Revocation};
use crate::standing::State;

const LIFE: u64 = 900_000;
const WINDOW: u64 = 86_400;

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn serial(number: u8) -> Serial {
    Serial::new(NodePrefix::new(1), [number; 16])
}

fn device(id: &str) -> Device {
    Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new(id).unwrap() }
}

fn intent(number: u8, csr: &[u8], at_seconds: u64) -> Intent {
    let device = device("d");
    Intent {
        serial: serial(number),
        to_be_signed: Digest::of(&[number]),
        function: Function::SimpleEnroll,
        profile: "p".into(),
        profile_version: ProfileVersion::from_bytes([3; 8]),
        device: device.clone(),
        ca: AnchorId::from_bytes([2; 32]),
        anchor: device.manufacturer,
        vouched_by: Origin::Manufacturer,
        factory_key: Some(Digest::of(b"factory")),
        client: Digest::of(b"idevid"),
        csr: Digest::of(csr),
        spki: Digest::of(csr),
        names: Digest::of(csr),
        subject: pki::NameBuilder::new().finish().unwrap(),
        validity: Validity { not_before: at(at_seconds), not_after: at(at_seconds + LIFE) },
        peer: ([192, 0, 2, 1], 40_000).into(),
        at: at(at_seconds),
    }
}

/// Asks for a row under the conditions of a profile that allows a device four certificates.
fn reserve(intent: Intent) -> Reserve {
    Reserve { intent, factory_keys: FactoryKeys::Refused, new_row: NewRow::Allowed, certificates_max: 4 }
}

fn intend(ledger: &MemoryLedger, intent: Intent) -> Intended {
    intend_row(ledger, reserve(intent))
}

fn intend_row(ledger: &MemoryLedger, row: Reserve) -> Intended {
    let (sender, receiver) = mpsc::channel();
    ledger.intend(vec![row], Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap().remove(0)
}

fn record(ledger: &MemoryLedger, number: u8, at_seconds: u64) -> (Recorded, Digest) {
    let validity = Validity { not_before: at(at_seconds), not_after: at(at_seconds + LIFE) };
    let issued = Issued {
        device: device("d"),
        profile: "p".into(),
        certificate: vec![number],
        digest: Digest::of(&[number]),
        validity,
        at: at(at_seconds),
    };
    let (digest, window) = (issued.digest, RepeatWindow::new(issued.at, Duration::from_secs(WINDOW), &validity));
    let (sender, receiver) = mpsc::channel();
    let row = Record { serial: serial(number), issued: Arc::new(issued), window };
    ledger.record(vec![row], Box::new(move |answer| sender.send(answer).unwrap()));
    (receiver.recv().unwrap().unwrap().remove(0), digest)
}

fn standing(ledger: &MemoryLedger, certificate: Digest) -> Option<State> {
    let (sender, receiver) = mpsc::channel();
    ledger.standing(vec![inquiry(certificate)], Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap().remove(0).holder.map(|it| it.state)
}

fn inquiry(client: Digest) -> Inquiry {
    Inquiry { client, serial: None, device: None, profile: "p".into() }
}

fn revocation(at_seconds: u64) -> Revocation {
    Revocation { reason: RevocationReason::Superseded, at: at(at_seconds), actor: Actor::server() }
}

fn revoke(ledger: &MemoryLedger, row: Locator, at_seconds: u64) -> Revoked {
    let (sender, receiver) = mpsc::channel();
    let row = Revoke { row, revocation: revocation(at_seconds) };
    ledger.revoke(vec![row], Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap().remove(0)
}

fn compromise(ledger: &MemoryLedger, row: Locator, at_seconds: u64) -> Revoked {
    let (sender, receiver) = mpsc::channel();
    let revocation = Revocation { reason: RevocationReason::KeyCompromise, ..revocation(at_seconds) };
    ledger.revoke(vec![Revoke { row, revocation }], Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap().remove(0)
}

fn page(after: Option<Cursor>, rows_max: usize) -> ListQuery {
    ListQuery { filter: RowFilter::default(), after, rows_max }
}

fn list(ledger: &MemoryLedger, query: ListQuery) -> (Vec<Serial>, Option<Cursor>) {
    let (sender, receiver) = mpsc::channel();
    ledger.list(query, Box::new(move |answer| sender.send(answer).unwrap()));
    let listing = receiver.recv().unwrap().unwrap();
    (listing.rows.iter().map(|row| row.intent.serial).collect(), listing.next)
}

fn count(ledger: &MemoryLedger, filter: RowFilter) -> u64 {
    let (sender, receiver) = mpsc::channel();
    ledger.count(filter, Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap()
}

fn health(ledger: &MemoryLedger) -> (u64, Option<u64>) {
    let (sender, receiver) = mpsc::channel();
    ledger.health(Box::new(move |answer| sender.send(answer).unwrap()));
    let health = receiver.recv().unwrap().unwrap();
    (health.rows, health.room)
}

#[test]
fn a_full_ledger_is_in_health_and_says_that_it_has_no_room() {
    let ledger = MemoryLedger::new(2);
    assert_eq!(health(&ledger), (0, Some(2)));
    intend(&ledger, intent(1, b"1", 0));
    record(&ledger, 1, 0);
    assert_eq!(health(&ledger), (1, Some(1)));
    intend(&ledger, intent(2, b"2", 0));
    ledger.abandon(vec![serial(2)]);
    assert_eq!(health(&ledger), (2, Some(0)), "a row that was given up takes room until another one needs it");
    assert!(matches!(intend(&ledger, intent(3, b"3", 1)), Intended::Reserved));
    assert!(matches!(intend(&ledger, intent(4, b"4", 1)), Intended::Full));
    assert_eq!(health(&ledger), (2, Some(0)), "it holds as much as before");
}

#[test]
fn a_row_that_is_forgotten_between_two_pages_moves_no_other() {
    let ledger = MemoryLedger::new(4);
    for number in 1..=4 {
        intend(&ledger, intent(number, &[number], 0));
    }
    let (first, next) = list(&ledger, page(None, 2));
    assert_eq!(first, [serial(1), serial(2)]);
    // The row that the first page ended with is forgotten, and so is the first row of the second
    // page.
    ledger.abandon(vec![serial(2), serial(3)]);
    for number in [5, 6] {
        assert!(matches!(intend(&ledger, intent(number, &[number], 1)), Intended::Reserved));
    }
    let (second, next) = list(&ledger, page(next, 2));
    assert_eq!((second, next.is_some()), (vec![serial(4), serial(5)], true));
    assert_eq!(list(&ledger, page(next, 2)), (vec![serial(6)], None));
    assert_eq!(count(&ledger, RowFilter::default()), 4);
}

#[test]
fn rows_behind_more_than_one_look_are_listed_and_counted() {
    let rows = u32::try_from(LOOKS_MAX).unwrap() * 2 + 2;
    let ledger = MemoryLedger::new(usize::try_from(rows).unwrap());
    for number in 0..rows {
        let mut random = [0; 16];
        random[..4].copy_from_slice(&number.to_be_bytes());
        // The last row of the second look, and the last one of all.
        let profile = if number + 3 == rows || number + 1 == rows { "rare" } else { "p" };
        let row = Intent {
            serial: Serial::new(NodePrefix::new(1), random),
            profile: profile.into(),
            ..intent(1, &number.to_be_bytes(), 0)
        };
        let row = Reserve { certificates_max: u32::MAX, ..reserve(row) };
        assert!(matches!(intend_row(&ledger, row), Intended::Reserved));
    }
    let rare = RowFilter { profile: Some("rare".into()), ..RowFilter::default() };
    assert_eq!(count(&ledger, rare.clone()), 2);
    assert_eq!(count(&ledger, RowFilter::default()), u64::from(rows));
    // One call is one look: the remaining rows are after the cursor.
    let (mut pages, mut next) = (Vec::new(), None);
    loop {
        let (rows, end) = list(&ledger, ListQuery { filter: rare.clone(), ..page(next, 9) });
        pages.push(rows.len());
        next = end;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(pages, [0, 1, 1]);
}

#[test]
fn a_full_ledger_forgets_what_answers_nothing_any_more() {
    let ledger = MemoryLedger::new(2);
    assert!(matches!(intend(&ledger, intent(1, b"1", 0)), Intended::Reserved));
    let (_, first) = record(&ledger, 1, 0);
    assert!(matches!(intend(&ledger, intent(2, b"2", 10)), Intended::Reserved));
    record(&ledger, 2, 10);
    assert!(matches!(intend(&ledger, intent(3, b"3", WINDOW - 1)), Intended::Full), "both still answer repeats");
    assert!(matches!(intend(&ledger, intent(1, b"1", WINDOW - 1)), Intended::Repeat(_)));
    assert!(matches!(intend(&ledger, intent(3, b"3", WINDOW)), Intended::Reserved), "the first is out of its window");
    assert_eq!(standing(&ledger, first), None);
    assert!(matches!(intend(&ledger, intent(2, b"2", WINDOW)), Intended::Repeat(_)), "the second is not");
}

#[test]
fn a_request_that_may_have_no_row_is_answered_by_the_row_that_it_has() {
    let ledger = MemoryLedger::new(4);
    let held = |number, csr: &[u8]| Reserve { new_row: NewRow::Held, ..reserve(intent(number, csr, 10)) };
    assert!(matches!(intend_row(&ledger, held(1, b"1")), Intended::Held));
    assert!(matches!(intend(&ledger, intent(1, b"1", 10)), Intended::Reserved), "nothing had been reserved");
    assert!(matches!(intend_row(&ledger, held(2, b"1")), Intended::InProgress));
    record(&ledger, 1, 10);
    assert!(matches!(intend_row(&ledger, held(2, b"1")), Intended::Repeat(_)));
    assert!(matches!(intend_row(&ledger, held(1, b"2")), Intended::Held), "before the serial is looked at");
    assert_eq!(ledger.lock().unwrap().len(), 1);
}

#[test]
fn a_revocation_is_kept_until_the_certificate_has_expired() {
    let ledger = MemoryLedger::new(1);
    intend(&ledger, intent(1, b"1", 0));
    let (_, first) = record(&ledger, 1, 0);
    assert_eq!(revoke(&ledger, Locator::Certificate(serial(1), first), 5), Revoked::Now);
    assert!(matches!(intend(&ledger, intent(2, b"2", LIFE)), Intended::Full));
    assert_eq!(standing(&ledger, first), Some(State::Revoked(revocation(5))));
    assert!(matches!(intend(&ledger, intent(2, b"2", LIFE + 1)), Intended::Reserved));
}

#[test]
fn an_intent_is_in_progress_until_its_lifetime_ends_and_a_late_record_is_turned_away() {
    let ledger = MemoryLedger::new(4);
    intend(&ledger, intent(1, b"1", 0));
    let end = INTENT_LIFETIME.as_secs();
    assert!(matches!(intend(&ledger, intent(2, b"1", end - 1)), Intended::InProgress));
    assert!(matches!(intend(&ledger, intent(2, b"1", end)), Intended::Reserved));
    assert_eq!(record(&ledger, 1, 0).0, Recorded::Abandoned);
    assert_eq!(record(&ledger, 2, end).0, Recorded::Durable);
    assert_eq!(record(&ledger, 2, end).0, Recorded::Durable, "the same record again is the same row");
    assert_eq!(ledger.issued_count(), 1);
}

#[test]
fn e25_a_serial_is_taken_by_whatever_has_it_given_up_or_not() {
    let ledger = MemoryLedger::new(4);
    intend(&ledger, intent(1, b"1", 0));
    assert!(matches!(intend(&ledger, intent(1, b"2", 0)), Intended::SerialTaken));
    ledger.abandon(vec![serial(1)]);
    assert!(matches!(intend(&ledger, intent(1, b"2", 0)), Intended::SerialTaken));
    record(&ledger, 1, 0);
    assert_eq!(ledger.issued_count(), 0, "a serial that was given up never gets a certificate");
}

#[test]
fn giving_up_a_renewal_leaves_the_certificate_before_it_in_charge() {
    let ledger = MemoryLedger::new(4);
    intend(&ledger, intent(1, b"1", 0));
    let (_, first) = record(&ledger, 1, 0);
    let renewal = Intent { client: first, ..intent(2, b"1", 10) };
    assert!(matches!(intend(&ledger, renewal), Intended::Reserved));
    ledger.abandon(vec![serial(2)]);
    match intend(&ledger, intent(3, b"1", 20)) {
        Intended::Repeat(issued) => assert_eq!(issued.digest, first),
        other => panic!("{other:?}"),
    }
}

#[test]
fn e22_a_key_belongs_to_the_first_device_that_has_it_certified() {
    let ledger = MemoryLedger::new(4);
    intend(&ledger, intent(1, b"1", 0));
    let other = device("other");
    let stranger = Intent { device: other, ..intent(2, b"1", 0) };
    assert!(matches!(intend(&ledger, stranger.clone()), Intended::KeyOfAnother));
    ledger.abandon(vec![serial(1)]);
    assert!(matches!(intend(&ledger, stranger), Intended::Reserved), "no device holds it any more");
}

#[test]
fn e56_a_ledger_that_panicked_half_way_says_that_it_is_broken() {
    let ledger = MemoryLedger::new(4).since(at(0));
    intend(&ledger, intent(1, b"1", 0));
    let (_, first) = record(&ledger, 1, 0);
    let inside = || {
        let _rows = ledger.lock().unwrap();
        panic!("half way");
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(inside)).is_err());
    let answers = Arc::new(Mutex::new(Vec::new()));
    let keep = || {
        let answers = Arc::clone(&answers);
        move |fault: Option<LedgerFault>| answers.lock().unwrap().push(fault)
    };
    let (standing, intended, recorded) = (keep(), keep(), keep());
    let (found, listed, counted, revoked, health, flushed) = (keep(), keep(), keep(), keep(), keep(), keep());
    ledger.standing(vec![inquiry(first)], Box::new(move |answer| standing(answer.err())));
    ledger.intend(vec![reserve(intent(2, b"2", 0))], Box::new(move |answer| intended(answer.err())));
    ledger.record(Vec::new(), Box::new(move |answer| recorded(answer.err())));
    ledger.abandon(vec![serial(1)]);
    ledger.find(Vec::new(), Box::new(move |answer| found(answer.err())));
    ledger.list(page(None, 1), Box::new(move |answer| listed(answer.err())));
    ledger.count(RowFilter::default(), Box::new(move |answer| counted(answer.err())));
    ledger.revoke(Vec::new(), Box::new(move |answer| revoked(answer.err())));
    ledger.health(Box::new(move |answer| health(answer.err())));
    ledger.flush(Box::new(move |answer| flushed(answer.err())));
    assert_eq!(*answers.lock().unwrap(), [Some(LedgerFault::Broken); 9]);
    assert_eq!((ledger.complete_since(), ledger.issued_count()), (None, 0));
}

#[test]
fn e55_a_device_that_holds_its_share_gets_no_row_until_one_of_its_own_is_over() {
    let ledger = MemoryLedger::new(99);
    for number in 1..=4 {
        assert!(matches!(intend(&ledger, intent(number, &[number], 0)), Intended::Reserved));
        record(&ledger, number, 0);
    }
    assert!(matches!(intend(&ledger, intent(5, b"5", 10)), Intended::DeviceFull));
    assert!(matches!(intend(&ledger, intent(5, &[1], 10)), Intended::Repeat(_)), "a repeat takes no room");
    let other = device("other");
    let of_other = Intent { device: other, ..intent(6, b"other", 10) };
    assert!(matches!(intend(&ledger, of_other), Intended::Reserved));
    assert!(matches!(intend(&ledger, intent(5, b"5", LIFE)), Intended::DeviceFull), "the last second counts");
    assert!(matches!(intend(&ledger, intent(5, b"5", LIFE + 1)), Intended::Reserved));
    assert_eq!(ledger.issued_count(), 0, "the expired ones went with it");
}

#[test]
fn e55_what_is_given_up_neither_counts_nor_piles_up() {
    let ledger = MemoryLedger::new(9);
    for number in 1..=200 {
        assert!(matches!(intend(&ledger, intent(number, &[number], 0)), Intended::Reserved), "{number}");
        ledger.abandon(vec![serial(number)]);
    }
    let rows = ledger.lock().unwrap();
    assert!(rows.devices.values().all(|of_device| of_device.serials.len() <= 4));
}

#[test]
fn a_cursor_of_a_ledger_before_a_restart_comes_before_every_row_after_it() {
    let first_row_since = |began| {
        let ledger = MemoryLedger::new(4).since(at(began));
        assert!(matches!(intend(&ledger, intent(1, b"1", began)), Intended::Reserved));
        let cursor = ledger.lock().unwrap().entries().next().unwrap().cursor;
        (ledger, cursor)
    };
    let (_, kept) = first_row_since(1_000);
    let (restarted, _) = first_row_since(1_001);
    let query = ListQuery { filter: RowFilter::default(), after: Some(kept), rows_max: 10 };
    assert_eq!(restarted.page(&query).unwrap().rows.len(), 1);
}

/// The row takes room, and the key that others may have does not become good when it goes.
#[test]
fn e23_a_compromised_key_is_refused_after_its_row_was_forgotten() {
    let ledger = MemoryLedger::new(1);
    assert!(matches!(intend(&ledger, intent(1, b"first", 10)), Intended::Reserved));
    assert_eq!(compromise(&ledger, Locator::Serial(serial(1)), 20), Revoked::Now);
    let later = LIFE + 100;
    assert!(matches!(intend(&ledger, intent(2, b"second", later)), Intended::Reserved), "the first row is forgotten");
    let other = Intent { device: device("e"), ..intent(3, b"first", later) };
    assert!(matches!(intend(&ledger, other), Intended::KeyCompromised));
}
