//! What an established session costs the allocator, once everything is warm.

#![allow(clippy::unwrap_used, reason = "what cannot fail here fails the test")]

mod support;

use support::World;
use support::raw::{Ask, GET, Raw};

/// Sends `message`, and counts what the server allocates from the datagram to its answer.
fn allocations(world: &mut World, raw: &mut Raw, message: &[u8]) -> u64 {
    raw.dtls.send(world.now, message).unwrap();
    let mut datagram = raw.dtls.poll_transmit().unwrap().to_vec();
    let (server, now, route) = (&mut world.server, world.now, raw.route);
    let mut answers = 0;
    let counted = allocation_counter::measure(|| {
        server.handle_datagram(now, route, &mut datagram);
        while server.poll_transmit().is_some() {
            answers += 1;
        }
        while server.poll_output().is_some() {}
    });
    assert_eq!(answers, 1);
    counted.count_total
}

#[test]
fn nothing_is_allocated_for_what_begins_no_exchange() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    // A ping: an empty confirmable message, answered with a reset (RFC 7252 §4.3).
    let ping = |id: u8| [0x40, 0x00, 0x12, id];
    for id in 0..4 {
        allocations(&mut world, &mut raw, &ping(id));
    }
    assert_eq!(allocations(&mut world, &mut raw, &ping(9)), 0);
}

#[test]
fn a_block_of_ca_certificates_costs_one_allocation() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let block2 = Some(coap::Block { num: 0, more: false, size: coap::BlockSize::B64 });
    let ask = Ask { method: GET, path: "est/crts", block2, ..Ask::default() };
    for _ in 0..4 {
        let message = raw.message(&ask);
        allocations(&mut world, &mut raw, &message);
    }
    let message = raw.message(&ask);
    // The list of exchanges of a CoAP peer that had none.
    assert!(allocations(&mut world, &mut raw, &message) <= 1);
}
