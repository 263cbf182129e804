//! What was issued outlives the server that issued it.

use std::path::Path;
use std::process::Output;

use crate::common::{Pki, expect_status, muster, stderr};

/// A device's certificate is still known after a kill and a restart: it renews, and neither row is lost.
#[test]
fn a_certificate_outlives_a_kill_of_its_server() {
    let pki = Pki::new();
    let out = pki.beside("device");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    expect_status(&pki.device("enroll", &server.uris[0]).arg("--out").arg(&out).output().unwrap(), 0);
    server.running.signal("KILL");
    server.running.rest();

    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let renewed = pki.beside("renewed");
    let mut command = muster();
    command.args(["reenroll", "--server", &server.uris[0], "--identity"]).arg(&out).arg("--out").arg(&renewed);
    expect_status(&command.output().unwrap(), 0);
    assert_eq!(server.terminate().0, Some(0));
    assert_eq!(
        sqlite(&pki.path("ledger.db"), "SELECT state, function FROM certificates ORDER BY at, function"),
        "good|sen\ngood|sren\n"
    );
    assert_eq!(sqlite(&pki.path("ledger.db"), "PRAGMA integrity_check"), "ok\n");
}

#[test]
fn a_second_server_on_one_ledger_is_told_why_it_does_not_start() {
    let pki = Pki::new();
    let first = pki.serve(&["--listen", "127.0.0.1:0"]);
    let mut second = muster();
    second.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(pki.path("muster.toml"));
    let output: Output = second.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").output().unwrap();
    expect_status(&output, 1);
    let said = stderr(&output);
    assert!(said.contains("ledger.db: another process has it open") && said.contains("[ledger] url"), "{said}");
    assert_eq!(first.terminate().0, Some(0));
}

/// `muster ledger verify` and `backup`, beside the server and without it; what somebody changes in the file is named.
#[test]
fn a_ledger_is_verified_and_copied_and_what_was_changed_is_named() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    for name in ["one", "two"] {
        let enrolled = pki.device("enroll", server.uri()).arg("--out").arg(pki.beside(name)).output().unwrap();
        expect_status(&enrolled, 0);
    }
    let ledger = |verb: &str, more: &[&std::ffi::OsStr]| {
        let mut command = muster();
        command.args(["ledger", verb, "--config"]).arg(pki.path("muster.toml")).args(more).output().unwrap()
    };
    let verified = ledger("verify", &[]);
    expect_status(&verified, 0);
    let said = crate::common::stdout(&verified);
    assert!(said.contains("2 certificates checked") && said.contains("audit: "), "{said}");
    let copy = pki.beside("copy.db");
    expect_status(&ledger("backup", &[copy.as_os_str()]), 0);
    expect_status(&ledger("backup", &[copy.as_os_str()]), 1);
    assert_eq!(sqlite(&copy, "SELECT count(*) FROM certificates WHERE state = 'good'"), "2\n");
    assert_eq!(server.terminate().0, Some(0));
    let file = pki.path("ledger.db");
    assert!(!pki.path("ledger.db-wal").exists(), "after a clean end the file alone is the ledger");
    expect_status(&ledger("verify", &[]), 0);
    let changes = [
        ("UPDATE intent SET spki = zeroblob(32) WHERE number = 1", "row 1"),
        ("UPDATE certificate SET der = zeroblob(400) WHERE number = 2", "row 2"),
        ("DELETE FROM certificate WHERE number = 2", "a record of its certificate, which is missing"),
        ("UPDATE audit SET body = replace(body, '127.0.0.1', '127.0.0.2')", "the audit of"),
    ];
    sqlite(&file, "PRAGMA wal_checkpoint(TRUNCATE)");
    for (sql, named) in changes {
        let whole = std::fs::read(&file).unwrap();
        sqlite(&file, &format!("PRAGMA wal_checkpoint(TRUNCATE); {sql}; PRAGMA wal_checkpoint(TRUNCATE)"));
        let verified = ledger("verify", &[]);
        expect_status(&verified, 1);
        assert!(stderr(&verified).contains(named), "{sql}: {}", stderr(&verified));
        std::fs::write(&file, whole).unwrap();
        for log in ["ledger.db-wal", "ledger.db-shm"] {
            let _there_may_be_none = std::fs::remove_file(pki.path(log));
        }
    }
    expect_status(&ledger("verify", &[]), 0);
}

/// Another opinion on the file: SQLite's own program.
fn sqlite(file: &Path, sql: &str) -> String {
    let output = std::process::Command::new("sqlite3").arg(file).arg(sql).output().unwrap();
    expect_status(&output, 0);
    crate::common::stdout(&output)
}

/// E36: what an operator was told is revoked is in the revocation list of the next server, although this one was killed before it wrote the list.
#[test]
fn e36_a_revocation_that_was_answered_is_in_the_list_after_a_kill() {
    let pki = Pki::new();
    let crl = |interval| {
        [("MUSTER_CA__MAIN__CRL_URL", "http://pki.example.net/main.crl"), ("MUSTER_CRL__INTERVAL", interval)]
    };
    let server = pki.serve_with(&["--listen", "127.0.0.1:0"], &crl("30s"));
    let enrolled = pki.device("enroll", server.uri()).arg("--out").arg(pki.beside("device")).output().unwrap();
    expect_status(&enrolled, 0);
    let file = pki.path("crl/main.crl");
    // The list before: the next one of this server is half a minute away.
    wait_until(|| file.exists());
    let serial = sqlite(&pki.path("ledger.db"), "SELECT serial FROM certificates");
    let mut revoke = muster();
    revoke.args(["cert", "revoke", serial.trim(), "--reason", "keyCompromise", "--yes", "--config"]);
    expect_status(&revoke.arg(pki.path("muster.toml")).output().unwrap(), 0);
    server.running.signal("KILL");
    server.running.rest();

    let serial = hex::decode(serial.trim()).unwrap();
    let is_listed = || {
        let list = std::fs::read(&file).unwrap();
        list.windows(serial.len()).any(|window| window == serial)
    };
    assert!(!is_listed(), "it was killed before");
    let server = pki.serve_with(&["--listen", "127.0.0.1:0"], &crl("30s"));
    wait_until(is_listed);
    assert_eq!(server.terminate().0, Some(0));
}

/// The server is given as much time as a debug build on a busy machine needs.
fn wait_until(holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
