//! One report of the reports of several machines that played one fleet.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::build::SEND_LAG;
use super::{LoadReport, PhaseRow, REPORT_SCHEMA, ScheduleRow, SliceRow};
use crate::last_start::LastStart;
use crate::part::SEGMENTS_MAX;
use crate::stats::{DatagramTotals, DurationHistogram, FleetCounts, MeasuredStage, PhaseStats, Stats};
use crate::timeline::{LatencySketch, Slice, Timeline};

/// Why reports do not belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeFault {
    /// There is none.
    Nothing,
    /// One of another format.
    Schema(String),
    /// One of a segment that no run has.
    NoSegment {
        /// Its number.
        segment: u64,
        /// How many the report says there are.
        segments: u64,
    },
    /// One whose counts no run reaches.
    Counts {
        /// Its segment.
        segment: u64,
    },
    /// One whose rates, shares or seconds no run has.
    Numbers {
        /// Its segment.
        segment: u64,
    },
    /// Two differ in this.
    Differ(&'static str),
    /// A segment twice.
    Twice(u64),
    /// Segments that are not there.
    Missing(Vec<u64>),
}

impl fmt::Display for MergeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("there is no report"),
            Self::Schema(found) => write!(f, "`{found}` is not the format of a report: expected {REPORT_SCHEMA}"),
            Self::NoSegment { segment, segments } => {
                write!(f, "no run has a segment {segment}/{segments}: a fleet has at most {SEGMENTS_MAX}, from 1/1")
            }
            Self::Counts { segment } => {
                let most = COUNTS_MAX.ilog2();
                write!(
                    f,
                    "the report of segment {segment} is damaged: it counts to 2^{most} or more, which no run does"
                )
            }
            Self::Numbers { segment } => {
                write!(f, "the report of segment {segment} is damaged: no run has such a rate, share or time")
            }
            Self::Differ(what) => write!(f, "the reports are of different runs: they differ in `{what}`"),
            Self::Twice(segment) => write!(f, "segment {segment} is there twice"),
            Self::Missing(segments) => {
                let list: Vec<_> = segments.iter().map(ToString::to_string).collect();
                write!(f, "the report of segment {} is missing", list.join(", "))
            }
        }
    }
}

impl std::error::Error for MergeFault {}

/// Merges the reports of all segments of one run. Histograms add up, so the percentiles are those of one large run; the timelines are laid over one
/// another from the beginning of each.
///
/// # Errors
/// They are not all reports of one run.
pub fn merge(reports: &[LoadReport]) -> Result<LoadReport, MergeFault> {
    let (first, others) = reports.split_first().ok_or(MergeFault::Nothing)?;
    if let Some(foreign) = reports.iter().find(|report| report.schema != REPORT_SCHEMA) {
        return Err(MergeFault::Schema(foreign.schema.clone()));
    }
    // Before they are counted: a file can say anything.
    reports.iter().try_for_each(has_segment)?;
    others.iter().try_for_each(|other| same_run(first, other))?;
    let mut seen = BTreeSet::new();
    if let Some(double) = reports.iter().find(|report| !seen.insert(report.segment)) {
        return Err(MergeFault::Twice(double.segment));
    }
    let missing: Vec<u64> = (1..=first.segments).filter(|segment| !seen.contains(segment)).collect();
    if !missing.is_empty() {
        return Err(MergeFault::Missing(missing));
    }
    // Whatever is added up below is a part of this sum.
    let sums: Vec<u128> = reports.iter().map(|report| counts(report).map(u128::from).sum()).collect();
    if sums.iter().sum::<u128>() >= u128::from(COUNTS_MAX)
        && let Some((report, _)) = reports.iter().zip(&sums).max_by_key(|(_, sum)| **sum)
    {
        return Err(MergeFault::Counts { segment: report.segment });
    }
    if let Some(damaged) = reports.iter().find(|report| !has_numbers(report)) {
        return Err(MergeFault::Numbers { segment: damaged.segment });
    }
    let mut stats = Stats::of_phases(first.phases.len());
    for report in reports {
        stats.add(&measured(report));
    }
    let mut sum = first.clone();
    sum.segment = 0;
    sum.criteria.clear();
    sum.devices = reports.iter().map(|report| report.devices).sum();
    // The figures are of what was done so far, on that machine.
    sum.interrupted = reports.iter().any(|report| report.interrupted);
    sum.threads = reports.iter().map(|report| report.threads).sum();
    sum.seconds = reports.iter().map(|report| report.seconds).fold(0.0, f64::max);
    sum.generator.cpu_seconds = reports.iter().map(|report| report.generator.cpu_seconds).sum();
    let shares = reports.iter().map(|report| report.generator.busiest_thread_share);
    sum.generator.busiest_thread_share = shares.fold(0.0, f64::max);
    let shares = reports.iter().map(|report| report.generator.waiting_thread_share);
    sum.generator.waiting_thread_share = shares.fold(0.0, f64::max);
    let shares = reports.iter().map(|report| report.generator.busiest_window_share);
    sum.generator.busiest_window_share = shares.fold(0.0, f64::max);
    let shares = reports.iter().map(|report| report.generator.waiting_window_share);
    sum.generator.waiting_window_share = shares.fold(0.0, f64::max);
    for (place, row) in sum.phases.iter_mut().enumerate() {
        let shares = reports.iter().filter_map(|report| report.phases.get(place)?.offered_share);
        row.offered_share = shares.reduce(f64::min);
        let phases = || reports.iter().filter_map(|report| report.phases.get(place));
        row.busiest_window_share = phases().map(|phase| phase.busiest_window_share).fold(0.0, f64::max);
        row.waiting_window_share = phases().map(|phase| phase.waiting_window_share).fold(0.0, f64::max);
    }
    sum.schedule = schedule(reports);
    sum.take(&stats);
    // A machine that was spoiled spoils the sum, although its figures may drown in those of the others.
    for report in reports.iter().filter(|_| reports.len() > 1) {
        let named = report.generator.spoiled_by.iter().map(|why| format!("segment {}: {why}", report.segment));
        sum.generator.spoiled_by.extend(named);
    }
    Ok(sum)
}

