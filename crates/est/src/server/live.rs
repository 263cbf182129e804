//! State of the sessions that are not idle: a CoAP peer, jobs that wait for the authority, a deadline.
//!
//! An idle session costs one null pointer here; the rest of it is in the DTLS endpoint. A deadline that is near is in an ordered set, with at most one
//! entry per session, so that the next one is found without looking at the others. One that is far, such as the end of what a session remembers of
//! its enrolment, is rounded up to a second: there is one for each device of the last [`coap::EXCHANGE_LIFETIME`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use authority::Issued;
use coap::server::{Accounts, ExchangeId, Owner, Peer};
use dtls::{Occupation, SessionId};

use super::far_deadlines::{FAR, FarDeadlines, Second};
use super::places::{Places, UPLOAD_KEEPS, WaitingPlace};
use super::slots::Slots;
use super::waiting::{Asker, PendingRequest, Waited, Waiting};
use crate::verify::Authenticated;

/// Identifies one enrolment on its way through the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// The shard that submitted it.
    pub shard: u16,
    /// The session of the client, with its generation.
    pub session: SessionId,
    /// The exchange in that session.
    pub exchange: u32,
}

/// The state of a session while it is not idle. Most of them only remember an enrolment, for [`coap::EXCHANGE_LIFETIME`]: what is needed while somebody
/// works or is waited for is behind a pointer.
pub(super) struct Live {
    generation: u32,
    pub(super) peer: Peer,
    /// Its place among the far deadlines, if it has one there.
    far: Option<Second>,
    work: Option<Box<Work>>,
}

const _: () = assert!(size_of::<Live>() <= 136, "a device of the last EXCHANGE_LIFETIME has one");

/// The part of [`Live`] of a session in which something is under way.
#[derive(Default)]
struct Work {
    /// The owner in whose share the session keeps its place during an enrolment; `None` if the DTLS endpoint may give
    /// the place to others.
    occupies: Option<Owner>,
    waiting: Waiting,
    /// Places that its uploads keep, and until when they do without a further message.
    upload_places: u8,
    places_until: Option<Instant>,
    /// Its entry in the set of near deadlines.
    armed: Option<Instant>,
    /// Answers with a key that the server made, until they are delivered.
    deliveries: Vec<(ExchangeId, Arc<Issued>)>,
    /// The certificate of its device, held during an enrolment even if the cache drops it; see [`Sessions::pin`].
    certificate: Option<Authenticated>,
    /// While draining: when to close the session, unless it waits for an answer.
    linger: Option<Instant>,
}

/// While draining, a session stays open for this long after its last message, so that the client can fetch the rest of
/// an answer: one retransmission of a lost request, which follows after 3 s at most (RFC 7252 §4.8), and a round trip.
pub(super) const LINGER: Duration = Duration::from_secs(4);

/// A new deadline is at least this far ahead, so that a layer that repeatedly asks for "now" cannot keep the shard in
/// one turn.
const STEP: Duration = Duration::from_millis(1);

/// What became of the key that the server made for a certificate.
pub(super) enum KeyEnd {
    Delivered(Arc<Issued>),
    Undelivered(Arc<Issued>),
}

/// What to do with a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionFate {
    Keep,
    Close,
}

/// All sessions of a shard that are not idle, by slot.
#[derive(Default)]
pub(super) struct Sessions {
    slots: Slots<Live>,
    deadlines: BTreeSet<(Instant, SessionId)>,
    far: FarDeadlines,
    /// The places of enrolments that the authority is working on, and of uploads.
    places: Places,
    /// The pending enrolments whose sessions are gone. Their jobs are still in the authority's queue, so they count
    /// until their outcome arrives: otherwise a device that closes and reconnects would take more than its share. They
    /// are bounded like these.
    orphans: BTreeMap<(SessionId, ExchangeId), Asker>,
    /// Sessions that keep their places, by the certificate of their devices.
    occupied: Accounts,
    /// Certificates whose keys were on their way, and what became of these.
    key_ends: Vec<KeyEnd>,
    /// The state of the session that became idle last: the next session that wakes up reuses it without an allocation.
    spare: Option<Box<Live>>,
    /// The same for the work that ended last.
    spare_work: Option<Box<Work>>,
}

