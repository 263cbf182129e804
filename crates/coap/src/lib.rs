//! CoAP messages, block-wise transfer and exchanges (RFC 7252, 7959, 9175), sans-I/O.
//!
//! What it is: the codec ([`Message`] as a checked view, [`Encoder`] into a caller's buffer, [`multipart`], [`uri`]), the server side of one
//! association ([`server::Peer`]) and the client side of one request ([`client::Exchange`]).
//!
//! What it is not: a transport. It knows no DTLS, no EST, no socket, no clock and no randomness; the caller hands in
//! whole decrypted datagrams, the time of the turn and, at construction, a random number.
//!
//! `est` drives it: it keeps one `Peer` beside each DTLS session of a shard and one `Exchange` in its client.
//!
//! # Where there was a choice
//!
//! - C02: a copy of a non-confirmable request is ignored while its fingerprint is among the latest 128 messages of its
//!   peer, which are forgotten together when no message arrives for EXCHANGE_LIFETIME: one timer for all of them
//!   instead of NON_LIFETIME for each. This loses nothing, since a new request differs in its message id or its bytes.
//! - C03, C43: a duplicate gets the outcome for EXCHANGE_LIFETIME, with one exception: when the shard has no room for
//!   kept answers, it evicts answers that were fetched completely at least MAX_TRANSMIT_WAIT ago. A duplicate of the
//!   last Block1 of such an answer gets 4.08, and the client sends the whole request again. A request without blocks
//!   gets the same.
//! - C44: the room for open uploads and kept answers is shared among owners (certificates): see `server::Owner`.
//! - C08: a message id that is used again within EXCHANGE_LIFETIME with other bytes is a new request. A retransmission
//!   is identical byte for byte (RFC 7252 §4.2).
//! - C14: a non-confirmable request with an unknown critical option is dropped silently; a reset is allowed but not
//!   required (RFC 7252 §4.3).
//! - C22: a block that arrived before counts as a repeat only if its bytes are the same; otherwise the upload is
//!   dropped.
//! - C32: an abandoned upload is forgotten after EXCHANGE_LIFETIME without a new block, the time that a client may rely
//!   on (RFC 7959 §2.5). Until then, the limit for all uploads together bounds the memory.
//! - C34: later blocks of a GET whose response is computed again are computed again too, without any state (RFC 7959
//!   §2.4). Later blocks of any other response come from the kept response, or are refused.
//! - Only 2.31 and the answer of the handler carry Block1, because in a 4.13 it would ask for smaller blocks (RFC 7959
//!   §2.9.3), and smaller blocks do not make a body smaller.

mod block;
pub mod client;
mod code;
mod encode;
mod format;
pub mod fuzz;
mod hash;
mod length;
mod message;
pub mod multipart;
mod number;
mod outbox;
pub mod server;
mod time;
pub mod uri;

pub use block::{Block, BlockError, BlockSize};
pub use code::{Code, Method};
pub use encode::Encoder;
pub use format::ContentFormat;
pub use message::{FormatError, Kind, Malformed, Message, MessageId, MessageIds, Opt, Options, Token};
pub use number::Number;
pub use outbox::Outbox;
pub use time::{
    ACK_RANDOM_FACTOR_PERMILLE, ACK_TIMEOUT, EXCHANGE_LIFETIME, MAX_RETRANSMIT, MAX_TRANSMIT_SPAN, MAX_TRANSMIT_WAIT,
    NON_LIFETIME,
};
