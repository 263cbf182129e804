//! The handshake so far, as both ends hash it (RFC 6347 §4.2.6).
//!
//! "in order to remove sensitivity to fragmentation, the Finished MAC MUST be computed as if each handshake message had been sent as a
//! single fragment". The first ClientHello and HelloVerifyRequest are not in it.

use crate::crypto::{Hash, Sha256};
use crate::wire::{HandshakeType, handshake_header};

/// A running hash, and the bytes themselves for as long as a signature over them may be needed: a CertificateVerify signs the
/// messages with a hash of the signer's choice, and `ring` takes messages, not digests.
pub(crate) struct Transcript {
    hash: Sha256,
    bytes: Option<Vec<u8>>,
}

/// The kept bytes grow by multiples of this: one step holds several of the short messages, and a handshake wastes less than one step.
const STEP_BYTES: usize = 512;

impl Transcript {
    pub(crate) fn new() -> Self {
        Self { hash: Sha256::new(), bytes: Some(Vec::new()) }
    }

    /// Adds a message; returns the range of its body in [`Self::bytes`].
    pub(crate) fn add(&mut self, kind: HandshakeType, message_seq: u16, body: &[u8]) -> usize {
        let header = handshake_header(kind, message_seq, body.len(), 0, body.len());
        self.hash.update(&header);
        self.hash.update(body);
        if let Some(bytes) = &mut self.bytes {
            let needed = header.len() + body.len();
            if bytes.capacity() - bytes.len() < needed {
                // A buffer that doubles would let a hostile peer make it hold twice the bound.
                bytes.reserve_exact(needed.next_multiple_of(STEP_BYTES));
            }
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(body);
            bytes.len() - body.len()
        } else {
            0
        }
    }

    /// The hash of all messages so far.
    pub(crate) fn hash(&self) -> Hash {
        self.hash.current()
    }

    /// The messages so far, as long as they are kept.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }

    /// The messages so far; from now on only their hash is kept.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        self.bytes.take().unwrap_or_default()
    }
}
