//! Reassembles handshake messages from their fragments, in order (RFC 6347 §4.2.2, §4.2.3).
//!
//! A peer that has proven its address may still be hostile: memory grows with the bytes received, never with the lengths announced, and each
//! dimension has a bound. Where fragments contradict each other the first one counts, so the transcript does not depend on the order of later
//! fragments.

use std::collections::VecDeque;

use crate::drops::DropReason;
use crate::limits::{
    HANDSHAKE_MESSAGE_BYTES_MAX, REASSEMBLY_BYTES_MAX, REASSEMBLY_MESSAGES_MAX, REASSEMBLY_PIECES_MAX,
};
use crate::wire::{Fragment, HandshakeType};

/// A whole handshake message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HandshakeMessage {
    pub(crate) kind: HandshakeType,
    pub(crate) message_seq: u16,
    pub(crate) body: Vec<u8>,
}

/// The next message, and messages that arrived before their turn.
pub(crate) struct Reassembly {
    next: u16,
    message_bytes_max: usize,
    /// Slot n is for message `next + n`; the list reaches to the farthest message that has arrived.
    waiting: VecDeque<Option<Partial>>,
    held: Held,
}

/// Bytes held for all waiting messages together.
#[derive(Clone, Copy, Default)]
struct Held {
    bytes: usize,
    pieces: usize,
}

impl Reassembly {
    /// `message_bytes_max` is at most the constant of that name in `limits`.
    pub(crate) const fn starting_at(message_seq: u16, message_bytes_max: usize) -> Self {
        let held = Held { bytes: 0, pieces: 0 };
        Self { next: message_seq, message_bytes_max, waiting: VecDeque::new(), held }
    }

    /// The number of the next message.
    pub(crate) const fn next_seq(&self) -> u16 {
        self.next
    }

    pub(crate) fn insert(&mut self, fragment: &Fragment<'_>) -> Result<(), DropReason> {
        let ahead = fragment.message_seq.wrapping_sub(self.next);
        if ahead >= REASSEMBLY_MESSAGES_MAX {
            return Err(if ahead > u16::MAX / 2 { DropReason::MessageStale } else { DropReason::MessageFuture });
        }
        if fragment.length > self.message_bytes_max.min(HANDSHAKE_MESSAGE_BYTES_MAX) {
            return Err(DropReason::MessageOversize);
        }
        if fragment.body.is_empty() && fragment.length > 0 {
            return Err(DropReason::FragmentEmpty);
        }
        let at = usize::from(ahead);
        if self.waiting.len() <= at {
            // Messages nearly always come in their order: room for one, where a list that grows by itself would take four.
            self.waiting.reserve_exact(at + 1 - self.waiting.len());
            self.waiting.resize_with(at + 1, || None);
        }
        let partial = self.waiting[at].get_or_insert_with(|| Partial::new(fragment.kind, fragment.length));
        if partial.kind != fragment.kind || partial.length != fragment.length {
            return Err(DropReason::FragmentConflict);
        }
        partial.insert(fragment.offset, fragment.body, &mut self.held)
    }

    /// The next message, once it is complete.
    pub(crate) fn pop(&mut self) -> Option<HandshakeMessage> {
        let body = self.waiting.front_mut()?.as_mut()?.take_whole()?;
        let done = self.waiting.pop_front().flatten()?;
        let kind = done.kind;
        self.held.bytes -= body.len();
        self.held.pieces -= usize::from(done.length > 0);
        let message_seq = self.next;
        self.next = self.next.wrapping_add(1);
        Some(HandshakeMessage { kind, message_seq, body })
    }

    /// Drops all that waits for its turn.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.held = Held::default();
    }

    /// Begins again with an earlier message.
    pub(crate) fn go_back_to(&mut self, message_seq: u16) {
        self.forget_waiting();
        self.next = message_seq;
    }

    /// Whether part of a message is waiting for the rest of the message, or for its turn.
    pub(crate) const fn holds_any(&self) -> bool {
        self.held.bytes > 0
    }

    #[cfg(test)]
    fn bytes_held(&self) -> usize {
        self.held.bytes
    }
}

/// One message that is still incomplete, or waits for its turn.
struct Partial {
    kind: HandshakeType,
    length: usize,
    /// The body, if one fragment held all of it, as most do: then there is no list of pieces.
    whole: Option<Vec<u8>>,
    /// In order of their offsets; they neither overlap nor touch.
    pieces: Vec<Piece>,
}

struct Piece {
    offset: usize,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> usize {
        self.offset + self.bytes.len()
    }

    /// Grows by an eighth, not by doubling: the bound applies to all memory that a hostile peer can make us hold,
    /// slack included.
    fn append(&mut self, more: &[u8]) {
        if self.bytes.capacity() - self.bytes.len() < more.len() {
            self.bytes.reserve_exact(more.len() + self.bytes.len() / 8);
        }
        self.bytes.extend_from_slice(more);
    }
}

