//! `[audit]`: a server and every verb use the files that the configuration names.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::common::{Pki, Serving, expect_status, muster, stderr, stdout};

/// `muster ledger VERB` of this PKI.
fn ledger(pki: &Pki, verb: &str, more: &[&str]) -> Output {
    let mut command = muster();
    command.args(["ledger", verb, "--config"]).arg(pki.path("muster.toml")).args(more).output().unwrap()
}

fn configure(pki: &Pki, section: &str) {
    let file = pki.path("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, format!("{text}\n[audit]\n{section}")).unwrap();
}

#[track_caller]
fn enroll(pki: &Pki, server: &Serving, name: &str) {
    let enrolled = pki.device("enroll", server.uri()).arg("--out").arg(pki.beside(name)).output().unwrap();
    expect_status(&enrolled, 0);
}

/// Runs `act` while the file has another name.
fn without(file: &Path, act: impl FnOnce() -> Output) -> Output {
    let aside = file.with_extension("aside");
    std::fs::rename(file, &aside).unwrap();
    let output = act();
    std::fs::rename(&aside, file).unwrap();
    output
}

#[test]
fn a_server_and_every_verb_use_the_key_and_the_checkpoints_that_the_configuration_names() {
    let pki = Pki::new();
    for folder in ["secret", "other"] {
        std::fs::create_dir(pki.beside(folder)).unwrap();
    }
    configure(&pki, "key = \"../secret/audit.key\"\ncheckpoints = \"../other/checkpoints.jsonl\"\n");
    let (key, checkpoints) = (pki.beside("secret/audit.key"), pki.beside("other/checkpoints.jsonl"));
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    expect_status(&ledger(&pki, "verify", &[]), 0);
    assert_eq!(server.terminate().0, Some(0));
    assert!(key.exists() && pki.beside("secret/audit.key.pub").exists());
    assert!(std::fs::read_to_string(&checkpoints).unwrap().lines().count() >= 1);
    for absent in ["ledger.db.audit.key", "ledger.db.audit.key.pub", "ledger.db.checkpoints.jsonl"] {
        assert!(!pki.path(absent).exists(), "{absent} is beside the ledger");
    }

    let verified = ledger(&pki, "verify", &[]);
    expect_status(&verified, 0);
    assert!(stdout(&verified).contains("checkpoints: all good"), "{}", stdout(&verified));
    let prune = ["--before", "2026-01-01", "--yes", "--json"];
    expect_status(&ledger(&pki, "prune", &prune), 0);
    for (verb, more, file) in [
        ("verify", &[][..], &checkpoints),
        ("verify", &[], &pki.beside("secret/audit.key.pub")),
        ("prune", &prune, &checkpoints),
        ("prune", &prune, &key),
    ] {
        let failed = without(file, || ledger(&pki, verb, more));
        expect_status(&failed, 1);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(stderr(&failed).contains(name), "{verb} does not use {name}: {}", stderr(&failed));
    }

    let mut check = muster();
    let shown = stdout(&check.args(["check", "--print"]).arg(pki.path("muster.toml")).output().unwrap());
    assert!(shown.contains("audit.key = \"../secret/audit.key\"  # "), "{shown}");
    assert!(shown.contains("audit.syslog = false  # default"), "{shown}");
    // The default is what the ledger would take without a configuration.
    let mut check = muster();
    check.args(["check", "--print"]).arg(pki.path("muster.toml"));
    let shown = stdout(&check.env("MUSTER_LEDGER__URL", "sqlite:x.db").output().unwrap());
    assert!(shown.contains("ledger.url = \"sqlite:x.db\""), "{shown}");
}

#[test]
fn a_syslog_receives_the_checkpoints_of_a_server() {
    let pki = Pki::new();
    let socket = UnixDatagram::bind(pki.beside("log")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    configure(&pki, "syslog = \"../log\"\n");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    assert_eq!(server.terminate().0, Some(0));
    let lines = std::fs::read_to_string(pki.path("ledger.db.checkpoints.jsonl")).unwrap();
    assert!(lines.lines().count() >= 1);
    for line in lines.lines() {
        let mut octets = [0; 2_048];
        let length = socket.recv(&mut octets).unwrap();
        let message = std::str::from_utf8(&octets[..length]).unwrap();
        assert!(message.starts_with("<110>1 ") && message.contains("audit.checkpoint"), "{message}");
        assert!(message.ends_with(line), "{message}");
    }
}

#[test]
fn a_syslog_that_takes_nothing_is_said_once_and_stops_nothing() {
    let pki = Pki::new();
    configure(&pki, "syslog = \"../nobody\"\n");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    enroll(&pki, &server, "one");
    let (status, said) = server.terminate();
    assert_eq!(status, Some(0));
    assert_eq!(said.matches("the syslog does not take checkpoints").count(), 1, "{said}");
    assert!(said.contains("nobody") && said.contains("[audit] syslog"), "{said}");
}

#[test]
fn a_verb_on_a_ledger_that_is_not_there_says_so_and_makes_none() {
    let pki = Pki::new();
    let copy = pki.beside("copy.db");
    let copy = copy.to_str().unwrap();
    let serial = format!("01{}", "23".repeat(18));
    let config = pki.path("muster.toml");
    let verbs: &[&[&str]] = &[
        &["ledger", "status"],
        &["ledger", "verify"],
        &["ledger", "export"],
        &["ledger", "backup", copy],
        &["ledger", "prune", "--before", "2026-01-01", "--yes"],
        &["ledger", "prune", "--before", "2026-01-01", "--dry-run"],
        &["ledger", "migrate"],
        &["ledger", "migrate", "--dry-run"],
        &["ledger", "resume", "--after-restore", "--yes"],
        &["cert", "list"],
        &["cert", "show", &serial],
        &["cert", "revoke", &serial, "--reason", "superseded", "--yes"],
    ];
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(pki.dir()).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = files();
    for verb in verbs {
        let output = muster().args(*verb).arg("--config").arg(&config).output().unwrap();
        expect_status(&output, 1);
        let said = stderr(&output);
        assert!(said.contains("there is no ledger ") && said.contains("ledger.db"), "{verb:?}: {said}");
        assert!(said.contains("the first start of the server creates"), "{verb:?}: {said}");
        assert_eq!(files(), before, "{verb:?} leaves no file");
    }
    assert!(!pki.beside("copy.db").exists());
    // An import begins a ledger; one that only looks does not.
    let lines = pki.beside("none.jsonl");
    std::fs::write(&lines, "").unwrap();
    let lines = lines.to_str().unwrap();
    expect_status(&ledger(&pki, "import", &[lines, "--dry-run"]), 0);
    assert_eq!(files(), before, "a dry run leaves no file");
    // What a former ledger left: the import is refused.
    let key = pki.path("ledger.db.audit.key");
    let public = pki.path("ledger.db.audit.key.pub");
    [&key, &public].iter().for_each(|path| std::fs::write(path, "a key").unwrap());
    let with_key = files();
    for verb in [&["ledger", "import", lines, "--dry-run"][..], &["ledger", "resume", "--after-restore", "--dry-run"]] {
        let output = muster().args(verb).arg("--config").arg(&config).output().unwrap();
        expect_status(&output, 1);
        assert_eq!(files(), with_key, "{verb:?} leaves no file");
    }
    [&key, &public].iter().for_each(|path| std::fs::remove_file(path).unwrap());
    expect_status(&ledger(&pki, "import", &[lines]), 0);
    assert!(pki.path("ledger.db").exists());
}
