//! Devices on a lossy link, a Registrar, and upstream CAs that are slow, silent, busy, gone or lie: the promises of [`sim::registrar`], over many
//! seeds. A failure prints the command that replays its seed.

use sim::registrar::scenario::{
    self, CRASHES, EVERYTHING_AT_ONCE, FORGETFUL, GONE, LIARS, LOST_KEYS, MADE_KEYS, OPEN_ENDS, RELAYED,
    RegistrarScenario,
};
use sim::registrar::{RegistrarResult, play, run};

/// Enrolments of each scenario; `cargo xtask simulate` plays many more.
const ENROLMENTS: u64 = 200;

#[track_caller]
fn good(scenario: &RegistrarScenario, enrolments: u64) -> RegistrarResult {
    let result = play(scenario, 0.., enrolments);
    let broken: Vec<String> = result.broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{result}\n{}", broken.join("\n"));
    result
}

#[test]
fn upstreams_that_answer_are_asked_once_for_each_certificate() {
    let result = good(&RELAYED, 60);
    assert_eq!((result.tally.sent, result.issued), (result.enrolments, result.enrolments), "{result}");
}

/// Each upstream has a ledger of its own: a request that went to two of them would have two certificates.
#[test]
fn e42_a_request_with_an_open_end_is_repeated_at_its_upstream_and_never_at_another() {
    let result = good(&OPEN_ENDS, ENROLMENTS);
    let tally = result.tally;
    assert!(tally.open_ends > 50 && tally.repeated > 50 && tally.not_sent > 20, "{result}");
}

#[test]
fn e41_nothing_of_an_answer_that_lies_reaches_a_device() {
    let result = good(&LIARS, ENROLMENTS);
    assert!(result.tally.lies > 50, "{result}");
}

#[test]
fn a_registrar_that_crashes_with_its_record_neither_loses_nor_doubles_a_certificate() {
    let result = good(&CRASHES, ENROLMENTS);
    assert!(result.crashes > 20 && result.tally.repeated > 20, "{result}");
}

#[test]
fn everything_at_once_and_two_requests_in_flight_at_most() {
    let result = good(&EVERYTHING_AT_ONCE, ENROLMENTS);
    assert!(result.tally.in_flight_peak == 2 && result.crashes > 0 && result.tally.lies > 10, "{result}");
}

#[test]
fn a_second_certificate_for_one_request_is_recorded_with_the_first_and_the_first_is_the_answer() {
    let result = good(&FORGETFUL, 400);
    assert!(result.seconds > 0 && result.issued > result.enrolments, "{result}");
}

/// It rests for longer and longer: a minute in the end.
#[test]
fn an_upstream_that_is_gone_is_hardly_asked_and_delays_nobody() {
    let result = good(&GONE, 80);
    assert!(result.tally.not_sent * 2 < result.enrolments, "{result}");
}

/// The repeat of a request for a key has the CSR of the first one: neither silence nor 202 makes a CA issue twice, or loses a certificate.
#[test]
fn e42_a_key_that_the_registrar_makes_is_certified_once_however_often_its_request_is_repeated() {
    let result = good(&MADE_KEYS, ENROLMENTS);
    let tally = result.tally;
    assert!(tally.open_ends > 50 && tally.repeated > 50 && tally.lost_keys == 0, "{result}");
    assert_eq!(result.issued, result.enrolments, "{result}");
}

#[test]
fn a_key_that_a_crash_takes_is_made_anew_for_the_same_upstream() {
    let result = good(&LOST_KEYS, ENROLMENTS);
    assert!(result.crashes > 20 && result.tally.lost_keys > 5, "{result}");
}

#[test]
fn two_runs_of_a_seed_are_the_same_datagrams() {
    for scenario in scenario::ALL {
        let played = |seed| run(seed, scenario, None).unwrap_or_else(|broken| panic!("{broken}"));
        let (first, again, other) = (played(1), played(1), played(2));
        assert_eq!(first, again, "{}", scenario.base.name);
        assert_ne!(first.wire, other.wire, "{}: another seed is another run", scenario.base.name);
    }
}
