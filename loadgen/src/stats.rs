//! The measurements of a run: a histogram per stage, failures by stage and reason, datagrams and bytes, and how all that went over time.
//!
//! Each thread of a run has its own, and they are merged at its end. `fleet` and `device` record them, `report` reads them. This module reads no clock:
//! durations are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::last_start::LastStart;
use crate::number::float;
use crate::timeline::Timeline;

/// The stages of one device's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MeasuredStage {
    /// From the first ClientHello to the server's Finished.
    Handshake,
    /// `GET /crts`, to the last block.
    CaCertificates,
    /// `GET /att`, to the last block.
    CsrAttributes,
    /// `POST /sen`, from the first block of the CSR to the last block of the certificate.
    Enrol,
    /// `POST /skg`, from the first block of the CSR to the last block of key and certificate.
    KeyGeneration,
    /// `POST /skc`, the same.
    KeyGenerationBare,
    /// `POST /sren`, or `/skg` again, over a session with the certificate of before.
    Renewal,
    /// `GET /ren`, over a session with the certificate that it is about.
    RenewalInfo,
    /// From the scheduled start to the last answer.
    Total,
}

/// The number of stages.
const STAGES: usize = 9;

impl MeasuredStage {
    /// All stages, in the order of a run.
    pub const ALL: [Self; STAGES] = [
        Self::Handshake,
        Self::CaCertificates,
        Self::CsrAttributes,
        Self::Enrol,
        Self::KeyGeneration,
        Self::KeyGenerationBare,
        Self::Renewal,
        Self::RenewalInfo,
        Self::Total,
    ];

    /// Whether a table shows it although no device completed it.
    pub(crate) fn is_common(self) -> bool {
        matches!(self, Self::Handshake | Self::CaCertificates | Self::Total)
    }

    /// Its name in tables and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::CaCertificates => "crts",
            Self::CsrAttributes => "att",
            Self::Enrol => "enrol",
            Self::KeyGeneration => "skg",
            Self::KeyGenerationBare => "skc",
            Self::Renewal => "renew",
            Self::RenewalInfo => "ren",
            Self::Total => "total",
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }

    fn index(self) -> usize {
        // The order of declaration is that of `ALL`.
        self as usize
    }
}

/// Datagrams and bytes of UDP payload, in each direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatagramTotals {
    /// Datagrams from the devices.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Datagrams to the devices.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

impl DatagramTotals {
    /// Counts one datagram of `bytes` from a device.
    pub fn sent(&mut self, bytes: usize) {
        self.datagrams_sent += 1;
        self.bytes_sent += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Counts one datagram of `bytes` to a device.
    pub fn received(&mut self, bytes: usize) {
        self.datagrams_received += 1;
        self.bytes_received += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// Adds the datagrams of another thread or machine.
    pub fn add(&mut self, other: &Self) {
        self.datagrams_sent += other.datagrams_sent;
        self.bytes_sent += other.bytes_sent;
        self.datagrams_received += other.datagrams_received;
        self.bytes_received += other.bytes_received;
    }
}

/// Percentiles of one histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// The number of measured durations.
    pub count: u64,
    /// Their mean.
    pub mean: Duration,
    /// Half of the durations were at most this.
    pub p50: Duration,
    /// Nine of ten.
    pub p90: Duration,
    /// 99 of 100.
    pub p99: Duration,
    /// 999 of 1,000.
    pub p999: Duration,
    /// The largest.
    pub max: Duration,
}

/// A histogram of durations: microseconds up to an hour with three significant digits. A longer duration means that a device hung.
#[derive(Debug, Clone)]
pub struct DurationHistogram(Histogram<u64>);

/// The longest duration that is told apart from longer ones.
const HOUR_US: u64 = 3_600_000_000;

impl Default for DurationHistogram {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, HOUR_US, 3).expect("1 to an hour at three digits is a valid range"))
    }
}

