//! Stories of decisions and issuance, one file per subject, and their shared support.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod audit;
mod chains;
mod crl;
mod decision;
mod executor;
mod faults;
mod hardware_module;
mod idempotency;
mod lists;
mod one_device;
mod profile;
mod requested_names;
mod spelling;
mod support;
mod vouched;
mod walls;
