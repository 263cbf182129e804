//! Server certificates that no device would trust, and profiles that no path selects: how `check` and `serve` report them (E61).

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::common::{Pki, expect_status, muster, openssl, run, stderr, stdout};

/// What a certificate should contain.
struct Wanted<'a> {
    extensions: &'a str,
    /// The CA of the folder that signs it: certificate and key.
    issuer: (&'a str, &'a str),
}

const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1";
const SERVER: &str = "extendedKeyUsage=serverAuth\nkeyUsage=digitalSignature";
const ROOT: (&str, &str) = ("ca/root.pem", "offline/root.key");

impl Default for Wanted<'_> {
    fn default() -> Self {
        Self { extensions: SERVER, issuer: ROOT }
    }
}

fn must(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

/// Writes a new `server.pem` for the existing key.
fn issue(pki: &Pki, wanted: &Wanted<'_>) {
    let path = |inside: &str| pki.path(inside).display().to_string();
    let (request, extensions) = (path("server.csr"), path("server.ext"));
    fs::write(&extensions, wanted.extensions.replace("\\n", "\n")).unwrap();
    must(&openssl(["req", "-new", "-key", &path("server.key"), "-subj", "/CN=server", "-out", &request]));
    let (issuer, key, out) = (path(wanted.issuer.0), path(wanted.issuer.1), path("server.pem"));
    let mut arguments = vec!["x509", "-req", "-in", &request, "-CA", &issuer, "-CAkey", &key, "-out", &out];
    arguments.extend(["-extfile", &extensions, "-set_serial", "77"]);
    arguments.extend(["-days", "100"]);
    must(&openssl(arguments));
}

/// Writes a new `server.pem` that expired in 2021, for the existing key.
fn past_its_date(pki: &Pki) {
    let ring = ring::rand::SystemRandom::new();
    let read = |inside: &str| fs::read(pki.path(inside)).unwrap();
    let signing = |key: &pki::PrivateKey| pki::SigningKey::from_pkcs8(key.pkcs8(), &ring).unwrap();
    let root_key = signing(&pki::pem::private_key(&read("offline/root.key")).unwrap());
    let root = pki::Certificate::parse(&pki::pem::certificates(&read("ca/root.pem")).unwrap()[0]).unwrap();
    let key = pki::pem::private_key(&read("server.key")).unwrap();
    let at = |seconds| pki::UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let names = ["localhost", "127.0.0.1"].map(|name| pki::ServerName::try_from(name).unwrap());
    let spec = pki::make::ServerCertificateSpec {
        names: &names,
        serial: pki::issue::Serial::new(pki::issue::NodePrefix::new(0), [7; 16]),
        validity: pki::Validity { not_before: at(1_577_836_800), not_after: at(1_609_459_200) },
    };
    let parent = pki::make::Parent { certificate: &root, key: &root_key };
    let certificate = pki::make::server(&spec, signing(&key).public_key(), parent, &ring).unwrap();
    fs::write(pki.path("server.pem"), pki::pem::encode(pki::pem::Label::Certificate, certificate.der())).unwrap();
}

fn check(pki: &Pki, more: &[&str]) -> Output {
    muster().arg("check").arg(pki.path("muster.toml")).args(more).output().unwrap()
}

/// Checks that both commands refuse, name the file and give the remedy; also as JSON.
#[track_caller]
fn refused(pki: &Pki, words: &[&str]) {
    let config = pki.path("muster.toml");
    let serve =
        run([Path::new("serve"), Path::new("--listen"), Path::new("127.0.0.1:0"), Path::new("--config"), &config]);
    for output in [check(pki, &[]), serve] {
        expect_status(&output, 1);
        let said = stderr(&output);
        for word in words {
            assert!(said.contains(word), "{word} is not in {said}");
        }
    }
    let output = check(pki, &["--json"]);
    expect_status(&output, 1);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(!json["faults"][0]["remedy"].as_str().unwrap().is_empty(), "{json}");
}

/// Adds lines to `[server]`.
fn configure(pki: &Pki, lines: &str) {
    let file = pki.path("muster.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("[server]\n", &format!("[server]\n{lines}\n"), 1)).unwrap();
}

#[test]
fn e61_an_expired_server_certificate_starts_nothing_unless_the_flag_says_so() {
    let pki = Pki::new();
    past_its_date(&pki);
    let path = pki.path("server.pem").display().to_string();
    refused(&pki, &[&path, "expired on 2021-01-01T00:00:00Z", "renew it", "--allow-expired-server-certificate"]);

    let server = pki.serve(&["--listen", "127.0.0.1:0", "--allow-expired-server-certificate"]);
    // Our own client checks dates.
    let device = pki.device("crts", server.uri()).output().unwrap();
    assert!(!device.status.success() && stderr(&device).contains("expired"), "{}", stderr(&device));
    let (status, said) = server.terminate();
    assert_eq!(status, Some(0));
    assert!(said.contains("the server certificate") && said.contains("expired on"), "{said}");
}

#[test]
fn e61_a_server_certificate_without_the_names_it_is_dialled_by_is_a_fault() {
    let pki = Pki::new();
    expect_status(&check(&pki, &["--strict"]), 0);
    configure(&pki, "names = [\"localhost\", \"est.example.net\", \"192.0.2.7\"]");
    let path = pki.path("server.pem").display().to_string();
    refused(
        &pki,
        &[
            &path,
            "devices connect to est.example.net, 192.0.2.7",
            "contains only localhost, 127.0.0.1, ::1",
            "server.names",
        ],
    );

    let extensions = format!("{SERVER}\n{NAMES},IP:192.0.2.7,DNS:*.example.net");
    issue(&pki, &Wanted { extensions: &extensions, ..Wanted::default() });
    expect_status(&check(&pki, &["--strict"]), 0);
    issue(&pki, &Wanted::default());
    refused(&pki, &[&path, "its subjectAltName has no DNS name and no address", "reissued with the names"]);
}

#[test]
fn e61_init_writes_the_names_that_it_was_given_for_check_to_look_at() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("pki");
    expect_status(
        &muster().arg("init").arg(&dir).args(["--name", "est.example.net", "192.0.2.7"]).output().unwrap(),
        0,
    );
    let print = muster().arg("check").arg(dir.join("muster.toml")).arg("--print").output().unwrap();
    expect_status(&print, 0);
    assert!(stdout(&print).contains("server.names = [\"est.example.net\", \"192.0.2.7\"]"), "{}", stdout(&print));
}

#[test]
fn e61_a_server_certificate_of_another_root_is_a_fault_unless_devices_know_that_root() {
    let pki = Pki::new();
    let extensions = format!("{SERVER}\n{NAMES}");
    let factory = ("manufacturer/ca.pem", "manufacturer/ca.key");
    issue(&pki, &Wanted { extensions: &extensions, issuer: factory });
    let path = pki.path("server.pem").display().to_string();
    refused(&pki, &[&path, "its chain ends at", "enrolled devices know only", "server.trust"]);
    configure(&pki, "trust = [\"manufacturer/ca.pem\"]");
    let checked = check(&pki, &[]);
    expect_status(&checked, 0);
    // A device that has asked for /crts knows no other anchors from then on.
    let said = stdout(&checked) + &stderr(&checked);
    assert!(said.contains("server.trust: a device that takes the answer to /crts of `main`"), "{said}");
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    assert_eq!(server.terminate().0, Some(0));
}

/// As if the root of `/crts` had an RSA key and were skipped: the issuing CA remains, and it is the anchor for the server as well.
#[test]
fn e66_a_certificate_of_an_authority_whose_root_is_not_in_crts_is_kept() {
    let pki = Pki::new();
    let extensions = format!("{SERVER}\n{NAMES}");
    issue(&pki, &Wanted { extensions: &extensions, issuer: ("ca/issuing.pem", "ca/issuing.key") });
    let file = pki.path("muster.toml");
    let text = fs::read_to_string(&file).unwrap();
    let rootless: String =
        text.lines().filter(|line| !line.starts_with("root = ")).map(|it| format!("{it}\n")).collect();
    assert_ne!(rootless, text);
    fs::write(&file, rootless).unwrap();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let device = |verb: &str| {
        let mut command = muster();
        command.args([verb, "--json", "--server", server.uri(), "--trust"]).arg(pki.path("ca/issuing.pem"));
        command.arg("--identity").arg(pki.path("device")).arg("--out").arg(pki.beside(verb));
        let output = command.output().unwrap();
        expect_status(&output, 0);
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()
    };
    let crts = device("crts");
    assert_eq!(crts["certificates"].as_array().unwrap().len(), 1, "{crts}");
    assert_eq!(crts["passed_over"], serde_json::json!([]), "{crts}");
    let enrolled = device("enroll");
    assert_eq!(enrolled["passed_over"], serde_json::json!([]), "{enrolled}");
    assert!(pki.beside("enroll").join("device.pem").exists());
}

#[test]
fn e61_a_root_of_the_same_name_with_another_key_is_another_root() {
    let pki = Pki::new();
    let other = Pki::new();
    fs::copy(other.path("server.pem"), pki.path("server.pem")).unwrap();
    fs::copy(other.path("server.key"), pki.path("server.key")).unwrap();
    refused(&pki, &["server.pem", "has the name of a CA that devices know, but another key"]);
}

#[test]
fn e61_a_server_certificate_with_the_wrong_usages_is_a_fault() {
    let pki = Pki::new();
    let path = pki.path("server.pem").display().to_string();
    let extensions = format!("extendedKeyUsage=serverAuth\nkeyUsage=keyAgreement\n{NAMES}");
    issue(&pki, &Wanted { extensions: &extensions, ..Wanted::default() });
    refused(&pki, &[&path, "its keyUsage lacks digitalSignature", "reissued with keyUsage"]);
    let extensions = format!("extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature\n{NAMES}");
    issue(&pki, &Wanted { extensions: &extensions, ..Wanted::default() });
    refused(&pki, &[&path, "does not allow serverAuth", "reissued with extendedKeyUsage"]);
}

#[test]
fn e61_a_wrong_intermediate_is_named_by_its_place_in_the_file() {
    let pki = Pki::new();
    let extensions = format!("{SERVER}\n{NAMES}");
    let issuing = ("ca/issuing.pem", "ca/issuing.key");
    issue(&pki, &Wanted { extensions: &extensions, issuer: issuing });
    let leaf = fs::read_to_string(pki.path("server.pem")).unwrap();
    let chain = |inside: &[&str]| {
        let above: String = inside.iter().map(|path| fs::read_to_string(pki.path(path)).unwrap()).collect();
        fs::write(pki.path("server.pem"), format!("{leaf}{above}")).unwrap();
    };
    // /crts contains the issuing CA: the path is found with it in the file and without it.
    for sound in [&["ca/issuing.pem"][..], &[], &["ca/issuing.pem", "ca/root.pem"]] {
        chain(sound);
        expect_status(&check(&pki, &["--strict"]), 0);
    }
    // An intermediate of an unknown PKI, after a leaf that it did not issue.
    let other = Pki::new();
    let issuing = ("ca/issuing.pem", "ca/issuing.key");
    fs::copy(pki.path("server.key"), other.path("server.key")).unwrap();
    issue(&other, &Wanted { extensions: &extensions, issuer: issuing });
    let leaf = fs::read_to_string(other.path("server.pem")).unwrap();
    let wrong = fs::read_to_string(pki.path("manufacturer/ca.pem")).unwrap();
    fs::write(pki.path("server.pem"), format!("{leaf}{wrong}")).unwrap();
    let path = pki.path("server.pem").display().to_string();
    refused(&pki, &[&path, "its certificate 2 (", "did not issue the one before it", "server's own certificate first"]);
}

#[test]
fn e61_a_profile_without_labels_is_a_fault() {
    let pki = Pki::new();
    let file = pki.path("muster.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("labels = [\"\"]", "labels = []")).unwrap();
    refused(&pki, &["muster.toml:", "profile[0].labels: no label", "the path without a label"]);
}
