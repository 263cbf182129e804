//! What a Registrar relayed, as lines of JSON, and back.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use authority::{Actor, Cursor, RelayEnd, RelayId, RelayLedger};
use ledger::export::{ExportProblem, RelayExport};
use ledger::import::{ImportFault, ImportFlaw, ImportReport, ImportRequest, import};
use ledger::sqlite::Fresh;
use ledger::verify::{RowFlaw, verify_rows};
use ledger::{AuditSettings, JournalSettings, LedgerSettings, SqliteLedger};
use pki::issue::{NodePrefix, Serial};

use crate::maker::{Maker, START, ask, mark, relay, relay_record, relay_request, utc};
use crate::open;

const REQUESTS: u8 = 12;
/// The clock of the imports.
const NOW: u64 = START + 5_000;

type Row = (authority::Intent, authority::Record);

/// Requests and their certificates, each made once.
struct Rows {
    maker: Maker,
    made: RefCell<BTreeMap<u8, Row>>,
}

impl Rows {
    fn new() -> Self {
        Self { maker: Maker::new(), made: RefCell::default() }
    }
}

fn row(rows: &Rows, number: u8) -> Row {
    let make = || {
        let serial = Serial::new(NodePrefix::new(9), [number; 16]);
        let (reserve, record) = rows.maker.row(number.into(), serial, START + u64::from(number));
        (reserve.intent, record)
    };
    rows.made.borrow_mut().entry(number).or_insert_with(make).clone()
}

/// Waits until what was asked for before is done.
fn settle(ledger: &SqliteLedger) {
    ask(|done| authority::Ledger::flush(ledger, done));
}

/// Every third request has no certificate, every fourth one is marked as revoked, and the last one has two certificates.
fn filled(file: &Path, rows: &Rows) {
    let ledger = open(file, 7);
    for number in 1..=REQUESTS {
        let (intent, record) = row(rows, number);
        if number % 3 == 0 {
            let id = relay(&ledger, &intent, None);
            if number % 2 == 0 {
                ledger.end(vec![(id, RelayEnd::Unknown)]);
            }
            continue;
        }
        let id = relay(&ledger, &intent, Some(&record));
        if number % 4 == 0 {
            mark(&ledger, record.issued.digest, START + 100);
        }
        if number == REQUESTS - 1 {
            let (_, second) = row(rows, 99);
            ask(|done| RelayLedger::record(&ledger, vec![relay_record(id, &second)], done));
        }
    }
    settle(&ledger);
}

fn lines(file: &Path, after: Option<&Cursor>) -> Vec<String> {
    let mut export = RelayExport::begin(file, NodePrefix::new(0), after).unwrap();
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if !export.next_line(&mut line).unwrap() {
            return lines;
        }
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        assert_eq!(export.cursor(), cursor(&line));
        lines.push(line);
    }
}

fn member(line: &str, name: &str) -> serde_json::Value {
    serde_json::from_str::<serde_json::Value>(line).unwrap()[name].clone()
}

fn cursor(line: &str) -> Cursor {
    Cursor::from_bytes(hex::decode(member(line, "cursor").as_str().unwrap()).unwrap().try_into().unwrap())
}

/// Without what differs between two ledgers.
fn without_cursor(lines: &[String]) -> Vec<serde_json::Value> {
    let without = |line: &String| {
        let mut object: serde_json::Value = serde_json::from_str(line).unwrap();
        object.as_object_mut().unwrap().remove("cursor");
        object
    };
    lines.iter().map(without).collect()
}

/// Behind each line goes on what follows it.
#[track_caller]
fn goes_on_behind_each(file: &Path, all: &[String]) {
    for (place, line) in all.iter().enumerate() {
        assert_eq!(lines(file, Some(&cursor(line))), all[place + 1..], "behind {line}");
    }
}

