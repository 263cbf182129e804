//! An established session, the same for client and server: small, because there are a million of them.
//!
//! It holds raw keys, one replay window, two verify_data and what its owner knows about the peer. The handshake is
//! freed.

mod probe;

use std::ops::Range;
use std::time::Instant;

use crate::crypto::{Suite, VerifyData};
use crate::drops::DropReason;
use crate::handshake::established::{FinalFlight, Secured};
use crate::limits::{MTU_MIN, REPEAT_ANSWERS_MAX};
use crate::observer::{Direction, TraceEvent};
use crate::port::Port;
use crate::record::{PlainRecords, Record, RecordProtection, Role, Unopened};
use crate::wire::{
    AlertDescription, AlertLevel, ContentType, Epoch, Fragment, HandshakeType, Reader, SequenceExhausted,
    handshake_header, parse_alert,
};
use probe::SizeProbe;

/// What is known of an established session and does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The suite in use.
    pub suite: Suite,
    /// Whether the master secret is bound to the handshake (RFC 7627).
    pub extended_master_secret: bool,
    /// The channel binding tls-unique: verify_data of the first Finished, the client's (RFC 5929 §3.1).
    pub tls_unique: [u8; 12],
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer sent close_notify.
    ByPeer,
    /// `close` was called.
    ByUs,
    /// No authentic record arrived for the idle timeout.
    Idle,
    /// The peer sent a fatal alert.
    Alert(AlertDescription),
    /// The same peer completed a new handshake (RFC 6347 §4.2.8).
    Replaced,
    /// Its slot was needed for a newly authenticated peer.
    Evicted,
    /// Too many forged records under its keys.
    Forgeries,
    /// The peer sent a record longer than the two ends agreed on (RFC 6066 §4).
    RecordOverflow,
    /// Its sequence numbers are used up (RFC 6347 §4.1).
    SequenceExhausted,
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// The session does not exist any more, or not yet.
    Gone,
    /// The plaintext is longer than [`crate::Endpoint::plaintext_max`].
    TooLong {
        /// The maximum length.
        plaintext_bytes_max: usize,
    },
    /// The session's sequence numbers are used up; it closes.
    SequenceExhausted,
}

/// What a record means for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordEffect {
    /// Nothing authentic.
    Nothing,
    /// A record that does not open under the session's keys.
    Forged,
    /// Something authentic that is not the application's.
    Alive,
    /// Application data: its place within the payload.
    Data(Range<usize>),
    /// The session ends.
    Closed(Closed),
}

pub(crate) struct Session<P> {
    protected: RecordProtection,
    plain: PlainRecords,
    tls_unique: VerifyData,
    final_flight: Option<FinalFlight>,
    peer: P,
    /// Plaintext of one record that fits one datagram and the peer's buffer.
    plaintext_bytes_max: u16,
    /// Repetitions and renegotiations answered so far.
    answers: u8,
    marks: Marks,
    last_heard: Instant,
    /// Milliseconds from the last answer, or from the beginning, to `last_heard`. It is a short integer because a second `Instant` would cost
    /// each session 16 bytes.
    rested_ms: u16,
    /// Only in a session whose datagrams were reduced in its handshake. Boxed, because such sessions are few.
    probe: Option<Box<SizeProbe>>,
}

/// Flags of a session, one bit each: one more byte would cost each of a million sessions eight.
#[derive(Clone, Copy)]
struct Marks(u8);

impl Marks {
    const EXTENDED_MASTER_SECRET: u8 = 1;
    const BUSY: u8 = 2;
    /// A request to renegotiate has been refused before.
    const REFUSED_RENEGOTIATION: u8 = 4;

    const fn has(self, mark: u8) -> bool {
        self.0 & mark != 0
    }
}

/// Minimum time between two repetitions of the final flight: the first timer of a peer is about a second.
const ANSWER_INTERVAL_MS: u16 = 500;

