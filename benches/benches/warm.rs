//! Allocations of an enrolment at a server that has been running: the first one of a server also grows its tables and queues, which `counts` counts.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]

use allocation_counter::measure;
use benches::{Case, WarmLoad, WarmRecording};
use dtls::PublicKeySteps;

/// Enrolments that come before those that are counted, and those.
const WARM_UP: usize = 40;
const COUNTED: u32 = 100;

fn main() {
    for (name, case) in Case::ALL {
        let load = WarmLoad { case, devices: COUNTED + 40, together: 1, steps: PublicKeySteps::Inline };
        let mut replay = WarmRecording::new(load).replay();
        replay.run(WARM_UP);
        let allocations = measure(|| {
            replay.run(usize::try_from(COUNTED).unwrap_or(usize::MAX));
        });
        let each = |total: u64| total / u64::from(COUNTED);
        println!("{name}: {} allocations, {} bytes", each(allocations.count_total), each(allocations.bytes_total));
    }
}
