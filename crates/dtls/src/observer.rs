//! One event stream for traces, captures, key logs and replays. The engine emits events; the observer decides what to
//! do with them.

use crate::drops::DropReason;
use crate::path::Path;
use crate::time::Now;
use crate::wire::{AlertDescription, AlertLevel, HandshakeType};

/// Receives the engine's events on the engine's thread: a slow observer slows the engine down.
pub trait Observer: Send + Sync {
    /// `path` is `None` for a [`crate::Client`], which has only one peer.
    fn observe(&self, at: Now, path: Option<Path>, event: &TraceEvent<'_>);
}

/// Direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the peer.
    Received,
    /// To the peer.
    Sent,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEvent<'a> {
    /// A datagram as on the wire, before its records are opened in place.
    Datagram {
        /// Received or sent.
        direction: Direction,
        /// The whole UDP payload.
        bytes: &'a [u8],
    },
    /// A whole handshake message: received and handled in order, or sent (once per transmission of its
    /// flight).
    Handshake {
        /// Received or sent.
        direction: Direction,
        /// Which message.
        message: HandshakeType,
        /// Bytes of its body.
        length: usize,
        /// Number of fragments when sent; 0 for a received message, for which it is not known.
        fragments: usize,
    },
    /// A ChangeCipherSpec.
    ChangeCipherSpec {
        /// Received or sent.
        direction: Direction,
    },
    /// An alert that took effect or was sent.
    Alert {
        /// Received or sent.
        direction: Direction,
        /// Warning or fatal.
        level: AlertLevel,
        /// Its meaning.
        description: AlertDescription,
    },
    /// Application data, decrypted.
    ApplicationData {
        /// Received or sent.
        direction: Direction,
        /// The plaintext.
        plaintext: &'a [u8],
    },
    /// The secret of a session, for a key log in the format of NSS.
    Secrets {
        /// The random of the ClientHello, by which a key log finds the session.
        client_random: &'a [u8; 32],
        /// The master secret.
        master_secret: &'a [u8; 48],
    },
    /// Something was dropped.
    Dropped {
        /// Why.
        reason: DropReason,
    },
    /// A flight is retransmitted.
    Retransmission {
        /// Its number in RFC 6347 §4.2.4, Figure 1.
        flight: u8,
    },
    /// Datagrams become shorter from now on, because the path seems to drop longer ones.
    Narrowing {
        /// The new maximum bytes of UDP payload of our datagrams.
        bytes: usize,
    },
    /// A datagram of the full length is tried again, after datagrams were reduced.
    Probing {
        /// Its bytes.
        bytes: usize,
    },
    /// A handshake, a session, a request or a client's attempt failed. The layer above emits this event, because it has the
    /// names of the causes.
    Failed {
        /// The name of the cause.
        reason: &'a str,
        /// Details of the fault, if there are any; they include values from the peer as received.
        detail: Option<&'a str>,
    },
}
