//! One event stream for traces, captures, key logs and replays. The engine emits; what is made of it is the observer's.

use crate::drops::DropReason;
use crate::path::Path;
use crate::time::Now;
use crate::wire::{AlertDescription, AlertLevel, HandshakeType};

/// Sees what the engine does. Called on the engine's thread: an observer that is slow makes the engine slow.
pub trait Observer: Send + Sync {
    /// `path` is `None` for a [`crate::Client`], which has one peer only.
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

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TraceEvent<'a> {
    /// A datagram as it is on the wire, before it is opened in place.
    Datagram {
        /// Received or sent.
        direction: Direction,
        /// All of the UDP payload.
        bytes: &'a [u8],
    },
    /// A whole handshake message: received in its turn, or sent (once per transmission of its flight).
    Handshake {
        /// Received or sent.
        direction: Direction,
        /// Which message.
        message: HandshakeType,
        /// Bytes of its body.
        length: usize,
        /// Into how many fragments it was cut when sent; 0 where that is not known (received).
        fragments: usize,
    },
    /// A ChangeCipherSpec.
    ChangeCipherSpec {
        /// Received or sent.
        direction: Direction,
    },
    /// An alert that was obeyed or sent.
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
        /// What the peer's application meant.
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
    /// A flight is sent once more.
    Retransmission {
        /// Its number in the drawing of RFC 6347 §4.2.4, Figure 1.
        flight: u8,
    },
    /// Datagrams become shorter from now on: the path seems to drop longer ones.
    Narrowing {
        /// Bytes of UDP payload that a datagram of ours has at most.
        bytes: usize,
    },
    /// A datagram of the full length is tried again, after datagrams became shorter.
    Probing {
        /// Its bytes.
        bytes: usize,
    },
    /// A handshake, a session, a request or a try of a client failed. The layer above says so, which has names for the causes.
    Failed {
        /// The name of the cause.
        reason: &'a str,
        /// What exactly is at fault, where something is; values of the peer are in it as they came.
        detail: Option<&'a str>,
    },
}
