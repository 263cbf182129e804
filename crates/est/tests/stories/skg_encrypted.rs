//! Keys that the server makes and encrypts to a key of the device (RFC 7030 §4.4.2): OpenSSL takes apart what the server sends, and what cannot be
//! encrypted is refused.
#![allow(clippy::disallowed_methods, reason = "files are how the program openssl gets its input")]

use std::process::Command;
use std::sync::Arc;

use authority::{CaProfile, CaProfileSpec, KeyTypes};
use coap::{Code, ContentFormat};
use est::{DeliveredKey, KeyDelivery, Packing, Reason};
use pki::make::{self, CsrAdditions, CsrSpec};
use pki::pem::{Label, encode, encode_private_key};
use pki::{Certificate, GeneralNames, KeyEncryptionKeys, KeyProtection, Oid, oid};
use tempfile::TempDir;

use crate::support::raw::{Ask, POST, Raw, Said};
use crate::support::{Holder, Key, Pki, TestRandom, World};

const SHORT: &str = "000102030405060708090a0b0c0d0e0f";
const LONG: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn spec_of(pki: &Pki) -> CaProfileSpec {
    let keys = format!("{} {SHORT}\n{} {LONG}", hex::encode("short"), hex::encode("long"));
    let mut spec = pki.profile_spec("meters");
    spec.server_keys = true;
    spec.server_key_encryption_keys = Some(Arc::new(KeyEncryptionKeys::parse(keys.as_bytes()).unwrap()));
    spec
}

fn connected(change: impl FnOnce(&mut CaProfileSpec)) -> (World, Holder, Raw) {
    let pki = Pki::new();
    let mut spec = spec_of(&pki);
    change(&mut spec);
    let mut world = World::of(pki, vec![Arc::new(CaProfile::compile(spec).unwrap())], |_, _| {});
    let holder = world.pki.device(1);
    let raw = Raw::connect(&mut world, 1, &holder);
    (world, holder, raw)
}

