//! The entries of an endpoint: half-open handshakes and established sessions in one slab, found by their association.
//!
//! An association leads to one slot. If a session and a newer handshake share an association, the index leads to the session and the session
//! to the handshake. Handshakes have their deadlines in an ordered set. Sessions are in a list ordered by when they were last heard from: all
//! have the same idle timeout, so the head is the next to expire and the next to evict, and no session has a timer of its own. Busy sessions
//! are in a second such list, from which none is evicted.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Instant;

use super::association::Association;
use super::index::{Index, KeyedHash};
use super::meter::{AddressHash, Buyer};
use super::network::{Network, PrefixHashes};
use super::pressure::{Holding, Victim};
use super::slab::{NO_SLOT, Slab};
use crate::handshake::server::{ClientStage, ServerHandshake};
use crate::limits::{EndpointLimits, HELLO_DEADLINE};
use crate::path::Path;
use crate::session::Session;
use crate::session_id::SessionId;
use crate::verify::VerifyPeer;

pub(super) struct EndpointTable<V: VerifyPeer> {
    slab: Slab<Tenant<V>>,
    index: Index,
    hash: KeyedHash,
    timers: BTreeSet<(Instant, u32)>,
    free: IdleOrder,
    busy: IdleOrder,
    counts: SessionCounts,
    /// How many of the handshakes in progress would replace a session.
    beside: usize,
}

/// Number of sessions and of handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCounts {
    /// Established sessions.
    pub established: usize,
    /// Handshakes in progress.
    pub half_open: usize,
}

/// Whether a session may be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupation {
    /// It waits for its peer, which may come back with a new handshake.
    Free,
    /// It is busy with something that a new handshake would not bring back.
    Busy,
}

/// The ends of a list of sessions: the one heard from longest ago, and the one heard from last.
#[derive(Clone, Copy)]
struct IdleOrder {
    first: u32,
    last: u32,
}

impl IdleOrder {
    const EMPTY: Self = Self { first: NO_SLOT, last: NO_SLOT };
}

#[allow(
    clippy::large_enum_variant,
    reason = "sessions are many and lie in the slab itself; handshakes are few and behind a box, which is freed when they end"
)]
pub(super) enum Tenant<V: VerifyPeer> {
    HalfOpen(Box<HalfOpen<V>>),
    Established(SessionEntry<V::Peer>),
}

/// A handshake in progress.
pub(super) struct HalfOpen<V: VerifyPeer> {
    /// Where its datagrams go.
    pub(super) path: Path,
    pub(super) handshake: ServerHandshake<V>,
    /// When its cookie was verified.
    pub(super) began: Instant,
    pub(super) mark: u64,
    /// Flights that its cookie had bought before.
    pub(super) bought: u8,
    /// message_seq of the hello that began it.
    hello_seq: u16,
    /// The session of the same association that this handshake would replace, or `NO_SLOT`.
    beside: u32,
    /// Its entry in `timers`.
    armed: Option<Instant>,
}

/// An established session in the table.
pub(super) struct SessionEntry<P> {
    pub(super) session: Session<P>,
    /// Where its datagrams go.
    pub(super) path: Path,
    mark: u64,
    /// A newer handshake of the same association, or `NO_SLOT`.
    newer: u32,
    idle_before: u32,
    idle_after: u32,
}

impl<P> SessionEntry<P> {
    /// The key by which it is found.
    fn association(&self) -> Association {
        Association::of(self.path)
    }

    pub(super) fn occupation(&self) -> Occupation {
        if self.session.is_busy() { Occupation::Busy } else { Occupation::Free }
    }
}

/// The entry that an association leads to.
#[derive(Clone, Copy)]
pub(super) struct Slots {
    pub(super) established: Option<u32>,
    pub(super) half_open: Option<u32>,
}

impl<V: VerifyPeer> HalfOpen<V> {
    pub(super) const fn new(
        path: Path,
        handshake: ServerHandshake<V>,
        began: Instant,
        mark: u64,
        hello_seq: u16,
    ) -> Self {
        Self { path, handshake, began, mark, bought: 0, hello_seq, beside: NO_SLOT, armed: None }
    }

