//! Code that must not allocate does not allocate. What a promise is about is printed too, for `cargo xtask bench counts`.

use dtls::{Event, HandshakeRefusal, PublicKeySteps, SessionCounts, Suite};

use crate::support;
use crate::support::forge::{APPLICATION_DATA, HANDSHAKE, Piece, Raw};
use crate::support::script::{Hello, Script};
use crate::support::{Clock, Pair, World};

#[test]
fn d31_a_million_spoofed_sources_allocate_nothing_and_leave_no_entry() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    let original = script.hello.datagram(0, 0);
    script.give(&original);
    let now = script.clock.now();
    let mut datagram = original.clone();
    let mut path = script.path;
    let endpoint = &mut script.endpoint;
    let counted = allocation_counter::measure(|| {
        for source in 0..1_000_000_u32 {
            path.peer.set_ip(std::net::IpAddr::V4(source.into()));
            datagram.copy_from_slice(&original);
            endpoint.handle_datagram(now, path, &mut datagram);
            assert!(endpoint.poll_transmit().is_some());
        }
    });
    counted_for_a_promise("allocations_of_a_million_cookieless_hellos", counted.count_total);
    let SessionCounts { established, half_open } = script.endpoint.counts();
    let [timers, events] = [script.endpoint.poll_timeout().is_some(), script.endpoint.poll_event().is_some()];
    let entries = established + half_open + usize::from(timers) + usize::from(events);
    counted_for_a_promise("entries_of_a_million_cookieless_hellos", entries.try_into().unwrap());
    assert_eq!(counted.count_total, 0);
    assert_eq!(entries, 0, "{established} sessions, {half_open} handshakes, a timer {timers}, an event {events}");
}

/// Prints a line that `cargo xtask bench counts` reads from the output of this test.
#[allow(clippy::print_stdout, reason = "a figure for a run file")]
fn counted_for_a_promise(name: &str, count: u64) {
    println!("counted {name} {count}");
}

#[test]
fn an_established_session_allocates_nothing_per_datagram() {
    let mut all = 0;
    for suite in [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128Ccm, Suite::EcdheEcdsaAes128GcmSha256] {
        let world = World::new();
        let clock = Clock::new();
        let endpoint = world.endpoint_with(|config| config.suites = vec![suite]);
        let mut pair = Pair::of(endpoint, world.client_with(&clock, |config| config.suites = vec![suite]), clock);
        pair.run();
        pair.assert_alive();
        let (now, path, session) = (pair.clock.now(), pair.path, pair.session());
        let (endpoint, client) = (&mut pair.endpoint, &mut pair.client);
        let mut wire = vec![0; 2_048];
        let mut round = || {
            client.send(now, &[7; 500]).unwrap();
            let datagram = client.poll_transmit().unwrap();
            let length = datagram.len();
            wire[..length].copy_from_slice(datagram);
            endpoint.handle_datagram(now, path, &mut wire[..length]);
            let Some(Event::Data { plaintext, .. }) = endpoint.poll_event() else { panic!("no data") };
            endpoint.send(now, session, &wire[plaintext]).unwrap();
            let answer = endpoint.poll_transmit().unwrap().bytes;
            let length = answer.len();
            wire[..length].copy_from_slice(answer);
            client.handle_datagram(now, &mut wire[..length]);
            assert!(client.poll_event().is_some());
            assert!(endpoint.poll_timeout().is_some());
        };
        round();
        let counted = allocation_counter::measure(|| (0..100).for_each(|_| round()));
        all += counted.count_total;
        assert_eq!(counted.count_total, 0, "{suite:?}");
    }
    counted_for_a_promise("allocations_of_600_datagrams_of_established_sessions", all);
}

