//! The keys that must not be certified again, for a ledger in memory.

use std::collections::{HashSet, VecDeque};

use pki::Digest;
use pki::issue::RevocationReason;

use crate::revocation::Revocation;

/// Keys that are remembered: about 100 bytes each. Beyond it the key that was revoked first is forgotten, as everything in memory is at the next start.
const KEYS_MAX: usize = 100_000;

/// Keys of certificates that were revoked because the key is compromised. They outlive the rows of these certificates.
#[derive(Default)]
pub(crate) struct CompromisedKeys {
    keys: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl CompromisedKeys {
    /// Notes the key of a certificate that is revoked; says whether it is compromised.
    pub(crate) fn note(&mut self, key: Digest, revocation: &Revocation) -> bool {
        if revocation.reason != RevocationReason::KeyCompromise {
            return false;
        }
        if self.keys.insert(key) {
            self.order.push_back(key);
            if self.order.len() > KEYS_MAX
                && let Some(first) = self.order.pop_front()
            {
                self.keys.remove(&first);
            }
        }
        true
    }

    pub(crate) fn contains(&self, key: &Digest) -> bool {
        self.keys.contains(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls_pki_types::UnixTime;

    use super::*;
    use crate::Actor;

    fn revocation(reason: RevocationReason) -> Revocation {
        Revocation { reason, at: UnixTime::since_unix_epoch(Duration::from_secs(1)), actor: Actor::server() }
    }

    #[test]
    fn only_a_compromise_is_noted_and_the_first_one_goes_when_there_are_too_many() {
        let mut keys = CompromisedKeys::default();
        let key = |number: usize| Digest::of(&number.to_be_bytes());
        assert!(!keys.note(key(0), &revocation(RevocationReason::Superseded)) && !keys.contains(&key(0)));
        for number in 0..=KEYS_MAX {
            assert!(keys.note(key(number), &revocation(RevocationReason::KeyCompromise)));
            assert!(keys.note(key(number), &revocation(RevocationReason::KeyCompromise)), "a second time");
        }
        assert!(!keys.contains(&key(0)) && keys.contains(&key(1)) && keys.contains(&key(KEYS_MAX)));
        assert_eq!((keys.keys.len(), keys.order.len()), (KEYS_MAX, KEYS_MAX));
    }
}
