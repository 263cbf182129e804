//! How the peers of a shard behave and how much they may hold: the limits, their defaults and the relations between them.

use std::time::Duration;

use super::answers::RESPONSE_BYTES_EXPECTED;
use super::refusal::RequestRefusal;
use crate::{ACK_TIMEOUT, BlockSize, EXCHANGE_LIFETIME, MAX_TRANSMIT_WAIT};

/// How the peers of a shard behave, and how much they may hold.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The largest block of a response. It is also the block size if the client indicates none, neither with Block2 nor
    /// with the size of its own Block1 blocks. 1,024 bytes and the overhead have to fit one datagram of the path.
    pub block_max: BlockSize,
    /// If [`super::Peer::respond`] is not called within this time, an empty acknowledgement is sent and the answer
    /// becomes a separate response. It is below ACK_TIMEOUT, so that the client does not send its request again.
    pub acknowledge_after: Duration,
    /// An upload is forgotten if no new block arrives for this long. A client may rely on EXCHANGE_LIFETIME: "Servers
    /// can fully expect to be free to discard any partial request body" after it (RFC 7959 §2.5), and a block that was
    /// not acknowledged may arrive again in a new exchange after MAX_TRANSMIT_WAIT.
    pub upload_idle_max: Duration,
    /// The maximum number of concurrent uploads of one peer; one more drops the oldest. A client needs two at most: one
    /// that it has abandoned and the current one (RFC 9175 §3.5.2).
    pub uploads_per_peer_max: usize,
    /// The maximum bytes of all uploads of the shard together; one owner may hold half of them. A first block above
    /// this limit is answered with 5.03.
    pub upload_bytes_total_max: usize,
    /// The maximum number of requests remembered for one peer, pending ones included. One more drops the oldest request
    /// whose answer was sent completely and can be produced again; if there is none, the new request is answered with
    /// 5.03.
    pub exchanges_per_peer_max: usize,
    /// The maximum bytes of all kept responses of the shard together; one owner may hold half of them. Above this
    /// limit, responses that are no longer needed are evicted; if there are none, a request whose outcome would have to
    /// be kept is answered with 5.03.
    pub response_bytes_total_max: usize,
    /// The maximum bytes that the shard holds for exchanges, open uploads and remembered messages, all bodies excluded;
    /// one owner may hold half of them. Above this limit, a request that would have to be remembered, or the first
    /// block of one, is answered with 5.03. A request that has begun already has its bytes reserved; its peer then
    /// remembers fewer of its latest messages, but at least three.
    pub exchange_bytes_total_max: usize,
    /// The least Max-Age of these 5.03 responses, in seconds, at least 1; up to half of it is added.
    pub full_max_age: u32,
    /// The diagnostic payload of a refusal by the message layer; at most [`super::Response::DIAGNOSTIC_BYTES_MAX`] of it is sent.
    pub diagnose: fn(RequestRefusal) -> &'static str,
}

impl Default for Config {
    /// Defaults for one shard of a server that enrols hundreds of devices a second.
    fn default() -> Self {
        Self {
            block_max: BlockSize::B1024,
            acknowledge_after: ACKNOWLEDGE_AFTER,
            upload_idle_max: UPLOAD_IDLE_MAX,
            uploads_per_peer_max: 2,
            upload_bytes_total_max: UPLOAD_BYTES_TOTAL_MAX,
            exchanges_per_peer_max: EXCHANGES_PER_PEER_MAX,
            response_bytes_total_max: RESPONSE_BYTES_TOTAL_MAX,
            exchange_bytes_total_max: EXCHANGE_BYTES_TOTAL_MAX,
            full_max_age: 30,
            diagnose: |_| "",
        }
    }
}

/// Half of ACK_TIMEOUT: the other half is left for the acknowledgement to reach the client.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(1);
const UPLOAD_IDLE_MAX: Duration = EXCHANGE_LIFETIME;
/// 65,536 concurrent uploads of 512 bytes; an upload takes a second or two, so that this is far above the rate at which
/// a shard signs.
const UPLOAD_BYTES_TOTAL_MAX: usize = 32 << 20;
/// An enrolment, the previous attempt under another message id, `/crts`, discovery, and as many again.
const EXCHANGES_PER_PEER_MAX: usize = 8;
/// About 130,000 certificates of 500 bytes. Each is needed for at least MAX_TRANSMIT_WAIT: this allows 1,400 enrolments
/// a second if sessions do not close earlier.
const RESPONSE_BYTES_TOTAL_MAX: usize = 64 << 20;
/// About 520,000 enrolments of the last EXCHANGE_LIFETIME: more than there is room for their answers, see below. If one
/// owner takes its half first, room for 260,000 is left.
const EXCHANGE_BYTES_TOTAL_MAX: usize = 256 << 20;
/// The bytes counted for an exchange, or for the upload that becomes one, without its bodies: the exchange itself, and
/// its entries among the answers of the shard.
pub(super) const EXCHANGE_BYTES: usize = 384;
/// The usual bytes of an exchange: an enrolment in blocks of 64 bytes.
const EXCHANGE_BYTES_USUAL: usize = EXCHANGE_BYTES + 128;

const _: () = assert!(ACKNOWLEDGE_AFTER.as_secs() < ACK_TIMEOUT.as_secs(), "the client is told before it sends again");
const _: () = assert!(UPLOAD_IDLE_MAX.as_secs() <= EXCHANGE_LIFETIME.as_secs(), "no state outlives its exchange");
const _: () =
    assert!(UPLOAD_IDLE_MAX.as_secs() > 2 * MAX_TRANSMIT_WAIT.as_secs(), "a block may come in a second exchange");
const _: () = assert!(
    RESPONSE_BYTES_TOTAL_MAX as u64 / 500 * EXCHANGE_LIFETIME.as_secs() / MAX_TRANSMIT_WAIT.as_secs()
        * EXCHANGE_BYTES_USUAL as u64
        <= EXCHANGE_BYTES_TOTAL_MAX as u64,
    "answers run out first"
);
const _: () = assert!(EXCHANGES_PER_PEER_MAX * RESPONSE_BYTES_EXPECTED < RESPONSE_BYTES_TOTAL_MAX);

/// Our own rule: an upload never lives longer than this, however many blocks keep arriving. An upload without a new
/// block ends at `upload_idle_max`, and not earlier: the client's time counts from "the most recent block" (RFC 7959
/// §2.5), so that a slow upload may take longer in total.
pub(super) const UPLOAD_LIFETIME_MAX: Duration = Duration::from_secs(2 * EXCHANGE_LIFETIME.as_secs());
