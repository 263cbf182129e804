//! Datagram size of a handshake on a path whose MTU is unknown (RFC 6347 §4.1.1.1).
//!
//! A path may silently drop datagrams above some length. The only sign is a flight that stays unanswered, and a flight also stays unanswered
//! if datagrams are merely lost. Three signs tell the two apart, the more reliably the more of them occur together:
//!
//! - The flight was sent several times, and no part of the answer has arrived.
//! - The peer repeats its own last flight: the peer is alive, its datagrams arrive, and what we sent some time before has not reached it. A
//!   repetition of ours sent a moment ago does not change that.
//! - The peer sends a flight in several datagrams that are shorter than ours: it knows more about the path, or has found out sooner. As soon
//!   as one flight is unanswered, we use the peer's length.
//!
//! A sender that forges repetitions or fragments from the peer's address can make a handshake send smaller datagrams, but never below
//! [`MTU_MIN`] and never more often than the budget of answers allows. The session that follows tries the full size again.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::limits::{
    HELLO_MTU_STEPS, MTU_MAX, MTU_MIN, MTU_REDUCED, NARROW_AFTER, NARROW_TO_MIN_AFTER, NARROW_TO_MIN_AFTER_REPETITION,
};
use crate::wire::{Fragment, HANDSHAKE_HEADER_BYTES, RECORD_HEADER_BYTES};

/// Flights up to this number are hellos. A server sends HelloVerifyRequest before it has any state, so it does not reassemble then, and many
/// servers accept no ClientHello in fragments.
const HELLO_FLIGHT_MAX: u8 = 3;

/// A datagram sent within this time before a repetition may have crossed it on the way, so the repetition says nothing
/// about it.
const CROSSING: Duration = Duration::from_millis(500);

pub(crate) struct DatagramSize {
    bytes: usize,
    /// The initial size.
    full: usize,
    /// Transmissions of the current flight.
    transmissions: u8,
    last_sent: Option<Instant>,
    /// When the flight was first sent at its current size.
    first_at_size: Option<Instant>,
    /// Whether the peer has shown since then that the flight did not arrive at this size.
    missed_at_size: bool,
    /// The datagrams of the peer's current flight.
    peer: PeerDatagrams,
    /// The same for the flight before it.
    peer_before: PeerDatagrams,
}

/// The datagrams of one flight of the peer, as far as they have arrived.
#[derive(Clone, Copy, Default)]
struct PeerDatagrams {
    longest: usize,
    count: u8,
    /// Whether a message was fragmented.
    cut: bool,
}

impl PeerDatagrams {
    /// Their length, if there are several or the peer fragmented a message: then they are as long as the peer is willing to
    /// send.
    fn limit(self) -> Option<usize> {
        Some(self.longest).filter(|_| self.cut || self.count > 1)
    }
}

impl DatagramSize {
    pub(crate) fn new(mtu: usize) -> Self {
        let bytes = mtu.clamp(MTU_MIN, MTU_MAX);
        Self {
            bytes,
            full: bytes,
            transmissions: 0,
            last_sent: None,
            first_at_size: None,
            missed_at_size: false,
            peer: PeerDatagrams::default(),
            peer_before: PeerDatagrams::default(),
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a session begins with, and the size that it tries again.
    pub(crate) const fn full(&self) -> usize {
        self.full
    }

    /// The size that a session begins with. Losses alone reduce the size in one handshake in five at a loss of one in four, and a session in
    /// small blocks costs far more there than the handshake did. So the session keeps the reduced size only if the peer also fragments its
    /// messages, as it must on a path that is narrow both ways, and the size is at least that of what has arrived.
    pub(crate) fn of_session(&self) -> usize {
        let peer = self.peer.limit().or(self.peer_before.limit());
        peer.map_or(self.full, |limit| self.bytes.max(limit).min(self.full))
    }

    /// A new flight: what was learnt about the last one does not apply to it, but the size stays.
    pub(crate) fn begin_flight(&mut self) {
        self.transmissions = 0;
        self.last_sent = None;
        self.first_at_size = None;
        self.missed_at_size = false;
        self.peer_before = std::mem::take(&mut self.peer);
    }

    pub(crate) fn note_transmission(&mut self, now: Instant) {
        self.transmissions = self.transmissions.saturating_add(1);
        self.last_sent = Some(now);
        self.first_at_size.get_or_insert(now);
    }

    /// The peer repeated its last flight.
    pub(crate) fn note_repetition(&mut self, now: Instant) {
        self.missed_at_size |= self.first_at_size.is_some_and(|first| has_arrived(first, now));
    }

    /// A fragment from the peer, new or repeated.
    pub(crate) fn note_fragment(&mut self, fragment: &Fragment<'_>) {
        self.peer.cut |= !fragment.is_whole();
        self.peer.longest = self.peer.longest.max(RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES + fragment.body.len());
    }

    /// A record of handshake messages, and its range in the datagram.
    pub(crate) fn note_record(&mut self, payload: &Range<usize>) {
        let first = payload.start == RECORD_HEADER_BYTES;
        self.peer.count = self.peer.count.saturating_add(u8::from(first));
        self.peer.longest = self.peer.longest.max(payload.end);
    }

    /// The smaller size to use for an unanswered flight of this number and length, if it is time to reduce the
    /// size.
    pub(crate) fn narrower(&self, now: Instant, flight: u8, flight_bytes: usize) -> Option<usize> {
        let unanswered = self.unanswered(now);
        let bytes = if flight <= HELLO_FLIGHT_MAX {
            let step = HELLO_MTU_STEPS.iter().rfind(|step| unanswered > step.retransmissions_min);
            step.map(|step| step.mtu)
        } else if unanswered >= NARROW_TO_MIN_AFTER
            || unanswered >= NARROW_TO_MIN_AFTER_REPETITION
                && self.missed_at_size
                && self.bytes.min(flight_bytes) <= MTU_REDUCED
        {
            Some(MTU_MIN)
        } else if unanswered >= 1
            && let Some(limit) = self.peer.limit().or(self.peer_before.limit()).filter(|limit| *limit < self.bytes)
        {
            Some(limit.max(MTU_MIN))
        } else if unanswered >= NARROW_AFTER {
            Some(MTU_REDUCED)
        } else {
            None
        };
        // A flight that would not be split says nothing about the path.
        bytes.filter(|bytes| *bytes < self.bytes && *bytes < flight_bytes)
    }

    pub(crate) fn narrow(&mut self, bytes: usize) {
        self.bytes = bytes;
        self.first_at_size = None;
        self.missed_at_size = false;
    }

    /// Transmissions old enough to have been answered by now.
    fn unanswered(&self, now: Instant) -> u8 {
        let crossing = self.last_sent.is_some_and(|last| !has_arrived(last, now));
        self.transmissions.saturating_sub(u8::from(crossing))
    }
}

fn has_arrived(sent: Instant, now: Instant) -> bool {
    now.saturating_duration_since(sent) >= CROSSING
}
