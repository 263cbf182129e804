//! Chains: from a peer's certificates to an anchor of ours (RFC 5280 §6), by `rustls-webpki`, and what it leaves out.
//!
//! webpki builds and verifies the path: signatures, validity, basicConstraints with pathLenConstraint, nameConstraints, critical
//! extensions, extKeyUsage where there is one. It does not look at keyUsage, does not ask a server for an EKU, forgets an anchor's own
//! pathLenConstraint, and may be made to verify a hundred signatures. These are checked here, as is that a leaf is not one of
//! the anchors themselves. webpki refuses every chain below directoryName constraints; such a chain is [`ChainError::NameConstraints`].
//!
//! Revocation is not looked at: whether a certificate still stands is the ledger's to say.

mod error;

pub use error::{AnchorError, ChainError};

use crate::certificate::Certificate;
use crate::der::CERTIFICATE_LIMITS;
use crate::encoding::Encoding;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName, SignatureVerificationAlgorithm, TrustAnchor,
    UnixTime,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

/// Certificates that a peer may send: a leaf, the six intermediate authorities that webpki can stack, and the root that some
/// devices append although nobody needs it.
pub const CHAIN_CERTIFICATES_MAX: usize = 8;

/// Signatures verified for one chain: each of the seven levels twice, and two to spare for anchors that share a name. A peer that
/// proved no more than its address cannot make us work longer; webpki alone would go to 100.
pub const SIGNATURES_MAX: usize = 16;

const _: () = assert!(SIGNATURES_MAX >= 2 * (CHAIN_CERTIFICATES_MAX - 1));

/// Authorities of one name in a chain: an old and a new certificate during a roll-over. webpki tries every order of authorities
/// that share a name, which for seven of them are thousands of paths.
pub const SAME_SUBJECT_MAX: usize = 2;

/// Certificates that are trusted to issue: the manufacturers of a profile, the roots of a client.
#[derive(Debug)]
pub struct Anchors {
    certificates: Vec<Arc<Certificate>>,
    /// In the same order as `certificates`.
    trust: Vec<TrustAnchor<'static>>,
    /// How the certificates below them are read.
    encoding: Encoding,
}

