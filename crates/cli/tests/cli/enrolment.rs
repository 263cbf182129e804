//! The device's commands with a running server, as an operator types them: certificates, files, exit
//! statuses.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::ToSocketAddrs as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::common::{Pki, VOID, expect_done, expect_one_of, expect_status, loopbacks, openssl, stderr, stdout};

pub(crate) fn device_of(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// RFC 7252 §6.4: Uri-Host is "converted to all lowercase", and escapes of a path are decoded; whoever typed it.
#[test]
fn host_and_path_are_sent_as_the_uri_means_them() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let typed = server.uri().replace("127.0.0.1", "LocalHost");
    for arguments in [&["--server", &*typed][..], &["--server", server.uri(), "--expect-name", "LOCALHOST"]] {
        let mut command = crate::common::muster();
        command.args(["crts", "--trace", "--path", "/%65st/"]).args(arguments);
        command.arg("--identity").arg(pki.path("device")).arg("--trust").arg(pki.path("ca/root.pem"));
        let crts = device_of(&mut command);
        expect_status(&crts, 0);
        assert!(stderr(&crts).contains(" Uri-Host=localhost Uri-Path=est Uri-Path=crts"), "{}", stderr(&crts));
    }
}

#[test]
fn a_device_enrols_renews_and_looks_around() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        let crts = device_of(&mut pki.device("crts", uri));
        expect_status(&crts, 0);
        assert_eq!(stdout(&crts).matches("BEGIN CERTIFICATE").count(), 2, "root and issuing CA");

        let discover = device_of(&mut pki.device("discover", uri));
        expect_status(&discover, 0);
        for function in ["ace.est.crts", "ace.est.sen", "ace.est.sren"] {
            assert!(stdout(&discover).contains(function), "{}", stdout(&discover));
        }

        let out = pki.beside(&format!("device-{family}"));
        let enroll =
            device_of(pki.device("enroll", uri).args(["--block", "64", "--suite", "ccm8"]).arg("--out").arg(&out));
        expect_status(&enroll, 0);
        assert!(stdout(&enroll).contains("device-000001"), "{}", stdout(&enroll));
        verify_with_openssl(&pki, &out.join("device.pem"));
        same_key(&out.join("device.pem"), &out.join("device.key"));

        let renewed = pki.beside(&format!("renewed-{family}"));
        let mut command = crate::common::muster();
        command.args(["reenroll", "--server", uri, "--json", "--identity"]).arg(&out).arg("--out").arg(&renewed);
        let reenroll = device_of(&mut command);
        expect_status(&reenroll, 0);
        let json: serde_json::Value = serde_json::from_str(&stdout(&reenroll)).unwrap();
        assert!(json["subject"].as_str().unwrap().contains("device-000001"), "{json}");
        verify_with_openssl(&pki, &renewed.join("device.pem"));
    }

    let (status, said) = server.terminate();
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn a_path_leads_to_the_functions_of_a_server_with_another_root() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    let (uri, _) = server.families()[0];
    // Our server has its functions below /est too.
    let found = device_of(pki.device("crts", uri).args(["--path", "/est/"]));
    expect_status(&found, 0);
    let refused = device_of(pki.device("crts", uri).args(["--path", "pki"]));
    expect_status(&refused, 3);
    assert!(stderr(&refused).contains("4.04"), "{}", stderr(&refused));
}

#[test]
fn what_is_written_is_never_overwritten() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        let out = pki.beside(&format!("device-{family}"));
        expect_status(&device_of(pki.device("enroll", uri).arg("--out").arg(&out)), 0);
        let before = std::fs::read(out.join("device.key")).unwrap();
        let again = device_of(pki.device("enroll", uri).arg("--out").arg(&out));
        expect_status(&again, 1);
        assert_eq!(std::fs::read(out.join("device.key")).unwrap(), before);
        assert!(stderr(&again).contains("not empty"), "{}", stderr(&again));
    }
}

