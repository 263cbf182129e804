//! Until a cookie has been returned there is no state, no signature and no answer longer than the hello.

use std::time::Duration;

use dtls::{CookieKeys, DropReason, Endpoint, Event, HandshakeRefusal};

use crate::support::forge::{HANDSHAKE, Piece, Raw, datagram, records};
use crate::support::script::{Hello, Script};
use crate::support::{Known, Pair, World, path};

fn is_verify_request(answers: &[Vec<u8>]) -> bool {
    answers.len() == 1 && records(&answers[0])[0].handshake_type() == Some(3)
}

fn nothing_kept(endpoint: &Endpoint<Known>) -> bool {
    let counts = endpoint.counts();
    counts.half_open == 0 && counts.established == 0 && endpoint.poll_timeout().is_none()
}

#[test]
fn d31_the_answer_to_a_hello_without_cookie_is_not_longer_and_keeps_nothing() {
    let world = World::new();
    // The smallest possible whole hello.
    let hello = Hello { extensions: None, ..Hello::default() };
    let mut script = Script::unbegun(&world, world.endpoint(), hello);
    let datagram = script.hello.datagram(0, 0);
    let answers = script.give(&datagram);
    assert!(is_verify_request(&answers));
    assert!(answers[0].len() <= datagram.len(), "{} for {}", answers[0].len(), datagram.len());
    assert!(nothing_kept(&script.endpoint));
}

#[test]
fn d32_a_cookie_from_another_address_or_for_another_hello_counts_as_none() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    script.fetch_cookie();
    let datagram = script.hello.datagram(1, 1);
    let here = script.path;
    let path = here;
    let mut other_port = path;
    other_port.peer.set_port(1);
    let mut other_ip = path;
    other_ip.peer.set_ip(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));
    for elsewhere in [other_port, other_ip] {
        script.path = elsewhere;
        assert!(is_verify_request(&script.give(&datagram)));
        assert!(nothing_kept(&script.endpoint));
    }
    script.path = here;
    assert!(!is_verify_request(&script.give(&datagram)));
    assert_eq!(script.endpoint.counts().half_open, 1);
}

#[test]
fn d39_a_hello_that_changes_its_parameters_after_the_cookie_gets_another_one() {
    let world = World::new();
    let changes: [fn(&mut Hello); 5] = [
        |hello| hello.suites.insert(0, 0xC0AE),
        |hello| hello.random[31] ^= 1,
        |hello| hello.session_id = vec![9; 32],
        |hello| hello.compression = vec![1, 0],
        |hello| hello.version = 0xFEFC,
    ];
    for change in changes {
        let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
        script.fetch_cookie();
        let mut changed = script.hello.clone();
        change(&mut changed);
        let datagram = changed.datagram(1, 1);
        assert!(is_verify_request(&script.give(&datagram)));
        assert!(nothing_kept(&script.endpoint));
    }
}

#[test]
fn d33_neither_a_bad_version_nor_an_unreadable_hello_skips_the_cookie() {
    let world = World::new();
    for version in [0xFEFF, 0x0303, 0x0000, 0xFFFF, 0xFEFC] {
        let hello = Hello { version, ..Hello::default() };
        let mut script = Script::unbegun(&world, world.endpoint(), hello.clone());
        let answers = script.give(&hello.datagram(0, 0));
        assert!(is_verify_request(&answers));
        assert!(nothing_kept(&script.endpoint));
    }
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    let body = Hello::default().body();
    for end in 0..body.len() {
        let cut = Raw::new(HANDSHAKE, 0, 0, &Piece::whole(1, 0, &body[..end]).bytes()).bytes();
        let answers = script.give(&cut);
        assert!(answers.is_empty() || is_verify_request(&answers));
        assert!(nothing_kept(&script.endpoint));
    }
}

#[test]
fn the_version_is_refused_once_the_address_is_proven() {
    let world = World::new();
    for version in [0xFEFF, 0x0303, 0x0000, 0xFFFF] {
        let script = Script::begin(&world, Hello { version, ..Hello::default() });
        assert_eq!(script.refusal(), Some(HandshakeRefusal::Version { offered: version }));
        assert_eq!(script.alerts(), [[2, 70]]);
    }
}

