//! Conditions on the figures of a report: `p99 > 2s`, `failed < 0.1%`.
//!
//! ```text
//! criterion = metric ( ">" | ">=" | "<" | "<=" ) value
//! metric    = [ stage "." ] ( "p50" | "p90" | "p99" | "p999" | "max" | "mean" )     value: a duration, such as 250ms or 2s
//!           | "failed" | "later" | "repeated"                                      value: a share, such as 0.1%, or a number
//!           | "rate"                                                               value: a number: devices done per second
//! stage     = "handshake" | "crts" | "att" | "enrol" | "skg" | "skc" | "renew" | "ren" | "total" | "send_lag"
//! ```
//!
//! Without a stage a percentile is that of `total`. It ranks the devices that gave up in this stage (of `total`, in any) beside the durations, above every
//! limit: a server that answers half of the devices fast and the others never has no p99. Shares of `failed` are of the devices that ended, those of `later` (answers 5.03 and 4.29) and
//! `repeated` (attempts) of the devices that started, and may be above 100 %. Several criteria are separated by commas. What no run or every run meets, such
//! as `failed > 150%`, is refused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::number::{Micros, float};
use crate::report::{CriterionRow, LoadReport, PercentilesRow};
use crate::stats::MeasuredStage;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Criterion {
    text: String,
    metric: Metric,
    comparison: Comparison,
    /// In the unit of the metric: microseconds, a share, or a count.
    limit: f64,
    as_share: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Metric {
    Percentile { stage: String, which: &'static str },
    Failed,
    Later,
    Repeated,
    Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
}

/// Two characters before one, so that `>=` is not read as `>`.
const COMPARISONS: [(&str, Comparison); 4] =
    [(">=", Comparison::AtLeast), ("<=", Comparison::AtMost), (">", Comparison::Above), ("<", Comparison::Below)];

const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p999", "max", "mean"];

/// The name of the generator's own delay.
const SEND_LAG: &str = "send_lag";

impl FromStr for Criterion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let split = COMPARISONS.into_iter().find_map(|(sign, comparison)| {
            text.split_once(sign).map(|(metric, limit)| (metric.trim(), comparison, limit.trim()))
        });
        let (metric, comparison, limit) = split.ok_or_else(|| {
            format!("`{text}` compares nothing: write a metric, >, >=, < or <=, and a value, as in p99 > 2s")
        })?;
        let metric = read_metric(metric)?;
        let as_share = limit.ends_with('%');
        let limit = match &metric {
            Metric::Percentile { .. } => read_duration(limit)?,
            Metric::Failed | Metric::Later | Metric::Repeated if as_share => number(limit.trim_end_matches('%'))
                .map(|percent| percent / 100.0)
                .ok_or_else(|| wrong(limit, "0.1%"))?,
            Metric::Failed | Metric::Later | Metric::Repeated => {
                number(limit).ok_or_else(|| wrong(limit, "0.1%, or a number"))?
            }
            Metric::Rate => number(limit).ok_or_else(|| wrong(limit, "100 (devices per second)"))?,
        };
        let criterion = Self { text: text.to_owned(), metric, comparison, limit, as_share };
        if criterion.is_constant() {
            return Err(format!(
                "`{text}` is the same of every run: write a limit that figures can pass, from 0 up, and 100% at most for `failed`"
            ));
        }
        Ok(criterion)
    }
}

fn wrong(found: &str, expected: &str) -> String {
    format!("`{found}` is not a value of this metric: write {expected}")
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0)
}

fn read_metric(name: &str) -> Result<Metric, String> {
    let (stage, which) = name.rsplit_once('.').unwrap_or(("total", name));
    let known = |stage: &str| stage == SEND_LAG || MeasuredStage::named(stage).is_some();
    if let Some(which) = PERCENTILES.into_iter().find(|percentile| *percentile == which) {
        if known(stage) {
            return Ok(Metric::Percentile { stage: stage.to_owned(), which });
        }
        let stages: Vec<_> = MeasuredStage::ALL.map(MeasuredStage::name).into_iter().chain([SEND_LAG]).collect();
        return Err(format!("`{stage}` is not a stage: expected one of {}", stages.join(", ")));
    }
    match name {
        "failed" => Ok(Metric::Failed),
        "later" => Ok(Metric::Later),
        "repeated" => Ok(Metric::Repeated),
        "rate" => Ok(Metric::Rate),
        _ => Err(format!(
            "`{name}` is not a metric: expected failed, later, repeated, rate, or {} of a stage, as in handshake.p99",
            PERCENTILES.join(", ")
        )),
    }
}

