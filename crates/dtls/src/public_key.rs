//! The public-key steps of a server's handshake, as values that can be computed anywhere.
//!
//! A handshake has two: the ephemeral key with the signature over it, once the cookie is verified; and the judgement of the client
//! (chain, CertificateVerify) with the key agreement. Each is a job that owns all it needs. Where it runs is the driver's choice: at once
//! ([`crate::PublicKeySteps::Inline`]) or wherever [`crate::Endpoint::poll_public_key_job`] carries it.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use crate::crypto::{EphemeralKey, Group, Hash, MasterSecret, Premaster, Signature, SignatureScheme};
use crate::identity::Identity;
use crate::refusal::Refusal;
use crate::route::{Random, SessionId};
use crate::verify::VerifyPeer;
use crate::wire::{CertificateChain, encode_ecdhe_parameters};

/// One public-key step of one handshake.
pub struct PublicKeyJob<V: VerifyPeer> {
    session: SessionId,
    random: Arc<dyn Random>,
    work: Work<V>,
}

/// The result of a [`PublicKeyJob`], for [`crate::Endpoint::complete_public_key_job`].
pub struct PublicKeyDone<V: VerifyPeer> {
    session: SessionId,
    outcome: Outcome<V::Peer>,
}

impl<V: VerifyPeer> PublicKeyJob<V> {
    pub(crate) fn new(session: SessionId, random: Arc<dyn Random>, work: Work<V>) -> Self {
        Self { session, random, work }
    }

    /// The handshake it is for.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Does the arithmetic: tens to hundreds of microseconds.
    pub fn run(self) -> PublicKeyDone<V> {
        PublicKeyDone { session: self.session, outcome: self.work.run(self.random.as_ref()) }
    }
}

impl<V: VerifyPeer> PublicKeyDone<V> {
    /// The handshake it is for.
    pub fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn into_outcome(self) -> Outcome<V::Peer> {
        self.outcome
    }
}

/// What there is to compute.
pub(crate) enum Work<V> {
    KeyExchange(KeyExchangeWork),
    Authentication(Box<AuthenticationWork<V>>),
}

/// What came out.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one hand-over; a box would cost each handshake an allocation"
)]
pub(crate) enum Outcome<P> {
    KeyExchange(Result<KeyExchange, Refusal>),
    Authentication(Result<Authentication<P>, Refusal>),
}

impl<V: VerifyPeer> Work<V> {
    pub(crate) fn run(self, random: &dyn Random) -> Outcome<V::Peer> {
        match self {
            Self::KeyExchange(work) => Outcome::KeyExchange(work.run(random)),
            Self::Authentication(work) => Outcome::Authentication(work.run()),
        }
    }
}

/// Step 1: an ephemeral key, signed.
pub(crate) struct KeyExchangeWork {
    pub(crate) group: Group,
    pub(crate) identity: Arc<Identity>,
    pub(crate) client_random: [u8; 32],
    pub(crate) server_random: [u8; 32],
}

/// An ephemeral key and the signature over it.
pub(crate) struct KeyExchange {
    pub(crate) ephemeral: EphemeralKey,
    pub(crate) scheme: SignatureScheme,
    pub(crate) signature: Signature,
}

impl KeyExchangeWork {
    fn run(self, random: &dyn Random) -> Result<KeyExchange, Refusal> {
        let ephemeral = EphemeralKey::generate(self.group, random).map_err(|_| Refusal::Internal)?;
        let mut parameters = Vec::with_capacity(80);
        encode_ecdhe_parameters(&mut parameters, self.group, ephemeral.point());
        let message = signed_parameters(&self.client_random, &self.server_random, &parameters);
        let key = self.identity.key();
        let signature = key.sign(&message, random).map_err(|_| Refusal::Internal)?;
        Ok(KeyExchange { ephemeral, scheme: key.scheme(), signature })
    }
}

/// What a ServerKeyExchange signs: `ClientHello.random + ServerHello.random + ServerKeyExchange.params` (RFC 8422 §5.4).
pub(crate) fn signed_parameters(client_random: &[u8; 32], server_random: &[u8; 32], parameters: &[u8]) -> Vec<u8> {
    [client_random, server_random, parameters].concat()
}

/// Step 2: who the client is, and the master secret.
pub(crate) struct AuthenticationWork<V> {
    pub(crate) verifier: Arc<V>,
    pub(crate) utc: UnixTime,
    pub(crate) chain: CertificateChain,
    /// All handshake messages before CertificateVerify: what it signs (RFC 5246 §7.4.8).
    pub(crate) signed: Vec<u8>,
    pub(crate) scheme: SignatureScheme,
    pub(crate) signature: Vec<u8>,
    pub(crate) ephemeral: EphemeralKey,
    pub(crate) point: Vec<u8>,
    pub(crate) binding: Binding,
}

/// An authenticated client and the secret shared with it.
pub(crate) struct Authentication<P> {
    pub(crate) peer: P,
    pub(crate) master_secret: MasterSecret,
}

impl<V: VerifyPeer> AuthenticationWork<V> {
    fn run(self) -> Result<Authentication<V::Peer>, Refusal> {
        let verified = self.chain.with_slices(&self.signed, |chain| self.verifier.verify(chain, self.utc));
        let (peer, key) = verified.map_err(Refusal::Certificate)?;
        #[cfg(not(muster_seam = "certificate_verify"))]
        key.verify(self.scheme, &self.signed, &self.signature).map_err(|_| Refusal::BadCertificateVerify)?;
        let premaster = self.ephemeral.agree(&self.point).ok_or(Refusal::BadKeyShare)?;
        Ok(Authentication { peer, master_secret: self.binding.master_secret(&premaster) })
    }
}

/// What the master secret is bound to.
pub(crate) enum Binding {
    /// The handshake itself (RFC 7627 §4): all messages up to and with ClientKeyExchange.
    Extended { session_hash: Hash },
    /// The randoms only (RFC 5246 §8.1).
    Legacy { client_random: [u8; 32], server_random: [u8; 32] },
}

impl Binding {
    pub(crate) fn master_secret(&self, premaster: &Premaster) -> MasterSecret {
        match self {
            Self::Extended { session_hash } => MasterSecret::extended(premaster, session_hash),
            Self::Legacy { client_random, server_random } => {
                MasterSecret::legacy(premaster, client_random, server_random)
            }
        }
    }
}
