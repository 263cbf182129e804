//! A ledger that was lost and restored from a backup: its journal brings back what the backup lacks, and what nothing brings back is adopted, refused
//! or unknown, as the operator says (E84, E54).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::common::{Pki, Serving, expect_status, muster, stderr, stdout};

fn ledger(pki: &Pki, verb: &str, more: &[&str]) -> Output {
    muster().args(["ledger", verb, "--config"]).arg(pki.path("muster.toml")).args(more).output().unwrap()
}

fn json(output: &Output) -> Value {
    expect_status(output, 0);
    serde_json::from_str(&stdout(output)).unwrap()
}

fn serve(pki: &Pki) -> Serving {
    pki.serve(&["--listen", "127.0.0.1:0"])
}

/// Enrols one device into a folder of this name.
fn enrol(pki: &Pki, server: &Serving, name: &str) -> PathBuf {
    let folder = pki.beside(name);
    expect_status(&pki.device("enroll", server.uri()).arg("--out").arg(&folder).output().unwrap(), 0);
    folder
}

fn renew(pki: &Pki, server: &Serving, device: &Path, name: &str) -> Output {
    let mut command = muster();
    command.args(["reenroll", "--server", server.uri(), "--identity"]).arg(device).arg("--out").arg(pki.beside(name));
    command.output().unwrap()
}

fn revoke_newest(pki: &Pki) {
    let mut command = muster();
    command.args(["cert", "list", "--json", "--config"]).arg(pki.path("muster.toml"));
    let listed = stdout(&command.output().unwrap());
    let rows = listed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let newest = rows.filter_map(|row| row["serial"].as_str().map(str::to_owned)).next_back();
    let mut command = muster();
    command.args(["cert", "revoke", &newest.unwrap(), "--reason", "keyCompromise", "--yes", "--config"]);
    expect_status(&command.arg(pki.path("muster.toml")).output().unwrap(), 0);
}

/// Destroys the ledger and puts the backup in its place.
fn destroy_and_restore(pki: &Pki) {
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db.lock"] {
        let _there_may_be_none = fs::remove_file(pki.path(name));
    }
    fs::copy(pki.beside("backup.db"), pki.path("ledger.db")).unwrap();
}

fn does_not_start(pki: &Pki) -> String {
    let mut command = muster();
    command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(pki.path("muster.toml"));
    let output = command.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").output().unwrap();
    expect_status(&output, 1);
    stderr(&output)
}

#[test]
fn e84_a_restored_ledger_gets_back_from_its_journal_what_the_backup_lacks() {
    let pki = Pki::new();
    let server = serve(&pki);
    let old = enrol(&pki, &server, "old");
    expect_status(&ledger(&pki, "backup", &[pki.beside("backup.db").to_str().unwrap()]), 0);
    let (good, bad) = (enrol(&pki, &server, "good"), enrol(&pki, &server, "bad"));
    assert_eq!(server.terminate().0, Some(0));
    revoke_newest(&pki);

    let mut command = muster();
    command.args(["ledger", "resume", "--after-restore", "--yes", "--config"]).arg(pki.path("muster.toml"));
    fs::rename(pki.path("ledger.db"), pki.beside("lost.db")).unwrap();
    let output = command.output().unwrap();
    expect_status(&output, 1);
    assert!(stderr(&output).contains("copy a backup of it there first"), "{}", stderr(&output));
    let said = does_not_start(&pki);
    assert!(said.contains("it does not exist, and its journal"), "{said}");

    destroy_and_restore(&pki);
    let said = does_not_start(&pki);
    assert!(said.contains("older than its journal") && said.contains("muster ledger resume --after-restore"), "{said}");
    // Nobody is asked, and nothing happens, without a terminal.
    expect_status(&ledger(&pki, "resume", &["--after-restore"]), 2);
    let planned = json(&ledger(&pki, "resume", &["--after-restore", "--dry-run", "--json"]));
    assert_eq!((&planned["rows"], &planned["revocations"], &planned["dry_run"]), (&2.into(), &1.into(), &true.into()));
    does_not_start(&pki);
    let done = json(&ledger(&pki, "resume", &["--after-restore", "--yes", "--json"]));
    assert_eq!((&done["rows"], &done["revocations"]), (&2.into(), &1.into()));
    assert!(done["next_number"].as_i64() > done["highest_number"].as_i64());
    let verified = json(&ledger(&pki, "verify", &["--json"]));
    assert_eq!(verified["certificates"], 3);
    assert_eq!(verified["audit_restores"].as_array().unwrap().len(), 1);

    let server = serve(&pki);
    for device in [&old, &good] {
        let name = format!("renewed-{}", device.file_name().unwrap().to_str().unwrap());
        expect_status(&renew(&pki, &server, device, &name), 0);
    }
    let refused = renew(&pki, &server, &bad, "renewed-bad");
    assert!(!refused.status.success() && stderr(&refused).contains("revoked"), "{}", stderr(&refused));
    let other = ledger(&pki, "resume", &["--after-restore", "--yes"]);
    expect_status(&other, 1);
    assert!(stderr(&other).contains("another process has it open"), "{}", stderr(&other));
    assert_eq!(server.terminate().0, Some(0));
    expect_status(&ledger(&pki, "verify", &[]), 0);
}

