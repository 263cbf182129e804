//! The start time of each device: open loop (a rate that the server cannot slow down) or closed loop (a number at the same time).
//!
//! Only open loop measures a service correctly: the fleet does not wait for the server, so a stall increases the latency of every
//! arrival during it. The latency of an open-loop arrival counts from its *scheduled* start, not from the time at which the generator
//! started it (which would be the "coordinated omission" of closed-loop measurements).
//!
//! Threads and machines divide one schedule: each computes all arrivals and starts those of its own devices, so a fleet arrives in the same way however
//! many generators play it. Driven by `fleet`, which calls [`Schedule::due`] in each turn and [`Schedule::finished`] for each device that is done.

use std::sync::Arc;
use std::time::Duration;

use crate::part::{Part, Segment};
use crate::plan::{ARRIVALS_MAX, Arrivals, DEVICES_MAX, Phase, PhasePopulation, Plan, PlanFault};
use crate::seed::{Purpose, Stream};

/// One device to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The device's number in the fleet, from 0.
    pub(crate) device: usize,
    /// The number of its phase.
    pub(crate) phase: usize,
    /// When it should have started, counted from the beginning of the run. In closed loop: now.
    pub(crate) scheduled: Duration,
}

/// The arrivals of one thread.
#[derive(Debug)]
pub(crate) struct Schedule {
    phases: Arc<[PhaseArrivals]>,
    part: Part,
    at_work: usize,
    /// The phase of the last start.
    phase: usize,
    mode: Mode,
}

/// What a schedule knows of a phase.
#[derive(Debug, Clone, Copy)]
struct PhaseArrivals {
    arrivals: Arrivals,
    lasts: Option<Duration>,
    devices: usize,
    population: PhasePopulation,
}

#[derive(Debug)]
enum Mode {
    Open { clock: OpenLoop, next: Option<Start> },
    Closed { devices: usize, next_slot: usize, limit: usize },
}

impl Plan {
    /// How many devices there are: the seed decides when each one arrives, and so how many of them do in the time of a phase.
    ///
    /// # Errors
    /// There are more than a machine can play, or arrivals without an end.
    pub fn devices(&self, seed: u64) -> Result<usize, PlanFault> {
        Ok(self
            .arrivals(seed)?
            .iter()
            .filter(|(phase, _)| phase.population == PhasePopulation::New)
            .map(|(_, n)| n)
            .sum())
    }

    /// The number of arrivals of each phase.
    ///
    /// # Errors
    /// There are more than a machine can play, or arrivals without an end.
    pub fn arrivals(&self, seed: u64) -> Result<Vec<(&Phase, usize)>, PlanFault> {
        let counts = self.counted(seed, Part::ALL)?;
        let new = self.phases.iter().zip(&counts).filter(|(phase, _)| phase.population == PhasePopulation::New);
        let devices: usize = new.clone().map(|(_, count)| count).sum();
        if devices > DEVICES_MAX
            && let Some((phase, starts)) = new.max_by_key(|(_, count)| *count)
        {
            return Err(PlanFault::TooManyDevices { devices, phase: phase.name.clone(), starts: *starts });
        }
        Ok(self.phases.iter().zip(counts).collect())
    }

    /// The number of arrivals of each phase on one of several machines.
    ///
    /// # Errors
    /// There are more than can be counted, or arrivals without an end.
    pub fn segment_arrivals(&self, seed: u64, segment: Segment) -> Result<Vec<(&Phase, usize)>, PlanFault> {
        Ok(self.phases.iter().zip(self.counted(seed, segment.part())?).collect())
    }

