//! A fleet of devices that enrols: the library behind `muster load` and `muster demo`.
//!
//! ```text
//!   plan ──► schedule ──► fleet (one per thread) ──► stats, timeline ──► report
//!                            │ device, link, sockets      └─► live figures for whoever watches
//!   identities (made, or from a cache) ──► crew::play
//! ```
//!
//! Every device is an `est::Client` with an identity and a source address of its own; datagrams are real, byte for byte what a device
//! sends. What to do ([`Plan`]), the hot loop ([`fleet`]), what was measured ([`Stats`]) and how it is shown ([`LoadReport`]) know no more of one another
//! than the arrows. The protocol is not implemented here: it is `est::Client`, which also tests the server.
#![allow(clippy::disallowed_methods, reason = "a shell: clocks, sockets, files and threads are its business")]

mod addresses;
mod capacity;
mod crew;
mod criteria;
mod device;
pub mod fleet;
mod function;
pub mod fuzz;
mod html;
pub mod identities;
mod last_start;
mod link;
mod live;
mod number;
mod own_time;
mod part;
mod plan;
mod progress;
mod report;
mod run;
mod samples;
mod scenario;
mod schedule;
mod seed;
mod sockets;
mod stats;
mod strain;
mod terminal;
mod timeline;
mod timers;
mod verdict;
mod vouching;

pub use addresses::LOOPBACK_DEVICES_MAX;
pub use capacity::{
    CapacityReport, CapacityResult, CapacitySearch, CapacitySpec, ConfidenceInterval, REPETITIONS_MAX, SearchLimit,
    TrialRow, TrialVerdict,
};
pub use crew::{Finished, play};
pub use criteria::{Criterion, Judged, criteria};
pub use function::{FleetFunction, FleetFunctions, FunctionMix, per_mille};
pub use html::{render_capacity, render_page};
pub use link::{Airtime, LinkSpec};
pub use live::LiveFigures;
pub use part::Segment;
pub use plan::{Arrivals, DEVICES_MAX, FleetBehaviour, Phase, PhasePopulation, Plan, PlanFault, RetryStorm, read_rate};
pub use progress::ProgressDisplay;
pub use report::{
    ArrivalsRow, ConductRow, CriterionRow, ErrorRow, GeneratorRow, HistogramRow, LinkRow, LoadReport,
    MEASURED_THE_GENERATOR, MergeFault, PercentilesRow, PhaseRow, ScheduleRow, SliceRow, StageRow, TimelineRow,
    TrafficRow, merge,
};
pub use run::{LoadedServer, Patience, RegistrarIdentity, Run};
pub use samples::{SAMPLES_HEADER, Sample, SampleSender, SampleWriter, samples};
pub use scenario::{EVERY_KEY, PRESETS, ScenarioFault, ScenarioPlayer, preset, read_scenario};
pub use sockets::SmallReceiveBuffer;
pub use stats::{DatagramTotals, DurationHistogram, FleetCounts, MeasuredStage, Percentiles, PhaseStats, Stats};
pub use terminal::LiveView;
pub use timeline::{LatencySketch, SLICES_MAX, Slice, Timeline};
pub use verdict::{
    CPU_SHARE_MAX, LOST_SHARE_MAX, OFFERED_SHARE_MIN, ON_TIME_STARTS_MIN, SEND_LAG_FORGIVEN, SEND_LAG_P50_STARTS_MIN,
    SEND_LAG_P99_STARTS_MIN, SEND_LAG_SHARE_MAX, WAITING_SHARE_MAX, WHOLE_RUN_STARTS_MIN,
};

/// The JSON Schema of a report of a run, for validators.
pub const RUN_JSON_SCHEMA: &str = include_str!("../schema/muster-load-1.json");
/// The JSON Schema of a report of a search for the capacity.
pub const CAPACITY_JSON_SCHEMA: &str = include_str!("../schema/muster-load-capacity-1.json");
