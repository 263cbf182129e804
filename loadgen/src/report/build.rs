//! A report of the measurements.

use std::time::Duration;

use super::{
    ArrivalsRow, ConductRow, ErrorRow, GeneratorRow, HistogramRow, LinkRow, LoadReport, PercentilesRow, PhaseRow,
    REPORT_SCHEMA, ScheduleRow, SliceRow, StageRow, TimelineRow, TrafficRow,
};
use crate::last_start::{LATENESS_FORGIVEN, LastStart};
use crate::number::float;
use crate::part::Segment;
use crate::plan::{Arrivals, Phase, Plan};
use crate::run::{LoadedServer, Patience};
use crate::stats::{DurationHistogram, MeasuredStage, Percentiles, Stats, micros};
use crate::strain::Strain;
use crate::timeline::{Slice, Timeline};
use crate::verdict::{GeneratorFacts, Lost, OFFERED_SHARE_MIN, WHOLE_RUN_STARTS_MIN, is_late};

/// The parameters and circumstances of a run, for the report.
#[derive(Debug, Clone)]
pub(crate) struct RunFacts<'r> {
    /// The server's URI.
    pub(crate) server: String,
    /// Devices of this machine.
    pub(crate) devices: usize,
    /// Devices of all machines.
    pub(crate) fleet: usize,
    /// Arrivals of each phase on all machines.
    pub(crate) planned: Vec<usize>,
    pub(crate) conduct: ConductRow,
    pub(crate) interrupted: bool,
    pub(crate) plan: &'r Plan,
    pub(crate) seed: u64,
    pub(crate) segment: Segment,
    pub(crate) threads: usize,
    /// Length of the run.
    pub(crate) took: Duration,
    /// CPU that the generator's threads used during the run.
    pub(crate) cpu: Duration,
    /// CPU of the busiest one.
    pub(crate) busiest: Duration,
    /// How long the thread that waited most for a core waited.
    pub(crate) waiting: Duration,
    /// By phase: the shares of a core in the window in which they were largest.
    pub(crate) strain: Vec<Strain>,
    /// The last start.
    pub(crate) starts: LastStart,
}

/// The name of the send lag among the histograms.
pub(super) const SEND_LAG: &str = "send_lag";

impl LoadReport {
    /// Builds the report from the measurements of a run.
    pub(crate) fn new(facts: &RunFacts<'_>, stats: &Stats) -> Self {
        let plan = facts.plan;
        let seconds = facts.took.as_secs_f64();
        let schedule = plan.is_open_loop().then(|| ScheduleRow::new(facts, stats));
        let first = plan.phases.first();
        let has_link = plan.phases.iter().any(|phase| phase.link.is_some());
        let mut report = Self {
            schema: REPORT_SCHEMA.to_owned(),
            server: facts.server.clone(),
            devices: count(facts.devices),
            fleet: count(facts.fleet),
            interrupted: facts.interrupted,
            scheduled: 0,
            started: 0,
            done: 0,
            enrolled: 0,
            renewed: 0,
            failed: 0,
            vanished: 0,
            reboots: 0,
            storm_restarts: 0,
            starved: 0,
            later_answers: 0,
            repeated_attempts: 0,
            cut_handshakes: 0,
            cut_uploads: 0,
            seconds,
            enrolled_per_second: 0.0,
            arrivals: ArrivalsRow::of(plan),
            schedule,
            block: first.and_then(|phase| u16::try_from(phase.block.bytes()).ok()).unwrap_or(0),
            suite: first.map_or("", |phase| phase.suite.name()).to_owned(),
            conduct: facts.conduct.clone(),
            seed: facts.seed,
            segment: count(facts.segment.number()),
            segments: count(facts.segment.of()),
            threads: count(facts.threads),
            stages: Vec::new(),
            errors: Vec::new(),
            phases: plan.phases.iter().zip(&facts.planned).map(PhaseRow::unmeasured).collect(),
            histograms: Vec::new(),
            timeline: TimelineRow { width_ms: 0, slices: Vec::new() },
            traffic: TrafficRow { datagrams_sent: 0, bytes_sent: 0, datagrams_received: 0, bytes_received: 0 },
            generator: GeneratorRow::unmeasured(facts, stats),
            link: has_link.then_some(LinkRow { lost: 0, repeated: 0 }),
            criteria: Vec::new(),
        };
        if plan.is_open_loop() {
            for (row, phase) in report.phases.iter_mut().zip(stats.phases()) {
                row.offered_share = Some(phase.offered_share());
            }
        }
        for (row, strain) in report.phases.iter_mut().zip(&facts.strain) {
            (row.busiest_window_share, row.waiting_window_share) = (strain.busy, strain.waiting);
        }
        report.take(stats);
        report
    }

