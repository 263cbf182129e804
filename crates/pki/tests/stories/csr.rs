//! Certification requests: proof of possession, and what a request may and may not contain.

use pki::der::{DerError, Tag, Writer};
use pki::linking::{LinkingText, SessionLink};
use pki::make::{CsrAdditions, CsrSpec, csr, csr_with, csr_with_extensions};
use pki::{
    AlgorithmError, Csr, CsrFlaw, Curve, GeneralName, GeneralNames, GeneralNamesError, KeyProtection, Name, Oid,
    SignatureAlgorithm, SigningKey, VerifiedCsr, oid,
};

use crate::common::*;

fn request(key: &SigningKey, subject: &Name, challenge_password: Option<&str>) -> Vec<u8> {
    csr(&CsrSpec { subject, san: &GeneralNames::empty(), challenge_password }, key, &random()).unwrap()
}

fn verify(der: Vec<u8>) -> Result<VerifiedCsr, CsrFlaw> {
    Csr::parse(der).and_then(Csr::verify).map_err(|error| error.flaw)
}

fn flaw(der: Vec<u8>) -> Option<CsrFlaw> {
    Csr::parse(der).err().map(|error| error.flaw)
}

/// A request whose info is written by hand: `attributes` are the contents of `[0]`; without them, `[0]` is
/// absent.
fn raw(key: &SigningKey, spki: &[u8], subject: &[u8], attributes: Option<&[u8]>) -> Vec<u8> {
    let mut info = Writer::default();
    info.sequence(|info| {
        info.unsigned(&[0]);
        info.raw(subject);
        info.raw(spki);
        if let Some(attributes) = attributes {
            info.element(Tag::context_constructed(0), attributes);
        }
    });
    signed(&info.into_vec(), key)
}

#[test]
fn a_request_says_what_was_asked() {
    for curve in [Curve::P256, Curve::P384] {
        let (key, subject) = (key(curve), cn("meter 7"));
        let san = GeneralNames::new([GeneralName::Dns("meter-7.example.net")]).unwrap();
        let spec = CsrSpec { subject: &subject, san: &san, challenge_password: Some("tls-unique") };
        let der = csr(&spec, &key, &random()).unwrap();
        let verified = verify(der.clone()).unwrap();
        assert_eq!((verified.subject(), verified.san()), (&subject, &san));
        assert_eq!((verified.spki(), verified.public_key()), (key.spki(), key.public_key()));
        assert_eq!((verified.challenge_password(), verified.der()), (Some("tls-unique"), &der[..]));
        assert_eq!(verified.digest(), pki::Digest::of(&der));
        assert_eq!(*verified.requested(), pki::Requested::default());
        let (public_key, names) = verified.into_certifiable();
        assert_eq!((public_key.der(), names), (key.spki(), san));
    }
}

fn with(challenge_password: Option<&str>, additions: &CsrAdditions<'_>) -> VerifiedCsr {
    let spec = CsrSpec { subject: &cn("meter"), san: &GeneralNames::empty(), challenge_password };
    verify(csr_with(&spec, additions, &p256(), &random()).unwrap()).unwrap()
}

#[test]
fn e03_a_request_is_linked_to_one_session() {
    let (session, other) = ([7; 12], [8; 12]);
    let text = LinkingText::of(&session);
    let request = with(Some(text.as_str()), &CsrAdditions::default());
    assert_eq!((request.link(&session), request.link(&other)), (SessionLink::Matches, SessionLink::Mismatch));
    assert_eq!(with(None, &CsrAdditions::default()).link(&session), SessionLink::Absent);

    // RFC 7894 §3.3 gives the same text an attribute of its own.
    let additions = CsrAdditions { identity_linking: Some(text.as_str()), ..CsrAdditions::default() };
    let request = with(None, &additions);
    assert_eq!((request.identity_linking(), request.challenge_password()), (Some(text.as_str()), None));
    assert_eq!((request.link(&session), request.link(&other)), (SessionLink::Matches, SessionLink::Mismatch));

    // The challengePassword in the example of RFC 9148 is not the base64 of anything.
    let example = verify(vector(SEN_REQUEST)).unwrap();
    assert_eq!(example.link(&session), SessionLink::Mismatch);
}

