//! Stories of the message layer, one file per failure mode, and the harness they share.
#![allow(clippy::disallowed_methods, reason = "a test needs one Instant to count from; all time after it is virtual")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod client;
mod codec;
mod duplicates;
mod harness;
mod late;
mod memory;
mod options;
mod pair;
mod properties;
mod responses;
mod room;
mod separate;
mod table;
mod uploads;