    /// The key by which it is found.
    fn association(&self) -> Association {
        Association::of(self.path)
    }

    /// Flights that its cookie has bought by now. A handshake that bought no flight cost a slot or an alert, and
    /// counts as one flight.
    pub(super) fn bought(&self) -> u8 {
        self.bought.saturating_add(self.handshake.flights_sent().0.max(1))
    }

    /// The deadline of its current stage.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.handshake.stage() == ClientStage::Hello).then(|| self.began + HELLO_DEADLINE)
    }

    fn poll_timeout(&self) -> Instant {
        let due = self.handshake.poll_timeout();
        self.deadline().map_or(due, |deadline| deadline.min(due))
    }
}

impl<V: VerifyPeer> Tenant<V> {
    fn association(&self) -> Association {
        match self {
            Self::HalfOpen(half_open) => half_open.association(),
            Self::Established(member) => member.association(),
        }
    }
}

impl<V: VerifyPeer> EndpointTable<V> {
    /// Bytes that one session costs in the slab.
    pub(super) const SLOT_BYTES: usize = Slab::<Tenant<V>>::SLOT_BYTES;

    pub(super) fn new(key: [u8; 16], limits: &EndpointLimits) -> Self {
        let (a, b) = key.split_at(8);
        let word = |half: &[u8]| u64::from_be_bytes(half.try_into().expect("split at 8"));
        Self {
            slab: Slab::new(slots_max(limits)),
            index: Index::new(),
            hash: KeyedHash::new([word(a), word(b)]),
            timers: BTreeSet::new(),
            free: IdleOrder::EMPTY,
            busy: IdleOrder::EMPTY,
            counts: SessionCounts { established: 0, half_open: 0 },
            beside: 0,
        }
    }

    /// Sets the maximum of sessions. Sessions beyond a smaller maximum stay until they end, and take no slots
    /// from handshakes meanwhile.
    pub(super) fn set_limits(&mut self, limits: &EndpointLimits) {
        self.slab.set_slots_max(slots_max(limits).max(self.counts.established.saturating_add(limits.half_open_max)));
    }

    pub(super) const fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// How many handshakes in progress want a session slot of their own.
    pub(super) const fn newcomers(&self) -> usize {
        self.counts.half_open - self.beside
    }

    pub(super) fn find(&self, association: Association) -> Slots {
        let hash = self.hash.of(&association);
        let is_it = |slot| self.slab.get(slot).is_some_and(|tenant| tenant.association() == association);
        match self.index.find(hash, is_it).map(|slot| (slot, self.slab.get(slot))) {
            Some((slot, Some(Tenant::Established(member)))) => {
                Slots { established: Some(slot), half_open: Some(member.newer).filter(|slot| *slot != NO_SLOT) }
            }
            Some((slot, Some(Tenant::HalfOpen(_)))) => Slots { established: None, half_open: Some(slot) },
            _ => Slots { established: None, half_open: None },
        }
    }

    pub(super) fn id(&self, slot: u32) -> Option<SessionId> {
        self.slab.id(slot)
    }

    pub(super) fn is_current(&self, id: SessionId) -> bool {
        self.slab.is_current(id)
    }

    pub(super) fn member(&self, id: SessionId) -> Option<&SessionEntry<V::Peer>> {
        match self.slab.get(id.slot).filter(|_| self.slab.is_current(id)) {
            Some(Tenant::Established(member)) => Some(member),
            _ => None,
        }
    }

    pub(super) fn member_mut(&mut self, id: SessionId) -> Option<&mut SessionEntry<V::Peer>> {
        if !self.slab.is_current(id) {
            return None;
        }
        self.member_at(id.slot).map(|(_, member)| member)
    }

    pub(super) fn member_at(&mut self, slot: u32) -> Option<(SessionId, &mut SessionEntry<V::Peer>)> {
        let id = self.slab.id(slot)?;
        match self.slab.get_mut(slot) {
            Some(Tenant::Established(member)) => Some((id, member)),
            _ => None,
        }
    }

