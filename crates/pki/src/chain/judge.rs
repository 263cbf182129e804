//! webpki's judgement of one path, under the assumption that exactly the signatures of that path are good.

use std::fmt;

use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, Der, InvalidSignature, ServerName, SignatureVerificationAlgorithm,
    TrustAnchor, UnixTime,
};
use webpki::{EndEntityCert, KeyUsage};

use super::anchors::Anchors;
use super::blame::blame;
use super::demand::{Demand, LeafUse, Moment};
use super::error::{ChainError, ChainRefusal};
use super::path::ChainPath;
use super::sent::Chain;
use crate::certificate::Certificate;

/// Checks whether the leaf can have this role at all, independent of the certificates above it.
pub(super) fn check_leaf(leaf: &Certificate, anchors: &Anchors) -> Result<(), ChainRefusal> {
    let refuse = |error| Err(ChainRefusal::of_certificate(error, 0, leaf));
    // An anchor vouches for others. Its holder is an authority, and an authority is neither a device nor a server.
    if anchors.certificates().iter().any(|anchor| anchor.spki() == leaf.spki()) {
        return refuse(ChainError::AnchorAsLeaf);
    }
    if leaf.is_ca() {
        return refuse(ChainError::AuthorityAsLeaf);
    }
    // RFC 5280 §4.2.1.3: digitalSignature is asserted when the key verifies signatures other than on certificates; the key of
    // CertificateVerify and ServerKeyExchange does. webpki: "For cert validation, we ignore the KeyUsage extension."
    if leaf.key_usage().is_some_and(|usage| !usage.digital_signature()) {
        return refuse(ChainError::KeyUsage { index: 0 });
    }
    Ok(())
}

/// RFC 9525 §6.3 matches the names of the SAN; a common name never names a server.
pub(super) fn check_name(leaf: &Certificate, name: &ServerName<'_>) -> Result<(), ChainRefusal> {
    let der = CertificateDer::from(leaf.der());
    let named = EndEntityCert::try_from(&der).and_then(|leaf| leaf.verify_is_valid_for_subject_name(name));
    named.map_err(|error| {
        let refusal = ChainRefusal::of_certificate(ChainError::from_webpki(&error), 0, leaf);
        refusal.with(format!("its subjectAltName does not contain {}", name.to_str()))
    })
}

/// Judges `path`, except for its signatures.
pub(super) fn judge(chain: &Chain, path: &ChainPath, anchors: &Anchors, demand: Demand) -> Result<(), ChainRefusal> {
    let Some(anchor) = anchors.certificates().get(path.anchor) else { return Err(ChainError::UnknownIssuer.into()) };
    let expired_may_pass = anchors.expired_below.get(path.anchor).copied().unwrap_or_default();
    let at = if expired_may_pass { demand.utc.min(chain.leaf.validity().not_after) } else { demand.utc };
    let usage = match demand.leaf_use {
        LeafUse::Device => KeyUsage::client_auth(),
        LeafUse::Server => KeyUsage::server_auth(),
    };
    let refuse = |error: &webpki::Error| blame(chain, path, &Moment { at, demand }, anchor, error);
    let leaf_der = CertificateDer::from(chain.leaf.der());
    let leaf = EndEntityCert::try_from(&leaf_der).map_err(|error| refuse(&error))?;
    let between: Vec<CertificateDer<'_>> =
        path.between().filter_map(|index| chain.certificate(index)).map(|it| CertificateDer::from(it.der())).collect();
    let trust = trust_anchor(chain, path, anchors).ok_or(ChainError::UnknownIssuer)?;
    let assumed = Assumed::of(chain, path, anchor);
    let supported = assumed.each_ref().map(|assumed| assumed as &dyn SignatureVerificationAlgorithm);
    leaf.verify_for_usage(&supported, &[trust], &between, at, usage, None, None).map_err(|error| refuse(&error))?;
    check_authorities(chain, path, anchor, demand.utc)
}

/// The anchor in the form for webpki. webpki compares names byte by byte; where two names differ only in case, white space or string
/// type, webpki gets the spelling that the certificate below uses.
fn trust_anchor<'a>(chain: &'a Chain, path: &ChainPath, anchors: &'a Anchors) -> Option<TrustAnchor<'a>> {
    let trust = anchors.trust.get(path.anchor)?;
    let last = chain.certificate(path.indices().last()?)?;
    let same = last.issuer() == anchors.certificates().get(path.anchor)?.subject();
    let subject = if same { trust.subject.as_ref() } else { last.issuer().contents() };
    Some(TrustAnchor {
        subject: Der::from_slice(subject),
        subject_public_key_info: Der::from_slice(&trust.subject_public_key_info),
        name_constraints: trust.name_constraints.as_ref().map(|constraints| Der::from_slice(constraints)),
    })
}

