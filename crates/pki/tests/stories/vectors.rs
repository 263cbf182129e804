//! The payloads of RFC 9148 appendix A: they can be read unchanged, and have the same structure as ours.

use std::fmt::Write;
use std::sync::Arc;

use pki::der::{Reader, Tag, check_strict};
use pki::issue::{IssuerCertificate, Template, TemplateSpec};
use pki::make::{CsrSpec, csr};
use pki::{Certificate, Csr, Curve, GeneralName, SigningKey, Validity, cms, oid};

use crate::common::*;

/// The tree of an encoding: one line per element, with its tag and, for an object identifier, its value. Octet strings that
/// contain DER (values of extensions) are read too.
fn shape(der: &[u8]) -> String {
    fn level(mut reader: Reader<'_>, depth: usize, out: &mut String) {
        while let Ok(element) = reader.element() {
            let _ = write!(out, "\n{:depth$}{:02x}", "", element.tag.octet());
            if element.tag == Tag::OID {
                let _ = write!(out, " {:?}", hex::encode(element.contents));
            }
            let holds_der = element.tag == Tag::OCTET_STRING && check_strict(element.contents).is_ok();
            if element.tag.is_constructed() || holds_der {
                level(Reader::new(element.contents), depth + 1, out);
            }
        }
    }
    let mut out = String::new();
    level(Reader::new(der), 0, &mut out);
    out
}

fn certificate_in(message: &[u8]) -> Certificate {
    let certificates = cms::parse_certs_only(message).unwrap();
    assert_eq!(certificates.len(), 1);
    Certificate::parse(certificates[0]).unwrap()
}

/// The multipart-core (RFC 8710) of the key generation: four items, `[284, key, 281, certificates]`.
fn key_and_certificates(multipart: &[u8]) -> (&[u8], &[u8]) {
    let rest = multipart.strip_prefix(&[0x84, 0x19, 0x01, 0x1c, 0x58, 0x8a]).unwrap();
    let (key, rest) = rest.split_at(0x8a);
    (key, rest.strip_prefix(&[0x19, 0x01, 0x19, 0x59, 0x01, 0xd3]).unwrap())
}

#[test]
fn all_payloads_are_strict_der() {
    for text in [CRTS_RESPONSE, SEN_REQUEST, SEN_RESPONSE, SKG_REQUEST, ATT_RESPONSE] {
        assert_eq!(check_strict(&vector(text)), Ok(()));
    }
    let multipart = vector(SKG_RESPONSE);
    let (key, certificates) = key_and_certificates(&multipart);
    assert_eq!((check_strict(key), check_strict(certificates)), (Ok(()), Ok(())));
}

#[test]
fn the_example_request_proves_possession_and_has_a_challenge_password() {
    let request = Csr::parse(vector(SEN_REQUEST)).unwrap().verify().unwrap();
    assert_eq!(request.subject().to_string(), "serialNumber=Wt1234,OU=IoT,O=example Inc,L=LA,ST=CA,C=US");
    assert_eq!(request.subject().attribute(oid::SERIAL_NUMBER), Some("Wt1234"));
    // Not a tls-unique in base64, as RFC 9148 §3 requires: an EST server has to refuse this request.
    assert_eq!(request.challenge_password().unwrap().len(), 37);
    let names: Vec<_> = request.san().iter().collect();
    assert!(matches!(names[..], [GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, .. }]), "{names:?}");
    assert_eq!(request.public_key().curve(), Curve::P256);

    let skg = Csr::parse(vector(SKG_REQUEST)).unwrap().verify().unwrap();
    assert_eq!((skg.subject().to_string(), skg.challenge_password()), ("O=skg example".to_owned(), None));
}

