//! Caps on handshakes and sessions, idleness, eviction.

use std::net::SocketAddr;
use std::time::Duration;

use dtls::{Closed, DropReason, Event, Occupation, Path, SessionCounts, SocketIndex};

use crate::support;
use crate::support::script::{Hello, Script};
use crate::support::{Pair, World, path};

/// A separate hello for each port, up to the server's flight.
fn knock(script: &mut Script, port: u16) {
    knock_from(script, path(port));
}

/// A peer of the n-th network.
fn network(n: u16) -> Path {
    let peer = SocketAddr::from(([198, n.to_be_bytes()[1], 1, 1], n));
    Path { peer, local: None, socket: SocketIndex(0) }
}

fn knock_from(script: &mut Script, path: Path) {
    knock_with(script, path, path.peer.port().to_be_bytes()[1]);
}

fn knock_with(script: &mut Script, path: Path, random: u8) {
    script.path = path;
    script.hello = Hello { random: [random; 32], ..Hello::default() };
    script.message_seq = 0;
    script.record_sequence = 0;
    script.transcript.clear();
    script.fetch_cookie();
    script.send_hello();
}

#[test]
fn d46_at_the_cap_of_handshakes_new_hellos_are_dropped_and_sessions_live() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.half_open_max = 5);
    let mut script = Script::begin_at(&world, endpoint, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    let session = script.endpoint.sessions().next().unwrap();
    // Each from its own network, so that no network exceeds its share before the cap.
    for port in 1..=20 {
        knock_from(&mut script, network(port));
    }
    assert_eq!(script.endpoint.counts(), SessionCounts { established: 1, half_open: 5 });
    assert_eq!(script.endpoint.drops().count(DropReason::HalfOpenFull), 15);
    assert!(script.endpoint.send(script.clock.now(), session, b"alive").is_ok());
    script.wait_out();
    assert_eq!(script.endpoint.counts().half_open, 0);
    // All slots are free again.
    for port in 31..=35 {
        knock_from(&mut script, network(port));
    }
    assert_eq!(script.endpoint.counts().half_open, 5);
}

#[test]
fn the_longest_idle_session_gives_its_place_to_an_authenticated_peer() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.sessions_max = 2);
    let mut script = Script::begin_at(&world, endpoint, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    let oldest = script.endpoint.sessions().next().unwrap();
    script.clock.elapsed += Duration::from_secs(5);
    knock(&mut script, 2);
    let flight = script.honest_flight();
    script.give(&flight);
    assert_eq!(script.endpoint.counts().established, 2);
    // No session has been idle for ten seconds yet: the third peer waits.
    script.clock.elapsed += Duration::from_secs(3);
    script.path = path(3);
    script.hello.cookie.clear();
    script.message_seq = 0;
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    assert!(script.give(&hello).is_empty());
    assert_eq!(script.endpoint.drops().count(DropReason::SessionsFull), 1);
    script.clock.elapsed += Duration::from_secs(3);
    knock(&mut script, 3);
    let flight = script.honest_flight();
    script.give(&flight);
    assert_eq!(script.endpoint.counts().established, 2);
    assert!(
        script
            .events
            .iter()
            .any(|event| matches!(event, Event::Closed { session, why: Closed::Evicted, .. } if *session == oldest))
    );
}

#[test]
fn d46_d88_one_network_may_fill_all_slots_and_gives_back_what_others_want() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.half_open_max = 8);
    let mut script = Script::unbegun(&world, endpoint, Hello::default());
    // One network, such as the one address of a carrier's NAT.
    for port in 1..=10 {
        knock(&mut script, port);
    }
    assert_eq!(script.endpoint.counts().half_open, 8);
    assert_eq!(script.endpoint.drops().count(DropReason::NetworkFull), 2);
    // A newcomer from another network takes the slot of the oldest.
    knock_from(&mut script, network(1));
    knock_from(&mut script, network(2));
    assert_eq!(script.endpoint.counts().half_open, 8);
    let displaced = script.events.iter().filter_map(|event| match event {
        Event::Refused { refusal: dtls::HandshakeRefusal::Displaced, path, .. } => Some(path.peer.port()),
        _ => None,
    });
    assert_eq!(displaced.collect::<Vec<_>>().len(), 2);
    assert_eq!(
        script.alerts().len(),
        0,
        "no alert is sent: a device that lacks our flight repeats its hello, which begins a new handshake"
    );
    script.wait_out();
    for port in 1..=8 {
        knock(&mut script, port);
    }
    assert_eq!(script.endpoint.counts().half_open, 8, "all slots came back");
}

