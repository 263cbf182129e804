//! What the benchmarks run: the server's side of an enrolment, alone.
//!
//! A device and a server, both real and both deterministic, enrol once, and every datagram of the device is kept. A fresh server from the same seed then
//! takes those datagrams again: it draws the same randomness, so that the device's side of the handshake still fits, and what is measured is the server
//! and its authority, without a client, a link or a socket.
//!
//! The floor of an enrolment is a program of its own, `src/bin/floor.rs`.

mod recording;
mod shard;

pub use recording::{Case, Recording};
pub use shard::{Issuance, Replay};
