//! What a server that is full never sends away: retransmissions, the blocks of a request or an answer in progress, and requests for what is
//! already issued.

use std::time::Duration;

use coap::{Block, BlockSize, Code};
use est::Reason;

use crate::support::raw::{Ask, POST, Raw, Said};
use crate::support::{Holder, Key, Pace, World, csr};

/// The maximum number of waiting enrolments in these tests; as many more places are for repetitions.
const PENDING_MAX: usize = 16;

fn world() -> World {
    World::with(|_, spec| spec.limits.pending_max = PENDING_MAX)
}

fn request(holder: &Holder) -> Vec<u8> {
    csr(holder.certificate.subject(), &Key::new())
}

fn enrolment(payload: &[u8]) -> Ask<'_> {
    Ask { method: POST, path: "est/sen", content_format: Some(286), accept: Some(287), payload, ..Ask::default() }
}

/// A device that has its certificate, and the request for it.
struct Enrolled {
    holder: Holder,
    body: Vec<u8>,
    certificate: Vec<u8>,
}

impl Enrolled {
    fn new(world: &mut World, number: u16) -> Self {
        let holder = world.pki.device(number.into());
        let body = request(&holder);
        let said = Raw::connect(world, number, &holder).ask(world, &enrolment(&body));
        assert_eq!(said.code, Code::CHANGED);
        Self { holder, body, certificate: said.payload }
    }

    /// Asks from a new port; returns the session and what it is told at once.
    fn ask(&self, world: &mut World, port: u16, body: &[u8]) -> (Raw, Vec<Said>) {
        let mut session = Raw::connect(world, port, &self.holder);
        let message = session.message(&enrolment(body));
        let said = session.send(world, &message);
        (session, said)
    }
}

/// From now on the authority does not answer, and as many as may are waiting for it.
fn fill(world: &mut World) {
    fill_beside(world, 0);
}

/// The same while so many uploads keep a place.
fn fill_beside(world: &mut World, uploads: usize) {
    world.pace = Pace::Held;
    let before = world.submitted;
    for number in 1_000.. {
        let holder = world.pki.device(number.into());
        let body = request(&holder);
        let mut session = Raw::connect(world, number, &holder);
        let message = session.message(&enrolment(&body));
        if !session.send(world, &message).is_empty() {
            assert_eq!(world.submitted - before, PENDING_MAX - uploads);
            return;
        }
    }
}

/// The authority decides about the request that came last; the others wait.
fn release_last(world: &mut World) {
    world.held.drain(..world.held.len() - 1);
    world.release();
}

fn assert_sent_away(world: &World, said: &[Said]) {
    assert_eq!(said.iter().map(|said| said.code).collect::<Vec<_>>(), [Code::SERVICE_UNAVAILABLE]);
    assert!(said[0].max_age.is_some_and(|seconds| seconds > 0));
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::EstPendingFull));
}

#[test]
fn c47_a_full_server_sends_nobody_away_who_asks_for_what_is_already_issued() {
    let mut world = world();
    let device = Enrolled::new(&mut world, 1);
    fill(&mut world);
    let (mut session, said) = device.ask(&mut world, 2, &device.body);
    assert!(said.is_empty(), "it waits: {said:?}");
    release_last(&mut world);
    let answers = session.carry(&mut world);
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    let answer = Said::of(answer);
    assert_eq!((answer.code, answer.payload), (Code::CHANGED, device.certificate));
    assert_eq!(world.ledger.issued_count(), 1, "nothing new");
}

#[test]
fn c47_a_full_server_takes_a_repeated_upload_block_by_block() {
    let mut world = world();
    let device = Enrolled::new(&mut world, 1);
    fill(&mut world);
    let mut session = Raw::connect(&mut world, 2, &device.holder);
    let last = device.body.chunks(64).count() - 1;
    for (num, payload) in device.body.chunks(64).enumerate() {
        let block1 = Block { num: u32::try_from(num).unwrap(), more: num < last, size: BlockSize::B64 };
        let message = session.message(&Ask { block1: Some(block1), ..enrolment(payload) });
        let said = session.send(&mut world, &message);
        assert!(
            said.iter().all(|said| said.code == Code::CONTINUE) && said.len() == usize::from(num < last),
            "{said:?}"
        );
    }
    release_last(&mut world);
    let answers = session.carry(&mut world);
    assert_eq!(answers.len(), 1);
    assert_eq!((Said::of(&answers[0]).code, world.ledger.issued_count()), (Code::CHANGED, 1));
}

