//! Rows whose certificates ended can be removed, and nothing else; what is left verifies.

use std::ops::ControlFlow;
use std::time::Duration;

use authority::{Actor, CrlLayout, Intended, Ledger, Locator, NextCrl, RowFilter, RowState};
use ledger::audit::{AuditKey, AuditPublicKey, PruneRequest, VerifySources, prune, public_path};
use ledger::export::Export;
use ledger::prune::{Retention, RowPruneFault, RowPruneReport, RowPruneRequest, prune_rows};
use ledger::sqlite::connect;
use ledger::verify::verify_rows;
use pki::issue::RevocationReason;
use pki::issue::crl::CrlShards;

use crate::Stage;
use crate::maker::{START, ask, revoke, revoke_for, utc};

/// The life of a certificate of these tests, and an hour.
const LIFE: u64 = 900_000;
const HOUR: u64 = 3_600;

impl Stage {
    fn prune_audit(&self, before: u64) {
        let keys = [AuditPublicKey::read(&public_path(&self.settings.key)).unwrap()];
        let checkpoints = [self.settings.checkpoints.clone()];
        let key = AuditKey::read(&self.settings.key).unwrap();
        let actor = Actor::new("alice").unwrap();
        let sources = VerifySources { checkpoints: &checkpoints, keys: &keys };
        let request = PruneRequest { before: utc(before), now: utc(self.now()), actor: &actor, key: &key, sources };
        prune(&mut connect(&self.file).unwrap(), request, &mut |_, _| ()).unwrap();
    }

    fn prune_rows(&self, before: u64, grace: u64, dry_run: bool) -> Result<RowPruneReport, RowPruneFault> {
        let retentions = [
            Retention { profile: "meters".into(), grace: Duration::from_secs(grace) },
            Retention { profile: "other".into(), grace: Duration::ZERO },
        ];
        let (before, now) = (utc(before), utc(self.now()));
        let request = RowPruneRequest { before, now, retentions: &retentions, dry_run };
        prune_rows(&mut connect(&self.file).unwrap(), &request, &mut |_, _| ControlFlow::Continue(()))
    }
}

/// Twenty rows whose certificates have ended, and ten whose have not.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.issue(1..21);
    stage.pass(LIFE);
    stage.issue(21..31);
    stage.pass(2 * HOUR);
    // The head of the audit is signed.
    drop(stage.open());
    stage
}

#[test]
fn rows_that_ended_are_removed_and_the_rest_verifies_and_goes_on() {
    let stage = stage();
    let (before, limit) = (stage.verifies(), START + LIFE + HOUR);
    stage.prune_audit(limit);
    let planned = stage.prune_rows(limit, 0, true).unwrap();
    assert_eq!(stage.verifies().rows, before.rows, "a dry run removes nothing");
    let done = stage.prune_rows(limit, 0, false).unwrap();
    assert_eq!(done, planned);
    assert_eq!((done.rows, done.issued), (20, 16));
    let after = stage.verifies();
    assert_eq!((after.rows, after.certificates), (10, before.certificates - 16));
    assert_eq!(stage.prune_rows(limit, 0, false).unwrap(), RowPruneReport::default(), "it is done already");

    let ledger = stage.open();
    let issued = RowFilter { state: Some(RowState::Issued), ..RowFilter::default() };
    assert_eq!(ask(|done| ledger.count(issued, done)), 8);
    let serial = stage.maker.issue(&ledger, 100, stage.now());
    assert!(ask(|done| ledger.find(vec![Locator::Serial(serial)], done))[0].is_some());
    drop(ledger);
    assert_eq!(stage.verifies().rows, 11);
}

