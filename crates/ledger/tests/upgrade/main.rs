//! Releases and the tables of one another: this release runs on those of the release before, on its own, and on those of the release after.
#![allow(clippy::unwrap_used, reason = "a test")]

mod versions;

/// The tables that the release before writes, in its own words.
const VERSION_1: &str = include_str!("version_1.sql");
