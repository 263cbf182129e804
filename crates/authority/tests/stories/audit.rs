//! Each refusal reaches the audit once, with its reason (E38). What is answered "later", and what is issued, does not.

use std::sync::{Arc, Mutex};

use authority::{
    CaAuthority, Function, KeyTypes, Ledger, LedgerOver, MemoryLedger, Outcome, Profile, Refusal, RefusalRecord,
};
use pki::{Digest, GeneralNames};

use crate::support::{self, START, World, at, dns, issued, refused, run, run_one};

/// A ledger in memory that keeps what it is told of refusals: each entry is one call.
#[derive(Default)]
struct Audited {
    inner: MemoryLedger,
    calls: Mutex<Vec<Vec<RefusalRecord>>>,
}

impl LedgerOver for Audited {
    fn inner(&self) -> &dyn Ledger {
        &self.inner
    }

    fn refused(&self, records: Vec<RefusalRecord>) {
        self.calls.lock().unwrap().push(records);
    }
}

impl Audited {
    fn calls(&self) -> Vec<Vec<RefusalRecord>> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    #[track_caller]
    fn only(&self) -> RefusalRecord {
        let mut records: Vec<RefusalRecord> = self.calls().into_iter().flatten().collect();
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }
}

fn stage(world: &World) -> (Arc<CaAuthority>, Arc<Audited>) {
    let ledger = Arc::new(Audited::default());
    (world.issuer(Arc::clone(&ledger) as Arc<dyn Ledger>, Arc::new(world.signer())), ledger)
}

#[test]
fn e38_a_request_that_is_no_csr_leaves_one_record_with_reason_device_peer_and_profile() {
    let world = World::new();
    let (issuer, ledger) = stage(&world);
    let (profile, device) = (world.profile(), world.device(1));
    let job = world.enroll(&profile, &device, vec![0x30]);
    let peer = job.peer;
    assert!(matches!(refused(run_one(&issuer, START, job)), Refusal::Csr(_)));
    let record = ledger.only();
    assert_eq!((record.reason, record.function), ("est.csr.malformed", Function::SimpleEnroll));
    assert_eq!((record.peer, record.at, record.client), (peer, at(START), device.idevid.digest()));
    assert_eq!(record.device.map(|it| it.manufacturer), Some(world.manufacturer.anchor_id()));
    assert_eq!((&*record.profile, record.profile_version), (profile.name(), version(&world, &profile)));
}

/// The version that a row of this profile has.
fn version(world: &World, profile: &Arc<Profile>) -> authority::ProfileVersion {
    let (issuer, ledger) = world.plain();
    let device = world.device(77);
    let issued = issued(run_one(&issuer, START, world.enroll(profile, &device, device.csr())));
    let found = Arc::new(Mutex::new(None));
    let told = Arc::clone(&found);
    ledger.find(vec![support::locator(&issued)], Box::new(move |rows| *told.lock().unwrap() = rows.unwrap().remove(0)));
    found.lock().unwrap().take().unwrap().intent.profile_version
}

#[test]
fn e38_a_decision_against_a_request_leaves_one_record() {
    let world = World::new();
    let (issuer, ledger) = stage(&world);
    let device = world.device(1);
    let narrow = world.profile_with(|spec| spec.key_types = KeyTypes { p256: false, p384: true });
    run_one(&issuer, START, world.enroll(&narrow, &device, device.csr()));
    let record = ledger.only();
    assert_eq!((record.reason, record.client), ("est.csr.key_type", device.idevid.digest()));
    assert!(record.device.is_some());

    let profile = world.profile();
    let names = device.csr_with(device.idevid.subject(), &dns(&["a.example"]), None);
    run_one(&issuer, START, world.enroll(&profile, &device, names));
    assert_eq!(ledger.only().reason, "est.csr.san_not_listed");
}

#[test]
fn e38_a_revoked_client_is_recorded_as_the_device_that_the_ledger_names() {
    let world = World::new();
    let (issuer, ledger) = stage(&world);
    let (profile, device) = (world.profile(), world.device(1));
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, device.csr())));
    assert!(ledger.calls().is_empty(), "an acceptance is recorded by the ledger itself");
    support::revoke(&*ledger, &first);
    let job = world.with_issued(Function::SimpleReenroll, &profile, &first, device.csr());
    assert_eq!(refused(run_one(&issuer, START + 1, job)), Refusal::ClientRevoked);
    let record = ledger.only();
    assert_eq!((record.reason, record.function), ("est.client.revoked", Function::SimpleReenroll));
    assert_eq!((record.device.as_ref(), record.client), (Some(&first.device), first.digest));
}

#[test]
fn e38_what_the_ledger_refuses_is_recorded_and_a_batch_is_one_call() {
    let world = World::new();
    let (issuer, ledger) = stage(&world);
    let (profile, one, two) = (world.profile(), world.device(1), world.device(2));
    issued(run_one(&issuer, START, world.enroll(&profile, &one, one.csr())));
    let copied = two.csr_for(&one.key, two.idevid.subject(), &GeneralNames::empty(), None);
    assert_eq!(refused(run_one(&issuer, START, world.enroll(&profile, &two, copied))), Refusal::KeyOfAnotherDevice);
    assert_eq!(ledger.only().reason, "est.csr.key_of_another_device");

    let jobs = vec![
        world.enroll(&profile, &one, vec![0]),
        world.enroll(&profile, &two, two.csr()),
        world.enroll(&profile, &two, vec![1]),
    ];
    let outcomes = run(&issuer, START, jobs);
    assert_eq!(outcomes.iter().filter(|it| matches!(it, Outcome::Refused(_))).count(), 2);
    let calls = ledger.calls();
    assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), [2], "{calls:?}");
    let clients: Vec<Digest> = calls[0].iter().map(|record| record.client).collect();
    assert_eq!(clients, [one.idevid.digest(), two.idevid.digest()]);
}

#[test]
fn e38_an_answer_that_asks_to_come_later_is_no_refusal() {
    let world = World::new();
    let (issuer, ledger) = stage(&world);
    let (profile, device) = (world.profile(), world.device(1));
    // The CA has expired.
    let after = START + 20 * support::YEAR + 1;
    let outcome = run_one(&issuer, after, world.enroll(&profile, &device, device.csr()));
    assert!(matches!(outcome, Outcome::Later { .. }), "{outcome:?}");
    assert!(ledger.calls().is_empty());
}
