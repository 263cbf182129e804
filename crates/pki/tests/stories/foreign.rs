//! Certificates and requests as third-party factories and stacks make them: accepted, or refused with field and rule.

use std::sync::Arc;

use pki::chain::{Anchors, ChainError, verify_device};
use pki::cms::{self, CmsError};
use pki::der::{DerError, Tag, Writer};
use pki::issue::{IssuerCertificate, Template, TemplateSpec};
use pki::pem::{DerKind, PemError};
use pki::{
    AlgorithmError, Certificate, CertificateFlaw, Csr, CsrFlaw, Curve, Deviation, Encoding, ExtensionField, Field,
    GeneralName, GeneralNames, KeyError, Name, NameBuilder, PrivateKey, SignatureError, SigningKey, oid, pem,
};

use crate::common::*;

macro_rules! foreign {
    ($name:literal) => {
        include_bytes!(concat!("../vectors/foreign/", $name))
    };
}

fn chain(text: &[u8]) -> Vec<Vec<u8>> {
    pem::certificates(text).unwrap()
}

fn anchors(encoding: Encoding) -> Anchors {
    let certificates = chain(foreign!("anchors.pem"));
    Anchors::new(certificates.iter().map(|der| Arc::new(Certificate::parse(der).unwrap())).collect())
        .unwrap()
        .reading(encoding)
}

fn verify(encoding: Encoding, text: &[u8]) -> Result<Vec<Deviation>, ChainError> {
    let chain = chain(text);
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    verify_device(&anchors(encoding), &chain, at(NOW))
        .map(|verified| verified.leaf.deviations().iter().collect())
        .map_err(|refusal| refusal.error)
}

/// The message about the first certificate that cannot be read.
fn refusal(text: &[u8]) -> String {
    chain(text).iter().find_map(|der| Certificate::parse(der).err()).unwrap().to_string()
}

fn request(text: &[u8], encoding: Encoding) -> Result<Vec<Deviation>, pki::CsrError> {
    let verified = Csr::parse_as(pem::certificate_request(text).unwrap(), encoding)?.verify()?;
    Ok(verified.deviations().iter().collect())
}

/// A certificate without a fault: if it were refused, the refusals of the others would prove nothing.
#[test]
fn the_control_among_the_foreign_ones_is_accepted() {
    assert_eq!(verify(Encoding::Strict, foreign!("plain.pem")), Ok(vec![]));
}

#[test]
fn e69_a_subject_backwards_is_another_name_and_is_shown_as_it_stands() {
    let csr = Csr::parse(pem::certificate_request(foreign!("rdns-reversed.csr")).unwrap()).unwrap();
    let csr = csr.verify().unwrap();
    let forwards = NameBuilder::new().push(oid::COMMON_NAME, "device-000001").unwrap();
    let forwards = forwards.push(oid::SERIAL_NUMBER, "000001").unwrap().finish().unwrap();
    assert!(!csr.subject().matches(&forwards));
    assert_ne!(csr.subject().to_string(), forwards.to_string());
}

#[test]
fn e62_serial_numbers_of_others_are_negative_zero_or_long() {
    assert_eq!(verify(Encoding::Strict, foreign!("negative-serial.pem")), Ok(vec![]));
    let root = Authority::root("Root");
    for serial in [&[0][..], &[0x80], &[0xff], &[0xff, 0x7f], &[0x7f; 21], &[0x81; 64]] {
        let leaf = Raw { serial: serial.to_vec(), ..Raw::device(&p256()) }.signed_by(&root);
        assert_eq!(Certificate::parse(&leaf).unwrap().serial(), serial);
        let anchors = Anchors::new(vec![Arc::clone(&root.certificate)]).unwrap();
        assert!(verify_device(&anchors, &[&leaf], at(NOW)).is_ok(), "{serial:02x?}");
    }
    // Superfluous leading zeros or ones are another encoding of the same number.
    for (serial, flaw) in
        [(&[0, 1][..], DerError::Integer), (&[0xff, 0x80], DerError::Integer), (&[], DerError::EmptyInteger)]
    {
        let leaf = Raw { serial: serial.to_vec(), ..Raw::device(&p256()) }.signed_by(&root);
        let error = Certificate::parse_as(&leaf, Encoding::AsIssued).unwrap_err();
        assert_eq!((error.field, error.flaw), (Field::SerialNumber, CertificateFlaw::Der(flaw)));
    }
    assert_eq!(refusal(foreign!("padded-serial.pem")), "serialNumber: INTEGER is not minimal (X.690 §8.3.2)");
}