fn read_duration(text: &str) -> Result<f64, String> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
    let found = units.into_iter().find_map(|(unit, us)| text.strip_suffix(unit).and_then(number).map(|n| n * us));
    found.ok_or_else(|| wrong(text, "250ms or 2s"))
}

/// Reads several criteria, separated by commas.
///
/// # Errors
/// What is wrong with the first one that cannot be read.
pub fn criteria(text: &str) -> Result<Vec<Criterion>, String> {
    text.split(',').map(str::parse).collect()
}

impl fmt::Display for Criterion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A criterion beside what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The figure, as people read it; of nothing measured, that.
    pub value: String,
    /// Whether the condition holds; `None` if nothing was measured.
    pub holds: Option<bool>,
}

impl Criterion {
    /// Whether it holds of every report, or of none: no figure is below 0, and no more devices fail than end.
    fn is_constant(&self) -> bool {
        let most = if self.as_share && self.metric == Metric::Failed { 1.0 } else { f64::INFINITY };
        match self.comparison {
            Comparison::Above | Comparison::AtMost => self.limit >= most,
            Comparison::AtLeast | Comparison::Below => self.limit <= 0.0 || self.limit > most,
        }
    }

    /// Whether it holds of a report.
    #[must_use]
    pub fn judge(&self, report: &LoadReport) -> Judged {
        let Some(measured) = self.measure(report) else {
            return Judged { value: "nothing was measured".to_owned(), holds: None };
        };
        let holds = match self.comparison {
            Comparison::Above => measured > self.limit,
            Comparison::AtLeast => measured >= self.limit,
            Comparison::Below => measured < self.limit,
            Comparison::AtMost => measured <= self.limit,
        };
        Judged { value: self.show(measured), holds: Some(holds) }
    }

    /// As a condition under which a run fails: one of which nothing was measured fails it too.
    #[must_use]
    pub fn as_failure(&self, report: &LoadReport) -> CriterionRow {
        let Judged { value, holds } = self.judge(report);
        CriterionRow { criterion: self.text.clone(), value, met: holds.unwrap_or(true) }
    }

    /// As a condition under which a run is good: one of which nothing was measured is not.
    #[must_use]
    pub fn is_kept(&self, report: &LoadReport) -> bool {
        self.judge(report).holds.unwrap_or(false)
    }

    fn measure(&self, report: &LoadReport) -> Option<f64> {
        let of = |count: u64, whole: u64| match (self.as_share, whole) {
            (true, 0) => None,
            (true, whole) => Some(float(count) / float(whole)),
            (false, _) => Some(float(count)),
        };
        match &self.metric {
            Metric::Percentile { stage, which } => {
                if stage == SEND_LAG {
                    let lag = &report.generator.send_lag;
                    return (lag.count > 0).then(|| float(percentile(lag, which)));
                }
                let row = report.stages.iter().find(|row| row.stage == *stage)?;
                let whole = row.took.count + row.failed;
                match row.failed {
                    _ if whole == 0 => None,
                    0 => Some(float(percentile(&row.took, which))),
                    _ => Some(share_of(which).map_or(f64::INFINITY, |share| ranked(report, stage, share, whole))),
                }
            }
            Metric::Failed => of(report.failed, report.failed + report.done),
            Metric::Later => of(report.later_answers, report.started),
            Metric::Repeated => of(report.repeated_attempts, report.started),
            Metric::Rate => (report.seconds > 0.0).then(|| float(report.done) / report.seconds),
        }
    }

    fn show(&self, measured: f64) -> String {
        match &self.metric {
            Metric::Percentile { .. } if measured.is_infinite() => "a device that failed".to_owned(),
            Metric::Percentile { .. } => {
                let us = Duration::try_from_secs_f64(measured / 1e6).unwrap_or(Duration::MAX).as_micros();
                Micros(u64::try_from(us).unwrap_or(u64::MAX)).to_string()
            }
            Metric::Rate => format!("{measured:.1}/s"),
            _ if self.as_share => format!("{:.2} %", measured * 100.0),
            _ => format!("{measured:.0}"),
        }
    }
}

fn percentile(row: &PercentilesRow, which: &str) -> u64 {
    match which {
        "p50" => row.p50_us,
        "p90" => row.p90_us,
        "p99" => row.p99_us,
        "p999" => row.p999_us,
        "mean" => row.mean_us,
        _ => row.max_us,
    }
}

