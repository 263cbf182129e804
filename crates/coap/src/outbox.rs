//! Outgoing messages: ranges in one reusable buffer.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroize;

use crate::length::Length;

/// Messages to send, one datagram each, in order. Clear it and reuse it: once its buffers have grown it does not
/// allocate.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    messages: Vec<Range<usize>>,
    /// A message contains what nobody may find in memory later.
    is_secret: bool,
}

impl Outbox {
    /// An empty outbox, without a buffer yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the messages, keeps the memory; what is secret in it is wiped.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_secret) {
            self.bytes.zeroize();
        }
        self.bytes.clear();
        self.messages.clear();
    }

    /// Whether it holds a part of an answer that cannot be produced again ([`crate::server::Repeat::Irreplaceable`]), such as a private key: send the
    /// messages and clear it at once.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Wipe the messages when they are cleared.
    pub(crate) fn hold_secret(&mut self) {
        self.is_secret = true;
    }

    /// The messages in the order in which they were written.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.messages.iter().map(|range| &self.bytes[range.clone()])
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there are no messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message at `index`.
    #[must_use]
    pub fn message(&self, index: usize) -> Option<&[u8]> {
        self.messages.get(index).map(|range| &self.bytes[range.clone()])
    }

    /// Adds one message: what `write` appends to the buffer.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.messages.push(start..self.bytes.len());
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.messages.iter().map(|range| Length(range.len()))).finish()
    }
}
