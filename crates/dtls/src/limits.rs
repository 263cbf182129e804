//! Everything that can grow, with its bound and the reason for the bound.

use std::time::Duration;

/// The limits of one [`crate::Endpoint`] that a configuration may set.
#[derive(Clone, Debug)]
pub struct EndpointLimits {
    /// Handshakes in progress. Each costs about 4 KiB, at worst 48 KiB: 4,096 of them stay below 200 MiB even under attack.
    pub half_open_max: usize,
    /// Established sessions, at a quarter of a kilobyte each; one node of a carrier holds a million.
    pub sessions_max: usize,
    /// Bytes of UDP payload that one datagram of ours may carry, from [`MTU_MIN`] to [`MTU_MAX`]: 1,232 is the IPv6 minimum MTU less headers (RFC 8200 §5).
    pub mtu: usize,
    /// First retransmission timeout; "initial timer value of 1 second" (RFC 6347 §4.2.4.1). Doubles at each retransmission.
    pub retransmission_initial: Duration,
    /// Deadline of a handshake. In 180 s a client on RFC 7925 §11 timers (9 s, doubling) can lose three flights.
    pub handshake_deadline: Duration,
    /// A session from which nothing authentic has arrived for this time is closed, and its slot becomes free.
    pub idle_timeout: Duration,
    /// With all session slots taken, the longest idle session is evicted for a newly authenticated peer if it is idle for this long.
    pub eviction_idle_min: Duration,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            half_open_max: 4_096,
            sessions_max: 1_000_000,
            mtu: MTU_DEFAULT,
            retransmission_initial: Duration::from_secs(1),
            handshake_deadline: HANDSHAKE_DEADLINE_DEFAULT,
            idle_timeout: Duration::from_secs(300),
            eviction_idle_min: Duration::from_secs(10),
        }
    }
}

/// Default UDP payload: what every IPv6 path carries, 1,280 less 40 and 8 (RFC 8200 §5).
pub const MTU_DEFAULT: usize = 1_232;

/// Smallest UDP payload that a flight is split for: links of the 6LoWPAN kind with a 256-byte path.
pub const MTU_MIN: usize = 228;

/// Largest UDP payload that we send: one record holds no more plaintext than this (RFC 5246 §6.2.1), and no path of ours carries
/// more.
pub const MTU_MAX: usize = PLAINTEXT_BYTES_MAX;

/// First step down after lost flights: Mbed TLS falls back to it, and every IPv4 host reassembles 576 bytes with any options in the
/// headers (RFC 1122 §3.3.2).
pub(crate) const MTU_REDUCED: usize = 508;

/// A flight that was sent this many times without any answer is split to [`MTU_REDUCED`]: by the timers, 3 s after it was first sent. This
/// costs a datagram or two if datagrams are merely lost. At a loss of one in four it happens to one flight in five: measured over whole
/// handshakes, 7 % more datagrams.
pub(crate) const NARROW_AFTER: u8 = 2;

/// After this many transmissions it is split to [`MTU_MIN`], which costs four datagrams or more.
pub(crate) const NARROW_TO_MIN_AFTER: u8 = 4;

/// The same, if the peer showed by a repetition that the last size did not arrive either.
pub(crate) const NARROW_TO_MIN_AFTER_REPETITION: u8 = 3;

/// When a hello is split into smaller datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MtuStep {
    /// The maximum size of its datagrams after this step.
    pub(crate) mtu: usize,
    /// The number of retransmissions before this step.
    pub(crate) retransmissions_min: u8,
}

/// By the timers, 31 and 63 seconds after it was first sent: hellos are short, and a server that accepts none in fragments cannot be
/// reached after this.
pub(crate) const HELLO_MTU_STEPS: [MtuStep; 2] =
    [MtuStep { mtu: MTU_REDUCED, retransmissions_min: 5 }, MtuStep { mtu: MTU_MIN, retransmissions_min: 6 }];

/// Retransmissions of one flight; the seventh follows 123 s after the first transmission, with timers from 1 s
/// doubling to 60 s.
pub(crate) const RETRANSMISSIONS_MAX: u8 = 7;

/// "no less than the RFC 6298 maximum of 60 seconds" (RFC 6347 §4.2.4.1).
pub(crate) const RETRANSMISSION_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Time for the rest of a ClientHello whose first fragment earned a slot. A device on RFC 7925 §11 timers repeats all fragments after 9 s,
/// and a hello that arrives later begins a new handshake with the same cookie: the device loses nothing.
pub(crate) const HELLO_DEADLINE: Duration = Duration::from_secs(12);

/// Flights that one cookie buys, over all handshakes begun with it and all repetitions of its sender. An honest client needs one, and on bad
/// links a few; one flight, its repetitions by the timer and some answers to repeated hellos stay below this.
pub(crate) const FLIGHTS_PER_COOKIE_MAX: u8 = 20;

