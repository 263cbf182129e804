//! The enrolment daemon as a library: configuration, shards, pool, metrics, signals.
//!
//! A binary reads a configuration with [`load`](fn@load), starts a server with [`start`] and joins its [`Handle`]. The protocol is `est`'s, the decisions are
//! `authority`'s; here are files, sockets, threads and clocks. Nothing in this crate prints.
//!
//! ```text
//!   Sources ──load──► Loaded ──start──► Handle ──drain──► join
//!      └── ConfigurationFaults        └── warnings, effective values, handshake sizes: `muster check`
//! ```
#![allow(
    clippy::disallowed_methods,
    reason = "a shell: clocks, sockets, files, threads and the environment are its business"
)]

#[cfg(test)]
// The stories' support names the crate as its users do.
extern crate self as server;

pub mod admin;
pub mod config;
mod crl;
pub mod daemon;
mod discovery;
pub mod files;
mod http;
mod linux;
pub mod load;
pub mod logging;
pub mod metrics;
mod panics;
mod rfc3339;
pub mod secret_file;
pub mod shell;
pub mod signals;

pub use config::{ConfigurationFault, ConfigurationFaults, Sources};
pub use daemon::{Drained, Handle, StartOptions, StartupFault, Stopper, start};
pub use load::{Loaded, Warning, load};
