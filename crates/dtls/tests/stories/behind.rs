//! Honest devices while a server is behind, and strangers with valid cookies compete for every handshake that it
//! begins.

use std::collections::VecDeque;
use std::time::Duration;

use dtls::{Admission, DropReason, Path};

use crate::flood::{Crowd, at, everywhere, fetch_cookie, port, sixteen_networks};
use crate::support::World;
use crate::support::forge::{ALERT, HANDSHAKE, Piece, Raw};
use crate::support::script::{Hello, Script};

/// The devices begin in the first fifth; the run ends when all are done.
const LASTS: Duration = Duration::from_secs(100);
const PER_SECOND: u64 = 1_000;

/// Many ports of one host.
fn one_address(n: u64) -> Path {
    at([192, 0, 2, 1], port(n))
}

/// Asks for a cookie and sends a hello with it. A fatal alert in the same datagram frees the slot at once.
fn strike(script: &mut Script, path: Path, n: u64) {
    fetch_cookie(script, path, n);
    let hello = Raw::new(HANDSHAKE, 0, 1, &Piece::whole(1, 1, &script.hello.body()).bytes()).bytes();
    let alert = Raw::new(ALERT, 0, 2, &[2, 80]).bytes();
    script.give(&[hello, alert].concat());
    script.answers.clear();
    script.events.clear();
}

/// Asks for a cookie, sends a hello with it, and is never heard of again.
fn begin_and_leave(script: &mut Script, path: Path, n: u64) {
    fetch_cookie(script, path, n);
    script.give(&Raw::new(HANDSHAKE, 0, 1, &Piece::whole(1, 1, &script.hello.body()).bytes()).bytes());
    script.answers.clear();
    script.events.clear();
}

/// What each hello of a flood does, by its number.
type Flood = Box<dyn FnMut(&mut Script, u64)>;

/// A flood whose strangers come from there and do that.
fn flood(source: fn(u64) -> Path, strike: fn(&mut Script, Path, u64)) -> Flood {
    Box::new(move |script, n| strike(script, source(n), n))
}

/// Strangers who send their hellos when their cookies are six seconds old, as those do who have waited long.
fn patient_flood(source: fn(u64) -> Path) -> Flood {
    let mut waiting = VecDeque::new();
    Box::new(move |script, n| {
        fetch_cookie(script, source(n), n);
        waiting.push_back((source(n), script.hello.body()));
        if waiting.len() as u64 > 6 * PER_SECOND
            && let Some((path, hello)) = waiting.pop_front()
        {
            script.path = path;
            let alert = Raw::new(ALERT, 0, 2, &[2, 80]).bytes();
            script.give(&[Raw::new(HANDSHAKE, 0, 1, &Piece::whole(1, 1, &hello).bytes()).bytes(), alert].concat());
        }
        script.answers.clear();
        script.events.clear();
    })
}

/// Handshake times of all devices, sorted; `None` last.
fn times(admission: Admission, mut flood: Option<Flood>) -> Vec<Option<Duration>> {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    script.endpoint.refuse_new(script.clock.now(), admission);
    let mut sent = 0_u64;
    let crowd = Crowd { begins_within: LASTS / 5, ends: LASTS, silent: Duration::ZERO..Duration::ZERO };
    crowd.times_beside(&world, &mut script, |script, now| {
        let Some(strike) = &mut flood else { return };
        while sent * 1_000 < PER_SECOND * u64::try_from(now.as_millis()).unwrap() {
            sent += 1;
            strike(script, sent);
        }
    })
}

fn assert_unharmed(flood: Flood) {
    let (quiet, flooded) = (times(Admission::Open, None), times(Admission::Behind, Some(flood)));
    assert!(quiet.iter().all(Option::is_some), "{quiet:?}");
    assert!(flooded.iter().all(Option::is_some), "{flooded:?}");
    // With forty devices the 99th percentile is the slowest.
    assert!(flooded.last().unwrap() <= &quiet.last().unwrap().map(|slowest| slowest * 2), "{quiet:?} {flooded:?}");
}

