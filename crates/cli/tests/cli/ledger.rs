//! The verbs of `muster ledger` that change its file or copy what it holds, beside a server and without one.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{Pki, Running, Serving, expect_status, muster, stderr, stdout};

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

#[test]
fn what_was_issued_is_exported_beside_the_server_and_followed() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    let mut follow = muster();
    follow.args(["ledger", "export", "--follow", "--config"]).arg(pki.path("muster.toml"));
    let mut follow = Running(follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut followed = BufReader::new(follow.0.stdout.take().unwrap()).lines();
    let first = followed.next().unwrap().unwrap();
    enroll(&pki, &server, "two");
    let second = followed.next().unwrap().unwrap();
    let mut revoke = muster();
    revoke.args(["cert", "revoke", "--reason", "keyCompromise", "--yes", "--config"]).arg(pki.path("muster.toml"));
    expect_status(&revoke.arg(pki.beside("one").join("device.pem")).output().unwrap(), 0);
    let third = followed.next().unwrap().unwrap();
    assert!(third.contains("ledger.revoked") && third.contains("keyCompromise"), "{third}");
    follow.signal("INT");
    assert!(followed.next().is_none());
    assert_eq!(follow.rest(), (Some(0), String::new()), "Ctrl-C is how it ends");

    let all = format!("{first}\n{second}\n{third}\n");
    let exported = ledger(&pki, "export", &[]);
    expect_status(&exported, 0);
    assert_eq!(stdout(&exported), all);
    let cursor =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["cursor"].as_str().unwrap().to_owned();
    let rest = ledger(&pki, "export", &["--after", &cursor(&first), "--limit", "1"]);
    assert_eq!(stdout(&rest), format!("{second}\n"));
    assert_eq!(stdout(&ledger(&pki, "export", &["--after", &cursor(&third)])), "");
    let wrong = ledger(&pki, "export", &["--after", &"f".repeat(32)]);
    expect_status(&wrong, 1);
    assert!(stderr(&wrong).contains("another ledger"), "{}", stderr(&wrong));

    let file = pki.beside("ledger.jsonl");
    let written = ledger(&pki, "export", &["--json", "--out", file.to_str().unwrap()]);
    expect_status(&written, 0);
    assert_eq!((&json(&written)["lines"], &json(&written)["cursor"]), (&3.into(), &cursor(&third).into()));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), all);
    assert_eq!(server.terminate().0, Some(0));
    assert_eq!(stdout(&ledger(&pki, "export", &[])), all, "without a server");
    let nowhere = ledger(&pki, "export", &["--out", pki.beside("no/such/file").to_str().unwrap()]);
    expect_status(&nowhere, 1);
}

#[test]
fn a_reader_that_leaves_is_no_error_of_an_export_and_a_full_disk_is() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    let mut export = muster();
    export.args(["ledger", "export", "--follow", "--config"]).arg(pki.path("muster.toml"));
    let mut export = Running(export.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    // All lines are written by now, and no further one will find out that nobody reads.
    let mut lines = BufReader::new(export.0.stdout.take().unwrap());
    assert!(lines.read_line(&mut String::new()).unwrap() > 0);
    drop(lines);
    assert_eq!(export.rest(), (Some(0), String::new()));
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut export = muster();
    export.args(["ledger", "export", "--config"]).arg(pki.path("muster.toml")).stdout(full);
    let failed = export.output().unwrap();
    expect_status(&failed, 1);
    assert!(stderr(&failed).contains("cannot write to standard output"), "{}", stderr(&failed));
    assert_eq!(server.terminate().0, Some(0));
}

