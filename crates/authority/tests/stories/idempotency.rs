//! One request, one certificate: within its window, whatever the network does; outside of it, a new one.

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier, mpsc};

use authority::{Authority, Collected, Deliver, Function, Issued, Job, Outcome};
use pki::Digest;

use crate::support::{DAY, START, World, YEAR, at, issued, run, run_one};

/// Mbed TLS and others sign deterministically (RFC 6979): every request with the same key and subject has the same
/// bytes.
#[test]
fn a_device_that_signs_deterministically_gets_three_certificates_and_never_a_fourth() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let csr = device.csr();
    let repeat_twenty_times = |from: u64, job: &dyn Fn() -> Job, expected: &Arc<Issued>| {
        for number in 0..20 {
            let again = issued(run_one(&issuer, from + number * 60, job()));
            assert_eq!(again, *expected, "repeat {number}");
        }
    };

    let enroll = || world.enroll(&profile, &device, csr.clone());
    let first = issued(run_one(&issuer, START, enroll()));
    repeat_twenty_times(START, &enroll, &first);

    let renewal_at = START + 2 * DAY;
    let renew = || world.with_issued(Function::SimpleReenroll, &profile, &first, csr.clone());
    let second = issued(run_one(&issuer, renewal_at, renew()));
    assert_ne!(second.digest, first.digest);
    repeat_twenty_times(renewal_at, &renew, &second);

    let reset_at = renewal_at + 2 * DAY;
    let third = issued(run_one(&issuer, reset_at, enroll()));
    assert!(third.digest != first.digest && third.digest != second.digest);
    repeat_twenty_times(reset_at, &enroll, &third);
    assert_eq!(ledger.issued(), [first, second, third]);
}

#[test]
fn c04_the_same_request_again_gets_the_same_certificate() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let csr = device.csr();
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, csr.clone())));
    let again = issued(run_one(&issuer, START + DAY - 1, world.enroll(&profile, &device, csr.clone())));
    assert_eq!(first, again);
    let after_the_window = issued(run_one(&issuer, START + DAY, world.enroll(&profile, &device, csr)));
    assert_ne!(first, after_the_window);
    assert_eq!(ledger.issued_count(), 2);
}

#[test]
fn c05_another_session_gets_the_same_certificate() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let csr = device.csr();
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, csr.clone())));
    let mut job = world.enroll(&profile, &device, csr);
    job.tls_unique = Some(*b"next session");
    assert_eq!(issued(run_one(&issuer, START + 60, job)), first);
    assert_eq!(ledger.issued_count(), 1);
}

#[test]
fn identical_requests_in_one_batch_are_one() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let csr = device.csr();
    let jobs = (0..5).map(|_| world.enroll(&profile, &device, csr.clone())).collect();
    let certificates: BTreeSet<Digest> = run(&issuer, START, jobs).into_iter().map(|it| issued(it).digest).collect();
    assert_eq!((certificates.len(), ledger.issued_count()), (1, 1));
}

#[test]
fn a_certificate_never_renews_itself() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (profile, device) = (world.profile(), world.device(1));
    let csr = device.csr();
    let renew = |with: &Issued| world.with_issued(Function::SimpleReenroll, &profile, with, csr.clone());
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, csr.clone())));
    let second = issued(run_one(&issuer, START + 1, renew(&first)));
    // Minutes later, with the same bytes, but now to renew the second certificate.
    let third = issued(run_one(&issuer, START + 300, renew(&second)));
    assert_ne!(third, second);
    // A late repeat of the first renewal gets the newest answer to that request, not a fourth certificate.
    assert_eq!(issued(run_one(&issuer, START + 301, renew(&first))), third);
    assert_eq!(ledger.issued_count(), 3);
}

