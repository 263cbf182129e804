//! When a certificate is due for renewal: at a share of its life, and for each device at a moment of its own.

use std::fmt;
use std::str::FromStr;

use pki::{Certificate, UnixTime};

/// Renewals of devices that enrolled together are spread over this part of a life, behind the configured share.
const SPREAD_DIVISOR: u64 = 10;

/// The configured share ends before this part of a life, so that the spread ends with 5 % left for repeats.
const SHARE_MAX_PERCENT: u64 = 85;

/// A share of a certificate's life: `2/3` or `66%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    part: u64,
    whole: u64,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (part, whole) = match text.strip_suffix('%') {
            Some(percent) => (percent, "100"),
            None => text.split_once('/').unwrap_or((text, "")),
        };
        let number = |text: &str| text.parse().ok().filter(|number| (1..=1_000_000).contains(number));
        let (Some(part), Some(whole)) = (number(part), number(whole)) else {
            return Err(format!("`{text}` is not a share: write 2/3 or 66%"));
        };
        if part * 100 > whole * SHARE_MAX_PERCENT {
            return Err(format!("the limit is {SHARE_MAX_PERCENT}%: repeats need time before the certificate expires"));
        }
        Ok(Self { part, whole })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.whole == 100 { write!(f, "{}%", self.part) } else { write!(f, "{}/{}", self.part, self.whole) }
    }
}

/// When the certificate is due: at the share of its life, and a part of the spread later that its digest selects. The moment is the same whenever it is
/// computed, so that a timer that asks every hour renews as evenly as a service that sleeps.
pub(crate) fn due(certificate: &Certificate, share: Share) -> UnixTime {
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.as_secs(), validity.not_after.as_secs());
    let life = u128::from(end.saturating_sub(begin));
    let share = life * u128::from(share.part) / u128::from(share.whole);
    let seconds = share + part_of(certificate, life / u128::from(SPREAD_DIVISOR));
    at(begin.saturating_add(u64::try_from(seconds).unwrap_or(u64::MAX)))
}

/// A moment between two others that the certificate's digest selects.
pub(crate) fn between(certificate: &Certificate, start: UnixTime, end: UnixTime) -> UnixTime {
    let length = end.as_secs().saturating_sub(start.as_secs());
    let part = part_of(certificate, length.into());
    at(start.as_secs().saturating_add(u64::try_from(part).unwrap_or(u64::MAX)))
}

/// A part of `whole`, from zero to almost all of it; digests are uniform.
fn part_of(certificate: &Certificate, whole: u128) -> u128 {
    let digest = certificate.digest();
    let first = digest.as_bytes().iter().take(4).fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte));
    (whole * u128::from(first)) >> u32::BITS
}

/// A time by its seconds since 1970.
pub(crate) fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use pki::ServerName;

    use super::*;
    use crate::init::Material;

    #[test]
    fn shares_are_fractions_or_percents_and_leave_time() {
        let share = |text: &str| text.parse::<Share>();
        assert_eq!(share("2/3"), Ok(Share { part: 2, whole: 3 }));
        assert_eq!(share("66%"), Ok(Share { part: 66, whole: 100 }));
        for wrong in ["", "2", "0/3", "2/0", "-1/3", "%", "0%", "1e9%", "9/10", "86%", "100%"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
        assert!(share("90%").unwrap_err().contains("85%"));
        assert_eq!(
            (share("2/3").unwrap().to_string(), share("66%").unwrap().to_string()),
            ("2/3".into(), "66%".into())
        );
    }

    #[test]
    fn devices_are_due_at_moments_of_their_own_within_the_spread() {
        let names = [ServerName::try_from("localhost").unwrap()];
        let share: Share = "50%".parse().unwrap();
        let mut moments = std::collections::BTreeSet::new();
        for _ in 0..8 {
            let certificate = Material::make(&names, UnixTime::now()).unwrap().server.certificate;
            let validity = certificate.validity();
            let life = validity.not_after.as_secs() - validity.not_before.as_secs();
            let waited = due(&certificate, share).as_secs() - validity.not_before.as_secs();
            assert!((life / 2..life / 2 + life / 10).contains(&waited), "{waited} of {life}");
            assert_eq!(due(&certificate, share).as_secs() - validity.not_before.as_secs(), waited, "always the same");
            moments.insert(waited);
            let within = between(&certificate, at(100), at(200));
            assert!((100..200).contains(&within.as_secs()));
            assert_eq!(between(&certificate, at(100), at(100)), at(100));
        }
        assert!(moments.len() > 4, "{moments:?}");
    }
}