#[test]
fn d03_d09_forged_records_and_future_epochs_allocate_nothing() {
    let mut pair = Pair::established(&World::new());
    let (now, path) = (pair.clock.now(), pair.path);
    let endpoint = &mut pair.endpoint;
    let forged = Raw::new(APPLICATION_DATA, 1, 500, &[7; 60]).bytes();
    let mut datagram = forged.clone();
    let counted = allocation_counter::measure(|| {
        for epoch in 1..=u8::MAX {
            datagram.copy_from_slice(&forged);
            datagram[4] = epoch;
            endpoint.handle_datagram(now, path, &mut datagram);
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn d22_empty_fragments_allocate_nothing() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let empty = Piece { length: 100, ..Piece::whole(11, 2, &[]) };
    let original = Raw::new(HANDSHAKE, 0, 9, &empty.bytes()).bytes();
    let (now, path, mut datagram) = (script.clock.now(), script.path, original.clone());
    let endpoint = &mut script.endpoint;
    let counted = allocation_counter::measure(|| {
        for _ in 0..100_000 {
            endpoint.handle_datagram(now, path, &mut datagram);
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn d27_a_handshake_costs_little_and_all_of_it_is_freed() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    // A second peer on warm buffers: after its handshake only its slot remains, which the slab had already.
    script.path = support::path(50_001);
    script.message_seq = 0;
    script.record_sequence = 0;
    script.transcript.clear();
    script.hello.cookie.clear();
    script.hello.random = [9; 32];
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    let (now, path) = (script.clock.now(), script.path);
    let mut kept = 0;
    let endpoint = &mut script.endpoint;
    let mut datagram = hello.clone();
    let mut answer = Vec::with_capacity(2_000);
    let half_open = allocation_counter::measure(|| endpoint.handle_datagram(now, path, &mut datagram));
    kept += half_open.bytes_current;
    assert!((1..4_096).contains(&half_open.bytes_current), "{half_open:?}");
    while let Some(transmit) = script.endpoint.poll_transmit() {
        answer.extend_from_slice(transmit.bytes);
    }
    script.message_seq = 2;
    script.record_sequence = 2;
    script.transcript.extend(Piece::whole(1, 1, &script.hello.body()).bytes());
    script.read_answer(&answer);
    let flight = script.honest_flight();
    let endpoint = &mut script.endpoint;
    // Each record in a datagram of its own, as small devices send them: what is held in between is what many handshakes hold at a time.
    let (mut most, mut peak) = (kept, half_open.bytes_max);
    for mut record in records(&flight) {
        let step = allocation_counter::measure(|| endpoint.handle_datagram(now, path, &mut record));
        peak = peak.max(u64::try_from(kept).unwrap() + step.bytes_max);
        kept += step.bytes_current;
        most = most.max(kept);
    }
    counted_for_a_promise("handshake_bytes_between_datagrams", u64::try_from(most).unwrap());
    counted_for_a_promise("handshake_bytes_within_a_datagram", peak);
    assert!((1..=4 * 1_024).contains(&most), "{most}");
    assert_eq!(script.endpoint.counts().established, 2);
    // The verifier of these tests keeps a copy of the leaf; the engine keeps the first four cells of one segment of its index.
    let of_the_verifier = i64::try_from(world.client.chain()[0].len() + size_of::<Vec<u8>>() + 16 + 4 * 8).unwrap();
    assert!(kept <= of_the_verifier, "{kept} bytes stay");
    assert!(peak < 48 * 1_024, "{peak}");
}

/// The records of a datagram.
fn records(mut datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !datagram.is_empty() {
        let (record, rest) = datagram.split_at(13 + usize::from(u16::from_be_bytes([datagram[11], datagram[12]])));
        records.push(record.to_vec());
        datagram = rest;
    }
    records
}

#[test]
fn the_worst_that_a_proven_peer_can_make_a_handshake_hold_is_bounded() {
    let world = World::new();
    // A second peer on warm buffers, with the longest hello.
    let mut script = Script::begin(&world, Hello::default());
    script.path = support::path(50_001);
    script.message_seq = 0;
    script.record_sequence = 0;
    script.hello = Hello { random: [9; 32], ..Hello::default() }.with(21, &[0; 3_900]);
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    let (now, path, endpoint) = (script.clock.now(), script.path, &mut script.endpoint);
    // The largest certificate, then everything that the window accepts, in small fragments.
    let largest = 16 * 1_024;
    let certificate = [&[0, 0x3F, 0xFD][..], &[0, 0x3F, 0xFA], &vec![7; largest - 6]].concat();
    let mut attack = Piece::whole(11, 2, &certificate).fragments(200);
    for seq in 4..18 {
        attack.extend(Piece { length: 16_000, ..Piece::whole(15, seq, &vec![7; 15_999]) }.fragments(200));
    }
    let datagrams: Vec<Vec<u8>> =
        attack.iter().map(|piece| Raw::new(HANDSHAKE, 0, 9, &piece.bytes()).bytes()).collect();
    let mut buffer = Vec::with_capacity(8_192);
    let counted = allocation_counter::measure(|| {
        for datagram in std::iter::once(&hello).chain(&datagrams) {
            buffer.clear();
            buffer.extend_from_slice(datagram);
            endpoint.handle_datagram(now, path, &mut buffer);
        }
    });
    assert_eq!(endpoint.counts().half_open, 2);
    counted_for_a_promise("handshake_bytes_at_worst", u64::try_from(counted.bytes_current).unwrap());
    assert!((32 * 1_024..48 * 1_024).contains(&counted.bytes_current), "{counted:?}");
}

/// Bytes that a handshake holds after a signature of this length and everything else that its peer can send while the pool is
/// busy.
fn suspended_with(signature_bytes: usize) -> (allocation_counter::AllocationInfo, Script) {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.public_key_steps = PublicKeySteps::Suspended);
    // A first handshake warms the buffers.
    let mut script = Script::unbegun(&world, endpoint, Hello::default());
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    script.give(&hello);
    assert!(script.endpoint.poll_public_key_job().is_some());
    script.path = support::path(50_001);
    script.message_seq = 0;
    script.hello = Hello { random: [9; 32], ..Hello::default() }.with(21, &[0; 3_900]);
    script.fetch_cookie();
    let hello = script.hello.datagram(1, 1);
    // The largest certificate, a key share, a signature, then everything that the window accepts.
    let certificate = [&[0, 0x3F, 0xFD][..], &[0, 0x3F, 0xFA], &vec![7; 16 * 1_024 - 6]].concat();
    let length = u16::try_from(signature_bytes).unwrap().to_be_bytes();
    let signature = [&[4, 3][..], &length, &vec![7; signature_bytes]].concat();
    let mut attack = Piece::whole(11, 2, &certificate).fragments(200);
    attack.push(Piece::whole(16, 3, &[1, 4]));
    attack.extend(Piece::whole(15, 4, &signature).fragments(200));
    for seq in 5..20 {
        attack.extend(Piece { length: 16_000, ..Piece::whole(15, seq, &vec![7; 15_999]) }.fragments(200));
    }
    let datagrams: Vec<Vec<u8>> =
        attack.iter().map(|piece| Raw::new(HANDSHAKE, 0, 9, &piece.bytes()).bytes()).collect();
    let (now, path, endpoint) = (script.clock.now(), script.path, &mut script.endpoint);
    let mut buffer = Vec::with_capacity(8_192);
    let counted = allocation_counter::measure(|| {
        buffer.clear();
        buffer.extend_from_slice(&hello);
        endpoint.handle_datagram(now, path, &mut buffer);
        let exchange = endpoint.poll_public_key_job().unwrap();
        endpoint.complete_public_key_job(now, exchange.run());
        while endpoint.poll_transmit().is_some() {}
        for datagram in &datagrams {
            buffer.clear();
            buffer.extend_from_slice(datagram);
            endpoint.handle_datagram(now, path, &mut buffer);
        }
    });
    (counted, script)
}

#[test]
fn the_worst_that_a_handshake_can_hold_while_its_peer_waits_to_be_judged_is_bounded_as_well() {
    let (counted, mut script) = suspended_with(104);
    assert!(script.endpoint.poll_public_key_job().is_some(), "it waits to be judged");
    counted_for_a_promise("handshake_bytes_at_worst_in_the_pool", u64::try_from(counted.bytes_current).unwrap());
    assert!((32 * 1_024..48 * 1_024).contains(&counted.bytes_current), "{counted:?}");
    // Bytes longer than any signature cannot be one, and no time is spent on verifying them.
    for length in [105, 16 * 1_024 - 4] {
        let (counted, mut script) = suspended_with(length);
        assert!(script.endpoint.poll_public_key_job().is_none(), "{length}");
        assert!(counted.bytes_current < 2_560, "{counted:?}");
        script.events.extend(std::iter::from_fn(|| script.endpoint.poll_event()));
        assert_eq!(script.refusal(), Some(HandshakeRefusal::Certificate(dtls::CertificateFault::UnknownIssuer)));
    }
}
