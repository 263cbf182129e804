//! How much each owner holds of what the peers of a shard share: bytes in this crate, waiting enrolments in the layer above.
//!
//! Everything held belongs to an [`Owner`], so that associations of one certificate count as one. An owner may take more for as
//! long as it holds no more than is left for all others: a single owner gets half of the total at most, `n` greedy ones leave a
//! part in `n + 1` free, and one that holds nothing yet is refused only when there is nothing left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose something is: an opaque name that the caller gives to a peer, the same for all associations of one certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u64);

/// How much each owner holds, and all together, in one unit: bytes, or pieces. Owners that hold nothing are not kept.
#[derive(Debug, Default)]
pub struct Accounts {
    total: usize,
    held: BTreeMap<Owner, usize>,
}

impl Accounts {
    /// What all hold together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// What `owner` holds.
    #[must_use]
    pub fn held_by(&self, owner: Owner) -> usize {
        self.held.get(&owner).copied().unwrap_or(0)
    }

    /// Whether `owner` may take `more` where all together may hold `most`.
    #[must_use]
    pub fn has_room(&self, owner: Owner, more: usize, most: usize) -> bool {
        let left = most.saturating_sub(self.total);
        // Nobody holds more than all together: below half of the total nobody is looked up.
        self.total.saturating_add(more) <= left || self.held_by(owner).saturating_add(more) <= left
    }

    /// Counts `after` instead of `before` for something of `owner`; what `owner` holds then.
    pub fn change(&mut self, owner: Owner, before: usize, after: usize) -> usize {
        self.total = self.total.saturating_add(after).saturating_sub(before);
        let held = self.held.entry(owner).or_insert(0);
        *held = held.saturating_add(after).saturating_sub(before);
        let now = *held;
        if now == 0 {
            self.held.remove(&owner);
        }
        now
    }
}

/// Accounts of one shard. Behind a lock only so that a [`Charge`] can give its bytes back wherever it is dropped; one shard
/// alone touches it.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedAccounts(Arc<Mutex<Accounts>>);

impl SharedAccounts {
    pub(super) fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn charge(&self, owner: Owner) -> Charge {
        Charge { accounts: self.clone(), owner, bytes: 0 }
    }
}

/// Bytes counted for their owner for as long as this lives.
#[derive(Debug)]
pub(super) struct Charge {
    accounts: SharedAccounts,
    owner: Owner,
    bytes: usize,
}

impl Charge {
    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            self.accounts.lock().change(self.owner, self.bytes, bytes);
            self.bytes = bytes;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}