#[test]
fn c47_who_repeats_takes_one_place_and_who_was_issued_something_gets_nothing_new_while_the_server_is_full() {
    let mut world = world();
    let devices: Vec<_> =
        (0..=PENDING_MAX).map(|number| Enrolled::new(&mut world, number.try_into().unwrap())).collect();
    fill(&mut world);
    // Another request of the same device is a new one.
    let (_, said) = devices[0].ask(&mut world, 100, &request(&devices[0].holder));
    assert_sent_away(&world, &said);
    // As many repetitions wait as there are places for new requests, one of each device.
    let (last, first) = devices.split_last().unwrap();
    for (port, device) in (200..).zip(first) {
        assert!(device.ask(&mut world, port, &device.body).1.is_empty());
        let (_, said) = device.ask(&mut world, port + 100, &device.body);
        assert_sent_away(&world, &said);
    }
    let (_, said) = last.ask(&mut world, 101, &last.body);
    assert_sent_away(&world, &said);
    assert_eq!(world.server.counters().pending, 2 * PENDING_MAX);
    // The request of somebody else is not issued to this device.
    let (_, said) = last.ask(&mut world, 102, &devices[0].body);
    assert_sent_away(&world, &said);
    world.release();
    assert_eq!(world.server.counters().pending, 0);
    assert_eq!(world.ledger.issued_count(), devices.len() + PENDING_MAX);
}

/// The session was gone when the outcome came: exactly then the device asks again.
#[test]
fn c47_what_was_issued_to_a_session_that_is_gone_is_not_sent_away() {
    let mut world = world();
    world.pace = Pace::Held;
    let holder = world.pki.device(1);
    let body = request(&holder);
    let mut session = Raw::connect(&mut world, 1, &holder);
    let message = session.message(&enrolment(&body));
    assert!(session.send(&mut world, &message).is_empty());
    session.dtls.close(world.now);
    session.carry(&mut world);
    world.release();
    assert_eq!(world.ledger.issued_count(), 1);
    fill(&mut world);
    let device = Enrolled { holder, body, certificate: Vec::new() };
    assert!(device.ask(&mut world, 2, &device.body).1.is_empty(), "it waits");
}

#[test]
fn c47_a_full_server_answers_retransmissions_and_every_block_of_what_it_has_begun() {
    let mut world = world();
    // An answer of which one block is fetched.
    let answered = world.pki.device(1);
    let mut fetching = Raw::connect(&mut world, 1, &answered);
    let body = request(&answered);
    let block2 = |num| Some(Block { num, more: false, size: BlockSize::B64 });
    let first = fetching.message(&Ask { block2: block2(0), ..enrolment(&body) });
    let said = fetching.send(&mut world, &first);
    assert!(said[0].block2.is_some_and(|block| block.more), "{said:?}");
    // An upload of which one block has arrived.
    let uploading = world.pki.device(2);
    let mut upload = Raw::connect(&mut world, 2, &uploading);
    let new = request(&uploading);
    let block1 = |num, more| Some(Block { num, more, size: BlockSize::B64 });
    let begun = upload.ask(&mut world, &Ask { block1: block1(0, true), ..enrolment(&new[..64]) });
    assert_eq!(begun.code, Code::CONTINUE);
    fill_beside(&mut world, 1);
    let sent_away = world.server.counters().requests_later;

    // The same message again gets the same answer, and each further block is served.
    let again = fetching.send(&mut world, &first);
    assert_eq!((again[0].code, &again[0].payload), (said[0].code, &said[0].payload));
    let mut number = 0;
    loop {
        number += 1;
        let next = fetching.ask(&mut world, &Ask { block2: block2(number), ..enrolment(&body) });
        assert_eq!(next.code, Code::CHANGED, "block {number}");
        if !next.block2.unwrap().more {
            break;
        }
    }
    // The upload goes on, and a retransmitted block gets its answer again.
    let message = upload.message(&Ask { block1: block1(1, true), ..enrolment(&new[64..128]) });
    for _ in 0..2 {
        assert_eq!(upload.send(&mut world, &message)[0].code, Code::CONTINUE);
    }
    assert_eq!(world.server.counters().requests_later, sent_away, "nobody was sent away");
}

