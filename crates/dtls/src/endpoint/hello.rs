//! Stateless processing of a ClientHello (RFC 6347 §4.2.1).
//!
//! Until its cookie is verified, nothing is allocated, signed or remembered. There is one answer per datagram, and it is not longer than the
//! hello: a HelloVerifyRequest or, to a hello that accepts only DTLS 1.3, an alert. An unproven peer gets nothing else. Alerts are limited in
//! rate, because they tell the peer only what its timeout would tell it as well. HelloVerifyRequests are not limited: there are no more of
//! them than hellos, and they are not longer, so sending hellos in a victim's name gains nothing over sending to the victim directly. A limit
//! would let an attacker use up what a device needs to prove its address.
//!
//! A fragmented hello is answered, and later judged, by its first fragment alone, if that fragment includes the whole cookie. The remaining
//! fragments are reassembled in the slot that the first one earned, and then checked against the second tag of the cookie.
//!
//! While no hello with a fresh cookie would be admitted, one that says to have such a cookie is dropped without a look at its tags.

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

/// The smallest piece of a ClientHello that is answered: it ends with an empty cookie after an empty session ID.
const HELLO_BYTES_MIN: usize = 2 + 32 + 1 + 1;

// An answer to an unproven address is never longer than the hello.
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
        // The hello of a handshake in progress proved its address when it began that handshake. Its cookie may have expired since. Asking for
        // another cookie would desynchronise the two ends: the client would number its next hello one higher, and expect our answer to be one
        // higher too.
        if let Some(slot) = slots.half_open
            && self.table.is_begun_by(slot, head.before_cookie, fragment.message_seq)
        {
            return self.handle_same_hello(now, slot, fragment);
        }
        let is_new = slots.half_open.is_none() && slots.established.is_none();
        if is_new
            && !head.cookie.is_empty()
            && let Some(reason) = self.turned_away_unverified(now, &head)
        {
            return self.outside.port(now, Some(path)).drop(reason);
        }
        let Some(cookie) = self.cookies.verify(now, path.peer, &head) else {
            // A client that knows only DTLS 1.3 would not understand a HelloVerifyRequest. A plaintext alert could end a handshake or session
            // on the same path, if the peer obeys it: on such a path this client gets a HelloVerifyRequest like others.
            if is_new && fragment.is_whole() && takes_later_versions_only(fragment.body) {
                return self.refuse_version(now, path, record_sequence);
            }
            // A wrong cookie is treated as a missing one (RFC 6347 §4.2.1).
            return self.ask_for_cookie(now, path, record_sequence, fragment, &head);
        };
        let mark = self.table.mark(head.before_cookie);
        match slots.half_open.filter(|slot| self.table.has_mark(*slot, mark)) {
            Some(slot) => self.handle_same_hello(now, slot, fragment),
            // A late copy of the hello that began the session is not a reason for a new handshake.
            None if slots.established.is_some_and(|slot| self.table.has_mark(slot, mark)) => {
                self.outside.port(now, Some(path)).drop(DropReason::Repeated);
            }
            None => self.begin(now, path, FirstHello { record_sequence, fragment, cookie, mark }),
        }
    }

    /// Nothing is kept of such a hello, and the answer is shorter and rarer than the hellos: see [`super::meter::Alerts`].
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
        let cookie = self.cookies.make(now, path.peer, head);
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

    /// Fragments of a ClientHello after the first one, which earned a slot.
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

    /// A repetition of the hello that began this handshake, or of its first fragment.
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
