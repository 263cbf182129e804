//! The command line without a server: help, wrong arguments, `init`, `check`, `explain`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::common::{Pki, expect_status, openssl, run, stderr, stdout};

const VERBS: [&str; 12] =
    ["demo", "init", "serve", "check", "crts", "enroll", "reenroll", "discover", "explain", "inspect", "load", "link"];

#[test]
fn every_verb_teaches() {
    let help = run(["--help"]);
    expect_status(&help, 0);
    for verb in VERBS {
        assert!(stdout(&help).contains(verb), "{verb} is not in the help");
        let help = run([verb, "--help"]);
        expect_status(&help, 0);
        assert!(stdout(&help).contains("Examples:\n  "), "{verb} shows no example");
    }
}

/// A device finds its server by multicast or a directory, and enrols at what was found: the help of each verb says how the two go together.
#[test]
fn the_help_of_a_device_says_how_its_server_is_found() {
    for verb in ["enroll", "reenroll", "skg", "renew", "crts", "att"] {
        let help = run([verb, "--help"]);
        expect_status(&help, 0);
        let words: Vec<_> = stdout(&help).split_whitespace().map(str::to_owned).collect();
        let text = words.join(" ");
        assert!(text.contains("`muster discover` finds servers (--multicast, --resource-directory)"), "{verb}: {text}");
        let whole = "prints its URI, and --server takes that URI here, with --expect-name";
        assert_eq!(text.contains(whole), ["enroll", "renew"].contains(&verb), "{verb}: {text}");
    }
}

#[test]
fn wrong_arguments_exit_2() {
    let server = "coaps://127.0.0.1:5684";
    let wrong: [&[&str]; 36] = [
        &[],
        &["enrol"],
        &["serve", "--no-such-flag"],
        &["serve", "--keylog", "keys.log"],
        &["serve", "--pcap", "all.pcapng"],
        &["serve", "--trace", "192.0.2.7"],
        &["init"],
        &["init", "x", "--name", "host:5684"],
        &["crts", "--server", "coap://127.0.0.1:5683"],
        &["crts", "--server", server, "--block", "100"],
        &["crts", "--server", server, "--path", "est//sen"],
        &["crts", "--server", server, "--path", "est", "--discover"],
        &["enroll", "--server", server, "--identity", "d"],
        &["enroll", "--server", server, "--out", "o", "--accept", "60"],
        &["crts", "--server", server, "--timeout", "0s"],
        &["renew", "--server", server, "--dir", "d", "--watch", "--every", "0s"],
        &["renew", "--server", server, "--dir", "d", "--every", "1h"],
        &["renew", "--server", server, "--dir", "d", "--print-systemd", "--wait"],
        &["load", "--server", server, "--pki", "p", "--timeout", "0s"],
        &["load", "capacity", "--server", server, "--pki", "p", "--slo", "p99 < 1s", "--trial", "0s"],
        &["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--for", "0s"],
        &["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--for", "1ms", "--mtu", "63"],
        &["link", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--for", "1ms", "--delay", "1h"],
        &["load", "--server", server, "--pki", "p", "--rate", "1e-300"],
        &["load", "--server", server, "--pki", "p", "--rate", "1e7"],
        &["load", "--server", server, "--pki", "p", "--fail-if", "failed > 150%"],
        &["load", "capacity", "--server", server, "--pki", "p", "--slo", "p99 < 1s", "--from", "100", "--to", "10"],
        &["load", "--server", server, "--pki", "p", "--rate", "5", "--concurrency", "5"],
        &["load", "--server", server, "--pki", "p", "--function", "sren", "--renewals", "5%"],
        &["load", "--server", server, "--pki", "p", "--function", "crts", "--renewals", "5%"],
        &["load", "--server", server, "--pki", "p", "--function", "ren", "--renewals", "5%"],
        &["load", "--server", server, "--pki", "p", "--function", "crts", "--link"],
        &["load", "--server", server, "--pki", "p", "--function", "att", "--no-crts"],
        &["load", "--server", server, "--pki", "p", "--function", "att=50%,crts=50%", "--certificates", "kept"],
        &[
            "load",
            "capacity",
            "--server",
            server,
            "--pki",
            "p",
            "--slo",
            "p99 < 1s",
            "--function",
            "att",
            "--renewals",
            "5%",
        ],
        &["load", "capacity", "--server", server, "--pki", "p", "--slo", "p99 < 1s", "--function", "crts", "--link"],
    ];
    for arguments in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(!stderr(&output).is_empty() && stdout(&output).is_empty(), "{arguments:?}");
    }
    let said = stderr(&run(["serve", "--keylog", "keys.log"]));
    assert!(said.contains("--insecure-keylog"), "{said}");
}

