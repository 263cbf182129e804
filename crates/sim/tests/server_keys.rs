//! Keys that the server makes: one certificate a request under loss, and power cuts at every datagram.

use sim::scenario::{ALL, CLEAN};
use sim::{Goal, Reboot, Scenario, World, run, run_world};

#[test]
fn e39_under_loss_each_request_for_a_key_has_one_certificate() {
    let scenario = ALL.iter().find(|scenario| scenario.name == "server-keys").expect("a scenario");
    let devices = usize::try_from(scenario.devices).expect("a few");
    let certificates = |seed| run(seed, scenario).unwrap_or_else(|broken| panic!("{broken}")).certificates;
    let once = (0..100).filter(|&seed| certificates(seed) == 2 * devices).count();
    assert!(once > 80, "a request is repeated only where its session was lost: {once} of 100 runs");
}

/// The device loses its power at each datagram. What it did not receive to its end is revoked, and what it holds is not.
#[test]
fn e39_a_key_that_a_reboot_cut_off_is_revoked() {
    let scenario = Scenario { devices: 1, goals: &[Goal::GenerateKey], ..CLEAN };
    let rebooted = |at, answers| {
        let mut world = World::new(1, &scenario, None);
        world.reboot(0, Reboot { at, answers });
        run_world(world, 1, &scenario).unwrap_or_else(|broken| panic!("a reboot at {at}: {broken}"))
    };
    let (mut cut_off, mut again) = (0, 0);
    for at in 1..40 {
        for answers in [false, true] {
            let report = rebooted(at, answers);
            assert!(report.certificates <= 2, "a reboot at {at}: {} certificates", report.certificates);
            // The last block that was sent may be the one that the power cut took.
            assert!(report.undelivered < report.certificates, "a reboot at {at}");
            cut_off += report.undelivered;
            again += report.certificates - 1;
        }
    }
    assert!(cut_off > 5 && again - cut_off <= 4, "{cut_off} of {again} keys that nobody has were revoked");
}