impl Partial {
    const fn new(kind: HandshakeType, length: usize) -> Self {
        Self { kind, length, whole: None, pieces: Vec::new() }
    }

    /// Stores the new bytes of `body`, within the bound for all messages together.
    fn insert(&mut self, offset: usize, body: &[u8], held: &mut Held) -> Result<(), DropReason> {
        if held.bytes + body.len() > REASSEMBLY_BYTES_MAX {
            return Err(DropReason::ReassemblyFull);
        }
        if self.whole.is_some() {
            return Ok(());
        }
        if self.pieces.is_empty() && !body.is_empty() && body.len() == self.length {
            if held.pieces >= REASSEMBLY_PIECES_MAX {
                return Err(DropReason::ReassemblyFull);
            }
            self.whole = Some(body.to_vec());
            held.bytes += body.len();
            held.pieces += 1;
            return Ok(());
        }
        let end = offset + body.len();
        let slice = |from: usize, to: usize| &body[from - offset..to - offset];
        let mut cursor = offset;
        while cursor < end {
            let at = self.pieces.partition_point(|piece| piece.end() < cursor);
            let next_offset = |pieces: &[Piece], at: usize| pieces.get(at).map_or(end, |piece| piece.offset.min(end));
            if self.pieces.get(at).is_some_and(|piece| piece.offset <= cursor) {
                // This piece holds the cursor or touches it: extend it up to the next one.
                let (from, to) = (self.pieces[at].end(), next_offset(&self.pieces, at + 1));
                if from < to {
                    self.pieces[at].append(slice(from, to));
                    held.bytes += to - from;
                }
            } else if held.pieces < REASSEMBLY_PIECES_MAX {
                let to = next_offset(&self.pieces, at);
                self.pieces.insert(at, Piece { offset: cursor, bytes: slice(cursor, to).to_vec() });
                held.bytes += to - cursor;
                held.pieces += 1;
            } else {
                return Err(DropReason::ReassemblyFull);
            }
            self.join(at, held);
            cursor = self.pieces[at].end();
        }
        Ok(())
    }

    /// Joins piece `at` with the next one if they touch.
    fn join(&mut self, at: usize, held: &mut Held) {
        if self.pieces.get(at + 1).is_some_and(|next| next.offset == self.pieces[at].end()) {
            let next = self.pieces.remove(at + 1);
            self.pieces[at].append(&next.bytes);
            held.pieces -= 1;
        }
    }