/// RFC 7030 §4.4.1: how a server-generated key has to be encrypted.
#[test]
fn a_request_names_the_key_and_the_algorithms_for_a_generated_key() {
    assert!(!with(None, &CsrAdditions::default()).key_protection().is_wanted());
    let protection = KeyProtection {
        decrypt_key_id: Some(b"kek 1"),
        asymm_decrypt_key_id: Some(&[7; 20]),
        capabilities: vec![oid::SHA256, oid::SHA384],
    };
    let additions = CsrAdditions { key_protection: Some(&protection), ..CsrAdditions::default() };
    let request = with(Some("x"), &additions);
    assert_eq!(request.key_protection(), protection);
    assert!(request.key_protection().is_wanted());

    let only_capabilities = KeyProtection { decrypt_key_id: None, asymm_decrypt_key_id: None, ..protection };
    let additions = CsrAdditions { key_protection: Some(&only_capabilities), ..CsrAdditions::default() };
    assert!(!with(None, &additions).key_protection().is_wanted(), "they ask for nothing by themselves");
}

#[test]
fn e20_the_attributes_of_est_are_read_strictly() {
    let long = [&[4, 65][..], &[0; 65]].concat();
    let many = [&[0x30, 0x81, 165][..], &[0x30, 3, 6, 1, 0x2a].repeat(33)].concat();
    let text = [12, 1, b'x'];
    for (id, values, flaw) in [
        (oid::DECRYPT_KEY_ID, &[4, 0][..], CsrFlaw::DecryptKey),
        (oid::DECRYPT_KEY_ID, &long, CsrFlaw::DecryptKey),
        (oid::ASYMM_DECRYPT_KEY_ID, &[4, 0], CsrFlaw::DecryptKey),
        (oid::ASYMM_DECRYPT_KEY_ID, &[4, 1, 1, 4, 1, 2], CsrFlaw::Der(DerError::Trailing)),
        (oid::SMIME_CAPABILITIES, &many, CsrFlaw::Capabilities),
        (oid::EST_IDENTITY_LINKING, &[12, 0], CsrFlaw::IdentityLinking),
        (oid::EST_IDENTITY_LINKING, &[2, 1, 7], CsrFlaw::IdentityLinking),
        (oid::CHALLENGE_PASSWORD, &text, CsrFlaw::RepeatedAttribute),
    ] {
        let spec = CsrSpec { subject: &cn("meter"), san: &GeneralNames::empty(), challenge_password: Some("x") };
        let additions = CsrAdditions { attributes: &[(id, values)], ..CsrAdditions::default() };
        let der = csr_with(&spec, &additions, &p256(), &random()).unwrap();
        assert_eq!(self::flaw(der), Some(flaw), "{id} {values:02x?}");
    }
}

