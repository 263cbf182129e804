//! E36: an operator lists, shows and revokes certificates, with a server that runs and without one.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::common::{Pki, Serving, expect_status, muster, openssl, run, stderr, stdout};

/// A verb of the operator with the configuration of this PKI.
fn operator(pki: &Pki, words: &[&str]) -> Command {
    let mut command = muster();
    command.args(words).arg("--config").arg(pki.path("muster.toml"));
    command
}

#[track_caller]
fn ask(pki: &Pki, status: i32, words: &[&str]) -> Output {
    let output = operator(pki, words).output().unwrap();
    expect_status(&output, status);
    output
}

/// The objects that a verb prints, one a line.
#[track_caller]
fn objects(output: &Output) -> Vec<serde_json::Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A server on one address, with the admin socket of the configuration.
fn serve(pki: &Pki) -> Serving {
    pki.serve_with(&["--listen", "127.0.0.1:0"], &[("MUSTER_ADMIN__SOCKET", "admin.sock")])
}

fn enroll(pki: &Pki, server: &Serving, name: &str) -> String {
    let out = pki.beside(name);
    let json = pki.device("enroll", server.uri()).arg("--json").arg("--out").arg(&out).output().unwrap();
    expect_status(&json, 0);
    objects(&json)[0]["serial"].as_str().unwrap().to_owned()
}

/// The exit status of a renewal, whose certificate is not kept, and what it says.
fn renew(pki: &Pki, server: &Serving, name: &str) -> (Option<i32>, String) {
    let out = pki.beside("renewed");
    let _none_before = std::fs::remove_dir_all(&out);
    let mut command = muster();
    command.args(["reenroll", "--server", server.uri(), "--identity"]).arg(pki.beside(name)).arg("--out").arg(out);
    let output = command.output().unwrap();
    (output.status.code(), stderr(&output))
}

#[track_caller]
fn assert_revoked((status, said): (Option<i32>, String)) {
    assert_eq!(status, Some(3), "{said}");
    assert!(said.contains("est.client.revoked"), "{said}");
}

