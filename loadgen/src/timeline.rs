//! A run by time: slices of equal width, and what happened in each.
//!
//! A run of a second has slices of a tenth of a second, a run of a day slices of minutes: when there would be more than [`SLICES_MAX`], neighbours are
//! joined. Latency in a slice is a sketch with four steps an octave, which is enough for a chart; the figures of a run come from its histograms.

use std::time::Duration;

use crate::number::float;

/// The most slices of a run: more than a chart has pixels.
pub const SLICES_MAX: usize = 600;

/// The width of a slice while a run is short.
const WIDTH_MIN: Duration = Duration::from_millis(100);

/// What happened in one slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// Devices whose time came.
    pub scheduled: u64,
    /// Devices whose first datagram left.
    pub started: u64,
    /// Devices that got what they asked for.
    pub done: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// The most devices at work at once.
    pub in_flight: u64,
    /// The latest start, in microseconds after its scheduled time.
    pub send_lag_max_us: u64,
    /// The generator's CPU time in microseconds, of all its threads.
    pub cpu_us: u64,
    /// The latency of the devices that were done.
    pub took: LatencySketch,
}

impl Slice {
    /// Adds the same slice of another thread: what was at work at once, was at work in both.
    fn add(&mut self, other: &Self) {
        self.in_flight += other.in_flight;
        self.count(other);
    }

    /// Joins the slice that follows.
    fn join(&mut self, next: &Self) {
        self.in_flight = self.in_flight.max(next.in_flight);
        self.count(next);
    }

    fn count(&mut self, other: &Self) {
        self.scheduled += other.scheduled;
        self.started += other.started;
        self.done += other.done;
        self.failed += other.failed;
        self.send_lag_max_us = self.send_lag_max_us.max(other.send_lag_max_us);
        self.cpu_us += other.cpu_us;
        self.took.add(&other.took);
    }
}

/// The slices of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    width: Duration,
    slices: Vec<Slice>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width: WIDTH_MIN, slices: Vec::new() }
    }
}

impl Timeline {
    /// A timeline that was written down. A width that none has is taken for the next wider one.
    #[must_use]
    pub fn of(width: Duration, slices: Vec<Slice>) -> Self {
        let mut timeline = Self { width: WIDTH_MIN, slices };
        while timeline.width < width && timeline.width < WIDTH_MAX {
            timeline.width *= 2;
        }
        while timeline.slices.len() > SLICES_MAX {
            timeline.widen();
        }
        timeline
    }

    /// The width of a slice.
    #[must_use]
    pub fn width(&self) -> Duration {
        self.width
    }

    /// The slices, from the beginning of the run.
    #[must_use]
    pub fn slices(&self) -> &[Slice] {
        &self.slices
    }

    /// The slice of a moment, counted from the beginning of the run.
    pub fn slice(&mut self, at: Duration) -> &mut Slice {
        let place = loop {
            let place = usize::try_from(at.as_micros() / self.width.as_micros()).unwrap_or(usize::MAX);
            if place < SLICES_MAX || self.width >= WIDTH_MAX {
                break place.min(SLICES_MAX - 1);
            }
            self.widen();
        };
        if place >= self.slices.len() {
            self.slices.resize_with(place + 1, Slice::default);
        }
        &mut self.slices[place]
    }

    /// Adds the timeline of another thread or machine.
    pub fn add(&mut self, other: &Self) {
        let mut other = other.clone();
        while self.width < other.width {
            self.widen();
        }
        while other.width < self.width {
            other.widen();
        }
        if other.slices.len() > self.slices.len() {
            self.slices.resize_with(other.slices.len(), Slice::default);
        }
        for (sum, more) in self.slices.iter_mut().zip(&other.slices) {
            sum.add(more);
        }
    }

    /// Joins the slices in pairs.
    fn widen(&mut self) {
        self.width *= 2;
        let pairs = self.slices.chunks(2).map(|pair| {
            let mut first = pair[0].clone();
            pair.iter().skip(1).for_each(|second| first.join(second));
            first
        });
        self.slices = pairs.collect();
    }
}

/// A run that lasts longer than 600 of these shows the rest in its last slice.
const WIDTH_MAX: Duration = Duration::from_millis(100 << 24);

/// Steps of the sketch: from 64 us to about half an hour.
const STEPS: usize = 100;

/// Counts of durations, four steps an octave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencySketch(Box<[u32; STEPS]>);

impl Default for LatencySketch {
    fn default() -> Self {
        Self(Box::new([0; STEPS]))
    }
}

