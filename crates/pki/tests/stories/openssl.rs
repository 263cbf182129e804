//! Against OpenSSL: it reads and verifies what we write, and we read and verify what it writes.
//!
//! These tests run the program `openssl` and fail if it is missing: a check that is skipped silently proves nothing.
#![allow(clippy::disallowed_methods, reason = "files are how the program openssl gets its input")]

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use pki::chain::{Anchors, ChainError, verify_device, verify_server};
use pki::issue::{IssuerCertificate, Template, TemplateSpec, validity};
use pki::make::{CsrSpec, ServerCertificateSpec, csr, server};
use pki::pem::{self, Label};
use pki::{
    AlgorithmError, Certificate, Csr, CsrFlaw, Curve, GeneralName, GeneralNames, KeyError, NameBuilder, PrivateKey,
    ServerName, SigningKey, cms, oid,
};
use tempfile::TempDir;

use crate::common::*;

/// A folder in which `openssl` runs.
pub(crate) struct OpenSsl(TempDir);

impl OpenSsl {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> &Self {
        fs::write(self.0.path().join(name), contents).unwrap();
        self
    }

    pub(crate) fn write_certificate(&self, name: &str, certificate: &Certificate) -> &Self {
        self.write(name, pem::encode(Label::Certificate, certificate.der()))
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.path().join(name)).unwrap()
    }

    pub(crate) fn output(&self, arguments: &str) -> Output {
        Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("the program `openssl` is needed (Debian: apt-get install openssl)")
    }

    /// Runs `openssl`, which must succeed; returns both outputs.
    pub(crate) fn run(&self, arguments: &str) -> String {
        let output = self.output(arguments);
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "openssl {arguments}\n{text}");
        text
    }
}

#[track_caller]
pub(crate) fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

fn issued(authority: &Authority) -> Certificate {
    let spec = TemplateSpec {
        client_auth: true,
        basic_constraints: true,
        crl_url: crl_url("http://pki.example.net/main.crl"),
        ca_issuers_url: Some("http://pki.example.net/issuing.cer".into()),
        ocsp_url: Some("http://ocsp.example.net".into()),
    };
    let issuer = Arc::new(IssuerCertificate::new(Arc::clone(&authority.certificate)).unwrap());
    let period = validity(&issuer, at(NOW), Duration::from_secs(365 * DAY), Duration::from_secs(3_600)).unwrap();
    let template = Template::new(issuer, &spec).unwrap();
    let subject =
        NameBuilder::new().push(oid::ORGANIZATION, "Exämple").unwrap().push(oid::COMMON_NAME, "meter 7").unwrap();
    let subject = subject.push(oid::SERIAL_NUMBER, "Wt1234").unwrap().finish().unwrap();
    let hardware = [0x30, 0x08, 0x06, 0x03, 0x2a, 0x03, 0x04, 0x04, 0x01, 0x07];
    let san = GeneralNames::new([
        GeneralName::Dns("meter-7.example.net"),
        GeneralName::Ip("192.0.2.7".parse().unwrap()),
        GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, value: &hardware },
    ])
    .unwrap();
    let to_be_signed = template.fill(&subject, &san, p256().spki(), &serial(), period).unwrap();
    to_be_signed.assemble(&authority.key.sign(&random(), to_be_signed.der()).unwrap()).unwrap()
}

#[test]
fn openssl_verifies_what_we_issue() {
    for curve in [Curve::P256, Curve::P384] {
        let root = Authority::root_on("Root", curve);
        let issuing = root.below("Issuing", Some(0));
        let device = issued(&issuing);
        let openssl = OpenSsl::new();
        openssl.write_certificate("root.pem", &root.certificate).write_certificate("issuing.pem", &issuing.certificate);
        openssl.write_certificate("device.pem", &device);
        let flags = format!("-x509_strict -check_ss_sig -attime {NOW}");
        let text = openssl
            .run(&format!("verify {flags} -purpose sslclient -CAfile root.pem -untrusted issuing.pem device.pem"));
        assert_contains(&text, &["device.pem: OK"]);
        let outside = openssl
            .output(&format!("verify -attime {} -CAfile root.pem -untrusted issuing.pem device.pem", NOW - 3_601));
        assert!(!outside.status.success(), "a second before notBefore");
        // X509_cmp_time: a certificate whose notAfter is now has expired for OpenSSL. By RFC 5280 it is valid for one more second.
        let last = NOW - 3_600 + 365 * DAY - 1;
        openssl.run(&format!("verify -attime {} -CAfile root.pem -untrusted issuing.pem device.pem", last - 1));
        let after =
            openssl.output(&format!("verify -attime {} -CAfile root.pem -untrusted issuing.pem device.pem", last + 1));
        assert!(!after.status.success(), "the second after notAfter");
    }
}

