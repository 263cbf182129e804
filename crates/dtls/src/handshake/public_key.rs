//! The public-key steps of a server's handshake, as values that can be computed on any thread.
//!
//! A handshake has two steps: the ephemeral key with the signature over it, once the cookie is verified; and the judgement of the client
//! (chain, CertificateVerify) with the key agreement. Each step is a job that owns all it needs. The driver chooses where it runs: at once
//! ([`crate::PublicKeySteps::Inline`]), or wherever the driver takes what [`crate::Endpoint::poll_public_key_job`] gives.
//!
//! Inline, one call of `crypto::run_many` per round checks the signatures of one handshake, and nothing is gathered across handshakes.
//! [`PublicKeyJob::run_many`] checks the signatures of all handshakes whose jobs it gets, and the driver chooses those jobs.

use std::sync::Arc;

use rustls_pki_types::UnixTime;

use super::proof::{OwnCheck, ProofFault, ProofState};
use crate::crypto::{
    EphemeralKey, Group, Hash, MasterSecret, Premaster, Signature, SignatureScheme, is_der_signature, run_many,
};
use crate::identity::Identity;
use crate::random::Random;
use crate::refusal::HandshakeRefusal;
use crate::session_id::SessionId;
use crate::verify::{Account, CertificateRefusal, VerifyPeer};
use crate::wire::{CertificateChain, ecdhe_parameters_bytes, encode_ecdhe_parameters};

/// One public-key step of one handshake.
pub struct PublicKeyJob<V: VerifyPeer> {
    session: SessionId,
    random: Arc<dyn Random>,
    work: Work<V>,
}

/// The result of a [`PublicKeyJob`], for [`crate::Endpoint::complete_public_key_job`].
pub struct PublicKeyDone<V: VerifyPeer> {
    session: SessionId,
    outcome: Computed<V>,
}

impl<V: VerifyPeer> PublicKeyJob<V> {
    pub(crate) fn new(session: SessionId, random: Arc<dyn Random>, work: Work<V>) -> Self {
        Self { session, random, work }
    }

    /// The handshake that the job belongs to.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Does the computation, which takes tens to hundreds of microseconds.
    #[must_use]
    pub fn run(self) -> PublicKeyDone<V> {
        PublicKeyDone { session: self.session, outcome: self.work.run(self.random.as_ref()) }
    }

    /// Runs many jobs: the signatures of all their handshakes are checked together. Work of a single job runs inside `isolate`, which calls
    /// its argument and may catch a panic: the result then lacks that job, and the other jobs are not affected.
    pub fn run_many(jobs: Vec<Self>, isolate: &dyn Fn(&mut dyn FnMut())) -> Vec<PublicKeyDone<V>> {
        let mut cases = Vec::with_capacity(jobs.len());
        let mut sessions = Vec::with_capacity(jobs.len());
        let mut done = Vec::with_capacity(jobs.len());
        for Self { session, random, work } in jobs {
            match work {
                Work::KeyExchange(work) => {
                    let outcome = isolated(isolate, || Computed::KeyExchange(work.run(random.as_ref())));
                    done.extend(outcome.map(|outcome| PublicKeyDone { session, outcome }));
                }
                Work::Authentication(work) => {
                    let Some(case) = isolated(isolate, || Case::new(work)) else { continue };
                    sessions.push(session);
                    cases.push(Some(case));
                }
            }
        }
        judge(&mut cases, isolate);
        for (session, case) in sessions.into_iter().zip(cases) {
            let Some(case) = case else { continue };
            let outcome = isolated(isolate, || Computed::Authentication(case.finish()));
            done.extend(outcome.map(|outcome| PublicKeyDone { session, outcome }));
        }
        done
    }
}

impl<V: VerifyPeer> PublicKeyDone<V> {
    /// The handshake that the result belongs to.
    pub fn session(&self) -> SessionId {
        self.session
    }

    pub(crate) fn into_computed(self) -> Computed<V> {
        self.outcome
    }
}

/// The computation to do.
pub(crate) enum Work<V> {
    KeyExchange(KeyExchangeWork),
    Authentication(Box<AuthenticationWork<V>>),
}

/// The result of a computation.
#[allow(
    clippy::large_enum_variant,
    reason = "it lives for one hand-over; a box would cost each handshake an allocation"
)]
pub(crate) enum Computed<V: VerifyPeer> {
    KeyExchange(Result<KeyExchange, HandshakeRefusal>),
    Authentication(Result<Authentication<V::Proven>, AuthenticationRefusal>),
}

/// Why a peer is not authenticated.
pub(crate) struct AuthenticationRefusal {
    pub(crate) refusal: HandshakeRefusal,
    pub(crate) account: Account,
}

