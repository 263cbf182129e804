//! An outgoing flight: messages that are sent together, and repeated together until they are answered (RFC 6347
//! §4.2.4).
//!
//! A flight keeps whole messages. Each transmission makes new records and fragments: with new sequence numbers, as RFC 6347 §4.2.4 requires
//! for protected records, and with the datagram size in use at that time.

use std::ops::Range;

use crate::observer::{Direction, TraceEvent};
use crate::port::{DatagramWriter, Port};
use crate::record::{PlainRecords, RecordProtection};
use crate::wire::{
    ContentType, HANDSHAKE_HEADER_BYTES, HandshakeType, RECORD_HEADER_BYTES, SequenceExhausted, handshake_header,
};

/// The messages of one flight, in order.
#[derive(Default)]
pub(crate) struct Flight {
    /// Its number in RFC 6347 §4.2.4, Figure 1.
    number: u8,
    items: Vec<Item>,
    bytes: Vec<u8>,
}

enum Item {
    Message { kind: HandshakeType, message_seq: u16, body: Range<usize> },
    ChangeCipherSpec,
}

/// Both epochs of an association, as far as they exist.
pub(crate) struct Epochs<'a> {
    pub(crate) plain: &'a mut PlainRecords,
    pub(crate) protected: Option<&'a mut RecordProtection>,
}

/// A fragment smaller than this is not started at the end of a datagram: its headers would be larger than its
/// content.
const FRAGMENT_BYTES_MIN: usize = 32;

impl Flight {
    pub(crate) const fn new(number: u8) -> Self {
        Self { number, items: Vec::new(), bytes: Vec::new() }
    }

    /// Reserves memory for this number of messages and for the bytes of all their bodies.
    pub(crate) fn with_room(number: u8, messages: usize, bytes: usize) -> Self {
        Self { number, items: Vec::with_capacity(messages), bytes: Vec::with_capacity(bytes) }
    }

    pub(crate) const fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The length of a datagram that holds the whole flight, without protection.
    pub(crate) const fn datagram_bytes(&self) -> usize {
        self.bytes.len() + self.items.len() * (RECORD_HEADER_BYTES + HANDSHAKE_HEADER_BYTES)
    }

    /// Appends a message whose body `write` appends, and returns the body.
    pub(crate) fn message(&mut self, kind: HandshakeType, message_seq: u16, write: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.items.push(Item::Message { kind, message_seq, body: start..self.bytes.len() });
        &self.bytes[start..]
    }

    pub(crate) fn change_cipher_spec(&mut self) {
        self.items.push(Item::ChangeCipherSpec);
    }

    /// Sends the flight in datagrams, and so in records, of at most `mtu` bytes. Messages after ChangeCipherSpec are
    /// protected.
    pub(crate) fn send(
        &self,
        mut epochs: Epochs<'_>,
        mtu: usize,
        port: &mut Port<'_>,
    ) -> Result<(), SequenceExhausted> {
        let mut datagram = port.datagram();
        let mut protect = false;
        for item in &self.items {
            match item {
                Item::ChangeCipherSpec => {
                    if datagram.length() + RECORD_HEADER_BYTES + 1 > mtu {
                        datagram.finish();
                    }
                    epochs.plain.write(datagram.bytes(), ContentType::ChangeCipherSpec, &[&[1]])?;
                    datagram.trace(&TraceEvent::ChangeCipherSpec { direction: Direction::Sent });
                    protect = true;
                }
                Item::Message { kind, message_seq, body } => {
                    let message = Outgoing { kind: *kind, message_seq: *message_seq, body: &self.bytes[body.clone()] };
                    message.send(&mut epochs, protect, mtu, &mut datagram)?;
                }
            }
        }
        datagram.finish();
        Ok(())
    }
}

struct Outgoing<'a> {
    kind: HandshakeType,
    message_seq: u16,
    body: &'a [u8],
}

impl Outgoing<'_> {
    fn send(
        &self,
        epochs: &mut Epochs<'_>,
        protect: bool,
        mtu: usize,
        datagram: &mut DatagramWriter<'_>,
    ) -> Result<(), SequenceExhausted> {
        let protected = epochs.protected.as_deref_mut().filter(|_| protect);
        let record = protected.as_ref().map_or(RECORD_HEADER_BYTES, |epoch| RecordProtection::overhead(epoch.suite()));
        let overhead = record + HANDSHAKE_HEADER_BYTES;
        let mut writer: RecordWriter<'_> = match protected {
            Some(epoch) => RecordWriter::Protected(epoch),
            None => RecordWriter::Plain(epochs.plain),
        };
        let mut offset = 0;
        let mut fragments = 0;
        loop {
            let rest = self.body.len() - offset;
            if datagram.length() + overhead + rest.min(FRAGMENT_BYTES_MIN) > mtu {
                datagram.finish();
            }
            // MTU_MIN and RECORD_SIZE_LIMIT_MIN leave room for every header and FRAGMENT_BYTES_MIN, or for a Finished.
            let taken = rest.min(mtu - datagram.length() - overhead);
            let header = handshake_header(self.kind, self.message_seq, self.body.len(), offset, taken);
            writer.write(datagram.bytes(), &[&header, &self.body[offset..offset + taken]])?;
            fragments += 1;
            offset += taken;
            if offset == self.body.len() {
                break;
            }
        }
        datagram.trace(&TraceEvent::Handshake {
            direction: Direction::Sent,
            message: self.kind,
            length: self.body.len(),
            fragments,
        });
        Ok(())
    }
}

/// Destination of a message's records.
enum RecordWriter<'a> {
    Plain(&'a mut PlainRecords),
    Protected(&'a mut RecordProtection),
}

impl RecordWriter<'_> {
    fn write(&mut self, out: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), SequenceExhausted> {
        match self {
            Self::Plain(epoch) => epoch.write(out, ContentType::Handshake, parts),
            Self::Protected(epoch) => epoch.seal(out, ContentType::Handshake, parts),
        }
    }
}
