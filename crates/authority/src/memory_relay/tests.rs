use std::time::Duration;

use pki::issue::RevocationReason;
use pki::{AnchorId, Validity};

use super::*;
use crate::device::DeviceId;
use crate::idempotency::RepeatWindow;
use crate::issued::Issued;
use crate::origin::Origin;
use crate::revocation::Actor;

const LIFETIME: u64 = RELAY_LIFETIME.as_secs();

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

fn device(id: &str) -> Device {
    Device { manufacturer: AnchorId::from_bytes([1; 32]), id: DeviceId::new(id).unwrap() }
}

/// A request of device `d` at the time `now`, for the key `key`.
fn request(now: u64, key: &str) -> RelayRequest {
    RelayRequest {
        function: Function::SimpleEnroll,
        profile: "p".into(),
        device: device("d"),
        anchor: AnchorId::from_bytes([1; 32]),
        vouched_by: Origin::Manufacturer,
        client: Digest::of(b"idevid"),
        csr: Digest::of(format!("csr of {key}").as_bytes()),
        spki: Some(Digest::of(key.as_bytes())),
        names: Digest::of(b"names"),
        upstream: "a".into(),
        peer: "127.0.0.1:1".parse().unwrap(),
        at: at(now),
        window: RepeatWindow { until: at(now + 1_000) },
        new_row: NewRow::Allowed,
        certificates_max: 4,
    }
}

fn record(id: RelayId, certificate: &str, key: &str) -> RelayRecord {
    let issued = Issued {
        device: device("d"),
        profile: "p".into(),
        certificate: certificate.as_bytes().to_vec(),
        digest: Digest::of(certificate.as_bytes()),
        validity: Validity { not_before: at(0), not_after: at(9_000) },
        at: at(10),
    };
    RelayRecord {
        id,
        issued: Arc::new(issued),
        serial: vec![0, 0xAB].into(),
        spki: Digest::of(key.as_bytes()),
        window: RepeatWindow { until: at(2_000) },
    }
}

fn begin(ledger: &MemoryRelayLedger, request: RelayRequest) -> Begun {
    ledger.lock().unwrap().begin(request, ledger.rows_max)
}