/// An upload in blocks of 64 bytes.
struct Upload {
    session: Raw,
    body: Vec<u8>,
    sent: usize,
}

impl Upload {
    fn begin(world: &mut World, port: u16, holder: &Holder) -> Self {
        let mut upload = Self { session: Raw::connect(world, port, holder), body: request(holder), sent: 0 };
        assert_eq!(upload.next(world)[0].code, Code::CONTINUE);
        upload
    }

    fn is_whole(&self) -> bool {
        self.sent * 64 >= self.body.len()
    }

    fn next(&mut self, world: &mut World) -> Vec<Said> {
        let payload = self.body.chunks(64).nth(self.sent).unwrap();
        let num = u32::try_from(self.sent).unwrap();
        self.sent += 1;
        let block1 = Block { num, more: !self.is_whole(), size: BlockSize::B64 };
        let message = self.session.message(&Ask { block1: Some(block1), ..enrolment(payload) });
        self.session.send(world, &message)
    }

    /// What the last block is told.
    fn end(&mut self, world: &mut World) -> Vec<Said> {
        loop {
            let said = self.next(world);
            if self.is_whole() {
                return said;
            }
            assert_eq!(said[0].code, Code::CONTINUE);
        }
    }
}

#[test]
fn c47_an_upload_that_was_admitted_has_its_place_at_its_end() {
    let mut world = world();
    let holders: Vec<_> = (1..=3).map(|number| world.pki.device(number)).collect();
    let mut uploads: Vec<_> =
        (1..).zip(&holders).map(|(port, holder)| Upload::begin(&mut world, port, holder)).collect();
    fill_beside(&mut world, 3);
    assert_eq!(world.server.counters().pending, PENDING_MAX - 3, "who uploads does not wait yet");
    for upload in &mut uploads {
        assert!(upload.end(&mut world).is_empty(), "it waits");
    }
    assert_eq!(world.server.counters().pending, PENDING_MAX);
    world.release();
    while world.server.poll_transmit().is_some() {}
    assert_eq!((world.server.counters().pending, world.ledger.issued_count()), (0, PENDING_MAX));
    // Each place is free again.
    world.advance(Duration::from_secs(1));
    fill(&mut world);
}

#[test]
fn c44_uploads_of_one_certificate_keep_no_more_places_than_they_leave() {
    let mut world = world();
    let holder = world.pki.device(1);
    for port in 1..=PENDING_MAX / 2 {
        Upload::begin(&mut world, port.try_into().unwrap(), &holder);
    }
    let mut session = Raw::connect(&mut world, 100, &holder);
    let body = request(&holder);
    let block1 = Some(Block { num: 0, more: true, size: BlockSize::B64 });
    let message = session.message(&Ask { block1, ..enrolment(&body[..64]) });
    let said = session.send(&mut world, &message);
    assert_sent_away(&world, &said);
    fill_beside(&mut world, PENDING_MAX / 2);
}

#[test]
fn c47_an_upload_that_stands_still_keeps_no_place() {
    let mut world = world();
    let (still, goes_on) = (world.pki.device(1), world.pki.device(2));
    let mut still = Upload::begin(&mut world, 1, &still);
    let mut goes_on = Upload::begin(&mut world, 2, &goes_on);
    for _ in 0..2 {
        world.advance(Duration::from_secs(6));
        world.server.handle_timeout(world.now);
        if !goes_on.is_whole() {
            goes_on.next(&mut world);
        }
    }
    fill_beside(&mut world, 1);
    assert!(goes_on.end(&mut world).is_empty(), "it waits");
    let said = still.end(&mut world);
    assert_sent_away(&world, &said);
    assert_eq!(world.server.counters().pending, PENDING_MAX);
}
