//! Ledger and signer answer late, out of order, wrongly or not at all: no job is lost, none is answered twice, and every
//! released certificate is in the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;

use authority::{
    Authority, Busy, CaAuthority, Collected, Completion, CrlEntryPage, CrlEntryQuery, CrlLayout, CrlListQuery,
    CrlListing, Custody, Deliver, Finding, Flights, Function, Inquiry, Intended, Issued, Job, Ledger, LedgerEntry,
    LedgerFault, LedgerHealth, LedgerWrites, ListQuery, Listing, Locator, MemoryLedger, Misissue, NextCrl, Outcome,
    Random, Record, Recorded, RefusalRecord, Reserve, Revoke, Revoked, RingSigner, RowFilter, Signer, SignerFault,
    ToSign, VerifySignatures,
};
use pki::AnchorId;
use pki::issue::{NodePrefix, Serial};
use pki::{Certificate, Digest, PrivateKey, Signature, UnixTime};

use crate::support;
use crate::support::faulty::{Fate, FaultyLedger, FaultySigner, Queue};
use crate::support::{DAY, Derived, START, World, answers_of, at, issued, key};

struct Stage {
    world: World,
    queue: Queue,
    ledger: Arc<FaultyLedger>,
    signer: Arc<FaultySigner<RingSigner>>,
    issuer: Arc<CaAuthority>,
}

impl Stage {
    fn new() -> Self {
        Self::with(World::new(), |signer| signer)
    }

    fn with(world: World, change: impl FnOnce(FaultySigner<RingSigner>) -> FaultySigner<RingSigner>) -> Self {
        let queue = Queue::default();
        let ledger = Arc::new(FaultyLedger::new(&queue));
        let signer = Arc::new(change(FaultySigner::new(world.signer(), &queue)));
        let issuer = world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::clone(&signer) as Arc<dyn Signer>);
        Self { world, queue, ledger, signer, issuer }
    }

    fn submit(&self, seconds: u64, jobs: Vec<Job>) -> Arc<Collected<usize>> {
        let collect = Arc::new(Collected::default());
        let batch = jobs.into_iter().enumerate().collect();
        Arc::clone(&self.issuer).submit(at(seconds), batch, Arc::clone(&collect) as Arc<dyn Deliver<usize>>);
        collect
    }

    fn recorded(&self) -> Vec<Arc<Issued>> {
        self.ledger.inner.issued()
    }
}

#[track_caller]
fn later(outcome: Outcome) -> Busy {
    match outcome {
        Outcome::Later { max_age, why } => {
            assert!(!max_age.is_zero(), "a Max-Age of zero would cause a storm of repeats");
            why
        }
        other => panic!("expected later, got {other:?}"),
    }
}

/// Fates of the calls of one enrolment (standing, intend, sign, record), the client's answer, and whether a row may exist.
#[test]
fn every_fault_of_a_single_enrolment_ends_in_later_and_a_repeat_gets_one_certificate() {
    use Fate::{Dropped, FaultAfter, FaultBefore, Good, Short};
    let unavailable = Busy::Ledger(LedgerFault::Unavailable);
    let cases: &[(&[Fate], Busy)] = &[
        (&[FaultBefore], unavailable),
        (&[FaultAfter], unavailable),
        (&[Dropped], Busy::Dropped),
        (&[Short], Busy::Ledger(LedgerFault::Answer)),
        (&[Good, FaultBefore], unavailable),
        (&[Good, FaultAfter], unavailable),
        (&[Good, Dropped], Busy::Dropped),
        (&[Good, Short], Busy::Ledger(LedgerFault::Answer)),
        (&[Good, Good, FaultBefore], Busy::Signer(SignerFault::Unavailable)),
        (&[Good, Good, Dropped], Busy::Dropped),
        (&[Good, Good, Short], Busy::Signer(SignerFault::Answer)),
        (&[Good, Good, Good, FaultBefore], unavailable),
        (&[Good, Good, Good, FaultAfter], unavailable),
        (&[Good, Good, Good, Dropped], Busy::Dropped),
        (&[Good, Good, Good, Short], Busy::Ledger(LedgerFault::Answer)),
    ];
    for (fates, expected) in cases {
        let stage = Stage::new();
        let (profile, device) = (stage.world.profile(), stage.world.device(1));
        let csr = device.csr();
        let enroll = || vec![stage.world.enroll(&profile, &device, csr.clone())];
        let collect = stage.submit(START, enroll());
        for fate in *fates {
            assert_eq!(collect.len(), 0, "{fates:?}: answered too early");
            stage.queue.step(0, *fate);
        }
        assert_eq!(later(answers_of(&collect, 1).remove(0)), *expected, "{fates:?}");
        assert_eq!(stage.issuer.in_flight(), 0);
        stage.queue.run_in_order();
        // After a dropped completion the intent stays until its lifetime ends.
        let collect = stage.submit(START + 61, enroll());
        stage.queue.run_in_order();
        let certificate = issued(answers_of(&collect, 1).remove(0));
        assert_eq!(stage.recorded(), [certificate], "{fates:?}: one certificate, and it is the one that was released");
    }
}

