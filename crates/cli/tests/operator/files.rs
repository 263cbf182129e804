//! Files of the operator: outputs that cannot be written, leftovers of a killed process, certificates that expire, the wrong file for `--trust`.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::{Pki, expect_status, muster, run, stderr, stdout};

/// The names of all files below a folder.
fn below(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path.display().to_string()] }).collect()
}

#[test]
fn e59_an_out_that_cannot_be_written_fails_before_anything_is_asked() {
    let pki = Pki::new();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let uri = format!("coaps://{}", server.local_addr().unwrap());
    for verb in ["enroll", "crts"] {
        // No user can create a folder there, whatever their rights elsewhere.
        let output = pki.device(verb, &uri).args(["--out", "/proc/muster"]).output().unwrap();
        expect_status(&output, 1);
        assert!(stderr(&output).contains("cannot write /proc/muster"), "{}", stderr(&output));
    }
    assert!(server.recv(&mut [0; 2048]).is_err(), "the server got a datagram");
}

#[test]
fn e60_a_folder_that_is_there_keeps_its_mode_and_a_letter_its_text() {
    let pki = Pki::new();
    let folder = pki.beside("private");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    expect_status(&run([Path::new("init"), &folder]), 0);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&folder.join("ca/issuing.key"))), (0o700, 0o600));

    let letter = pki.beside("letter.txt");
    fs::write(&letter, "to keep").unwrap();
    let output = pki.device("crts", "coaps://127.0.0.1:9").arg("--pcap").arg(&letter).output().unwrap();
    expect_status(&output, 1);
    assert!(stderr(&output).contains("nothing is overwritten"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&letter).unwrap(), "to keep");
}

