//! A server that is not Muster and has no EST: libcoap's example server, with OpenSSL.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Pki, Running, expect_status, stderr, stdout};

/// The time that a busy machine may take to start a program.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// libcoap's server with the identity of `pki`'s server, on a free port.
struct Stranger {
    uri: String,
    /// Its port for CoAP without DTLS.
    coap: u16,
    _running: Running,
}

impl Stranger {
    fn start(pki: &Pki, arguments: &[&str]) -> Self {
        let coap = (0..100).find_map(|_| free_pair()).expect("two free ports in a row");
        let mut command = Command::new("coap-server-openssl");
        command.args(["-A", "127.0.0.1", "-p", &coap.to_string(), "-v", "0", "-c"]).arg(pki.path("server.pem"));
        command.arg("-j").arg(pki.path("server.key")).arg("-R").arg(pki.path("manufacturer/ca.pem")).args(arguments);
        let running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("coap-server-openssl cannot be started ({error}): `cargo xtask setup` installs it")
        });
        let stranger = Self { uri: format!("coaps://127.0.0.1:{}", coap + 1), coap, _running: Running(running) };
        // It prints nothing when it is ready: wait until its port is in use.
        let began = Instant::now();
        while UdpSocket::bind(("127.0.0.1", coap + 1)).is_ok() {
            assert!(began.elapsed() < READY_TIMEOUT, "coap-server-openssl does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        stranger
    }

    /// Makes it answer `GET path` with the bytes of `file`, which it receives over CoAP without DTLS, on the port
    /// before.
    fn hold(&self, path: &str, format: &str, file: &str) {
        let uri = format!("coap://127.0.0.1:{}{path}", self.coap);
        let output = Command::new("coap-client-openssl")
            .args(["-m", "put", "-t", format, "-f", file, &uri])
            .output()
            .expect("coap-client-openssl is missing: `cargo xtask setup` installs it");
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

/// application/pkcs7-mime; smime-type=certs-only (RFC 9148 §9.1).
const CERTS_ONLY: &str = "281";

/// A port for CoAP such that the next one, for CoAP over DTLS, is free as well.
fn free_pair() -> Option<u16> {
    let port = UdpSocket::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let next = port.checked_add(1)?;
    UdpSocket::bind(("127.0.0.1", next)).ok().map(|_| port)
}

#[test]
fn e81_a_server_without_est_is_told_apart_from_one_with_it() {
    let pki = Pki::new();
    let stranger = Stranger::start(&pki, &[]);
    let output = pki.device("discover", &stranger.uri).output().unwrap();
    expect_status(&output, 1);
    assert!(stdout(&output).is_empty(), "{}", stdout(&output));
    assert!(stderr(&output).contains("lists no EST resource"), "{}", stderr(&output));

    // With --all it lists resources, but still none of EST.
    let output = pki.device("discover", &stranger.uri).args(["--all", "--json"]).output().unwrap();
    expect_status(&output, 1);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&json["outcome"], &json["exit"]), (&"failed".into(), &1.into()), "{json}");
    let others: Vec<_> = json["other_links"].as_array().unwrap().iter().filter_map(|link| link.as_str()).collect();
    assert!(others.contains(&"/time"), "{json}");
}

#[test]
fn e72_a_server_that_asks_for_no_certificate_leaves_the_identity_unused_and_that_is_said() {
    let pki = Pki::new();
    let unused = "did not ask for a client certificate: the identity was not used";
    let stranger = Stranger::start(&pki, &["-n"]);
    let output = pki.device("enroll", &stranger.uri).arg("--out").arg(pki.beside("out")).output().unwrap();
    assert!(stderr(&output).contains(unused), "{}", stderr(&output));
    assert!(!output.status.success() && !pki.beside("out").exists(), "it has no EST");

    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let output = pki.device("enroll", server.uri()).arg("--out").arg(pki.beside("out")).output().unwrap();
    expect_status(&output, 0);
    assert!(!stderr(&output).contains("not used"), "{}", stderr(&output));
}

/// A CMS message of indefinite length, which other servers send (RFC 5652 §1 allows BER).
const BER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../pki/tests/vectors/foreign/indefinite.p7");

#[test]
fn e70_ca_certificates_in_ber_are_refused_by_that_name() {
    let pki = Pki::new();
    let stranger = Stranger::start(&pki, &["-d", "1"]);
    stranger.hold("/.well-known/est/crts", CERTS_ONLY, BER);
    for verb in ["crts", "enroll"] {
        let out = pki.beside("out");
        let output = pki.device(verb, &stranger.uri).arg("--out").arg(&out).output().unwrap();
        expect_status(&output, 1);
        let said = stderr(&output);
        assert!(said.contains("indefinite length, which is BER, not DER"), "{said}");
        assert!(!out.exists(), "{verb} wrote {}", out.display());

        let output = pki.device(verb, &stranger.uri).arg("--json").arg("--out").arg(&out).output().unwrap();
        expect_status(&output, 1);
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert_eq!(json["outcome"], "failed", "{json}");
        assert!(json.to_string().contains("indefinite length"), "{json}");
    }
}

/// The issuing CA, the same CA with a keyUsage for revocation lists only, and a certificate that signs nothing.
#[test]
fn e66_what_signs_no_certificates_is_not_written_to_the_anchors_and_is_named() {
    let pki = Pki::new();
    let read = |inside: &str| pki::pem::certificates(&std::fs::read(pki.path(inside)).unwrap()).unwrap().swap_remove(0);
    let (root, leaf) = (read("ca/root.pem"), read("server.pem"));
    let mut of_lists = root.clone();
    // Of keyCertSign and cRLSign only cRLSign remains. The signature of an anchor is never verified.
    let usage = root.windows(4).position(|window| window == [3, 2, 1, 0b0000_0110]).unwrap();
    of_lists[usage + 3] = 0b0000_0010;
    let answer = pki.beside("crts.p7");
    std::fs::write(&answer, pki::cms::certs_only(&[&of_lists, &root, &leaf])).unwrap();
    let stranger = Stranger::start(&pki, &["-d", "1"]);
    stranger.hold("/.well-known/est/crts", CERTS_ONLY, answer.to_str().unwrap());

    let out = pki.beside("out");
    let output = pki.device("crts", &stranger.uri).arg("--out").arg(&out).output().unwrap();
    expect_status(&output, 0);
    let written = std::fs::read(out.join("anchors.pem")).unwrap();
    assert_eq!(pki::pem::certificates(&written).unwrap(), [root]);
    let said = stderr(&output);
    for words in ["its keyUsage lacks keyCertSign", "its basicConstraints do not make it an authority"] {
        assert!(said.contains("/crts: certificate ") && said.contains(words), "{words} is not in {said}");
    }
}
