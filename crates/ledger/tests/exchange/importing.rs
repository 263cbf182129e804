//! An export is imported into an empty ledger or one that lacks its rows; what is faulty or contradicts is refused before anything is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use authority::{Actor, Intended, Ledger, Locator};
use ledger::backup::backup;
use ledger::fault::OpenProblem;
use ledger::import::{ImportFault, ImportFlaw, ImportReport, ImportRequest, import};
use ledger::sqlite::Fresh;
use ledger::verify::verify_rows;
use ledger::{AuditSettings, JournalSettings, LedgerSettings};
use pki::issue::NodePrefix;
use rusqlite::Connection;

use crate::maker::{Maker, START, ask, utc};
use crate::{filled, lines, open, state};

const ROWS: u64 = 60;

/// The clock of the imports.
const NOW: u64 = START + 5_000;

/// Imports these lines into the ledger in this file, whose key is this one if it is new.
fn import_lines(file: &Path, key: u8, maker: &Maker, text: &str) -> Result<ImportReport, ImportFault> {
    let source = file.with_extension("jsonl");
    fs::write(&source, text).unwrap();
    import_file(file, key, maker, &source, false)
}

fn import_file(file: &Path, key: u8, maker: &Maker, source: &Path, dry_run: bool) -> Result<ImportReport, ImportFault> {
    let settings = LedgerSettings {
        audit: AuditSettings::beside(file, NodePrefix::new(0)),
        journal: Some(JournalSettings::beside(file)),
    };
    let (issuers, actor) = (maker.issuers(), Actor::new("alice").unwrap());
    let request = ImportRequest { lines: source, issuers: &issuers, actor: &actor, now: utc(NOW), dry_run };
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
            let intent = maker.row(number, *serial, START).0.intent;
            let of = Locator::NewestOf { device: intent.device, profile: intent.profile };
            let newest = |ledger| ask(|done| Ledger::find(ledger, vec![of.clone()], done)).remove(0);
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

/// A row of the export with this cursor instead of its own.
fn with_cursor(line: &str, row: u64, revocation: u64) -> String {
    let (before, rest) = line.split_once(r#""cursor":""#).unwrap();
    format!(r#"{before}"cursor":"{revocation:016x}{row:016x}{}"#, &rest[32..])
}

/// The time of the ledger is the latest that it has, and places are counted upwards: one such line, and nothing could be issued any more.
#[test]
fn a_line_behind_which_nothing_could_be_issued_is_refused_by_its_number() {
    let is_ahead = |flaw: &ImportFlaw| matches!(flaw, ImportFlaw::Ahead { .. });
    let is_cursor = |flaw: &ImportFlaw| matches!(flaw, ImportFlaw::Cursor);
    let at = |number: u64| format!(r#""at":{}"#, START + number);
    for ahead in [61, 1 << 40] {
        let future = format!(r#""at":{}"#, NOW + ahead);
        is_refused(|all| all[1] = all[1].replacen(&at(2), &future, 1), 2, is_ahead);
        let issued_at = |at: &str| at.replace("at", "issued_at");
        is_refused(|all| all[1] = all[1].replace(&issued_at(&at(2)), &issued_at(&future)), 2, is_ahead);
        let is_revocation = |line: &String| line.contains("ledger.revoked");
        let change = |all: &mut Vec<String>| {
            let index = all.iter().position(is_revocation).unwrap();
            let (before, rest) = all[index].split_once(r#""at":"#).unwrap();
            all[index] = format!(r#"{before}{future}{}"#, &rest[10..]);
            // Behind its row, and in a place that is known.
            let line = all.remove(index);
            all.insert(3, line);
        };
        is_refused(change, 4, is_ahead);
        let abandoned = |line: &String| line.contains("ledger.abandoned");
        let change = |all: &mut Vec<String>| {
            let index = all.iter().position(abandoned).unwrap();
            let line = all.remove(index);
            all.insert(0, line.replacen(&at(7), &future, 1));
        };
        is_refused(change, 1, is_ahead);
    }
    for (row, revocation) in [((1 << 48) + 1, 0), (1 << 63, 0), (1, (1 << 48) + 1), (i64::MAX.unsigned_abs(), 0)] {
        is_refused(|all| all[4] = with_cursor(&all[4], row, revocation), 5, is_cursor);
    }
}

/// What is allowed at most leaves a ledger that issues.
#[test]
fn behind_the_last_time_and_place_of_a_line_the_ledger_issues() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    let maker = Maker::new();
    maker.issue(&open(&old, 7), 1, NOW + 60);
    let all = lines(&old, None);
    import_lines(&new, 8, &maker, &with_cursor(&all[0], 1 << 48, 1 << 48)).unwrap();
    let ledger = open(&new, 8);
    let serial = maker.issue(&ledger, 2, NOW + 60);
    crate::revoke(&ledger, serial, NOW + 60);
    drop(ledger);
    verifies(&new, &maker);
    assert_eq!(lines(&new, None).len(), 3);
}

/// Every file of the folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_dry_run_creates_and_changes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let (old, source) = (folder.path().join("old.db"), folder.path().join("old.jsonl"));
    let maker = Maker::new();
    filled(&old, &maker, 20);
    let all = lines(&old, None);
    fs::write(&source, all.concat()).unwrap();
    #[track_caller]
    fn unchanged(file: &Path, source: &Path, maker: &Maker, rows: u64) {
        let folder = file.parent().unwrap();
        let before = contents(folder);
        let report = import_file(file, 8, maker, source, true).unwrap();
        assert_eq!(report.rows, rows);
        let after = contents(folder);
        let names = |of: &BTreeMap<PathBuf, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after));
        assert!(before == after, "a file was changed");
    }
    let place = |name: &str| {
        let folder = folder.path().join(name);
        fs::create_dir(&folder).unwrap();
        folder.join("ledger.db")
    };
    let (rows, _) = parts(&all);
    unchanged(&place("none"), &source, &maker, rows);

    let closed = place("closed");
    let mut server = open(&closed, 9);
    maker.issue(&server, 101, START + 1);
    drop(server);
    unchanged(&closed, &source, &maker, rows);
    let ended = place("ended");
    server = open(&closed, 9);
    maker.issue(&server, 102, START + 2);
    for (path, bytes) in contents(closed.parent().unwrap()) {
        // As a process leaves it that was killed, with its index and without.
        fs::write(ended.with_file_name(path.file_name().unwrap()), bytes).unwrap();
    }
    assert!(fs::metadata(ended.with_file_name("ledger.db-wal")).unwrap().len() > 0);
    let fault = import_file(&closed, 8, &maker, &source, true).unwrap_err();
    assert!(matches!(fault, ImportFault::Ledger { problem: OpenProblem::InUse, .. }), "{fault}");
    unchanged(&ended, &source, &maker, rows);
    fs::remove_file(ended.with_file_name("ledger.db-shm")).unwrap();
    unchanged(&ended, &source, &maker, rows);
}