impl Sessions {
    /// The state of the session; created if there is none.
    pub(super) fn open(&mut self, session: SessionId) -> &mut Live {
        let index = index(session);
        // The endpoint bounds its slots by `sessions_max`; one pointer per slot is the price of a direct lookup.
        if self.slots.place(index).as_ref().is_some_and(|live| live.generation != session.generation) {
            self.forget_slot(index);
        }
        let spare = &mut self.spare;
        self.slots.place(index).get_or_insert_with(|| match spare.take() {
            Some(mut live) => {
                live.generation = session.generation;
                live
            }
            None => Box::new(Live::new(session.generation)),
        })
    }

    /// The state of the session, if there is one.
    pub(super) fn find(&mut self, session: SessionId) -> Option<&mut Live> {
        let live = self.slots.get_mut(index(session))?;
        (live.generation == session.generation).then_some(live)
    }

    /// Adds a request that waits for the outcome of `job`.
    pub(super) fn wait(&mut self, job: JobId, waiting: PendingRequest) {
        let asker = waiting.asker;
        self.open(job.session);
        if let Some(work) = self.work(job.session) {
            work.waiting.push(waiting);
            work.upload_places -= u8::from(asker.place == WaitingPlace::OfUpload);
        }
        self.places.take(asker.place, asker.owner);
    }

    /// An upload of the session was admitted, and keeps a place.
    pub(super) fn keep_place(&mut self, session: SessionId, now: Instant) {
        let Some(owner) = self.find(session).map(|live| live.peer.owner()) else { return };
        if let Some(work) = self.work(session) {
            work.upload_places += 1;
            work.places_until = Some(now + UPLOAD_KEEPS);
            self.places.keep(owner);
        }
    }

    /// Whether a place of the session is there whose upload has just ended.
    pub(super) fn has_place_of_upload(&mut self, session: SessionId) -> bool {
        self.find(session).is_some_and(|live| live.upload_places() > live.peer.uploads())
    }

    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Removes the request that `job` names from those that wait. `None` if none has this name.
    pub(super) fn take_waiting(&mut self, job: JobId) -> Option<Waited> {
        let work = self.find(job.session).and_then(|live| live.work.as_mut());
        let waiting = work.and_then(|work| work.waiting.take(job.exchange)).map(Waited::Present);
        let orphan = || self.orphans.remove(&(job.session, ExchangeId(job.exchange))).map(Waited::Orphan);
        let waited = waiting.or_else(orphan)?;
        let Asker { owner, place, .. } = waited.asker();
        self.places.give_back(place, owner);
        Some(waited)
    }

    /// Holds the certificate of a session that has begun an enrolment, until the session is idle. The limits for
    /// uploads, kept answers and waiting requests bound how many are held, and sessions of one certificate share it.
    pub(super) fn pin(&mut self, session: SessionId, certificate: &Authenticated) {
        if let Some(work) = self.work(session) {
            work.certificate.get_or_insert_with(|| certificate.clone());
        }
    }

    /// The certificate that the session holds.
    pub(super) fn pinned(&mut self, session: SessionId) -> Option<&Authenticated> {
        self.find(session)?.work.as_ref()?.certificate.as_ref()
    }

    /// The answer of this exchange contains a key that the server made.
    pub(super) fn deliver(&mut self, session: SessionId, exchange: ExchangeId, issued: Arc<Issued>) {
        match self.work(session) {
            Some(work) => work.deliveries.push((exchange, issued)),
            None => self.key_ends.push(KeyEnd::Undelivered(issued)),
        }
    }

    /// The next key that has reached its device, or will not.
    pub(super) fn next_key_end(&mut self) -> Option<KeyEnd> {
        self.key_ends.pop()
    }

    /// How many requests the authority is working on.
    pub(super) fn pending(&self) -> usize {
        self.places.waiting()
    }

    /// Whether closing the session now would lose an answer, or a part of it, for its client.
    pub(super) fn is_occupied(&mut self, session: SessionId) -> bool {
        self.find(session).is_some_and(|live| live.is_occupied())
    }

