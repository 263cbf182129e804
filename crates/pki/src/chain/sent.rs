//! What a peer sent: its own certificate and others beside it, as far as they can be read.

use std::sync::Arc;

use super::error::{ChainError, ChainRefusal, Culprit};
use crate::certificate::{Certificate, CertificateError};
use crate::der::{CERTIFICATE_LIMITS, Reader, Tag};
use crate::encoding::Encoding;
use crate::name::Name;

/// Certificates that a peer may send: a leaf, the six intermediate authorities that webpki can stack, and the root that some
/// devices append although nobody needs it.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;

/// What a peer sent.
pub(super) struct Chain {
    pub(super) leaf: Arc<Certificate>,
    pub(super) others: Vec<Other>,
}

/// A certificate beside the leaf.
pub(super) enum Other {
    Readable(Box<Certificate>),
    /// It matters only if a path needs it: then this is why there is none. `subject` is what can be told of its name, in DER.
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

    /// The leaf, or one of the others; an index as in the peer's message.
    pub(super) fn certificate(&self, index: usize) -> Option<&Certificate> {
        match index.checked_sub(1) {
            None => Some(&self.leaf),
            Some(other) => self.others.get(other)?.readable(),
        }
    }
}

/// webpki takes certificates of up to 64 KiB; ours are smaller.
const _: () = assert!(CERTIFICATE_LIMITS.bytes_max < 65_536);

/// The subject of something that may be a certificate, in DER, as far as its outline can be followed.
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
