//! Bodies of the fuzz targets: properties that must hold for any bytes. A fuzzer calls them in a loop, tests call them with
//! mutated vectors. Each returns normally unless it has found a bug.

use rustls_pki_types::{ServerName, UnixTime};

use crate::certificate::Certificate;
use crate::chain::{Anchors, ChainError, verify_device, verify_server};
use crate::cms;
use crate::csr::{Csr, CsrContents};
use crate::csr_attributes::{CsrAttributes, CsrAttributesForm};
use crate::der::{Reader, Tag, Writer, check_strict};
use crate::encoding::Encoding;
use crate::enveloped_key::{DecryptionKey, open, open_content};
use crate::foreign_root::ForeignRoot;
use crate::pem;
use crate::private_key::PrivateKey;

/// The strict pass: it never panics, and what it accepts is canonical, so that encoding it again gives the same
/// bytes.
pub fn der(bytes: &[u8]) {
    if check_strict(bytes).is_ok() {
        let mut copy = Writer::with_capacity(bytes.len());
        rewrite(Reader::new(bytes), &mut copy);
        assert_eq!(copy.into_vec(), bytes, "DER has one encoding for a value");
    }
}

/// Encodes every element again, down to the leaves. `check_strict` has limited the depth.
fn rewrite(mut from: Reader<'_>, to: &mut Writer) {
    while let Ok(element) = from.element() {
        if element.tag.is_constructed() {
            to.nested(element.tag, |to| rewrite(Reader::new(element.contents), to));
        } else if element.tag == Tag::INTEGER && element.contents[0] & 0x80 == 0 {
            to.unsigned(element.contents);
        } else {
            to.element(element.tag, element.contents);
        }
    }
}

/// A certificate: one that parses can be read, shown and compared with itself. The subject of one that was read leniently can be
/// issued in strict DER, as the same name.
pub fn certificate(bytes: &[u8]) {
    let lenient = Certificate::parse_as(bytes, Encoding::AsIssued);
    if let Ok(lenient) = &lenient {
        let strict = lenient.subject().to_strict();
        assert!(check_strict(strict.der()).is_ok() && strict.matches(lenient.subject()));
        assert_eq!(lenient.deviations().is_empty(), Certificate::parse(bytes).is_ok());
        assert!(lenient.san().matches(lenient.san()));
    }
    if let Err(error) = Certificate::parse(bytes) {
        let shown = error.to_string();
        assert!(shown.len() < 300 && !shown.contains(char::is_control), "bounded, and on one line: {shown:?}");
    } else {
        assert!(lenient.is_ok(), "what is strict is read leniently too");
        assert!(ForeignRoot::read(bytes).is_some(), "what is ours is foreign too");
    }
    let _ = ForeignRoot::read(bytes);
    if let Ok(certificate) = Certificate::parse(bytes) {
        assert_eq!(certificate.der(), bytes);
        assert!(certificate.subject().matches(certificate.subject()) && certificate.san().matches(certificate.san()));
        let shown = format!("{} {:?} {:?}", certificate.subject(), certificate, certificate.san());
        assert!(!shown.contains(char::is_control), "nothing that a terminal obeys: {shown:?}");
        let _ = certificate.verify_signed_by(&certificate);
        assert!(certificate.public_key().point()[0] == 4 && !certificate.serial().is_empty());
    }
}

/// A request: one that parses either proves possession and can be read, or is consumed.
pub fn csr(bytes: &[u8]) {
    let lenient = Csr::parse_as(bytes.to_vec(), Encoding::AsIssued).and_then(Csr::verify);
    if let Ok(verified) = &lenient {
        assert!(check_strict(verified.subject().to_strict().der()).is_ok());
        assert_eq!(verified.deviations().is_empty(), Csr::parse(bytes.to_vec()).is_ok());
    }
    // A request for a key that the server makes differs in its key and signature alone.
    let contents = CsrContents::parse_as(bytes.to_vec(), Encoding::Strict);
    if let Ok(verified) = Csr::parse(bytes.to_vec()).and_then(Csr::verify) {
        let contents = contents.expect("it has fewer rules");
        assert!(contents.digest() == verified.digest() && contents.requested() == verified.requested());
    }
    if let Ok(Ok(verified)) = Csr::parse(bytes.to_vec()).map(Csr::verify) {
        assert!(lenient.is_ok_and(|lenient| lenient.deviations().is_empty()));
        assert_eq!(verified.der(), bytes);
        assert!(verified.subject().matches(verified.subject()) && verified.san().matches(verified.san()));
        assert!(verified.challenge_password().is_none_or(|text| !text.is_empty()));
        assert!(verified.attributes().count() <= 8 && verified.extensions().count() <= 24);
        let _ = (verified.link(&[0; 12]), verified.key_protection());
        assert_eq!(verified.public_key().to_spki(), verified.spki());
    }
}

