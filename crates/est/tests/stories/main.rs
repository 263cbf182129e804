//! Stories of both sides of EST-coaps, one file per subject, and their shared support.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod allocations;
mod anchors;
mod attributes;
mod challenge;
mod delayed;
mod encodings;
mod endings;
mod enrol;
mod eviction;
mod expired_identity;
mod hostile;
mod lists;
mod never_shed;
mod persistence;
mod pins;
mod population;
mod registrar;
mod remedies;
mod renewal;
mod server_name;
mod shares;
mod skg;
mod skg_encrypted;
mod small_records;
mod support;
mod table;
mod trace;
mod trust;
mod unproven;
mod vectors;
mod walls;
