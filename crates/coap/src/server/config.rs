//! How the peers of a shard behave and how much they may hold: the limits, their defaults and the relations between them.

use std::time::Duration;

use super::answers::RESPONSE_BYTES_EXPECTED;
use super::refusal::RequestRefusal;
use crate::{ACK_TIMEOUT, BlockSize, EXCHANGE_LIFETIME, MAX_TRANSMIT_WAIT};

/// How the peers of a shard behave, and how much they may hold.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// The largest block of a response, and its size where the client names none: neither with Block2 nor by the size
    /// of its own Block1 blocks. 1,024 bytes and what surrounds them have to fit one datagram of the path.
    pub block_max: BlockSize,
    /// After this long without [`super::Peer::respond`] an empty acknowledgement goes out and the answer becomes a
    /// separate response. Below ACK_TIMEOUT, so that the client does not send its request again.
    pub acknowledge_after: Duration,
    /// An upload without a new block for this long is forgotten. A client may count on EXCHANGE_LIFETIME: "Servers can fully
    /// expect to be free to discard any partial request body" after it (RFC 7959 §2.5), and a block that nobody acknowledged
    /// may come again in a new exchange after MAX_TRANSMIT_WAIT.
    pub upload_idle_max: Duration,
    /// Uploads of one peer at a time; one more drops the oldest. A client has reason for two at most: the one it gave up
    /// and the one it does (RFC 9175 §3.5.2).
    pub uploads_per_peer_max: usize,
    /// Bytes that all uploads of the shard hold at most, and one owner half of them; a first block above it is answered with
    /// 5.03.
    pub upload_bytes_total_max: usize,
    /// Requests remembered for one peer, pending ones included. One more drops the oldest whose answer was sent to its end and can be had
    /// again; where there is none, it is answered with 5.03.
    pub exchanges_per_peer_max: usize,
    /// Bytes that all kept responses of the shard hold at most, and one owner half of them. Above it those make room that
    /// nobody needs; where there are none, a request whose outcome would have to be kept is answered with 5.03.
    pub response_bytes_total_max: usize,
    /// Bytes that the shard holds at most for exchanges, open uploads and known messages beside all bodies, and one owner half of them.
    /// Above it a request that would have to be remembered, or the first block of one, is answered with 5.03. One that has begun has its
    /// bytes; its peer knows fewer of its latest messages then, three at least.
    pub exchange_bytes_total_max: usize,
    /// Max-Age of these 5.03, in seconds, at least 1.
    pub full_max_age: u32,
    /// The diagnostic payload of a refusal by the message layer; at most [`super::Response::DIAGNOSTIC_BYTES_MAX`] of it is sent.
    pub diagnose: fn(RequestRefusal) -> &'static str,
}

impl Default for Config {
    /// For one shard of a server that enrols hundreds of devices a second.
    fn default() -> Config {
        Config {
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

/// Half of ACK_TIMEOUT: the other half is for the way of the acknowledgement.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(1);
const UPLOAD_IDLE_MAX: Duration = EXCHANGE_LIFETIME;
/// 65,536 uploads of 512 bytes at a time; an upload takes a second or two, so that this is far above what a shard signs.
const UPLOAD_BYTES_TOTAL_MAX: usize = 32 << 20;
/// An enrolment, its predecessor under another message id, `/crts`, discovery, and as many again.
const EXCHANGES_PER_PEER_MAX: usize = 8;
/// About 130,000 certificates of 500 bytes. They are needed for MAX_TRANSMIT_WAIT at least: 1,400 enrolments a second, if no
/// session closes first.
const RESPONSE_BYTES_TOTAL_MAX: usize = 64 << 20;
/// About 420,000 enrolments of the last EXCHANGE_LIFETIME: more than leave room for their answers, see below. Beside one owner that took its
/// half first there are 210,000.
const EXCHANGE_BYTES_TOTAL_MAX: usize = 256 << 20;
/// What an exchange, or the upload that becomes one, counts beside its bodies: itself, and its places among the answers of the shard.
pub(super) const EXCHANGE_BYTES: usize = 512;
/// An enrolment in blocks of 64 bytes.
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

/// Our own rule: no upload lives longer than this, however many blocks keep coming. One without a new block ends at `upload_idle_max`, and not
/// before it: the client's time counts from "the most recent block" (RFC 7959 §2.5), so that a slow one may take longer in all.
pub(super) const UPLOAD_LIFETIME_MAX: Duration = Duration::from_secs(2 * EXCHANGE_LIFETIME.as_secs());