#[test]
fn a_request_of_openssls_is_signed_in_both_formats() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        for (format, name) in [("281", "cms"), ("287", "bare")] {
            let (key, csr) = (pki.beside(&format!("{name}-{family}.key")), pki.beside(&format!("{name}-{family}.csr")));
            let subject = "/CN=device-000001/serialNumber=000001";
            let arguments =
                ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject];
            let made = request_of_openssl(&arguments, &key, &csr);
            assert!(made.status.success(), "{}", stderr(&made));
            let enroll = device_of(pki.device("enroll", uri).args(["--accept", format]).arg("--csr").arg(&csr));
            expect_status(&enroll, 0);
            let pem = pki.beside(&format!("{name}-{family}.pem"));
            std::fs::write(&pem, stdout(&enroll)).unwrap();
            verify_with_openssl(&pki, &pem);
            same_key(&pem, &key);
        }
    }
}

#[test]
fn e77_json_holds_the_certificate_that_is_written_nowhere_else() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let (key, csr) = (pki.beside("new.key"), pki.beside("new.csr"));
    let subject = "/CN=device-000001/serialNumber=000001";
    let arguments = ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject];
    assert!(request_of_openssl(&arguments, &key, &csr).status.success());
    let enroll = device_of(pki.device("enroll", server.uri()).arg("--json").arg("--csr").arg(&csr));
    expect_status(&enroll, 0);
    let json: serde_json::Value = serde_json::from_slice(&enroll.stdout).unwrap();
    let pem = pki.beside("new.pem");
    std::fs::write(&pem, json["pem"].as_str().unwrap()).unwrap();
    verify_with_openssl(&pki, &pem);
    same_key(&pem, &key);

    let crts = device_of(pki.device("crts", server.uri()).arg("--json"));
    expect_status(&crts, 0);
    let json: serde_json::Value = serde_json::from_slice(&crts.stdout).unwrap();
    let certificates = json["certificates"].as_array().unwrap();
    let pems: Vec<_> = certificates.iter().map(|certificate| certificate["pem"].as_str().unwrap()).collect();
    let files = ["ca/root.pem", "ca/issuing.pem"].map(|file| std::fs::read_to_string(pki.path(file)).unwrap());
    assert!(pems.len() == 2 && files.iter().all(|file| pems.contains(&file.as_str())), "{json}");
}

#[test]
fn a_refusal_exits_3_and_names_the_reason() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        let csr = pki.beside(&format!("other.csr-{family}"));
        let key = pki.beside(&format!("other.key-{family}"));
        let arguments = [
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=somebody else",
        ];
        let made = request_of_openssl(&arguments, &key, &csr);
        assert!(made.status.success(), "{}", stderr(&made));
        let out = pki.beside(&format!("refused-{family}"));
        let refused = device_of(pki.device("enroll", uri).arg("--csr").arg(&csr).arg("--out").arg(&out));
        expect_status(&refused, 3);
        assert!(stderr(&refused).contains("est.sen.subject_mismatch"), "{}", stderr(&refused));
        assert!(!out.exists(), "no partial output remains");
    }
}

#[test]
fn an_idevid_cannot_renew() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        let refused = device_of(pki.device("reenroll", uri).arg("--out").arg(pki.beside(&format!("refused-{family}"))));
        expect_status(&refused, 3);
    }
}

#[test]
fn a_device_of_another_manufacturer_is_refused_with_an_alert() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = pki.serve(&[]);
    for (uri, _) in server.families() {
        let mut command = crate::common::muster();
        command.args(["crts", "--server", uri, "--trust"]).arg(pki.path("ca/root.pem"));
        command.arg("--identity").arg(other.path("device"));
        let refused = device_of(&mut command);
        expect_status(&refused, 3);
    }
}

#[test]
fn nobody_there_exits_5() {
    for listen in loopbacks() {
        let pki = Pki::new();
        // A bound socket that never answers.
        let silent = std::net::UdpSocket::bind(listen).unwrap();
        let uri = format!("coaps://{}", silent.local_addr().unwrap());
        let out = pki.beside("nothing");
        let output = device_of(pki.device("enroll", &uri).args(["--timeout", "300ms"]).arg("--out").arg(&out));
        expect_status(&output, 5);
        assert!(stderr(&output).contains(&uri), "{}", stderr(&output));
        assert!(!out.exists());
    }
}