#[test]
fn e60_an_init_that_is_killed_leaves_no_key_under_a_temporary_name() {
    let scratch = tempfile::tempdir().unwrap();
    for millis in 0..30 {
        let mut child = muster()
            .arg("init")
            .arg(scratch.path().join(format!("pki-{millis}")))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let left: Vec<_> =
        below(scratch.path()).into_iter().filter(|path| path.contains(".muster-") && path.contains(".key")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn e60_a_limit_of_file_sizes_is_an_error_and_what_was_begun_is_removed() {
    let scratch = tempfile::tempdir().unwrap();
    let script = format!("ulimit -f 0; exec {} init {}/pki", env!("CARGO_BIN_EXE_muster"), scratch.path().display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    expect_status(&output, 1);
    assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

fn now() -> u64 {
    pki::UnixTime::now().as_secs()
}

/// Writes the manufacturer's certificate again, with this notAfter.
fn manufacturer_until(pki: &Pki, ends: u64) {
    let ring = ring::rand::SystemRandom::new();
    let key = pki::pem::private_key(&fs::read(pki.path("manufacturer/ca.key")).unwrap()).unwrap();
    let at = |seconds| pki::UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let spec = pki::make::AuthorityCertificateSpec {
        common_name: "Example manufacturer CA",
        organization: None,
        serial: pki::issue::Serial::new(pki::issue::NodePrefix::new(0), [7; 16]),
        validity: pki::Validity { not_before: at(1_577_836_800), not_after: at(ends) },
        path_len: Some(0),
    };
    let key = pki::SigningKey::from_pkcs8(key.pkcs8(), &ring).unwrap();
    let certificate = pki::make::root(&spec, &key, &ring).unwrap();
    let text = pki::pem::encode(pki::pem::Label::Certificate, certificate.der());
    fs::write(pki.path("manufacturer/ca.pem"), text).unwrap();
}

#[test]
fn e61_check_strict_fails_on_a_warning_and_serve_starts_all_the_same() {
    let pki = Pki::new();
    let file = pki.path("muster.toml");
    let check = |more: &[&str]| muster().arg("check").arg(&file).args(more).output().unwrap();
    expect_status(&check(&["--strict"]), 0);

    for (ends, expected) in [(now() + 10 * 86_400, "expires on"), (1_609_459_200, "expired on 2021-01-01T00:00:00Z")] {
        manufacturer_until(&pki, ends);
        let lenient = check(&[]);
        expect_status(&lenient, 0);
        let strict = check(&["--strict"]);
        expect_status(&strict, 1);
        assert!(stderr(&strict).contains("the manufacturer certificate"), "{}", stderr(&strict));
        assert!(stderr(&strict).contains(expected), "{}", stderr(&strict));
        let json = check(&["--strict", "--json"]);
        expect_status(&json, 1);
        let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
        assert!(json["warnings"][0].as_str().unwrap().contains(expected), "{json}");
    }

    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    expect_status(&pki.device("enroll", server.uri()).arg("--out").arg(pki.beside("out")).output().unwrap(), 0);
}

/// RFC 7030 §3.2.2: "The EST server MUST provide services regardless of whether the additional path segment is present."
#[test]
fn check_warns_of_a_configuration_without_an_unlabelled_profile() {
    let pki = Pki::new();
    let file = pki.path("muster.toml");
    let check = |more: &[&str]| muster().arg("check").arg(&file).args(more).output().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    for (labels, warned) in [(r#"["meters"]"#, true), (r#"["meters", ""]"#, false)] {
        let changed = text.replace("labels = [\"\"]", &format!("labels = {labels}"));
        assert_ne!(changed, text);
        fs::write(&file, changed).unwrap();
        let lenient = check(&[]);
        expect_status(&lenient, 0);
        assert_eq!(stderr(&lenient).contains("no profile has the label \"\""), warned, "{}", stderr(&lenient));
        let strict = check(&["--strict"]);
        expect_status(&strict, if warned { 1 } else { 0 });
        assert_eq!(stderr(&strict).contains("add \"\" to the `labels`"), warned, "{}", stderr(&strict));
    }
}

#[test]
fn e49_e86_check_names_the_certificate_of_another_root_without_the_key_of_the_ca() {
    let (pki, other) = (Pki::new(), Pki::new());
    let root = pki.path("ca/root.pem");
    fs::copy(other.path("ca/root.pem"), &root).unwrap();
    let file = pki.path("muster.toml");
    let said = || {
        let output = muster().arg("check").arg(&file).output().unwrap();
        expect_status(&output, 1);
        stderr(&output)
    };
    let issuing = pki.path("ca/issuing.pem");
    let culprit = format!(
        "ca.main.certificate: {}, certificate 1 (`CN=Muster issuing CA`) is not signed by the key of the certificate above it",
        issuing.display()
    );
    let with_key = said();
    fs::remove_file(pki.path("ca/issuing.key")).unwrap();
    for text in [with_key, said()] {
        assert!(text.contains(&culprit), "{culprit}\nis not in\n{text}");
        assert!(text.contains("use the certificate whose key signed it"), "{text}");
    }
}

#[test]
fn e79_a_wrong_trust_is_named_before_any_advice_for_firmware() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let wrong = pki.path("manufacturer/ca.pem");
    let mut command = muster();
    command.args(["enroll", "--server", server.uri(), "--trust"]).arg(&wrong);
    let output =
        command.arg("--identity").arg(pki.path("device")).arg("--out").arg(pki.beside("out")).output().unwrap();
    assert!(!output.status.success());
    let said = stderr(&output);
    assert!(said.contains(&format!("{} (--trust) does not contain the CA", wrong.display())), "{said}");
    // The advice of `explain` about this reason for engineers who build devices.
    let explained = stdout(&run(["explain", "dtls.certificate.unknown_issuer"]));
    for advice in ["Mbed TLS", "Zephyr", "CONFIG_", "OpenThread", "OpenSSL", "Send the whole chain"] {
        assert!(explained.contains(advice), "{advice} is not in {explained}");
        assert!(!said.contains(advice), "{advice} is in {said}");
    }
    let [file, more] = ["(--trust) does not contain", "muster explain"].map(|words| said.find(words).unwrap());
    assert!(file < more, "{said}");
}

#[test]
fn e79_anchors_that_are_no_authorities_are_named_by_file_and_option() {
    let pki = Pki::new();
    let device = pki.path("device");
    let (leaf, beside) = (device.join("idevid.pem"), device.join("anchors.pem"));
    fs::copy(&leaf, &beside).unwrap();
    let crts = |more: &[&Path]| {
        let mut command = muster();
        command.args(["crts", "--server", "coaps://127.0.0.1:1", "--identity"]).arg(&device).args(more);
        stderr(&command.output().unwrap())
    };
    let said = crts(&[]);
    let expected = format!("the certificates of {} (--identity) cannot be used", beside.display());
    assert!(said.contains(&expected), "{expected} is not in {said}");
    let said = crts(&[Path::new("--trust"), &leaf]);
    let expected = format!("the certificates of {} (--trust) cannot be used", leaf.display());
    assert!(said.contains(&expected), "{expected} is not in {said}");
}

/// A certificate with an RSA key and one on P-521: they make no file unusable.
#[test]
fn d100_what_nobody_needs_in_a_file_of_the_command_line_is_named_and_passed_over() {
    let pki = Pki::new();
    let foreign = concat!(
        include_str!("../../../pki/tests/vectors/foreign/rsa.pem"),
        include_str!("../../../pki/tests/vectors/foreign/p521.pem"),
    );
    let (trust, identity) = (pki.path("ca/root.pem"), pki.path("device/idevid.pem"));
    let [bundle, chain] = [(&trust, "bundle.pem"), (&identity, "chain.pem")].map(|(own, name)| {
        fs::write(pki.path(name), fs::read_to_string(own).unwrap() + foreign).unwrap();
        pki.path(name)
    });
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let enroll = |trust: &Path, certificate: &Path, out: &str| {
        let mut command = muster();
        command.args(["enroll", "--server", server.uri(), "--trust"]).arg(trust).arg("--cert").arg(certificate);
        command.arg("--key").arg(pki.path("device/idevid.key")).arg("--out").arg(pki.beside(out)).output().unwrap()
    };
    let output = enroll(&bundle, &chain, "out");
    expect_status(&output, 0);
    for file in [&bundle, &chain] {
        for words in ["certificate 2 (`serialNumber=17,CN=device-17`) is ignored", "certificate 3 (`serialNumber=16"] {
            let expected = format!("{}: {words}", file.display());
            assert!(stderr(&output).contains(&expected), "{expected} is not in {}", stderr(&output));
        }
    }

    // The same for anchors.pem, which a renewal reads.
    let anchors = pki.beside("out").join("anchors.pem");
    fs::write(&anchors, foreign.to_owned() + &fs::read_to_string(&anchors).unwrap()).unwrap();
    let mut renew = muster();
    renew.args(["reenroll", "--server", server.uri(), "--identity"]).arg(pki.beside("out"));
    let output = renew.arg("--out").arg(pki.beside("renewed")).output().unwrap();
    expect_status(&output, 0);
    assert!(stderr(&output).contains("certificate 1 (`serialNumber=17"), "{}", stderr(&output));

    // A file without a usable anchor, and one whose first certificate cannot be read.
    fs::write(&bundle, foreign).unwrap();
    let output = enroll(&bundle, &chain, "none");
    expect_status(&output, 1);
    let said = stderr(&output);
    assert!(said.contains("bundle.pem (--trust) cannot be used: certificate 1") && said.contains("P-521"), "{said}");
    fs::write(&chain, foreign).unwrap();
    let output = enroll(&trust, &chain, "none");
    expect_status(&output, 1);
    assert!(stderr(&output).contains("certificate 1 of"), "{}", stderr(&output));
}

/// Runs it until it ends; after a minute it is ended with status 124.
fn ended(command: &Command) -> Output {
    let mut bounded = Command::new("timeout");
    bounded.arg("60").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(name, value),
            None => bounded.env_remove(name),
        };
    }
    bounded.output().unwrap()
}

#[test]
fn e75_a_pipe_where_a_file_belongs_is_refused_by_every_verb_and_never_waited_for() {
    let pki = Pki::new();
    let pipe = pki.beside("pipe");
    assert!(Command::new("mkfifo").arg("-m600").arg(&pipe).status().unwrap().success());
    let named = pipe.to_str().unwrap();
    let refused = |command: &Command, words: &[&str]| {
        let output = ended(command);
        expect_status(&output, 1);
        let said = stderr(&output);
        for word in [named, "it is a pipe, not a file"].iter().chain(words) {
            assert!(said.contains(word), "{word} is not in {said}");
        }
    };
    let configured = |verb: &str, file: &Path| {
        let mut command = muster();
        command.arg(verb).args((verb == "serve").then_some("--config")).arg(file);
        command
    };
    // The configuration, and each file that it names; E75's other tests cover the keys.
    let config = pki.path("muster.toml");
    let text = fs::read_to_string(&config).unwrap();
    for verb in ["check", "serve"] {
        refused(&configured(verb, &pipe), &["give the path of a file"]);
        for file in ["server.pem", "ca/issuing.pem", "ca/root.pem", "manufacturer/ca.pem"] {
            let replaced = text.replace(&format!("\"{file}\""), &format!("{named:?}"));
            assert_ne!(replaced, text, "{file}");
            fs::write(&config, replaced).unwrap();
            refused(&configured(verb, &config), &["give the path of a file"]);
        }
        fs::write(&config, &text).unwrap();
    }
    // What the commands of a device read.
    let (certificate, key) = (pki.path("device/idevid.pem"), pki.path("device/idevid.key"));
    let device = |certificate: &Path, trust: &Path, more: &[&Path]| {
        let mut command = muster();
        command.args(["enroll", "--server", "coaps://127.0.0.1:9", "--timeout", "1ms", "--key"]).arg(&key);
        command.arg("--cert").arg(certificate).arg("--trust").arg(trust).args(more);
        command
    };
    let (root, out) = (pki.path("ca/root.pem"), pki.beside("out"));
    let (out, csr) = ([Path::new("--out"), &out], [Path::new("--csr"), &pipe]);
    for command in [device(&pipe, &root, &out), device(&certificate, &pipe, &out), device(&certificate, &root, &csr)] {
        refused(&command, &["use a file", "<(...)"]);
    }
}

#[test]
fn e75_the_pipes_of_a_shell_are_read_by_verbs_that_run_once() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let script = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout new.key \
                  -subj /CN=device-000001/serialNumber=000001 2> /dev/null \
                  | \"$0\" enroll --server \"$1\" --identity device --trust <(sleep 0.2; cat ca/root.pem) --csr /dev/stdin";
    let muster = muster();
    let mut shell = Command::new("bash");
    shell.args(["-c", script]).arg(muster.get_program()).arg(server.uri()).current_dir(pki.dir());
    let output = shell.output().unwrap();
    expect_status(&output, 0);
    assert!(stdout(&output).starts_with("-----BEGIN CERTIFICATE-----"), "{}", stdout(&output));
}