#[test]
fn an_export_is_imported_into_a_new_ledger_whose_server_knows_its_devices() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    for name in ["one", "two"] {
        enroll(&pki, &server, name);
    }
    let file = pki.beside("ledger.jsonl");
    let lines = file.to_str().unwrap();
    expect_status(&ledger(&pki, "export", &["--out", lines]), 0);
    let refused = ledger(&pki, "import", &[lines]);
    expect_status(&refused, 1);
    assert!(stderr(&refused).contains("another process has it open"), "{}", stderr(&refused));
    assert_eq!(server.terminate().0, Some(0));

    // The ledger is lost. What shows that there was one has to be moved away before another begins.
    for name in ["ledger.db", "ledger.journal", "ledger.db.checkpoints.jsonl"] {
        std::fs::remove_file(pki.path(name)).unwrap();
    }
    let refused = ledger(&pki, "import", &[lines]);
    expect_status(&refused, 1);
    assert!(stderr(&refused).contains("move these files away"), "{}", stderr(&refused));
    for name in ["ledger.db.audit.key", "ledger.db.audit.key.pub"] {
        std::fs::remove_file(pki.path(name)).unwrap();
    }
    let tried = ledger(&pki, "import", &[lines, "--dry-run", "--json"]);
    expect_status(&tried, 0);
    assert_eq!((&json(&tried)["rows"], &json(&tried)["dry_run"]), (&2.into(), &true.into()));
    let done = ledger(&pki, "import", &[lines, "--json"]);
    expect_status(&done, 0);
    assert_eq!((&json(&done)["rows"], &json(&done)["known"]), (&2.into(), &0.into()));
    expect_status(&ledger(&pki, "verify", &[]), 0);
    assert_eq!(stdout(&ledger(&pki, "export", &[])), std::fs::read_to_string(&file).unwrap());
    let again = ledger(&pki, "import", &[lines]);
    assert!(stdout(&again).contains("0 rows and 0 revocations imported"), "{}", stdout(&again));

    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let mut renew = muster();
    renew.args(["reenroll", "--server", server.uri(), "--identity"]).arg(pki.beside("two"));
    expect_status(&renew.arg("--out").arg(pki.beside("renewed")).output().unwrap(), 0);
    assert_eq!(server.terminate().0, Some(0));

    let mut cut = std::fs::read_to_string(&file).unwrap();
    cut.truncate(cut.len() - 10);
    std::fs::write(&file, cut).unwrap();
    let refused = ledger(&pki, "import", &[lines]);
    expect_status(&refused, 1);
    assert!(stderr(&refused).contains("ledger.jsonl, line 2:"), "{}", stderr(&refused));
}

#[test]
fn pruning_is_refused_while_certificates_or_their_grace_last_and_names_the_profile() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    let config = pki.path("muster.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let with_grace = text.replace("renew_grace = \"0s\"", "renew_grace = \"90d\"");
    assert_ne!(with_grace, text);
    let future = ledger(&pki, "prune", &["--before", "2999-01-01", "--yes"]);
    expect_status(&future, 1);
    assert!(stderr(&future).contains("not past"), "{}", stderr(&future));

    std::fs::write(&config, &with_grace).unwrap();
    let yesterday = Command::new("date").args(["-u", "-d", "yesterday", "+%F"]).output().unwrap();
    let yesterday = stdout(&yesterday).trim().to_owned();
    let refused = ledger(&pki, "prune", &["--before", &yesterday, "--yes"]);
    expect_status(&refused, 1);
    let said = stderr(&refused);
    assert!(said.contains("`default`") || said.contains("the profile `"), "{said}");
    assert!(said.contains("90 days") && said.contains("`renew_grace`"), "{said}");
    std::fs::write(&config, &text).unwrap();

    let unasked = ledger(&pki, "prune", &["--before", &yesterday]);
    expect_status(&unasked, 2);
    let planned = ledger(&pki, "prune", &["--before", &yesterday, "--dry-run", "--json"]);
    expect_status(&planned, 0);
    assert_eq!(json(&planned)["rows"], 0);
    let done = ledger(&pki, "prune", &["--before", &yesterday, "--yes", "--json"]);
    expect_status(&done, 0);
    assert_eq!((&json(&done)["rows"], &json(&done)["audit_rows"]), (&0.into(), &0.into()));
    assert_eq!(server.terminate().0, Some(0));
    expect_status(&ledger(&pki, "verify", &[]), 0);
}

