//! Keys that the server makes (RFC 7030 §4.4): where they are written, how they are renewed, and that the server keeps none.

use std::ffi::OsStr;
use std::path::Path;

use crate::common::{Pki, expect_status, openssl, stderr};
use crate::enrolment::{device_of, same_key, verify_with_openssl};

#[test]
fn e39_a_key_that_the_server_makes_is_written_with_its_certificate_and_renewed() {
    let pki = Pki::new();
    let server = pki.serve(&[]);
    let (uri, _) = server.families()[0];
    expect_status(&device_of(pki.device("skg", uri).arg("--csr").arg("/dev/null")), 2);
    for format in ["281", "287"] {
        let out = pki.beside(format);
        let made = device_of(pki.device("skg", uri).args(["--accept", format, "--out"]).arg(&out));
        expect_status(&made, 0);
        verify_with_openssl(&pki, &out.join("device.pem"));
        same_key(&out.join("device.pem"), &out.join("device.key"));
        let (mut renew, again) = (crate::common::muster(), pki.beside(&format!("{format}.new")));
        renew.args(["skg", "--server", uri, "--identity"]).arg(&out).arg("--out").arg(&again);
        expect_status(&device_of(&mut renew), 0);
        same_key(&again.join("device.pem"), &again.join("device.key"));
    }
}

/// The server ignores public key and signature of a request for `/skg` (RFC 9148 §4.8), and of no other one.
#[test]
fn a_request_for_a_key_needs_no_signature_that_verifies() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let (key, csr) = (pki.beside("ignored.key"), pki.beside("ignored.der"));
    let subject = "/CN=device-000001/serialNumber=000001";
    let made = openssl([
        OsStr::new("req"),
        OsStr::new("-new"),
        OsStr::new("-newkey"),
        OsStr::new("ec"),
        OsStr::new("-pkeyopt"),
        OsStr::new("ec_paramgen_curve:P-256"),
        OsStr::new("-nodes"),
        OsStr::new("-subj"),
        OsStr::new(subject),
        OsStr::new("-outform"),
        OsStr::new("DER"),
        OsStr::new("-keyout"),
        key.as_os_str(),
        OsStr::new("-out"),
        csr.as_os_str(),
    ]);
    assert!(made.status.success(), "{}", stderr(&made));
    let mut der = std::fs::read(&csr).unwrap();
    // The last octet of `s`: another signature, in the same form.
    *der.last_mut().unwrap() ^= 1;
    std::fs::write(&csr, der).unwrap();
    let out = pki.beside("made");
    let made = device_of(pki.device("skg", server.uri()).arg("--csr").arg(&csr).arg("--out").arg(&out));
    expect_status(&made, 0);
    same_key(&out.join("device.pem"), &out.join("device.key"));
    let refused = device_of(pki.device("enroll", server.uri()).arg("--csr").arg(&csr));
    expect_status(&refused, 1);
    assert!(stderr(&refused).contains("not signed with the key that it contains"), "{}", stderr(&refused));
}

/// What the private key of a PEM file looks like wherever it is written: as it is, in hexadecimal, and in base64 at each alignment.
fn spellings_of_key(path: &Path) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let key = pki::pem::private_key(&std::fs::read(path).unwrap()).unwrap();
    // RFC 5915 §3: ECPrivateKey has the scalar as an OCTET STRING of 32 bytes on P-256.
    let at = key.pkcs8().windows(2).position(|head| head == [0x04, 0x20]).unwrap() + 2;
    let scalar = &key.pkcs8()[at..at + 32];
    let base64 = (0..3).map(|skipped| {
        let text = base64::engine::general_purpose::STANDARD.encode(&scalar[skipped..]);
        text.as_bytes()[..36].to_vec()
    });
    let hex = hex::encode(scalar);
    [scalar.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()].into_iter().chain(base64).collect()
}

/// The folder of the server has its ledger with the audit, the journal and the log of transactions.
#[test]
fn e39_a_key_that_the_server_makes_is_in_no_file_of_the_server_and_not_in_its_log() {
    let pki = Pki::new();
    let server = pki.serve_with(&["--listen", "127.0.0.1:0"], &[("MUSTER_LOG", "debug")]);
    let out = pki.beside("made");
    expect_status(&device_of(pki.device("skg", server.uri()).arg("--out").arg(&out)), 0);
    let spellings = spellings_of_key(&out.join("device.key"));
    let finds = |text: &[u8]| spellings.iter().any(|one| text.windows(one.len()).any(|window| window == one));
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (mut folders, mut searched) = (vec![pki.dir()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in files(&folder) {
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                assert!(!finds(&std::fs::read(&path).unwrap()), "{} holds the key", path.display());
                searched.push(path.file_name().unwrap().to_owned());
            }
        }
    }
    assert!(searched.iter().any(|name| name == "ledger.db-wal"), "while the server runs: {searched:?}");
    let (status, said) = server.terminate();
    assert_eq!(status, Some(0));
    assert!(said.contains("skg") && !finds(said.as_bytes()), "{said}");
    assert!(!finds(&std::fs::read(pki.path("ledger.db")).unwrap()));
}

