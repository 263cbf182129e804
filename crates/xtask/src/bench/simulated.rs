//! What `cargo xtask simulate --overload` found last, for the table of promises.

use anyhow::{Context, Result};

use crate::tree;

pub(crate) const SIMULATED_RESULTS: &str = "crates/sim/results/overload.txt";
/// Of what refusing leaves of the core, as the test of the model asserts.
const OF_LEFT_PERCENT_MIN: f64 = 90.0;
/// The first timer of a client (RFC 6347 §4.2.4.1): a handshake that was begun ends before it.
const HANDSHAKE_SECONDS_MAX: f64 = 1.0;

/// One multiple of the capacity in the newest result.
#[derive(Debug, PartialEq)]
pub(super) struct SimulatedOverload {
    pub(super) of_peak_percent: f64,
    pub(super) of_left_percent: f64,
    pub(super) cut_off: u64,
    pub(super) handshake_p99_s: f64,
    pub(super) total_p99_s: f64,
}

impl SimulatedOverload {
    /// The newest committed result; `None` where there is none.
    pub(super) fn committed(multiple: u32) -> Result<Option<Self>> {
        tree::read(SIMULATED_RESULTS).ok().map(|text| Self::newest(&text, multiple)).transpose()
    }

    /// Reads the last line that begins with this multiple: `10x offered: goodput 55.3 % of the peak, 98.1 % of what refusing leaves; cut off 0; ..`.
    fn newest(text: &str, multiple: u32) -> Result<Self> {
        let head = format!("{multiple}x offered:");
        let line = text.lines().rev().find_map(|line| line.trim().strip_prefix(&head));
        let line = line.with_context(|| format!("{SIMULATED_RESULTS} has no line of {multiple}x"))?;
        // The first word behind the name that is a number.
        let number = |name: &str| -> Result<f64> {
            let rest = line.split_once(name).with_context(|| format!("no {name} in {line}"))?.1;
            let word = rest.split_whitespace().next().unwrap_or_default().trim_end_matches([';', ',']);
            word.parse().with_context(|| format!("{name} is {word} in {line}"))
        };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of devices")]
        let cut_off = number("cut off ")? as u64;
        Ok(Self {
            of_peak_percent: number("goodput ")?,
            of_left_percent: number("of the peak, ")?,
            cut_off,
            handshake_p99_s: number("handshake p99 ")?,
            total_p99_s: number("enrolment p99 ")?,
        })
    }

    pub(super) fn holds(&self) -> bool {
        let Self { of_left_percent, cut_off, handshake_p99_s, .. } = *self;
        cut_off == 0 && of_left_percent >= OF_LEFT_PERCENT_MIN && handshake_p99_s < HANDSHAKE_SECONDS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = "commit a, begun b, passed
  10x offered: goodput 40.0 % of the peak, 80.0 % of what refusing leaves; cut off 3; handshake p99 0.50 s; enrolment p99 9.00 s; unfinished 4
commit b, begun c, passed
  1x offered: goodput 100.0 % of the peak, 100.0 % of what refusing leaves; cut off 0; handshake p99 0.20 s; enrolment p99 1.00 s; unfinished 4
  10x offered: goodput 55.3 % of the peak, 98.1 % of what refusing leaves; cut off 0; handshake p99 0.31 s; enrolment p99 7.64 s; unfinished 4
";

    #[test]
    fn the_newest_result_counts() {
        let newest = SimulatedOverload::newest(RESULTS, 10).unwrap();
        let expected = SimulatedOverload {
            of_peak_percent: 55.3,
            of_left_percent: 98.1,
            cut_off: 0,
            handshake_p99_s: 0.31,
            total_p99_s: 7.64,
        };
        assert_eq!(newest, expected);
        assert!(newest.holds());
        assert!(SimulatedOverload::newest(RESULTS, 4).is_err());
    }

    #[test]
    fn a_device_cut_off_or_goodput_below_what_refusing_leaves_is_missed() {
        let first = RESULTS.split("commit b").next().unwrap();
        assert!(!SimulatedOverload::newest(first, 10).unwrap().holds());
    }
}
