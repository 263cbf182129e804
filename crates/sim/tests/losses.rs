//! Losses by plan rather than by chance: every pair of datagrams, and a path that carries only small ones.

use std::time::Duration;

use sim::scenario::CLEAN;
use sim::{Conditions, Goal, Report, Scenario, World, run_world};

const ENROLMENT: Scenario = Scenario { devices: 1, goals: &[Goal::Enroll], block: coap::BlockSize::B512, ..CLEAN };

fn with_losses(numbers: &[u64]) -> Report {
    let mut world = World::new(1, &ENROLMENT, None);
    world.lose(numbers);
    run_world(world, 1, &ENROLMENT).unwrap_or_else(|broken| panic!("without datagrams {numbers:?}: {broken}"))
}

/// The handshake as TESTS.md asks for it, and the enrolment behind it: one certificate, in one session, whatever is lost.
#[test]
fn d83_whichever_two_datagrams_are_lost_the_enrolment_completes() {
    let datagrams = with_losses(&[]).link.sent;
    assert!(datagrams > 8, "a handshake and a request: {datagrams}");
    for first in 0..datagrams {
        for second in first + 1..=datagrams {
            let report = with_losses(&[first, second]);
            assert_eq!(report.certificates, 1, "without {first} and {second}");
            assert!(report.elapsed < Duration::from_secs(60), "without {first} and {second}: {:?}", report.elapsed);
        }
    }
}

#[test]
fn d67_over_a_path_of_256_bytes_the_server_finds_a_size_that_fits() {
    let narrow = Scenario {
        link: Conditions { mtu: 256, ..CLEAN.link },
        mtu: 256,
        block: coap::BlockSize::B64,
        goals: &[Goal::CaCertificates, Goal::Enroll],
        ..ENROLMENT
    };
    let report = run_world(World::new(1, &narrow, None), 1, &narrow).unwrap_or_else(|broken| panic!("{broken}"));
    assert_eq!(report.certificates, 1);
    assert!(report.link.lost > 0, "its first flight was too long");
    assert!(report.elapsed < Duration::from_secs(60), "{:?}", report.elapsed);
}
