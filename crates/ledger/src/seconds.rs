//! Time as a column has it.

use std::time::Duration;

use rustls_pki_types::UnixTime;

/// Seconds since 1970.
pub(crate) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The time of a column.
pub(crate) fn time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