#[test]
fn d46_a_client_that_begins_anew_keeps_its_slot_under_pressure() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.half_open_max = 4);
    let mut script = Script::unbegun(&world, endpoint, Hello::default());
    for port in 1..=3 {
        knock(&mut script, port);
    }
    knock_from(&mut script, network(9));
    assert_eq!(script.endpoint.counts().half_open, 4);
    script.clock.elapsed += Duration::from_millis(500);
    // Every slot is taken, and the client's network holds more than its share. The client displaces only handshakes
    // of its own network.
    knock_with(&mut script, path(2), 0xAA);
    assert_eq!(script.endpoint.counts().half_open, 4, "{:?}", script.endpoint.drops());
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{:?}", script.events);
}

#[test]
fn fewer_sessions_in_a_new_configuration_shut_nobody_out_who_has_a_place() {
    let world = World::new();
    let limited = |sessions_max: usize| {
        let mut config = world.server_config();
        (config.limits.sessions_max, config.limits.half_open_max) = (sessions_max, 2);
        std::sync::Arc::new(config)
    };
    let mut script = Script::begin_at(&world, dtls::Endpoint::new(limited(4), world.random.clone()), Hello::default());
    for port in 2..=5 {
        let flight = script.honest_flight();
        script.give(&flight);
        if port < 5 {
            knock(&mut script, port);
        }
    }
    assert_eq!(script.endpoint.counts().established, 4);
    script.endpoint.set_config(limited(1));
    script.clock.elapsed += Duration::from_secs(20);
    // A device comes back to its session, then another one takes the place of the longest idle one.
    for port in [3, 30] {
        script.events.clear();
        knock_with(&mut script, path(port), 0xAA);
        let flight = script.honest_flight();
        script.give(&flight);
        let established = |event: &Event<_>| matches!(event, Event::Established { .. });
        assert!(script.events.iter().any(established), "{port}: {:?} {:?}", script.events, script.endpoint.drops());
    }
}

#[test]
fn a_session_in_the_middle_of_an_enrolment_is_never_evicted() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.sessions_max = 2);
    let mut script = Script::begin_at(&world, endpoint, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    let busy = script.endpoint.sessions().next().unwrap();
    script.endpoint.occupy(script.clock.now(), busy, Occupation::Busy);
    script.clock.elapsed += Duration::from_secs(5);
    knock(&mut script, 2);
    let flight = script.honest_flight();
    script.give(&flight);
    script.clock.elapsed += Duration::from_secs(100);
    // Both have been silent for a long time, the busy one for longer. One has to be evicted.
    knock(&mut script, 3);
    let flight = script.honest_flight();
    script.give(&flight);
    let evicted = |script: &Script| {
        let closed = |event: &_| match event {
            Event::Closed { session, why: Closed::Evicted, .. } => Some(*session),
            _ => None,
        };
        script.events.iter().filter_map(closed).collect::<Vec<_>>()
    };
    assert_eq!(evicted(&script).len(), 1);
    assert!(!evicted(&script).contains(&busy));
    // With all of them busy no newcomer is admitted.
    let other = script.endpoint.sessions().find(|session| *session != busy).unwrap();
    script.endpoint.occupy(script.clock.now(), other, Occupation::Busy);
    script.clock.elapsed += Duration::from_secs(100);
    script.path = path(4);
    script.hello.cookie.clear();
    script.message_seq = 0;
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    assert!(script.give(&hello).is_empty());
    assert_eq!(evicted(&script).len(), 1);
    // Once it is not busy, its idle time starts, and only after that time it is the next to be evicted.
    script.endpoint.occupy(script.clock.now(), busy, Occupation::Free);
    let hello = script.hello.datagram(1, 2);
    assert!(script.give(&hello).is_empty());
    script.clock.elapsed += Duration::from_secs(11);
    knock(&mut script, 5);
    let flight = script.honest_flight();
    script.give(&flight);
    assert_eq!(evicted(&script).last(), Some(&busy));
}

#[test]
fn a_session_that_stays_busy_for_ever_ends_with_its_idle_time_all_the_same() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let session = pair.session();
    pair.endpoint.occupy(pair.clock.now(), session, Occupation::Busy);
    pair.endpoint.occupy(pair.clock.now(), session, Occupation::Busy);
    assert_eq!(pair.endpoint.poll_timeout(), Some(pair.clock.now().mono + Duration::from_secs(300)));
    pair.clock.elapsed += Duration::from_secs(300);
    pair.handle_timeouts();
    assert!(matches!(pair.server_events.last(), Some(Event::Closed { why: Closed::Idle, .. })));
}

