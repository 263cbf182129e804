//! A key that the CA encrypts to the device: through the Registrar, which cannot open it, and taken apart by OpenSSL on the device's side.

use std::path::Path;
use std::process::Command;

use est::Operation;
use pki::make::{self, CsrAdditions, CsrSpec};
use pki::{Certificate, GeneralNames, KeyProtection, PrivateKey};

use crate::support::{Identity, PATIENCE, Pki, enrol, ring, signing};
use crate::{configuration, ready, refusal};

const KEK: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const KEK_ID: &str = "6b656b31";

pub(crate) fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output();
    let output = output.expect("openssl is missing: `cargo xtask setup` installs it");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The Registrar's certificate with id-kp-cmcRA, and the CA above it in `ra.pem`.
pub(crate) fn write_registrar(pki: &Pki) {
    let extensions = "subjectAltName=DNS:ra.example.net\nkeyUsage=critical,digitalSignature\n\
                      extendedKeyUsage=clientAuth,1.3.6.1.5.5.7.3.28\n";
    std::fs::write(pki.path("ra.ext"), extensions).unwrap();
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let run = |arguments: &str| openssl(pki.folder.path(), arguments);
    run(&format!(
        "req -x509 {new_key} -days 30 -subj /CN=ra -addext keyUsage=critical,keyCertSign -keyout ra.key -out ra.pem"
    ));
    run(&format!("req -new {new_key} -subj /CN=site -keyout registrar.key -out registrar.csr"));
    run(
        "x509 -req -days 30 -in registrar.csr -CA ra.pem -CAkey ra.key -CAcreateserial -extfile ra.ext -out registrar.pem",
    );
    crate::support::set_mode(&pki.path("registrar.key"), 0o600);
}

/// A CA with an HTTPS front that makes keys and knows one key-encryption key, and a Registrar before it.
fn site(pki: &Pki) -> (server::Handle, server::Handle) {
    std::fs::write(pki.path("keks.txt"), format!("{KEK_ID} {KEK}\n")).unwrap();
    crate::support::set_mode(&pki.path("keks.txt"), 0o600);
    let text = pki.configuration(&["127.0.0.1:0"]).replace(
        "ca = \"main\"\n",
        "ca = \"main\"\nserver_keys = true\nserver_key_encryption_keys = \"file:keks.txt\"\nregistrars = [\"site\"]\n",
    ) + "[https]\nlisten = \"127.0.0.1:0\"\n[registrar.site]\ntrust = [\"ra.pem\"]\nname = \"ra.example.net\"\n";
    let mut registrar = configuration(pki, &[], "");
    write_registrar(pki);
    let ca = pki.start(&text);
    let url = format!("https://{}/.well-known/est", ca.https_address().unwrap());
    registrar = registrar.replace("upstreams = []", &format!("upstreams = [{url:?}]"));
    registrar = registrar.replace("server_keys = \"here\"", "server_keys = \"upstream\"");
    let registrar = pki.start(&registrar);
    (ca, registrar)
}

fn keygen(device: &Identity, id: Option<&[u8]>) -> Operation {
    let san = GeneralNames::empty();
    let spec = CsrSpec { subject: device.certificate.subject(), san: &san, challenge_password: None };
    let wanted = KeyProtection { decrypt_key_id: id, ..KeyProtection::default() };
    let additions = CsrAdditions { key_protection: id.map(|_| &wanted), ..CsrAdditions::default() };
    let csr = make::csr_with(&spec, &additions, &signing(&device.key), &ring()).unwrap();
    Operation::GenerateKey { csr, packing: est::Packing::CertsOnly }
}

#[test]
fn a_key_in_an_envelope_reaches_the_device_through_the_registrar_and_openssl_takes_it_apart() {
    let pki = Pki::new();
    let (ca, registrar) = site(&pki);
    let device = pki.device(1);
    let mut client = ready(&pki, &registrar, &device);
    let id = hex::decode(KEK_ID).unwrap();
    let answer = client.ask(keygen(&device, Some(&id)), PATIENCE).unwrap_or_else(|fault| panic!("{fault}"));
    let est::Answer::EnvelopedKey(key) = answer else { panic!("{answer:?}") };
    std::fs::write(pki.path("message.der"), key.message()).unwrap();
    let run = |arguments: &str| openssl(pki.folder.path(), arguments);
    run(&format!(
        "cms -decrypt -binary -inform DER -in message.der -secretkey {KEK} -secretkeyid {KEK_ID} -out content.der"
    ));
    // The content is a SignedData without the ContentInfo around it.
    let content = std::fs::read(pki.path("content.der")).unwrap();
    let long = |tag: u8, contents: &[u8]| {
        let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], contents].concat()
    };
    let signed_data = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    let content_info = long(0x30, &[&signed_data[..], &long(0xa0, &content)].concat());
    std::fs::write(pki.path("signed.der"), content_info).unwrap();
    run("cms -verify -binary -inform DER -in signed.der -CAfile root.pem -purpose any -out package.der");
    // AsymmetricKeyPackage: a SEQUENCE of one PKCS #8.
    let package = std::fs::read(pki.path("package.der")).unwrap();
    let pkcs8 = (2..6).find_map(|at| PrivateKey::read(package.get(at..)?).ok()).expect("a PKCS #8");
    let certificate = Certificate::parse(key.certificate()).unwrap();
    assert_eq!(certificate.spki(), signing(&pkcs8).spki(), "the key of its certificate");
    assert_eq!(ca.issued(), 1);
    // It opens the Registrar's profile: the certificate is relayed like any other.
    let held = Identity { certificate, key: pkcs8 };
    enrol(&mut pki.connect(&held, registrar.addresses()[0]), &held);
}

#[test]
fn an_envelope_that_the_ca_cannot_make_is_refused_and_one_that_nobody_asked_for_is_not_made() {
    let pki = Pki::new();
    let (ca, registrar) = site(&pki);
    let device = pki.device(1);
    let mut client = ready(&pki, &registrar, &device);
    let unknown = client.ask(keygen(&device, Some(b"kek9")), PATIENCE).unwrap_err();
    assert_eq!(refusal(unknown).1, "est.upstream.bad_request");
    assert_eq!(ca.issued(), 0);
    let mut client = pki.connect(&device, registrar.addresses()[0]);
    let answer = client.ask(keygen(&device, None), PATIENCE).unwrap_or_else(|fault| panic!("{fault}"));
    assert!(matches!(answer, est::Answer::Key(_)), "{answer:?}");
}
