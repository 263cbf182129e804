//! Numbers and durations as people write and read them.

use std::fmt;
use std::time::Duration;

/// For ratios and display: numbers above 2^53 lose digits.
#[allow(clippy::cast_precision_loss, reason = "a ratio for a table; counts stay far below 2^53")]
pub(crate) fn float(n: u64) -> f64 {
    n as f64
}

/// Microseconds, shown in a fitting unit.
pub(crate) struct Micros(pub(crate) u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = float(self.0);
        match self.0 {
            0..1_000 => write!(f, "{} us", self.0),
            1_000..10_000 => write!(f, "{:.2} ms", us / 1e3),
            10_000..1_000_000 => write!(f, "{:.0} ms", us / 1e3),
            _ => write!(f, "{:.1} s", us / 1e6),
        }
    }
}

/// A duration as people write it: `250ms`, `90s`, `10m`, `24h`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spell(pub(crate) Duration);

impl fmt::Display for Spell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match ms {
            _ if !ms.is_multiple_of(1_000) => write!(f, "{ms}ms"),
            _ if !ms.is_multiple_of(60_000) || ms == 0 => write!(f, "{}s", ms / 1_000),
            _ if !ms.is_multiple_of(3_600_000) => write!(f, "{}m", ms / 60_000),
            _ => write!(f, "{}h", ms / 3_600_000),
        }
    }
}

/// A duration such as `250ms`, `30s`, `5m`, `24h` or `2d`.
pub(crate) fn read_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write 250ms, 30s, 5m, 24h or 2d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let (_, milliseconds) = units.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (text, ms) in [("250ms", 250), ("90s", 90_000), ("10m", 600_000), ("24h", 86_400_000), ("0s", 0)] {
            assert_eq!(read_duration(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(Spell(Duration::from_millis(ms)).to_string(), text);
        }
        assert_eq!(read_duration("2d").unwrap(), Duration::from_secs(172_800));
        for wrong in ["", "s", "10", "1.5s", "-1s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert!(read_duration(wrong).unwrap_err().contains("250ms"), "{wrong}");
        }
    }

    #[test]
    fn times_have_fitting_units() {
        let shown = [7, 900, 1_500, 20_000, 2_500_000].map(|us| Micros(us).to_string());
        assert_eq!(shown, ["7 us", "900 us", "1.50 ms", "20 ms", "2.5 s"]);
    }
}
