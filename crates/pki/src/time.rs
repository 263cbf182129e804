//! Time in certificates: UTCTime and GeneralizedTime as RFC 5280 §4.1.2.5 restricts them, to and from seconds since 1970.
//!
//! It reads no clock: every "now" is an argument.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use crate::der::{DerError, Tag};

/// 99991231235959Z: "to indicate that a certificate has no well-defined expiration date" (RFC 5280 §4.1.2.5), as IDevIDs do.
pub const NO_WELL_DEFINED_EXPIRATION: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(253_402_300_799));

/// 2050-01-01T00:00:00Z: from here on certificates carry GeneralizedTime (RFC 5280 §4.1.2.5).
const GENERALIZED_TIME_FROM: u64 = 2_524_608_000;

/// A validity period; both ends are part of it (RFC 5280 §4.1.2.5: "from notBefore through notAfter, inclusive").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// The first second in which the certificate is valid.
    pub not_before: UnixTime,
    /// The last second in which the certificate is valid.
    pub not_after: UnixTime,
}

impl Validity {
    /// Whether `utc` is inside the period.
    #[must_use]
    pub fn contains(&self, utc: UnixTime) -> bool {
        self.not_before <= utc && utc <= self.not_after
    }

    /// The length of the period in seconds; an inclusive period of one instant lasts one second.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        (self.not_after.as_secs().saturating_add(1)).saturating_sub(self.not_before.as_secs())
    }
}

