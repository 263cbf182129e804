//! A device learns what the ledger's lists and limits say about it: by the code, the reason and the Max-Age that the RFCs define.

use std::time::Duration;

use authority::{Busy, Locator, Registration, UpstreamBusy};
use coap::Code;
use est::{ClientConfig, Failure, Operation, Reason};
use pki::Certificate;

use crate::support::enrolled::enrolled;
use crate::support::{Holder, Key, Pace, World, csr, start, utc};

const DEVICE: &str = "000001";

fn enroll(holder: &Holder) -> Operation {
    Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) }
}

/// What the device is told: code, diagnostic payload, and Max-Age.
fn told(world: &mut World, port: u16, holder: &Holder, operation: Operation) -> (Code, String, Option<u32>) {
    let mut device = world.connect(port, holder, ClientConfig::default());
    world.ask(&mut device, operation);
    let (refused, max_age) = match device.failure() {
        Failure::Refused(refused) => (refused, None),
        Failure::Later { refused, max_age } => (refused, Some(max_age)),
        other => panic!("{other:?}"),
    };
    let reason = world.attempts.last().unwrap().reason().unwrap();
    assert_eq!((Some(refused.code), refused.diagnostic.as_deref()), (reason.response_code(), Some(reason.code())));
    (refused.code, refused.diagnostic.unwrap(), max_age)
}

#[test]
fn a_device_that_is_denied_is_refused_whatever_it_authenticates_with() {
    let mut world = World::new();
    let idevid = world.pki.device(1);
    let enrolled = enrolled(&mut world);
    world.desk.says(DEVICE, Registration::Denied);
    let subject = enrolled.certificate.subject().clone();
    let renewal = Operation::Reenroll { csr: csr(&subject, &Key::new()) };
    let denied = (Code::FORBIDDEN, "est.device.denied".to_owned(), None);
    assert_eq!(told(&mut world, 2, &idevid, enroll(&idevid)), denied);
    assert_eq!(told(&mut world, 3, &enrolled, renewal), denied);
    let counters = world.server.counters();
    assert_eq!((counters.issued, counters.requests_refused, counters.requests_later), (1, 2, 0));
    // Another device is not refused.
    let other = world.pki.device(2);
    let mut device = world.connect(4, &other, ClientConfig::default());
    world.ask(&mut device, enroll(&other));
    device.certificate();
}

#[test]
fn a_device_that_waits_for_approval_comes_back_and_nobody_else_waits_for_it() {
    let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
    let (idevid, other) = (world.pki.device(1), world.pki.device(2));
    world.desk.says(DEVICE, Registration::Pending);
    let body = enroll(&idevid);
    for number in 3..=7 {
        let device = world.pki.device(number);
        world.desk.says(&format!("{number:06}"), Registration::Pending);
        let port = u16::try_from(number).unwrap();
        let (code, reason, max_age) = told(&mut world, port, &device, enroll(&device));
        assert_eq!((code, reason.as_str()), (Code::SERVICE_UNAVAILABLE, "est.device.pending"));
        assert!((300..=452).contains(&max_age.unwrap()), "{max_age:?}");
    }
    assert_eq!(world.server.counters().requests_later, 5);
    // The wait of a device that finds the server busy grows with the number of devices that were sent away before; refusals by the
    // lists do not count.
    world.pace = Pace::Held;
    let mut held = world.connect(9, &other, ClientConfig::default());
    world.ask(&mut held, enroll(&other));
    let (_, reason, max_age) = told(&mut world, 10, &idevid, body.clone());
    assert_eq!(reason, Reason::EstPendingFull.code());
    assert!(max_age.unwrap() <= 20, "{max_age:?}");
    world.pace = Pace::AtOnce;
    world.release();
    world.run(&mut held);
    held.certificate();
    world.desk.says(DEVICE, Registration::Registered);
    let mut device = world.connect(11, &idevid, ClientConfig::default());
    world.ask(&mut device, body);
    device.certificate();
}

/// Of a Registrar: a CA that has people approve each device answers 202 to all of them for days.
#[test]
fn devices_that_wait_for_what_an_upstream_decides_make_nobody_else_wait_longer() {
    let wait = Duration::from_secs(600);
    for why in [UpstreamBusy::Accepted { wait }, UpstreamBusy::Later { wait }] {
        let mut world = World::with(|_, spec| spec.limits.pending_max = 1);
        world.pace = Pace::Held;
        for number in 10..30 {
            let holder = world.pki.device(number);
            let mut device = world.connect(u16::try_from(number).unwrap(), &holder, ClientConfig::default());
            world.ask(&mut device, enroll(&holder));
            let (job, _) = world.held.pop().unwrap();
            world.server.complete(world.now, job, Busy::Upstream(why).into());
            world.complete();
            world.run(&mut device);
            let Failure::Later { max_age, .. } = device.failure() else { panic!("not told to come later") };
            assert!((600..=902).contains(&max_age), "{max_age}");
        }
        assert_eq!(world.server.counters().requests_later, 20);
        let (first, second) = (world.pki.device(1), world.pki.device(2));
        let mut held = world.connect(1, &first, ClientConfig::default());
        world.ask(&mut held, enroll(&first));
        let (_, reason, max_age) = told(&mut world, 2, &second, enroll(&second));
        assert_eq!(reason, Reason::EstPendingFull.code());
        assert!(max_age.unwrap() <= 20, "{why}: {max_age:?}");
    }
}

#[test]
fn a_device_over_its_limit_is_told_when_it_may_ask_again() {
    let mut world = World::new();
    let idevid = world.pki.device(1);
    let until = utc(world.now.utc.as_secs() + 600);
    world.desk.says(DEVICE, Registration::OverLimit { until });
    let (code, reason, max_age) = told(&mut world, 1, &idevid, enroll(&idevid));
    assert_eq!((code, reason.as_str()), (Code::TOO_MANY_REQUESTS, "est.device.over_limit"));
    assert!((600..=902).contains(&max_age.unwrap()), "never before its time: {max_age:?}");
    let counters = world.server.counters();
    assert_eq!((counters.requests_later, counters.requests_refused), (1, 0));
    assert_eq!(world.ledger.issued_count(), 0);
    // A day is longer than this server would choose by itself, and it must not shorten it.
    let until = utc(world.now.utc.as_secs() + 86_400);
    world.desk.says(DEVICE, Registration::OverLimit { until });
    let (_, _, max_age) = told(&mut world, 2, &idevid, enroll(&idevid));
    assert!((86_390..=129_602).contains(&max_age.unwrap()), "{max_age:?}");
}

#[test]
fn every_job_asks_and_its_row_says_where_it_came_from() {
    let mut world = World::new();
    let idevid = world.pki.device(1);
    let mut device = world.connect(4_711, &idevid, ClientConfig::default());
    world.ask(&mut device, enroll(&idevid));
    let certificate = Certificate::parse(&device.certificate()).unwrap();
    let asked = std::mem::take(&mut *world.desk.asked.lock().unwrap());
    let [inquiry] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((inquiry.client, &*inquiry.profile), (idevid.certificate.digest(), "meters"));
    assert_eq!(inquiry.device.as_ref().map(|device| device.id.as_str()), Some(DEVICE));
    let row = world.row(Locator::of(&certificate).unwrap()).unwrap();
    assert_eq!(row.intent.peer, World::path(4_711).peer);
    assert_eq!(row.intent.at, start().utc);
}
