//! A thousand devices enrol behind a backup, ten are revoked, and the disk is lost: E84, through the authority.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use authority::{Actor, GapTreatment, Issued, Ledger, Locator, Refusal, Revocation, Revoke, Revoked};
use ledger::SqliteLedger;
use ledger::audit::{self, AuditFlaw, AuditKey, AuditPublicKey, AuditReport, PruneRequest, VerifySources, public_path};
use ledger::import::{ImportRequest, import};
use ledger::prune::{RowPruneRequest, prune_rows};
use ledger::resume::{ResumeRequest, plan, resume};
use ledger::sqlite::{Fresh, connect};
use pki::Certificate;
use pki::issue::RevocationReason;

use crate::sample::utc;
use crate::stage::{Stage, answer};
use crate::world::{DAY, More, START, World, YEAR};

const DEVICES: usize = 1_000;
const REVOKED: usize = 10;

fn revoke(ledger: &Arc<dyn Ledger>, issued: &Issued) {
    assert_eq!(revoke_for(ledger, issued, RevocationReason::KeyCompromise), Revoked::Now);
}

fn revoke_for(ledger: &Arc<dyn Ledger>, issued: &Issued, reason: RevocationReason) -> Revoked {
    let row = Locator::of(&Certificate::parse(&issued.certificate).unwrap()).unwrap();
    let revocation = Revocation { reason, at: utc(START + DAY + 60), actor: Actor::new("alice").unwrap() };
    answer(|done| ledger.revoke(vec![Revoke { row, revocation }], done)).unwrap().remove(0)
}

fn open(stage: &Stage) -> Arc<dyn Ledger> {
    Arc::new(stage.open_at(START))
}

/// Enrols some devices, makes a backup, enrols more, revokes the last ones, and loses the disk.
fn lost(world: &World, devices: usize, revoked: usize) -> (Stage, Vec<Arc<Issued>>, Vec<Arc<Issued>>) {
    let stage = Stage::new();
    let ledger = open(&stage);
    let old = world.enrol(&ledger, 0..5, START);
    stage.backup("backup");
    let new = world.enrol(&ledger, 5..5 + devices, START + DAY);
    new[devices - revoked..].iter().for_each(|issued| revoke(&ledger, issued));
    drop(ledger);
    stage.restore("backup");
    (stage, old, new)
}

/// Also those of certificates that had been revoked for another reason before.
#[test]
fn e23_a_restore_brings_back_which_keys_are_compromised() {
    let (world, stage) = (World::new(), Stage::new());
    let ledger = open(&stage);
    world.enrol(&ledger, 0..5, START);
    stage.backup("backup");
    let new = world.enrol(&ledger, 5..8, START + DAY);
    revoke(&ledger, &new[0]);
    assert_eq!(revoke_for(&ledger, &new[1], RevocationReason::Superseded), Revoked::Now);
    assert_eq!(revoke_for(&ledger, &new[2], RevocationReason::Superseded), Revoked::Now);
    assert!(matches!(revoke_for(&ledger, &new[2], RevocationReason::KeyCompromise), Revoked::Before(_)));
    drop(ledger);
    let keys = || {
        let connection = connect(&stage.file()).unwrap();
        let mut statement = connection.prepare("SELECT hex(spki) FROM compromised_key ORDER BY spki").unwrap();
        statement.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    };
    let before = keys();
    assert_eq!(before.len(), 2);
    stage.restore("backup");
    assert!(keys().is_empty());
    assert_eq!(world.resume(&stage, None).revocations, 3);
    assert_eq!(keys(), before);
}

