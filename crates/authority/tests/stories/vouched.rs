//! A Registrar vouches for devices: what it may ask for, and what its word does not replace.

use std::sync::Arc;

use authority::{
    Arrival, Authority, CaProfile, CaProfileFault, CaProfileSpec, Function, Job, KeyProtectionFlaw, Ledger, Locator,
    MemoryLedger, Origin, Profile, ProfileFault, Refusal, SanKind, VerifySignatures,
};
use pki::make::{self, CsrAdditions, CsrSpec};
use pki::{AnchorId, Certificate, GeneralNames, KeyProtection, Name, oid};

use crate::support::{
    DAY, Device, START, TLS_UNIQUE, World, at, dns, issued, key, locator, refused, revoke, run_one, secure, subject_of,
};

/// A world with a Registrar, whose certificate is not that of any device of the profile.
struct Site {
    world: World,
    registrar: Arc<Certificate>,
    profile: Arc<Profile>,
}

impl Site {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut CaProfileSpec)) -> Self {
        let world = World::new();
        let registrar = World::seeded(2, VerifySignatures::External).device(77).idevid;
        let profile = world.profile_with(|spec| {
            spec.profile.registrars = vec!["site".into()];
            change(spec);
        });
        Self { world, registrar, profile }
    }

    fn asks(&self, function: Function, csr: Vec<u8>) -> Job {
        Job {
            function,
            arrival: Arrival::Registrar("site".into()),
            client: Arc::clone(&self.registrar),
            anchor: AnchorId::from_bytes([7; 32]),
            csr,
            ..self.world.enroll(&self.profile, &self.world.device(1), Vec::new())
        }
    }
}

fn named(device: &Device, serial_number: &str) -> Vec<u8> {
    let subject = pki::NameBuilder::new().push(oid::COMMON_NAME, "anything").unwrap();
    let subject: Name = subject.push(oid::SERIAL_NUMBER, serial_number).unwrap().finish().unwrap();
    device.csr_with(&subject, &GeneralNames::empty(), None)
}

/// What AsymmetricDecryptKeyIdentifier names the key of this certificate by.
fn key_id(of: &Certificate) -> Vec<u8> {
    let made = || of.public_key().key_identifier().to_vec();
    of.subject_key_id().map_or_else(made, <[u8]>::to_vec)
}

fn row(ledger: &MemoryLedger, of: Locator) -> authority::LedgerEntry {
    let found = Arc::new(std::sync::Mutex::new(None));
    let into = Arc::clone(&found);
    ledger.find(vec![of], Box::new(move |answer| *into.lock().unwrap() = answer.unwrap().remove(0)));
    found.lock().unwrap().take().unwrap()
}

#[test]
fn the_device_and_its_names_are_those_of_the_request_and_the_row_names_the_registrar() {
    let site = Site::new();
    let (issuer, ledger) = site.world.plain();
    let device = site.world.device(1);
    let got = issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, device.csr())));
    assert_eq!(got.device.id.as_str(), "000001");
    assert_eq!(got.device.manufacturer, site.world.manufacturer.anchor_id(), "the device that it is over CoAP too");
    assert!(subject_of(&got).matches(device.idevid.subject()));
    let row = row(&ledger, locator(&got)).intent;
    assert_eq!((row.vouched_by, row.client), (Origin::Registrar, site.registrar.digest()));
    assert_eq!((row.anchor, row.factory_key), (AnchorId::from_bytes([7; 32]), None));

    // The same request again, from whoever speaks for the device, is the same request.
    let again = issued(run_one(&issuer, START + 1, site.asks(Function::SimpleEnroll, device.csr())));
    let direct = issued(run_one(&issuer, START + 1, site.world.enroll(&site.profile, &device, device.csr())));
    assert_eq!((again.digest, direct.digest), (got.digest, got.digest));
    assert_eq!(ledger.issued_count(), 1);
    // A request without a name that the rule reads is nobody's.
    let nobody = device.csr_with(&Name::parse(&[0x30, 0]).unwrap(), &dns(&["a.example"]), None);
    let why = refused(run_one(&issuer, START, site.asks(Function::SimpleEnroll, nobody)));
    assert!(matches!(why, Refusal::NoVouchedDevice(_)), "{why:?}");
}