impl DurationHistogram {
    /// Records a duration.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(micros(took));
    }

    /// Adds all durations of another histogram.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so every value fits.
        let fits = self.0.add(&other.0);
        debug_assert!(fits.is_ok(), "histograms of one shape");
    }

    /// Its percentiles.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        if self.0.is_empty() {
            return Percentiles::default();
        }
        let at = |quantile| Duration::from_micros(self.0.value_at_quantile(quantile));
        Percentiles {
            count: self.0.len(),
            mean: Duration::from_secs_f64(self.0.mean() / 1e6),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Duration::from_micros(self.0.max()),
        }
    }

    /// The duration below which a share of all durations lies.
    #[must_use]
    pub fn at_quantile(&self, quantile: f64) -> Duration {
        if self.0.is_empty() { Duration::ZERO } else { Duration::from_micros(self.0.value_at_quantile(quantile)) }
    }

    /// The share of the durations up to this one; 1 if there is none.
    #[must_use]
    pub fn share_within(&self, most: Duration) -> f64 {
        if self.0.is_empty() { 1.0 } else { float(self.0.count_between(0, micros(most))) / float(self.0.len()) }
    }

    /// The number of durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The counts that are not zero: the highest duration of each in microseconds, and the count. [`Self::from_buckets`] makes the same histogram of
    /// them.
    #[must_use]
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }

    /// The histogram of these counts.
    #[must_use]
    pub fn from_buckets(buckets: &[(u64, u64)]) -> Self {
        let mut all = Self::default();
        // A count of zero would move the maximum.
        for (value, count) in buckets.iter().filter(|(_, count)| *count > 0) {
            all.0.saturating_record_n(*value, *count);
        }
        all
    }
}

/// What happened to the devices of one phase.
#[derive(Debug, Clone, Default)]
pub struct PhaseStats {
    /// Devices whose time came.
    pub scheduled: u64,
    /// Devices that started.
    pub started: u64,
    /// Devices that got what they asked for.
    pub done: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// From the scheduled start to the last answer.
    pub total: DurationHistogram,
    /// The generator's own delay.
    pub send_lag: DurationHistogram,
    /// The first scheduled start.
    pub(crate) first: Option<Duration>,
    /// The last start.
    pub(crate) last: LastStart,
}

impl PhaseStats {
    /// The share of the requested rate at which the devices started. An arrival that no device could play was not offered.
    #[must_use]
    pub fn offered_share(&self) -> f64 {
        self.last.offered_share_since(self.first.unwrap_or_default()) * played_share(self.started, self.scheduled)
    }
}

/// The share of the arrivals that devices played; whole if nobody was to arrive.
fn played_share(started: u64, scheduled: u64) -> f64 {
    if scheduled == 0 { 1.0 } else { (float(started) / float(scheduled)).min(1.0) }
}

/// Counts of a run; the sum of its threads' and machines' counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetCounts {
    /// Devices whose time came.
    pub scheduled: u64,
    /// Devices that started.
    pub started: u64,
    /// Devices that got what they asked for.
    pub done: u64,
    /// Devices that got a certificate.
    pub enrolled: u64,
    /// Devices that renewed one.
    pub renewed: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// Devices among the done that went away without close_notify.
    pub vanished: u64,
    /// Answers that asked a device to come back later (5.03, 4.29).
    pub later_answers: u64,
    /// Attempts that failed and were repeated.
    pub repeated_attempts: u64,
    /// Failed attempts that ended in a handshake whose ServerHello was there: the server had begun its work.
    pub cut_handshakes: u64,
    /// Uploads of which the server took blocks before it asked the device to come back later.
    pub cut_uploads: u64,
    /// Devices that lost their state and began again from the same address and port.
    pub reboots: u64,
    /// Times that an impatient device began again without waiting for an answer.
    pub storm_restarts: u64,
    /// Arrivals of devices that hold a certificate for which there was no such device.
    pub starved: u64,
    /// Datagrams without a device: late answers to devices that are done.
    pub stray_datagrams: u64,
    /// Datagrams lost on the emulated link.
    pub link_lost: u64,
    /// Answers that arrived twice there.
    pub link_repeated: u64,
    /// Datagrams that the kernel dropped because a socket of the generator was full.
    pub receive_drops: u64,
    /// Datagrams that this machine's kernel refused to send; not those whose peer was reported as absent.
    pub refused_sends: u64,
    /// Datagrams that waited for the kernel and found no room to wait, or still waited at the end.
    pub dropped_sends: u64,
}

