//! The decision about a request: each refusal, and that nothing of a CSR reaches a certificate unless the profile
//! lists it.

use std::sync::Arc;

use authority::{Asked, DeviceIdRule, Function, KeyTypes, Outcome, Refusal, SanKind, SubjectRule};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use pki::issue::RevocationReason;
use pki::{Certificate, GeneralNames, Name, NameBuilder, oid};
use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose};

use crate::support::{
    DAY, START, TLS_UNIQUE, World, YEAR, dns, issued, key, refused, revoke, revoke_for, run, run_one,
};

fn name(common_name: &str, serial_number: &str) -> Name {
    let builder = NameBuilder::new().push(oid::ORGANIZATION, "Maker").unwrap();
    let builder = builder.push(oid::COMMON_NAME, common_name).unwrap();
    builder.push(oid::SERIAL_NUMBER, serial_number).unwrap().finish().unwrap()
}

#[test]
fn an_enrolment_says_what_the_profile_says() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let device = world.device(1);
    let result = issued(run_one(&issuer, START, world.enroll(&world.profile(), &device, device.csr())));
    assert_eq!(result.device.id.as_str(), "000001");
    let certificate = Certificate::parse(&result.certificate).unwrap();
    assert_eq!(certificate.subject().der(), device.idevid.subject().der());
    assert_eq!(certificate.spki(), device.key.spki());
    assert!(certificate.san().is_empty() && !certificate.is_ca());
    assert_eq!(certificate.verify_signed_by(world.ca.certificate()), Ok(()));
    assert_eq!(ledger.issued(), [result]);
}

#[test]
fn e03_a_challenge_password_must_be_the_tls_unique_of_this_session() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let subject = device.idevid.subject();
    let csr = |challenge: &str| device.csr_with(subject, &GeneralNames::empty(), Some(challenge));
    let earlier_session = BASE64.encode(*b"other bytes!");
    for challenge in [earlier_session.as_str(), "secret", "dHdlbHZlIGJ5dGVz\n", "twelve bytes"] {
        let job = world.enroll(&profile, &device, csr(challenge));
        assert_eq!(refused(run_one(&issuer, START, job)), Refusal::ChallengeMismatch, "{challenge:?}");
    }
    let right = csr(&BASE64.encode(TLS_UNIQUE));
    let mut unbound = world.enroll(&profile, &device, right.clone());
    unbound.tls_unique = None;
    assert_eq!(refused(run_one(&issuer, START, unbound)), Refusal::ChallengeUnbound);
    assert_eq!(ledger.issued_count(), 0);
    issued(run_one(&issuer, START, world.enroll(&profile, &device, right)));
}

#[test]
fn e07_a_renewal_asks_for_subject_and_names_of_the_certificate_it_renews() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    let renew = |csr| world.with_issued(Function::SimpleReenroll, &profile, &first, csr);
    let none = GeneralNames::empty();
    let other_subject = device.csr_with(&name("meter-1", "000002"), &none, None);
    assert!(matches!(refused(run_one(&issuer, START + DAY, renew(other_subject))), Refusal::SubjectMismatch(_)));
    let with_name = device.csr_with(device.idevid.subject(), &dns(&["meter.example"]), None);
    assert_eq!(refused(run_one(&issuer, START + DAY, renew(with_name))), Refusal::SanNotListed(SanKind::Dns));
    // Case and string type do not make another subject (RFC 5280 §7.1); the issued certificate keeps the approved
    // encoding.
    let same = device.csr_with(&name("METER-1", "000001"), &none, None);
    let second = issued(run_one(&issuer, START + DAY, renew(same)));
    let subject = |der: &[u8]| Certificate::parse(der).unwrap().subject().der().to_vec();
    assert_eq!(subject(&second.certificate), subject(&first.certificate));
}

#[test]
fn e07_under_a_template_too() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let profile = world.profile_with(|spec| spec.subject = "CN={device_id},O=Fleet".parse().unwrap());
    let device = world.device(1);
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    let certificate = Certificate::parse(&first.certificate).unwrap();
    assert_eq!(certificate.subject().to_string(), "CN=000001,O=Fleet");
    let renew = |csr| world.with_issued(Function::SimpleReenroll, &profile, &first, csr);
    assert!(matches!(refused(run_one(&issuer, START + DAY, renew(device.csr()))), Refusal::SubjectMismatch(_)));
    let csr = device.csr_with(certificate.subject(), &GeneralNames::empty(), None);
    let second = issued(run_one(&issuer, START + DAY, renew(csr)));
    assert_eq!(second.device, first.device, "the ledger knows the device; the new subject has no serialNumber");
    assert_eq!(Certificate::parse(&second.certificate).unwrap().subject().der(), certificate.subject().der());
}

