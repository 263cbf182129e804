//! How much each owner holds of the resources that the peers of a shard share: bytes in this crate, waiting enrolments
//! in the layer above.
//!
//! Everything held belongs to an [`Owner`], so that all associations of one certificate count as one. An owner may take
//! more as long as it holds no more than what is left for all others: a single owner gets at most half of the total,
//! `n` owners that take all they can leave one part in `n + 1` free, and an owner that holds nothing yet is refused
//! only when nothing is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An owner: an opaque name that the caller gives to a peer, the same for all associations of one certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u64);

/// How much each owner holds, and all of them together, in one unit: bytes or pieces. Owners that hold nothing are not
/// stored.
#[derive(Debug, Default)]
pub struct Accounts {
    total: usize,
    /// Short integers: each device of the last EXCHANGE_LIFETIME is in two of these maps, whose nodes are filled to two thirds.
    held: BTreeMap<Owner, u32>,
}

/// No owner may hold more than this, whatever the limit.
const HELD_MAX: usize = 1 << 31;

impl Accounts {
    /// The total of all owners.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// How many owners hold something.
    #[must_use]
    pub fn owners(&self) -> usize {
        self.held.len()
    }

    /// What `owner` holds.
    #[must_use]
    pub fn held_by(&self, owner: Owner) -> usize {
        self.held.get(&owner).map_or(0, |held| wide(*held))
    }

    /// Whether `owner` may take `more` if all owners together may hold `most`.
    #[must_use]
    pub fn has_room(&self, owner: Owner, more: usize, most: usize) -> bool {
        let left = most.saturating_sub(self.total).min(HELD_MAX);
        // An owner never holds more than the total: below half of the limit the map is not searched.
        self.total.saturating_add(more) <= left || self.held_by(owner).saturating_add(more) <= left
    }

    /// Counts `after` instead of `before` for `owner`; returns what `owner` then holds.
    pub fn change(&mut self, owner: Owner, before: usize, after: usize) -> usize {
        self.total = self.total.saturating_add(after).saturating_sub(before);
        let held = self.held.entry(owner).or_insert(0);
        let now = wide(*held).saturating_add(after).saturating_sub(before);
        debug_assert!(now <= HELD_MAX, "there was room for what is held");
        *held = u32::try_from(now).unwrap_or(u32::MAX);
        if now == 0 {
            self.held.remove(&owner);
        }
        now
    }
}

fn wide(held: u32) -> usize {
    usize::try_from(held).unwrap_or(usize::MAX)
}

/// The accounts of one shard. The lock only lets a [`Charge`] return its bytes wherever it is dropped; a single shard
/// uses it.
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

/// Bytes that are counted for their owner as long as this value lives.
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
