//! PEM (RFC 7468): converts the bytes of a file to DER and back. The caller reads and writes the files.

mod found;
mod label;

use std::fmt;

use rustls_pki_types::pem::{Error, PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use zeroize::Zeroizing;

use crate::algorithm::AlgorithmError;
use crate::cms::CmsError;
use crate::der::{DerError, Reader};
use crate::private_key::{KeyError, PrivateKey};

pub use found::{DerKind, Found};
pub use label::Label;

/// Encodes one block of PEM. For keys use [`encode_private_key`], which wipes the text.
#[must_use]
pub fn encode(label: Label, der: &[u8]) -> String {
    let label = label.text();
    // RFC 7468 §2: lines of exactly 64 characters except for the last one.
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

/// Encodes a private key as a block of PEM that is wiped when dropped.
#[must_use]
pub fn encode_private_key(key: &PrivateKey) -> Zeroizing<String> {
    Zeroizing::new(encode(Label::PrivateKey, key.pkcs8()))
}

/// All certificates in `text`, in order. Blocks of other kinds and text between blocks are skipped. A file that is the DER of one
/// certificate, or of a certs-only CMS, is read too.
///
/// # Errors
/// [`PemError::Malformed`] for a broken block; an error for any certificate in an unsupported form; if there is no certificate, what was found
/// instead.
pub fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    if is_der(text) {
        return certificates_of_der(text);
    }
    let text = without_mark(text)?;
    // If one of several certificates were skipped, nobody would notice before a peer shows it.
    let unread =
        |found: &Found| matches!(found, Found::Block("TRUSTED CERTIFICATE" | "X509 CERTIFICATE" | "PKCS7" | "CMS"));
    if let Some(found) = found::blocks(text).find(unread) {
        return Err(PemError::Other { wanted: Label::Certificate, found });
    }
    let found = CertificateDer::pem_slice_iter(text)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::from_pem(&error, Label::Certificate, text))?;
    if found.is_empty() { Err(PemError::missing(Label::Certificate, text)) } else { Ok(found) }
}

fn certificates_of_der(der: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    match DerKind::of(der) {
        Some(DerKind::Cms) => match crate::cms::parse_certs_only(der) {
            Ok(all) => Ok(all.into_iter().map(<[u8]>::to_vec).collect()),
            Err(error) => Err(PemError::Cms(error)),
        },
        Some(found) if found != DerKind::Certificate => {
            Err(PemError::Other { wanted: Label::Certificate, found: Found::Der(found) })
        }
        _ => whole(der, Label::Certificate).map(|der| vec![der]),
    }
}

/// The first request in `text`: PEM under the label of RFC 7468 or the older `NEW CERTIFICATE REQUEST`, or plain DER.
///
/// # Errors
/// [`PemError::Malformed`] for a broken block; if there is no request, what was found instead.
pub fn certificate_request(text: &[u8]) -> Result<Vec<u8>, PemError> {
    /// RFC 7468 §7: "For backward compatibility, parsers MAY interpret" the older label as the current one.
    const OLDER: &[u8] = b"-----BEGIN NEW CERTIFICATE REQUEST-----";
    const WANTED: Label = Label::CertificateRequest;
    if is_der(text) {
        return match DerKind::of(text) {
            Some(found) if found != DerKind::Request => {
                Err(PemError::Other { wanted: WANTED, found: Found::Der(found) })
            }
            _ => whole(text, WANTED),
        };
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
        .map_err(|error| PemError::from_pem(&error, WANTED, text))
}

/// The first private key in `text`, or the one in a DER file: PKCS #8 or SEC 1, with or without its public key.
///
/// # Errors
/// [`PemError::Key`] if the key cannot be used, [`PemError::Other`] if it is encrypted; [`PemError::Malformed`] for a broken block; if there is no
/// key, what was found instead.
pub fn private_key(text: &[u8]) -> Result<PrivateKey, PemError> {
    const WANTED: Label = Label::PrivateKey;
    if is_der(text) {
        return match DerKind::of(text) {
            Some(found) if found != DerKind::PrivateKey => {
                Err(PemError::Other { wanted: WANTED, found: Found::Der(found) })
            }
            _ => PrivateKey::read(text).map_err(PemError::Key),
        };
    }
    let text = without_mark(text)?;
    let is_key = |found: &Found| {
        matches!(found, Found::EncryptedBlock(_) | Found::Block("PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY"))
    };
    if let Some(found @ Found::EncryptedBlock(_)) = found::blocks(text).find(is_key) {
        return Err(PemError::Other { wanted: WANTED, found });
    }
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        let (kind, der) = section.map_err(|error| PemError::from_pem(&error, WANTED, text))?;
        let der = Zeroizing::new(der);
        if matches!(kind, SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey) {
            return PrivateKey::read(&der).map_err(PemError::Key);
        }
    }
    Err(PemError::missing(WANTED, text))
}