fn new_row(ledger: &MemoryRelayLedger, request: RelayRequest) -> RelayId {
    match begin(ledger, request) {
        Begun::New(id) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_repeat_gets_the_recorded_bytes_until_its_window_ends() {
    let ledger = MemoryRelayLedger::default();
    let id = new_row(&ledger, request(10, "k"));
    assert!(matches!(begin(&ledger, request(11, "k")), Begun::InProgress));
    assert_eq!(ledger.lock().unwrap().record(record(id, "c", "k")), Relayed::First);
    let fresh = RelayRequest { csr: Digest::of(b"signed with other randomness"), ..request(12, "k") };
    for repeat in [request(12, "k"), fresh] {
        let Begun::Repeat(issued) = begin(&ledger, repeat) else { panic!("not a repeat") };
        assert_eq!(issued.certificate, b"c");
    }
    let renewal = RelayRequest { client: Digest::of(b"c"), ..request(12, "k") };
    assert!(matches!(begin(&ledger, renewal), Begun::New(_)), "a client renews the certificate that it holds");
    assert!(matches!(begin(&ledger, request(2_000, "k")), Begun::New(_)), "the window is over");
}

#[test]
fn e42_an_unknown_end_keeps_its_repeats_with_one_upstream() {
    let ledger = MemoryRelayLedger::default();
    let id = new_row(&ledger, request(10, "k"));
    ledger.end(vec![(id, RelayEnd::Unknown)]);
    let elsewhere = RelayRequest { upstream: "b".into(), ..request(20, "k") };
    let Begun::Unresolved { id: again, upstream } = begin(&ledger, elsewhere.clone()) else { panic!("not unresolved") };
    assert_eq!((again, &*upstream), (id, "a"));
    assert!(matches!(begin(&ledger, elsewhere), Begun::InProgress), "one attempt at a time");
    // The repeat could not be sent: the first attempt is as unknown as before.
    ledger.end(vec![(id, RelayEnd::NotSent)]);
    assert!(matches!(begin(&ledger, request(30, "k")), Begun::Unresolved { .. }));
    ledger.end(vec![(id, RelayEnd::Unknown)]);
    assert!(matches!(begin(&ledger, request(1_010, "k")), Begun::New(_)), "the window is over");
}

#[test]
fn a_row_in_flight_that_nobody_ends_is_unresolved_after_its_lifetime() {
    let ledger = MemoryRelayLedger::default();
    let id = new_row(&ledger, request(10, "k"));
    assert!(matches!(begin(&ledger, request(10 + LIFETIME - 1, "k")), Begun::InProgress));
    let Begun::Unresolved { id: again, .. } = begin(&ledger, request(10 + LIFETIME, "k")) else { panic!("in flight") };
    assert_eq!(again, id);
}

#[test]
fn what_was_not_sent_or_was_refused_is_forgotten() {
    for end in [RelayEnd::NotSent, RelayEnd::Refused] {
        let ledger = MemoryRelayLedger::default();
        let id = new_row(&ledger, request(10, "k"));
        ledger.end(vec![(id, end)]);
        assert!(matches!(begin(&ledger, request(11, "k")), Begun::New(_)), "{end:?}");
        assert_eq!(ledger.lock().unwrap().record(record(id, "c", "k")), Relayed::Unknown);
    }
}

#[test]
fn a_second_certificate_is_recorded_as_one_and_the_first_is_the_answer() {
    let ledger = MemoryRelayLedger::default();
    let id = new_row(&ledger, request(10, "k"));
    let mut rows = ledger.lock().unwrap();
    assert_eq!(rows.record(record(id, "first", "k")), Relayed::First);
    let Relayed::Second(answer) = rows.record(record(id, "second", "k")) else { panic!("not a second one") };
    assert_eq!(answer.certificate, b"first");
    rows.end(id, RelayEnd::Refused);
    let page = rows.page(&RelayQuery { rows_max: 9, ..RelayQuery::default() });
    let RelayStage::Recorded(certificates) = &page.rows[0].stage else { panic!("not recorded") };
    let both: Vec<_> = certificates.iter().map(|it| it.record.issued.certificate.clone()).collect();
    assert_eq!(both, [b"first".to_vec(), b"second".to_vec()]);
    assert!(rows.holder(&Digest::of(b"second")).is_some(), "a device may hold it");
}

#[test]
fn a_key_that_is_made_for_the_device_is_never_repeated_and_its_unknown_end_is_remembered() {
    let ledger = MemoryRelayLedger::default();
    let keygen = |now| RelayRequest { function: Function::ServerKeygen, spki: None, ..request(now, "k") };
    let id = new_row(&ledger, keygen(10));
    ledger.end(vec![(id, RelayEnd::Unknown)]);
    assert!(matches!(begin(&ledger, keygen(11)), Begun::Unresolved { .. }));
    assert_eq!(ledger.lock().unwrap().record(record(id, "c", "made")), Relayed::First);
    assert!(matches!(begin(&ledger, keygen(12)), Begun::New(_)));
    let other = RelayRequest { device: device("other"), ..request(12, "made") };
    assert!(matches!(begin(&ledger, other), Begun::KeyOfAnother), "the key that was made");
}

#[test]
fn the_holder_is_found_by_digest_and_a_mark_ends_all_that_it_opens() {
    let ledger = MemoryRelayLedger::default();
    let id = new_row(&ledger, request(10, "k"));
    ledger.lock().unwrap().record(record(id, "c", "k"));
    let digest = Digest::of(b"c");
    let holder = ledger.lock().unwrap().holder(&digest).unwrap();
    assert_eq!((&holder.device, &*holder.profile, holder.state), (&device("d"), "p", State::Good));
    assert_eq!(ledger.lock().unwrap().holder(&Digest::of(b"forged")), None);
    let revocation =
        Revocation { reason: RevocationReason::Superseded, at: at(20), actor: Actor::new("root").unwrap() };
    let mut rows = ledger.lock().unwrap();
    assert_eq!(rows.revoke(&digest, revocation.clone()), Revoked::Now);
    assert_eq!(rows.revoke(&digest, revocation.clone()), Revoked::Before(revocation.clone()));
    assert_eq!(rows.revoke(&Digest::of(b"forged"), revocation.clone()), Revoked::Unknown);
    assert_eq!(rows.holder(&digest).unwrap().state, State::Revoked(revocation));
    drop(rows);
    assert!(matches!(begin(&ledger, request(21, "k")), Begun::New(_)), "no repeat of a revoked certificate");
    let with_it = RelayRequest { client: digest, ..request(21, "another key") };
    assert!(matches!(begin(&ledger, with_it), Begun::ClientRevoked));
}

#[test]
fn e55_one_device_has_its_share_and_the_ledger_its_bound() {
    let ledger = MemoryRelayLedger::new(5);
    for key in ["1", "2", "3"] {
        new_row(&ledger, request(10, key));
    }
    let held = RelayRequest { new_row: NewRow::Held, ..request(10, "4") };
    assert!(matches!(begin(&ledger, held), Begun::Held));
    let id = new_row(&ledger, request(10, "4"));
    ledger.lock().unwrap().record(record(id, "c", "4"));
    assert!(matches!(begin(&ledger, request(10, "5")), Begun::DeviceFull));
    assert!(matches!(begin(&ledger, request(10, "4")), Begun::Repeat(_)), "a repeat takes nothing");
    let other = |name: &str| RelayRequest { device: device(name), ..request(10, name) };
    new_row(&ledger, other("e"));
    assert!(matches!(begin(&ledger, other("f")), Begun::Full));
    // The windows of the first rows end: their room is free again, and the certificate stays in its holder's share.
    let later = RelayRequest { device: device("g"), ..request(1_010, "g") };
    new_row(&ledger, later);
    for key in ["5", "6", "7"] {
        new_row(&ledger, request(1_011, key));
    }
    assert!(matches!(begin(&ledger, request(1_011, "8")), Begun::DeviceFull));
    assert_eq!(ledger.lock().unwrap().by_id.len(), 5);
}

#[test]
fn rows_are_listed_in_order_and_by_device() {
    let ledger = MemoryRelayLedger::default();
    let ids: Vec<_> = ["1", "2", "3"].iter().map(|key| new_row(&ledger, request(10, key))).collect();
    new_row(&ledger, RelayRequest { device: device("e"), ..request(10, "e") });
    let query = |after, rows_max| RelayQuery { device: Some(device("d")), after, rows_max };
    let rows = ledger.lock().unwrap();
    let first = rows.page(&query(None, 2));
    assert_eq!(first.rows.iter().map(|it| it.id).collect::<Vec<_>>(), ids[..2]);
    let second = rows.page(&query(first.next, 2));
    assert_eq!(second.rows.iter().map(|it| it.id).collect::<Vec<_>>(), ids[2..]);
    assert_eq!(second.next, None);
}
