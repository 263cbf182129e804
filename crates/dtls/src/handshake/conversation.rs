//! What client and server share below their states: the handshake layer of one association during its handshake.
//!
//! Incoming records go to reassembly, by their epoch; complete messages come out in order. Flights are sent, and repeated until they are
//! answered, as RFC 6347 §4.2.4 draws it:
//!
//! ```text
//!   PREPARING ──send_flight──► SENDING ──► WAITING ──the peer's next flight──► (state machine) ──► PREPARING
//!                                 ▲           │
//!                                 └───────────┘  timer expires, or the peer repeats its last flight
//! ```
//!
//! The states themselves are in `server` and `client`; they call this layer, and their owners call them.

use std::time::Instant;

use super::agreed::Agreed;
use super::datagram_size::DatagramSize;
use super::early::EarlyRecords;
use super::established::{Bindings, Secured};
use super::flight::{Epochs, Flight};
use super::reassembly::{HandshakeMessage, Reassembly};
use super::terms::{Numbering, Terms};
use super::timer::{GaveUp, Haste, Timer};
use super::transcript::Transcript;
use crate::crypto::MasterSecret;
use crate::drops::DropReason;
use crate::limits::{PLAINTEXT_BYTES_MAX, RECORD_SIZE_LIMIT_MIN};
use crate::observer::{Direction, TraceEvent};
use crate::port::Port;
use crate::record::{PlainRecords, Record, RecordProtection, Role, Unopened};
use crate::refusal::HandshakeRefusal;
use crate::wire::{
    AlertDescription, AlertLevel, ContentType, Epoch, Fragment, HandshakeType, RECORD_HEADER_BYTES, Reader,
    SequenceExhausted, parse_alert,
};

/// The handshake layer of one association.
pub(crate) struct Conversation {
    pub(crate) transcript: Transcript,
    incoming: Reassembly,
    /// message_seq of the first message of the flight that the peer is sending now. A lower number is a repetition of the
    /// peer's last flight.
    peer_flight_start: u16,
    next_message_seq: u16,
    flight: Flight,
    plain: PlainRecords,
    protected: Option<RecordProtection>,
    /// Protected records that arrived before their keys.
    early: EarlyRecords,
    peer_cipher: PeerCipher,
    size: DatagramSize,
    /// Maximum bytes of plaintext in a record to the peer.
    record_bytes_max: usize,
    /// Maximum bytes of plaintext in a record from the peer.
    received_bytes_max: usize,
    timer: Timer,
    repeat_seen: bool,
    contradiction_seen: bool,
}

/// The epoch of the keys that this handshake makes. A handshake begins in plaintext: there is no renegotiation.
const KEYED_EPOCH: Epoch = Epoch::PLAINTEXT.next();

/// The state of the peer's ChangeCipherSpec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerCipher {
    /// None has arrived.
    Plain,
    /// One has arrived, from an unknown sender. It has no message_seq, so it may have overtaken the messages before it, and
    /// it may be forged.
    Announced,
    /// It was expected and has taken effect: a Finished under the keys comes next.
    Changed,
}

impl Conversation {
    pub(crate) fn new(terms: Terms, numbering: Numbering, now: Instant) -> Self {
        Self {
            transcript: Transcript::new(),
            incoming: Reassembly::starting_at(numbering.peer_message_seq, terms.message_bytes_max),
            peer_flight_start: numbering.peer_message_seq,
            next_message_seq: numbering.own_message_seq,
            flight: Flight::default(),
            plain: PlainRecords::starting_at(numbering.record_sequence),
            protected: None,
            early: EarlyRecords::default(),
            peer_cipher: PeerCipher::Plain,
            size: DatagramSize::new(terms.mtu),
            record_bytes_max: PLAINTEXT_BYTES_MAX,
            received_bytes_max: PLAINTEXT_BYTES_MAX,
            timer: Timer::new(&terms, now),
            repeat_seen: false,
            contradiction_seen: false,
        }
    }

