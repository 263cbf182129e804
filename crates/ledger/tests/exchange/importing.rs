//! An export is imported into an empty ledger or one that lacks its rows; what is faulty or contradicts is refused before anything is written.

use std::fs;
use std::path::Path;

use authority::{Actor, Intended, Ledger, Locator};
use ledger::backup::backup;
use ledger::fault::OpenProblem;
use ledger::import::{ImportFault, ImportFlaw, ImportReport, ImportRequest, import};
use ledger::sqlite::Fresh;
use ledger::verify::verify_rows;
use ledger::{AuditSettings, LedgerSettings};
use pki::issue::NodePrefix;
use rusqlite::Connection;

use crate::maker::{Maker, START, ask, utc};
use crate::{filled, lines, open, state};

const ROWS: u64 = 60;

/// Imports these lines into the ledger in this file, whose key is this one if it is new.
fn import_lines(file: &Path, key: u8, maker: &Maker, text: &str) -> Result<ImportReport, ImportFault> {
    let source = file.with_extension("jsonl");
    fs::write(&source, text).unwrap();
    let settings = LedgerSettings { audit: AuditSettings::beside(file, NodePrefix::new(0)), journal: None };
    let (issuers, actor) = (maker.issuers(), Actor::new("alice").unwrap());
    let request =
        ImportRequest { lines: &source, issuers: &issuers, actor: &actor, now: utc(START + 5_000), dry_run: false };
    import(file, Fresh { serial_key: [key; 16] }, &settings, request, &mut |_, _| ())
}

#[track_caller]
fn verifies(file: &Path, maker: &Maker) {
    let report = verify_rows(file, &maker.issuers(), &mut |_, _| ()).unwrap();
    assert_eq!(report.unsigned, 0);
}

