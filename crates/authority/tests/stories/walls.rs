//! What a certificate of this CA gives access to, and which device it belongs to: the ledger decides, never the certificate's own
//! subject.

use std::sync::Arc;

use authority::{
    Arrival, Busy, CaProfile, CaProfileFault, CaProfileSpec, Function, Job, Ledger, MemoryLedger, Outcome, Profile,
    Refusal, SanKind, Unrecorded, VerifySignatures,
};
use pki::issue::crl::{CrlShards, CrlUrl};
use pki::issue::{NodePrefix, Serial, TemplateSpec};
use pki::make::{self, DeviceCertificateSpec, ServerCertificateSpec};
use pki::{AnchorId, Certificate, GeneralNames, Validity};

use crate::support::{DAY, Device, Hand, NODE, START, World, at, dns, issued, refused, run_one};

const BOTH: [Function; 2] = [Function::SimpleEnroll, Function::SimpleReenroll];

fn crl_url(text: &str) -> Option<CrlUrl> {
    Some(CrlUrl::new(text, CrlShards::DEFAULT).unwrap())
}

#[test]
fn e46_a_certificate_opens_the_profile_that_issued_it_and_no_other() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let sensors = world.profile_with(|spec| spec.profile.name = "sensors".into());
    let gateways = world.profile_with(|spec| spec.profile.name = "gateways".into());
    let device = world.device(1);
    let first = issued(run_one(&issuer, START, world.enroll(&sensors, &device, device.csr())));
    assert_eq!(&*first.profile, "sensors");
    for function in BOTH {
        for arrival in [Arrival::Coaps, Arrival::Https] {
            let job = Job { arrival, ..world.with_issued(function, &gateways, &first, device.csr()) };
            assert_eq!(refused(run_one(&issuer, START + DAY, job)), Refusal::ClientOfAnotherProfile("sensors".into()));
        }
    }
    assert_eq!(ledger.issued_count(), 1);
    for function in BOTH {
        issued(run_one(&issuer, START + DAY, world.with_issued(function, &sensors, &first, device.csr())));
    }
}

#[test]
fn e47_without_a_row_nothing_is_guessed_unless_the_rule_gives_the_names_back() {
    let world = World::new();
    let template = |text: &str| {
        let subject = text.parse().unwrap();
        world.profile_with(|spec| spec.subject = subject)
    };
    let by_rule = |text: &str, rule: &str| {
        let mut spec = CaProfileSpec::new("meters", Arc::clone(&world.ca), vec![Arc::clone(&world.manufacturer)]);
        spec.subject = text.parse().unwrap();
        spec.profile.device_id = rule.parse().unwrap();
        spec.unrecorded = Unrecorded::ByRule;
        CaProfile::compile(spec).map(Arc::new)
    };
    let (cn, serial_number) = ("idevid:subject.CN", "idevid:subject.serialNumber");
    for (text, rule) in [
        ("CN=ex-{device_id}", cn),
        ("CN=ex-{subject.CN},serialNumber={device_id}", serial_number),
        ("CN={device_id},O=Example", serial_number),
        ("CN={device_id},CN={device_id}", cn),
        ("CN={device_id}", "idevid:subject"),
    ] {
        assert_eq!(by_rule(text, rule).unwrap_err(), CaProfileFault::NamesNotGivenBack, "{text} by {rule}");
    }
    let (before, _) = world.plain();
    let (after, ledger) = world.plain();
    let device = world.device(1);
    let held = |first: &authority::Issued| Certificate::parse(&first.certificate).unwrap();

    let given_back = "CN={subject.CN},serialNumber={device_id},O=Fleet";
    let profile = by_rule(given_back, serial_number).unwrap();
    let first = issued(run_one(&before, START, world.enroll(&profile, &device, device.csr())));
    for (days, function) in BOTH.into_iter().enumerate() {
        let csr = device.csr_with(held(&first).subject(), &GeneralNames::empty(), None);
        let again = world.with_issued(function, &profile, &first, csr);
        let renewed = issued(run_one(&after, START + DAY * (1 + days as u64), again));
        assert_eq!(held(&renewed).subject().der(), held(&first).subject().der());
        assert_eq!(renewed.device, first.device);
    }
    // This rule cannot read a device back from a certificate of another template.
    let other = template("serialNumber={device_id},O=Others");
    // After the window, in which the same key and names are the same request.
    let first = issued(run_one(&before, START + DAY, world.enroll(&other, &device, device.csr())));
    let csr = || device.csr_with(held(&first).subject(), &GeneralNames::empty(), None);
    let count = ledger.issued_count();
    for (function, profile) in BOTH.into_iter().zip([&profile, &other]) {
        let again = world.with_issued(function, profile, &first, csr());
        assert_eq!(refused(run_one(&after, START + 2 * DAY, again)), Refusal::ClientNotInLedger);
    }
    assert_eq!(ledger.issued_count(), count);
}

