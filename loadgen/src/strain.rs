//! How hard a thread of the generator worked when it worked hardest: CPU and waiting for a core by window, because the mean of a long run hides a minute
//! without reserves, and that of a run whose devices hang until they time out hides all of it. This module reads no clock.

use std::time::Duration;

use crate::own_time::ThreadTime;

/// The longest window.
pub(crate) const WINDOW: Duration = Duration::from_secs(5);

/// The shortest window that is judged: in less, the start of the process counts more than the load. A shorter one is joined with the next.
pub(crate) const WINDOW_MIN: Duration = Duration::from_secs(1);

/// The largest shares of a core in any window; those of several threads are the largest of all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Strain {
    /// What a thread used.
    pub(crate) busy: f64,
    /// What a thread waited for.
    pub(crate) waiting: f64,
}

impl Strain {
    /// The larger ones.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { busy: self.busy.max(other.busy), waiting: self.waiting.max(other.waiting) }
    }
}

/// Measures the windows of one thread. A window ends after [`WINDOW`], and where devices begin or cease to arrive: the silence after the last arrival is no
/// part of the load.
#[derive(Debug, Default)]
pub(crate) struct StrainMeter {
    begins: Option<Moment>,
    last: Moment,
    most: Strain,
}

/// What is known of a thread at a moment of the run.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    at: Duration,
    time: ThreadTime,
    arriving: bool,
}

impl StrainMeter {
    /// Notes the time that the thread has used until `at`, and whether devices arrive. The first call begins the first window.
    pub(crate) fn note(&mut self, at: Duration, time: ThreadTime, arriving: bool) {
        let now = Moment { at, time, arriving };
        let begins = *self.begins.get_or_insert(now);
        let length = at.saturating_sub(begins.at);
        self.last = now;
        if length >= WINDOW || (arriving != begins.arriving && length >= WINDOW_MIN) {
            self.judge(begins, now);
        } else if arriving != begins.arriving {
            self.begins = Some(Moment { arriving, ..begins });
        }
    }

    /// The largest shares, with the window that has not ended.
    pub(crate) fn end(mut self) -> Strain {
        if let Some(begins) = self.begins {
            self.judge(begins, self.last);
        }
        self.most
    }

    fn judge(&mut self, begins: Moment, ends: Moment) {
        let length = ends.at.saturating_sub(begins.at);
        self.begins = Some(ends);
        if length < WINDOW_MIN {
            return;
        }
        let used = ends.time.since(begins.time);
        let share = |time: Duration| time.as_secs_f64() / length.as_secs_f64();
        self.most = self.most.max(Strain { busy: share(used.cpu), waiting: share(used.waiting) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(200);

    /// A thread that uses `share` of a core at each second of its run; devices arrive until `arrivals_end`.
    fn strain(seconds: u64, arrivals_end: u64, share: impl Fn(u64) -> f64) -> Strain {
        let (mut meter, mut time, mut at) = (StrainMeter::default(), ThreadTime::default(), Duration::ZERO);
        while at < Duration::from_secs(seconds) {
            meter.note(at, time, at < Duration::from_secs(arrivals_end));
            let share = share(at.as_secs());
            time.cpu += TICK.mul_f64(share);
            time.waiting += TICK.mul_f64(1.0 - share);
            at += TICK;
        }
        meter.note(at, time, false);
        meter.end()
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-6
    }

    #[test]
    fn ten_busy_seconds_of_a_hundred_are_found_wherever_they_are() {
        for begins in 0..=90 {
            let Strain { busy, waiting } =
                strain(100, 100, |second| if (begins..begins + 10).contains(&second) { 0.99 } else { 0.02 });
            assert!(near(busy, 0.99) && near(waiting, 0.98), "from {begins}: {busy} {waiting}");
        }
    }

    #[test]
    fn the_silence_after_the_last_arrival_is_no_part_of_the_load() {
        // Two seconds of arrivals, and devices that hang for 20 more.
        assert!(near(strain(22, 2, |second| if second < 2 { 0.95 } else { 0.0 }).busy, 0.95));
        // What the thread does with a burst counts, although nobody arrives any more.
        assert!(near(strain(10, 0, |second| if second < 6 { 0.95 } else { 0.0 }).busy, 0.95));
    }

    #[test]
    fn less_than_a_second_is_not_judged_alone() {
        let mut meter = StrainMeter::default();
        meter.note(Duration::ZERO, ThreadTime::default(), true);
        let busy = ThreadTime { cpu: Duration::from_millis(900), waiting: Duration::ZERO };
        meter.note(Duration::from_millis(900), busy, false);
        meter.note(Duration::from_millis(950), busy, false);
        assert_eq!(meter.end(), Strain::default());
    }
}
