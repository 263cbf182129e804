//! Devices with small buffers: records, datagrams and handshake messages within their limits; and groups other than secp256r1.

use std::sync::Arc;

use dtls::{
    ClientEvent, DropReason, EcdsaSigningKey, Event, FragmentLength, Group, HANDSHAKE_MESSAGE_BYTES_MAX,
    HandshakeRefusal, Identity, NamedCurve, RecordLimit, Suite,
};

use crate::support::forge::records;
use crate::support::{Clock, Pair, SystemRandom, Way, World, identity, identity_and_key};

/// A server with a certificate and one above it: a chain of about 800 bytes.
fn with_two_certificates() -> World {
    let (leaf, key) = identity_and_key(NamedCurve::P256);
    let above = identity(NamedCurve::P256);
    let key = EcdsaSigningKey::from_pkcs8(&key, SystemRandom::shared().as_ref()).unwrap();
    let chain = vec![leaf.chain()[0].clone(), above.chain()[0].clone()];
    World { server: Arc::new(Identity::new(chain, key)), ..World::new() }
}

fn limited(world: &World, limit: Option<RecordLimit>, suite: Suite) -> Pair {
    let clock = Clock::new();
    let client = world.client_with(&clock, |config| {
        config.record_limit = limit;
        config.suites = vec![suite];
    });
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.run();
    pair
}

#[test]
fn no_record_and_no_datagram_of_a_handshake_exceeds_what_the_client_asked_for() {
    let world = with_two_certificates();
    let limits = [
        (RecordLimit::MaxFragmentLength(FragmentLength::Bytes512), 512),
        (RecordLimit::MaxFragmentLength(FragmentLength::Bytes1024), 1_024),
        (RecordLimit::RecordSizeLimit(64), 64),
        (RecordLimit::RecordSizeLimit(300), 300),
    ];
    for suite in [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128GcmSha256] {
        for (limit, bytes) in limits {
            let mut pair = limited(&world, Some(limit), suite);
            assert!(pair.is_established(), "{limit:?} {:?} {:?}", pair.server_events, pair.client_events);
            // Our own records of a handshake follow the limit that the server granted; with record_size_limit nothing
            // else is needed.
            for (way, datagram) in &pair.sent {
                for record in records(datagram).iter().filter(|record| record.epoch == 0) {
                    let length = record.payload.len();
                    assert!(*way == Way::ToServer || length <= bytes, "{limit:?}: {length} bytes");
                }
                assert!(
                    *way == Way::ToServer || datagram.len() <= bytes + 13 + 8 + 16,
                    "{limit:?}: {}",
                    datagram.len()
                );
            }
            let session = pair.session();
            assert!(pair.endpoint.plaintext_max(session) <= bytes);
            pair.assert_alive();
            let most = pair.endpoint.plaintext_max(session);
            assert!(pair.endpoint.send(pair.clock.now(), session, &vec![7; most]).is_ok());
            assert!(pair.endpoint.send(pair.clock.now(), session, &vec![7; most + 1]).is_err());
        }
    }
}

#[test]
fn a_record_limit_holds_for_what_our_client_sends_too() {
    let limit = RecordLimit::MaxFragmentLength(FragmentLength::Bytes512);
    let pair = limited(&World::new(), Some(limit), Suite::EcdheEcdsaAes128Ccm8);
    assert!(pair.is_established());
    assert_eq!(pair.client.plaintext_max(), 512);
    let longest = pair.sent.iter().filter(|(way, _)| *way == Way::ToServer).map(|(_, datagram)| datagram.len()).max();
    assert!(longest <= Some(512 + 13));
    // Our server sets no limit for the client by record_size_limit.
    let pair = limited(&World::new(), Some(RecordLimit::RecordSizeLimit(256)), Suite::EcdheEcdsaAes128Ccm8);
    assert!(pair.client.plaintext_max() > 512);
}

