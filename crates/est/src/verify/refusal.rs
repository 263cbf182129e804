//! Maps a refusal of `pki` to one of the handshake.

use dtls::{CertificateFault, CertificateRefusal};
use pki::CertificateFlaw;
use pki::chain::{ChainError, ChainRefusal};

/// Bytes of the detail about a chain: two subjects of 128 bytes and a sentence.
const DETAIL_BYTES_MAX: usize = 512;

/// A refusal of `pki` as one of the handshake, with the text of `pki` for the log.
pub(super) fn refusal(refused: &ChainRefusal) -> CertificateRefusal {
    CertificateRefusal { fault: fault(refused.error), detail: Some(bounded(refused.to_string(), DETAIL_BYTES_MAX)) }
}

/// The faults of `pki` as faults of the handshake, which has fewer: the peer sees only the alert.
fn fault(error: ChainError) -> CertificateFault {
    match error {
        // The kind of key is not supported; the certificate may be valid.
        ChainError::Certificate { error, .. } if matches!(error.flaw, CertificateFlaw::Key(_)) => {
            CertificateFault::UnsupportedAlgorithm
        }
        ChainError::Empty
        | ChainError::Certificate { .. }
        | ChainError::BadEncoding
        | ChainError::SignatureEncoding => CertificateFault::BadEncoding,
        ChainError::TooManyCertificates { .. } => CertificateFault::TooManyCertificates,
        ChainError::UnknownIssuer => CertificateFault::UnknownIssuer,
        ChainError::Expired { .. } => CertificateFault::Expired,
        ChainError::NotYetValid { .. } => CertificateFault::NotYetValid,
        ChainError::BadSignature => CertificateFault::BadSignature,
        ChainError::UnsupportedAlgorithm => CertificateFault::UnsupportedAlgorithm,
        ChainError::KeyUsage { .. } | ChainError::AuthorityAsLeaf | ChainError::AnchorAsLeaf => {
            CertificateFault::KeyUsage
        }
        ChainError::ExtendedKeyUsage => CertificateFault::ExtendedKeyUsage,
        ChainError::NameMismatch => CertificateFault::NameMismatch,
        ChainError::PathLength => CertificateFault::PathLength,
        ChainError::NotAnAuthority => CertificateFault::NotAnAuthority,
        ChainError::NameConstraints => CertificateFault::NameConstraints,
        ChainError::CriticalExtension => CertificateFault::CriticalExtension,
        ChainError::TooMuchWork => CertificateFault::TooMuchWork,
        ChainError::DeviceAsServer => CertificateFault::DeviceAsServer,
    }
}

/// The first `bytes_max` bytes of a text, cut between characters.
pub(super) fn bounded(mut text: String, bytes_max: usize) -> Box<str> {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
    }
    text.into()
}