#[test]
fn attributes_extensions_and_algorithm_are_shown_as_they_are() {
    let usage: (Oid<'_>, bool, &[u8]) = (oid::KEY_USAGE, true, DIGITAL_SIGNATURE);
    let additions = CsrAdditions {
        extensions: &[usage],
        attributes: &[(oid::CMC_RA, &[5, 0]), (oid::OCSP, &[])],
        ..CsrAdditions::default()
    };
    let request = with(Some("x"), &additions);
    assert_eq!(request.extensions().collect::<Vec<_>>(), [usage]);
    let attributes: Vec<_> = request.attributes().collect();
    assert_eq!(attributes.len(), 4);
    assert!(attributes.contains(&(oid::CMC_RA, &[5, 0])) && attributes.contains(&(oid::OCSP, &[])));
    assert!(attributes.contains(&(oid::CHALLENGE_PASSWORD, &[12, 1, b'x'])));
    assert_eq!(request.signature_algorithm(), SignatureAlgorithm::EcdsaWithSha256);
    assert_eq!(verify(vector(SKG_REQUEST)).unwrap().attributes().count(), 0);
}

#[test]
fn e01_a_request_with_a_wrong_signature_proves_nothing() {
    let der = request(&p256(), &cn("meter"), None);
    let mut bad = der.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert_eq!(verify(bad).err(), Some(CsrFlaw::ProofOfPossession));
    // A changed subject under an honest signature.
    let at = der.windows(5).position(|window| window == b"meter").unwrap();
    let mut bad = der;
    bad[at] = b'M';
    assert_eq!(verify(bad).err(), Some(CsrFlaw::ProofOfPossession));
}

#[test]
fn e02_a_request_signed_with_another_key_or_a_weak_hash_is_refused() {
    let (mine, theirs) = (p256(), p256());
    let stolen = raw(&mine, theirs.spki(), cn("meter").der(), Some(&[]));
    assert_eq!(verify(stolen).err(), Some(CsrFlaw::ProofOfPossession));

    let relabel = |algorithm: &[u8]| {
        let mut der = request(&mine, &cn("meter"), None);
        let sha256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        let at = der.windows(8).position(|window| window == sha256).unwrap();
        der[at..at + 8].copy_from_slice(algorithm);
        flaw(der)
    };
    let unsupported = |algorithm| Some(CsrFlaw::Key(AlgorithmError::UnsupportedSignature { algorithm }));
    assert_eq!(relabel(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1]), unsupported("ecdsa-with-SHA224"));
    assert_eq!(relabel(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4]), unsupported("ecdsa-with-SHA512"));
    // ecdsa-with-SHA1, and md5WithRSAEncryption with its NULL.
    let signed_by = |algorithm: &[u8]| {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.sequence(|info| {
                info.unsigned(&[0]);
                info.raw(cn("meter").der());
                info.raw(mine.spki());
            });
            out.raw(algorithm);
            out.bit_string(&[0x30, 0x00]);
        });
        flaw(out.into_vec())
    };
    assert_eq!(
        signed_by(&[0x30, 0x09, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]),
        unsupported("ecdsa-with-SHA1")
    );
    let md5 = [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4, 0x05, 0x00];
    assert_eq!(signed_by(&md5), unsupported("md5WithRSAEncryption"));
    // SHA-384 is allowed with a P-256 key; a signature by another key, on P-384, proves nothing.
    let p384 = key(Curve::P384);
    let stolen = raw(&p384, mine.spki(), cn("meter").der(), Some(&[]));
    assert_eq!(verify(stolen).err(), Some(CsrFlaw::ProofOfPossession));
}

#[test]
fn e21_keys_off_the_curve_or_on_another_one_are_refused() {
    let key = p256();
    let subject = cn("meter");
    let with_spki = |spki: &[u8]| verify(raw(&key, spki, subject.der(), Some(&[]))).err();
    let spki = |curve: &[u8], point: &[u8]| {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.sequence(|out| {
                out.oid(oid::EC_PUBLIC_KEY);
                out.raw(curve);
            });
            out.bit_string(point);
        });
        out.into_vec()
    };
    let named = |oid: Oid<'_>| [&[0x06, u8::try_from(oid.contents().len()).unwrap()][..], oid.contents()].concat();
    let (p256_name, p384_name) = (named(oid::SECP256R1), named(oid::SECP384R1));
    let point = key.public_key().point().to_vec();

    let mut off = point.clone();
    off[64] ^= 1;
    assert!(p256::PublicKey::from_sec1_bytes(&off).is_err(), "another implementation agrees that it is off the curve");
    assert_eq!(with_spki(&spki(&p256_name, &off)), Some(CsrFlaw::ProofOfPossession));
    let point_error = |curve| Some(CsrFlaw::Key(AlgorithmError::Point { curve }));
    assert_eq!(with_spki(&spki(&p256_name, &[0])), point_error(Curve::P256), "infinity");
    assert_eq!(with_spki(&spki(&p256_name, &[])), point_error(Curve::P256));
    let compressed = [&[2 + (point[64] & 1)][..], &point[1..33]].concat();
    assert_eq!(with_spki(&spki(&p256_name, &compressed)), point_error(Curve::P256));
    assert_eq!(with_spki(&spki(&p384_name, &point)), point_error(Curve::P384), "P-384 in name only");
    let secp256k1 = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];
    assert_eq!(
        with_spki(&spki(&secp256k1, &point)),
        Some(CsrFlaw::Key(AlgorithmError::UnsupportedCurve { curve: "secp256k1" }))
    );
    let specified = [0x30, 0x03, 0x02, 0x01, 0x01]; // specifiedCurve, as in CVE-2020-0601
    assert_eq!(with_spki(&spki(&specified, &point)), Some(CsrFlaw::Key(AlgorithmError::UnnamedCurve)));
    let mut rsa = Writer::default();
    rsa.sequence(|out| {
        out.raw(&[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 0x05, 0x00]);
        out.bit_string(&[0x30, 0x06, 0x02, 0x01, 0x21, 0x02, 0x01, 0x03]);
    });
    assert_eq!(with_spki(&rsa.into_vec()), Some(CsrFlaw::Key(AlgorithmError::UnsupportedKey { kind: "RSA" })));
}

