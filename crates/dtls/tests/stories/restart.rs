//! A device that lost its state comes back from the same address and port (RFC 6347 §4.2.8).

use std::time::Duration;

use dtls::{Closed, DropReason, Event, HandshakeRefusal, SessionCounts};

use crate::support::forge::{APPLICATION_DATA, HANDSHAKE, Raw, records};
use crate::support::script::{Hello, Script};
use crate::support::{Clock, Pair, World};

/// Restart time of the fastest device; within half a second a path cannot buy a second flight (D85).
const REBOOT: Duration = Duration::from_millis(500);

#[test]
fn d41_a_restarted_client_replaces_its_session_once_it_is_authenticated() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let old = pair.session();
    pair.clock.elapsed += REBOOT;
    // The device reboots: its new client knows nothing of the session.
    pair.client = world.client(&pair.clock);
    pair.collect();
    while pair.client.facts().is_none() {
        assert!(pair.endpoint.facts(old).is_some() || pair.endpoint.counts().established == 1);
        assert!(pair.step());
    }
    assert!(
        pair.server_events
            .iter()
            .any(|event| matches!(event, Event::Closed { session, why: Closed::Replaced, .. } if *session == old))
    );
    assert!(pair.endpoint.facts(old).is_none());
    assert_eq!(pair.endpoint.counts().established, 1);
    assert_ne!(pair.session(), old);
    pair.assert_alive();
}

#[test]
fn d41_an_injected_hello_harms_no_session() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    // Without a cookie, and with a guessed one.
    pair.give_server(&Hello::default().datagram(0, 0));
    pair.give_server(&Hello { cookie: vec![1; 17], ..Hello::default() }.datagram(1, 1));
    pair.to_client.clear();
    assert_eq!(pair.endpoint.counts().half_open, 0);
    pair.assert_alive();
}

#[test]
fn d41_the_old_session_lives_until_the_new_finished_is_verified() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    pair.clock.elapsed += REBOOT;
    let mut newcomer = world.client(&pair.clock);
    // The newcomer goes as far as the server's flight, then falls silent; data of the old session flows in between.
    for _ in 0..2 {
        let hello = newcomer.poll_transmit().unwrap().to_vec();
        pair.give_server(&hello);
        let mut answer = pair.to_client.pop_front().unwrap();
        newcomer.handle_datagram(pair.clock.now(), &mut answer);
        pair.to_client.clear();
    }
    assert_eq!(pair.endpoint.counts(), SessionCounts { established: 1, half_open: 1 });
    pair.assert_alive();
    while pair.endpoint.counts().half_open > 0 {
        let at = pair.endpoint.poll_timeout().unwrap();
        pair.clock.advance_to(at);
        pair.endpoint.handle_timeout(pair.clock.now());
        pair.drain_events();
        while pair.endpoint.poll_transmit().is_some() {}
    }
    assert!(matches!(pair.server_refusal(), HandshakeRefusal::TimedOut { .. }));
    pair.assert_alive();
}

#[test]
fn a_client_that_begins_anew_in_the_middle_of_a_handshake_is_served() {
    let world = World::new();
    let mut pair = Pair::half_open(&world);
    pair.clock.elapsed += REBOOT;
    pair.client = world.client(&pair.clock);
    pair.to_client.clear();
    pair.collect();
    pair.run();
    assert!(pair.is_established());
    assert_eq!(pair.server_refusal(), HandshakeRefusal::Restarted);
    pair.assert_alive();
}

/// The server still repeats the flight of the handshake before. By its numbers it is what follows a HelloVerifyRequest, and its signature covers the random of
/// the hello before.
#[test]
fn a_flight_for_the_handshake_before_is_not_taken_for_the_answer_to_a_new_hello() {
    let world = World::new();
    let mut pair = Pair::half_open(&world);
    let stale: Vec<Vec<u8>> = pair.to_client.drain(..).collect();
    assert!(!stale.is_empty(), "the server's flight");
    pair.clock.elapsed += REBOOT;
    pair.client = world.client(&pair.clock);
    pair.collect();
    stale.iter().for_each(|datagram| pair.give_client(datagram));
    pair.run();
    assert!(pair.is_established(), "{:?}", pair.client_events);
    pair.assert_alive();
}

/// On a slow link that flight also arrives behind the HelloVerifyRequest, whole or mixed with the new one. Nothing in it is authenticated: the answer to the new
/// hello is awaited further.
#[test]
fn a_flight_for_the_handshake_before_that_comes_late_ends_no_handshake() {
    let world = World::new();
    // How many of its datagrams come before those of the new flight.
    for ahead in 1.. {
        let clock = Clock::new();
        let endpoint = world.endpoint_with(|config| config.limits.mtu = 300);
        let mut pair = Pair::of(endpoint, world.client(&clock), clock).until_half_open();
        let stale: Vec<Vec<u8>> = pair.to_client.drain(..).collect();
        assert!(stale.len() > 2, "the server's flight");
        if ahead > stale.len() {
            break;
        }
        pair.clock.elapsed += REBOOT;
        pair.client = world.client(&pair.clock);
        pair.collect();
        (0..2).for_each(|_| assert!(pair.step(), "a hello, and the request for another one"));
        stale.iter().take(ahead).for_each(|datagram| pair.give_client(datagram));
        while !pair.is_established() {
            assert!(pair.step() || pair.tick(), "{ahead}: {:?}", pair.client_events);
        }
        assert_eq!(pair.client.drops().count(DropReason::FlightDisproved), 1, "{ahead}");
        pair.assert_alive();
    }
}