    /// The occupation to report to the DTLS endpoint, if it differs from the last report. A session in the middle of an
    /// enrolment keeps its place even when the server is full, but of the `most` places of the shard one certificate
    /// keeps no more than are left for others ([`Accounts`]): its further sessions are served, but may be evicted like
    /// idle ones. A forgotten session keeps no place.
    pub(super) fn changed_occupation(&mut self, session: SessionId, most: usize) -> Option<Occupation> {
        let Self { slots, occupied, spare_work, .. } = self;
        let live = slots.get_mut(index(session)).filter(|live| live.generation == session.generation)?;
        let owner = live.peer.owner();
        let occupies = live.work.as_ref().and_then(|work| work.occupies);
        match (occupies, live.is_occupied()) {
            (None, true) if occupied.has_room(owner, 1, most) => {
                occupied.change(owner, 0, 1);
                live.begin_work(spare_work).occupies = Some(owner);
                Some(Occupation::Busy)
            }
            (Some(owner), false) => {
                occupied.change(owner, 1, 0);
                live.begin_work(spare_work).occupies = None;
                Some(Occupation::Free)
            }
            _ => None,
        }
    }

    /// Drops the state of a session that is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        if self.find(session).is_some() {
            self.forget_slot(index(session));
        }
    }

    /// The earliest deadline.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at).into_iter().chain(self.far.next()).min()
    }

    /// The next session whose deadline has passed; its entry is removed.
    pub(super) fn next_due(&mut self, now: Instant) -> Option<SessionId> {
        if let Some(&(at, session)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, session));
            if let Some(work) = self.find(session).and_then(|live| live.work.as_mut()) {
                work.armed = None;
            }
            return Some(session);
        }
        let (second, session) = self.far.pop(now)?;
        if let Some(live) = self.find(session) {
            live.far.take_if(|far| *far == second);
        }
        Some(session)
    }

    /// Updates the deadline of a session after an event, or drops its state if it is idle.
    pub(super) fn settle(&mut self, session: SessionId, now: Instant, draining: bool) -> SessionFate {
        let Self { slots, key_ends, spare_work, deadlines, far, places, .. } = self;
        let live = slots.get_mut(index(session));
        let Some(live) = live.filter(|live| live.generation == session.generation) else {
            return if draining { SessionFate::Close } else { SessionFate::Keep };
        };
        if draining && !live.is_busy() {
            match &mut live.begin_work(spare_work).linger {
                Some(until) if *until <= now => return SessionFate::Close,
                Some(_) => {}
                linger => *linger = Some(now + LINGER),
            }
        }
        let is_occupied = live.is_occupied();
        let Live { peer, work, .. } = &mut *live;
        if let Some(work) = work {
            work.settle(peer, is_occupied, key_ends);
            places.give_up(peer.owner(), work.end_uploads(peer, now));
        }
        if live.peer.is_idle() && live.work.as_ref().is_none_or(|work| work.is_over()) {
            self.forget(session);
            return SessionFate::Keep;
        }
        let near = live.wanted().map(|at| at.max(now + STEP)).filter(|at| !live.wait_far(*at, now, session, far));
        let armed = live.work.as_ref().and_then(|work| work.armed);
        match (armed, near) {
            // An entry that is too early is checked again when it is due; moving it each time would cost more.
            (Some(armed), Some(near)) if armed <= near => {}
            (None, None) => {}
            (_, near) => {
                if let Some(armed) = armed {
                    deadlines.remove(&(armed, session));
                }
                if let Some(near) = near {
                    deadlines.insert((near, session));
                }
                live.begin_work(spare_work).armed = near;
            }
        }
        live.end_work(spare_work);
        SessionFate::Keep
    }

    fn forget_slot(&mut self, index: usize) {
        let Some(mut live) = self.slots.take(index) else { return };
        // The endpoint's slots are counted by 32 bits.
        let session = SessionId { slot: u32::try_from(index).unwrap_or(u32::MAX), generation: live.generation };
        live.far = None;
        if let Some(mut work) = live.work.take() {
            if let Some(armed) = work.armed.take() {
                self.deadlines.remove(&(armed, session));
            }
            if let Some(owner) = work.occupies.take() {
                self.occupied.change(owner, 1, 0);
            }
            self.key_ends.extend(work.deliveries.drain(..).map(|(_, issued)| KeyEnd::Undelivered(issued)));
            self.orphans.extend(work.waiting.drain().map(|waiting| ((session, waiting.exchange), waiting.asker)));
            self.places.give_up(live.peer.owner(), std::mem::take(&mut work.upload_places));
            (work.certificate, work.linger, work.places_until) = (None, None, None);
            debug_assert!(work.is_over() && work.armed.is_none(), "it is used again");
            self.spare_work = Some(work);
        }
        live.peer.forget_all();
        self.spare = Some(live);
    }

    /// The work of the session, created if there is none; `None` if there is no such session.
    fn work(&mut self, session: SessionId) -> Option<&mut Work> {
        let Self { slots, spare_work, .. } = self;
        let live = slots.get_mut(index(session))?;
        (live.generation == session.generation).then(|| live.begin_work(spare_work))
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let live = || self.slots.iter();
        let work = || live().filter_map(|live| live.work.as_ref());
        let waiting = work().map(|work| work.waiting.len()).sum::<usize>();
        assert_eq!(self.pending(), waiting + self.orphans.len());
        assert_eq!(self.places.of_uploads(), work().map(|work| usize::from(work.upload_places)).sum::<usize>());
        assert_eq!(self.occupied.total(), work().filter(|work| work.occupies.is_some()).count());
        assert_eq!(self.deadlines.len(), work().filter(|work| work.armed.is_some()).count());
    }
}

