//! PEM (RFC 7468) for the shells: bytes of a file in, DER out, and back. Whoever reads and writes the files is not here.

use crate::key::PrivateKey;
use rustls_pki_types::pem::{Error, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use std::fmt;
use zeroize::Zeroizing;

/// What a block of PEM holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// A certificate (RFC 7468 §5)
    Certificate,
    /// A PKCS #10 request (RFC 7468 §7)
    CertificateRequest,
    /// A PKCS #8 private key, not encrypted (RFC 7468 §10)
    PrivateKey,
}

impl Label {
    const fn text(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::CertificateRequest => "CERTIFICATE REQUEST",
            Self::PrivateKey => "PRIVATE KEY",
        }
    }
}

/// One block of PEM. For keys there is [`encode_private_key`], which wipes the text.
#[must_use]
pub fn encode(label: Label, der: &[u8]) -> String {
    let label = label.text();
    // RFC 7468 §2: lines of exactly 64 characters but for the last one.
    let mut out = String::with_capacity(2 * (label.len() + 17) + der.len().div_ceil(3) * 4 + der.len() / 48 + 1);
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for line in der.chunks(48) {
        line.chunks(3).for_each(|group| push_base64(&mut out, group));
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// A private key as a block of PEM that is wiped when dropped.
#[must_use]
pub fn encode_private_key(key: &PrivateKey) -> Zeroizing<String> {
    Zeroizing::new(encode(Label::PrivateKey, key.pkcs8()))
}

/// All certificates in `text`, in their order. Blocks of other kinds and text between blocks are passed over.
///
/// # Errors
/// [`PemError::Malformed`] for a broken block, [`PemError::Missing`] if there is no certificate.
pub fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    let found = CertificateDer::pem_slice_iter(text)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::from_pem(&error, Label::Certificate))?;
    if found.is_empty() { Err(PemError::Missing(Label::Certificate)) } else { Ok(found) }
}

/// The first request in `text`.
///
/// # Errors
/// [`PemError::Malformed`] for a broken block, [`PemError::Missing`] if there is no request.
pub fn certificate_request(text: &[u8]) -> Result<Vec<u8>, PemError> {
    CertificateSigningRequestDer::from_pem_slice(text)
        .map(|der| der.to_vec())
        .map_err(|error| PemError::from_pem(&error, Label::CertificateRequest))
}

/// The one PKCS #8 private key in `text`.
///
/// # Errors
/// [`PemError::KeyFormat`] for a key in another format or encrypted, [`PemError::Malformed`] for a broken block,
/// [`PemError::Missing`] if there is no key.
pub fn private_key(text: &[u8]) -> Result<PrivateKey, PemError> {
    let mut other = false;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| PemError::from_pem(&error, Label::PrivateKey))?;
        let key = PrivateKey::from_pkcs8(der);
        match kind {
            SectionKind::PrivateKey => return Ok(key),
            SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => other = true,
            _ => {}
        }
    }
    Err(if other { PemError::KeyFormat } else { PemError::Missing(Label::PrivateKey) })
}

/// Three octets as four characters (RFC 4648 §4); fewer are padded.
fn push_base64(out: &mut String, group: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let octet = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
    let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
    for index in 0..4 {
        let sextet = usize::try_from(bits >> (18 - 6 * index) & 0x3f).unwrap_or(0);
        out.push(if index <= group.len() { char::from(ALPHABET[sextet]) } else { '=' });
    }
}

/// Why text is not the PEM that was looked for. The fault of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PemError {
    /// There is no block of this kind.
    Missing(Label),
    /// A block has no end, or is not base64.
    Malformed(Label),
    /// A private key in another format than PKCS #8.
    KeyFormat,
}

impl PemError {
    fn from_pem(error: &Error, label: Label) -> Self {
        if matches!(error, Error::NoItemsFound) { Self::Missing(label) } else { Self::Malformed(label) }
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(label) => write!(f, "there is no PEM block '{}'", label.text()),
            Self::Malformed(label) => write!(f, "a PEM block is cut or not base64 (looking for '{}')", label.text()),
            Self::KeyFormat => f.write_str(
                "the private key is not in PKCS #8; convert it: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW",
            ),
        }
    }
}

impl std::error::Error for PemError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_lines_of_64_characters_and_come_back() {
        for len in [0, 1, 2, 3, 47, 48, 49, 96, 400] {
            let der: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let text = encode(Label::Certificate, &der);
            let lines: Vec<&str> = text.lines().collect();
            assert!(lines[1..lines.len() - 1].iter().rev().skip(1).all(|line| line.len() == 64), "{text}");
            assert_eq!(certificates(text.as_bytes()), Ok(vec![der.clone()]));
            let twice = format!("a comment\n{text}{}{text}", encode(Label::CertificateRequest, &der));
            assert_eq!(certificates(twice.as_bytes()), Ok(vec![der.clone(), der.clone()]));
            assert_eq!(certificate_request(twice.as_bytes()), Ok(der));
        }
        assert_eq!(
            encode(Label::CertificateRequest, b"light w"),
            "-----BEGIN CERTIFICATE REQUEST-----\nbGlnaHQgdw==\n-----END CERTIFICATE REQUEST-----\n"
        );
    }

    #[test]
    fn keys_are_pkcs8_and_nothing_else() {
        let text = encode_private_key(&PrivateKey::from_pkcs8(vec![1, 2, 3]));
        assert_eq!(private_key(text.as_bytes()).unwrap().pkcs8(), [1, 2, 3]);
        assert_eq!(private_key(text.replace("PRIVATE", "EC PRIVATE").as_bytes()).unwrap_err(), PemError::KeyFormat);
        assert_eq!(private_key(b"").unwrap_err(), PemError::Missing(Label::PrivateKey));
        assert_eq!(certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n"), Err(PemError::Malformed(Label::Certificate)));
        assert_eq!(certificates(text.as_bytes()), Err(PemError::Missing(Label::Certificate)));
    }
}
