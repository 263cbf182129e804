//! From an unproven chain to a proven peer: the rounds of signature checks in between.

use rustls_pki_types::UnixTime;

use crate::crypto::{SignatureCheck, SignatureScheme, Verdicts, run_many};
use crate::verify::{CertificateRefusal, Judgement, UnprovenPeer, VerifyPeer};

/// The peer's own signature over the handshake, made with the key of its leaf.
#[derive(Clone, Copy)]
pub(crate) struct OwnCheck<'a> {
    pub(crate) scheme: SignatureScheme,
    pub(crate) message: &'a [u8],
    pub(crate) signature: &'a [u8],
}

/// The state of the proof of a peer. Only [`ProofState::hear`] leads to a proven peer.
pub(crate) enum ProofState<V: VerifyPeer> {
    /// Neither its signature over the handshake nor those of its chain have been checked.
    Shown(V::Unproven),
    /// The peer has the key of its leaf; signatures of the chain remain to be checked.
    Possesses(V::Unproven),
    Judged(Result<V::Proven, ProofFault>),
}

/// Why a peer is not accepted.
pub(crate) enum ProofFault {
    Certificate(CertificateRefusal),
    /// Its signature over the handshake does not verify.
    Proof,
}

impl<V: VerifyPeer> ProofState<V> {
    pub(crate) fn new(collected: Result<V::Unproven, CertificateRefusal>) -> Self {
        match collected {
            Ok(unproven) => Self::Shown(unproven),
            Err(refusal) => Self::Judged(Err(ProofFault::Certificate(refusal))),
        }
    }

    pub(crate) const fn is_judged(&self) -> bool {
        matches!(self, Self::Judged(_))
    }

    /// Adds the signatures of the next round.
    pub(crate) fn gather<'a>(&'a self, own: OwnCheck<'a>, checks: &mut Vec<SignatureCheck<'a>>) {
        match self {
            Self::Shown(unproven) => {
                checks.push(unproven.key().check(own.scheme, own.message, own.signature));
                checks.extend(unproven.checks());
            }
            Self::Possesses(unproven) => checks.extend(unproven.checks()),
            Self::Judged(_) => {}
        }
    }

    /// Takes the results of a round. A peer that does not have the key of its leaf gets no second round.
    pub(crate) fn hear(&mut self, verdicts: Verdicts<'_>) {
        let missing = Self::Judged(Err(ProofFault::Proof));
        let (unproven, verdicts) = match std::mem::replace(self, missing) {
            Self::Shown(unproven) => match verdicts.split_first() {
                Some((possesses, rest)) if possesses || cfg!(muster_seam = "certificate_verify") => (unproven, rest),
                _ => return,
            },
            Self::Possesses(unproven) => (unproven, verdicts),
            judged @ Self::Judged(_) => {
                *self = judged;
                return;
            }
        };
        *self = match unproven.conclude(&verdicts) {
            Ok(Judgement::Proven(proven)) => Self::Judged(Ok(proven)),
            Ok(Judgement::Further(unproven)) => Self::Possesses(unproven),
            Err(refusal) => Self::Judged(Err(ProofFault::Certificate(refusal))),
        };
    }

    /// Judges one peer alone, round after round.
    pub(crate) fn judge_alone(&mut self, own: OwnCheck<'_>) {
        while !self.is_judged() {
            let mut checks = Vec::new();
            self.gather(own, &mut checks);
            let results = run_many(&checks);
            let all = 0..checks.len();
            self.hear(results.at(all));
        }
    }

    pub(crate) fn into_judgement(self) -> Result<V::Proven, ProofFault> {
        match self {
            Self::Judged(judgement) => judgement,
            Self::Shown(_) | Self::Possesses(_) => Err(ProofFault::Proof),
        }
    }
}

/// Judges one peer at once, on the calling thread.
pub(crate) fn prove<V: VerifyPeer>(
    verifier: &V,
    chain: &[&[u8]],
    utc: UnixTime,
    own: OwnCheck<'_>,
) -> Result<V::Proven, ProofFault> {
    let mut standing = ProofState::<V>::new(verifier.collect(chain, utc));
    standing.judge_alone(own);
    standing.into_judgement()
}