impl<P> Session<P> {
    /// Makes a session from a completed handshake.
    pub(crate) fn new(secured: Secured, peer: P, now: Instant) -> Self {
        let Secured { protected, plain, mtu, mtu_full, record_bytes_max, bindings } = secured;
        let room = (mtu.max(MTU_MIN) - RecordProtection::overhead(protected.suite())).min(record_bytes_max);
        Self {
            protected,
            plain,
            tls_unique: bindings.tls_unique,
            final_flight: bindings.final_flight,
            peer,
            plaintext_bytes_max: saturating(room),
            probe: (mtu < mtu_full).then(|| Box::new(SizeProbe::new(mtu_full, record_bytes_max))),
            answers: 0,
            marks: Marks(if bindings.extended_master_secret { Marks::EXTENDED_MASTER_SECRET } else { 0 }),
            last_heard: now,
            rested_ms: 0,
        }
    }

    pub(crate) fn facts(&self) -> SessionFacts {
        SessionFacts {
            suite: self.protected.suite(),
            extended_master_secret: self.marks.has(Marks::EXTENDED_MASTER_SECRET),
            tls_unique: self.tls_unique,
        }
    }

    pub(crate) const fn peer(&self) -> &P {
        &self.peer
    }

    /// What its owner may report after the session has ended.
    pub(crate) fn into_peer(self) -> P {
        self.peer
    }

    /// Whether the session is busy, as its owner last set it.
    pub(crate) const fn is_busy(&self) -> bool {
        self.marks.has(Marks::BUSY)
    }

    /// Sets whether the session is busy; its idle time starts from zero.
    pub(crate) fn set_busy(&mut self, busy: bool, now: Instant) {
        self.marks.0 = if busy { self.marks.0 | Marks::BUSY } else { self.marks.0 & !Marks::BUSY };
        self.hear(now);
    }

    fn hear(&mut self, now: Instant) {
        // After a long enough pause the count starts from zero.
        if self.rested_ms < ANSWER_INTERVAL_MS {
            let since = now.saturating_duration_since(self.last_heard).as_millis();
            self.rested_ms = self.rested_ms.saturating_add(u16::try_from(since).unwrap_or(u16::MAX));
        }
        self.last_heard = now;
    }

    /// Sets the state after 2^48 - 1 records.
    #[cfg(test)]
    pub(crate) const fn use_up_sequence(&mut self) {
        self.protected.use_up_sequence();
    }

    /// When the last authentic record arrived.
    pub(crate) const fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Plaintext of one record that fills one datagram.
    pub(crate) fn plaintext_max(&self) -> usize {
        usize::from(self.plaintext_bytes_max)
    }

    /// Sends application data as one record in one datagram. Allocates nothing once the buffers have grown.
    pub(crate) fn send(&mut self, plaintext: &[u8], port: &mut Port<'_>) -> Result<(), SendFault> {
        let plaintext_bytes_max = self.plaintext_max();
        if plaintext.len() > plaintext_bytes_max {
            return Err(SendFault::TooLong { plaintext_bytes_max });
        }
        let now = port.now.mono;
        let mut datagram = port.datagram();
        self.protected
            .seal(datagram.bytes(), ContentType::ApplicationData, &[plaintext])
            .map_err(|SequenceExhausted| SendFault::SequenceExhausted)?;
        if let Some(probe) = &mut self.probe
            && let Some(full) = probe.before_sending(plaintext)
        {
            datagram.repeat_up_to(full);
            probe.sent(now, datagram.length());
            datagram.trace(&TraceEvent::Probing { bytes: datagram.length() });
        }
        datagram.trace(&TraceEvent::ApplicationData { direction: Direction::Sent, plaintext });
        datagram.finish();
        Ok(())
    }