    fn counted(&self, seed: u64, part: Part) -> Result<Vec<usize>, PlanFault> {
        let expected: f64 = self.phases.iter().map(Phase::expected).sum();
        if let Some(phase) = self.phases.iter().find(|phase| phase.expected().is_infinite()) {
            return Err(PlanFault::Endless { phase: phase.name.clone() });
        }
        let most = self.phases.iter().max_by(|a, b| a.expected().total_cmp(&b.expected()));
        if expected > ARRIVALS_MAX
            && let Some(phase) = most
        {
            return Err(PlanFault::TooManyArrivals { expected, phase: phase.name.clone() });
        }
        let mut counts = vec![0; self.phases.len()];
        match self.phases.as_slice() {
            // In closed loop only the number is known.
            [Phase { arrivals: Arrivals::Concurrency(_), devices: Some(devices), .. }] => {
                counts[0] = part.count(*devices);
            }
            _ => {
                let mut schedule = Schedule::new(&self.phases, part, seed);
                while let Some(start) = schedule.due(Duration::MAX) {
                    counts[start.phase] += 1;
                    schedule.finished();
                }
            }
        }
        Ok(counts)
    }
}

impl Schedule {
    /// The arrivals of one thread.
    pub(crate) fn new(phases: &[Phase], part: Part, seed: u64) -> Self {
        let rows = phases.iter().map(|phase| PhaseArrivals {
            arrivals: phase.arrivals,
            lasts: phase.lasts,
            devices: phase.devices.unwrap_or(usize::MAX),
            population: phase.population,
        });
        let rows: Arc<[_]> = rows.collect();
        let mode = match &*rows {
            [PhaseArrivals { arrivals: Arrivals::Concurrency(limit), devices, .. }] => {
                Mode::Closed { devices: part.count(*devices), next_slot: 0, limit: part.count(*limit) }
            }
            _ => {
                let mut clock = OpenLoop::new(Arc::clone(&rows), seed);
                let next = clock.find(|start| part.owns(start.device));
                Mode::Open { clock, next }
            }
        };
        Self { phases: rows, part, at_work: 0, phase: 0, mode }
    }

    /// The next device whose time has come, `elapsed` after the beginning of the run. Call until it returns `None`.
    pub(crate) fn due(&mut self, elapsed: Duration) -> Option<Start> {
        let part = self.part;
        let start = match &mut self.mode {
            Mode::Open { clock, next } => {
                let start = (*next).filter(|start| start.scheduled <= elapsed)?;
                *next = clock.find(|start| part.owns(start.device));
                start
            }
            Mode::Closed { devices, next_slot, limit } => {
                if *next_slot == *devices || self.at_work >= *limit {
                    return None;
                }
                *next_slot += 1;
                Start { device: part.device(*next_slot - 1), phase: 0, scheduled: elapsed }
            }
        };
        self.at_work += 1;
        self.phase = start.phase;
        Some(start)
    }

    /// The phase whose devices were the last to start.
    pub(crate) fn phase(&self) -> usize {
        self.phase
    }

    /// Notes that a device is done, with or without a certificate.
    pub(crate) fn finished(&mut self) {
        debug_assert!(self.at_work > 0, "more devices finished than started");
        self.at_work = self.at_work.saturating_sub(1);
    }

    /// The time of the next start, if it depends on time alone.
    pub(crate) fn next(&self) -> Option<Duration> {
        match &self.mode {
            Mode::Open { next, .. } => next.map(|start| start.scheduled),
            Mode::Closed { .. } => None,
        }
    }

    /// Whether devices arrive: one has to start within the next second.
    pub(crate) fn arrives(&self, elapsed: Duration) -> bool {
        match &self.mode {
            Mode::Open { next, .. } => {
                next.is_some_and(|start| start.scheduled <= elapsed.saturating_add(Duration::from_secs(1)))
            }
            Mode::Closed { devices, next_slot, .. } => next_slot < devices,
        }
    }

    /// Devices at work.
    pub(crate) fn at_work(&self) -> usize {
        self.at_work
    }

    /// Whether every device has started and finished.
    pub(crate) fn is_over(&self) -> bool {
        let started = match &self.mode {
            Mode::Open { next, .. } => next.is_none(),
            Mode::Closed { devices, next_slot, .. } => next_slot == devices,
        };
        started && self.at_work == 0
    }

