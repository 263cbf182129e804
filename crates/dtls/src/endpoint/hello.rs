//! The stateless way of a ClientHello (RFC 6347 §4.2.1).
//!
//! Until its cookie is verified nothing is allocated, signed or remembered, and the answer is not longer than the hello: there is one a
//! datagram. It is a HelloVerifyRequest or, to a hello that takes DTLS 1.3 only, an alert; an unproven peer draws nothing else. Alerts are
//! limited in their rate, for they tell what the peer's timeout tells as well. HelloVerifyRequests are not: they are as many as the hellos
//! and no longer, so that to send hellos in the victim's name gains a sender nothing over sending to the victim itself, whereas a limit would
//! let it use up what a device needs to prove its address.
//!
//! A hello that comes in fragments is answered, and later judged, by its first one alone, if that reaches to the end of the
//! cookie; the rest is reassembled in the slot that it has earned, and held against the cookie's second tag then.

use super::Endpoint;
use super::association::Association;
use super::door::Admission;
use super::handshakes::FirstHello;
use crate::cookie::COOKIE_BYTES;
use crate::drops::DropReason;
use crate::limits::CLIENT_HELLO_BYTES_MAX;
use crate::observer::{Direction, TraceEvent};
use crate::path::Path;
use crate::record::Record;
use crate::time::Now;
use crate::verify::VerifyPeer;
use crate::wire::{
    AlertDescription, AlertLevel, ContentType, DTLS_1_0, DTLS_1_2, Epoch, Fragment, HANDSHAKE_HEADER_BYTES,
    HandshakeType, HelloHead, Reader, RecordNumber, encode_hello_verify_request, handshake_header, put_record_header,
    takes_later_versions_only,
};

/// Bytes of a HelloVerifyRequest's body: version, length, cookie.
const BODY_BYTES: usize = 2 + 1 + COOKIE_BYTES;

/// The smallest piece of a ClientHello that is answered: it ends with an empty cookie behind an empty session ID.
const HELLO_BYTES_MIN: usize = 2 + 32 + 1 + 1;

// What goes to an unproven address is never longer than what came from there.
const _: () = assert!(BODY_BYTES <= HELLO_BYTES_MIN);

impl<V: VerifyPeer> Endpoint<V> {
    pub(super) fn handle_hello_record(&mut self, now: Now, path: Path, record: &Record, payload: &[u8]) {
        let mut reader = Reader::new(payload);
        while !reader.is_empty() {
            match Fragment::parse(&mut reader) {
                Ok(fragment) if fragment.kind == HandshakeType::CLIENT_HELLO => {
                    self.handle_hello(now, path, record.number.sequence(), &fragment);
                }
                _ => return self.outside.port(now, Some(path)).drop(DropReason::FragmentMalformed),
            }
        }
    }

    fn handle_hello(&mut self, now: Now, path: Path, record_sequence: u64, fragment: &Fragment<'_>) {
        if fragment.length > CLIENT_HELLO_BYTES_MAX {
            return self.outside.port(now, Some(path)).drop(DropReason::MessageOversize);
        }
        let slots = self.table.find(Association::of(path));
        if fragment.offset > 0 {
            return match slots.half_open {
                Some(slot) => self.handle_further_fragment(now, slot, fragment),
                None => self.outside.port(now, Some(path)).drop(DropReason::HelloFragment),
            };
        }
        let Ok(head) = HelloHead::parse(fragment.body) else {
            let reason = if fragment.is_whole() { DropReason::HelloMalformed } else { DropReason::HelloFragment };
            return self.outside.port(now, Some(path)).drop(reason);
        };
        if std::mem::replace(&mut self.turn.hello, true) {
            return self.outside.port(now, Some(path)).drop(DropReason::Repeated);
        }
        // The hello of a handshake in progress proved its address when it began it. Its cookie may have run out since, and to ask for
        // another one would part the two ends: the client would number its next hello, and expect our answer, one higher.
        if let Some(slot) = slots.half_open
            && self.table.is_begun_by(slot, head.before_cookie, fragment.message_seq)
        {
            return self.handle_same_hello(now, slot, fragment);
        }
        let Some(promise) = self.cookies.verify(now.utc, path.peer, &head) else {
            // A client of DTLS 1.3 alone would not understand the question. An alert in the clear could end what is under way on the
            // same path, if the peer heeds it: there it is asked like others.
            if slots.half_open.is_none()
                && slots.established.is_none()
                && fragment.is_whole()
                && takes_later_versions_only(fragment.body)
            {
                return self.refuse_version(now, path, record_sequence);
            }
            // A wrong cookie counts as none (RFC 6347 §4.2.1).
            return self.ask_for_cookie(now, path, record_sequence, fragment, &head);
        };
        let mark = self.table.mark(head.before_cookie);
        match slots.half_open.filter(|slot| self.table.has_mark(*slot, mark)) {
            Some(slot) => self.handle_same_hello(now, slot, fragment),
            // A late copy of the hello that began the session: no reason to begin again.
            None if slots.established.is_some_and(|slot| self.table.has_mark(slot, mark)) => {
                self.outside.port(now, Some(path)).drop(DropReason::Repeated);
            }
            None => self.begin(now, path, FirstHello { record_sequence, fragment, promise, mark }),
        }
    }

