//! The most that one core serves, by a search with devices that start as others finish: twice as many at a time in each step, until the rate falls. What
//! is found lies between steps that are slower.

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// How much of its core the server must have for a figure by the clock to be the server's. One that is offered more than it can serve does not sleep: what is
/// missing from its core, others had. Alone on two cores it has 95 to 98 % of it, because the kernel does other work there too.
pub(super) const CORE_SHARE_MIN: f64 = 0.95;

/// Devices at work at the same time in the first step, which are too few, and the most of a step.
const FEWEST: u32 = 16;
const MOST: u32 = 1_024;
/// The rate has fallen when it is below this part of the best one. Where the core is used whole, steps differ by less, and the search goes on.
const FALLEN: f64 = 0.95;
/// A search whose result says nothing is made so often, and so is a load that is void.
pub(super) const ATTEMPTS_MAX: u32 = 3;

/// What the search found.
#[derive(Clone)]
pub(in super::super) struct Peak {
    pub(in super::super) per_second: f64,
    pub(in super::super) per_cpu_second: f64,
    /// Each step of the search, those that were repeated too.
    pub(in super::super) steps: Vec<PeakStep>,
}

/// So many devices at work at the same time.
#[derive(Clone, Serialize)]
pub(in super::super) struct PeakStep {
    pub(super) concurrency: u32,
    pub(super) enrolled_per_second: f64,
    pub(super) per_cpu_second: f64,
    /// The part of its core that the server had while devices enrolled.
    pub(super) core_share: f64,
    /// Why the fleet says that it measured itself: the server's peak is then higher.
    pub(super) spoiled_by: Vec<String>,
}

impl Peak {
    /// Searches, again if the server did not have its core where it was fastest, or was fastest at an end of the search. The latter is an error in the end:
    /// the peak may be higher.
    pub(super) fn search(step: &mut dyn FnMut(u32) -> Result<PeakStep>) -> Result<Self> {
        let mut steps = Vec::new();
        for _ in 0..ATTEMPTS_MAX {
            climb(&mut steps, step)?;
            if Self::of(steps.clone()).is_some_and(|peak| peak.is_whole() && peak.is_bracketed()) {
                break;
            }
        }
        let peak = Self::of(steps).context("no device enrolled")?;
        let (rate, at) = (peak.per_second, peak.concurrency());
        ensure!(
            peak.is_bracketed(),
            "the peak is not bracketed: the most, {rate:.0} enrolments a second, came from {at} devices at a time, which is an end of the search"
        );
        Ok(peak)
    }

    /// The best of the steps; `None` if no device enrolled.
    pub(super) fn of(steps: Vec<PeakStep>) -> Option<Self> {
        let most = |value: fn(&PeakStep) -> f64| steps.iter().map(value).fold(0.0, f64::max);
        let (per_second, per_cpu_second) = (most(|step| step.enrolled_per_second), most(|step| step.per_cpu_second));
        (per_second > 0.0).then_some(Self { per_second, per_cpu_second, steps })
    }

    fn best(&self) -> Option<&PeakStep> {
        self.steps.iter().max_by(|a, b| a.enrolled_per_second.total_cmp(&b.enrolled_per_second))
    }

    /// The part of the core that the server had in the best step.
    pub(super) fn core_share(&self) -> f64 {
        self.best().map_or(0.0, |step| step.core_share)
    }

    /// The devices at a time in the best step.
    fn concurrency(&self) -> u32 {
        self.best().map_or(0, |step| step.concurrency)
    }

    /// Whether steps with fewer devices at a time and steps with more were slower.
    fn is_bracketed(&self) -> bool {
        let best = self.concurrency();
        let is_beyond = |beyond: fn(&u32, &u32) -> bool| self.steps.iter().any(|step| beyond(&step.concurrency, &best));
        is_beyond(u32::lt) && is_beyond(u32::gt)
    }

