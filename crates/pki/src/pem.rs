//! PEM (RFC 7468) for the shells: bytes of a file in, DER out, and back. Whoever reads and writes the files is not here.

use crate::der::Reader;
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

/// All certificates in `text`, in their order. Blocks of other kinds and text between blocks are passed over. A file that is the DER of
/// one certificate, or of a certs-only CMS, is read too.
///
/// # Errors
/// [`PemError::Malformed`] for a broken block; if there is no certificate, what is there instead.
pub fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    if is_der(text) {
        let packed = crate::cms::parse_certs_only(text).ok();
        return Ok(packed.map_or_else(|| vec![text.to_vec()], |all| all.into_iter().map(<[u8]>::to_vec).collect()));
    }
    let text = without_mark(text)?;
    let found = CertificateDer::pem_slice_iter(text)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::from_pem(&error, Label::Certificate, text))?;
    if found.is_empty() { Err(PemError::missing(Label::Certificate, text)) } else { Ok(found) }
}

/// The first request in `text`: PEM under the label of RFC 7468 or the older `NEW CERTIFICATE REQUEST`, or DER as it is.
///
/// # Errors
/// [`PemError::Malformed`] for a broken block; if there is no request, what is there instead.
pub fn certificate_request(text: &[u8]) -> Result<Vec<u8>, PemError> {
    /// RFC 7468 §7: "For backward compatibility, parsers MAY interpret" it as the other.
    const OLDER: &[u8] = b"-----BEGIN NEW CERTIFICATE REQUEST-----";
    if is_der(text) {
        return Ok(text.to_vec());
    }
    let text = without_mark(text)?;
    let renamed;
    let read = if text.windows(OLDER.len()).any(|window| window == OLDER) {
        renamed = String::from_utf8_lossy(text).replace(" NEW CERTIFICATE REQUEST-----", " CERTIFICATE REQUEST-----");
        renamed.as_bytes()
    } else {
        text
    };
    CertificateSigningRequestDer::from_pem_slice(read)
        .map(|der| der.to_vec())
        .map_err(|error| PemError::from_pem(&error, Label::CertificateRequest, text))
}

/// The one PKCS #8 private key in `text`, or that a file in DER is.
///
/// # Errors
/// [`PemError::KeyFormat`] for a key in another format, [`PemError::Malformed`] for a broken block; if there is no key, what is there
/// instead.
pub fn private_key(text: &[u8]) -> Result<PrivateKey, PemError> {
    if is_der(text) {
        return Ok(PrivateKey::from_pkcs8(text.to_vec()));
    }
    let text = without_mark(text)?;
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| PemError::from_pem(&error, Label::PrivateKey, text))?;
        let key = PrivateKey::from_pkcs8(der);
        match kind {
            SectionKind::PrivateKey => return Ok(key),
            SectionKind::EcPrivateKey => return Err(PemError::KeyFormat),
            _ => {}
        }
    }
    Err(PemError::missing(Label::PrivateKey, text))
}

/// One DER element and nothing else. No text begins so: a SEQUENCE of this length is `0` and a character that does not fit.
fn is_der(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) && Reader::sequence(bytes).is_ok()
}

/// The text behind a byte order mark of UTF-8.
fn without_mark(text: &[u8]) -> Result<&[u8], PemError> {
    match text {
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(rest),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(PemError::Utf16),
        _ => Ok(text),
    }
}

/// What may stand in a file instead, and the command that turns it into what is read here, if there is one.
const OTHERS: &[(&str, &str)] = &[
    ("TRUSTED CERTIFICATE", "openssl x509 -in OLD -out NEW"),
    ("X509 CERTIFICATE", "openssl x509 -in OLD -out NEW"),
    ("PKCS7", "openssl pkcs7 -print_certs -in OLD -out NEW"),
    ("CMS", "openssl cms -cmsout -noout -inform PEM -in OLD -certsout NEW"),
    ("ENCRYPTED PRIVATE KEY", "openssl pkcs8 -in OLD -out NEW"),
    ("EC PRIVATE KEY", "openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW"),
    ("OPENSSH PRIVATE KEY", "ssh-keygen -p -N '' -m PKCS8 -f FILE"),
    ("RSA PRIVATE KEY", ""),
    ("DSA PRIVATE KEY", ""),
    ("PUBLIC KEY", ""),
    ("PRIVATE KEY", ""),
    ("CERTIFICATE", ""),
    ("CERTIFICATE REQUEST", ""),
    ("NEW CERTIFICATE REQUEST", ""),
    ("X509 CRL", ""),
];

/// The first block in the text, if it is of a kind that is known.
fn first_other(text: &[u8]) -> Option<(&'static str, &'static str)> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let at = text.windows(BEGIN.len()).position(|window| window == BEGIN)? + BEGIN.len();
    let begun = text.get(at..)?;
    OTHERS
        .iter()
        .find(|(label, _)| begun.strip_prefix(label.as_bytes()).is_some_and(|rest| rest.starts_with(b"-----")))
        .copied()
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
    /// There is no block of this kind, and none of another that is known.
    Missing(Label),
    /// There is a block of another kind.
    Other {
        /// What was looked for.
        wanted: Label,
        /// What is there.
        found: &'static str,
        /// The command that turns it into what was looked for; empty if there is none.
        command: &'static str,
    },
    /// A block has no end, or is not base64.
    Malformed(Label),
    /// A private key in another format than PKCS #8.
    KeyFormat,
    /// Text in UTF-16, as some editors and shells write it.
    Utf16,
}

impl PemError {
    fn from_pem(error: &Error, label: Label, text: &[u8]) -> Self {
        if matches!(error, Error::NoItemsFound) { Self::missing(label, text) } else { Self::Malformed(label) }
    }

    fn missing(wanted: Label, text: &[u8]) -> Self {
        first_other(text).map_or(Self::Missing(wanted), |(found, command)| Self::Other { wanted, found, command })
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(label) => write!(f, "there is no PEM block '{}'", label.text()),
            Self::Other { wanted, found, command: "" } => {
                write!(f, "there is a PEM block `{found}`, and none `{}`", wanted.text())
            }
            Self::Other { wanted, found, command } => {
                write!(f, "there is a PEM block `{found}`, and none `{}`; convert it: {command}", wanted.text())
            }
            Self::Malformed(label) => write!(f, "a PEM block is cut or not base64 (looking for '{}')", label.text()),
            Self::KeyFormat => f.write_str(
                "the private key is not in PKCS #8; convert it: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW",
            ),
            Self::Utf16 => f.write_str("the text is UTF-16; convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW"),
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
        let other = PemError::Other { wanted: Label::Certificate, found: "PRIVATE KEY", command: "" };
        assert_eq!(certificates(text.as_bytes()), Err(other));
    }
}
