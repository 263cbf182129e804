//! What every shell shares: UDP in batches, the clock, system randomness, captures, the driver of one device, and a proxy that simulates a bad link.
//!
//! The daemon, the load generator and the device-side verbs of the command line are built on this crate. It is the interface to the outside world:
//! the pure crates below it take `Now`, `Random` and bytes as arguments, and this crate produces them. It reads no configuration file and prints
//! nothing.
#![allow(clippy::disallowed_methods, reason = "a shell: clocks, sockets, files and system randomness are its business")]

pub mod blocking_client;
pub mod capture;
pub mod clock;
pub mod fuzz;
mod linux;
pub mod proxy;
pub mod random;
pub mod terminal;
pub mod udp;

pub use clock::Clock;
pub use random::SystemRandom;
pub use terminal::Terminal;
