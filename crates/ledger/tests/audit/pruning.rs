//! Old rows can be removed; a signed stub says what was there, and nothing is hidden that way.

use std::fs;

use authority::{Actor, Ledger as _, Locator, Revocation, Revoke};
use ledger::audit::{AuditFlaw, AuditKey, AuditNode, PruneFault, PruneReport, PruneRequest, VerifySources, prune};
use ledger::sqlite::connect;
use pki::issue::RevocationReason;

use crate::support::{START, Stage, ask, flush, utc};

/// Ten rows, one a minute, each covered by a checkpoint.
fn ten_minutes() -> Stage {
    let stage = Stage::new();
    let ledger = stage.open();
    for _ in 0..10 {
        stage.issue(&ledger);
        stage.pass(60);
        flush(&ledger);
    }
    drop(ledger);
    stage
}

/// Prunes what is older than this many minutes after the start.
fn prune_before(stage: &Stage, minutes: u64) -> Result<PruneReport, PruneFault> {
    let (keys, checkpoints) = (stage.keys(), vec![stage.settings.checkpoints.clone()]);
    let key = AuditKey::read(&stage.settings.key).unwrap();
    let request = PruneRequest {
        before: utc(START + 60 * minutes),
        now: utc(stage.now()),
        actor: &Actor::new("alice").unwrap(),
        key: &key,
        sources: VerifySources { checkpoints: &checkpoints, keys: &keys },
    };
    let mut last = (0, 0);
    let report = prune(&mut connect(&stage.file).unwrap(), request, &mut |done, total| last = (done, total))?;
    let removed = u64::try_from(report.removed).unwrap();
    assert_eq!(last, (removed, removed));
    Ok(report)
}

fn node(stage: &Stage) -> AuditNode {
    stage.verifies().nodes[0]
}

#[test]
fn e38_a_pruned_audit_verifies_across_its_stub_and_goes_on() {
    let stage = ten_minutes();
    assert_eq!(prune_before(&stage, 4).unwrap(), PruneReport { removed: 4, uncovered: 0 });
    let rows = stage.rows();
    assert_eq!(rows.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9, 10]);
    let stub: serde_json::Value = serde_json::from_str(&rows[0].1).unwrap();
    assert_eq!((&stub["type"], &stub["sequence"], &stub["records"]), (&"audit.stub".into(), &4.into(), &4.into()));
    assert_eq!((&stub["actor"], &stub["pruned_at"]), (&"alice".into(), &stage.now().into()));
    let pruned = node(&stage);
    assert_eq!((pruned.first, pruned.is_pruned, pruned.last, pruned.records), (4, true, 10, 10));
    assert!(stage.verifies().pruned_checkpoints > 0);

    assert_eq!(prune_before(&stage, 4).unwrap(), PruneReport::default(), "it is done already");
    assert_eq!(prune_before(&stage, 6).unwrap().removed, 2);
    let ledger = stage.open();
    stage.issue(&ledger);
    drop(ledger);
    let grown = node(&stage);
    assert_eq!((grown.first, grown.last, grown.records, grown.covered), (6, 11, 11, 11));
}

#[test]
fn e38_the_whole_audit_can_be_pruned_while_the_ledger_is_open() {
    let stage = ten_minutes();
    let ledger = stage.open();
    assert_eq!(prune_before(&stage, 99).unwrap().removed, 10);
    stage.issue(&ledger);
    drop(ledger);
    let node = node(&stage);
    assert_eq!((node.first, node.last, node.records), (10, 11, 11));
    drop(stage.open());
    assert_eq!(prune_before(&stage, 99).unwrap().removed, 1);
    let ledger = stage.open();
    stage.issue(&ledger);
    drop(ledger);
    assert_eq!(stage.verifies().nodes[0].last, 12, "a stub is the head of the next start");
}

