//! What the daemon counts and measures, and the listener that serves it.
//!
//! [`DESCRIPTIONS`] is the one table of all metrics. Each shard counts in plain integers, and at the end of a turn it writes them to cells of its own; a
//! scrape adds the changes to the handles in `Meters`, so that no datagram touches a cache line that shards share. Values that another part already
//! keeps are read by each scrape (`Readings`).
//!
//! The recorder belongs to the server, not to the process: the metrics of two servers in one process (a test, the demo) do not mix.

mod crls;
mod descriptions;
mod expiry;
mod https;
mod label;
mod listener;
mod meters;
mod process;
mod registry;
mod upstreams;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use authority::{DiskRoom, LedgerWrites};
use metrics::{NoopRecorder, Recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use rustls_pki_types::UnixTime;

use crate::crl::CrlStatus;
use crate::load::{DatedCertificate, UpstreamReading};
use crate::logging;
use descriptions::{
    BUILD, CERTIFICATE_EXPIRY, CLOCK_AHEAD, CLOCK_BEHIND, CPU, DRAINING, HANDSHAKE_SECONDS, IN_FLIGHT_MAX,
    ISSUANCE_SECONDS, LEDGER, LEDGER_COMMITS, LEDGER_DISK_FREE, LEDGER_DISK_NEEDED, LEDGER_MAX, LEDGER_WAITING_ROWS,
    LEDGER_WRITABLE, LEDGER_WRITE_FAULTS, LOG_LINES_DROPPED, MAX_FDS, MEMORY, OPEN_FDS, POOL_JOBS_MAX, READY,
    READY_TO_ISSUE, RELOAD_SUCCESS, RELOAD_SUCCESSFUL, REQUEST_SECONDS, SESSIONS_MAX, START,
};
use process::ProcessFacts;
use registry::Registry;

pub use descriptions::{DESCRIPTIONS, Description, MetricType, page};
pub(crate) use https::HttpsClient;
pub(crate) use listener::Listener;
pub(crate) use meters::{GroupMeters, Meters, ProfileTable};

/// From a millisecond (both ends in one rack) to three minutes (the handshake's deadline).
const BUCKETS_SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0];

/// How often histogram samples, which accumulate in memory, are folded into buckets; independent of scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What a scrape reads from the server.
pub(crate) struct Readings {
    /// Whether new devices are admitted.
    pub(crate) ready: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether the server has begun to stop.
    pub(crate) draining: Box<dyn Fn() -> bool + Send + Sync>,
    /// Certificates in the ledger.
    pub(crate) ledger_rows: Box<dyn Fn() -> u64 + Send + Sync>,
    /// How the ledger writes.
    pub(crate) ledger_writes: Box<dyn Fn() -> LedgerWrites + Send + Sync>,
    /// How wrong the clock is.
    pub(crate) clock: Box<dyn Fn() -> ClockReading + Send + Sync>,
    /// What an operator should know although certificates are issued, or why none is.
    pub(crate) issuing: Box<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>,
    /// How the revocation lists are.
    pub(crate) crls: Box<dyn Fn() -> Vec<CrlStatus> + Send + Sync>,
    /// What a Registrar knows of its upstream CAs.
    pub(crate) upstreams: Box<dyn Fn() -> UpstreamReading + Send + Sync>,
    /// The certificates of the configuration in force.
    pub(crate) certificates: Box<dyn Fn() -> Arc<[DatedCertificate]> + Send + Sync>,
}

/// How far the clock is from what it is compared with; 0 if it is right.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClockReading {
    pub(crate) behind_ledger_seconds: u64,
    pub(crate) ahead_seconds: u64,
}

/// The limits of the server. Set once: a reload does not change them.
pub(crate) struct Capacities {
    pub(crate) sessions: u64,
    pub(crate) half_open: u64,
    pub(crate) enrolments_in_flight: u64,
    pub(crate) pool_jobs: u64,
    pub(crate) ledger_certificates: Option<u64>,
}

