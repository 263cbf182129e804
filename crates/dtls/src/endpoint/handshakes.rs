//! Handshakes in progress: how they begin, advance and end.

use std::sync::Arc;

use super::association::Association;
use super::meter::PURCHASE_INTERVAL;
use super::network::Network;
use super::table::{HalfOpen, Occupation};
use super::{Endpoint, Event};
use crate::config::PublicKeySteps;
use crate::cookie::{GoodCookie, Patience};
use crate::drops::DropReason;
use crate::handshake::advance::Progress;
use crate::handshake::established::Established;
use crate::handshake::public_key::{PublicKeyJob, Work};
use crate::handshake::server::ServerHandshake;
use crate::limits::{FLIGHTS_PER_COOKIE_MAX, RETRANSMISSIONS_MAX};
use crate::path::Path;
use crate::record::Record;
use crate::refusal::HandshakeRefusal;
use crate::session::{Closed, Session};
use crate::time::Now;
use crate::verify::VerifyPeer;
use crate::wire::{Fragment, HelloHead};

/// Handshakes that may be in progress although fewer session slots are left.
const NEWCOMERS_MIN: usize = 8;

/// The same while a certificate has several sessions, which give way: as many as a sample of the sessions has.
const NEWCOMERS_IN_CROWD_MAX: usize = 64;

/// Idle sessions that are counted for a newcomer.
const IDLE_COUNTED_MAX: usize = 64;

/// A hello with a good cookie, or its first fragment, that begins a handshake.
pub(super) struct FirstHello<'a> {
    pub(super) record_sequence: u64,
    pub(super) fragment: &'a Fragment<'a>,
    pub(super) cookie: GoodCookie,
    /// The mark by which a repetition of the hello is recognised.
    pub(super) mark: u64,
}

impl<V: VerifyPeer> Endpoint<V> {
    /// Begins a handshake with a ClientHello whose cookie is good. Reserves the slot before it allocates anything.
    pub(super) fn begin(&mut self, now: Now, path: Path, hello: FirstHello<'_>) {
        // Checked before any handshake is ended, and before the door counts those that wait: a hello that is not admitted changes nothing.
        let bought = match self.meter.admit(self.table.buyer(path), hello.mark, now.mono) {
            Ok(bought) => bought,
            Err(reason) => return self.outside.port(now, Some(path)).drop(reason),
        };
        let slots = self.table.find(Association::of(path));
        // Flights that the handshake in progress has repeated since then count as well.
        if let Some(half_open) = slots.half_open.and_then(|slot| self.table.half_open_at(slot))
            && let Some(last) = half_open.handshake.flights_sent().1
            && now.mono.saturating_duration_since(last) < PURCHASE_INTERVAL
        {
            return self.outside.port(now, Some(path)).drop(DropReason::TooSoon);
        }
        if let Err(reason) = self.door.admits(now.mono, hello.cookie.patience, || self.table.prefixes(path)) {
            return self.outside.port(now, Some(path)).drop(reason);
        }
        match slots.half_open {
            // The client gave up its handshake and begins another one: it has proven its address for this one too, and reuses its own
            // slot.
            Some(slot) => self.refuse(now, slot, HandshakeRefusal::Restarted),
            None if slots.established.is_none() && !self.has_room(now) => {
                return self.outside.port(now, Some(path)).drop(DropReason::SessionsFull);
            }
            None if hello.cookie.patience == Patience::Fresh && self.is_full_for_fresh(now) => {
                self.door.note_fresh_turned_away(now.mono);
                return self.outside.port(now, Some(path)).drop(DropReason::HalfOpenFull);
            }
            None if self.table.counts().half_open >= self.config.limits.half_open_max
                || slots.established.is_none() && !self.has_room_for_one_more(now) =>
            {
                if let Err(reason) = self.displace(now, path) {
                    return self.outside.port(now, Some(path)).drop(reason);
                }
            }
            None => {}
        }
        self.door.note_begun(now.mono, hello.cookie.patience, || self.table.prefixes(path));
        let FirstHello { record_sequence, fragment, cookie, mark } = hello;
        let handshake =
            ServerHandshake::new(Arc::clone(&self.config), fragment, cookie.promise, record_sequence, now.mono);
        let mut half_open = HalfOpen::new(path, handshake, now.mono, mark, fragment.message_seq);
        half_open.bought = bought;
        let Some(slot) = self.table.insert_half_open(half_open) else {
            return self.outside.port(now, Some(path)).drop(DropReason::HalfOpenFull);
        };
        let Some(half_open) = self.table.half_open_at(slot) else { return };
        let result = half_open.handshake.handle_hello(fragment, &mut self.outside.port(now, Some(path)));
        self.proceed(now, slot, result);
    }

