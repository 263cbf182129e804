//! Lost, repeated and late flights; timers, deadlines and how handshakes end by them.

use std::time::Duration;

use dtls::{DropReason, HandshakeRefusal, HandshakeType};

use crate::support;
use crate::support::forge::{HANDSHAKE, Piece, datagram, records};
use crate::support::script::{Hello, Script};
use crate::support::{Clock, Pair, Way, World};

/// Runs a handshake in which the datagrams with these numbers (in order of sending, both ways) are lost.
fn with_losses(world: &World, mtu: usize, lost: &[usize]) -> Pair {
    let clock = Clock::new();
    let endpoint = world.endpoint_with(|config| config.limits.mtu = mtu);
    let mut pair = Pair::of(endpoint, world.client_with(&clock, |config| config.mtu = mtu), clock);
    let mut number = 0;
    for _ in 0..400 {
        let next = pair.to_server.pop_front().map(|bytes| (Way::ToServer, bytes));
        let next = next.or_else(|| pair.to_client.pop_front().map(|bytes| (Way::ToClient, bytes)));
        match next {
            Some((way, bytes)) => {
                if !lost.contains(&number) {
                    match way {
                        Way::ToServer => pair.give_server(&bytes),
                        Way::ToClient => pair.give_client(&bytes),
                    }
                }
                number += 1;
            }
            None if pair.is_established() => break,
            None => assert!(pair.tick()),
        }
    }
    pair
}

#[test]
fn d83_a_handshake_completes_with_any_two_datagrams_lost() {
    let world = World::new();
    for (mtu, datagrams) in [(1_232, 7), (400, 14)] {
        for first in 0..datagrams {
            for second in first..datagrams {
                let mut pair = with_losses(&world, mtu, &[first, second]);
                assert!(pair.is_established(), "mtu {mtu}, lost {first} and {second}: {:?}", pair.server_events);
                assert!(pair.clock.elapsed < Duration::from_secs(10));
                pair.assert_alive();
            }
        }
    }
}

#[test]
fn d44_a_repeated_final_flight_is_answered_within_a_budget() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    let mut answers = 0;
    for n in 1..=2_000_u64 {
        script.clock.elapsed += Duration::from_millis(50);
        let again = script.forger().seal(HANDSHAKE, n, &script.finished_piece().bytes());
        let answer = script.give(&again);
        assert!(answer.len() <= 1);
        if let Some(answer) = answer.first() {
            answers += 1;
            let all = records(answer);
            assert_eq!((all[0].content_type, all[1].content_type, all[1].epoch), (20, 22, 1));
        }
    }
    assert!((1..=16).contains(&answers), "{answers} in 100 s");
    assert!(script.is_established());
}

#[test]
fn d44_a_lost_last_flight_comes_again_when_the_client_asks() {
    let world = World::new();
    let mut pair = Pair::new(&world);
    while pair.endpoint.counts().established == 0 {
        assert!(pair.step());
    }
    pair.to_client.clear();
    pair.tick();
    pair.run();
    assert!(pair.is_established());
    pair.assert_alive();
}

#[test]
fn d45_the_server_gives_up_after_seven_retransmissions_or_its_deadline_and_frees_everything() {
    let world = World::new();
    for (deadline, expected) in [(180, 7), (1_000, 7), (10, 3)] {
        let endpoint = world.endpoint_with(|config| config.limits.handshake_deadline = Duration::from_secs(deadline));
        let mut script = Script::begin_at(&world, endpoint, Hello::default());
        let mut retransmissions = 0;
        while script.endpoint.counts().half_open > 0 {
            let at = script.endpoint.poll_timeout().unwrap();
            script.clock.advance_to(at);
            script.endpoint.handle_timeout(script.clock.now());
            script.events.extend(std::iter::from_fn(|| script.endpoint.poll_event()));
            let mut datagrams = 0;
            while script.endpoint.poll_transmit().is_some() {
                datagrams += 1;
            }
            retransmissions += usize::from(datagrams > 0);
        }
        assert_eq!(retransmissions, expected);
        assert_eq!(script.refusal(), Some(HandshakeRefusal::TimedOut { expected: HandshakeType::CERTIFICATE }));
        assert!(script.clock.elapsed <= Duration::from_secs(deadline.min(184)));
        assert!(script.endpoint.poll_timeout().is_none());
        assert_eq!(script.alerts().len(), 0, "the peer is gone");
    }
}

