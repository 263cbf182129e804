//! Planned losses instead of random ones: every pair of datagrams, and a path that carries only small ones.

use std::time::Duration;

use sim::scenario::CLEAN;
use sim::{Conditions, Goal, RunReport, Scenario, World, run_world};

const ENROLMENT: Scenario = Scenario { devices: 1, goals: &[Goal::Enroll], block: coap::BlockSize::B512, ..CLEAN };

/// The same with `/crts` before it, in blocks of 64 bytes: about sixty datagrams.
const WHOLE: Scenario =
    Scenario { goals: &[Goal::CaCertificates, Goal::Enroll], block: coap::BlockSize::B64, ..ENROLMENT };

fn with_losses(scenario: &Scenario, numbers: &[u64]) -> RunReport {
    let mut world = World::new(1, scenario, None);
    world.lose(numbers);
    run_world(world, 1, scenario).unwrap_or_else(|broken| panic!("without datagrams {numbers:?}: {broken}"))
}

/// One certificate, in one session, whatever is lost.
fn every_pair_may_be_lost(scenario: &Scenario, datagrams_min: u64) {
    let datagrams = with_losses(scenario, &[]).link.sent;
    assert!(datagrams > datagrams_min, "{datagrams}");
    for first in 0..datagrams {
        for second in first + 1..=datagrams {
            let report = with_losses(scenario, &[first, second]);
            assert_eq!(report.certificates, 1, "without {first} and {second}");
            assert!(report.elapsed < Duration::from_secs(60), "without {first} and {second}: {:?}", report.elapsed);
        }
    }
}

/// Pairs of the handshake, which the case requires, and pairs of the enrolment after it.
#[test]
fn d83_whichever_two_datagrams_are_lost_the_enrolment_completes() {
    every_pair_may_be_lost(&ENROLMENT, 8);
}

#[test]
fn d83_whichever_two_of_many_small_datagrams_are_lost_the_enrolment_completes() {
    every_pair_may_be_lost(&WHOLE, 40);
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
