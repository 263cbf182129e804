//! Each job asks the ledger for the client's identity and for its device's place in the lists; the answer decides, and the decision is recorded
//! in the row.

use std::sync::Arc;
use std::time::Duration;

use authority::{
    Arrival, Authority, Busy, CaAuthority, Collected, Deliver, Device, Function, Inquiry, Issued, Job, Ledger,
    LedgerEntry, MemoryLedger, Origin, Outcome, Profile, Refusal, Registration, RowStage, Signer, Unrecorded,
};
use pki::issue::Serial;
use pki::{Certificate, Digest, GeneralNames};

use crate::support::faulty::{Fate, FaultyLedger, Queue};
use crate::support::{self, DAY, PEER, START, World, answers_of, at, issued, refused, revoke, run_one, subject_of};

/// An issuer over a ledger with lists.
struct Desk {
    world: World,
    queue: Queue,
    ledger: Arc<FaultyLedger>,
    issuer: Arc<CaAuthority>,
    profile: Arc<Profile>,
}

impl Desk {
    fn new() -> Self {
        Self::with(Unrecorded::Refused)
    }

    fn with(unrecorded: Unrecorded) -> Self {
        let (world, queue) = (World::new(), Queue::default());
        let ledger = Arc::new(FaultyLedger::new(&queue));
        let signer = Arc::new(world.signer()) as Arc<dyn Signer>;
        let issuer = world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, signer);
        let profile = world.profile_with(|spec| spec.unrecorded = unrecorded);
        Self { world, queue, ledger, issuer, profile }
    }

    fn run(&self, seconds: u64, jobs: Vec<Job>) -> Vec<Outcome> {
        let (collect, count) = (Arc::new(Collected::default()), jobs.len());
        let batch = jobs.into_iter().enumerate().collect();
        Arc::clone(&self.issuer).submit(at(seconds), batch, Arc::clone(&collect) as Arc<dyn Deliver<usize>>);
        self.queue.run_in_order();
        answers_of(&collect, count)
    }

    fn run_one(&self, seconds: u64, job: Job) -> Outcome {
        self.run(seconds, vec![job]).remove(0)
    }

    fn enroll(&self, device: &support::Device) -> Job {
        self.world.enroll(&self.profile, device, device.csr())
    }

    /// The inquiries since the last call, batch by batch.
    fn asked(&self) -> Vec<Vec<Inquiry>> {
        std::mem::take(&mut *self.ledger.asked.lock().unwrap())
    }
}

#[test]
fn every_job_asks_and_the_jobs_of_a_batch_share_one_question() {
    let desk = Desk::new();
    let (one, two) = (desk.world.device(1), desk.world.device(2));
    let first = issued(desk.run_one(START, desk.enroll(&one)));
    let device = first.device.clone();
    assert_eq!(device.manufacturer, desk.world.manufacturer.anchor_id());
    let profile: Arc<str> = "meters".into();
    let of_factory = |of: &support::Device, device| Inquiry {
        client: of.idevid.digest(),
        serial: Serial::from_bytes(of.idevid.serial()).ok(),
        device: Some(device),
        profile: Arc::clone(&profile),
    };
    assert_eq!(desk.asked(), [[of_factory(&one, device.clone())]]);
    let renewal = desk.world.with_issued(Function::SimpleReenroll, &desk.profile, &first, one.csr());
    let outcomes = desk.run(START + DAY, vec![renewal, desk.enroll(&two)]);
    let second = issued(outcomes.into_iter().nth(1).unwrap());
    // The ledger identifies the holder.
    let serial = Some(row(&desk.ledger.inner, &first).intent.serial);
    let of_holder = Inquiry { client: first.digest, serial, device: None, profile: Arc::clone(&profile) };
    assert_eq!(desk.asked(), [[of_holder, of_factory(&two, second.device.clone())]]);
}