#[test]
fn a_device_that_takes_no_message_above_768_or_900_bytes_is_served_by_a_small_certificate_only() {
    for buffer in [768, 900] {
        let clock = Clock::new();
        // The header of 12 bytes is in the buffer too.
        let small = |world: &World| world.client_with(&clock, |config| config.message_bytes_max = buffer - 12);
        let world = World::new();
        let mut pair = Pair::of(world.endpoint(), small(&world), clock);
        pair.run();
        assert!(pair.is_established(), "{:?}", pair.client_events);

        let mut world = with_two_certificates();
        let length: usize = world.server.chain().iter().map(Vec::len).sum();
        if length + 3 + 6 + 12 <= buffer {
            let mut chain = world.server.chain().to_vec();
            chain.push(identity(NamedCurve::P384).chain()[0].clone());
            let (leaf, key) = identity_and_key(NamedCurve::P256);
            chain[0].clone_from(&leaf.chain()[0]);
            let key = EcdsaSigningKey::from_pkcs8(&key, SystemRandom::shared().as_ref()).unwrap();
            world.server = Arc::new(Identity::new(chain, key));
        }
        let mut pair = Pair::of(world.endpoint(), small(&world), clock);
        for _ in 0..100 {
            pair.run();
            if !pair.tick() {
                break;
            }
        }
        assert!(pair.client.drops().count(DropReason::MessageOversize) > 0);
        assert!(matches!(
            pair.client_events.last(),
            Some(ClientEvent::Failed { refusal: HandshakeRefusal::TimedOut { .. }, .. })
        ));
        assert!(pair.server_events.iter().all(|event| !matches!(event, Event::Established { .. })));
    }
    const { assert!(HANDSHAKE_MESSAGE_BYTES_MAX > 900) };
}

fn with_groups(world: &World, groups: &[Group]) -> Pair {
    let clock = Clock::new();
    let client = world.client_with(&clock, |config| config.groups = groups.to_vec());
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.run();
    pair
}

/// The named curve of the ServerKeyExchange.
fn group_of(pair: &Pair) -> u16 {
    let all = pair.sent.iter().filter(|(way, _)| *way == Way::ToClient).flat_map(|(_, datagram)| records(datagram));
    let exchange = all.into_iter().find(|record| record.epoch == 0 && record.handshake_type() == Some(12)).unwrap();
    u16::from_be_bytes([exchange.payload[13], exchange.payload[14]])
}

#[test]
fn of_secp256r1_and_x25519_the_client_chooses_the_one_that_it_names_first() {
    let world = World::new();
    for (groups, chosen) in [
        (&[Group::Secp256r1, Group::X25519][..], 23),
        (&[Group::X25519, Group::Secp256r1], 29),
        (&[Group::Secp384r1, Group::X25519, Group::Secp256r1], 29),
        (&[Group::Secp384r1, Group::Secp256r1], 23),
    ] {
        let mut pair = with_groups(&world, groups);
        assert!(pair.is_established(), "{groups:?} {:?}", pair.server_events);
        assert_eq!(group_of(&pair), chosen, "{groups:?}");
        pair.assert_alive();
    }
}

#[test]
fn the_curve_of_the_certificate_has_to_be_offered_whatever_the_key_agreement_uses() {
    let refusal = |pair: &Pair| {
        pair.server_events.iter().find_map(|event| match event {
            Event::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        })
    };
    let pair = with_groups(&World::new(), &[Group::X25519]);
    assert_eq!(refusal(&pair), Some(HandshakeRefusal::NoCommonGroup));
    let world = World { server: identity(NamedCurve::P384), ..World::new() };
    let mut pair = with_groups(&world, &[Group::X25519, Group::Secp384r1]);
    assert!(pair.is_established(), "{:?}", pair.server_events);
    assert_eq!(group_of(&pair), 29);
    pair.assert_alive();
    // secp384r1 alone is a curve for certificates, not for our key agreement.
    let pair = with_groups(&world, &[Group::Secp384r1]);
    assert_eq!(refusal(&pair), Some(HandshakeRefusal::NoCommonGroup));
}
