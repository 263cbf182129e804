//! The output of `--json`, however a command ends: one object on stdout, with the exit status of the process.

use std::process::Output;

use crate::common::{Pki, expect_status, muster, run, stderr, stdout};

/// The only object on stdout.
#[track_caller]
fn object(output: &Output, status: i32, word: &str) -> serde_json::Value {
    expect_status(output, status);
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|fault| panic!("{fault}: {:?}", stdout(output)));
    assert_eq!((&json["exit"], &json["outcome"]), (&status.into(), &word.into()), "{json}");
    json
}

#[test]
fn e77_a_command_line_that_is_none_is_refused_by_one_object() {
    for (words, names) in [
        (&["check", "--json"][..], "<FILE>"),
        (&["check", "muster.toml", "--json", "--strickt"], "--strickt"),
        (&["init", "pki", "--json", "--profile"], "--profile"),
        (&["crts", "--json"], "--server"),
        (&["discover", "--json", "--server", "http://127.0.0.1"], "http://127.0.0.1"),
        (&["enroll", "--json", "--server", "coaps://127.0.0.1", "--block", "65"], "65"),
        (&["reenroll", "--json", "--wait=perhaps"], "--wait"),
        (&["explain", "--json", "one", "two"], "two"),
        (&["link", "--json", "--loss", "110%"], "110%"),
        (&["cert", "list", "--json", "--state", "lost"], "lost"),
        (&["cert", "revoke", "--json", "01", "--reason", "certificateHold"], "certificateHold"),
        (&["ledger", "status", "--json", "all"], "all"),
        (&["load", "--json", "-", "--devices", "many"], "many"),
        (&["load", "--json=-", "--devices", "many"], "many"),
        (&["enrol", "--json"], "enrol"),
    ] {
        let output = run(words);
        let json = object(&output, 2, "usage");
        let message = json["message"].as_str().unwrap();
        assert!(message.contains(names) && !message.starts_with("error"), "{words:?}: {json}");
        assert!(json["remedy"].is_string(), "{words:?}: {json}");
        assert!(stderr(&output).contains(names), "stderr has it too: {}", stderr(&output));
    }
    let json = object(&run(["check", "muster.toml", "--json", "--strickt"]), 2, "usage");
    assert!(json["remedy"].as_str().unwrap().contains("--strict"), "clap's tip is the remedy: {json}");
}

#[test]
fn e77_who_did_not_ask_for_json_on_stdout_gets_none() {
    for words in [
        &["check"][..],
        &["load", "--json", "run.json", "--devices", "many"],
        &["load", "--json"],
        &["check", "--", "--json", "more"],
    ] {
        let output = run(words);
        expect_status(&output, 2);
        assert_eq!(stdout(&output), "", "{words:?}");
    }
    let help = run(["check", "--json", "--help"]);
    expect_status(&help, 0);
    assert!(stdout(&help).starts_with("Read a configuration") || stdout(&help).contains("Usage:"), "{}", stdout(&help));
}

#[test]
fn e77_each_status_of_a_refusal_is_in_its_object() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = pki.serve_with(
        &["--listen", "127.0.0.1:0"],
        &[("MUSTER_LEDGER__URL", "memory:"), ("MUSTER_LEDGER__ROWS_MAX", "1")],
    );
    let uri = server.uri();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let nobody = format!("coaps://{}", silent.local_addr().unwrap());
    let first = pki.device("enroll", uri).arg("--json").arg("--out").arg(pki.beside("first")).output().unwrap();
    object(&first, 0, "done");

    for (verb, at, status, word, names) in [
        ("crts", format!("{uri}/nosuch"), 3, "refused", "est.path.unknown_label"),
        ("enroll", format!("{uri}/nosuch"), 3, "refused", "est.path.unknown_label"),
        ("reenroll", uri.to_owned(), 3, "refused", "est.sren"),
        ("enroll", uri.to_owned(), 4, "later", "5.03"),
        ("crts", nobody.clone(), 5, "no answer", &nobody),
        ("enroll", nobody.clone(), 5, "no answer", &nobody),
        ("discover", nobody.clone(), 5, "no answer", &nobody),
    ] {
        let mut command = pki.device(verb, &at);
        command.args(["--json", "--timeout", if at == nobody { "300ms" } else { "60s" }]);
        if verb.ends_with("enroll") {
            command.arg("--out").arg(pki.beside("none"));
        }
        let json = object(&command.output().unwrap(), status, word);
        assert!(json.to_string().contains(names), "{verb} {at}: {json}");
        assert!(!pki.beside("none").exists(), "{verb}: no partial output remains");
    }
    for verb in ["crts", "enroll", "discover"] {
        let mut command = muster();
        command.args([verb, "--server", uri, "--json", "--identity"]).arg(pki.path("device"));
        command.arg("--trust").arg(other.path("ca/root.pem"));
        if verb == "enroll" {
            command.arg("--out").arg(pki.beside("none"));
        }
        let json = object(&command.output().unwrap(), 6, "not trusted");
        assert!(json["message"].as_str().unwrap().contains(uri), "{json}");
    }
}
