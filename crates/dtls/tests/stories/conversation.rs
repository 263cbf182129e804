//! How a handshake and a session handle records and hellos that do not belong: forged, early, too long, of another version.

use std::sync::Arc;
use std::time::Duration;

use dtls::{
    AlertDescription, ClientEvent, Closed, Direction, DropReason, Event, FragmentLength, HandshakeRefusal, RecordLimit,
};

use crate::support;
use crate::support::forge::{
    ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, Forger, HANDSHAKE, Piece, Raw, datagram, records,
};
use crate::support::script::{Hello, Script};
use crate::support::{Notebook, Pair, Way, World};

/// Records of epoch 1 that arrive before an honest client's Finished.
fn forged_finished(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| Raw::new(HANDSHAKE, 1, 0, &[n; 48]).bytes()).collect()
}

/// The whole flight of a client but the Finished, which is sent separately.
fn flight_without_finished(script: &mut Script) -> Vec<u8> {
    let parts = [script.certificate(), script.key_exchange(), script.certificate_verify(), script.change_cipher_spec()];
    datagram(&parts)
}

#[test]
fn d91_forged_records_before_the_keys_do_not_displace_the_true_finished() {
    let world = World::new();
    for forged in [0, 1, 7] {
        let mut script = Script::begin(&world, Hello::default());
        for record in forged_finished(forged) {
            script.give(&record);
        }
        // The genuine Finished overtakes the messages before it, too.
        let rest = flight_without_finished(&mut script);
        let finished = script.finished();
        script.give(&finished);
        script.give(&rest);
        assert!(script.is_established(), "{forged} forged: {:?} {:?}", script.events, script.endpoint.drops());
        assert_eq!(script.endpoint.drops().count(DropReason::BadRecord), u64::from(forged));
    }
}

#[test]
fn d91_beyond_the_bound_the_retransmission_recovers() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    for record in forged_finished(100) {
        script.give(&record);
    }
    let rest = flight_without_finished(&mut script);
    let finished = script.finished();
    script.give(&finished);
    script.give(&rest);
    assert!(!script.is_established(), "there was no room for it");
    assert_eq!(script.endpoint.drops().count(DropReason::EarlyRecord), 92 + 1);
    let again = script.forger().seal(HANDSHAKE, 1, &script.finished_piece().bytes());
    script.give(&again);
    assert!(script.is_established(), "{:?}", script.events);
}

#[test]
fn d95_a_change_cipher_spec_before_its_time_does_not_make_alerts_unheard() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    // Despite the forgery, the client's own alert still counts: it has not seen our Finished, and we do not
    // have its keys.
    script.give(&Raw::new(CHANGE_CIPHER_SPEC, 0, 90, &[1]).bytes());
    let alert = script.plain(ALERT, &[2, 42]);
    script.give(&alert.bytes());
    assert_eq!(script.refusal(), Some(HandshakeRefusal::AlertReceived(AlertDescription::BAD_CERTIFICATE)));
    // Once the ChangeCipherSpec was expected, a plaintext alert is not from the peer.
    let mut script = Script::begin(&world, Hello::default());
    let rest = flight_without_finished(&mut script);
    script.give(&rest);
    let alert = script.plain(ALERT, &[2, 42]);
    script.give(&alert.bytes());
    assert_eq!(script.endpoint.drops().count(DropReason::AlertUnprotected), 1);
    let finished = script.finished();
    script.give(&finished);
    assert!(script.is_established());
}

#[test]
fn d96_a_flight_that_cannot_be_sent_ends_its_handshake_at_once() {
    let world = World::new();
    for left in [0, 2] {
        let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
        script.fetch_cookie();
        // Our numbers continue those of the hello: one for the hello, and five for the messages of the
        // ServerHello's flight.
        script.record_sequence = (1 << 48) - 1 - left;
        let hello = script.hello.datagram(script.message_seq, script.record_sequence);
        script.give(&hello);
        assert_eq!(script.refusal(), Some(HandshakeRefusal::SequenceExhausted), "{left} left");
        assert_eq!(script.endpoint.counts().half_open, 0);
        assert!(script.endpoint.poll_timeout().is_none());
    }
    // Enough numbers for the flight once, not for its repetition.
    let mut script = Script::unbegun(&world, world.endpoint(), Hello::default());
    script.fetch_cookie();
    script.record_sequence = (1 << 48) - 1 - 5;
    script.send_hello();
    assert_eq!((script.refusal(), script.endpoint.counts().half_open), (None, 1));
    script.clock.advance_to(script.endpoint.poll_timeout().unwrap());
    script.endpoint.handle_timeout(script.clock.now());
    script.events.extend(std::iter::from_fn(|| script.endpoint.poll_event()));
    assert_eq!(script.refusal(), Some(HandshakeRefusal::SequenceExhausted));
    assert_eq!(script.endpoint.counts().half_open, 0);
    assert!(script.endpoint.poll_timeout().is_none());
}