/// Parses the contents of a UTCTime or GeneralizedTime. They must have the only form that DER and RFC 5280 §4.1.2.5
/// allow: seconds present, no fraction, `Z`. Times before 1970 are [`DerError::Time`]: no certificate of ours or of a
/// device's manufacturer is that old.
pub(crate) fn parse(tag: Tag, contents: &[u8]) -> Result<UnixTime, DerError> {
    let (year, rest) = match (tag, contents.len()) {
        (Tag::UTC_TIME, 13) => {
            let year = two_digits(contents, 0)?;
            // RFC 5280 §4.1.2.5.1: "Where YY is greater than or equal to 50, the year SHALL be interpreted as 19YY".
            (if year >= 50 { 1900 + year } else { 2000 + year }, 2)
        }
        (Tag::GENERALIZED_TIME, 15) => (two_digits(contents, 0)? * 100 + two_digits(contents, 2)?, 4),
        _ => return Err(DerError::Time),
    };
    let [month, day, hour, minute, second] = {
        let mut fields = [0; 5];
        for (index, field) in fields.iter_mut().enumerate() {
            *field = two_digits(contents, rest + 2 * index)?;
        }
        fields
    };
    if contents[contents.len() - 1] != b'Z' {
        return Err(DerError::Time);
    }
    let in_range = (1..=12).contains(&month)
        && (1..=days_in_month(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 59;
    if !in_range || year < 1970 {
        return Err(DerError::Time);
    }
    let seconds = days_from_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Ok(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// The tag and contents for `utc`: UTCTime through 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5). A time after
/// the year 9999, which neither can express, becomes 99991231235959Z.
pub(crate) fn encode(utc: UnixTime) -> EncodedTime {
    let seconds = utc.as_secs().min(NO_WELL_DEFINED_EXPIRATION.as_secs());
    let (year, month, day) = date_from_days(seconds / 86_400);
    let in_day = seconds % 86_400;
    let fields = [year / 100, year % 100, month, day, in_day / 3_600, in_day / 60 % 60, in_day % 60];
    let mut out = EncodedTime { tag: Tag::GENERALIZED_TIME, bytes: [0; 15], start: 0 };
    for (index, field) in fields.into_iter().enumerate() {
        out.bytes[2 * index] = digit(field / 10);
        out.bytes[2 * index + 1] = digit(field % 10);
    }
    out.bytes[14] = b'Z';
    if seconds < GENERALIZED_TIME_FROM {
        out.tag = Tag::UTC_TIME;
        out.start = 2;
    }
    out
}

/// A time ready to be written.
pub(crate) struct EncodedTime {
    /// UTCTime or GeneralizedTime.
    pub(crate) tag: Tag,
    bytes: [u8; 15],
    start: usize,
}

impl EncodedTime {
    /// The content octets.
    pub(crate) fn contents(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

fn digit(value: u64) -> u8 {
    b"0123456789"[usize::try_from(value % 10).unwrap_or(0)]
}

fn two_digits(contents: &[u8], at: usize) -> Result<u64, DerError> {
    match contents.get(at..at + 2) {
        Some(&[a @ b'0'..=b'9', b @ b'0'..=b'9']) => Ok(u64::from(a - b'0') * 10 + u64::from(b - b'0')),
        _ => Err(DerError::Time),
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar, for years from 1970 on. The year is counted from March, so
/// that the leap day is its last one and the months follow the pattern 153 days in 5.
fn days_from_1970(year: u64, month: u64, day: u64) -> u64 {
    let march_year = if month > 2 { year } else { year - 1 };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    march_year * 365 + march_year / 4 - march_year / 100 + march_year / 400 + day_of_year - DAYS_TO_1970
}

/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

/// The inverse of [`days_from_1970`]: year, month, day.
fn date_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let era = days / 146_097; // days in 400 years
    let in_era = days % 146_097;
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn e12_no_well_defined_expiration_is_a_time_like_any_other() {
        assert_eq!(parse(Tag::GENERALIZED_TIME, b"99991231235959Z"), Ok(NO_WELL_DEFINED_EXPIRATION));
        let encoded = encode(NO_WELL_DEFINED_EXPIRATION);
        assert_eq!((encoded.tag, encoded.contents()), (Tag::GENERALIZED_TIME, &b"99991231235959Z"[..]));
        assert_eq!(encode(at(u64::MAX)).contents(), b"99991231235959Z");
    }

    #[test]
    fn e31_times_switch_from_utc_time_to_generalized_time_at_2050() {
        let last = encode(at(GENERALIZED_TIME_FROM - 1));
        assert_eq!((last.tag, last.contents()), (Tag::UTC_TIME, &b"491231235959Z"[..]));
        let first = encode(at(GENERALIZED_TIME_FROM));
        assert_eq!((first.tag, first.contents()), (Tag::GENERALIZED_TIME, &b"20500101000000Z"[..]));
        // "Where YY is greater than or equal to 50, the year SHALL be interpreted as 19YY."
        assert_eq!(parse(Tag::UTC_TIME, b"491231235959Z"), Ok(at(GENERALIZED_TIME_FROM - 1)));
        assert_eq!(parse(Tag::UTC_TIME, b"700101000000Z"), Ok(at(0)));
        assert_eq!(parse(Tag::UTC_TIME, b"500101000000Z"), Err(DerError::Time), "1950 is before our time");
    }

    #[test]
    fn only_the_one_form_of_der_is_a_time() {
        for bad in [
            &b"2401010000Z"[..],
            b"240101000000+0000",
            b"240101000000z",
            b"240230000000Z",
            b"241301000000Z",
            b"240101240000Z",
            b"240101006000Z",
            b"240101000060Z",
            b"2401010000 0Z",
            b"",
        ] {
            assert_eq!(parse(Tag::UTC_TIME, bad), Err(DerError::Time), "{}", String::from_utf8_lossy(bad));
        }
        for bad in [&b"20240101000000.5Z"[..], b"20240101000000", b"20230229000000Z", b"19691231235959Z"] {
            assert_eq!(parse(Tag::GENERALIZED_TIME, bad), Err(DerError::Time), "{}", String::from_utf8_lossy(bad));
        }
        assert!(parse(Tag::UTC_TIME, b"240229235959Z").is_ok(), "2024 is a leap year");
    }

    #[test]
    fn a_validity_counts_both_of_its_ends() {
        let day = Validity { not_before: at(0), not_after: at(86_399) };
        assert_eq!(day.seconds(), 86_400);
        assert!(day.contains(at(0)) && day.contains(at(86_399)) && !day.contains(at(86_400)));
    }

    proptest::proptest! {
        #[test]
        fn times_survive_encoding(seconds in 0..=NO_WELL_DEFINED_EXPIRATION.as_secs()) {
            let encoded = encode(at(seconds));
            proptest::prop_assert_eq!(parse(encoded.tag, encoded.contents()), Ok(at(seconds)));
            let there = time::OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).unwrap()).unwrap();
            let (year, month, day) = date_from_days(seconds / 86_400);
            proptest::prop_assert_eq!((year, month, day), (u64::try_from(there.year()).unwrap(), u64::from(u8::from(there.month())), u64::from(there.day())));
        }
    }
}