/// RFC 7030 §4.4: authorisation comes before a key is made.
#[test]
fn a_device_that_is_denied_gets_no_key_itself_nor_through_a_registrar() {
    let desk = Desk::new();
    let profile = desk.world.profile_with(|spec| {
        spec.server_keys = true;
        spec.profile.registrars = vec!["site".into()];
    });
    let (device, other) = (desk.world.device(1), desk.world.device(2));
    desk.ledger.says("000001", Registration::Denied);
    for arrival in [Arrival::Coaps, Arrival::Https, Arrival::Registrar("site".into())] {
        let asks = |device: &support::Device| Job {
            function: Function::ServerKeygen,
            arrival: arrival.clone(),
            ..desk.world.enroll(&profile, device, device.csr())
        };
        assert_eq!(refused(desk.run_one(START, asks(&device))), Refusal::DeviceDenied, "{arrival:?}");
        let made = desk.run_one(START, asks(&other));
        assert!(matches!(made, Outcome::Issued { private_key: Some(_), .. }), "{arrival:?}: {made:?}");
    }
}

#[test]
fn a_device_that_is_denied_neither_enrols_nor_renews() {
    let desk = Desk::new();
    let (one, two) = (desk.world.device(1), desk.world.device(2));
    let first = issued(desk.run_one(START, desk.enroll(&one)));
    desk.ledger.says("000001", Registration::Denied);
    let renewal = |function| desk.world.with_issued(function, &desk.profile, &first, one.csr());
    // Whatever the request contains: the answer says nothing about it.
    let strange = Job { csr: one.csr_with(two.idevid.subject(), &GeneralNames::empty(), None), ..desk.enroll(&one) };
    for job in [desk.enroll(&one), renewal(Function::SimpleReenroll), renewal(Function::SimpleEnroll), strange] {
        assert_eq!(refused(desk.run_one(START + DAY, job)), Refusal::DeviceDenied);
    }
    issued(desk.run_one(START + DAY, desk.enroll(&two)));
    desk.ledger.says("000001", Registration::Registered);
    issued(desk.run_one(START + DAY, renewal(Function::SimpleReenroll)));
}

#[test]
fn a_device_that_waits_is_told_so_unless_its_request_is_refused_in_any_case() {
    let desk = Desk::new();
    let device = desk.world.device(1);
    let said = |outcome| match outcome {
        Outcome::Later { max_age, why } => (max_age.as_secs(), why),
        other => panic!("{other:?}"),
    };
    desk.ledger.says("000001", Registration::Pending);
    assert_eq!(said(desk.run_one(START, desk.enroll(&device))), (300, Busy::DevicePending));
    desk.ledger.says("000001", Registration::OverLimit { until: at(START + 77) });
    for (now, wait) in [(0, 77), (76, 1), (77, 1), (99, 1)] {
        let why = Busy::DeviceOverLimit { wait: Duration::from_secs(wait) };
        assert_eq!(said(desk.run_one(START + now, desk.enroll(&device))), (wait, why), "{now}");
    }
    let other = desk.world.device(2);
    let strange =
        Job { csr: device.csr_with(other.idevid.subject(), &GeneralNames::empty(), None), ..desk.enroll(&device) };
    assert!(matches!(refused(desk.run_one(START, strange)), Refusal::SubjectMismatch(_)));
    assert_eq!((desk.ledger.inner.issued_count(), desk.issuer.in_flight()), (0, 0), "nothing was reserved");
    desk.ledger.says("000001", Registration::Unlisted);
    issued(desk.run_one(START + 99, desk.enroll(&device)));
}

