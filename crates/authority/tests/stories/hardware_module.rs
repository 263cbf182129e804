//! Devices without a subject: only a critical hardwareModuleName (RFC 4108 §5) names them.

use std::sync::Arc;

use authority::{
    CaProfile, CaProfileFault, CaProfileSpec, DeviceIdRule, Function, IssuedNames, Job, Outcome, Profile, Refusal,
    SanKind, Unrecorded,
};
use pki::der::{Tag, Writer};
use pki::{Certificate, GeneralName, GeneralNames, NameBuilder, Oid, oid};

use crate::support::{DAY, Device, START, World, issued, refused, run_one};

/// `SEQUENCE { hwType 1.3.6.1.4.1.99999.TYPE, hwSerialNum }`
fn module(kind: u8, serial: &[u8]) -> GeneralNames {
    let mut value = Writer::default();
    value.sequence(|out| {
        out.oid(Oid::from_contents(&[0x2b, 6, 1, 4, 1, 0x86, 0x8d, 0x1f, kind]).unwrap());
        out.element(Tag::OCTET_STRING, serial);
    });
    let value = value.into_vec();
    GeneralNames::new([GeneralName::Other { type_id: oid::HARDWARE_MODULE_NAME, value: &value }]).unwrap()
}

/// `/sen` with a certificate of the factory that has these names and no subject, for a CSR that asks for `asked`.
fn enroll(world: &World, profile: &Arc<Profile>, device: &Device, held: &GeneralNames, asked: &GeneralNames) -> Job {
    let empty = NameBuilder::new().finish().unwrap();
    let mut job = world.enroll(profile, device, device.csr_with(&empty, asked, None));
    job.client = Arc::new(world.named(device, &empty, held));
    assert!(job.client.subject().is_empty() && job.client.san().matches(held));
    job
}

fn by_hardware_module(spec: &mut CaProfileSpec) {
    spec.profile.device_id = "idevid:san.hardwareModuleName".parse().unwrap();
}

#[test]
fn e65_a_device_without_a_subject_is_known_by_its_hardware_module_and_a_template_names_it() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let profile = world.profile_with(|spec| {
        by_hardware_module(spec);
        spec.subject = "CN={device_id},O=Fleet".parse().unwrap();
    });
    let none = GeneralNames::empty();
    let names = [module(1, b"Wt-0042"), module(2, b"Wt-0042"), module(1, &[0, 0xff])];
    for (number, held, id) in [
        (1, &names[0], "1.3.6.1.4.1.99999.1:Wt-0042"),
        (2, &names[1], "1.3.6.1.4.1.99999.2:Wt-0042"),
        (3, &names[2], "1.3.6.1.4.1.99999.1:0x00ff"),
    ] {
        let device = world.device(number);
        let result = issued(run_one(&issuer, START, enroll(&world, &profile, &device, held, &none)));
        assert_eq!(result.device.id.as_str(), id);
        let certificate = Certificate::parse(&result.certificate).unwrap();
        assert_eq!(certificate.subject().to_string(), format!("CN={id},O=Fleet"));
        assert!(certificate.san().is_empty());
    }
    assert_eq!(ledger.issued_count(), 3);

    let device = world.device(4);
    let unnamed = GeneralNames::new([GeneralName::Dns("meter.example")]).unwrap();
    let refusal = refused(run_one(&issuer, START, enroll(&world, &profile, &device, &unnamed, &none)));
    assert_eq!(refusal, Refusal::NoDeviceId(DeviceIdRule::HardwareModule));
}

#[test]
fn e65_its_name_is_issued_where_it_is_listed_critical_beside_an_empty_subject() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let profile = world.profile_with(|spec| {
        by_hardware_module(spec);
        spec.san = vec![SanKind::HardwareModule];
    });
    let (device, held) = (world.device(1), module(1, b"0042"));
    let first = issued(run_one(&issuer, START, enroll(&world, &profile, &device, &held, &held)));
    let certificate = Certificate::parse(&first.certificate).unwrap();
    assert!(certificate.subject().is_empty() && certificate.san().matches(&held));
    // RFC 5280 §4.2.1.6: critical if the subject is empty.
    let mut head = Writer::default();
    head.oid(oid::SUBJECT_ALT_NAME);
    head.true_value();
    let head = head.into_vec();
    assert!(first.certificate.windows(head.len()).any(|window| window == head));

    let renewal = device.csr_with(certificate.subject(), &held, None);
    let job = world.with_issued(Function::SimpleReenroll, &profile, &first, renewal);
    assert_eq!(issued(run_one(&issuer, START + DAY, job)).device, first.device);

    let other = module(1, b"0043");
    let refusal = refused(run_one(&issuer, START + DAY, enroll(&world, &profile, &device, &held, &other)));
    assert!(matches!(refusal, Refusal::SanMismatch(_)), "{refusal:?}");
}

#[test]
fn e65_a_certificate_without_any_name_is_refused_and_is_not_a_failure_of_the_server() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (device, held, none) = (world.device(1), module(1, b"0042"), GeneralNames::empty());
    for listed in [vec![], vec![SanKind::HardwareModule]] {
        let profile = world.profile_with(|spec| {
            by_hardware_module(spec);
            spec.san = listed;
        });
        let outcome = run_one(&issuer, START, enroll(&world, &profile, &device, &held, &none));
        assert!(matches!(outcome, Outcome::Refused(Refusal::NoName)), "{outcome:?}");
    }
    assert_eq!((ledger.issued_count(), issuer.in_flight()), (0, 0));
}

#[test]
fn e65_what_was_issued_does_not_tell_the_device_again() {
    let world = World::new();
    for subject in ["csr", "CN={device_id}", "serialNumber={device_id}"] {
        let mut spec = CaProfileSpec::new("meters", Arc::clone(&world.ca), vec![Arc::clone(&world.manufacturer)]);
        by_hardware_module(&mut spec);
        spec.subject = subject.parse().unwrap();
        assert_eq!(spec.issued_names(), IssuedNames::Other, "{subject}");
        spec.unrecorded = Unrecorded::ByRule;
        assert_eq!(CaProfile::compile(spec).err(), Some(CaProfileFault::NamesNotGivenBack), "{subject}");
    }
}