#[test]
fn e84_a_thousand_enrol_ten_are_revoked_the_disk_is_lost_and_990_renew() {
    let world = World::new();
    let (stage, old, new) = lost(&world, DEVICES, REVOKED);
    assert!(stage.try_open().unwrap_err().to_string().contains("muster ledger resume --after-restore"));
    let report = world.resume(&stage, None);
    assert_eq!((report.rows, report.revocations, report.without_row, report.unsigned), (1_000, 10, 0, 0));
    assert_eq!((report.restored_until, report.journal_until), (Some(utc(START)), Some(utc(START + DAY + 60))));

    let ledger = open(&stage);
    let renewed = world.renew(&ledger, &new, START + 3 * DAY);
    let refused: Vec<_> = renewed.iter().filter_map(|fared| fared.as_ref().err()).collect();
    assert_eq!(renewed.iter().filter(|fared| fared.is_ok()).count(), DEVICES - REVOKED);
    assert_eq!(refused, vec![&Refusal::ClientRevoked; REVOKED]);
    assert!(world.renew(&ledger, &old, START + 3 * DAY).iter().all(Result::is_ok), "those of the backup renew too");
    drop(ledger);

    // No serial number was given twice, and the ledger is whole.
    let issuers = [Arc::clone(world.ca.certificate())];
    let verified = ledger::verify::verify_rows(&stage.file(), &issuers, &mut |_, _| ()).unwrap();
    assert_eq!((verified.certificates, verified.revoked), (5 + 1_000 + 990 + 5, 10));
}

/// What the audit says when it is compared with the checkpoints that were exported before.
fn verified(stage: &Stage) -> AuditReport {
    let key = AuditPublicKey::read(&public_path(&stage.settings.audit.key)).unwrap();
    let connection = ledger::sqlite::connect_beside(&stage.file()).unwrap();
    let sources = VerifySources { checkpoints: std::slice::from_ref(&stage.settings.audit.checkpoints), keys: &[key] };
    audit::verify(&connection, sources, &mut |_, _, _| ()).unwrap()
}

#[test]
fn checkpoints_of_the_lost_part_report_a_restore_and_not_a_cut_tail() {
    let world = World::new();
    let (stage, ..) = lost(&world, 3, 1);
    let cut = verified(&stage);
    assert!(matches!(cut.fault.map(|fault| fault.flaw), Some(AuditFlaw::CutTail { .. })));
    world.resume(&stage, None);
    drop(open(&stage));
    let report = verified(&stage);
    assert_eq!((&report.fault, report.restores.len()), (&None, 1));
    assert!(report.lost_checkpoints > 0 && report.checkpoints > report.lost_checkpoints, "{report:?}");
    // A mark that is not signed excuses nothing.
    let connection = rusqlite::Connection::open(stage.file()).unwrap();
    let sql = "UPDATE audit SET body = replace(body, '\"actor\":\"alice\"', '\"actor\":\"mallory\"') WHERE body LIKE '%audit.restored%'";
    assert_eq!(connection.execute(sql, []).unwrap(), 1);
    drop(connection);
    assert!(verified(&stage).fault.is_some());
}

#[test]
fn e84_with_the_journal_lost_too_certificates_of_the_gap_are_adopted_until_the_end_date() {
    let world = World::new();
    let (stage, _, new) = lost(&world, 40, 4);
    fs::remove_file(stage.journal()).unwrap();
    let until = START + 10 * DAY;
    let report = world.resume(&stage, Some((GapTreatment::Adopt, utc(until))));
    assert_eq!((report.rows, report.journals.len(), report.journal_until), (0, 0, None));
    let ledger = open(&stage);
    let (first, rest) = new.split_at(20);
    assert!(world.renew(&ledger, first, until - 1).iter().all(Result::is_ok));
    // Once adopted, it has a row: it renews past the end date too, and one that was not adopted is nobody.
    assert!(world.renew(&ledger, first, until + 1).iter().all(Result::is_ok));
    let past = world.renew(&ledger, rest, until);
    assert!(past.iter().all(|fared| fared.as_ref().err() == Some(&Refusal::ClientNotInLedger)), "{past:?}");
    drop(ledger);
    let issuers = [Arc::clone(world.ca.certificate())];
    let verified = ledger::verify::verify_rows(&stage.file(), &issuers, &mut |_, _| ()).unwrap();
    assert_eq!(verified.certificates, 5 + 20 + 20 + 20);
    let adopted = stage.audit_records().iter().filter(|record| record.contains("\"type\":\"adopted\"")).count();
    assert_eq!(adopted, 20, "each once");
}

