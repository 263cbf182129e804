//! Delayed responses, both forms and both ends (RFC 9148 §4.7): the empty acknowledgement with a confirmable response in blocks much later, and 5.03
//! with Max-Age and the whole request once more.

use std::time::Duration;

use authority::Registration;
use coap::BlockSize;
use est::{ClientConfig, ClientEvent, Failure, Operation, Persistence};

use crate::support::{Fate, Key, Pace, World, csr};

#[test]
fn an_acknowledged_request_is_answered_in_blocks_however_late() {
    let wait = Duration::from_secs(6 * 3_600);
    let mut world = World::with(|_, spec| spec.dtls.idle_timeout = wait);
    world.pace = Pace::Held;
    let holder = world.pki.device(1);
    let config = ClientConfig { block: BlockSize::B64, response_wait: wait, ..ClientConfig::default() };
    let mut device = world.connect(1, &holder, config);
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    world.sleep(&mut device, Duration::from_secs(2));
    assert!(matches!(device.event(), ClientEvent::Acknowledged));
    let (asked, _) = world.datagrams;
    world.sleep(&mut device, wait - Duration::from_secs(60));
    assert!(device.events.is_empty(), "{:?}", device.events);
    assert_eq!(world.datagrams.0, asked, "who waits sends nothing");

    // The first transmission of the response is lost; the server repeats it.
    world.release();
    let mut lost = false;
    world.run_over(&mut device, |_| if std::mem::replace(&mut lost, true) { Fate::Arrives } else { Fate::Lost });
    world.sleep(&mut device, Duration::from_secs(10));
    let certificate = device.certificate();
    assert!(certificate.len() > 2 * 64, "several blocks: {}", certificate.len());
    assert_eq!(world.server.counters().coap.separate, 1);
    assert_eq!((world.submitted, world.ledger.issued_count()), (1, 1));
}

#[test]
fn an_acknowledged_request_whose_answer_never_comes_is_asked_again_as_it_was() {
    let mut world = World::new();
    world.pace = Pace::Held;
    let holder = world.pki.device(1);
    let config = ClientConfig {
        response_wait: Duration::from_secs(60),
        persistence: Some(Persistence::default()),
        ..ClientConfig::default()
    };
    let mut device = world.connect(1, &holder, config);
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    world.sleep(&mut device, Duration::from_secs(2));
    assert!(matches!(device.event(), ClientEvent::Acknowledged));
    // The outcome comes while the server cannot reach the device.
    world.release();
    world.run_over(&mut device, |_| Fate::Lost);
    world.pace = Pace::AtOnce;
    let end = world.now.mono + Duration::from_secs(70);
    while let Some(next) = device.client.poll_timeout().filter(|next| *next <= end) {
        world.advance_to(next.max(world.now.mono));
        device.client.handle_timeout(world.now);
        world.run(&mut device);
    }
    world.sleep(&mut device, Duration::from_secs(30));
    while matches!(device.events.front(), Some(ClientEvent::Again { .. } | ClientEvent::Reconnected { .. })) {
        device.events.pop_front();
    }
    device.certificate();
    assert_eq!(world.ledger.issued_count(), 1, "the repeat gets the certificate of the first request");
}

#[test]
fn c36_after_5_03_the_whole_request_in_blocks_comes_again_with_the_same_octets() {
    let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
    world.pace = Pace::Held;
    let (one, two) = (world.pki.device(1), world.pki.device(2));
    let mut first = world.connect(1, &one, ClientConfig::default());
    world.ask(&mut first, Operation::Enroll { csr: csr(one.certificate.subject(), &Key::new()) });

    // A client that leaves each step to its caller.
    let config = ClientConfig { block: BlockSize::B64, ..ClientConfig::default() };
    let mut second = world.connect(2, &two, config);
    let request = csr(two.certificate.subject(), &Key::new());
    assert!(request.len() > 3 * 64, "several blocks");
    world.ask(&mut second, Operation::Enroll { csr: request.clone() });
    let Failure::Later { max_age, .. } = second.failure() else { panic!("not later") };
    assert_eq!(second.client.take_uploads_sent_away(), 0, "its first block was not taken");
    world.release();
    world.server_says(first.path);
    world.pace = Pace::AtOnce;
    world.sleep(&mut second, Duration::from_secs(max_age.into()));
    world.ask(&mut second, Operation::Enroll { csr: request });
    second.certificate();
    assert_eq!(world.server.counters().handshakes, 2, "over the same association");
    assert_eq!(world.ledger.issued_count(), 2);
}

/// What was uploaded is lost for a device that is sent away at the end, and it can say so.
#[test]
fn an_upload_that_ends_with_5_03_is_told_from_one_that_never_began() {
    let mut world = World::new();
    world.desk.says("000001", Registration::Pending);
    let holder = world.pki.device(1);
    let mut sent_away = |port, block| {
        let config = ClientConfig { block, ..ClientConfig::default() };
        let mut device = world.connect(port, &holder, config);
        world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
        assert!(matches!(device.failure(), Failure::Later { .. }));
        [device.client.take_uploads_sent_away(), device.client.take_uploads_sent_away()]
    };
    assert_eq!(sent_away(1, BlockSize::B1024), [0, 0], "one block is no upload");
    assert_eq!(sent_away(2, BlockSize::B64), [1, 0]);
}
