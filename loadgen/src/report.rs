//! The result of a run, as a table for people and as JSON for programs; reports of several machines are merged.
//!
//! The JSON is one object, schema `muster-load/1`; `loadgen/schema/muster-load-1.json` describes it for validators. Times are microseconds unless the name
//! says otherwise; sizes are bytes of UDP payload; fields are only ever added.
//!
//! ```text
//! schema               "muster-load/1"
//! server               "coaps://127.0.0.1:5684"
//! devices              devices of this machine; in a merged report, of all
//! fleet                devices of the whole fleet, on all machines
//! interrupted          the run was stopped before its end
//! scheduled, started   devices whose time came; devices whose first datagram left
//! done                 devices that got all that they asked for; those of every phase count
//! enrolled, failed     devices that got a certificate; devices that gave up
//! renewed              devices that renewed one
//! vanished             devices among the done that went away without close_notify
//! reboots              devices that lost their state and began again from the same port
//! storm_restarts       times that a device without patience began again
//! starved              arrivals of enrolled devices for which there was none
//! later_answers        answers 5.03 and 4.29
//! repeated_attempts    attempts that failed and were repeated by the same device
//! cut_handshakes       failed attempts that ended in a handshake whose ServerHello was there: the server had begun its work
//! cut_uploads          uploads of which the server took blocks before it answered 5.03 or 4.29
//! seconds              length of the run
//! enrolled_per_second  enrolled / seconds
//! arrivals             {"mode": "rate", "per_second": N}, {"mode": "concurrency", "devices": N} or {"mode": "scenario", "name": TEXT}
//! schedule             {"asked_per_second", "offered_per_second", "offered_share", "on_time_share", "void"}, or null in closed loop: void if less than
//!                      98 % of the rate was offered, or less than 98 % of 50 devices or more started within 100 ms of their time: no figure of such a
//!                      run describes the server at that rate
//! block, suite, seed   block size in bytes, IANA name of the suite, seed
//! conduct              {"path", "linked", "ca_certificates", "timeout_ms", "attempts", "ack_timeout_ms", "handshake_timeout_ms"}: what the flags say of a device:
//!                      the path above label and function, whether requests are linked to their session, whether it asks for /crts, and its patience
//! segment, segments    number of this machine and how many play the fleet; a merged report has its segments' sum, and segment 0
//! threads              threads of all machines
//! stages               [{"stage", "failed", "count", "p50_us", "p90_us", "p99_us", "max_us", "p999_us", "mean_us"}]: handshake, crts, att, enrol, skg, skc, renew, ren,
//!                      total; handshake counts the sessions of renewals too. failed are the devices that gave up in the stage: the
//!                      percentiles are those of the others, and criteria rank the failed above every limit
//! errors               [{"stage", "reason", "count"}]: failed attempts, repeated ones included
//! phases               [{"name", "plan", "suite", "planned", "scheduled", "started", "done", "failed", "total": {"count", "p50_us", ..}, "buckets", "offered_share", "send_lag",
//!                      "lag_buckets", "busiest_window_share", "waiting_window_share"}]; planned are the arrivals on all machines
//! histograms           [{"stage", "buckets": [[highest duration, count], ..]}]: the stages and send_lag; buckets of several machines add up
//! timeline             {"width_ms", "slices": [{"scheduled", "started", "done", "failed", "in_flight", "send_lag_max_us", "cpu_us", "p50_us", "p99_us", "took"}]}:
//!                      took is [[step, count], ..] with four steps an octave from 64 us; the percentiles are rounded up to a step
//! traffic              {"datagrams_sent", "bytes_sent", "datagrams_received", "bytes_received"}
//! generator            {"cpu_seconds", "busiest_thread_share", "waiting_thread_share", "busiest_window_share", "waiting_window_share", "send_lag": {"count", "p50_us", ..}, "stray_datagrams",
//!                      "receive_drops", "refused_sends", "dropped_sends", "spoiled_by"}: what full sockets of the generator dropped, and what its machine did not send; user and system together; a thread that could run waits while others have the core; spoiled_by says why the run measured the generator, and is empty if it did not
//! link                 {"lost", "repeated"}, or null without a lossy link
//! criteria             [{"criterion", "value", "met"}]: what --fail-if asked for; met if the run fails by it
//! ```

mod build;
mod merge;
mod table;

use serde::{Deserialize, Serialize};

pub(crate) use build::RunFacts;
pub use merge::{MergeFault, merge};

/// The version of the format.
pub(crate) const REPORT_SCHEMA: &str = "muster-load/1";