/// All counts of all reports together are below this: then no sum of a merged report, and no sum of two of its counts, is beyond 2^64. A thousand machines that
/// send a gigabyte in each second of a month, or whose 256 threads compute for a month, stay below it.
const COUNTS_MAX: u64 = 1 << 62;

/// No rate, share or time of a run is above this: the sum of a thousand is finite, and JSON has it.
const NUMBER_MAX: f64 = 1e15;

/// What others are divided by is zero, or not below this: a run is a nanosecond long at least, and a rate that of one device in many years.
const DIVISOR_MIN: f64 = 1e-12;

/// Whether all rates, shares and times that a merged report takes over are those of a run.
fn has_numbers(report: &LoadReport) -> bool {
    let generator = &report.generator;
    let own = [report.seconds, generator.cpu_seconds, generator.busiest_thread_share];
    let more = [generator.waiting_thread_share, generator.busiest_window_share, generator.waiting_window_share];
    let schedule = report
        .schedule
        .into_iter()
        .flat_map(|row| [row.asked_per_second, row.offered_per_second, row.offered_share, row.on_time_share]);
    let phases = report
        .phases
        .iter()
        .flat_map(|row| [row.offered_share.unwrap_or_default(), row.busiest_window_share, row.waiting_window_share]);
    let divisors = [report.seconds, report.schedule.map_or(0.0, |row| row.asked_per_second)];
    own.into_iter().chain(more).chain(schedule).chain(phases).all(|number| (0.0..=NUMBER_MAX).contains(&number))
        && divisors.into_iter().all(|number| number <= 0.0 || number >= DIVISOR_MIN)
}

/// Everything in a report that is added to the same of another one.
fn counts(report: &LoadReport) -> impl Iterator<Item = u64> {
    let LoadReport { devices, threads, scheduled, started, done, enrolled, renewed, failed, vanished, .. } = *report;
    let LoadReport { reboots, storm_restarts, starved, later_answers, repeated_attempts, traffic, link, .. } = *report;
    let own = [devices, threads, scheduled, started, done, enrolled, renewed, failed, vanished];
    let own = own.into_iter().chain([report.cut_handshakes, report.cut_uploads]);
    let own = own.chain([reboots, storm_restarts, starved, later_answers, repeated_attempts]);
    let traffic = [traffic.datagrams_sent, traffic.bytes_sent, traffic.datagrams_received, traffic.bytes_received];
    let link = link.into_iter().flat_map(|link| [link.lost, link.repeated]);
    let stages = report.stages.iter().map(|row| row.failed);
    let errors = report.errors.iter().map(|row| row.count);
    let histograms = report.histograms.iter().flat_map(|row| &row.buckets);
    let phases = report.phases.iter().flat_map(|row| [row.scheduled, row.started, row.done, row.failed]);
    let of_phases = report.phases.iter().flat_map(|row| row.buckets.iter().chain(&row.lag_buckets));
    let slices = report.timeline.slices.iter();
    let slices = slices.flat_map(|row| [row.scheduled, row.started, row.done, row.failed, row.in_flight, row.cpu_us]);
    let buckets = histograms.chain(of_phases).map(|(_, count)| *count);
    let rows = stages.chain(errors).chain(phases).chain(slices).chain(buckets);
    let generator = &report.generator;
    let sockets =
        [generator.stray_datagrams, generator.receive_drops, generator.refused_sends, generator.dropped_sends];
    own.chain(traffic).chain(link).chain(sockets).chain(rows)
}