fn audit(file: &Path) -> String {
    let sql = "SELECT group_concat(body, char(10)) FROM audit";
    Connection::open(file).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Rows, and revocations of them.
fn parts(all: &[String]) -> (u64, u64) {
    let revocations = all.iter().filter(|line| line.contains("ledger.revoked")).count();
    (u64::try_from(all.len() - revocations).unwrap(), u64::try_from(revocations).unwrap())
}

/// The serial numbers of the new ledger are made with another key: the imported ones are found all the same, and the next ones are its own.
#[test]
fn an_export_of_an_import_is_the_same_bytes_with_another_key_of_serial_numbers() {
    for key in [7, 8] {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
        let maker = Maker::new();
        let serials = filled(&old, &maker, ROWS);
        let all = lines(&old, None);
        let report = import_lines(&new, key, &maker, &all.concat()).unwrap();
        assert_eq!((report.rows, report.revocations), parts(&all));
        assert_eq!((report.known, report.unsigned), (0, 0));
        assert_eq!(lines(&new, None), all);
        verifies(&new, &maker);
        assert!(audit(&new).contains(r#""type":"imported""#) && audit(&new).contains(r#""actor":"alice""#));

        let again = import_lines(&new, key, &maker, &all.concat()).unwrap();
        assert_eq!((again.rows, again.revocations, again.known), (0, 0, again.lines));
        assert_eq!(lines(&new, None), all);
        assert_eq!(audit(&new).matches(r#""type":"imported""#).count(), 1, "nothing was imported a second time");

        let (before, after) = (open(&old, 7), open(&new, key));
        for (number, serial) in (1..).zip(&serials) {
            assert_eq!(state(&before, *serial), state(&after, *serial));
            let device = maker.row(number, *serial, START).0.intent.device;
            let newest =
                |ledger| ask(|done| Ledger::find(ledger, vec![Locator::NewestOf(device.clone())], done)).remove(0);
            let (before, after) = (newest(&before), newest(&after));
            assert_eq!(before.map(|row| row.intent.serial), after.map(|row| row.intent.serial));
        }
        let next = maker.issue(&after, 1_000, START + 6_000);
        assert!(!serials.contains(&next));
        drop(after);
        verifies(&new, &maker);
        assert_eq!(lines(&new, None)[..all.len()], all[..], "the new row stands behind the imported ones");
    }
}

/// A request whose certificate was imported is answered by it, and not by a second certificate.
#[test]
fn an_imported_certificate_answers_the_repeat_of_its_request() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let maker = Maker::new();
    let (reserve, record) = maker.issue_row(&open(&old, 7), 1, START);
    import_lines(&new, 8, &maker, &lines(&old, None).concat()).unwrap();
    let ledger = open(&new, 8);
    let mut repeat = reserve;
    repeat.intent.serial = ledger.draw(NodePrefix::new(0), [5; 16]);
    let answer = ask(|done| ledger.intend(vec![repeat], done)).remove(0);
    let Intended::Repeat(issued) = answer else { panic!("{answer:?}") };
    assert_eq!(issued.certificate, record.issued.certificate);
}

/// A backup that lacks the last rows gets them from an export.
#[test]
fn a_ledger_that_lacks_rows_gets_them_and_exports_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (old, copy) = (folder.path().join("old.db"), folder.path().join("copy.db"));
    let maker = Maker::new();
    let first = filled(&old, &maker, 20);
    backup(&old, &copy).unwrap();
    let ledger = open(&old, 7);
    maker.issue(&ledger, 1_000, START + 100);
    crate::revoke(&ledger, first[18], START + 200);
    maker.issue(&ledger, 1_001, START + 300);
    drop(ledger);
    let all = lines(&old, None);
    let report = import_lines(&copy, 9, &maker, &all.concat()).unwrap();
    assert_eq!((report.rows, report.revocations), (2, 1));
    assert_eq!(lines(&copy, None), all);
    verifies(&copy, &maker);
    let sql = "SELECT count(*) FROM foreign_serial";
    let foreign: i64 = Connection::open(&copy).unwrap().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(foreign, 0, "the copy has the key: its serial numbers lead to their rows");
}

/// The file has this line instead of that one: it is refused, names the line, and nothing is written.
#[track_caller]
fn is_refused(change: impl Fn(&mut Vec<String>), line: u64, is_flaw: impl Fn(&ImportFlaw) -> bool) {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let maker = Maker::new();
    filled(&old, &maker, 12);
    let mut all = lines(&old, None);
    change(&mut all);
    let fault = import_lines(&new, 8, &maker, &all.concat()).unwrap_err();
    let ImportFault::Line { line: found, flaw, .. } = &fault else { panic!("{fault}") };
    assert!(*found == line && is_flaw(flaw), "{fault}");
    assert!(fault.to_string().contains(&format!("new.jsonl, line {line}:")), "{fault}");
    assert!(lines(&new, None).is_empty(), "nothing is written before everything is checked");
}

#[test]
fn a_faulty_line_is_named_and_nothing_is_imported() {
    is_refused(|all| all[9] = all[9].trim_end().to_owned() + "}\n", 10, |it| matches!(it, ImportFlaw::Line(_)));
    let last = |all: &mut Vec<String>| all.truncate(6);
    is_refused(
        |all| {
            last(all);
            let end = all[5].len() - 1;
            all[5].truncate(end);
        },
        6,
        |it| matches!(it, ImportFlaw::Cut),
    );
    // Another certificate of the same CA under the names of this row; a changed date.
    is_refused(
        |all| {
            let certificate = |line: &str| line.split_once(r#""certificate":"#).unwrap().1.to_owned();
            let other = certificate(&all[0]);
            let own = certificate(&all[1]);
            all[1] = all[1].replace(&own, &other);
        },
        2,
        |it| matches!(it, ImportFlaw::Row(_)),
    );
    is_refused(
        |all| all[2] = all[2].replace(r#""not_after":1"#, r#""not_after":2"#),
        3,
        |it| matches!(it, ImportFlaw::Row(_)),
    );
}

#[test]
fn a_line_that_contradicts_is_named_and_nothing_is_imported() {
    // A second certificate for one serial number.
    is_refused(
        |all| {
            let maker = Maker::new();
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("other.db");
            maker.issue(&open(&file, 7), 77, START + 1);
            let serial = |line: &str| line.split_once(r#""serial":""#).unwrap().1[..38].to_owned();
            assert_eq!(serial(&lines(&file, None)[0]), serial(&all[0]));
            all.push(lines(&file, None).remove(0));
        },
        u64::try_from(12 + 2 + 1).unwrap(),
        |it| matches!(it, ImportFlaw::Contradiction),
    );
    // A revocation whose row is missing.
    is_refused(
        |all| {
            let revoked = all.iter().find(|line| line.contains("ledger.revoked")).unwrap().clone();
            all.insert(0, revoked);
        },
        1,
        |it| matches!(it, ImportFlaw::NoRow),
    );
}

#[test]
fn a_ledger_that_a_server_has_open_is_not_imported_into() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let maker = Maker::new();
    filled(&old, &maker, 2);
    let server = open(&new, 8);
    let fault = import_lines(&new, 8, &maker, &lines(&old, None).concat()).unwrap_err();
    assert!(matches!(fault, ImportFault::Ledger { problem: OpenProblem::InUse, .. }), "{fault}");
    drop(server);
    assert_eq!(import_lines(&new, 8, &maker, &lines(&old, None).concat()).unwrap().rows, 2);
}
