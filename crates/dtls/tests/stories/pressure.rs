//! Which handshake gives way when every slot is taken, by what each handshake has proven.

use std::time::{Duration, Instant};

use dtls::{Client, DropReason, Endpoint, Event, HandshakeRefusal, HandshakeType, Path, PublicKeySteps};

use crate::flood::at;
use crate::support::forge::{HANDSHAKE, datagram};
use crate::support::script::{Hello, Script};
use crate::support::{Known, PeerEvent, World};

/// By then all handshakes are old enough to give way, and none has exceeded the deadline of its stage.
const AGE: Duration = Duration::from_secs(4);

fn house(world: &World, half_open_max: usize) -> Script {
    let endpoint: Endpoint<_> = world.endpoint_with(|config| {
        config.public_key_steps = PublicKeySteps::Suspended;
        config.limits.half_open_max = half_open_max;
    });
    Script::unbegun(world, endpoint, Hello::default())
}

/// Runs the jobs of the endpoint, and reads the events that follow.
fn run_jobs(script: &mut Script) {
    while let Some(job) = script.endpoint.poll_public_key_job() {
        script.endpoint.complete_public_key_job(script.clock.now(), job.run());
        script.events.extend(std::iter::from_fn(|| script.endpoint.poll_event()));
        let said: Vec<Vec<u8>> =
            std::iter::from_fn(|| script.endpoint.poll_transmit().map(|transmit| transmit.bytes.to_vec())).collect();
        for answer in said {
            script.read_answer(&answer);
        }
    }
}

/// A newcomer, from its own network, sends a hello with a good cookie.
fn arrive(script: &mut Script, n: u8) {
    script.path = at([10 + n, 0, 0, 1], 5_000);
    script.hello = Hello { random: [n; 32], ..Hello::default() };
    (script.message_seq, script.record_sequence) = (0, 0);
    script.transcript.clear();
    script.fetch_cookie();
    script.send_hello();
}

/// Sends the client's whole flight but the Finished, which is returned; nothing has been verified yet.
fn go_on(script: &mut Script, signature: impl FnOnce(&Script) -> Vec<u8>) -> Vec<u8> {
    run_jobs(script);
    let mut all = vec![script.certificate(), script.key_exchange()];
    let signature = signature(script);
    all.push(script.certificate_verify_with(0x0403, &signature));
    all.push(script.change_cipher_spec());
    script.give(&datagram(&all));
    script.forger().seal(HANDSHAKE, 0, &script.finished_piece().bytes())
}

/// A signature over other bytes.
fn wrong(script: &Script) -> Vec<u8> {
    let mut signature = script.sign();
    *signature.last_mut().unwrap() ^= 1;
    signature
}

/// The progress of the handshakes that gave way.
fn displaced(script: &Script) -> Vec<Path> {
    let of = |event: &_| match event {
        Event::Refused { path, refusal: HandshakeRefusal::Displaced, .. } => Some(*path),
        _ => None,
    };
    script.events.iter().filter_map(of).collect()
}

#[test]
fn d87_a_certificate_verify_that_nobody_has_verified_is_no_proof() {
    let world = World::new();
    let mut script = house(&world, 2);
    arrive(&mut script, 1);
    let finished = go_on(&mut script, Script::sign);
    run_jobs(&mut script);
    let honest = script.path;
    // The younger one: if both had proven the same, the older would give way.
    script.clock.elapsed += Duration::from_millis(20);
    arrive(&mut script, 2);
    go_on(&mut script, wrong);
    let thief = script.path;
    script.clock.elapsed += AGE;
    arrive(&mut script, 3);
    assert_eq!(displaced(&script), [thief]);
    script.path = honest;
    script.give(&finished);
    assert!(script.is_established(), "{:?}", script.events);
}

#[test]
fn d87_of_one_certificate_no_more_than_four_handshakes_count_as_proven() {
    for (count, gone) in [(4, 0), (5, 1)] {
        let world = World::new();
        let mut script = house(&world, count.into());
        for n in 1..=count {
            arrive(&mut script, n);
            go_on(&mut script, Script::sign);
            run_jobs(&mut script);
        }
        script.clock.elapsed += AGE;
        arrive(&mut script, 9);
        assert_eq!(displaced(&script).len(), gone, "{:?}", script.events);
        assert_eq!(script.endpoint.counts().half_open, usize::from(count));
        assert_eq!(script.endpoint.drops().count(DropReason::HalfOpenFull), 1 - u64::try_from(gone).unwrap());
    }
}

/// A server with one slot, whose public-key steps are done at once.
fn cottage(world: &World) -> Script {
    let endpoint = world.endpoint_with(|config| config.limits.half_open_max = 1);
    Script::unbegun(world, endpoint, Hello::default())
}

/// Gives the server the client's datagrams; returns the server's answers.
fn say(script: &mut Script, client: &mut Client<Known>, path: Path) -> Vec<Vec<u8>> {
    script.path = path;
    let mut answers = Vec::new();
    while let Some(datagram) = client.poll_transmit().map(<[u8]>::to_vec) {
        answers.extend(script.give(&datagram));
    }
    answers
}

fn hear(script: &Script, client: &mut Client<Known>, answers: Vec<Vec<u8>>) -> Vec<PeerEvent> {
    for mut answer in answers {
        client.handle_datagram(script.clock.now(), &mut answer);
    }
    std::iter::from_fn(|| client.poll_event()).collect()
}