#[test]
fn a_ledger_that_cannot_say_who_its_clients_are_stops_the_jobs_of_that_question_and_no_others() {
    let stage = Stage::new();
    let (profile, one, two) = (stage.world.profile(), stage.world.device(1), stage.world.device(2));
    let collect = stage.submit(START, vec![stage.world.enroll(&profile, &one, one.csr())]);
    stage.queue.run_in_order();
    let first = issued(answers_of(&collect, 1).remove(0));
    for (fate, expected) in
        [(Fate::FaultBefore, Busy::Ledger(LedgerFault::Unavailable)), (Fate::Short, Busy::Ledger(LedgerFault::Answer))]
    {
        let renewal = stage.world.with_issued(Function::SimpleReenroll, &profile, &first, one.csr());
        let collect = stage.submit(START + DAY, vec![renewal, stage.world.enroll(&profile, &two, two.csr())]);
        let other = stage.submit(START + DAY, vec![stage.world.enroll(&profile, &two, two.csr())]);
        assert_eq!(stage.queue.len(), 2, "one inquiry per batch, for clients with factory certificates too");
        stage.queue.step(0, fate);
        stage.queue.run_in_order();
        assert_eq!(answers_of(&collect, 2).into_iter().map(later).collect::<Vec<_>>(), [expected; 2]);
        issued(answers_of(&other, 1).remove(0));
    }
}

#[test]
fn c05_a_repeat_while_the_first_is_in_flight_waits_for_its_outcome() {
    let stage = Stage::new();
    let (profile, device) = (stage.world.profile(), stage.world.device(1));
    let csr = device.csr();
    let enroll = || vec![stage.world.enroll(&profile, &device, csr.clone())];
    let first = stage.submit(START, enroll());
    stage.queue.step(0, Fate::Good);
    let second = stage.submit(START + 5, enroll());
    stage.queue.step(1, Fate::Good);
    // The first request's intent.
    stage.queue.step(0, Fate::Good);
    let third = stage.submit(START + 10, enroll());
    assert_eq!(stage.issuer.in_flight(), 1);
    stage.queue.run_in_order();
    let certificates: BTreeSet<Digest> =
        [first, second, third].iter().map(|it| issued(answers_of(it, 1).remove(0)).digest).collect();
    assert_eq!((certificates.len(), stage.recorded().len()), (1, 1));
    assert_eq!(stage.signer.signed.lock().unwrap().len(), 1, "signed once");
}

#[test]
fn a_request_with_another_certificate_does_not_wait_for_what_it_wants_to_renew() {
    let stage = Stage::new();
    let (profile, device) = (stage.world.profile(), stage.world.device(1));
    let csr = device.csr();
    let run = |seconds, job| {
        let collect = stage.submit(seconds, vec![job]);
        stage.queue.run_in_order();
        issued(answers_of(&collect, 1).remove(0))
    };
    let renew = |with: &Issued| stage.world.with_issued(Function::SimpleReenroll, &profile, with, csr.clone());
    let first = run(START, stage.world.enroll(&profile, &device, csr.clone()));
    let second = run(START + 1, renew(&first));
    // A late repeat of that renewal, and the next renewal, at the same time.
    let straggler = stage.submit(START + 2, vec![renew(&first)]);
    let next = stage.submit(START + 2, vec![renew(&second)]);
    stage.queue.step(0, Fate::Good);
    stage.queue.step(0, Fate::Good);
    assert_eq!(later(answers_of(&next, 1).remove(0)), Busy::InFlight);
    stage.queue.run_in_order();
    assert_eq!(issued(answers_of(&straggler, 1).remove(0)), second);
}