fn has_segment(report: &LoadReport) -> Result<(), MergeFault> {
    let (segment, segments) = (report.segment, report.segments);
    let most = u64::try_from(SEGMENTS_MAX).unwrap_or(u64::MAX);
    let exists = segments <= most && (1..=segments).contains(&segment);
    if exists { Ok(()) } else { Err(MergeFault::NoSegment { segment, segments }) }
}

fn same_run(a: &LoadReport, b: &LoadReport) -> Result<(), MergeFault> {
    let each = |same: fn(&PhaseRow, &PhaseRow) -> bool| {
        a.phases.len() == b.phases.len() && a.phases.iter().zip(&b.phases).all(|(a, b)| same(a, b))
    };
    let (one, other) = (&a.conduct, &b.conduct);
    let same = [
        ("server", a.server == b.server),
        ("seed", a.seed == b.seed),
        ("segments", a.segments == b.segments),
        ("arrivals", a.arrivals == b.arrivals),
        ("phases", each(|a, b| (&a.name, &a.plan) == (&b.name, &b.plan))),
        ("fleet", a.fleet == b.fleet),
        ("planned", each(|a, b| a.planned == b.planned)),
        ("suite", each(|a, b| a.suite == b.suite)),
        ("path", one.path == other.path),
        ("linked", one.linked == other.linked),
        ("ca_certificates", one.ca_certificates == other.ca_certificates),
        ("timeout_ms", one.timeout_ms == other.timeout_ms),
        // What is left of it.
        ("conduct", one == other),
    ];
    same.into_iter().find(|(_, same)| !same).map_or(Ok(()), |(what, _)| Err(MergeFault::Differ(what)))
}

fn schedule(reports: &[LoadReport]) -> Option<ScheduleRow> {
    let rows: Option<Vec<_>> = reports.iter().map(|report| report.schedule).collect();
    let rows = rows?;
    let asked: f64 = rows.iter().map(|row| row.asked_per_second).sum();
    let offered: f64 = rows.iter().map(|row| row.offered_per_second).sum();
    Some(ScheduleRow::offered(asked, if asked > 0.0 { (offered / asked).min(1.0) } else { 1.0 }))
}

/// The measurements behind a report.
fn measured(report: &LoadReport) -> Stats {
    let mut stats = Stats::of_phases(report.phases.len());
    for row in &report.histograms {
        let histogram = DurationHistogram::from_buckets(&row.buckets);
        if row.stage == SEND_LAG {
            *stats.send_lag_mut() = histogram;
        } else if let Some(stage) = MeasuredStage::named(&row.stage) {
            *stats.histogram_mut(stage) = histogram;
        }
    }
    for row in &report.stages {
        if let Some(stage) = MeasuredStage::named(&row.stage) {
            *stats.failed_in_mut(stage) = row.failed;
        }
    }
    for row in &report.errors {
        if let Some(stage) = MeasuredStage::named(&row.stage) {
            stats.add_failures(stage, &row.reason, row.count);
        }
    }
    for (phase, row) in stats.phases_mut().iter_mut().zip(&report.phases) {
        *phase = PhaseStats {
            scheduled: row.scheduled,
            started: row.started,
            done: row.done,
            failed: row.failed,
            total: DurationHistogram::from_buckets(&row.buckets),
            send_lag: DurationHistogram::from_buckets(&row.lag_buckets),
            // The share that was offered is in the report.
            first: None,
            last: LastStart::default(),
        };
    }
    stats.counts = FleetCounts {
        scheduled: report.scheduled,
        started: report.started,
        done: report.done,
        enrolled: report.enrolled,
        renewed: report.renewed,
        failed: report.failed,
        vanished: report.vanished,
        later_answers: report.later_answers,
        repeated_attempts: report.repeated_attempts,
        cut_handshakes: report.cut_handshakes,
        cut_uploads: report.cut_uploads,
        reboots: report.reboots,
        storm_restarts: report.storm_restarts,
        starved: report.starved,
        stray_datagrams: report.generator.stray_datagrams,
        link_lost: report.link.map_or(0, |link| link.lost),
        link_repeated: report.link.map_or(0, |link| link.repeated),
        receive_drops: report.generator.receive_drops,
        refused_sends: report.generator.refused_sends,
        dropped_sends: report.generator.dropped_sends,
    };
    stats.traffic = DatagramTotals {
        datagrams_sent: report.traffic.datagrams_sent,
        bytes_sent: report.traffic.bytes_sent,
        datagrams_received: report.traffic.datagrams_received,
        bytes_received: report.traffic.bytes_received,
    };
    let slices = report.timeline.slices.iter().map(slice).collect();
    stats.timeline = Timeline::of(Duration::from_millis(report.timeline.width_ms), slices);
    stats
}

fn slice(row: &SliceRow) -> Slice {
    Slice {
        scheduled: row.scheduled,
        started: row.started,
        done: row.done,
        failed: row.failed,
        in_flight: row.in_flight,
        send_lag_max_us: row.send_lag_max_us,
        cpu_us: row.cpu_us,
        took: LatencySketch::from_steps(&row.took),
    }
}