#[test]
fn a_server_that_nobody_vouches_for_exits_6() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = other.serve(&[]);
    for (uri, family) in server.families() {
        let out = pki.beside(&format!("nothing-{family}"));
        let output = device_of(pki.device("enroll", uri).arg("--out").arg(&out));
        expect_status(&output, 6);
        assert!(!out.exists());
    }
}

#[test]
fn a_trace_shows_each_message_and_the_totals() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        let (keylog, pcap) = (pki.beside(&format!("keys.log-{family}")), pki.beside(&format!("all.pcapng-{family}")));
        let mut command = pki.device("crts", uri);
        command.args(["--trace", "--keylog"]).arg(&keylog).arg("--pcap").arg(&pcap);
        let output = device_of(&mut command);
        expect_status(&output, 0);
        let trace = stderr(&output);
        for word in ["ClientHello", "ServerHelloDone", "Finished", "GET", "2.05", "datagrams"] {
            assert!(trace.contains(word), "{word} is not in the trace:\n{trace}");
        }
        assert!(std::fs::read_to_string(&keylog).unwrap().starts_with("CLIENT_RANDOM "));
        assert_eq!(std::fs::read(&pcap).unwrap()[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a pcapng section header");
        let output = device_of(pki.device("crts", uri).arg("--trace=json"));
        expect_status(&output, 0);
        for line in stderr(&output).lines().filter(|line| line.starts_with('{')) {
            serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|fault| panic!("{fault}: {line}"));
        }
    }
}

#[test]
fn a_small_fleet_enrols_and_keeps_what_it_received() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        let (json, certificates) =
            (pki.beside(&format!("run.json-{family}")), pki.beside(&format!("received-{family}")));
        let mut command = crate::common::muster();
        command.args(["load", "--server", uri, "--devices", "20", "--concurrency", "8", "--block", "64", "--pki"]);
        command.arg(pki.dir()).arg("--json").arg(&json).arg("--certificates").arg(&certificates);
        let output = device_of(&mut command);
        expect_one_of(&output, &[0, VOID]);
        assert!(stdout(&output).contains("20 of 20 devices enrolled"), "{}", stdout(&output));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!((&report["schema"], &report["enrolled"]), (&"muster-load/1".into(), &20.into()));
        assert_eq!(std::fs::read_dir(&certificates).unwrap().count(), 40, "a certificate and a key per device");
        verify_with_openssl(&pki, &certificates.join("1-0000007.pem"));
        same_key(&certificates.join("1-0000007.pem"), &certificates.join("1-0000007.key"));
    }
}

