//! The journal: what is in it, what a start does when it and the ledger differ, and what a restored ledger gets back from it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests of a shell: files are read and changed")]

#[path = "../power/sample.rs"]
mod sample;

mod restores;
mod stage;
mod starts;
