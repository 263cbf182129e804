//! A client that persists: its reaction to silence, a lost session, an alert, "later" and a refusal; a client without
//! [`Persistence`] leaves each of these to its caller.

use std::time::Duration;

use est::{ClientConfig, ClientEvent, Failure, Operation, Persistence, StartFault};

use crate::support::{Device, Fate, Holder, Key, Pace, World, csr};

fn persistent(change: impl FnOnce(&mut Persistence)) -> ClientConfig {
    let mut persistence = Persistence::default();
    change(&mut persistence);
    ClientConfig { persistence: Some(persistence), ..ClientConfig::default() }
}

/// A connected device that persists, and its request.
fn connected(world: &mut World, config: ClientConfig) -> (Device, Holder, Vec<u8>) {
    let holder = world.pki.device(1);
    let device = world.connect(1, &holder, config);
    let request = csr(holder.certificate.subject(), &Key::new());
    (device, holder, request)
}

fn enroll(world: &World, device: &mut Device, request: &[u8]) {
    device.client.start(world.now, Operation::Enroll { csr: request.to_vec() }).unwrap();
}

/// Lets time pass over a dead link.
fn silence(world: &mut World, device: &mut Device, duration: Duration) {
    let end = world.now.mono + duration;
    while let Some(next) = device.client.poll_timeout().filter(|next| *next <= end) {
        world.advance_to(next.max(world.now.mono));
        device.client.handle_timeout(world.now);
        world.run_over(device, |_| Fate::Lost);
    }
    world.advance_to(end);
}