/// Gives the client the server's first flight with one more extension in the ServerHello.
pub(crate) fn with_extension(mut pair: Pair, kind: u16, content: &[u8]) -> Pair {
    while !pair.to_client.iter().flat_map(|bytes| records(bytes)).any(|record| record.handshake_type() == Some(2)) {
        assert!(pair.step());
    }
    for bytes in std::mem::take(&mut pair.to_client) {
        let mut all = records(&bytes);
        for record in &mut all {
            if record.handshake_type() == Some(2) {
                let piece = Piece::parse(&record.payload);
                // version, random, an empty session_id, suite, compression; then the extensions with their length.
                let (head, extensions) = (&piece.body[..38], &piece.body[40..]);
                let more =
                    [&kind.to_be_bytes()[..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat();
                let all = [extensions, &more].concat();
                let body = [head, &u16::try_from(all.len()).unwrap().to_be_bytes(), &all].concat();
                record.payload = Piece::whole(2, piece.message_seq, &body).bytes();
            }
        }
        pair.give_client(&datagram(&all));
    }
    pair
}

#[test]
fn d98_an_answer_to_an_extension_that_was_not_offered_ends_the_clients_handshake() {
    let world = World::new();
    // server_name, max_fragment_length, trusted_ca_keys, ALPN, client_certificate_type, encrypt_then_mac, session_ticket, an unknown one.
    for (kind, content) in [
        (0, &[][..]),
        (1, &[1]),
        (3, &[]),
        (16, &[0, 2, 1, 104]),
        (19, &[0]),
        (22, &[]),
        (28, &[64, 0]),
        (35, &[]),
        (0xFAFA, &[1]),
    ] {
        let pair = with_extension(Pair::new(&world), kind, content);
        assert_eq!(pair.client_refusal(), HandshakeRefusal::UnsupportedExtension { extension: kind });
        let alert = pair.sent.iter().rev().find(|(way, _)| *way == Way::ToServer).unwrap();
        assert_eq!(records(&alert.1)[0].payload, [2, 110]);
    }
}

fn with_fragment_length(world: &World) -> Script {
    Script::begin(world, Hello::default().with(1, &[1]))
}

#[test]
fn d99_a_record_beyond_the_agreed_length_is_dropped_in_silence_unless_it_is_the_peers() {
    let world = World::new();
    // Anybody could have written it in plaintext.
    let mut script = with_fragment_length(&world);
    let long = script.plain(HANDSHAKE, &Piece::whole(11, script.message_seq, &[7; 600]).bytes());
    assert!(script.give(&long.bytes()).is_empty());
    assert_eq!(script.endpoint.drops().count(DropReason::RecordOversize), 1);
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{:?}", script.events);
    // Protected, but under other keys.
    let forged = Raw::new(APPLICATION_DATA, 1, 5, &[9; 600]).bytes();
    assert!(script.give(&forged).is_empty());
    assert!(script.is_established());
    let fits = script.forger().seal(APPLICATION_DATA, 6, &[7; 512]);
    script.give(&fits);
    assert!(matches!(script.events.last(), Some(Event::Data { .. })));
    let long = script.forger().seal(APPLICATION_DATA, 7, &[7; 513]);
    let answers = script.give(&long);
    assert_eq!(records(&answers[0])[0].content_type, ALERT);
    assert!(
        matches!(script.events.last(), Some(Event::Closed { why: Closed::RecordOverflow, .. })),
        "{:?}",
        script.events
    );
}

#[test]
fn d99_under_the_keys_of_a_handshake_a_long_record_draws_record_overflow() {
    let world = World::new();
    let mut script = with_fragment_length(&world);
    let rest = flight_without_finished(&mut script);
    script.give(&rest);
    let long = script.forger().seal(HANDSHAKE, 0, &[0; 513]);
    script.give(&long);
    assert_eq!(script.refusal(), Some(HandshakeRefusal::RecordOverflow));
    assert_eq!(script.alerts().last().unwrap(), &[2, 22]);
}

#[test]
fn d99_a_client_holds_its_server_to_the_length_it_asked_for() {
    for limit in [RecordLimit::MaxFragmentLength(FragmentLength::Bytes512), RecordLimit::RecordSizeLimit(512)] {
        let world = World::new();
        let clock = support::Clock::new();
        let notebook = Arc::new(Notebook::default());
        let mut config = world.client_config();
        config.record_limit = Some(limit);
        let observer: Arc<dyn dtls::Observer> = notebook.clone();
        let client = dtls::Client::with_observer(Arc::new(config), world.random.clone(), clock.now(), Some(observer));
        let mut pair = Pair::of(world.endpoint(), client, clock);
        let server_random = loop {
            assert!(pair.step());
            let waiting = pair.to_client.iter().flat_map(|bytes| records(bytes));
            if let Some(hello) = waiting.into_iter().find(|record| record.handshake_type() == Some(2)) {
                break <[u8; 32]>::try_from(&hello.payload[14..46]).unwrap();
            }
        };
        for bytes in std::mem::take(&mut pair.to_client) {
            pair.give_client(&bytes);
        }
        // Anybody could have written it in plaintext.
        let long = Piece::whole(4, 20, &[7; 600]).bytes();
        let underway = pair.to_server.len();
        pair.give_client(&Raw::new(HANDSHAKE, 0, 100, &long).bytes());
        assert_eq!(pair.client.drops().count(DropReason::RecordOversize), 1);
        assert_eq!(pair.to_server.len(), underway, "in silence");
        pair.run();
        assert!(pair.is_established());
        pair.assert_alive();
        // Protected, but under other keys.
        pair.give_client(&Raw::new(APPLICATION_DATA, 1, 100, &[9; 600]).bytes());
        assert!(pair.to_server.is_empty(), "in silence");
        pair.assert_alive();
        let (client_random, master_secret) = notebook.secrets.lock().unwrap()[0];
        let server = Forger::new(&master_secret, &client_random, &server_random, false);
        pair.give_client(&server.seal(APPLICATION_DATA, 101, &[7; 512]));
        assert_eq!(pair.client_received.last().unwrap(), &[7; 512]);
        pair.give_client(&server.seal(APPLICATION_DATA, 102, &[7; 513]));
        assert_eq!(records(&pair.to_server[0])[0].content_type, ALERT);
        let overflow = Closed::RecordOverflow;
        assert!(matches!(pair.client_events.last(), Some(ClientEvent::Closed { why }) if *why == overflow));
        pair.run();
        let alert = Closed::Alert(AlertDescription::RECORD_OVERFLOW);
        assert!(matches!(pair.server_events.last(), Some(Event::Closed { why, .. }) if *why == alert));
    }
}

#[test]
fn d105_raw_public_keys_only_are_refused_before_a_signature_and_x509_among_others_is_chosen() {
    let world = World::new();
    for (client, server) in [(Some(&[2][..]), None), (None, Some(&[2][..])), (Some(&[2, 1]), Some(&[0, 2]))] {
        let mut hello = Hello::default();
        for (kind, types) in [(19, client), (20, server)] {
            if let Some(types) = types {
                hello = hello.with(kind, &[&[u8::try_from(types.len()).unwrap()], types].concat());
            }
        }
        let endpoint = world.endpoint_with(|config| config.public_key_steps = dtls::PublicKeySteps::Suspended);
        let mut script = Script::begin_at(&world, endpoint, hello);
        assert_eq!(script.refusal(), Some(HandshakeRefusal::CertificateType));
        assert!(script.endpoint.poll_public_key_job().is_none(), "no signature is made for it");
        assert_eq!(script.alerts(), [[2, 43]]);
    }
    let mut script = Script::begin(&world, Hello::default().with(19, &[2, 2, 0]).with(20, &[1, 0]));
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{:?}", script.events);
    let hello =
        script.answers.iter().flat_map(|bytes| records(bytes)).find(|one| one.handshake_type() == Some(2)).unwrap();
    for answer in [[0, 19, 0, 1, 0], [0, 20, 0, 1, 0]] {
        assert!(hello.payload.windows(5).any(|bytes| bytes == answer), "X.509 is chosen: {:x?}", hello.payload);
    }
    // A client that lists no types gets no answer to them.
    let script = Script::begin(&world, Hello::default());
    let hello =
        script.answers.iter().flat_map(|bytes| records(bytes)).find(|one| one.handshake_type() == Some(2)).unwrap();
    assert!(!hello.payload.windows(4).any(|bytes| bytes == [0, 19, 0, 1] || bytes == [0, 20, 0, 1]));
}

/// supported_versions with DTLS 1.3, GREASE and others, but not DTLS 1.2.
fn of_dtls_1_3() -> Hello {
    Hello::default().with(43, &[4, 0x2A, 0x2A, 0xFE, 0xFC])
}

#[test]
fn d106_a_hello_that_takes_dtls_1_3_only_gets_one_alert_and_nothing_is_kept() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), of_dtls_1_3());
    let hello = script.hello.datagram(0, 77);
    let answers = script.give(&hello);
    assert_eq!(answers.len(), 1);
    assert!(answers[0].len() < hello.len(), "no amplification");
    let alert = &records(&answers[0])[0];
    assert_eq!((alert.content_type, alert.epoch, alert.sequence, &alert.payload[..]), (ALERT, 0, 77, &[2, 70][..]));
    assert_eq!(script.endpoint.counts().half_open, 0);
    assert!(script.events.is_empty(), "an unproven address adds no line to the log: {:?}", script.events);
    assert_eq!(script.endpoint.drops().count(DropReason::HelloVersion), 1);
    // With DTLS 1.2 in the list the client is asked for its cookie like any other.
    let mut script = Script::begin(&world, Hello::default().with(43, &[4, 0xFE, 0xFC, 0xFE, 0xFD]));
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
}