    pub(super) fn half_open_mut(&mut self, id: SessionId) -> Option<&mut HalfOpen<V>> {
        if self.slab.is_current(id) { self.half_open_at(id.slot) } else { None }
    }

    pub(super) fn half_open_at(&mut self, slot: u32) -> Option<&mut HalfOpen<V>> {
        match self.slab.get_mut(slot) {
            Some(Tenant::HalfOpen(half_open)) => Some(half_open),
            _ => None,
        }
    }

    /// The handles of a handshake and of the session that it would replace.
    pub(super) fn half_open_id(&mut self, slot: u32) -> Option<(SessionId, Option<u32>)> {
        let id = self.slab.id(slot)?;
        let beside = self.half_open_at(slot)?.beside;
        Some((id, Some(beside).filter(|slot| *slot != NO_SLOT)))
    }

    /// A short keyed hash by which a ClientHello is recognised when it comes again.
    pub(super) fn mark(&self, hello: &[u8]) -> u64 {
        self.hash.of(&hello)
    }

    pub(super) fn has_mark(&self, slot: u32, mark: u64) -> bool {
        match self.slab.get(slot) {
            Some(Tenant::HalfOpen(half_open)) => half_open.mark == mark,
            Some(Tenant::Established(member)) => member.mark == mark,
            None => false,
        }
    }

    /// Whether this is a repetition of the ClientHello that began the handshake, or of its first fragment.
    pub(super) fn is_begun_by(&self, slot: u32, hello: &[u8], message_seq: u16) -> bool {
        match self.slab.get(slot) {
            Some(Tenant::HalfOpen(half_open)) => {
                half_open.hello_seq == message_seq && half_open.mark == self.mark(hello)
            }
            _ => false,
        }
    }

    /// `None` when all slots are taken. The association has no other half-open handshake.
    pub(super) fn insert_half_open(&mut self, mut half_open: HalfOpen<V>) -> Option<u32> {
        if self.slab.is_full() {
            return None;
        }
        let association = half_open.association();
        let established = self.find(association).established;
        half_open.beside = established.unwrap_or(NO_SLOT);
        let slot = self.slab.insert(Tenant::HalfOpen(Box::new(half_open)))?.slot;
        match established.and_then(|old| self.member_at(old)) {
            Some((_, member)) => {
                member.newer = slot;
                self.beside += 1;
            }
            None => self.add_to_index(association, slot),
        }
        self.counts.half_open += 1;
        self.rearm(slot);
        Some(slot)
    }

    pub(super) fn remove_half_open(&mut self, slot: u32) -> Option<HalfOpen<V>> {
        let beside = self.half_open_at(slot)?.beside;
        let association = self.half_open_at(slot)?.association();
        match self.member_at(beside) {
            Some((_, member)) => {
                member.newer = NO_SLOT;
                self.beside -= 1;
            }
            None => self.remove_from_index(association, slot),
        }
        let Some(Tenant::HalfOpen(half_open)) = self.slab.remove(slot) else { return None };
        self.disarm(half_open.armed, slot);
        self.counts.half_open -= 1;
        Some(*half_open)
    }

    pub(super) fn remove_member(&mut self, slot: u32) -> Option<(SessionId, SessionEntry<V::Peer>)> {
        let (id, member) = self.member_at(slot)?;
        let (association, newer) = (member.association(), member.newer);
        self.unlink(slot);
        match self.half_open_at(newer) {
            Some(half_open) => {
                half_open.beside = NO_SLOT;
                self.beside -= 1;
                self.index.redirect(self.hash.of(&association), slot, newer);
            }
            None => self.remove_from_index(association, slot),
        }
        let Some(Tenant::Established(member)) = self.slab.remove(slot) else { return None };
        self.counts.established -= 1;
        Some((id, member))
    }

