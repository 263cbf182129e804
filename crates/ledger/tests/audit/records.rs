//! What is recorded.

use std::sync::atomic::Ordering;

use authority::{Actor, Ledger, Locator, RefusalRecord, Revocation, Revoke, Revoked};
use pki::issue::RevocationReason;
use serde_json::Value;

use crate::support::{START, Stage, ask, flush, utc};

fn text<'v>(record: &'v Value, name: &str) -> &'v str {
    record[name].as_str().unwrap_or_else(|| panic!("{name} in {record}"))
}

#[test]
fn e38_an_acceptance_is_recorded_with_its_device_peer_serial_and_profile_version() {
    let stage = Stage::new();
    let ledger = stage.open();
    let intent = stage.issue(&ledger);
    drop(ledger);
    let [record] = &stage.records()[..] else { panic!("{:?}", stage.records()) };
    let expected = [
        ("type", "issued".to_owned()),
        ("actor", "device".to_owned()),
        ("function", "sen".to_owned()),
        ("profile", "meters".to_owned()),
        ("profile_version", intent.profile_version.to_string()),
        ("device", "device-1".to_owned()),
        ("manufacturer", intent.device.manufacturer.to_string()),
        ("client", intent.client.to_string()),
        ("peer", "192.0.2.1:40000".to_owned()),
        ("serial", intent.serial.to_string()),
        ("certificate", pki::Digest::of(intent.serial.as_bytes()).to_string()),
    ];
    for (name, value) in expected {
        assert_eq!(text(record, name), value);
    }
    assert_eq!(record["at"], START);
}

#[test]
fn e38_a_revocation_has_its_actor_and_what_a_restart_gives_up_is_recorded() {
    let stage = Stage::new();
    let ledger = stage.open();
    let issued = stage.issue(&ledger);
    let revocation = Revocation {
        reason: RevocationReason::KeyCompromise,
        at: utc(START + 5),
        actor: Actor::new("alice \"the\" \u{202e}admin").unwrap(),
    };
    let revoke = || vec![Revoke { row: Locator::Serial(issued.serial), revocation: revocation.clone() }];
    assert_eq!(ask(|done| ledger.revoke(revoke(), done)), [Revoked::Now]);
    assert_eq!(ask(|done| ledger.revoke(revoke(), done)), [Revoked::Before(revocation.clone())]);
    let given_up = stage.reserve(&ledger);
    ledger.abandon(vec![given_up.serial]);
    let lost = stage.reserve(&ledger);
    drop(ledger);
    drop(stage.open());
    let records = stage.records();
    let found: Vec<_> = records.iter().map(|it| (text(it, "type"), text(it, "actor"), it["reason"].as_str())).collect();
    let expected = [
        ("issued", "device", None),
        ("revoked", "alice \"the\" \u{202e}admin", Some("keyCompromise")),
        ("abandoned", "muster", Some("not_issued")),
        ("abandoned", "muster", Some("restart")),
        ("revoked", "muster", Some("cessationOfOperation")),
    ];
    assert_eq!(found, expected);
    for (record, serial) in
        records.iter().zip([issued.serial, issued.serial, given_up.serial, lost.serial, lost.serial])
    {
        assert_eq!(text(record, "serial"), serial.to_string());
    }
    assert!(stage.rows().iter().all(|(_, body)| !body.contains('\u{202e}')), "invisible characters are escaped");
    assert_eq!(stage.verifies().nodes[0].records, 5);
}

#[test]
fn e38_refusals_of_one_device_for_one_reason_are_one_record_and_a_count() {
    let stage = Stage::new();
    let ledger = stage.open();
    let key_type = stage.refusal(1, "est.csr.key_type");
    ledger.refused(vec![key_type.clone(); 3]);
    flush(&ledger);
    stage.pass(1);
    for _ in 0..10 {
        ledger.refused(vec![stage.refusal(1, "est.csr.key_type"); 100]);
    }
    ledger.refused(vec![stage.refusal(2, "est.csr.key_type"), stage.refusal(1, "est.csr.ca_key")]);
    ledger.refused(vec![RefusalRecord { device: None, ..stage.refusal(3, "est.client.expired") }]);
    drop(ledger);
    let records = stage.records();
    let mut found: Vec<(&str, Option<&str>, i64)> =
        records.iter().map(|it| (text(it, "reason"), it["device"].as_str(), it["count"].as_i64().unwrap())).collect();
    found.sort_unstable();
    let expected = [
        ("est.client.expired", None, 1),
        ("est.csr.ca_key", Some("device-1"), 1),
        ("est.csr.key_type", Some("device-1"), 3),
        ("est.csr.key_type", Some("device-1"), 1_000),
        ("est.csr.key_type", Some("device-2"), 1),
    ];
    assert_eq!(found, expected);
    let counted = records.iter().find(|it| it["count"] == 1_000).unwrap();
    assert_eq!((counted["at"].as_u64(), counted["until"].as_u64()), (Some(START + 1), Some(START + 1)));
    assert_eq!(text(counted, "client"), key_type.client.to_string());
    assert_eq!(stage.verifies().nodes[0].records, 5);
}

/// Nothing else is written meanwhile: the writer looks by itself.
#[test]
fn e38_a_refusal_alone_becomes_durable() {
    let stage = Stage::new();
    let ledger = stage.open();
    ledger.refused(vec![stage.refusal(1, "est.csr.signature")]);
    while stage.records().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(text(&stage.records()[0], "reason"), "est.csr.signature");
    drop(ledger);
}

#[test]
fn e38_a_flood_of_refusals_leaves_the_ledger_usable_and_every_request_counted() {
    const FLOOD: u64 = 20_000;
    let stage = Stage::new();
    let ledger = stage.open();
    for device in 0..FLOOD {
        ledger.refused(vec![stage.refusal(device, "est.client.expired")]);
    }
    stage.issue(&ledger);
    drop(ledger);
    let records = stage.records();
    let count = |kind: &str| -> u64 {
        let of_kind = records.iter().filter(|it| text(it, "type") == kind);
        of_kind.map(|it| it["count"].as_u64().unwrap()).sum()
    };
    assert_eq!(count("refused") + count("refusals_dropped"), FLOOD);
    assert!(count("refusals_dropped") > 0, "more than is held");
    assert!(records.iter().any(|it| text(it, "type") == "issued"));
    stage.verifies();
}

#[test]
fn a_ledger_without_a_fault_drops_no_checkpoint() {
    let stage = Stage::new();
    let ledger = stage.open();
    stage.issue(&ledger);
    let failures = ledger.checkpoint_failures();
    assert_eq!((failures.file.load(Ordering::Relaxed), failures.syslog.load(Ordering::Relaxed)), (0, 0));
}