#[test]
fn a_missing_identity_or_trust_is_usage() {
    let output = run(["enroll", "--server", "coaps://127.0.0.1:1", "--out", "o"]);
    expect_status(&output, 2);
    assert!(stderr(&output).contains("--identity"), "{}", stderr(&output));
    let output = run(["crts", "--server", "coaps://127.0.0.1:1"]);
    expect_status(&output, 2);
    assert!(stderr(&output).contains("--trust"), "{}", stderr(&output));
}

#[test]
fn init_writes_what_it_says_with_private_keys() {
    let pki = Pki::new();
    let files = [
        ("muster.toml", 0o644),
        ("ca/root.pem", 0o644),
        ("ca/issuing.pem", 0o644),
        ("ca/issuing.key", 0o600),
        ("offline/root.key", 0o600),
        ("server.pem", 0o644),
        ("server.key", 0o600),
        ("manufacturer/ca.pem", 0o644),
        ("manufacturer/ca.key", 0o600),
        ("device/idevid.pem", 0o644),
        ("device/idevid.key", 0o600),
    ];
    for (file, mode) in files {
        let metadata = std::fs::metadata(pki.path(file)).unwrap_or_else(|fault| panic!("{file}: {fault}"));
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{file}");
        if mode == 0o600 {
            let text = std::fs::read_to_string(pki.path(file)).unwrap();
            assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"), "{file} is PKCS#8");
        }
    }
}

#[test]
fn init_makes_what_openssl_accepts() {
    let pki = Pki::new();
    let verify = |root: &str, more: &[&str], file: &str| {
        let root = pki.path(root);
        let mut arguments: Vec<std::ffi::OsString> =
            vec!["verify".into(), "-x509_strict".into(), "-CAfile".into(), root.into()];
        arguments.extend(more.iter().map(Into::into));
        arguments.push(pki.path(file).into());
        let output = openssl(arguments);
        assert!(output.status.success(), "{file}: {}", stderr(&output));
    };
    verify("ca/root.pem", &[], "ca/issuing.pem");
    verify("ca/root.pem", &["-purpose", "sslserver", "-verify_hostname", "localhost"], "server.pem");
    verify("ca/root.pem", &["-purpose", "sslserver", "-verify_ip", "127.0.0.1"], "server.pem");
    verify("ca/root.pem", &["-purpose", "sslserver", "-verify_ip", "::1"], "server.pem");
    verify("manufacturer/ca.pem", &["-purpose", "sslclient"], "device/idevid.pem");
}

#[test]
fn init_refuses_to_overwrite_and_changes_nothing() {
    let pki = Pki::new();
    let before = std::fs::read(pki.path("ca/issuing.key")).unwrap();
    let again = run([Path::new("init"), &pki.dir()]);
    expect_status(&again, 1);
    assert!(stderr(&again).contains("ca/issuing.key"), "{}", stderr(&again));
    assert_eq!(std::fs::read(pki.path("ca/issuing.key")).unwrap(), before);
    assert!(stdout(&again).is_empty());
}

