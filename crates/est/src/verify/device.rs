//! Verifies devices, on the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dtls::{
    CertificateFault, CertificateRefusal, EcdsaPublicKey, Judgement, SignatureCheck, UnixTime, UnprovenPeer, Verdicts,
    VerifyPeer,
};
use pki::chain::{self, Anchors, Verified};
use pki::{AnchorId, Certificate, Digest, Encoding};

use super::certificates::{Authenticated, CertificateCache};
use super::refusal::{bounded, refusal};
use super::shown::ShownChain;

/// What a server session stores about its peer: enough to find the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerDevice {
    certificate: Digest,
}

impl PeerDevice {
    /// The digest of the certificate that the device authenticated with.
    #[must_use]
    pub const fn certificate(&self) -> &Digest {
        &self.certificate
    }
}

/// Verifies devices.
pub struct PeerVerifier {
    anchors: Arc<Anchors>,
    /// The ids of the anchors, in the same order.
    ids: Arc<[AnchorId]>,
    authorities: Vec<Vec<u8>>,
    certificates: Arc<CertificateCache>,
}

impl PeerVerifier {
    /// `anchors` may hold one certificate several times; `name_authorities` sends their names in CertificateRequest.
    ///
    /// # Errors
    /// Those of [`Anchors::new`].
    pub fn new(
        anchors: impl IntoIterator<Item = Arc<Certificate>>,
        certificates: Arc<CertificateCache>,
        name_authorities: NameAuthorities,
    ) -> Result<Self, chain::AnchorError> {
        let distinct: BTreeMap<Digest, Arc<Certificate>> =
            anchors.into_iter().map(|anchor| (anchor.digest(), anchor)).collect();
        let anchors: Vec<Arc<Certificate>> = distinct.into_values().collect();
        let authorities = match name_authorities {
            NameAuthorities::LeaveEmpty => Vec::new(),
            NameAuthorities::List => anchors.iter().map(|anchor| anchor.subject().der().to_vec()).collect(),
        };
        let ids = anchors.iter().map(|anchor| anchor.anchor_id()).collect();
        Ok(Self { anchors: Arc::new(Anchors::new(anchors)?), ids, authorities, certificates })
    }

    /// Accepts devices below these anchors although their own certificate is past its notAfter.
    #[must_use]
    pub fn accepting_expired_below(self, anchors: impl IntoIterator<Item = AnchorId>) -> Self {
        let of_expired: BTreeSet<AnchorId> = anchors.into_iter().collect();
        self.with(|all| all.accepting_expired_below(|anchor| of_expired.contains(&anchor.anchor_id())))
    }

    /// Ends every path at these anchors, the issuing CAs: a device certified by one of them does not count as a device
    /// of a manufacturer above it.
    #[must_use]
    pub fn ending_at(self, anchors: impl IntoIterator<Item = AnchorId>) -> Self {
        let last: BTreeSet<AnchorId> = anchors.into_iter().collect();
        self.with(|all| all.ending_at(|anchor| last.contains(&anchor.anchor_id())))
    }

    /// Reads device certificates as the most lenient profile does. A strict profile refuses by
    /// [`Authenticated::deviations`].
    #[must_use]
    pub fn reading(self, encoding: Encoding) -> Self {
        self.with(|all| all.reading(encoding))
    }

    /// Judges a whole chain at once, as the steps of a handshake do one by one: for a caller that has no session.
    ///
    /// # Errors
    /// As [`VerifyPeer::collect`] and [`UnprovenPeer::conclude`].
    pub fn authenticate(&self, chain: &[&[u8]], utc: UnixTime) -> Result<Authenticated, CertificateRefusal> {
        let verified = chain::verify_device(&self.anchors, chain, utc).map_err(|refused| refusal(&refused))?;
        let Verified { leaf: certificate, anchor, deviations } = verified;
        let anchor = *self.ids.get(anchor).ok_or(CertificateFault::UnknownIssuer)?;
        Ok(Authenticated { certificate, anchor, deviations })
    }

    fn with(self, change: impl FnOnce(Anchors) -> Anchors) -> Self {
        Self { anchors: Arc::new(change(Arc::unwrap_or_clone(self.anchors))), ..self }
    }
}

/// Whether CertificateRequest names the authorities that are trusted: `certificate_authorities` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NameAuthorities {
    /// An empty list: small device buffers (RFC 5246 §7.4.4: "the client MAY send any certificate").
    #[default]
    LeaveEmpty,
    /// Lists all of them.
    List,
}

/// A device whose chain is being verified.
pub struct UnprovenDevice {
    shown: ShownChain,
    /// The ids of the verifier's anchors.
    ids: Arc<[AnchorId]>,
}

impl UnprovenPeer for UnprovenDevice {
    type Proven = ProvenDevice;

    fn key(&self) -> &EcdsaPublicKey {
        self.shown.key()
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        self.shown.checks()
    }

    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Judgement<Self, ProvenDevice>, CertificateRefusal> {
        let ids = self.ids;
        Ok(match self.shown.conclude(verdicts)? {
            Judgement::Further(shown) => Judgement::Further(Self { shown, ids }),
            Judgement::Proven(Verified { leaf: certificate, anchor, deviations }) => {
                let anchor = *ids.get(anchor).ok_or(CertificateFault::UnknownIssuer)?;
                Judgement::Proven(ProvenDevice { authenticated: Authenticated { certificate, anchor, deviations } })
            }
        })
    }
}

/// A device whose chain is verified and that has proven its leaf's key. Shared state does not change before its
/// Finished is verified.
pub struct ProvenDevice {
    authenticated: Authenticated,
}

impl VerifyPeer for PeerVerifier {
    type Peer = PeerDevice;
    type Unproven = UnprovenDevice;
    type Proven = ProvenDevice;

    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<UnprovenDevice, CertificateRefusal> {
        let chain =
            chain::collect_device(Arc::clone(&self.anchors), chain, utc).map_err(|refused| refusal(&refused))?;
        Ok(UnprovenDevice { shown: ShownChain::new(chain, None)?, ids: Arc::clone(&self.ids) })
    }

    fn admit(&self, proven: ProvenDevice) -> PeerDevice {
        let device = PeerDevice { certificate: proven.authenticated.certificate.digest() };
        self.certificates.keep(proven.authenticated);
        device
    }

    fn holder(proven: &ProvenDevice) -> u64 {
        let digest = proven.authenticated.certificate.digest();
        digest.as_bytes().first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
    }

    fn claimed(&self, leaf: &[u8]) -> Option<Box<str>> {
        // The claimed name is most useful to an operator if the certificate is refused for its encoding.
        Certificate::parse_as(leaf, Encoding::AsIssued).ok().map(|leaf| subject_of(&leaf))
    }

    fn claimed_by(&self, proven: &ProvenDevice) -> Option<Box<str>> {
        Some(subject_of(&proven.authenticated.certificate))
    }

    fn authorities(&self) -> &[Vec<u8>] {
        &self.authorities
    }
}

/// Bytes of a subject in a report: what fits a log line.
const SUBJECT_SHOWN_BYTES_MAX: usize = 128;

fn subject_of(certificate: &Certificate) -> Box<str> {
    bounded(certificate.subject().to_string(), SUBJECT_SHOWN_BYTES_MAX)
}
