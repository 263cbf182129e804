//! Messages out of order: mere reordering completes, anything else never does.

use dtls::{DropReason, HandshakeRefusal, HandshakeType};

use crate::support;
use crate::support::forge::{ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, Piece, Raw, datagram};
use crate::support::script::{Hello, Script};
use crate::support::{Pair, World};

#[test]
fn d53_change_cipher_spec_before_the_hello_is_nothing() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    script.give(&Raw::new(CHANGE_CIPHER_SPEC, 0, 0, &[1]).bytes());
    assert_eq!(script.endpoint.drops().count(DropReason::NoAssociation), 1);
    script.fetch_cookie();
    script.send_hello();
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
}

#[test]
fn d53_change_cipher_spec_before_the_key_exchange_installs_no_keys() {
    // CVE-2014-0224: a Finished under keys of an empty secret must lead nowhere.
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut bytes = script.change_cipher_spec().bytes();
    script.master_secret = [0; 48];
    bytes.extend(script.finished());
    script.give(&bytes);
    assert!(!script.is_established());
    // The honest client continues.
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{:?}", script.events);
}

#[test]
fn d53_change_cipher_spec_twice_changes_once() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut bytes = datagram(&[script.change_cipher_spec(), script.change_cipher_spec()]);
    bytes.extend(script.honest_flight());
    script.give(&bytes);
    assert!(script.is_established());
    assert_eq!(script.endpoint.drops().count(DropReason::ChangeCipherSpec), 2);
}

#[test]
fn d54_finished_without_change_cipher_spec_never_completes() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut bytes = datagram(&[script.certificate(), script.key_exchange(), script.certificate_verify()]);
    bytes.extend(script.finished());
    script.give(&bytes);
    assert!(!script.is_established());
    script.wait_out();
    assert_eq!(script.refusal(), Some(HandshakeRefusal::TimedOut { expected: HandshakeType::FINISHED }));
}

#[test]
fn d54_finished_in_the_clear_never_completes() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut bytes = datagram(&[script.certificate(), script.key_exchange(), script.certificate_verify()]);
    bytes.extend(script.change_cipher_spec().bytes());
    let finished = script.finished_piece().bytes();
    bytes.extend(script.plain(HANDSHAKE, &finished).bytes());
    script.give(&bytes);
    assert!(!script.is_established());
    assert_eq!(script.endpoint.drops().count(DropReason::MessageEpoch), 1);
}

#[test]
fn d55_every_order_of_the_clients_flight_completes() {
    let world = World::new();
    let orders: Vec<Vec<usize>> = (0..120).map(permutation).collect();
    for order in orders {
        let mut script = Script::begin(&world, Hello::default());
        let mut parts: Vec<Vec<u8>> = vec![
            script.certificate().bytes(),
            script.key_exchange().bytes(),
            script.certificate_verify().bytes(),
            script.change_cipher_spec().bytes(),
        ];
        parts.push(script.finished());
        for at in &order {
            script.give(&parts[*at]);
        }
        assert!(script.is_established(), "{order:?} {:?}", script.events);
    }
}

/// The n-th order of five.
fn permutation(mut n: usize) -> Vec<usize> {
    let mut rest: Vec<usize> = (0..5).collect();
    (1..=5)
        .rev()
        .map(|left| {
            let at = n % left;
            n /= left;
            rest.remove(at)
        })
        .collect()
}

#[test]
fn d07_messages_in_the_wrong_epoch_do_not_count() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let certificate = script.certificate();
    let key_exchange = script.key_exchange();
    let verify = script.certificate_verify();
    let change = script.change_cipher_spec();
    let finished = script.finished();
    // ClientKeyExchange as if it were of epoch 1: in plaintext, and under the keys.
    let mut clear = key_exchange.clone();
    clear.epoch = 1;
    let sealed = script.forger().seal(HANDSHAKE, 5, &key_exchange.payload);
    let mut bytes = datagram(&[certificate, clear, verify, change]);
    bytes.extend(sealed);
    bytes.extend(&finished);
    script.give(&bytes);
    assert!(!script.is_established());
    // A ClientHello of epoch 1 from an unknown address begins nothing.
    let mut hello = Raw::new(HANDSHAKE, 1, 0, &Piece::whole(1, 0, &script.hello.body()).bytes());
    hello.sequence = 9;
    script.path = support::path(50_001);
    assert!(script.give(&hello.bytes()).is_empty());
}

