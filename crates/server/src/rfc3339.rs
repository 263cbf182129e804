//! Times in RFC 3339, for people and programs.

use pki::UnixTime;

/// RFC 3339 in UTC.
pub(crate) fn rfc3339(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let format = &time::format_description::well_known::Rfc3339;
    let formatted = time::OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(format).ok());
    formatted.unwrap_or_else(|| format!("{seconds} s after 1970"))
}
