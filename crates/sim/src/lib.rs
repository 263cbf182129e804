//! For tests: both real engines in virtual time.
//!
//! A [`World`] holds one `est::Server`, a fleet of `est::Client`s, an authority, and between them a [`SimulatedLink`] that loses,
//! repeats, reorders, delays and damages datagrams, and a ledger and a signer that are late or fail. Everything that
//! happens, happens at a virtual time and by chance that derives from one seed: a run of a seed is always the same run,
//! datagram by datagram.
//!
//! ```text
//!   Scenario ──► run(seed) ──► World ─┬─ devices (est::Client) ◄──┐
//!                                     │                           │ Link: one queue of datagrams in flight
//!                                     ├─ est::Server  ◄───────────┘
//!                                     │     │ Submit   ▲ outcome
//!                                     └─ authority::CaAuthority ◄──► FaultyLedger, FaultySigner on the Agenda
//!                      Report ◄── invariants checked, digest of all datagrams
//! ```
//!
//! It is no product code: it opens no socket and waits for nothing, and it opts out of the purity rules in one place, the
//! clock's origin.

pub mod agenda;
pub mod chance;
pub mod clock;
mod device;
pub mod faulty;
pub mod fuzz;
pub mod ideal;
pub mod ledger_contract;
pub mod link;
pub mod overload;
pub mod population;
mod run;
pub mod scenario;
pub mod soak;
pub mod trace;
pub mod trust;
pub mod world;

pub use crate::link::SimulatedLink;
pub use ::link::{Conditions, Delay, Tally};
pub use agenda::Agenda;
pub use chance::{Chance, DerivedRandom};
pub use clock::VirtualClock;
pub use device::Reboot;
pub use faulty::{FaultyLedger, FaultySigner};
pub use run::{ENROLMENT_TIME_MAX, RunFaults, RunReport, run, run_traced, run_world};
pub use scenario::{Goal, Scenario};
pub use trust::{TestCa, TestIdentity, TestRequest};
pub use world::World;