/// Advances the clock to the client's next timeout. The server's timers run as well, and its repetitions are
/// lost.
fn wait(script: &mut Script, client: &mut Client<Known>) -> Vec<PeerEvent> {
    let due = client.poll_timeout().unwrap();
    run_until(script, due);
    client.handle_timeout(script.clock.now());
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn run_until(script: &mut Script, due: Instant) {
    while let Some(at) = script.endpoint.poll_timeout().filter(|at| *at <= due) {
        script.clock.advance_to(at);
        script.endpoint.handle_timeout(script.clock.now());
        script.events.extend(std::iter::from_fn(|| script.endpoint.poll_event()));
        while script.endpoint.poll_transmit().is_some() {}
    }
    script.clock.advance_to(due);
}

/// Runs until both ends are silent.
fn converse(script: &mut Script, client: &mut Client<Known>, path: Path) -> Vec<PeerEvent> {
    let mut events = Vec::new();
    loop {
        let answers = say(script, client, path);
        if answers.is_empty() {
            return events;
        }
        events.extend(hear(script, client, answers));
    }
}

#[test]
fn d87_a_displaced_client_that_lacks_the_flight_repeats_its_hello_and_is_served() {
    for timer in [1, 9] {
        let world = World::new();
        let (mut script, path) = (cottage(&world), at([100, 64, 0, 1], 5_000));
        let timer = Duration::from_secs(timer);
        let mut client = world.client_with(&script.clock, |config| config.retransmission_initial = timer);
        let request = say(&mut script, &mut client, path);
        hear(&script, &mut client, request);
        let lost = say(&mut script, &mut client, path);
        assert!(!lost.is_empty());
        script.clock.elapsed += AGE;
        arrive(&mut script, 1);
        assert_eq!(displaced(&script), [path]);
        let established = |event: &_| matches!(event, PeerEvent::Established { .. });
        while client.facts().is_none() {
            assert_eq!(wait(&mut script, &mut client).len(), 0, "it does not give up");
            let events = converse(&mut script, &mut client, path);
            assert!(events.iter().all(established), "{events:?}");
        }
        assert!(script.clock.elapsed <= Duration::from_secs(15), "{:?}", script.clock.elapsed);
    }
}

#[test]
fn d87_a_displaced_client_that_has_the_flight_gives_up_by_its_timers_and_is_served_when_it_begins_anew() {
    let world = World::new();
    let (mut script, path) = (cottage(&world), at([100, 64, 0, 1], 5_000));
    let mut client = world.client_with(&script.clock, |_| {});
    let request = say(&mut script, &mut client, path);
    hear(&script, &mut client, request);
    let flight = say(&mut script, &mut client, path);
    hear(&script, &mut client, flight);
    // The client's own flight is lost.
    while client.poll_transmit().is_some() {}
    script.clock.elapsed += AGE;
    arrive(&mut script, 1);
    assert_eq!(displaced(&script), [path]);
    let failed = loop {
        let events = wait(&mut script, &mut client);
        assert_eq!(say(&mut script, &mut client, path).len(), 0, "no handshake knows what it repeats");
        if !events.is_empty() {
            break events;
        }
    };
    assert!(
        matches!(&failed[..], [PeerEvent::Failed { refusal: HandshakeRefusal::TimedOut { .. }, .. }]),
        "{failed:?}"
    );
    assert!(script.endpoint.drops().count(DropReason::NoAssociation) >= 7, "{:?}", script.endpoint.drops());
    assert!(script.clock.elapsed <= Duration::from_secs(180), "{:?}", script.clock.elapsed);
    let mut again = world.client_with(&script.clock, |_| {});
    converse(&mut script, &mut again, path);
    assert!(again.facts().is_some() && script.is_established());
}

#[test]
fn d87_a_client_of_another_make_that_was_displaced_begins_anew_from_the_same_port() {
    let world = World::new();
    let mut script = cottage(&world);
    arrive(&mut script, 1);
    let (path, flight) = (script.path, script.honest_flight());
    script.clock.elapsed += AGE;
    arrive(&mut script, 2);
    assert_eq!(displaced(&script), [path]);
    script.path = path;
    assert_eq!(script.give(&flight).len(), 0);
    assert!(!script.is_established());
    // It does not wait for its timers, and sends a new hello.
    script.clock.elapsed += AGE;
    arrive(&mut script, 1);
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{:?}", script.events);
}

/// Only the first stage has a deadline of its own: a client on timers of 9 s whose flight is lost three times is heard 63 s after it first
/// sent the flight, and it may have waited as long for ours.
#[test]
fn d86_an_answered_handshake_keeps_its_slot_for_the_whole_deadline_and_under_pressure_for_three_seconds() {
    let world = World::new();
    let timed_out = HandshakeRefusal::TimedOut { expected: HandshakeType::CERTIFICATE };
    let mut script = cottage(&world);
    arrive(&mut script, 1);
    let began = script.clock.now().mono;
    run_until(&mut script, began + Duration::from_millis(179_900));
    assert_eq!((script.endpoint.counts().half_open, script.refusal()), (1, None));
    run_until(&mut script, began + Duration::from_secs(180));
    assert_eq!((script.endpoint.counts().half_open, script.refusal()), (0, Some(timed_out)));

    let mut script = cottage(&world);
    arrive(&mut script, 1);
    let (first, began) = (script.path, script.clock.now().mono);
    run_until(&mut script, began + Duration::from_millis(2_900));
    arrive(&mut script, 2);
    assert_eq!(displaced(&script).len(), 0);
    run_until(&mut script, began + Duration::from_secs(3));
    arrive(&mut script, 3);
    assert_eq!(displaced(&script), [first]);
}