#[test]
fn e15_what_a_request_asks_for_is_shown_and_not_hidden() {
    let (key, subject, san) = (p256(), cn("meter"), GeneralNames::empty());
    let spec = CsrSpec { subject: &subject, san: &san, challenge_password: None };
    let asks = |id, value: &[u8]| {
        let der = csr_with_extensions(&spec, &[(id, true, value)], &key, &random()).unwrap();
        *verify(der).unwrap().requested()
    };
    assert!(asks(oid::BASIC_CONSTRAINTS, CA).is_ca);
    assert!(asks(oid::KEY_USAGE, CERT_SIGN).key_usage.unwrap().key_cert_sign());
    let any = [0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x25, 0x00];
    assert!(asks(oid::EXTENDED_KEY_USAGE, &any).extended_key_usage.unwrap().any);
    let policies = [0x30, 0x06, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03];
    assert!(asks(oid::CERTIFICATE_POLICIES, &policies).others);
    assert!(asks(oid::SUBJECT_KEY_IDENTIFIER, &[0x04, 0x01, 0x07]).others);
    assert!(asks(oid::AUTHORITY_KEY_IDENTIFIER, &[0x30, 0x03, 0x80, 0x01, 0x07]).others);
}

#[test]
fn e16_alternative_names_are_read_strictly() {
    let (key, subject, san) = (p256(), cn("meter"), GeneralNames::empty());
    let spec = CsrSpec { subject: &subject, san: &san, challenge_password: None };
    let asks = |value: &[u8]| {
        let der = csr_with_extensions(&spec, &[(oid::SUBJECT_ALT_NAME, false, value)], &key, &random()).unwrap();
        verify(der)
    };
    let nul = b"\x30\x09\x82\x07good\0.b";
    assert_eq!(asks(nul).err(), Some(CsrFlaw::AlternativeNames(GeneralNamesError::Der(DerError::Text))));
    assert_eq!(asks(&[0x30, 0x00]).err(), Some(CsrFlaw::AlternativeNames(GeneralNamesError::Empty)));
    let wildcard = asks(b"\x30\x05\x82\x03*.a").unwrap();
    assert_eq!(wildcard.san().iter().next().unwrap().check(), Err(GeneralNamesError::Syntax));
}

