//! Why a chain is refused: one variant for each cause, and one table that maps webpki's errors.

use std::fmt;

use rustls_pki_types::UnixTime;
use webpki::Error;

use crate::certificate::{Certificate, CertificateError};
use crate::name::Name;

/// Why a chain does not prove that its sender is a device or a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainError {
    /// No certificate was sent.
    Empty,
    /// More certificates than [`super::CHAIN_CERTIFICATES_MAX`].
    TooManyCertificates {
        /// How many were sent.
        count: usize,
    },
    /// Muster cannot use a certificate.
    Certificate {
        /// Its place in the chain; 0 is the leaf.
        index: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// No anchor issued the leaf, directly or through the certificates that were sent.
    UnknownIssuer,
    /// A certificate on the path is no longer valid.
    Expired {
        /// Its last second.
        not_after: UnixTime,
    },
    /// A certificate on the path is not valid yet.
    NotYetValid {
        /// Its first second.
        not_before: UnixTime,
    },
    /// The named issuer did not sign this certificate.
    BadSignature,
    /// A signature is not an ECDSA-Sig-Value in DER (RFC 3279 §2.2.3).
    SignatureEncoding,
    /// A signature or key on the path is not ECDSA with SHA-256 on P-256, or with SHA-256 or SHA-384 on P-384.
    UnsupportedAlgorithm,
    /// keyUsage does not allow what the certificate is used for.
    KeyUsage {
        /// Its place in the chain: 0 lacks digitalSignature, any other lacks keyCertSign.
        index: usize,
    },
    /// extKeyUsage of the leaf, or of an authority above it, does not allow the intended use.
    ExtendedKeyUsage,
    /// The server's certificate does not contain the dialled name.
    NameMismatch,
    /// More authorities on the path than a pathLenConstraint allows.
    PathLength,
    /// A certificate that issued another is not an authority.
    NotAnAuthority,
    /// The leaf is an authority.
    AuthorityAsLeaf,
    /// The leaf has the key of an anchor.
    AnchorAsLeaf,
    /// A name on the path violates the nameConstraints above it (or these constrain directory names, which cannot be judged).
    NameConstraints,
    /// An unknown extension is critical.
    CriticalExtension,
    /// An extension or name has contents that path validation cannot use.
    BadEncoding,
    /// Verifying the chain took more signatures or steps than any honest chain needs.
    TooMuchWork,
    /// The server shows the certificate of a device.
    DeviceAsServer,
}

impl ChainError {
    /// Maps webpki's errors to ours. Its errors about revocation lists cannot occur: it is given no lists.
    pub(super) fn from_webpki(error: &Error) -> Self {
        match error {
            Error::CertExpired { not_after, .. } => Self::Expired { not_after: *not_after },
            Error::CertNotValidYet { not_before, .. } => Self::NotYetValid { not_before: *not_before },
            Error::CertNotValidForName(_) | Error::UnsupportedNameType => Self::NameMismatch,
            Error::InvalidSignatureForPublicKey => Self::BadSignature,
            Error::UnknownIssuer => Self::UnknownIssuer,
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Self::ExtendedKeyUsage,
            Error::NameConstraintViolation | Error::MalformedNameConstraint | Error::InvalidNetworkMaskConstraint => {
                Self::NameConstraints
            }
            Error::PathLenConstraintViolated => Self::PathLength,
            Error::CaUsedAsEndEntity => Self::AuthorityAsLeaf,
            Error::EndEntityUsedAsCa => Self::NotAnAuthority,
            Error::UnsupportedCriticalExtension => Self::CriticalExtension,
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | Error::SignatureAlgorithmMismatch => Self::UnsupportedAlgorithm,
            Error::MaximumSignatureChecksExceeded
            | Error::MaximumPathBuildCallsExceeded
            | Error::MaximumNameConstraintComparisonsExceeded
            | Error::MaximumPathDepthExceeded => Self::TooMuchWork,
            Error::BadDer
            | Error::BadDerTime
            | Error::ExtensionValueInvalid
            | Error::InvalidCertValidity
            | Error::InvalidSerialNumber
            | Error::MalformedDnsIdentifier
            | Error::MalformedExtensions
            | Error::TrailingData(_)
            | Error::UnsupportedCertVersion => Self::BadEncoding,
            // `Error` is non-exhaustive. A new variant, or one about revocation lists, means a chain that does not
            // lead to our anchors.
            _ => Self::UnknownIssuer,
        }
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Empty => "no certificate was sent",
            Self::TooManyCertificates { count } => return write!(f, "{count} certificates were sent"),
            Self::Certificate { error, .. } => return error.fmt(f),
            Self::UnknownIssuer => "no trusted authority issued the certificate",
            Self::Expired { .. } => "its notAfter has passed",
            Self::NotYetValid { .. } => "its notBefore is in the future",
            Self::BadSignature => "its signature does not verify with the key of its issuer",
            Self::SignatureEncoding => {
                "its signature is not DER: an ECDSA-Sig-Value is two positive INTEGERs without padding (RFC 3279 §2.2.3)"
            }
            Self::UnsupportedAlgorithm => {
                "it is not signed with ECDSA and SHA-256 by a key on P-256, or with ECDSA and SHA-256 or SHA-384 by a key on P-384"
            }
            Self::KeyUsage { index: 0 } => "its keyUsage lacks digitalSignature (RFC 5280 §4.2.1.3)",
            Self::KeyUsage { .. } => "its keyUsage lacks keyCertSign, which an authority needs (RFC 5280 §4.2.1.3)",
            Self::ExtendedKeyUsage => "its extKeyUsage does not allow this use (RFC 5280 §4.2.1.12)",
            Self::NameMismatch => "its subjectAltName does not contain the name that the client connects to",
            Self::PathLength => "a pathLenConstraint of the chain is exceeded",
            Self::NotAnAuthority => {
                "it issued another certificate, and its basicConstraints do not make it an authority (RFC 5280 §4.2.1.9)"
            }
            Self::AuthorityAsLeaf => {
                "it is a CA certificate (basicConstraints); a device or server needs an end-entity certificate"
            }
            Self::AnchorAsLeaf => "it has the same key as a trusted authority",
            Self::NameConstraints => "a name of the chain is outside the nameConstraints above it",
            Self::CriticalExtension => "it has an unknown critical extension (RFC 5280 §4.2)",
            Self::BadEncoding => "one of its extensions is malformed",
            Self::TooMuchWork => "verifying the chain takes more work than any legitimate chain needs",
            Self::DeviceAsServer => "its extKeyUsage is for a client: a device is acting as the server",
        };
        f.write_str(text)
    }
}