#[test]
fn e63_deviations_of_burnt_in_identities_are_refused_by_name_or_read_as_issued() {
    let null = "signatureAlgorithm: ECDSA algorithm with NULL parameters, which must be absent (RFC 5758 §3.2)";
    for (text, deviation, said) in [
        (&foreign!("critical-false.pem")[..], Deviation::EncodedDefault, "DEFAULT value encoded (X.690 §11.5)"),
        (
            foreign!("underscore.pem"),
            Deviation::PrintableString,
            "PrintableString with `_`, which is outside its alphabet",
        ),
        (foreign!("san-unsorted.pem"), Deviation::SetOrder, "not in DER order (X.690 §11.6)"),
        (foreign!("null-parameters.pem"), Deviation::NullParameters, null),
    ] {
        let refused = refusal(text);
        assert!(refused.contains(said), "{refused}");
        assert!(matches!(verify(Encoding::Strict, text), Err(ChainError::Certificate { .. })), "{said}");
        assert_eq!(verify(Encoding::AsIssued, text), Ok(vec![deviation]), "{said}");
    }
    assert_eq!(verify(Encoding::Strict, foreign!("p384-sha256.pem")), Ok(vec![]), "RFC 5758 ties no hash to a curve");
}

/// webpki gets such an algorithm as a known one; the signature is verified all the same.
#[test]
fn e63_a_signature_under_null_parameters_is_verified_all_the_same() {
    let mut leaf = chain(foreign!("null-parameters.pem")).remove(0);
    assert!(verify_device(&anchors(Encoding::AsIssued), &[&leaf], at(NOW)).is_ok());
    // The last octet belongs to s: another number, and still DER.
    *leaf.last_mut().unwrap() ^= 1;
    let refusal = verify_device(&anchors(Encoding::AsIssued), &[&leaf], at(NOW)).unwrap_err();
    assert_eq!(refusal.error, ChainError::BadSignature);
    // The same for the signed bytes.
    let mut leaf = chain(foreign!("null-parameters.pem")).remove(0);
    let name = leaf.windows(9).rposition(|window| window == b"device-10").unwrap();
    leaf[name] = b'D';
    let refusal = verify_device(&anchors(Encoding::AsIssued), &[&leaf], at(NOW)).unwrap_err();
    assert_eq!(refusal.error, ChainError::BadSignature);
}

/// A path is not strict DER if one of its certificates is not; certificates outside the path do not count.
#[test]
fn e63_the_deviations_of_a_path_are_those_of_all_its_certificates() {
    let (root, key) = (Authority::root("Root"), p256());
    // A directoryName of the plant whose PrintableString contains `_`.
    let name = [&[0x30, 0x13, 0xa4, 0x11, 0x30, 0x0f, 0x31, 0x0d, 0x30, 0x0b, 6, 3, 0x55, 4, 3, 0x13, 4][..], b"a_bc"];
    let plant = Raw::authority("Plant", &key).with(oid::SUBJECT_ALT_NAME, false, &name.concat()).signed_by(&root);
    let leaf = Raw { issuer: cn("Plant"), ..Raw::device(&p256()) }.signed_with(&key);
    let straight = Raw::device(&p256()).signed_by(&root);
    let anchors = |encoding| Anchors::new(vec![Arc::clone(&root.certificate)]).unwrap().reading(encoding);

    let lenient = anchors(Encoding::AsIssued);
    let verified = verify_device(&lenient, &[&leaf, &plant], at(NOW)).unwrap();
    assert!(verified.leaf.deviations().is_empty());
    assert_eq!(verified.deviations.iter().collect::<Vec<_>>(), [Deviation::PrintableString]);
    let refusal = verify_device(&anchors(Encoding::Strict), &[&leaf, &plant], at(NOW)).unwrap_err();
    assert!(matches!(refusal.error, ChainError::Certificate { index: 1, .. }), "{refusal}");
    for encoding in [Encoding::AsIssued, Encoding::Strict] {
        let verified = verify_device(&anchors(encoding), &[&straight, &plant], at(NOW)).unwrap();
        assert!(verified.deviations.is_empty(), "{encoding:?}: the path does not need the plant");
    }
}

