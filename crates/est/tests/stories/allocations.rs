//! The allocations of an established session once all buffers have grown.

use crate::support;
use crate::support::World;
use crate::support::raw::{Ask, GET, Raw};

/// Sends `message`, and counts the server's allocations from the datagram to its answer.
fn allocations(world: &mut World, raw: &mut Raw, message: &[u8]) -> u64 {
    raw.dtls.send(world.now, message).unwrap();
    let mut datagram = raw.dtls.poll_transmit().unwrap().to_vec();
    let (server, now, path) = (&mut world.server, world.now, raw.path);
    let mut answers = 0;
    let counted = allocation_counter::measure(|| {
        server.handle_datagram(now, path, &mut datagram);
        while server.poll_transmit().is_some() {
            answers += 1;
        }
        while server.poll_output().is_some() {}
    });
    assert_eq!(answers, 1);
    counted.count_total
}

#[test]
fn d93_a_slot_of_the_peers_of_this_server_is_as_small_as_is_said() {
    // With a 16-byte index entry and one pointer, and with the peer type that the server really uses.
    let slot = dtls::Endpoint::<est::PeerVerifier>::SLOT_BYTES;
    assert!(slot + 16 + 8 <= 320, "{slot}");
    // A session's slot holds its peer: 32 bytes of digest, without a pointer.
    assert_eq!(size_of::<<est::PeerVerifier as dtls::VerifyPeer>::Peer>(), 32);
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
fn a_block_of_ca_certificates_or_csr_attributes_allocates_nothing() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let block2 = |num| Some(coap::Block { num, more: false, size: coap::BlockSize::B64 });
    for path in ["est/crts", "est/att"] {
        let ask = |num| Ask { method: GET, path, block2: block2(num), ..Ask::default() };
        for _ in 0..4 {
            let message = raw.message(&ask(0));
            allocations(&mut world, &mut raw, &message);
        }
        // A later block, which belongs to no new attempt, and a ping's worth of state: none. The session is idle before and after.
        let message = raw.message(&ask(1));
        assert_eq!(allocations(&mut world, &mut raw, &message), 0, "{path}");
    }
}

#[test]
fn an_enrolment_leaves_nothing_of_its_work_behind() {
    // Of the devices that enrolled within EXCHANGE_LIFETIME, each session remembers the answer. What the enrolment needed while it lasted is used
    // again by the next one.
    const SESSIONS: u16 = 64;
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut sessions: Vec<Raw> = (0..SESSIONS).map(|port| Raw::connect(&mut world, port + 1, &holder)).collect();
    let refused = |world: &mut World, raw: &mut Raw| {
        let said = raw.ask(world, &Ask { payload: b"no CSR", content_format: Some(286), ..ask_enrolment() });
        assert_eq!(said.code, coap::Code::BAD_REQUEST);
        world.attempts = Vec::new();
    };
    sessions[..8].iter_mut().for_each(|raw| refused(&mut world, raw));
    let held = allocation_counter::measure(|| sessions[8..].iter_mut().for_each(|raw| refused(&mut world, raw)));
    let each = held.bytes_current / i64::from(SESSIONS - 8);
    println!("a session that remembers a refusal: {each} bytes");
    assert!(each <= 640, "{each}");
}

/// Fills what a session stores about its requests: an answer, an unfinished upload, the messages themselves.
fn use_session(world: &mut World, raw: &mut Raw) {
    let said = raw.ask(world, &Ask { payload: b"no CSR", content_format: Some(286), ..ask_enrolment() });
    assert_eq!(said.code, coap::Code::BAD_REQUEST);
    let block1 = Some(coap::Block { num: 0, more: true, size: coap::BlockSize::B64 });
    let said = raw.ask(world, &Ask { payload: &[7; 64], content_format: Some(286), block1, ..ask_enrolment() });
    assert_eq!(said.code, coap::Code::CONTINUE);
    world.attempts = Vec::new();
}

fn ask_enrolment() -> Ask<'static> {
    Ask { method: support::raw::POST, path: "est/sen", ..Ask::default() }
}

fn pass(world: &mut World, time: std::time::Duration) {
    world.now.mono += time;
    world.server.handle_timeout(world.now);
    while world.server.poll_transmit().is_some() {}
    while world.server.poll_output().is_some() {}
}

#[test]
fn c48_a_session_that_stays_open_costs_what_an_idle_one_costs_after_247_seconds() {
    const SESSIONS: u16 = 32;
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut sessions: Vec<Raw> = (0..SESSIONS).map(|port| Raw::connect(&mut world, port + 1, &holder)).collect();
    // One round first, so that the buffers of the devices and the shard's shared state exist.
    sessions.iter_mut().for_each(|raw| use_session(&mut world, raw));
    pass(&mut world, coap::EXCHANGE_LIFETIME);
    let mut remembered = 0;
    let used = allocation_counter::measure(|| {
        let busy = allocation_counter::measure(|| sessions.iter_mut().for_each(|raw| use_session(&mut world, raw)));
        remembered = busy.bytes_current;
        pass(&mut world, coap::EXCHANGE_LIFETIME);
    });
    assert!(remembered > 500 * i64::from(SESSIONS), "they remember something: {remembered} bytes");
    assert!(used.bytes_current <= 1_024, "{} bytes of {SESSIONS} sessions stay", used.bytes_current);
    assert_eq!(world.server.counters().sessions.unwrap().established, usize::from(SESSIONS));
}
