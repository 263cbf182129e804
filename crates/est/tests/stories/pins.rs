//! A session in the middle of an enrolment keeps its device's certificate, whatever the cache forgets meanwhile (C47).

use std::sync::Arc;
use std::time::Duration;

use coap::{Block, BlockSize, Code};
use est::{ClientConfig, Operation, Reason};

use crate::support::raw::{Ask, POST, Raw};
use crate::support::{Holder, Key, Pace, World, csr};

/// The cache in these tests has one place in each of its 16 segments: this many later devices push out every earlier
/// certificate.
const CROWD: u32 = 160;

/// The number of the first device that only pushes others out.
const CROWD_FROM: u32 = 1_000;

fn world() -> World {
    World::with(|_, spec| {
        spec.certificates = Arc::new(est::CertificateCache::new(1));
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