#[test]
fn d45_a_client_on_rfc_7925_timers_survives_three_lost_flights() {
    // 9 s, doubling: the hello goes out at 0, 9, 27 and 63 s, and the answers to the first three are lost.
    let world = World::new();
    let clock = Clock::new();
    let client = world.client_with(&clock, |config| config.retransmission_initial = Duration::from_secs(9));
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.step();
    pair.step();
    assert_eq!(records(&pair.to_server[0])[0].handshake_type(), Some(1));
    while pair.clock.elapsed < Duration::from_secs(63) {
        while let Some(datagram) = pair.to_server.pop_front() {
            pair.give_server(&datagram);
        }
        pair.to_client.clear();
        pair.tick();
    }
    pair.run();
    assert!(pair.is_established(), "{:?} {:?}", pair.server_events, pair.client_events);
}

#[test]
fn d45_a_hello_whose_cookie_has_run_out_is_answered_as_long_as_its_handshake_lives() {
    // The same timers. The cookie is from the last second of its period: 63 s later it has expired.
    let world = World::new();
    let mut clock = Clock::new();
    clock.elapsed = Duration::from_secs(59);
    let client = world.client_with(&clock, |config| config.retransmission_initial = Duration::from_secs(9));
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.step();
    pair.step();
    while pair.clock.elapsed < Duration::from_secs(59 + 63) {
        while let Some(datagram) = pair.to_server.pop_front() {
            pair.give_server(&datagram);
        }
        pair.to_client.clear();
        pair.tick();
    }
    // The server's own repetition is lost too; the client's hello arrives a second later.
    pair.to_client.clear();
    pair.clock.elapsed += Duration::from_secs(1);
    pair.run();
    assert!(pair.is_established(), "{:?} {:?}", pair.server_events, pair.client.drops());
    pair.assert_alive();
}

#[test]
fn the_client_gives_up_too() {
    let world = World::new();
    let mut pair = Pair::new(&world);
    pair.to_server.clear();
    let mut sent = 0;
    while pair.client.poll_timeout().is_some() {
        pair.tick();
        sent += pair.to_server.drain(..).count();
    }
    assert_eq!(sent, 7);
    assert_eq!(pair.client_refusal(), HandshakeRefusal::TimedOut { expected: HandshakeType::SERVER_HELLO });
}

#[test]
fn the_timer_doubles_from_one_second() {
    let world = World::new();
    let mut pair = Pair::new(&world);
    let mut times = Vec::new();
    while pair.client.poll_timeout().is_some() {
        pair.tick();
        times.push(pair.clock.elapsed.as_secs());
    }
    assert_eq!(times, [1, 3, 7, 15, 31, 63, 123, 180]);
}

#[test]
fn d47_one_fragment_per_timer_does_not_stretch_the_deadline() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let certificate = Piece::parse(&script.certificate().payload);
    for piece in certificate.fragments(1) {
        if script.endpoint.counts().half_open == 0 {
            break;
        }
        script.clock.elapsed += Duration::from_millis(900);
        script.endpoint.handle_timeout(script.clock.now());
        script.events.extend(std::iter::from_fn(|| script.endpoint.poll_event()));
        let record = script.plain(HANDSHAKE, &piece.bytes());
        script.give(&record.bytes());
    }
    assert_eq!(script.endpoint.counts().half_open, 0);
    assert!(script.clock.elapsed <= Duration::from_secs(182));
    assert!(matches!(script.refusal(), Some(HandshakeRefusal::TimedOut { .. })));
}

