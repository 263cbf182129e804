//! Why a chain is refused: one variant a cause, and one table from webpki's errors.

use crate::certificate::CertificateError;
use rustls_pki_types::UnixTime;
use std::fmt;
use webpki::Error;

/// Why a chain does not make its sender a device, or a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainError {
    /// No certificate was sent.
    Empty,
    /// More certificates than [`super::CHAIN_CERTIFICATES_MAX`].
    TooManyCertificates {
        /// How many were sent.
        count: usize,
    },
    /// A certificate is not one that Muster can use.
    Certificate {
        /// Its place in the chain; 0 is the leaf.
        index: usize,
        /// What is wrong with it.
        error: CertificateError,
    },
    /// No anchor has issued the leaf, directly or through the certificates that were sent.
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
    /// The issuer that the names lead to did not sign this.
    BadSignature,
    /// A signature or key on the path is not ECDSA with SHA-256 on P-256, or with SHA-256 or SHA-384 on P-384.
    UnsupportedAlgorithm,
    /// keyUsage does not allow what the certificate is used for.
    KeyUsage {
        /// Its place in the chain: 0 lacks digitalSignature, any other lacks keyCertSign.
        index: usize,
    },
    /// extKeyUsage does not allow what the leaf is used for, or a server has none.
    ExtendedKeyUsage,
    /// The server's certificate does not bear the name that was dialled.
    NameMismatch,
    /// More authorities on the path than a pathLenConstraint allows.
    PathLength,
    /// A certificate that issued another is no authority.
    NotAnAuthority,
    /// The leaf is an authority.
    AuthorityAsLeaf,
    /// The leaf has the key of an anchor.
    AnchorAsLeaf,
    /// A name on the path is outside the nameConstraints above it (or these constrain directory names, which cannot be judged).
    NameConstraints,
    /// An extension is critical and unknown.
    CriticalExtension,
    /// An extension or name has contents that path validation cannot use.
    BadEncoding,
    /// Verifying the chain took more signatures or steps than any honest one needs.
    TooMuchWork,
    /// The server shows the certificate of a device.
    DeviceAsServer,
}

impl ChainError {
    /// webpki's errors as ours. Those of revocation lists cannot occur: none are given to it.
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
            // `Error` is open. What is new or belongs to revocation lists is a chain that does not lead to us.
            _ => Self::UnknownIssuer,
        }
    }
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Empty => "no certificate was sent",
            Self::TooManyCertificates { count } => return write!(f, "{count} certificates were sent"),
            Self::Certificate { index, error } => return write!(f, "certificate {index} of the chain, {error}"),
            Self::UnknownIssuer => "no trusted authority has issued the certificate",
            Self::Expired { .. } => "a certificate of the chain has expired",
            Self::NotYetValid { .. } => "a certificate of the chain is not valid yet",
            Self::BadSignature => "a signature of the chain does not verify",
            Self::UnsupportedAlgorithm => "the chain uses an algorithm other than ECDSA on P-256 or P-384",
            Self::KeyUsage { index: 0 } => "the certificate's keyUsage lacks digitalSignature",
            Self::KeyUsage { .. } => "the keyUsage of an authority lacks keyCertSign",
            Self::ExtendedKeyUsage => "the certificate's extKeyUsage does not allow this use",
            Self::NameMismatch => "the certificate does not bear the name that was dialled",
            Self::PathLength => "a pathLenConstraint of the chain is exceeded",
            Self::NotAnAuthority => "a certificate that issued another is no authority",
            Self::AuthorityAsLeaf => "the certificate is that of an authority",
            Self::AnchorAsLeaf => "the certificate has the key of a trusted authority",
            Self::NameConstraints => "a name of the chain is outside the nameConstraints above it",
            Self::CriticalExtension => "a critical extension of the chain is unknown",
            Self::BadEncoding => "an extension of the chain is malformed",
            Self::TooMuchWork => "verifying the chain takes more work than any honest one",
            Self::DeviceAsServer => "the server shows the certificate of a device",
        };
        f.write_str(text)
    }
}

impl std::error::Error for ChainError {}

/// Why a certificate is no anchor. The fault of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnchorError {
    /// basicConstraints or keyUsage say that it signs no certificates.
    NotAnAuthority {
        /// Its place in the list.
        index: usize,
    },
    /// Path validation cannot use it.
    Unusable {
        /// Its place in the list.
        index: usize,
    },
}

impl fmt::Display for AnchorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAuthority { index } => write!(f, "anchor {index} is not the certificate of an authority"),
            Self::Unusable { index } => write!(f, "anchor {index} cannot be used to validate paths"),
        }
    }
}

impl std::error::Error for AnchorError {}