    /// Turns a handshake into a session in the same slot. The caller has removed the session that it
    /// replaces.
    pub(super) fn establish(&mut self, slot: u32, session: Session<V::Peer>) -> Option<Path> {
        let tenant = self.slab.get_mut(slot)?;
        let Tenant::HalfOpen(half_open) = tenant else { return None };
        let (path, mark, armed) = (half_open.path, half_open.mark, half_open.armed);
        let (newer, idle_before, idle_after) = (NO_SLOT, NO_SLOT, NO_SLOT);
        *tenant = Tenant::Established(SessionEntry { session, path, mark, newer, idle_before, idle_after });
        self.disarm(armed, slot);
        self.counts.half_open -= 1;
        self.counts.established += 1;
        self.link_last(slot);
        Some(path)
    }

    /// Notes that the session was heard from: moves it to the end of its list.
    pub(super) fn touch(&mut self, slot: u32) {
        if self.free.last != slot && self.busy.last != slot {
            self.unlink(slot);
            self.link_last(slot);
        }
    }

    /// Moves a session to the end of the other list. It counts as heard from now, so both lists stay in
    /// order.
    pub(super) fn occupy(&mut self, slot: u32, occupation: Occupation, now: Instant) {
        if self.member_at(slot).is_none_or(|(_, member)| member.occupation() == occupation) {
            return;
        }
        self.unlink(slot);
        if let Some((_, member)) = self.member_at(slot) {
            member.session.set_busy(occupation == Occupation::Busy, now);
        }
        self.link_last(slot);
    }

    /// The session of that list that was heard from longest ago, and the time.
    pub(super) fn longest_idle(&self, occupation: Occupation) -> Option<(u32, Instant)> {
        let first = match occupation {
            Occupation::Free => self.free.first,
            Occupation::Busy => self.busy.first,
        };
        match self.slab.get(first) {
            Some(Tenant::Established(member)) => Some((first, member.session.last_heard())),
            _ => None,
        }
    }

    /// How many of so many sessions are not busy and were last heard from before `before`.
    pub(super) fn idle_since(&self, before: Instant, most: usize) -> usize {
        let idle = std::iter::successors(self.session_at(self.free.first), |member| self.session_at(member.idle_after));
        idle.take(most).take_while(|member| member.session.last_heard() <= before).count()
    }

    /// The facts about all handshakes in progress that decide which one gives way.
    pub(super) fn holdings(&self) -> Vec<Holding> {
        let holding = |(_, slot): &(Instant, u32)| {
            let id = self.slab.id(*slot)?;
            let Some(Tenant::HalfOpen(half_open)) = self.slab.get(*slot) else { return None };
            Some(Holding {
                id,
                network: Network::of(half_open.path),
                stage: half_open.handshake.stage(),
                began: half_open.began,
                holder: half_open.handshake.holder(),
            })
        };
        self.timers.iter().filter_map(holding).collect()
    }

    /// Whether a handshake that was chosen to give way still exists and has proven nothing since.
    pub(super) fn is_still(&self, victim: &Victim) -> bool {
        match self.slab.get(victim.id.slot).filter(|_| self.slab.is_current(victim.id)) {
            Some(Tenant::HalfOpen(half_open)) => victim.is_still(half_open.handshake.stage()),
            _ => false,
        }
    }

    /// A keyed hash of the peer's address and port: the key for counting flights.
    pub(super) fn buyer(&self, path: Path) -> Buyer {
        let peer = path.peer;
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Buyer(self.hash.of(&(ip.to_bits(), peer.port())))
    }

    /// A keyed hash of the peer's address without the port.
    pub(super) fn address(&self, path: Path) -> AddressHash {
        AddressHash(self.hash.of(&path.peer.ip().to_canonical()))
    }

    /// Keyed hashes of the peer's prefixes.
    pub(super) fn prefixes(&self, path: Path) -> PrefixHashes {
        let network = Network::of(path);
        std::array::from_fn(|level| self.hash.of(&network.prefix(level)))
    }

    /// The session in a slot, if there is one.
    pub(super) fn session_at(&self, slot: u32) -> Option<&SessionEntry<V::Peer>> {
        match self.slab.get(slot) {
            Some(Tenant::Established(member)) => Some(member),
            _ => None,
        }
    }

