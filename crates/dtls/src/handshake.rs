//! The handshake of DTLS 1.2 (RFC 6347 §4.2), both ends of it.
//!
//! `conversation` is what both ends share: it turns fragments into messages, and sends and repeats flights. `server` and `client` hold the
//! states. The owner of a handshake, the endpoint of either end, drives it and gets the parts of a session from it. A handshake knows nothing
//! of tables, cookie keys or established sessions.

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