#[test]
fn e54_a_certificate_of_an_authority_below_our_ca_is_nobody() {
    let world = World::new();
    let profile = world.profile_with(|spec| {
        spec.subject = "CN={subject.CN},serialNumber={device_id},O=Fleet".parse().unwrap();
        spec.unrecorded = Unrecorded::ByRule;
    });
    let (before, _) = world.plain();
    let (after, ledger) = world.plain();
    let device = world.device(1);
    let first = issued(run_one(&before, START, world.enroll(&profile, &device, device.csr())));
    let ours = Certificate::parse(&first.certificate).unwrap();
    let anchor = world.ca.certificate().anchor_id();
    // The names of the first certificate, issued by an authority that our CA has certified: its chain ends at our CA too.
    let theirs = world.below_the_ca(&device, ours.subject());
    let csr = || device.csr_with(ours.subject(), &GeneralNames::empty(), None);
    for function in BOTH {
        let mut job = world.with_issued(function, &profile, &first, csr());
        job.client = Arc::clone(&theirs);
        assert_eq!(refused(run_one(&after, START + DAY, job)), Refusal::ClientNotInLedger, "{function:?}");
    }
    assert_eq!(ledger.issued_count(), 0);
    assert!(profile.device_shown(&theirs, &anchor).is_none(), "a log line does not show it as a device");
    assert!(profile.device_shown(&ours, &anchor).is_some());
    for function in BOTH {
        issued(run_one(&after, START + DAY, world.with_issued(function, &profile, &first, csr())));
    }
}

/// Certificates that another program has signed with the key of the CA, in a profile that reads devices back after a restart.
#[test]
fn e54_what_the_template_does_not_write_is_nobody_by_rule_too() {
    let world = World::new();
    let profile = world.profile_with(|spec| spec.unrecorded = Unrecorded::ByRule);
    let by_name = world.profile_with(|spec| {
        spec.profile.device_id = "idevid:subject.CN".parse().unwrap();
        spec.unrecorded = Unrecorded::ByRule;
    });
    let device = world.device(1);
    let subject = device.idevid.subject();
    let hand = |change: fn(&mut TemplateSpec)| {
        let mut hand = Hand::default();
        change(&mut hand.template);
        world.by_hand(&device, subject, &hand)
    };
    let of_factory = world.by_the_ca(|parent, random| {
        let spec = DeviceCertificateSpec {
            common_name: "meter-1",
            serial_number: "000001",
            organization: Some("Maker"),
            serial: Serial::new(NodePrefix::new(NODE), [5; 16]),
            validity: short(),
        };
        make::idevid(&spec, device.identity_key.public_key(), parent, random)
    });
    let of_server = world.by_the_ca(|parent, random| {
        let names = ["est.example".try_into().unwrap()];
        let serial = Serial::new(NodePrefix::new(NODE), [6; 16]);
        let spec = ServerCertificateSpec { names: &names, serial, validity: short() };
        make::server(&spec, device.identity_key.public_key(), parent, random)
    });
    for (what, profile, client, is_device) in [
        ("as the template writes it", &profile, hand(|_| ()), true),
        ("no purpose", &profile, hand(|template| template.client_auth = false), false),
        ("an extension more", &profile, hand(|template| template.basic_constraints = true), false),
        // Its URLs come from the configuration, which may have changed since.
        ("a URL more", &profile, hand(|template| template.crl_url = crl_url("http://ca.example/crl")), true),
        (
            "the URL of a shard",
            &profile,
            hand(|template| template.crl_url = crl_url("http://ca.example/{shard}.crl")),
            true,
        ),
        ("that of a factory", &profile, of_factory, false),
        ("that of a server", &by_name, of_server, false),
    ] {
        for function in BOTH {
            let (issuer, ledger) = world.plain();
            let csr = device.csr_with(client.subject(), &GeneralNames::empty(), None);
            let outcome = run_one(&issuer, START, world.shown(function, profile, &client, csr));
            assert_device_or_nobody(outcome, is_device, &ledger, &format!("{what}, {function:?}"));
        }
    }
}

