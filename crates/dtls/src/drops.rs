//! Noise on the wire is dropped and counted under a named reason; it is never an error of ours.

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
    /// Neither 0xFEFF nor 0xFEFD where they are allowed.
    RecordVersion = "record_version",
    /// Longer than RFC 6347 §4.1.1 allows.
    RecordOversize = "record_oversize",
    /// A record without content, of a type that must have some.
    RecordEmpty = "record_empty",
    /// Protected, but shorter than explicit nonce and tag.
    RecordUndersize = "record_undersize",
    /// A content type that is not in use here.
    ContentType = "content_type",
    /// An epoch that has no keys and will get none.
    Epoch = "epoch",
    /// Seen before, or too old for the window.
    Replay = "replay",
    /// Authentication failed.
    BadRecord = "bad_record",
    /// No session and no handshake for the association of this record.
    NoAssociation = "no_association",
    /// A ClientHello that cannot be read as far as its cookie.
    HelloMalformed = "hello_malformed",
    /// A ClientHello that takes DTLS 1.3 only, from an address that has proven nothing: it was told so by one alert, if the last to its
    /// address is half a second old. It is counted and not logged: the address may be anybody's.
    HelloVersion = "hello_version",
    /// A ClientHello fragment from nobody we know that does not reach the end of the cookie.
    HelloFragment = "hello_fragment",
    /// All handshake slots are taken, and none of them can be had yet.
    HalfOpenFull = "half_open_full",
    /// All handshake slots are taken, and the peer's network holds more than its share of them.
    NetworkFull = "network_full",
    /// A hello with a good cookie, less than half a second after the last flight that went to its address.
    TooSoon = "too_soon",
    /// A hello with a cookie that has bought all the flights it was good for.
    CookieSpent = "cookie_spent",
    /// All session slots are taken by live peers.
    SessionsFull = "sessions_full",
    /// New handshakes are not admitted.
    Draining = "draining",
    /// The server is behind and begins few new handshakes, so that those in progress are finished.
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
    /// A message number too far ahead.
    MessageFuture = "message_future",
    /// A message number already done.
    MessageStale = "message_stale",
    /// The reassembly buffers are full.
    ReassemblyFull = "reassembly_full",
    /// A handshake message under the protection of the wrong epoch.
    MessageEpoch = "message_epoch",
    /// The queue of records before their keys is full, or a record does not belong there.
    EarlyRecord = "early_record",
    /// ChangeCipherSpec with other content than one byte of 1, or repeated.
    ChangeCipherSpec = "change_cipher_spec",
    /// An alert that is not two bytes, or has no known level.
    AlertMalformed = "alert_malformed",
    /// A plaintext alert where only protected ones count.
    AlertUnprotected = "alert_unprotected",
    /// A warning that changes nothing.
    AlertWarning = "alert_warning",
    /// Application data before the handshake has ended.
    ApplicationDataEarly = "application_data_early",
    /// A renegotiation that was refused.
    Renegotiation = "renegotiation",
    /// A handshake message that an established session has no use for.
    HandshakeIdle = "handshake_idle",
    /// The result of a public-key job whose handshake is gone.
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
