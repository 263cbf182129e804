//! Runs the body of the fuzz target of this crate over its committed seeds and over reproducible changes of them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "the seeds are files, and a fault fails the test")]

use std::path::Path;

use net::capture::{CaptureFile, DissectedRecord};
use sim::fuzz::mutations;

/// Changes of one seed: an input takes some microseconds.
const CHANGES: usize = 2_000;

#[test]
fn seeds_of_captures() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/net_capture");
    let (mut captures, mut datagrams) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let seed = std::fs::read(&path).unwrap();
        // Each of them reaches what it is for.
        if path.file_name().unwrap().to_str().unwrap().starts_with("pcap") {
            captures += 1;
            datagrams += CaptureFile::read(&seed).unwrap().packets.iter().filter_map(|packet| packet.udp()).count();
        } else {
            assert!(!DissectedRecord::all(&seed).is_empty(), "{path:?}");
        }
        net::fuzz::capture(&seed);
        mutations(&seed, CHANGES).for_each(|input| net::fuzz::capture(&input));
    }
    assert_eq!((captures, datagrams), (6, 11), "captures, datagrams in them");
}
