//! The durable record of what was issued, behind [`authority::Ledger`].
//!
//! [`SqliteLedger`] keeps it in one file of SQLite on one machine, with nothing to set up. Its order of steps, its tables and what a crash
//! leaves are described in [`sqlite`].
//!
//! This crate is a shell: it owns files and threads.
#![allow(
    clippy::disallowed_methods,
    reason = "a shell: it owns the ledger's files, and threads that may block on them"
)]

pub mod audit;
pub mod backup;
pub mod export;
mod export_place;
pub mod fault;
pub mod fuzz;
pub mod import;
pub mod journal;
mod json;
pub mod line;
pub mod migrate;
mod paths;
pub mod prune;
mod relay_line;
pub mod resume;
mod seconds;
pub mod serial;
pub mod sqlite;
pub mod verify;

pub use audit::AuditSettings;
pub use fault::OpenFault;
pub use journal::JournalSettings;
pub use sqlite::{LedgerSettings, SqliteLedger};
