//! The answers that a shard keeps for duplicates and for later blocks: the bodies for all its peers.
//!
//! ```text
//!   reserve ---> Needed ---- sent to its end ----> Young ---- MAX_TRANSMIT_WAIT later ----> Ripe ----> evicted, when room is needed
//!                  ^   (a request is worked on,       |                                        |
//!                  |    its answer is under way or    |                                        |
//!                  |    has blocks outstanding)       |                                        |
//!                  +---- asked for from its beginning again ----------------------------------+
//! ```
//!
//! A ripe answer is not needed: its client received all of it, and had MAX_TRANSMIT_WAIT to ask again for lost parts.
//! It is kept until EXCHANGE_LIFETIME is over as long as there is room. When the room runs out, the owner that holds
//! the most loses its oldest ripe answer first, so that a client that never closes its sessions causes no refusals. A
//! needed or young answer is never evicted: when no answer is ripe, a new request is refused before it is executed (see
//! [`super::accounts`] for the share of an owner).
//!
//! Each step takes logarithmic time. Each answer that becomes young lets a few older ones ripen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zeroize::Zeroize;

use super::accounts::{Accounts, Owner};
use crate::MAX_TRANSMIT_WAIT;

/// The bytes counted for a pending request before its answer is known: the size of a usual answer.
pub(super) const RESPONSE_BYTES_EXPECTED: usize = 1_024;

/// The bytes counted for the smallest answer: its bookkeeping takes this much beside the body.
const ANSWER_BYTES_MIN: usize = 128;

/// This many of the smallest answers free the room for one request. An owner above its share may still be above it
/// after these evictions: its request is then refused, and the shard continues.
const EVICTIONS_PER_REQUEST_MAX: usize = RESPONSE_BYTES_EXPECTED / ANSWER_BYTES_MIN;

/// How many answers ripen each time one becomes young: more than one, so that ripening never falls behind.
const RIPENED_PER_ANSWER_MAX: usize = 4;
/// How many answers ripen when room is needed: this takes well below a millisecond. More than this can only wait after
/// a pause without enrolments.
const RIPENED_PER_SEARCH_MAX: usize = 1_024;

/// The answers for all peers of a shard. The lock only lets an [`AnswerSlot`] be dropped anywhere; a single shard uses it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<Store>>);

/// Whether an answer may be evicted once its client has received it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// Repeating the request yields the same answer.
    Repeatable,
    /// The answer cannot be produced again.
    Irreplaceable,
}

#[derive(Debug, Default)]
struct Store {
    accounts: Accounts,
    latest: u64,
    kept: BTreeMap<u64, Kept>,
    /// Keyed by the order in which they were sent completely, with the time of that.
    young: BTreeMap<u64, (Instant, u64)>,
    /// By owner, the oldest first.
    ripe: BTreeSet<(Owner, u64, u64)>,
    /// Owners of ripe answers, by all the bytes that they hold.
    heaviest: BTreeSet<(usize, Owner)>,
    evicted: u64,
}

#[derive(Debug)]
struct Kept {
    owner: Owner,
    worth: Worth,
    bytes: usize,
    body: Option<Arc<[u8]>>,
    retention: Retention,
}

/// An answer that cannot be produced again is one that nobody else may have: a private key.
impl Drop for Kept {
    fn drop(&mut self) {
        if self.worth == Worth::Irreplaceable
            && let Some(body) = self.body.as_mut().and_then(Arc::get_mut)
        {
            body.zeroize();
        }
    }
}

/// See the flow above; the numbers are the keys in `young` and `ripe`.
#[derive(Clone, Copy, Debug)]
enum Retention {
    Needed,
    Young(u64),
    Ripe(u64),
}

impl Answers {
    /// Makes room for one more request of `owner` when all owners together may hold `bytes_max`; returns false if there
    /// is not enough room.
    pub(super) fn make_room(&self, now: Instant, owner: Owner, bytes_max: usize) -> bool {
        let mut store = self.lock();
        for _ in 0..EVICTIONS_PER_REQUEST_MAX {
            if store.accounts.has_room(owner, RESPONSE_BYTES_EXPECTED, bytes_max) {
                return true;
            }
            store.ripen(now, RIPENED_PER_SEARCH_MAX);
            if !store.evict() {
                return false;
            }
        }
        store.accounts.has_room(owner, RESPONSE_BYTES_EXPECTED, bytes_max)
    }

    /// Reserves a place for an answer that is not known yet.
    pub(super) fn reserve(&self, owner: Owner, worth: Worth) -> AnswerSlot {
        self.insert(owner, worth, RESPONSE_BYTES_EXPECTED)
    }

    /// A place that counts zero bytes until it is filled.
    pub(super) fn place(&self, owner: Owner) -> AnswerSlot {
        self.insert(owner, Worth::Repeatable, 0)
    }

    /// Bytes held now, reservations included.
    pub(super) fn bytes(&self) -> usize {
        self.lock().accounts.total()
    }

    /// How many answers were evicted so far.
    pub(super) fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    fn insert(&self, owner: Owner, worth: Worth, bytes: usize) -> AnswerSlot {
        let mut store = self.lock();
        store.latest += 1;
        let id = store.latest;
        store.kept.insert(id, Kept { owner, worth, bytes: 0, body: None, retention: Retention::Needed });
        store.count(id, bytes);
        AnswerSlot { answers: self.clone(), id, worth }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Sets the bytes that are counted for an answer.
    fn count(&mut self, id: u64, bytes: usize) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        let (owner, before) = (kept.owner, std::mem::replace(&mut kept.bytes, bytes));
        let held = self.accounts.held_by(owner);
        let holds = self.accounts.change(owner, before, bytes);
        if held != holds && self.heaviest.remove(&(held, owner)) {
            self.heaviest.insert((holds, owner));
        }
    }

