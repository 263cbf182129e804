//! A session in the middle of an enrolment keeps its device's certificate, whatever the cache forgets meanwhile, and the cache keeps those of
//! devices that wait rather than those of others (C47).

use std::sync::Arc;
use std::time::Duration;

use coap::{Block, BlockSize, Code};
use dtls::DropReason;
use est::{Backlog, ClientConfig, ClientEvent, Operation, Reason};

use crate::support::raw::{Ask, POST, Raw};
use crate::support::{Holder, Key, Pace, World, csr};

/// Places of the cache in these tests: three of them for devices that were sent away.
const PLACES: usize = 4;

/// So many later devices push out every earlier certificate.
const CROWD: u32 = 20;

/// The number of the first device that only pushes others out.
const CROWD_FROM: u32 = 1_000;

fn world() -> World {
    World::with(|_, spec| {
        spec.certificates = Arc::new(est::CertificateCache::new(PLACES));
        spec.limits.pending_max = 1;
    })
}

/// Connects idle devices until the cache has dropped every earlier certificate.
fn crowd(world: &mut World) {
    for number in CROWD_FROM..CROWD_FROM + CROWD {
        let holder = world.pki.device(number);
        let port = u16::try_from(number).unwrap();
        world.connect(port, &holder, ClientConfig::default());
    }
}

/// What a device of the crowd does when it has its certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Stays,
    Closes,
}

/// Enrols devices.
fn serve_crowd(world: &mut World, then: Then) {
    for number in CROWD_FROM..CROWD_FROM + CROWD {
        let holder = world.pki.device(number);
        let mut device = world.connect(u16::try_from(number).unwrap(), &holder, ClientConfig::default());
        world.ask(&mut device, Operation::Enroll { csr: request(&holder) });
        device.certificate();
        if then == Then::Closes {
            device.client.close(world.now);
            world.run(&mut device);
        }
    }
}

fn enrolment() -> Ask<'static> {
    Ask { method: POST, path: "est/sen", accept: Some(287), content_format: Some(286), ..Ask::default() }
}

fn request(holder: &Holder) -> Vec<u8> {
    csr(holder.certificate.subject(), &Key::new())
}

#[test]
fn c47_an_upload_keeps_the_certificate() {
    let mut world = world();
    let holder = world.pki.device(1);
    let mut device = Raw::connect(&mut world, 1, &holder);
    let body = request(&holder);
    let last = body.chunks(64).count() - 1;
    let mut said = None;
    for (num, payload) in body.chunks(64).enumerate() {
        let block1 = Block { num: u32::try_from(num).unwrap(), more: num < last, size: BlockSize::B64 };
        said = Some(device.ask(&mut world, &Ask { payload, block1: Some(block1), ..enrolment() }));
        if num == 0 {
            crowd(&mut world);
        }
    }
    assert_eq!(said.unwrap().code, Code::CHANGED);
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn c47_an_answer_that_is_not_fetched_keeps_the_certificate_and_one_that_is_does_not() {
    let mut world = world();
    let holder = world.pki.device(1);
    let mut device = Raw::connect(&mut world, 1, &holder);
    let block2 = |num| Some(Block { num, more: false, size: BlockSize::B256 });
    let body = request(&holder);
    let mut said = device.ask(&mut world, &Ask { payload: &body, block2: block2(0), ..enrolment() });
    crowd(&mut world);
    // The device begins a new request in the middle of the answer.
    let body = request(&holder);
    let other = device.ask(&mut world, &Ask { payload: &body, block2: block2(0), ..enrolment() });
    assert_eq!(other.code, Code::CHANGED);
    said.block2 = other.block2;
    while let Some(Block { num, more: true, .. }) = said.block2 {
        said = device.ask(&mut world, &Ask { payload: &body, block2: block2(num + 1), ..enrolment() });
        assert_eq!(said.code, Code::CHANGED);
    }
    // After its time, the first answer is no longer kept: the session is idle.
    world.advance(Duration::from_secs(250));
    world.server.handle_timeout(world.now);
    crowd(&mut world);
    let body = request(&holder);
    let message = device.message(&Ask { payload: &body, ..enrolment() });
    assert!(device.send(&mut world, &message).is_empty());
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::EstSessionForgotten));
}

