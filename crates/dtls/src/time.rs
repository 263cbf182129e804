//! Time, which every call takes as an argument: this crate reads no clock.

use std::time::Instant;

pub use rustls_pki_types::UnixTime;

/// The time of one turn of the shell: read once, passed to every `handle_*`.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic time, for deadlines.
    pub mono: Instant,
    /// Calendar time, for certificates and cookie periods.
    pub utc: UnixTime,
}