#[test]
fn e84_with_the_journal_lost_too_certificates_of_the_gap_are_refused_by_their_own_reason() {
    let world = World::new();
    let (stage, old, new) = lost(&world, 10, 0);
    fs::remove_file(stage.journal()).unwrap();
    let until = START + 10 * DAY;
    world.resume(&stage, Some((GapTreatment::Refuse, utc(until))));
    let ledger = open(&stage);
    for (at, why) in [(until - 1, Refusal::ClientOfLostRow), (until, Refusal::ClientNotInLedger)] {
        let fared = world.renew(&ledger, &new, at);
        assert!(fared.iter().all(|fared| fared.as_ref().err() == Some(&why)), "{fared:?}");
    }
    assert!(world.renew(&ledger, &old, until).iter().all(Result::is_ok));
    // A device that was refused enrols again with its factory certificate.
    assert_eq!(world.enrol(&ledger, 5..15, until).len(), 10);
    drop(ledger);
    // The operator decides again, as the reason's explanation says.
    world.resume_at(until, &stage, Some((GapTreatment::Adopt, utc(until + DAY))));
    let fared = world.renew(&open(&stage), &new, until + 1);
    assert!(fared.iter().all(Result::is_ok), "{fared:?}");
}

#[test]
fn e54_a_certificate_that_our_key_signed_and_that_no_gap_explains_is_nobody() {
    let world = World::new();
    let (stage, _, new) = lost(&world, 1, 0);
    fs::remove_file(stage.journal()).unwrap();
    world.resume(&stage, Some((GapTreatment::Adopt, utc(START + 100 * DAY))));
    let ledger = open(&stage);
    let adopted = world.renew(&ledger, &new, START + 3 * DAY);
    assert!(adopted[0].is_ok(), "{adopted:?}");
    // One of the next life whose row is missing, and one that begins behind the gap.
    let forged = world.enrol(&ledger, 50..51, START + 4 * DAY);
    let other = Stage::new();
    fs::copy(stage.path("backup"), other.file()).unwrap();
    fs::copy(stage.path("ledger.db.audit.key"), other.path("ledger.db.audit.key")).unwrap();
    world.resume(&other, Some((GapTreatment::Adopt, utc(START + 100 * DAY))));
    let fared = world.renew(&open(&other), &forged, START + 5 * DAY);
    assert_eq!(fared[0].as_ref().err(), Some(&Refusal::ClientNotInLedger));
}

#[test]
fn e84_a_second_loss_is_resumed_from_the_journals_of_both_lives() {
    let world = World::new();
    let (stage, old, new) = lost(&world, 20, 2);
    let first = world.resume(&stage, None);
    let ledger = open(&stage);
    let more = world.enrol(&ledger, 100..110, START + 3 * DAY);
    drop(ledger);
    // The same old backup once more.
    stage.restore("backup");
    assert!(stage.try_open().unwrap_err().to_string().contains("muster ledger resume --after-restore"));
    let second = world.resume_at(START + 3 * DAY, &stage, None);
    assert!(second.life > first.life);
    assert_eq!((second.rows, second.revocations), (30, 2));
    let ledger = open(&stage);
    let all: Vec<_> = old.iter().chain(&new).chain(&more).cloned().collect();
    let renewed = world.renew(&ledger, &all, START + 4 * DAY);
    assert_eq!(renewed.iter().filter(|fared| fared.is_ok()).count(), 5 + 18 + 10);
}

