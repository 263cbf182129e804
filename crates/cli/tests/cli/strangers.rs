//! A server that is not Muster and has no EST: libcoap's example server, with OpenSSL.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::ports::two_free_ports;
use crate::common::{Pki, Running, expect_status, stderr, stdout};

/// The time that a busy machine may take to start a program.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const STARTS_MAX: usize = 3;

/// libcoap's server with the identity of `pki`'s server, on a free port.
struct Stranger {
    uri: String,
    /// Its port for CoAP without DTLS.
    coap: u16,
    _running: Running,
}

impl Stranger {
    fn start(pki: &Pki, arguments: &[&str]) -> Self {
        // Another process may take a port between its choice and the start.
        (0..STARTS_MAX).find_map(|_| Self::try_start(pki, arguments)).expect("coap-server-openssl listens")
    }

    /// `None` if it ends because a port is taken.
    fn try_start(pki: &Pki, arguments: &[&str]) -> Option<Self> {
        // With -p, it has DTLS on the next higher port.
        let coap = two_free_ports().unwrap();
        let mut command = Command::new("coap-server-openssl");
        command.args(["-A", "127.0.0.1", "-p", &coap.to_string(), "-v", "0", "-c"]).arg(pki.path("server.pem"));
        command.arg("-j").arg(pki.path("server.key")).arg("-R").arg(pki.path("manufacturer/ca.pem")).args(arguments);
        let running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("coap-server-openssl cannot be started ({error}): `cargo xtask setup` installs it")
        });
        let mut running = Running(running);
        // It prints nothing when it is ready: wait until both ports are in use.
        let began = Instant::now();
        while !(is_bound(coap) && is_bound(coap + 1)) {
            assert!(began.elapsed() < READY_TIMEOUT, "coap-server-openssl does not listen");
            if running.0.try_wait().unwrap().is_some() {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let uri = format!("coaps://127.0.0.1:{}", coap + 1);
        running.0.try_wait().unwrap().is_none().then_some(Self { uri, coap, _running: running })
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

/// Whether a UDP socket has this port on 127.0.0.1. A probe that binds it could take it from the program that is about to.
fn is_bound(port: u16) -> bool {
    // proc(5): addresses and ports are in hexadecimal, an address in the order of the machine's bytes.
    let listed = format!(" {:08X}:{port:04X} ", u32::from_ne_bytes([127, 0, 0, 1]));
    std::fs::read_to_string("/proc/net/udp").unwrap().contains(&listed)
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
