//! `ren`: what a device is told about the renewal of its certificate, who is told, and where it is announced.

use std::sync::Arc;
use std::time::Duration;

use authority::{CaProfile, RenewalPolicy};
use est::{Answer, ClientConfig, ClientEvent, Failure, Operation, Reason, RenewalInfo};
use pki::Certificate;

use crate::support::{DAY, Device, EPOCH, Holder, Key, Pki, World, csr, utc};

/// A world whose profile tells its devices when to renew.
fn telling(policy: Option<RenewalPolicy>) -> World {
    let pki = Pki::new();
    let mut spec = pki.profile_spec("meters");
    spec.profile.renewal = policy;
    World::of(pki, vec![Arc::new(CaProfile::compile(spec).unwrap())], |_, _| {})
}

fn policy(now_before: Option<u64>) -> RenewalPolicy {
    RenewalPolicy { spread: Duration::from_secs(10 * DAY), now_before: now_before.map(utc) }
}

/// A device with a certificate of this CA, connected with it.
fn enrolled(world: &mut World) -> (Holder, Device) {
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    let key = Key::new();
    world.ask(&mut device, Operation::Enroll { csr: csr(idevid.certificate.subject(), &key) });
    let der = device.certificate();
    let certificate = Arc::new(Certificate::parse(&der).unwrap());
    let chain = vec![der, world.pki.issuing.certificate.der().to_vec()];
    let holder = Holder { certificate, chain, key };
    let device = world.connect(2, &holder, ClientConfig::default());
    (holder, device)
}

fn told(world: &mut World, device: &mut Device) -> RenewalInfo {
    world.ask(device, Operation::RenewalInfo);
    match device.event() {
        ClientEvent::Done(Answer::RenewalInfo(info)) => info,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_is_told_when_its_own_certificate_is_to_be_renewed() {
    let mut world = telling(Some(policy(None)));
    let (holder, mut device) = enrolled(&mut world);
    let submitted = world.submitted;
    let info = told(&mut world, &mut device);
    let validity = holder.certificate.validity();
    let (begin, end) = (validity.not_before.as_secs(), validity.not_after.as_secs());
    assert_eq!(info.start, begin + (end - begin) / 3 * 2);
    assert_eq!(info.end, info.start + 10 * DAY);
    assert_eq!((info.ask_again, info.cause), (6 * 3_600, RenewalInfo::SCHEDULED));
    assert_eq!(told(&mut world, &mut device), info, "however often it asks");
    assert_eq!((world.submitted, world.ledger.issued_count()), (submitted, 1), "nothing is decided or written for it");
}

#[test]
fn certificates_that_are_called_in_have_a_window_from_the_call_on() {
    let mut world = telling(Some(policy(Some(EPOCH + 3_600))));
    let (_, mut device) = enrolled(&mut world);
    let info = told(&mut world, &mut device);
    assert_eq!((info.start, info.end), (EPOCH + 3_600, EPOCH + 3_600 + 10 * DAY));
    assert_eq!(info.cause, RenewalInfo::CALLED_IN);
}

#[test]
fn only_a_certificate_of_this_ca_has_something_to_renew() {
    let mut world = telling(Some(policy(None)));
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    world.ask(&mut device, Operation::RenewalInfo);
    let failure = device.failure();
    assert_eq!(failure.reason(), Some(Reason::RenewalNotOfThisCa));
    assert!(matches!(failure, Failure::Refused(refused) if refused.code == coap::Code::FORBIDDEN));

    let mut world = telling(None);
    let (_, mut device) = enrolled(&mut world);
    world.ask(&mut device, Operation::RenewalInfo);
    assert_eq!(device.failure().reason(), Some(Reason::EstFunctionNotServed));
}

#[test]
fn it_is_announced_by_a_type_of_its_own_and_never_as_a_function_of_rfc_9148() {
    let links = |world: &mut World, query: Option<&str>| {
        let holder = world.pki.device(3);
        let mut device = world.connect(3, &holder, ClientConfig::default());
        world.ask(&mut device, Operation::Discover { query: query.map(str::to_owned) });
        match device.event() {
            ClientEvent::Done(Answer::Links(text)) => text,
            other => panic!("{other:?}"),
        }
    };
    let mut world = telling(Some(policy(None)));
    assert!(links(&mut world, None).contains("</est/ren>;rt=\"ace.muster.ren\";ct=60"));
    assert!(
        !links(&mut world, Some("rt=ace.est*")).contains("ren>;rt=\"ace.muster"),
        "RFC 9148 §4.1 shows this filter"
    );
    assert_eq!(links(&mut world, Some("rt=ace.muster.ren")).matches("rt=").count(), 1);
    assert!(!links(&mut telling(None), None).contains("ace.muster.ren"), "what is not served is not listed");
}