#[test]
fn init_names_are_the_servers_and_local_ones_stay() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("pki");
    let output = crate::common::muster()
        .arg("init")
        .arg(&dir)
        .args(["--name", "est.example.net", "--name", "192.0.2.7", "--json"])
        .output()
        .unwrap();
    expect_status(&output, 0);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 11);
    let server = dir.join("server.pem");
    let text = stdout(&openssl(["x509", "-noout", "-ext", "subjectAltName", "-in", server.to_str().unwrap()]));
    for name in ["DNS:localhost", "DNS:est.example.net", "IP Address:127.0.0.1", "IP Address:192.0.2.7"] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
    let configuration = std::fs::read_to_string(dir.join("muster.toml")).unwrap();
    assert!(configuration.contains(r#"listen = ["[::]:5684", "0.0.0.0:5684"]"#), "{configuration}");
}

#[test]
fn check_accepts_what_init_writes() {
    let pki = Pki::new();
    let output = run([Path::new("check"), &pki.path("muster.toml"), Path::new("--print")]);
    expect_status(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("server.listen") && text.contains("idle_timeout"), "{text}");
    assert!(text.to_lowercase().contains("certificate:"), "handshake messages and their sizes are listed: {text}");
    assert!(!text.contains("does not fit"), "the messages of init's certificates fit every buffer: {text}");
}

#[test]
fn check_explains_every_fault_at_once() {
    let pki = Pki::new();
    let file = pki.path("muster.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let faulty = text.replace("drain_timeout =", "drain_timout =").replace("ca/issuing.key", "ca/missing.key");
    std::fs::write(&file, faulty).unwrap();
    let output = run([Path::new("check"), &file]);
    expect_status(&output, 1);
    let said = stderr(&output);
    assert!(said.contains("drain_timout") && said.contains("drain_timeout"), "the nearest key is named: {said}");
    assert!(said.contains("muster.toml"), "the file is named: {said}");

    std::fs::write(&file, text.replace("ca/issuing.key", "ca/missing.key")).unwrap();
    let output = run([Path::new("check"), &file]);
    expect_status(&output, 1);
    assert!(stderr(&output).contains("ca/missing.key"), "{}", stderr(&output));

    let output = run(["check", "/nowhere/muster.toml"]);
    expect_status(&output, 1);
    assert!(stderr(&output).contains("/nowhere/muster.toml"), "{}", stderr(&output));
}

#[test]
fn serve_with_a_faulty_file_exits_1_and_listens_nowhere() {
    let pki = Pki::new();
    std::fs::write(pki.path("muster.toml"), "[server]\nlisten = 5\n").unwrap();
    let output = run([Path::new("serve"), Path::new("--config"), &pki.path("muster.toml")]);
    expect_status(&output, 1);
    assert!(stdout(&output).is_empty() && stderr(&output).contains("listen"), "{}", stderr(&output));
}

#[test]
fn explain_knows_every_code_and_names_the_nearest() {
    let list = run(["explain"]);
    expect_status(&list, 0);
    let codes: Vec<_> =
        stdout(&list).lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    assert!(codes.len() >= 40, "{} codes", codes.len());
    let json = run(["explain", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(json["reasons"].as_array().unwrap().len(), codes.len());
    for entry in json["reasons"].as_array().unwrap() {
        for field in ["code", "stage", "on_the_wire", "meaning", "device", "server"] {
            assert!(!entry[field].as_str().unwrap().is_empty(), "{entry}: {field}");
        }
    }
    let one = run(["explain", &codes[0]]);
    expect_status(&one, 0);
    assert!(stdout(&one).contains(&codes[0]) && stdout(&one).contains("On the device:"), "{}", stdout(&one));
    let unknown = run(["explain", "est.sen.subject_mismach"]);
    expect_status(&unknown, 2);
    assert!(stderr(&unknown).contains("est.sen.subject_mismatch"), "{}", stderr(&unknown));
}

#[test]
fn a_key_that_is_not_the_certificates_is_named() {
    let pki = Pki::new();
    let output = crate::common::muster()
        .args(["crts", "--server", "coaps://127.0.0.1:1", "--cert"])
        .arg(pki.path("device/idevid.pem"))
        .arg("--key")
        .arg(pki.path("server.key"))
        .arg("--trust")
        .arg(pki.path("ca/root.pem"))
        .output()
        .unwrap();
    expect_status(&output, 1);
    assert!(stderr(&output).contains("server.key is not the key of"), "{}", stderr(&output));
}

#[test]
fn e76_a_variable_that_names_no_key_stops_check_and_serve() {
    let pki = Pki::new();
    for verb in [&["check"][..], &["serve", "--config"]] {
        let mut command = crate::common::muster();
        command.args(verb).arg(pki.path("muster.toml")).env("MUSTER_SERVER_LISTEN", "127.0.0.1:0");
        let output = command.output().unwrap();
        expect_status(&output, 1);
        let said = stderr(&output);
        assert!(
            said.contains("MUSTER_SERVER_LISTEN") && said.contains("did you mean MUSTER_SERVER__LISTEN?"),
            "{said}"
        );
    }
}

#[test]
fn e77_json_is_one_object_on_stdout_for_success_and_for_failure() {
    let pki = Pki::new();
    let object = |arguments: &[&str], status: i32| {
        let output = run(arguments);
        expect_status(&output, status);
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert!(json.is_object(), "{json}");
        assert_eq!(json["exit"], status, "{json}");
        json
    };
    let file = pki.path("muster.toml").display().to_string();
    let good = object(&["check", &file, "--json"], 0);
    assert_eq!(good["outcome"], "done", "{good}");
    let keys: Vec<_> = good["values"].as_array().unwrap().iter().filter_map(|value| value["key"].as_str()).collect();
    assert!(keys.contains(&"server.listen"), "{keys:?}");
    assert!(good["handshake"].as_array().unwrap().iter().all(|size| size["bytes"].as_u64().unwrap() > 0), "{good}");

    let text = std::fs::read_to_string(pki.path("muster.toml")).unwrap();
    std::fs::write(&file, text.replace("drain_timeout =", "drain_timout =").replace("ca/issuing.key", "ca/no.key"))
        .unwrap();
    let bad = object(&["check", &file, "--json"], 1);
    assert_eq!(bad["outcome"], "failed", "{bad}");
    let fault = &bad["faults"][0];
    assert_eq!((&fault["key"], &fault["problem"]), (&"server.drain_timout".into(), &"unknown key".into()), "{bad}");
    assert!(fault["remedy"].as_str().unwrap().contains("drain_timeout"), "{bad}");

    let known = object(&["explain", "est.sen.subject_mismatch", "--json"], 0);
    assert_eq!(known["code"], "est.sen.subject_mismatch", "{known}");
    let unknown = object(&["explain", "est.sen.subject_mismach", "--json"], 2);
    assert!(unknown["message"].as_str().unwrap().contains("est.sen.subject_mismatch"), "{unknown}");
    let again = object(&["init", &pki.dir().display().to_string(), "--json"], 1);
    assert!(again["remedy"].as_str().unwrap().contains("nothing is ever overwritten"), "{again}");
}

/// On a terminal the log has colours, unless a variable turns them off.
#[test]
fn e78_the_log_of_serve_obeys_no_color_and_dumb_terminals() {
    let pki = Pki::new();
    let log_on_a_terminal = |name: &str, value: &str| {
        // `script` runs a command on a new terminal; `timeout` ends the server as its operator would.
        let serve = format!(
            "timeout -s TERM 2 {} serve --config {} --listen 127.0.0.1:0",
            env!("CARGO_BIN_EXE_muster"),
            pki.path("muster.toml").display()
        );
        let mut script = std::process::Command::new("script");
        script.args(["-q", "-c", &serve, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm").env(name, value);
        script.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").stdin(std::process::Stdio::null());
        let output = script.output().unwrap_or_else(|error| panic!("script (Debian: bsdutils): {error}"));
        let said = stdout(&output);
        assert!(said.contains("sessions_max"), "the log: {said}");
        said
    };
    assert!(log_on_a_terminal("LANG", "C").contains('\u{1b}'), "a terminal shows colours");
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let said = log_on_a_terminal(name, value);
        assert!(!said.contains('\u{1b}'), "{name}={value}: {said:?}");
    }
}