#[test]
fn d34_cookies_of_any_length_are_answered_with_a_cookie() {
    let world = World::new();
    for length in [0, 1, 16, 17, 18, 32, 255] {
        let hello = Hello { cookie: vec![0xA5; length], ..Hello::default() };
        let mut script = Script::unbegun(&world, world.endpoint(), hello.clone());
        assert!(is_verify_request(&script.give(&hello.datagram(0, 0))));
        assert!(nothing_kept(&script.endpoint));
    }
}

#[test]
fn d35_a_cookie_lives_through_the_next_period_and_no_longer() {
    let world = World::new();
    for (later, accepted) in [(0, true), (59, true), (119, true), (121, false), (60 * 256, false), (60 * 257, false)] {
        let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
        script.fetch_cookie();
        script.clock.elapsed = Duration::from_secs(later);
        let datagram = script.hello.datagram(1, 1);
        let answers = script.give(&datagram);
        assert_eq!(!is_verify_request(&answers), accepted, "{later} s");
    }
}

#[test]
fn nodes_that_share_a_secret_accept_one_anothers_cookies() {
    let world = World::new();
    let keys = || CookieKeys::shared([42; 32], Duration::from_secs(60));
    let mut one = Script::unbegun(&world, world.endpoint_with(|config| config.cookie = keys()), Hello::default());
    one.fetch_cookie();
    one.endpoint = world.endpoint_with(|config| config.cookie = keys());
    one.send_hello();
    let flight = one.honest_flight();
    one.give(&flight);
    assert!(one.is_established());
    let stranger = CookieKeys::shared([43; 32], Duration::from_secs(60));
    one.endpoint = world.endpoint_with(|config| config.cookie = stranger);
    let datagram = one.hello.datagram(1, 1);
    assert!(is_verify_request(&one.give(&datagram)));
}

#[test]
fn d37_a_fragmented_hello_completes_and_its_first_fragment_alone_earns_the_slot() {
    let world = World::new();
    for size in [40, 64, 70] {
        let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
        let whole = |script: &Script| Piece::whole(1, script.message_seq, &script.hello.body());
        // The first hello: the fragment with all parameters is answered, the others leave no state behind.
        for (n, piece) in whole(&script).fragments(size).into_iter().enumerate() {
            let record = Raw::new(HANDSHAKE, 0, u64::try_from(n).unwrap(), &piece.bytes());
            let answers = script.give(&record.bytes());
            assert_eq!(is_verify_request(&answers), n == 0, "fragment {n} of {size}");
            assert!(nothing_kept(&script.endpoint));
        }
        let answer = script.answers[0].clone();
        script.hello.cookie = Piece::parse(&records(&answer)[0].payload).body[3..].to_vec();
        script.message_seq = 1;
        let piece = whole(&script);
        script.transcript.extend(piece.bytes());
        script.message_seq = 2;
        script.record_sequence = 20;
        let fragments = piece.fragments(size.max(70));
        assert!(fragments.len() > 1);
        let last = fragments.len() - 1;
        for (n, piece) in fragments.iter().enumerate() {
            let record = script.plain(HANDSHAKE, &piece.bytes());
            let answers = script.give(&record.bytes());
            assert_eq!(script.endpoint.counts().half_open, 1);
            assert_eq!(answers.is_empty(), n < last);
        }
        let answers = std::mem::take(&mut script.answers);
        for answer in &answers[1..] {
            script.read_answer(answer);
        }
        let flight = script.honest_flight();
        script.give(&flight);
        assert!(script.is_established(), "{:?}", script.events);
    }
}