impl<V: VerifyPeer> Work<V> {
    pub(crate) fn run(self, random: &dyn Random) -> Computed<V> {
        match self {
            Self::KeyExchange(work) => Computed::KeyExchange(work.run(random)),
            Self::Authentication(work) => {
                let mut case = Case::new(work);
                case.standing.judge_alone(case.work.own_check());
                Computed::Authentication(case.finish())
            }
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
    fn run(self, random: &dyn Random) -> Result<KeyExchange, HandshakeRefusal> {
        let ephemeral = EphemeralKey::generate(self.group, random).map_err(|_| HandshakeRefusal::Internal)?;
        let bytes = ecdhe_parameters_bytes(ephemeral.point());
        let message = signed_parameters([&self.client_random, &self.server_random], bytes, |out| {
            encode_ecdhe_parameters(out, self.group, ephemeral.point());
        });
        let key = self.identity.key();
        let signature = key.sign(&message, random).map_err(|_| HandshakeRefusal::Internal)?;
        Ok(KeyExchange { ephemeral, scheme: key.scheme(), signature })
    }
}

/// What a ServerKeyExchange signs: `ClientHello.random + ServerHello.random + ServerKeyExchange.params` (RFC 8422 §5.4). `write` appends the parameters,
/// which take so many bytes.
pub(crate) fn signed_parameters(randoms: [&[u8; 32]; 2], bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = Vec::with_capacity(2 * 32 + bytes);
    randoms.iter().for_each(|random| message.extend_from_slice(*random));
    write(&mut message);
    message
}

/// Step 2: the identity of the client, and the master secret.
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

impl<V> AuthenticationWork<V> {
    fn own_check(&self) -> OwnCheck<'_> {
        OwnCheck { scheme: self.scheme, message: &self.signed, signature: &self.signature }
    }
}

/// An authenticated client and the secret shared with it.
pub(crate) struct Authentication<P> {
    pub(crate) proven: P,
    pub(crate) master_secret: MasterSecret,
}

/// One client that is being judged.
struct Case<V: VerifyPeer> {
    work: Box<AuthenticationWork<V>>,
    standing: ProofState<V>,
}

impl<V: VerifyPeer> Case<V> {
    fn new(work: Box<AuthenticationWork<V>>) -> Self {
        let collected = work.chain.with_slices(&work.signed, |chain| work.verifier.collect(chain, work.utc));
        Self { standing: ProofState::new(collected), work }
    }

    /// The last part: agrees on the secret with a proven client, and writes the report for one that is not.
    fn finish(self) -> Result<Authentication<V::Proven>, AuthenticationRefusal> {
        let Self { work, standing } = self;
        let work = *work;
        let fault = match standing.into_judgement() {
            Ok(proven) => {
                let Some(premaster) = work.ephemeral.agree(&work.point) else {
                    let account = Account { detail: None, claimed: work.verifier.claimed_by(&proven) };
                    return Err(AuthenticationRefusal { refusal: HandshakeRefusal::BadKeyShare, account });
                };
                return Ok(Authentication { proven, master_secret: work.binding.master_secret(&premaster) });
            }
            Err(fault) => fault,
        };
        let leaf = |chain: &[&[u8]]| chain.first().and_then(|leaf| work.verifier.claimed(leaf));
        let claimed = work.chain.with_slices(&work.signed, leaf);
        let (refusal, detail) = match fault {
            ProofFault::Certificate(CertificateRefusal { fault, detail }) => {
                (HandshakeRefusal::Certificate(fault), detail)
            }
            ProofFault::Proof if is_der_signature(&work.signature) => (HandshakeRefusal::BadCertificateVerify, None),
            ProofFault::Proof => (HandshakeRefusal::CertificateVerifyEncoding, None),
        };
        Err(AuthenticationRefusal { refusal, account: Account { detail, claimed } })
    }
}

/// Judges clients, one round of signatures after the other. One call checks all signatures of a round: CertificateVerify and chain of each
/// client, for all clients together. Further rounds are rare: two authorities with the same name, if the wrong one is tried first. A client
/// whose judgement panicked is left out.
fn judge<V: VerifyPeer>(cases: &mut [Option<Case<V>>], isolate: &dyn Fn(&mut dyn FnMut())) {
    while cases.iter().flatten().any(|case| !case.standing.is_judged()) {
        let mut checks = Vec::new();
        let mut ends = Vec::with_capacity(cases.len());
        for case in &*cases {
            if let Some(case) = case {
                case.standing.gather(case.work.own_check(), &mut checks);
            }
            ends.push(checks.len());
        }
        let results = run_many(&checks);
        let mut start = 0;
        for (case, end) in cases.iter_mut().zip(ends) {
            let verdicts = results.at(start..end);
            start = end;
            let Some(mut heard) = case.take() else { continue };
            *case = isolated(isolate, move || {
                heard.standing.hear(verdicts);
                heard
            });
        }
    }
}

/// The result of `work`, if it does not panic.
fn isolated<T>(isolate: &dyn Fn(&mut dyn FnMut()), work: impl FnOnce() -> T) -> Option<T> {
    let mut work = Some(work);
    let mut yielded = None;
    isolate(&mut || yielded = work.take().map(|work| work()));
    yielded
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