/// All metrics of one server.
pub(crate) struct Exposition {
    /// `None` if no metrics are configured: nothing would fold the samples, and they would accumulate.
    recorder: Option<PrometheusRecorder>,
    meters: Meters,
    profiles: ArcSwap<ProfileTable>,
    /// Held while profiles are added, so that none is lost between two reloads.
    adding: Mutex<()>,
    collectors: Collectors,
}

/// What a scrape calls first: each adds to the meters what a shard has counted since the last scrape.
type Collectors = Arc<Mutex<Vec<Box<dyn FnMut() + Send>>>>;

impl Exposition {
    /// Metrics that are not served.
    pub(crate) fn none() -> Self {
        Self::over(None)
    }

    pub(crate) fn new() -> Self {
        let builder = [HANDSHAKE_SECONDS, REQUEST_SECONDS, ISSUANCE_SECONDS].into_iter().fold(
            PrometheusBuilder::new(),
            |builder, name| {
                builder
                    .set_buckets_for_metric(Matcher::Full(name.to_owned()), &BUCKETS_SECONDS)
                    .expect("BUCKETS_SECONDS is not empty")
            },
        );
        let recorder = builder.build_recorder();
        for Description { name, metric_type, text, .. } in DESCRIPTIONS {
            let (name, text) = ((*name).into(), (*text).into());
            match metric_type {
                MetricType::Counter => recorder.describe_counter(name, None, text),
                MetricType::Gauge => recorder.describe_gauge(name, None, text),
                MetricType::Histogram => recorder.describe_histogram(name, None, text),
            }
        }
        Self::over(Some(recorder))
    }

    fn over(recorder: Option<PrometheusRecorder>) -> Self {
        let registry = registry(recorder.as_ref());
        registry.gauge(BUILD, &[("version", env!("CARGO_PKG_VERSION"))]).set(1.0);
        let (meters, profiles) = (Meters::register(registry), ProfileTable::new(registry));
        let profiles = ArcSwap::from_pointee(profiles);
        Self { meters, profiles, recorder, adding: Mutex::default(), collectors: Arc::default() }
    }

    /// Calls `collector` before each scrape.
    pub(crate) fn collects(&self, collector: Box<dyn FnMut() + Send>) {
        self.collectors.lock().unwrap_or_else(PoisonError::into_inner).push(collector);
    }

    fn registry(&self) -> Registry<'_> {
        registry(self.recorder.as_ref())
    }

    pub(crate) fn meters(&self) -> Meters {
        self.meters.clone()
    }

    /// The meters of these profiles, and of all earlier ones.
    pub(crate) fn profiles<'n>(&self, names: impl Iterator<Item = &'n str>) -> Arc<ProfileTable> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let table = Arc::new(self.profiles.load().with(self.registry(), names));
        self.profiles.store(Arc::clone(&table));
        table
    }

    /// Sets the start time and the limits of the server.
    pub(crate) fn started(&self, utc: UnixTime, capacities: &Capacities) {
        let set = |name, labels: &[(&'static str, &str)], value: u64| {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; none of these reaches 2^53")]
            self.registry().gauge(name, labels).set(value as f64);
        };
        set(START, &[], utc.as_secs());
        set(SESSIONS_MAX, &[("state", "established")], capacities.sessions);
        set(SESSIONS_MAX, &[("state", "half_open")], capacities.half_open);
        set(IN_FLIGHT_MAX, &[], capacities.enrolments_in_flight);
        set(POOL_JOBS_MAX, &[], capacities.pool_jobs);
        match capacities.ledger_certificates {
            Some(bound) => set(LEDGER_MAX, &[], bound),
            None => self.registry().gauge(LEDGER_MAX, &[]).set(f64::INFINITY),
        }
    }

    /// Records the result of loading a configuration; `utc` is `None` if the old one stays in force.
    pub(crate) fn reloaded(&self, utc: Option<UnixTime>) {
        let registry = self.registry();
        registry.gauge(RELOAD_SUCCESSFUL, &[]).set(if utc.is_some() { 1.0 } else { 0.0 });
        if let Some(utc) = utc {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; seconds since 1970 stay below 2^53")]
            registry.gauge(RELOAD_SUCCESS, &[]).set(utc.as_secs() as f64);
        }
    }

    /// The page that shows the metrics; `None` if no metrics are configured.
    pub(crate) fn page(&self, readings: Readings) -> Option<MetricsPage> {
        let handle = self.recorder.as_ref()?.handle();
        Some(MetricsPage { handle, readings: Arc::new(readings), collectors: Arc::clone(&self.collectors) })
    }
}