/// The client gets a certificate, or it is not identified and nothing is issued.
#[track_caller]
fn assert_device_or_nobody(outcome: Outcome, is_device: bool, ledger: &MemoryLedger, what: &str) {
    if is_device {
        issued(outcome);
    } else {
        assert_eq!(refused(outcome), Refusal::ClientNotInLedger, "{what}");
        assert_eq!(ledger.issued_count(), 0);
    }
}

#[test]
fn e54_what_this_ledger_would_hold_if_we_had_issued_it_is_nobody_by_rule_too() {
    let world = World::new();
    let profile = world.profile_with(|spec| spec.unrecorded = Unrecorded::ByRule);
    let device = world.device(1);
    let now = START + DAY;
    let by_hand = |node, not_before| {
        world.by_hand(&device, device.idevid.subject(), &Hand { node, not_before, ..Hand::default() })
    };
    for (what, client, is_device) in [
        ("after the ledger began", by_hand(NODE, START + 1), false),
        ("now", by_hand(NODE, now), false),
        // The remaining ones cannot be distinguished from certificates that an earlier process or another node issued.
        ("when the ledger began", by_hand(NODE, START), true),
        ("before the ledger began", by_hand(NODE, START - DAY), true),
        ("by another node", by_hand(NODE + 1, now), true),
    ] {
        for function in BOTH {
            let ledger = Arc::new(MemoryLedger::new(9).since(at(START)));
            let issuer = world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(world.signer()));
            let outcome = run_one(&issuer, now, world.shown(function, &profile, &client, device.csr()));
            assert_device_or_nobody(outcome, is_device, &ledger, &format!("{what}, {function:?}"));
        }
    }
}

/// A clock that was ahead before the restart, and a CA as new as its certificate, which limits the backdating.
#[test]
fn e54_a_forgotten_certificate_is_not_taken_for_one_that_was_never_issued() {
    let world = World::new();
    let profile = world.profile_with(|spec| spec.unrecorded = Unrecorded::ByRule);
    let device = world.device(1);
    let ca_began = world.ca.certificate().validity().not_before.as_secs();
    for (issued_at, restarted_at) in
        [(START, START), (START + authority::BACKDATE.as_secs(), START), (ca_began, ca_began), (ca_began, ca_began + 1)]
    {
        let (before, _) = world.plain();
        let first = issued(run_one(&before, issued_at, world.enroll(&profile, &device, device.csr())));
        for function in BOTH {
            let ledger = Arc::new(MemoryLedger::new(9).since(at(restarted_at)));
            let after = world.issuer(ledger, Arc::new(world.signer()));
            let job = world.with_issued(function, &profile, &first, device.csr());
            assert_eq!(issued(run_one(&after, issued_at + DAY, job)).device, first.device, "{issued_at}");
        }
    }
}

#[test]
fn e54_a_ledger_that_has_forgotten_rows_knows_since_when_it_is_complete() {
    let world = World::new();
    let profile = world.profile_with(|spec| spec.unrecorded = Unrecorded::ByRule);
    let ledger = Arc::new(MemoryLedger::new(1).since(at(START)));
    let issuer = world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(world.signer()));
    let (one, two) = (world.device(1), world.device(2));
    let enroll = |days, device| {
        issued(run_one(&issuer, START + days * DAY, world.enroll(&profile, device, Device::csr(device))))
    };
    let first = enroll(1, &one);
    enroll(3, &two);
    assert_eq!(ledger.issued_count(), 1, "the ledger has forgotten the first one");
    let by_hand = Hand { node: NODE, not_before: START + 2 * DAY, ..Hand::default() };
    let by_hand = world.by_hand(&one, one.idevid.subject(), &by_hand);
    for function in BOTH {
        let job = world.shown(function, &profile, &by_hand, one.csr());
        assert_eq!(refused(run_one(&issuer, START + 5 * DAY, job)), Refusal::ClientNotInLedger, "{function:?}");
    }
    issued(run_one(&issuer, START + 5 * DAY, world.with_issued(Function::SimpleReenroll, &profile, &first, one.csr())));
}

fn short() -> Validity {
    Validity { not_before: at(START - DAY), not_after: at(START + DAY) }
}

