//! Server side: all sessions of one shard behind one type.
//!
//! A record belongs to an association, today that of the [`Path`] it came by. A ClientHello takes the stateless way first (`hello`),
//! from any peer; what it begins is a half-open handshake beside a session that may exist (`handshakes`), and only its verified Finished replaces that
//! session (RFC 6347 §4.2.8). `table` keeps both kinds of tenants, their deadlines and their order of idleness.

mod association;
mod door;
mod forgeries;
mod handshakes;
mod hello;
mod index;
mod meter;
mod network;
mod pressure;
mod slab;
mod table;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::ServerConfig;
use crate::cookie::CookieJar;
use crate::drops::{DropCounters, DropReason};
use crate::handshake::public_key::{PublicKeyDone, PublicKeyJob};
use crate::limits::{EARLY_RECORD_BYTES_MAX, EXPIRIES_PER_CALL_MAX, HANDSHAKE_TIMEOUTS_PER_CALL_MAX, QUEUE_KEPT};
use crate::observer::{Direction, Observer, TraceEvent};
use crate::path::Path;
use crate::port::Outside;
use crate::random::Random;
use crate::record::{Record, Records, Role, Unopened};
use crate::refusal::HandshakeRefusal;
use crate::session::{Closed, Received, SendFault, SessionFacts};
use crate::session_id::SessionId;
use crate::time::Now;
use crate::verify::{Account, VerifyPeer};
use crate::wire::{ContentType, Epoch, Fragment, HandshakeType, Offered, Reader};
use association::Association;
use door::Door;
use forgeries::ForgeryRate;
use meter::{Alerts, Meter};
use pressure::Pressure;
use table::Table;

pub use door::Admission;
pub use table::{Occupation, SessionCounts};

/// Server side: all sessions of one shard.
///
/// After each call of a `handle_*`, of `send`, `close` or `complete_public_key_job`, drain `poll_event`, `poll_transmit` and
/// `poll_public_key_job`, and ask `poll_timeout` when to call `handle_timeout`.
pub struct Endpoint<V: VerifyPeer> {
    config: Arc<ServerConfig<V>>,
    cookies: CookieJar,
    table: Table<V>,
    meter: Meter,
    alerts: Alerts,
    pressure: Pressure,
    outside: Outside,
    events: VecDeque<Event<V::Peer>>,
    jobs: VecDeque<PublicKeyJob<V>>,
    door: Door,
    forgeries: ForgeryRate,
    turn: DatagramSeen,
}

/// What the records of the datagram at hand have been about so far.
#[derive(Clone, Copy, Default)]
struct DatagramSeen {
    /// A ClientHello, or its first fragment. One is judged, further ones are dropped: many in one datagram would be one packet in and
    /// many out, to an address that is not proven, and under one record header more bytes out than in.
    hello: bool,
    /// A handshake in progress.
    handshake: bool,
}

/// What happened to the sessions of an [`Endpoint`].
#[derive(Clone, Debug)]
pub enum Event<P> {
    /// A peer is authenticated, and its session may be used.
    Established {
        /// The handle of the session.
        session: SessionId,
        /// Where its datagrams come from and go.
        path: Path,
        /// What the verifier knows of it.
        peer: P,
        /// Suite and bindings.
        facts: SessionFacts,
        /// The name that the client asked for (RFC 6066 §3). There is one certificate for all, so no name is refused.
        server_name: Option<Box<str>>,
        /// What our datagrams were narrowed to, where the path seems to drop longer ones.
        narrowed_to: Option<usize>,
        /// How long the handshake took, from the first hello with a good cookie.
        elapsed: Duration,
    },
    /// Application data came.
    Data {
        /// Whose.
        session: SessionId,
        /// Where it lies in the datagram that was just given to `handle_datagram`.
        plaintext: Range<usize>,
    },
    /// Forged records come fast: more than 1,024 to the sessions of this endpoint, less ten for each second. It comes again as long as they do.
    ForgeryAlarm {
        /// The session that the last of them was meant for.
        session: SessionId,
        /// Where it seemed to come from.
        path: Path,
    },
    /// A session ended; its handle is void.
    Closed {
        /// Which.
        session: SessionId,
        /// Where its datagrams went.
        path: Path,
        /// What the verifier knew of it.
        peer: P,
        /// Why.
        why: Closed,
    },
    /// A handshake failed, after its cookie had been verified.
    Refused {
        /// Whose.
        path: Path,
        /// Why: what the peer was told.
        refusal: HandshakeRefusal,
        /// What exactly is at fault, and whom the client claims to be.
        account: Box<Account>,
        /// What else its ClientHello would have failed by, had this one been mended.
        further: Vec<HandshakeRefusal>,
        /// What its ClientHello offered; empty if it could not be read.
        offered: Box<Offered>,
        /// What our datagrams had been narrowed to, where the path seemed to drop longer ones.
        narrowed_to: Option<usize>,
        /// How long it had lasted, from the first hello with a good cookie.
        elapsed: Duration,
    },
}

