//! What one cookie buys, however its owner sends it.

use std::time::Duration;

use dtls::{DropReason, PublicKeySteps};

use crate::support::forge::{ALERT, Raw};
use crate::support::script::{Hello, Script};
use crate::support::{World, path};

/// The effect of 300 copies.
struct Bought {
    /// When each flight was sent, since the first copy.
    flights: Vec<Duration>,
    signatures: usize,
    bytes_in: usize,
    bytes_out: usize,
}

/// Sends the datagrams in turn, 300 in all.
fn buy(script: &mut Script, datagrams: &[Vec<u8>], pace: Duration) -> Bought {
    let start = script.clock.elapsed;
    let mut bought = Bought { flights: Vec::new(), signatures: 0, bytes_in: 0, bytes_out: 0 };
    for datagram in datagrams.iter().cycle().take(300) {
        bought.bytes_in += datagram.len();
        let mut answers = script.give(datagram);
        while let Some(job) = script.endpoint.poll_public_key_job() {
            bought.signatures += 1;
            script.endpoint.complete_public_key_job(script.clock.now(), job.run());
        }
        answers.extend(std::iter::from_fn(|| script.endpoint.poll_transmit().map(|one| one.bytes.to_vec())));
        bought.bytes_out += answers.iter().map(Vec::len).sum::<usize>();
        if !answers.is_empty() {
            bought.flights.push(script.clock.elapsed.saturating_sub(start));
        }
        script.clock.elapsed += pace;
        if script.endpoint.poll_timeout().is_some_and(|at| at <= script.clock.now().mono) {
            script.endpoint.handle_timeout(script.clock.now());
            let sent: usize = std::iter::from_fn(|| script.endpoint.poll_transmit().map(|one| one.bytes.len())).sum();
            bought.bytes_out += sent;
            if sent > 0 {
                bought.flights.push(script.clock.elapsed.saturating_sub(start));
            }
        }
    }
    bought
}

fn script_of(steps: PublicKeySteps) -> (World, Script) {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.public_key_steps = steps);
    let script = Script::unbegun(&world, endpoint, Hello::default());
    (world, script)
}

/// A hello with a good cookie.
fn cookied(script: &mut Script, random: u8) -> Vec<u8> {
    script.hello = Hello { random: [random; 32], ..Hello::default() };
    (script.message_seq, script.record_sequence) = (0, 0);
    script.fetch_cookie();
    script.hello.datagram(1, 1)
}

const PACES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100), Duration::from_millis(390)];

#[test]
fn d85_one_cookie_buys_one_flight_each_half_second_and_twenty_in_all() {
    for steps in [PublicKeySteps::Inline, PublicKeySteps::Suspended] {
        for pace in PACES {
            for alert in [&[2, 40][..], &[1, 0], &[]] {
                let (_world, mut script) = script_of(steps);
                let mut datagram = cookied(&mut script, 1);
                if !alert.is_empty() {
                    datagram.extend(Raw::new(ALERT, 0, 2, alert).bytes());
                }
                let bought = buy(&mut script, &[datagram], pace);
                let what = format!("{steps:?} {pace:?} {alert:?}: {:?}", bought.flights);
                assert!(bought.flights.windows(2).all(|two| two[1] - two[0] >= Duration::from_millis(500)), "{what}");
                assert!(bought.flights.len() <= 20 && bought.signatures <= 20, "{what}");
                assert!(bought.bytes_out <= 3 * bought.bytes_in, "{} for {}", bought.bytes_out, bought.bytes_in);
            }
        }
    }
}

#[test]
fn d85_two_hellos_of_one_port_in_turn_buy_no_more_than_one() {
    for steps in [PublicKeySteps::Inline, PublicKeySteps::Suspended] {
        for pace in PACES {
            let (_world, mut script) = script_of(steps);
            let both = [cookied(&mut script, 1), cookied(&mut script, 2)];
            let bought = buy(&mut script, &both, pace);
            let what = format!("{steps:?} {pace:?}: {:?}", bought.flights);
            assert!(bought.flights.windows(2).all(|two| two[1] - two[0] >= Duration::from_millis(500)), "{what}");
            assert!(bought.flights.len() <= 2 * 20, "{what}");
            assert!(bought.bytes_out <= 3 * bought.bytes_in, "{} for {}", bought.bytes_out, bought.bytes_in);
        }
    }
}

#[test]
fn d85_a_hello_that_buys_nothing_ends_no_handshake_in_progress() {
    let (_world, mut script) = script_of(PublicKeySteps::Inline);
    let other = cookied(&mut script, 2);
    cookied(&mut script, 1);
    script.send_hello();
    assert!(script.give(&other).is_empty());
    assert_eq!(script.endpoint.drops().count(DropReason::TooSoon), 1);
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{:?}", script.events);
}

#[test]
fn d85_ten_thousand_devices_behind_one_address_are_all_served_at_once() {
    let (_world, mut script) = script_of(PublicKeySteps::Suspended);
    // Each handshake gets its step; which of them complete depends on slots, which become free again.
    for port in 1..=10_000 {
        script.path = path(port);
        cookied(&mut script, 7);
        let hello = script.hello.datagram(1, 1);
        script.give(&hello);
        let job = script.endpoint.poll_public_key_job();
        assert!(job.is_some(), "{port}: {:?}", script.endpoint.drops());
        // The handshake continues, and its slot becomes free.
        script.give(&Raw::new(ALERT, 0, 3, &[2, 90]).bytes());
    }
}