#[test]
fn d106_such_alerts_are_limited_in_their_rate_by_address_and_in_all() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), of_dtls_1_3());
    let hello = script.hello.datagram(0, 77);
    let mut path = script.path;
    let own = path.peer;
    // An hour of hellos from one address, 20 a second, from one port after the other.
    let mut alerts = 0;
    for n in 0..72_000_u32 {
        path.peer = std::net::SocketAddr::new(own.ip(), 1_024 + u16::try_from(n % 60_000).unwrap());
        script.path = path;
        alerts += script.give(&hello).len();
        script.clock.elapsed += Duration::from_millis(50);
    }
    assert_eq!(alerts, 7_200, "one in half a second");
    // Many addresses at the same instant.
    let now = script.clock.now();
    let (mut alerts, mut datagram) = (0, hello.clone());
    let counted = allocation_counter::measure(|| {
        for source in 0..100_000_u32 {
            path.peer.set_ip(std::net::IpAddr::V4(source.into()));
            datagram.copy_from_slice(&hello);
            script.endpoint.handle_datagram(now, path, &mut datagram);
            alerts += usize::from(script.endpoint.poll_transmit().is_some());
        }
    });
    assert!((900..=1_024).contains(&alerts), "{alerts}");
    assert_eq!(counted.count_total, 0, "and no state is kept for any of them");
    assert_eq!(script.endpoint.counts().half_open, 0);
    // None of this prevents a device from getting its cookie.
    script.hello = Hello::default();
    script.fetch_cookie();
}

