//! Runs the bodies of the fuzz targets of this crate over their committed seeds and over reproducible changes of them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "the seeds are files, and a fault fails the test")]

use std::path::Path;

use sim::fuzz::mutations;

/// Changes of one seed: an input takes some microseconds.
const CHANGES: usize = 2_000;

/// A body, and whether a seed reaches what it is for.
type Target = (fn(&[u8]), fn(&[u8]) -> bool);

fn seeds_of(name: &str, (body, is_good): Target) -> [usize; 2] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(name);
    let (mut good, mut refused) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        if is_good(&seed) {
            good += 1;
        } else {
            refused += 1;
        }
        body(&seed);
        mutations(&seed, CHANGES).for_each(|input| body(&input));
    }
    [good, refused]
}

#[test]
fn seeds_of_scenarios() {
    let target: Target = (loadgen::fuzz::scenario, loadgen::fuzz::is_scenario);
    assert_eq!(seeds_of("load_scenario", target), [5, 1], "scenarios, refused");
}

#[test]
fn seeds_of_identities() {
    let target: Target = (loadgen::fuzz::identities, loadgen::fuzz::is_fleet);
    assert_eq!(seeds_of("load_identities", target), [3, 1], "fleets, refused");
}

#[test]
fn seeds_of_reports() {
    let target: Target = (loadgen::fuzz::report, loadgen::fuzz::is_report);
    assert_eq!(seeds_of("load_report", target), [4, 2], "reports, refused");
}