#[test]
fn e09_a_revoked_certificate_opens_nothing() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    revoke(&*ledger, &first);
    for function in [Function::SimpleEnroll, Function::SimpleReenroll] {
        let job = world.with_issued(function, &profile, &first, device.csr());
        assert_eq!(refused(run_one(&issuer, START + 1, job)), Refusal::ClientRevoked);
    }
    let again = issued(run_one(&issuer, START + 1, world.enroll(&profile, &device, device.csr())));
    assert_ne!(again, first, "a revoked certificate answers no repeat");
}

#[test]
fn e10_only_a_certificate_of_this_ca_is_renewed() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let mut job = world.enroll(&profile, &device, device.csr());
    job.function = Function::SimpleReenroll;
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::NotIssuedHere);
    for anchor in [world.root.anchor_id(), pki::AnchorId::from_bytes([7; 32])] {
        let mut job = world.enroll(&profile, &device, device.csr());
        job.anchor = anchor;
        assert_eq!(refused(run_one(&issuer, START, job)), Refusal::ClientUnknown);
    }
}

#[test]
fn e11_a_certificate_that_expires_within_its_session_opens_nothing() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    let end = first.validity.not_after.as_secs();
    let renew = || world.with_issued(Function::SimpleReenroll, &profile, &first, device.csr());
    assert_eq!(refused(run_one(&issuer, end + 1, renew())), Refusal::ClientExpired);
    issued(run_one(&issuer, end, renew()));
}

/// A CSR of device 1 with arbitrary extensions, made by rcgen, a second implementation.
fn csr_with_extensions(world: &World, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let (_, pkcs8) = key(&world.random);
    let key_pair = rcgen::KeyPair::try_from(pkcs8.pkcs8()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Maker");
    params.distinguished_name.push(DnType::CommonName, "meter-1");
    let serial_number = rcgen::string::PrintableString::try_from("000001").unwrap();
    let serial_number = rcgen::DnValue::PrintableString(serial_number);
    params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 5]), serial_number);
    change(&mut params);
    params.serialize_request(&key_pair).unwrap().der().to_vec()
}

fn extension(oid: &[u64], content: &[u8]) -> CustomExtension {
    CustomExtension::from_oid_content(oid, content.to_vec())
}

#[test]
fn e15_what_would_make_a_device_an_authority_is_refused() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let ask = |change: &dyn Fn(&mut CertificateParams)| {
        let csr = csr_with_extensions(&world, |params| change(params));
        refused(run_one(&issuer, START, world.enroll(&profile, &device, csr)))
    };
    let ca_true = extension(&[2, 5, 29, 19], &[0x30, 3, 1, 1, 0xff]);
    assert_eq!(
        ask(&|params| params.custom_extensions.push(ca_true.clone())),
        Refusal::Asks(Asked::CertificateAuthority)
    );
    for usage in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        assert_eq!(ask(&|params| params.key_usages.push(usage)), Refusal::Asks(Asked::CertificateSigning));
    }
    let cmc_ra = ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 5, 5, 7, 3, 28]);
    for purpose in [ExtendedKeyUsagePurpose::Any, ExtendedKeyUsagePurpose::OcspSigning, cmc_ra] {
        let refusal = ask(&|params| params.extended_key_usages.push(purpose.clone()));
        assert_eq!(refusal, Refusal::Asks(Asked::AnyPurpose));
    }
    assert_eq!(ledger.issued_count(), 0);
}

#[test]
fn e15_what_else_a_csr_asks_for_is_dropped_and_never_copied() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let csr = csr_with_extensions(&world, |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::CodeSigning];
        // Policies, authority and subject key identifiers that the client chose, and an unknown extension.
        let policies = [0x30, 8, 0x30, 6, 6, 4, 0x55, 0x1d, 0x20, 0];
        params.custom_extensions.push(extension(&[2, 5, 29, 32], &policies));
        params.custom_extensions.push(extension(&[2, 5, 29, 35], &[0x30, 6, 0x80, 4, 1, 2, 3, 4]));
        params.custom_extensions.push(extension(&[2, 5, 29, 14], &[4, 4, 1, 2, 3, 4]));
        params.custom_extensions.push(extension(&[1, 3, 6, 1, 4, 1, 99999, 1], &[5, 0]));
    });
    let result = issued(run_one(&issuer, START, world.enroll(&profile, &device, csr)));
    let certificate = Certificate::parse(&result.certificate).unwrap();
    assert!(certificate.key_usage().unwrap().is_only_digital_signature());
    let purposes = certificate.extended_key_usage().unwrap();
    assert!(purposes.client_auth && !purposes.server_auth && !purposes.others && !purposes.any);
    assert_ne!(certificate.subject_key_id(), Some(&[1, 2, 3, 4][..]));
    assert_eq!(certificate.authority_key_id(), world.ca.certificate().subject_key_id());
    let policies = [6, 3, 0x55, 0x1d, 0x20];
    assert!(!result.certificate.windows(policies.len()).any(|window| window == policies));
}

