//! What is in the journal, and what a start does when it and the ledger differ.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use authority::{Actor, Function, Ledger};
use ledger::fault::OpenProblem;
use ledger::journal::JournalProblem;
use ledger::sqlite::Fresh;
use ledger::{JournalSettings, SqliteLedger};
use pki::issue::NodePrefix;

use crate::sample::{self, NOW, utc};
use crate::stage::{Stage, answer, find, is_whole, issue, lines, record, reserve, revoke};

#[test]
fn every_issuance_abandonment_and_revocation_is_in_the_journal_when_it_is_answered() {
    let stage = Stage::new();
    let ledger = stage.open();
    let first = issue(&ledger, 0);
    assert_eq!(stage.events(), [format!("issued {first}")]);
    let second = reserve(&ledger, 1);
    assert_eq!(stage.events().len(), 1, "a reservation alone is not worth a write");
    ledger.abandon(vec![second]);
    answer(|done| ledger.flush(done)).unwrap();
    revoke(&ledger, 0, first);
    let third = reserve(&ledger, 2);
    drop(ledger);
    // The next start gives up what was reserved, and revokes it.
    drop(stage.open());
    let expected = ["issued", "abandoned", "revoked", "abandoned", "revoked"];
    let serials = [first, second, first, third, third];
    let expected: Vec<String> = expected.iter().zip(serials).map(|(kind, serial)| format!("{kind} {serial}")).collect();
    assert_eq!(stage.events(), expected);
    assert!(stage.lines()[0].starts_with("{\"type\":\"ledger.journal\",\"version\":1,"), "{}", stage.lines()[0]);
    assert!(stage.lines().last().unwrap().starts_with("{\"type\":\"ledger.batch\","));
}

#[test]
fn a_start_with_nothing_missing_writes_nothing() {
    let stage = Stage::new();
    issue(&stage.open(), 0);
    let before = stage.lines();
    drop(stage.open());
    assert_eq!(stage.lines(), before);
}

#[test]
fn e84_a_batch_that_was_not_committed_is_completed_at_the_start() {
    let stage = Stage::new();
    let ledger = stage.open();
    let [old, open] = [issue(&ledger, 0), reserve(&ledger, 1)];
    // What a crash between the journal and the commit leaves: the journal has the certificate, the ledger its reservation.
    stage.backup("before");
    record(&ledger, 1, open);
    drop(ledger);
    stage.restore("before");
    let ledger = stage.open();
    is_whole(&ledger, 0, old);
    is_whole(&ledger, 1, open);
    assert!(find(&ledger, open).unwrap().revocation.is_none(), "its certificate is not given up");
    drop(ledger);
    // Nor is it completed a second time.
    let before = stage.lines();
    drop(stage.open());
    assert_eq!(stage.lines(), before);
}

/// Nobody was told of that certificate: a key that was made for its device is in no process any more.
#[test]
fn e39_a_certificate_that_the_journal_alone_has_is_revoked_if_its_key_was_made_here() {
    let stage = Stage::new();
    let ledger = stage.open();
    let serial = ledger.draw(NodePrefix::new(1), [9; 16]);
    let mut row = sample::reserve(sample::intent(1, serial));
    row.intent.function = Function::ServerKeygen;
    answer(|done| ledger.intend(vec![row], done)).unwrap();
    stage.backup("before");
    record(&ledger, 1, serial);
    drop(ledger);
    stage.restore("before");
    let row = find(&stage.open(), serial).unwrap();
    assert!(row.issued().is_some());
    assert_eq!(row.revocation.map(|revocation| revocation.actor), Some(Actor::undelivered()));
}

#[test]
fn a_revocation_that_was_not_committed_is_completed_too() {
    let stage = Stage::new();
    let ledger = stage.open();
    let serial = issue(&ledger, 0);
    stage.backup("before");
    revoke(&ledger, 0, serial);
    drop(ledger);
    stage.restore("before");
    assert!(find(&stage.open(), serial).unwrap().revocation.is_some());
}

#[test]
fn e84_a_ledger_that_is_older_than_its_journal_does_not_start_and_the_verb_is_named() {
    for more in [2, 5] {
        let stage = Stage::new();
        let ledger = stage.open();
        issue(&ledger, 0);
        stage.backup("backup");
        for number in 0..more {
            issue(&ledger, 10 + number);
        }
        drop(ledger);
        stage.restore("backup");
        let fault = stage.try_open().unwrap_err();
        assert!(matches!(fault.problem, OpenProblem::Restored { .. }), "{more} more: {fault}");
        assert!(fault.to_string().contains("muster ledger resume --after-restore"), "{fault}");
        // Nor does it when it went on meanwhile without its journal.
        let ledger = stage.open_without_journal();
        for number in 0..9 {
            issue(&ledger, 20 + number);
        }
        drop(ledger);
        let fault = stage.try_open().unwrap_err();
        assert!(matches!(fault.problem, OpenProblem::Restored { .. }), "{more} more, and others: {fault}");
    }
}

