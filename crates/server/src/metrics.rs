//! Every metric of the daemon: its name, what it says, and who counts it. And the listener that shows them.
//!
//! Names follow Prometheus: `muster_` in front, base units, `_total` for what only grows. The shards count for themselves, in plain integers; at
//! the end of a turn they add what changed to the handles here, so that no datagram touches a shared line of memory.
//!
//! The recorder is the server's own, not the process's: two servers in one process (a test, the demo) do not mix.

mod listener;

use std::sync::Arc;
use std::time::Duration;

use est::{Reason, Resource};
use metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

pub(crate) use listener::{Listener, Readings};

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric, described.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Its name, with prefix and unit.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// The label that tells its series apart, if there is one.
    pub label: Option<&'static str>,
    /// What it says.
    pub text: &'static str,
}

const RECEIVED: &str = "muster_datagrams_received_total";
const RECEIVED_BYTES: &str = "muster_received_bytes_total";
const SENT: &str = "muster_datagrams_sent_total";
const SENT_BYTES: &str = "muster_sent_bytes_total";
const SEND_CALLS: &str = "muster_send_calls_total";
const DROPPED: &str = "muster_dropped_total";
const FORGERY_ALARMS: &str = "muster_forgery_alarms_total";
const SESSIONS: &str = "muster_sessions";
const HANDSHAKES: &str = "muster_handshakes_total";
const REQUESTS: &str = "muster_requests_total";
const REFUSALS: &str = "muster_refusals_total";
const CERTIFICATES: &str = "muster_ledger_certificates";
const IN_FLIGHT: &str = "muster_enrolments_in_flight";
const HANDSHAKE_SECONDS: &str = "muster_handshake_seconds";
const REQUEST_SECONDS: &str = "muster_request_seconds";
const POOL_SECONDS: &str = "muster_pool_seconds";
const READY: &str = "muster_ready";
const BUILD: &str = "muster_build_info";

/// Every metric there is, in the order in which documentation lists them.
pub const DESCRIPTIONS: &[Description] = &[
    counter(RECEIVED, None, "UDP datagrams received"),
    counter(RECEIVED_BYTES, None, "Bytes of UDP payload received"),
    counter(SENT, None, "UDP datagrams sent"),
    counter(SENT_BYTES, None, "Bytes of UDP payload sent"),
    counter(
        SEND_CALLS,
        None,
        "System calls that sent datagrams; fewer than datagrams where segmentation offload joined them",
    ),
    counter(DROPPED, Some("reason"), "Datagrams and records dropped, by reason; noise on the wire, no refusal"),
    counter(
        FORGERY_ALARMS,
        None,
        "Alarms of forged records, each for a thousand in excess of ten a second in one session; the log names it",
    ),
    gauge(SESSIONS, Some("state"), "DTLS sessions, by state: half_open (handshake in progress) or established"),
    counter(HANDSHAKES, None, "DTLS handshakes completed"),
    counter(REQUESTS, Some("function"), "EST requests answered with success, by function"),
    counter(REFUSALS, Some("reason"), "Attempts refused, by reason; `muster explain REASON` says what each means"),
    gauge(CERTIFICATES, None, "Certificates in the ledger"),
    gauge(IN_FLIGHT, None, "Enrolments handed to the pool and not answered yet"),
    histogram(HANDSHAKE_SECONDS, "Time from the first ClientHello with a valid cookie to the end of the handshake"),
    histogram(REQUEST_SECONDS, "Time from the first block of a request to its answer"),
    histogram(POOL_SECONDS, "Time from handing an enrolment to the pool until its outcome is back on the shard"),
    gauge(READY, None, "1 while new devices are admitted; 0 while starting and draining"),
    gauge(BUILD, Some("version"), "Always 1; the label says which version runs"),
];

const fn counter(name: &'static str, label: Option<&'static str>, text: &'static str) -> Description {
    Description { name, kind: Kind::Counter, label, text }
}