    /// Takes one record of any epoch. `Err` ends the handshake.
    pub(crate) fn handle_record(
        &mut self,
        record: &Record,
        payload: &mut [u8],
        port: &mut Port<'_>,
    ) -> Result<(), HandshakeRefusal> {
        match record.epoch() {
            Epoch::PLAINTEXT => self.handle_plaintext(record, payload, port),
            KEYED_EPOCH => self.handle_protected(record, payload, port),
            // Other epochs have no keys and will never have any (CVE-2016-2181).
            _ => {
                port.drop(DropReason::Epoch);
                Ok(())
            }
        }
    }

    /// Opens the records that arrived before the keys, once the keys exist.
    pub(crate) fn handle_early_records(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        if self.protected.is_none() {
            return Ok(());
        }
        for (record, mut payload) in self.early.take() {
            self.handle_protected(&record, &mut payload, port)?;
        }
        Ok(())
    }

    /// Drops messages that have arrived before their turn: what is sent next is a question that they cannot answer.
    pub(crate) fn forget_waiting(&mut self) {
        self.incoming.forget_waiting();
    }

    /// Whether a fragment has arrived, since this was asked last, that contradicts what was there: two flights are mixed.
    pub(crate) const fn take_contradiction(&mut self) -> bool {
        std::mem::replace(&mut self.contradiction_seen, false)
    }

    /// What has arrived since our last flight is not its answer. The answer is still awaited, and our flight is repeated until it comes. Only where our flight
    /// before that one has no answer in the transcript.
    pub(crate) fn await_answer_again(&mut self, port: &mut Port<'_>) {
        port.drop(DropReason::FlightDisproved);
        self.transcript = Transcript::new();
        self.incoming.go_back_to(self.peer_flight_start);
        (self.record_bytes_max, self.received_bytes_max) = (PLAINTEXT_BYTES_MAX, PLAINTEXT_BYTES_MAX);
    }

    /// A fragment, and the epoch of the record that held it.
    pub(crate) fn handle_fragment(&mut self, fragment: &Fragment<'_>, epoch: Epoch, port: &mut Port<'_>) {
        // Only Finished is protected, and it always is (RFC 5246 §7.4.9): a message in the other epoch does not belong to this
        // handshake.
        let due = if fragment.kind == HandshakeType::FINISHED { KEYED_EPOCH } else { Epoch::PLAINTEXT };
        if epoch != due {
            return port.drop(DropReason::MessageEpoch);
        }
        self.size.note_fragment(fragment);
        if let Err(reason) = self.incoming.insert(fragment) {
            self.contradiction_seen |= reason == DropReason::FragmentConflict;
            if reason == DropReason::MessageStale && is_before(fragment.message_seq, self.peer_flight_start) {
                self.repeat_seen = true;
            }
            port.drop(reason);
        }
    }

    /// The next complete message, in order.
    pub(crate) fn next_message(&mut self, port: &Port<'_>) -> Option<HandshakeMessage> {
        let message = self.incoming.pop()?;
        port.trace(&TraceEvent::Handshake {
            direction: Direction::Received,
            message: message.kind,
            length: message.body.len(),
            fragments: 0,
        });
        Some(message)
    }

    /// Adds a received message to the transcript; returns the range of its body there.
    pub(crate) fn hash_received(&mut self, message: &HandshakeMessage) -> usize {
        self.transcript.add(message.kind, message.message_seq, &message.body)
    }

    /// Appends a message to a flight that is being prepared, and to the transcript.
    pub(crate) fn prepare(&mut self, flight: &mut Flight, kind: HandshakeType, body: &[u8]) {
        self.prepare_written(flight, kind, |out| out.extend_from_slice(body));
    }

    /// The same for a body that `write` appends to the flight: it is in no other buffer.
    pub(crate) fn prepare_written(
        &mut self,
        flight: &mut Flight,
        kind: HandshakeType,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let message_seq = self.take_message_seq();
        let body = flight.message(kind, message_seq, write);
        self.transcript.add(kind, message_seq, body);
    }