#[test]
fn e63_ca_false_written_out_is_read_as_issued() {
    let root = Authority::root("Root");
    let leaf = Raw::device(&p256()).with(oid::BASIC_CONSTRAINTS, true, &[0x30, 3, 1, 1, 0]).signed_by(&root);
    let field = Field::Extension(ExtensionField { index: 0, name: Some("basicConstraints") });
    let error = Certificate::parse(&leaf).unwrap_err();
    assert_eq!((error.field, error.flaw), (field, CertificateFlaw::Der(DerError::EncodedDefault)));
    let anchors = Anchors::new(vec![Arc::clone(&root.certificate)]).unwrap().reading(Encoding::AsIssued);
    let verified = verify_device(&anchors, &[&leaf], at(NOW)).unwrap();
    assert!(!verified.leaf.is_ca());
    assert_eq!(verified.leaf.deviations().to_string(), "DEFAULT value encoded (X.690 §11.5)");
}

#[test]
fn e63_the_same_holds_for_requests() {
    for (text, deviation, field) in [
        (&foreign!("critical-false.csr")[..], Deviation::EncodedDefault, "extensions["),
        (foreign!("set-unsorted.csr"), Deviation::SetOrder, "subject RDN 1: "),
        (foreign!("null-parameters.csr"), Deviation::NullParameters, "signatureAlgorithm: "),
    ] {
        let refused = request(text, Encoding::Strict).unwrap_err().to_string();
        assert!(refused.starts_with(field), "{refused}");
        assert_eq!(request(text, Encoding::AsIssued), Ok(vec![deviation]));
    }
    assert_eq!(request(foreign!("p384-sha256.csr"), Encoding::Strict), Ok(vec![]));
}

/// A name that was read leniently is issued in strict DER, and is still the same name.
#[test]
fn e63_what_is_issued_is_strict_der() {
    let mut unsorted = Writer::default();
    unsorted.sequence(|out| {
        out.nested(Tag::SET, |set| {
            for (kind, text) in [(oid::SERIAL_NUMBER, "a_1"), (oid::COMMON_NAME, "m@7")] {
                set.sequence(|out| {
                    out.oid(kind);
                    out.element(Tag::PRINTABLE_STRING, text.as_bytes());
                });
            }
        });
    });
    let unsorted = unsorted.into_vec();
    assert!(Name::parse(&unsorted).is_err());
    // A strict certificate whose subject is replaced by one of the same length.
    let (root, key) = (Authority::root("Root"), p256());
    let honest = cn(&"x".repeat(unsorted.len() - 13));
    assert_eq!(honest.der().len(), unsorted.len());
    let mut tbs = Raw { subject: honest.clone(), ..Raw::device(&key) }.signed_by(&root);
    let start = tbs.windows(unsorted.len()).position(|window| window == honest.der()).unwrap();
    tbs[start..start + unsorted.len()].copy_from_slice(&unsorted);
    let device = Certificate::parse_as(&tbs, Encoding::AsIssued).unwrap();
    assert_eq!(device.deviations().iter().collect::<Vec<_>>(), [Deviation::SetOrder, Deviation::PrintableString]);

    let template = Template::new(
        Arc::new(IssuerCertificate::new(Arc::clone(&root.certificate)).unwrap()),
        &TemplateSpec::default(),
    );
    let filled =
        template.unwrap().fill(device.subject(), &GeneralNames::empty(), key.spki(), &serial(), years(1)).unwrap();
    pki::der::check_strict(filled.der()).unwrap();
    let issued = device.subject().to_strict();
    assert!(issued.matches(device.subject()) && Name::parse(issued.der()).is_ok());
    assert_eq!(issued.attribute(oid::SERIAL_NUMBER), Some("a_1"));
}

#[test]
fn d101_a_refusal_names_the_field_and_the_rule() {
    assert_eq!(
        refusal(foreign!("version-1.pem")),
        "version: certificate version 1; version 3 is required (RFC 5280 §4.1.2.1)"
    );
    // Each octet is corrupted in turn: every message fits on one line and names an existing field.
    let leaf = Authority::root("Root").idevid("1");
    let mut fields = std::collections::BTreeSet::new();
    for index in 0..leaf.der().len() {
        for octet in [0x00, 0x80, 0xff] {
            let mut der = leaf.der().to_vec();
            der[index] = octet;
            if let Err(error) = Certificate::parse(&der) {
                let said = error.to_string();
                assert!(said.len() < 200 && !said.contains(" or too") && !said.contains('\n'), "{said}");
                fields.insert(error.field.to_string());
            }
        }
    }
    for field in ["version", "serialNumber", "issuer RDN 1", "validity", "subject RDN 2", "subjectPublicKeyInfo"] {
        assert!(fields.contains(field), "{field} in {fields:?}");
    }
    assert!(fields.iter().any(|field| field.starts_with("extensions[") && field.ends_with(" keyUsage")), "{fields:?}");
}

