//! The one judgement that is not the engine's: whether a peer's chain of certificates is to be trusted.
//!
//! It has three steps, and each yields the type that the next one needs:
//!
//! ```text
//!   collect   chain -> Unproven            everything but signatures; nothing that is shared changes
//!             Unproven::checks + CertificateVerify, of one handshake or of many -> crypto::run_many -> Verdicts
//!   conclude  Unproven + Verdicts -> Proven  (or Unproven again, with other signatures to check); the verifier has no part in it
//!   admit     Proven -> Peer               after the peer's Finished: from here on the verifier may remember it
//! ```

use rustls_pki_types::UnixTime;

use crate::crypto::{EcdsaPublicKey, SignatureCheck, Verdicts};

/// Path validation is not the engine's: a verifier judges the peer's chain, and its `Peer` travels with the session.
pub trait VerifyPeer: Send + Sync + 'static {
    /// What the verifier knows of an authenticated peer; cheap to clone (an `Arc`), for it lies in every session.
    type Peer: Clone + Send + Sync + 'static;

    /// A chain that is in order but for its signatures, which nobody has checked.
    type Unproven: UnprovenPeer<Proven = Self::Proven>;

    /// A chain whose signatures are good, shown by a peer that has the key of its leaf.
    type Proven: Send + 'static;

    /// Judges everything but signatures of `chain` (DER, leaf first, never empty, at most [`crate::CERTIFICATES_MAX`]) at the time `utc`.
    /// Anybody may show a certificate: this must change nothing that a later judgement could see.
    ///
    /// # Errors
    /// The first fault found, which becomes an alert by [`CertificateFault`]'s table.
    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<Self::Unproven, CertificateRefusal>;

    /// The peer's Finished is verified and its session has a place: it may be remembered.
    fn admit(&self, proven: Self::Proven) -> Self::Peer;

    /// A number by which the certificates of proven peers are told apart: those that have the same one share the few handshakes that
    /// go last when slots are scarce. The default takes all peers for one.
    fn holder(proven: &Self::Proven) -> u64 {
        let _ = proven;
        0
    }

    /// In a few words whom a certificate names, for the report of a handshake that failed. Nothing has proved it.
    fn claimed(&self, _leaf: &[u8]) -> Option<Box<str>> {
        None
    }

    /// The same, of a chain whose signatures are good.
    fn claimed_by(&self, _proven: &Self::Proven) -> Option<Box<str>> {
        None
    }

    /// DER-encoded distinguished names for CertificateRequest. Empty by default: device buffers are small (RFC 5246 §7.4.4 allows it).
    fn authorities(&self) -> &[Vec<u8>] {
        &[]
    }
}

/// A chain that is in order but for its signatures. It is not a peer: only [`UnprovenPeer::conclude`] makes one of it.
pub trait UnprovenPeer: Sized + Send + 'static {
    /// What it is once its signatures are good.
    type Proven;

    /// The key of the leaf, by which the peer's signature over the handshake is checked.
    fn key(&self) -> &EcdsaPublicKey;

    /// The signatures to check next.
    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>>;

    /// Judges by the results of the checks, one for each that [`UnprovenPeer::checks`] gave and in that order. It is called only for a peer
    /// whose signature over the handshake verified; the number of rounds is its own to bound.
    ///
    /// # Errors
    /// As [`VerifyPeer::collect`].
    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Judgement<Self, Self::Proven>, CertificateRefusal>;
}

/// What follows from the results of signature checks.
#[derive(Debug)]
pub enum Judgement<U, P> {
    /// All that is needed has been verified.
    Proven(P),
    /// The path that was tried fails by its signatures, and there is another.
    Further(U),
}

/// What a verifier that knows its peers by their keys has to say: there is no signature to check but the peer's own.
pub struct KeyAlone<P> {
    peer: P,
    key: EcdsaPublicKey,
}

impl<P> KeyAlone<P> {
    /// `peer` is whoever has the private half of `key`.
    pub const fn new(peer: P, key: EcdsaPublicKey) -> Self {
        Self { peer, key }
    }
}

impl<P: Send + 'static> UnprovenPeer for KeyAlone<P> {
    type Proven = P;

    fn key(&self) -> &EcdsaPublicKey {
        &self.key
    }

    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>> {
        std::iter::empty()
    }

    /// The peer has the key, as only an engine that has checked it can say.
    fn conclude(self, _verdicts: &Verdicts<'_>) -> Result<Judgement<Self, P>, CertificateRefusal> {
        Ok(Judgement::Proven(self.peer))
    }
}

/// Why a chain is refused, and in words for logs what exactly is at fault in which certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRefusal {
    /// The kind of fault.
    pub fault: CertificateFault,
    /// One line: the certificate, the field, the rule.
    pub detail: Option<Box<str>>,
}

impl From<CertificateFault> for CertificateRefusal {
    fn from(fault: CertificateFault) -> Self {
        Self { fault, detail: None }
    }
}

/// What a handshake that failed has to say beyond its refusal. Written only then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// What exactly is at fault, one line.
    pub detail: Option<Box<str>>,
    /// Whom the peer's certificate names. Nothing has proved it.
    pub claimed: Option<Box<str>>,
}

/// What can be wrong with a chain of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateFault {
    /// No path to an anchor.
    UnknownIssuer,
    /// A certificate's notAfter has passed.
    Expired,
    /// A certificate's notBefore has not come.
    NotYetValid,
    /// A signature in the chain does not verify.
    BadSignature,
    /// The leaf's extendedKeyUsage excludes its use here.
    ExtendedKeyUsage,
    /// The leaf's keyUsage excludes signing.
    KeyUsage,
    /// The certificate does not name whom we dialled.
    NameMismatch,
    /// basicConstraints allows no such depth.
    PathLength,
    /// An issuer in the path is not an authority.
    NotAnAuthority,
    /// A name is outside an authority's name constraints.
    NameConstraints,
    /// A critical extension that the verifier does not know.
    CriticalExtension,
    /// A key or signature algorithm outside the allow-list.
    UnsupportedAlgorithm,
    /// Not strict DER, or not a certificate.
    BadEncoding,
    /// More certificates than the limit.
    TooManyCertificates,
    /// Path building exceeded its budget of signatures.
    TooMuchWork,
    /// A certificate issued to a device plays the server.
    DeviceAsServer,
}
