//! A simulator for tests: both real engines in virtual time.
//!
//! A [`World`] holds one `est::Server`, a fleet of `est::Client`s, an authority, and between them a [`SimulatedLink`] that loses,
//! repeats, reorders, delays and damages datagrams, and a ledger and a signer that are late or fail. Time is virtual and all
//! randomness derives from one seed, so each run of a seed is the same, datagram by datagram.
//!
//! ```text
//!   Scenario ──► run(seed) ──► World ─┬─ devices (est::Client) ◄──┐
//!                                     │                           │ Link: one queue of datagrams in flight
//!                                     ├─ est::Server  ◄───────────┘
//!                                     │     │ Submit   ▲ outcome
//!                                     └─ authority::CaAuthority ◄──► FaultyLedger, FaultySigner on the Agenda
//!                   RunReport ◄── invariants checked, digest of all datagrams
//! ```
//!
//! In a [`registrar`] run the authority is a Registrar, and CAs with an HTTPS front are behind it. In [`overload`] and [`power_restore`] the server's
//! computations take time.
//!
//! This crate is not shipped. It opens no socket and never sleeps, and it opts out of the purity rules in one place, the
//! clock's origin.

mod addresses;
pub mod agenda;
pub mod backend;
pub mod chance;
pub mod clock;
pub mod crashes;
pub mod crashing;
mod device;
pub mod faulty;
pub mod fuzz;
pub mod ideal;
pub mod ledger_contract;
pub mod link;
pub mod overload;
pub mod population;
pub mod power_restore;
pub mod registrar;
pub mod relay_contract;
mod run;
pub mod scenario;
pub mod service_times;
pub mod soak;
pub mod trace;
pub mod trust;
pub mod world;

pub use crate::link::SimulatedLink;
pub use ::link::{Conditions, Delay, Tally};
pub use agenda::Agenda;
pub use chance::{Chance, DerivedRandom};
pub use clock::VirtualClock;
pub use crashing::{CrashTally, CrashingLedger, CrashingStore};
pub use device::Reboot;
pub use faulty::{FaultyLedger, FaultySigner};
pub use run::{ENROLMENT_TIME_MAX, RunFaults, RunReport, run, run_traced, run_world};
pub use scenario::{Goal, Scenario};
pub use trust::{TestCa, TestIdentity, TestRequest};
pub use world::World;