/// The report of a finished run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadReport {
    /// `muster-load/1`.
    pub schema: String,
    /// The server's URI.
    pub server: String,
    /// Devices of this machine; in a merged report, of all.
    pub devices: u64,
    /// Devices of the whole fleet.
    pub fleet: u64,
    /// The run was stopped before its end.
    pub interrupted: bool,
    /// Devices whose time came.
    pub scheduled: u64,
    /// Devices whose first datagram left.
    pub started: u64,
    /// Devices that got all that they asked for.
    pub done: u64,
    /// Devices that got a certificate.
    pub enrolled: u64,
    /// Devices that renewed one.
    pub renewed: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// Devices among the done that went away without close_notify.
    pub vanished: u64,
    /// Devices that lost their state and began again.
    pub reboots: u64,
    /// Times that a device without patience began again.
    pub storm_restarts: u64,
    /// Arrivals of enrolled devices for which there was none.
    pub starved: u64,
    /// Answers 5.03 and 4.29.
    pub later_answers: u64,
    /// Attempts that failed and were repeated.
    pub repeated_attempts: u64,
    /// Failed attempts that ended in a handshake whose ServerHello was there; 0 in reports before they were counted, as the next ones.
    #[serde(default)]
    pub cut_handshakes: u64,
    /// Uploads of which the server took blocks before it answered 5.03 or 4.29.
    #[serde(default)]
    pub cut_uploads: u64,
    /// Length of the run.
    pub seconds: f64,
    /// `enrolled / seconds`.
    pub enrolled_per_second: f64,
    /// How the devices arrived.
    pub arrivals: ArrivalsRow,
    /// Whether they arrived at the requested rate; `None` in closed loop, which has no rate.
    pub schedule: Option<ScheduleRow>,
    /// Block size in bytes, of the first phase.
    pub block: u16,
    /// IANA name of the suite offered, in the first phase.
    pub suite: String,
    /// What the flags say of a device.
    pub conduct: ConductRow,
    /// The seed that replays the fleet.
    pub seed: u64,
    /// The number of this machine, from 1; 0 in a merged report.
    pub segment: u64,
    /// The machines that play the fleet.
    pub segments: u64,
    /// Threads of the generator.
    pub threads: u64,
    /// Latency by stage.
    pub stages: Vec<StageRow>,
    /// Failed attempts by stage and reason.
    pub errors: Vec<ErrorRow>,
    /// What happened in each phase.
    pub phases: Vec<PhaseRow>,
    /// Every duration, by stage.
    pub histograms: Vec<HistogramRow>,
    /// The run by time.
    pub timeline: TimelineRow,
    /// Datagrams and bytes.
    pub traffic: TrafficRow,
    /// The cost of the generator itself.
    pub generator: GeneratorRow,
    /// The counts of the lossy link, if there was one.
    pub link: Option<LinkRow>,
    /// The criteria of the run.
    pub criteria: Vec<CriterionRow>,
}

/// What every device of a run does, whatever its phase says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConductRow {
    /// The path above label and function.
    pub path: String,
    /// Requests are linked to their session.
    pub linked: bool,
    /// A device asks for `/crts` before it enrols.
    pub ca_certificates: bool,
    /// When a device without a certificate gives up.
    pub timeout_ms: u64,
    /// Sessions that it opens.
    pub attempts: u32,
    /// CoAP's ACK_TIMEOUT.
    pub ack_timeout_ms: u64,
    /// DTLS's first retransmission timeout.
    pub handshake_timeout_ms: u64,
}

/// How the devices arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum ArrivalsRow {
    /// Open loop.
    Rate {
        /// Starts per second, of all machines.
        per_second: f64,
    },
    /// Closed loop.
    Concurrency {
        /// Devices at work at any moment.
        devices: u64,
    },
    /// Open loop, in phases.
    Scenario {
        /// Its name.
        name: String,
    },
}

/// The requested rate, and the rate offered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ScheduleRow {
    /// Starts per second, as requested; in several phases, on average.
    pub asked_per_second: f64,
    /// Starts per second that the generator made.
    pub offered_per_second: f64,
    /// The offered rate divided by the requested rate, at most 1.
    pub offered_share: f64,
    /// The share of the devices that started within 100 ms of their time, of all starts; absent from reports before the generator judged it.
    #[serde(default = "whole")]
    pub on_time_share: f64,
    /// One of the shares is below [`crate::verdict::OFFERED_SHARE_MIN`].
    pub void: bool,
}

fn whole() -> f64 {
    1.0
}

/// Latency of one stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageRow {
    /// Its name.
    pub stage: String,
    /// Devices that gave up in it: no duration is theirs. Those of `total` gave up in any stage.
    pub failed: u64,
    /// Its percentiles.
    #[serde(flatten)]
    pub took: PercentilesRow,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PercentilesRow {
    /// The number of measured durations.
    pub count: u64,
    /// The median.
    pub p50_us: u64,
    /// Nine of ten were at most this.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// The largest.
    pub max_us: u64,
    /// 999 of 1,000.
    pub p999_us: u64,
    /// The mean.
    pub mean_us: u64,
}