const fn gauge(name: &'static str, label: Option<&'static str>, text: &'static str) -> Description {
    Description { name, kind: Kind::Gauge, label, text }
}

const fn histogram(name: &'static str, text: &'static str) -> Description {
    Description { name, kind: Kind::Histogram, label: None, text }
}

/// From a millisecond (both ends in one rack) to three minutes (the handshake's deadline).
const BUCKETS_SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0];

/// The handles of every metric. Cheap to clone; each shard has its own.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(crate) received: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) send_calls: Counter,
    pub(crate) drops: Arc<[Counter]>,
    pub(crate) shell_drops: ShellDrops,
    pub(crate) forgery_alarms: Counter,
    pub(crate) established: Gauge,
    pub(crate) half_open: Gauge,
    pub(crate) handshakes: Counter,
    pub(crate) requests: Requests,
    refusals: Arc<[Counter]>,
    pub(crate) in_flight: Gauge,
    pub(crate) handshake_seconds: Histogram,
    pub(crate) request_seconds: Histogram,
    pub(crate) pool_seconds: Histogram,
}

/// What the shell itself drops.
#[derive(Clone)]
pub(crate) struct ShellDrops {
    /// The send backlog was full.
    pub(crate) backlog_full: Counter,
    /// The kernel refused to send.
    pub(crate) send_refused: Counter,
    /// Sent to a group or to everybody.
    pub(crate) not_unicast: Counter,
    /// An outcome came back for an exchange that is gone.
    pub(crate) stale_outcome: Counter,
}

/// Successful requests by function.
#[derive(Clone)]
pub(crate) struct Requests {
    ca_certificates: Counter,
    enroll: Counter,
    reenroll: Counter,
    pub(crate) discovery: Counter,
}

impl Requests {
    /// The counter of a function.
    pub(crate) fn of(&self, function: Resource) -> &Counter {
        match function {
            Resource::CaCertificates => &self.ca_certificates,
            Resource::SimpleEnroll => &self.enroll,
            Resource::SimpleReenroll => &self.reenroll,
        }
    }
}

impl Meters {
    /// Handles that go nowhere, where nobody asked for metrics.
    pub(crate) fn none() -> Self {
        Self::register(&metrics::NoopRecorder)
    }

    fn register(recorder: &dyn Recorder) -> Self {
        let registry = Registry { recorder };
        let counter = |name| registry.counter(name, None);
        let dropped = |reason| registry.counter(DROPPED, Some(("reason", reason)));
        let request = |function| registry.counter(REQUESTS, Some(("function", function)));
        Self {
            received: counter(RECEIVED),
            received_bytes: counter(RECEIVED_BYTES),
            sent: counter(SENT),
            sent_bytes: counter(SENT_BYTES),
            send_calls: counter(SEND_CALLS),
            drops: dtls::DropReason::ALL.iter().map(|drop| dropped(drop.name())).collect(),
            shell_drops: ShellDrops {
                backlog_full: dropped("backlog_full"),
                send_refused: dropped("send_refused"),
                not_unicast: dropped("not_unicast"),
                stale_outcome: dropped("stale_outcome"),
            },
            forgery_alarms: counter(FORGERY_ALARMS),
            established: registry.gauge(SESSIONS, Some(("state", "established"))),
            half_open: registry.gauge(SESSIONS, Some(("state", "half_open"))),
            handshakes: counter(HANDSHAKES),
            requests: Requests {
                ca_certificates: request("crts"),
                enroll: request("sen"),
                reenroll: request("sren"),
                discovery: request("core"),
            },
            refusals: Reason::ALL
                .iter()
                .map(|reason| registry.counter(REFUSALS, Some(("reason", reason.code()))))
                .collect(),
            in_flight: registry.gauge(IN_FLIGHT, None),
            handshake_seconds: registry.histogram(HANDSHAKE_SECONDS),
            request_seconds: registry.histogram(REQUEST_SECONDS),
            pool_seconds: registry.histogram(POOL_SECONDS),
        }
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = index.and_then(|index| self.refusals.get(index)) {
            counter.increment(1);
        }
    }
}

