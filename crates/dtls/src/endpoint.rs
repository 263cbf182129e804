//! Server side: all sessions of one shard behind one type.
//!
//! A record belongs to an association, at present that of the [`Path`] it arrived by. A ClientHello from any peer is first processed
//! statelessly (`hello`). A hello with a good cookie begins a half-open handshake, beside the session that the path may already have
//! (`handshakes`). Only the verified Finished of that handshake replaces the session (RFC 6347 §4.2.8). `table` keeps handshakes and
//! sessions, their deadlines and their order of idleness.

mod association;
mod crowd;
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
use crate::session::{Closed, RecordEffect, SendFault, SessionFacts};
use crate::session_id::SessionId;
use crate::time::Now;
use crate::verify::{Account, VerifyPeer};
use crate::wire::{ContentType, Epoch, Fragment, HandshakeType, Offered, Reader};
use association::Association;
use crowd::Crowd;
use door::Door;
use forgeries::ForgeryRate;
use meter::{Alerts, Meter};
use pressure::Pressure;
use table::EndpointTable;

pub use door::Admission;
pub use table::{Occupation, SessionCounts};

/// Server side: all sessions of one shard.
///
/// After each call of a `handle_*`, of `send`, `close` or `complete_public_key_job`, drain `poll_event`, `poll_transmit` and
/// `poll_public_key_job`, and ask `poll_timeout` when to call `handle_timeout`.
pub struct Endpoint<V: VerifyPeer> {
    config: Arc<ServerConfig<V>>,
    cookies: CookieJar,
    table: EndpointTable<V>,
    meter: Meter,
    alerts: Alerts,
    pressure: Pressure,
    crowd: Crowd,
    outside: Outside,
    events: VecDeque<Event<V::Peer>>,
    jobs: VecDeque<PublicKeyJob<V>>,
    door: Door,
    forgeries: ForgeryRate,
    turn: DatagramSeen,
}

/// What the records of the current datagram have been about so far.
#[derive(Clone, Copy, Default)]
struct DatagramSeen {
    /// A ClientHello, or its first fragment. The first one in a datagram is judged, further ones are dropped: otherwise one datagram would
    /// draw many answers to an address that is not proven, and many hellos under one record header could draw more bytes than they have.
    hello: bool,
    /// A handshake in progress.
    handshake: bool,
}

/// What happened to the sessions of an [`Endpoint`].
#[derive(Clone, Debug)]
pub enum Event<P> {
    /// A peer is authenticated, and its session is ready for use.
    Established {
        /// The handle of the session.
        session: SessionId,
        /// Where its datagrams come from and go.
        path: Path,
        /// What the verifier knows about the peer.
        peer: P,
        /// Cipher suite and channel bindings.
        facts: SessionFacts,
        /// The name that the client asked for (RFC 6066 §3). The server has one certificate for all names, so it
        /// refuses no name.
        server_name: Option<Box<str>>,
        /// The reduced size of our datagrams, if the path seems to drop longer ones.
        narrowed_to: Option<usize>,
        /// How long the handshake took, from the first hello with a good cookie.
        elapsed: Duration,
    },
    /// Application data arrived.
    Data {
        /// The session that the data belongs to.
        session: SessionId,
        /// Range of the plaintext in the datagram that was just given to `handle_datagram`.
        plaintext: Range<usize>,
    },
    /// The rate of forged records is high: more than 1,024 to the sessions of this endpoint, less ten for each second. The event repeats
    /// while the rate stays high.
    ForgeryAlarm {
        /// The session that received the last forged record.
        session: SessionId,
        /// The path that the last forged record seemed to come by.
        path: Path,
    },
    /// A session ended; its handle is no longer valid.
    Closed {
        /// The session that ended.
        session: SessionId,
        /// The path of its datagrams.
        path: Path,
        /// What the verifier knew about the peer.
        peer: P,
        /// The reason.
        why: Closed,
    },
    /// A handshake failed, after its cookie had been verified.
    Refused {
        /// The path of the peer.
        path: Path,
        /// The refusal, which decides the alert that the peer gets.
        refusal: HandshakeRefusal,
        /// Details of the fault, and the identity that the client claims.
        account: Box<Account>,
        /// Further refusals that its ClientHello would have met if this one were fixed.
        further: Vec<HandshakeRefusal>,
        /// What its ClientHello offered; empty if it could not be read.
        offered: Box<Offered>,
        /// The reduced size of our datagrams, if the path seemed to drop longer ones.
        narrowed_to: Option<usize>,
        /// How long the handshake lasted, from the first hello with a good cookie.
        elapsed: Duration,
    },
}