fn symmetric<'a>(id: &'a str, capabilities: &[Oid<'a>]) -> KeyProtection<'a> {
    KeyProtection {
        decrypt_key_id: Some(id.as_bytes()),
        capabilities: capabilities.to_vec(),
        ..KeyProtection::default()
    }
}

fn asymmetric<'a>(id: &'a [u8], capabilities: &[Oid<'a>]) -> KeyProtection<'a> {
    KeyProtection { asymm_decrypt_key_id: Some(id), capabilities: capabilities.to_vec(), ..KeyProtection::default() }
}

fn request(holder: &Holder, protection: &KeyProtection<'_>) -> Vec<u8> {
    let spec = CsrSpec { subject: holder.certificate.subject(), san: &GeneralNames::empty(), challenge_password: None };
    let additions = CsrAdditions { key_protection: Some(protection), ..CsrAdditions::default() };
    make::csr_with(&spec, &additions, &Key::new().signing, &TestRandom::secure()).unwrap()
}

fn ask<'a>(path: &'a str, payload: &'a [u8]) -> Ask<'a> {
    Ask { method: POST, path, payload, content_format: Some(286), ..Ask::default() }
}

/// Fetches the answer to its end.
fn fetch(world: &mut World, raw: &mut Raw, path: &str, request: &[u8]) -> Vec<u8> {
    let mut said = raw.ask(world, &ask(path, request));
    assert_eq!((said.code, said.content_format), (Code::CHANGED, Some(ContentFormat::MULTIPART_CORE)));
    let mut body = said.payload.clone();
    while let Some(block) = said.block2.filter(|block| block.more) {
        let block2 = Some(coap::Block { num: block.num + 1, more: false, size: block.size });
        said = raw.ask(world, &Ask { method: POST, path, block2, ..Ask::default() });
        body.extend_from_slice(&said.payload);
    }
    body
}

fn assert_refused(said: &Said, reason: Reason) {
    assert_eq!((Some(said.code), said.diagnostic()), (reason.response_code(), reason.code()));
}

fn openssl(folder: &TempDir, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split_whitespace()).current_dir(folder.path()).output();
    let output = output.expect("the program `openssl` is needed (Debian: apt-get install openssl)");
    assert!(output.status.success(), "openssl {arguments}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Decrypts an answer with OpenSSL, verifies its signature, and compares the key in it with the certificate beside it.
fn taken_apart(world: &World, body: &[u8], packing: Packing, decrypt: &str, files: &[(&str, String)]) {
    let delivery = KeyDelivery::decode(body).unwrap();
    assert_eq!(delivery.packing, packing);
    let DeliveredKey::Enveloped(message) = delivery.key else { panic!("a key in plain") };
    let certificate = match packing {
        Packing::Single => delivery.certificate,
        Packing::CertsOnly => pki::cms::parse_certs_only(delivery.certificate).unwrap()[0],
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, contents: &[u8]| std::fs::write(folder.path().join(name), contents).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    files.iter().for_each(|(name, contents)| write(name, contents.as_bytes()));
    write("message.der", message);
    write("root.pem", encode(Label::Certificate, world.pki.root.certificate.der()).as_bytes());
    openssl(&folder, &format!("cms -decrypt -binary -inform DER -in message.der {decrypt} -out signed.der"));
    // OpenSSL reads a SignedData in a ContentInfo only.
    let mut signed = pki::der::Writer::default();
    signed.sequence(|out| {
        out.oid(oid::PKCS7_SIGNED_DATA);
        out.nested(pki::der::Tag::context_constructed(0), |out| out.raw(&read("signed.der")));
    });
    write("info.der", &signed.into_vec());
    openssl(
        &folder,
        "cms -verify -binary -inform DER -in info.der -CAfile root.pem -purpose any -no_check_time -signer signer.pem -out package.der",
    );
    let signer = pki::pem::certificates(&read("signer.pem")).unwrap();
    assert_eq!(signer[0], world.pki.server.certificate.der(), "the server made the key, and signs the package");
    let package = read("package.der");
    let key = package.iter().skip(1).position(|&octet| octet == 0x30).unwrap() + 1;
    write("key.der", &package[key..]);
    openssl(&folder, "pkey -inform DER -in key.der -pubout -outform DER -out public.der");
    assert_eq!(read("public.der"), Certificate::parse(certificate).unwrap().spki());
}

fn secret(id: &str, key: &str) -> String {
    format!("-secretkey {key} -secretkeyid {}", hex::encode(id))
}

#[test]
fn e39_openssl_takes_apart_what_is_encrypted_to_a_shared_key() {
    let (mut world, holder, mut raw) = connected(|_| {});
    for (id, key) in [("short", SHORT), ("long", LONG)] {
        for capabilities in [&[][..], &[oid::AES256_CBC]] {
            let request = request(&holder, &symmetric(id, capabilities));
            for (path, packing) in [("est/skg", Packing::CertsOnly), ("est/skc", Packing::Single)] {
                let body = fetch(&mut world, &mut raw, path, &request);
                taken_apart(&world, &body, packing, &secret(id, key), &[]);
            }
        }
    }
    assert_eq!(world.ledger.issued_count(), 8);
}

#[test]
fn e39_openssl_takes_apart_what_is_encrypted_to_the_key_of_the_device() {
    let (mut world, holder, mut raw) = connected(|_| {});
    let id = holder.certificate.public_key().key_identifier();
    for capabilities in [&[][..], &[oid::ECDH_SHA256_KDF, oid::AES256_WRAP, oid::AES256_CBC]] {
        let request = request(&holder, &asymmetric(&id, capabilities));
        let body = fetch(&mut world, &mut raw, "est/skg", &request);
        // The certificate has no subjectKeyIdentifier that OpenSSL could look for: it tries the key.
        let key = encode_private_key(&holder.key.private).to_string();
        taken_apart(&world, &body, Packing::CertsOnly, "-inkey device.key", &[("device.key", key)]);
    }
}

#[test]
fn e39_a_duplicate_gets_the_same_envelope_and_a_later_request_another() {
    let (mut world, holder, mut raw) = connected(|_| {});
    let request = request(&holder, &symmetric("short", &[]));
    let message = raw.message(&ask("est/skc", &request));
    let first = raw.send(&mut world, &message);
    assert_eq!(raw.send(&mut world, &message), first);
    assert_eq!(world.ledger.issued_count(), 1);
    let other = raw.message(&ask("est/skc", &request));
    assert_ne!(raw.send(&mut world, &other), first);
    assert_eq!(world.ledger.issued_count(), 2);
}

/// RFC 7030 §4.4.1.1, §4.4.1.2: "the request MUST be terminated and an error returned to the client".
#[test]
fn e39_encryption_that_cannot_be_given_is_refused_and_nothing_is_issued() {
    let (mut world, holder, mut raw) = connected(|_| {});
    let (own, other) = (&holder.certificate, &world.pki.device(2).certificate);
    let (own, other) = (own.public_key().key_identifier(), other.public_key().key_identifier());
    let both = KeyProtection { asymm_decrypt_key_id: Some(&own), ..symmetric("short", &[]) };
    for (protection, reason) in [
        (symmetric("another", &[]), Reason::SkgUnknownKey),
        (asymmetric(&other, &[]), Reason::SkgUnknownKey),
        (asymmetric(b"short", &[]), Reason::SkgUnknownKey),
        (both, Reason::SkgEncryption),
        (symmetric("short", &[oid::AES256_WRAP]), Reason::SkgEncryption),
    ] {
        let request = request(&holder, &protection);
        assert_refused(&raw.ask(&mut world, &ask("est/skg", &request)), reason);
    }
    assert_eq!(world.ledger.issued_count(), 0);
}

/// RFC 7030 §4.4.1.2: "the key MUST either explicitly support keyTransport or keyAgreement or its use MUST be unrestricted". Certificates of a profile
/// are for digitalSignature alone.
#[test]
fn e39_a_key_that_may_only_sign_is_not_agreed_with() {
    let (mut world, holder, mut raw) = connected(|_| {});
    let key = Key::new();
    let csr = crate::support::csr(holder.certificate.subject(), &key);
    let said = raw.ask(&mut world, &Ask { accept: Some(287), ..ask("est/sen", &csr) });
    let certificate = Arc::new(Certificate::parse(&said.payload).unwrap());
    let enrolled = Holder { chain: vec![said.payload.clone()], certificate, key };
    let mut raw = Raw::connect(&mut world, 2, &enrolled);
    let id = enrolled.certificate.public_key().key_identifier();
    let request = request(&enrolled, &asymmetric(&id, &[]));
    assert_refused(&raw.ask(&mut world, &ask("est/skg", &request)), Reason::SkgEncryption);
    assert_eq!(world.ledger.issued_count(), 1);
}

/// RFC 7030 §4.4: "The cipher suite used to return the private key and certificate MUST offer confidentiality commensurate with the private key being
/// delivered to the client." All suites have AES-128.
#[test]
fn e39_a_key_that_is_stronger_than_the_session_leaves_only_in_an_envelope_as_strong() {
    let (mut world, holder, mut raw) = connected(|spec| spec.key_types = KeyTypes { p256: false, p384: true });
    let id = holder.certificate.public_key().key_identifier();
    let plain = crate::support::csr(holder.certificate.subject(), &Key::new());
    for path in ["est/skg", "est/skc"] {
        assert_refused(&raw.ask(&mut world, &ask(path, &plain)), Reason::SkgCipher);
    }
    for weak in [symmetric("short", &[]), symmetric("long", &[oid::AES128_CBC]), asymmetric(&id, &[])] {
        let request = request(&holder, &weak);
        assert_refused(&raw.ask(&mut world, &ask("est/skg", &request)), Reason::SkgEncryption);
    }
    assert_eq!(world.ledger.issued_count(), 0);
    let request = request(&holder, &symmetric("long", &[]));
    let body = fetch(&mut world, &mut raw, "est/skg", &request);
    taken_apart(&world, &body, Packing::CertsOnly, &secret("long", LONG), &[]);
}