#[test]
fn d38_a_lost_hello_verify_request_is_sent_again_with_the_sequence_of_the_hello() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    for sequence in [0, 1, 7, (1 << 48) - 1] {
        let hello = script.hello.datagram(0, sequence);
        let answers = script.give(&hello);
        assert!(is_verify_request(&answers));
        assert_eq!(records(&answers[0])[0].sequence, sequence);
        assert_eq!(records(&answers[0])[0].version, 0xFEFF);
    }
    // The first record of the answer to the hello with a cookie continues from there too.
    script.fetch_cookie();
    script.record_sequence = 9;
    script.send_hello();
    assert_eq!(records(script.answers.last().unwrap())[0].sequence, 9);
    assert_eq!(Piece::parse(&records(script.answers.last().unwrap())[0].payload).message_seq, 1);
}

#[test]
fn d40_a_flood_of_hellos_from_one_address_leaves_other_sessions_alone() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let hello = Hello::default();
    for n in 0..10_000_u32 {
        let mut random = [7; 32];
        random[..4].copy_from_slice(&n.to_be_bytes());
        let datagram = Hello { random, ..hello.clone() }.datagram(0, u64::from(n));
        pair.give_server_from(path(9), &datagram);
    }
    assert_eq!(pair.endpoint.counts().half_open, 0);
    pair.assert_alive();
}

#[test]
fn d43_a_hello_with_a_valid_cookie_replayed_a_thousand_times_is_one_handshake() {
    let world = World::new();
    let mut script = Script::unbegun(
        &world,
        world.endpoint_with(|config| {
            config.public_key_steps = dtls::PublicKeySteps::Suspended;
        }),
        Hello::default(),
    );
    script.fetch_cookie();
    let datagram = script.hello.datagram(1, 1);
    let mut signatures = 0;
    let mut bytes = 0;
    for _ in 0..1_000 {
        script.give(&datagram);
        while let Some(job) = script.endpoint.poll_public_key_job() {
            signatures += 1;
            script.endpoint.complete_public_key_job(script.clock.now(), job.run());
        }
        while let Some(transmit) = script.endpoint.poll_transmit() {
            bytes += transmit.bytes.len();
        }
        script.clock.elapsed += Duration::from_millis(1);
    }
    bytes += script.answers[1..].iter().map(Vec::len).sum::<usize>();
    assert_eq!(signatures, 1);
    assert_eq!(script.endpoint.counts().half_open, 1);
    // D42: the server sends far less than it receives.
    assert!(bytes < 3 * 1_000 * datagram.len() && bytes < 3_000, "{bytes}");
}

#[test]
fn d43_a_late_copy_of_the_hello_does_not_disturb_the_session_it_began() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let hello = script.hello.datagram(1, 1);
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    assert!(script.give(&hello).is_empty());
    assert_eq!(script.endpoint.counts().half_open, 0);
    assert_eq!(script.endpoint.drops().count(DropReason::Repeated), 1);
}

#[test]
fn nothing_is_begun_while_draining_and_what_is_begun_goes_on() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    script.endpoint.refuse_new(script.clock.now(), dtls::Admission::Draining);
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    script.path = path(50_001);
    assert!(script.give(&Hello::default().datagram(0, 0)).is_empty());
    assert_eq!(script.endpoint.drops().count(DropReason::Draining), 1);
    assert!(script.events.iter().all(|event| !matches!(event, Event::Refused { .. })));
}

#[test]
fn d42_an_unverified_address_gets_no_more_than_it_sent_whatever_time_passes() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello { extensions: None, ..Hello::default() });
    let (mut sent, mut received) = (0, 0);
    for n in 0..100 {
        // A whole hello, and as many as fit one datagram.
        let hello = script.hello.datagram(0, n).repeat(usize::try_from(n % 5 + 1).unwrap());
        sent += hello.len();
        received += script.give(&hello).iter().map(Vec::len).sum::<usize>();
        script.clock.elapsed += Duration::from_secs(1);
        script.endpoint.handle_timeout(script.clock.now());
        while let Some(transmit) = script.endpoint.poll_transmit() {
            received += transmit.bytes.len();
        }
    }
    assert!(received <= sent, "{received} for {sent}");
}

