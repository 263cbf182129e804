//! `muster inspect`: what it recognises, what it says about inputs that failed in the field, and the dry run of a decision.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::common::{Pki, expect_status, muster, openssl, run, stderr, stdout};

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../pki/tests/vectors").join(name)
}

fn inspect(file: &Path) -> Output {
    run([Path::new("inspect"), file])
}

/// Inspects standard input.
fn piped(input: &[u8]) -> Output {
    let mut command = muster();
    command.args(["inspect", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Each kind of failure has a line with the culprit, and a refusal has its code.
#[test]
fn inputs_that_failed_in_the_field_get_a_line_that_names_the_culprit() {
    for (name, status, lines) in [
        ("plain.pem", 0, &["certificate 1"][..]),
        ("v1-root-appended.pem", 0, &["certificate version 1", "leave it out of what the device sends"]),
        ("issuer-printable.pem", 0, &["the issuer's name is in PrintableString"]),
        ("negative-serial.pem", 0, &["serialNumber is negative"]),
        ("p384-sha256.pem", 0, &["ecdsa-with-SHA256", "the CA's P-384 key signed it with SHA-256"]),
        ("p384-sha256.csr", 0, &["P-384", "ecdsa-with-SHA256", "a P-384 key signed it with SHA-256"]),
        (
            "critical-false.pem",
            3,
            &["extensions[1]: DEFAULT value encoded", "dtls.certificate.bad_encoding", "as_issued"],
        ),
        ("critical-false.csr", 3, &["extensions[0]: DEFAULT value encoded", "est.csr.malformed", "as_issued"]),
        ("underscore.pem", 3, &["subject RDN 2: PrintableString with `_`", "dtls.certificate.bad_encoding"]),
        ("san-unsorted.pem", 3, &["subjectAltName: SET OF", "dtls.certificate.bad_encoding"]),
        ("set-unsorted.csr", 3, &["subject RDN 1: SET OF", "est.csr.malformed"]),
        ("null-parameters.pem", 3, &["NULL parameters", "as_issued"]),
        ("null-parameters.csr", 3, &["NULL parameters", "est.csr.algorithm"]),
        ("version-1.pem", 3, &["certificate version 1; version 3 is required", "dtls.certificate.bad_encoding"]),
        ("brainpool.pem", 3, &["brainpoolP256r1", "dtls.certificate.unsupported_algorithm"]),
        ("p521.pem", 3, &["P-521", "dtls.certificate.unsupported_algorithm"]),
        ("dice.pem", 3, &["extKeyUsage of this CA", "dtls.certificate.extended_key_usage"]),
        ("hardware-module.pem", 0, &["empty subject", "idevid:san.hardwareModuleName"]),
        ("padded-serial.pem", 0, &["serialNumber: INTEGER is not minimal", "have it reissued"]),
        ("raw-signature.csr", 3, &["64 octets, as r and s have without DER", "est.csr.signature_encoding"]),
        ("rdns-reversed.csr", 0, &["look reversed", "est.sen.subject_mismatch"]),
        ("private-only.pem", 0, &["does not contain the public key"]),
        ("new-request.pem", 0, &["NEW CERTIFICATE REQUEST"]),
        ("indefinite.p7", 3, &["indefinite length", "device.answer.malformed", "openssl pkcs7"]),
        ("rsa-root.p7", 0, &["note: subjectPublicKeyInfo: the key type is RSA", "passes it over and uses the others"]),
    ] {
        let output = inspect(&vector("foreign").join(name));
        expect_status(&output, status);
        for line in lines {
            assert!(stdout(&output).contains(line), "{name}: {line} is not in {}", stdout(&output));
        }
    }
}

#[test]
fn the_payloads_of_rfc_9148_are_recognised_and_no_private_key_is_shown() {
    for (name, lines) in [
        ("att-response-285.hex", &["CSR attributes (285)", "ecdsa-with-SHA384", "challengePassword"][..]),
        ("crts-response-281.hex", &["certs-only CMS (281)", "basicConstraints"]),
        ("sen-request-286.hex", &["certification request", "hardwareModuleName=1.3.6.1.4.1.6715.10.1", "not shown"]),
        ("sen-response-281.hex", &["certs-only CMS (281)", "9999-12-31T23:59:59Z"]),
        ("skg-response-62.hex", &["multipart-core (62)", "private key (its value is not shown)", "certs-only CMS"]),
    ] {
        let output = inspect(&vector("rfc9148").join(name));
        expect_status(&output, 0);
        for line in lines {
            assert!(stdout(&output).contains(line), "{name}: {line} is not in {}", stdout(&output));
        }
    }
    let text = std::fs::read_to_string(vector("rfc9148").join("skg-response-62.hex")).unwrap();
    let payload = hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    // ECPrivateKey (RFC 5915 §3): version 1, then 32 octets of the key.
    let head = [2, 1, 1, 4, 32];
    let at = payload.windows(head.len()).position(|window| window == head).unwrap() + head.len();
    let secret = hex::encode(&payload[at..at + 32]);
    for json in [false, true] {
        let mut command = muster();
        command.arg("inspect").arg(vector("rfc9148").join("skg-response-62.hex")).args(json.then_some("--json"));
        let output = command.output().unwrap();
        expect_status(&output, 0);
        assert!(!stdout(&output).contains(&secret), "{}", stdout(&output));
    }
}

#[test]
fn forms_of_one_request_are_shown_alike() {
    let text = std::fs::read_to_string(vector("rfc9148").join("sen-request-286.hex")).unwrap();
    let der = hex::decode(text.split_whitespace().collect::<String>()).unwrap();
    let pem = pki::pem::encode(pki::pem::Label::CertificateRequest, &der);
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let shown: Vec<_> =
        [text.into_bytes(), der, pem.into_bytes(), base64.into_bytes()].iter().map(|it| piped(it)).collect();
    for output in &shown {
        expect_status(output, 0);
        assert_eq!(stdout(output), stdout(&shown[0]));
    }
}

#[test]
fn messages_and_datagrams_are_shown_by_the_names_of_their_parts() {
    for (hex, status, lines) in [
        // CON POST /est/sen, Content-Format 286, Block1 0/more/16.
        (
            "41021234aa b3657374 0373656e 12011e d10208 ff 00",
            0,
            &["CON POST", "Uri-Path=est", "Content-Format=286", "Block1=0/more/16", "one block"][..],
        ),
        // 4.03 with a reason code.
        (
            "61831234aa ff 6573742e73656e2e7375626a6563745f6d69736d61746368",
            0,
            &["4.03", "est.sen.subject_mismatch", "note:"],
        ),
        ("44021234aa", 3, &["malformed", "past the end"]),
        ("15fefd00000000000000030002 0230", 0, &["fatal unknown_ca", "dtls.certificate.unknown_issuer"]),
        ("17fefd00010000000000030003 010203", 0, &["ApplicationData, encrypted", "epoch 1"]),
    ] {
        let output = piped(hex.as_bytes());
        expect_status(&output, status);
        for line in lines {
            assert!(stdout(&output).contains(line), "{line} is not in {}", stdout(&output));
        }
    }
}

#[test]
fn what_is_not_recognised_fails_with_its_name() {
    for input in [&b""[..], b"hello, world", &[0xff, 0xfe, b'a', 0]] {
        let output = piped(input);
        expect_status(&output, 1);
        assert!(stderr(&output).contains("is not recognised"), "{}", stderr(&output));
    }
    expect_status(&run(["inspect", "/nonexistent/file"]), 1);
    expect_status(&run(["inspect", "a", "--profile", "p"]), 2);
    expect_status(&piped(b"-----BEGIN CERTIFICATE-----\nAAA"), 3);
}

#[test]
fn a_capture_of_an_enrolment_shows_its_handshake() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let capture = pki.beside("device.pcapng");
    let mut enroll = pki.device("enroll", server.uri());
    let output = enroll.arg("--pcap").arg(&capture).arg("--out").arg(pki.beside("out")).output().unwrap();
    expect_status(&output, 0);
    let output = inspect(&capture);
    expect_status(&output, 0);
    for line in ["capture (pcapng)", "ClientHello", "HelloVerifyRequest", "ServerHello", "ApplicationData, encrypted"] {
        assert!(stdout(&output).contains(line), "{line} is not in {}", stdout(&output));
    }
    let limited = muster().arg("inspect").arg(&capture).args(["--limit", "2"]).output().unwrap();
    assert!(stdout(&limited).contains("more packets are not shown"), "{}", stdout(&limited));
    // Renewal, as a dry run: the certificate of this CA is taken as known.
    let device = pki.beside("out/device.pem");
    let decided = decide(&pki, "CN=device-000001/serialNumber=000001", &device, &["--function", "sren"]);
    expect_status(&decided, 0);
    assert!(stdout(&decided).contains("assumed: the ledger has"), "{}", stdout(&decided));
}

/// Decides a request of a new key for `subject`.
fn decide(pki: &Pki, subject: &str, identity: &Path, more: &[&str]) -> Output {
    decide_linked(pki, subject, None, identity, more)
}

/// The same with a challengePassword.
fn decide_linked(pki: &Pki, subject: &str, challenge: Option<&str>, identity: &Path, more: &[&str]) -> Output {
    // With -subj, OpenSSL leaves out the attributes of its configuration.
    let name = subject.replace('/', "\n");
    let section = challenge.map_or(String::new(), |_| "attributes = attributes\n".to_owned());
    let attributes = challenge.map_or(String::new(), |text| format!("[attributes]\nchallengePassword = {text}\n"));
    let configuration = pki.beside("req.cnf");
    let text = format!("[req]\nprompt = no\ndistinguished_name = name\n{section}[name]\n{name}\n{attributes}");
    std::fs::write(&configuration, text).unwrap();
    let csr = pki.beside("new.csr");
    let key = pki.beside("new.key");
    let made = openssl([
        "req",
        "-config",
        configuration.to_str().unwrap(),
        "-new",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        csr.to_str().unwrap(),
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let mut command = muster();
    command.arg("inspect").arg(&csr).arg("--against").arg(pki.path("muster.toml")).arg("--as").arg(identity);
    command.args(more).output().unwrap()
}

#[test]
fn a_dry_run_decides_as_a_server_and_writes_nothing() {
    let pki = Pki::new();
    let files = || std::fs::read_dir(pki.dir()).unwrap().count();
    let (before, device) = (files(), pki.path("device/idevid.pem"));
    let issued = decide(&pki, "CN=device-000001/serialNumber=000001", &device, &["--json"]);
    expect_status(&issued, 0);
    let json: serde_json::Value = serde_json::from_slice(&issued.stdout).unwrap();
    assert_eq!(json["decision"]["fields"]["decision"], "would be issued", "{json}");
    let made = &json["decision"]["parts"][0]["fields"];
    assert_eq!(
        (&made["subject"], &made["issuer"]),
        (&"serialNumber=000001,CN=device-000001".into(), &"CN=Muster issuing CA".into())
    );
    assert!(json.to_string().contains("the ledger was not asked"), "{json}");

    let refused = decide(&pki, "CN=another", &device, &[]);
    expect_status(&refused, 3);
    assert!(
        stdout(&refused).contains("CN=another") && stderr(&refused).contains("est.sen.subject_mismatch"),
        "{}",
        stderr(&refused)
    );

    let renewal = decide(&pki, "CN=device-000001/serialNumber=000001", &device, &["--function", "sren"]);
    expect_status(&renewal, 3);
    assert!(stderr(&renewal).contains("est.sren.not_issued_here"), "{}", stderr(&renewal));

    let stranger = decide(&pki, "CN=device-03", &vector("foreign/plain.pem"), &[]);
    expect_status(&stranger, 3);
    assert!(stderr(&stranger).contains("dtls.certificate.unknown_issuer"), "{}", stderr(&stranger));

    expect_status(&decide(&pki, "CN=a", &device, &["--profile", "nonsense"]), 2);
    let handshake =
        muster().arg("inspect").arg(&device).arg("--against").arg(pki.path("muster.toml")).output().unwrap();
    expect_status(&handshake, 0);
    assert!(stdout(&handshake).contains("the handshake accepts the chain"), "{}", stdout(&handshake));
    assert_eq!(files(), before, "a dry run writes no file");
}

/// A link is taken for that of its session, unless no session can have it.
#[test]
fn a_dry_run_says_what_it_assumes_about_a_link() {
    let (pki, subject) = (Pki::new(), "CN=device-000001/serialNumber=000001");
    let device = pki.path("device/idevid.pem");
    for (link, status, line) in [
        ("AAECAwQFBgcICQoL", 0, "assumed: the request is linked to its session"),
        ("revoke me", 3, "is the tls-unique of no session"),
    ] {
        let decided = decide_linked(&pki, subject, Some(link), &device, &[]);
        expect_status(&decided, status);
        assert!(stdout(&decided).contains(line), "{}{}", stdout(&decided), stderr(&decided));
    }
    pki.require_linking();
    let unlinked = decide(&pki, subject, &device, &[]);
    expect_status(&unlinked, 3);
    assert!(stderr(&unlinked).contains("est.csr.challenge_absent"), "{}", stderr(&unlinked));
    expect_status(&decide_linked(&pki, subject, Some("AAECAwQFBgcICQoL"), &device, &[]), 0);
    let made = decide_linked(&pki, subject, Some("AAECAwQFBgcICQoL"), &device, &["--function", "skg"]);
    expect_status(&made, 0);
    assert!(!stdout(&made).contains("PRIVATE"), "{}", stdout(&made));
}

/// A request for a key that is encrypted to the key of the device's certificate is decided as the server decides it.
#[test]
fn a_dry_run_encrypts_to_what_a_server_encrypts_to() {
    let pki = Pki::new();
    let leaf = pki::pem::certificates(&std::fs::read(pki.path("device/idevid.pem")).unwrap()).unwrap().swap_remove(0);
    let leaf = pki::Certificate::parse(&leaf).unwrap();
    let id = leaf.subject_key_id().map_or_else(|| leaf.public_key().key_identifier().to_vec(), <[u8]>::to_vec);
    let csr = |named: &[u8]| {
        let random = ring::rand::SystemRandom::new();
        let key = pki::PrivateKey::generate(pki::Curve::P256, &random).unwrap();
        let key = pki::SigningKey::from_pkcs8(key.pkcs8(), &random).unwrap();
        let capabilities = vec![pki::oid::AES128_WRAP, pki::oid::AES256_WRAP, pki::oid::ECDH_SHA256_KDF];
        let asked = pki::KeyProtection { decrypt_key_id: None, asymm_decrypt_key_id: Some(named), capabilities };
        let additions = pki::make::CsrAdditions { key_protection: Some(&asked), ..Default::default() };
        let san = pki::GeneralNames::empty();
        let spec = pki::make::CsrSpec { subject: leaf.subject(), san: &san, challenge_password: None };
        pki::make::csr_with(&spec, &additions, &key, &random).unwrap()
    };
    for (name, named, status) in [("own.csr", &id[..], 0), ("unknown.csr", b"nobody", 3)] {
        let file = pki.beside(name);
        std::fs::write(&file, csr(named)).unwrap();
        let mut command = muster();
        command.arg("inspect").arg(&file).arg("--against").arg(pki.path("muster.toml"));
        let decided =
            command.arg("--as").arg(pki.path("device/idevid.pem")).args(["--function", "skg"]).output().unwrap();
        expect_status(&decided, status);
        assert!(!stdout(&decided).contains("no key to sign packages with"), "{}", stdout(&decided));
    }
}

/// A Registrar's decision ends at the upstream CA: what it would send, and nothing is sent.
#[test]
fn a_dry_run_of_a_registrar_names_the_upstream_and_sends_nothing() {
    let pki = Pki::new();
    // Its own CA has issued what the upstream would have issued.
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let renewing = pki.beside("renewing");
    expect_status(&pki.device("enroll", server.uri()).arg("--out").arg(&renewing).output().unwrap(), 0);
    drop(server);
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    upstream.set_nonblocking(true).unwrap();
    let url = format!("https://{}/.well-known/est", upstream.local_addr().unwrap());
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"server.pem\"\nkey = \"file:server.key\"\n\
         [authority]\nkind = \"registrar\"\nupstreams = [\"{url}\"]\ntrust = [\"ca/root.pem\"]\n\
         certificate = \"device/idevid.pem\"\nkey = \"file:device/idevid.key\"\n\
         [[profile]]\nname = \"site\"\nlabels = [\"\"]\nissuers = [\"ca/issuing.pem\"]\nupstream_label = \"field\"\n\
         manufacturers = [\"manufacturer/ca.pem\"]\ndevice_id = \"idevid:subject.serialNumber\"\nserver_keys = \"here\"\n\
         [ledger]\nurl = \"memory:\"\n"
    );
    std::fs::write(pki.path("muster.toml"), text).unwrap();
    let (factory, renewed) = (pki.path("device/idevid.pem"), renewing.join("device.pem"));
    let subject = "CN=device-000001/serialNumber=000001";
    for (identity, function, segment) in [
        (&factory, "sen", "simpleenroll"),
        (&renewed, "sren", "simplereenroll"),
        // The Registrar makes the key, and has it certified.
        (&factory, "skg", "simpleenroll"),
    ] {
        let decided = decide(&pki, subject, identity, &["--function", function]);
        expect_status(&decided, 0);
        let line = format!("would be sent to {url}/field/{segment}");
        assert!(stdout(&decided).contains(&line), "{line} is not in {}", stdout(&decided));
    }
    let refused = decide(&pki, "CN=device-000002/serialNumber=000002", &factory, &[]);
    expect_status(&refused, 3);
    assert!(stderr(&refused).contains("est.sen.subject_mismatch"), "{}", stderr(&refused));
    assert!(upstream.accept().is_err(), "nobody has connected");
}

/// A server's certificate without extKeyUsage is named as one by its names, also where it is not of a DNS name.
#[test]
fn a_server_certificate_without_extended_key_usage_gets_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let (key, pem) = (folder.path().join("key.pem"), folder.path().join("server.pem"));
    let made = openssl([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-subj",
        "/CN=est",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        key.to_str().unwrap(),
        "-out",
        pem.to_str().unwrap(),
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let output = inspect(&pem);
    assert!(stdout(&output).contains("no extKeyUsage, although it names a host"), "{}", stdout(&output));
    // Beside its key, as servers have it in one file.
    let both = [std::fs::read(&key).unwrap(), std::fs::read(&pem).unwrap()].concat();
    let output = piped(&both);
    assert!(stdout(&output).contains("no extKeyUsage, although it names a host"), "{}", stdout(&output));
}

/// RFC 9148 §4.8, Content-Format 280: the key of an answer to `/skg`, taken out of its collection and stored.
#[test]
fn a_key_that_is_encrypted_in_cms_is_shown_as_one() {
    let pki = Pki::new();
    let (content, message) = (pki.beside("content"), pki.beside("enveloped.der"));
    std::fs::write(&content, b"a key").unwrap();
    let arguments =
        ["cms", "-encrypt", "-binary", "-aes128", "-outform", "DER", "-secretkeyid", "6b656b31", "-secretkey"];
    let files = ["-in", content.to_str().unwrap(), "-out", message.to_str().unwrap()];
    let made = openssl(arguments.into_iter().chain(["000102030405060708090a0b0c0d0e0f"]).chain(files));
    assert!(made.status.success(), "{}", stderr(&made));
    let shown = inspect(&message);
    expect_status(&shown, 0);
    assert!(stdout(&shown).contains("encrypted private key in CMS (280)"), "{}", stdout(&shown));
    // The message as PEM is the same thing; one that was cut is not.
    let pem = pki.beside("enveloped.pem");
    let arguments = ["cms", "-cmsout", "-inform", "DER", "-outform", "PEM", "-in", message.to_str().unwrap()];
    let made = openssl(arguments.into_iter().chain(["-out", pem.to_str().unwrap()]));
    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stdout(&inspect(&pem)).contains("encrypted private key in CMS (280)"), "{}", stdout(&inspect(&pem)));
    let whole = std::fs::read(&message).unwrap();
    expect_status(&piped(&whole[..whole.len() - 1]), 3);
    // Well-formed as a whole, and broken inside: the version of EnvelopedData became a NULL.
    let mut broken = whole.clone();
    let at = whole.windows(3).position(|octets| octets == [0x02, 0x01, 0x02]).unwrap();
    broken[at..at + 3].copy_from_slice(&[0x05, 0x01, 0x02]);
    expect_status(&piped(&broken), 3);
}
