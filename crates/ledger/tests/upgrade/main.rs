//! Releases and the tables of one another: this release runs on those of the release before, on its own, and on those of the release after.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test: it looks at files")]

mod codes;
#[allow(dead_code, reason = "several tests share it")]
#[path = "../common/maker.rs"]
mod maker;
mod migration;
mod release_before;
mod versions;

/// The tables that the release before writes, in its own words.
const VERSION_1: &str = include_str!("version_1.sql");