/// One datagram to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// The destination, with the local address and the socket to send from.
    pub path: Path,
    /// The UDP payload.
    pub bytes: &'a [u8],
}

impl<V: VerifyPeer> Endpoint<V> {
    /// Bytes of memory that one session takes in the table, with this verifier's peer type. Two index cells of eight bytes each come on top.
    pub const SLOT_BYTES: usize = EndpointTable::<V>::SLOT_BYTES;

    /// An endpoint without sessions.
    pub fn new(config: Arc<ServerConfig<V>>, random: Arc<dyn Random>) -> Self {
        let mut key = [0; 16];
        random.fill(&mut key);
        Self {
            cookies: CookieJar::new(config.cookie.clone()),
            table: EndpointTable::new(key, &config.limits),
            meter: Meter::new(config.cookie.lifetime()),
            alerts: Alerts::new(),
            pressure: Pressure::default(),
            crowd: Crowd::default(),
            outside: Outside::new(random),
            events: VecDeque::new(),
            jobs: VecDeque::new(),
            door: Door::default(),
            forgeries: ForgeryRate::default(),
            turn: DatagramSeen::default(),
            config,
        }
    }

    /// New handshakes use the new configuration; sessions and handshakes in progress keep theirs.
    pub fn set_config(&mut self, config: Arc<ServerConfig<V>>) {
        self.cookies = CookieJar::new(config.cookie.clone());
        self.meter.set_cookie_lifetime(config.cookie.lifetime());
        self.table.set_limits(&config.limits);
        self.config = config;
    }

    /// Takes a datagram and opens its records in place. Ranges in the events that follow index `datagram`.
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

    /// The next event. Drain the events after each call that takes a `Now`.
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

    /// The next public-key step, if the steps are suspended. Skips steps of handshakes that have ended in the
    /// meantime.
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

    /// Sets whether a session is busy. A busy session is not evicted, however long its peer is silent. When it stops being busy, its idle
    /// time starts from zero.
    pub fn occupy(&mut self, now: Now, session: SessionId, occupation: Occupation) {
        if self.table.member(session).is_some() {
            self.table.occupy(session.slot, occupation, now.mono);
        }
        self.check_invariants();
    }

