//! The one judgement that the engine leaves to its user: whether a peer's certificate chain is trusted.
//!
//! Verification has three steps, and each yields the type that the next one needs:
//!
//! ```text
//!   collect   chain -> Unproven            everything but signatures; nothing that is shared changes
//!             Unproven::checks + CertificateVerify, of one handshake or of many -> crypto::run_many -> Verdicts
//!   conclude  Unproven + Verdicts -> Proven  (or Unproven again, with other signatures to check); the verifier has no part in it
//!   admit     Proven -> Peer               after the peer's Finished: from here on the verifier may remember it
//! ```

use rustls_pki_types::UnixTime;

use crate::crypto::{EcdsaPublicKey, SignatureCheck, Verdicts};
use crate::wire::AuthorityKeyHash;

/// Judges a peer's chain. The engine does no path validation; the verifier's `Peer` stays with the session.
pub trait VerifyPeer: Send + Sync + 'static {
    /// What the verifier knows about an authenticated peer. Must be cheap to clone (an `Arc`), because every
    /// session holds one.
    type Peer: Clone + Send + Sync + 'static;

    /// A chain that passes all checks but those of signatures, which have not been made.
    type Unproven: UnprovenPeer<Proven = Self::Proven>;

    /// A chain with good signatures, sent by a peer that has the key of its leaf.
    type Proven: Send + 'static;

    /// Judges everything but signatures of `chain` (DER, leaf first, never empty, at most [`crate::CERTIFICATES_MAX`]) at the time `utc`.
    /// Anybody may send a certificate: this must change nothing that affects a later judgement.
    ///
    /// # Errors
    /// The first fault found, which becomes an alert by [`CertificateFault`]'s table.
    fn collect(&self, chain: &[&[u8]], utc: UnixTime) -> Result<Self::Unproven, CertificateRefusal>;

    /// The authorities that alone this verifier accepts above a server's certificate, the most important one first: our client names them in
    /// its hello (trusted_ca_keys, RFC 6066 §6). An empty list leaves it open, which is right if the server cannot choose by them.
    fn trusted_authorities(&self) -> &[AuthorityKeyHash] {
        &[]
    }

    /// The peer's Finished is verified and its session has a slot: the verifier may remember the peer.
    fn admit(&self, proven: Self::Proven) -> Self::Peer;

    /// A number that identifies the certificate of a proven peer: handshakes with the same number share the few places that go last when
    /// slots are scarce. By default all peers have the same number.
    fn holder(proven: &Self::Proven) -> u64 {
        let _ = proven;
        0
    }

    /// The same number for the peer of a session. If there is one, sessions of a certificate that has several give way to those of others when every
    /// slot is taken.
    fn holder_of(peer: &Self::Peer) -> Option<u64> {
        let _ = peer;
        None
    }

    /// A few words on the identity that a certificate claims, for the report of a failed handshake. The claim is
    /// not proven.
    fn claimed(&self, _leaf: &[u8]) -> Option<Box<str>> {
        None
    }

    /// The same for a chain whose signatures are good.
    fn claimed_by(&self, _proven: &Self::Proven) -> Option<Box<str>> {
        None
    }

    /// DER-encoded distinguished names for CertificateRequest. Empty by default: device buffers are small (RFC 5246 §7.4.4 allows it).
    fn authorities(&self) -> &[Vec<u8>] {
        &[]
    }
}

/// A chain that passes all checks but those of signatures. Only [`UnprovenPeer::conclude`] turns it into a peer.
pub trait UnprovenPeer: Sized + Send + 'static {
    /// The type of the peer once its signatures are verified.
    type Proven;

    /// The key of the leaf, which verifies the peer's signature over the handshake.
    fn key(&self) -> &EcdsaPublicKey;

    /// The signatures to check next.
    fn checks(&self) -> impl Iterator<Item = SignatureCheck<'_>>;

    /// Judges by the results of the checks, one for each that [`UnprovenPeer::checks`] gave and in that order. It is called only for a peer
    /// whose signature over the handshake verified. The implementation bounds the number of rounds.
    ///
    /// # Errors
    /// As [`VerifyPeer::collect`].
    fn conclude(self, verdicts: &Verdicts<'_>) -> Result<Judgement<Self, Self::Proven>, CertificateRefusal>;
}

/// The outcome of signature checks.
#[derive(Debug)]
pub enum Judgement<U, P> {
    /// All required signatures are verified.
    Proven(P),
    /// A signature of the tried path does not verify, and there is another path.
    Further(U),
}

/// The verdict of a verifier that knows its peers by their keys: it needs no signature check but that of the peer's
/// own signature.
pub struct KeyAlone<P> {
    peer: P,
    key: EcdsaPublicKey,
}

impl<P> KeyAlone<P> {
    /// `peer` is the holder of the private half of `key`.
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

    /// The peer has the key. Only an engine that has checked this can say so.
    fn conclude(self, _verdicts: &Verdicts<'_>) -> Result<Judgement<Self, P>, CertificateRefusal> {
        Ok(Judgement::Proven(self.peer))
    }
}

/// Why a chain is refused: the kind of fault, and its details for logs.
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

/// What a failed handshake reports beyond its refusal. Built only on failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Details of the fault, one line.
    pub detail: Option<Box<str>>,
    /// The identity that the peer's certificate claims. The claim is not proven.
    pub claimed: Option<Box<str>>,
}

/// What can be wrong with a chain of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateFault {
    /// There is no path to an anchor.
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
    /// The certificate does not name the server that we connect to.
    NameMismatch,
    /// The path is longer than basicConstraints allows.
    PathLength,
    /// An issuer in the path is not an authority.
    NotAnAuthority,
    /// A name is outside an authority's name constraints.
    NameConstraints,
    /// A critical extension that the verifier does not support.
    CriticalExtension,
    /// A key or signature algorithm outside the allow-list.
    UnsupportedAlgorithm,
    /// Not strict DER, or not a certificate.
    BadEncoding,
    /// More certificates than the limit.
    TooManyCertificates,
    /// Path building exceeded its budget of signatures.
    TooMuchWork,
    /// A device certificate is used by a server.
    DeviceAsServer,
}
