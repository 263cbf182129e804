//! Bodies of the fuzz targets: what must hold for any bytes at all. A fuzzer calls them without end, tests call them with mutated
//! vectors. Each returns normally or has found a bug.

use crate::certificate::Certificate;
use crate::cms;
use crate::csr::Csr;
use crate::der::{Reader, Tag, Writer, check_strict};

/// The strict pass: never panics, and what it accepts is canonical, so that writing it anew gives the same bytes.
pub fn der(bytes: &[u8]) {
    if check_strict(bytes).is_ok() {
        let mut copy = Writer::with_capacity(bytes.len());
        rewrite(Reader::new(bytes), &mut copy);
        assert_eq!(copy.into_vec(), bytes, "DER has one encoding for a value");
    }
}

/// Writes every element anew, down to the leaves. `check_strict` has bounded the depth.
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

/// A certificate: whatever parses can be read, shown and compared with itself.
pub fn certificate(bytes: &[u8]) {
    if let Ok(certificate) = Certificate::parse(bytes) {
        assert_eq!(certificate.der(), bytes);
        assert!(certificate.subject().matches(certificate.subject()) && certificate.san().matches(certificate.san()));
        let shown = format!("{} {:?} {:?}", certificate.subject(), certificate, certificate.san());
        assert!(!shown.contains(char::is_control), "nothing that a terminal obeys: {shown:?}");
        let _ = certificate.verify_signed_by(&certificate);
        assert!(certificate.public_key().point()[0] == 4 && !certificate.serial().is_empty());
    }
}

/// A request: whatever parses either proves possession or is gone, and what it says can be read.
pub fn csr(bytes: &[u8]) {
    if let Ok(Ok(verified)) = Csr::parse(bytes.to_vec()).map(Csr::verify) {
        assert_eq!(verified.der(), bytes);
        assert!(verified.subject().matches(verified.subject()) && verified.san().matches(verified.san()));
        assert!(verified.challenge_password().is_none_or(|text| !text.is_empty()));
        assert_eq!(verified.public_key().to_spki(), verified.spki());
    }
}

/// A certs-only message: what is read can be written again and read the same.
pub fn cms(bytes: &[u8]) {
    if let Ok(certificates) = cms::parse_certs_only(bytes) {
        let mut sorted = certificates.clone();
        sorted.sort_unstable();
        let again = cms::certs_only(&certificates);
        assert_eq!(cms::parse_certs_only(&again), Ok(sorted));
        certificates.iter().for_each(|der| certificate(der));
    }
}