struct Registry<'r> {
    recorder: &'r dyn Recorder,
}

const METADATA: Metadata<'static> = Metadata::new("server", Level::INFO, None);

impl Registry<'_> {
    fn counter(&self, name: &'static str, label: Option<(&'static str, &'static str)>) -> Counter {
        self.recorder.register_counter(&key(name, label), &METADATA)
    }

    fn gauge(&self, name: &'static str, label: Option<(&'static str, &'static str)>) -> Gauge {
        self.recorder.register_gauge(&key(name, label), &METADATA)
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        self.recorder.register_histogram(&key(name, None), &METADATA)
    }
}

fn key(name: &'static str, label: Option<(&'static str, &'static str)>) -> Key {
    match label {
        None => Key::from_static_name(name),
        Some((label, value)) => Key::from_parts(name, vec![Label::from_static_parts(label, value)]),
    }
}

/// The recorder of one server.
pub(crate) struct Registrar {
    recorder: PrometheusRecorder,
    pub(crate) ready: Gauge,
    pub(crate) certificates: Gauge,
}

/// Histogram samples wait in memory until they are folded into buckets; so often, whether anybody asks or not.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

impl Registrar {
    pub(crate) fn new() -> Self {
        let builder = [HANDSHAKE_SECONDS, REQUEST_SECONDS, POOL_SECONDS].into_iter().fold(
            PrometheusBuilder::new(),
            |builder, name| {
                builder
                    .set_buckets_for_metric(Matcher::Full(name.to_owned()), &BUCKETS_SECONDS)
                    .expect("BUCKETS_SECONDS is not empty")
            },
        );
        let recorder = builder.build_recorder();
        for Description { name, kind, text, .. } in DESCRIPTIONS {
            let (name, text) = ((*name).into(), (*text).into());
            match kind {
                Kind::Counter => recorder.describe_counter(name, Some(Unit::Count), text),
                Kind::Gauge => recorder.describe_gauge(name, Some(Unit::Count), text),
                Kind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), text),
            }
        }
        let registry = Registry { recorder: &recorder };
        registry.gauge(BUILD, Some(("version", env!("CARGO_PKG_VERSION")))).set(1.0);
        let (ready, certificates) = (registry.gauge(READY, None), registry.gauge(CERTIFICATES, None));
        Self { recorder, ready, certificates }
    }

    pub(crate) fn meters(&self) -> Meters {
        Meters::register(&self.recorder)
    }

    pub(crate) fn rendering(&self) -> PrometheusHandle {
        self.recorder.handle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_and_named_by_the_convention() {
        let registrar = Registrar::new();
        let meters = registrar.meters();
        meters.handshake_seconds.record(0.01);
        meters.request_seconds.record(0.01);
        meters.pool_seconds.record(0.01);
        let text = registrar.rendering().render();
        for Description { name, kind, label, .. } in DESCRIPTIONS {
            assert!(name.starts_with("muster_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}: only counters end in _total");
            assert_eq!(*kind == Kind::Histogram, name.ends_with("_seconds"), "{name}");
            assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described in\n{text}");
            let series = label.map_or_else(|| (*name).to_owned(), |label| format!("{name}{{{label}=\""));
            assert!(text.contains(&series), "{name} shows no series in\n{text}");
        }
        let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
        for name in shown {
            assert!(DESCRIPTIONS.iter().any(|known| known.name == name), "{name} is shown and not described");
        }
    }

    #[test]
    fn every_reason_has_a_series_before_it_happens() {
        let registrar = Registrar::new();
        let meters = registrar.meters();
        meters.refused(Reason::ALL[0]);
        let text = registrar.rendering().render();
        for reason in Reason::ALL {
            let count = u8::from(*reason == Reason::ALL[0]);
            let line = format!("muster_refusals_total{{reason=\"{}\"}} {count}\n", reason.code());
            assert!(text.contains(&line), "{line} is missing");
        }
    }
}
