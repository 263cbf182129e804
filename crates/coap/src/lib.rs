//! CoAP messages, block-wise transfer and exchanges (RFC 7252, 7959, 9175), sans-I/O.
//!
//! What it is: the codec ([`Message`] as a checked view, [`Encoder`] into a caller's buffer), the server side of one
//! association ([`server::Peer`]) and the client side of one request ([`client::Exchange`]).
//!
//! What it is not: a transport. It knows no DTLS, no EST, no socket, no clock and no randomness; the caller hands in
//! whole decrypted datagrams, the time of the turn and, at construction, a random number.
//!
//! Who drives it: `est`, which puts one `Peer` beside each DTLS session of a shard and one `Exchange` into its client.

mod block;
mod code;
mod encode;
mod format;
pub mod fuzz;
mod hash;
mod message;
mod number;
mod outbox;
mod time;

pub mod client;
pub mod server;

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
