//! A device has one identity however its factory writes its name (RFC 5280 §7.1).

use std::sync::Arc;

use authority::{CaProfileSpec, Function, Job, Profile, Refusal, Unrecorded};
use pki::{Certificate, GeneralNames, Name, NameBuilder, oid};

use crate::support::{DAY, Device, START, World, issued, refused, run_one, subject_of};

fn named(common_name: &str, serial_number: &str) -> Name {
    let builder = NameBuilder::new().push(oid::COMMON_NAME, common_name).unwrap();
    builder.push(oid::SERIAL_NUMBER, serial_number).unwrap().finish().unwrap()
}

/// `/sen` with a certificate of the factory for this subject.
fn enroll(world: &World, profile: &Arc<Profile>, device: &Device, subject: &Name) -> Job {
    let mut job = world.enroll(profile, device, device.csr_with(subject, &GeneralNames::empty(), None));
    job.client = Arc::new(world.named(device, subject, &GeneralNames::empty()));
    job
}

fn rule(text: &str) -> impl Fn(&mut CaProfileSpec) + '_ {
    move |spec| spec.profile.device_id = text.parse().unwrap()
}

#[test]
fn e80_a_device_whose_certificate_is_made_again_in_other_case_is_the_same_device() {
    for (text, id) in [
        ("idevid:subject", "serialNumber=wt-7,CN=meter 7"),
        ("idevid:subject.CN", "meter 7"),
        ("idevid:subject.serialNumber", "wt-7"),
    ] {
        let world = World::new();
        let (issuer, ledger) = world.plain();
        let profile = world.profile_with(rule(text));
        let (device, again) = (world.device(1), world.device(1));
        let (first, second) = (named("Meter 7", "Wt-7"), named("METER  7", "wT-7"));
        let one = issued(run_one(&issuer, START, enroll(&world, &profile, &device, &first)));
        // The same key with the other spelling: it would be refused as another device's key if this counted as another
        // device.
        let other = issued(run_one(&issuer, START + 1, enroll(&world, &profile, &device, &second)));
        assert_eq!(one.device, other.device, "{text}");
        assert_eq!(one.device.id.as_str(), id);
        issued(run_one(&issuer, START + 2, enroll(&world, &profile, &again, &second)));
        assert_eq!(ledger.issued_count(), 3);
        // Another device still counts as another one.
        let stranger = named("Meter 8", "Wt-8");
        let job = Job {
            csr: device.csr_with(&stranger, &GeneralNames::empty(), None),
            ..enroll(&world, &profile, &world.device(8), &stranger)
        };
        assert_eq!(refused(run_one(&issuer, START + 3, job)), Refusal::KeyOfAnotherDevice, "{text}");
    }
}

/// The certificate contains the name as the factory wrote it: the identity is only an index key.
#[test]
fn e80_a_template_writes_the_name_as_the_factory_spells_it() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let profile =
        world.profile_with(|spec| spec.subject = "CN=meter {device_id},serialNumber={device_id}".parse().unwrap());
    let subject = named("Any", "Wt-0042 B");
    let result = issued(run_one(&issuer, START, enroll(&world, &profile, &world.device(1), &subject)));
    assert_eq!(subject_of(&result).to_string(), "CN=meter Wt-0042 B,serialNumber=Wt-0042 B");
    assert_eq!(result.device.id.as_str(), "wt-0042 b");
    // A name longer than an identity may be is issued as the identity.
    let subject = named("Any", &"Long ".repeat(20));
    let profile = world.profile_with(|spec| spec.subject = "serialNumber={device_id}".parse().unwrap());
    let result = issued(run_one(&issuer, START, enroll(&world, &profile, &world.device(2), &subject)));
    assert!(result.device.id.as_str().starts_with("sha256:"));
    assert_eq!(subject_of(&result).to_string(), format!("serialNumber={}", result.device.id));
}

/// After a restart the in-memory ledger is empty, and a certificate that was issued before still belongs to the same
/// device.
#[test]
fn e80_e47_what_was_issued_before_a_restart_reads_as_the_device_that_it_was_issued_to() {
    let world = World::new();
    for template in ["csr", "CN={subject.CN},serialNumber={device_id}"] {
        let profile = world.profile_with(|spec| {
            spec.subject = template.parse().unwrap();
            spec.unrecorded = Unrecorded::ByRule;
        });
        for serial_number in ["Wt-0042", &"Long ".repeat(20)] {
            let subject = named("Meter", serial_number);
            let device = world.device(1);
            let before = issued(run_one(&world.plain().0, START, enroll(&world, &profile, &device, &subject)));
            let (after, _) = world.plain();
            let shown = Certificate::parse(&before.certificate).unwrap();
            let csr = device.csr_with(shown.subject(), shown.san(), None);
            let job = world.with_issued(Function::SimpleReenroll, &profile, &before, csr);
            let renewed = issued(run_one(&after, START + DAY, job));
            assert_eq!((&renewed.device, subject_of(&renewed)), (&before.device, subject_of(&before)));
        }
    }
}
