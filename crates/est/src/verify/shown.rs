//! The checks that both sides share: a presented chain, before its signatures are verified.

use std::sync::Arc;

use dtls::{
    CertificateFault, CertificateRefusal, EcdsaPublicKey, Judgement, SignatureCheck, SignatureScheme, UnprovenPeer,
    Verdicts,
};
use pki::Digest;
use pki::chain::{self, Anchors, Verified};

use super::refusal::refusal;
use crate::keys::session_key;

/// A chain that passed all checks except its signatures, and the key of its leaf in the form that the handshake needs.
pub(super) struct ShownChain {
    pub(super) chain: chain::Unproven<Arc<Anchors>>,
    pub(super) key: EcdsaPublicKey,
    /// For a server: the digest of its whole chain.
    pub(super) digest: Option<Digest>,
}

impl ShownChain {
    pub(super) fn new(
        chain: chain::Unproven<Arc<Anchors>>,
        digest: Option<Digest>,
    ) -> Result<Self, CertificateRefusal> {
        let key = session_key(chain.leaf()).ok_or(CertificateFault::UnsupportedAlgorithm)?;
        Ok(Self { chain, key, digest })
    }
}

impl UnprovenPeer for ShownChain {
    type Proven = Verified;

    fn key(&self) -> &EcdsaPublicKey {
        &self.key
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        self.chain.checks().map(signature_check)
    }

    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Judgement<Self, Verified>, CertificateRefusal> {
        let Self { chain, key, digest } = self;
        Ok(match chain.conclude(verdicts.iter()).map_err(|refused| refusal(&refused))? {
            chain::Conclusion::Proven(verified) => Judgement::Proven(verified),
            chain::Conclusion::Further(chain) => Judgement::Further(Self { chain: *chain, key, digest }),
        })
    }
}

/// The signature check of a chain in the form that the handshake's cryptography needs.
fn signature_check(check: chain::Check<'_>) -> SignatureCheck<'_> {
    let curve = match check.key.curve() {
        pki::Curve::P256 => dtls::NamedCurve::P256,
        pki::Curve::P384 => dtls::NamedCurve::P384,
    };
    let scheme = match check.algorithm {
        pki::SignatureAlgorithm::EcdsaWithSha256 => SignatureScheme::EcdsaSecp256r1Sha256,
        pki::SignatureAlgorithm::EcdsaWithSha384 => SignatureScheme::EcdsaSecp384r1Sha384,
    };
    SignatureCheck { curve, point: check.key.point(), scheme, message: check.message, signature: check.signature }
}
