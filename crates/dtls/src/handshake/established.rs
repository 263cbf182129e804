//! The result of a handshake.

use crate::crypto::VerifyData;
use crate::record::{PlainRecords, RecordProtection};

/// The result of a handshake. `P` is what the end knows about its peer.
pub(crate) struct Established<P> {
    pub(crate) proven: P,
    pub(crate) secured: Secured,
}

/// The result of a handshake without the peer.
pub(crate) struct Secured {
    pub(crate) protected: RecordProtection,
    pub(crate) plain: PlainRecords,
    /// The maximum datagram size that the handshake found, and the size it began with.
    pub(crate) mtu: usize,
    pub(crate) mtu_full: usize,
    pub(crate) record_bytes_max: usize,
    pub(crate) bindings: Bindings,
}

/// What the last messages of a handshake bind the session to.
pub(crate) struct Bindings {
    pub(crate) tls_unique: VerifyData,
    pub(crate) extended_master_secret: bool,
    /// Only at the side that sent the last flight.
    pub(crate) final_flight: Option<FinalFlight>,
}

/// The last flight of the handshake, which gets no answer: its sender "MUST respond to a retransmit of the peer's last flight with a
/// retransmit of the last flight" (RFC 6347 §4.2.4). It is rebuilt from these 16 bytes, so a session stores no flight.
#[derive(Clone, Copy)]
pub(crate) struct FinalFlight {
    pub(crate) verify_data: VerifyData,
    pub(crate) message_seq: u16,
    /// message_seq of the Finished that it answers.
    pub(crate) answers_message_seq: u16,
}