#[test]
fn the_old_session_may_end_while_the_new_handshake_is_under_way() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let old = pair.session();
    pair.clock.elapsed += REBOOT;
    pair.client = world.client(&pair.clock);
    pair.collect();
    for _ in 0..3 {
        pair.step();
    }
    assert_eq!(pair.endpoint.counts(), SessionCounts { established: 1, half_open: 1 });
    pair.endpoint.close(pair.clock.now(), old);
    pair.drain_events();
    pair.collect();
    pair.run();
    assert!(pair.is_established());
    pair.assert_alive();
}

#[test]
fn handshake_records_in_the_clear_are_nothing_to_a_session() {
    let mut pair = Pair::established(&World::new());
    pair.give_server(
        &Raw::new(HANDSHAKE, 0, 9, &[20, 0, 0, 12, 0, 9, 0, 0, 0, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2])
            .bytes(),
    );
    assert_eq!(pair.endpoint.drops().count(DropReason::HandshakeIdle), 1);
    pair.assert_alive();
}

#[test]
fn d13_a_restarted_server_goes_on_with_no_session_and_no_sequence_number_of_before() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    pair.server_sends(b"before");
    pair.run();
    pair.endpoint = world.endpoint();
    pair.client_sends(b"to whom it may concern");
    pair.run();
    assert_eq!(pair.endpoint.drops().count(DropReason::NoAssociation), 1);
    assert!(pair.server_received.is_empty());
    // The device begins a new handshake; all keys are new, so sequence number 0 is used again under another
    // key.
    pair.client = world.client(&pair.clock);
    pair.collect();
    pair.run();
    pair.assert_alive();
}

/// Another handshake of the same device begins beside its session.
fn begin_beside(script: &mut Script) {
    script.clock.elapsed += Duration::from_secs(1);
    script.hello = Hello { random: [9; 32], ..Hello::default() };
    (script.message_seq, script.record_sequence) = (0, 0);
    script.transcript.clear();
    script.fetch_cookie();
    script.send_hello();
    assert_eq!(script.endpoint.counts(), SessionCounts { established: 1, half_open: 1 });
}

#[test]
fn d92_beside_a_newer_handshake_a_protected_record_goes_to_whom_its_key_says() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    let (old, finished) = (script.forger(), script.finished_piece().bytes());
    begin_beside(&mut script);
    // The session's last flight was lost: its client asks for it again, under the session's keys.
    let again = script.give(&old.seal(HANDSHAKE, 1, &finished));
    let kinds = |datagram: &[u8]| records(datagram).iter().map(|one| (one.content_type, one.epoch)).collect::<Vec<_>>();
    assert_eq!(again.iter().map(|datagram| kinds(datagram)).collect::<Vec<_>>(), [[(20, 0), (22, 1)]]);
    // A record that no key opens changes nothing, however long it is.
    for length in [12, 300] {
        let mut forged = old.seal(HANDSHAKE, 2, &vec![20; length]);
        *forged.last_mut().unwrap() ^= 1;
        assert!(script.give(&forged).is_empty());
    }
    script.events.clear();
    script.give(&old.seal(APPLICATION_DATA, 2, b"of the session"));
    assert!(matches!(script.events[..], [Event::Data { .. }]), "{:?}", script.events);
    // And the Finished of the new handshake reaches the new handshake.
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.events.iter().any(|event| matches!(event, Event::Closed { why: Closed::Replaced, .. })));
    assert!(matches!(script.events.last(), Some(Event::Established { .. })), "{:?}", script.events);
}

#[test]
fn d94_forgeries_beside_a_newer_handshake_raise_the_alarm_as_well() {
    let world = World::new();
    for length in [40, 300] {
        let mut script = Script::begin(&world, Hello::default());
        let flight = script.honest_flight();
        script.give(&flight);
        let old = script.forger();
        begin_beside(&mut script);
        script.events.clear();
        let again = old.seal(APPLICATION_DATA, 1, b"once");
        script.give(&again);
        let alarms =
            |script: &Script| script.events.iter().filter(|event| matches!(event, Event::ForgeryAlarm { .. })).count();
        // A record that the session has already received does not count as a forgery.
        for _ in 0..1_100 {
            script.give(&again);
        }
        assert_eq!(alarms(&script), 0);
        for n in 0..3_000_u64 {
            script.clock.elapsed += Duration::from_millis(1);
            script.give(&Raw::new(APPLICATION_DATA, 1, 100 + n, &vec![1; length]).bytes());
        }
        assert_eq!(alarms(&script), 2, "{length}");
        // The new handshake's own Finished does not count as one.
        script.events.clear();
        let flight = script.honest_flight();
        script.give(&flight);
        assert!(matches!(script.events.last(), Some(Event::Established { .. })), "{:?}", script.events);
        assert_eq!(alarms(&script), 0);
    }
}