/// Loses ledger and journal, restores the backup, and resumes with these words; says how the device of the gap fares that renews then.
fn without_journal(more: &[&str]) -> (Pki, Output) {
    let pki = Pki::new();
    let server = serve(&pki);
    enrol(&pki, &server, "old");
    expect_status(&ledger(&pki, "backup", &[pki.beside("backup.db").to_str().unwrap()]), 0);
    let lost = enrol(&pki, &server, "lost");
    assert_eq!(server.terminate().0, Some(0));
    destroy_and_restore(&pki);
    fs::remove_file(pki.path("ledger.journal")).unwrap();
    let arguments = [&["--after-restore", "--yes", "--json"], more].concat();
    let done = json(&ledger(&pki, "resume", &arguments));
    assert_eq!(done["rows"], 0);
    let server = serve(&pki);
    let renewed = renew(&pki, &server, &lost, "renewed");
    if renewed.status.success() {
        // And once more, with the row that was brought back.
        expect_status(&renew(&pki, &server, &lost, "again"), 0);
    }
    assert_eq!(server.terminate().0, Some(0));
    let verified = json(&ledger(&pki, "verify", &["--json"]));
    assert_eq!(verified["audit_restores"].as_array().unwrap().len(), 1);
    (pki, renewed)
}

#[test]
fn e84_without_a_journal_a_genuine_certificate_of_the_gap_is_adopted() {
    let (pki, renewed) = without_journal(&["--gap", "adopt", "--until", "2100-01-01"]);
    expect_status(&renewed, 0);
    let journal = fs::read_to_string(pki.path("ledger.journal")).unwrap();
    assert_eq!(
        journal.matches("ledger.issued").count(),
        4,
        "one of the backup, the one that was adopted, two renewals"
    );
}

#[test]
fn e84_without_a_journal_a_genuine_certificate_of_the_gap_is_refused_by_its_own_reason() {
    let (_pki, renewed) = without_journal(&["--gap", "refuse", "--until", "2100-01-01"]);
    assert!(!renewed.status.success() && stderr(&renewed).contains("est.client.of_lost_row"), "{}", stderr(&renewed));
}

#[test]
fn e54_past_the_end_date_and_without_a_gap_it_was_never_issued() {
    for more in [&["--gap", "adopt", "--until", "2026-01-02"][..], &["--gap", "refuse", "--until", "2026-01-02"], &[]] {
        let (_pki, renewed) = without_journal(more);
        let said = stderr(&renewed);
        assert!(!renewed.status.success() && said.contains("est.client.not_in_ledger"), "{more:?}: {said}");
    }
}
