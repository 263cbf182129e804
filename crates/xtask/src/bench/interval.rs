//! The 95 % interval of a mean, and what it says about a promise.
//!
//! Samples are paired ratios: each is taken from one server and from what it is compared with in the same repetition, so that a slow minute of the
//! machine slows both. The interval is Student's, with as many degrees of freedom as there are pairs less one; ratios of one machine spread by a few
//! per cent around their mean, so that a logarithm or a bootstrap would give the same third digit.

use std::fmt;

use serde::Serialize;

/// The quantile of Student's distribution for 95 %, two-sided, by degrees of freedom from 1.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean of several samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Interval {
    pub(super) mean: f64,
    /// The ends of the 95 % interval of the mean. A single sample has an interval without ends.
    pub(super) low: f64,
    pub(super) high: f64,
    /// The lowest and the highest sample.
    pub(super) least: f64,
    pub(super) most: f64,
}

/// What an interval says about an upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Decision {
    Holds,
    Missed,
    NotDecidable,
}

impl Interval {
    /// The interval of at least one sample.
    pub(super) fn of(samples: &[f64]) -> Self {
        let count = float(samples.len());
        let mean = samples.iter().sum::<f64>() / count;
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let Some(freedom) = samples.len().checked_sub(2) else {
            return Self { mean, low: 0.0, high: f64::MAX, least, most };
        };
        let variance = samples.iter().map(|sample| (sample - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let quantile = STUDENT.get(freedom).copied().unwrap_or(1.96);
        let half = quantile * (variance / count).sqrt();
        Self { mean, low: mean - half, high: mean + half, least, most }
    }

    /// Half of the interval.
    pub(super) fn half(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// The distance of the samples, in per cent of the mean.
    pub(super) fn spread_percent(&self) -> f64 {
        (self.most - self.least) / self.mean * 100.0
    }

    pub(super) fn decide(&self, promised: f64) -> Decision {
        if self.high <= promised {
            Decision::Holds
        } else if self.low > promised {
            Decision::Missed
        } else {
            Decision::NotDecidable
        }
    }
}

/// `1.30 (1.26 to 1.33)`, with the precision and the sign that the format asks for.
impl fmt::Display for Interval {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, low, high, .. } = *self;
        let digits = to.precision().unwrap_or(2);
        let number = |of: f64| if to.sign_plus() { format!("{of:+.digits$}") } else { format!("{of:.digits$}") };
        if high == f64::MAX {
            return write!(to, "{} (one sample)", number(mean));
        }
        write!(to, "{} ({} to {})", number(mean), number(low), number(high))
    }
}

impl Decision {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Missed => "missed",
            Self::NotDecidable => "not decidable",
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "the number of repetitions")]
fn float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_student_s() {
        // Ten samples with mean 1.3 and standard deviation 0.05: 2.262 * 0.05 / sqrt(10) = 0.03577.
        let samples = [1.25, 1.35, 1.25, 1.35, 1.25, 1.35, 1.25, 1.35, 1.3, 1.3];
        let interval = Interval::of(&samples);
        let deviation = (8.0 * 0.05_f64.powi(2) / 9.0).sqrt();
        assert!((interval.half() - 2.262 * deviation / 10.0_f64.sqrt()).abs() < 1e-9, "{interval:?}");
        assert!((interval.spread_percent() - 0.1 / 1.3 * 100.0).abs() < 1e-9);
    }

    #[test]
    fn an_interval_is_shown_with_its_ends_if_it_has_any() {
        let interval = Interval { mean: 1.295, low: 1.257, high: 1.333, least: 1.2, most: 1.4 };
        assert_eq!(format!("{interval:.2}"), "1.29 (1.26 to 1.33)");
        assert_eq!(format!("{interval:+.0}"), "+1 (+1 to +1)");
        assert_eq!(format!("{:.1}", Interval::of(&[1.28])), "1.3 (one sample)");
    }

    #[test]
    fn a_promise_within_the_interval_is_not_decidable() {
        let interval = Interval::of(&[1.28, 1.30, 1.32]);
        assert_eq!(interval.decide(1.40), Decision::Holds);
        assert_eq!(interval.decide(1.20), Decision::Missed);
        assert_eq!(interval.decide(1.31), Decision::NotDecidable);
        assert_eq!(Interval::of(&[1.3]).decide(2.0), Decision::NotDecidable);
    }
}