#[test]
fn enrolments_in_flight_are_bounded() {
    let world = World::new();
    let queue = Queue::default();
    let ledger = Arc::new(FaultyLedger::new(&queue)) as Arc<dyn Ledger>;
    let random = Arc::clone(&world.random) as Arc<dyn Random>;
    let issuer = Arc::new(CaAuthority::new(
        ledger,
        Arc::new(world.signer()),
        random,
        NodePrefix::new(1),
        Arc::new(Flights::new(2)),
    ));
    let profile = world.profile();
    let devices: Vec<_> = (0..3).map(|number| world.device(number)).collect();
    let jobs = devices.iter().map(|device| world.enroll(&profile, device, device.csr())).enumerate().collect();
    let collect = Arc::new(Collected::default());
    Arc::clone(&issuer).submit(at(START), jobs, Arc::clone(&collect) as Arc<dyn Deliver<usize>>);
    queue.run_in_order();
    let outcomes = answers_of(&collect, 3);
    let full = |outcome: &&Outcome| matches!(outcome, Outcome::Later { why: Busy::Full, .. });
    assert_eq!(outcomes.iter().filter(full).count(), 1);
    assert_eq!(issuer.in_flight(), 0);
}

#[test]
fn e25_a_serial_that_is_taken_is_drawn_again_a_few_times() {
    for (taken, good) in [(1, true), (3, true), (4, false)] {
        let stage = Stage::new();
        *stage.ledger.taken.lock().unwrap() = taken;
        let (profile, device) = (stage.world.profile(), stage.world.device(1));
        let collect = stage.submit(START, vec![stage.world.enroll(&profile, &device, device.csr())]);
        stage.queue.run_in_order();
        let outcome = answers_of(&collect, 1).remove(0);
        if good {
            issued(outcome);
        } else {
            assert_eq!(later(outcome), Busy::Serials);
        }
        assert_eq!(stage.issuer.in_flight(), 0);
    }
}

/// Draws the same serial for every request until the ledger refuses it.
struct Colliding {
    inner: Arc<Derived>,
    same: std::sync::atomic::AtomicUsize,
}

impl Random for Colliding {
    fn fill(&self, out: &mut [u8]) {
        let before = self.same.fetch_update(
            std::sync::atomic::Ordering::Relaxed,
            std::sync::atomic::Ordering::Relaxed,
            |left| left.checked_sub(1),
        );
        if before.is_ok() { out.fill(0x5a) } else { self.inner.fill(out) }
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn ring::rand::SecureRandom)) {
        self.inner.with_secure(operation);
    }
}

#[test]
fn e25_e27_a_forced_collision_gives_two_serials_and_each_has_one_content() {
    let stage = Stage::new();
    let random = Arc::new(Colliding { inner: Arc::clone(&stage.world.random), same: 2.into() });
    let ledger = Arc::clone(&stage.ledger) as Arc<dyn Ledger>;
    let signer = Arc::clone(&stage.signer) as Arc<dyn Signer>;
    let issuer = Arc::new(CaAuthority::new(ledger, signer, random, NodePrefix::new(7), Arc::new(Flights::default())));
    let profile = stage.world.profile();
    let devices: Vec<_> = (0..2).map(|number| stage.world.device(number)).collect();
    let jobs = devices.iter().map(|device| stage.world.enroll(&profile, device, device.csr())).enumerate().collect();
    let collect = Arc::new(Collected::default());
    Arc::clone(&issuer).submit(at(START), jobs, Arc::clone(&collect) as Arc<dyn Deliver<usize>>);
    stage.queue.run_in_order();
    let certificates: Vec<_> = answers_of(&collect, 2).into_iter().map(issued).collect();
    let serial = |number: usize| Certificate::parse(&certificates[number].certificate).unwrap().serial().to_vec();
    assert_ne!(serial(0), serial(1));
    assert_eq!(stage.signer.signed.lock().unwrap().len(), 2, "the content that lost its serial was never signed");
}

