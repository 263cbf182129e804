//! The most that one core serves, by a search with devices that start as others finish.

use serde::Serialize;

/// How much of its core the server must have for a figure by the clock to be the server's. One that is offered more than it can serve does not sleep: what is
/// missing from its core, others had. Alone on two cores it has 95 to 98 % of it, because the kernel does other work there too.
pub(super) const CORE_SHARE_MIN: f64 = 0.95;

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
    /// The best of the steps; `None` if no device enrolled.
    pub(super) fn of(steps: Vec<PeakStep>) -> Option<Self> {
        let most = |value: fn(&PeakStep) -> f64| steps.iter().map(value).fold(0.0, f64::max);
        let (per_second, per_cpu_second) = (most(|step| step.enrolled_per_second), most(|step| step.per_cpu_second));
        (per_second > 0.0).then_some(Self { per_second, per_cpu_second, steps })
    }

    /// The part of the core that the server had in the best step.
    pub(super) fn core_share(&self) -> f64 {
        let best = self.steps.iter().max_by(|a, b| a.enrolled_per_second.total_cmp(&b.enrolled_per_second));
        best.map_or(0.0, |step| step.core_share)
    }

    /// Whether the server had its core to itself where it was fastest. If not, its peak is higher, and every part of the peak lower.
    pub(super) fn is_whole(&self) -> bool {
        self.core_share() >= CORE_SHARE_MIN
    }
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
}