    /// Fills in what was measured.
    pub(super) fn take(&mut self, stats: &Stats) {
        let counts = stats.counts;
        (self.scheduled, self.started, self.done, self.failed) =
            (counts.scheduled, counts.started, counts.done, counts.failed);
        (self.enrolled, self.renewed, self.vanished) = (counts.enrolled, counts.renewed, counts.vanished);
        (self.reboots, self.storm_restarts, self.starved) = (counts.reboots, counts.storm_restarts, counts.starved);
        (self.later_answers, self.repeated_attempts) = (counts.later_answers, counts.repeated_attempts);
        (self.cut_handshakes, self.cut_uploads) = (counts.cut_handshakes, counts.cut_uploads);
        self.enrolled_per_second = if self.seconds > 0.0 { float(counts.enrolled) / self.seconds } else { 0.0 };
        let stages = MeasuredStage::ALL.into_iter();
        self.stages = stages
            .clone()
            .map(|stage| StageRow {
                stage: stage.name().to_owned(),
                failed: stats.failed_in(stage),
                took: stats.stage(stage).into(),
            })
            .collect();
        let failures = stats.failures();
        self.errors = failures
            .map(|(stage, reason, count)| ErrorRow { stage: stage.name().to_owned(), reason: reason.to_owned(), count })
            .collect();
        for (row, phase) in self.phases.iter_mut().zip(stats.phases()) {
            (row.scheduled, row.started, row.done, row.failed) =
                (phase.scheduled, phase.started, phase.done, phase.failed);
            (row.total, row.buckets) = (phase.total.percentiles().into(), phase.total.buckets());
            (row.send_lag, row.lag_buckets) = (phase.send_lag.percentiles().into(), phase.send_lag.buckets());
        }
        let all = stages.map(|stage| (stage.name(), stats.histogram(stage))).chain([(SEND_LAG, stats.send_lag())]);
        self.histograms = all
            .filter(|(_, histogram)| histogram.count() > 0)
            .map(|(stage, histogram)| HistogramRow { stage: stage.to_owned(), buckets: histogram.buckets() })
            .collect();
        self.timeline = TimelineRow::of(&stats.timeline);
        let traffic = stats.traffic;
        self.traffic = TrafficRow {
            datagrams_sent: traffic.datagrams_sent,
            bytes_sent: traffic.bytes_sent,
            datagrams_received: traffic.datagrams_received,
            bytes_received: traffic.bytes_received,
        };
        self.generator.stray_datagrams = counts.stray_datagrams;
        (self.generator.receive_drops, self.generator.refused_sends, self.generator.dropped_sends) =
            (counts.receive_drops, counts.refused_sends, counts.dropped_sends);
        self.generator.send_lag = stats.send_lag().percentiles().into();
        if let Some(link) = &mut self.link {
            (link.lost, link.repeated) = (counts.link_lost, counts.link_repeated);
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.judge_starts(stats.send_lag());
        }
        self.generator.spoiled_by = self.flaws(stats);
    }

    /// Why the run measured the generator: as a whole, and in each of several phases.
    fn flaws(&self, stats: &Stats) -> Vec<String> {
        let counts = stats.counts;
        let whole = GeneratorFacts {
            offered_share: self.schedule.map(|schedule| schedule.offered_share),
            on_time_share: self.schedule.map(|schedule| schedule.on_time_share),
            unplayed: counts.scheduled.saturating_sub(counts.started),
            send_lag: stats.send_lag().percentiles(),
            total: stats.stage(MeasuredStage::Total),
            busiest_share: self.generator.busiest_window_share,
            waiting_share: self.generator.waiting_window_share,
            without_socket: stats.without_socket(),
            unread: Lost {
                datagrams: counts.receive_drops,
                of: stats.traffic.datagrams_received + counts.stray_datagrams + counts.receive_drops,
            },
            unsent: Lost { datagrams: counts.refused_sends + counts.dropped_sends, of: stats.traffic.datagrams_sent },
        };
        let mut flaws: Vec<_> = whole.flaws().iter().map(ToString::to_string).collect();
        for (row, phase) in self.phases.iter().zip(stats.phases()).filter(|_| self.phases.len() > 1) {
            let facts = GeneratorFacts {
                offered_share: row.offered_share,
                on_time_share: row.offered_share.map(|_| on_time_share(&phase.send_lag)),
                unplayed: phase.scheduled.saturating_sub(phase.started),
                send_lag: phase.send_lag.percentiles(),
                total: phase.total.percentiles(),
                busiest_share: row.busiest_window_share,
                waiting_share: row.waiting_window_share,
                // What a socket loses has no phase.
                without_socket: 0,
                unread: Lost::default(),
                unsent: Lost::default(),
            };
            flaws.extend(facts.flaws().iter().map(|flaw| format!("phase `{}`: {flaw}", row.name)));
        }
        flaws
    }
}