    /// Why a hello of a new client is turned away before its cookie is verified: the cookie says that it is fresh, and no fresh hello would be
    /// admitted now. Strangers that send one hello each cost two tags less. A client whose cookie is not good, for whatever reason, repeats its
    /// hello, and gets another cookie when its own is no longer fresh.
    pub(super) fn turned_away_unverified(&mut self, now: Now, hello: &HelloHead<'_>) -> Option<DropReason> {
        let reason = if self.door.turns_fresh_away(now.mono) {
            DropReason::Behind
        } else if self.is_full_for_fresh(now) {
            DropReason::HalfOpenFull
        } else {
            return None;
        };
        let is_fresh = self.cookies.claims_fresh(now, hello);
        if is_fresh {
            self.door.note_fresh_turned_away(now.mono);
        }
        is_fresh.then_some(reason)
    }

    /// Whether the slots that are open to fresh hellos are taken.
    fn is_full_for_fresh(&mut self, now: Now) -> bool {
        let (all, half_open) = (self.config.limits.half_open_max, self.table.counts().half_open);
        self.door.note_in_progress(half_open);
        half_open >= self.door.open_to_fresh(now.mono, all)
    }

    pub(super) fn handle_handshake_record(&mut self, now: Now, slot: u32, record: &Record, payload: &mut [u8]) {
        let Some(half_open) = self.table.half_open_at(slot) else { return };
        self.turn.handshake = true;
        let mut port = self.outside.port(now, Some(half_open.path));
        let result = half_open.handshake.handle_record(record, payload, &mut port);
        self.proceed(now, slot, result);
    }

    pub(super) fn handle_handshake_timeout(&mut self, now: Now, slot: u32) {
        let Some(half_open) = self.table.half_open_at(slot) else { return };
        let over = half_open.deadline().is_some_and(|deadline| deadline <= now.mono)
            || half_open.bought() >= FLIGHTS_PER_COOKIE_MAX;
        if over {
            let refusal = half_open.handshake.timed_out();
            return self.refuse(now, slot, refusal);
        }
        let mut port = self.outside.port(now, Some(half_open.path));
        let result = half_open.handshake.handle_timeout(&mut port).map(|()| Progress::Waiting);
        self.proceed(now, slot, result);
    }

    /// Repetitions are answered once per datagram, not once per record.
    pub(super) fn after_datagram(&mut self, now: Now, path: Path) {
        if !self.turn.handshake {
            return;
        }
        if let Some(slot) = self.table.find(Association::of(path)).half_open
            && let Some(half_open) = self.table.half_open_at(slot)
        {
            // The budget of answers leaves tries for the timer, which also reaches a peer that does not
            // repeat.
            if half_open.bought() >= FLIGHTS_PER_COOKIE_MAX - RETRANSMISSIONS_MAX {
                return self.outside.port(now, Some(path)).drop(DropReason::CookieSpent);
            }
            let result = half_open.handshake.after_datagram(&mut self.outside.port(now, Some(path)));
            self.proceed(now, slot, result.map(|()| Progress::Waiting));
        }
    }

    /// Does what a handshake asks for: runs or hands out its public-key steps, turns it into a session, or
    /// ends it.
    pub(super) fn proceed(
        &mut self,
        now: Now,
        slot: u32,
        result: Result<Progress<V::Proven, Work<V>>, HandshakeRefusal>,
    ) {
        let mut result = result;
        if let Ok(Progress::Work(Work::KeyExchange(_))) = &result
            && let Some(half_open) = self.table.half_open_at(slot)
        {
            let path = half_open.path;
            self.meter.note_flight(self.table.buyer(path), now.mono);
        }
        // At most two public-key steps follow each other directly.
        loop {
            match result {
                Ok(Progress::Waiting) => return self.table.rearm(slot),
                Ok(Progress::Established(established)) => return self.establish(now, slot, *established),
                Err(refusal) => return self.refuse(now, slot, refusal),
                Ok(Progress::Work(work)) if self.config.public_key_steps == PublicKeySteps::Suspended => {
                    if let Some(session) = self.table.id(slot) {
                        self.jobs.push_back(PublicKeyJob::new(session, Arc::clone(&self.outside.random), work));
                    }
                    return self.table.rearm(slot);
                }
                Ok(Progress::Work(work)) => {
                    let outcome = work.run(self.outside.random.as_ref());
                    let Some(half_open) = self.table.half_open_at(slot) else { return };
                    let mut port = self.outside.port(now, Some(half_open.path));
                    result = half_open.handshake.resume(outcome, &mut port);
                }
            }
        }
    }

