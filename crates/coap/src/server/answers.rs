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
//! Each step takes logarithmic time. When half of the room is taken, each answer that becomes young lets a few older ones ripen. The order of the young answers and that of the ripe
//! ones of an owner are lists through the answers themselves: there is one answer for each device of the last EXCHANGE_LIFETIME, and an entry of an
//! ordered map of its own would cost as much as the rest of the bookkeeping.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use zeroize::Zeroize;

use super::accounts::{Accounts, Owner};
use super::pool::Pool;
use crate::MAX_TRANSMIT_WAIT;

/// The bytes counted for a pending request before its answer is known: the size of a usual answer.
pub(super) const RESPONSE_BYTES_EXPECTED: usize = 1_024;

/// The bytes counted for the smallest answer: its bookkeeping takes this much beside the body.
const ANSWER_BYTES_MIN: usize = 128;

/// This many of the smallest answers free the room for one request. An owner above its share may still be above it
/// after these evictions: its request is then refused, and the shard continues.
const EVICTIONS_PER_REQUEST_MAX: usize = RESPONSE_BYTES_EXPECTED / ANSWER_BYTES_MIN;

/// How many answers ripen each time one becomes young, from half of the limit on: so many that all have ripened long before the other half is taken.
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
    kept: Pool<Kept>,
    /// In the order in which they were sent completely.
    young: Order,
    /// The ripe answers of an owner, the oldest first, by all the bytes that the owner holds.
    ripe: BTreeMap<(usize, Owner), Order>,
    /// The bytes of all owners together at which answers begin to ripen: half of the limit that was last asked about.
    ripens_from: usize,
    origin: Option<Instant>,
    evicted: u64,
}

#[derive(Debug)]
struct Kept {
    owner: Owner,
    body: Option<Box<[u8]>>,
    retention: Retention,
    bytes: u32,
    /// Its neighbours in the order that it belongs to, or `NONE`.
    before: u32,
    after: u32,
    worth: Worth,
}

/// What the store needs for an answer beside its body.
const _: () = assert!(size_of::<Option<Kept>>() <= 48);

/// No answer.
const NONE: u32 = u32::MAX;

/// The ends of a list of answers, the oldest first.
#[derive(Clone, Copy, Debug)]
struct Order {
    first: u32,
    last: u32,
}

/// An answer that cannot be produced again is one that nobody else may have: a private key.
impl Drop for Kept {
    fn drop(&mut self) {
        if self.worth == Worth::Irreplaceable
            && let Some(body) = &mut self.body
        {
            body.zeroize();
        }
    }
}

/// See the flow above.
#[derive(Clone, Copy, Debug)]
enum Retention {
    Needed,
    /// Sent completely at this time.
    Young(Milliseconds),
    Ripe,
}

/// Since the first answer was sent; starts again after 49 days, far later than an answer ripens.
type Milliseconds = u32;

const RIPENS_AFTER: Milliseconds = 93_000;
const _: () = assert!(RIPENS_AFTER as u64 == 1_000 * MAX_TRANSMIT_WAIT.as_secs());

