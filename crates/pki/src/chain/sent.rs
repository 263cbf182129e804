//! The peer's own certificate and the others that it sent, as far as they can be read.

use std::sync::Arc;

use super::error::{ChainError, ChainRefusal, Culprit};
use crate::certificate::{Certificate, CertificateError};
use crate::der::{CERTIFICATE_LIMITS, Reader, Tag};
use crate::encoding::Encoding;
use crate::name::Name;

/// Certificates that a peer may send: a leaf, the six intermediate authorities that webpki accepts, and the root that some
/// devices append although it is not needed.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;

/// The certificates that a peer sent.
pub(super) struct Chain {
    pub(super) leaf: Arc<Certificate>,
    pub(super) others: Vec<Other>,
}

/// A certificate beside the leaf.
pub(super) enum Other {
    Readable(Box<Certificate>),
    /// An unreadable certificate. If a path needs it, `error` explains why there is no path. `subject` is its name in DER, as
    /// far as it could be read.
    Unreadable {
        error: CertificateError,
        subject: Option<Box<[u8]>>,
    },
}

impl Other {
    pub(super) fn readable(&self) -> Option<&Certificate> {
        match self {
            Self::Readable(certificate) => Some(certificate),
            Self::Unreadable { .. } => None,
        }
    }
}

impl Chain {
    pub(super) fn parse(chain: &[&[u8]], encoding: Encoding) -> Result<Self, ChainRefusal> {
        let (&leaf, rest) = chain.split_first().ok_or(ChainError::Empty)?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            return Err(ChainError::TooManyCertificates { count: chain.len() }.into());
        }
        let leaf = Certificate::parse_as(leaf, encoding).map_err(|error| {
            let subject = skimmed_subject(leaf).and_then(|subject| Name::parse(subject).ok());
            ChainRefusal::of(ChainError::Certificate { index: 0, error }, Culprit { index: Some(0), subject })
        })?;
        let other = |der: &&[u8]| match Certificate::parse_as(der, encoding) {
            Ok(certificate) => Other::Readable(Box::new(certificate)),
            Err(error) => Other::Unreadable { error, subject: skimmed_subject(der).map(Into::into) },
        };
        Ok(Self { leaf: Arc::new(leaf), others: rest.iter().map(other).collect() })
    }

    /// The leaf or another certificate; `index` is its index in the peer's message.
    pub(super) fn certificate(&self, index: usize) -> Option<&Certificate> {
        match index.checked_sub(1) {
            None => Some(&self.leaf),
            Some(other) => self.others.get(other)?.readable(),
        }
    }
}

/// webpki accepts certificates of up to 64 KiB; our limit is smaller.
const _: () = assert!(CERTIFICATE_LIMITS.bytes_max < 65_536);

/// The subject in DER of bytes that may be a certificate, as far as their structure can be followed.
pub(super) fn skimmed_subject(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = Reader::sequence(der).ok()?;
    let mut tbs = certificate.nested(Tag::SEQUENCE).ok()?;
    tbs.optional(Tag::context_constructed(0)).ok()?;
    tbs.expect(Tag::INTEGER).ok()?;
    for _ in ["signature", "issuer", "validity"] {
        tbs.expect_element(Tag::SEQUENCE).ok()?;
    }
    Some(tbs.expect_element(Tag::SEQUENCE).ok()?.whole)
}
