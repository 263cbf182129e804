//! Retry-After (RFC 9110 §10.2.3): seconds, or a date.

use std::time::{Duration, SystemTime};

use rustls_pki_types::UnixTime;

/// Where the upstream says nothing that can be read: as long as a person takes to notice a request.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
/// A device that comes back sooner gets the same answer again.
const WAIT_MIN: Duration = Duration::from_secs(5);
/// Longer than any approval takes. Below it the wait is the upstream's to choose (RFC 7030 §4.2.3), and what the device is told is bounded where it is
/// told. Nobody can shorten what a row of the ledger waits for, so that one senseless number must not lock out its device for the life of the device.
const WAIT_MAX: Duration = Duration::from_secs(90 * 86_400);

/// The wait that the header asks for at the time `at`, within bounds.
#[must_use]
pub fn retry_after(header: Option<&str>, at: UnixTime) -> Duration {
    let wait = header.map(str::trim).and_then(|text| seconds(text).or_else(|| until(text, at)));
    wait.unwrap_or(WAIT_DEFAULT).clamp(WAIT_MIN, WAIT_MAX)
}

fn seconds(text: &str) -> Option<Duration> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number beyond 64 bits is longer than every bound.
    digits.then(|| text.parse().map_or(Duration::MAX, Duration::from_secs))
}

/// RFC 9110 §5.6.7: "A recipient that parses a timestamp value in an HTTP field MUST accept all three HTTP-date formats."
fn until(text: &str, at: UnixTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok()?;
    let seconds = date.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Some(Duration::from_secs(seconds.saturating_sub(at.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e42_seconds_and_dates_are_read_and_bounded_both_ways() {
        let at = UnixTime::since_unix_epoch(Duration::from_secs(784_111_777));
        for (header, wait) in [
            (Some("120"), 120),
            (Some(" 90 "), 90),
            (Some("0"), 5),
            (Some("99999999999999999999999"), 90 * 86_400),
            (Some("2592000"), 30 * 86_400),
            (Some("Sun, 06 Nov 1994 08:51:37 GMT"), 120),
            (Some("Sunday, 06-Nov-94 08:51:37 GMT"), 120),
            (Some("Sun Nov  6 08:51:37 1994"), 120),
            (Some("Sun, 06 Nov 1994 08:00:00 GMT"), 5),
            (Some("Sat, 06 Nov 2094 08:51:37 GMT"), 90 * 86_400),
            (Some("Mon, 05 Dec 1994 08:49:37 GMT"), 29 * 86_400),
            (Some("-1"), 300),
            (Some("soon"), 300),
            (Some(""), 300),
            (None, 300),
        ] {
            assert_eq!(retry_after(header, at), Duration::from_secs(wait), "{header:?}");
        }
    }
}
