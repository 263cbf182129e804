//! Time as a column has it.

use std::time::Duration;

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970.
pub(crate) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// The time of a column.
pub(crate) fn time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// As an operator reads it and can type it: RFC 3339, in UTC.
pub(crate) fn rfc3339(at: UnixTime) -> String {
    let text = OffsetDateTime::from_unix_timestamp(seconds(at)).ok().and_then(|at| at.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("{} seconds after 1970", at.as_secs()))
}
