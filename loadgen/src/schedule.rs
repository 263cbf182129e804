//! The start time of each device: open loop (a rate that the server cannot slow down) or closed loop (a number at the same time).
//!
//! Only open loop measures a service correctly: the fleet does not wait for the server, so a stall increases the latency of every
//! arrival during it. The latency of an open-loop arrival counts from its *scheduled* start, not from the time at which the generator
//! started it (which would be the "coordinated omission" of closed-loop measurements).
//!
//! Driven by `fleet`, which calls [`Schedule::due`] in each turn and [`Schedule::finished`] for each device that is done.

use std::time::Duration;

use crate::seed::{Purpose, Stream};

/// How the devices arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// Open loop: this many starts per second on average, as a Poisson process (independent devices do not take turns).
    Rate(f64),
    /// Closed loop: this many devices are at work at any moment.
    Concurrency(usize),
}

/// The last start of a run: when it was due and when it was made, both counted from the run's beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LastStart {
    pub(crate) scheduled: Duration,
    pub(crate) actual: Duration,
}

/// The lateness that a busy machine's scheduler may cause: one late turn does not void a short run.
const LATENESS_FORGIVEN: Duration = Duration::from_millis(100);

impl LastStart {
    /// The share of the requested rate at which the devices started: 1 if the last one was in time.
    pub(crate) fn offered_share(self) -> f64 {
        let actual = self.actual.saturating_sub(LATENESS_FORGIVEN);
        if actual <= self.scheduled { 1.0 } else { self.scheduled.as_secs_f64() / actual.as_secs_f64() }
    }
}

/// One device to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The device's number, from 0.
    pub(crate) device: usize,
    /// When it should have started, counted from the beginning of the run. In closed loop: now.
    pub(crate) scheduled: Duration,
}

/// The arrivals of one run.
#[derive(Debug)]
pub(crate) struct Schedule {
    arrivals: Arrivals,
    devices: usize,
    next_device: usize,
    next_due: Duration,
    at_work: usize,
    stream: Stream,
}

impl Schedule {
    /// A schedule for `devices` devices. A rate that is not above zero counts as one a second.
    pub(crate) fn new(arrivals: Arrivals, devices: usize, seed: u64) -> Self {
        let arrivals = match arrivals {
            Arrivals::Rate(rate) if !(rate.is_finite() && rate > 0.0) => Arrivals::Rate(1.0),
            Arrivals::Concurrency(0) => Arrivals::Concurrency(1),
            other => other,
        };
        Self {
            arrivals,
            devices,
            next_device: 0,
            next_due: Duration::ZERO,
            at_work: 0,
            stream: Stream::new(seed, Purpose::Arrivals),
        }
    }

    /// The next device whose time has come, `elapsed` after the beginning of the run. Call until it returns `None`.
    pub(crate) fn due(&mut self, elapsed: Duration) -> Option<Start> {
        if self.next_device == self.devices {
            return None;
        }
        let scheduled = match self.arrivals {
            Arrivals::Rate(rate) => {
                if self.next_due > elapsed {
                    return None;
                }
                let scheduled = self.next_due;
                self.next_due += Duration::from_secs_f64(-self.stream.unit().ln() / rate);
                scheduled
            }
            Arrivals::Concurrency(limit) => {
                if self.at_work >= limit {
                    return None;
                }
                elapsed
            }
        };
        let device = self.next_device;
        self.next_device += 1;
        self.at_work += 1;
        Some(Start { device, scheduled })
    }

    /// Notes that a device is done, with or without a certificate.
    pub(crate) fn finished(&mut self) {
        debug_assert!(self.at_work > 0, "more devices finished than started");
        self.at_work = self.at_work.saturating_sub(1);
    }

    /// The time of the next start, if it depends on time alone.
    pub(crate) fn next(&self) -> Option<Duration> {
        match self.arrivals {
            Arrivals::Rate(_) if self.next_device < self.devices => Some(self.next_due),
            _ => None,
        }
    }

    /// Whether every device has started and finished.
    pub(crate) fn is_over(&self) -> bool {
        self.next_device == self.devices && self.at_work == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_loop_starts_on_time_whatever_the_server_does() {
        let mut schedule = Schedule::new(Arrivals::Rate(1000.0), 500, 3);
        let mut starts = Vec::new();
        while let Some(start) = schedule.due(Duration::from_secs(3600)) {
            starts.push(start);
        }
        assert_eq!(starts.len(), 500, "all started, although none has finished");
        assert!(starts.windows(2).all(|pair| pair[0].scheduled <= pair[1].scheduled));
        let last = starts[499].scheduled.as_secs_f64();
        assert!((0.4..0.6).contains(&last), "500 arrivals at 1000/s take about 0.5 s, not {last}");
    }

    #[test]
    fn open_loop_is_not_early() {
        let mut schedule = Schedule::new(Arrivals::Rate(10.0), 2, 3);
        assert_eq!(schedule.due(Duration::ZERO).map(|s| s.device), Some(0));
        let next = schedule.next().expect("one device is left");
        assert!(schedule.due(next - Duration::from_nanos(1)).is_none());
        assert_eq!(schedule.due(next), Some(Start { device: 1, scheduled: next }));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn closed_loop_keeps_the_number_at_work() {
        let mut schedule = Schedule::new(Arrivals::Concurrency(2), 3, 0);
        let now = Duration::from_millis(5);
        assert_eq!(schedule.due(now).map(|s| s.device), Some(0));
        assert_eq!(schedule.due(now).map(|s| s.device), Some(1));
        assert_eq!(schedule.due(now), None);
        schedule.finished();
        assert_eq!(schedule.due(now), Some(Start { device: 2, scheduled: now }));
        schedule.finished();
        assert!(!schedule.is_over());
        schedule.finished();
        assert!(schedule.is_over());
    }

    #[test]
    fn one_seed_one_schedule() {
        let starts = |seed| {
            let mut schedule = Schedule::new(Arrivals::Rate(50.0), 20, seed);
            std::iter::from_fn(|| schedule.due(Duration::from_secs(3600))).collect::<Vec<_>>()
        };
        assert_eq!(starts(9), starts(9));
        assert_ne!(starts(9), starts(10));
    }

    #[test]
    fn a_senseless_rate_does_not_hang_or_panic() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut schedule = Schedule::new(Arrivals::Rate(rate), 2, 0);
            assert!(schedule.due(Duration::ZERO).is_some());
            assert!(schedule.next().is_some());
        }
    }
}
