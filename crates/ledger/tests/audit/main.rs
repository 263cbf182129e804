//! The audit of a ledger: what it records, and that whatever is changed or removed later is found (E38).
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod chain;
mod checkpoints;
mod pruning;
mod records;
mod support;