#[test]
fn a_batch_without_its_end_is_cut_off() {
    let stage = Stage::new();
    let ledger = stage.open();
    let serial = issue(&ledger, 0);
    drop(ledger);
    let whole = fs::read(stage.journal()).unwrap();
    let lines = stage.lines();
    // A line, a part of one, and what a file system may leave of a write that was not synced.
    for torn in [format!("{}\n", lines[1]), lines[1][..lines[1].len() / 2].to_owned(), "\0".repeat(9_000) + "\nx"] {
        OpenOptions::new().append(true).open(stage.journal()).unwrap().write_all(torn.as_bytes()).unwrap();
        is_whole(&stage.open(), 0, serial);
        assert_eq!(fs::read(stage.journal()).unwrap(), whole, "{} bytes were cut off", torn.len());
    }
    // The pages of a batch come to the disk in any order: its last line without the others.
    let zeros = [&whole[..], "\0".repeat(lines[1].len()).as_bytes(), b"\n", lines[2].as_bytes(), b"\n"].concat();
    fs::write(stage.journal(), zeros).unwrap();
    is_whole(&stage.open(), 0, serial);
    assert_eq!(fs::read(stage.journal()).unwrap(), whole, "a batch without its lines was cut off");
    // The last batch itself is torn: the ledger has it, and appends it again.
    fs::write(stage.journal(), &whole[..whole.len() - 7]).unwrap();
    drop(stage.open());
    assert_eq!(fs::read(stage.journal()).unwrap(), whole);
}

#[test]
fn a_journal_that_is_new_gets_every_row() {
    let stage = Stage::new();
    let ledger = stage.open_without_journal();
    let serials = [0, 1, 2].map(|number| issue(&ledger, number));
    revoke(&ledger, 1, serials[1]);
    let abandoned = reserve(&ledger, 3);
    ledger.abandon(vec![abandoned]);
    drop(ledger);
    drop(stage.open());
    let [a, b, c] = serials;
    let expected = [
        format!("issued {a}"),
        format!("issued {b}"),
        format!("revoked {b}"),
        format!("issued {c}"),
        format!("abandoned {abandoned}"),
    ];
    assert_eq!(stage.events(), expected);
    // It is lost: a disk that is not mounted is not taken for a wish. An empty file is one.
    fs::remove_file(stage.journal()).unwrap();
    let fault = stage.try_open().unwrap_err();
    assert!(matches!(fault.problem, OpenProblem::JournalGone { .. }), "{fault}");
    fs::write(stage.journal(), "").unwrap();
    let last = issue(&stage.open(), 4);
    assert_eq!(stage.events(), [&expected[..], &[format!("issued {last}")]].concat());
}

#[test]
fn a_journal_that_was_away_gets_what_it_lacks() {
    let stage = Stage::new();
    let first = issue(&stage.open(), 0);
    let ledger = stage.open_without_journal();
    let second = issue(&ledger, 1);
    revoke(&ledger, 0, first);
    drop(ledger);
    let ledger = stage.open();
    let third = issue(&ledger, 2);
    drop(ledger);
    let expected =
        [format!("issued {first}"), format!("issued {second}"), format!("revoked {first}"), format!("issued {third}")];
    assert_eq!(stage.events(), expected);
}

#[test]
fn the_journal_of_another_ledger_and_other_files_are_refused_by_name() {
    let stage = Stage::new();
    drop(stage.open());
    let other = Stage::new();
    let ledger = SqliteLedger::open_with(&other.file(), Fresh { serial_key: [8; 16] }, &other.settings, utc(NOW));
    drop(ledger.unwrap());
    fs::copy(other.journal(), stage.journal()).unwrap();
    let problem = |stage: &Stage| match stage.try_open().unwrap_err() {
        fault if !fault.to_string().contains("ledger.journal") => panic!("{fault} does not name the file"),
        fault => match fault.problem {
            OpenProblem::Journal(fault) => fault.problem,
            other => panic!("{other:?}"),
        },
    };
    assert!(matches!(problem(&stage), JournalProblem::Foreign));
    fs::write(stage.journal(), "a shopping list\n").unwrap();
    assert!(matches!(problem(&stage), JournalProblem::NotAJournal));
    fs::write(stage.journal(), "a shopping list without an end").unwrap();
    assert!(matches!(problem(&stage), JournalProblem::NotAJournal));
    assert_eq!(fs::read_to_string(stage.journal()).unwrap(), "a shopping list without an end", "it is as it was");
}

#[test]
fn a_journal_without_its_ledger_is_not_taken_for_that_of_a_new_one() {
    let stage = Stage::new();
    drop(stage.open());
    fs::remove_file(stage.file()).unwrap();
    let fault = stage.try_open().unwrap_err();
    assert!(matches!(fault.problem, OpenProblem::Lost { .. }), "{fault}");
    assert!(!stage.file().exists(), "no ledger was begun");
}

