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

/// Another opinion on the file: SQLite's own program.
fn sqlite(file: &Path, sql: &str) -> String {
    let output = std::process::Command::new("sqlite3").arg(file).arg(sql).output().unwrap();
    expect_status(&output, 0);
    crate::common::stdout(&output)
}
