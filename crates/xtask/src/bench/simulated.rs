//! What `cargo xtask simulate` found last, for the README: of `--overload`, which is a promise, and of `--power-restore`.

use anyhow::{Context, Result, ensure};

use crate::tree;

pub(crate) const SIMULATED_RESULTS: &str = "crates/sim/results/overload.txt";
pub(crate) const RESTORE_RESULTS: &str = "crates/sim/results/power-restore.txt";
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

/// What becomes of the devices after the return of the power, by the newest committed result.
pub(super) fn power_restored() -> Result<String> {
    restored(&tree::read(RESTORE_RESULTS)?)
}

fn restored(results: &str) -> Result<String> {
    let newest = results.rsplit("\ncommit ").next().unwrap_or_default();
    let head = newest.lines().next().unwrap_or_default();
    ensure!(head.ends_with("passed"), "the newest result in {RESTORE_RESULTS} is of a run that did not pass: {head}");
    // `  enrolled 200000 in 190.9 s, certificates in the ledger 200000, broken promises 0`
    let last_seconds = |field: &str| -> Result<f64> {
        let (_, of_field) =
            newest.split_once(&format!("\n{field}: 200000 devices")).with_context(|| format!("no {field}: {head}"))?;
        let line = of_field.lines().nth(1).unwrap_or_default();
        let seconds = line.strip_prefix("  enrolled 200000 in ").and_then(|rest| rest.split_once(" s, "));
        let (seconds, rest) = seconds.with_context(|| format!("{field}: not all have enrolled: {line}"))?;
        ensure!(rest == "certificates in the ledger 200000, broken promises 0", "{field}: a promise is broken: {line}");
        seconds.parse().with_context(|| format!("{field}: {line}"))
    };
    let [whole, lossy, slow] =
        [last_seconds("one-core")?, last_seconds("lossy-links")?, last_seconds("slow-authority")?];
    Ok(format!(
        "\nAfter the return of the power to 200,000 devices, in virtual time (`cargo xtask simulate --power-restore`, `{RESTORE_RESULTS}`), all enrol, none \
         twice,\nand no session ends before its answer: the last device has its certificate after {whole:.0} s on whole links, after {lossy:.0} s on links \
         that lose a tenth,\nand after {slow:.0} s with an authority of 1,000 certificates a second.\n\n"
    ))
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

    fn restore(verdict: &str, broken: u32) -> String {
        let field = |name: &str, seconds: &str| {
            format!(
                "{name}: 200000 devices, 0 % of the datagrams lost, seed 0\n  enrolled 200000 in {seconds} s, certificates in the ledger 200000, \
                 broken promises {broken}\n"
            )
        };
        let fields = field("one-core", "190.9") + &field("lossy-links", "277.7") + &field("slow-authority", "272.5");
        format!("commit a, begun b, FAILED\none-core: 200000 devices\n\ncommit c, begun d, {verdict}\n{fields}memory\n")
    }

    #[test]
    fn the_newest_return_of_the_power_counts() {
        let text = restored(&restore("passed", 0)).unwrap();
        for said in ["after 191 s on whole links", "after 278 s on links", "after 272 s with an authority"] {
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn a_return_of_the_power_with_a_broken_promise_is_not_shown() {
        for results in [restore("passed", 1), restore("FAILED", 0), String::new()] {
            assert!(restored(&results).is_err());
        }
    }
}