#[test]
fn an_idle_session_is_closed_and_its_peer_told() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    pair.clock.elapsed += Duration::from_secs(200);
    pair.assert_alive();
    // Its timer counts from what was heard last.
    assert_eq!(pair.endpoint.poll_timeout(), Some(pair.clock.now().mono + Duration::from_secs(300)));
    pair.clock.elapsed += Duration::from_secs(299);
    pair.handle_timeouts();
    assert_eq!(pair.endpoint.counts().established, 1);
    pair.clock.elapsed += Duration::from_secs(1);
    pair.handle_timeouts();
    assert!(matches!(pair.server_events.last(), Some(Event::Closed { why: Closed::Idle, .. })));
    pair.run();
    assert!(matches!(pair.client_events.last(), Some(dtls::ClientEvent::Closed { why: Closed::ByPeer })));
    assert_eq!(pair.endpoint.poll_timeout(), None);
}

#[test]
fn sessions_expire_in_the_order_of_their_last_words() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut forgers = Vec::new();
    let mut sessions = Vec::new();
    for port in 1..=4 {
        knock(&mut script, port);
        let flight = script.honest_flight();
        script.give(&flight);
        forgers.push((script.path, script.forger()));
        let Some(Event::Established { session, .. }) = script.events.last() else { panic!("{:?}", script.events) };
        sessions.push(*session);
        script.clock.elapsed += Duration::from_secs(10);
    }
    // The first and the third speak again.
    for at in [0, 2] {
        script.path = forgers[at].0;
        let data = forgers[at].1.seal(support::forge::APPLICATION_DATA, 1, b"still here");
        script.give(&data);
        script.clock.elapsed += Duration::from_secs(1);
    }
    script.events.clear();
    while script.endpoint.counts().established > 0 {
        let at = script.endpoint.poll_timeout().unwrap();
        script.clock.advance_to(at);
        script.endpoint.handle_timeout(script.clock.now());
        script.events.extend(std::iter::from_fn(|| script.endpoint.poll_event()));
        while script.endpoint.poll_transmit().is_some() {}
    }
    let order: Vec<_> = script
        .events
        .iter()
        .filter_map(
            |event| if let Event::Closed { session, why: Closed::Idle, .. } = event { Some(*session) } else { None },
        )
        .collect();
    assert_eq!(order, [sessions[1], sessions[3], sessions[0], sessions[2]]);
}

#[test]
fn a_job_of_a_handshake_that_is_gone_is_left_out() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.public_key_steps = dtls::PublicKeySteps::Suspended);
    let mut script = Script::unbegun(&world, endpoint, Hello::default());
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    script.give(&hello);
    let taken = script.endpoint.poll_public_key_job().unwrap();
    script.wait_out();
    // Its slot has another entry by the time the result arrives.
    script.path = path(2);
    script.message_seq = 0;
    script.record_sequence = 0;
    script.hello.cookie.clear();
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    script.give(&hello);
    script.endpoint.complete_public_key_job(script.clock.now(), taken.run());
    assert_eq!(script.endpoint.drops().count(DropReason::StaleJob), 1);
    assert!(script.endpoint.poll_transmit().is_none());
    script.wait_out();
    assert!(script.endpoint.poll_public_key_job().is_none());
    assert_eq!(script.endpoint.drops().count(DropReason::StaleJob), 2);
}

#[test]
fn c47_no_more_handshakes_are_begun_than_there_are_session_slots_and_a_few() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.limits.sessions_max = 100);
    let mut script = Script::begin_at(&world, endpoint, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    // A session that is not idle leaves 99 slots.
    for port in 1..=150 {
        knock_from(&mut script, network(port));
    }
    assert_eq!(script.endpoint.counts(), SessionCounts { established: 1, half_open: 99 });
    // One that is idle leaves another one.
    script.clock.elapsed += Duration::from_secs(11);
    for port in 201..=210 {
        knock_from(&mut script, network(port));
    }
    assert_eq!(script.endpoint.counts(), SessionCounts { established: 1, half_open: 100 });
    // A device that comes back to its session needs no slot.
    knock_with(&mut script, path(50_000), 0xAA);
    assert_eq!(script.endpoint.counts(), SessionCounts { established: 1, half_open: 101 });
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
}
