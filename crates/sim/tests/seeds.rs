//! Ten thousand seeds over all scenarios: both real engines, a bad link, an unreliable ledger and signer, in virtual time. A
//! failure prints the command that replays its seed as a readable trace. `tests/soak.rs` plays as many seeds for each of three
//! bad links, and checks the times.

use sim::soak::scenario_named;
use sim::{RunReport, Scenario, run, scenario};

const SEEDS: u64 = 10_000;

/// In each run every device gets exactly one certificate for each of its requests, within the hour.
#[track_caller]
fn every_device_gets_its_certificates_once(name: &str) {
    let scenario = scenario_named(name).expect("a scenario");
    let seeds = SEEDS.div_ceil(scenario::ALL.len() as u64);
    let broken: Vec<String> =
        (0..seeds).filter_map(|seed| run(seed, scenario).err()).map(|it| it.to_string()).collect();
    assert!(broken.is_empty(), "{} of {seeds} runs are broken:\n{}", broken.len(), broken.join("\n"));
}

/// One test per scenario, so that they run in parallel.
macro_rules! scenarios {
    ($($test:ident plays $name:literal;)*) => {
        $(#[test]
        fn $test() {
            every_device_gets_its_certificates_once($name);
        })*

        #[test]
        fn no_scenario_is_left_out() {
            assert_eq!(scenario::ALL.iter().map(|it| it.name).collect::<Vec<_>>(), [$($name),*]);
        }
    };
}

scenarios! {
    on_a_good_link plays "clean";
    at_ten_percent_loss plays "loss";
    with_every_datagram_twice plays "duplicates";
    with_datagrams_that_overtake_each_other plays "reordering";
    with_damaged_datagrams plays "corruption";
    on_a_narrow_path plays "small-mtu";
    with_a_ledger_and_a_signer_that_are_late_and_fail plays "slow-authority";
    with_devices_that_lose_their_power plays "reboots";
    with_a_server_that_restarts plays "restarts";
    when_all_come_at_once plays "storm";
    with_keys_that_the_server_makes plays "server-keys";
    with_requests_that_are_linked_to_their_sessions plays "linking";
    when_everything_happens plays "everything";
}

#[test]
fn two_runs_of_a_seed_are_the_same_datagrams() {
    for scenario in scenario::ALL {
        let [first, again, other] = [1, 1, 2].map(|seed| good_run(seed, scenario));
        assert_eq!(first, again, "{}", scenario.name);
        assert_ne!(first.wire, other.wire, "{}: another seed is another run", scenario.name);
    }
}

#[test]
fn the_bad_scenarios_are_as_bad_as_they_say() {
    let tally = |name| good_run(7, scenario_named(name).expect("a scenario")).link;
    let clean = tally("clean");
    assert_eq!((clean.lost, clean.duplicated, clean.corrupted), (0, 0, 0));
    assert!(tally("loss").lost > 0 && tally("loss").sent > clean.sent);
    assert_eq!(tally("duplicates").duplicated, tally("duplicates").sent);
    assert!(tally("corruption").corrupted > 0);
}

#[track_caller]
fn good_run(seed: u64, scenario: &Scenario) -> RunReport {
    run(seed, scenario).unwrap_or_else(|broken| panic!("{broken}"))
}