    /// Removes an answer from the order of eviction.
    fn need(&mut self, id: u64) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        let owner = kept.owner;
        match std::mem::replace(&mut kept.retention, Retention::Needed) {
            Retention::Needed => {}
            Retention::Young(place) => {
                self.young.remove(&place);
            }
            Retention::Ripe(place) => {
                self.ripe.remove(&(owner, place, id));
                if self.oldest_ripe(owner).is_none() {
                    self.heaviest.remove(&(self.accounts.held_by(owner), owner));
                }
            }
        }
    }

    /// The client has received all of an answer, as far as the server knows.
    fn sent(&mut self, id: u64, now: Instant) {
        self.need(id);
        self.latest += 1;
        let place = self.latest;
        match self.kept.get_mut(&id) {
            Some(kept) if kept.body.is_some() && kept.worth == Worth::Repeatable => {
                kept.retention = Retention::Young(place);
            }
            _ => return,
        }
        self.young.insert(place, (now, id));
        self.ripen(now, RIPENED_PER_ANSWER_MAX);
    }

    fn ripen(&mut self, now: Instant, answers_max: usize) {
        for _ in 0..answers_max {
            let Some((&place, &(since, id))) = self.young.first_key_value() else { return };
            if now.saturating_duration_since(since) < MAX_TRANSMIT_WAIT {
                return;
            }
            self.young.remove(&place);
            let Some(kept) = self.kept.get_mut(&id) else { continue };
            kept.retention = Retention::Ripe(place);
            let owner = kept.owner;
            self.ripe.insert((owner, place, id));
            self.heaviest.insert((self.accounts.held_by(owner), owner));
        }
    }

    fn oldest_ripe(&self, owner: Owner) -> Option<u64> {
        let (found, _, id) = *self.ripe.range((owner, 0, 0)..).next()?;
        (found == owner).then_some(id)
    }

    /// Evicts the oldest ripe answer of the owner that holds the most; returns false if no answer is ripe.
    fn evict(&mut self) -> bool {
        let Some(&(_, owner)) = self.heaviest.last() else { return false };
        let Some(id) = self.oldest_ripe(owner) else { return false };
        self.need(id);
        self.count(id, 0);
        if let Some(kept) = self.kept.get_mut(&id) {
            kept.body = None;
        }
        self.evicted += 1;
        true
    }

    fn remove(&mut self, id: u64) {
        self.need(id);
        self.count(id, 0);
        self.kept.remove(&id);
    }
}

/// The place of one answer. Dropping it drops the answer.
#[derive(Debug)]
pub(super) struct AnswerSlot {
    answers: Answers,
    id: u64,
    worth: Worth,
}

impl AnswerSlot {
    pub(super) fn worth(&self) -> Worth {
        self.worth
    }

    /// Stores the answer.
    pub(super) fn fill(&self, body: &[u8]) {
        let mut store = self.answers.lock();
        store.count(self.id, body.len().max(ANSWER_BYTES_MIN));
        if let Some(kept) = store.kept.get_mut(&self.id) {
            kept.body = Some(body.into());
        }
    }

    /// The answer; `None` after its eviction.
    pub(super) fn body(&self) -> Option<Arc<[u8]>> {
        self.answers.lock().kept.get(&self.id)?.body.clone()
    }

    /// The answer was sent completely.
    pub(super) fn sent(&self, now: Instant) {
        self.answers.lock().sent(self.id, now);
    }

    /// The client starts to fetch the answer again.
    pub(super) fn need(&self) {
        self.answers.lock().need(self.id);
    }
}

impl Drop for AnswerSlot {
    fn drop(&mut self) {
        self.answers.lock().remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BYTES_MAX: usize = 64 << 20;

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    /// The whole population: 134,217 enrolments of 500 bytes in 247 s fill 64 MiB; twice as many are still kept.
    #[test]
    fn c43_a_whole_population_that_never_closes_is_kept_and_nobody_refused() {
        let (answers, mut now) = (Answers::default(), start());
        let mut held = std::collections::VecDeque::new();
        let (per_lifetime, body) = (134_217, [7; 500]);
        for device in 0..2 * per_lifetime {
            now += Duration::from_secs(247) / u32::try_from(per_lifetime).unwrap();
            assert!(answers.make_room(now, Owner(device), BYTES_MAX), "device {device} is refused");
            let slot = answers.reserve(Owner(device), Worth::Repeatable);
            slot.fill(&body);
            slot.sent(now);
            held.push_back(slot);
            if held.len() > usize::try_from(per_lifetime).unwrap() {
                held.pop_front();
            }
        }
        assert!(answers.bytes() <= BYTES_MAX);
        let store = answers.lock();
        assert!(store.young.len() + store.ripe.len() <= held.len());
        assert!(store.young.len() < 60_000, "they ripen as they come: {}", store.young.len());
        drop(store);
        drop(held);
        let store = answers.lock();
        assert_eq!((store.accounts.total(), store.kept.len(), store.young.len()), (0, 0, 0));
        assert_eq!((store.ripe.len(), store.heaviest.len()), (0, 0), "nothing stays behind");
    }
}
