//! What client and server share below their states: the handshake layer of one association while it is being made.
//!
//! Records come in and go, by their epoch, to reassembly; whole messages come out in order. Flights go out and are repeated until they
//! are answered, as RFC 6347 §4.2.4 draws it:
//!
//! ```text
//!   PREPARING ──send_flight──► SENDING ──► WAITING ──the peer's next flight──► (state machine) ──► PREPARING
//!                                 ▲           │
//!                                 └───────────┘  timer expires, or the peer repeats its last flight
//! ```
//!
//! The states themselves are in `server` and `client`; they drive this and are driven by their owners.

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
    /// The first message of the flight that the peer is sending now. A number below it is the peer's last flight, repeated.
    peer_flight_start: u16,
    next_message_seq: u16,
    flight: Flight,
    plain: PlainRecords,
    protected: Option<RecordProtection>,
    /// Protected records that came before their keys.
    early: EarlyRecords,
    peer_cipher: PeerCipher,
    size: DatagramSize,
    /// Bytes of plaintext that a record to the peer may have.
    record_bytes_max: usize,
    /// Bytes of plaintext that a record of the peer may have.
    received_bytes_max: usize,
    timer: Timer,
    repeat_seen: bool,
}

/// The epoch of the keys that this handshake makes. A handshake begins in the clear: there is no renegotiation.
const KEYED_EPOCH: Epoch = Epoch::PLAINTEXT.next();