    /// When `handle_timeout` is due. Reading it costs O(1); keeping it up to date costs O(log n) of the
    /// handshakes in progress.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let idle_timeout = self.config.limits.idle_timeout;
        let idle = |occupation| {
            self.table.longest_idle(occupation).and_then(|(_, last_heard)| last_heard.checked_add(idle_timeout))
        };
        let idle = [idle(Occupation::Free), idle(Occupation::Busy)];
        idle.into_iter().chain([self.table.next_handshake_timeout()]).flatten().min()
    }

    /// Retransmits, gives up handshakes and closes idle sessions, a bounded number of each per call. While more is left to do,
    /// [`Endpoint::poll_timeout`] returns a time in the past: the caller serves datagrams in between.
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
    /// [`SendFault`]; after `SequenceExhausted` the session no longer exists.
    pub fn send(&mut self, now: Now, session: SessionId, plaintext: &[u8]) -> Result<(), SendFault> {
        let member = self.table.member_mut(session).ok_or(SendFault::Gone)?;
        let sent = member.session.send(plaintext, &mut self.outside.port(now, Some(member.path)));
        if sent == Err(SendFault::SequenceExhausted) {
            self.end(now, session.slot, Closed::SequenceExhausted);
        }
        sent
    }

    /// Bytes of plaintext that fit one datagram of the session; 0 if there is no such session.
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

    /// What the verifier knows about the peer of a session.
    #[must_use]
    pub fn peer(&self, session: SessionId) -> Option<&V::Peer> {
        self.table.member(session).map(|member| member.session.peer())
    }

    /// Cipher suite and channel bindings of a session.
    #[must_use]
    pub fn facts(&self, session: SessionId) -> Option<SessionFacts> {
        self.table.member(session).map(|member| member.session.facts())
    }

    /// The path of a session's datagrams.
    #[must_use]
    pub fn path(&self, session: SessionId) -> Option<Path> {
        self.table.member(session).map(|member| member.path)
    }

    /// Sets whether new handshakes are admitted.
    pub fn refuse_new(&mut self, now: Now, admission: Admission) {
        self.door.set(now.mono, admission, self.table.counts().half_open);
    }

    /// The established sessions.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions_in(0..self.slot_count())
    }

    /// Number of slots ever used, by sessions or handshakes. A caller that visits all sessions does so range by range.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.table.slot_count()
    }

    /// The established sessions in a range of slots.
    pub fn sessions_in(&self, slots: Range<u32>) -> impl Iterator<Item = SessionId> + '_ {
        self.table.sessions_in(slots)
    }

    /// Number of sessions and of handshakes.
    #[must_use]
    pub fn counts(&self) -> SessionCounts {
        self.table.counts()
    }

    /// Counts of dropped input, by reason.
    #[must_use]
    pub fn drops(&self) -> &DropCounters {
        &self.outside.drops
    }

    /// Sets the observer. `None` costs nothing.
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

    /// Handles a protected record where a session and a newer handshake share an association: the record belongs to the one whose key opens
    /// it (RFC 6347 §4.2.8). The session tries first; the handshake gets a copy of what the session cannot open. A handshake uses only a
    /// Finished or an alert here, and both are short, so the copy has a bounded size and lies on the stack.
    ///
    /// A record that neither can open changes nothing, but it counts as one forgery under each key that was tried, because limits apply per
    /// key, and as one forgery for the alarm. A device that starts a new handshake thus costs its old session one of a million forgeries.
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
                // Not a forgery if one of the two can use it, nor if the session has received it before.
                if reason == DropReason::BadRecord && self.unopened() > unopened {
                    self.take_received(now, slot, record, RecordEffect::Forged);
                }
            }
        }
    }

    /// Protected records dropped so far because no key opened them, or because there was no key yet and no room to keep them.
    fn unopened(&self) -> u64 {
        self.outside.drops.count(DropReason::BadRecord) + self.outside.drops.count(DropReason::EarlyRecord)
    }

    fn handle_session_record(&mut self, now: Now, slot: u32, record: &Record, payload: &mut [u8]) {
        let Some((_, member)) = self.table.member_at(slot) else { return };
        let mut port = self.outside.port(now, Some(member.path));
        let received = member.session.handle_record(Role::Server, record, payload, &mut port);
        self.take_received(now, slot, record, received);
    }

    fn take_received(&mut self, now: Now, slot: u32, record: &Record, received: RecordEffect) {
        match received {
            RecordEffect::Nothing => {}
            RecordEffect::Forged => {
                if self.forgeries.note(now.mono)
                    && let Some((session, member)) = self.table.member_at(slot)
                {
                    let path = member.path;
                    self.events.push_back(Event::ForgeryAlarm { session, path });
                }
            }
            RecordEffect::Alive => self.table.touch(slot),
            RecordEffect::Data(range) => {
                self.table.touch(slot);
                let Some((session, _)) = self.table.member_at(slot) else { return };
                let start = record.payload.start;
                self.events.push_back(Event::Data { session, plaintext: start + range.start..start + range.end });
            }
            RecordEffect::Closed(why) => self.end(now, slot, why),
        }
    }

    /// Ends a session, and tells its peer where that makes sense.
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