impl FleetCounts {
    /// Adds the counts of another thread or machine.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.scheduled, other.scheduled),
            (&mut self.started, other.started),
            (&mut self.done, other.done),
            (&mut self.enrolled, other.enrolled),
            (&mut self.renewed, other.renewed),
            (&mut self.failed, other.failed),
            (&mut self.vanished, other.vanished),
            (&mut self.later_answers, other.later_answers),
            (&mut self.repeated_attempts, other.repeated_attempts),
            (&mut self.cut_handshakes, other.cut_handshakes),
            (&mut self.cut_uploads, other.cut_uploads),
            (&mut self.reboots, other.reboots),
            (&mut self.storm_restarts, other.storm_restarts),
            (&mut self.starved, other.starved),
            (&mut self.stray_datagrams, other.stray_datagrams),
            (&mut self.link_lost, other.link_lost),
            (&mut self.link_repeated, other.link_repeated),
            (&mut self.receive_drops, other.receive_drops),
            (&mut self.refused_sends, other.refused_sends),
            (&mut self.dropped_sends, other.dropped_sends),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
    }

    /// The share of the arrivals that devices played.
    pub(crate) fn played_share(&self) -> f64 {
        played_share(self.started, self.scheduled)
    }

    /// Devices that are at work.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.done + self.failed)
    }
}

/// The reason of a device that the generator could not play, in front of the system's; no answer and no failure of a client begins with it.
const NO_SOCKET: &str = "the generator has no socket for it";

/// Everything measured in one run.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    stages: [DurationHistogram; STAGES],
    /// Devices that gave up, by stage.
    gave_up: [u64; STAGES],
    send_lag: DurationHistogram,
    failures: BTreeMap<(MeasuredStage, String), u64>,
    phases: Vec<PhaseStats>,
    /// Counts.
    pub counts: FleetCounts,
    /// Datagrams and bytes.
    pub traffic: DatagramTotals,
    /// The run by time.
    pub timeline: Timeline,
}

impl Stats {
    /// Nothing measured yet, for a run of so many phases.
    #[must_use]
    pub fn of_phases(phases: usize) -> Self {
        Self { phases: vec![PhaseStats::default(); phases], ..Self::default() }
    }

    /// Records the duration of a stage.
    pub fn record(&mut self, stage: MeasuredStage, took: Duration) {
        self.stages[stage.index()].record(took);
    }

    /// Notes that a device's time has come.
    pub fn scheduled(&mut self, phase: usize, at: Duration) {
        self.counts.scheduled += 1;
        self.timeline.slice(at).scheduled += 1;
        if let Some(phase) = self.phases.get_mut(phase) {
            phase.scheduled += 1;
        }
    }

    /// Notes that a device's first datagram left, `lag` after its scheduled time: the generator's own delay, not the server's.
    pub fn started(&mut self, phase: usize, scheduled: Duration, lag: Duration) {
        self.counts.started += 1;
        self.send_lag.record(lag);
        if let Some(phase) = self.phases.get_mut(phase) {
            phase.started += 1;
            phase.send_lag.record(lag);
            phase.first = Some(phase.first.map_or(scheduled, |first| first.min(scheduled)));
            phase.last = phase.last.later(LastStart { scheduled, actual: scheduled + lag });
        }
        let slice = self.timeline.slice(scheduled + lag);
        slice.started += 1;
        slice.send_lag_max_us = slice.send_lag_max_us.max(micros(lag));
    }

    /// Notes that a device got all that it asked for, `took` after its scheduled start.
    pub fn done(&mut self, phase: usize, at: Duration, took: Duration) {
        self.counts.done += 1;
        self.record(MeasuredStage::Total, took);
        let slice = self.timeline.slice(at);
        slice.done += 1;
        slice.took.record(micros(took));
        if let Some(phase) = self.phases.get_mut(phase) {
            phase.done += 1;
            phase.total.record(took);
        }
    }

    /// Notes that a device gave up in `stage`.
    pub fn gave_up(&mut self, phase: usize, stage: MeasuredStage, at: Duration) {
        self.counts.failed += 1;
        self.gave_up[stage.index()] += 1;
        self.timeline.slice(at).failed += 1;
        if let Some(phase) = self.phases.get_mut(phase) {
            phase.failed += 1;
        }
    }

    /// Counts an attempt that failed in `stage` for `reason` (a reason code, or what the client saw).
    pub fn record_failure(&mut self, stage: MeasuredStage, reason: &str) {
        self.add_failures(stage, reason, 1);
    }

    /// Counts several.
    pub fn add_failures(&mut self, stage: MeasuredStage, reason: &str, count: u64) {
        /// Reasons are a closed set; if a server invents codes, all further ones share one row.
        const REASONS_MAX: usize = 200;
        let full = self.failures.len() >= REASONS_MAX;
        let key = (stage, reason.to_owned());
        if full && !self.failures.contains_key(&key) {
            *self.failures.entry((stage, "other".to_owned())).or_default() += count;
            return;
        }
        *self.failures.entry(key).or_default() += count;
    }