#[test]
fn an_audit_without_checkpoints_is_not_called_good() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    let beside = ledger(&pki, "verify", &[]);
    expect_status(&beside, 0);
    assert!(stdout(&beside).contains("a server runs"), "{}", stdout(&beside));
    assert_eq!(server.terminate().0, Some(0));
    let whole = ledger(&pki, "verify", &[]);
    assert!(stdout(&whole).contains("checkpoints: all good"), "{}", stdout(&whole));
    std::fs::write(pki.path("ledger.db.checkpoints.jsonl"), "").unwrap();
    let bare = ledger(&pki, "verify", &[]);
    expect_status(&bare, 0);
    let said = stdout(&bare);
    assert!(
        said.contains("0 checkpoints: nothing proves that its tail was not cut")
            && !said.contains("checkpoints: all good"),
        "{said}"
    );
    let bare = ledger(&pki, "verify", &["--json"]);
    assert!(json(&bare)["audit_rows_uncovered"].as_i64().unwrap() > 0);
}

#[test]
fn the_key_of_the_audit_is_never_that_of_a_ca() {
    let pki = Pki::new();
    std::fs::copy(pki.path("ca/issuing.key"), pki.path("ledger.db.audit.key")).unwrap();
    let mut serve = muster();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(pki.path("muster.toml"));
    let refused = serve.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").output().unwrap();
    expect_status(&refused, 1);
    let said = stderr(&refused);
    assert!(said.contains("ledger.db.audit.key is that of the CA `"), "{said}");
}