#[test]
fn e67_a_signature_that_is_no_der_is_called_that() {
    let error = request(foreign!("raw-signature.csr"), Encoding::AsIssued).unwrap_err();
    assert_eq!(
        (error.field, error.flaw),
        (Field::SignatureValue, CsrFlaw::Signature(SignatureError::Raw { octets: 64 }))
    );
    assert!(error.to_string().contains("not DER") && !error.to_string().contains("key"), "{error}");
    for (signature, flaw) in [
        (&[0x30, 7, 2, 2, 0, 1, 2, 1, 1][..], SignatureError::NotDer(DerError::Integer)),
        (&[0x30, 6, 2, 1, 0x80, 2, 1, 1], SignatureError::Negative),
        (&[0x30, 3, 2, 1, 1], SignatureError::NotDer(DerError::Unexpected { expected: Tag::INTEGER, found: None })),
    ] {
        assert_eq!(pki::Signature::from_der(signature), Err(flaw));
    }
    assert!(pki::Signature::from_der(&[0x30, 6, 2, 1, 1, 2, 1, 1]).is_ok());
}

#[test]
fn e68_keys_of_other_kinds_are_named() {
    for (text, name) in [
        (&foreign!("brainpool.pem")[..], "brainpoolP256r1"),
        (foreign!("p521.pem"), "P-521"),
        (foreign!("rsa.pem"), "RSA"),
        (foreign!("ed25519.pem"), "Ed25519"),
    ] {
        let refused = refusal(text);
        assert!(refused.starts_with("subjectPublicKeyInfo: ") && refused.contains(name), "{refused}");
    }
    assert_eq!(
        AlgorithmError::Point { curve: Curve::P256 }.to_string(),
        "the public key is not an uncompressed point of P-256"
    );
}

#[test]
fn e70_indefinite_lengths_are_called_that() {
    let error = cms::parse_certs_only(foreign!("indefinite.p7")).unwrap_err();
    assert_eq!(error, CmsError::Der(DerError::Indefinite));
    assert!(error.to_string().contains("indefinite length"), "{error}");
}

#[test]
fn e71_requests_under_the_older_label_and_files_in_der_are_read() {
    let old = foreign!("new-request.pem");
    let der = pem::certificate_request(old).unwrap();
    assert!(Csr::parse(der.clone()).and_then(Csr::verify).is_ok());
    assert_eq!(pem::certificate_request(&der).unwrap(), der, "DER as it is");
    let marked = [&[0xef, 0xbb, 0xbf][..], old].concat();
    assert_eq!(pem::certificate_request(&marked).unwrap(), der, "after a byte order mark");
    let certificate = &chain(foreign!("p384-sha256.pem"))[0];
    assert_eq!(pem::certificates(certificate).unwrap(), std::slice::from_ref(certificate));
    let found = |label: &str| {
        let text = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        let said = |error: PemError| format!("{error}; {}", error.command("'a b'", "'a b.new'").unwrap_or_default());
        [pem::certificates(text.as_bytes()).err(), pem::private_key(text.as_bytes()).err()]
            .map(|error| error.map(said).unwrap_or_default())
    };
    for (label, at, command) in [
        ("TRUSTED CERTIFICATE", 0, "openssl x509 -in 'a b' -out 'a b.new'"),
        ("PKCS7", 0, "openssl pkcs7 -print_certs -in 'a b' -out 'a b.new'"),
        ("CMS", 0, "openssl cms -cmsout"),
        ("ENCRYPTED PRIVATE KEY", 1, "openssl pkey -in 'a b' -out 'a b.new'"),
        ("OPENSSH PRIVATE KEY", 1, "ssh-keygen"),
        ("TRUSTED CERTIFICATE", 1, ""),
        ("CERTIFICATE", 1, ""),
        ("PUBLIC KEY", 1, ""),
    ] {
        let said = &found(label)[at];
        assert!(said.starts_with(&format!("there is a PEM block `{label}`, but no `")), "{said}");
        assert_eq!(said.contains("openssl") || said.contains("ssh-keygen"), !command.is_empty(), "{said}");
        assert!(said.contains(command), "{said}");
    }
    let wide: Vec<u8> = "\u{feff}-----BEGIN".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let error = pem::certificates(&wide).unwrap_err();
    assert_eq!(error.command("w", "w.new").unwrap(), "iconv -f UTF-16 -t UTF-8 w > w.new");
}