    /// Takes a record. Only a record that opens has an effect; everything else is dropped and changes nothing (RFC
    /// 6347 §4.1.2.7).
    pub(crate) fn handle_record(
        &mut self,
        role: Role,
        record: &Record,
        payload: &mut [u8],
        port: &mut Port<'_>,
    ) -> RecordEffect {
        if record.epoch() == Epoch::PLAINTEXT {
            // Anybody may have written a plaintext record (CVE-2020-24585).
            port.drop(match record.content_type {
                ContentType::Alert => DropReason::AlertUnprotected,
                ContentType::ApplicationData => DropReason::ApplicationDataEarly,
                ContentType::ChangeCipherSpec => DropReason::ChangeCipherSpec,
                ContentType::Handshake => DropReason::HandshakeIdle,
            });
            return RecordEffect::Nothing;
        }
        match self.open(record, payload) {
            Ok(range) => self.handle_opened(role, record, payload, range, port),
            Err(Unopened::Dropped(reason)) => {
                port.drop(reason);
                if reason == DropReason::BadRecord { RecordEffect::Forged } else { RecordEffect::Nothing }
            }
            // Ends without an alert: a forger could provoke one (RFC 6347 §4.1.2.7).
            Err(Unopened::Forgeries) => RecordEffect::Closed(Closed::Forgeries),
            Err(Unopened::Overflow) => self.overflowed(port),
        }
    }

    /// Opens a protected record in place, if it belongs to this session. Otherwise only the count of forgeries changes, and the content of
    /// `payload` is lost.
    pub(crate) fn open(&mut self, record: &Record, payload: &mut [u8]) -> Result<Range<usize>, Unopened> {
        self.protected.open(record, payload)
    }

    /// Handles an authentic record that is longer than agreed, the only fault of a record that is answered (RFC 6066
    /// §4).
    pub(crate) fn overflowed(&mut self, port: &mut Port<'_>) -> RecordEffect {
        self.send_alert(AlertLevel::Fatal, AlertDescription::RECORD_OVERFLOW, port);
        RecordEffect::Closed(Closed::RecordOverflow)
    }

    /// Handles an opened record.
    pub(crate) fn handle_opened(
        &mut self,
        role: Role,
        record: &Record,
        payload: &[u8],
        range: Range<usize>,
        port: &mut Port<'_>,
    ) -> RecordEffect {
        self.hear(port.now.mono);
        let plaintext = &payload[range.clone()];
        match record.content_type {
            // "Zero-length fragments of Application data MAY be sent" (RFC 5246 §6.2.1); they carry nothing.
            ContentType::ApplicationData if plaintext.is_empty() => RecordEffect::Alive,
            ContentType::ApplicationData => {
                port.trace(&TraceEvent::ApplicationData { direction: Direction::Received, plaintext });
                self.judge_probe(&payload[range.clone()], port.now.mono);
                RecordEffect::Data(range)
            }
            ContentType::Alert => self.handle_alert(plaintext, port),
            ContentType::Handshake => self.handle_handshake(role, plaintext, port),
            ContentType::ChangeCipherSpec => {
                port.drop(DropReason::ChangeCipherSpec);
                RecordEffect::Alive
            }
        }
    }

    fn judge_probe(&mut self, plaintext: &[u8], now: Instant) {
        if let Some(probe) = &mut self.probe
            && let Some(bytes) = probe.received(now, plaintext)
        {
            let room = bytes.saturating_sub(RecordProtection::overhead(self.protected.suite()));
            let room = room.min(probe.record_bytes_max());
            self.plaintext_bytes_max = self.plaintext_bytes_max.max(saturating(room));
            self.probe = None;
        }
    }

    /// Sends close_notify.
    pub(crate) fn close(&mut self, port: &mut Port<'_>) {
        self.send_alert(AlertLevel::Warning, AlertDescription::CLOSE_NOTIFY, port);
    }

