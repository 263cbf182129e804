//! The clock of a shell: reads the machine's two clocks once and returns both as one `Now`.
//!
//! The pure crates never read a clock. A shell reads it once per turn of its loop and passes the same value to everything that happens in that turn.

use std::time::Instant;

use dtls::Now;
use rustls_pki_types::UnixTime;

/// The machine's monotonic and calendar clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Reads both clocks.
    #[must_use]
    pub fn now(self) -> Now {
        Now { mono: Instant::now(), utc: UnixTime::now() }
    }
}