#[test]
fn e71_a_certificate_in_a_form_that_is_not_read_is_not_passed_over() {
    let one = pem::encode(pem::Label::Certificate, &[0x30, 0]);
    assert!(pem::certificates(one.as_bytes()).is_ok());
    for label in ["TRUSTED CERTIFICATE", "X509 CERTIFICATE", "PKCS7"] {
        let bundle = format!("{one}{}", one.replace(" CERTIFICATE-----", &format!(" {label}-----")));
        let error = pem::certificates(bundle.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(label), "{error}");
    }
    // Keys and parameters may be in the same file as certificates.
    let combined = format!("{}{one}", one.replace(" CERTIFICATE-----", " PRIVATE KEY-----"));
    assert_eq!(pem::certificates(combined.as_bytes()).unwrap().len(), 1);
}

#[test]
fn e71_der_of_another_kind_is_named() {
    let certificate = chain(foreign!("p384-sha256.pem")).remove(0);
    let request = pem::certificate_request(foreign!("new-request.pem")).unwrap();
    let key = p256();
    let sec1 = [&[0x30, 0x31, 2, 1, 1, 4, 32][..], &[7; 32], &[0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]]
        .concat();
    // RFC 5280 §5.1: version, algorithm, issuer, thisUpdate; algorithm; signature.
    let mut crl = Writer::default();
    crl.sequence(|out| {
        out.sequence(|out| {
            out.unsigned(&[1]);
            out.sequence(|_| ());
            out.sequence(|_| ());
            out.time(at(NOW));
        });
        out.sequence(|_| ());
        out.bit_string(&[0]);
    });
    for (der, kind) in [
        (&certificate[..], DerKind::Certificate),
        (&request, DerKind::Request),
        (&sec1, DerKind::PrivateKey),
        (key.spki(), DerKind::PublicKey),
        (&crl.into_vec(), DerKind::RevocationList),
        (&[0x30, 6, 0x30, 0, 4, 2, 0, 0], DerKind::EncryptedKey),
        (&[0x30, 5, 2, 1, 3, 0x30, 0], DerKind::Pkcs12),
        (&[0x30, 0x80, 2, 1, 3, 0x30, 0x80, 0, 0, 0, 0], DerKind::Pkcs12),
    ] {
        let errors = [pem::certificates(der).err(), pem::certificate_request(der).err(), pem::private_key(der).err()];
        let wanted = [DerKind::Certificate, DerKind::Request, DerKind::PrivateKey];
        for (error, wanted) in errors.into_iter().zip(wanted) {
            if kind == wanted {
                assert_eq!(error, None, "{kind}");
            } else {
                assert!(error.unwrap().to_string().starts_with(&format!("the file is the DER of {kind}, not of ")));
            }
        }
    }
    for cut in [2, 3, 40, certificate.len() - 1] {
        let error = pem::certificates(&certificate[..cut]).unwrap_err();
        assert!(matches!(error, PemError::Der { error: DerError::Truncated, .. }), "{cut}: {error}");
    }
    let error = pem::certificates(foreign!("indefinite.p7")).unwrap_err();
    assert!(error.to_string().contains("indefinite length"), "{error}");
    assert_eq!(
        error.command("a.p7", "a.p7.new").unwrap(),
        "openssl pkcs7 -inform DER -print_certs -in a.p7 -out a.p7.new"
    );
}

