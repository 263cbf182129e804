//! What every shell shares: UDP in batches, the clock, system randomness, captures, the driver of one device, and a bad link as a proxy.
//!
//! The daemon, the load generator and the device verbs of the command line stand on this crate. It is where the outside world enters: the pure
//! crates below it take `Now`, `Random` and bytes as arguments, and this one produces them. It knows no configuration file and prints nothing.
#![allow(clippy::disallowed_methods, reason = "a shell: clocks, sockets, files and system randomness are its business")]

pub mod blocking_client;
pub mod capture;
pub mod clock;
pub mod proxy;
pub mod random;
pub mod terminal;
pub mod udp;

pub use clock::Clock;
pub use random::SystemRandom;
pub use terminal::Terminal;
