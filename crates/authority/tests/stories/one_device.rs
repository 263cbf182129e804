//! What one device can take from others, and what a profile's certificate gives access to.

use std::sync::{Arc, Mutex};

use authority::{
    Authority, Busy, CERTIFICATES_PER_DEVICE, CERTIFICATES_PER_DEVICE_MIN, CaProfileFault, CaProfileSpec, Collected,
    Completion, Custody, Deliver, Function, Job, Ledger, MemoryLedger, Outcome, Refusal, Signer, SignerFault,
    SubjectRule, ToSign,
};
use pki::{Certificate, GeneralNames};

use crate::support::{DAY, Device, START, World, answers_of, at, issued, key, refused, run_one};

/// A request with a new key.
fn fresh(world: &World, device: &Device) -> Vec<u8> {
    device.csr_for(&key(&world.random).0, device.idevid.subject(), &GeneralNames::empty(), None)
}

#[test]
fn e55_a_device_that_holds_its_share_is_refused_and_another_is_not() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let profile = world.profile_with(|spec| spec.certificates_per_device_max = 5);
    let other_profile = world.profile_with(|spec| {
        spec.profile.name = "others".into();
        spec.certificates_per_device_max = 5;
    });
    let (greedy, honest) = (world.device(1), world.device(2));
    let first_csr = fresh(&world, &greedy);
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &greedy, first_csr.clone())));
    for second in 1..5 {
        issued(run_one(&issuer, START + second, world.enroll(&profile, &greedy, fresh(&world, &greedy))));
    }
    for profile in [&profile, &other_profile] {
        let more = run_one(&issuer, START + 9, world.enroll(profile, &greedy, fresh(&world, &greedy)));
        assert_eq!(refused(more), Refusal::DeviceFull(5), "the rows of all profiles count");
    }
    let repeat = issued(run_one(&issuer, START + 9, world.enroll(&profile, &greedy, first_csr)));
    assert_eq!(repeat, first, "a repeat uses no room");
    issued(run_one(&issuer, START + 9, world.enroll(&profile, &honest, fresh(&world, &honest))));
    assert_eq!(ledger.issued_count(), 6);
    // Its own certificates make room as they expire; until then no row of another device was
    // removed.
    let over = first.validity.not_after.as_secs() + 1;
    issued(run_one(&issuer, over, world.enroll(&profile, &greedy, fresh(&world, &greedy))));
}

#[test]
fn e55_a_device_that_renews_in_time_is_never_near_the_bound() {
    let world = World::new();
    let (issuer, _) = world.plain();
    // The lowest limit, a new key each time, and every answer lost once.
    let profile = world.profile_with(|spec| {
        spec.certificates_per_device_max = CERTIFICATES_PER_DEVICE_MIN;
        spec.validity = std::time::Duration::from_secs(365 * DAY);
    });
    let device = world.device(1);
    let mut now = START;
    let mut held = issued(run_one(&issuer, now, world.enroll(&profile, &device, fresh(&world, &device))));
    for _ in 0..10 {
        let (from, to) = (held.validity.not_before.as_secs(), held.validity.not_after.as_secs());
        now = from + (to - from) * 2 / 3;
        let renewal = || world.with_issued(Function::SimpleReenroll, &profile, &held, fresh(&world, &device));
        issued(run_one(&issuer, now, renewal()));
        held = issued(run_one(&issuer, now + DAY, renewal()));
    }
}

#[test]
fn e55_a_profile_without_a_sensible_bound_is_not_compiled() {
    let world = World::new();
    let spec = |max| {
        let mut spec = CaProfileSpec::new("meters", Arc::clone(&world.ca), vec![Arc::clone(&world.manufacturer)]);
        spec.certificates_per_device_max = max;
        authority::CaProfile::compile(spec).map(|_| ())
    };
    assert_eq!(spec(CERTIFICATES_PER_DEVICE), Ok(()));
    for max in [0, CERTIFICATES_PER_DEVICE_MIN - 1, u32::MAX] {
        assert_eq!(spec(max), Err(CaProfileFault::CertificatesPerDevice));
    }
}

type Held = (Vec<ToSign>, Completion<Vec<Result<pki::Signature, SignerFault>>>);

/// A signer that holds its calls until a test makes them fail.
#[derive(Default)]
struct Holding(Mutex<Vec<Held>>);

impl Signer for Holding {
    fn custody(&self) -> Custody {
        Custody::InProcess
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<pki::Signature, SignerFault>>>) {
        self.0.lock().unwrap().push((batch, done));
    }
}

#[test]
fn e55_a_device_with_many_sessions_has_a_few_enrolments_in_flight_and_others_have_theirs() {
    let world = World::new();
    let signer = Arc::new(Holding::default());
    let ledger = Arc::new(MemoryLedger::new(100)) as Arc<dyn Ledger>;
    let issuer = world.issuer(ledger, Arc::clone(&signer) as Arc<dyn Signer>);
    let profile = world.profile();
    let (greedy, honest) = (world.device(1), world.device(2));
    let submit = |job: Job| {
        let collect = Arc::new(Collected::default());
        Arc::clone(&issuer).submit(at(START), vec![(0, job)], Arc::clone(&collect) as Arc<dyn Deliver<usize>>);
        collect
    };
    let of_greedy: Vec<_> = (0..20).map(|_| submit(world.enroll(&profile, &greedy, fresh(&world, &greedy)))).collect();
    let (waiting, turned): (Vec<_>, Vec<_>) = of_greedy.into_iter().partition(|it| it.is_empty());
    assert_eq!((waiting.len(), turned.len(), issuer.in_flight()), (4, 16, 4));
    for collect in &turned {
        let outcome = answers_of(collect, 1).remove(0);
        assert!(matches!(outcome, Outcome::Later { why: Busy::DeviceInFlight, .. }), "{outcome:?}");
    }
    let of_honest = submit(world.enroll(&profile, &honest, fresh(&world, &honest)));
    assert_eq!((of_honest.len(), issuer.in_flight()), (0, 5));
    for (batch, done) in std::mem::take(&mut *signer.0.lock().unwrap()) {
        done(batch.iter().map(|_| Err(SignerFault::Unavailable)).collect());
    }
    assert_eq!(issuer.in_flight(), 0);
    assert_eq!(submit(world.enroll(&profile, &greedy, fresh(&world, &greedy))).len(), 0, "it may try again");
}

#[test]
fn e73_every_profile_issues_for_client_auth_and_for_nothing_else() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let device = world.device(1);
    for (at, subject) in [(START, "csr"), (START + DAY, "CN={device_id},O=Fleet")] {
        let rule: SubjectRule = subject.parse().unwrap();
        let profile = world.profile_with(|spec| spec.subject = rule);
        let first = issued(run_one(&issuer, at, world.enroll(&profile, &device, fresh(&world, &device))));
        let held = Certificate::parse(&first.certificate).unwrap();
        let csr = device.csr_with(held.subject(), &GeneralNames::empty(), None);
        let renewed = world.with_issued(Function::SimpleReenroll, &profile, &first, csr);
        let renewed = issued(run_one(&issuer, at + DAY, renewed));
        for issued in [&first, &renewed] {
            let certificate = Certificate::parse(&issued.certificate).unwrap();
            assert!(certificate.extended_key_usage().unwrap().is_only_client_auth(), "{subject}");
            assert!(certificate.key_usage().unwrap().is_only_digital_signature());
        }
    }
}
