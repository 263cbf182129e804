//! Records that are replayed, forged, cut, of the wrong epoch or version.

use dtls::{Closed, DropReason, Event, Suite};
use proptest::prelude::*;

use crate::support;
use crate::support::forge::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, Raw, records};
use crate::support::{Clock, Pair, Way, World};

fn ccm8(world: &World) -> Pair {
    let clock = Clock::new();
    let endpoint = world.endpoint_with(|config| config.suites = vec![Suite::EcdheEcdsaAes128Ccm8]);
    let mut pair = Pair::of(endpoint, world.client(&clock), clock);
    pair.run();
    assert!(pair.is_established());
    pair
}

#[test]
fn d01_a_replayed_record_is_delivered_once() {
    let mut pair = Pair::established(&World::new());
    pair.client_sends(b"once");
    let datagram = pair.to_server.pop_front().unwrap();
    for _ in 0..10 {
        pair.give_server(&datagram);
    }
    assert_eq!(pair.server_received, [b"once".to_vec()]);
    assert_eq!(pair.endpoint.drops().count(DropReason::Replay), 9);
}

#[test]
fn d02_a_forged_record_far_ahead_does_not_move_the_window() {
    let world = World::new();
    for mut pair in [Pair::established(&world), ccm8(&world)] {
        pair.client_sends(b"genuine");
        let genuine = pair.to_server.pop_front().unwrap();
        let mut forged = records(&genuine)[0].clone();
        forged.sequence = (1 << 48) - 1;
        pair.give_server(&forged.bytes());
        pair.give_server(&genuine);
        assert_eq!(pair.server_received, [b"genuine".to_vec()]);
    }
}

#[test]
fn d03_records_of_future_epochs_change_nothing() {
    let mut pair = Pair::established(&World::new());
    pair.client_sends(b"genuine");
    let genuine = pair.to_server.pop_front().unwrap();
    let mut forged = records(&genuine)[0].clone();
    for epoch in 2..=u16::MAX {
        forged.epoch = epoch;
        pair.give_server(&forged.bytes());
    }
    assert_eq!(pair.endpoint.drops().count(DropReason::Epoch), 65_534);
    pair.give_server(&genuine);
    assert_eq!(pair.server_received, [b"genuine".to_vec()]);
}

#[test]
fn d06_plaintext_alerts_are_nobodys_word_once_keys_are_installed() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    for alert in [[2, 40], [1, 0], [2, 0], [2, 10]] {
        let forged = Raw::new(ALERT, 0, 99, &alert).bytes();
        pair.give_server(&forged);
        pair.give_client(&forged);
    }
    assert_eq!(pair.endpoint.drops().count(DropReason::AlertUnprotected), 4);
    assert_eq!(pair.client.drops().count(DropReason::AlertUnprotected), 4);
    pair.assert_alive();
}

#[test]
fn d08_garbage_before_valid_records_does_not_hide_them() {
    let mut pair = Pair::established(&World::new());
    pair.client_sends(b"after garbage");
    let genuine = pair.to_server.pop_front().unwrap();
    for garbage in [
        Raw::new(99, 0, 0, b"unknown type"),
        Raw::new(APPLICATION_DATA, 1, 77, b"too short"),
        Raw::new(APPLICATION_DATA, 1, 78, &[0; 100]),
        Raw::new(HANDSHAKE, 0, 0, &[1, 2, 3]),
        Raw::new(CHANGE_CIPHER_SPEC, 0, 0, &[2]),
        Raw { version: 0x0303, ..Raw::new(APPLICATION_DATA, 1, 79, &[0; 100]) },
    ] {
        pair.server_received.clear();
        pair.client_sends(b"after garbage");
        let genuine = pair.to_server.pop_front().unwrap();
        pair.give_server(&[garbage.bytes(), genuine].concat());
        assert_eq!(pair.server_received, [b"after garbage".to_vec()], "{garbage:?}");
    }
    pair.give_server(&genuine);
    assert_eq!(pair.server_received.len(), 2);
}