fn import_lines(file: &Path, text: &str, dry_run: bool) -> Result<ImportReport, ImportFault> {
    let source = file.with_extension("jsonl");
    fs::write(&source, text).unwrap();
    let settings = LedgerSettings {
        audit: AuditSettings::beside(file, NodePrefix::new(0)),
        journal: Some(JournalSettings::beside(file)),
    };
    let actor = Actor::new("alice").unwrap();
    let request = ImportRequest { lines: &source, issuers: &[], actor: &actor, now: utc(NOW), dry_run };
    import(file, Fresh { serial_key: [8; 16] }, &settings, request, &mut |_, _| ())
}

#[test]
fn each_cursor_is_where_another_export_goes_on_and_a_change_has_lines_again() {
    let folder = tempfile::tempdir().unwrap();
    let (file, rows) = (folder.path().join("ledger.db"), Rows::new());
    filled(&file, &rows);
    let all = lines(&file, None);
    assert_eq!(all.iter().filter(|line| line.contains("relay.request")).count(), usize::from(REQUESTS));
    goes_on_behind_each(&file, &all);

    let last = cursor(all.last().unwrap());
    let ledger = open(&file, 7);
    let (_, third) = row(&rows, 3);
    ask(|done| RelayLedger::record(&ledger, vec![relay_record(RelayId::new(3), &third)], done));
    mark(&ledger, third.issued.digest, START + 200);
    mark(&ledger, row(&rows, 1).1.issued.digest, START + 200);
    ledger.end(vec![(RelayId::new(9), RelayEnd::Refused)]);
    let new = row(&rows, 50).0;
    relay(&ledger, &new, None);
    settle(&ledger);
    drop(ledger);
    let changed = lines(&file, Some(&last));
    let told: Vec<(String, u64)> = changed
        .iter()
        .map(|line| (member(line, "type").as_str().unwrap().to_owned(), member(line, "request").as_u64().unwrap()))
        .collect();
    let told: Vec<(&str, u64)> = told.iter().map(|(kind, request)| (kind.as_str(), *request)).collect();
    assert_eq!(
        told,
        [
            ("relay.request", 3),
            ("relay.certificate", 3),
            ("relay.request", 1),
            ("relay.certificate", 1),
            ("relay.closed", 9),
            ("relay.request", u64::from(REQUESTS) + 1),
        ],
        "each once, however often it changed"
    );
    assert!(changed[1].contains("revoked_at") && changed[3].contains("revoked_at"));
    goes_on_behind_each(&file, &changed);
    assert_eq!(lines(&file, Some(&cursor(changed.last().unwrap()))), Vec::<String>::new());

    let elsewhere = Cursor::from_bytes([0x7f; 16]);
    let fault = RelayExport::begin(&file, NodePrefix::new(0), Some(&elsewhere)).unwrap_err();
    assert!(matches!(fault.problem, ExportProblem::Cursor(it) if it == elsewhere), "{fault}");
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute("DELETE FROM audit WHERE sequence < (SELECT max(sequence) FROM audit)", [])
        .unwrap();
    let mut export = RelayExport::begin(&file, NodePrefix::new(0), Some(&last)).unwrap();
    let fault = export.next_line(&mut String::new()).unwrap_err();
    assert!(fault.to_string().contains("Export without --after"), "{fault}");
}