#[test]
fn e36_an_operator_lists_shows_and_revokes_through_the_server_that_runs() {
    let pki = Pki::new();
    let server = serve(&pki);
    let serial = enroll(&pki, &server, "one");
    let other = enroll(&pki, &server, "two");
    let file = pki.beside("one").join("device.pem").display().to_string();

    let listed = stdout(&ask(&pki, 0, &["cert", "list"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("SERIAL"), "{listed}");
    assert!(lines[1].starts_with(&serial) && lines[1].contains("good") && lines[2].starts_with(&other), "{listed}");

    let shown = stdout(&ask(&pki, 0, &["cert", "show", &file]));
    for field in [
        format!("serial               {serial}"),
        "state                good".into(),
        "function             sen".into(),
    ] {
        assert!(shown.contains(&field), "{field} is not in\n{shown}");
    }
    let pem = ask(&pki, 0, &["cert", "show", &serial.to_uppercase(), "--pem"]);
    let device = std::fs::read_to_string(&file).unwrap();
    assert!(device.starts_with(&*stdout(&pem)), "the certificate that the device received");
    let read = openssl(["x509", "-in", &file, "-noout", "-serial"]);
    let of_openssl = stdout(&read);
    let json = &objects(&ask(&pki, 0, &["cert", "show", of_openssl.trim(), "--json"]))[0];
    assert_eq!((&json["serial"], &json["outcome"]), (&serial.as_str().into(), &"done".into()));
    assert!(stdout(&pem).starts_with(json["certificate"].as_str().unwrap().trim_end()));

    let planned = ask(&pki, 0, &["cert", "revoke", &file, "--reason", "keyCompromise", "--dry-run"]);
    assert!(stdout(&planned).contains("would be revoked"), "{}", stdout(&planned));
    assert!(stdout(&planned).contains("no key of these certificates would be certified again"), "{}", stdout(&planned));
    let unasked = ask(&pki, 2, &["cert", "revoke", &file, "--reason", "keyCompromise"]);
    assert!(stderr(&unasked).contains("--yes"), "{}", stderr(&unasked));
    assert_eq!(renew(&pki, &server, "one").0, Some(0), "nothing was revoked yet");

    let revoked = ask(&pki, 0, &["cert", "revoke", &file, "--reason", "keyCompromise", "--yes", "--json"]);
    let json = &objects(&revoked)[0];
    let user = stdout(&Command::new("id").arg("-un").output().unwrap()).trim().to_owned();
    assert_eq!((&json["revocations"][0]["outcome"], &json["keys_refused"]), (&"revoked".into(), &true.into()));
    assert_eq!(json["revocations"][0]["row"]["revocation"]["actor"], user.as_str());
    assert_revoked(renew(&pki, &server, "one"));
    assert_eq!(renew(&pki, &server, "two").0, Some(0));

    let again = ask(&pki, 0, &["cert", "revoke", &serial, "--reason", "superseded", "--yes"]);
    assert!(stdout(&again).contains("revoked before: keyCompromise at "), "{}", stdout(&again));
    assert!(!stdout(&again).contains("certified again"), "this reason says nothing of the key: {}", stdout(&again));
    let list = objects(&ask(&pki, 0, &["cert", "list", "--state", "revoked", "--json"]));
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!((&list[0]["serial"], &list[1]["rows"]), (&serial.as_str().into(), &1.into()));
    assert_eq!((&list[1]["outcome"], &list[1]["exit"]), (&"done".into(), &0.into()));

    let status = &objects(&ask(&pki, 0, &["ledger", "status", "--json"]))[0];
    assert_eq!((&status["healthy"], &status["issued"]), (&true.into(), &4.into()), "{status}");
    assert!(status["server"].as_str().unwrap().ends_with("admin.sock"), "{status}");
    assert_eq!(server.terminate().0, Some(0));
}

#[test]
fn e36_a_revocation_survives_a_kill_and_one_without_a_server_is_seen_by_the_next() {
    let pki = Pki::new();
    let server = serve(&pki);
    let names = ["by-server", "without-server", "good"];
    let serials = names.map(|name| enroll(&pki, &server, name));
    ask(&pki, 0, &["cert", "revoke", &serials[0], "--reason", "keyCompromise", "--yes"]);
    server.running.signal("KILL");
    server.running.rest();
    assert!(pki.path("admin.sock").exists(), "what a killed server leaves");

    let status = stdout(&ask(&pki, 0, &["ledger", "status"]));
    assert!(status.contains("does not run") && status.contains("certificates    3"), "{status}");
    let revoked = ask(&pki, 0, &["cert", "revoke", &serials[1], "--reason", "cessationOfOperation", "--yes"]);
    assert!(stdout(&revoked).contains("is revoked"), "{}", stdout(&revoked));
    // The factory's device has one identity, found by its id among the manufacturers of the configuration.
    let device = objects(&ask(&pki, 0, &["cert", "list", "--json"]))[0]["device"].as_str().unwrap().to_owned();
    let of_device = objects(&ask(&pki, 0, &["cert", "list", "--device", &device, "--json"]));
    assert_eq!(of_device.len(), 4, "{of_device:?}");
    let nobody = objects(&ask(&pki, 0, &["cert", "list", "--device", "nobody", "--json"]));
    assert_eq!(nobody[0]["rows"], 0);

    let server = serve(&pki);
    for name in &names[..2] {
        assert_revoked(renew(&pki, &server, name));
    }
    assert_eq!(renew(&pki, &server, "good").0, Some(0));
    let list = objects(&ask(&pki, 0, &["cert", "list", "--state", "revoked", "--json"]));
    let reasons: Vec<_> = list[..2].iter().map(|row| row["revocation"]["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["keyCompromise", "cessationOfOperation"]);
    assert_eq!(server.terminate().0, Some(0));
    assert!(!pki.path("admin.sock").exists());
}

#[test]
fn e36_what_is_not_in_the_ledger_is_refused_and_nothing_is_revoked() {
    let pki = Pki::new();
    let server = serve(&pki);
    let serial = enroll(&pki, &server, "one");
    let unknown = "010000ffffffffffffffffffffffffffffffff";
    let factory = pki.path("device/idevid.pem").display().to_string();
    let missing = pki.beside("missing.pem").display().to_string();
    for (status, row, says) in [
        (1, unknown, "the ledger has no row of 010000ffff"),
        (1, &*factory, "the ledger has no row of 01"),
        (1, &*missing, "missing.pem"),
        (2, "0100ffee", "not a serial number of this server"),
    ] {
        let refused = ask(&pki, status, &["cert", "revoke", &serial, row, "--reason", "keyCompromise", "--yes"]);
        assert!(stderr(&refused).contains(says), "{row}: {}", stderr(&refused));
        let refused = ask(&pki, status, &["cert", "show", row, "--json"]);
        assert!(objects(&refused)[0]["message"].as_str().unwrap().contains(says), "{}", stdout(&refused));
    }
    for reason in ["certificateHold", "removeFromCRL", "stolen"] {
        let refused = ask(&pki, 2, &["cert", "revoke", &serial, "--reason", reason, "--yes"]);
        assert!(
            stderr(&refused).contains("keyCompromise") && stderr(&refused).contains(reason),
            "{}",
            stderr(&refused)
        );
    }
    assert_eq!(objects(&ask(&pki, 0, &["cert", "list", "--state", "revoked", "--json"]))[0]["rows"], 0);
    drop(server);
}

#[test]
fn a_way_to_the_ledger_that_is_closed_is_explained() {
    let pki = Pki::new();
    let unserved = ask(&pki, 1, &["cert", "list"]);
    assert!(
        stderr(&unserved).contains("there is no ledger") && !pki.path("ledger.db").exists(),
        "{}",
        stderr(&unserved)
    );

    // A server whose admin socket this configuration does not name.
    let server = pki.serve_with(&["--listen", "127.0.0.1:0"], &[("MUSTER_ADMIN__SOCKET", "other.sock")]);
    let text = std::fs::read_to_string(pki.path("muster.toml")).unwrap();
    let busy = ask(&pki, 1, &["ledger", "status"]);
    let said = stderr(&busy);
    assert!(
        said.contains("no server answers at") && said.contains("another process has") && said.contains("restart"),
        "{said}"
    );
    std::fs::write(pki.path("muster.toml"), &text[..text.find("[admin]").unwrap()]).unwrap();
    let said = stderr(&ask(&pki, 1, &["cert", "list"]));
    assert!(said.contains("names no admin socket") && said.contains("socket = \"admin.sock\""), "{said}");
    drop(server);

    std::fs::write(pki.path("muster.toml"), text.replace("sqlite:ledger.db", "memory:")).unwrap();
    let said = stderr(&ask(&pki, 1, &["cert", "list"]));
    assert!(said.contains("a ledger in memory is only in its server"), "{said}");
    let none = run([Path::new("cert"), Path::new("list"), Path::new("--config"), &pki.beside("none.toml")]);
    expect_status(&none, 1);
    assert!(stderr(&none).contains("none.toml") && stderr(&none).contains("muster init"), "{}", stderr(&none));
    let said = stderr(&ask(&pki, 2, &["cert", "list", "--expires-before", "soon"]));
    assert!(said.contains("2026-07-01"), "{said}");
}

#[test]
fn a_reader_that_closes_the_pipe_ends_a_list_quietly() {
    let pki = Pki::new();
    let server = serve(&pki);
    enroll(&pki, &server, "one");
    let mut child = operator(&pki, &["cert", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!stderr(&output).contains("panicked") && !stderr(&output).contains("cannot write"), "{}", stderr(&output));
    drop(server);
}

/// The question on a terminal: `script` gives the command one.
#[test]
fn a_revocation_asks_on_a_terminal_and_keeps_no_ledger_open_meanwhile() {
    let pki = Pki::new();
    let server = serve(&pki);
    let serial = enroll(&pki, &server, "one");
    drop(server);
    let command = operator(&pki, &["cert", "revoke", &serial, "--reason", "superseded"]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let on_a_terminal = |answer: &str, before: &dyn Fn()| {
        let mut script = Command::new("script");
        script.args(["-qec", &words.join(" "), "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut asking = script.spawn().unwrap();
        let mut said = Vec::new();
        let mut shown = asking.stdout.take().unwrap();
        while !String::from_utf8_lossy(&said).contains("[y/N] ") {
            let mut byte = [0];
            assert_eq!(shown.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&said));
            said.push(byte[0]);
        }
        before();
        asking.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        shown.read_to_end(&mut said).unwrap();
        asking.wait().unwrap();
        String::from_utf8_lossy(&said).into_owned()
    };
    let said = on_a_terminal("n\n", &|| ());
    assert!(said.contains(&serial) && said.contains("nothing was revoked"), "{said}");
    // A server starts while the person thinks, and the revocation goes through it.
    let server = std::cell::RefCell::new(None);
    let said = on_a_terminal("y\n", &|| *server.borrow_mut() = Some(serve(&pki)));
    assert!(said.contains("is revoked"), "{said}");
    assert_revoked(renew(&pki, server.borrow().as_ref().unwrap(), "one"));
}