#[test]
fn e27_an_abandoned_serial_is_never_used_for_another_content() {
    let stage = Stage::new();
    let (profile, device) = (stage.world.profile(), stage.world.device(1));
    let csr = device.csr();
    for seconds in [0, 1, 2] {
        let collect = stage.submit(START + seconds, vec![stage.world.enroll(&profile, &device, csr.clone())]);
        // Standing, intent, signature.
        stage.queue.step(0, Fate::Good);
        stage.queue.step(0, Fate::Good);
        stage.queue.step(0, Fate::FaultBefore);
        stage.queue.run_in_order();
        assert_eq!(later(answers_of(&collect, 1).remove(0)), Busy::Signer(SignerFault::Unavailable));
    }
    let signed = stage.signer.signed.lock().unwrap().clone();
    assert_eq!(signed.iter().collect::<BTreeSet<_>>().len(), 3, "each attempt has its own content");
    let serial = |to_be_signed: &Vec<u8>| to_be_signed[..40].to_vec();
    assert_eq!(signed.iter().map(serial).collect::<BTreeSet<_>>().len(), 3, "and its own serial");
}

/// Signs with a key other than the CA's.
struct WrongKey(pki::SigningKey, Arc<Derived>, Custody);

impl Signer for WrongKey {
    fn custody(&self) -> Custody {
        self.2
    }

    fn sign(&self, batch: Vec<ToSign>, done: Completion<Vec<Result<Signature, SignerFault>>>) {
        let sign = |work: &ToSign| support::secure(&self.1, |r| self.0.sign(r, work.to_be_signed.der()).unwrap());
        done(batch.iter().map(|work| Ok(sign(work))).collect());
    }
}

#[test]
fn e33_a_signature_is_checked_before_release_where_it_comes_from_outside_or_always() {
    for (verify, custody, checked) in [
        (VerifySignatures::External, Custody::External, true),
        (VerifySignatures::Always, Custody::InProcess, true),
        (VerifySignatures::External, Custody::InProcess, false),
    ] {
        let world = World::with(verify);
        let (profile, device) = (world.profile(), world.device(1));
        let ledger = Arc::new(MemoryLedger::new(10));
        let wrong = WrongKey(key(&world.random).0, Arc::clone(&world.random), custody);
        let issuer = world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(wrong));
        let outcome = support::run_one(&issuer, START, world.enroll(&profile, &device, device.csr()));
        if checked {
            assert_eq!(later(outcome), Busy::Withheld(Misissue::Signature));
            assert_eq!(ledger.issued_count(), 0);
        } else {
            issued(outcome);
        }
    }
}

#[test]
fn a_signer_without_the_key_says_so_and_refuses_the_key_of_another_ca() {
    let world = World::new();
    let mut signer = RingSigner::new(Arc::clone(&world.random) as Arc<dyn Random>);
    let (_, other) = key(&world.random);
    assert_eq!(signer.add(&world.ca, other), Err(authority::CaKeyFault::NotOfThisCertificate));
    let unusable = signer.add(&world.ca, PrivateKey::from_pkcs8(vec![0x30, 0])).unwrap_err();
    assert_eq!(unusable, authority::CaKeyFault::Unusable(pki::KeyError::NotAKey));
    let issuer = world.issuer(Arc::new(MemoryLedger::new(10)), Arc::new(signer));
    let (profile, device) = (world.profile(), world.device(1));
    let outcome = support::run_one(&issuer, START, world.enroll(&profile, &device, device.csr()));
    assert_eq!(later(outcome), Busy::Signer(SignerFault::NoKey));
}

#[test]
fn a_full_ledger_is_said_to_be_full() {
    let world = World::new();
    let ledger = Arc::new(MemoryLedger::new(1));
    let issuer = world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(world.signer()));
    let (profile, one, two) = (world.profile(), world.device(1), world.device(2));
    let first = issued(support::run_one(&issuer, START, world.enroll(&profile, &one, one.csr())));
    let outcome = support::run_one(&issuer, START, world.enroll(&profile, &two, two.csr()));
    assert_eq!(later(outcome), Busy::Ledger(LedgerFault::Full));
    assert_eq!(ledger.issued(), [first]);
}