#[test]
fn e03_the_challenge_password_is_one_text_of_a_reasonable_size() {
    let (key, subject) = (p256(), cn("meter"));
    let attribute = |values: &[&[u8]]| {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.oid(oid::CHALLENGE_PASSWORD);
            out.set_of(Tag::SET, &mut values.to_vec());
        });
        out.into_vec()
    };
    let with = |attributes: &[u8]| verify(raw(&key, key.spki(), subject.der(), Some(attributes)));
    assert_eq!(with(&attribute(&[b"\x13\x03abc"])).unwrap().challenge_password(), Some("abc"), "PrintableString");
    assert_eq!(with(&attribute(&[b"\x16\x03abc"])).unwrap().challenge_password(), Some("abc"), "IA5String");
    assert_eq!(with(&attribute(&[b"\x0c\x00"])).err(), Some(CsrFlaw::ChallengePassword));
    assert_eq!(with(&attribute(&[b"\x04\x03abc"])).err(), Some(CsrFlaw::ChallengePassword), "not a string");
    assert_eq!(
        with(&attribute(&[b"\x13\x01a", b"\x13\x01b"])).err(),
        Some(CsrFlaw::Der(DerError::Trailing)),
        "two values"
    );
    assert!(matches!(with(&attribute(&[])).err(), Some(CsrFlaw::Der(_))), "no value");
    let twice = [attribute(&[b"\x13\x01a"]), attribute(&[b"\x13\x01b"])].concat();
    assert_eq!(with(&twice).err(), Some(CsrFlaw::RepeatedAttribute));
    let text = |len: usize| [&[0x0c, 0x82, 0x01, u8::try_from(len - 256).unwrap()][..], &vec![b'x'; len]].concat();
    assert_eq!(with(&attribute(&[&text(256)])).err(), Some(CsrFlaw::ChallengePassword));
    assert_eq!(
        with(&attribute(&[&[&[0x0c, 0x81, 0xff][..], &[b'x'; 255]].concat()]))
            .unwrap()
            .challenge_password()
            .unwrap()
            .len(),
        255
    );
}

#[test]
fn e20_requests_are_strict_and_bounded() {
    let (key, subject) = (p256(), cn("meter"));
    let good = request(&key, &subject, Some("x"));
    let mut trailing = good.clone();
    trailing.push(0);
    assert_eq!(flaw(trailing), Some(CsrFlaw::Der(DerError::Trailing)));
    assert_eq!(flaw(vec![0x30, 0x80, 0, 0]), Some(CsrFlaw::Der(DerError::Indefinite)), "indefinite");

    // A 10 kB name.
    let mut long = Writer::default();
    long.sequence(|out| {
        out.nested(Tag::SET, |set| {
            set.sequence(|a| {
                a.oid(oid::COMMON_NAME);
                a.element(Tag::UTF8_STRING, &[b'x'; 7_000]);
            });
        });
    });
    let der = raw(&key, key.spki(), &long.into_vec(), Some(&[]));
    assert_eq!(flaw(der), Some(CsrFlaw::Name(pki::NameError::Der(DerError::TooLarge))));
    let der = raw(&key, key.spki(), subject.der(), Some(&[0x05, 0x00].repeat(10_000)));
    assert_eq!(flaw(der), Some(CsrFlaw::Der(DerError::TooLarge)), "ten thousand attributes");
    let attribute = [0x30, 0x08, 0x06, 0x02, 0x2a, 0x03, 0x31, 0x02, 0x05, 0x00];
    let attributes = |count: usize| raw(&key, key.spki(), subject.der(), Some(&attribute.repeat(count)));
    assert!(verify(attributes(8)).is_ok());
    assert_eq!(verify(attributes(9)).err(), Some(CsrFlaw::TooManyAttributes));
    assert!(verify(raw(&key, key.spki(), subject.der(), None)).is_ok(), "without the empty set");

    let version = |number: u8| {
        let mut der = good.clone();
        let at = der.windows(3).position(|window| window == [2, 1, 0]).unwrap();
        der[at + 2] = number;
        flaw(der)
    };
    assert_eq!(version(2), Some(CsrFlaw::Version));
}

/// Every length of one or two octets, written with one octet more than necessary: x509-parser accepts it,
/// we do not.
#[test]
fn e20_non_minimal_lengths_that_x509_parser_accepts_never_reach_it() {
    use x509_parser::prelude::FromDer;
    let good = request(&p256(), &cn("meter"), None);
    let info_len = good.len() - 3;
    let mut bad = vec![0x30, 0x82, 0x00, u8::try_from(info_len).unwrap()];
    bad.extend_from_slice(&good[3..]);
    assert_eq!(good[1], 0x81);
    let lenient = x509_parser::certification_request::X509CertificationRequest::from_der(&bad);
    assert!(lenient.is_ok(), "the reason for the strict pass: {lenient:?}");
    assert_eq!(flaw(bad), Some(CsrFlaw::Der(DerError::Length)));
}