#[test]
fn d42_many_hellos_in_one_datagram_get_one_answer() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    // The smallest piece that is answered: it ends with an empty cookie. One record header serves all of them.
    let body = script.hello.body();
    let piece = Piece { length: 100, ..Piece::whole(1, 0, &body[..36]) }.bytes();
    for count in [1, 2, 20, 300] {
        let in_one_record = Raw::new(HANDSHAKE, 0, 0, &piece.repeat(count)).bytes();
        let in_one_each = Raw::new(HANDSHAKE, 0, 0, &piece).bytes().repeat(count);
        for datagram in [in_one_record, in_one_each] {
            let answers = script.give(&datagram);
            assert!(is_verify_request(&answers), "{} answers to {count} in one", answers.len());
            assert!(answers[0].len() <= datagram.len());
        }
    }
    assert!(nothing_kept(&script.endpoint));
    assert_eq!(script.endpoint.drops().count(DropReason::Repeated), 2 * (1 + 19 + 299));
}

#[test]
fn d43_hellos_with_valid_cookies_in_one_datagram_begin_one_handshake() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    let mut datagram = Vec::new();
    for n in 0..10 {
        script.hello = Hello { random: [n; 32], ..Hello::default() };
        script.message_seq = 0;
        script.fetch_cookie();
        datagram.extend(script.hello.datagram(1, u64::from(n)));
    }
    script.give(&datagram);
    assert_eq!(script.endpoint.counts().half_open, 1);
    assert!(script.events.is_empty(), "no handshake was begun and given up: {:?}", script.events);
}

#[test]
fn a_new_cookie_secret_strands_no_handshake_in_progress() {
    let world = World::new();
    let mut pair = Pair::half_open(&world);
    let mut config = world.server_config();
    config.cookie = CookieKeys::shared([43; 32], Duration::from_secs(60));
    pair.endpoint.set_config(std::sync::Arc::new(config));
    // The flight is lost, and so is its repetition; the repeated hello has a cookie of the old secret.
    pair.to_client.clear();
    pair.tick();
    pair.to_client.clear();
    pair.clock.elapsed += Duration::from_millis(600);
    pair.run();
    assert!(pair.is_established(), "{:?} {:?}", pair.server_events, pair.endpoint.drops());
    assert!(pair.clock.elapsed < Duration::from_secs(2));
}

#[test]
fn engines_may_move_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Endpoint<Known>>();
    is_send::<dtls::Client<Known>>();
    is_send::<dtls::PublicKeyJob<Known>>();
    is_send::<dtls::PublicKeyDone<Known>>();
}

#[test]
fn d36_d60_an_offer_to_resume_needs_the_cookie_and_gets_a_full_handshake() {
    let world = World::new();
    let offer = || Hello { session_id: vec![7; 32], ..Hello::default() }.with(35, &[9; 100]);
    // The hello as it was, but for another server name, and with other suites besides ours.
    let other_name = offer().with(0, &[0, 8, 0, 0, 5, b'o', b't', b'h', b'e', b'r']);
    for hello in [offer(), other_name, Hello { suites: vec![0xC02C, 0xC0AE, 0xC02B], ..offer() }] {
        let mut script = Script::unbegun(&world, world.endpoint(), hello);
        let first = script.hello.datagram(0, 0);
        assert!(is_verify_request(&script.give(&first)));
        assert!(nothing_kept(&script.endpoint));
        script.fetch_cookie();
        script.send_hello();
        let kinds: Vec<_> = records(script.answers.last().unwrap()).iter().filter_map(Raw::handshake_type).collect();
        assert_eq!(kinds, [2, 11, 12, 13, 14], "with a certificate and a request for one");
        let flight = script.honest_flight();
        script.give(&flight);
        assert!(script.is_established());
    }
    // A client that sends no certificate now counts as having sent none, whatever its previous session had.
    let mut script = Script::begin(&world, offer());
    let mut bare = datagram(&[script.key_exchange(), script.change_cipher_spec()]);
    bare.extend(script.finished());
    script.give(&bare);
    assert!(!script.is_established() && script.refusal().is_some());
}