/// Datagrams taken per handshake begun while the server is behind. A whole enrolment takes about ten datagrams, and the time of a hundred
/// that lead to nothing. Handshakes begun at this rate take a sixth of the server's time if handshakes make it late, and about two thirds if
/// datagrams that lead to nothing do.
pub(crate) const DATAGRAMS_PER_BEGIN_BEHIND: u32 = 64;

/// Hellos that have not waited may take one of so many parts of the slots while the server is behind, and until the storm is over. Strangers who send one
/// hello each fill what is open to them within seconds, whatever it is: of half of 16,384 slots they took a twentieth of the server's time in an overload
/// of twelve seconds.
pub(crate) const FRESH_PARTS: usize = 8;

/// Handshake timeouts that one call serves: each may send a flight of some kilobytes.
pub(crate) const HANDSHAKE_TIMEOUTS_PER_CALL_MAX: usize = 64;

/// Idle sessions that one call closes. Each costs a sealed alert of about fifty bytes and an event: the batch takes less than a
/// millisecond.
pub(crate) const EXPIRIES_PER_CALL_MAX: usize = 256;

/// Bytes that the emptied datagram buffer keeps: enough for a turn of ordinary traffic. Memory that a wave of timeouts needed beyond that is
/// freed.
pub(crate) const TRANSMIT_BYTES_KEPT: usize = 64 * 1024;

/// Entries for which an emptied queue keeps room.
pub(crate) const QUEUE_KEPT: usize = 256;

/// Default of [`EndpointLimits::handshake_deadline`].
pub(crate) const HANDSHAKE_DEADLINE_DEFAULT: Duration = Duration::from_secs(180);

/// Answers to repeated flights of a peer, over the life of a handshake or a session; a peer that needs more begins
/// a new handshake.
pub(crate) const REPEAT_ANSWERS_MAX: u8 = 16;

/// Size of one handshake message. A chain of ten certificates with P-384 keys fits; the header could express 2^24 - 1 bytes,
/// which never occurs.
pub const HANDSHAKE_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Handshake messages held back for reordering: more than any DTLS 1.2 flight has.
pub(crate) const REASSEMBLY_MESSAGES_MAX: u16 = 16;

/// Size of one ClientHello: hellos of today, with key shares for future key exchanges, stay below 2 KiB, and a peer pays nothing
/// for more.
pub(crate) const CLIENT_HELLO_BYTES_MAX: usize = 4 * 1024;

/// Bytes of handshake messages held back for one peer: one message of the largest size and a flight of
/// ordinary ones.
pub(crate) const REASSEMBLY_BYTES_MAX: usize = 20 * 1024;

/// A signature by P-384: SEQUENCE of two INTEGERs of 49 bytes (RFC 3279 §2.2.3).
pub(crate) const SIGNATURE_BYTES_MAX: usize = 2 + 2 * (2 + 49);

/// Bytes from its peer that one handshake may hold: the hello and the largest message in the transcript, the signature over it, and the
/// waiting messages.
const HANDSHAKE_BYTES_MAX: usize = CLIENT_HELLO_BYTES_MAX
    + HANDSHAKE_MESSAGE_BYTES_MAX
    + SIGNATURE_BYTES_MAX
    + REASSEMBLY_BYTES_MAX
    + EARLY_RECORDS_MAX * EARLY_RECORD_BYTES_MAX;

/// Separate pieces of all waiting messages: a 16 KiB message in 256-byte fragments that arrive in the worst order.
pub(crate) const REASSEMBLY_PIECES_MAX: usize = 64;

/// Records of the next epoch kept until its keys exist: a Finished, and the forged ones that a sender without the keys may have put before
/// it. A sender of more displaces the Finished, which the peer retransmits after the keys exist.
pub(crate) const EARLY_RECORDS_MAX: usize = 1 + EARLY_FORGERIES_MAX;

/// Forged records tolerated without harm: more than a repeated flight of a peer holds, and a size that a half-open handshake
/// can spare.
pub(crate) const EARLY_FORGERIES_MAX: usize = 7;

/// Size of one such record: a Finished takes 61 bytes at most.
pub(crate) const EARLY_RECORD_BYTES_MAX: usize = 128;

/// Certificates in one chain, ours or a peer's.
pub const CERTIFICATES_MAX: usize = 10;

/// Extensions in one hello: browsers send about 20, GREASE tests 200. More would only cost us time.
pub(crate) const EXTENSIONS_MAX: usize = 256;

/// Code points of one kind kept for an attempt record.
pub(crate) const OFFERED_MAX: usize = 32;

/// Bytes of a server name kept for an attempt record; a DNS name has at most 253.
pub(crate) const SERVER_NAME_BYTES_MAX: usize = 253;

