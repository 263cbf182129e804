//! Both sides of an enrolment, each of which the benchmarks measure alone.
//!
//! A real device and a real server, both deterministic, enrol once, and every datagram is recorded. A fresh server from the same seed then receives the
//! device's datagrams again: it draws the same randomness, so that the recorded handshake still matches. The measurement covers the server and its
//! authority, without a client, a link or a socket. A fresh device receives the server's datagrams in the same way.
//!
//! The floor of an enrolment is measured by a separate program, `src/bin/floor.rs`.

mod arithmetic;
mod block_upload;
mod case;
mod coap_message;
mod cpu;
mod device;
mod drag;
mod issuance_steps;
mod key_delivery_steps;
mod ledger_batch;
mod ledger_rows;
mod memory_batch;
mod record_session;
mod recording;
mod shard;
mod traced_shards;
mod warm;

pub use arithmetic::Arithmetic;
pub use block_upload::BlockUpload;
pub use case::{Case, SUITES};
pub use coap_message::CoapMessages;
pub use cpu::cpu_microseconds;
pub use device::ClientReplay;
pub use drag::{Drag, DraggedStep};
pub use issuance_steps::IssuanceSteps;
pub use key_delivery_steps::{Delivery, KeyDeliverySteps};
pub use ledger_batch::LedgerBatch;
pub use ledger_rows::{Fleet, IssuanceRows};
pub use memory_batch::MemoryBatch;
pub use record_session::RecordSession;
pub use recording::Recording;
pub use shard::{Issuance, Replay};
pub use traced_shards::{ShardMarks, TracedShards, shard_marks};
pub use warm::{WarmLoad, WarmRecording, WarmReplay};