/// Failed attempts of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ErrorRow {
    /// The stage in which they failed.
    pub stage: String,
    /// A reason code, or what the client saw.
    pub reason: String,
    /// The number of failed attempts.
    pub count: u64,
}

/// What happened in one phase.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PhaseRow {
    /// Its name.
    pub name: String,
    /// What it does, in words.
    pub plan: String,
    /// IANA name of the suite offered.
    pub suite: String,
    /// Arrivals on all machines.
    pub planned: u64,
    /// Devices whose time came.
    pub scheduled: u64,
    /// Devices that started.
    pub started: u64,
    /// Devices that got what they asked for.
    pub done: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// From the scheduled start to the last answer.
    pub total: PercentilesRow,
    /// The same as a histogram.
    pub buckets: Vec<(u64, u64)>,
    /// The share of the requested rate at which its devices started, of the machine that was latest; `None` in closed loop.
    pub offered_share: Option<f64>,
    /// How much later than scheduled they started.
    pub send_lag: PercentilesRow,
    /// The same as a histogram.
    pub lag_buckets: Vec<(u64, u64)>,
    /// The largest share of a core that a thread used in a window of the phase; 0 in reports before the generator measured it.
    #[serde(default)]
    pub busiest_window_share: f64,
    /// The largest share of such a window for which a thread waited for a core.
    #[serde(default)]
    pub waiting_window_share: f64,
}

/// Every duration of one stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HistogramRow {
    /// Its name.
    pub stage: String,
    /// The highest duration of each bucket in microseconds, and the count.
    pub buckets: Vec<(u64, u64)>,
}

/// The run by time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TimelineRow {
    /// The width of a slice in milliseconds.
    pub width_ms: u64,
    /// The slices, from the beginning of the run.
    pub slices: Vec<SliceRow>,
}

/// What happened in one slice of time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SliceRow {
    /// Devices whose time came.
    pub scheduled: u64,
    /// Devices that started.
    pub started: u64,
    /// Devices that got what they asked for.
    pub done: u64,
    /// Devices that gave up.
    pub failed: u64,
    /// The most devices at work at once.
    pub in_flight: u64,
    /// The latest start, after its scheduled time.
    pub send_lag_max_us: u64,
    /// CPU time of the generator.
    pub cpu_us: u64,
    /// Latency of the devices that were done.
    pub p50_us: u64,
    /// The same.
    pub p99_us: u64,
    /// The same as a sketch.
    pub took: Vec<(u64, u64)>,
}

/// Datagrams and bytes of UDP payload.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct TrafficRow {
    /// Datagrams from the devices.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Datagrams to the devices.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
}

/// The cost of the generator itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GeneratorRow {
    /// CPU time of its threads, user and system together.
    pub cpu_seconds: f64,
    /// The CPU time of the busiest thread, divided by the time of the run.
    pub busiest_thread_share: f64,
    /// The time for which one thread could run and waited for a core, divided by the time of the run; of the thread that waited most.
    #[serde(default)]
    pub waiting_thread_share: f64,
    /// The largest share of a core that a thread used in a window of five seconds, or of one second or more where devices begin or cease to arrive; in all of a run
    /// of 50 starts or more that was too short for a window.
    pub busiest_window_share: f64,
    /// The largest share of such a window for which a thread waited for a core.
    pub waiting_window_share: f64,
    /// How much later than scheduled the devices' first datagrams left.
    pub send_lag: PercentilesRow,
    /// Datagrams for devices that were done.
    pub stray_datagrams: u64,
    /// Datagrams that the kernel dropped because a socket of the generator was full; 0 in reports before the generator counted them, as the next two.
    #[serde(default)]
    pub receive_drops: u64,
    /// Datagrams that this machine's kernel refused to send. Where a peer was reported as absent, the datagram is not in it.
    #[serde(default)]
    pub refused_sends: u64,
    /// Datagrams that waited for the kernel and found no room to wait, or still waited at the end.
    #[serde(default)]
    pub dropped_sends: u64,
    /// Why the run measured the generator; empty if it measured the server.
    pub spoiled_by: Vec<String>,
}

/// The counts of the lossy link.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LinkRow {
    /// Datagrams lost.
    pub lost: u64,
    /// Answers that arrived twice.
    pub repeated: u64,
}

/// A criterion of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CriterionRow {
    /// As it was given.
    pub criterion: String,
    /// The figure that was compared, in its own unit.
    pub value: String,
    /// Whether it applies, so that the run fails.
    pub met: bool,
}

/// What a spoiled run says first.
pub const MEASURED_THE_GENERATOR: &str = "THIS RUN MEASURED THE GENERATOR";

impl LoadReport {
    /// Whether the figures describe the generator.
    #[must_use]
    pub fn is_spoiled(&self) -> bool {
        !self.generator.spoiled_by.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests;
