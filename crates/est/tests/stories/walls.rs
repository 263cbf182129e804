//! An issued certificate gives access only to the profile that issued it, as a device sees it over CoAP (E46).

use std::sync::Arc;

use authority::CaProfile;
use est::{ClientConfig, ClientEvent, Failure, Operation, Reason};
use pki::Certificate;

use crate::support::{Device, Holder, Key, Pki, World, csr};

/// Two profiles with one CA and one manufacturer, each under its label.
fn world() -> World {
    let pki = Pki::new();
    let profile = |label: &str| {
        let mut spec = pki.profile_spec(label);
        spec.profile.labels = vec![label.to_owned()];
        Arc::new(CaProfile::compile(spec).unwrap())
    };
    let profiles = vec![profile("sensors"), profile("gateways")];
    World::of(pki, profiles, |_, _| {})
}

/// A device that presents this certificate under this label.
fn connect(world: &mut World, port: u16, holder: &Holder, label: &str) -> Device {
    let config = ClientConfig { path: vec!["est".into(), label.into()], ..ClientConfig::default() };
    let dtls = world.dtls_config(holder);
    let mut device = world.dial(port, dtls, config);
    world.run(&mut device);
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    device
}

#[test]
fn e46_a_certificate_of_one_label_opens_no_other_one_for_a_first_and_a_further_enrolment() {
    let mut world = world();
    let factory = world.pki.device(1);
    let key = Key::new();
    let mut device = connect(&mut world, 1, &factory, "sensors");
    world.ask(&mut device, Operation::Enroll { csr: csr(factory.certificate.subject(), &key) });
    let issued = Certificate::parse(&device.certificate()).unwrap();
    let chain = vec![issued.der().to_vec(), world.pki.issuing.certificate.der().to_vec()];
    let sensor = Holder { certificate: Arc::new(issued), chain, key };

    let operations: [fn(Vec<u8>) -> Operation; 2] =
        [|csr| Operation::Enroll { csr }, |csr| Operation::Reenroll { csr }];
    for (port, operation) in (2..).zip(operations) {
        let mut device = connect(&mut world, port, &sensor, "gateways");
        world.ask(&mut device, operation(csr(sensor.certificate.subject(), &Key::new())));
        let Failure::Refused(refused) = device.failure() else { panic!("it was accepted") };
        assert_eq!(refused.reason(), Some(Reason::ClientOfAnotherProfile));
        assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::ClientOfAnotherProfile));
    }
    assert_eq!(world.ledger.issued_count(), 1, "nothing was issued");

    // Access to its own label works.
    let mut device = connect(&mut world, 9, &sensor, "sensors");
    world.ask(&mut device, Operation::Reenroll { csr: csr(sensor.certificate.subject(), &Key::new()) });
    device.certificate();
    assert_eq!(world.ledger.issued_count(), 2);
}
