//! What a run looks like while it goes on: each thread publishes its figures a few times a second, and whoever shows them adds them up.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::stats::{FleetCounts, MeasuredStage, Percentiles, Stats};

/// How often a thread publishes.
pub(crate) const PUBLISH_EVERY: Duration = Duration::from_millis(200);

/// Reasons that fit beside other figures.
const REASONS_SHOWN: usize = 8;

/// The figures of a run at one moment.
#[derive(Debug, Clone, Default)]
pub struct LiveFigures {
    /// Time since the beginning.
    pub elapsed: Duration,
    /// Arrivals per second that the plan asks for now; `None` in closed loop.
    pub asked_per_second: Option<f64>,
    /// Counts.
    pub counts: FleetCounts,
    /// Latency of the devices that are done, by stage; for several threads the largest of each.
    pub stages: Vec<(MeasuredStage, Percentiles)>,
    /// The generator's own delay, the largest of all threads.
    pub send_lag: Percentiles,
    /// CPU time of the threads.
    pub cpu: Duration,
    /// Threads.
    pub threads: u32,
    /// Failed attempts by stage and reason, the most frequent ones first.
    pub errors: Vec<(String, u64)>,
}

impl LiveFigures {
    /// Devices that have ended, in one way or the other.
    #[must_use]
    pub fn over(&self) -> usize {
        usize::try_from(self.counts.done + self.counts.failed).unwrap_or(usize::MAX)
    }

    pub(crate) fn of(stats: &Stats, elapsed: Duration, asked_per_second: Option<f64>, cpu: Duration) -> Self {
        let measured = MeasuredStage::ALL.into_iter().map(|stage| (stage, stats.stage(stage)));
        let errors = stats.failures().map(|(stage, reason, count)| (format!("{} {reason}", stage.name()), count));
        Self {
            elapsed,
            asked_per_second,
            counts: stats.counts,
            stages: measured.filter(|(_, percentiles)| percentiles.count > 0).collect(),
            send_lag: stats.send_lag().percentiles(),
            cpu,
            threads: 1,
            errors: errors.collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.asked_per_second = self.asked_per_second.or(other.asked_per_second);
        self.counts.add(&other.counts);
        self.send_lag = larger(self.send_lag, other.send_lag);
        self.cpu += other.cpu;
        self.threads += other.threads;
        let mut stages: BTreeMap<_, _> = self.stages.drain(..).collect();
        for (stage, percentiles) in &other.stages {
            let sum = stages.entry(*stage).or_default();
            *sum = larger(*sum, *percentiles);
        }
        self.stages = stages.into_iter().collect();
        let mut errors: BTreeMap<_, _> = self.errors.drain(..).collect();
        for (reason, count) in &other.errors {
            *errors.entry(reason.clone()).or_default() += count;
        }
        self.errors = errors.into_iter().collect();
    }
}

fn larger(a: Percentiles, b: Percentiles) -> Percentiles {
    Percentiles {
        count: a.count + b.count,
        mean: a.mean.max(b.mean),
        p50: a.p50.max(b.p50),
        p90: a.p90.max(b.p90),
        p99: a.p99.max(b.p99),
        p999: a.p999.max(b.p999),
        max: a.max.max(b.max),
    }
}

/// Where the threads of a run publish.
#[derive(Debug)]
pub(crate) struct LiveBoard(Vec<Mutex<LiveFigures>>);

impl LiveBoard {
    pub(crate) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Mutex::default()).collect())
    }

    pub(crate) fn publish(&self, thread: usize, figures: LiveFigures) {
        if let Some(place) = self.0.get(thread) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = figures;
        }
    }

    /// The figures of all threads.
    pub(crate) fn sum(&self) -> LiveFigures {
        let mut sum = LiveFigures::default();
        for place in &self.0 {
            sum.add(&place.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum.errors.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        sum.errors.truncate(REASONS_SHOWN);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_threads_add_up() {
        let board = LiveBoard::new(2);
        let figures = |took: u64, reason: &str| {
            let mut stats = Stats::of_phases(1);
            stats.scheduled(0, Duration::ZERO);
            stats.started(0, Duration::ZERO, Duration::from_millis(took));
            stats.done(0, Duration::ZERO, Duration::from_millis(took));
            stats.record_failure(MeasuredStage::Enrol, reason);
            stats.record_failure(MeasuredStage::Enrol, "both");
            LiveFigures::of(&stats, Duration::from_secs(took), Some(5.0), Duration::from_secs(1))
        };
        board.publish(0, figures(1, "one"));
        board.publish(1, figures(3, "two"));
        let sum = board.sum();
        assert_eq!((sum.over(), sum.threads, sum.cpu), (2, 2, Duration::from_secs(2)));
        assert_eq!((sum.elapsed, sum.asked_per_second), (Duration::from_secs(3), Some(5.0)));
        assert_eq!((sum.stages.len(), sum.stages[0].1.count), (1, 2));
        assert!(sum.stages[0].1.p50 >= Duration::from_millis(3) && sum.send_lag.p99 >= Duration::from_millis(3));
        assert_eq!(sum.errors[0], ("enrol both".to_owned(), 2));
        assert_eq!(sum.errors.len(), 3);
    }
}
