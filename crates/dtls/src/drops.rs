//! Input from the network that is dropped is counted under a named reason; it is never an error of ours.

use std::fmt;

macro_rules! drops {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why something from the network was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// A stable name, for metric labels.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

drops! {
    /// Shorter than a record header, or its length field points past the datagram.
    RecordTruncated = "record_truncated",
    /// The version is not 0xFEFF or 0xFEFD, or not the one allowed here.
    RecordVersion = "record_version",
    /// Longer than RFC 6347 §4.1.1 allows.
    RecordOversize = "record_oversize",
    /// A record without content, of a type that requires content.
    RecordEmpty = "record_empty",
    /// Protected, but shorter than explicit nonce and tag.
    RecordUndersize = "record_undersize",
    /// A content type that is not used here.
    ContentType = "content_type",
    /// An epoch that has no keys and will not get any.
    Epoch = "epoch",
    /// Received before, or too old for the window.
    Replay = "replay",
    /// Authentication failed.
    BadRecord = "bad_record",
    /// The association of the record has no session and no handshake.
    NoAssociation = "no_association",
    /// A ClientHello that cannot be read as far as its cookie.
    HelloMalformed = "hello_malformed",
    /// A ClientHello that accepts only DTLS 1.3, from an address that has proven nothing. One alert tells it so, if the last alert to its
    /// address is at least half a second old. The drop is counted and not logged, because the address may be forged.
    HelloVersion = "hello_version",
    /// A ClientHello fragment from an unknown address that does not include the whole cookie.
    HelloFragment = "hello_fragment",
    /// All handshake slots are taken, and none of them may be taken over yet.
    HalfOpenFull = "half_open_full",
    /// All handshake slots are taken, and the peer's network holds more than its share of them.
    NetworkFull = "network_full",
    /// A hello with a good cookie, less than half a second after the last flight that went to its address.
    TooSoon = "too_soon",
    /// A hello with a cookie that has already bought its maximum of flights.
    CookieSpent = "cookie_spent",
    /// All session slots are taken by live peers.
    SessionsFull = "sessions_full",
    /// New handshakes are not admitted.
    Draining = "draining",
    /// The server is behind and begins few new handshakes, so that those in progress complete.
    Behind = "behind",
    /// A ClientHello that was already answered or is not the first in its datagram, or a repeated flight beyond the budget of answers.
    Repeated = "repeated",
    /// A handshake fragment whose lengths contradict each other.
    FragmentMalformed = "fragment_malformed",
    /// An empty fragment of a message that is not empty.
    FragmentEmpty = "fragment_empty",
    /// A handshake message longer than the limit.
    MessageOversize = "message_oversize",
    /// A fragment that contradicts an earlier one in type or total length.
    FragmentConflict = "fragment_conflict",
    /// The messages of a server up to a key exchange whose signature does not cover both hellos, or that contradict each other: they may answer the
    /// handshake of before.
    FlightDisproved = "flight_disproved",
    /// A message number too far ahead of the next one.
    MessageFuture = "message_future",
    /// A message number that has been handled already.
    MessageStale = "message_stale",
    /// The reassembly buffers are full.
    ReassemblyFull = "reassembly_full",
    /// A handshake message under the protection of the wrong epoch.
    MessageEpoch = "message_epoch",
    /// The queue of records that wait for keys is full, or a record does not belong there.
    EarlyRecord = "early_record",
    /// ChangeCipherSpec whose content is not one byte of 1, or a repeated one.
    ChangeCipherSpec = "change_cipher_spec",
    /// An alert that is not two bytes long, or has an unknown level.
    AlertMalformed = "alert_malformed",
    /// A plaintext alert where only protected alerts count.
    AlertUnprotected = "alert_unprotected",
    /// A warning that changes nothing.
    AlertWarning = "alert_warning",
    /// Application data before the end of the handshake.
    ApplicationDataEarly = "application_data_early",
    /// A request to renegotiate that was refused.
    Renegotiation = "renegotiation",
    /// A handshake message that an established session does not use.
    HandshakeIdle = "handshake_idle",
    /// The result of a public-key job whose handshake no longer exists.
    StaleJob = "stale_job",
}

/// How often each [`DropReason`] happened.
#[derive(Clone)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl DropCounters {
    pub(crate) const fn new() -> Self {
        Self([0; DropReason::ALL.len()])
    }

    /// How often `reason` happened.
    #[must_use]
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// All reasons with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|reason| (*reason, self.count(*reason)))
    }

    pub(crate) fn add(&mut self, reason: DropReason) {
        let counter = &mut self.0[reason as usize];
        *counter = counter.saturating_add(1);
    }
}

impl Default for DropCounters {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for DropCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name(), count)))
            .finish()
    }
}