impl LatencySketch {
    /// Records a duration in microseconds.
    pub fn record(&mut self, us: u64) {
        let count = &mut self.0[step_of(us)];
        *count = count.saturating_add(1);
    }

    /// Adds another sketch.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0.iter()) {
            *sum = sum.saturating_add(*more);
        }
    }

    /// The microseconds below which a share of the durations lies, rounded up by at most a fifth; 0 if there is none.
    #[must_use]
    pub fn at_quantile(&self, quantile: f64) -> u64 {
        let total: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let (mut seen, mut last) = (0_u64, 0);
        for (step, count) in self.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            seen += u64::from(*count);
            last = upper_bound(step);
            if float(seen) >= quantile * float(total) {
                break;
            }
        }
        last
    }

    /// The steps that are not empty, and their counts.
    #[must_use]
    pub fn steps(&self) -> Vec<(u64, u64)> {
        let some = self.0.iter().zip(0_u64..).filter(|(count, _)| **count > 0);
        some.map(|(count, step)| (step, u64::from(*count))).collect()
    }

    /// The sketch of these steps; steps that no sketch has are ignored.
    #[must_use]
    pub fn from_steps(steps: &[(u64, u64)]) -> Self {
        let mut sketch = Self::default();
        for (step, count) in steps {
            if let Some(sum) = usize::try_from(*step).ok().and_then(|step| sketch.0.get_mut(step)) {
                *sum = sum.saturating_add(u32::try_from(*count).unwrap_or(u32::MAX));
            }
        }
        sketch
    }
}

/// The first step ends at 2^6 us and a quarter.
const FIRST_OCTAVE: u32 = 6;

fn step_of(us: u64) -> usize {
    let us = us.max(1 << FIRST_OCTAVE);
    let octave = us.ilog2();
    let quarter = (us >> (octave - 2)) & 3;
    let step = u64::from(octave - FIRST_OCTAVE) * 4 + quarter;
    usize::try_from(step).unwrap_or(STEPS).min(STEPS - 1)
}

fn upper_bound(step: usize) -> u64 {
    let step = u64::try_from(step).unwrap_or(0);
    (4 + step % 4 + 1) << (u64::from(FIRST_OCTAVE) - 2 + step / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_join_when_a_run_is_long_and_lose_nothing() {
        let mut timeline = Timeline::default();
        for second in 0..86_400 {
            let slice = timeline.slice(Duration::from_secs(second));
            slice.done += 1;
            slice.in_flight = slice.in_flight.max(second % 7);
            slice.took.record(1_000);
        }
        assert!(timeline.slices().len() <= SLICES_MAX, "{}", timeline.slices().len());
        assert_eq!(timeline.slices().iter().map(|slice| slice.done).sum::<u64>(), 86_400);
        assert!(timeline.slices()[..300].iter().all(|slice| slice.in_flight == 6), "what is at work does not add up");
        // A century is in the last slice.
        timeline.slice(Duration::from_secs(100 * 365 * 86_400)).done += 1;
        assert!(timeline.slices().len() <= SLICES_MAX);
    }

    #[test]
    fn timelines_of_other_widths_add_up() {
        let (mut short, mut long) = (Timeline::default(), Timeline::default());
        short.slice(Duration::from_millis(250)).started = 3;
        long.slice(Duration::from_millis(150)).started = 4;
        long.slice(Duration::from_secs(100)).started = 5;
        assert_ne!(short.width(), long.width());
        let mut sum = short.clone();
        sum.add(&long);
        let mut other = long.clone();
        other.add(&short);
        assert_eq!(sum, other);
        assert_eq!(sum.slices().iter().map(|slice| slice.started).sum::<u64>(), 12);
        assert_eq!(Timeline::of(sum.width(), sum.slices().to_vec()), sum);
    }

    #[test]
    fn a_sketch_is_within_a_quarter() {
        for us in [0, 1, 63, 64, 65, 79, 80, 1_000, 123_456, 7_000_000, 1_800_000_000, u64::MAX] {
            let mut sketch = LatencySketch::default();
            sketch.record(us);
            let shown = sketch.at_quantile(0.5);
            let wanted = us.clamp(64, upper_bound(STEPS - 1));
            assert!(shown >= wanted && shown <= wanted + wanted / 4 + 1, "{us}: {shown}");
            assert_eq!(LatencySketch::from_steps(&sketch.steps()), sketch);
        }
        assert_eq!(LatencySketch::default().at_quantile(0.99), 0);
    }
}