/// The limit of a ledger that forgets, as `SECURITY.md` states it: the certificate itself does not name its manufacturer.
#[test]
fn e53_a_forgotten_device_of_a_removed_manufacturer_counts_as_one_of_its_successor() {
    let (world, other) = (World::new(), World::seeded(2, VerifySignatures::External));
    let profile = |unrecorded, manufacturer: &Arc<Certificate>| {
        world.profile_with(|spec| {
            spec.subject = "CN={subject.CN},serialNumber={device_id},O=Fleet".parse().unwrap();
            spec.profile.manufacturers = vec![Arc::clone(manufacturer)];
            spec.unrecorded = unrecorded;
        })
    };
    let (before, _) = world.plain();
    let (after, ledger) = world.plain();
    let device = world.device(1);
    let old = profile(Unrecorded::ByRule, &world.manufacturer);
    let first = issued(run_one(&before, START, world.enroll(&old, &device, device.csr())));
    let held = Certificate::parse(&first.certificate).unwrap();
    let renew = |issuer, profile: &Arc<Profile>| {
        let csr = device.csr_with(held.subject(), &GeneralNames::empty(), None);
        run_one(issuer, START + DAY, world.with_issued(Function::SimpleReenroll, profile, &first, csr))
    };
    let by_rule = profile(Unrecorded::ByRule, &other.manufacturer);
    // The ledger that issued it takes precedence over the rule, and a profile without the rule does not guess.
    assert_eq!(refused(renew(&before, &by_rule)), Refusal::ManufacturerRemoved);
    assert_eq!(refused(renew(&after, &profile(Unrecorded::Refused, &other.manufacturer))), Refusal::ClientNotInLedger);
    assert_eq!(ledger.issued_count(), 0);
    assert_eq!(issued(renew(&after, &by_rule)).device.manufacturer, other.manufacturer.anchor_id());
}

#[test]
fn e48_a_renewal_has_the_names_that_are_held_or_is_refused() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let device = world.device(1);
    let san = dns(&["a.example"]);
    let profile = |template: &str, kinds: &[SanKind]| {
        world.profile_with(|spec| {
            spec.subject = template.parse().unwrap();
            spec.san = kinds.to_vec();
        })
    };
    let old = profile("CN=ex-{subject.CN}", &[SanKind::Dns]);
    let mut job = world.enroll(&old, &device, device.csr_with(device.idevid.subject(), &san, None));
    job.client = Arc::new(world.with_names(&device, &san));
    let first = issued(run_one(&issuer, START, job));
    let held = Certificate::parse(&first.certificate).unwrap();
    assert_eq!(held.subject().to_string(), "CN=ex-meter-1");
    let csr = || device.csr_with(held.subject(), &dns(&["A.EXAMPLE"]), None);
    for (days, profile) in [(1, &old), (2, &profile("CN=new-{device_id}", &[SanKind::Dns]))] {
        for function in BOTH {
            let again = world.with_issued(function, profile, &first, csr());
            let renewed = Certificate::parse(&issued(run_one(&issuer, START + days * DAY, again)).certificate).unwrap();
            assert_eq!(renewed.subject().der(), held.subject().der(), "{function:?}");
            assert!(renewed.san().matches(held.san()));
            if function == Function::SimpleReenroll {
                assert_eq!(renewed.san().iter().collect::<Vec<_>>(), held.san().iter().collect::<Vec<_>>());
            }
        }
    }
    let narrower = profile("CN=ex-{subject.CN}", &[]);
    let again = world.with_issued(Function::SimpleReenroll, &narrower, &first, csr());
    assert_eq!(refused(run_one(&issuer, START + 3 * DAY, again)), Refusal::SanNotListed(SanKind::Dns));
}

#[test]
fn e50_the_factory_key_is_refused_whatever_the_client_shows() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    let identity = || device.csr_for(&device.identity_key, device.idevid.subject(), &GeneralNames::empty(), None);
    for function in BOTH {
        let job = world.with_issued(function, &profile, &first, identity());
        assert_eq!(refused(run_one(&issuer, START + DAY, job)), Refusal::IdentityKey, "{function:?}");
    }
    // A second factory certificate, with another key, does not make the first key acceptable.
    let mut second = world.device(1);
    second.key = world.device(2).key;
    issued(run_one(&issuer, START, world.enroll(&profile, &second, second.csr())));
    assert_eq!(refused(run_one(&issuer, START, world.enroll(&profile, &second, identity()))), Refusal::IdentityKey);
    let lax = world.profile_with(|spec| spec.allow_identity_key = true);
    issued(run_one(&issuer, START + DAY, world.with_issued(Function::SimpleEnroll, &lax, &first, identity())));
}