#[test]
fn c47_d88_one_address_with_many_cookies_keeps_no_device_out_while_the_server_is_behind() {
    assert_unharmed(flood(one_address, strike));
}

#[test]
fn c47_d88_sixteen_networks_with_many_cookies_keep_no_device_out_while_the_server_is_behind() {
    assert_unharmed(flood(sixteen_networks, strike));
}

/// Who comes back seldom has more credit, and of one network that had most only while nobody else asks.
#[test]
fn c47_d88_strangers_of_few_networks_who_wait_for_seconds_keep_no_device_out() {
    assert_unharmed(patient_flood(one_address));
    assert_unharmed(patient_flood(sixteen_networks));
}

/// More clients than slots, none like another by its network: a server that is behind tells devices by their patience.
#[test]
fn c47_clients_from_everywhere_that_send_one_hello_each_keep_no_device_out() {
    assert_unharmed(flood(everywhere, begin_and_leave));
}

/// Two clients take what is paid for and the credit; after that every fresh hello would be turned away.
fn turning_away(world: &World) -> Script {
    let mut script = Script::unbegun(world, world.endpoint(), Hello::default());
    script.endpoint.refuse_new(script.clock.now(), Admission::Behind);
    for n in 0..2 {
        begin_and_leave(&mut script, everywhere(n), n);
    }
    script
}

#[test]
fn c47_a_fresh_hello_that_would_be_turned_away_is_dropped_before_its_cookie_is_verified() {
    let world = World::new();
    let mut script = turning_away(&world);
    fetch_cookie(&mut script, everywhere(9), 9);
    // With a wrong tag: a look at it would draw another cookie.
    *script.hello.cookie.last_mut().unwrap() ^= 1;
    script.hello.cookie[4] ^= 1;
    let hello = script.hello.datagram(1, 1);
    let behind = script.endpoint.drops().count(DropReason::Behind);
    assert!(script.give(&hello).is_empty());
    assert_eq!(script.endpoint.drops().count(DropReason::Behind), behind + 1);
    // Its client repeats it. It is not fresh any more, and gets the chance of a good cookie.
    script.clock.elapsed += Duration::from_secs(1);
    let answers = script.give(&hello);
    assert_eq!(answers.len(), 1, "a HelloVerifyRequest");
    // A hello without a cookie gets one at any time.
    assert_eq!(script.give(&Hello::default().datagram(0, 0)).len(), 1);
}

#[test]
fn c47_a_server_that_is_behind_answers_repetitions_and_goes_on_with_what_it_has_begun() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let hello = script.hello.datagram(1, 1);
    script.endpoint.refuse_new(script.clock.now(), Admission::Behind);
    // Strangers use up what may be begun.
    let (path, own) = (script.path, script.hello.clone());
    for n in 0..8 {
        begin_and_leave(&mut script, everywhere(n), n);
    }
    (script.path, script.hello) = (path, own);
    // The hello again: our flight was lost.
    script.clock.elapsed += Duration::from_secs(1);
    let mut flight_again = script.give(&hello).len();
    script.endpoint.handle_timeout(script.clock.now());
    while script.endpoint.poll_transmit().is_some() {
        flight_again += 1;
    }
    assert!(flight_again > 0, "the flight is sent again");
    // The client's flight, and its Finished again: ours was lost.
    let flight = script.honest_flight();
    assert!(!script.give(&flight).is_empty() && script.is_established());
    script.clock.elapsed += Duration::from_secs(1);
    let again = script.forger().seal(HANDSHAKE, 1, &script.finished_piece().bytes());
    assert_eq!(script.give(&again).len(), 1, "the last flight again");
}