#[test]
fn d84_valid_data_beside_a_malformed_handshake_record_is_not_lost() {
    let mut pair = Pair::established(&World::new());
    pair.client_sends(b"data");
    let genuine = pair.to_server.pop_front().unwrap();
    let malformed = Raw::new(HANDSHAKE, 0, 3, &[11, 0, 0, 9, 0, 0, 0, 0, 5, 0, 0, 9]).bytes();
    pair.give_server(&[malformed.clone(), genuine, malformed].concat());
    assert_eq!(pair.server_received, [b"data".to_vec()]);
}

#[test]
fn d09_a_hundred_thousand_forged_records_are_answered_with_silence() {
    let world = World::new();
    let mut pair = ccm8(&world);
    let forged = Raw::new(APPLICATION_DATA, 1, 1_000, &[7; 40]).bytes();
    for _ in 0..100_000 {
        pair.give_server(&forged);
    }
    assert!(pair.to_client.is_empty());
    assert_eq!(pair.endpoint.drops().count(DropReason::BadRecord), 100_000);
    pair.assert_alive();
}

#[test]
fn d10_at_the_limit_of_forgeries_the_session_ends_in_silence() {
    let mut pair = ccm8(&World::new());
    let forged = Raw::new(APPLICATION_DATA, 1, 1_000, &[7; 17]).bytes();
    let mut datagram = forged.clone();
    let now = pair.clock.now();
    for _ in 0..(1 << 20) - 1 {
        datagram.copy_from_slice(&forged);
        pair.endpoint.handle_datagram(now, pair.path, &mut datagram);
    }
    assert_eq!(pair.endpoint.counts().established, 1);
    pair.give_server(&forged);
    assert!(matches!(pair.server_events.last(), Some(Event::Closed { why: Closed::Forgeries, .. })));
    assert!(pair.to_client.is_empty(), "no alert that a forger could provoke");
    assert_eq!(pair.endpoint.counts().established, 0);
}

#[test]
fn d14_empty_and_oversize_records_are_dropped() {
    let mut pair = Pair::established(&World::new());
    for content_type in [CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE] {
        for epoch in [0, 1] {
            pair.give_server(&Raw::new(content_type, epoch, 500, &[]).bytes());
        }
    }
    assert_eq!(pair.endpoint.drops().count(DropReason::RecordEmpty), 6);
    pair.give_server(&Raw::new(APPLICATION_DATA, 1, 500, &vec![0; (1 << 14) + 2_049]).bytes());
    pair.give_server(&Raw::new(HANDSHAKE, 0, 500, &vec![0; (1 << 14) + 1]).bytes());
    assert_eq!(pair.endpoint.drops().count(DropReason::RecordOversize), 2);
    pair.assert_alive();
}

#[test]
fn d15_every_cut_of_a_datagram_is_dropped() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    pair.client_sends(b"cut");
    let genuine = pair.to_server.pop_front().unwrap();
    for end in 0..genuine.len() {
        pair.give_server(&genuine[..end]);
        pair.give_client(&genuine[..end]);
    }
    let mut longer = genuine.clone();
    longer[11] = 0xFF;
    pair.give_server(&longer);
    assert_eq!(pair.endpoint.drops().count(DropReason::RecordTruncated), u64::try_from(genuine.len()).unwrap());
    assert!(pair.server_received.is_empty());
    pair.give_server(&genuine);
    assert_eq!(pair.server_received, [b"cut".to_vec()]);
}

#[test]
fn d16_records_of_other_versions_are_dropped() {
    let mut pair = Pair::established(&World::new());
    pair.client_sends(b"versioned");
    let genuine = pair.to_server.pop_front().unwrap();
    for version in [0xFEFE, 0x0303, 0xFEFF, 0xFEFC, 0x0000, 0xFFFF] {
        let mut other = records(&genuine)[0].clone();
        other.version = version;
        pair.give_server(&other.bytes());
    }
    assert_eq!(pair.endpoint.drops().count(DropReason::RecordVersion), 6);
    pair.give_server(&genuine);
    assert_eq!(pair.server_received, [b"versioned".to_vec()]);
}