    /// Nothing is kept of such a hello, and what goes back is shorter than what came, and rarer: see [`super::meter::Alerts`].
    fn refuse_version(&mut self, now: Now, path: Path, record_sequence: u64) {
        let mut port = self.outside.port(now, Some(path));
        port.drop(DropReason::HelloVersion);
        if !self.alerts.draw(self.table.address(path), now.mono) {
            return;
        }
        let (level, description) = (AlertLevel::Fatal, AlertDescription::PROTOCOL_VERSION);
        let mut datagram = port.datagram();
        let content = [level.code(), description.0];
        put_record_header(
            datagram.bytes(),
            ContentType::Alert,
            DTLS_1_2,
            RecordNumber::new(Epoch::PLAINTEXT, record_sequence),
            content.len(),
        );
        datagram.bytes().extend_from_slice(&content);
        datagram.trace(&TraceEvent::Alert { direction: Direction::Sent, level, description });
        datagram.finish();
    }

    fn ask_for_cookie(
        &mut self,
        now: Now,
        path: Path,
        record_sequence: u64,
        fragment: &Fragment<'_>,
        head: &HelloHead<'_>,
    ) {
        if self.door.admission() == Admission::Draining {
            return self.outside.port(now, Some(path)).drop(DropReason::Draining);
        }
        let cookie = self.cookies.make(now.utc, path.peer, head);
        let mut port = self.outside.port(now, Some(path));
        let mut datagram = port.datagram();
        // "the server MUST use the record sequence number in the ClientHello as the record sequence number in the
        // HelloVerifyRequest" (RFC 6347 §4.2.1). The same for message_seq: it is what the client expects next.
        let number = RecordNumber::new(Epoch::PLAINTEXT, record_sequence);
        let length = HANDSHAKE_HEADER_BYTES + BODY_BYTES;
        put_record_header(datagram.bytes(), ContentType::Handshake, DTLS_1_0, number, length);
        let kind = HandshakeType::HELLO_VERIFY_REQUEST;
        let header = handshake_header(kind, fragment.message_seq, BODY_BYTES, 0, BODY_BYTES);
        datagram.bytes().extend_from_slice(&header);
        encode_hello_verify_request(datagram.bytes(), &cookie);
        datagram.trace(&TraceEvent::Handshake {
            direction: Direction::Received,
            message: HandshakeType::CLIENT_HELLO,
            length: fragment.length,
            fragments: 0,
        });
        datagram.trace(&TraceEvent::Handshake {
            direction: Direction::Sent,
            message: kind,
            length: BODY_BYTES,
            fragments: 1,
        });
        datagram.finish();
    }

    /// The rest of a ClientHello whose first fragment earned a slot.
    fn handle_further_fragment(&mut self, now: Now, slot: u32, fragment: &Fragment<'_>) {
        let Some(half_open) = self.table.half_open_at(slot) else { return };
        self.turn.handshake = true;
        let mut port = self.outside.port(now, Some(half_open.path));
        if half_open.handshake.has_taken(fragment.message_seq) {
            return port.drop(DropReason::MessageStale);
        }
        let result = half_open.handshake.handle_hello(fragment, &mut port);
        self.proceed(now, slot, result);
    }

    /// The hello that began this handshake, or its first fragment, once more.
    fn handle_same_hello(&mut self, now: Now, slot: u32, fragment: &Fragment<'_>) {
        let Some(half_open) = self.table.half_open_at(slot) else { return };
        self.turn.handshake = true;
        let mut port = self.outside.port(now, Some(half_open.path));
        if half_open.handshake.has_taken(fragment.message_seq) {
            half_open.handshake.note_repeated_hello();
            return;
        }
        let result = half_open.handshake.handle_hello(fragment, &mut port);
        self.proceed(now, slot, result);
    }
}
