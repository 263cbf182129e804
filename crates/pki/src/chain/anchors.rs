//! Anchors: the certificates at which trust begins.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::error::{AnchorError, AnchorFlaw, ChainError};
use super::remembered::{AuthoritySignature, RememberedSignatures};
use crate::certificate::Certificate;
use crate::encoding::Encoding;

/// Certificates that are trusted to issue: the manufacturers of a profile, the roots of a client.
#[derive(Clone, Debug)]
pub struct Anchors {
    certificates: Vec<Arc<Certificate>>,
    /// In the same order as `certificates`.
    pub(super) trust: Vec<TrustAnchor<'static>>,
    /// In the same order: whether leaves below the anchor may be past their notAfter.
    pub(super) expired_below: Vec<bool>,
    /// In the same order: whether paths end at the anchor.
    pub(super) last: Vec<bool>,
    /// How the certificates below the anchors are read.
    pub(super) encoding: Encoding,
    /// Signatures of the authorities below the anchors.
    pub(super) remembered: Arc<RememberedSignatures>,
}

impl Anchors {
    /// Makes anchors from the certificates of authorities, root or not: trust begins at each of them (RFC 5280 §6.1.1
    /// (d)).
    ///
    /// # Errors
    /// [`AnchorError`] for the first certificate that cannot be an anchor. Filter a list from an outside source first:
    /// [`super::Listed::anchors`].
    pub fn new(certificates: Vec<Arc<Certificate>>) -> Result<Self, AnchorError> {
        let trust = certificates
            .iter()
            .enumerate()
            .map(|(index, certificate)| anchor_of(certificate).map_err(|fault| AnchorError { index, fault }))
            .collect::<Result<_, _>>()?;
        let none = vec![false; certificates.len()];
        let (expired_below, last) = (none.clone(), none);
        Ok(Self { certificates, trust, expired_below, last, encoding: Encoding::Strict, remembered: Arc::default() })
    }

    /// Accepts leaves below some anchors although they are past their notAfter: IDevIDs that expired in a warehouse. Such a leaf is
    /// judged at its own notAfter, every certificate above it at the current time.
    #[must_use]
    pub fn accepting_expired_below(mut self, accepts: impl Fn(&Certificate) -> bool) -> Self {
        self.expired_below = self.certificates.iter().map(|anchor| accepts(anchor)).collect();
        self
    }

    /// Ends paths at some anchors: if a peer sends a certificate of such an authority, the path does not continue to an anchor above it, which
    /// may belong to another origin with other rules. A path may continue past any other anchor, because the peer may have a newer certificate
    /// of that authority than we have, with wider constraints.
    #[must_use]
    pub fn ending_at(mut self, is_last: impl Fn(&Certificate) -> bool) -> Self {
        self.last = self.certificates.iter().map(|anchor| is_last(anchor)).collect();
        self
    }

    /// Sets how certificates below these anchors are read. A verifier for several profiles reads as leniently as the most lenient of
    /// them; the other profiles check [`super::Verified::deviations`].
    #[must_use]
    pub fn reading(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// Remembers signatures of authorities, from [`super::Verified::authorities`], so that further chains need not prove them again. Call it once
    /// the peer is authenticated: whoever only shows the chain of another one changes nothing.
    pub fn remember(&self, authorities: &[AuthoritySignature]) {
        authorities.iter().for_each(|signature| self.remembered.keep(*signature));
    }

    /// The certificates, in the order in which they were given.
    #[must_use]
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }
}

/// The certificate as an anchor, as webpki wants it.
pub(super) fn anchor_of(certificate: &Certificate) -> Result<TrustAnchor<'static>, AnchorFlaw> {
    if !certificate.is_ca() {
        return Err(AnchorFlaw::NotAnAuthority);
    }
    if certificate.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
        return Err(AnchorFlaw::KeyUsage);
    }
    let der = CertificateDer::from(certificate.der());
    let anchor = webpki::anchor_from_trusted_cert(&der);
    anchor.map(|anchor| anchor.to_owned()).map_err(|error| AnchorFlaw::Invalid(ChainError::from_webpki(&error)))
}