#[test]
fn c47_after_the_server_was_behind_an_eighth_of_the_slots_is_open_to_hellos_that_have_not_waited() {
    let world = World::new();
    let slots = 16;
    let endpoint = world.endpoint_with(|config| config.limits.half_open_max = slots);
    let mut script = Script::unbegun(&world, endpoint, Hello::default());
    script.endpoint.refuse_new(script.clock.now(), Admission::Behind);
    begin_and_leave(&mut script, everywhere(0), 0);
    // Caught up, as many times a second in an overload.
    script.endpoint.refuse_new(script.clock.now(), Admission::Open);
    for n in 1..40 {
        begin_and_leave(&mut script, everywhere(n), n);
    }
    assert_eq!(script.endpoint.counts().half_open, slots / 8, "strangers who answer at once");
    assert!(script.endpoint.drops().count(DropReason::HalfOpenFull) > 0);
    // A device that repeats its hello finds a slot.
    fetch_cookie(&mut script, everywhere(50), 50);
    let hello = script.hello.datagram(1, 1);
    assert!(script.give(&hello).is_empty());
    script.clock.elapsed += Duration::from_secs(1);
    assert!(!script.give(&hello).is_empty(), "the server's flight");
    assert_eq!(script.endpoint.counts().half_open, slots / 8 + 1);
    // When the server has kept up for a while, all slots are open to everybody.
    script.clock.elapsed += Duration::from_secs(2);
    begin_and_leave(&mut script, everywhere(60), 60);
    assert_eq!(script.endpoint.counts().half_open, slots / 8 + 2);
}

/// The strangers of a storm keep their slots until their handshakes end, minutes later. A server that is late for a moment then must not take them for
/// those of a new storm, and turn every new device away: neither when it has kept up for long, nor when the flights for them have made it late.
#[test]
fn c47_strangers_who_are_left_from_a_storm_keep_nobody_out_when_the_server_is_late_for_a_moment() {
    for later in [3_000, 1_100].map(Duration::from_millis) {
        let world = World::new();
        let slots = 32;
        let endpoint = world.endpoint_with(|config| config.limits.half_open_max = slots);
        let mut script = Script::unbegun(&world, endpoint, Hello::default());
        let mut strangers = 0..;
        let mut storm = |script: &mut Script| {
            // The first one finds the server late.
            script.endpoint.refuse_new(script.clock.now(), Admission::Behind);
            for n in strangers.by_ref().take(80) {
                begin_and_leave(script, everywhere(n), n);
                script.endpoint.refuse_new(script.clock.now(), Admission::Open);
            }
            script.endpoint.counts().half_open
        };
        assert_eq!(storm(&mut script), 4, "an eighth");
        let mut held = Vec::new();
        for _ in 0..8 {
            script.clock.elapsed += later;
            held.push(storm(&mut script));
        }
        assert_eq!(
            held,
            [8, 12, 16, 20, 24, 24, 24, 24],
            "an eighth in each, and a quarter stays for devices that have waited; {later:?} later"
        );
    }
}

/// A client with two cookies begins a handshake with one, and sends the other at once: too soon for another flight. It must not keep new clients out as
/// one that waits does.
#[test]
fn c47_a_hello_that_can_begin_nothing_does_not_count_as_waiting() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    script.endpoint.refuse_new(script.clock.now(), Admission::Behind);
    let [first, second] = [1, 2].map(|n| {
        fetch_cookie(&mut script, everywhere(0), n);
        script.hello.datagram(1, 1)
    });
    script.clock.elapsed += Duration::from_millis(400);
    assert!(!script.give(&first).is_empty(), "on credit");
    assert!(script.give(&second).is_empty());
    assert_eq!(script.endpoint.drops().count(DropReason::TooSoon), 1);
    // Datagrams pay for the credit, and for one handshake more.
    for n in 10..200 {
        fetch_cookie(&mut script, everywhere(n), n);
    }
    begin_and_leave(&mut script, everywhere(9), 9);
    assert_eq!(script.endpoint.counts().half_open, 2);
}