#[test]
fn only_a_profile_that_lists_the_registrar_takes_its_word() {
    let site = Site::with(|spec| spec.profile.registrars = vec!["another".into()]);
    let (issuer, ledger) = site.world.plain();
    let csr = site.world.device(1).csr();
    let refusal = refused(run_one(&issuer, START, site.asks(Function::SimpleEnroll, csr.clone())));
    assert_eq!(refusal, Refusal::RegistrarNotListed("site".into()));
    // Without the word of the front its certificate is that of a client, and of none of this profile.
    for arrival in [Arrival::Coaps, Arrival::Https] {
        let job = Job { arrival, ..site.asks(Function::SimpleEnroll, csr.clone()) };
        assert_eq!(refused(run_one(&issuer, START, job)), Refusal::ClientUnknown);
    }
    // An ordinary device speaks for itself alone.
    let other = site.world.device(2);
    let job = Job { arrival: Arrival::Https, ..site.world.enroll(&site.profile, &other, csr) };
    assert!(matches!(refused(run_one(&issuer, START, job)), Refusal::SubjectMismatch(_)));
    assert_eq!(ledger.issued_count(), 0);
}

#[test]
fn a_renewal_keeps_the_names_of_the_certificate_that_the_device_got_last() {
    let site = Site::with(|spec| {
        spec.subject = "CN={subject.CN},serialNumber={device_id},O=Operator".parse().unwrap();
        spec.san = vec![SanKind::Dns];
    });
    let (issuer, _) = site.world.plain();
    let device = site.world.device(1);
    let csr = device.csr_with(device.idevid.subject(), &dns(&["a.example"]), None);
    let first = issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, csr)));
    let held = Certificate::parse(&first.certificate).unwrap();
    assert_eq!(held.san(), &dns(&["a.example"]), "the Registrar vouches for the names of the request");

    let renew = |subject: &Name, san: &GeneralNames| {
        let csr = device.csr_for(&key(&site.world.random).0, subject, san, None);
        run_one(&issuer, START + DAY, site.asks(Function::SimpleReenroll, csr))
    };
    let factory = renew(device.idevid.subject(), held.san());
    assert!(matches!(refused(factory), Refusal::SubjectMismatch(_)), "that of the factory was replaced");
    assert!(matches!(refused(renew(held.subject(), &dns(&["b.example"]))), Refusal::SanMismatch(_)));
    assert!(matches!(refused(renew(held.subject(), &GeneralNames::empty())), Refusal::SanMismatch(_)));
    let renewed = issued(renew(held.subject(), held.san()));
    assert_eq!(subject_of(&renewed).der(), held.subject().der());
    // A repeat of a renewal is answered by what it yielded, although that is now the last certificate.
    let csr = device.csr_for(&key(&site.world.random).0, held.subject(), held.san(), None);
    let second = issued(run_one(&issuer, START + 2 * DAY, site.asks(Function::SimpleReenroll, csr.clone())));
    let repeat = issued(run_one(&issuer, START + 2 * DAY + 1, site.asks(Function::SimpleReenroll, csr)));
    assert_eq!(second.digest, repeat.digest);
}