/// A key that others may have is compromised for longer than any row lasts.
#[test]
fn e23_a_compromised_key_is_refused_when_the_row_of_its_certificate_was_pruned_and_the_server_starts_again() {
    let stage = Stage::new();
    let ledger = stage.open();
    let (reserve, record) = stage.maker.issue_row(&ledger, 1, START);
    revoke_for(&ledger, record.serial, RevocationReason::KeyCompromise, START + 1);
    drop(ledger);
    stage.pass(LIFE + 2 * HOUR);
    drop(stage.open());
    let limit = START + LIFE + HOUR;
    stage.prune_audit(limit);
    assert_eq!(stage.prune_rows(limit, 0, false).unwrap().rows, 1);
    let ledger = stage.open();
    assert!(ask(|done| ledger.find(vec![Locator::Serial(record.serial)], done))[0].is_none());
    let again = |number: u64| {
        let serial = ledger.draw(pki::issue::NodePrefix::new(0), [9; 16]);
        let (other, _) = stage.maker.row(number, serial, stage.now());
        let intent = authority::Intent { spki: reserve.intent.spki, ..other.intent };
        ask(|done| ledger.intend(vec![authority::Reserve { intent, ..other }], done)).remove(0)
    };
    for number in [1, 2] {
        assert!(matches!(again(number), Intended::KeyCompromised), "device {number}");
    }
    drop(ledger);
    stage.verifies();
    // A key that is no longer in the list is noticed while its row is there.
    let ledger = stage.open();
    let (_, record) = stage.maker.issue_row(&ledger, 3, stage.now());
    revoke_for(&ledger, record.serial, RevocationReason::KeyCompromise, stage.now());
    drop(ledger);
    stage.verifies();
    connect(&stage.file).unwrap().execute_batch("DELETE FROM compromised_key").unwrap();
    let flaw = verify_rows(&stage.file, &stage.maker.issuers(), &mut |_, _| ()).unwrap_err();
    assert!(flaw.to_string().contains("keyCompromise"), "{flaw}");
}

/// The server has counts and entries of the indexes in memory: it goes on with them, and the ledger verifies.
#[test]
fn rows_are_pruned_beside_a_server_that_writes() {
    let stage = stage();
    let limit = START + LIFE + HOUR;
    let ledger = stage.open();
    let serial = stage.maker.issue(&ledger, 100, stage.now());
    stage.prune_audit(limit);
    assert_eq!(stage.prune_rows(limit, 0, false).unwrap().rows, 20);
    revoke(&ledger, serial, stage.now());
    // A device whose row was pruned enrols again: its request is a new one.
    stage.maker.issue(&ledger, 1, stage.now());
    drop(ledger);
    assert_eq!(stage.verifies().rows, 12);
    drop(stage.open());
    assert_eq!(stage.verifies().rows, 12);
}

#[test]
fn what_the_audit_still_has_a_record_of_stays() {
    let stage = stage();
    let limit = START + LIFE + HOUR;
    let kept = stage.prune_rows(limit, 0, false).unwrap();
    assert_eq!((kept.rows, kept.audited), (0, 20), "nothing of the audit was pruned");
    // Revoked after its end: that record is younger than what is pruned.
    let ledger = stage.open();
    let serial = ledger::serial::SerialCipher::new(&[7; 16]).serial(pki::issue::NodePrefix::new(0), 1, [5; 16]);
    revoke(&ledger, serial, stage.now());
    drop(ledger);
    stage.prune_audit(limit);
    let done = stage.prune_rows(stage.now() - 1, 0, false).unwrap();
    assert_eq!(done.rows, 19, "{done:?}");
    assert_eq!(stage.verifies().rows, 11);
}

#[test]
fn a_row_stays_as_long_as_its_profile_says_and_the_profile_is_named() {
    let stage = stage();
    stage.prune_audit(START + LIFE + HOUR);
    // The certificates ended two hours ago.
    let fault = stage.prune_rows(START + LIFE + HOUR, 3 * HOUR, false).unwrap_err();
    let RowPruneFault::TooLate { profile: Some(profile), latest } = &fault else { panic!("{fault}") };
    assert_eq!((profile.profile.as_str(), latest.as_secs()), ("meters", stage.now() - 3 * HOUR));
    assert!(fault.to_string().contains("`meters`") && fault.to_string().contains("`renew_grace`"), "{fault}");
    assert!(fault.to_string().contains("a row for 3 hours after"), "{fault}");
    assert!(fault.to_string().ends_with("the latest time is 2027-01-25T17:00:00Z"), "{fault}");
    assert_eq!(stage.prune_rows(stage.now() - 3 * HOUR, 3 * HOUR, false).unwrap().rows, 0);
    assert!(matches!(
        stage.prune_rows(stage.now() + 1, 0, false).unwrap_err(),
        RowPruneFault::TooLate { profile: None, .. }
    ));
    assert_eq!(stage.prune_rows(stage.now() - HOUR, HOUR, false).unwrap().rows, 20);
    stage.verifies();
}

