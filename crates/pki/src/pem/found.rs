//! The contents of a file that holds something unexpected, and the command that converts it to a supported form.
//!
//! Commands are templates: `OLD` and `NEW` stand for the two files. They need OpenSSL 1.1.1 or later.

use std::fmt;

use super::label::Label;
use crate::der::{DerError, Reader, Tag};

/// The unexpected contents of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// A block of PEM with this label.
    Block(&'static str),
    /// A block of PEM with this label, encrypted according to RFC 1421 (`Proc-Type: 4,ENCRYPTED`).
    EncryptedBlock(&'static str),
    /// DER without PEM.
    Der(DerKind),
}

impl Found {
    /// The command that converts it to `wanted`, if there is one.
    pub(super) fn command(self, wanted: Label) -> Option<&'static str> {
        Some(match (wanted, self) {
            (Label::Certificate, Self::Block("TRUSTED CERTIFICATE" | "X509 CERTIFICATE")) => {
                "openssl x509 -in OLD -out NEW"
            }
            (Label::Certificate, Self::Block("PKCS7")) => "openssl pkcs7 -print_certs -in OLD -out NEW",
            (Label::Certificate, Self::Block("CMS")) => "openssl cms -cmsout -noout -inform PEM -in OLD -certsout NEW",
            (Label::Certificate, Self::Der(DerKind::Pkcs12)) => "openssl pkcs12 -in OLD -nokeys -out NEW",
            (Label::Certificate, Self::Der(DerKind::Cms)) => "openssl pkcs7 -inform DER -print_certs -in OLD -out NEW",
            (Label::PrivateKey, Self::EncryptedBlock("EC PRIVATE KEY" | "PRIVATE KEY")) => {
                "openssl pkey -in OLD -out NEW"
            }
            (Label::PrivateKey, Self::Block("ENCRYPTED PRIVATE KEY")) => "openssl pkey -in OLD -out NEW",
            (Label::PrivateKey, Self::Der(DerKind::EncryptedKey)) => "openssl pkcs8 -inform DER -in OLD -out NEW",
            (Label::PrivateKey, Self::Der(DerKind::Pkcs12)) => "openssl pkcs12 -in OLD -nocerts -nodes -out NEW",
            (Label::PrivateKey, Self::Block("OPENSSH PRIVATE KEY")) => {
                "install -m 600 OLD NEW && ssh-keygen -p -N '' -m PKCS8 -f NEW"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block(label) => write!(f, "there is a PEM block `{label}`"),
            Self::EncryptedBlock(label) => write!(f, "there is an encrypted PEM block `{label}`"),
            Self::Der(kind) => write!(f, "the file is the DER of {kind}"),
        }
    }
}

/// The kind of some DER, judged by its outermost elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DerKind {
    /// RFC 5280 §4.1
    Certificate,
    /// PKCS #10
    Request,
    /// RFC 5280 §5.1
    RevocationList,
    /// PKCS #8, SEC 1, or the older forms of RSA and DSA
    PrivateKey,
    /// PKCS #8 EncryptedPrivateKeyInfo
    EncryptedKey,
    /// SubjectPublicKeyInfo
    PublicKey,
    /// PKCS #7 or CMS
    Cms,
    /// PKCS #12, a `.p12` or `.pfx`
    Pkcs12,
}

impl DerKind {
    /// Reads only as many outermost elements as it needs to tell the kinds apart.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let inside = match Reader::sequence(der) {
            Ok(inside) => inside,
            // BER of an indefinite length: the elements inside can be read anyway.
            Err(DerError::Indefinite) => Reader::new(der.get(2..)?),
            Err(_) => return None,
        };
        let mut tags = [None; 3];
        let (mut ahead, mut first) = (inside, &[][..]);
        for (index, tag) in tags.iter_mut().enumerate() {
            let Ok(element) = ahead.element() else { break };
            *tag = Some(element.tag);
            if index == 0 {
                first = element.contents;
            }
        }
        match tags {
            [Some(Tag::OID), ..] => Some(Self::Cms),
            [Some(Tag::INTEGER), ..] if first == [3] => Some(Self::Pkcs12),
            [Some(Tag::INTEGER), Some(Tag::SEQUENCE | Tag::OCTET_STRING | Tag::INTEGER), _] => Some(Self::PrivateKey),
            [Some(Tag::SEQUENCE), Some(Tag::OCTET_STRING), None] => Some(Self::EncryptedKey),
            [Some(Tag::SEQUENCE), Some(Tag::BIT_STRING), None] => Some(Self::PublicKey),
            [Some(Tag::SEQUENCE), Some(Tag::SEQUENCE), Some(Tag::BIT_STRING)] => Some(Self::of_signed(first)),
            _ => None,
        }
    }

    /// Judges by the signed part: a certificate has its version in `[0]`, or no version and five more fields; a request has an INTEGER and two
    /// SEQUENCEs; a revocation list has a time in a place where the others have none.
    fn of_signed(contents: &[u8]) -> Self {
        let mut reader = Reader::new(contents);
        let mut tags = [None; 4];
        for tag in &mut tags {
            *tag = reader.element().ok().map(|element| element.tag);
        }
        let time = |tag: Option<Tag>| matches!(tag, Some(Tag::UTC_TIME | Tag::GENERALIZED_TIME));
        match tags {
            [Some(Tag::INTEGER), Some(Tag::SEQUENCE), Some(Tag::SEQUENCE), last]
                if last != Some(Tag::SEQUENCE) && !time(last) =>
            {
                Self::Request
            }
            [.., third, last] if time(third) || time(last) => Self::RevocationList,
            _ => Self::Certificate,
        }
    }
}

impl fmt::Display for DerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "a certificate",
            Self::Request => "a certificate request",
            Self::RevocationList => "a revocation list",
            Self::PrivateKey => "a private key",
            Self::EncryptedKey => "an encrypted private key",
            Self::PublicKey => "a public key",
            Self::Cms => "a CMS message (PKCS #7)",
            Self::Pkcs12 => "a PKCS #12 store",
        })
    }
}

/// Known labels, and the kind of block that each one marks.
const LABELS: &[&str] = &[
    "TRUSTED CERTIFICATE",
    "X509 CERTIFICATE",
    "CERTIFICATE",
    "NEW CERTIFICATE REQUEST",
    "CERTIFICATE REQUEST",
    "PKCS7",
    "CMS",
    "X509 CRL",
    "ENCRYPTED PRIVATE KEY",
    "EC PRIVATE KEY",
    "RSA PRIVATE KEY",
    "DSA PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
    "PRIVATE KEY",
    "PUBLIC KEY",
    "EC PARAMETERS",
];

/// The blocks of a text with a known label, in order.
pub(super) fn blocks(text: &[u8]) -> impl Iterator<Item = Found> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let starts = text.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN);
    starts.filter_map(|(start, _)| {
        let begun = text.get(start + BEGIN.len()..)?;
        let (label, rest) = LABELS.iter().find_map(|label| {
            let rest = begun.strip_prefix(label.as_bytes())?.strip_prefix(b"-----")?;
            Some((*label, rest.trim_ascii_start()))
        })?;
        let encrypted = rest.starts_with(b"Proc-Type: 4,ENCRYPTED");
        Some(if encrypted { Found::EncryptedBlock(label) } else { Found::Block(label) })
    })
}

/// Inserts the two files into a command, each as one word of a shell.
pub(super) fn with_files(command: &str, old: &str, new: &str) -> String {
    let file = |word| match word {
        "OLD" => old,
        "NEW" => new,
        word => word,
    };
    command.split(' ').map(file).collect::<Vec<_>>().join(" ")
}