/// Whether the bytes are DER, whole or truncated, or BER. Text never begins like this: a short SEQUENCE is `0` and a character whose value is
/// not the remaining length, and a length of several octets begins with an octet outside ASCII.
fn is_der(bytes: &[u8]) -> bool {
    matches!(bytes, [0x30, length, ..] if !length.is_ascii())
        || bytes.first() == Some(&0x30) && Reader::sequence(bytes).is_ok()
}

/// Whether the bytes are exactly one element.
fn whole(der: &[u8], wanted: Label) -> Result<Vec<u8>, PemError> {
    match Reader::sequence(der) {
        Ok(_) => Ok(der.to_vec()),
        Err(error) => Err(PemError::Der { wanted, error }),
    }
}

/// The text after a UTF-8 byte order mark, if there is one.
fn without_mark(text: &[u8]) -> Result<&[u8], PemError> {
    match text {
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(rest),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(PemError::Utf16),
        _ => Ok(text),
    }
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

/// Why the expected object was not found in a file. It is the file's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PemError {
    /// The file has no block of this kind, and none of another known kind.
    Missing(Label),
    /// The file contains something else.
    Other {
        /// The expected kind.
        wanted: Label,
        /// The kind that was found.
        found: Found,
    },
    /// A block has no end, or is not base64.
    Malformed(Label),
    /// The file begins like DER but is not: it is truncated, or has trailing bytes.
    Der {
        /// The expected kind.
        wanted: Label,
        /// The fault of the DER.
        error: DerError,
    },
    /// A private key that cannot be used.
    Key(KeyError),
    /// A CMS message that is not certs-only, or not DER.
    Cms(CmsError),
    /// Text in UTF-16, which some editors and shells write.
    Utf16,
}

impl PemError {
    fn from_pem(error: &Error, label: Label, text: &[u8]) -> Self {
        if matches!(error, Error::NoItemsFound) { Self::missing(label, text) } else { Self::Malformed(label) }
    }

    fn missing(wanted: Label, text: &[u8]) -> Self {
        // The user probably meant a block that can be converted; other blocks may stand beside it.
        let convertible = found::blocks(text).find(|found| found.command(wanted).is_some());
        let found = convertible.or_else(|| found::blocks(text).next());
        found.map_or(Self::Missing(wanted), |found| Self::Other { wanted, found })
    }

    /// The shell command that converts the file `old` into a readable file `new`, if there is one. Both arguments are words of that shell.
    #[must_use]
    pub fn command(&self, old: &str, new: &str) -> Option<String> {
        let command = match self {
            Self::Other { wanted, found } => found.command(*wanted)?,
            Self::Key(KeyError::Algorithm(AlgorithmError::UnnamedCurve)) => {
                "openssl pkey -in OLD -out NEW -ec_param_enc named_curve"
            }
            Self::Cms(_) => Found::Der(DerKind::Cms).command(Label::Certificate)?,
            Self::Utf16 => "iconv -f UTF-16 -t UTF-8 OLD > NEW",
            Self::Missing(_) | Self::Malformed(_) | Self::Der { .. } | Self::Key(_) => return None,
        };
        Some(found::with_files(command, old, new))
    }
}

impl fmt::Display for PemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(label) => write!(f, "there is no PEM block `{}`", label.text()),
            Self::Other { wanted, found: found @ Found::Der(_) } => {
                write!(f, "{found}, not of {}", wanted.article())
            }
            Self::Other { wanted, found } => write!(f, "{found}, but no `{}`", wanted.text()),
            Self::Malformed(label) => {
                write!(f, "a PEM block is truncated or not base64 (looking for `{}`)", label.text())
            }
            Self::Der { wanted, error } => {
                write!(f, "the file is neither PEM nor the DER of {}: {error}", wanted.article())
            }
            Self::Key(fault) => fault.fmt(f),
            Self::Cms(error) => error.fmt(f),
            Self::Utf16 => f.write_str("the text is UTF-16"),
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
    fn what_is_missing_and_what_is_there_instead_is_named() {
        let text = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        assert_eq!(private_key(text.as_bytes()).unwrap_err(), PemError::Key(KeyError::NotAKey));
        assert_eq!(private_key(b"").unwrap_err(), PemError::Missing(Label::PrivateKey));
        assert_eq!(certificates(b"-----BEGIN CERTIFICATE-----\nAAAA\n"), Err(PemError::Malformed(Label::Certificate)));
        let other = PemError::Other { wanted: Label::Certificate, found: Found::Block("PRIVATE KEY") };
        assert_eq!(certificates(text.as_bytes()), Err(other));
        assert_eq!(other.command("a", "b"), None, "no certificate can be made of a key");
    }
}