#[test]
fn d17_protected_records_shorter_than_nonce_and_tag_are_dropped() {
    let world = World::new();
    for (mut pair, least) in [(Pair::established(&world), 24), (ccm8(&world), 16)] {
        for length in 1..least {
            pair.give_server(&Raw::new(APPLICATION_DATA, 1, 100, &vec![0; length]).bytes());
        }
        assert_eq!(pair.endpoint.drops().count(DropReason::RecordUndersize), u64::try_from(least - 1).unwrap());
        pair.assert_alive();
    }
}

#[test]
fn d71_records_from_another_address_are_never_accepted() {
    let mut pair = Pair::established(&World::new());
    pair.client_sends(b"elsewhere");
    let genuine = pair.to_server.pop_front().unwrap();
    pair.give_server_from(support::path(40_001), &genuine);
    assert!(pair.server_received.is_empty());
    assert_eq!(pair.endpoint.drops().count(DropReason::NoAssociation), 1);
}

#[test]
fn d66_an_alert_from_another_address_does_not_abort_a_handshake() {
    let world = World::new();
    let mut pair = Pair::new(&world);
    pair.step();
    pair.step();
    pair.step();
    assert_eq!(pair.endpoint.counts().half_open, 1);
    pair.give_server_from(support::path(40_001), &Raw::new(ALERT, 0, 0, &[2, 40]).bytes());
    pair.run();
    assert!(pair.is_established());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is lost and repeated, no nonce is used twice under a key: across handshake, data, alerts and both
    /// directions.
    #[test]
    fn d12_no_nonce_comes_twice(seed in prop::collection::vec(any::<u8>(), 60)) {
        let mut pair = Pair::new(&World::new());
        let mut script = seed.into_iter().cycle();
        for _ in 0..200 {
            let choice = script.next().unwrap();
            let next = if choice & 1 == 0 { pair.to_server.pop_front() } else { None };
            if let Some(datagram) = next {
                if choice & 6 != 0 { pair.give_server(&datagram); }
                if choice & 24 == 24 { pair.give_server(&datagram); }
            } else if let Some(datagram) = pair.to_client.pop_front() {
                if choice & 6 != 0 { pair.give_client(&datagram); }
                if choice & 24 == 24 { pair.give_client(&datagram); }
            } else if pair.is_established() && choice & 32 != 0 {
                pair.client_sends(b"up");
                pair.server_sends(b"down");
            } else {
                pair.tick();
            }
        }
        for way in [Way::ToServer, Way::ToClient] {
            let mut seen = std::collections::HashSet::new();
            for record in pair.sent.iter().filter(|(one, _)| *one == way).flat_map(|(_, datagram)| records(datagram)) {
                if record.epoch == 1 {
                    prop_assert!(seen.insert(record.payload[..8].to_vec()), "nonce twice");
                }
            }
        }
    }

    /// No datagram makes either side panic or end a session.
    #[test]
    fn any_bytes_are_survived(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut pair = Pair::established(&World::new());
        for datagram in &noise {
            pair.give_server(datagram);
            pair.give_client(datagram);
        }
        pair.assert_alive();
    }

    /// Genuine handshake datagrams with changed bytes do not either; and afterwards an honest handshake still
    /// works.
    #[test]
    fn changed_handshakes_are_survived(at in 0_usize..1_000, value in any::<u8>(), which in 0_usize..6) {
        let world = World::new();
        let mut pair = Pair::new(&world);
        for step in 0..40 {
            let target = if step == which { Some(value) } else { None };
            if let Some(mut datagram) = pair.to_server.pop_front() {
                if let Some(value) = target { let at = at % datagram.len(); datagram[at] = value; }
                pair.give_server(&datagram);
            } else if let Some(mut datagram) = pair.to_client.pop_front() {
                if let Some(value) = target { let at = at % datagram.len(); datagram[at] = value; }
                pair.give_client(&datagram);
            } else if !pair.tick() {
                break;
            }
        }
        pair.client = world.client(&pair.clock);
        pair.to_server.clear();
        pair.to_client.clear();
        pair.collect();
        for _ in 0..60 {
            if !pair.step() && (pair.client.facts().is_some() || !pair.tick()) { break; }
        }
        pair.assert_alive();
    }
}
