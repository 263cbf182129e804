//! The server's side of an enrolment, which the benchmarks measure alone.
//!
//! A real device and a real server, both deterministic, enrol once, and every datagram of the device is recorded. A fresh server from the same seed then
//! receives those datagrams again: it draws the same randomness, so that the recorded handshake still matches. The measurement covers the server and its
//! authority, without a client, a link or a socket.
//!
//! The floor of an enrolment is measured by a separate program, `src/bin/floor.rs`.

mod ledger_batch;
mod ledger_rows;
mod recording;
mod shard;

pub use ledger_batch::LedgerBatch;
pub use ledger_rows::{Fleet, IssuanceRows};
pub use recording::{Case, Recording};
pub use shard::{Issuance, Replay};
