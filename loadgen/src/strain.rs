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
    /// The larger ones of two threads, phase by phase.
    pub(crate) fn max_of_phases(sum: &mut Vec<Self>, other: &[Self]) {
        sum.resize(sum.len().max(other.len()), Self::default());
        sum.iter_mut().zip(other).for_each(|(most, other)| *most = most.max(*other));
    }

    /// The largest ones of all phases.
    pub(crate) fn of_all(phases: &[Self]) -> Self {
        phases.iter().copied().fold(Self::default(), Self::max)
    }

    /// The larger ones.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { busy: self.busy.max(other.busy), waiting: self.waiting.max(other.waiting) }
    }
}

/// Measures the windows of one thread. A window ends after [`WINDOW`], and where the [`Load`] changes: the silence after the last arrival is no part of the
/// load, and no phase has the windows of another one.
#[derive(Debug, Default)]
pub(crate) struct StrainMeter {
    begins: Option<Moment>,
    last: Moment,
    /// By phase.
    most: Vec<Strain>,
}

/// What a thread is loaded with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// The phase whose devices were the last to start.
    pub(crate) phase: usize,
    /// Whether devices arrive.
    pub(crate) arriving: bool,
}

/// What is known of a thread at a moment of the run.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    at: Duration,
    time: ThreadTime,
    load: Load,
}

impl StrainMeter {
    /// Notes the time that the thread has used until `at`, and its load. The first call begins the first window.
    pub(crate) fn note(&mut self, at: Duration, time: ThreadTime, load: Load) {
        let now = Moment { at, time, load };
        let begins = *self.begins.get_or_insert(now);
        let length = at.saturating_sub(begins.at);
        self.last = now;
        if length >= WINDOW || (load != begins.load && length >= WINDOW_MIN) {
            self.judge(begins, now);
        } else if load != begins.load {
            self.begins = Some(Moment { load, ..begins });
        }
    }

    /// The largest shares of each phase, up to the last one that had a window; with the window that has not ended.
    pub(crate) fn end(mut self) -> Vec<Strain> {
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
        let phase = begins.load.phase;
        if phase >= self.most.len() {
            self.most.resize(phase + 1, Strain::default());
        }
        self.most[phase] = self.most[phase].max(Strain { busy: share(used.cpu), waiting: share(used.waiting) });
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
            meter.note(at, time, Load { phase: 0, arriving: at < Duration::from_secs(arrivals_end) });
            let share = share(at.as_secs());
            time.cpu += TICK.mul_f64(share);
            time.waiting += TICK.mul_f64(1.0 - share);
            at += TICK;
        }
        meter.note(at, time, Load::default());
        Strain::of_all(&meter.end())
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
        meter.note(Duration::ZERO, ThreadTime::default(), Load { phase: 0, arriving: true });
        let busy = ThreadTime { cpu: Duration::from_millis(900), waiting: Duration::ZERO };
        meter.note(Duration::from_millis(900), busy, Load::default());
        meter.note(Duration::from_millis(950), busy, Load::default());
        assert_eq!(meter.end(), []);
    }

    /// The first of three phases of seven seconds works in its last two: a window that went on into the next phase would show less, and there.
    #[test]
    fn each_phase_has_its_own_windows() {
        let (mut meter, mut time, mut at) = (StrainMeter::default(), ThreadTime::default(), Duration::ZERO);
        while at < Duration::from_secs(21) {
            meter.note(at, time, Load { phase: usize::try_from(at.as_secs() / 7).unwrap(), arriving: true });
            time.cpu += TICK.mul_f64(if (5..7).contains(&at.as_secs()) { 1.0 } else { 0.0 });
            at += TICK;
        }
        let [first, second, third] = meter.end()[..] else { panic!("three phases") };
        assert!(
            near(first.busy, 1.0) && near(second.busy, 0.0) && near(third.busy, 0.0),
            "{first:?} {second:?} {third:?}"
        );
        let mut sum = vec![Strain { busy: 0.9, waiting: 0.1 }];
        let other = [Strain { busy: 0.2, waiting: 0.3 }, Strain { busy: 0.5, waiting: 0.0 }];
        Strain::max_of_phases(&mut sum, &other);
        assert_eq!(sum, [Strain { busy: 0.9, waiting: 0.3 }, other[1]]);
    }
}
