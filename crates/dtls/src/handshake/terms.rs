//! Initial parameters of a conversation.

use std::time::Duration;

/// Sizes and times that the owner of the conversation sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) mtu: usize,
    /// Longer messages from the peer are dropped.
    pub(crate) message_bytes_max: usize,
    pub(crate) retransmission_initial: Duration,
    pub(crate) handshake_deadline: Duration,
}

/// The first numbers of a conversation: a server takes them from the ClientHello whose cookie it verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    /// "the server MUST use the record sequence number in the ClientHello as the record sequence number in its initial
    /// ServerHello"
    /// (RFC 6347 §4.2.1).
    pub(crate) record_sequence: u64,
    /// message_seq of our first message. A server that answered statelessly takes the ClientHello's (RFC 6347 §4.2.2).
    pub(crate) own_message_seq: u16,
    /// message_seq of the peer's first message.
    pub(crate) peer_message_seq: u16,
}
