//! Honest devices while a server is behind and strangers with good cookies ask for every handshake that it begins.

use std::time::Duration;

use crate::flood::{Device, STEP, at, deliver, port, sixteen_networks, step};
use crate::support::World;
use crate::support::forge::{ALERT, HANDSHAKE, Piece, Raw, records};
use crate::support::script::{Hello, Script};
use dtls::{Admission, Route};

/// The devices begin in the first fifth; it ends when all are done.
const LASTS: Duration = Duration::from_secs(100);
const PER_SECOND: u64 = 1_000;

/// Many ports of one host.
fn one_address(n: u64) -> Route {
    at([192, 0, 2, 1], port(n))
}

/// Asks for a cookie and sends a hello with it. A fatal alert in the same datagram frees the slot at once.
fn strike(script: &mut Script, route: Route, n: u64) {
    script.route = route;
    let mut random = [3; 32];
    random[..8].copy_from_slice(&n.to_be_bytes());
    script.hello = Hello { random, ..Hello::default() };
    let answers = script.give(&script.hello.datagram(0, 0));
    let request = Piece::parse(&records(&answers[0])[0].payload);
    assert_eq!(request.kind, 3, "HelloVerifyRequest");
    script.hello.cookie = request.body[3..].to_vec();
    let hello = Raw::new(HANDSHAKE, 0, 1, &Piece::whole(1, 1, &script.hello.body()).bytes()).bytes();
    let alert = Raw::new(ALERT, 0, 2, &[2, 80]).bytes();
    script.give(&[hello, alert].concat());
    script.answers.clear();
    script.events.clear();
}

/// Handshake times of all devices, in order; `None` last. Each has an address in a network of its own.
fn times(admission: Admission, flood: Option<fn(u64) -> Route>) -> Vec<Option<Duration>> {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    script.endpoint.refuse_new(admission);
    let (mut devices, mut sent) = (Vec::new(), 0_u64);
    for n in 0..40_u16 {
        script.clock.elapsed = LASTS / 5 * u32::from(n) / 40;
        let timer = Duration::from_secs(if n % 2 == 0 { 1 } else { 9 });
        let route = at([100, 64 + n.to_be_bytes()[1], 0, 1], 5_000);
        devices.push(Device::new(&script, &world, route, timer, u64::from(n) + 9));
    }
    script.clock.elapsed = Duration::ZERO;
    while script.clock.elapsed < LASTS && devices.iter().any(|device| device.took.is_none()) {
        let now = script.clock.elapsed;
        if let Some(source) = flood {
            while sent * 1_000 < PER_SECOND * u64::try_from(now.as_millis()).unwrap() {
                sent += 1;
                strike(&mut script, source(sent), sent);
            }
        }
        for device in devices.iter_mut().filter(|device| device.begins <= now && device.took.is_none()) {
            step(&mut script, device, now);
        }
        if script.endpoint.poll_timeout().is_some_and(|due| due <= script.clock.now().mono) {
            script.endpoint.handle_timeout(script.clock.now());
            while script.endpoint.poll_event().is_some() {}
            deliver(&mut script, &mut devices, now);
        }
        script.clock.elapsed += STEP;
    }
    let mut times: Vec<_> = devices.iter().map(|device| device.took).collect();
    times.sort_by_key(|took| took.unwrap_or(Duration::MAX));
    times
}

fn assert_unharmed(flood: fn(u64) -> Route) {
    let (quiet, flooded) = (times(Admission::Open, None), times(Admission::Behind, Some(flood)));
    assert!(quiet.iter().all(Option::is_some), "{quiet:?}");
    assert!(flooded.iter().all(Option::is_some), "{flooded:?}");
    // With forty devices the 99th percentile is the slowest.
    assert!(flooded.last().unwrap() <= &quiet.last().unwrap().map(|slowest| slowest * 2), "{quiet:?} {flooded:?}");
}

#[test]
fn c47_d88_one_address_with_many_cookies_keeps_no_device_out_while_the_server_is_behind() {
    assert_unharmed(one_address);
}

#[test]
fn c47_d88_sixteen_networks_with_many_cookies_keep_no_device_out_while_the_server_is_behind() {
    assert_unharmed(sixteen_networks);
}
