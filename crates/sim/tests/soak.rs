//! Enrolments on links that lose one datagram in ten or in four, each way: how many are done in time, and how the
//! distribution of times compares with what the timers of RFC 6347 and RFC 7252 predict by themselves. All runs end with one
//! certificate for each request, or they are listed with the command that plays them again. `results/soak.txt` has the tables.

use sim::soak::PROFILES;

const SEEDS: u64 = 10_000;

fn promises_are_kept(name: &str) {
    let profile = PROFILES.iter().find(|profile| profile.scenario.name == name).expect("a profile");
    let (outcome, predicted) = (profile.play(0..SEEDS), profile.predict());
    let table = profile.table(&outcome, &predicted);
    let faults = profile.faults(&outcome, &predicted);
    assert!(faults.is_empty(), "{}\n{table}", faults.join("\n"));
    assert_eq!(outcome.took.count() as u64, SEEDS);
}

#[test]
fn at_ten_percent_loss_enrolments_are_done_within_180_seconds() {
    promises_are_kept("soak-10");
}

#[test]
fn at_ten_percent_loss_and_a_timer_of_nine_seconds_within_240() {
    promises_are_kept("soak-10-slow");
}

#[test]
fn at_twenty_five_percent_loss_within_300() {
    promises_are_kept("soak-25");
}
