//! The one judgement that is not the engine's: whether a peer's chain of certificates is to be trusted.

use rustls_pki_types::UnixTime;

use crate::crypto::PublicKey;

/// Path validation is not the engine's: a verifier judges the peer's chain, and its `Peer` travels with the session.
pub trait VerifyPeer: Send + Sync + 'static {
    /// What the verifier knows of an authenticated peer; cheap to clone (an `Arc`), for it lies in every session.
    type Peer: Clone + Send + Sync + 'static;

    /// Judges `chain` (DER, leaf first, never empty, at most [`crate::CERTIFICATES_MAX`]) at the time `utc`.
    ///
    /// # Errors
    /// The first fault found, which becomes an alert by [`CertificateFault`]'s table.
    fn verify(&self, chain: &[&[u8]], utc: UnixTime) -> Result<(Self::Peer, PublicKey), CertificateFault>;

    /// A number by which the certificates of proven peers are told apart: those that have the same one share the few handshakes that
    /// go last when slots are scarce. The default takes all peers for one.
    fn holder(peer: &Self::Peer) -> u64 {
        let _ = peer;
        0
    }

    /// DER-encoded distinguished names for CertificateRequest. Empty by default: device buffers are small (RFC 5246 §7.4.4 allows it).
    fn authorities(&self) -> &[Vec<u8>] {
        &[]
    }
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