#[test]
fn openssl_reads_each_field_of_what_we_issue() {
    let openssl = OpenSsl::new();
    let device = issued(&Authority::root("Root"));
    openssl.write_certificate("device.pem", &device);
    let text = openssl.run("x509 -in device.pem -noout -text -nameopt RFC2253,utf8,-esc_msb");
    let last = "Dec 31 22:59:59 2026 GMT";
    assert_contains(
        &text,
        &[
            "Version: 3 (0x2)",
            "01:00:07:",
            "Issuer: CN=Root,O=Example",
            "Not Before: Dec 31 23:00:00 2025 GMT",
            last,
            "CN=meter 7,O=Exämple",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "TLS Web Client Authentication",
            "CA:FALSE",
            "DNS:meter-7.example.net, IP Address:192.0.2.7, othername:",
            "URI:http://pki.example.net/main.crl",
            "OCSP - URI:http://ocsp.example.net",
            "CA Issuers - URI:http://pki.example.net/issuing.cer",
            "ecdsa-with-SHA256",
        ],
    );
    assert!(!text.contains("Key Cert Sign"));
}

#[test]
fn openssl_verifies_what_we_make() {
    let openssl = OpenSsl::new();
    let (root, manufacturer) = (Authority::root("Root"), Authority::root("Manufacturer"));
    let names = ["est.example.net", "192.0.2.7", "2001:db8::7"].map(|name| ServerName::try_from(name).unwrap());
    let spec = ServerCertificateSpec { names: &names, serial: serial(), validity: years(2) };
    let server = server(&spec, p256().public_key(), root.as_parent(), &random()).unwrap();
    openssl.write_certificate("root.pem", &root.certificate).write_certificate("server.pem", &server);
    openssl.write_certificate("manufacturer.pem", &manufacturer.certificate);
    openssl.write_certificate("idevid.pem", &manufacturer.idevid("Wt1234"));
    let verify = format!("verify -attime {NOW} -CAfile root.pem -purpose sslserver");
    openssl.run(&format!("{verify} -verify_hostname est.example.net server.pem"));
    openssl.run(&format!("{verify} -verify_ip 192.0.2.7 server.pem"));
    openssl.run(&format!("{verify} -verify_ip 2001:db8::7 server.pem"));
    assert!(!openssl.output(&format!("{verify} -verify_hostname other.example.net server.pem")).status.success());
    openssl.run(&format!("verify -attime {NOW} -purpose sslclient -CAfile manufacturer.pem idevid.pem"));
    let text = openssl.run("x509 -in idevid.pem -noout -text");
    assert_contains(&text, &["serialNumber = Wt1234", "Not After : Dec 31 23:59:59 9999 GMT", "Digital Signature"]);
}

#[test]
fn openssl_verifies_our_requests() {
    for curve in [Curve::P256, Curve::P384] {
        let openssl = OpenSsl::new();
        let san = GeneralNames::new([GeneralName::Dns("meter-7.example.net")]).unwrap();
        let spec = CsrSpec { subject: &cn("meter 7"), san: &san, challenge_password: Some("dGxzLXVuaXF1ZQ==") };
        let der = csr(&spec, &key(curve), &random()).unwrap();
        openssl.write("device.csr", pem::encode(Label::CertificateRequest, &der));
        let text = openssl.run("req -in device.csr -noout -verify -text");
        // RFC 2986 §4.1: the version "shall be 0 for this version of the standard".
        let parts = [
            "verify OK",
            "Version: 1 (0x0)",
            "CN = meter 7",
            "challengePassword        :dGxzLXVuaXF1ZQ==",
            "DNS:meter-7.example.net",
        ];
        assert_contains(&text, &parts);
    }
}

