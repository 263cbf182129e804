//! A server that crashes with its ledger between any two steps of an issuance, on a link that loses one datagram in five and repeats one in five. It comes
//! back without sessions and with what was durable. Each request has one certificate in the end, and each certificate is in the ledger.

use sim::Scenario;
use sim::crashes::{CrashResult, LIVES, TWENTY_REPEATS, play};
use sim::faulty::Behaviour;

/// Enrolments in all; `cargo xtask simulate` plays a million.
const ENROLMENTS: u64 = 10_000;

#[track_caller]
fn good(scenario: &Scenario, enrolments: u64) -> CrashResult {
    let result = play(scenario, 0.., enrolments);
    let broken: Vec<String> = result.broken.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{result}\n{}", broken.join("\n"));
    result
}

#[test]
fn e26_e27_ten_thousand_enrolments_with_a_server_that_crashes_are_neither_lost_nor_issued_twice() {
    let result = good(&LIVES, ENROLMENTS);
    let tally = result.tally;
    assert!(tally.crashes > 1_000 && tally.untold > 100 && tally.lost > 100 && tally.given_up > 100, "{result}");
}

/// The device enrols, renews with the identical CSR, is reset and enrols again, each after the window of the one before.
#[test]
fn e26_three_certificates_each_asked_for_twenty_more_times_and_never_a_fourth() {
    let result = good(&TWENTY_REPEATS, 60);
    assert!(result.tally.crashes > 20, "{result}");
    let quiet = Scenario { crashes: 0, ..TWENTY_REPEATS };
    assert_eq!(good(&quiet, 3).enrolments, 3);
}

/// The ledger of a server that has just started answers late, fails before and after a call took effect, or not at all.
#[test]
fn e27_a_ledger_that_crashes_and_fails_around_its_restarts_issues_once() {
    let ledger = Behaviour { faults: 200, silences: 20, ..LIVES.ledger };
    let result = good(&Scenario { ledger, crashes: 20, ..LIVES }, 1_000);
    assert!(result.tally.crashes > 200, "{result}");
}

/// The simulator sees a second certificate: one for a request that was answered before the crash.
#[test]
fn a_ledger_that_forgets_is_found() {
    let forgetful = Behaviour { forgets: true, ..LIVES.ledger };
    let result = play(&Scenario { ledger: forgetful, ..LIVES }, 0.., 300);
    assert!(!result.broken.is_empty(), "{result}");
}
