//! Power losses in the middle of every stage, on either side: a device that returns from the same address and port without any
//! state, a server that returns without sessions, a session that ended while it was idle. In each case the device has its
//! certificate in the end, and the ledger has exactly one.

use std::time::Duration;

use sim::scenario::CLEAN;
use sim::{Goal, Reboot, RunFaults, RunReport, Scenario, World, run_world};

const ENROLMENT: Scenario = Scenario { devices: 1, goals: &[Goal::CaCertificates, Goal::Enroll], ..CLEAN };

/// Runs the scenario with the one change that `happens` makes; there must be one certificate, within the time.
fn enrol(scenario: &Scenario, at_most: Duration, what: &str, happens: impl FnOnce(&mut World)) -> RunReport {
    let mut world = World::new(1, scenario, None);
    happens(&mut world);
    let report = run_world(world, 1, scenario).unwrap_or_else(|broken: RunFaults| panic!("{what}: {broken}"));
    assert_eq!(report.certificates, 1, "{what}");
    assert!(report.took.iter().all(|took| *took <= at_most), "{what}: {:?}", report.took);
    report
}

/// Datagrams that reach the server and the device without any fault.
fn datagrams() -> (u64, u64) {
    let mut world = World::new(1, &ENROLMENT, None);
    world.run(Duration::from_secs(60)).unwrap_or_else(|stopped| panic!("{stopped:?}"));
    let (server, device) = world.heard(0);
    // Hello, cookie, the flight with the keys; blocks of /crts, of the request, of the certificate.
    assert!(server > 20 && device > 20, "{server} {device}");
    (server, device)
}

/// Half-open (before and after the cookie, before and after Finished), established, in `/crts`, in the middle of the upload,
/// before the answer and in the middle of it: at each datagram, both if the device still sends its answer to it and if not. The
/// device returns from the same address and port, so that its ClientHello arrives while the server has the old state
/// (RFC 6347 §4.2.8).
#[test]
fn d41_c05_a_device_that_loses_its_power_at_any_datagram_gets_its_one_certificate() {
    let (_, device) = datagrams();
    for at in 1..=device {
        for answers in [false, true] {
            let reboot = Reboot { at, answers };
            enrol(&ENROLMENT, Duration::from_secs(15), &format!("{reboot:?}"), |world| world.reboot(0, reboot));
        }
    }
}

#[test]
fn a_device_that_loses_its_power_twice_gets_its_one_certificate() {
    let (_, device) = datagrams();
    for first in 1..=device {
        for second in [first + 1, first + 2, first + 5] {
            let reboots = [first, second].map(|at| Reboot { at, answers: true });
            let what = format!("{reboots:?}");
            enrol(&ENROLMENT, Duration::from_secs(20), &what, |world| {
                for reboot in reboots {
                    world.reboot(0, reboot);
                }
            });
        }
    }
}

/// The device loses power, and the link is bad at the worst moment: each of the datagrams around the reboot is lost once.
#[test]
fn after_a_reboot_any_one_datagram_may_be_lost() {
    let (_, device) = datagrams();
    for at in 1..=device {
        let reboot = Reboot { at, answers: true };
        // Every datagram that the device receives answers one of its own.
        for lost in 2 * at - 1..2 * at + 12 {
            enrol(&ENROLMENT, Duration::from_secs(20), &format!("{reboot:?}, datagram {lost} lost"), |world| {
                world.reboot(0, reboot);
                world.lose(&[lost]);
            });
        }
    }
}

/// The device does not learn that the server has restarted: it gets no alert and no answer. An exchange and its repetition stay
/// unanswered, then the device begins a handshake: after at most twice MAX_TRANSMIT_WAIT of RFC 7252 §4.8.2.
#[test]
fn a_server_that_restarts_at_any_datagram_issues_one_certificate() {
    let (server, _) = datagrams();
    for at in 1..=server {
        enrol(&ENROLMENT, Duration::from_secs(2 * 93 + 15), &format!("restart at {at}"), |world| world.restart_at(at));
    }
}

#[test]
fn server_and_device_restart_within_a_few_datagrams_of_each_other() {
    let (server, _) = datagrams();
    for at in 1..=server {
        for device in at.saturating_sub(2).max(1)..at + 3 {
            let reboot = Reboot { at: device, answers: true };
            enrol(&ENROLMENT, Duration::from_secs(2 * 93 + 30), &format!("restart at {at}, {reboot:?}"), |world| {
                world.restart_at(at);
                world.reboot(0, reboot);
            });
        }
    }
}

/// The association may outlive the pause or not, and the device may learn of its end or not: the request after the pause is
/// answered.
#[test]
fn a_session_that_expires_between_two_requests_is_made_again() {
    for (pause, idle) in [(60, 300), (100, 30), (100, 90), (130, 300), (400, 300), (2_000, 300)] {
        let scenario =
            Scenario { pause: Duration::from_secs(pause), idle_timeout: Duration::from_secs(idle), ..ENROLMENT };
        let what = format!("pause {pause} s, idle timeout {idle} s");
        let before_pause = enrol(&scenario, Duration::from_secs(pause + 20), &what, |_| {}).link.sent;
        // One of them is the close_notify of the server.
        for lost in 0..before_pause {
            let at_most = Duration::from_secs(pause + 2 * 93 + 20);
            enrol(&scenario, at_most, &format!("{what}, datagram {lost} lost"), |world| world.lose(&[lost]));
        }
    }
}