#[test]
fn e64_a_key_that_cannot_be_is_refused_by_name() {
    let sec1 = |scalar: &[u8], rest: &[u8]| {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.unsigned(&[1]);
            out.element(Tag::OCTET_STRING, scalar);
            out.raw(rest);
        });
        out.into_vec()
    };
    let p256_named: &[u8] = &[0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let p384_named: &[u8] = &[0xa0, 7, 6, 5, 0x2b, 0x81, 4, 0, 34];
    let pkcs8 = |curve: &[u8], inner: &[u8]| {
        let mut out = Writer::default();
        out.sequence(|out| {
            out.unsigned(&[0]);
            out.sequence(|out| {
                out.oid(oid::EC_PUBLIC_KEY);
                out.raw(&curve[2..]);
            });
            out.element(Tag::OCTET_STRING, inner);
        });
        out.into_vec()
    };
    let fault = |der: &[u8]| PrivateKey::read(der).err();
    let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
    let below = [&order[..31], &[0x50]].concat();
    let (curve, range) = (Curve::P256, Some(KeyError::Range { curve: Curve::P256 }));
    assert_eq!(fault(&sec1(&[0; 32], p256_named)), range);
    assert_eq!(fault(&sec1(&order, p256_named)), range);
    assert_eq!(fault(&sec1(&[0xff; 32], p256_named)), range);
    assert_eq!(fault(&sec1(&below, p256_named)), None);
    assert_eq!(fault(&sec1(&[7; 31], p256_named)), Some(KeyError::Length { curve, octets: 31 }));
    assert_eq!(fault(&sec1(&[7; 33], p256_named)), Some(KeyError::Length { curve, octets: 33 }));
    assert_eq!(fault(&sec1(&[7; 32], p384_named)), Some(KeyError::Length { curve: Curve::P384, octets: 32 }));
    assert_eq!(fault(&sec1(&[7; 32], &[])), Some(KeyError::NoCurve));
    let two = KeyError::TwoCurves { outer: Curve::P384, inner: Curve::P256 };
    assert_eq!(fault(&pkcs8(p384_named, &sec1(&[7; 32], p256_named))), Some(two));
    assert_eq!(fault(&pkcs8(p256_named, &sec1(&[7; 32], &[]))), None);
    assert_eq!(fault(&pkcs8(p256_named, &[0x30, 32])), Some(KeyError::Der(DerError::Truncated)));

    // With a public key: that of the same private key, and that of another one.
    let computed = |scalar: &[u8]| {
        let key = PrivateKey::read(&sec1(scalar, p256_named)).unwrap();
        SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap().point().to_vec()
    };
    let with = |point: &[u8]| {
        let mut rest = Writer::default();
        rest.raw(p256_named);
        rest.nested(Tag::context_constructed(1), |out| out.bit_string(point));
        fault(&sec1(&[7; 32], &rest.into_vec()))
    };
    let (own, other) = (computed(&[7; 32]), computed(&[8; 32]));
    let compressed = |tag: u8| [&[tag][..], &own[1..33]].concat();
    assert_eq!((with(&own), with(&other)), (None, Some(KeyError::PublicKey)));
    assert_eq!(with(&compressed(2 | own[64] & 1)), None);
    assert_eq!(with(&compressed(3 ^ own[64] & 1)), Some(KeyError::PublicKey));
    // The point that a second implementation computes.
    let second = p256::SecretKey::from_slice(&[7; 32]).unwrap().public_key();
    let second = p256::elliptic_curve::sec1::ToSec1Point::to_sec1_point(&second, false);
    assert_eq!(own, second.as_bytes());
}

#[test]
fn e64_the_key_of_a_device_that_stores_no_public_key_is_read() {
    let text = foreign!("private-only.pem");
    let key = pem::private_key(text).unwrap();
    let certificate = Certificate::parse(&chain(text)[0]).unwrap();
    assert_eq!(SigningKey::from_pkcs8(key.pkcs8(), &random()).unwrap().spki(), certificate.spki());
}

#[test]
fn e65_a_hardware_module_name_beside_an_empty_subject_is_read() {
    let text = foreign!("hardware-module.pem");
    assert_eq!(verify(Encoding::Strict, text), Ok(vec![]));
    let device = Certificate::parse(&chain(text)[0]).unwrap();
    assert!(device.subject().is_empty());
    assert!(!device.san().hardware_module().unwrap().serial.is_empty());

    let name = |value: &'static [u8]| GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, value };
    let read = |names: &[GeneralName<'static>]| {
        let names = GeneralNames::new(names.iter().copied()).unwrap();
        names.hardware_module().map(|module| (module.kind.to_string(), module.serial.to_vec()))
    };
    let good = &[0x30, 7, 6, 2, 0x2a, 3, 4, 1, 0xff];
    assert_eq!(read(&[GeneralName::Dns("a"), name(good)]), Some(("1.2.3".into(), vec![0xff])));
    assert_eq!(read(&[name(good), name(good)]), None, "which of them names the device?");
    assert_eq!(read(&[name(&[0x30, 6, 6, 2, 0x2a, 3, 4, 0])]), None, "no serial number");
    assert_eq!(read(&[GeneralName::Dns("a")]), None);
}