/// Each function of a fleet, with its share of renewals: one certificate a request, and what a device keeps is the last one with its key.
#[test]
fn a_fleet_performs_every_function_and_renews() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, family) in server.families() {
        for (name, options, stage, renewed) in [
            ("sren", &["--function", "sren"][..], "enrol", 12),
            ("some", &["--renewals", "50%"], "enrol", 8),
            ("skg", &["--function", "skg"], "skg", 0),
            ("skg-renewed", &["--function", "skg", "--renewals", "100%"], "skg", 12),
        ] {
            let received = pki.beside(&format!("{name}-{family}"));
            let mut command = crate::common::muster();
            command.args(["load", "--server", uri, "--devices", "12", "--seed"]).arg(if family == "IPv4" {
                "3"
            } else {
                "4"
            });
            command.args(["--json", "-", "--pki"]).arg(pki.dir()).args(options).arg("--certificates").arg(&received);
            let output = device_of(&mut command);
            let report = expect_done(&output, 12);
            let count = |stage: &str| {
                let stages = report["stages"].as_array().unwrap();
                stages.iter().find(|row| row["stage"] == stage).unwrap()["count"].as_u64().unwrap()
            };
            let renewals = count("renew");
            assert_eq!((&report["enrolled"], count(stage), count("total")), (&12.into(), 12, 12), "{name} {report}");
            assert_eq!((report["renewed"].as_u64(), count("handshake")), (Some(renewals), 12 + renewals), "{name}");
            if name == "some" {
                assert!((1..12).contains(&renewals), "the seed decides: {renewals}");
            } else {
                assert_eq!(renewals, renewed, "{name} {report}");
            }
            assert!(stderr(&output).contains(stage), "{}", stderr(&output));
            let device = std::fs::read_dir(&received).unwrap().map(|entry| entry.unwrap().path());
            let mut certificates: Vec<_> = device.filter(|path| path.extension() == Some(OsStr::new("pem"))).collect();
            certificates.sort();
            assert_eq!(certificates.len(), 12);
            verify_with_openssl(&pki, &certificates[7]);
            same_key(&certificates[7], &certificates[7].with_extension("key"));
        }
    }
    // Where the names of a renewal are not those of the first request.
    let configuration = std::fs::read_to_string(pki.path("muster.toml")).unwrap();
    let template = r#"issue.subject = "CN={subject.CN},serialNumber={device_id},O=Example""#;
    let other = Pki::new();
    std::fs::write(other.path("muster.toml"), configuration.replace(r#"issue.subject = "csr""#, template)).unwrap();
    let server = other.serve(&["--listen", "127.0.0.1:0"]);
    let mut command = crate::common::muster();
    command.args(["load", "--server", server.uri(), "--devices", "5", "--function", "sren", "--pki"]).arg(other.dir());
    let output = device_of(&mut command);
    expect_one_of(&output, &[0, VOID]);
    assert!(stdout(&output).contains("5 of 5 devices enrolled"), "{}", stdout(&output));
    assert!(stdout(&output).contains("5 of them renewed"), "{}", stdout(&output));
}

#[test]
fn e77_a_fleet_that_vanishes_enrols_and_is_reported_on_stdout() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, _) in server.families() {
        let mut command = crate::common::muster();
        command.args(["load", "--server", uri, "--devices", "10", "--vanish", "100%", "--json", "-", "--pki"]);
        let output = device_of(command.arg(pki.dir()));
        let report = expect_done(&output, 10);
        assert_eq!((&report["enrolled"], &report["vanished"]), (&10.into(), &10.into()), "{report}");
        let outcome = if output.status.success() { "done" } else { "void" };
        assert_eq!((&report["outcome"], &report["schedule"]), (&outcome.into(), &serde_json::Value::Null));
        assert!(stderr(&output).contains("10 devices left without closing"), "{}", stderr(&output));
    }
}

#[test]
fn a_full_server_says_later_and_that_exits_4() {
    let pki = Pki::new();
    let server = pki.serve_with(&[], &[("MUSTER_LEDGER__URL", "memory:"), ("MUSTER_LEDGER__ROWS_MAX", "1")]);
    expect_status(&device_of(pki.device("enroll", server.families()[0].0).arg("--out").arg(pki.beside("first"))), 0);
    for (uri, family) in server.families() {
        let out = pki.beside(&format!("second-{family}"));
        let later = device_of(pki.device("enroll", uri).arg("--out").arg(&out));
        expect_status(&later, 4);
        assert!(stderr(&later).contains("--wait") || stderr(&later).contains("muster explain"), "{}", stderr(&later));
        assert!(!out.exists());
    }
}

#[test]
fn wait_waits_until_it_is_interrupted_and_leaves_nothing() {
    let pki = Pki::new();
    let server = pki.serve_with(&[], &[("MUSTER_LEDGER__URL", "memory:"), ("MUSTER_LEDGER__ROWS_MAX", "1")]);
    expect_status(&device_of(pki.device("enroll", server.families()[0].0).arg("--out").arg(pki.beside("first"))), 0);
    for (uri, family) in server.families() {
        let out = pki.beside(&format!("second-{family}"));
        let mut waiting =
            pki.device("enroll", uri).arg("--wait").arg("--out").arg(&out).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(waiting.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.contains("later, in "), "{line}");
        terminate(&waiting);
        assert_eq!(waiting.wait().unwrap().code(), Some(130));
        assert!(!out.exists());
        assert!(
            !std::fs::read_dir(pki.beside("."))
                .unwrap()
                .any(|entry| { entry.unwrap().file_name().to_string_lossy().starts_with(".muster-") })
        );
    }
}

