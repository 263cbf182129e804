//! The measurements of a run: a histogram per stage, failures by stage and reason, datagrams and bytes.
//!
//! `fleet` records them and `report` reads them. This module reads no clock: durations are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// The stages of one device's enrolment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MeasuredStage {
    /// From the first ClientHello to the server's Finished.
    Handshake,
    /// `GET /crts`, to the last block.
    CaCertificates,
    /// `POST /sen`, from the first block of the CSR to the last block of the certificate.
    Enrol,
    /// `POST /skg`, from the first block of the CSR to the last block of key and certificate.
    KeyGeneration,
    /// `POST /sren`, or `/skg` again, over a session with the certificate of before.
    Renewal,
    /// From the scheduled start to the last certificate.
    Total,
}

impl MeasuredStage {
    /// All stages, in the order of a run.
    pub const ALL: [Self; 6] =
        [Self::Handshake, Self::CaCertificates, Self::Enrol, Self::KeyGeneration, Self::Renewal, Self::Total];

    /// Whether every device goes through it, whatever the functions of the run.
    pub(crate) fn is_common(self) -> bool {
        matches!(self, Self::Handshake | Self::CaCertificates | Self::Total)
    }

    /// Its name in tables and in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::CaCertificates => "crts",
            Self::Enrol => "enrol",
            Self::KeyGeneration => "skg",
            Self::Renewal => "renew",
            Self::Total => "total",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Handshake => 0,
            Self::CaCertificates => 1,
            Self::Enrol => 2,
            Self::KeyGeneration => 3,
            Self::Renewal => 4,
            Self::Total => 5,
        }
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
}

/// Percentiles of one histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// The number of measured durations.
    pub count: u64,
    /// Half of the durations were at most this.
    pub p50: Duration,
    /// Nine of ten.
    pub p90: Duration,
    /// 99 of 100.
    pub p99: Duration,
    /// The largest.
    pub max: Duration,
}

/// Everything measured in one run.
#[derive(Debug)]
pub struct Stats {
    stages: [Histogram<u64>; 6],
    send_lag: Histogram<u64>,
    failures: BTreeMap<(MeasuredStage, String), u64>,
    /// Devices that hold a certificate.
    pub enrolled: u64,
    /// Devices among the enrolled that also renewed.
    pub renewed: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// Devices among the enrolled that went away without close_notify.
    pub vanished: u64,
    /// Answers that asked a device to come back later (5.03, 4.29).
    pub later_answers: u64,
    /// Attempts that failed and were repeated.
    pub repeated_attempts: u64,
    /// Datagrams and bytes.
    pub traffic: DatagramTotals,
    /// Datagrams without a device: late answers to devices that are done.
    pub stray_datagrams: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            stages: std::array::from_fn(|_| histogram()),
            send_lag: histogram(),
            failures: BTreeMap::new(),
            enrolled: 0,
            renewed: 0,
            failed: 0,
            vanished: 0,
            later_answers: 0,
            repeated_attempts: 0,
            traffic: DatagramTotals::default(),
            stray_datagrams: 0,
        }
    }
}

impl Stats {
    /// Records the duration of a stage.
    pub fn record(&mut self, stage: MeasuredStage, took: Duration) {
        self.stages[stage.index()].saturating_record(micros(took));
    }

    /// Records how long after its scheduled time a device started: the generator's own delay, not the server's.
    pub fn record_send_lag(&mut self, lag: Duration) {
        self.send_lag.saturating_record(micros(lag));
    }

    /// Counts an attempt that failed in `stage` for `reason` (a reason code, or what the client saw).
    pub fn record_failure(&mut self, stage: MeasuredStage, reason: &str) {
        /// Reasons are a closed set; if a server invents codes, all further ones share one row.
        const REASONS_MAX: usize = 200;
        let full = self.failures.len() >= REASONS_MAX;
        let key = (stage, reason.to_owned());
        if full && !self.failures.contains_key(&key) {
            *self.failures.entry((stage, "other".to_owned())).or_default() += 1;
            return;
        }
        *self.failures.entry(key).or_default() += 1;
    }

    /// Percentiles of one stage.
    #[must_use]
    pub fn stage(&self, stage: MeasuredStage) -> Percentiles {
        percentiles(&self.stages[stage.index()])
    }

    /// Percentiles of the generator's delay.
    #[must_use]
    pub fn send_lag(&self) -> Percentiles {
        percentiles(&self.send_lag)
    }

    /// Failed attempts by stage and reason.
    pub fn failures(&self) -> impl Iterator<Item = (MeasuredStage, &str, u64)> {
        self.failures.iter().map(|((stage, reason), count)| (*stage, reason.as_str(), *count))
    }
}

/// Microseconds up to an hour with three significant digits; a longer duration means that a device hung.
fn histogram() -> Histogram<u64> {
    const HOUR_US: u64 = 3_600_000_000;
    Histogram::new_with_bounds(1, HOUR_US, 3).expect("1 to an hour at three digits is a valid range")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    if histogram.is_empty() {
        return Percentiles::default();
    }
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    Percentiles {
        count: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        max: Duration::from_micros(histogram.max()),
    }
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
        for (got, want) in [(enrol.p50, 500.0), (enrol.p90, 900.0), (enrol.p99, 990.0), (enrol.max, 1000.0)] {
            let got = got.as_secs_f64() * 1000.0;
            assert!((got - want).abs() / want < 0.002, "{got} is not {want} ms");
        }
        assert_eq!(stats.stage(MeasuredStage::Total), Percentiles::default(), "stages do not mix");
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
}
