//! What an export prints, and that another one goes on exactly where it ended.

use std::collections::BTreeSet;

use authority::Ledger;
use ledger::export::{Export, ExportProblem};
use ledger::fault::OpenProblem;
use ledger::line::{RowEvent, RowLine};
use pki::issue::NodePrefix;

use crate::maker::{Maker, START, ask, revoke};
use crate::{cursor, filled, lines, open, state};

#[test]
fn every_row_and_revocation_has_one_line_behind_what_it_is_about() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let serials = filled(&file, &Maker::new(), 60);
    let lines = lines(&file, None);
    let (mut rows, mut revoked, mut abandoned) = (Vec::new(), BTreeSet::new(), 0);
    for line in &lines {
        match RowLine::read(line.trim_end()).unwrap().event {
            RowEvent::Revoked(serial, _) => {
                assert!(rows.contains(&serial), "a revocation stands behind its row");
                assert!(revoked.insert(*serial.as_bytes()));
            }
            RowEvent::Issued(intent, record) => {
                assert_eq!(record.serial, intent.serial);
                rows.push(intent.serial);
            }
            RowEvent::Abandoned(intent) => {
                abandoned += 1;
                rows.push(intent.serial);
            }
            RowEvent::Reserved(_) => panic!("nothing is reserved: {line}"),
        }
    }
    assert_eq!(rows, serials, "in the order of the ledger");
    assert_eq!((revoked.len(), abandoned), (12, 8));
    let last = lines.iter().rposition(|line| line.contains("ledger.issued")).unwrap();
    let first = lines.iter().position(|line| line.contains("ledger.revoked")).unwrap();
    assert!(first < last, "revocations are not all at the end");
    let ledger = open(&file, 7);
    for serial in serials {
        assert_eq!(state(&ledger, serial).unwrap().1, revoked.contains(serial.as_bytes()));
    }
}

#[test]
fn behind_any_line_another_export_goes_on_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    filled(&file, &Maker::new(), 40);
    let all = lines(&file, None);
    for index in 0..all.len() {
        assert_eq!(lines(&file, Some(&cursor(&all[index]))), all[index + 1..], "behind line {index}");
    }
}

/// An export that is asked again and again while the ledger is written has each line once.
#[test]
fn an_export_that_follows_a_ledger_misses_nothing_and_repeats_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (file, maker) = (folder.path().join("ledger.db"), Maker::new());
    let ledger = open(&file, 7);
    let mut export = Export::begin(&file, None).unwrap();
    let (mut seen, mut serials) = (Vec::new(), Vec::new());
    for number in 1..=50 {
        serials.push(maker.issue(&ledger, number, START + number));
        if number % 4 == 0 {
            revoke(&ledger, serials[usize::try_from(number / 2).unwrap()], START + number);
        }
        let end = export.end().unwrap();
        let mut line = String::new();
        while export.next_line(end, &mut line).unwrap() {
            seen.push(std::mem::take(&mut line));
        }
    }
    let mut once: Vec<String> = lines(&file, None).iter().map(|line| without_cursor(line)).collect();
    let mut seen: Vec<String> = seen.iter().map(|line| without_cursor(line)).collect();
    once.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, once, "the same lines; a revocation that was seen late stands later");
}

fn without_cursor(line: &str) -> String {
    let (before, behind) = line.split_once(r#""cursor":""#).unwrap();
    format!("{before}{}", &behind[34..])
}

#[test]
fn a_cursor_does_not_pass_a_certificate_that_is_being_made() {
    let folder = tempfile::tempdir().unwrap();
    let (file, maker) = (folder.path().join("ledger.db"), Maker::new());
    let ledger = open(&file, 7);
    let first = maker.issue(&ledger, 1, START);
    let slow = ledger.draw(NodePrefix::new(0), [5; 16]);
    let (reserve, record) = maker.row(2, slow, START);
    ask(|done| ledger.intend(vec![reserve], done));
    let last = maker.issue(&ledger, 3, START);
    revoke(&ledger, last, START + 1);
    let before = lines(&file, None);
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(before[0].contains(&first.to_string()));
    ask(|done| ledger.record(vec![record], done));
    let rest = lines(&file, Some(&cursor(&before[0])));
    assert_eq!(rest.len(), 3, "{rest:?}");
    assert!(rest[0].contains(&slow.to_string()) && rest[1].contains(&last.to_string()));
}

#[test]
fn a_cursor_of_another_ledger_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (folder.path().join("small.db"), folder.path().join("large.db"));
    let maker = Maker::new();
    filled(&small, &maker, 2);
    filled(&large, &maker, 12);
    let last = cursor(lines(&large, None).last().unwrap());
    let fault = Export::begin(&small, Some(&last)).unwrap_err();
    assert!(matches!(fault.problem, ExportProblem::Cursor(_)) && fault.to_string().contains("small.db"), "{fault}");
    let none = authority::Cursor::from_bytes([0xff; 16]);
    assert!(matches!(Export::begin(&large, Some(&none)).unwrap_err().problem, ExportProblem::Cursor(_)));
    rusqlite::Connection::open(&small).unwrap().pragma_update(None, "user_version", 1).unwrap();
    let fault = Export::begin(&small, None).unwrap_err();
    assert!(matches!(fault.problem, ExportProblem::Ledger(OpenProblem::NeedsMigration { .. })), "{fault}");
}
