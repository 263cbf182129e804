//! A fleet of devices that enrols: the library behind `muster load` and `muster demo`.
//!
//! Every device is an `est::Client` with an identity and a source address of its own; datagrams are real, byte for byte what a device
//! sends. One thread drives them all: see [`fleet`]. For more load than one core can generate, run a second process with another seed. The
//! protocol is not implemented here: it is `est::Client`, which also tests the server.
#![allow(clippy::disallowed_methods, reason = "a shell: clocks, sockets, files and threads are its business")]

mod addresses;
mod device;
pub mod fleet;
mod function;
pub mod identities;
mod link;
mod progress;
mod report;
mod run;
mod schedule;
mod seed;
mod stats;
mod timers;

pub use addresses::LOOPBACK_DEVICES_MAX;
pub use function::{FirstFunction, FleetFunctions};
pub use link::LinkSpec;
pub use progress::ProgressDisplay;
pub use report::{
    ArrivalsRow, ErrorRow, GeneratorRow, LinkRow, LoadReport, OFFERED_SHARE_MIN, PercentilesRow, ScheduleRow, StageRow,
    TrafficRow,
};
pub use run::{Patience, Run};
pub use schedule::Arrivals;
pub use stats::{DatagramTotals, MeasuredStage, Percentiles, Stats};