/// Authorities that a client's hello names: the roots before and after a roll-over, and as many again. Each costs 21 bytes.
pub(crate) const TRUSTED_AUTHORITIES_MAX: usize = 4;

/// Bytes that a client's hello leaves for the cookie when it fills the rest of a datagram: the bound of DTLS 1.0 (RFC 4347 §4.2.1), which
/// servers of today keep to. A longer cookie costs a second datagram on narrow links.
pub(crate) const COOKIE_BYTES_EXPECTED: usize = 32;

/// HelloVerifyRequests that a client follows: one, one more if the keys rotated in between, and one for
/// reordering.
pub(crate) const HELLO_VERIFY_REQUESTS_MAX: u8 = 3;

/// Flights of the server that a client discards because the signature of their key exchange does not cover both hellos. A server repeats the flight of
/// an abandoned handshake until it has the client's new hello, so a second one may be on its way; more are not an accident. Each costs the client a
/// verification, and a server whose signatures never verify is refused three seconds later.
pub(crate) const FLIGHTS_DISPROVED_MAX: u8 = 2;

/// Forged records under one CCM_8 key before the key is given up. For a tag of eight bytes RFC 9147 §4.5.3 gives no limit that both bounds
/// forgery as for the other suites and does not let an attacker end a session at will; it leaves the choice to us. With this limit a forgery
/// succeeds with a chance of 2^-44, and an attacker needs more than a million datagrams to end a session.
pub(crate) const FORGERIES_MAX_CCM_8: u32 = 1 << 20;

/// Forged records under one CCM key with the whole tag: below 2^23.5, which RFC 9147 §4.5.3 allows.
pub(crate) const FORGERIES_MAX_CCM: u32 = 1 << 23;

/// Forged records under one GCM key: RFC 9147 §4.5.3 allows 2^36; a 32-bit counter is stricter and smaller.
pub(crate) const FORGERIES_MAX_GCM: u32 = u32::MAX;

/// Forged records to all sessions of an endpoint that raise an alarm, less those that have leaked since: a thousandth of what ends one
/// session of CCM_8. Damage that passes UDP's checksum, and peers that use old keys, stay far below this rate.
pub(crate) const FORGERY_ALARM: u64 = 1 << 10;

/// Forged records that leak each second.
pub(crate) const FORGERIES_FORGOTTEN_PER_SECOND: u64 = 10;

/// The last sequence number that may be used: sequence numbers have 48 bits and do not wrap (RFC 6347 §4.1).
pub(crate) const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// Plaintext of one record (RFC 5246 §6.2.1).
pub(crate) const PLAINTEXT_BYTES_MAX: usize = 1 << 14;

/// "Endpoints MUST NOT send a "record_size_limit" extension with a value smaller than 64" (RFC 8449 §4).
pub(crate) const RECORD_SIZE_LIMIT_MIN: usize = 64;

/// A protected record may be longer than its plaintext by this much (RFC 5246 §6.2.3).
pub(crate) const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 2_048;

const _: () = {
    assert!(MTU_MIN < MTU_REDUCED && MTU_REDUCED < MTU_DEFAULT && MTU_DEFAULT < MTU_MAX);
    assert!(REASSEMBLY_BYTES_MAX > HANDSHAKE_MESSAGE_BYTES_MAX);
    assert!(CLIENT_HELLO_BYTES_MAX <= HANDSHAKE_MESSAGE_BYTES_MAX);
    assert!(HANDSHAKE_BYTES_MAX <= 48 * 1024);
    // A flight reaches its smallest datagrams before the tries run out.
    assert!(HELLO_MTU_STEPS[1].retransmissions_min < RETRANSMISSIONS_MAX);
    assert!(NARROW_AFTER < NARROW_TO_MIN_AFTER_REPETITION && NARROW_TO_MIN_AFTER < RETRANSMISSIONS_MAX);
    assert!(HANDSHAKE_MESSAGE_BYTES_MAX <= PLAINTEXT_BYTES_MAX);
    assert!(EARLY_RECORD_BYTES_MAX >= 13 + 8 + 24 + 16);
    assert!(FLIGHTS_PER_COOKIE_MAX > RETRANSMISSIONS_MAX + 1);
    assert!(HELLO_DEADLINE.as_secs() > 9);
    // 1 + 2 + 4 + 8 + 16 + 32 + 60 seconds of retransmissions fit the deadline.
    assert!(HANDSHAKE_DEADLINE_DEFAULT.as_secs() > 123);
    assert!(SEQUENCE_MAX < u64::MAX);
    // The alarm comes long before forgeries end a session.
    assert!(FORGERY_ALARM * 100 < FORGERIES_MAX_CCM_8 as u64);
    // A Finished under the longest overhead fits the smallest record limit, with its headers.
    assert!(RECORD_SIZE_LIMIT_MIN + 13 > 13 + 8 + 16 + 12 + 12);
};