#[test]
fn e17_a_common_name_never_becomes_an_alternative_name() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let profile = world.profile_with(|spec| spec.san = vec![SanKind::Dns]);
    let device = world.device(1);
    let result = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    assert!(Certificate::parse(&result.certificate).unwrap().san().is_empty());
}

#[test]
fn e18_every_name_asked_for_is_checked() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let profile = world.profile_with(|spec| spec.san = vec![SanKind::Dns, SanKind::Ip, SanKind::Uri]);
    let device = world.device(1);
    let held = ["a.example", "b.example", "c.example", "d.example"];
    let client = Arc::new(world.with_names(&device, &dns(&held)));
    let job = |san: &GeneralNames| {
        let mut job = world.enroll(&profile, &device, device.csr_with(device.idevid.subject(), san, None));
        job.client = Arc::clone(&client);
        job
    };
    for bad in 0..held.len() {
        let mut names = held;
        names[bad] = "bank.example";
        assert!(matches!(refused(run_one(&issuer, START, job(&dns(&names)))), Refusal::SanMismatch(_)), "bad at {bad}");
    }
    assert_eq!(ledger.issued_count(), 0);
    let some = issued(run_one(&issuer, START, job(&dns(&["C.example", "a.EXAMPLE"]))));
    assert!(Certificate::parse(&some.certificate).unwrap().san().matches(&dns(&["a.example", "c.example"])));
}

#[test]
fn e16_kinds_that_are_not_listed_are_refused() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let device = world.device(1);
    let address = pki::GeneralName::Ip([192, 0, 2, 1].into());
    let both = GeneralNames::new([pki::GeneralName::Dns("a.example"), address]).unwrap();
    let client = Arc::new(world.with_names(&device, &both));
    let profile = world.profile_with(|spec| spec.san = vec![SanKind::Dns]);
    let mut job = world.enroll(&profile, &device, device.csr_with(device.idevid.subject(), &both, None));
    job.client = client;
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::SanNotListed(SanKind::Ip));
}

#[test]
fn e19_a_subject_that_is_not_the_clients_is_refused() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let more = NameBuilder::new().push(oid::COMMON_NAME, "meter-1").unwrap().finish().unwrap();
    for subject in [name("meter-1", "000002"), name("meter-2", "000001"), more] {
        let csr = device.csr_with(&subject, &GeneralNames::empty(), None);
        assert!(matches!(
            refused(run_one(&issuer, START, world.enroll(&profile, &device, csr))),
            Refusal::SubjectMismatch(_)
        ));
    }
    assert_eq!(ledger.issued_count(), 0);
}

#[test]
fn e69_a_mismatch_shows_both_subjects_to_the_operator() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let asked = name("meter-1", "000002");
    let job = world.enroll(&profile, &device, device.csr_with(&asked, &GeneralNames::empty(), None));
    let refusal = refused(run_one(&issuer, START, job));
    let detail = refusal.detail().unwrap();
    for subject in [&asked, device.idevid.subject()] {
        assert!(detail.contains(&subject.to_string()), "{detail}");
        assert!(!refusal.to_string().contains(&subject.to_string()), "the short text names neither");
    }
    let lists_dns = world.profile_with(|spec| spec.san = vec![SanKind::Dns]);
    let san = dns(&["other.example"]);
    let mut job = world.enroll(&lists_dns, &device, device.csr_with(device.idevid.subject(), &san, None));
    job.client = Arc::new(world.with_names(&device, &dns(&["own.example"])));
    let detail = refused(run_one(&issuer, START, job)).detail().unwrap();
    assert!(detail.contains("other.example") && detail.contains("own.example"), "{detail}");
}

#[test]
fn e22_a_key_that_another_device_has_certified_is_refused() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, one, two) = (world.profile(), world.device(1), world.device(2));
    issued(run_one(&issuer, START, world.enroll(&profile, &one, one.csr())));
    let csr = two.csr_for(&one.key, two.idevid.subject(), &GeneralNames::empty(), None);
    assert_eq!(refused(run_one(&issuer, START, world.enroll(&profile, &two, csr))), Refusal::KeyOfAnotherDevice);
    assert_eq!(ledger.issued_count(), 1);
}