/// RFC 5280 §6.1.4 (n): "If a key usage extension is present, verify that the keyCertSign bit is set."
fn check_authorities(chain: &Chain, path: &ChainPath, anchor: &Certificate, utc: UnixTime) -> Result<(), ChainRefusal> {
    let mut between = 0;
    for index in path.between() {
        let Some(authority) = chain.certificate(index) else { return Err(ChainError::UnknownIssuer.into()) };
        let refuse = |error| Err(ChainRefusal::of_certificate(error, index, authority));
        if authority.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
            return refuse(ChainError::KeyUsage { index });
        }
        // Even if the leaf's dates are ignored, those of an authority count.
        let validity = authority.validity();
        if utc < validity.not_before {
            return refuse(ChainError::NotYetValid { not_before: validity.not_before });
        }
        if utc > validity.not_after {
            return refuse(ChainError::Expired { not_after: validity.not_after });
        }
        // RFC 5280 §4.2.1.9 counts "non-self-issued intermediate certificates".
        if !authority.subject().matches(authority.issuer()) {
            between += 1;
        }
    }
    // RFC 5280 §6.2 leaves it to us whether an anchor's own constraints apply; webpki enforces only its
    // nameConstraints.
    if let Some(allowed) = anchor.path_len().filter(|allowed| between > *allowed) {
        return Err(ChainRefusal::of_anchor(ChainError::PathLength, anchor)
            .with(format!("its pathLenConstraint is {allowed}, and {between} authorities are below it")));
    }
    Ok(())
}

/// An algorithm on the allow-list that accepts exactly the signatures of one path. The signatures are verified before this
/// judgement is reported.
struct Assumed<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    id: AlgorithmIdentifier,
    chain: &'a Chain,
    path: &'a ChainPath,
    anchor: &'a Certificate,
}

impl<'a> Assumed<'a> {
    fn of(chain: &'a Chain, path: &'a ChainPath, anchor: &'a Certificate) -> [Self; 8] {
        /// The contents of an AlgorithmIdentifier with NULL parameters, for SHA-256 and SHA-384. [`Certificate`] refuses it where
        /// encodings are strict; webpki looks algorithms up by these bytes.
        const NULLED: [&[u8]; 2] = [
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 0x05, 0x00],
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3, 0x05, 0x00],
        ];
        use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P256_SHA384, ECDSA_P384_SHA256, ECDSA_P384_SHA384};
        let assumed =
            |algorithm: &'static dyn SignatureVerificationAlgorithm, id| Self { algorithm, id, chain, path, anchor };
        let proper =
            |algorithm: &'static dyn SignatureVerificationAlgorithm| assumed(algorithm, algorithm.signature_alg_id());
        let nulled = |algorithm, id| assumed(algorithm, AlgorithmIdentifier::from_slice(id));
        [
            proper(ECDSA_P256_SHA256),
            proper(ECDSA_P256_SHA384),
            proper(ECDSA_P384_SHA256),
            proper(ECDSA_P384_SHA384),
            nulled(ECDSA_P256_SHA256, NULLED[0]),
            nulled(ECDSA_P256_SHA384, NULLED[1]),
            nulled(ECDSA_P384_SHA256, NULLED[0]),
            nulled(ECDSA_P384_SHA384, NULLED[1]),
        ]
    }
}

impl fmt::Debug for Assumed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assumed").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl SignatureVerificationAlgorithm for Assumed<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let is_of_path = self.path.links().any(|(index, issuer)| {
            let issuer = match issuer {
                Some(issuer) => self.chain.certificate(issuer),
                None => Some(self.anchor),
            };
            let (Some(certificate), Some(issuer)) = (self.chain.certificate(index), issuer) else { return false };
            certificate.to_be_signed() == message
                && certificate.signature() == signature
                && issuer.public_key().point() == public_key
                && certificate.signature_algorithm().is_some()
        });
        if is_of_path { Ok(()) } else { Err(InvalidSignature) }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }
}