#[test]
fn d67_with_a_small_mtu_the_handshake_completes_and_after_lost_flights_it_shrinks() {
    let world = World::new();
    let pair = with_losses(&world, 228, &[]);
    assert!(pair.is_established());
    assert!(pair.sent.iter().all(|(_, datagram)| datagram.len() <= 228));

    // A path that silently drops datagrams longer than 256 bytes.
    let mut pair = Pair::new(&world);
    for _ in 0..200 {
        if let Some(datagram) = pair.to_server.pop_front() {
            if datagram.len() <= 256 {
                pair.give_server(&datagram);
            }
        } else if let Some(datagram) = pair.to_client.pop_front() {
            if datagram.len() <= 256 {
                pair.give_client(&datagram);
            }
        } else if pair.is_established() {
            break;
        } else {
            pair.tick();
        }
    }
    assert!(pair.is_established());
    // Each side finds out for its own flight, in 31 s if it hears the other one, in 63 s by its own timer alone.
    assert!(pair.clock.elapsed < Duration::from_secs(130), "{:?}", pair.clock.elapsed);
    let longest = |from: usize| pair.sent[from..].iter().map(|(_, datagram)| datagram.len()).max().unwrap();
    assert!(longest(0) > 548 && longest(pair.sent.len() - 4) <= 256);
}

/// Where one datagram in four is lost, hellos that need no smaller datagrams are also lost several times in a
/// row.
#[test]
fn lost_hellos_do_not_make_the_path_narrow() {
    let world = World::new();
    let pair = with_losses(&world, dtls::MTU_DEFAULT, &[0, 1, 2, 3, 4]);
    assert!(pair.is_established());
    assert!(pair.clock.elapsed >= Duration::from_secs(31), "{:?}", pair.clock.elapsed);
    let cut = |datagram: &[u8]| (200..=548).contains(&datagram.len());
    assert!(!pair.sent.iter().any(|(_, datagram)| cut(datagram)), "flights are whole");
}

/// A peer that sends the next flight has received all of ours: the loss of the rest of its flight says nothing about the
/// path's width.
#[test]
fn d67_a_flight_that_is_being_answered_does_not_make_the_path_narrow() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let flight_bytes: usize = script.answers[1..].iter().map(Vec::len).sum();
    assert!(flight_bytes > 548, "it would be cut");
    let certificate = script.certificate().bytes();
    script.give(&certificate);
    for _ in 0..6 {
        let at = script.endpoint.poll_timeout().unwrap();
        script.clock.advance_to(at);
        script.endpoint.handle_timeout(script.clock.now());
        let again: Vec<_> = std::iter::from_fn(|| script.endpoint.poll_transmit().map(|one| one.bytes.len())).collect();
        assert_eq!(again.iter().sum::<usize>(), flight_bytes, "whole, as it was: {again:?}");
    }
    let mut rest = datagram(&[script.key_exchange(), script.certificate_verify(), script.change_cipher_spec()]);
    rest.extend(script.finished());
    script.give(&rest);
    let session = script.endpoint.sessions().next().unwrap();
    assert_eq!(script.endpoint.plaintext_max(session), 1_232 - 13 - 8 - 16);
}

#[test]
fn d28_several_messages_in_one_record_and_parts_mixed_with_wholes() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let certificate = Piece::parse(&script.certificate().payload);
    let exchange = Piece::parse(&script.key_exchange().payload);
    let verify = Piece::parse(&script.certificate_verify().payload);
    let halves = certificate.fragments(certificate.body.len() / 2 + 1);
    // The tail of one message and a whole one, in one record; then the rest, in another.
    let first = script.plain(HANDSHAKE, &[halves[1].bytes(), exchange.bytes()].concat());
    let second = script.plain(HANDSHAKE, &[halves[0].bytes(), verify.bytes()].concat());
    script.give(&first.bytes());
    script.give(&second.bytes());
    let change = script.change_cipher_spec().bytes();
    let finished = script.finished();
    script.give(&[change, finished].concat());
    assert!(script.is_established(), "{:?}", script.events);
}

#[test]
fn d30_a_million_messages_do_not_grow_the_stack() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    // A thousand empty messages a record, a thousand records: each is handled in a loop, none by recursion.
    let record = Piece::whole(0, 1, &[]).bytes().repeat(1_000);
    for n in 0..1_000 {
        let raw = support::forge::Raw::new(HANDSHAKE, 0, 100 + n, &record);
        script.give(&raw.bytes());
    }
    assert_eq!(script.endpoint.drops().count(DropReason::MessageStale), 1_000_000);
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
}