#[test]
fn a_segment_that_is_full_is_closed_under_a_name_of_its_own() {
    let mut stage = Stage::new();
    stage.settings.journal = Some(JournalSettings { segment_bytes: 4_096, ..JournalSettings::beside(&stage.file()) });
    let ledger = stage.open();
    let first = issue(&ledger, 0);
    stage.backup("early");
    let serials: Vec<_> = std::iter::once(first).chain((1..12).map(|number| issue(&ledger, number))).collect();
    drop(ledger);
    let mut closed: Vec<_> = fs::read_dir(stage.path("")).unwrap().map(|found| found.unwrap().path()).collect();
    closed.retain(|file| file.file_name().unwrap().to_str().unwrap().starts_with("ledger.journal."));
    closed.sort();
    assert!(closed.len() > 2, "{closed:?}");
    let name = closed[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("ledger.journal.0.000000000000-"), "{name}");
    closed.push(stage.journal());
    let all: Vec<String> = closed.iter().flat_map(|file| lines(file)).collect();
    for serial in serials {
        let of_serial = all.iter().filter(|line| line.contains("ledger.issued") && line.contains(&serial.to_string()));
        assert_eq!(of_serial.count(), 1);
    }
    let before = lines(&stage.journal());
    drop(stage.open());
    assert_eq!(lines(&stage.journal()), before);
    // The open one is lost, or a crash came between closing one and beginning the next: the new one has what the closed ones lack, and no more.
    fs::remove_file(stage.journal()).unwrap();
    drop(stage.open());
    let again = lines(&stage.journal());
    assert_eq!(
        again.iter().filter(|line| line.contains("ledger.issued")).count(),
        before.iter().filter(|line| line.contains("ledger.issued")).count()
    );
    // A ledger that is older than the closed ones is not begun anew.
    fs::remove_file(stage.journal()).unwrap();
    stage.restore("early");
    assert!(matches!(stage.try_open().unwrap_err().problem, OpenProblem::Restored { .. }));
}

#[test]
fn a_batch_that_also_creates_its_rows_is_completed() {
    let stage = Stage::new();
    let ledger = stage.open();
    issue(&ledger, 0);
    stage.backup("before");
    // The journal has the whole request: what a crash before the commit of the import of a row leaves.
    let serial = issue(&ledger, 1);
    drop(ledger);
    stage.restore("before");
    let ledger = stage.open();
    is_whole(&ledger, 1, serial);
    // It was written again and synced, once.
    drop(ledger);
    assert_eq!(stage.events().iter().filter(|event| event.contains(&serial.to_string())).count(), 1);
}

#[test]
fn two_ledgers_never_append_to_one_journal() {
    let stage = Stage::new();
    let ledger = stage.open();
    issue(&ledger, 0);
    stage.backup("copy.db");
    let copy =
        SqliteLedger::open_with(&stage.path("copy.db"), Fresh { serial_key: [7; 16] }, &stage.settings, utc(NOW));
    let said = copy.unwrap_err().to_string();
    assert!(said.contains("ledger.journal") && said.contains("another process has it open"), "{said}");
}

/// The disk of the ledger is not mounted: what is kept elsewhere shows that there was one.
#[test]
fn each_file_that_a_ledger_leaves_elsewhere_keeps_a_new_one_from_beginning() {
    let stage = Stage::new();
    let ledger = stage.open();
    issue(&ledger, 0);
    drop(ledger);
    let mounted = stage.path("mounted");
    fs::create_dir(&mounted).unwrap();
    let away = |name: &str| fs::rename(stage.path(name), mounted.join(name)).unwrap();
    let back = |name: &str| fs::rename(mounted.join(name), stage.path(name)).unwrap();
    const FILES: [&str; 4] = ["ledger.db", "ledger.journal", "ledger.db.checkpoints.jsonl", "ledger.db.audit.key"];
    FILES.iter().for_each(|name| away(name));
    let closed = "ledger.journal.0.000000000000-000000000002";
    fs::copy(mounted.join("ledger.journal"), mounted.join(closed)).unwrap();
    for name in ["ledger.journal", closed, "ledger.db.checkpoints.jsonl"] {
        back(name);
        // Somebody removed the ledger and left its log, which SQLite removes when it begins a new file.
        fs::write(stage.path("ledger.db-wal"), "a log").unwrap();
        let fault = stage.try_open().unwrap_err();
        assert!(matches!(fault.problem, OpenProblem::Lost { .. } | OpenProblem::Missing { .. }), "{name}: {fault}");
        assert!(fault.to_string().contains(stage.path(name).to_str().unwrap()), "{name}: {fault}");
        assert!(!stage.file().exists());
        away(name);
    }
    // A key may be made before the first start: it shows nothing alone.
    fs::remove_file(stage.path("ledger.db-wal")).unwrap();
    FILES.iter().for_each(|name| back(name));
    drop(stage.open());
}