    fn take_whole(&mut self) -> Option<Vec<u8>> {
        if self.length == 0 {
            return Some(Vec::new());
        }
        if self.whole.is_some() {
            return self.whole.take();
        }
        match self.pieces.as_mut_slice() {
            [only] if only.bytes.len() == self.length => Some(std::mem::take(&mut only.bytes)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragment(message_seq: u16, length: usize, offset: usize, body: &[u8]) -> Fragment<'_> {
        Fragment { kind: HandshakeType::CERTIFICATE, length, message_seq, offset, body }
    }

    #[test]
    fn d19_same_type_and_another_message_seq_are_never_merged() {
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        reassembly.insert(&fragment(0, 4, 0, b"ab")).unwrap();
        reassembly.insert(&fragment(1, 6, 2, b"cdef")).unwrap();
        assert_eq!(reassembly.pop(), None);
        reassembly.insert(&fragment(0, 4, 2, b"cd")).unwrap();
        assert_eq!(reassembly.pop().unwrap().body, b"abcd");
        assert_eq!(reassembly.pop(), None);
    }

    #[test]
    fn d20_another_length_or_type_for_the_same_message_is_dropped() {
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        reassembly.insert(&fragment(0, 4, 0, b"ab")).unwrap();
        assert_eq!(reassembly.insert(&fragment(0, 5, 2, b"cde")), Err(DropReason::FragmentConflict));
        let other = Fragment { kind: HandshakeType::FINISHED, ..fragment(0, 4, 2, b"xx") };
        assert_eq!(reassembly.insert(&other), Err(DropReason::FragmentConflict));
        reassembly.insert(&fragment(0, 4, 2, b"cd")).unwrap();
        assert_eq!(reassembly.pop().unwrap().body, b"abcd");
    }

    #[test]
    fn d21_a_fragment_past_its_message_does_not_parse() {
        let header = |length: [u8; 3], offset: [u8; 3], fragment: [u8; 3]| {
            let mut bytes = vec![11];
            bytes.extend(length);
            bytes.extend([0, 0]);
            bytes.extend(offset);
            bytes.extend(fragment);
            bytes.extend([7; 4]);
            bytes
        };
        let parses = |bytes: &[u8]| Fragment::parse(&mut crate::wire::Reader::new(bytes)).is_ok();
        assert!(parses(&header([0, 0, 8], [0, 0, 4], [0, 0, 4])));
        assert!(!parses(&header([0, 0, 8], [0, 0, 5], [0, 0, 4])));
        assert!(!parses(&header([0xFF; 3], [0xFF; 3], [0, 0, 4])));
        assert!(!parses(&header([0xFF; 3], [0, 0, 0], [0xFF; 3])));
    }

    #[test]
    fn d22_empty_fragments_leave_nothing_behind() {
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        for _ in 0..100_000 {
            assert_eq!(reassembly.insert(&fragment(0, 4, 0, b"")), Err(DropReason::FragmentEmpty));
        }
        assert!(reassembly.waiting.is_empty());
    }

    #[test]
    fn d23_the_first_of_two_contradicting_fragments_stands() {
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        reassembly.insert(&fragment(0, 6, 2, b"CD")).unwrap();
        reassembly.insert(&fragment(0, 6, 0, b"abxx")).unwrap();
        reassembly.insert(&fragment(0, 6, 1, b"yyyyf")).unwrap();
        assert_eq!(reassembly.pop().unwrap().body, b"abCDyf");
    }

    #[test]
    fn d24_memory_follows_the_bytes_received_not_the_length_announced() {
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        assert_eq!(reassembly.insert(&fragment(0, 16_777_215, 0, b"a")), Err(DropReason::MessageOversize));
        reassembly.insert(&fragment(0, HANDSHAKE_MESSAGE_BYTES_MAX, 16_000, b"a")).unwrap();
        assert_eq!(reassembly.bytes_held(), 1);
        let held =
            reassembly.waiting[0].as_ref().unwrap().pieces.iter().map(|piece| piece.bytes.capacity()).sum::<usize>();
        assert!(held < 64, "{held}");
    }

    #[test]
    fn d25_two_thousand_future_messages_hold_sixteen_at_most() {
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        let body = vec![7; 10_000];
        for seq in 0..2_000 {
            let _dropped = reassembly.insert(&fragment(seq, 10_001, 0, &body));
        }
        assert_eq!(reassembly.waiting.len(), 16);
        assert!(reassembly.bytes_held() <= REASSEMBLY_BYTES_MAX);
        assert_eq!(reassembly.insert(&fragment(16, 1, 0, b"a")), Err(DropReason::MessageFuture));
    }

    #[test]
    fn d26_one_byte_fragments_in_the_worst_order_have_bounded_metadata() {
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        for offset in (0..16_000).rev().step_by(2) {
            let _dropped = reassembly.insert(&fragment(0, 16_000, offset, b"a"));
        }
        assert_eq!(reassembly.waiting[0].as_ref().unwrap().pieces.len(), REASSEMBLY_PIECES_MAX);
        // In exact reverse order all pieces join.
        let mut reassembly = Reassembly::starting_at(0, HANDSHAKE_MESSAGE_BYTES_MAX);
        for offset in (0..16_000).rev() {
            reassembly.insert(&fragment(0, 16_000, offset, b"a")).unwrap();
        }
        assert_eq!(reassembly.pop().unwrap().body.len(), 16_000);
    }

    #[test]
    fn d29_message_numbers_wrap_and_stale_ones_are_told_from_future_ones() {
        let mut reassembly = Reassembly::starting_at(u16::MAX, HANDSHAKE_MESSAGE_BYTES_MAX);
        reassembly.insert(&fragment(0, 1, 0, b"b")).unwrap();
        reassembly.insert(&fragment(u16::MAX, 1, 0, b"a")).unwrap();
        assert_eq!(reassembly.pop().unwrap().body, b"a");
        assert_eq!(reassembly.pop().unwrap().body, b"b");
        assert_eq!(reassembly.insert(&fragment(u16::MAX, 1, 0, b"a")), Err(DropReason::MessageStale));
        assert_eq!(reassembly.next_seq(), 1);
    }

    proptest! {
        /// Any fragmentation, order and repetition yields the message.
        #[test]
        fn whatever_the_fragments_the_message_is_the_same(
            body in prop::collection::vec(any::<u8>(), 1..600),
            cuts in prop::collection::vec((0_usize..600, 1_usize..200), 0..40),
        ) {
            let mut reassembly = Reassembly::starting_at(5, HANDSHAKE_MESSAGE_BYTES_MAX);
            for (offset, length) in cuts {
                let start = offset.min(body.len() - 1);
                let end = (start + length).min(body.len());
                prop_assert!(reassembly.insert(&fragment(5, body.len(), start, &body[start..end])).is_ok());
            }
            prop_assert!(reassembly.insert(&fragment(5, body.len(), 0, &body)).is_ok());
            prop_assert_eq!(reassembly.bytes_held(), body.len());
            prop_assert_eq!(reassembly.pop().unwrap().body, body);
            prop_assert_eq!(reassembly.bytes_held(), 0);
        }
    }
}
