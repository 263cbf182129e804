//! Enrolments on links that lose one datagram in ten or in four, each way: how many complete in time, and how the distribution
//! of times compares with the prediction from the timers of RFC 6347 and RFC 7252. Runs that do not end with one certificate
//! for each request are listed with the command that replays them. `results/soak.txt` has the tables.

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