/// One datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Where it goes, and from which local address and socket.
    pub path: Path,
    /// The UDP payload.
    pub bytes: &'a [u8],
}

impl<V: VerifyPeer> Endpoint<V> {
    /// Bytes of memory that one session takes in the table, with this verifier's peer type. Two cells of an index come to it, of eight
    /// bytes each.
    pub const SLOT_BYTES: usize = Table::<V>::SLOT_BYTES;

    /// An endpoint without sessions.
    pub fn new(config: Arc<ServerConfig<V>>, random: Arc<dyn Random>) -> Self {
        let mut key = [0; 16];
        random.fill(&mut key);
        Self {
            cookies: CookieJar::new(config.cookie.clone()),
            table: Table::new(key, &config.limits),
            meter: Meter::new(config.cookie.lifetime()),
            alerts: Alerts::new(),
            pressure: Pressure::default(),
            outside: Outside::new(random),
            events: VecDeque::new(),
            jobs: VecDeque::new(),
            door: Door::default(),
            forgeries: ForgeryRate::default(),
            turn: DatagramSeen::default(),
            config,
        }
    }

    /// New handshakes follow the new configuration; sessions and handshakes in progress stay as they are.
    pub fn set_config(&mut self, config: Arc<ServerConfig<V>>) {
        self.cookies = CookieJar::new(config.cookie.clone());
        self.meter.set_cookie_lifetime(config.cookie.lifetime());
        self.table.set_limits(&config.limits);
        self.config = config;
    }

    /// Takes a datagram; records are opened in place. Ranges in the events that follow index `datagram`.
    pub fn handle_datagram(&mut self, now: Now, path: Path, datagram: &mut [u8]) {
        self.outside
            .port(now, Some(path))
            .trace(&TraceEvent::Datagram { direction: Direction::Received, bytes: datagram });
        self.turn = DatagramSeen::default();
        self.door.note_datagram();
        let mut records = Records::new();
        while let Some(record) = records.next(datagram) {
            match record {
                Ok(record) => self.handle_record(now, path, &record, datagram),
                Err(reason) => self.outside.port(now, Some(path)).drop(reason),
            }
        }
        self.after_datagram(now, path);
        self.check_invariants();
    }

    /// What happened. To be drained after each call that takes a `Now`.
    pub fn poll_event(&mut self) -> Option<Event<V::Peer>> {
        let event = self.events.pop_front();
        if event.is_none() && self.events.capacity() > QUEUE_KEPT {
            self.events.shrink_to(QUEUE_KEPT);
        }
        event
    }