/// Many devices, each repeating its only request until it has a certificate, while calls complete in any order and fail in any
/// way.
#[test]
fn whatever_fails_each_device_ends_with_one_certificate_that_is_in_the_ledger() {
    const DEVICES: u32 = 6;
    const ROUNDS: u64 = 60;
    for seed in 0..40 {
        let stage = Stage::new();
        let chance = Derived::new(1_000 + seed);
        let profile = stage.world.profile();
        let devices: Vec<_> = (0..DEVICES).map(|number| stage.world.device(number)).map(|it| (it.csr(), it)).collect();
        let mut held: Vec<BTreeSet<Digest>> = vec![BTreeSet::new(); devices.len()];
        for round in 0..ROUNDS {
            let jobs = || devices.iter().map(|(csr, it)| stage.world.enroll(&profile, it, csr.clone())).collect();
            let now = START + round * 40;
            let collects = [stage.submit(now, jobs()), stage.submit(now + 1, jobs())];
            // The last rounds have no faults: by then every device must be served.
            stage.queue.run(&chance, (round < ROUNDS - 5).then_some(3));
            for collect in collects {
                for (device, outcome) in answers_of(&collect, devices.len()).into_iter().enumerate() {
                    if let Outcome::Issued { issued, .. } = outcome {
                        held[device].insert(issued.digest);
                    }
                }
            }
            assert_eq!(stage.issuer.in_flight(), 0, "seed {seed}, round {round}");
        }
        let recorded: BTreeSet<Digest> = stage.recorded().iter().map(|it| it.digest).collect();
        for certificates in &held {
            assert_eq!(certificates.len(), 1, "seed {seed}: one certificate per device");
            assert!(certificates.is_subset(&recorded), "seed {seed}: what was released is in the ledger");
        }
        assert_eq!(recorded.len(), devices.len(), "seed {seed}: no other was recorded");
    }
}

#[test]
fn e45_two_nodes_with_one_ledger_issue_one_certificate() {
    let stage = Stage::new();
    let ledger = Arc::clone(&stage.ledger) as Arc<dyn Ledger>;
    let other = stage.world.issuer(ledger, Arc::clone(&stage.signer) as Arc<dyn Signer>);
    let (profile, device) = (stage.world.profile(), stage.world.device(1));
    let csr = device.csr();
    let enroll = || stage.world.enroll(&profile, &device, csr.clone());
    let here = stage.submit(START, vec![enroll()]);
    let there = Arc::new(Collected::default());
    Arc::clone(&other).submit(at(START), vec![(0, enroll())], Arc::clone(&there) as Arc<dyn Deliver<usize>>);
    stage.queue.run_in_order();
    let first = issued(answers_of(&here, 1).remove(0));
    assert_eq!(later(answers_of(&there, 1).remove(0)), Busy::InFlight, "one of them signs");
    Arc::clone(&other).submit(at(START + 5), vec![(0, enroll())], Arc::clone(&there) as Arc<dyn Deliver<usize>>);
    stage.queue.run_in_order();
    assert_eq!(issued(answers_of(&there, 1).remove(0)), first, "both answer it");
}

/// A ledger that panics in every call.
struct Panics;

impl Ledger for Panics {
    fn standing(&self, _: Vec<Inquiry>, _: Completion<Result<Vec<Finding>, LedgerFault>>) {
        panic!("standing");
    }

    fn complete_since(&self) -> Option<UnixTime> {
        None
    }

    fn time(&self) -> Option<UnixTime> {
        None
    }

    fn draw(&self, node: NodePrefix, random: [u8; 16]) -> Serial {
        Serial::new(node, random)
    }

    fn intend(&self, _: Vec<Reserve>, _: Completion<Result<Vec<Intended>, LedgerFault>>) {
        panic!("intend");
    }

    fn record(&self, _: Vec<Record>, _: Completion<Result<Vec<Recorded>, LedgerFault>>) {
        panic!("record");
    }

    fn abandon(&self, _: Vec<Serial>) {}

    fn delivered(&self, _: Vec<Serial>) {}

    fn refused(&self, _: Vec<RefusalRecord>) {
        panic!("refused");
    }