#[test]
fn the_window_ends_when_renewal_is_due() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let profile = world.profile_with(|spec| spec.repeat_window = std::time::Duration::from_secs(10 * YEAR));
    let device = world.device(1);
    let csr = device.csr();
    let first = issued(run_one(&issuer, START, world.enroll(&profile, &device, csr.clone())));
    let from = first.validity.not_before.as_secs();
    let due = from + first.validity.not_after.as_secs().abs_diff(from).div_ceil(3) * 2;
    let enroll = || world.enroll(&profile, &device, csr.clone());
    assert_eq!(issued(run_one(&issuer, due - 10, enroll())), first);
    assert_ne!(issued(run_one(&issuer, due + 10, enroll())), first);
}

#[test]
fn profiles_and_functions_are_part_of_a_request() {
    let world = World::new();
    let (issuer, ledger) = world.plain();
    let (meters, device) = (world.profile(), world.device(1));
    let valves = world.profile_with(|spec| spec.profile.name = "valves".into());
    let csr = device.csr();
    let first = issued(run_one(&issuer, START, world.enroll(&meters, &device, csr.clone())));
    let second = issued(run_one(&issuer, START, world.enroll(&valves, &device, csr.clone())));
    let third =
        issued(run_one(&issuer, START, world.with_issued(Function::SimpleReenroll, &meters, &first, csr.clone())));
    let fourth = issued(run_one(&issuer, START, world.with_issued(Function::SimpleEnroll, &meters, &third, csr)));
    assert_eq!(fourth, first, "the same request of the same device, whichever certificate it presents");
    assert_eq!(ledger.issued(), [first, second, third].into_iter().fold(Vec::new(), insert_sorted));
}

fn insert_sorted(mut sorted: Vec<Arc<Issued>>, next: Arc<Issued>) -> Vec<Arc<Issued>> {
    sorted.push(next);
    sorted.sort_by_key(|it| (it.at, it.digest));
    sorted
}

/// Shards submit the same requests at the same moment; each device gets one certificate, and every repeat of its request
/// gets the same.
#[test]
#[allow(clippy::disallowed_methods, reason = "the test is about threads that meet in the map of flights")]
fn many_threads_with_the_same_requests_get_one_certificate_a_device() {
    const THREADS: usize = 8;
    const DEVICES: u32 = 16;
    let world = Arc::new(World::new());
    let (issuer, ledger) = world.plain();
    let profile = world.profile();
    let devices: Vec<_> = (0..DEVICES).map(|number| world.device(number)).map(|it| (it.csr(), it)).collect();
    let devices = Arc::new(devices);
    let barrier = Arc::new(Barrier::new(THREADS));
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (world, issuer, profile) = (Arc::clone(&world), Arc::clone(&issuer), Arc::clone(&profile));
            let (devices, barrier, sender) = (Arc::clone(&devices), Arc::clone(&barrier), sender.clone());
            std::thread::spawn(move || {
                barrier.wait();
                for (number, (csr, device)) in devices.iter().enumerate() {
                    let job = world.enroll(&profile, device, csr.clone());
                    let deliver = Arc::new(Forward(sender.clone()));
                    Arc::clone(&issuer).submit(at(START), vec![(number, job)], deliver);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(sender);
    let mut by_device = vec![Vec::new(); devices.len()];
    receiver.iter().for_each(|(number, outcome): (usize, Outcome)| by_device[number].push(issued(outcome).digest));
    for certificates in by_device {
        assert_eq!(certificates.len(), THREADS);
        assert_eq!(certificates.iter().collect::<BTreeSet<_>>().len(), 1);
    }
    assert_eq!((ledger.issued_count(), issuer.in_flight()), (devices.len(), 0));
}

struct Forward(mpsc::Sender<(usize, Outcome)>);

impl Deliver<usize> for Forward {
    fn deliver(&self, outcomes: Vec<(usize, Outcome)>) {
        outcomes.into_iter().for_each(|outcome| self.0.send(outcome).unwrap());
    }
}

#[test]
fn nothing_is_delivered_for_nothing() {
    let world = World::new();
    let (issuer, _) = world.plain();
    let collect = Arc::new(Collected::default());
    Arc::clone(&issuer).submit(at(START), Vec::new(), Arc::clone(&collect) as Arc<dyn Deliver<usize>>);
    assert_eq!(collect.len(), 0);
}