    /// Whether the server had its core to itself where it was fastest. If not, its peak is higher, and every part of the peak lower.
    pub(super) fn is_whole(&self) -> bool {
        self.core_share() >= CORE_SHARE_MIN
    }
}

/// One search, upwards.
fn climb(steps: &mut Vec<PeakStep>, step: &mut dyn FnMut(u32) -> Result<PeakStep>) -> Result<()> {
    let (mut concurrency, mut best) = (FEWEST, 0.0_f64);
    while concurrency <= MOST {
        let found = step(concurrency)?;
        let rate = found.enrolled_per_second;
        steps.push(found);
        if rate < FALLEN * best {
            break;
        }
        best = best.max(rate);
        concurrency *= 2;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(enrolled_per_second: f64, core_share: f64) -> PeakStep {
        let per_cpu_second = enrolled_per_second / core_share;
        PeakStep { concurrency: 64, enrolled_per_second, per_cpu_second, core_share, spoiled_by: Vec::new() }
    }

    #[test]
    fn the_peak_is_that_of_the_best_step_and_so_is_its_part_of_the_core() {
        let peak = Peak::of(vec![step(2_000.0, 0.98), step(2_400.0, 0.8)]).unwrap();
        assert!((peak.per_second - 2_400.0).abs() < 1e-9 && (peak.per_cpu_second - 3_000.0).abs() < 1e-9);
        assert!(!peak.is_whole() && (peak.core_share() - 0.8).abs() < 1e-9);
        assert!(Peak::of(vec![step(2_600.0, 0.96), step(2_400.0, 0.8)]).unwrap().is_whole());
        assert!(Peak::of(vec![step(0.0, 0.5)]).is_none(), "no device enrolled");
    }

    /// The result of a search over a server with this rate for so many devices at a time, and the steps that it took.
    fn searched(rate: fn(u32) -> f64, core_share: f64) -> (Result<Peak>, Vec<u32>) {
        let mut taken = Vec::new();
        let peak = Peak::search(&mut |concurrency| {
            taken.push(concurrency);
            Ok(PeakStep { concurrency, ..step(rate(concurrency), core_share) })
        });
        (peak, taken)
    }

    #[test]
    fn the_search_goes_on_until_the_rate_falls() {
        // A plateau, on which the third step is the best by a little.
        let rate = |concurrency| match concurrency {
            16 => 2_000.0,
            32 => 2_650.0,
            64 => 2_940.0,
            128 => 2_997.0,
            256 => 2_960.0,
            _ => 2_300.0,
        };
        let (peak, taken) = searched(rate, 0.98);
        assert_eq!(taken, [16, 32, 64, 128, 256, 512]);
        let peak = peak.unwrap();
        assert!((peak.per_second - 2_997.0).abs() < 1e-9 && peak.concurrency() == 128);
    }

    #[test]
    fn a_peak_at_an_end_of_the_search_is_an_error_that_says_so() {
        let (peak, taken) = searched(f64::from, 0.98);
        assert_eq!(taken.len(), 7 * 3, "it is tried again");
        let error = peak.err().unwrap().to_string();
        assert!(error.contains("not bracketed") && error.contains("1024 devices at a time"), "{error}");
        let (peak, taken) = searched(|concurrency| 3_000.0 - f64::from(concurrency) * 10.0, 0.98);
        assert_eq!(taken[..2], [16, 32], "the rate falls from the first step on");
        assert!(peak.err().unwrap().to_string().contains("16 devices at a time"));
    }

    #[test]
    fn a_search_in_which_the_server_had_not_its_core_is_repeated_and_keeps_its_steps() {
        let rate = |concurrency| if concurrency == 64 { 2_900.0 } else { 2_000.0 };
        let (peak, taken) = searched(rate, 0.9);
        assert_eq!(taken, [[16, 32, 64, 128]; 3].concat());
        assert!(!peak.unwrap().is_whole());
        assert!(searched(|_| 0.0, 0.9).0.err().unwrap().to_string().contains("no device enrolled"));
    }
}