#[test]
fn d106_where_something_is_under_way_no_alert_in_the_clear_goes_out() {
    let world = World::new();
    let is_alert = |answers: &[Vec<u8>]| answers.iter().any(|bytes| records(bytes)[0].content_type == ALERT);
    let mut script = Script::begin(&world, Hello::default());
    let forged = Hello { random: [1; 32], ..of_dtls_1_3() }.datagram(0, 77);
    assert!(!is_alert(&script.give(&forged)));
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    assert!(!is_alert(&script.give(&forged)));
    assert!(script.is_established());
}

#[test]
fn d106_a_list_beyond_the_first_fragment_is_found_after_the_cookie() {
    let world = World::new();
    let mut script = Script::unbegun(&world, world.endpoint(), of_dtls_1_3());
    let fragments = |script: &Script| Piece::whole(1, script.message_seq, &script.hello.body()).fragments(80);
    let first = fragments(&script).remove(0);
    let answers = script.give(&Raw::new(HANDSHAKE, 0, 0, &first.bytes()).bytes());
    let request = Piece::parse(&records(&answers[0])[0].payload);
    assert_eq!(request.kind, 3, "it is asked for its cookie");
    script.hello.cookie = request.body[3..].to_vec();
    script.message_seq += 1;
    for (n, fragment) in fragments(&script).into_iter().enumerate() {
        script.give(&Raw::new(HANDSHAKE, 0, 1 + n as u64, &fragment.bytes()).bytes());
    }
    assert_eq!(script.refusal(), Some(HandshakeRefusal::SupportedVersions));
    assert_eq!(script.alerts(), [[2, 70]]);
    let offered = script.events.iter().find_map(|event| match event {
        Event::Refused { offered, .. } => Some(offered.to_string()),
        _ => None,
    });
    assert!(offered.unwrap().contains("supported versions GREASE:2a2a DTLS 1.3,"));
}