/// How far the peer is with its ChangeCipherSpec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerCipher {
    /// None came.
    Plain,
    /// One came, from whomever. It has no message_seq, so it may have overtaken the messages before it, and it may be forged.
    Announced,
    /// It was due, and has been taken: a Finished comes next, under the keys.
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
        }
    }

    /// Takes one record, whatever its epoch. `Err` ends the handshake.
    pub(crate) fn handle_record(
        &mut self,
        record: &Record,
        payload: &mut [u8],
        port: &mut Port<'_>,
    ) -> Result<(), HandshakeRefusal> {
        match record.epoch() {
            Epoch::PLAINTEXT => self.handle_plaintext(record, payload, port),
            KEYED_EPOCH => self.handle_protected(record, payload, port),
            // Others have no keys and never will have (CVE-2016-2181).
            _ => {
                port.drop(DropReason::Epoch);
                Ok(())
            }
        }
    }

    /// Opens what came before the keys, once they are there.
    pub(crate) fn handle_early_records(&mut self, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        if self.protected.is_none() {
            return Ok(());
        }
        for (record, mut payload) in self.early.take() {
            self.handle_protected(&record, &mut payload, port)?;
        }
        Ok(())
    }

    /// A fragment, and the epoch of the record that it was found in.
    pub(crate) fn handle_fragment(&mut self, fragment: &Fragment<'_>, epoch: Epoch, port: &mut Port<'_>) {
        // Only Finished is protected, and it always is (RFC 5246 §7.4.9): a message in the other epoch is not of this handshake.
        let due = if fragment.kind == HandshakeType::FINISHED { KEYED_EPOCH } else { Epoch::PLAINTEXT };
        if epoch != due {
            return port.drop(DropReason::MessageEpoch);
        }
        self.size.note_fragment(fragment);
        if let Err(reason) = self.incoming.insert(fragment) {
            if reason == DropReason::MessageStale && is_before(fragment.message_seq, self.peer_flight_start) {
                self.repeat_seen = true;
            }
            port.drop(reason);
        }
    }

    /// The next whole message, in its turn.
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

    /// Puts a received message into the transcript; gives the place of its body there.
    pub(crate) fn hash_received(&mut self, message: &HandshakeMessage) -> usize {
        self.transcript.add(message.kind, message.message_seq, &message.body)
    }

    /// Appends a message to a flight that is being prepared, and to the transcript.
    pub(crate) fn prepare(&mut self, flight: &mut Flight, kind: HandshakeType, body: &[u8]) {
        let message_seq = self.prepare_unhashed(flight, kind, body);
        self.transcript.add(kind, message_seq, body);
    }

    /// Appends a message to a flight that is being prepared; gives its message_seq.
    pub(crate) fn prepare_unhashed(&mut self, flight: &mut Flight, kind: HandshakeType, body: &[u8]) -> u16 {
        let message_seq = self.next_message_seq;
        self.next_message_seq = message_seq.wrapping_add(1);
        flight.message(kind, message_seq, body);
        message_seq
    }

    /// Sends a flight and waits for its answer: what the peer sends from now on is its next flight. `Err` ends the handshake: without a
    /// sequence number left nothing of it can ever be sent.
    pub(crate) fn send_flight(&mut self, flight: Flight, port: &mut Port<'_>) -> Result<(), HandshakeRefusal> {
        self.flight = flight;
        self.peer_flight_start = self.incoming.next_seq();
        self.repeat_seen = false;
        self.timer.restart(port.now.mono);
        self.size.begin_flight();
        self.transmit(port)
    }

    /// The peer takes no longer records than these. Who asks for them has a buffer of that size, into which a datagram is read
    /// whole: so the datagrams of the handshake are kept to one such record as well.
    pub(crate) fn limit_records(&mut self, plaintext_bytes_max: usize) {
        self.record_bytes_max = plaintext_bytes_max.clamp(RECORD_SIZE_LIMIT_MIN, PLAINTEXT_BYTES_MAX);
    }

    /// The length of records was agreed on for this direction as well: longer ones of the peer's do not count (RFC 6066 §4).
    pub(crate) const fn limit_received_records(&mut self, plaintext_bytes_max: usize) {
        self.received_bytes_max = plaintext_bytes_max;
    }

    /// No answer is due for now: a public-key step of ours is running.
    pub(crate) fn pause_timer(&mut self) {
        self.timer.pause();
    }

    /// The answer is due again.
    pub(crate) fn resume_timer(&mut self, now: Instant) {
        self.timer.resume(now);
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.timer.due()
    }

    /// Retransmits if it is time; `Err` when the handshake has had all its time or tries, or can send no more. `expected` is what was due.
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

    /// A flight that the peer repeats is answered by repeating ours (RFC 6347 §4.2.4), within a budget. If ours went out a moment before,
    /// it is not sent again, unless the repetition shows that it has to be sent in smaller datagrams.
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

    /// Flights sent so far, repetitions included, and when the last one was.
    pub(crate) fn flights_sent(&self) -> (u8, Option<Instant>) {
        self.timer.sent()
    }

    /// The peer repeated its last flight, by a message that does not come here.
    pub(crate) fn note_repetition(&mut self) {
        self.repeat_seen = true;
    }

    /// The master secret is agreed on: from here on records are opened and sealed under its keys.
    pub(crate) fn install_keys(&mut self, agreed: &Agreed, role: Role, secret: &MasterSecret, port: &Port<'_>) {
        let Agreed { suite, client_random, server_random, .. } = agreed;
        port.trace(&TraceEvent::Secrets { client_random, master_secret: secret.expose() });
        let mut protected =
            RecordProtection::new(KEYED_EPOCH, *suite, role, secret.traffic_keys(client_random, server_random));
        protected.limit_received_records(self.received_bytes_max);
        self.protected = Some(protected);
    }

    /// Takes the ChangeCipherSpec that is due, if it came: after it, and only after it, a Finished counts (RFC 5246 §7.1).
    pub(crate) fn take_change_cipher_spec(&mut self) -> bool {
        if self.peer_cipher == PeerCipher::Plain {
            return false;
        }
        self.peer_cipher = PeerCipher::Changed;
        true
    }

    /// What the established session goes on with. `None` without keys, which no state machine of ours lets happen.
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

    /// What datagrams have been narrowed to, if they have been.
    pub(crate) fn narrowed_to(&self) -> Option<usize> {
        Some(self.size.bytes()).filter(|bytes| *bytes < self.size.full())
    }

    /// message_seq of the message that is due.
    pub(crate) const fn next_received_seq(&self) -> u16 {
        self.incoming.next_seq()
    }

    /// message_seq of the last message that was taken.
    pub(crate) fn last_received_seq(&self) -> u16 {
        self.incoming.next_seq().wrapping_sub(1)
    }

    /// message_seq of the last message that was sent.
    pub(crate) fn last_sent_seq(&self) -> u16 {
        self.next_message_seq.wrapping_sub(1)
    }

    /// The alert that ends the handshake: fatal, unless it is close_notify. Protected where our side protects already.
    pub(crate) fn send_last_alert(&mut self, description: AlertDescription, protect: bool, port: &mut Port<'_>) {
        let level = if description == AlertDescription::CLOSE_NOTIFY { AlertLevel::Warning } else { AlertLevel::Fatal };
        let content = [level.code(), description.0];
        let mut datagram = port.datagram();
        let written = match self.protected.as_mut().filter(|_| protect) {
            Some(epoch) => epoch.seal(datagram.bytes(), ContentType::Alert, &[&content]),
            None => self.plain.write(datagram.bytes(), ContentType::Alert, &[&content]),
        };
        // Without a sequence number left there is no way to tell the peer anything.
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
        // In the clear anybody may have written it: in silence.
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
            // Once the peer protects what it sends, an alert in the clear is not the peer's. That it does is known only when its
            // ChangeCipherSpec was due: one that comes before its time may be anybody's.
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
            // In silence, as if its time were up: an alert could be provoked by whoever forges.
            Err(Unopened::Forgeries) => return Err(HandshakeRefusal::TimedOut { expected: HandshakeType::FINISHED }),
            Err(Unopened::Overflow) => return Err(HandshakeRefusal::RecordOverflow),
        };
        match record.content_type {
            ContentType::Handshake => self.handle_fragments(plaintext, record.epoch(), port),
            ContentType::Alert => return handle_alert(plaintext, port),
            ContentType::ChangeCipherSpec => port.drop(DropReason::ChangeCipherSpec),
            // Nothing is delivered before the Finished has been verified: the application's own retransmission brings it again.
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

    /// ChangeCipherSpec has no message_seq, so it may overtake the messages before it: it is remembered, and takes effect in its turn.
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

    /// Whether something of the peer's next flight is here: then all of ours arrived there, whatever is still missing of the answer.
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

/// Whether message number `a` comes before `b`, across the wrap.
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