/// The limit of a ledger that forgets, as `SECURITY.md` states it: an operational certificate does not name the key of the factory.
#[test]
fn e50_the_factory_key_of_a_forgotten_device_is_refused_once_its_idevid_is_seen_again() {
    let world = World::new();
    let profile = world.profile_with(|spec| spec.unrecorded = Unrecorded::ByRule);
    let (before, _) = world.plain();
    let device = world.device(1);
    let first = issued(run_one(&before, START, world.enroll(&profile, &device, device.csr())));
    let identity = || device.csr_for(&device.identity_key, device.idevid.subject(), &GeneralNames::empty(), None);
    for function in BOTH {
        let with_identity_key = || world.with_issued(function, &profile, &first, identity());
        assert_eq!(refused(run_one(&before, START + DAY, with_identity_key())), Refusal::IdentityKey, "{function:?}");
        let (forgetful, _) = world.plain();
        assert_eq!(issued(run_one(&forgetful, START + DAY, with_identity_key())).device, first.device);
        let (after, _) = world.plain();
        issued(run_one(&after, START + DAY, world.enroll(&profile, &device, device.csr())));
        assert_eq!(refused(run_one(&after, START + DAY, with_identity_key())), Refusal::IdentityKey, "{function:?}");
        // Whatever was forgotten, the factory certificate contains its own key.
        let (after, _) = world.plain();
        assert_eq!(
            refused(run_one(&after, START + DAY, world.enroll(&profile, &device, identity()))),
            Refusal::IdentityKey
        );
    }
}

/// The limit for a device with several certificates of its factory, as `SECURITY.md` states it.
#[test]
fn e50_the_first_four_factory_keys_of_a_device_are_remembered_and_no_further_one() {
    const REMEMBERED: usize = 4;
    let world = World::new();
    let (issuer, _) = world.plain();
    let profile = world.profile();
    let showings: Vec<Device> = (0..=REMEMBERED).map(|_| world.device(1)).collect();
    let identity = |it: &Device| it.csr_for(&it.identity_key, it.idevid.subject(), &GeneralNames::empty(), None);
    let certificates: Vec<_> =
        showings.iter().map(|it| issued(run_one(&issuer, START, world.enroll(&profile, it, it.csr())))).collect();
    for (number, showing) in showings.iter().enumerate() {
        assert_eq!(certificates[number].device, certificates[0].device);
        let own = world.enroll(&profile, showing, identity(showing));
        assert_eq!(refused(run_one(&issuer, START + DAY, own)), Refusal::IdentityKey, "{number}");
        let later = world.with_issued(Function::SimpleEnroll, &profile, &certificates[0], identity(showing));
        let outcome = run_one(&issuer, START + DAY, later);
        if number < REMEMBERED {
            assert_eq!(refused(outcome), Refusal::IdentityKey, "{number}");
        } else {
            issued(outcome);
        }
    }
}

#[test]
fn e51_an_authority_that_is_certified_again_is_the_same_authority() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let device = world.device(1);
    let csr = device.csr();
    let first = issued(run_one(&issuer, START, world.enroll(&world.profile(), &device, csr.clone())));
    let (again, otherwise) = (world.manufacturer_again(), world.manufacturer_spelt_otherwise());
    assert_ne!(again.digest(), world.manufacturer.digest());
    assert_ne!(otherwise.subject(), world.manufacturer.subject());
    for again in [again, otherwise] {
        let profile = world.profile_with(|spec| spec.profile.manufacturers = vec![Arc::clone(&again)]);
        let mut job = world.enroll(&profile, &device, csr.clone());
        job.anchor = again.anchor_id();
        let repeat = issued(run_one(&issuer, START, job));
        assert_eq!(repeat, first, "the same device with the same request");
    }
    let profile = world.profile_with(|spec| {
        spec.profile.manufacturers = vec![world.manufacturer_spelt_otherwise()];
        spec.ca = world.ca_again();
    });
    assert_ne!(CaProfile::of(&profile).unwrap().ca().certificate().digest(), world.ca.certificate().digest());
    let mut signer = world.signer();
    signer
        .add(CaProfile::of(&profile).unwrap().ca(), pki::PrivateKey::from_pkcs8(world.ca_key.pkcs8().to_vec()))
        .unwrap();
    let ledger = Arc::new(MemoryLedger::new(9));
    let issuer = world.issuer(ledger, Arc::new(signer));
    let first = issued(run_one(&issuer, START, world.enroll(&world.profile(), &device, device.csr())));
    let job = world.with_issued(Function::SimpleReenroll, &profile, &first, device.csr());
    assert_eq!(issued(run_one(&issuer, START + DAY, job)).device, first.device);
}

