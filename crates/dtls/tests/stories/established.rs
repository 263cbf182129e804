//! An established session: renegotiation, alerts, close_notify, sizes.

use std::sync::Arc;
use std::time::Duration;

use dtls::{AlertDescription, Closed, Direction, DropReason, Event, SendFault};

use crate::support;
use crate::support::forge::{ALERT, APPLICATION_DATA, Forger, HANDSHAKE, Piece, records};
use crate::support::script::{Hello, Script};
use crate::support::{Notebook, Pair, Way, World};

fn established(world: &World) -> Script {
    let mut script = Script::begin(world, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    script.clock.elapsed += Duration::from_secs(1);
    script
}

#[test]
fn d58_a_renegotiation_is_refused_with_a_warning_and_the_session_lives() {
    let world = World::new();
    let notebook = Arc::new(Notebook::default());
    let mut script = established(&world);
    script.endpoint.set_observer(Some(notebook.clone()));
    let hello = Piece::whole(1, script.message_seq + 1, &script.hello.body()).bytes();
    let sealed = script.forger().seal(HANDSHAKE, 1, &hello);
    let answers = script.give(&sealed);
    assert_eq!(answers.len(), 1);
    assert_eq!(records(&answers[0])[0].content_type, ALERT);
    let warning = format!(
        "Alert {{ direction: {:?}, level: Warning, description: {:?} }}",
        Direction::Sent,
        AlertDescription::NO_RENEGOTIATION
    );
    assert!(notebook.lines.lock().unwrap().contains(&warning));
    let data = script.forger().seal(APPLICATION_DATA, 2, b"after it");
    script.give(&data);
    assert!(matches!(script.events.last(), Some(Event::Data { .. })));
    assert_eq!(script.endpoint.drops().count(DropReason::Renegotiation), 1);
    // The warning took a sequence number like any other record (D12).
    let session = script.endpoint.sessions().next().unwrap();
    script.endpoint.send(script.clock.now(), session, b"answer").unwrap();
    let answer = script.endpoint.poll_transmit().unwrap().bytes.to_vec();
    assert_ne!(records(&answer)[0].payload[..8], records(&answers[0])[0].payload[..8]);
}

#[test]
fn d58_a_hello_request_is_refused_with_a_warning_and_the_session_lives() {
    let world = World::new();
    let notebook = Arc::new(Notebook::default());
    let clock = support::Clock::new();
    let config = Arc::new(world.client_config());
    let client = dtls::Client::with_observer(config, world.random.clone(), clock.now(), Some(notebook.clone()));
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.run();
    assert!(pair.is_established());
    let (client_random, master_secret) = notebook.secrets.lock().unwrap()[0];
    let to_client = pair.sent.iter().filter(|(way, _)| *way == Way::ToClient).flat_map(|(_, bytes)| records(bytes));
    let hello = to_client.into_iter().find(|record| record.handshake_type() == Some(2)).unwrap();
    let server_random: [u8; 32] = hello.payload[14..46].try_into().unwrap();
    let forger = Forger::new(&master_secret, &client_random, &server_random, false);
    pair.clock.elapsed += Duration::from_secs(1);
    let request = forger.seal(HANDSHAKE, 10, &Piece::whole(0, 9, &[]).bytes());
    pair.give_client(&request);
    assert_eq!(pair.client.drops().count(DropReason::Renegotiation), 1);
    assert_eq!(pair.to_server.len(), 1);
    assert_eq!(records(&pair.to_server[0])[0].content_type, ALERT);
    pair.run();
    assert_eq!(pair.endpoint.drops().count(DropReason::AlertWarning), 1, "no_renegotiation is a warning");
    pair.client_sends(b"after it");
    pair.run();
    assert_eq!(pair.server_received, [b"after it".to_vec()]);
    assert!(pair.client.facts().is_some());
}

#[test]
fn a_fatal_alert_under_the_keys_ends_the_session_and_a_warning_does_not() {
    let world = World::new();
    let mut script = established(&world);
    let warning = script.forger().seal(ALERT, 1, &[1, 90]);
    script.give(&warning);
    let malformed = script.forger().seal(ALERT, 2, &[2]);
    script.give(&malformed);
    assert!(script.is_established());
    let fatal = script.forger().seal(ALERT, 3, &[2, 80]);
    assert!(script.give(&fatal).is_empty());
    let Some(Event::Closed { why, .. }) = script.events.last() else { panic!("{:?}", script.events) };
    assert_eq!(*why, Closed::Alert(AlertDescription::INTERNAL_ERROR));
}

#[test]
fn close_notify_is_answered_with_close_notify() {
    let world = World::new();
    let mut script = established(&world);
    let goodbye = script.forger().seal(ALERT, 1, &[1, 0]);
    let answers = script.give(&goodbye);
    assert_eq!(records(&answers[0])[0].content_type, ALERT);
    assert!(matches!(script.events.last(), Some(Event::Closed { why: Closed::ByPeer, .. })));
    assert_eq!(script.endpoint.counts().established, 0);
}

#[test]
fn both_sides_may_close() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let session = pair.session();
    pair.endpoint.close(pair.clock.now(), session);
    pair.drain_events();
    pair.collect();
    pair.run();
    assert!(matches!(pair.client_events.last(), Some(dtls::ClientEvent::Closed { why: Closed::ByPeer })));
    assert!(matches!(pair.server_events.last(), Some(Event::Closed { why: Closed::ByUs, .. })));
    assert_eq!(pair.endpoint.send(pair.clock.now(), session, b"late"), Err(SendFault::Gone));
    assert_eq!(pair.client.send(pair.clock.now(), b"late"), Err(SendFault::Gone));
    assert_eq!(pair.endpoint.plaintext_max(session), 0);
}