    fn handle_alert(&mut self, content: &[u8], port: &mut Port<'_>) -> RecordEffect {
        match parse_alert(content) {
            None => {
                port.drop(DropReason::AlertMalformed);
                RecordEffect::Alive
            }
            Some((level, AlertDescription::CLOSE_NOTIFY)) => {
                port.trace_alert(Direction::Received, level, AlertDescription::CLOSE_NOTIFY);
                // "The other party MUST respond with a close_notify alert of its own" (RFC 5246 §7.2.1).
                self.close(port);
                RecordEffect::Closed(Closed::ByPeer)
            }
            Some((AlertLevel::Fatal, description)) => {
                port.trace_alert(Direction::Received, AlertLevel::Fatal, description);
                RecordEffect::Closed(Closed::Alert(description))
            }
            Some((AlertLevel::Warning, _)) => {
                port.drop(DropReason::AlertWarning);
                RecordEffect::Alive
            }
        }
    }

    /// A handshake message under the session's keys: a repetition of the peer's Finished, or a request to
    /// renegotiate.
    fn handle_handshake(&mut self, role: Role, content: &[u8], port: &mut Port<'_>) -> RecordEffect {
        let Ok(fragment) = Fragment::parse(&mut Reader::new(content)) else {
            port.drop(DropReason::FragmentMalformed);
            return RecordEffect::Alive;
        };
        let renegotiation = match role {
            Role::Server => HandshakeType::CLIENT_HELLO,
            Role::Client => HandshakeType::HELLO_REQUEST,
        };
        if fragment.kind == renegotiation {
            port.drop(DropReason::Renegotiation);
            // no_renegotiation is always a warning, and the session continues (RFC 5246 §7.2.2). The first request is answered at
            // once.
            let first = !self.marks.has(Marks::REFUSED_RENEGOTIATION);
            self.marks.0 |= Marks::REFUSED_RENEGOTIATION;
            if first || self.may_answer() {
                self.send_alert(AlertLevel::Warning, AlertDescription::NO_RENEGOTIATION, port);
            }
        } else {
            match self.final_flight {
                Some(last)
                    if (fragment.kind, fragment.message_seq) == (HandshakeType::FINISHED, last.answers_message_seq) =>
                {
                    self.repeat_final_flight(&last, port);
                }
                _ => port.drop(DropReason::HandshakeIdle),
            }
        }
        RecordEffect::Alive
    }

    fn repeat_final_flight(&mut self, last: &FinalFlight, port: &mut Port<'_>) {
        if !self.may_answer() {
            return port.drop(DropReason::Repeated);
        }
        port.trace(&TraceEvent::Retransmission { flight: 6 });
        let length = last.verify_data.len();
        let header = handshake_header(HandshakeType::FINISHED, last.message_seq, length, 0, length);
        let mut datagram = port.datagram();
        let changed = self.plain.write(datagram.bytes(), ContentType::ChangeCipherSpec, &[&[1]]);
        let finished = self.protected.seal(datagram.bytes(), ContentType::Handshake, &[&header, &last.verify_data]);
        if changed.is_ok() && finished.is_ok() {
            datagram.trace(&TraceEvent::ChangeCipherSpec { direction: Direction::Sent });
            datagram.finish();
        }
    }

    /// Whether the message just received may be answered.
    fn may_answer(&mut self) -> bool {
        let may = self.rested_ms >= ANSWER_INTERVAL_MS && self.answers < REPEAT_ANSWERS_MAX;
        if may {
            self.answers += 1;
            self.rested_ms = 0;
        }
        may
    }

    fn send_alert(&mut self, level: AlertLevel, description: AlertDescription, port: &mut Port<'_>) {
        let mut datagram = port.datagram();
        let content = [level.code(), description.0];
        if self.protected.seal(datagram.bytes(), ContentType::Alert, &[&content]).is_ok() {
            datagram.finish();
            port.trace_alert(Direction::Sent, level, description);
        }
    }
}

fn saturating(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}