#[test]
fn an_import_of_what_was_relayed_is_the_same_rows_and_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let rows = Rows::new();
    filled(&old, &rows);
    let all = lines(&old, None);
    let of_kind = |kind: &str| all.iter().filter(|line| line.contains(kind)).count() as u64;
    let dry = import_lines(&new, &all.concat(), true).unwrap();
    assert!(!new.exists(), "a dry run writes nothing");
    let report = import_lines(&new, &all.concat(), false).unwrap();
    assert_eq!(report, dry, "what was planned is done");
    assert_eq!((report.relayed, report.relayed_certificates), (of_kind("relay.request"), of_kind("relay.certificate")));
    assert_eq!((report.revocations, report.rows, report.known), (of_kind("revoked_at"), 0, 0));
    assert_eq!(without_cursor(&lines(&new, None)), without_cursor(&all));
    let verified = verify_rows(&new, &[], &mut |_, _| ()).unwrap();
    assert_eq!((verified.relayed, verified.relayed_certificates), (report.relayed, report.relayed_certificates));

    let again = import_lines(&new, &all.concat(), false).unwrap();
    assert_eq!((again.relayed, again.relayed_certificates, again.known), (0, 0, again.lines));
    // It goes on behind the last number, and answers repeats.
    let ledger = open(&new, 8);
    let begun = ask(|done| ledger.begin(vec![relay_request(&row(&rows, 1).0)], done));
    assert!(matches!(begun[..], [authority::Begun::Repeat(_)]), "{begun:?}");
    assert_eq!(relay(&ledger, &row(&rows, 60).0, None), RelayId::new(u64::from(REQUESTS) + 1));
    // A mark that came since, and a request that was closed since.
    drop(ledger);
    let ledger = open(&old, 7);
    mark(&ledger, row(&rows, 1).1.issued.digest, START + 300);
    ledger.end(vec![(RelayId::new(9), RelayEnd::Refused)]);
    settle(&ledger);
    drop(ledger);
    let changed = lines(&old, Some(&cursor(all.last().unwrap())));
    let report = import_lines(&new, &changed.concat(), false).unwrap();
    assert_eq!((report.relayed, report.relayed_certificates, report.revocations), (0, 0, 1));
    let ids: Vec<u64> = lines(&new, None).iter().map(|line| member(line, "request").as_u64().unwrap()).collect();
    assert!(!ids.contains(&9), "{ids:?}");
}

#[test]
fn a_line_at_fault_is_refused_and_nothing_is_imported() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let rows = Rows::new();
    filled(&old, &rows);
    let all = lines(&old, None);
    let (request, certificate) = (&all[0], &all[1]);
    let flaw = |text: String| match import_lines(&new, &text, false).unwrap_err() {
        ImportFault::Line { flaw, .. } => flaw,
        other => panic!("{other}"),
    };
    assert!(matches!(flaw(certificate.clone()), ImportFlaw::NoRequest));
    let serial = member(certificate, "serial").as_str().unwrap().to_owned();
    let other_serial = certificate.replace(&serial, &"ab".repeat(serial.len() / 2));
    let found = flaw(request.clone() + &other_serial);
    assert!(matches!(found, ImportFlaw::Row(RowFlaw::Differs(_))), "{found:?}");
    let csr = member(request, "csr").as_str().unwrap().to_owned();
    let other_request = request.replace(&csr, &"ab".repeat(32));
    assert!(matches!(flaw(request.clone() + &other_request), ImportFlaw::RelayedContradiction));
    let of_second = certificate.replace("\"request\":1,", "\"request\":2,");
    let found = flaw(request.clone() + certificate + &all[2] + &of_second);
    assert!(matches!(found, ImportFlaw::RelayedContradiction), "{found:?}");
    let closed = "{\"type\":\"relay.closed\",\"version\":1,\"request\":1}\n".to_owned();
    let found = flaw(request.clone() + &closed + certificate);
    assert!(matches!(found, ImportFlaw::NoRequest), "{found:?}");
    assert!(matches!(flaw(request.trim_end().to_owned()), ImportFlaw::Cut));
    let at = member(request, "attempted_at").to_string();
    let ahead = request.replace(&format!("\"attempted_at\":{at}"), &format!("\"attempted_at\":{}", NOW + 9_000));
    assert!(matches!(flaw(ahead), ImportFlaw::Ahead { .. }));
    let far = request.replace("\"request\":1,", "\"request\":9007199254740993,");
    assert!(matches!(flaw(far), ImportFlaw::Cursor));
    assert_eq!(lines(&new, None), Vec::<String>::new(), "nothing was imported");

    // A ledger that has another request of the number.
    let ledger = open(&new, 8);
    relay(&ledger, &row(&rows, 77).0, None);
    drop(ledger);
    assert!(matches!(flaw(all.concat()), ImportFlaw::RelayedContradiction));
    assert_eq!(lines(&new, None).len(), 1);
}