impl Live {
    fn new(generation: u32) -> Self {
        Self { generation, peer: Peer::new(), far: None, work: None }
    }

    fn begin_work(&mut self, spare: &mut Option<Box<Work>>) -> &mut Work {
        self.work.get_or_insert_with(|| spare.take().unwrap_or_default())
    }

    /// Gives the work back once nothing is under way and no deadline is near.
    fn end_work(&mut self, spare: &mut Option<Box<Work>>) {
        if let Some(work) = self.work.take_if(|work| work.is_over() && work.armed.is_none()) {
            *spare = Some(work);
        }
    }

    /// When there is something to do for it.
    fn wanted(&self) -> Option<Instant> {
        let work = self.work.as_ref().map(|work| [work.linger, work.places_until]);
        work.into_iter().flatten().chain([self.peer.poll_timeout()]).flatten().min()
    }

    /// Whether a far deadline is there for what is wanted at `at`, or is set now because that is far.
    fn wait_far(&mut self, at: Instant, now: Instant, session: SessionId, far: &mut FarDeadlines) -> bool {
        let second = far.second(now, at);
        let is_far = at >= now + FAR;
        // What a session remembers may stay for less than a second more. What is in flight has to be in time.
        let may_be_late = is_far || !self.is_busy() && self.work.as_ref().is_none_or(|work| work.linger.is_none());
        let covers = |there: Second| if may_be_late { there <= second } else { there < second };
        if self.far.is_some_and(covers) {
            return true;
        }
        if is_far {
            far.insert(second, session);
            self.far = Some(second);
        }
        is_far
    }

    fn is_busy(&self) -> bool {
        // An upload that has begun counts as an enrolment in progress.
        let waits = self.work.as_ref().is_some_and(|work| work.waiting.len() > 0);
        waits || self.peer.has_pending() || self.peer.has_upload()
    }

    /// Whether it is in the middle of an enrolment, including the time in which its client still has to fetch blocks of
    /// the answer.
    fn is_occupied(&self) -> bool {
        self.is_busy() || self.peer.has_rest()
    }

    /// Places that its uploads keep.
    fn upload_places(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.upload_places.into())
    }

    /// The client has sent something: while draining, its time to fetch the rest starts again, and its uploads go on.
    pub(super) fn touch(&mut self, now: Instant) {
        let Some(work) = self.work.as_mut() else { return };
        if let Some(until) = work.linger.as_mut() {
            *until = now + LINGER;
        }
        if let Some(until) = work.places_until.as_mut() {
            *until = now + UPLOAD_KEEPS;
        }
    }
}

impl Work {
    fn is_over(&self) -> bool {
        self.occupies.is_none()
            && self.waiting.len() == 0
            && self.deliveries.is_empty()
            && self.certificate.is_none()
            && self.linger.is_none()
            && self.upload_places == 0
    }

    /// How many places are not needed any more, because their uploads have ended or stand still.
    fn end_uploads(&mut self, peer: &Peer, now: Instant) -> u8 {
        let is_still = self.places_until.is_some_and(|until| until <= now);
        let needed = if is_still { 0 } else { u8::try_from(peer.uploads()).unwrap_or(u8::MAX) };
        let ended = self.upload_places.saturating_sub(needed);
        self.upload_places -= ended;
        self.places_until.take_if(|_| self.upload_places == 0);
        ended
    }