#[test]
fn d05_application_data_of_epoch_0_never_arrives() {
    let world = World::new();
    let mut pair = Pair::new(&world);
    let data = Raw::new(APPLICATION_DATA, 0, 7, b"GET /crts").bytes();
    pair.give_server(&data);
    while let Some(datagram) = pair.to_server.pop_front() {
        pair.give_server(&data);
        pair.give_server(&datagram);
        while let Some(answer) = pair.to_client.pop_front() {
            pair.give_client(&data);
            pair.give_client(&answer);
        }
    }
    assert!(pair.is_established());
    pair.give_server(&data);
    pair.give_client(&data);
    assert!(pair.server_received.is_empty() && pair.client_received.is_empty());
    pair.assert_alive();
}

#[test]
fn d56_application_data_between_change_cipher_spec_and_finished_is_not_delivered() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut bytes = datagram(&[script.certificate(), script.key_exchange(), script.certificate_verify()]);
    bytes.extend(script.change_cipher_spec().bytes());
    bytes.extend(script.forger().seal(APPLICATION_DATA, 1, b"early"));
    let finished = script.finished();
    script.give(&bytes);
    script.give(&finished);
    assert!(script.is_established());
    assert!(!script.events.iter().any(|event| matches!(event, dtls::Event::Data { .. })));
    assert_eq!(script.endpoint.drops().count(DropReason::ApplicationDataEarly), 1);
}

#[test]
fn d06_a_plaintext_alert_between_change_cipher_spec_and_finished_is_nobodys_word() {
    let world = World::new();
    for alert in [[2, 40], [1, 0]] {
        let mut script = Script::begin(&world, Hello::default());
        let bytes = datagram(&[
            script.certificate(),
            script.key_exchange(),
            script.certificate_verify(),
            script.change_cipher_spec(),
        ]);
        script.give(&bytes);
        script.give(&Raw::new(ALERT, 0, 99, &alert).bytes());
        assert_eq!(script.endpoint.drops().count(DropReason::AlertUnprotected), 1);
        let finished = script.finished();
        script.give(&finished);
        assert!(script.is_established(), "{:?}", script.events);
    }
}

#[test]
fn d57_every_message_at_every_wrong_place_ends_in_one_alert_at_most() {
    let world = World::new();
    for taken in 0..4 {
        for kind in (0..=24).chain([67, 254, 255]) {
            let mut script = Script::begin(&world, Hello::default());
            let honest = [script.certificate(), script.key_exchange(), script.certificate_verify()];
            for record in &honest[..taken] {
                script.give(&record.bytes());
            }
            let seq = 2 + u16::try_from(taken).unwrap();
            let before = script.answers.len();
            script.give(&Raw::new(HANDSHAKE, 0, 50, &Piece::whole(kind, seq, &[0; 4]).bytes()).bytes());
            assert!(!script.is_established());
            assert!(script.alerts().len() <= 1);
            assert!(script.answers.len() - before <= 1, "kind {kind} after {taken}");
            // The next honest handshake from the same address works.
            let endpoint = std::mem::replace(&mut script.endpoint, world.endpoint());
            let mut again = Script::unbegun(&world, endpoint, Hello { random: [3; 32], ..Hello::default() });
            again.clock.elapsed = std::time::Duration::from_millis(500);
            again.fetch_cookie();
            again.send_hello();
            let flight = again.honest_flight();
            again.give(&flight);
            assert!(again.is_established(), "kind {kind} after {taken}: {:?}", again.events);
        }
    }
}

#[test]
fn d18_two_finished_before_the_keys_are_queued_and_processed_once() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let certificate = script.certificate();
    let key_exchange = script.key_exchange();
    let verify = script.certificate_verify();
    let change = script.change_cipher_spec();
    let again = script.forger().seal(HANDSHAKE, 1, &script.finished_piece().bytes());
    let finished = script.finished();
    for _ in 0..100 {
        script.give(&finished);
        script.give(&again);
    }
    assert_eq!(script.endpoint.drops().count(DropReason::EarlyRecord), 198);
    script.give(&datagram(&[certificate, key_exchange, verify, change]));
    assert!(script.is_established());
    let established = script.events.iter().filter(|event| matches!(event, dtls::Event::Established { .. })).count();
    assert_eq!(established, 1);
}