/// How often an observer saw no_renegotiation in `direction`.
fn refusals_to_renegotiate(notebook: &Notebook, direction: Direction) -> usize {
    let description = AlertDescription::NO_RENEGOTIATION;
    let line = format!("Alert {{ direction: {direction:?}, level: Warning, description: {description:?} }}");
    notebook.lines.lock().unwrap().iter().filter(|one| **one == line).count()
}

#[test]
fn d107_the_first_attempt_to_renegotiate_is_refused_at_once() {
    let world = World::new();
    let notebook = Arc::new(Notebook::default());
    let mut script = Script::begin(&world, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    script.endpoint.set_observer(Some(notebook.clone()));
    let renegotiate = |script: &mut Script, n: u64| {
        let hello = Piece::whole(1, script.message_seq + 1, &script.hello.body()).bytes();
        let sealed = script.forger().seal(HANDSHAKE, n, &hello);
        let datagrams = script.give(&sealed).len();
        (refusals_to_renegotiate(&notebook, Direction::Sent), datagrams)
    };
    assert_eq!(renegotiate(&mut script, 1), (1, 1), "refused at once");
    assert_eq!(renegotiate(&mut script, 2), (1, 0), "no second refusal at once");
    script.clock.elapsed += Duration::from_secs(1);
    assert_eq!(renegotiate(&mut script, 3), (2, 1));
    assert!(script.is_established());
}

#[test]
fn d107_a_client_refuses_the_first_hello_request_at_once() {
    let world = World::new();
    let clock = support::Clock::new();
    let notebook = Arc::new(Notebook::default());
    let observer: Arc<dyn dtls::Observer> = notebook.clone();
    let config = Arc::new(world.client_config());
    let client = dtls::Client::with_observer(config, world.random.clone(), clock.now(), Some(observer));
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.run();
    let (client_random, master_secret) = notebook.secrets.lock().unwrap()[0];
    let to_client = pair.sent.iter().filter(|(way, _)| *way == Way::ToClient).flat_map(|(_, bytes)| records(bytes));
    let hello = to_client.into_iter().find(|record| record.handshake_type() == Some(2)).unwrap();
    let server_random: [u8; 32] = hello.payload[14..46].try_into().unwrap();
    let server = Forger::new(&master_secret, &client_random, &server_random, false);
    for (n, refused) in [(10, 1), (11, 1)] {
        pair.give_client(&server.seal(HANDSHAKE, n, &Piece::whole(0, 9, &[]).bytes()));
        assert_eq!(refusals_to_renegotiate(&notebook, Direction::Sent), refused);
    }
    pair.run();
    pair.assert_alive();
}

#[test]
fn d94_forgeries_that_come_fast_raise_an_alarm_and_slow_ones_do_not() {
    let world = World::new();
    let alarms = |apart: Duration| {
        let mut script = Script::begin(&world, Hello::default());
        let flight = script.honest_flight();
        script.give(&flight);
        for n in 0..3_000_u64 {
            script.clock.elapsed += apart;
            script.give(&Raw::new(APPLICATION_DATA, 1, 100 + n, &[1; 40]).bytes());
        }
        assert!(script.is_established(), "the count that ends it is far off");
        assert_eq!(script.endpoint.drops().count(DropReason::BadRecord), 3_000);
        script.events.iter().filter(|event| matches!(event, Event::ForgeryAlarm { .. })).count()
    };
    assert_eq!(alarms(Duration::from_millis(1)), 2);
    assert_eq!(alarms(Duration::from_millis(100)), 0);
}