fn count(stage: &Stage, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    connect(&stage.file).unwrap().query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// A certificate has to be in one list that was made after its end, and lists are made once a day.
#[test]
fn a_revoked_row_stays_while_its_list_has_to_have_it_and_leaves_no_entry_behind() {
    for layout in
        [CrlLayout::Whole, CrlLayout::Sharded { shards: CrlShards::DEFAULT, url: "http://crl.example/{shard}".into() }]
    {
        let stage = stage();
        let ca = stage.maker.issuers()[0].anchor_id();
        let limit = START + LIFE + HOUR;
        // Its CA had no lists yet: nothing is filed.
        assert_eq!((count(&stage, "crl_unfiled"), count(&stage, "crl_entry")), (10, 0));
        let ledger = stage.open();
        assert_eq!(ask(|done| ledger.fix_crl_layout(ca, layout.clone(), done)), layout);
        drop(ledger);
        assert_eq!((count(&stage, "crl_unfiled"), count(&stage, "crl_entry")), (0, 10));
        stage.prune_audit(limit);
        let planned = stage.prune_rows(limit, 0, true).unwrap();
        let done = stage.prune_rows(limit, 0, false).unwrap();
        assert_eq!((done.rows, done.listed), (14, 6), "six of twenty are revoked");
        assert_eq!(planned, done);
        assert_eq!(count(&stage, "crl_entry"), 10);
        stage.verifies();
        // The list was made again, without what has ended.
        let ledger = stage.open();
        let sql = "SELECT min(list) FROM crl_entry WHERE not_after < ?1";
        let values = [i64::try_from(limit).unwrap()];
        let list: u32 = connect(&stage.file).unwrap().query_row(sql, values, |row| row.get(0)).unwrap();
        let next = NextCrl { ca, list, number_min: 0, expired_before: Some(utc(limit)) };
        ask(|done| ledger.number_crls(vec![next], done));
        drop(ledger);
        let entries = count(&stage, "crl_entry");
        assert!(entries < 10);
        let done = stage.prune_rows(limit, 0, false).unwrap();
        assert_eq!(
            (done.rows, done.listed),
            (u64::try_from(10 - entries).unwrap(), u64::try_from(entries - 4).unwrap())
        );
        // The other lists are not made any more.
        stage.pass(30 * 24 * HOUR);
        stage.prune_rows(limit, 0, false).unwrap();
        assert_eq!(count(&stage, "crl_entry"), 4);
        assert_eq!((stage.verifies().rows, count(&stage, "revocation")), (10, 4));
    }
}

#[test]
fn a_revocation_that_is_in_no_list_is_removed_with_its_row() {
    let stage = stage();
    let limit = START + LIFE + HOUR;
    stage.prune_audit(limit);
    assert_eq!(stage.prune_rows(limit, 0, false).unwrap().rows, 20);
    assert_eq!((count(&stage, "crl_unfiled"), count(&stage, "revocation")), (4, 4));
}

#[test]
fn an_export_goes_on_over_what_was_pruned() {
    let stage = stage();
    let lines = |after: Option<&authority::Cursor>| {
        let mut export = Export::begin(&stage.file, after).unwrap();
        let (end, mut lines) = (export.end().unwrap(), String::new());
        while export.next_line(end, &mut lines).unwrap() {}
        lines
    };
    let before = lines(None);
    stage.prune_audit(START + LIFE + HOUR);
    stage.prune_rows(START + LIFE + HOUR, 0, false).unwrap();
    let after = lines(None);
    assert_eq!(after.lines().filter(|line| !line.contains("ledger.revoked")).count(), 10);
    let cursor = |line: &str| ledger::line::RowLine::read(line).unwrap().cursor.unwrap();
    let last = cursor(before.lines().last().unwrap());
    assert_eq!(lines(Some(&last)), "", "a cursor of before is still good");
}