#[test]
fn openssl_reads_our_cms_and_we_read_its() {
    let openssl = OpenSsl::new();
    let root = Authority::root("Root");
    let issuing = root.below("Issuing", Some(0));
    let both = [root.certificate.der(), issuing.certificate.der()];
    openssl.write("ours.der", cms::certs_only(&both));
    let text = openssl.run("pkcs7 -inform DER -in ours.der -print_certs -noout");
    assert_contains(&text, &["subject=O = Example, CN = Root", "subject=O = Example, CN = Issuing"]);
    openssl.run("cms -cmsout -print -noout -inform DER -in ours.der");

    openssl.write_certificate("root.pem", &root.certificate).write_certificate("issuing.pem", &issuing.certificate);
    openssl.run("crl2pkcs7 -nocrl -certfile root.pem -certfile issuing.pem -outform DER -out theirs.der");
    let theirs = openssl.read("theirs.der");
    let mut read = cms::parse_certs_only(&theirs).unwrap();
    read.sort_unstable();
    let mut sorted = both;
    sorted.sort_unstable();
    assert_eq!(read, sorted);
}

#[test]
fn we_read_what_openssl_makes() {
    let openssl = OpenSsl::new();
    openssl.run("ecparam -name secp384r1 -genkey -noout -out sec1.pem");
    openssl.run("pkcs8 -topk8 -nocrypt -in sec1.pem -out ca.key");
    openssl.run("req -x509 -new -key ca.key -sha384 -subj /C=US/O=Example/CN=Manufacturer -days 3650 -out ca.pem");
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out device.key");
    openssl.run(
        "req -new -key device.key -sha256 -subj /O=Example/CN=meter+serialNumber=Wt1234 -addext keyUsage=critical,digitalSignature \
         -addext subjectAltName=DNS:meter-7.example.net,URI:urn:dev:7 -out device.csr",
    );
    openssl.write("ext", "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n");
    openssl.run("x509 -req -in device.csr -CA ca.pem -CAkey ca.key -sha384 -CAcreateserial -days 30 -extfile ext -out device.pem");

    let certificate = |name: &str| Certificate::parse(&pem::certificates(&openssl.read(name)).unwrap()[0]).unwrap();
    let (authority, device) = (certificate("ca.pem"), certificate("device.pem"));
    let now = device.validity().not_before;
    let anchors = Anchors::new(vec![Arc::new(authority)]).unwrap();
    assert!(verify_device(&anchors, &[device.der()], now).is_ok());
    let name = ServerName::try_from("meter-7.example.net").unwrap();
    let refusal = verify_server(&anchors, &[device.der()], now, &name).unwrap_err();
    assert_eq!(refusal.error, ChainError::DeviceAsServer);

    let request = pem::certificate_request(&openssl.read("device.csr")).unwrap();
    let request = Csr::parse(request).unwrap().verify().unwrap();
    assert!(request.subject().matches(device.subject()));
    assert_eq!(request.subject().attribute(oid::SERIAL_NUMBER), Some("Wt1234"));
    assert!(request.requested().key_usage.unwrap().is_only_digital_signature());
    assert_eq!(
        request.san().iter().collect::<Vec<_>>(),
        [GeneralName::Dns("meter-7.example.net"), GeneralName::Uri("urn:dev:7")]
    );
    let key = pem::private_key(&openssl.read("device.key")).unwrap();
    assert_eq!(SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap().spki(), request.spki());
}

#[test]
fn openssl_reads_our_keys() {
    for (curve, name) in [(Curve::P256, "prime256v1"), (Curve::P384, "secp384r1")] {
        let openssl = OpenSsl::new();
        let key = PrivateKey::generate(curve, &random()).unwrap();
        openssl.write("our.key", pem::encode_private_key(&key).as_bytes());
        assert_contains(&openssl.run("pkey -in our.key -noout -text -check"), &["Key is valid", name]);
    }
    assert_eq!(SigningKey::from_pkcs8(&[0x30, 0x00], &random()).err(), Some(KeyError::NotAKey));
}