impl Anchors {
    /// Anchors from the certificates of authorities, root or not: trust begins at each of them (RFC 5280 §6.1.1 (d)).
    ///
    /// # Errors
    /// [`AnchorError`] for the first certificate that is no authority.
    pub fn new(certificates: Vec<Arc<Certificate>>) -> Result<Self, AnchorError> {
        let trust = certificates
            .iter()
            .enumerate()
            .map(|(index, certificate)| {
                let may_sign = certificate.key_usage().is_none_or(|usage| usage.key_cert_sign());
                if !certificate.is_ca() || !may_sign {
                    return Err(AnchorError::NotAnAuthority { index });
                }
                let der = CertificateDer::from(certificate.der());
                webpki::anchor_from_trusted_cert(&der)
                    .map(|anchor| anchor.to_owned())
                    .map_err(|_| AnchorError::Unusable { index })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { certificates, trust, encoding: Encoding::Strict })
    }

    /// Reads the certificates below these anchors in this way. A verifier that serves several profiles reads as leniently as one of them
    /// does; the others look at [`Certificate::deviations`].
    #[must_use]
    pub fn reading(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// The certificates, in the order in which they were given.
    #[must_use]
    pub fn certificates(&self) -> &[Arc<Certificate>] {
        &self.certificates
    }
}

/// A chain that leads to an anchor.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The peer's own certificate.
    pub leaf: Arc<Certificate>,
    /// The anchor that matched: an index into [`Anchors::certificates`].
    pub anchor: usize,
}

/// Verifies the chain of a device, leaf first: for a handshake in which it authenticates as a client.
///
/// keyUsage has to contain digitalSignature where there is a keyUsage (RFC 5280 §4.2.1.3), and extKeyUsage clientAuth where there is
/// an extKeyUsage: IDevIDs seldom have one.
///
/// # Errors
/// [`ChainError`], each cause on its own.
pub fn verify_device(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> Result<Verified, ChainError> {
    let chain = Chain::parse(chain, anchors.encoding)?;
    let anchor = chain.verify(anchors, utc, KeyUsage::client_auth(), |_| Ok(()))?;
    Ok(Verified { leaf: Arc::new(chain.leaf), anchor })
}

/// Verifies the chain of a device whose own certificate may be past its notAfter: an IDevID that outlived its date in a warehouse.
///
/// The leaf is judged at its own notAfter, everything above it now. A leaf that is not past it is judged as [`verify_device`] does.
///
/// # Errors
/// [`ChainError`], each cause on its own; `Expired` for an authority of the path that is.
pub fn verify_device_past_its_date(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> Result<Verified, ChainError> {
    let chain = Chain::parse(chain, anchors.encoding)?;
    let at = utc.min(chain.leaf.validity().not_after);
    let authorities_now = |path: &[&Certificate]| {
        for validity in path.iter().map(|authority| authority.validity()) {
            if utc < validity.not_before {
                return Err(ChainError::NotYetValid { not_before: validity.not_before });
            }
            if utc > validity.not_after {
                return Err(ChainError::Expired { not_after: validity.not_after });
            }
        }
        Ok(())
    };
    let anchor = chain.verify_path(anchors, at, KeyUsage::client_auth(), |_| Ok(()), authorities_now)?;
    Ok(Verified { leaf: Arc::new(chain.leaf), anchor })
}

/// Verifies the chain of a server, leaf first, that was dialled as `name`.
///
/// RFC 7030 §3.6 wants the server authorised as an EST server, not merely known: extKeyUsage with serverAuth is required, so that
/// no device below the same anchor can play the server.
///
/// # Errors
/// [`ChainError`], each cause on its own.
pub fn verify_server(
    anchors: &Anchors,
    chain: &[&[u8]],
    utc: UnixTime,
    name: &ServerName<'_>,
) -> Result<Verified, ChainError> {
    verify_server_and(anchors, chain, utc, |leaf| leaf.verify_is_valid_for_subject_name(name))
}

/// The same without a name: whether a chain is that of a server at all, for whoever is about to show it.
///
/// # Errors
/// [`ChainError`], each cause on its own.
pub fn verify_server_of_any_name(anchors: &Anchors, chain: &[&[u8]], utc: UnixTime) -> Result<Verified, ChainError> {
    verify_server_and(anchors, chain, utc, |_| Ok(()))
}

fn verify_server_and(
    anchors: &Anchors,
    chain: &[&[u8]],
    utc: UnixTime,
    further: impl Fn(&EndEntityCert<'_>) -> Result<(), webpki::Error>,
) -> Result<Verified, ChainError> {
    let chain = Chain::parse(chain, anchors.encoding)?;
    let purposes = chain.leaf.extended_key_usage().unwrap_or_default();
    if !purposes.server_auth {
        return Err(if purposes.client_auth { ChainError::DeviceAsServer } else { ChainError::ExtendedKeyUsage });
    }
    let anchor = chain.verify(anchors, utc, KeyUsage::server_auth(), further)?;
    Ok(Verified { leaf: Arc::new(chain.leaf), anchor })
}

/// Whether the certificate bears the name of a server, as [`verify_server`] compares it: RFC 9525 §6.3 matches the dNSNames and
/// iPAddresses of the SAN; a common name never names a server.
#[must_use]
pub fn bears_name(certificate: &Certificate, name: &ServerName<'_>) -> bool {
    let der = CertificateDer::from(certificate.der());
    EndEntityCert::try_from(&der).is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(name).is_ok())
}

/// What a peer sent, parsed strictly.
struct Chain<'a> {
    leaf: Certificate,
    leaf_der: CertificateDer<'a>,
    others: Vec<Certificate>,
    others_der: Vec<CertificateDer<'a>>,
}

impl<'a> Chain<'a> {
    fn parse(chain: &[&'a [u8]], encoding: Encoding) -> Result<Self, ChainError> {
        let (&leaf_der, rest) = chain.split_first().ok_or(ChainError::Empty)?;
        if chain.len() > CHAIN_CERTIFICATES_MAX {
            return Err(ChainError::TooManyCertificates { count: chain.len() });
        }
        let parse = |index: usize, der: &[u8]| {
            Certificate::parse_as(der, encoding).map_err(|error| ChainError::Certificate { index, error })
        };
        let others: Vec<Certificate> =
            rest.iter().enumerate().map(|(index, der)| parse(index + 1, der)).collect::<Result<_, _>>()?;
        let namesakes = |of: &Certificate| others.iter().filter(|other| other.subject() == of.subject()).count();
        if others.iter().any(|authority| namesakes(authority) > SAME_SUBJECT_MAX) {
            return Err(ChainError::TooMuchWork);
        }
        Ok(Self {
            leaf: parse(0, leaf_der)?,
            leaf_der: CertificateDer::from(leaf_der),
            others,
            others_der: rest.iter().map(|&der| CertificateDer::from(der)).collect(),
        })
    }

    /// The index of the anchor that the path leads to.
    fn verify(
        &self,
        anchors: &Anchors,
        utc: UnixTime,
        usage: KeyUsage,
        further: impl Fn(&EndEntityCert<'_>) -> Result<(), webpki::Error>,
    ) -> Result<usize, ChainError> {
        self.verify_path(anchors, utc, usage, further, |_| Ok(()))
    }

    /// The same, with a demand on the authorities between leaf and anchor.
    fn verify_path(
        &self,
        anchors: &Anchors,
        utc: UnixTime,
        usage: KeyUsage,
        further: impl Fn(&EndEntityCert<'_>) -> Result<(), webpki::Error>,
        of_authorities: impl Fn(&[&Certificate]) -> Result<(), ChainError>,
    ) -> Result<usize, ChainError> {
        self.check_leaf(anchors)?;
        let budget = Budget::new();
        let counted = budget.algorithms();
        let supported = counted.each_ref().map(|counted| counted as &dyn SignatureVerificationAlgorithm);
        let leaf = EndEntityCert::try_from(&self.leaf_der).map_err(|error| ChainError::from_webpki(&error))?;
        let path =
            leaf.verify_for_usage(&supported, &anchors.trust, &self.others_der, utc, usage, None, None).map_err(
                |error| if budget.is_exhausted() { ChainError::TooMuchWork } else { ChainError::from_webpki(&error) },
            )?;
        let anchor = anchors
            .trust
            .iter()
            .position(|anchor| std::ptr::eq(anchor, path.anchor()))
            .ok_or(ChainError::UnknownIssuer)?;
        let authorities = self.check_authorities(&path, &anchors.certificates[anchor])?;
        of_authorities(&authorities)?;
        further(&leaf).map_err(|error| ChainError::from_webpki(&error))?;
        Ok(anchor)
    }

    fn check_leaf(&self, anchors: &Anchors) -> Result<(), ChainError> {
        // An anchor vouches for others. Its holder is an authority, and an authority is no device and no server.
        if anchors.certificates.iter().any(|anchor| anchor.spki() == self.leaf.spki()) {
            return Err(ChainError::AnchorAsLeaf);
        }
        if self.leaf.is_ca() {
            return Err(ChainError::AuthorityAsLeaf);
        }
        // RFC 5280 §4.2.1.3: digitalSignature is asserted when the key verifies signatures other than on certificates; the key of
        // CertificateVerify and ServerKeyExchange does. webpki: "For cert validation, we ignore the KeyUsage extension."
        if self.leaf.key_usage().is_some_and(|usage| !usage.digital_signature()) {
            return Err(ChainError::KeyUsage { index: 0 });
        }
        Ok(())
    }

    /// RFC 5280 §6.1.4 (n): "If a key usage extension is present, verify that the keyCertSign bit is set."
    fn check_authorities(
        &self,
        path: &VerifiedPath<'_>,
        anchor: &Certificate,
    ) -> Result<Vec<&Certificate>, ChainError> {
        let mut between = 0;
        let mut authorities = Vec::new();
        for authority in path.intermediate_certificates() {
            let der = authority.der();
            let index = self.others_der.iter().position(|other| *other == der).ok_or(ChainError::UnknownIssuer)?;
            let authority = &self.others[index];
            if authority.key_usage().is_some_and(|usage| !usage.key_cert_sign()) {
                return Err(ChainError::KeyUsage { index: index + 1 });
            }
            // RFC 5280 §4.2.1.9 counts "non-self-issued intermediate certificates".
            if !authority.subject().matches(authority.issuer()) {
                between += 1;
            }
            authorities.push(authority);
        }
        // RFC 5280 §6.2 leaves it to us whether an anchor's own constraints hold; webpki keeps only its nameConstraints.
        if anchor.path_len().is_some_and(|allowed| between > allowed) {
            return Err(ChainError::PathLength);
        }
        Ok(authorities)
    }
}

/// Counts the signatures that webpki verifies for one chain.
struct Budget {
    left: AtomicUsize,
}

impl Budget {
    const fn new() -> Self {
        // An AtomicUsize because webpki's trait asks for Sync; nobody shares it.
        Self { left: AtomicUsize::new(SIGNATURES_MAX + 1) }
    }

    fn algorithms(&self) -> [Counted<'_>; 6] {
        /// The contents of an AlgorithmIdentifier with NULL parameters, for SHA-256 and SHA-384. [`Certificate`] has refused it where
        /// encodings are strict; webpki finds algorithms by these bytes.
        const NULLED: [&[u8]; 2] = [
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2, 0x05, 0x00],
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3, 0x05, 0x00],
        ];
        use webpki::ring::{ECDSA_P256_SHA256, ECDSA_P384_SHA256, ECDSA_P384_SHA384};
        let counted =
            |algorithm: &'static dyn SignatureVerificationAlgorithm, id| Counted { algorithm, id, left: &self.left };
        let proper =
            |algorithm: &'static dyn SignatureVerificationAlgorithm| counted(algorithm, algorithm.signature_alg_id());
        let nulled = |algorithm, id| counted(algorithm, AlgorithmIdentifier::from_slice(id));
        [
            proper(ECDSA_P256_SHA256),
            proper(ECDSA_P384_SHA256),
            proper(ECDSA_P384_SHA384),
            nulled(ECDSA_P256_SHA256, NULLED[0]),
            nulled(ECDSA_P384_SHA256, NULLED[0]),
            nulled(ECDSA_P384_SHA384, NULLED[1]),
        ]
    }

    /// Was one more asked for than there were?
    fn is_exhausted(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }
}

/// An algorithm on the allow-list that stops verifying when the budget is used up.
#[derive(Debug)]
struct Counted<'a> {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    id: AlgorithmIdentifier,
    left: &'a AtomicUsize,
}

impl SignatureVerificationAlgorithm for Counted<'_> {
    fn verify_signature(&self, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let left = self.left.load(Ordering::Relaxed).saturating_sub(1);
        self.left.store(left, Ordering::Relaxed);
        if left == 0 {
            return Err(InvalidSignature);
        }
        self.algorithm.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.id
    }
}

/// webpki takes certificates of up to 64 KiB; ours are smaller.
const _: () = assert!(CERTIFICATE_LIMITS.bytes_max < 65_536);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Curve;
    use crate::key::{PrivateKey, SigningKey};

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test plays the shell that owns the randomness")]
    fn d64_the_signature_after_the_last_one_is_not_verified() {
        let random = ring::rand::SystemRandom::new();
        let key = PrivateKey::generate(Curve::P256, &random).unwrap();
        let key = SigningKey::from_pkcs8(key.pkcs8(), &random).unwrap();
        let signature = key.sign(&random, b"message").unwrap();
        let budget = Budget::new();
        let [counted, ..] = budget.algorithms();
        for _ in 0..SIGNATURES_MAX {
            assert!(counted.verify_signature(key.point(), b"message", signature.as_bytes()).is_ok());
        }
        assert!(!budget.is_exhausted());
        assert!(counted.verify_signature(key.point(), b"message", signature.as_bytes()).is_err());
        assert!(budget.is_exhausted());
    }
}