/// A process that is killed cannot tidy up: what it leaves must not pass for a backup, and the next backup takes its place.
#[test]
fn a_backup_that_is_killed_leaves_nothing_that_looks_like_one() {
    let pki = Pki::new();
    let file = pki.path("ledger.db");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    assert_eq!(server.terminate().0, Some(0));
    // Long enough to be killed in the middle of it.
    let rows = "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT randomblob(500) FROM n";
    sqlite(&file, &format!("CREATE TABLE ballast (x); INSERT INTO ballast {rows}"));
    let (copy, part) = (pki.beside("copy.db"), pki.beside("copy.db.part"));
    let names = || {
        let folder = std::fs::read_dir(copy.parent().unwrap()).unwrap();
        let mut names: Vec<String> = folder.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("copy"));
        names.sort();
        names
    };
    let mut killed = 0;
    for wanted in [1_u64, 4 << 20, 32 << 20] {
        // The file of a killed backup is replaced by one of the next backup.
        let id = || std::fs::metadata(&part).map_or(0, |part| part.ino());
        let left = id();
        let mut command = muster();
        command.args(["ledger", "backup", copy.to_str().unwrap(), "--config"]).arg(pki.path("muster.toml"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let written = || std::fs::metadata(&part).map_or(0, |part| part.len());
        while child.try_wait().unwrap().is_none() && (id() == left || written() < wanted) {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            std::fs::remove_file(&copy).unwrap();
            continue;
        }
        killed += 1;
        let names = names();
        assert!(names.contains(&"copy.db.part".to_owned()) && !names.contains(&"copy.db".to_owned()), "{names:?}");
    }
    assert!(killed > 0, "no backup was killed while it was made");
    expect_status(&ledger(&pki, "backup", &[copy.to_str().unwrap()]), 0);
    assert_eq!(names(), ["copy.db"]);
    assert_eq!(sqlite(&copy, "PRAGMA integrity_check; SELECT count(*) FROM ballast"), "ok\n100000\n");
    assert_eq!(sqlite(&copy, "SELECT count(*) FROM certificate"), "1\n");
}

/// A request of which nothing was heard, and one with two certificates, as a Registrar leaves them in its ledger.
const RELAYED: &str = "INSERT INTO relay_request VALUES
(1, 1800000000, 1800000000, 1, 2, 1, 'meters', zeroblob(32), '000001', zeroblob(32), 1, zeroblob(32), zeroblob(32), NULL, zeroblob(32), 'plant', '192.0.2.1:5684', 1800086400, 4),
(2, 1800000001, 1800000001, 1, 3, 2, 'meters', zeroblob(32), '000002', zeroblob(32), 2, zeroblob(32), zeroblob(32), NULL, zeroblob(32), 'plant', '192.0.2.2:5684', 1800086400, 4);
INSERT INTO relay_certificate VALUES
(2, 0, 1800000002, 1800086400, 1800000000, 1900000000, x'00ab', zeroblob(32), zeroblob(32), x'30', NULL, NULL, NULL),
(2, 1, 1800000003, 1800086400, 1800000000, 1900000000, x'00ac', zeroblob(32), zeroblob(32), x'30', 1800000009, 1, 'alice')";

/// Marks the third certificate, without a server and beside one.
fn marks_relayed(pki: &Pki) {
    let sha256 = "33".repeat(32);
    let row = "INSERT INTO relay_request VALUES (3, 1800000001, 1800000001, 1, 3, 2, 'meters', zeroblob(32), '000003', zeroblob(32), 2, zeroblob(32), zeroblob(32), NULL, zeroblob(32), 'plant', '192.0.2.2:5684', 1800086400, 4);
INSERT INTO relay_certificate VALUES (3, 0, 1800000002, 1800086400, 1800000000, 1900000000, x'00ad', zeroblob(32), x'";
    sqlite(&pki.path("ledger.db"), &format!("{row}{sha256}', x'30', NULL, NULL, NULL)"));
    let mark = |more: &[&str]| {
        let command = ["cert", "revoke-relayed", "--reason", "keyCompromise", "--config"];
        muster().args(command).arg(pki.path("muster.toml")).args(more).output().unwrap()
    };
    let dry = mark(&["3", "--dry-run"]);
    expect_status(&dry, 0);
    let of_key = "no key of these certificates would be certified again, for any device (est.csr.key_compromised)";
    assert_eq!(stdout(&dry), format!("{sha256} of device 000003 would be refused\n{of_key}\n"));
    for nothing in ["1", "4", &"44".repeat(32)] {
        assert_ne!(mark(&[nothing, "--yes"]).status.code(), Some(0), "{nothing}");
    }
    let marked = mark(&[&sha256, "--yes", "--json"]);
    expect_status(&marked, 0);
    let marked: serde_json::Value = serde_json::from_str(&stdout(&marked)).unwrap();
    assert_eq!((&marked["revocations"][0]["outcome"], &marked["reason"]), (&"revoked".into(), &"keyCompromise".into()));
    assert_eq!(sqlite(&pki.path("ledger.db"), "SELECT count(*) FROM compromised_key"), "1\n");
    let actor = &marked["revocations"][0]["revocation"]["actor"];
    let server = pki.serve_with(&["--listen", "127.0.0.1:0"], &[("MUSTER_ADMIN__SOCKET", "admin.sock")]);
    // The server may open its admin socket a moment after it listens.
    let mut tries = (0..50).map(|_| mark(&["3", "--yes"]));
    let again =
        tries.find(|again| again.status.success()).unwrap_or_else(|| panic!("{}", stderr(&mark(&["3", "--yes"]))));
    assert!(stdout(&again).contains("was marked before: keyCompromise at "), "{}", stdout(&again));
    assert_eq!(server.terminate().0, Some(0));
    let audit = sqlite(&pki.path("ledger.db"), "SELECT body FROM audit");
    let line = audit.lines().find(|line| line.contains("relay.revoked")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["certificate"], &line["actor"], &line["request"]), (&sha256.into(), actor, &3.into()));
    sqlite(
        &pki.path("ledger.db"),
        "DELETE FROM relay_certificate WHERE request = 3; DELETE FROM relay_request WHERE id = 3",
    );
}

/// Closes the fourth request, whose upstream named a senseless time; the others are not its kind.
fn closes_relayed(pki: &Pki) {
    let row = "INSERT INTO relay_request VALUES (4, 1800000000, 4000000000, 1, 2, 1, 'meters', zeroblob(32), '000004', zeroblob(32), 1, zeroblob(32), zeroblob(32), NULL, zeroblob(32), 'plant', '192.0.2.1:5684', 4000086400, 4)";
    sqlite(&pki.path("ledger.db"), row);
    let close = |more: &[&str]| {
        let command = ["cert", "close-relayed", "--config"];
        muster().args(command).arg(pki.path("muster.toml")).args(more).output().unwrap()
    };
    let rows = || sqlite(&pki.path("ledger.db"), "SELECT count(*) FROM relay_request");
    let before = rows();
    assert_eq!(stdout(&close(&["4", "--dry-run"])), "request 4 of device 000004 at plant would be forgotten\n");
    for refused in [&["2", "--yes"][..], &["4", "9", "--yes"], &["4"], &["four", "--yes"]] {
        assert_ne!(close(refused).status.code(), Some(0), "{refused:?}");
    }
    assert_eq!(rows(), before);
    let closed = close(&["4", "--yes", "--json"]);
    expect_status(&closed, 0);
    let closed: serde_json::Value = serde_json::from_str(&stdout(&closed)).unwrap();
    assert_eq!((&closed["closed"][0]["request"], &closed["dry_run"]), (&4.into(), &false.into()));
    assert_ne!(rows(), before);
    assert_ne!(close(&["4", "--yes"]).status.code(), Some(0), "it is there no more");
}

#[test]
fn what_was_relayed_is_listed_beside_a_server_and_without_one() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    sqlite(&pki.path("ledger.db"), RELAYED);
    let relayed = |more: &[&str]| {
        let output =
            muster().args(["cert", "relayed", "--config"]).arg(pki.path("muster.toml")).args(more).output().unwrap();
        expect_status(&output, 0);
        stdout(&output)
    };
    let look = || {
        let table = relayed(&[]);
        let lines: Vec<&str> = table.lines().collect();
        let [head, unresolved, first, second] = lines[..] else { panic!("{table}") };
        assert!(head.contains("UPSTREAM'S SERIAL"), "{head}");
        assert!(unresolved.contains("unresolved  plant") && unresolved.ends_with("000001"), "{unresolved}");
        assert!(first.contains("recorded") && first.contains("  00ab  ") && first.ends_with("000002"), "{first}");
        assert!(second.contains("revoked") && second.contains("  00ac  "), "{second}");
        let json = relayed(&["--state", "unresolved", "--json"]);
        let lines: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&lines[0]["request"], &lines[0]["state"], &lines[0]["upstream"]),
            (&1.into(), &"unresolved".into(), &"plant".into())
        );
        assert_eq!((lines.len(), &lines[1]["requests"]), (2, &1.into()));
        json
    };
    let beside = look();
    assert_eq!(server.terminate().0, Some(0));
    assert_eq!(look(), beside, "the answers do not depend on whether a server runs");
    marks_relayed(&pki);
    closes_relayed(&pki);
    let exported = ledger(&pki, "export", &["--relayed"]);
    expect_status(&exported, 0);
    let lines: Vec<serde_json::Value> =
        stdout(&exported).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["relay.request", "relay.request", "relay.certificate", "relay.certificate"]);
    assert_eq!(
        (&lines[0]["state"], &lines[3]["serial"], &lines[3]["actor"]),
        (&"unresolved".into(), &"00ac".into(), &"alice".into())
    );
}
