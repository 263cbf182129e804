//! An established session.

use crate::alert::AlertDescription;
use crate::crypto::Suite;

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
    /// Nothing authentic came for the idle timeout.
    Idle,
    /// The peer sent a fatal alert.
    Alert(AlertDescription),
    /// The same peer completed a new handshake (RFC 6347 §4.2.8).
    Replaced,
    /// Its slot was needed for a newly authenticated peer.
    Evicted,
    /// Too many forged records under its keys.
    Forgeries,
    /// Its sequence numbers are used up (RFC 6347 §4.1).
    SequenceExhausted,
}

/// Why nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// There is no such session any more, or not yet.
    Gone,
    /// The plaintext is longer than [`crate::Endpoint::plaintext_max`].
    TooLong {
        /// How long it may be.
        plaintext_bytes_max: usize,
    },
    /// The session's sequence numbers are used up; it closes.
    SequenceExhausted,
}