#[test]
fn a_client_without_identity_is_told_so() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, _) in server.families() {
        let mut command = crate::common::muster();
        command.args(["crts", "--server", uri, "--trust"]).arg(pki.path("ca/root.pem"));
        let refused = device_of(&mut command);
        expect_status(&refused, 3);
        assert!(stderr(&refused).contains("no --identity"), "{}", stderr(&refused));
    }
}

#[test]
fn an_unknown_label_is_refused_and_a_host_name_is_checked() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    for (uri, _) in server.families() {
        let refused = device_of(&mut pki.device("crts", &format!("{uri}/nosuch")));
        expect_status(&refused, 3);
        assert!(stderr(&refused).contains("est.path.unknown_label"), "{}", stderr(&refused));
    }
    // `localhost` may resolve to either family first; the server listens on different ports in the two.
    let first = "localhost:0".to_socket_addrs().unwrap().next().unwrap().ip();
    let host = if first.is_ipv4() { first.to_string() } else { format!("[{first}]") };
    let (uri, _) = server.families().into_iter().find(|(uri, _)| uri.contains(&host)).unwrap();
    expect_status(&device_of(&mut pki.device("crts", &uri.replace(&host, "localhost"))), 0);
}

#[test]
fn a_foreign_device_is_traced_by_the_server_and_captured() {
    let pki = Pki::new();
    for listen in loopbacks() {
        let peer = listen.trim_end_matches(":0").trim_matches(['[', ']']);
        trace_a_foreign_device(&pki, listen, &format!("peer={peer}"));
    }
}

fn trace_a_foreign_device(pki: &Pki, listen: &str, peer: &str) {
    let (keylog, pcap) = (pki.beside(&format!("{peer}.log")), pki.beside(&format!("{peer}.pcapng")));
    let server = pki.serve(&[
        "--listen",
        listen,
        "--trace",
        peer,
        "--insecure-keylog",
        "--keylog",
        keylog.to_str().unwrap(),
        "--pcap",
        pcap.to_str().unwrap(),
    ]);
    expect_status(&device_of(&mut pki.device("crts", server.uri())), 0);
    let (status, said) = server.terminate();
    assert_eq!(status, Some(0), "{said}");
    for word in ["ClientHello", "Finished", "GET", "2.05"] {
        assert!(said.contains(word), "{word} is not in the server's trace:\n{said}");
    }
    assert_eq!(std::fs::read_to_string(&keylog).unwrap().lines().count(), 1);
    assert_eq!(std::fs::read(&pcap).unwrap()[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a pcapng section header");
}

#[test]
fn an_open_loop_fleet_towards_ipv6_has_a_port_a_device() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", loopbacks()[1]]);
    let mut command = crate::common::muster();
    command.args(["load", "--server", server.uri(), "--devices", "30", "--rate", "30", "--suite", "gcm", "--pki"]);
    let output = device_of(command.arg(pki.dir()));
    expect_one_of(&output, &[0, VOID]);
    assert!(stdout(&output).contains("30 of 30 devices enrolled"), "{}", stdout(&output));
}

#[test]
fn a_fleet_of_an_unknown_manufacturer_fails_with_the_reason() {
    let (pki, other) = (Pki::new(), Pki::new());
    let server = pki.serve(&[]);
    for (uri, _) in server.families() {
        // The fleet trusts the server, but the server does not know the fleet's manufacturer.
        std::fs::copy(pki.path("ca/root.pem"), other.path("ca/root.pem")).unwrap();
        let mut command = crate::common::muster();
        command.args(["load", "--server", uri, "--devices", "3", "--pki"]).arg(other.dir());
        let output = device_of(&mut command);
        expect_one_of(&output, &[1, VOID]);
        assert!(stdout(&output).contains("dtls.alert.bad_certificate"), "{}", stdout(&output));
    }
}

/// Only IPv4: the demo starts its own server on 127.0.0.1, and gives each device an address of 127.0.0.0/8.
#[test]
fn the_demo_proves_what_it_says() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("demo");
    let mut command = crate::common::muster();
    let output = device_of(command.args(["demo", "--devices", "40", "--lossy", "10", "--dir"]).arg(&dir));
    expect_status(&output, 0);
    let text = stdout(&output);
    assert!(text.contains("40 of 40 devices enrolled") && text.contains("issued twice: none"), "{text}");
    assert!(text.contains("webpki: 40 of 40") && text.contains("muster serve --config"), "{text}");
    assert_eq!(std::fs::read_dir(dir.join("received")).unwrap().count(), 80);
}

