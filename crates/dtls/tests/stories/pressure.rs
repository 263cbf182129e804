//! Who gives way when every handshake slot is taken, by what the handshakes have proven.

use std::time::Duration;

use crate::flood::at;
use crate::support::World;
use crate::support::forge::{HANDSHAKE, datagram};
use crate::support::script::{Hello, Script};
use dtls::{Drop, Endpoint, Event, PublicKeySteps, Refusal};

/// All handshakes are old enough to give way by then, and none has outlived its stage.
const AGE: Duration = Duration::from_secs(4);

fn house(world: &World, half_open_max: usize) -> Script {
    let endpoint: Endpoint<_> = world.endpoint_with(|config| {
        config.public_key_steps = PublicKeySteps::Suspended;
        config.limits.half_open_max = half_open_max;
    });
    Script::unbegun(world, endpoint, Hello::default())
}

/// Runs what the endpoint waits for, and reads what it says then.
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

/// A newcomer, from a network of its own, sends a hello with a good cookie.
fn arrive(script: &mut Script, n: u8) {
    script.route = at([10 + n, 0, 0, 1], 5_000);
    script.hello = Hello { random: [n; 32], ..Hello::default() };
    (script.message_seq, script.record_sequence) = (0, 0);
    script.transcript.clear();
    script.fetch_cookie();
    script.send_hello();
}

/// It goes on with all of its flight but the Finished, which is given back; nothing has been checked yet.
fn go_on(script: &mut Script, signature: impl FnOnce(&Script) -> Vec<u8>) -> Vec<u8> {
    run_jobs(script);
    let mut all = vec![script.certificate(), script.key_exchange()];
    let signature = signature(script);
    all.push(script.certificate_verify_with(0x0403, &signature));
    all.push(script.change_cipher_spec());
    script.give(&datagram(&all));
    script.forger().seal(HANDSHAKE, 0, &script.finished_piece().bytes())
}

/// A signature over something else.
fn wrong(script: &Script) -> Vec<u8> {
    let mut signature = script.sign();
    *signature.last_mut().unwrap() ^= 1;
    signature
}

/// Where the handshakes stood that gave way.
fn displaced(script: &Script) -> Vec<dtls::Route> {
    let of = |event: &_| match event {
        Event::Refused { route, refusal: Refusal::Displaced, .. } => Some(*route),
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
    let honest = script.route;
    // The younger one: were both alike, the older would go.
    script.clock.elapsed += Duration::from_millis(20);
    arrive(&mut script, 2);
    go_on(&mut script, wrong);
    let thief = script.route;
    script.clock.elapsed += AGE;
    arrive(&mut script, 3);
    assert_eq!(displaced(&script), [thief]);
    script.route = honest;
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
        assert_eq!(script.endpoint.drops().count(Drop::HalfOpenFull), 1 - u64::try_from(gone).unwrap());
    }
}