    /// The rate of the whole fleet at a moment; `None` in closed loop.
    pub(crate) fn asked_at(&self, elapsed: Duration) -> Option<f64> {
        // A phase without a duration ends with its last arrival, which the clock knows once it has come that far: it is always one start ahead.
        let begun = match &self.mode {
            Mode::Open { clock, .. } => clock.begun.as_slice(),
            Mode::Closed { .. } => &[Duration::ZERO],
        };
        let present = begun.iter().rposition(|begins| *begins <= elapsed).unwrap_or(0);
        let mut begins = begun.get(present).copied().unwrap_or_default();
        for phase in self.phases.iter().skip(present) {
            let ends = begins.saturating_add(phase.lasts.unwrap_or(Duration::MAX));
            if elapsed < ends {
                return match phase.arrivals {
                    Arrivals::Concurrency(_) => None,
                    arrivals => Some(rate_at(arrivals, elapsed - begins, phase.lasts)),
                };
            }
            begins = ends;
        }
        Some(0.0)
    }
}

/// All arrivals of an open-loop plan, in the order of time.
#[derive(Debug)]
struct OpenLoop {
    phases: Arc<[PhaseArrivals]>,
    seed: u64,
    stream: Stream,
    phase: usize,
    /// When the phase began.
    begins: Duration,
    /// When each phase so far began.
    begun: Vec<Duration>,
    /// When its next device is due, counted from then.
    due: Duration,
    /// Arrivals of the phase so far.
    arrived: usize,
    /// New devices so far, of all phases.
    new: usize,
    order: DeviceOrder,
}

impl OpenLoop {
    fn new(phases: Arc<[PhaseArrivals]>, seed: u64) -> Self {
        let mut all = Self {
            phases,
            seed,
            stream: Stream::new(seed, Purpose::Arrivals(0)),
            phase: 0,
            begins: Duration::ZERO,
            begun: vec![Duration::ZERO],
            due: Duration::ZERO,
            arrived: 0,
            new: 0,
            order: DeviceOrder::new(0, seed),
        };
        all.due = all.first_due();
        all
    }

    /// Begins the next phase when the time of the present one is over, or when its last device has arrived.
    fn enter_next(&mut self, lasts: Option<Duration>) {
        self.begins += lasts.unwrap_or(self.due);
        self.phase += 1;
        self.begun.push(self.begins);
        self.arrived = 0;
        let phase = u32::try_from(self.phase).unwrap_or(u32::MAX);
        self.stream = Stream::new(self.seed, Purpose::Arrivals(phase));
        self.order = DeviceOrder::new(self.new, self.seed ^ u64::from(phase));
        self.due = self.first_due();
    }

    /// The first device arrives when its phase begins; a ramp from nothing makes even that one wait.
    fn first_due(&mut self) -> Duration {
        match self.phases.get(self.phase) {
            Some(phase) if rate_at(phase.arrivals, Duration::ZERO, phase.lasts) <= 0.0 => {
                let phase = *phase;
                self.after(Duration::ZERO, phase)
            }
            _ => Duration::ZERO,
        }
    }

    /// The arrival after one at `due`: the gap is the time in which the rate adds up to an exponential draw.
    fn after(&mut self, due: Duration, phase: PhaseArrivals) -> Duration {
        /// Beyond the end of every phase.
        const NEVER_SECONDS: f64 = 1e9;
        let rate = rate_at(phase.arrivals, due, phase.lasts);
        let gap = match (phase.arrivals, phase.lasts) {
            (Arrivals::Ramp { from, to }, Some(lasts)) if !lasts.is_zero() => {
                let slope = (to - from) / lasts.as_secs_f64();
                let draw = -self.stream.unit().ln();
                let root = rate * rate + 2.0 * slope * draw;
                // A falling ramp ends before the sum is reached.
                if root < 0.0 { NEVER_SECONDS } else { 2.0 * draw / (rate + root.sqrt()) }
            }
            (Arrivals::Pause, _) => NEVER_SECONDS,
            _ => -self.stream.unit().ln() / rate,
        };
        due + Duration::from_secs_f64(if gap.is_finite() { gap.clamp(0.0, NEVER_SECONDS) } else { NEVER_SECONDS })
    }
}

impl Iterator for OpenLoop {
    type Item = Start;