/// CSR attributes: a description that can be encoded reads the same from both forms, except for the signature algorithm, for which a
/// template has no place.
pub fn csr_attributes(bytes: &[u8]) {
    for parsed in [CsrAttributes::parse(bytes), CsrAttributes::parse_unstructured(bytes)].into_iter().flatten() {
        let Ok(both) = parsed.encode(CsrAttributesForm::Both) else { continue };
        assert_eq!(check_strict(&both), Ok(()));
        let unstructured = CsrAttributes::parse_unstructured(&both).expect("we read what we write");
        assert_eq!((unstructured.key, unstructured.signature), (parsed.key, parsed.signature));
        assert_eq!(unstructured.linking, parsed.linking);
        if parsed.subject.iter().all(|attribute| crate::oid::attribute_name(attribute.kind).is_some()) {
            assert_eq!(unstructured.subject, parsed.subject);
        }
        let alone = parsed.encode(CsrAttributesForm::Template).expect("it is shorter than both");
        let template = CsrAttributes::parse(&alone).expect("we read what we write");
        if !template.is_empty() {
            assert_eq!(CsrAttributes::parse(&both).as_ref(), Ok(&template));
            let mut others = parsed.others.clone();
            others.sort_unstable_by_key(|other| (other.id, other.values));
            let mut found = template.others.clone();
            found.sort_unstable_by_key(|other| (other.id, other.values));
            assert_eq!(found, others);
            assert_eq!(template, CsrAttributes { signature: None, others: template.others.clone(), ..parsed });
        }
    }
}

/// A certs-only message: what is read can be encoded again and then reads the same.
pub fn cms(bytes: &[u8]) {
    if let Ok(certificates) = cms::parse_certs_only(bytes) {
        let mut sorted = certificates.clone();
        sorted.sort_unstable();
        let again = cms::certs_only(&certificates);
        assert_eq!(cms::parse_certs_only(&again), Ok(sorted));
        certificates.iter().for_each(|der| certificate(der));
    }
}

/// The keys of the target `enveloped_key`, under the identifier 07: the seeds are encrypted to them.
const ENVELOPE_KEK: [u8; 16] = [7; 16];
const ENVELOPE_KEY: &[u8] = include_bytes!("../tests/vectors/enveloped/recipient.der");

/// A server-generated key in its envelope. The first octet chooses what the others are: a message to one of two keys, or, since a fuzzer cannot
/// encrypt, the decrypted content of one. Whatever opens is a private key that reads the same again.
pub fn enveloped_key(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let recipient = PrivateKey::from_pkcs8(ENVELOPE_KEY.to_vec());
    let opened = match which & 3 {
        0 => open(bytes, &DecryptionKey::Kek { id: &[7], key: &ENVELOPE_KEK }, &[]),
        1 => open(bytes, &DecryptionKey::KeyAgreement { id: &[7], key: &recipient }, &[]),
        2 => open_content(crate::oid::PKCS7_SIGNED_DATA, bytes, &[]),
        _ => open_content(crate::oid::PKCS7_DATA, bytes, &[]),
    };
    match opened {
        Ok(opened) => {
            let again = PrivateKey::read(opened.key.pkcs8()).expect("it was read once");
            assert_eq!(again.pkcs8(), opened.key.pkcs8());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// PEM: an object found in a text can be written as PEM, and is then the only object found in that PEM.
pub fn pem(text: &[u8]) {
    if let Ok(certificates) = pem::certificates(text) {
        let again: String = certificates.iter().map(|der| pem::encode(pem::Label::Certificate, der)).collect();
        assert_eq!(pem::certificates(again.as_bytes()), Ok(certificates));
    }
    if let Ok(request) = pem::certificate_request(text) {
        let again = pem::encode(pem::Label::CertificateRequest, &request);
        assert_eq!(pem::certificate_request(again.as_bytes()), Ok(request));
    }
    if let Ok(key) = pem::private_key(text) {
        let again = pem::private_key(pem::encode_private_key(&key).as_bytes());
        assert!(again.is_ok_and(|again| again.pkcs8() == key.pkcs8()));
    }
}

/// A chain as a peer sends it, each certificate after two bytes of length, given to verifiers that trust `anchors`. An accepted
/// chain begins with a readable certificate, and is not valid for both ends of one association by accident.
pub fn chain(anchors: &Anchors, utc: UnixTime, name: &ServerName<'_>, bytes: &[u8]) {
    let mut certificates = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (der, next) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        certificates.push(der);
        rest = next;
    }
    for verified in [verify_device(anchors, &certificates, utc), verify_server(anchors, &certificates, utc, name)] {
        match verified {
            Ok(verified) => {
                assert_eq!(Some(verified.leaf.der()), certificates.first().copied());
                assert!(verified.anchor < anchors.certificates().len() && !verified.leaf.is_ca());
                let validity = verified.leaf.validity();
                assert!(validity.not_before <= utc && utc <= validity.not_after, "in its time");
            }
            Err(error) => assert!(!certificates.is_empty() || error.error == ChainError::Empty, "{error}"),
        }
    }
}