#[test]
fn e52_two_manufacturers_with_one_serial_number_make_two_devices() {
    let (world, other) = (World::new(), World::seeded(2, VerifySignatures::External));
    let (issuer, ledger) = world.plain();
    let profile = world.profile_with(|spec| spec.profile.manufacturers.push(Arc::clone(&other.manufacturer)));
    let (one, two) = (world.device(1), other.device(1));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &one, one.csr())));
    let mut job =
        world.enroll(&profile, &two, two.csr_for(&one.key, two.idevid.subject(), &GeneralNames::empty(), None));
    job.anchor = other.manufacturer.anchor_id();
    assert_eq!(refused(run_one(&issuer, START, job)), Refusal::KeyOfAnotherDevice);
    let mut job = world.enroll(&profile, &two, two.csr());
    job.anchor = other.manufacturer.anchor_id();
    let second = issued(run_one(&issuer, START, job));
    assert_eq!(first.device.id, second.device.id);
    assert_ne!(first.device, second.device);
    assert_eq!(ledger.issued_count(), 2);
    // A log line shows both with their manufacturer; with one manufacturer, the id is enough.
    let shown = |anchor: AnchorId| format!("{}@{}", first.device.id, &anchor.to_string()[..8]);
    assert_eq!(profile.shown(&first.device).to_string(), shown(world.manufacturer.anchor_id()));
    assert_eq!(profile.shown(&second.device).to_string(), shown(other.manufacturer.anchor_id()));
    assert_eq!(world.profile().shown(&first.device).to_string(), first.device.id.as_str());
    let beside_others = world.profile_with(|spec| spec.profile.shows_manufacturer = true);
    assert_eq!(beside_others.shown(&first.device), profile.shown(&first.device));
}

#[test]
fn e53_devices_of_a_manufacturer_that_was_taken_off_do_not_renew() {
    let (world, other) = (World::new(), World::seeded(2, VerifySignatures::External));
    let (issuer, _) = world.plain();
    let device = world.device(1);
    let both = world.profile_with(|spec| spec.profile.manufacturers.push(Arc::clone(&other.manufacturer)));
    let first = issued(run_one(&issuer, START, world.enroll(&both, &device, device.csr())));
    let without = world.profile_with(|spec| spec.profile.manufacturers = vec![Arc::clone(&other.manufacturer)]);
    for function in BOTH {
        let job = world.with_issued(function, &without, &first, device.csr());
        assert_eq!(refused(run_one(&issuer, START + DAY, job)), Refusal::ManufacturerRemoved, "{function:?}");
        issued(run_one(&issuer, START + DAY, world.with_issued(function, &both, &first, device.csr())));
    }
}

#[test]
fn e54_a_certificate_of_our_ca_that_we_never_issued_is_nobody() {
    let world = World::new();
    let (elsewhere, _) = world.plain();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let foreign = issued(run_one(&elsewhere, START, world.enroll(&profile, &device, device.csr())));
    for function in BOTH {
        let job = world.with_issued(function, &profile, &foreign, device.csr());
        assert_eq!(refused(run_one(&issuer, START + DAY, job)), Refusal::ClientNotInLedger, "{function:?}");
    }
    assert_eq!(ledger.issued_count(), 0);
}

#[test]
fn e30_no_certificate_is_dated_before_an_earlier_one() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let profile = world.profile();
    let enroll =
        |number, at| run_one(&issuer, at, world.enroll(&profile, &world.device(number), world.device(number).csr()));
    issued(enroll(1, START + 1_000));
    // A clock that was set back by less than a minute: time stands still.
    assert_eq!(issued(enroll(2, START + 940)).at, at(START + 1_000));
    let outcome = enroll(3, START + 939);
    assert!(
        matches!(&outcome, Outcome::Later { why: Busy::ClockBehind { by }, .. } if by.as_secs() == 61),
        "{outcome:?}"
    );
    assert_eq!((ledger.issued_count(), issuer.in_flight()), (2, 0));
    issued(enroll(3, START + 1_001));
}