    /// Ends what has ended: deliveries, the hold of the certificate.
    fn settle(&mut self, peer: &Peer, is_occupied: bool, key_ends: &mut Vec<KeyEnd>) {
        self.deliveries.retain(|(exchange, issued)| match peer.has_delivered(*exchange) {
            Some(false) => true,
            Some(true) => {
                key_ends.push(KeyEnd::Delivered(Arc::clone(issued)));
                false
            }
            None => {
                key_ends.push(KeyEnd::Undelivered(Arc::clone(issued)));
                false
            }
        });
        if !is_occupied {
            self.certificate = None;
        }
    }
}

fn index(session: SessionId) -> usize {
    // A slot is an index into a Vec of the endpoint, so it fits.
    usize::try_from(session.slot).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(slot: u32, generation: u32) -> SessionId {
        SessionId { slot, generation }
    }

    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_stale_generation_reaches_nobody() {
        let mut sessions = Sessions::default();
        sessions.open(session(3, 1));
        assert!(sessions.find(session(3, 0)).is_none());
        sessions.open(session(3, 2));
        assert!(sessions.find(session(3, 1)).is_none(), "the slot has another tenant");
        let job = JobId { shard: 0, session: session(3, 1), exchange: 1 };
        assert!(sessions.take_waiting(job).is_none());
        sessions.forget(session(3, 1));
        assert!(sessions.find(session(3, 2)).is_some(), "a session that ends removes no other");
        sessions.check_invariants();
    }

    #[test]
    fn what_is_used_again_remembers_nobody() {
        let (mut sessions, now) = (Sessions::default(), start());
        sessions.open(session(0, 0));
        sessions.work(session(0, 0)).unwrap().linger = Some(now);
        sessions.settle(session(0, 0), now, false);
        sessions.forget(session(0, 0));
        assert!(sessions.spare.is_some());
        let next = sessions.open(session(5, 1));
        assert!(next.far.is_none() && next.work.is_none() && next.peer.is_idle());
        assert!(sessions.spare_work.as_ref().is_some_and(|work| work.is_over()));
        let next = sessions.open(session(5, 1));
        assert_eq!(next.generation, 1);
        sessions.check_invariants();
    }

    #[test]
    fn an_idle_session_costs_nothing_and_has_no_deadline() {
        let (mut sessions, now) = (Sessions::default(), start());
        sessions.open(session(0, 0));
        assert_eq!(sessions.settle(session(0, 0), now, false), SessionFate::Keep);
        assert!(sessions.find(session(0, 0)).is_none());
        assert_eq!(sessions.poll_timeout(), None);
        sessions.check_invariants();
    }

    #[test]
    fn draining_lets_a_client_fetch_the_rest() {
        let (mut sessions, now) = (Sessions::default(), start());
        sessions.open(session(0, 0));
        assert_eq!(sessions.settle(session(0, 0), now, true), SessionFate::Keep);
        assert_eq!(sessions.poll_timeout(), Some(now + LINGER));
        // The client has fetched a block: its time starts again, and the early entry is checked again.
        let later = now + LINGER / 2;
        sessions.open(session(0, 0)).touch(later);
        assert_eq!(sessions.settle(session(0, 0), later, true), SessionFate::Keep);
        assert_eq!(sessions.next_due(now + LINGER), Some(session(0, 0)));
        assert_eq!(sessions.settle(session(0, 0), now + LINGER, true), SessionFate::Keep);
        assert_eq!(sessions.poll_timeout(), Some(later + LINGER));
        assert_eq!(sessions.settle(session(0, 0), later + LINGER, true), SessionFate::Close);
        sessions.check_invariants();
    }

    #[test]
    fn the_earliest_deadline_comes_first_and_each_session_has_one() {
        let (mut sessions, now) = (Sessions::default(), start());
        for slot in [2, 0, 1] {
            sessions.open(session(slot, 0));
            sessions.work(session(slot, 0)).unwrap().linger = Some(now + Duration::from_secs(u64::from(slot)));
            sessions.settle(session(slot, 0), now, false);
            sessions.settle(session(slot, 0), now, false);
        }
        sessions.check_invariants();
        let due: Vec<_> = std::iter::from_fn(|| sessions.next_due(now + Duration::from_secs(1))).collect();
        assert_eq!(due, [session(0, 0), session(1, 0)]);
        sessions.forget(session(2, 0));
        assert_eq!(sessions.poll_timeout(), None);
    }
}
