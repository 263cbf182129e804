//! Signatures of authorities that were verified before. The devices of one manufacturer send the same intermediate certificates, and each
//! verification costs as much as the rest of an enrolment's protocol.
//!
//! What is remembered is that one certificate, by its SHA-256, was signed by the key of another one, and nothing else. Whether a path is in
//! order at the current time (validity, constraints, purposes, and whether its anchor is still trusted) is judged before, for each chain. What is
//! remembered belongs to one set of anchors: after a change of the configuration nothing is remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls_pki_types::UnixTime;

use crate::certificate::Certificate;
use crate::digest::Digest;

/// Signatures that are remembered: about 150 bytes each. Manufacturers have a few intermediate authorities each, some one for each batch
/// of devices.
pub const AUTHORITIES_REMEMBERED_MAX: usize = 1_024;

/// The good signature of one authority over the certificate of another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuthoritySignature {
    certificate: Digest,
    signer: Digest,
    not_after: UnixTime,
}

impl AuthoritySignature {
    /// The signature of `certificate`, which the key of `signer` has made.
    pub(super) fn of(certificate: &Certificate, signer: &Certificate) -> Self {
        let not_after = certificate.validity().not_after;
        Self { certificate: certificate.digest(), signer: signer.digest(), not_after }
    }
}

/// The remembered signatures of one set of anchors. All shards share them: a chain without intermediate certificates takes no lock.
#[derive(Debug, Default)]
pub(super) struct RememberedSignatures(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// By the certificate. A certificate has one signature, so a second signer is at most the same authority with another certificate.
    of: HashMap<Digest, AuthoritySignature>,
    /// In the order of arrival: the oldest gives way.
    order: VecDeque<Digest>,
}

impl RememberedSignatures {
    /// Whether this signature was verified. If its certificate has expired at `utc`, it is forgotten.
    pub(super) fn has(&self, asked: &AuthoritySignature, utc: UnixTime) -> bool {
        let mut entries = self.entries();
        match entries.of.get(&asked.certificate) {
            Some(known) if utc > known.not_after => {
                entries.of.remove(&asked.certificate);
                entries.order.retain(|digest| *digest != asked.certificate);
                false
            }
            known => known == Some(asked),
        }
    }

    pub(super) fn keep(&self, signature: AuthoritySignature) {
        let mut entries = self.entries();
        if entries.of.insert(signature.certificate, signature).is_some() {
            return;
        }
        entries.order.push_back(signature.certificate);
        if entries.order.len() > AUTHORITIES_REMEMBERED_MAX
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.of.remove(&oldest);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let entries = self.entries();
        assert_eq!(entries.of.len(), entries.order.len());
        entries.of.len()
    }

    /// A panic elsewhere leaves no half-made change here that could be believed: at worst a signature is verified again.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn signature(number: usize) -> AuthoritySignature {
        AuthoritySignature {
            certificate: Digest::of(&number.to_be_bytes()),
            signer: Digest::of(b"signer"),
            not_after: UnixTime::since_unix_epoch(Duration::from_secs(1)),
        }
    }

    #[test]
    fn what_has_expired_is_forgotten_and_another_signer_is_not_known() {
        let (remembered, known) = (RememberedSignatures::default(), signature(1));
        remembered.keep(known);
        let over = UnixTime::since_unix_epoch(Duration::from_secs(2));
        assert!(remembered.has(&known, known.not_after));
        assert!(!remembered.has(&AuthoritySignature { signer: Digest::of(b"other"), ..known }, known.not_after));
        assert!(!remembered.has(&signature(2), known.not_after));
        assert!(!remembered.has(&known, over));
        assert_eq!(remembered.len(), 0);
        assert!(!remembered.has(&known, known.not_after), "it was forgotten");
    }

    #[test]
    fn a_bounded_number_is_remembered_and_the_oldest_gives_way() {
        let remembered = RememberedSignatures::default();
        for number in 0..AUTHORITIES_REMEMBERED_MAX + 3 {
            remembered.keep(signature(number));
            remembered.keep(signature(number));
        }
        assert_eq!(remembered.len(), AUTHORITIES_REMEMBERED_MAX);
        let entries = remembered.entries();
        assert!(!entries.of.contains_key(&signature(2).certificate));
        assert!(entries.of.contains_key(&signature(3).certificate));
    }
}