    /// The next datagram to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        let (path, bytes) = self.outside.transmits.poll()?;
        Some(Transmit { path: path?, bytes })
    }

    /// The next public-key step, if they are suspended. Steps of handshakes that have ended meanwhile are left out.
    pub fn poll_public_key_job(&mut self) -> Option<PublicKeyJob<V>> {
        loop {
            let job = self.jobs.pop_front()?;
            if self.table.is_current(job.session()) {
                return Some(job);
            }
            self.outside.drops.add(DropReason::StaleJob);
        }
    }

    /// Takes the result of a public-key step.
    pub fn complete_public_key_job(&mut self, now: Now, done: PublicKeyDone<V>) {
        let session = done.session();
        match self.table.half_open_mut(session) {
            Some(half_open) => {
                let mut port = self.outside.port(now, Some(half_open.path));
                let result = half_open.handshake.resume(done.into_computed(), &mut port);
                self.proceed(now, session.slot, result);
            }
            None => self.outside.drops.add(DropReason::StaleJob),
        }
        self.check_invariants();
    }

    /// Says whether a session is in the middle of something: then it is not evicted, however long its peer is silent. Its idle time
    /// counts from now on when it is free again.
    pub fn occupy(&mut self, now: Now, session: SessionId, occupation: Occupation) {
        if self.table.member(session).is_some() {
            self.table.occupy(session.slot, occupation, now.mono);
        }
        self.check_invariants();
    }

    /// When `handle_timeout` is due. Costs O(1); keeping it costs O(log n) of the handshakes in progress.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle_timeout = self.config.limits.idle_timeout;
        let idle = |occupation| {
            self.table.longest_idle(occupation).and_then(|(_, last_heard)| last_heard.checked_add(idle_timeout))
        };
        let idle = [idle(Occupation::Free), idle(Occupation::Busy)];
        idle.into_iter().chain([self.table.next_handshake_timeout()]).flatten().min()
    }

    /// Retransmits, gives up, closes what is idle; a bounded number of each. [`Endpoint::poll_timeout`] says a time that has passed as
    /// long as there is more to do: a caller serves datagrams in between.
    pub fn handle_timeout(&mut self, now: Now) {
        for _ in 0..HANDSHAKE_TIMEOUTS_PER_CALL_MAX {
            let Some(slot) = self.table.expired_handshake(now.mono) else { break };
            self.handle_handshake_timeout(now, slot);
        }
        for occupation in [Occupation::Free, Occupation::Busy] {
            for _ in 0..EXPIRIES_PER_CALL_MAX {
                let Some((slot, last_heard)) = self.table.longest_idle(occupation) else { break };
                if now.mono.saturating_duration_since(last_heard) < self.config.limits.idle_timeout {
                    break;
                }
                self.end(now, slot, Closed::Idle);
            }
        }
        self.check_invariants();
    }

    /// Sends `plaintext` as one record in one datagram.
    ///
    /// # Errors
    /// [`SendFault`]; after `SequenceExhausted` the session is gone.
    pub fn send(&mut self, now: Now, session: SessionId, plaintext: &[u8]) -> Result<(), SendFault> {
        let member = self.table.member_mut(session).ok_or(SendFault::Gone)?;
        let sent = member.session.send(plaintext, &mut self.outside.port(now, Some(member.path)));
        if sent == Err(SendFault::SequenceExhausted) {
            self.end(now, session.slot, Closed::SequenceExhausted);
        }
        sent
    }

    /// Bytes of plaintext that one datagram of the session carries; 0 when there is no such session.
    #[must_use]
    pub fn plaintext_max(&self, session: SessionId) -> usize {
        self.table.member(session).map_or(0, |member| member.session.plaintext_max())
    }

    /// Sends close_notify and forgets the session.
    pub fn close(&mut self, now: Now, session: SessionId) {
        if self.table.member(session).is_some() {
            self.end(now, session.slot, Closed::ByUs);
        }
        self.check_invariants();
    }

    /// What the verifier knows of the peer.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<&V::Peer> {
        self.table.member(session).map(|member| member.session.peer())
    }

    /// Suite and bindings of a session.
    #[must_use]
    pub fn facts(&self, session: SessionId) -> Option<SessionFacts> {
        self.table.member(session).map(|member| member.session.facts())
    }

    /// Where the datagrams of a session go.
    #[must_use]
    pub fn path(&self, session: SessionId) -> Option<Path> {
        self.table.member(session).map(|member| member.path)
    }

    /// Opens or closes the door to new handshakes.
    pub fn refuse_new(&mut self, admission: Admission) {
        self.door.set(admission);
    }

    /// The established sessions.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions_in(0..self.slot_count())
    }

    /// Slots that were ever taken, by sessions or handshakes. Whoever has to visit all sessions does so range by range.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.table.slot_count()
    }

    /// The established sessions in a range of slots.
    pub fn sessions_in(&self, slots: Range<u32>) -> impl Iterator<Item = SessionId> + '_ {
        self.table.sessions_in(slots)
    }

    /// How many associations there are.
    #[must_use]
    pub fn counts(&self) -> SessionCounts {
        self.table.counts()
    }

    /// What was dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> &DropCounters {
        &self.outside.drops
    }

    /// Sets who sees what happens; `None` sees nothing and costs nothing.
    pub fn set_observer(&mut self, observer: Option<Arc<dyn Observer>>) {
        self.outside.observer = observer;
    }

    fn handle_record(&mut self, now: Now, path: Path, record: &Record, datagram: &mut [u8]) {
        let payload = &mut datagram[record.payload.clone()];
        if record.epoch() == Epoch::PLAINTEXT
            && record.content_type == ContentType::Handshake
            && begins_with_client_hello(payload)
        {
            return self.handle_hello_record(now, path, record, payload);
        }
        let slots = self.table.find(Association::of(path));
        match (slots.half_open, slots.established) {
            (Some(newer), Some(slot)) if record.epoch() != Epoch::PLAINTEXT => {
                self.handle_disputed_record(now, slot, newer, record, payload);
            }
            (Some(slot), _) => self.handle_handshake_record(now, slot, record, payload),
            (None, Some(slot)) => self.handle_session_record(now, slot, record, payload),
            _ => self.outside.port(now, Some(path)).drop(DropReason::NoAssociation),
        }
    }

    /// A protected record where a session and a newer handshake share an association: it belongs to whom its key says (RFC 6347 §4.2.8). The session
    /// is asked first, the handshake gets a copy of what does not open there. A handshake has use for a Finished or an alert only, which are
    /// short, so the copy is of bounded size and lies on the stack.
    ///
    /// What opens nowhere changes nothing, but it counts as a forgery at each key that it was tried under, for the limits are those of
    /// keys, and once for the alarm. A device that begins anew costs its old session one of a million so.
    fn handle_disputed_record(&mut self, now: Now, slot: u32, newer: u32, record: &Record, payload: &mut [u8]) {
        let mut copy = [0; EARLY_RECORD_BYTES_MAX];
        let length = payload.len();
        if let Some(copy) = copy.get_mut(..length) {
            copy.copy_from_slice(payload);
        }
        let Some((_, member)) = self.table.member_at(slot) else { return };
        let path = member.path;
        match (member.session.open(record, payload), copy.get_mut(..length)) {
            (Ok(range), _) => {
                let mut port = self.outside.port(now, Some(path));
                let received = member.session.handle_opened(Role::Server, record, payload, range, &mut port);
                self.take_received(now, slot, record, received);
            }
            (Err(Unopened::Forgeries), _) => self.end(now, slot, Closed::Forgeries),
            (Err(Unopened::Overflow), _) => {
                let mut port = self.outside.port(now, Some(path));
                let received = member.session.overflowed(&mut port);
                self.take_received(now, slot, record, received);
            }
            (Err(Unopened::Dropped(reason)), copy) => {
                let unopened = self.unopened();
                match copy {
                    Some(copy) => self.handle_handshake_record(now, newer, record, copy),
                    None => self.outside.port(now, Some(path)).drop(reason),
                }
                // What one of the two has use for is no forgery, nor is what the session has had before.
                if reason == DropReason::BadRecord && self.unopened() > unopened {
                    self.take_received(now, slot, record, Received::Forged);
                }
            }
        }
    }

    /// Protected records so far that were dropped because no key opened them, or none was there yet and they were not kept for it.
    fn unopened(&self) -> u64 {
        self.outside.drops.count(DropReason::BadRecord) + self.outside.drops.count(DropReason::EarlyRecord)
    }

    fn handle_session_record(&mut self, now: Now, slot: u32, record: &Record, payload: &mut [u8]) {
        let Some((_, member)) = self.table.member_at(slot) else { return };
        let mut port = self.outside.port(now, Some(member.path));
        let received = member.session.handle_record(Role::Server, record, payload, &mut port);
        self.take_received(now, slot, record, received);
    }

    fn take_received(&mut self, now: Now, slot: u32, record: &Record, received: Received) {
        match received {
            Received::Nothing => {}
            Received::Forged => {
                if self.forgeries.note(now.mono)
                    && let Some((session, member)) = self.table.member_at(slot)
                {
                    let path = member.path;
                    self.events.push_back(Event::ForgeryAlarm { session, path });
                }
            }
            Received::Alive => self.table.touch(slot),
            Received::Data(range) => {
                self.table.touch(slot);
                let Some((session, _)) = self.table.member_at(slot) else { return };
                let start = record.payload.start;
                self.events.push_back(Event::Data { session, plaintext: start + range.start..start + range.end });
            }
            Received::Closed(why) => self.end(now, slot, why),
        }
    }

    /// Ends a session; tells its peer where that makes sense.
    fn end(&mut self, now: Now, slot: u32, why: Closed) {
        let Some((session, mut member)) = self.table.remove_member(slot) else { return };
        if matches!(why, Closed::ByUs | Closed::Idle | Closed::Evicted) {
            member.session.close(&mut self.outside.port(now, Some(member.path)));
        }
        let (path, peer) = (member.path, member.session.into_peer());
        self.events.push_back(Event::Closed { session, path, peer, why });
    }

    fn check_invariants(&self) {
        #[cfg(debug_assertions)]
        self.table.check_invariants();
    }
}

fn begins_with_client_hello(payload: &[u8]) -> bool {
    Fragment::parse(&mut Reader::new(payload)).is_ok_and(|fragment| fragment.kind == HandshakeType::CLIENT_HELLO)
}
