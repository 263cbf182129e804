//! The verbs of `muster ledger` that change its file or copy what it holds, beside a server and without one.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{Pki, Serving, expect_status, muster, stderr, stdout};

/// The tables of the release before, as its first start writes them.
const VERSION_1: &str = include_str!("../../../ledger/tests/upgrade/version_1.sql");

/// `muster ledger VERB` of this PKI.
fn ledger(pki: &Pki, verb: &str, more: &[&str]) -> Output {
    let mut command = muster();
    command.args(["ledger", verb, "--config"]).arg(pki.path("muster.toml")).args(more).output().unwrap()
}

#[track_caller]
fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}{}", stdout(output), stderr(output)))
}

/// Another opinion on the file: SQLite's own program.
fn sqlite(file: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg(file).arg(sql).output().unwrap();
    expect_status(&output, 0);
    stdout(&output)
}

#[track_caller]
fn enroll(pki: &Pki, server: &Serving, name: &str) {
    let enrolled = pki.device("enroll", server.uri()).arg("--out").arg(pki.beside(name)).output().unwrap();
    expect_status(&enrolled, 0);
}

#[test]
fn a_ledger_of_the_release_before_is_migrated_while_its_server_runs() {
    let pki = Pki::new();
    let file = pki.path("ledger.db");
    let key = "INSERT INTO meta VALUES ('serial_key', randomblob(16)), ('complete_since', 1000)";
    sqlite(&file, &format!("{VERSION_1}; {key}; PRAGMA application_id = 0x4d555354; PRAGMA user_version = 1"));
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "before");
    assert_eq!(sqlite(&file, "PRAGMA user_version"), "1\n", "a start does not migrate");

    let planned = ledger(&pki, "migrate", &["--dry-run", "--json"]);
    expect_status(&planned, 0);
    let planned = json(&planned);
    assert_eq!((planned["from"].as_u64(), planned["to"].as_u64()), (Some(1), Some(2)));
    assert_eq!(sqlite(&file, "PRAGMA user_version"), "1\n", "a dry run writes nothing");
    let done = ledger(&pki, "migrate", &["--json"]);
    expect_status(&done, 0);
    let done = json(&done);
    assert_eq!((&done["steps"], &done["dry_run"]), (&planned["steps"], &false.into()));
    assert!(done["longest_lock_ms"].as_f64().is_some());
    assert_eq!(sqlite(&file, "PRAGMA user_version"), "2\n");

    enroll(&pki, &server, "after");
    expect_status(&ledger(&pki, "verify", &[]), 0);
    assert_eq!(server.terminate().0, Some(0));
    let again = ledger(&pki, "migrate", &[]);
    expect_status(&again, 0);
    assert!(stdout(&again).contains("nothing to do"), "{}", stdout(&again));
    expect_status(&ledger(&pki, "verify", &[]), 0);
}

#[test]
fn a_ledger_of_a_version_that_is_not_known_is_refused_by_name() {
    let pki = Pki::new();
    let file = pki.path("ledger.db");
    sqlite(&file, &format!("{VERSION_1}; PRAGMA application_id = 0x4d555354; PRAGMA user_version = 4"));
    for verb in ["migrate", "verify", "status"] {
        let refused = ledger(&pki, verb, &[]);
        expect_status(&refused, 1);
        let said = stderr(&refused);
        assert!(said.contains("ledger.db") && said.contains("version 4") && said.contains("up to 3"), "{verb}: {said}");
    }
}