/// A row has the time of what it records, also where no certificate was issued for long.
#[test]
fn e38_a_late_revocation_is_not_pruned_with_what_is_old() {
    let stage = Stage::new();
    let ledger = stage.open();
    let issued = stage.issue(&ledger);
    stage.pass(90 * 86_400);
    let revocation =
        Revocation { reason: RevocationReason::Superseded, at: utc(stage.now()), actor: Actor::new("alice").unwrap() };
    ask(|done| ledger.revoke(vec![Revoke { row: Locator::Serial(issued.serial), revocation }], done));
    drop(ledger);
    assert_eq!(prune_before(&stage, 24 * 60).unwrap(), PruneReport { removed: 1, uncovered: 0 });
    assert!(stage.rows().last().unwrap().1.contains("superseded"));
    assert_eq!(node(&stage).last, 2);
}

#[test]
fn e38_what_no_checkpoint_covers_is_not_pruned() {
    let stage = ten_minutes();
    let lines = stage.checkpoint_lines();
    // Those up to the fifth row, or none that covers any.
    let kept: Vec<&str> = lines.iter().map(String::as_str).filter(|line| covers(line) <= 5).collect();
    fs::write(&stage.settings.checkpoints, kept.join("\n") + "\n").unwrap();
    let covered = i64::try_from(kept.iter().map(|line| covers(line)).max().unwrap()).unwrap();
    assert_eq!(prune_before(&stage, 8).unwrap(), PruneReport { removed: covered, uncovered: 8 - covered });
    let fault = prune_before(&stage, 8).unwrap_err();
    assert!(matches!(fault, PruneFault::Uncovered { sequence, .. } if sequence == covered + 1), "{fault}");

    let stage = ten_minutes();
    fs::write(&stage.settings.checkpoints, "").unwrap();
    assert!(matches!(prune_before(&stage, 8), Err(PruneFault::Uncovered { sequence: 1, .. })));
    assert_eq!(stage.rows().len(), 10);
}

fn covers(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap()
}

#[test]
fn e38_an_audit_that_does_not_verify_is_not_pruned() {
    let stage = ten_minutes();
    stage.sql("UPDATE audit SET body = replace(body, 'device-2', 'device-3') WHERE sequence = 2");
    let fault = prune_before(&stage, 4).unwrap_err();
    assert!(matches!(&fault, PruneFault::Audit(fault) if fault.sequence == 2), "{fault}");
    assert_eq!(stage.rows().len(), 10, "the evidence stays");
}

#[test]
fn e38_a_stub_that_was_edited_or_made_by_another_is_found() {
    for (column, value) in [
        ("body", "replace(body, '\"records\":4', '\"records\":3')"),
        ("body", "replace(body, 'alice', 'mallory')"),
        ("records", "records + 1"),
        ("at", "at + 1"),
        ("hash", "zeroblob(32)"),
    ] {
        let stage = ten_minutes();
        prune_before(&stage, 4).unwrap();
        stage.sql(&format!("UPDATE audit SET {column} = {value} WHERE sequence = 4"));
        assert_eq!(stage.fault(), (4, AuditFlaw::Stub), "{column}");
    }
    let stage = ten_minutes();
    prune_before(&stage, 4).unwrap();
    stage.sql("DELETE FROM audit WHERE sequence = 4");
    assert_eq!(stage.fault(), (1, AuditFlaw::Missing), "without its stub the beginning is missing");
}

/// A genuine stub of one place does not excuse what is missing at another.
#[test]
fn e38_a_stub_stands_only_at_the_beginning_and_only_for_its_row() {
    let stage = ten_minutes();
    prune_before(&stage, 4).unwrap();
    stage.sql("DELETE FROM audit WHERE sequence = 5");
    assert_eq!(stage.fault(), (5, AuditFlaw::Missing));
    let stage = ten_minutes();
    prune_before(&stage, 4).unwrap();
    stage.sql("DELETE FROM audit WHERE sequence IN (5, 6)");
    stage.sql("UPDATE audit SET sequence = 6 WHERE sequence = 4");
    assert_eq!(stage.fault(), (6, AuditFlaw::Stub));
}
