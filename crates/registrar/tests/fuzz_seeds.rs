//! Runs the bodies of the fuzz targets of this crate over their committed seeds and over reproducible changes of them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "the seeds are files, and a fault fails the test")]

use std::path::Path;

use sim::fuzz::mutations;

/// Changes of one seed: an input takes some microseconds.
const CHANGES: usize = 2_000;

#[test]
fn seeds_of_http_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/registrar_http_answer");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        registrar::fuzz::http_answer(&seed);
        mutations(&seed, CHANGES).for_each(|input| registrar::fuzz::http_answer(&input));
        seeds += 1;
    }
    assert!(seeds >= 4, "{seeds} seeds");
}

#[test]
fn seeds_of_requests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/registrar_front");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        registrar::fuzz::front_request(&seed);
        mutations(&seed, CHANGES).for_each(|input| registrar::fuzz::front_request(&input));
        seeds += 1;
    }
    assert!(seeds >= 4, "{seeds} seeds");
}
