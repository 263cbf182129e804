//! The simulator can fail: it finds a defect that breaks a promise, and its report says how to replay the run.

use sim::faulty::Behaviour;
use sim::scenario::CLEAN;
use sim::{Conditions, Goal, Scenario, run};

#[test]
fn a_ledger_that_forgets_is_found_by_its_second_certificate() {
    let forgetful = Scenario {
        name: "reboots",
        ledger: Behaviour { forgets: true, ..CLEAN.ledger },
        link: Conditions { loss: 100, ..CLEAN.link },
        reboots: 100,
        ..CLEAN
    };
    let broken: Vec<String> = (0..20).filter_map(|seed| run(seed, &forgetful).err()).map(|it| it.to_string()).collect();
    assert!(broken.iter().any(|fault| fault.contains("certificates in the ledger for")), "{broken:?}");
}

#[test]
fn a_run_that_ends_nowhere_names_who_waits_and_how_to_see_it_again() {
    let dead = Scenario { name: "loss", link: Conditions { loss: 1_000, ..CLEAN.link }, ..CLEAN };
    let broken = run(9, &dead).expect_err("nothing arrives").to_string();
    assert!(broken.contains("GaveUp") && broken.contains("wants CaCertificates"), "{broken}");
    assert!(broken.ends_with("cargo run -p sim --bin replay -- --seed 9 --scenario loss"), "{broken}");
}

#[test]
fn a_ledger_that_is_away_leaves_devices_without_certificates_and_no_row_behind() {
    let away = Scenario { goals: &[Goal::Enroll], ledger: Behaviour { faults: 1_000, ..CLEAN.ledger }, ..CLEAN };
    let broken = run(1, &away).expect_err("no ledger, no certificate").to_string();
    assert!(broken.contains("5.03"), "devices are told to come later: {broken}");
}