/// SQLite would mix the log of the lost ledger into whatever file has its name.
#[test]
fn a_log_of_the_lost_ledger_beside_a_restored_one_is_refused_by_name() {
    let world = World::new();
    // A copy by our verb, and one of the file of a server that had ended.
    for is_of_verb in [true, false] {
        let stage = Stage::new();
        let (log, aside) = (stage.path("ledger.db-wal"), stage.path("log-of-the-lost-one"));
        let ledger = open(&stage);
        world.enrol(&ledger, 0..5, START);
        drop(ledger);
        if is_of_verb {
            stage.backup("backup");
        } else {
            fs::copy(stage.file(), stage.path("backup")).unwrap();
        }
        let ledger = open(&stage);
        world.enrol(&ledger, 5..40, START + DAY);
        drop(ledger);
        let ledger = open(&stage);
        world.enrol(&ledger, 40..45, START + DAY);
        fs::copy(&log, &aside).unwrap();
        fs::copy(stage.file(), stage.path("lost")).unwrap();
        drop(ledger);
        // The process was killed: its own log is taken.
        stage.restore("lost");
        fs::copy(&aside, &log).unwrap();
        drop(open(&stage));

        stage.restore("backup");
        fs::copy(&aside, &log).unwrap();
        let (file, actor) = (stage.file(), Actor::new("alice").unwrap());
        let issuers = [Arc::clone(world.ca.certificate())];
        let request = world.request(&stage, &file, More { issuers: &issuers, gap: None, actor: &actor });
        let before = fs::read(&file).unwrap();
        for fault in [
            stage.try_open().unwrap_err().to_string(),
            plan(&request, &mut |_, _, _| ()).unwrap_err().to_string(),
            resume(&request, &mut |_, _, _| ()).unwrap_err().to_string(),
        ] {
            let named = format!("the log {} is not its own", log.display());
            assert!(fault.contains(&named) && fault.contains("-shm"), "{is_of_verb}: {fault}");
        }
        assert_eq!(
            (fs::read(&file).unwrap() == before, fs::read(&log).unwrap() == fs::read(&aside).unwrap()),
            (true, true)
        );
        fs::remove_file(&log).unwrap();
        assert_eq!(world.resume(&stage, None).rows, 40, "{is_of_verb}");
        drop(open(&stage));
    }
}

/// Removes what is old from the audit, and the rows whose certificates ended.
fn prune_before(stage: &Stage, before: u64, now: u64) -> u64 {
    let key = AuditKey::read(&stage.settings.audit.key).unwrap();
    let (keys, actor) = ([key.public()], Actor::new("alice").unwrap());
    let sources = VerifySources { checkpoints: std::slice::from_ref(&stage.settings.audit.checkpoints), keys: &keys };
    let request = PruneRequest { before: utc(before), now: utc(now), actor: &actor, key: &key, sources };
    let mut connection = connect(&stage.file()).unwrap();
    audit::prune(&mut connection, request, &mut |_, _| ()).unwrap();
    let request = RowPruneRequest { before: utc(before), now: utc(now), retentions: &[], dry_run: false };
    prune_rows(&mut connection, &request, &mut |_, _| ControlFlow::Continue(())).unwrap().rows
}

/// The journal keeps what was pruned: it is not lost, and a replay does not bring it back.
#[test]
fn a_pruned_row_does_not_come_back_by_a_replay() {
    let world = World::new();
    let stage = Stage::new();
    let (recent, end) = (START + 300 * DAY, START + YEAR + DAY);
    let ledger = open(&stage);
    let old = world.enrol(&ledger, 0..5, START);
    revoke(&ledger, &old[4]);
    let new = world.enrol(&ledger, 5..8, recent);
    drop(ledger);
    assert_eq!(prune_before(&stage, end, end + DAY), 5);
    stage.backup("backup");
    let ledger = open(&stage);
    let lost = world.enrol(&ledger, 8..10, recent + DAY);
    revoke(&ledger, &lost[1]);
    drop(ledger);
    stage.restore("backup");
    let report = world.resume_at(recent + DAY, &stage, None);
    assert_eq!((report.rows, report.revocations, report.pruned, report.without_row), (2, 1, 5, 0));
    let ledger = open(&stage);
    let row = |issued: &Issued| {
        let row = Locator::of(&Certificate::parse(&issued.certificate).unwrap()).unwrap();
        answer(|done| ledger.find(vec![row], done)).unwrap().swap_remove(0)
    };
    assert!(old.iter().all(|issued| row(issued).is_none()));
    assert!(new.iter().chain(&lost).all(|issued| row(issued).is_some()));
    drop(ledger);
    let issuers = [Arc::clone(world.ca.certificate())];
    assert_eq!(ledger::verify::verify_rows(&stage.file(), &issuers, &mut |_, _| ()).unwrap().rows, 5);
}