#[test]
fn c47_a_device_that_was_told_to_come_back_need_not_begin_anew() {
    let mut world = world();
    world.pace = Pace::Held;
    let [served, waiting] = [1, 2].map(|number| world.pki.device(number));
    let mut first = world.connect(1, &served, ClientConfig::default());
    world.ask(&mut first, Operation::Enroll { csr: request(&served) });
    let mut device = Raw::connect(&mut world, 2, &waiting);
    let body = request(&waiting);
    let said = device.ask(&mut world, &Ask { payload: &body, ..enrolment() });
    assert_eq!(said.code, Code::SERVICE_UNAVAILABLE);
    while world.server.poll_transmit().is_some() {}
    world.release();
    while world.server.poll_transmit().is_some() {}
    crowd(&mut world);
    world.advance(Duration::from_secs(said.max_age.unwrap().into()));
    world.pace = Pace::AtOnce;
    assert_eq!(device.ask(&mut world, &Ask { payload: &body, ..enrolment() }).code, Code::CHANGED);
}

/// On a bad link the first request comes a minute after the handshake.
#[test]
fn c47_who_has_completed_a_handshake_is_answered_although_many_were_served_meanwhile() {
    let mut world = world();
    let holder = world.pki.device(1);
    let mut device = Raw::connect(&mut world, 1, &holder);
    serve_crowd(&mut world, Then::Stays);
    let body = request(&holder);
    assert_eq!(device.ask(&mut world, &Ask { payload: &body, ..enrolment() }).code, Code::CHANGED);
}

/// The answer is lost five times, and the device begins its request anew, a minute and a half after the first time (RFC 7252 §4.8.2).
#[test]
fn c47_who_has_not_received_its_answer_gets_it_in_its_session_although_many_were_served_meanwhile() {
    let mut world = world();
    let holder = world.pki.device(1);
    let mut device = Raw::connect(&mut world, 1, &holder);
    let body = request(&holder);
    let first = device.ask(&mut world, &Ask { payload: &body, ..enrolment() });
    assert_eq!(first.code, Code::CHANGED);
    serve_crowd(&mut world, Then::Closes);
    let again = device.ask(&mut world, &Ask { payload: &body, ..enrolment() });
    assert_eq!((again.code, again.payload), (Code::CHANGED, first.payload));
}

/// Whoever would get a session now would be sent away too, and its certificate would have no place until it comes back.
#[test]
fn c47_few_handshakes_are_begun_while_as_many_devices_are_away_as_can_be_remembered() {
    const AWAY: u16 = 5;
    let mut world = World::with(|_, spec| {
        // With five of eight places the cache is crowded.
        spec.certificates = Arc::new(est::CertificateCache::new(8));
        spec.limits.pending_max = 1;
    });
    world.pace = Pace::Held;
    let mut devices: Vec<_> = (0..=AWAY)
        .map(|number| {
            world.server.note_backlog(world.now, Backlog::Empty);
            let holder = world.pki.device(number.into());
            let mut device = Raw::connect(&mut world, number, &holder);
            let message = device.message(&Ask { payload: &request(&holder), ..enrolment() });
            let said = device.send(&mut world, &message);
            assert!(said.iter().all(|said| said.code == Code::SERVICE_UNAVAILABLE) && said.is_empty() == (number == 0));
            device
        })
        .collect();
    world.server.note_backlog(world.now, Backlog::Empty);
    let dtls = world.dtls_config(&world.pki.device(99));
    let mut newcomer = world.dial(99, dtls, ClientConfig::default());
    world.run(&mut newcomer);
    assert!(newcomer.events.is_empty(), "{:?}", newcomer.events);
    assert_eq!(world.server.drops().count(DropReason::Behind), 1);
    // One of them does not wait any more.
    let mut gone = devices.remove(usize::from(AWAY));
    gone.dtls.close(world.now);
    gone.carry(&mut world);
    world.server.note_backlog(world.now, Backlog::Empty);
    let due = newcomer.client.poll_timeout().expect("it repeats its hello");
    world.advance_to(due);
    newcomer.client.handle_timeout(world.now);
    world.run(&mut newcomer);
    assert!(matches!(newcomer.event(), ClientEvent::Connected { .. }));
}

#[test]
fn c47_an_upload_that_could_not_be_finished_is_not_begun() {
    let mut world = world();
    let holder = world.pki.device(1);
    let mut device = Raw::connect(&mut world, 1, &holder);
    crowd(&mut world);
    let body = request(&holder);
    let block1 = Some(Block { num: 0, more: true, size: BlockSize::B64 });
    let message = device.message(&Ask { payload: &body[..64], block1, ..enrolment() });
    assert!(device.send(&mut world, &message).is_empty());
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::EstSessionForgotten));
}
