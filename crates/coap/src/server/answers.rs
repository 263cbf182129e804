//! The answers that are kept for duplicates and for later blocks: their bodies, of all peers of a shard.
//!
//! ```text
//!   reserve ---> Needed ---- sent to its end ----> Young ---- MAX_TRANSMIT_WAIT later ----> Ripe ----> evicted, when room is needed
//!                  ^   (a request is worked on,       |                                        |
//!                  |    its answer is under way or    |                                        |
//!                  |    has blocks outstanding)       |                                        |
//!                  +---- asked for from its beginning again ----------------------------------+
//! ```
//!
//! Nobody needs a ripe answer: its client had the whole of it, and MAX_TRANSMIT_WAIT to ask again for what was lost. It is kept
//! until EXCHANGE_LIFETIME is over as long as there is room. When there is none, the owner that holds most gives its oldest ripe
//! answer first, so that a client that never closes its sessions refuses nobody. What is needed or young is never evicted: where
//! nothing is ripe, a newcomer is refused before its request is executed (see [`super::accounts`] for its share).
//!
//! Each step takes logarithmic time. Answers ripen when a new one comes, a few at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::accounts::{Accounts, Owner};
use crate::MAX_TRANSMIT_WAIT;

/// What a pending request counts before its answer is known: the size of a usual one.
pub(super) const RESPONSE_BYTES_EXPECTED: usize = 1_024;

/// What the least of the answers counts: to remember one takes so much beside its body.
const ANSWER_BYTES_MIN: usize = 128;

/// So many of the smallest make room for one request. An owner above its share may stay above it after them: it is refused then,
/// and the shard goes on.
const EVICTIONS_PER_REQUEST_MAX: usize = RESPONSE_BYTES_EXPECTED / ANSWER_BYTES_MIN;

/// How many answers ripen with each one that becomes young: more than one, so that they never fall behind.
const RIPENED_PER_ANSWER_MAX: usize = 4;
/// How many ripen where room is needed: well below a millisecond of work. Only after a pause in which nobody enrolled more could
/// be waiting.
const RIPENED_PER_SEARCH_MAX: usize = 1_024;

/// The answers of all peers of a shard. Behind a lock only so that a [`Slot`] can be dropped anywhere; one shard alone touches it.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<Store>>);

/// Whether an answer may be evicted once its client has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    /// The same request yields it again.
    Repeatable,
    /// It cannot be had again.
    Irreplaceable,
}

#[derive(Debug, Default)]
struct Store {
    accounts: Accounts,
    latest: u64,
    kept: BTreeMap<u64, Kept>,
    /// In the order in which they were sent to their end; by when.
    young: BTreeMap<u64, (Instant, u64)>,
    /// By owner, the oldest first.
    ripe: BTreeSet<(Owner, u64, u64)>,
    /// Owners of ripe answers, by all that they hold.
    heaviest: BTreeSet<(usize, Owner)>,
    evicted: u64,
}

#[derive(Debug)]
struct Kept {
    owner: Owner,
    worth: Worth,
    bytes: usize,
    body: Option<Arc<[u8]>>,
    standing: Standing,
}

/// See the flow above; the numbers are places in `young` and `ripe`.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Needed,
    Young(u64),
    Ripe(u64),
}

impl Answers {
    /// Makes room for one more request of `owner` where all may hold `bytes_max`; false where there is none.
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

    /// A place for an answer that is not known yet.
    pub(super) fn reserve(&self, owner: Owner, worth: Worth) -> Slot {
        self.insert(owner, worth, RESPONSE_BYTES_EXPECTED)
    }

    /// A place that counts nothing before the answer is in it.
    pub(super) fn place(&self, owner: Owner) -> Slot {
        self.insert(owner, Worth::Repeatable, 0)
    }

    /// Bytes held now, with those reserved.
    pub(super) fn bytes(&self) -> usize {
        self.lock().accounts.total()
    }

    /// How many were evicted so far.
    pub(super) fn evicted(&self) -> u64 {
        self.lock().evicted
    }

    fn insert(&self, owner: Owner, worth: Worth, bytes: usize) -> Slot {
        let mut store = self.lock();
        store.latest += 1;
        let id = store.latest;
        store.kept.insert(id, Kept { owner, worth, bytes: 0, body: None, standing: Standing::Needed });
        store.count(id, bytes);
        Slot { answers: self.clone(), id, worth }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Counts `bytes` for an answer from now on.
    fn count(&mut self, id: u64, bytes: usize) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        let (owner, before) = (kept.owner, std::mem::replace(&mut kept.bytes, bytes));
        let held = self.accounts.held_by(owner);
        let holds = self.accounts.change(owner, before, bytes);
        if held != holds && self.heaviest.remove(&(held, owner)) {
            self.heaviest.insert((holds, owner));
        }
    }

    /// Takes an answer out of the order in which it would be evicted.
    fn need(&mut self, id: u64) {
        let Some(kept) = self.kept.get_mut(&id) else { return };
        let owner = kept.owner;
        match std::mem::replace(&mut kept.standing, Standing::Needed) {
            Standing::Needed => {}
            Standing::Young(place) => {
                self.young.remove(&place);
            }
            Standing::Ripe(place) => {
                self.ripe.remove(&(owner, place, id));
                if self.oldest_ripe(owner).is_none() {
                    self.heaviest.remove(&(self.accounts.held_by(owner), owner));
                }
            }
        }
    }

    /// The client has the whole of an answer, as far as we know.
    fn sent(&mut self, id: u64, now: Instant) {
        self.need(id);
        self.latest += 1;
        let place = self.latest;
        match self.kept.get_mut(&id) {
            Some(kept) if kept.body.is_some() && kept.worth == Worth::Repeatable => {
                kept.standing = Standing::Young(place);
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
            kept.standing = Standing::Ripe(place);
            let owner = kept.owner;
            self.ripe.insert((owner, place, id));
            self.heaviest.insert((self.accounts.held_by(owner), owner));
        }
    }

    fn oldest_ripe(&self, owner: Owner) -> Option<u64> {
        let (found, _, id) = *self.ripe.range((owner, 0, 0)..).next()?;
        (found == owner).then_some(id)
    }

    /// Evicts the oldest ripe answer of the owner that holds most; false where none is ripe.
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

/// The place of one answer, which is gone with it.
#[derive(Debug)]
pub(super) struct Slot {
    answers: Answers,
    id: u64,
    worth: Worth,
}

impl Slot {
    pub(super) fn worth(&self) -> Worth {
        self.worth
    }

    /// Puts the answer in.
    pub(super) fn fill(&self, body: &[u8]) {
        let mut store = self.answers.lock();
        store.count(self.id, body.len().max(ANSWER_BYTES_MIN));
        if let Some(kept) = store.kept.get_mut(&self.id) {
            kept.body = Some(body.into());
        }
    }

    /// The answer; `None` once it is evicted.
    pub(super) fn body(&self) -> Option<Arc<[u8]>> {
        self.answers.lock().kept.get(&self.id)?.body.clone()
    }

    /// The answer was sent to its end.
    pub(super) fn sent(&self, now: Instant) {
        self.answers.lock().sent(self.id, now);
    }

    /// Its client begins to fetch it again.
    pub(super) fn need(&self) {
        self.answers.lock().need(self.id);
    }
}

impl Drop for Slot {
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

    /// The whole population: 134,217 enrolments of 500 bytes in 247 s fill 64 MiB; twice as many are kept all the same.
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