/// A revocation was in the journal and not in the ledger when the process ended, and its row is pruned before the next start.
#[test]
fn a_start_completes_the_last_batch_without_the_rows_that_were_pruned() {
    let world = World::new();
    let stage = Stage::new();
    let end = START + YEAR + DAY;
    let ledger = open(&stage);
    let old = world.enrol(&ledger, 0..3, START);
    world.enrol(&ledger, 3..5, START + 300 * DAY);
    drop(ledger);
    stage.backup("before");
    let checkpoints = fs::read(&stage.settings.audit.checkpoints).unwrap();
    let ledger = open(&stage);
    revoke(&ledger, &old[1]);
    drop(ledger);
    stage.restore("before");
    fs::write(&stage.settings.audit.checkpoints, checkpoints).unwrap();
    assert_eq!(prune_before(&stage, end, end + DAY), 3);
    let ledger = open(&stage);
    world.enrol(&ledger, 5..6, START + 301 * DAY);
    drop(ledger);
    drop(open(&stage));
    let issuers = [Arc::clone(world.ca.certificate())];
    assert_eq!(ledger::verify::verify_rows(&stage.file(), &issuers, &mut |_, _| ()).unwrap().rows, 3);
}

/// Their serial numbers were made with another key: they lead to no row of this ledger.
#[test]
fn imported_rows_come_back_too() {
    let world = World::new();
    let other = Stage::new();
    let fresh = Fresh { serial_key: [8; 16] };
    let theirs = SqliteLedger::open_with(&other.file(), fresh, &other.settings, utc(START)).unwrap();
    let theirs: Arc<dyn Ledger> = Arc::new(theirs);
    let moved = world.enrol(&theirs, 0..20, START);
    revoke(&theirs, &moved[19]);
    drop(theirs);
    let rows: Vec<String> = other.lines().into_iter().filter(|line| !line.contains("\"hash\":")).collect();
    let lines = other.path("rows.jsonl");
    fs::write(&lines, rows.join("\n") + "\n").unwrap();

    let stage = Stage::new();
    let ledger = open(&stage);
    world.enrol(&ledger, 100..102, START);
    stage.backup("backup");
    drop(ledger);
    let (issuers, actor) = ([Arc::clone(world.ca.certificate())], Actor::new("alice").unwrap());
    let now = utc(START + DAY + 120);
    let request = ImportRequest { lines: &lines, issuers: &issuers, actor: &actor, now, dry_run: false };
    let fresh = Fresh { serial_key: [7; 16] };
    let imported = import(&stage.file(), fresh, &stage.settings, request, &mut |_, _| ()).unwrap();
    assert_eq!((imported.rows, imported.revocations), (20, 1));
    stage.restore("backup");
    let report = world.resume(&stage, None);
    assert_eq!((report.rows, report.revocations, report.without_row), (20, 1, 0));
    let fared = world.renew(&open(&stage), &moved, START + 3 * DAY);
    assert_eq!(fared.iter().filter(|fared| fared.is_ok()).count(), 19);
    assert_eq!(fared[19].as_ref().err(), Some(&Refusal::ClientRevoked));
}

