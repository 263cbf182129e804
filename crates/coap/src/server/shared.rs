//! What the peers of one shard share: limits, totals, counters, the source of message ids.

use std::time::Duration;

use super::accounts::SharedAccounts;
use super::answers::{Answers, RESPONSE_BYTES_EXPECTED};
use super::exchange::EXCHANGE_BYTES;
use super::{Dropped, Head, Refusal, Response};
use crate::time::Spread;
use crate::{ACK_TIMEOUT, BlockSize, EXCHANGE_LIFETIME, MAX_TRANSMIT_WAIT, MessageIds};

/// Asked on the first block, before anything is gathered: is there such a resource, and how much may its body be?
pub trait Resources {
    /// Judges the head of a request.
    ///
    /// # Errors
    /// The answer that refuses it: 4.04, 4.05, 4.15, 4.06, ...
    fn admit(&self, head: &Head<'_>) -> Result<Admit, Response<'static>>;
}

/// A request may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admit {
    /// The most bytes its body may have; above it 4.13.
    pub body_bytes_max: usize,
    /// What happens to its duplicates.
    pub repeat: Repeat,
}

/// What happens to a duplicate of a request (RFC 7252 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It is idempotent: a duplicate is handed up again and answered with the same bytes.
    Computed,
    /// It is executed once; its outcome is kept for EXCHANGE_LIFETIME. Once its client has fetched it to the end and had
    /// MAX_TRANSMIT_WAIT to ask again, it may make room for others; its duplicates get 4.08 then.
    Remembered,
    /// It is executed once, and its outcome is kept for EXCHANGE_LIFETIME in any case: it cannot be had again, such as a private
    /// key that the server made.
    Irreplaceable,
}

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
    /// The diagnostic payload of a refusal by the message layer; at most [`Response::DIAGNOSTIC_BYTES_MAX`] of it is sent.
    pub diagnose: fn(Refusal) -> &'static str,
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

/// State of all peers of one shard.
#[derive(Debug)]
pub struct Shared {
    pub(super) config: Config,
    pub(super) spread: Spread,
    pub(super) counters: Counters,
    pub(super) uploads: SharedAccounts,
    pub(super) answers: Answers,
    /// What is held beside bodies.
    pub(super) held: SharedAccounts,
    exchanges: u32,
}

impl Shared {
    /// `seed` is a random number: message ids of our own and jitters of retransmissions come from it.
    pub fn new(config: Config, seed: u64) -> Shared {
        Shared {
            config,
            spread: Spread::new(seed),
            counters: Counters::default(),
            uploads: SharedAccounts::default(),
            answers: Answers::default(),
            held: SharedAccounts::default(),
            exchanges: 0,
        }
    }

    /// Another configuration; what is already held above a new limit stays until it expires.
    pub fn set_config(&mut self, config: Config) {
        self.config = config;
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        Counters { answers_evicted: self.answers.evicted(), ..self.counters }
    }

    /// Bytes that uploads hold now.
    pub fn upload_bytes(&self) -> usize {
        self.uploads.lock().total()
    }

    /// Bytes that kept responses hold now, with what pending requests reserve.
    pub fn response_bytes(&self) -> usize {
        self.answers.bytes()
    }

    /// Bytes held now beside bodies: exchanges, open uploads, known messages.
    pub fn exchange_bytes(&self) -> usize {
        self.held.lock().total()
    }

    /// Max-Age of our own 5.03; 0 would ask for a retry at once.
    pub(super) fn full_max_age(&self) -> u32 {
        self.config.full_max_age.max(1)
    }

    /// The response that refuses a request here.
    pub(super) fn refusal(&self, refusal: Refusal) -> Response<'static> {
        let response = Response::error(refusal.code(), (self.config.diagnose)(refusal));
        match refusal {
            Refusal::Full(_) => response.with_max_age(self.full_max_age()),
            _ => response,
        }
    }

    /// The message ids of a peer that begins its first message.
    pub(super) fn fresh_ids(&mut self) -> MessageIds {
        MessageIds::new(self.spread.u16())
    }

    pub(super) fn next_exchange(&mut self) -> super::ExchangeId {
        self.exchanges = self.exchanges.wrapping_add(1);
        super::ExchangeId(self.exchanges)
    }
}

/// What the message layer did, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests handed up.
    pub requests: u64,
    /// Duplicates of remembered requests.
    pub duplicates: u64,
    /// Blocks taken into uploads.
    pub blocks: u64,
    /// Blocks of kept responses sent on request.
    pub continuations: u64,
    /// Empty acknowledgements sent because an answer took long.
    pub separate: u64,
    /// Separate responses sent again.
    pub retransmissions: u64,
    /// Separate responses that nobody acknowledged.
    pub given_up: u64,
    /// Uploads that expired or had to make room.
    pub uploads_dropped: u64,
    /// Kept responses that made room for others.
    pub answers_evicted: u64,
    /// Requests refused here, 5.03 apart.
    pub refused: u64,
    /// Requests refused with 5.03 because a total or a peer was full.
    pub full: u64,
    /// Datagrams dropped as no CoAP or malformed.
    pub malformed: u64,
    /// Messages dropped because they answer nothing or are no requests.
    pub unmatched: u64,
}

impl Counters {
    pub(super) fn refused(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Full(_) => self.full += 1,
            _ => self.refused += 1,
        }
    }

    pub(super) fn dropped(&mut self, dropped: Dropped) {
        match dropped {
            Dropped::NotCoap | Dropped::Malformed(_) => self.malformed += 1,
            Dropped::NotARequest | Dropped::Unmatched => self.unmatched += 1,
            Dropped::BadOption(_) => self.refused += 1,
        }
    }
}