impl GeneratorRow {
    /// What the threads used, and nothing of what their devices measured.
    fn unmeasured(facts: &RunFacts<'_>, stats: &Stats) -> Self {
        let seconds = facts.took.as_secs_f64();
        let share = |time: Duration| if seconds > 0.0 { time.as_secs_f64() / seconds } else { 0.0 };
        let strain = match facts.strain.as_slice() {
            // Too short for any window: the run as a whole is the only one.
            [] if stats.counts.started >= WHOLE_RUN_STARTS_MIN => {
                Strain { busy: share(facts.busiest), waiting: share(facts.waiting) }
            }
            windows => Strain::of_all(windows),
        };
        Self {
            cpu_seconds: facts.cpu.as_secs_f64(),
            busiest_thread_share: share(facts.busiest),
            waiting_thread_share: share(facts.waiting),
            busiest_window_share: strain.busy,
            waiting_window_share: strain.waiting,
            send_lag: Percentiles::default().into(),
            stray_datagrams: 0,
            receive_drops: 0,
            refused_sends: 0,
            dropped_sends: 0,
            spoiled_by: Vec::new(),
        }
    }
}

impl ConductRow {
    pub(crate) fn of(server: &LoadedServer, patience: &Patience) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            path: server.root.join("/"),
            linked: server.linked_requests,
            ca_certificates: !server.without_ca_certificates,
            timeout_ms: millis(patience.timeout),
            attempts: patience.attempts,
            ack_timeout_ms: millis(patience.ack_timeout),
            handshake_timeout_ms: millis(patience.handshake_timeout),
        }
    }
}

impl ArrivalsRow {
    fn of(plan: &Plan) -> Self {
        match (&plan.name, plan.phases.first().map(|phase| phase.arrivals)) {
            (Some(name), _) => Self::Scenario { name: name.clone() },
            (None, Some(Arrivals::Concurrency(devices))) => Self::Concurrency { devices: count(devices) },
            (None, Some(Arrivals::Rate(per_second))) => Self::Rate { per_second },
            (None, _) => Self::Scenario { name: String::new() },
        }
    }
}

impl ScheduleRow {
    fn new(facts: &RunFacts<'_>, stats: &Stats) -> Self {
        let offered_share = facts.starts.offered_share() * stats.counts.played_share();
        let segments = float(count(facts.segment.of()));
        let asked_per_second = match facts.plan.phases.as_slice() {
            [phase] if matches!(phase.arrivals, Arrivals::Rate(_)) => match phase.arrivals {
                Arrivals::Rate(rate) => rate / segments,
                _ => 0.0,
            },
            phases => {
                let planned: Duration = phases.iter().filter_map(|phase| phase.lasts).sum();
                let span = planned.max(facts.starts.scheduled).as_secs_f64();
                if span > 0.0 { float(stats.counts.scheduled) / span } else { 0.0 }
            }
        };
        Self::offered(asked_per_second, offered_share)
    }

    /// A share of a rate.
    pub(super) fn offered(asked_per_second: f64, offered_share: f64) -> Self {
        Self {
            asked_per_second,
            offered_per_second: asked_per_second * offered_share,
            offered_share,
            on_time_share: 1.0,
            void: offered_share < OFFERED_SHARE_MIN,
        }
    }

    /// Looks at every start: the last one may be in time although a stall in the middle was made up for in a burst.
    fn judge_starts(&mut self, send_lag: &DurationHistogram) {
        self.on_time_share = on_time_share(send_lag);
        self.void |= is_late(self.on_time_share, send_lag.count());
    }
}

/// The share of the starts that were in time.
fn on_time_share(send_lag: &DurationHistogram) -> f64 {
    send_lag.share_within(LATENESS_FORGIVEN)
}

impl PhaseRow {
    fn unmeasured((phase, planned): (&Phase, &usize)) -> Self {
        let none = PercentilesRow::from(Percentiles::default());
        let (name, plan, suite) = (phase.name.clone(), phase.to_string(), phase.suite.name().to_owned());
        Self {
            name,
            plan,
            suite,
            planned: count(*planned),
            scheduled: 0,
            started: 0,
            done: 0,
            failed: 0,
            total: none,
            buckets: Vec::new(),
            offered_share: None,
            send_lag: none,
            lag_buckets: Vec::new(),
            busiest_window_share: 0.0,
            waiting_window_share: 0.0,
        }
    }
}

impl TimelineRow {
    fn of(timeline: &Timeline) -> Self {
        let slices = timeline.slices().iter().map(SliceRow::of).collect();
        Self { width_ms: u64::try_from(timeline.width().as_millis()).unwrap_or(u64::MAX), slices }
    }
}

impl SliceRow {
    fn of(slice: &Slice) -> Self {
        Self {
            scheduled: slice.scheduled,
            started: slice.started,
            done: slice.done,
            failed: slice.failed,
            in_flight: slice.in_flight,
            send_lag_max_us: slice.send_lag_max_us,
            cpu_us: slice.cpu_us,
            p50_us: slice.took.at_quantile(0.5),
            p99_us: slice.took.at_quantile(0.99),
            took: slice.took.steps(),
        }
    }
}

impl From<Percentiles> for PercentilesRow {
    fn from(p: Percentiles) -> Self {
        Self {
            count: p.count,
            p50_us: micros(p.p50),
            p90_us: micros(p.p90),
            p99_us: micros(p.p99),
            max_us: micros(p.max),
            p999_us: micros(p.p999),
            mean_us: micros(p.mean),
        }
    }
}

fn count(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