/// The answer was lost, and the device asks for it again: that needs no new certificate, and no limit or list prevents it.
#[test]
fn a_repeat_is_answered_although_its_device_waits_by_now() {
    let desk = Desk::new();
    let device = desk.world.device(1);
    let csr = device.csr();
    let enroll = |csr: &[u8]| desk.world.enroll(&desk.profile, &device, csr.to_vec());
    let first = issued(desk.run_one(START, enroll(&csr)));
    let until = at(START + 600);
    let waits = [
        (Registration::OverLimit { until }, Busy::DeviceOverLimit { wait: Duration::from_secs(590) }),
        (Registration::Pending, Busy::DevicePending),
    ];
    for (said, why) in waits {
        desk.ledger.says("000001", said);
        assert_eq!(issued(desk.run_one(START + 10, enroll(&csr))).digest, first.digest);
        // Both are in one batch, so that one of them may find the other in flight.
        let both = desk.run(START + 10, vec![enroll(&csr), enroll(&csr)]);
        assert!(both.into_iter().all(|outcome| issued(outcome).digest == first.digest));
        // Signed with randomness, the same request is another CSR.
        let signed_again = device.csr();
        assert_ne!(signed_again, csr);
        assert_eq!(issued(desk.run_one(START + 10, enroll(&signed_again))).digest, first.digest);
        let another = device.csr_for(&desk.world.device(2).key, device.idevid.subject(), &GeneralNames::empty(), None);
        let outcome = desk.run_one(START + 10, enroll(&another));
        assert!(matches!(outcome, Outcome::Later { why: told, .. } if told == why), "{outcome:?}");
        assert_eq!(rows_of(&desk.ledger.inner), 1, "nothing was reserved");
    }
    desk.ledger.says("000001", Registration::Denied);
    assert_eq!(refused(desk.run_one(START + 10, enroll(&csr))), Refusal::DeviceDenied);
    assert_eq!((desk.ledger.inner.issued_count(), desk.issuer.in_flight()), (1, 0));
}

/// The list changes while the first of two identical requests is in flight.
#[test]
fn a_repeat_joins_its_twin_in_flight_although_its_device_waits_by_now() {
    let desk = Desk::new();
    let device = desk.world.device(1);
    let csr = device.csr();
    let collect = Arc::new(Collected::default());
    let submit = |number: usize| {
        let batch = vec![(number, desk.world.enroll(&desk.profile, &device, csr.clone()))];
        Arc::clone(&desk.issuer).submit(at(START), batch, Arc::clone(&collect) as Arc<dyn Deliver<usize>>);
    };
    submit(0);
    desk.queue.step(0, Fate::Good);
    assert_eq!((desk.issuer.in_flight(), desk.queue.len()), (1, 1), "its intent is with the ledger");
    desk.ledger.says("000001", Registration::OverLimit { until: at(START + 600) });
    submit(1);
    // The inquiry of the second, then the rest.
    desk.queue.step(1, Fate::Good);
    desk.queue.run_in_order();
    let digests: Vec<Digest> = answers_of(&collect, 2).into_iter().map(|it| issued(it).digest).collect();
    assert_eq!(digests[0], digests[1]);
    assert_eq!(rows_of(&desk.ledger.inner), 1);
}

/// After a restart the ledger does not know the certificate; the lists know the device.
#[test]
fn the_device_of_an_unrecorded_certificate_is_asked_about_once_it_is_known() {
    let before = Desk::with(Unrecorded::ByRule);
    let device = before.world.device(1);
    let first = issued(before.run_one(START, before.enroll(&device)));
    let ledger = Arc::new(FaultyLedger::new(&before.queue));
    let issuer =
        before.world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(before.world.signer()) as Arc<dyn Signer>);
    let after = Desk { ledger, issuer, ..before };
    let renewal = || after.world.with_issued(Function::SimpleReenroll, &after.profile, &first, device.csr());
    after.ledger.says("000001", Registration::Denied);
    assert_eq!(refused(after.run_one(START + DAY, renewal())), Refusal::DeviceDenied);
    let devices: Vec<Vec<Option<Device>>> =
        after.asked().into_iter().map(|batch| batch.into_iter().map(|it| it.device).collect()).collect();
    assert_eq!(devices, [[None], [Some(first.device.clone())]]);
    after.ledger.says("000001", Registration::Registered);
    let renewed = issued(after.run_one(START + DAY, renewal()));
    assert_eq!(renewed.device, first.device);
    // Now it is in the ledger, and one inquiry suffices.
    after.asked();
    let next = after.world.with_issued(Function::SimpleReenroll, &after.profile, &renewed, device.csr());
    issued(after.run_one(START + 2 * DAY, next));
    assert_eq!(after.asked().len(), 1);
}

