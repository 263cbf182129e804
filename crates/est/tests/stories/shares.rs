//! How many of the waiting enrolments the sessions of one certificate may use, and how many are left for other devices
//! (C44, E55).

use std::time::Duration;

use coap::Code;
use est::Reason;

use crate::support::raw::{Ask, POST, Raw};
use crate::support::{Holder, Key, Pace, World, csr};

/// The maximum number of waiting enrolments in these tests.
const PENDING_MAX: usize = 8;

/// A world whose authority does not answer until the test says so.
fn world() -> World {
    let mut world = World::with(|_, spec| spec.limits.pending_max = PENDING_MAX);
    world.pace = Pace::Held;
    world
}

fn request(holder: &Holder) -> Vec<u8> {
    csr(holder.certificate.subject(), &Key::new())
}

/// The Max-Age that one more session of this device gets; `None` if its enrolment waits.
fn asks(world: &mut World, port: u16, holder: &Holder, body: &[u8]) -> Option<u32> {
    let mut session = Raw::connect(world, port, holder);
    let ask = Ask {
        method: POST,
        path: "est/sen",
        content_format: Some(286),
        accept: Some(287),
        payload: body,
        ..Ask::default()
    };
    let message = session.message(&ask);
    let said = session.send(world, &message);
    let [refused] = said.as_slice() else {
        assert!(said.is_empty(), "{said:?}");
        return None;
    };
    assert_eq!(refused.code, Code::SERVICE_UNAVAILABLE);
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::EstPendingFull));
    refused.max_age
}

#[test]
fn e55_c44_the_sessions_of_one_certificate_leave_room_for_the_enrolments_of_others() {
    let mut world = world();
    let (greedy, other) = (world.pki.device(1), world.pki.device(2));
    let body = request(&greedy);
    let told: Vec<_> = (1..=20).map(|port| asks(&mut world, port, &greedy, &body)).collect();
    assert_eq!(told.iter().filter(|told| told.is_none()).count(), PENDING_MAX / 2, "{told:?}");
    assert!(told.iter().flatten().all(|max_age| *max_age >= 5), "{told:?}");

    assert_eq!(asks(&mut world, 100, &other, &request(&other)), None, "another device's enrolment waits beside them");
    world.release();
    while world.server.poll_transmit().is_some() {}
    assert_eq!(world.ledger.issued_count(), 2);
    // Its enrolments have ended: it may ask again.
    assert_eq!(asks(&mut world, 101, &greedy, &body), None);
}

#[test]
fn e55_c44_a_session_that_closes_leaves_its_enrolment_on_its_account() {
    let mut world = world();
    let (greedy, other) = (world.pki.device(1), world.pki.device(2));
    let body = request(&greedy);
    for port in 1..=20 {
        let mut session = Raw::connect(&mut world, port, &greedy);
        let ask = Ask { method: POST, path: "est/sen", content_format: Some(286), payload: &body, ..Ask::default() };
        let message = session.message(&ask);
        session.send(&mut world, &message);
        session.dtls.close(world.now);
        session.carry(&mut world);
    }
    assert_eq!(world.server.counters().sessions.unwrap().established, 0);
    assert_eq!((world.submitted, world.server.counters().pending), (PENDING_MAX / 2, PENDING_MAX / 2));
    assert_eq!(asks(&mut world, 100, &other, &request(&other)), None);
    world.release();
    assert_eq!(world.server.counters().pending, 0);
    assert_eq!(world.ledger.issued_count(), 2);
}

#[test]
fn e55_several_enrolments_of_one_device_are_nobodys_loss_while_there_is_room() {
    let mut world = world();
    let device = world.pki.device(1);
    let body = request(&device);
    assert!((1..=3).all(|port| asks(&mut world, port, &device, &body).is_none()));
    // With as many of others waiting, a share above theirs has no room, but every owner that holds nothing yet has.
    for number in 2..=5 {
        let other = world.pki.device(number);
        assert_eq!(asks(&mut world, u16::try_from(number).unwrap() + 10, &other, &request(&other)), None);
    }
    assert!(asks(&mut world, 20, &device, &body).is_some());
    let last = world.pki.device(6);
    assert_eq!(asks(&mut world, 21, &last, &request(&last)), None);
    let beyond = world.pki.device(7);
    assert!(asks(&mut world, 22, &beyond, &request(&beyond)).is_some(), "now it is full");
}

/// One device enrols while others wait; the authority answers it after this time.
fn is_issued(world: &mut World, number: u32, after: Duration) {
    let holder = world.pki.device(number);
    let port = u16::try_from(number).unwrap();
    assert_eq!(asks(world, port, &holder, &request(&holder)), None);
    world.advance(after);
    let others = world.held.drain(..world.held.len() - 1).collect();
    world.release();
    while world.server.poll_transmit().is_some() {}
    world.held = others;
}

#[test]
fn c37_requests_that_an_upstream_keeps_for_a_second_do_not_make_it_look_slow() {
    let mut world = World::new();
    world.pace = Pace::Held;
    // Whatever becomes of them in the end.
    for number in 1..=70 {
        let holder = world.pki.device(number);
        assert_eq!(asks(&mut world, number.try_into().unwrap(), &holder, &request(&holder)), None);
    }
    (101..=103).for_each(|number| is_issued(&mut world, number, Duration::from_secs(1)));
    let honest = world.pki.device(200);
    assert_eq!(asks(&mut world, 200, &honest, &request(&honest)), None, "it will be answered after a second, too");
}

#[test]
fn e55_c37_many_requests_of_a_few_certificates_send_nobody_else_away() {
    let mut world = World::new();
    world.pace = Pace::Held;
    for number in 1..=16 {
        let holder = world.pki.device(number);
        let body = request(&holder);
        let first = u16::try_from(number * 10).unwrap();
        assert!((first..first + 5).all(|port| asks(&mut world, port, &holder, &body).is_none()));
    }
    (301..=303).for_each(|number| is_issued(&mut world, number, Duration::from_secs(60)));
    let honest = world.pki.device(400);
    assert_eq!(asks(&mut world, 400, &honest, &request(&honest)), None);
}
