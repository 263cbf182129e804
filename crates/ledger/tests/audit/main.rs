//! The audit of a ledger: what it records, and that whatever is changed or removed later is found (E38).
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test of a shell: helpers fail as the tests do, and files are edited"
)]

mod chain;
mod checkpoints;
mod pruning;
mod records;
mod support;