#[test]
fn nothing_is_changed_by_a_resume_that_finds_a_fault() {
    let world = World::new();
    let (stage, ..) = lost(&world, 3, 1);
    let (file, actor) = (stage.file(), Actor::new("alice").unwrap());
    let issuers = [Arc::clone(world.ca.certificate())];
    let request = world.request(&stage, &file, More { issuers: &issuers, gap: None, actor: &actor });
    let (ledger, journal) = (fs::read(&file).unwrap(), fs::read_to_string(stage.journal()).unwrap());
    let faulty = [
        (journal.replacen("\"function\":\"sen\"", "\"function\":\"xyz\"", 1), "`function`"),
        (journal.replacen("\"lines\":", "\"lines\":4", 1), "does not have the lines that it had"),
        (journal.replacen("\"not_after\":1", "\"not_after\":2", 1), "does not have the lines that it had"),
        (journal.replacen("ledger.issued\",\"version\":1", "ledger.issued\",\"version\":3", 1), "version 3"),
        (journal.replacen("ledger.journal", "something", 1), "is not a journal"),
    ];
    for (text, said) in faulty {
        assert_ne!(text, journal, "{said}");
        fs::write(stage.journal(), &text).unwrap();
        let fault = resume(&request, &mut |_, _, _| ()).unwrap_err().to_string();
        assert!(fault.contains(said) && fault.contains("ledger.journal"), "{said}: {fault}");
        assert_eq!(fs::read(&file).unwrap(), ledger, "{said}");
        assert_eq!(fs::read_to_string(stage.journal()).unwrap(), text, "{said}");
    }
    // A server has it open.
    fs::write(stage.journal(), &journal).unwrap();
    let running = stage.open_without_journal();
    let fault = resume(&request, &mut |_, _, _| ()).unwrap_err().to_string();
    assert!(fault.contains("another process has it open"), "{fault}");
    drop(running);
}

/// Behind a row of next year nothing could be issued until then, as with an import.
#[test]
fn a_journal_with_a_time_after_the_clock_is_refused() {
    let world = World::new();
    let (stage, ..) = lost(&world, 3, 1);
    let (file, actor) = (stage.file(), Actor::new("alice").unwrap());
    let issuers = [Arc::clone(world.ca.certificate())];
    let request = world.request(&stage, &file, More { issuers: &issuers, gap: None, actor: &actor });
    let before = fs::read(&file).unwrap();
    // The revocation is the latest line: a minute before it is the earliest clock that it allows.
    let revoked = START + DAY + 60;
    let early = ResumeRequest { now: utc(revoked - 61), ..request };
    for resumed in [plan(&early, &mut |_, _, _| ()), resume(&early, &mut |_, _, _| ())] {
        let fault = resumed.unwrap_err().to_string();
        assert!(fault.contains("61 seconds after the clock") && fault.contains("ledger.journal"), "{fault}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    let late = ResumeRequest { now: utc(revoked - 60), ..request };
    assert_eq!(resume(&late, &mut |_, _, _| ()).unwrap().revocations, 1);
}

/// Every file of the folder with its bytes.
fn contents(folder: &std::path::Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn a_dry_run_of_a_resume_creates_and_changes_no_file() {
    let world = World::new();
    let (stage, ..) = lost(&world, 3, 1);
    // A restored ledger stands alone.
    fs::remove_file(stage.path("ledger.db.lock")).unwrap();
    let (file, actor) = (stage.file(), Actor::new("alice").unwrap());
    let issuers = [Arc::clone(world.ca.certificate())];
    let request = world.request(&stage, &file, More { issuers: &issuers, gap: None, actor: &actor });
    let folder = file.parent().unwrap().to_owned();
    let unchanged = |before: &BTreeMap<PathBuf, Vec<u8>>, what: &str| {
        let after = contents(&folder);
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>(), "{what}");
        assert!(*before == after, "{what}: a file was changed");
    };
    let before = contents(&folder);
    assert_eq!(plan(&request, &mut |_, _, _| ()).unwrap().rows, 3);
    unchanged(&before, "what would be resumed");
    let journal = fs::read_to_string(stage.journal()).unwrap();
    fs::write(stage.journal(), journal.replacen("ledger.journal", "something", 1)).unwrap();
    let before = contents(&folder);
    plan(&request, &mut |_, _, _| ()).unwrap_err();
    unchanged(&before, "a journal that is refused");
    fs::rename(&file, folder.join("elsewhere")).unwrap();
    let before = contents(&folder);
    plan(&request, &mut |_, _, _| ()).unwrap_err();
    unchanged(&before, "no ledger");
}