fn why_again(device: &mut Device) -> Failure {
    match device.event() {
        ClientEvent::Again { after, .. } => after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_exhausted_exchange_is_repeated_before_the_association_is_given_up() {
    let mut world = World::new();
    let (mut device, _, request) = connected(&mut world, persistent(|_| {}));
    enroll(&world, &mut device, &request);
    world.run_over(&mut device, |_| Fate::Lost);
    // MAX_TRANSMIT_WAIT is 93 s: the first exchange is over by then, and the second is not (31 times 2 s at least).
    silence(&mut world, &mut device, Duration::from_secs(94));
    assert!(device.events.is_empty(), "{:?}", device.events);
    world.sleep(&mut device, Duration::from_secs(33));
    device.certificate();
    assert_eq!((world.submitted, world.ledger.issued_count()), (1, 1));
}

#[test]
fn a_session_that_nobody_answers_in_is_made_again() {
    let mut world = World::new();
    let (mut device, _, request) = connected(&mut world, persistent(|_| {}));
    enroll(&world, &mut device, &request);
    world.run_over(&mut device, |_| Fate::Lost);
    silence(&mut world, &mut device, Duration::from_secs(2 * 93 + 1));
    assert_eq!(why_again(&mut device), Failure::Request(coap::client::ExchangeFailure::Timeout));
    world.sleep(&mut device, Duration::from_secs(70));
    while device.events.len() > 2 {
        why_again(&mut device);
    }
    assert!(matches!(device.event(), ClientEvent::Reconnected { .. }));
    device.certificate();
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn a_session_that_the_server_ends_during_a_request_is_made_again_and_the_request_with_it() {
    let mut world = World::new();
    let (mut device, _, request) = connected(&mut world, persistent(|_| {}));
    world.pace = Pace::Held;
    enroll(&world, &mut device, &request);
    world.run(&mut device);
    world.server.close_all(world.now);
    world.run(&mut device);
    assert!(matches!(why_again(&mut device), Failure::Closed(dtls::Closed::ByPeer)));
    world.pace = Pace::AtOnce;
    world.release();
    world.sleep(&mut device, Duration::from_secs(3));
    assert!(matches!(device.event(), ClientEvent::Reconnected { .. }));
    device.certificate();
    assert_eq!(
        world.ledger.issued_count(),
        1,
        "the authority completed the first request, and the second request found its certificate"
    );
}

#[test]
fn a_session_that_ends_while_nothing_is_asked_is_made_again_with_the_next_request() {
    let mut world = World::new();
    let (mut device, _, request) = connected(&mut world, persistent(|_| {}));
    world.server.close_all(world.now);
    world.run(&mut device);
    assert!(matches!(device.event(), ClientEvent::Closed(dtls::Closed::ByPeer)));
    assert!(!device.client.is_over());
    world.sleep(&mut device, Duration::from_secs(3_600));
    assert_eq!(world.datagrams.0, 4, "three of the handshake, one close_notify, and nothing while no request is made");
    enroll(&world, &mut device, &request);
    world.sleep(&mut device, Duration::from_secs(1));
    assert!(matches!(device.event(), ClientEvent::Reconnected { .. }));
    device.certificate();
}

#[test]
fn a_session_that_was_silent_for_long_is_not_asked_in() {
    let mut world = World::new();
    let (mut device, _, request) = connected(&mut world, persistent(|_| {}));
    // Both ends still have the association, but an address translator in between may not.
    world.sleep(&mut device, Duration::from_secs(121));
    enroll(&world, &mut device, &request);
    world.sleep(&mut device, Duration::from_secs(1));
    assert!(matches!(device.event(), ClientEvent::Reconnected { .. }));
    device.certificate();
    assert_eq!(world.server.counters().sessions.unwrap().established, 1, "the old one was closed");
}

#[test]
fn handshakes_are_begun_anew_until_somebody_answers() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let dtls = world.dtls_config(&holder);
    let mut device = world.dial(1, dtls, persistent(|_| {}));
    world.run_over(&mut device, |_| Fate::Lost);
    silence(&mut world, &mut device, Duration::from_secs(600));
    let given_up = device.events.len();
    assert!((2..=5).contains(&given_up), "each took two to three minutes: {given_up}");
    for _ in 0..given_up {
        assert!(why_again(&mut device).is_no_answer());
    }
    world.sleep(&mut device, Duration::from_secs(130));
    while device.events.len() > 1 {
        assert!(why_again(&mut device).is_no_answer());
    }
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
}

#[test]
fn at_the_deadline_the_last_failure_is_told_and_nothing_goes_on() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let dtls = world.dtls_config(&holder);
    let deadline = Duration::from_secs(300);
    let mut device = world.dial(1, dtls, persistent(|policy| policy.deadline = deadline));
    let began = world.now.mono;
    world.run_over(&mut device, |_| Fate::Lost);
    silence(&mut world, &mut device, Duration::from_secs(3_600));
    while device.events.len() > 1 {
        why_again(&mut device);
    }
    assert!(matches!(device.failure(), Failure::Handshake(dtls::HandshakeRefusal::TimedOut { .. })));
    assert!(device.client.is_over() && device.client.poll_timeout().is_none());
    assert!(world.now.mono - began >= deadline);
}

#[test]
fn a_deadline_in_the_first_try_is_told_as_such_and_leaves_the_association() {
    let mut world = World::new();
    let (mut device, _, request) = connected(&mut world, persistent(|policy| policy.deadline = Duration::from_secs(5)));
    enroll(&world, &mut device, &request);
    world.run_over(&mut device, |_| Fate::Lost);
    silence(&mut world, &mut device, Duration::from_secs(6));
    assert_eq!(device.failure(), Failure::Deadline);
    enroll(&world, &mut device, &request);
    world.run(&mut device);
    device.certificate();
}

#[test]
fn c36_later_is_obeyed_and_the_identical_request_comes_again() {
    let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
    world.pace = Pace::Held;
    let other = world.pki.device(9);
    let mut first = world.connect(9, &other, ClientConfig::default());
    let occupied = csr(other.certificate.subject(), &Key::new());
    enroll(&world, &mut first, &occupied);
    world.run(&mut first);

    let (mut device, _, request) = connected(&mut world, persistent(|_| {}));
    enroll(&world, &mut device, &request);
    world.run(&mut device);
    let ClientEvent::Again { after: Failure::Later { max_age, .. }, at } = device.event() else { panic!("not later") };
    let wait = at - world.now.mono;
    assert!(wait >= Duration::from_secs(max_age.into()), "{wait:?} for Max-Age {max_age}");
    assert_eq!(device.client.start(world.now, Operation::CaCertificates), Err(StartFault::Busy));

    world.release();
    world.server_says(first.path);
    world.pace = Pace::AtOnce;
    world.sleep(&mut device, wait - Duration::from_millis(10));
    assert!(device.events.is_empty(), "not before its time");
    world.sleep(&mut device, Duration::from_millis(10));
    device.certificate();
    assert_eq!(world.ledger.issued_count(), 2);
}

#[test]
fn a_refusal_of_the_request_is_final() {
    let mut world = World::new();
    let (mut device, _, _) = connected(&mut world, persistent(|_| {}));
    let other = world.pki.device(2);
    enroll(&world, &mut device, &csr(other.certificate.subject(), &Key::new()));
    world.run(&mut device);
    assert!(matches!(device.failure(), Failure::Refused(_)));
}

#[test]
fn a_server_that_is_not_trusted_is_tried_a_few_times_and_no_more() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let stranger = World::new();
    let dtls = stranger.dtls_config(&holder);
    let mut device = world.dial(1, dtls, persistent(|policy| policy.refusals_max = 2));
    world.run(&mut device);
    world.sleep(&mut device, Duration::from_secs(60));
    for _ in 0..2 {
        assert!(why_again(&mut device).is_untrusted_server());
    }
    assert!(device.failure().is_untrusted_server());
    assert!(device.events.is_empty() && device.client.is_over());
}

#[test]
fn without_persistence_every_failure_is_told_at_once() {
    let mut world = World::new();
    let (mut device, _, request) = connected(&mut world, ClientConfig::default());
    enroll(&world, &mut device, &request);
    world.run_over(&mut device, |_| Fate::Lost);
    silence(&mut world, &mut device, Duration::from_secs(94));
    assert_eq!(device.failure(), Failure::Request(coap::client::ExchangeFailure::Timeout));
    world.server.close_all(world.now);
    world.run(&mut device);
    assert!(matches!(device.event(), ClientEvent::Closed(_)));
    assert!(device.client.is_over());
    assert_eq!(device.client.start(world.now, Operation::CaCertificates), Err(StartFault::NotConnected));
}
