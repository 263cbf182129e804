//! Time, which every call takes as an argument: this crate reads no clock.

use std::time::Instant;

pub use rustls_pki_types::UnixTime;

/// The time of one turn of the shell: read once, handed to every `handle_*`.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back; deadlines are measured with it.
    pub mono: Instant,
    /// Calendar time; certificates and cookie periods are measured with it.
    pub utc: UnixTime,
}