#[test]
fn there_is_nothing_to_renew_without_a_good_certificate_of_this_profile() {
    let site = Site::new();
    let (issuer, ledger) = site.world.plain();
    let device = site.world.device(1);
    let renew = |at| run_one(&issuer, at, site.asks(Function::SimpleReenroll, device.csr()));
    assert_eq!(refused(renew(START)), Refusal::NothingToRenew, "never issued");
    let first = issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, device.csr())));
    let over = first.validity.not_after.as_secs() + 1;
    assert_eq!(refused(renew(over)), Refusal::NothingToRenew, "expired");

    revoke(&*ledger, &first);
    assert_eq!(refused(renew(START + 1)), Refusal::PredecessorRevoked);
    let again = device.csr_for(&key(&site.world.random).0, device.idevid.subject(), &GeneralNames::empty(), None);
    let other = site.world.device(2);
    let last = issued(run_one(&issuer, START + 3, site.asks(Function::SimpleEnroll, other.csr())));
    Authority::<u32>::undelivered(&*issuer, at(START + 3), &last);
    let renewal = site.asks(Function::SimpleReenroll, other.csr());
    assert_eq!(refused(run_one(&issuer, START + 4, renewal)), Refusal::NothingToRenew, "it never got one");
    issued(run_one(&issuer, START + 5, site.asks(Function::SimpleEnroll, again)));
    issued(renew(START + 6));
}

/// A certificate that the device cannot use, or that does not belong to the profile, stands before none that it can.
#[test]
fn a_later_certificate_of_another_profile_or_one_that_did_not_arrive_does_not_keep_a_device_from_renewing() {
    let site = Site::new();
    let (issuer, ledger) = site.world.plain();
    let device = site.world.device(1);
    let fresh = || {
        let subject = device.idevid.subject();
        device.csr_for(&key(&site.world.random).0, subject, &GeneralNames::empty(), None)
    };
    let renew = |at| issued(run_one(&issuer, at, site.asks(Function::SimpleReenroll, fresh())));
    let good = issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, device.csr())));
    let other_profile = site.world.profile_with(|spec| spec.profile.name = "others".into());
    issued(run_one(&issuer, START + 1, site.world.enroll(&other_profile, &device, fresh())));
    let lost = issued(run_one(&issuer, START + 2, site.asks(Function::SimpleEnroll, fresh())));
    Authority::<u32>::undelivered(&*issuer, at(START + 2), &lost);
    assert_eq!(subject_of(&renew(START + 3)).der(), subject_of(&good).der());
    assert_eq!(ledger.issued_count(), 4);
}

#[test]
fn a_link_is_refused_over_https_and_ignored_from_a_registrar() {
    let site = Site::new();
    let (issuer, _) = site.world.plain();
    let device = site.world.device(1);
    let linked = device.csr_with(device.idevid.subject(), &GeneralNames::empty(), Some("c29tZXRoaW5n"));
    let over = |arrival, csr: &[u8]| {
        let job = Job { arrival, tls_unique: None, ..site.world.enroll(&site.profile, &device, csr.to_vec()) };
        run_one(&issuer, START, job)
    };
    assert_eq!(refused(over(Arrival::Https, &linked)), Refusal::ChallengeOverHttps);
    assert_eq!(refused(over(Arrival::Coaps, &linked)), Refusal::ChallengeUnbound, "its own reason");
    issued(over(Arrival::Https, &device.csr()));
    issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, linked)));

    let strict = Site::with(|spec| spec.profile.require_linking = true);
    let (issuer, _) = strict.world.plain();
    let device = strict.world.device(1);
    let job = Job { arrival: Arrival::Https, ..strict.world.enroll(&strict.profile, &device, device.csr()) };
    assert_eq!(job.tls_unique, Some(TLS_UNIQUE), "whatever a front says of its session");
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::ChallengeOverHttps);
    issued(run_one(&issuer, START, strict.asks(Function::SimpleEnroll, device.csr())));
}

