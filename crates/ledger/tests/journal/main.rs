//! The journal: what is in it, what a start does when it and the ledger differ, and what a restored ledger gets back from it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of a shell: files are read and changed")]

#[allow(dead_code, reason = "several tests share it")]
#[path = "../common/maker.rs"]
mod maker;
#[path = "../power/sample.rs"]
mod sample;

mod relayed;
mod restores;
mod stage;
mod starts;
mod world;