    /// Appends a message to a flight that is being prepared; gives its message_seq.
    pub(crate) fn prepare_unhashed(&mut self, flight: &mut Flight, kind: HandshakeType, body: &[u8]) -> u16 {
        let message_seq = self.take_message_seq();
        flight.message(kind, message_seq, |out| out.extend_from_slice(body));
        message_seq
    }

    fn take_message_seq(&mut self) -> u16 {
        let message_seq = self.next_message_seq;
        self.next_message_seq = message_seq.wrapping_add(1);
        message_seq
    }

    /// Sends a flight and waits for its answer: from now on the peer's messages belong to its next flight. `Err` ends the handshake: without
    /// a sequence number left the flight can never be sent.
    pub(crate) fn send_flight(&mut self, flight: Flight, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.flight = flight;
        self.peer_flight_start = self.incoming.next_seq();
        self.repeat_seen = false;
        self.timer.restart(port.now.mono);
        self.size.begin_flight();
        self.transmit(port)
    }

    /// The peer accepts no longer records than this. A peer that asks for short records has a buffer of that size, into which it reads a
    /// whole datagram: so each datagram of the handshake is kept to one such record as well.
    pub(crate) fn limit_records(&mut self, plaintext_bytes_max: usize) {
        self.record_bytes_max = plaintext_bytes_max.clamp(RECORD_SIZE_LIMIT_MIN, PLAINTEXT_BYTES_MAX);
    }

    /// The record length was agreed on for this direction too: longer records from the peer do not count (RFC 6066 §4).
    pub(crate) const fn limit_received_records(&mut self, plaintext_bytes_max: usize) {
        self.received_bytes_max = plaintext_bytes_max;
    }

    /// No answer is expected for now: a public-key step of ours is running.
    pub(crate) fn pause_timer(&mut self) {
        self.timer.pause();
    }

    /// An answer is expected again.
    pub(crate) fn resume_timer(&mut self, now: Instant) {
        self.timer.resume(now);
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.timer.due()
    }

    /// Retransmits if it is time. `Err` when the handshake has used up its time or its tries, or cannot send any more. `expected` is the
    /// message that was expected.
    pub(crate) fn handle_timeout(
        &mut self,
        expected: HandshakeType,
        port: &mut Port<'_>,
    ) -> Result<(), HandshakeRefusal> {
        match self.timer.on_expiry(port.now.mono) {
            Ok(true) => self.retransmit(port),
            Ok(false) => Ok(()),
            Err(GaveUp) => Err(HandshakeRefusal::TimedOut { expected }),
        }
    }

    /// Answers a repeated flight of the peer by repeating ours (RFC 6347 §4.2.4), within a budget. If ours was sent a moment before, it is
    /// not sent again, unless the repetition shows that it needs smaller datagrams.
    pub(crate) fn answer_repetition(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        if !std::mem::take(&mut self.repeat_seen) || self.flight.is_empty() || !self.timer.is_running() {
            return Ok(());
        }
        let now = port.now.mono;
        self.size.note_repetition(now);
        let haste = if self.narrower(now).is_some() { Haste::AtOnce } else { Haste::Rested };
        if self.timer.may_answer(now, haste) {
            self.retransmit(port)
        } else {
            port.drop(DropReason::Repeated);
            Ok(())
        }
    }

    /// Number of flights sent so far, repetitions included, and the time of the last one.
    pub(crate) fn flights_sent(&self) -> (u8, Option<Instant>) {
        self.timer.sent()
    }

    /// The peer repeated its last flight, by a message that does not pass through here.
    pub(crate) fn note_repetition(&mut self) {
        self.repeat_seen = true;
    }

    /// The master secret is agreed on: from now on its keys open and seal records.
    pub(crate) fn install_keys(&mut self, agreed: &Agreed, role: Role, secret: &MasterSecret, port: &Port<'_>) {
        let Agreed { suite, client_random, server_random, .. } = agreed;
        port.trace(&TraceEvent::Secrets { client_random, master_secret: secret.expose() });
        let mut protected =
            RecordProtection::new(KEYED_EPOCH, *suite, role, secret.traffic_keys(client_random, server_random));
        protected.limit_received_records(self.received_bytes_max);
        self.protected = Some(protected);
    }