    /// Completes a handshake. The peer is authenticated: only now may it take the slot of another session.
    fn establish(&mut self, now: Now, slot: u32, established: Established<V::Proven>) {
        let Some((id, replaced)) = self.table.half_open_id(slot) else { return };
        let Established { proven, secured } = established;
        let gives_way = if replaced.is_some() { None } else { self.gives_way(now, V::holder(&proven)) };
        if replaced.is_none() && gives_way.is_none() && self.is_full() {
            let mut session = Session::new(secured, (), now.mono);
            if let Some(half_open) = self.table.half_open_at(slot) {
                session.close(&mut self.outside.port(now, Some(half_open.path)));
            }
            return self.refuse(now, slot, HandshakeRefusal::SessionsFull);
        }
        let Some(half_open) = self.table.half_open_at(slot) else { return };
        let peer = half_open.handshake.config().verifier.admit(proven);
        let session = Session::new(secured, peer.clone(), now.mono);
        match replaced {
            Some(old) => self.end(now, old, Closed::Replaced),
            None => {
                if let Some(slot) = gives_way {
                    self.end(now, slot, Closed::Evicted);
                }
            }
        }
        let facts = session.facts();
        let Some(half_open) = self.table.half_open_at(slot) else { return };
        let elapsed = now.mono.saturating_duration_since(half_open.began);
        let (path, mark, bought) = (half_open.path, half_open.mark, half_open.bought());
        let server_name = half_open.handshake.take_server_name();
        let narrowed_to = half_open.handshake.narrowed_to();
        self.meter.note_cookie(self.table.buyer(path), mark, bought, now.mono);
        if let Some(path) = self.table.establish(slot, session) {
            self.events.push_back(Event::Established {
                session: id,
                path,
                peer,
                facts,
                server_name,
                narrowed_to,
                elapsed,
            });
        }
    }

    /// Ends the handshake that gives way to a newcomer. Its client gets no alert. If our flight has not reached the client, the client
    /// repeats its hello, which begins a new handshake; an alert would end its attempt instead. If the client has our flight, it repeats an
    /// answer that leads nowhere until its own timers give up: for this reason handshakes whose flight is unanswered go first. A new hello
    /// from the same port is accepted at any time.
    fn displace(&mut self, now: Now, newcomer: Path) -> Result<(), DropReason> {
        let table = &self.table;
        let victim = self.pressure.choose(
            now.mono,
            Network::of(newcomer),
            |victim| table.is_still(victim),
            || table.holdings(),
        )?;
        self.refuse(now, victim.slot, HandshakeRefusal::Displaced);
        Ok(())
    }

    fn refuse(&mut self, now: Now, slot: u32, refusal: HandshakeRefusal) {
        let Some(mut half_open) = self.table.remove_half_open(slot) else { return };
        let path = half_open.path;
        let buyer = self.table.buyer(path);
        self.meter.note_cookie(buyer, half_open.mark, half_open.bought(), now.mono);
        let last_sent = half_open.handshake.flights_sent().1.unwrap_or(now.mono);
        self.meter.note_flight(buyer, last_sent);
        half_open.handshake.refuse(&refusal, &mut self.outside.port(now, Some(path)));
        let elapsed = now.mono.saturating_duration_since(half_open.began);
        let narrowed_to = half_open.handshake.narrowed_to();
        let (offered, further, account) = half_open.handshake.into_offered();
        let (offered, account) = (Box::new(offered), Box::new(account));
        self.events.push_back(Event::Refused { path, refusal, account, further, offered, narrowed_to, elapsed });
    }

    /// Whether there is a slot for a further session: a free one, or that of a session that may give way.
    fn has_room(&mut self, now: Now) -> bool {
        !self.is_full() || self.longest_idle(now).is_some() || self.is_crowded(now)
    }

    /// Whether a session slot is left for one more handshake beside those in progress. Otherwise the newcomer has to take the place of one of these, as
    /// if every handshake slot were taken: what cannot become a session would cost a key pair and two signatures, and be refused at its end. Some
    /// may begin whatever is left, because a client that is never heard of again should not be the only one.
    fn has_room_for_one_more(&mut self, now: Now) -> bool {
        let (newcomers, most) = (self.table.newcomers(), self.config.limits.sessions_max);
        let free = most.saturating_sub(self.table.counts().established);
        if newcomers < free.max(NEWCOMERS_MIN) {
            return true;
        }
        let wanted = newcomers + 1 - free;
        let before = now.mono.checked_sub(self.config.limits.eviction_idle_min);
        let idle = before.map_or(0, |before| self.table.idle_since(before, wanted.min(IDLE_COUNTED_MAX)));
        // Where there are so many, there are more.
        idle >= wanted.min(IDLE_COUNTED_MAX) || newcomers < NEWCOMERS_IN_CROWD_MAX && self.is_crowded(now)
    }

    fn is_full(&self) -> bool {
        self.table.counts().established >= self.config.limits.sessions_max
    }

    /// The session that gives way to a new one of the certificate with this number, if every slot is taken: first one of a certificate that has
    /// several, then the one that is idle for longest.
    fn gives_way(&mut self, now: Now, newcomer: u64) -> Option<u32> {
        if !self.is_full() {
            return None;
        }
        self.one_of_many(Some(newcomer)).or_else(|| self.longest_idle(now))
    }

    /// The session that is idle for longest, if that is long enough. A busy one never is.
    fn longest_idle(&self, now: Now) -> Option<u32> {
        let (slot, last_heard) = self.table.longest_idle(Occupation::Free)?;
        let idle = now.mono.saturating_duration_since(last_heard);
        (idle >= self.config.limits.eviction_idle_min).then_some(slot)
    }
}