#[test]
fn limits_and_keys_are_those_of_the_device() {
    let site = Site::with(|spec| spec.certificates_per_device_max = 4);
    let (issuer, _) = site.world.plain();
    let device = site.world.device(1);
    let fresh = || device.csr_for(&key(&site.world.random).0, device.idevid.subject(), &GeneralNames::empty(), None);
    for second in 0..2 {
        issued(run_one(&issuer, START + second, site.asks(Function::SimpleEnroll, fresh())));
        issued(run_one(&issuer, START + second, site.world.enroll(&site.profile, &device, fresh())));
    }
    let more = run_one(&issuer, START + 9, site.asks(Function::SimpleEnroll, fresh()));
    assert_eq!(refused(more), Refusal::DeviceFull(4), "those that it got itself count");
    // Another device does not get its key, and nobody the key of the Registrar.
    let one = issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, named(&site.world.device(5), "5"))));
    assert_eq!(one.device.id.as_str(), "5");
    let holder = site.world.device(6);
    issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, named(&holder, "6"))));
    let stolen = run_one(&issuer, START, site.asks(Function::SimpleEnroll, named(&holder, "7")));
    assert_eq!(refused(stolen), Refusal::KeyOfAnotherDevice);
    let theirs = World::seeded(2, VerifySignatures::External).device(77);
    assert_eq!(theirs.idevid.spki(), site.registrar.spki());
    let csr = theirs.csr_for(&theirs.identity_key, device.idevid.subject(), &GeneralNames::empty(), None);
    let own = run_one(&issuer, START, site.asks(Function::SimpleEnroll, csr));
    assert_eq!(refused(own), Refusal::KeyOfAnotherDevice);
}

/// RFC 7030 §4.4.1.2: "If the key identified is bound to an X.509 certificate, then the key MUST either explicitly support keyTransport or keyAgreement or
/// its use MUST be unrestricted." What this CA issued to the device is for signatures alone, and its factory certificate is not shown to the front.
#[test]
fn an_asymmetric_key_is_unknown_behind_a_registrar_also_when_the_device_holds_its_certificate() {
    let site = Site::with(|spec| spec.server_keys = true);
    let (issuer, ledger) = site.world.plain();
    let device = site.world.device(1);
    let held = issued(run_one(&issuer, START, site.asks(Function::SimpleEnroll, device.csr())));
    let held = Certificate::parse(&held.certificate).unwrap();
    assert!(held.key_usage().is_some_and(|usage| !usage.key_agreement()));
    let asks = |id: &[u8], arrival: Arrival| {
        let wanted = KeyProtection { asymm_decrypt_key_id: Some(id), ..KeyProtection::default() };
        let additions = CsrAdditions { key_protection: Some(&wanted), ..CsrAdditions::default() };
        let spec = CsrSpec { subject: device.idevid.subject(), san: &GeneralNames::empty(), challenge_password: None };
        let csr = secure(&site.world.random, |random| make::csr_with(&spec, &additions, &device.key, random)).unwrap();
        let of_registrar = site.asks(Function::ServerKeygen, csr.clone());
        let own = Job { function: Function::ServerKeygen, ..site.world.enroll(&site.profile, &device, csr) };
        refused(run_one(&issuer, START + 1, if arrival == Arrival::Coaps { own } else { of_registrar }))
    };
    let unknown = Refusal::KeyProtection(KeyProtectionFlaw::UnknownAsymmetricKey);
    for certificate in [&held, &*device.idevid, &*site.registrar] {
        let id = key_id(certificate);
        assert_eq!(asks(&id, Arrival::Registrar("site".into())), unknown);
    }
    // The device itself is understood; this server only has no key to sign the package with.
    let own = key_id(&device.idevid);
    assert_ne!(asks(&own, Arrival::Coaps), unknown);
    assert_eq!(ledger.issued_count(), 1);
}

#[test]
fn a_profile_of_several_manufacturers_lists_no_registrar() {
    let (world, other) = (World::new(), World::seeded(3, VerifySignatures::External));
    let makers = vec![Arc::clone(&world.manufacturer), Arc::clone(&other.manufacturer)];
    let mut spec = CaProfileSpec::new("meters", Arc::clone(&world.ca), makers);
    assert!(CaProfile::compile(spec.clone()).is_ok());
    spec.profile.registrars = vec!["site".into()];
    let fault = CaProfile::compile(spec).unwrap_err();
    assert_eq!(fault, CaProfileFault::Profile(ProfileFault::ManufacturersOfVouched));
}