    fn next(&mut self) -> Option<Start> {
        loop {
            let phase = *self.phases.get(self.phase)?;
            let over = phase.lasts.is_some_and(|lasts| self.due >= lasts) || self.arrived >= phase.devices;
            if over || phase.arrivals == Arrivals::Pause {
                self.enter_next(phase.lasts);
                continue;
            }
            let device = match phase.population {
                PhasePopulation::New => Some(self.new),
                PhasePopulation::Enrolled => self.order.device(self.arrived),
            };
            // Nobody can come back: the time of the phase passes.
            let Some(device) = device else {
                self.enter_next(phase.lasts);
                continue;
            };
            let start = Start { device, phase: self.phase, scheduled: self.begins + self.due };
            self.new += usize::from(phase.population == PhasePopulation::New);
            self.arrived += 1;
            self.due = self.after(self.due, phase);
            return Some(start);
        }
    }
}

/// The rate of a phase, `elapsed` after its beginning. A constant rate that is not above zero counts as one a second.
fn rate_at(arrivals: Arrivals, elapsed: Duration, lasts: Option<Duration>) -> f64 {
    match arrivals {
        Arrivals::Rate(rate) if rate.is_finite() && rate > 0.0 => rate,
        Arrivals::Rate(_) => 1.0,
        Arrivals::Ramp { from, to } => {
            let lasts = lasts.unwrap_or(Duration::ZERO).as_secs_f64();
            let share = if lasts > 0.0 { (elapsed.as_secs_f64() / lasts).min(1.0) } else { 1.0 };
            (from + (to - from) * share).max(0.0)
        }
        Arrivals::Pause | Arrivals::Concurrency(_) => 0.0,
    }
}

/// An order of all devices in which neighbours are far apart; it begins again after the last one.
#[derive(Debug)]
struct DeviceOrder {
    devices: usize,
    first: usize,
    step: usize,
}

impl DeviceOrder {
    fn new(devices: usize, seed: u64) -> Self {
        let mut stream = Stream::new(seed, Purpose::Order);
        let mut draw = || usize::try_from(stream.next_u64() >> 33).unwrap_or(0).checked_rem(devices).unwrap_or(0);
        let (first, mut step) = (draw(), draw().max(1));
        // A step without a common divisor visits everybody.
        while devices > 1 && common_divisor(step, devices) > 1 {
            step += 1;
        }
        Self { devices, first, step }
    }

    fn device(&self, place: usize) -> Option<usize> {
        // At most 4 million devices, and 2^31 as a step: a product within 64 bits.
        let place = place.checked_rem(self.devices)?;
        Some((self.first + place * self.step) % self.devices)
    }
}

fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL_TIME: Duration = Duration::MAX;

    fn of_all(plan: &Plan, seed: u64) -> Schedule {
        Schedule::new(&plan.phases, Part::ALL, seed)
    }

    fn schedule(arrivals: Arrivals, devices: usize, seed: u64) -> Schedule {
        of_all(&Plan::of(Phase::enrolling(devices, arrivals)), seed)
    }

    fn starts(mut schedule: Schedule) -> Vec<Start> {
        let mut all = Vec::new();
        while let Some(start) = schedule.due(ALL_TIME) {
            all.push(start);
            schedule.finished();
        }
        all
    }

    #[test]
    fn open_loop_starts_on_time_whatever_the_server_does() {
        let mut schedule = schedule(Arrivals::Rate(1000.0), 500, 3);
        let mut starts = Vec::new();
        while let Some(start) = schedule.due(Duration::from_secs(3600)) {
            starts.push(start);
        }
        assert_eq!((starts.len(), schedule.at_work()), (500, 500), "all started, although none has finished");
        assert!(starts.windows(2).all(|pair| pair[0].scheduled <= pair[1].scheduled));
        let last = starts[499].scheduled.as_secs_f64();
        assert!((0.4..0.6).contains(&last), "500 arrivals at 1000/s take about 0.5 s, not {last}");
    }

    #[test]
    fn open_loop_is_not_early() {
        let mut schedule = schedule(Arrivals::Rate(10.0), 2, 3);
        assert_eq!(schedule.due(Duration::ZERO).map(|s| s.device), Some(0));
        let next = schedule.next().expect("one device is left");
        assert!(schedule.due(next - Duration::from_nanos(1)).is_none());
        assert_eq!(schedule.due(next), Some(Start { device: 1, phase: 0, scheduled: next }));
        assert_eq!(schedule.next(), None);
    }

    #[test]
    fn closed_loop_keeps_the_number_at_work() {
        let mut schedule = schedule(Arrivals::Concurrency(2), 3, 0);
        let now = Duration::from_millis(5);
        assert_eq!(schedule.due(now).map(|s| s.device), Some(0));
        assert_eq!(schedule.due(now).map(|s| s.device), Some(1));
        assert_eq!(schedule.due(now), None);
        schedule.finished();
        assert_eq!(schedule.due(now), Some(Start { device: 2, phase: 0, scheduled: now }));
        schedule.finished();
        assert!(!schedule.is_over());
        schedule.finished();
        assert!(schedule.is_over());
        assert_eq!(schedule.asked_at(now), None);
    }

    #[test]
    fn one_seed_one_schedule() {
        let starts = |seed| starts(schedule(Arrivals::Rate(50.0), 20, seed));
        assert_eq!(starts(9), starts(9));
        assert_ne!(starts(9), starts(10));
    }

    #[test]
    fn a_senseless_rate_does_not_hang_or_panic() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut schedule = schedule(Arrivals::Rate(rate), 2, 0);
            assert!(schedule.due(Duration::ZERO).is_some());
            assert!(schedule.next().is_some());
        }
        for (from, to) in [(0.0, 0.0), (f64::NAN, 1.0), (1.0, f64::INFINITY), (-5.0, -1.0), (5.0, 0.0)] {
            let lasts = Some(Duration::from_secs(10));
            let phase = Phase { lasts, ..Phase::enrolling(100, Arrivals::Ramp { from, to }) };
            assert!(starts(of_all(&Plan::of(phase), 1)).len() <= 100);
        }
    }

    fn day() -> Plan {
        let phase = |name: &str, arrivals, lasts, population| Phase {
            name: name.to_owned(),
            lasts: Some(Duration::from_secs(lasts)),
            devices: None,
            population,
            ..Phase::enrolling(0, arrivals)
        };
        let plan = vec![
            phase("up", Arrivals::Ramp { from: 0.0, to: 50.0 }, 20, PhasePopulation::New),
            phase("wait", Arrivals::Pause, 10, PhasePopulation::New),
            phase("back", Arrivals::Rate(30.0), 10, PhasePopulation::Enrolled),
            phase("down", Arrivals::Ramp { from: 50.0, to: 0.0 }, 20, PhasePopulation::New),
        ];
        Plan { name: None, phases: plan }
    }

    #[test]
    fn phases_follow_one_another_and_ramps_climb() {
        let all = starts(of_all(&day(), 4));
        let of = |phase| all.iter().filter(|start| start.phase == phase).collect::<Vec<_>>();
        let between = |from, to| {
            let inside = |start: &&Start| (from..to).contains(&start.scheduled.as_secs());
            all.iter().filter(inside).count()
        };
        assert!(
            (420..580).contains(&of(0).len()) && (420..580).contains(&of(3).len()),
            "{} {}",
            of(0).len(),
            of(3).len()
        );
        // A quarter of a ramp's arrivals come in its first half.
        assert!((80..170).contains(&between(0, 10)), "{}", between(0, 10));
        assert!((80..170).contains(&between(50, 60)), "{}", between(50, 60));
        assert_eq!((between(20, 30), of(1).len()), (0, 0));
        assert!((240..360).contains(&of(2).len()));
        let new: Vec<_> = all.iter().filter(|start| start.phase != 2).map(|start| start.device).collect();
        assert_eq!(new, (0..new.len()).collect::<Vec<_>>());
        let mut back: Vec<_> = of(2).iter().map(|start| start.device).collect();
        back.sort_unstable();
        back.dedup();
        assert_eq!(back.len(), of(2).len(), "nobody comes back twice while others have not");
        assert!(back.iter().all(|device| *device < of(0).len()));
        assert!(all.windows(2).all(|pair| pair[0].scheduled <= pair[1].scheduled));
    }

    /// Threads and machines together start what one alone would start.
    #[test]
    fn parts_are_the_whole() {
        for plan in [day(), Plan::of(Phase::enrolling(50, Arrivals::Rate(100.0)))] {
            let whole = starts(of_all(&plan, 4));
            let mut parts: Vec<_> =
                (0..3).flat_map(|index| starts(Schedule::new(&plan.phases, Part { index, of: 3 }, 4))).collect();
            parts.sort_by_key(|start| start.scheduled);
            assert_eq!(parts, whole);
        }
        let closed = Plan::of(Phase::enrolling(10, Arrivals::Concurrency(4)));
        let mut devices = Vec::new();
        for index in 0..3 {
            let part = Part { index, of: 3 };
            let own = starts(Schedule::new(&closed.phases, part, 4));
            assert_eq!(own.len(), part.count(10));
            for (slot, start) in own.iter().enumerate() {
                assert!(part.owns(start.device));
                assert_eq!((part.slot(start.device), part.device(slot)), (slot, start.device));
                devices.push(start.device);
            }
        }
        devices.sort_unstable();
        assert_eq!(devices, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn devices_are_counted_before_the_run() {
        let phase = |arrivals, lasts, population| Phase {
            lasts: Some(Duration::from_secs(lasts)),
            devices: None,
            population,
            ..Phase::enrolling(0, arrivals)
        };
        let plan = Plan {
            name: None,
            phases: vec![
                phase(Arrivals::Ramp { from: 0.0, to: 100.0 }, 100, PhasePopulation::New),
                phase(Arrivals::Pause, 100, PhasePopulation::New),
                phase(Arrivals::Rate(20.0), 100, PhasePopulation::Enrolled),
            ],
        };
        let counts: Vec<_> = plan.arrivals(1).unwrap().into_iter().map(|(_, count)| count).collect();
        assert!((4_800..5_200).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[1], 0);
        assert!((1_850..2_150).contains(&counts[2]), "{counts:?}");
        assert_eq!(plan.devices(1).unwrap(), counts[0]);
        assert_ne!(plan.devices(2).unwrap(), counts[0], "the seed decides");
        // The shares of three machines are the whole.
        let mut sum = vec![0; counts.len()];
        for segment in ["1/3", "2/3", "3/3"] {
            let share = plan.segment_arrivals(1, segment.parse().unwrap()).unwrap();
            sum.iter_mut().zip(share).for_each(|(sum, (_, count))| *sum += count);
        }
        assert_eq!(sum, counts);
    }

    /// Each fault names the phase to change, and what it says to change makes the plan one that can be played, or at least cures this fault.
    #[test]
    fn what_nobody_can_play_is_refused_with_a_remedy_that_works() {
        let plan = |phases: &[Phase]| Plan { name: None, phases: phases.to_vec() }.devices(1);
        let of = |name: &str, lasts: Option<u64>, devices: Option<usize>, rate: f64| Phase {
            name: name.to_owned(),
            lasts: lasts.map(Duration::from_secs),
            devices,
            ..Phase::enrolling(0, Arrivals::Rate(rate))
        };
        let little = of("little", Some(10), None, 1.0);
        let refused = |phases: &[Phase], remedy: &str| {
            let fault = plan(phases).unwrap_err();
            assert_eq!(fault.remedy(), remedy, "{fault}");
            fault
        };

        let endless = of("endless", None, None, 1.0);
        let fault = refused(&[little.clone(), endless], "give phase `endless` a `for` or a number of `devices`");
        assert_eq!(fault, PlanFault::Endless { phase: "endless".to_owned() });
        assert!(plan(&[little.clone(), of("endless", Some(9), None, 1.0)]).is_ok());
        assert!(plan(&[little.clone(), of("endless", None, Some(9), 1.0)]).is_ok());

        let busy = |seconds, rate| of("busy", Some(seconds), None, rate);
        let remedy = "lower `rate`, `for` or `devices` of phase `busy`, which has most of them";
        let fault = refused(&[busy(86_400, 1e6), little.clone()], remedy);
        assert_eq!(fault.to_string(), "86400000010 arrivals are too many: a run has at most 100000000");
        assert!(plan(&[busy(86_400, 1.0), little.clone()]).is_ok() && plan(&[busy(1, 1e6), little.clone()]).is_ok());

        // Two phases below the limit are together above it.
        let crowd = |name, devices| of(name, None, Some(devices), 1e6);
        let remedy = "lower `rate`, `for` or `devices` of phase `crowd`, which starts 2500000 of them";
        let many = [crowd("first", 1_600_000), crowd("crowd", 2_500_000)];
        let fault = refused(&many, remedy);
        let said = "4100000 new devices are too many: a fleet has at most 4000000, on one machine or in segments";
        assert_eq!(fault.to_string(), said);
        assert!(plan(&[crowd("first", 1_600_000), crowd("crowd", 2_400_000)]).is_ok());
        let returning = Phase { population: PhasePopulation::Enrolled, ..crowd("crowd", 2_500_000) };
        assert!(plan(&[crowd("first", 1_600_000), returning]).is_ok(), "devices that come back are not new");
        assert_eq!(plan(&[Phase::enrolling(5, Arrivals::Concurrency(2))]), Ok(5));
    }

    #[test]
    fn what_is_asked_goes_on_after_a_phase_that_ends_with_its_devices() {
        let mut plan = Plan::of(Phase::enrolling(100, Arrivals::Rate(10.0)));
        plan.phases.push(Phase { lasts: Some(Duration::from_secs(10)), ..Phase::enrolling(500, Arrivals::Rate(50.0)) });
        let mut schedule = of_all(&plan, 4);
        assert_eq!(schedule.asked_at(Duration::from_secs(1)), Some(10.0));
        let mut second = None;
        while let Some(start) = schedule.due(ALL_TIME) {
            if start.phase == 1 {
                let asked = schedule.asked_at(start.scheduled);
                assert_eq!(asked, Some(50.0), "{start:?}");
                second.get_or_insert(start.scheduled);
            }
        }
        let second = second.unwrap();
        assert_eq!(schedule.asked_at(second.checked_sub(Duration::from_secs(1)).unwrap()), Some(10.0));
        assert_eq!(schedule.asked_at(second + Duration::from_secs(11)), Some(0.0));
    }

    /// A thread without a device at work would play one all the same, and the report would say another number.
    #[test]
    fn more_threads_than_devices_at_a_time_are_refused() {
        let plan = Plan::of(Phase::enrolling(100, Arrivals::Concurrency(6)));
        let two: Segment = "1/2".parse().unwrap();
        assert_eq!((plan.require_work_for(6, Segment::WHOLE), plan.require_work_for(3, two)), (Ok(()), Ok(())));
        for (threads, segment) in [(7, Segment::WHOLE), (4, two)] {
            let fault = plan.require_work_for(threads, segment).unwrap_err();
            let said = format!("{fault}; {}", fault.remedy());
            assert!(said.contains("6 devices at a time") && said.contains(&format!("{threads} threads")), "{said}");
            assert!(said.contains("--concurrency") && said.contains("--threads"), "{said}");
        }
        let at_work: usize = (0..3)
            .map(|thread| {
                let mut schedule = Schedule::new(&plan.phases, two.thread(thread, 3), 1);
                while schedule.due(Duration::ZERO).is_some() {}
                schedule.at_work()
            })
            .sum();
        assert_eq!(at_work, 3, "half of them are on the other machine");
        assert_eq!(Plan::of(Phase::enrolling(1, Arrivals::Rate(1.0))).require_work_for(64, Segment::WHOLE), Ok(()));
    }

    #[test]
    fn what_is_asked_follows_the_phases() {
        let schedule = of_all(&day(), 4);
        let asked = |seconds| schedule.asked_at(Duration::from_secs(seconds)).unwrap();
        assert_eq!(
            [asked(0), asked(10), asked(25), asked(35), asked(50), asked(70)],
            [0.0, 25.0, 0.0, 30.0, 25.0, 0.0]
        );
    }
}
