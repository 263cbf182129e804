//! The plain handshake, in all its combinations.

use std::sync::{Arc, Mutex};

use dtls::{EcdsaSigningKey, ExtendedMasterSecret, HandshakeRefusal, Identity, NamedCurve, PublicKeySteps, Suite};

use crate::support::forge::{Piece, records};
use crate::support::{Clock, Known, Pair, SystemRandom, World, identity, identity_and_key};

#[test]
fn both_ends_agree() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let server = pair.endpoint.facts(pair.session()).unwrap();
    assert_eq!(Some(server), pair.client.facts());
    assert_eq!(server.suite, Suite::EcdheEcdsaAes128GcmSha256);
    assert!(server.extended_master_secret);
    assert_eq!(pair.endpoint.peer(pair.session()).unwrap().as_slice(), world.client.chain()[0]);
    pair.assert_alive();
    assert_eq!(pair.sent.iter().filter(|(_, datagram)| datagram.len() > 1_232).count(), 0);
}

#[test]
fn every_suite_curve_and_place_of_the_public_key_steps() {
    for suite in [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128GcmSha256] {
        for (server, client) in [(NamedCurve::P256, NamedCurve::P384), (NamedCurve::P384, NamedCurve::P256)] {
            for steps in [PublicKeySteps::Inline, PublicKeySteps::Suspended] {
                let mut world = World::new();
                world.server = identity(server);
                world.client = identity(client);
                let clock = Clock::new();
                let endpoint = world.endpoint_with(|config| {
                    config.suites = vec![suite];
                    config.public_key_steps = steps;
                });
                let client = world.client_with(&clock, |config| {
                    config.suites = vec![suite];
                    config.extended_master_secret = ExtendedMasterSecret::Require;
                });
                let mut pair = Pair::of(endpoint, client, clock);
                let mut jobs = 0;
                for _ in 0..10 {
                    pair.run();
                    while let Some(job) = pair.endpoint.poll_public_key_job() {
                        jobs += 1;
                        let done = std::thread::scope(|scope| scope.spawn(|| job.run()).join().unwrap());
                        pair.endpoint.complete_public_key_job(pair.clock.now(), done);
                    }
                    pair.drain_events();
                    pair.collect();
                }
                assert_eq!(jobs, if steps == PublicKeySteps::Inline { 0 } else { 2 });
                pair.assert_alive();
                assert_eq!(pair.client.facts().unwrap().suite, suite);
            }
        }
    }
}

#[test]
fn whole_chains_are_sent_both_ways_and_authorities_where_the_verifier_names_them() {
    let mut world = World::new();
    let chain_of = |leaf: &Identity, pkcs8: &[u8]| {
        let chain = vec![leaf.chain()[0].clone(), vec![0x30; 700], vec![0x31; 900]];
        let key = EcdsaSigningKey::from_pkcs8(pkcs8, SystemRandom::shared().as_ref()).unwrap();
        Arc::new(Identity::new(chain, key))
    };
    let (server, server_key) = identity_and_key(NamedCurve::P256);
    world.server = chain_of(&server, &server_key);
    world.client = chain_of(&world.client, &world.client_key);
    let mut of_server = Known::of(&[&world.client]);
    of_server.authorities = vec![vec![0x30; 300]; 3];
    let mut of_client = Known::of(&[&world.server]);
    (of_server.shown, of_client.shown) = (Some(Mutex::default()), Some(Mutex::default()));
    let (of_server, of_client) = (Arc::new(of_server), Arc::new(of_client));
    let clock = Clock::new();
    let endpoint = world.endpoint_with(|config| config.verifier = of_server.clone());
    let client = world.client_with(&clock, |config| config.verifier = of_client.clone());
    let mut pair = Pair::of(endpoint, client, clock);
    pair.run();
    assert!(pair.is_established());
    let shown = |known: &Known| known.shown.as_ref().unwrap().lock().unwrap().clone();
    assert_eq!(shown(&of_server), [world.client.chain().to_vec()]);
    assert_eq!(shown(&of_client), [world.server.chain().to_vec()]);
    assert!(pair.sent.iter().all(|(_, datagram)| datagram.len() <= 1_232));
}

#[test]
fn a_client_that_does_not_offer_extended_master_secret_gets_none() {
    let world = World::new();
    let clock = Clock::new();
    let plain = || world.client_with(&clock, |config| config.offers_extended_master_secret = false);
    let mut pair = Pair::of(world.endpoint(), plain(), clock);
    pair.run();
    let facts = pair.client.facts().unwrap();
    assert!(!facts.extended_master_secret);
    assert_eq!(pair.endpoint.facts(pair.session()), Some(facts));
    pair.assert_alive();
    assert_eq!(pair.sent.iter().filter(|(_, datagram)| datagram.windows(4).any(|it| it == [0, 0x17, 0, 0])).count(), 0);

    // A server that answers it nevertheless: "If a client receives an extension type in ServerHello that it did not request in the associated
    // ClientHello, it MUST abort the handshake" (RFC 5246 §7.4.1.4).
    let mut pair = Pair::of(world.endpoint(), plain(), clock);
    while pair.to_client.front().is_none_or(|datagram| records(datagram)[0].handshake_type() != Some(2)) {
        assert!(pair.step());
    }
    let mut hello = records(&pair.to_client[0]).remove(0);
    let piece = Piece::parse(&hello.payload);
    // Version, random, no session id, suite and compression come before the length of the extensions.
    let at = 2 + 32 + 1 + 2 + 1;
    let mut body = piece.body.clone();
    body.extend([0, 0x17, 0, 0]);
    let length = u16::try_from(body.len() - at - 2).unwrap();
    body[at..at + 2].copy_from_slice(&length.to_be_bytes());
    hello.payload = Piece::whole(piece.kind, piece.message_seq, &body).bytes();
    pair.give_client(&hello.bytes());
    assert_eq!(pair.client_refusal(), HandshakeRefusal::UnsupportedExtension { extension: 23 });
}

#[test]
fn close_notify_ends_both_sides() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    pair.client.close(pair.clock.now());
    pair.collect();
    pair.run();
    assert_eq!(pair.endpoint.counts().established, 0);
    assert!(matches!(pair.server_events.last(), Some(dtls::Event::Closed { why: dtls::Closed::ByPeer, .. })));
}
