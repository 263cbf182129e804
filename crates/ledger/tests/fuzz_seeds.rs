//! Runs the bodies of the fuzz targets of this crate over their committed seeds and over reproducible changes of them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "the seeds are files, and a fault fails the test")]

use std::path::Path;

use sim::fuzz::mutations;

/// Changes of one seed: an input takes some microseconds.
const CHANGES: usize = 2_000;

#[test]
fn seeds_of_lines() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/ledger_line");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(ledger::fuzz::is_line(&seed), "{}", String::from_utf8_lossy(&seed));
        ledger::fuzz::line(&seed);
        mutations(&seed, CHANGES).for_each(|input| ledger::fuzz::line(&input));
        seeds += 1;
    }
    assert!(seeds >= 10, "{seeds} seeds");
}