#[test]
fn a_record_fills_a_datagram_and_never_more() {
    let world = World::new();
    let mut pair = Pair::established(&world);
    let most = pair.endpoint.plaintext_max(pair.session());
    assert_eq!(most, pair.client.plaintext_max());
    pair.server_sends(&vec![1; most]);
    assert_eq!(pair.to_client[0].len(), 1_232);
    let session = pair.session();
    let fault = pair.endpoint.send(pair.clock.now(), session, &vec![1; most + 1]);
    assert_eq!(fault, Err(SendFault::TooLong { plaintext_bytes_max: most }));
    pair.run();
    assert_eq!(pair.client_received[0].len(), most);
}

#[test]
fn empty_application_data_keeps_a_session_alive_and_says_nothing() {
    let world = World::new();
    let mut script = established(&world);
    let empty = script.forger().seal(APPLICATION_DATA, 1, b"");
    script.give(&empty);
    assert!(!script.events.iter().any(|event| matches!(event, Event::Data { .. })));
    let idle_from = script.endpoint.poll_timeout().unwrap();
    assert_eq!(idle_from, script.clock.now().mono + Duration::from_secs(300));
}

#[test]
fn the_highest_sequence_number_of_a_peer_is_received_and_not_again() {
    let world = World::new();
    let mut script = established(&world);
    let last = script.forger().seal(APPLICATION_DATA, (1 << 48) - 1, b"the last one");
    script.give(&last);
    script.give(&last);
    assert_eq!(script.events.iter().filter(|event| matches!(event, Event::Data { .. })).count(), 1);
}

#[test]
fn secrets_go_to_the_observer_of_either_side_and_agree() {
    let world = World::new();
    let (server, client) = (Arc::new(Notebook::default()), Arc::new(Notebook::default()));
    let clock = support::Clock::new();
    let mut endpoint = world.endpoint();
    endpoint.set_observer(Some(server.clone()));
    let config = Arc::new(world.client_config());
    let engine = dtls::Client::with_observer(config, world.random.clone(), clock.now(), Some(client.clone()));
    let mut pair = Pair::of(endpoint, engine, clock);
    pair.run();
    assert!(pair.is_established());
    assert_eq!(*server.secrets.lock().unwrap(), *client.secrets.lock().unwrap());
    assert_eq!(server.secrets.lock().unwrap().len(), 1);
    let seen = |notebook: &Notebook, line: &str| notebook.lines.lock().unwrap().iter().any(|one| one.contains(line));
    for line in
        ["Sent ServerKeyExchange", "Received CertificateVerify", "Sent HelloVerifyRequest", "Received ClientHello"]
    {
        assert!(seen(&server, line), "{line}");
    }
    assert!(seen(&client, "Sent ClientHello") && seen(&client, "Received Finished"));
}