fn terminate(child: &Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
}

/// A new key and a request signed with it, both made by OpenSSL.
fn request_of_openssl(arguments: &[&str], key: &Path, csr: &Path) -> Output {
    let files = [OsStr::new("-keyout"), key.as_os_str(), OsStr::new("-out"), csr.as_os_str()];
    openssl(arguments.iter().map(OsStr::new).chain(files))
}

pub(crate) fn verify_with_openssl(pki: &Pki, file: &Path) {
    let (root, issuing) = (pki.path("ca/root.pem"), pki.path("ca/issuing.pem"));
    let output = openssl([
        "verify".as_ref(),
        "-x509_strict".as_ref(),
        "-purpose".as_ref(),
        "sslclient".as_ref(),
        "-CAfile".as_ref(),
        root.as_os_str(),
        "-untrusted".as_ref(),
        issuing.as_os_str(),
        file.as_os_str(),
    ]);
    assert!(output.status.success(), "{}: {}", file.display(), stderr(&output));
}

pub(crate) fn same_key(certificate: &Path, key: &Path) {
    let of_certificate =
        openssl(["x509".as_ref(), "-noout".as_ref(), "-pubkey".as_ref(), "-in".as_ref(), certificate.as_os_str()]);
    let of_key = openssl(["pkey".as_ref(), "-pubout".as_ref(), "-in".as_ref(), key.as_os_str()]);
    assert_eq!(stdout(&of_certificate), stdout(&of_key), "{} and {}", certificate.display(), key.display());
}

#[test]
fn e04_a_device_asks_what_a_request_has_to_contain_and_links_it() {
    let pki = Pki::new();
    pki.require_linking();
    let server = pki.serve(&[]);
    let (uri, _) = server.families()[0];
    let att = device_of(&mut pki.device("att", uri));
    expect_status(&att, 0);
    assert_eq!(stdout(&att), "key: elliptic curve\nlink to the session: challengePassword\n");
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&device_of(pki.device("att", uri).arg("--json")))).unwrap();
    assert_eq!(json["requirements"][1]["wanted"], "challengePassword", "{json}");
    assert!(json["der"].is_string(), "{json}");

    let unasked = device_of(pki.device("enroll", uri).arg("--no-attributes").arg("--out").arg(pki.beside("unasked")));
    expect_status(&unasked, 3);
    assert!(stderr(&unasked).contains("est.csr.challenge_absent"), "{}", stderr(&unasked));
    // By default the device asks, and links because the answer says so.
    for flags in [&[][..], &["--attributes"], &["--no-attributes", "--link"]] {
        let out = pki.beside(&format!("with{}", flags.concat()));
        expect_status(&device_of(pki.device("enroll", uri).args(flags).arg("--out").arg(&out)), 0);
        same_key(&out.join("device.pem"), &out.join("device.key"));
        let mut renew = crate::common::muster();
        renew.arg("reenroll").args(flags).args(["--server", uri, "--identity"]).arg(&out).arg("--out");
        expect_status(&device_of(renew.arg(pki.beside(&format!("again{}", flags.concat())))), 0);
    }
    let both = device_of(pki.device("enroll", uri).args(["--attributes", "--no-attributes", "--out", "/nonexistent"]));
    expect_status(&both, 2);
}
