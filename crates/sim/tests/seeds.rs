//! A thousand seeds over all scenarios: both real engines, a bad link, a moody ledger and signer, in virtual time. A
//! failure prints the command that plays its seed again as a readable trace.

use sim::{Report, Scenario, run, scenario};

const SEEDS: u64 = 1_000;

fn seeds_of(index: usize) -> impl Iterator<Item = u64> {
    let (index, step) = (index as u64, scenario::ALL.len() as u64);
    (0..SEEDS).filter(move |seed| seed % step == index)
}

#[test]
fn in_a_thousand_runs_every_device_gets_its_certificates_once() {
    let mut broken = Vec::new();
    let mut runs = 0;
    for (index, scenario) in scenario::ALL.iter().enumerate() {
        for seed in seeds_of(index) {
            runs += 1;
            if let Err(fault) = run(seed, scenario) {
                broken.push(fault.to_string());
            }
        }
    }
    assert_eq!(runs, SEEDS);
    assert!(broken.is_empty(), "{} of {runs} runs are broken:\n{}", broken.len(), broken.join("\n"));
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
    let tally = |name| good_run(7, Scenario::named(name).expect("a scenario")).link;
    let clean = tally("clean");
    assert_eq!((clean.lost, clean.duplicated, clean.corrupted), (0, 0, 0));
    assert!(tally("loss").lost > 0 && tally("loss").sent > clean.sent);
    assert_eq!(tally("duplicates").duplicated, tally("duplicates").sent);
    assert!(tally("corruption").corrupted > 0);
}

#[track_caller]
fn good_run(seed: u64, scenario: &Scenario) -> Report {
    run(seed, scenario).unwrap_or_else(|broken| panic!("{broken}"))
}