    /// Applies the expected ChangeCipherSpec if it has arrived: only after it a Finished counts (RFC 5246 §7.1).
    pub(crate) fn take_change_cipher_spec(&mut self) -> bool {
        if self.peer_cipher == PeerCipher::Plain {
            return false;
        }
        self.peer_cipher = PeerCipher::Changed;
        true
    }

    /// What the established session continues with. `None` without keys, which our state machines do not allow.
    pub(crate) fn secure(&mut self, bindings: Bindings) -> Option<Secured> {
        Some(Secured {
            protected: self.protected.take()?,
            plain: self.plain,
            mtu: self.size.of_session(),
            mtu_full: self.size.full(),
            record_bytes_max: self.record_bytes_max,
            bindings,
        })
    }

    /// The reduced datagram size, if datagrams were reduced.
    pub(crate) fn narrowed_to(&self) -> Option<usize> {
        Some(self.size.bytes()).filter(|bytes| *bytes < self.size.full())
    }

    /// message_seq of the message that is expected next.
    pub(crate) const fn next_received_seq(&self) -> u16 {
        self.incoming.next_seq()
    }

    /// message_seq of the last message that was handled.
    pub(crate) fn last_received_seq(&self) -> u16 {
        self.incoming.next_seq().wrapping_sub(1)
    }

    /// message_seq of the last message that was sent.
    pub(crate) fn last_sent_seq(&self) -> u16 {
        self.next_message_seq.wrapping_sub(1)
    }

    /// Sends the alert that ends the handshake: fatal, unless it is close_notify. It is protected if our side already
    /// protects its records.
    pub(crate) fn send_last_alert(&mut self, description: AlertDescription, protect: bool, port: &mut Port<'_>) {
        let level = if description == AlertDescription::CLOSE_NOTIFY { AlertLevel::Warning } else { AlertLevel::Fatal };
        let content = [level.code(), description.0];
        let mut datagram = port.datagram();
        let written = match self.protected.as_mut().filter(|_| protect) {
            Some(epoch) => epoch.seal(datagram.bytes(), ContentType::Alert, &[&content]),
            None => self.plain.write(datagram.bytes(), ContentType::Alert, &[&content]),
        };
        // Without a sequence number left the peer cannot be told anything.
        if written.is_ok() {
            datagram.finish();
            port.trace_alert(Direction::Sent, level, description);
        }
    }

    fn handle_plaintext(
        &mut self,
        record: &Record,
        payload: &[u8],
        port: &mut Port<'_>,
    ) -> Result<(), HandshakeRefusal> {
        // Anybody may have written a plaintext record: it is dropped without an answer.
        if payload.len() > self.received_bytes_max {
            port.drop(DropReason::RecordOversize);
            return Ok(());
        }
        match record.content_type {
            ContentType::Handshake => {
                self.size.note_record(&record.payload);
                self.handle_fragments(payload, record.epoch(), port);
            }
            ContentType::ChangeCipherSpec => self.handle_change_cipher_spec(payload, port),
            // Once the peer protects its records, a plaintext alert is not from the peer. That the peer does so is known only when its
            // ChangeCipherSpec was expected: anybody may have sent one that arrives early.
            ContentType::Alert if self.peer_cipher == PeerCipher::Changed => port.drop(DropReason::AlertUnprotected),
            ContentType::Alert => return handle_alert(payload, port),
            ContentType::ApplicationData => port.drop(DropReason::ApplicationDataEarly),
        }
        Ok(())
    }