    fn find(&self, _: Vec<Locator>, _: Completion<Result<Vec<Option<LedgerEntry>>, LedgerFault>>) {
        panic!("find");
    }

    fn list(&self, _: ListQuery, _: Completion<Result<Listing, LedgerFault>>) {
        panic!("list");
    }

    fn count(&self, _: RowFilter, _: Completion<Result<u64, LedgerFault>>) {
        panic!("count");
    }

    fn revoke(&self, _: Vec<Revoke>, _: Completion<Result<Vec<Revoked>, LedgerFault>>) {
        panic!("revoke");
    }

    fn fix_crl_layout(&self, _: AnchorId, _: CrlLayout, _: Completion<Result<CrlLayout, LedgerFault>>) {
        panic!("fix_crl_layout");
    }

    fn crl_lists(&self, _: CrlListQuery, _: Completion<Result<CrlListing, LedgerFault>>) {
        panic!("crl_lists");
    }

    fn number_crls(&self, _: Vec<NextCrl>, _: Completion<Result<Vec<u64>, LedgerFault>>) {
        panic!("number_crls");
    }

    fn crl_entries(&self, _: CrlEntryQuery, _: Completion<Result<CrlEntryPage, LedgerFault>>) {
        panic!("crl_entries");
    }

    fn health(&self, _: Completion<Result<LedgerHealth, LedgerFault>>) {
        panic!("health");
    }

    fn writes(&self) -> LedgerWrites {
        panic!("writes");
    }

    fn flush(&self, _: Completion<Result<(), LedgerFault>>) {
        panic!("flush");
    }
}

#[test]
fn e56_a_panic_below_answers_its_jobs_and_frees_their_keys() {
    let world = World::new();
    let issuer = world.issuer(Arc::new(Panics), Arc::new(world.signer()));
    let (profile, device) = (world.profile(), world.device(1));
    let collect = Arc::new(Collected::default());
    let job = world.enroll(&profile, &device, device.csr());
    let deliver = Arc::clone(&collect) as Arc<dyn Deliver<usize>>;
    let submit = || Arc::clone(&issuer).submit(at(START), vec![(0, job)], deliver);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(submit)).is_err());
    assert!(matches!(answers_of(&collect, 1)[..], [Outcome::Later { why: Busy::Dropped, .. }]));
    assert_eq!(issuer.in_flight(), 0);
}

/// Panics when the second serial is drawn.
struct PanicsOnce(Arc<Derived>, std::sync::atomic::AtomicUsize);

impl Random for PanicsOnce {
    fn fill(&self, out: &mut [u8]) {
        let before = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(before != 1, "the second serial");
        self.0.fill(out);
    }

    fn with_secure(&self, operation: &mut dyn FnMut(&dyn ring::rand::SecureRandom)) {
        self.0.with_secure(operation);
    }
}

#[test]
fn e56_a_step_that_panics_on_one_job_costs_its_batch_nothing_else() {
    let world = World::new();
    let random = Arc::new(PanicsOnce(Arc::clone(&world.random), 0.into()));
    let ledger = Arc::new(MemoryLedger::new(100));
    let flights = Arc::new(Flights::default());
    let (rows, signer) = (Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(world.signer()));
    let issuer = CaAuthority::new(rows, signer, random, NodePrefix::new(7), flights).isolating(|step| {
        drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(step)));
    });
    let (issuer, profile) = (Arc::new(issuer), world.profile());
    let devices: Vec<_> = (0..3).map(|number| world.device(number)).map(|device| (device.csr(), device)).collect();
    let jobs = || devices.iter().map(|(csr, device)| world.enroll(&profile, device, csr.clone())).collect();
    let mut outcomes = support::run(&issuer, START, jobs());
    assert_eq!(later(outcomes.remove(1)), Busy::Dropped);
    let first: Vec<_> = outcomes.into_iter().map(issued).collect();
    assert_eq!((first.len(), ledger.issued_count(), issuer.in_flight()), (2, 2, 0));
    let again: Vec<_> = support::run(&issuer, START + 60, jobs()).into_iter().map(issued).collect();
    assert_eq!((again.len(), ledger.issued_count()), (3, 3), "its key is free");
}
