//! Whatever is changed in the chain is found, and its first row is named.

use std::fs;

use ledger::audit::{AuditFlaw, VerifySources, VerifyStep, verify};
use ledger::sqlite::connect;
use proptest::prelude::*;
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;

use crate::support::{NODE, Stage, flush};

#[test]
fn e38_an_honest_audit_verifies_and_says_what_it_covers() {
    let stage = Stage::with(10);
    let report = stage.verifies();
    assert_eq!((report.rows, report.nodes.len(), report.pruned_checkpoints), (10, 1, 0));
    let node = report.nodes[0];
    assert_eq!((node.node.number(), node.first, node.last, node.records, node.covered), (NODE, 1, 10, 10, 10));
    assert!(report.checkpoints >= 2, "one at the start, one at the end");
}

#[test]
fn e38_an_edited_row_is_named() {
    let stage = Stage::with(10);
    stage.sql("UPDATE audit SET body = replace(body, 'device-4', 'device-5') WHERE sequence = 4");
    assert_eq!(stage.fault(), (4, AuditFlaw::Edited));
}

#[test]
fn e38_a_removed_row_is_named() {
    for sequence in [1, 5, 9] {
        let stage = Stage::with(10);
        stage.sql(&format!("DELETE FROM audit WHERE sequence = {sequence}"));
        assert_eq!(stage.fault(), (sequence, AuditFlaw::Missing));
    }
}

#[test]
fn e38_a_cut_tail_is_found_by_a_checkpoint() {
    let stage = Stage::with(10);
    stage.sql("DELETE FROM audit WHERE sequence > 8");
    let (sequence, AuditFlaw::CutTail { last, checkpoint }) = stage.fault() else { panic!("{:?}", stage.fault()) };
    assert_eq!((sequence, last), (10, 8));
    assert_eq!(checkpoint.file, stage.settings.checkpoints);
    stage.sql("DELETE FROM audit");
    assert!(matches!(stage.fault(), (10, AuditFlaw::CutTail { last: 0, .. })), "not even a row is left");
}

#[test]
fn e38_a_chain_that_was_computed_anew_is_found_by_a_checkpoint() {
    let stage = Stage::with(10);
    stage.sql("UPDATE audit SET body = replace(body, 'device-4', 'device-5') WHERE sequence = 4");
    stage.rehash();
    assert!(matches!(stage.fault(), (10, AuditFlaw::Rewritten(_))), "{:?}", stage.fault());
    // A tail that was cut and written anew, to the same length.
    let stage = Stage::with(10);
    stage.sql("UPDATE audit SET body = replace(body, 'device-10', 'device-11') WHERE sequence = 10");
    stage.rehash();
    assert!(matches!(stage.fault(), (10, AuditFlaw::Rewritten(_))));
    // A row less, the others moved up.
    let stage = Stage::with(10);
    stage.sql("DELETE FROM audit WHERE sequence = 4");
    for sequence in 5..=10 {
        stage.sql(&format!(
            "UPDATE audit SET sequence = {sequence} - 1, records = records - 1 WHERE sequence = {sequence}"
        ));
    }
    stage.rehash();
    assert!(matches!(stage.fault(), (10, AuditFlaw::CutTail { last: 9, .. })));
}

#[test]
fn e38_a_row_of_a_newer_release_is_said_to_be_one() {
    let stage = Stage::with(3);
    stage.sql("UPDATE audit SET version = 2 WHERE sequence = 2");
    assert_eq!(stage.fault(), (2, AuditFlaw::Version(2)));
}

#[test]
fn e38_a_restart_goes_on_with_the_chain() {
    let stage = Stage::new();
    for _ in 0..3 {
        let ledger = stage.open();
        stage.issue(&ledger);
        stage.issue(&ledger);
    }
    let node = stage.verifies().nodes[0];
    assert_eq!((node.last, node.records, node.covered), (6, 6, 6));
}

/// What a crash leaves is what was durable before: the files as they stand while the ledger is open.
#[test]
fn e38_what_a_crash_leaves_verifies_and_the_chain_goes_on() {
    let stage = Stage::new();
    let ledger = stage.open();
    stage.issue(&ledger);
    stage.pass(60);
    flush(&ledger);
    stage.issue(&ledger);
    stage.reserve(&ledger);
    let left = Stage::new();
    for entry in fs::read_dir(stage.folder.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), left.folder.path().join(entry.file_name())).unwrap();
    }
    drop(ledger);
    assert_eq!(left.verifies().nodes[0].last, 2);
    left.pass(61);
    left.skip(stage.issued());
    let ledger = left.open();
    left.issue(&ledger);
    drop(ledger);
    let node = left.verifies().nodes[0];
    assert_eq!((node.last, node.covered), (4, 4), "the reservation was given up in a row of its own");
}

#[test]
fn progress_is_shown_up_to_the_end() {
    let stage = Stage::with(3);
    let (keys, checkpoints) = (stage.keys(), vec![stage.settings.checkpoints.clone()]);
    let mut steps = Vec::new();
    let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
    let show = &mut |step, done, total| steps.push((step, done, total));
    verify(&connect(&stage.file).unwrap(), sources, show).unwrap();
    let octets = fs::metadata(&checkpoints[0]).unwrap().len();
    assert_eq!(steps, [(VerifyStep::Rows, 3, 3), (VerifyStep::Checkpoints, octets, octets)]);
}

/// The columns of the table: the name, and a way to change its value.
const COLUMNS: [&str; 8] = ["node", "sequence", "version", "at", "records", "prev", "hash", "body"];

fn changed(value: SqlValue, place: usize, by: u8) -> SqlValue {
    match value {
        SqlValue::Integer(number) => SqlValue::Integer(number ^ i64::from(by)),
        SqlValue::Blob(mut octets) => {
            let place = place % octets.len();
            octets[place] ^= by;
            SqlValue::Blob(octets)
        }
        SqlValue::Text(text) => {
            let mut octets = text.into_bytes();
            let place = place % octets.len();
            // ASCII, so that it stays text.
            octets[place] ^= (by & 0x7f).max(1);
            SqlValue::Text(String::from_utf8(octets).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn e38_any_single_change_of_any_column_of_any_row_is_found() {
    let stage = Stage::with(6);
    let original = fs::read(&stage.file).unwrap();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(200));
    let change = (1_i64..=6, 0..COLUMNS.len(), any::<usize>(), 1_u8..=255);
    let outcome = runner.run(&change, |(sequence, column, place, by)| {
        let column = COLUMNS[column];
        let connection = Connection::open(&stage.file).unwrap();
        let sql = format!("SELECT {column} FROM audit WHERE sequence = ?1");
        let value = connection.query_row(&sql, [sequence], |row| row.get(0)).unwrap();
        let sql = format!("UPDATE audit SET {column} = ?1 WHERE sequence = ?2");
        // A number that another row has is refused by SQLite itself.
        let is_made = connection.execute(&sql, (changed(value, place, by), sequence)).is_ok();
        drop(connection);
        let found = stage.verify().fault;
        fs::write(&stage.file, &original).unwrap();
        prop_assert_eq!(found.is_some(), is_made, "{} of row {}", column, sequence);
        Ok(())
    });
    outcome.unwrap();
}
