//! Keys that the server makes: what OpenSSL says of them, and the forms in which a client reads one.

use pki::der::{Reader, Tag, Writer};
use pki::{Certificate, Curve, GeneratedKey, KeyError, PrivateKey, SigningKey};

use crate::common::*;
use crate::openssl::{OpenSsl, assert_contains};

/// A certificate for the key, as an authority issues one.
fn certificate(root: &Authority, key: &GeneratedKey) -> Certificate {
    let mut raw = Raw::device(&p256());
    raw.spki = key.public_key_info().der().to_vec();
    Certificate::parse(&raw.signed_by(root)).unwrap()
}

#[test]
fn openssl_accepts_the_key_and_its_certificate() {
    let root = Authority::root("Root");
    for (curve, bits) in [(Curve::P256, "256 bit"), (Curve::P384, "384 bit")] {
        let key = GeneratedKey::generate(curve, &random()).unwrap();
        let openssl = OpenSsl::new();
        openssl.write("key.der", key.pkcs8()).write_certificate("cert.pem", &certificate(&root, &key));
        let shown = openssl.run("pkey -inform DER -in key.der -check -text -noout");
        assert_contains(&shown, &["Key is valid", bits]);
        let public = openssl.run("pkey -inform DER -in key.der -pubout");
        assert_eq!(openssl.run("x509 -in cert.pem -pubkey -noout"), public);
        // A PKCS #8 as OpenSSL writes it has the same octets.
        openssl.run("pkcs8 -topk8 -nocrypt -inform DER -in key.der -outform DER -out again.der");
        assert_eq!(openssl.read("again.der"), key.pkcs8());
    }
}

#[test]
fn a_client_reads_the_key_and_finds_it_in_the_certificate() {
    let root = Authority::root("Root");
    for curve in [Curve::P256, Curve::P384] {
        let key = GeneratedKey::generate(curve, &random()).unwrap();
        let read = PrivateKey::read(key.pkcs8()).unwrap();
        assert_eq!(read.pkcs8(), key.pkcs8());
        let signing = SigningKey::from_pkcs8(read.pkcs8(), &random()).unwrap();
        assert_eq!((signing.spki(), certificate(&root, &key).spki()), (key.spki(), key.spki()));
        let signature = signing.sign(&random(), b"message").unwrap();
        assert_eq!(signing.public_key().verify(b"message", signature.as_bytes()), Ok(()));
        let again = GeneratedKey::generate(curve, &random()).unwrap();
        assert_ne!(again.pkcs8(), key.pkcs8());
        assert_eq!(key.into_private_key().pkcs8(), read.pkcs8());
    }
}

/// RFC 5958 §2: version 1 or, with `publicKey [1]`, version 2. RFC 5915 §3: parameters and public key are optional inside.
fn form(version: u8, key: &GeneratedKey, inner: Option<&[u8]>, outer: Option<&[u8]>) -> Vec<u8> {
    let mut fields = Reader::sequence(key.pkcs8()).unwrap();
    fields.expect(Tag::INTEGER).unwrap();
    let algorithm = fields.expect_element(Tag::SEQUENCE).unwrap().whole;
    let mut private = Reader::sequence(fields.expect(Tag::OCTET_STRING).unwrap()).unwrap();
    private.expect(Tag::INTEGER).unwrap();
    let scalar = private.expect(Tag::OCTET_STRING).unwrap();
    let mut out = Writer::default();
    out.sequence(|out| {
        out.unsigned(&[version]);
        out.raw(algorithm);
        out.nested(Tag::OCTET_STRING, |out| {
            out.sequence(|out| {
                out.unsigned(&[1]);
                out.element(Tag::OCTET_STRING, scalar);
                if let Some(point) = inner {
                    out.nested(Tag::context_constructed(1), |out| out.bit_string(point));
                }
            });
        });
        if let Some(point) = outer {
            out.element(Tag::context(1), &[&[0], point].concat());
        }
    });
    out.into_vec()
}

#[test]
fn a_client_reads_every_form_of_pkcs_8() {
    for curve in [Curve::P256, Curve::P384] {
        let key = GeneratedKey::generate(curve, &random()).unwrap();
        let other = GeneratedKey::generate(curve, &random()).unwrap();
        let point = |key: &GeneratedKey| key.spki()[key.spki().len() - curve.point_len()..].to_vec();
        let (ours, theirs) = (point(&key), point(&other));
        let read = |der: Vec<u8>| PrivateKey::read(&der).map(|read| read.pkcs8() == key.pkcs8());
        assert_eq!(read(form(0, &key, None, None)), Ok(true), "without the public key");
        assert_eq!(read(form(0, &key, Some(&ours), None)), Ok(true));
        assert_eq!(read(form(1, &key, None, Some(&ours))), Ok(true), "OneAsymmetricKey, version 2");
        assert_eq!(read(form(1, &key, Some(&ours), Some(&ours))), Ok(true));
        assert_eq!(read(form(0, &key, Some(&theirs), None)), Err(KeyError::PublicKey));
        assert_eq!(read(form(1, &key, Some(&ours), Some(&theirs))), Err(KeyError::PublicKey));
        assert_eq!(read(form(2, &key, None, None)), Err(KeyError::Version));
    }
}