impl std::error::Error for ChainError {}

/// A fault, the certificate that has it, and details.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainRefusal {
    /// The kind of fault.
    pub error: ChainError,
    /// The certificate at fault, if exactly one is.
    pub culprit: Option<Culprit>,
    /// Field and rule, if they add to the kind.
    words: Option<Box<str>>,
}

/// The certificate at fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Culprit {
    /// Its place in the peer's message, where 0 is the leaf; `None` for a trusted authority.
    pub index: Option<usize>,
    /// Its subject, as far as it could be read.
    pub subject: Option<Name>,
}

impl ChainRefusal {
    pub(super) fn of(error: ChainError, culprit: Culprit) -> Self {
        Self { error, culprit: Some(culprit), words: None }
    }

    pub(super) fn of_certificate(error: ChainError, index: usize, certificate: &Certificate) -> Self {
        Self::of(error, Culprit { index: Some(index), subject: Some(certificate.subject().clone()) })
    }

    pub(super) fn of_anchor(error: ChainError, anchor: &Certificate) -> Self {
        Self::of(error, Culprit { index: None, subject: Some(anchor.subject().clone()) })
    }

    /// The same, in these words.
    pub(super) fn with(self, words: String) -> Self {
        Self { words: Some(words.into()), ..self }
    }
}

impl From<ChainError> for ChainRefusal {
    fn from(error: ChainError) -> Self {
        Self { error, culprit: None, words: None }
    }
}

impl fmt::Display for ChainRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.culprit {
            Some(Culprit { index: Some(index), subject }) => {
                write!(f, "certificate {index} of the chain")?;
                if let Some(subject) = subject {
                    write!(f, " ({subject})")?;
                }
                f.write_str(": ")?;
            }
            Some(Culprit { index: None, subject: Some(subject) }) => write!(f, "the trusted authority ({subject}): ")?,
            Some(Culprit { index: None, subject: None }) | None => {}
        }
        match &self.words {
            Some(words) => f.write_str(words),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for ChainRefusal {}

/// A certificate that cannot be an anchor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnchorError {
    /// Its place in the list, counted from 0.
    pub index: usize,
    /// Why it cannot be an anchor.
    pub fault: AnchorFlaw,
}

/// Why a certificate cannot be an anchor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnchorFlaw {
    /// Its basicConstraints do not make it an authority.
    NotAnAuthority,
    /// Its keyUsage lacks keyCertSign.
    KeyUsage,
    /// Path validation cannot use it.
    Invalid(ChainError),
}

impl fmt::Display for AnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate {}: {}", self.index + 1, self.fault)
    }
}

impl std::error::Error for AnchorError {}

impl fmt::Display for AnchorFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAuthority => f.write_str("its basicConstraints do not make it an authority (RFC 5280 §4.2.1.9)"),
            Self::KeyUsage => {
                f.write_str("its keyUsage lacks keyCertSign, which an authority needs (RFC 5280 §4.2.1.3)")
            }
            Self::Invalid(error) => write!(f, "path validation cannot use it: {error}"),
        }
    }
}
