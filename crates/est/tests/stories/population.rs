//! Many sessions with the same deadline.

use crate::support::World;
use crate::support::raw::{Ask, POST, Raw};

/// Each of these sessions has begun an upload and sends nothing more. All have the same deadline.
#[test]
fn d90_uploads_that_expire_in_one_instant_are_given_up_part_by_part() {
    const SESSIONS: u16 = 600;
    /// Sessions whose deadline one call serves, as the server promises.
    const AT_MOST: u64 = 256;
    let mut world = World::new();
    let holders: Vec<_> = (1..=8).map(|number| world.pki.device(number)).collect();
    let first = coap::Block { num: 0, more: true, size: coap::BlockSize::B64 };
    let ask = Ask { method: POST, path: "est/sen", content_format: Some(286), block1: Some(first), ..Ask::default() };
    let mut devices = Vec::new();
    for port in 1..=SESSIONS {
        let mut device = Raw::connect(&mut world, port, &holders[usize::from(port % 8)]);
        let said = device.ask(&mut world, &Ask { payload: &[7; 64], ..ask.clone() });
        assert_eq!(said.code, coap::Code::CONTINUE);
        devices.push(device);
    }
    world.advance(coap::EXCHANGE_LIFETIME);
    let dropped = |world: &World| world.server.counters().coap.uploads_dropped;
    let (mut before, mut calls) = (dropped(&world), 0);
    assert_eq!(before, 0);
    while world.server.poll_timeout().is_some_and(|due| due <= world.now.mono) {
        world.server.handle_timeout(world.now);
        let now = dropped(&world);
        assert!(now - before <= AT_MOST, "{} in one call", now - before);
        (before, calls) = (now, calls + 1);
    }
    assert_eq!(before, u64::from(SESSIONS), "none is forgotten");
    assert_eq!(calls, u64::from(SESSIONS).div_ceil(AT_MOST));
}