fn registry(recorder: Option<&PrometheusRecorder>) -> Registry<'_> {
    Registry(recorder.map_or(&NoopRecorder as &dyn Recorder, |recorder| recorder))
}

/// `/metrics` of one server.
#[derive(Clone)]
pub(crate) struct MetricsPage {
    handle: PrometheusHandle,
    readings: Arc<Readings>,
    collectors: Collectors,
}

impl MetricsPage {
    fn is_ready(&self) -> bool {
        (self.readings.ready)()
    }

    /// What an operator should know although certificates are issued, or why none is.
    fn issuing(&self) -> Result<Vec<String>, String> {
        (self.readings.issuing)()
    }

    /// In the text format of Prometheus.
    fn render(&self) -> String {
        let Readings { ready, draining, ledger_rows, ledger_writes, clock, issuing, crls, upstreams, certificates } =
            &*self.readings;
        let process = ProcessFacts::read();
        for collect in self.collectors.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            collect();
        }
        let mut text = self.handle.render();
        let (writes, clock) = (ledger_writes(), clock());
        // A ledger in memory needs no disk, as one that is bounded by its disk has no bound of rows.
        let disk = writes.disk.unwrap_or(DiskRoom { free_bytes: u64::MAX, needed_bytes: 0 });
        let free = if disk.free_bytes == u64::MAX { f64::INFINITY } else { float(disk.free_bytes) };
        let flag = |value: bool| if value { 1.0 } else { 0.0 };
        let values = [
            (READY, flag(ready())),
            (DRAINING, flag(draining())),
            (READY_TO_ISSUE, flag(issuing().is_ok())),
            (LEDGER, float(ledger_rows())),
            (LEDGER_COMMITS, float(writes.commits)),
            (LEDGER_WRITABLE, flag(writes.fault.is_none())),
            (LEDGER_WRITE_FAULTS, float(writes.faults)),
            (LEDGER_WAITING_ROWS, float(writes.waiting_rows)),
            (LEDGER_DISK_FREE, free),
            (LEDGER_DISK_NEEDED, float(disk.needed_bytes)),
            (CLOCK_BEHIND, float(clock.behind_ledger_seconds)),
            (CLOCK_AHEAD, float(clock.ahead_seconds)),
            (LOG_LINES_DROPPED, float(logging::dropped_lines())),
            (CPU, process.cpu_seconds),
            (MEMORY, process.resident_bytes),
            (OPEN_FDS, process.open_descriptors),
            (MAX_FDS, process.descriptors_max),
        ];
        for (name, value) in values {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}{name} {value}\n", head(name));
        }
        text.push_str(&crls::lines(&crls()));
        text.push_str(&upstreams::lines(&upstreams()));
        text.push_str(&head(CERTIFICATE_EXPIRY));
        text.push_str(&expiry::lines(&certificates()));
        text
    }

    fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a float, and exact up to 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

/// The lines that the text format puts before the series of a metric.
fn head(name: &str) -> String {
    DESCRIPTIONS
        .iter()
        .find(|known| known.name == name)
        .map_or_else(String::new, |Description { metric_type, text, .. }| {
            format!("# HELP {name} {text}\n# TYPE {name} {}\n", metric_type.name())
        })
}

#[cfg(test)]
mod tests;