/// The share of devices below a percentile; none of the largest and of the mean, which are beyond every limit as soon as one device failed.
fn share_of(which: &str) -> Option<f64> {
    match which {
        "p50" => Some(0.5),
        "p90" => Some(0.9),
        "p99" => Some(0.99),
        "p999" => Some(0.999),
        _ => None,
    }
}

/// The duration at this share of `whole` devices, of which those without a duration come last.
fn ranked(report: &LoadReport, stage: &str, share: f64, whole: u64) -> f64 {
    let buckets = report.histograms.iter().find(|row| row.stage == stage).map_or(&[][..], |row| &row.buckets);
    let rank = (share * float(whole)).ceil().max(1.0);
    let mut seen = 0;
    let reached = buckets.iter().find(|(_, count)| {
        seen += count;
        float(seen) >= rank
    });
    reached.map_or(f64::INFINITY, |(duration, _)| float(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Arrivals;
    use crate::report::tests::report;

    fn holds(text: &str) -> Option<bool> {
        // 3 of 4 devices took 2.5 s, 1 failed, in 2 s; handshakes took 900 us.
        text.parse::<Criterion>().unwrap().judge(&report(Arrivals::Rate(100.0))).holds
    }

    #[test]
    fn criteria_compare_what_they_name() {
        for (text, wanted) in [
            ("p99 > 2s", true),
            ("p99<2s", false),
            ("total.p50 >= 2499ms", true),
            ("handshake.max <= 901us", true),
            ("handshake.mean < 0.9ms", false),
            ("send_lag.p99 < 10ms", true),
            ("failed > 24.9%", true),
            ("failed >= 25%", true),
            ("failed > 1", false),
            ("failed < 2", true),
            ("later < 0.1%", true),
            ("repeated <= 0", true),
            ("p99 > 60m", true),
            ("p99 < 60m", false),
            ("p50 < 3s", true),
            ("p90 <= 60m", false),
            ("max >= 60m", true),
            ("mean >= 60m", true),
            ("enrol.p50 > 60m", true),
            ("handshake.p99 < 1s", true),
            ("rate > 1.4", true),
            ("rate >= 1.6", false),
        ] {
            assert_eq!(holds(text), Some(wanted), "{text}");
        }
    }

    #[test]
    fn what_was_not_measured_fails_a_run_and_keeps_no_promise() {
        let report = report(Arrivals::Rate(100.0));
        for text in ["skg.p99 > 2s", "skg.p99 < 2s"] {
            let criterion: Criterion = text.parse().unwrap();
            assert_eq!(criterion.judge(&report).holds, None);
            assert!(criterion.as_failure(&report).met && !criterion.is_kept(&report), "{text}");
        }
        let row = "p99 > 2s".parse::<Criterion>().unwrap().as_failure(&report);
        assert_eq!((row.criterion.as_str(), row.value.as_str(), row.met), ("p99 > 2s", "a device that failed", true));
        let row = "p50 > 2s".parse::<Criterion>().unwrap().as_failure(&report);
        assert_eq!((row.criterion.as_str(), row.value.as_str(), row.met), ("p50 > 2s", "2.5 s", true));
    }

    #[test]
    fn what_cannot_be_read_says_how_to_write_it() {
        for (text, word) in [
            ("p99", "p99 > 2s"),
            ("p99 = 2s", "p99 > 2s"),
            ("p98 > 2s", "p50, p90, p99"),
            ("sen.p99 > 2s", "enrol"),
            ("p99 > 2", "250ms"),
            ("p99 > -2s", "250ms"),
            ("p99 > 2%", "250ms"),
            ("failed > many", "0.1%"),
            ("failed > NaN", "0.1%"),
            ("rate > 5%", "100"),
            ("failed > 150%", "100% at most"),
            ("failed > 100%", "100% at most"),
            ("failed <= 100%", "100% at most"),
            ("failed < 150%", "100% at most"),
            ("p99 < 0s", "from 0 up"),
            ("rate >= 0", "from 0 up"),
            ("", "p99 > 2s"),
        ] {
            let said = text.parse::<Criterion>().unwrap_err();
            assert!(said.contains(word), "{text}: {said}");
        }
        assert_eq!(criteria("p99 < 2s, failed < 0.1%").unwrap().len(), 2);
        assert!(criteria("p99 < 2s,").is_err());
        for text in ["failed >= 100%", "failed < 100%", "repeated > 150%", "later > 0%", "rate > 0", "p99 > 0s"] {
            assert!(text.parse::<Criterion>().is_ok(), "{text}");
        }
    }
}