impl Answers {
    /// Makes room for one more request of `owner` when all owners together may hold `bytes_max`; returns false if there
    /// is not enough room.
    pub(super) fn make_room(&self, now: Instant, owner: Owner, bytes_max: usize) -> bool {
        let mut store = self.lock();
        store.ripens_from = bytes_max / 2;
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
        let (body, retention) = (None, Retention::Needed);
        let id = store.kept.insert(Kept { owner, body, retention, bytes: 0, before: NONE, after: NONE, worth });
        store.count(id, bytes);
        AnswerSlot { answers: self.clone(), id, worth }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Sets the bytes that are counted for an answer.
    fn count(&mut self, id: u32, bytes: usize) {
        let Some(kept) = self.kept.get_mut(id) else { return };
        // A body is far below 4 GiB.
        let counted = u32::try_from(bytes).unwrap_or(u32::MAX);
        let (owner, before) = (kept.owner, std::mem::replace(&mut kept.bytes, counted));
        let held = self.accounts.held_by(owner);
        let holds = self.accounts.change(owner, size(before), size(counted));
        if held != holds
            && let Some(order) = self.ripe.remove(&(held, owner))
        {
            self.ripe.insert((holds, owner), order);
        }
    }

    /// Removes an answer from the order of eviction.
    fn need(&mut self, id: u32) {
        let Some(kept) = self.kept.get_mut(id) else { return };
        let owner = kept.owner;
        match std::mem::replace(&mut kept.retention, Retention::Needed) {
            Retention::Needed => {}
            Retention::Young(_) => self.young.unlink(&mut self.kept, id),
            Retention::Ripe => {
                let key = (self.accounts.held_by(owner), owner);
                let Some(order) = self.ripe.get_mut(&key) else { return };
                order.unlink(&mut self.kept, id);
                if order.first == NONE {
                    self.ripe.remove(&key);
                }
            }
        }
    }

    /// The client has received all of an answer, as far as the server knows.
    fn sent(&mut self, id: u32, now: Instant) {
        self.need(id);
        let since = self.milliseconds(now);
        match self.kept.get_mut(id) {
            Some(kept) if kept.body.is_some() && kept.worth == Worth::Repeatable => {
                kept.retention = Retention::Young(since);
            }
            _ => return,
        }
        self.young.append(&mut self.kept, id);
        // A ripe answer costs an entry of an ordered map: not before it may have to go.
        if self.accounts.total() >= self.ripens_from {
            self.ripen(now, RIPENED_PER_ANSWER_MAX);
        }
    }

    fn ripen(&mut self, now: Instant, answers_max: usize) {
        let now = self.milliseconds(now);
        for _ in 0..answers_max {
            let id = self.young.first;
            let Some(kept) = self.kept.get_mut(id) else { return };
            let Retention::Young(since) = kept.retention else { return };
            if now.wrapping_sub(since) < RIPENS_AFTER {
                return;
            }
            kept.retention = Retention::Ripe;
            let owner = kept.owner;
            self.young.unlink(&mut self.kept, id);
            let order = self.ripe.entry((self.accounts.held_by(owner), owner)).or_default();
            order.append(&mut self.kept, id);
        }
    }

    fn milliseconds(&mut self, now: Instant) -> Milliseconds {
        let since = now.saturating_duration_since(*self.origin.get_or_insert(now)).as_millis();
        let [a, b, c, d, ..] = since.to_le_bytes();
        Milliseconds::from_le_bytes([a, b, c, d])
    }

    /// Evicts the oldest ripe answer of the owner that holds the most; returns false if no answer is ripe.
    fn evict(&mut self) -> bool {
        let Some((_, &Order { first: id, .. })) = self.ripe.last_key_value() else { return false };
        self.need(id);
        self.count(id, 0);
        if let Some(kept) = self.kept.get_mut(id) {
            kept.body = None;
        }
        self.evicted += 1;
        true
    }

    fn remove(&mut self, id: u32) {
        self.need(id);
        self.count(id, 0);
        self.kept.remove(id);
    }
}

impl Default for Order {
    fn default() -> Self {
        Self { first: NONE, last: NONE }
    }
}

impl Order {
    fn append(&mut self, kept: &mut Pool<Kept>, id: u32) {
        if let Some(one) = kept.get_mut(id) {
            (one.before, one.after) = (self.last, NONE);
        }
        match kept.get_mut(self.last) {
            Some(last) => last.after = id,
            None => self.first = id,
        }
        self.last = id;
    }

    fn unlink(&mut self, kept: &mut Pool<Kept>, id: u32) {
        let Some(one) = kept.get_mut(id) else { return };
        let (before, after) = (one.before, one.after);
        (one.before, one.after) = (NONE, NONE);
        match kept.get_mut(before) {
            Some(one) => one.after = after,
            None => self.first = after,
        }
        match kept.get_mut(after) {
            Some(one) => one.before = before,
            None => self.last = before,
        }
    }
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The place of one answer. Dropping it drops the answer.
#[derive(Debug)]
pub(super) struct AnswerSlot {
    answers: Answers,
    id: u32,
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
        if let Some(kept) = store.kept.get_mut(self.id) {
            kept.body = Some(body.into());
        }
    }

    /// Calls `read` with the answer; `None` after its eviction.
    pub(super) fn with_body<R>(&self, read: impl FnOnce(&[u8]) -> R) -> Option<R> {
        self.answers.lock().kept.get(self.id)?.body.as_deref().map(read)
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

    /// The length of a list, which is the same in both directions.
    fn length(store: &Store, order: Order) -> usize {
        let walk = |start: u32, next: fn(&Kept) -> u32| {
            std::iter::successors(store.kept.get(start), |one| store.kept.get(next(one))).count()
        };
        let forwards = walk(order.first, |one| one.after);
        assert_eq!(walk(order.last, |one| one.before), forwards);
        forwards
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
        let young = length(&store, store.young);
        let ripe: usize = store.ripe.values().map(|order| length(&store, *order)).sum();
        assert!(young + ripe <= held.len());
        assert!(young < 60_000, "they ripen as they come: {young}");
        drop(store);
        drop(held);
        let store = answers.lock();
        assert_eq!((store.accounts.total(), store.kept.len(), length(&store, store.young)), (0, 0, 0));
        assert_eq!(store.ripe.len(), 0, "nothing stays behind");
    }
}