/// What `--trace=hex` shows of the messages: the octets of each dump without their offsets, in one text.
fn dumped(trace: &str) -> String {
    let rows = trace.lines().filter_map(|line| line.strip_prefix("          "));
    let octets = rows.filter(|row| row.get(4..6) == Some("  ")).flat_map(|row| row[6..].split(' '));
    octets.collect()
}

/// A trace is pasted into a report: it shows the headers of the answer, and none of the key in it, whatever the size of the blocks.
#[test]
fn e39_a_trace_in_hexadecimal_withholds_the_key() {
    let pki = Pki::new();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    for block in ["64", "1024"] {
        let out = pki.beside(block);
        let made =
            device_of(pki.device("skg", server.uri()).args(["--trace=hex", "--block", block, "--out"]).arg(&out));
        expect_status(&made, 0);
        let said = stderr(&made);
        let octets = dumped(&said);
        assert!(octets.contains("736b67"), "the path of the request is in the dump: {said}");
        // A block may end inside the scalar: any eight octets of it give it away.
        for spelling in spellings_of_key(&out.join("device.key")) {
            for part in spelling.windows(16) {
                let finds = |text: &[u8]| text.windows(part.len()).any(|window| window == part);
                assert!(!finds(octets.as_bytes()) && !finds(said.as_bytes()), "--block {block}: {said}");
            }
        }
        assert!(said.contains("octets withheld: private key"), "{said}");
    }
}

/// The key is opened and installed, and OpenSSL finds that it belongs to its certificate.
#[test]
fn e39_a_key_that_the_server_encrypts_is_opened_and_written() {
    use std::os::unix::fs::PermissionsExt as _;

    const LINE: &str = "6b656b31 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    let pki = Pki::new();
    let secret = |name: &str, text: &str| {
        let path = pki.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    secret("keks.txt", &format!("# shared\n6b656b32 {}\n{LINE}", "17".repeat(16)));
    let (own, wrong, unknown) = (
        secret("own.txt", LINE),
        secret("wrong.txt", &format!("6b656b31 {}\n", "00".repeat(32))),
        secret("unknown.txt", &format!("6b656b33 {}\n", "00".repeat(32))),
    );
    let configuration = std::fs::read_to_string(pki.path("muster.toml")).unwrap();
    let with_keys = configuration.replace("# server_key_encryption_keys = ", "server_key_encryption_keys = ");
    assert_ne!(configuration, with_keys);
    std::fs::write(pki.path("muster.toml"), with_keys).unwrap();
    let server = pki.serve(&["--listen", "127.0.0.1:0"]);
    let uri = server.uri();
    let skg = |name: &str, options: &[&OsStr]| {
        let out = pki.beside(name);
        (device_of(pki.device("skg", uri).args(options).arg("--out").arg(&out)), out)
    };
    let decrypt_key = OsStr::new("--decrypt-key");
    for (name, options) in
        [("shared", vec![decrypt_key, own.as_os_str()]), ("identity", vec![OsStr::new("--decrypt-with-identity")])]
    {
        let (made, out) = skg(name, &options);
        expect_status(&made, 0);
        assert!(!stderr(&made).contains("nobody signed"), "{}", stderr(&made));
        verify_with_openssl(&pki, &out.join("device.pem"));
        same_key(&out.join("device.pem"), &out.join("device.key"));
    }
    let (made, out) = skg("wrong", &[decrypt_key, wrong.as_os_str()]);
    expect_status(&made, 1);
    assert!(stderr(&made).contains("cannot be decrypted with this key"), "{}", stderr(&made));
    assert!(!out.exists(), "nothing is kept");
    let (made, out) = skg("unknown", &[decrypt_key, unknown.as_os_str()]);
    expect_status(&made, 3);
    assert!(stderr(&made).contains("est.skg.unknown_encryption_key"), "{}", stderr(&made));
    assert!(!out.exists());
    // The certificate of a profile is for signatures alone: the client says so before it asks.
    let mut again = crate::common::muster();
    again.args(["skg", "--server", uri, "--decrypt-with-identity", "--identity"]).arg(pki.beside("shared"));
    let refused = device_of(again.arg("--out").arg(pki.beside("again")));
    expect_status(&refused, 1);
    assert!(stderr(&refused).contains("keyUsage"), "{}", stderr(&refused));
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (made, _) = skg("readable", &[decrypt_key, own.as_os_str()]);
    expect_status(&made, 1);
    assert!(stderr(&made).contains("others can read it"), "{}", stderr(&made));
}
