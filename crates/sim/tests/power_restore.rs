//! The power returns to many more devices than the server serves at once: all enrol, none twice, and no session ends before its certificate. The same
//! fields with all their devices are played by `cargo xtask simulate --power-restore`.

#![allow(clippy::print_stdout, reason = "the figures are its result")]

use sim::power_restore::{self, PowerField, RestoreReport, power_field_named};

/// A two-hundredth of a field: the same load, on a server that is as much slower.
const DEVICES: u32 = 1_000;

fn restore(name: &str) -> RestoreReport {
    let field: &PowerField = power_field_named(name).expect("one of the fields");
    let report = power_restore::run(&field.with_devices(DEVICES), 1, &mut |_| {});
    println!("{report}");
    // They are kept, or `report` says which device broke them and with which seed.
    assert_eq!(report.faults(), [""; 0]);
    assert_eq!((report.took.count(), report.issued), (1_000, 1_000));
    report
}

#[test]
fn c47_all_devices_of_a_region_enrol_once_within_ten_minutes() {
    let report = restore("one-core");
    assert!(report.waiting_max > 500, "they come faster than they are served: {}", report.waiting_max);
    assert!(report.refused_hellos > 1_000, "the server was behind: {}", report.refused_hellos);
}

#[test]
fn c47_all_devices_of_a_region_enrol_once_when_a_tenth_of_their_datagrams_is_lost() {
    let report = restore("lossy-links");
    assert!(report.link.lost > 1_000, "{:?}", report.link);
}

#[test]
fn c37_all_devices_of_a_region_enrol_once_when_their_authority_is_slower_than_their_server() {
    let report = restore("slow-authority");
    assert!(report.sent_away.devices > 100, "{}", report.sent_away);
    let field = report.field;
    assert!(
        report.in_session_max > field.certificates_max / 2,
        "more than half of {}: {report}",
        field.certificates_max
    );
    let most = report.sent_away.max_ages.last_key_value();
    assert!(most.is_some_and(|(max_age, _)| *max_age <= 90), "12 times 5 s and half of it: {}", report.sent_away);
}
