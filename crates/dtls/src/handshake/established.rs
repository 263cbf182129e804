//! What a handshake leaves behind.

use crate::crypto::VerifyData;
use crate::record::{PlainRecords, RecordProtection};

/// What a handshake yields. `P` is what the end knows of its peer by then.
pub(crate) struct Established<P> {
    pub(crate) proven: P,
    pub(crate) secured: Secured,
}

/// What a handshake leaves behind beside the peer.
pub(crate) struct Secured {
    pub(crate) protected: RecordProtection,
    pub(crate) plain: PlainRecords,
    /// What a datagram has at most, as the handshake found out, and what it began with.
    pub(crate) mtu: usize,
    pub(crate) mtu_full: usize,
    pub(crate) record_bytes_max: usize,
    pub(crate) bindings: Bindings,
}

/// What the last messages of a handshake bind the session to.
pub(crate) struct Bindings {
    pub(crate) tls_unique: VerifyData,
    pub(crate) extended_master_secret: bool,
    /// At the side that spoke last.
    pub(crate) final_flight: Option<FinalFlight>,
}

/// The last flight of the handshake, which nothing answers: its sender "MUST respond to a retransmit of the peer's last flight with a
/// retransmit of the last flight" (RFC 6347 §4.2.4). It is made again from these 16 bytes: a session keeps no flight.
#[derive(Clone, Copy)]
pub(crate) struct FinalFlight {
    pub(crate) verify_data: VerifyData,
    pub(crate) message_seq: u16,
    /// message_seq of the Finished that it answers.
    pub(crate) answers_message_seq: u16,
}