#[test]
fn the_example_certificates_are_read_field_by_field() {
    let root = certificate_in(&vector(CRTS_RESPONSE));
    assert!(root.is_ca() && root.key_usage().unwrap().key_cert_sign());
    assert_eq!(root.subject().attribute(oid::COMMON_NAME), Some("Root CA"));
    assert_eq!(root.verify_signed_by(&root), Ok(()));
    assert_eq!(root.san().iter().next(), Some(GeneralName::Email("certify@example.com")));

    let enrolled = certificate_in(&vector(SEN_RESPONSE));
    let request = Csr::parse(vector(SEN_REQUEST)).unwrap().verify().unwrap();
    assert_eq!((enrolled.subject(), enrolled.spki()), (request.subject(), request.spki()));
    assert!(enrolled.san().matches(request.san()));
    assert_eq!(enrolled.validity().not_after, pki::NO_WELL_DEFINED_EXPIRATION);
    assert_eq!(enrolled.serial(), [0x7e, 0x76, 0x61, 0xd7, 0xb5, 0x4e, 0x46, 0x32]);

    let multipart = vector(SKG_RESPONSE);
    let (key, certificates) = key_and_certificates(&multipart);
    let generated = certificate_in(certificates);
    let key = SigningKey::from_pkcs8(key, &random()).unwrap();
    assert_eq!(key.spki(), generated.spki(), "the key in the answer is the certified one");
    assert_eq!(generated.verify_signed_by(&generated), Ok(()));
}

#[test]
fn our_certs_only_message_is_the_example_octet_by_octet() {
    let multipart = vector(SKG_RESPONSE);
    for message in [&vector(CRTS_RESPONSE)[..], &vector(SEN_RESPONSE), key_and_certificates(&multipart).1] {
        assert_eq!(cms::certs_only(&cms::parse_certs_only(message).unwrap()), message);
    }
}

#[test]
fn our_request_has_the_shape_of_the_example() {
    let example = vector(SEN_REQUEST);
    let parsed = Csr::parse(example.clone()).unwrap().verify().unwrap();
    let spec = CsrSpec { subject: parsed.subject(), san: parsed.san(), challenge_password: Some("0123456789abcdef") };
    let ours = csr(&spec, &p256(), &random()).unwrap();
    assert_eq!(shape(&ours), shape(&example));

    let example = vector(SKG_REQUEST);
    let parsed = Csr::parse(example.clone()).unwrap().verify().unwrap();
    let spec = CsrSpec { subject: parsed.subject(), san: parsed.san(), challenge_password: None };
    assert_eq!(shape(&csr(&spec, &p256(), &random()).unwrap()), shape(&example));
}

#[test]
fn our_certificate_has_the_shape_of_the_example() {
    let example = certificate_in(&vector(SEN_RESPONSE));
    let forever = Validity { not_before: at(NOW), not_after: pki::NO_WELL_DEFINED_EXPIRATION };
    // An authority with the name of the example's authority.
    let key = p256();
    let authority = Raw { subject: example.issuer().clone(), validity: forever, ..Raw::authority("802.1AR CA", &key) }
        .with(oid::SUBJECT_KEY_IDENTIFIER, false, &[&[0x04, 20][..], &[7; 20]].concat());
    let authority = Raw { issuer: example.issuer().clone(), ..authority };
    let certificate = Certificate::parse(&authority.signed_with(&key)).unwrap();
    let issuer = Arc::new(IssuerCertificate::new(Arc::new(certificate)).unwrap());
    let spec = TemplateSpec { basic_constraints: true, ..TemplateSpec::default() };
    let template = Template::new(issuer, &spec).unwrap();
    let to_be_signed = template.fill(example.subject(), example.san(), example.spki(), &serial(), forever).unwrap();
    let ours = to_be_signed.assemble(&key.sign(&random(), to_be_signed.der()).unwrap()).unwrap();
    assert_eq!(shape(ours.der()), shape(example.der()));
    assert_eq!(shape(&cms::certs_only(&[ours.der()])), shape(&vector(SEN_RESPONSE)));
}

#[test]
fn the_shape_tells_trees_apart() {
    let example = shape(&vector(SEN_RESPONSE));
    assert_ne!(example, shape(&vector(CRTS_RESPONSE)));
    assert!(example.contains(r#""551d23""#), "object identifiers are compared: {example}");
}
