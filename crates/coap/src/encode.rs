//! Writes a message into the caller's buffer (RFC 7252 §3).

use crate::{Code, Kind, MessageId, Number, Token};

/// Appends one message to a buffer: first the header, then options in ascending order, then the payload.
///
/// The buffer's earlier content stays, so that many messages can share one buffer.
#[derive(Debug)]
pub struct Encoder<'b> {
    buffer: &'b mut Vec<u8>,
    number: u16,
}

#[allow(clippy::must_use_candidate, reason = "what is written stays in the datagram that the encoder borrows")]
impl<'b> Encoder<'b> {
    /// Writes header and token.
    pub fn new(buffer: &'b mut Vec<u8>, kind: Kind, code: Code, message_id: MessageId, token: Token) -> Self {
        let [id_high, id_low] = message_id.0.to_be_bytes();
        buffer.extend_from_slice(&[1 << 6 | kind.bits() << 4 | token.length(), code.byte(), id_high, id_low]);
        buffer.extend_from_slice(token.as_bytes());
        Encoder { buffer, number: 0 }
    }

    /// An empty message: an empty acknowledgement, a reset, a ping (RFC 7252 §4.1).
    pub fn empty(buffer: &mut Vec<u8>, kind: Kind, message_id: MessageId) {
        Encoder::new(buffer, kind, Code::EMPTY, message_id, Token::EMPTY);
    }

    /// Writes an option. Options must be written in ascending order of their numbers and have at most 65,535 bytes:
    /// only our own code calls this, so that a wrong order is our own bug.
    pub fn option(mut self, number: Number, value: &[u8]) -> Self {
        debug_assert!(number.0 >= self.number, "options are written in ascending order");
        let delta = number.0.saturating_sub(self.number);
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        debug_assert_eq!(usize::from(length), value.len(), "an option value fits a datagram");
        let (delta_nibble, delta_more, delta_bytes) = extend(delta);
        let (length_nibble, length_more, length_bytes) = extend(length);
        self.buffer.push(delta_nibble << 4 | length_nibble);
        self.buffer.extend_from_slice(&delta_more[..delta_bytes]);
        self.buffer.extend_from_slice(&length_more[..length_bytes]);
        self.buffer.extend_from_slice(&value[..usize::from(length)]);
        self.number = self.number.max(number.0);
        self
    }

    /// Writes an option whose value is an unsigned integer in as few bytes as hold it (RFC 7252 §3.2: "A sender SHOULD
    /// represent the integer with as few bytes as possible").
    pub fn uint(self, number: Number, value: u32) -> Self {
        let bytes = value.to_be_bytes();
        let zeros = usize::try_from(value.leading_zeros() / 8).unwrap_or(4);
        self.option(number, &bytes[zeros..])
    }

    /// Writes an option if there is a value.
    pub fn maybe_uint(self, number: Number, value: Option<u32>) -> Self {
        match value {
            Some(value) => self.uint(number, value),
            None => self,
        }
    }

    /// Writes the payload and ends the message. An empty payload is written without a marker.
    pub fn payload(self, payload: &[u8]) {
        if !payload.is_empty() {
            self.buffer.push(0xff);
            self.buffer.extend_from_slice(payload);
        }
    }
}

/// The nibble for a delta or length, and the bytes that follow it (RFC 7252 §3.1).
fn extend(value: u16) -> (u8, [u8; 2], usize) {
    match value {
        0..=12 => (value.to_be_bytes()[1], [0; 2], 0),
        13..=268 => (13, [(value - 13).to_be_bytes()[1], 0], 1),
        269.. => (14, (value - 269).to_be_bytes(), 2),
    }
}