/// A CA of this server that is another profile's manufacturer: the certificates that it issued are in the same ledger.
#[test]
fn a_revoked_certificate_opens_no_profile_that_has_its_ca_for_a_manufacturer() {
    let (factory, other) = (World::new(), World::seeded(2, authority::VerifySignatures::External));
    let ledger = Arc::new(MemoryLedger::new(99));
    let issuer = factory.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(factory.signer()));
    let device = factory.device(1);
    let first = issued(run_one(&issuer, START, factory.enroll(&factory.profile(), &device, device.csr())));
    let profile = other.profile_with(|spec| {
        spec.profile.name = "second".to_owned();
        spec.profile.manufacturers = vec![Arc::clone(factory.ca.certificate())];
    });
    let second = other.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(other.signer()));
    let fresh = factory.device(1);
    let job = || {
        let job = factory.with_issued(Function::SimpleEnroll, &profile, &first, fresh.csr());
        assert_eq!(profile.origin(&job.anchor), Some(Origin::Manufacturer));
        job
    };
    issued(run_one(&second, START + 1, job()));
    revoke(&*ledger, &first);
    assert_eq!(refused(run_one(&second, START + 2, job())), Refusal::ClientRevoked);
}

/// Number of rows, whatever their state.
fn rows_of(ledger: &MemoryLedger) -> u64 {
    let (sender, receiver) = std::sync::mpsc::channel();
    ledger.health(Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap().rows
}

fn row(ledger: &MemoryLedger, of: &Issued) -> LedgerEntry {
    let (sender, receiver) = std::sync::mpsc::channel();
    ledger.find(vec![support::locator(of)], Box::new(move |answer| sender.send(answer).unwrap()));
    receiver.recv().unwrap().unwrap().remove(0).unwrap()
}

#[test]
fn a_row_says_who_issued_what_to_whom_on_whose_word_and_from_where_it_was_asked() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let csr = device.csr();
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, csr.clone())));
    let renewal_csr = device.csr_with(&subject_of(&first), &GeneralNames::empty(), None);
    let renewal = world.with_issued(Function::SimpleReenroll, &profile, &first, renewal_csr.clone());
    let peer = "[2001:db8::7]:5684".parse().unwrap();
    let second = issued(run_one(&issuer, START + DAY, Job { peer, ..renewal }));
    let ca = world.ca.certificate().anchor_id();
    let factory = (world.manufacturer.anchor_id(), Origin::Manufacturer, device.idevid.digest(), &csr, PEER);
    let predecessor = (ca, Origin::ThisCa, first.digest, &renewal_csr, peer);
    for (issued, (anchor, vouched_by, client, csr, peer)) in [(&first, factory), (&second, predecessor)] {
        let row = row(&ledger, issued);
        let intent = &row.intent;
        assert_eq!((intent.ca, intent.anchor, intent.vouched_by), (ca, anchor, vouched_by));
        assert_eq!((intent.client, intent.csr, intent.peer), (client, Digest::of(csr), peer));
        let certificate = Certificate::parse(&issued.certificate).unwrap();
        assert_eq!((&intent.subject, intent.validity), (certificate.subject(), certificate.validity()));
        assert!(matches!(&row.stage, RowStage::Issued(record) if record.issued == *issued));
        let standing = row.standing().unwrap();
        assert_eq!(
            (standing.serial.as_bytes().as_slice(), standing.validity),
            (certificate.serial(), certificate.validity())
        );
        assert_eq!((standing.anchor, standing.vouched_by), (anchor, vouched_by));
        assert_eq!((standing.device, standing.profile), (issued.device.clone(), "meters".into()));
    }
}
