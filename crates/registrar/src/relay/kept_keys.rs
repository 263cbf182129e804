//! Keys that were made here for requests whose end is open.
//!
//! A request that was sent and has no known end is repeated with the same CSR, or the upstream would issue a second certificate. Where the key of the
//! CSR was made here, that takes the key: it is kept from before the request is sent until its row has an end, in memory only, and wiped then.
//!
//! **After a restart** the key is gone, and so is the only one who could use a certificate for it. The row is still unresolved, so the device's repeat
//! goes to the same upstream, with a request for a new key; the certificate that comes back is the answer of the row. A certificate that the upstream may
//! have issued for the lost key was never seen here: the log names the device, the upstream and the row, so that an operator looks for it there and
//! revokes it. One that had come back before the crash is in the ledger, undelivered, and the next start marks it as revoked
//! ([`authority::RelayLedger::delivered`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use authority::{MadeRequest, RelayId};
use rustls_pki_types::UnixTime;

/// As many as a configuration may let wait for upstreams; about a kilobyte each.
const KEPT_KEYS_MAX: usize = 65_536;

/// The keys of one process, by the row of their request. Without room the one whose row ends first gives way: its repeat is treated as after a restart.
#[derive(Debug)]
pub struct KeptKeys {
    kept_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    of_row: HashMap<RelayId, (u64, MadeRequest)>,
    /// The second in which each row ends.
    ends: BTreeSet<(u64, RelayId)>,
}

impl Default for KeptKeys {
    fn default() -> Self {
        Self { kept_max: KEPT_KEYS_MAX, held: Mutex::default() }
    }
}

impl KeptKeys {
    #[cfg(test)]
    pub(super) fn bounded(kept_max: usize) -> Self {
        Self { kept_max, held: Mutex::default() }
    }

    /// Keeps the key of this row, which is open until then.
    pub(super) fn keep(&self, row: RelayId, made: MadeRequest, (now, until): (UnixTime, UnixTime)) {
        self.with(|held| {
            held.remove(row);
            held.make_room(now, self.kept_max);
            held.insert(row, until, made);
        });
    }

    /// The key of this row.
    pub(super) fn of_row(&self, row: RelayId) -> Option<MadeRequest> {
        self.with(|held| held.of_row.get(&row).map(|(_, made)| made.clone()))
    }

    /// The row is open until then at least.
    pub(super) fn prolong(&self, row: RelayId, until: UnixTime) {
        self.with(|held| {
            if let Some((before, made)) = held.remove(row) {
                held.insert(row, until.max(seconds(before)), made);
            }
        });
    }

    /// The row has an end.
    pub(super) fn forget(&self, row: RelayId) {
        self.with(|held| held.remove(row));
    }

    /// The number of keys that are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|held| held.of_row.len())
    }

    /// Whether no key is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> T {
        // Nothing between two steps of a change can panic.
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    fn insert(&mut self, row: RelayId, until: UnixTime, made: MadeRequest) {
        self.ends.insert((until.as_secs(), row));
        self.of_row.insert(row, (until.as_secs(), made));
    }

    fn remove(&mut self, row: RelayId) -> Option<(u64, MadeRequest)> {
        let (until, made) = self.of_row.remove(&row)?;
        self.ends.remove(&(until, row));
        Some((until, made))
    }

    fn make_room(&mut self, now: UnixTime, kept_max: usize) {
        while let Some(&(until, row)) = self.ends.first()
            && (until <= now.as_secs() || self.of_row.len() >= kept_max)
        {
            self.remove(row);
        }
    }
}

fn seconds(of: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(of))
}