    /// A device for which the generator had no socket: what it was asked to do, it did not.
    pub(crate) fn no_socket(&mut self, phase: usize, fault: &std::io::Error, ended: Duration) {
        self.record_failure(MeasuredStage::Handshake, &format!("{NO_SOCKET}: {fault}"));
        self.gave_up(phase, MeasuredStage::Handshake, ended);
    }

    /// How many these were.
    pub(crate) fn without_socket(&self) -> u64 {
        let of_own = self.failures.iter().filter(|((_, reason), _)| reason.starts_with(NO_SOCKET));
        of_own.map(|(_, count)| *count).sum()
    }

    /// Adds what another thread measured in the same run.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.stages.iter_mut().zip(&other.stages) {
            sum.add(more);
        }
        for (sum, more) in self.gave_up.iter_mut().zip(&other.gave_up) {
            *sum += more;
        }
        self.send_lag.add(&other.send_lag);
        for ((stage, reason), count) in &other.failures {
            self.add_failures(*stage, reason, *count);
        }
        self.phases.resize_with(self.phases.len().max(other.phases.len()), PhaseStats::default);
        for (sum, more) in self.phases.iter_mut().zip(&other.phases) {
            sum.scheduled += more.scheduled;
            sum.started += more.started;
            sum.done += more.done;
            sum.failed += more.failed;
            sum.total.add(&more.total);
            sum.send_lag.add(&more.send_lag);
            sum.first = [sum.first, more.first].into_iter().flatten().min();
            sum.last = sum.last.later(more.last);
        }
        self.counts.add(&other.counts);
        self.traffic.add(&other.traffic);
        self.timeline.add(&other.timeline);
    }

    /// Percentiles of one stage.
    #[must_use]
    pub fn stage(&self, stage: MeasuredStage) -> Percentiles {
        self.histogram(stage).percentiles()
    }

    /// The durations of one stage.
    #[must_use]
    pub fn histogram(&self, stage: MeasuredStage) -> &DurationHistogram {
        &self.stages[stage.index()]
    }

    /// The same, to be filled.
    pub(crate) fn histogram_mut(&mut self, stage: MeasuredStage) -> &mut DurationHistogram {
        &mut self.stages[stage.index()]
    }

    /// Devices that gave up in this stage; those of `total` gave up in any.
    #[must_use]
    pub fn failed_in(&self, stage: MeasuredStage) -> u64 {
        if stage == MeasuredStage::Total { self.counts.failed } else { self.gave_up[stage.index()] }
    }

    /// The same, to be filled.
    pub(crate) fn failed_in_mut(&mut self, stage: MeasuredStage) -> &mut u64 {
        &mut self.gave_up[stage.index()]
    }

    /// The generator's delay.
    #[must_use]
    pub fn send_lag(&self) -> &DurationHistogram {
        &self.send_lag
    }

    /// The same, to be filled.
    pub(crate) fn send_lag_mut(&mut self) -> &mut DurationHistogram {
        &mut self.send_lag
    }

    /// By phase.
    #[must_use]
    pub fn phases(&self) -> &[PhaseStats] {
        &self.phases
    }

    /// The same, to be filled.
    pub(crate) fn phases_mut(&mut self) -> &mut Vec<PhaseStats> {
        &mut self.phases
    }

    /// Failed attempts by stage and reason.
    pub fn failures(&self) -> impl Iterator<Item = (MeasuredStage, &str, u64)> {
        self.failures.iter().map(|((stage, reason), count)| (*stage, reason.as_str(), *count))
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_within_three_digits() {
        let mut stats = Stats::default();
        for ms in 1..=1000 {
            stats.record(MeasuredStage::Enrol, Duration::from_millis(ms));
        }
        let enrol = stats.stage(MeasuredStage::Enrol);
        assert_eq!(enrol.count, 1000);
        let wanted = [
            (enrol.p50, 500.0),
            (enrol.p90, 900.0),
            (enrol.p99, 990.0),
            (enrol.p999, 999.0),
            (enrol.max, 1000.0),
            (enrol.mean, 500.5),
        ];
        for (got, want) in wanted {
            let got = got.as_secs_f64() * 1000.0;
            assert!((got - want).abs() / want < 0.002, "{got} is not {want} ms");
        }
        assert_eq!(stats.stage(MeasuredStage::Total), Percentiles::default(), "stages do not mix");
    }

    #[test]
    fn stages_are_in_the_order_of_their_list() {
        for (index, stage) in MeasuredStage::ALL.into_iter().enumerate() {
            assert_eq!(stage.index(), index);
            assert_eq!(MeasuredStage::named(stage.name()), Some(stage));
        }
        assert_eq!(MeasuredStage::named("send_lag"), None);
    }

    #[test]
    fn a_device_that_hung_for_days_is_counted_not_lost() {
        let mut stats = Stats::default();
        stats.record(MeasuredStage::Total, Duration::from_secs(1_000_000));
        assert_eq!(stats.stage(MeasuredStage::Total).count, 1);
        assert!(stats.stage(MeasuredStage::Total).max >= Duration::from_secs(3_500));
    }

    #[test]
    fn failures_count_by_stage_and_reason_and_stay_bounded() {
        let mut stats = Stats::default();
        stats.record_failure(MeasuredStage::Enrol, "est.sen.subject_mismatch");
        stats.record_failure(MeasuredStage::Enrol, "est.sen.subject_mismatch");
        stats.record_failure(MeasuredStage::Handshake, "no answer");
        let all: Vec<_> = stats.failures().collect();
        assert_eq!(
            all,
            [(MeasuredStage::Handshake, "no answer", 1), (MeasuredStage::Enrol, "est.sen.subject_mismatch", 2)]
        );
        for n in 0..1000 {
            stats.record_failure(MeasuredStage::Enrol, &format!("invented.{n}"));
        }
        assert!(stats.failures().count() <= 201);
        assert_eq!(stats.failures().map(|(_, _, count)| count).sum::<u64>(), 1003);
    }

    /// Whatever is measured in two threads reads as if one thread had measured all of it.
    #[test]
    fn halves_that_are_added_are_the_whole() {
        let mut halves = [Stats::of_phases(2), Stats::of_phases(2)];
        let mut whole = Stats::of_phases(2);
        for n in 0..2_000_u64 {
            let (phase, at) = (usize::from(n % 3 == 0), Duration::from_millis(n));
            let took = Duration::from_micros(100 + n * n);
            for stats in [&mut halves[usize::from(n % 2 == 0)], &mut whole] {
                stats.scheduled(phase, at);
                stats.started(phase, at, Duration::from_micros(n));
                if n % 10 == 0 {
                    stats.record_failure(MeasuredStage::Enrol, "no answer");
                    stats.gave_up(phase, MeasuredStage::Enrol, at + took);
                } else {
                    stats.done(phase, at + took, took);
                }
                stats.traffic.sent(100);
            }
        }
        let [mut sum, other] = halves;
        sum.add(&other);
        assert_eq!((sum.counts, sum.traffic), (whole.counts, whole.traffic));
        assert_eq!(sum.histogram(MeasuredStage::Total).buckets(), whole.histogram(MeasuredStage::Total).buckets());
        let failed = |stats: &Stats| MeasuredStage::ALL.map(|stage| stats.failed_in(stage));
        assert_eq!(failed(&sum), failed(&whole));
        assert_eq!(failed(&sum), [0, 0, 0, 200, 0, 0, 0, 0, 200]);
        assert_eq!(sum.send_lag().buckets(), whole.send_lag().buckets());
        assert_eq!(sum.timeline, whole.timeline);
        for (sum, whole) in sum.phases().iter().zip(whole.phases()) {
            assert_eq!((sum.done, sum.failed, sum.total.buckets()), (whole.done, whole.failed, whole.total.buckets()));
            assert_eq!(
                (sum.first, sum.last, sum.send_lag.buckets()),
                (whole.first, whole.last, whole.send_lag.buckets())
            );
        }
        assert_eq!(sum.counts.in_flight(), 0);
    }

    #[test]
    fn a_histogram_survives_being_written_down() {
        let mut histogram = DurationHistogram::default();
        for n in 0..10_000_u64 {
            histogram.record(Duration::from_micros(n * n));
        }
        let again = DurationHistogram::from_buckets(&histogram.buckets());
        assert_eq!((again.buckets(), again.percentiles().p99), (histogram.buckets(), histogram.percentiles().p99));
        assert_eq!(again.count(), 10_000);
    }
}
