//! The handshake of DTLS 1.2 (RFC 6347 §4.2), both ends of it.
//!
//! `conversation` is what the ends share: fragments become messages, flights go out and are repeated. `server` and `client` hold the
//! states. A handshake is driven by its owner, the endpoint of either end, and yields what a session is made of. It knows nothing of
//! tables, keys of cookies or established sessions.

pub(crate) mod advance;
mod agreed;
pub(crate) mod client;
pub(crate) mod conversation;
mod datagram_size;
mod early;
pub(crate) mod established;
mod flight;
mod proof;
pub(crate) mod public_key;
pub(crate) mod reassembly;
pub(crate) mod server;
mod terms;
mod timer;
mod transcript;