/// The public key that OpenSSL sees in a file, and the one that is read from it, as SubjectPublicKeyInfo.
#[track_caller]
fn assert_same_key(openssl: &OpenSsl, file: &str) {
    openssl.run(&format!("pkey -in {file} -pubout -ec_conv_form uncompressed -outform DER -out public.der"));
    let key = pem::private_key(&openssl.read(file)).unwrap();
    assert_eq!(SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap().spki(), openssl.read("public.der"), "{file}");
    // In the form that `ring` accepts, with the public key, which OpenSSL finds correct.
    openssl.write("ours.key", pem::encode_private_key(&key).as_bytes());
    assert_contains(&openssl.run("pkey -in ours.key -noout -check"), &["Key is valid"]);
}

#[test]
fn e64_a_key_without_its_public_key_is_read_in_every_form_that_openssl_writes() {
    for curve in ["prime256v1", "secp384r1"] {
        let openssl = OpenSsl::new();
        // EC PARAMETERS before the key; SEC 1 with its public key, without it, and compressed; PKCS #8 of each; all of these also in
        // DER.
        openssl.run(&format!("ecparam -name {curve} -genkey -out parameters.pem"));
        assert_contains(&String::from_utf8(openssl.read("parameters.pem")).unwrap(), &["BEGIN EC PARAMETERS"]);
        openssl.run("ec -in parameters.pem -out sec1.pem");
        openssl.run("ec -in parameters.pem -no_public -out sec1-private.pem");
        openssl.run("ec -in parameters.pem -conv_form compressed -out compressed.pem");
        for file in ["parameters", "sec1", "sec1-private", "compressed"] {
            assert_same_key(&openssl, &format!("{file}.pem"));
            openssl.run(&format!("pkcs8 -topk8 -nocrypt -in {file}.pem -out {file}.p8"));
            assert_same_key(&openssl, &format!("{file}.p8"));
            openssl.run(&format!("pkcs8 -topk8 -nocrypt -in {file}.pem -outform DER -out {file}.p8.der"));
            assert_same_key(&openssl, &format!("{file}.p8.der"));
        }
        openssl.run("ec -in sec1-private.pem -no_public -outform DER -out sec1-private.der");
        assert_same_key(&openssl, "sec1-private.der");
    }
}

#[test]
fn e64_what_is_wrong_with_a_key_of_openssls_is_said_and_what_converts_it_works() {
    let openssl = OpenSsl::new();
    let fault = |file: &str| pem::private_key(&openssl.read(file)).unwrap_err();
    let (kind, curve) =
        (|kind| AlgorithmError::UnsupportedKey { kind }, |curve| AlgorithmError::UnsupportedCurve { curve });
    for (arguments, expected) in [
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", kind("RSA")),
        ("genrsa -traditional 2048", kind("RSA")),
        ("genpkey -algorithm ED25519", kind("Ed25519")),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521", curve("P-521")),
        ("ecparam -name brainpoolP256r1 -genkey -noout", curve("brainpoolP256r1")),
    ] {
        let text = openssl.output(arguments);
        assert!(text.status.success(), "{arguments}");
        openssl.write("other.key", text.stdout);
        assert_eq!(fault("other.key"), pem::PemError::Key(KeyError::Algorithm(expected)), "{arguments}");
    }
    openssl.run("ecparam -name prime256v1 -genkey -noout -out plain.key");
    for (make, said) in [
        ("pkcs8 -topk8 -in plain.key -passout pass:abcd -out", "`ENCRYPTED PRIVATE KEY`"),
        ("pkcs8 -topk8 -in plain.key -passout pass:abcd -outform DER -out", "DER of an encrypted private key"),
        ("ec -in plain.key -aes128 -passout pass:abcd -out", "encrypted PEM block `EC PRIVATE KEY`"),
        ("pkey -in plain.key -ec_param_enc explicit -out", "not given by name"),
    ] {
        openssl.run(&format!("{make} the.key"));
        let error = fault("the.key");
        assert_contains(&error.to_string(), &[said]);
        let command = error.command("the.key", "the.key.new").unwrap();
        let passin = if said.contains("by name") { "" } else { " -passin pass:abcd" };
        openssl.run(&format!("{}{passin}", command.strip_prefix("openssl ").unwrap()));
        assert_same_key(&openssl, "the.key.new");
    }
}