    fn handle_protected(
        &mut self,
        record: &Record,
        payload: &mut [u8],
        port: &mut Port<'_>,
    ) -> Result<(), HandshakeRefusal> {
        let Some(protected) = &mut self.protected else {
            if !self.early.keep(record, payload) {
                port.drop(DropReason::EarlyRecord);
            }
            return Ok(());
        };
        let plaintext = match protected.open(record, payload) {
            Ok(range) => &payload[range],
            Err(Unopened::Dropped(reason)) => {
                port.drop(reason);
                return Ok(());
            }
            // Ends without an alert, as if time had run out: a forger could provoke an alert.
            Err(Unopened::Forgeries) => return Err(HandshakeRefusal::TimedOut { expected: HandshakeType::FINISHED }),
            Err(Unopened::Overflow) => return Err(HandshakeRefusal::RecordOverflow),
        };
        match record.content_type {
            ContentType::Handshake => self.handle_fragments(plaintext, record.epoch(), port),
            ContentType::Alert => return handle_alert(plaintext, port),
            ContentType::ChangeCipherSpec => port.drop(DropReason::ChangeCipherSpec),
            // Nothing is delivered before the Finished is verified; the application of the peer retransmits it.
            ContentType::ApplicationData => port.drop(DropReason::ApplicationDataEarly),
        }
        Ok(())
    }

    /// A record may hold several fragments, of one or of several messages (RFC 6347 §4.2.3).
    fn handle_fragments(&mut self, content: &[u8], epoch: Epoch, port: &mut Port<'_>) {
        let mut reader = Reader::new(content);
        while !reader.is_empty() {
            match Fragment::parse(&mut reader) {
                Ok(fragment) => self.handle_fragment(&fragment, epoch, port),
                Err(_) => return port.drop(DropReason::FragmentMalformed),
            }
        }
    }

    /// ChangeCipherSpec has no message_seq, so it may overtake the messages before it: it is stored, and takes effect when it is
    /// expected.
    fn handle_change_cipher_spec(&mut self, content: &[u8], port: &mut Port<'_>) {
        if content != [1] || self.peer_cipher != PeerCipher::Plain {
            return port.drop(DropReason::ChangeCipherSpec);
        }
        self.peer_cipher = PeerCipher::Announced;
        port.trace(&TraceEvent::ChangeCipherSpec { direction: Direction::Received });
    }

    fn retransmit(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        if let Some(bytes) = self.narrower(port.now.mono) {
            self.size.narrow(bytes);
            port.trace(&TraceEvent::Narrowing { bytes });
        }
        port.trace(&TraceEvent::Retransmission { flight: self.flight.number() });
        self.transmit(port)
    }

    fn narrower(&self, now: Instant) -> Option<usize> {
        if self.peer_flight_has_begun() {
            return None;
        }
        self.size.narrower(now, self.flight.number(), self.flight.datagram_bytes())
    }

    /// Whether part of the peer's next flight has arrived: then all of our flight arrived there, even if the rest of the answer is
    /// missing.
    fn peer_flight_has_begun(&self) -> bool {
        self.incoming.next_seq() != self.peer_flight_start || self.incoming.holds_any()
    }

    fn transmit(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.timer.note_sent(port.now.mono);
        self.size.note_transmission(port.now.mono);
        let epochs = Epochs { plain: &mut self.plain, protected: self.protected.as_mut() };
        let datagram_bytes_max = self.size.bytes().min(self.record_bytes_max + RECORD_HEADER_BYTES);
        self.flight
            .send(epochs, datagram_bytes_max, port)
            .map_err(|SequenceExhausted| HandshakeRefusal::SequenceExhausted)
    }
}

/// Whether message number `a` comes before `b`, with wrap-around.
fn is_before(a: u16, b: u16) -> bool {
    a.wrapping_sub(b) > u16::MAX / 2
}

fn handle_alert(content: &[u8], port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
    let Some((level, description)) = parse_alert(content) else {
        port.drop(DropReason::AlertMalformed);
        return Ok(());
    };
    // close_notify ends a handshake as well, whatever its level (RFC 5246 §7.2.1).
    if level == AlertLevel::Warning && description != AlertDescription::CLOSE_NOTIFY {
        port.drop(DropReason::AlertWarning);
        return Ok(());
    }
    port.trace_alert(Direction::Received, level, description);
    Err(HandshakeRefusal::AlertReceived(description))
}