#[test]
fn e23_a_key_that_was_revoked_as_compromised_is_not_certified_for_anybody() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let other_profile = world.profile_with(|spec| {
        spec.profile.name = "others".into();
        spec.allow_identity_key = true;
    });
    let (profile, one, two) = (world.profile(), world.device(1), world.device(2));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &one, one.csr())));
    revoke_for(&*ledger, &first, RevocationReason::KeyCompromise);
    let copied = two.csr_for(&one.key, two.idevid.subject(), &GeneralNames::empty(), None);
    for job in [
        world.enroll(&profile, &one, one.csr()),
        world.enroll(&other_profile, &one, one.csr()),
        world.enroll(&profile, &two, copied),
    ] {
        assert_eq!(refused(run_one(&issuer, START + 1, job)), Refusal::KeyCompromised);
    }
    assert_eq!(Refusal::KeyCompromised.code(Function::SimpleEnroll), "est.csr.key_compromised");
    assert_eq!(ledger.issued_count(), 1);
    let fresh = one.csr_for(&key(&world.random).0, one.idevid.subject(), &GeneralNames::empty(), None);
    issued(run_one(&issuer, START + 1, world.enroll(&profile, &one, fresh)));
}

#[test]
fn e23_the_key_of_the_factory_or_of_a_ca_is_not_certified() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let none = GeneralNames::empty();
    let identity = device.csr_for(&device.identity_key, device.idevid.subject(), &none, None);
    let job = world.enroll(&profile, &device, identity.clone());
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::IdentityKey);
    let lax = world.profile_with(|spec| spec.allow_identity_key = true);
    issued(run_one(&issuer, START, world.enroll(&lax, &device, identity)));
    let ca_key = world.signing_key();
    let csr = device.csr_for(&ca_key, device.idevid.subject(), &none, None);
    assert_eq!(refused(run_one(&issuer, START, world.enroll(&profile, &device, csr))), Refusal::CaKey);
}

#[test]
fn e23_a_renewal_may_keep_the_operational_key() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    let renewal = world.with_issued(Function::SimpleReenroll, &profile, &first, device.csr());
    assert_ne!(issued(run_one(&issuer, START + DAY, renewal)), first);
}

#[test]
fn e28_validity_is_within_the_profiles_and_the_issuers() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let result = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    let (from, to) = (result.validity.not_before.as_secs(), result.validity.not_after.as_secs());
    assert!(from <= START && START - from <= 3_600, "backdated by at most an hour");
    assert!(to - from < YEAR, "both ends are inclusive: a second more is a second too long");
    let near_the_end = START + 20 * YEAR - DAY;
    let late = issued(run_one(&issuer, near_the_end, world.enroll(&profile, &device, device.csr())));
    assert_eq!(late.validity.not_after, world.ca.certificate().validity().not_after);
    let after = START + 20 * YEAR + 1;
    let outcome = run_one(&issuer, after, world.enroll(&profile, &device, device.csr()));
    assert!(matches!(outcome, Outcome::Later { why: authority::Busy::CaOutsideValidity, .. }), "{outcome:?}");
}

#[test]
fn kinds_of_key_and_identities_are_the_profiles() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let device = world.device(1);
    let narrow = world.profile_with(|spec| spec.key_types = KeyTypes { p256: false, p384: true });
    let job = world.enroll(&narrow, &device, device.csr());
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::KeyType);
    let rule: DeviceIdRule = "idevid:subject.OU".parse().unwrap();
    let nameless = world.profile_with(|spec| spec.profile.device_id = rule);
    let job = world.enroll(&nameless, &device, device.csr());
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::NoDeviceId(rule));
    let unfillable = world.profile_with(|spec| spec.subject = "CN={subject.OU}".parse::<SubjectRule>().unwrap());
    let job = world.enroll(&unfillable, &device, device.csr());
    let unit = authority::SubjectAttribute::OrganizationalUnit;
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::SubjectTemplate(unit));
}

#[test]
fn a_batch_answers_each_of_its_jobs() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, one, two) = (world.profile(), world.device(1), world.device(2));
    let jobs = vec![
        world.enroll(&profile, &one, vec![0x30, 0]),
        world.enroll(&profile, &one, one.csr()),
        world.enroll(&profile, &two, one.csr()),
        world.enroll(&profile, &two, two.csr()),
    ];
    let outcomes = run(&issuer, START, jobs);
    assert!(matches!(outcomes[0], Outcome::Refused(Refusal::Csr(_))));
    assert!(matches!(outcomes[1], Outcome::Issued { .. }));
    assert!(matches!(outcomes[2], Outcome::Refused(Refusal::SubjectMismatch(_))));
    assert!(matches!(outcomes[3], Outcome::Issued { .. }));
    assert_eq!((ledger.issued_count(), issuer.in_flight()), (2, 0));
}