    /// A slot that nobody outside can predict.
    pub(super) fn random_slot(&self, seed: (u64, u32)) -> u32 {
        let at = self.hash.of(&seed) % u64::from(self.slot_count().max(1));
        u32::try_from(at).unwrap_or(NO_SLOT)
    }

    /// Number of slots ever used: [`EndpointTable::sessions_in`] walks them.
    pub(super) fn slot_count(&self) -> u32 {
        self.slab.slot_count()
    }

    /// The sessions in a range of slots.
    pub(super) fn sessions_in(&self, slots: Range<u32>) -> impl Iterator<Item = SessionId> + '_ {
        slots.filter_map(|slot| match self.slab.get(slot)? {
            Tenant::Established(_) => self.slab.id(slot),
            Tenant::HalfOpen(_) => None,
        })
    }

    pub(super) fn next_handshake_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The next handshake whose timer is due. Its timer must be handled and armed again before the next call.
    pub(super) fn expired_handshake(&self, now: Instant) -> Option<u32> {
        self.timers.first().filter(|(at, _)| *at <= now).map(|(_, slot)| *slot)
    }

    /// Updates a handshake's position in the order of deadlines.
    pub(super) fn rearm(&mut self, slot: u32) {
        let Some(half_open) = self.half_open_at(slot) else { return };
        let due = Some(half_open.poll_timeout());
        let armed = std::mem::replace(&mut half_open.armed, due);
        if armed != due {
            self.disarm(armed, slot);
            self.timers.extend(due.map(|at| (at, slot)));
        }
    }

    fn disarm(&mut self, armed: Option<Instant>, slot: u32) {
        if let Some(at) = armed {
            self.timers.remove(&(at, slot));
        }
    }

    fn add_to_index(&mut self, association: Association, slot: u32) {
        self.index.insert(self.hash.of(&association), slot);
    }

    fn remove_from_index(&mut self, association: Association, slot: u32) {
        self.index.remove(self.hash.of(&association), slot);
    }

    fn unlink(&mut self, slot: u32) {
        let Some((_, member)) = self.member_at(slot) else { return };
        let before = std::mem::replace(&mut member.idle_before, NO_SLOT);
        let after = std::mem::replace(&mut member.idle_after, NO_SLOT);
        let occupation = member.occupation();
        match self.member_at(before) {
            Some((_, member)) => member.idle_after = after,
            None => self.order(occupation).first = after,
        }
        match self.member_at(after) {
            Some((_, member)) => member.idle_before = before,
            None => self.order(occupation).last = before,
        }
    }

    fn link_last(&mut self, slot: u32) {
        let Some((_, member)) = self.member_at(slot) else { return };
        let occupation = member.occupation();
        let before = std::mem::replace(&mut self.order(occupation).last, slot);
        match self.member_at(before) {
            Some((_, member)) => member.idle_after = slot,
            None => self.order(occupation).first = slot,
        }
        if let Some((_, member)) = self.member_at(slot) {
            member.idle_before = before;
        }
    }

    fn order(&mut self, occupation: Occupation) -> &mut IdleOrder {
        match occupation {
            Occupation::Free => &mut self.free,
            Occupation::Busy => &mut self.busy,
        }
    }

    /// Invariants that hold between calls.
    #[cfg(debug_assertions)]
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.timers.len(), self.counts.half_open, "each handshake has one deadline");
        let beside = self.timers.iter().filter(|(_, slot)| {
            matches!(self.slab.get(*slot), Some(Tenant::HalfOpen(half_open)) if half_open.beside != NO_SLOT)
        });
        assert!(self.counts.half_open > 64 || self.beside == beside.count(), "who would replace a session is counted");
        let none = |end: fn(&IdleOrder) -> u32| [&self.free, &self.busy].into_iter().all(|list| end(list) == NO_SLOT);
        assert_eq!(none(|list| list.first), self.counts.established == 0, "each session hangs in a list");
        assert_eq!(none(|list| list.last), self.counts.established == 0, "each session hangs in a list");
    }
}

fn slots_max(limits: &EndpointLimits) -> usize {
    limits.sessions_max.saturating_add(limits.half_open_max)
}