#[test]
fn e02_requests_by_openssl_with_weak_or_other_algorithms_are_refused() {
    let openssl = OpenSsl::new();
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.key");
    openssl.run("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.key");
    openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1 -out k1.key");
    openssl.run("genpkey -algorithm ED25519 -out ed.key");
    let request = |key: &str, hash: &str| {
        openssl.run(&format!("req -new -key {key} {hash} -subj /CN=meter -out a.csr"));
        Csr::parse(pem::certificate_request(&openssl.read("a.csr")).unwrap()).err().map(|error| error.flaw)
    };
    let unsupported = |error| Some(CsrFlaw::Key(error));
    let signature = |algorithm| unsupported(AlgorithmError::UnsupportedSignature { algorithm });
    assert_eq!(request("ec.key", "-sha256"), None);
    assert_eq!(request("ec.key", "-sha1"), signature("ecdsa-with-SHA1"));
    assert_eq!(request("ec.key", "-sha512"), signature("ecdsa-with-SHA512"));
    assert_eq!(request("rsa.key", "-sha256"), unsupported(AlgorithmError::UnsupportedKey { kind: "RSA" }));
    assert_eq!(request("rsa.key", "-md5"), unsupported(AlgorithmError::UnsupportedKey { kind: "RSA" }));
    assert_eq!(request("ed.key", ""), unsupported(AlgorithmError::UnsupportedKey { kind: "Ed25519" }));
    assert_eq!(request("k1.key", "-sha256"), unsupported(AlgorithmError::UnsupportedCurve { curve: "secp256k1" }));
}

#[test]
fn e63_openssl_signs_with_either_hash_on_either_curve_and_we_read_it() {
    for (curve, hash) in [("P-256", "-sha384"), ("P-384", "-sha256"), ("P-256", "-sha256"), ("P-384", "-sha384")] {
        let openssl = OpenSsl::new();
        for name in ["ca", "middle", "device"] {
            openssl.run(&format!("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{curve} -out {name}.key"));
        }
        openssl.run(&format!("req -x509 -new -key ca.key {hash} -subj /CN=Manufacturer -days 3650 -out ca.pem"));
        openssl.write("ca.ext", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n");
        openssl.write("leaf.ext", "keyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth\n");
        for (name, issuer, extensions) in [("middle", "ca", "ca.ext"), ("device", "middle", "leaf.ext")] {
            openssl.run(&format!("req -new -key {name}.key {hash} -subj /CN={name} -out {name}.csr"));
            openssl.run(&format!(
                "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key {hash} -CAcreateserial -days 30 \
                 -extfile {extensions} -out {name}.pem"
            ));
        }
        let [ca, middle, device] = ["ca.pem", "middle.pem", "device.pem"]
            .map(|name| Certificate::parse(&pem::certificates(&openssl.read(name)).unwrap()[0]).unwrap());
        let now = device.validity().not_before;
        assert_eq!(ca.verify_signed_by(&ca), Ok(()), "{curve} {hash}");
        let anchors = Anchors::new(vec![Arc::new(ca)]).unwrap();
        let judged = verify_device(&anchors, &[device.der(), middle.der()], now);
        assert_eq!(judged.map(|verified| verified.anchor), Ok(0), "{curve} {hash}");
        let mut forged = device.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let refusal = verify_device(&anchors, &[&forged, middle.der()], now).unwrap_err();
        assert_eq!(refusal.error, ChainError::BadSignature, "{curve} {hash}");
        let request = pem::certificate_request(&openssl.read("device.csr")).unwrap();
        let request = Csr::parse(request).and_then(Csr::verify);
        assert_eq!(request.map(|request| request.spki().to_vec()), Ok(device.spki().to_vec()), "{curve} {hash}");
    }
}
