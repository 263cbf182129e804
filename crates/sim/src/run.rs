//! A run of one seed, and the checks after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use authority::{Actor, Device, Issued, Ledger as _, Locator};
use link::Tally;
use pki::chain::{self, Anchors};
use pki::{Certificate, Digest};

use crate::backend::Backend;
use crate::crashing::CrashTally;
use crate::device::{ReceivedCertificate, SimulatedDevice};
use crate::scenario::{Goal, Scenario};
use crate::trace::Tracer;
use crate::world::{Stopped, World};

/// Virtual time for one run: the life of a device in three requests with pauses, and hours for bad luck.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(3 * 86_400);

/// Virtual time for one enrolment, whatever link, ledger, signer and restarts do to it.
pub const ENROLMENT_TIME_MAX: Duration = Duration::from_secs(3_600);

/// The results of a successful run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// The seed of the run.
    pub seed: u64,
    /// The name of its scenario.
    pub scenario: &'static str,
    /// Certificates in the ledger.
    pub certificates: usize,
    /// The totals of the link.
    pub link: Tally,
    /// The virtual time that passed.
    pub elapsed: Duration,
    /// The duration of each enrolment, including the `/crts` before it and all handshakes.
    pub took: Vec<Duration>,
    /// SHA-256 over all datagrams with their times.
    pub wire: [u8; 32],
    /// What the ledger went through, if it crashes.
    pub crashes: CrashTally,
    /// Certificates that were revoked because their keys had not reached their devices.
    pub undelivered: usize,
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { sent, bytes, lost, duplicated, corrupted, .. } = self.link;
        writeln!(
            f,
            "seed {} of scenario {}: {} certificates in {:?}",
            self.seed, self.scenario, self.certificates, self.elapsed
        )?;
        writeln!(f, "{sent} datagrams, {bytes} bytes; {lost} lost, {duplicated} duplicated, {corrupted} corrupted")?;
        f.write_str("SHA-256 of all datagrams: ")?;
        self.wire.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A run that broke a promise. Its text says which promise, and how to replay the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFaults {
    /// The seed of the run.
    pub seed: u64,
    /// The name of its scenario.
    pub scenario: &'static str,
    /// The virtual time at which the run ended.
    pub elapsed: Duration,
    /// Every promise that was broken.
    pub faults: Vec<String>,
}

impl fmt::Display for RunFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} of scenario {} after {:?}:", self.seed, self.scenario, self.elapsed)?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        write!(f, "see it again: cargo run -p sim --bin replay -- --seed {} --scenario {}", self.seed, self.scenario)
    }
}

impl std::error::Error for RunFaults {}

/// Runs one seed of a scenario.
///
/// # Errors
/// [`RunFaults`].
pub fn run(seed: u64, scenario: &Scenario) -> Result<RunReport, RunFaults> {
    run_world(World::new(seed, scenario, None), seed, scenario)
}

/// The same run, with its trace.
///
/// # Errors
/// [`RunFaults`].
pub fn run_traced(seed: u64, scenario: &Scenario, tracer: &Tracer) -> Result<RunReport, RunFaults> {
    run_world(World::new(seed, scenario, Some(tracer)), seed, scenario)
}

/// Runs a world that a test has prepared.
///
/// # Errors
/// [`RunFaults`].
pub fn run_world(mut world: World, seed: u64, scenario: &Scenario) -> Result<RunReport, RunFaults> {
    let ended = world.run(TIME_MAX);
    let elapsed = world.clock().elapsed();
    let faults = match ended {
        Ok(()) => check(&world),
        Err(stopped) => vec![unfinished(&world, &stopped)],
    };
    if !faults.is_empty() {
        return Err(RunFaults { seed, scenario: scenario.name, elapsed, faults });
    }
    Ok(RunReport {
        seed,
        scenario: scenario.name,
        certificates: world.ledger().issued_count(),
        link: world.tally(),
        elapsed,
        took: world.devices().iter().flat_map(|device| &device.received).map(|received| received.took).collect(),
        wire: world.wire_digest(),
        crashes: world.crash_tally(),
        undelivered: world.ledger().issued().iter().filter(|row| is_undelivered(&world, row)).count(),
    })
}

/// Whether the certificate was revoked because its key has not reached its device.
fn is_undelivered(world: &World, issued: &Issued) -> bool {
    let Some(row) = Certificate::parse(&issued.certificate).ok().as_ref().and_then(Locator::of) else { return false };
    let (sender, answer) = mpsc::channel();
    world.ledger().find(vec![row], Box::new(move |rows| _ = sender.send(rows)));
    // The ledger in memory answers before it returns.
    let found = answer.try_recv().ok().and_then(Result::ok).and_then(|rows| rows.into_iter().next().flatten());
    found.and_then(|row| row.revocation).is_some_and(|revocation| revocation.actor == Actor::undelivered())
}

pub(crate) fn unfinished<B: Backend>(world: &World<B>, stopped: &Stopped) -> String {
    let waiting: Vec<String> = world
        .devices()
        .iter()
        .filter_map(|device| device.goal().map(|goal| format!("{} wants {goal:?}", device.number)))
        .collect();
    format!("{stopped:?}; devices: {}", waiting.join(", "))
}

/// Whether the certificate is valid and for the device's key. Verified at its time of issue: it may have been renewed and have expired since.
fn verify(
    anchors: &Anchors,
    device: &SimulatedDevice,
    received: &ReceivedCertificate,
    row: &Issued,
) -> Result<(), String> {
    match chain::verify_device(anchors, &[&received.certificate], row.at) {
        Ok(verified) if received.goal != Goal::GenerateKey && verified.leaf.spki() != device.spki() => {
            Err("a certificate for another key".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// What is wrong with the certificates that devices have received, and their digests. Each is received once and in time, was issued, and is valid and for
/// its device; `record` says what is wrong with it by the record of the server.
pub(crate) fn walk<B: Backend>(
    world: &World<B>,
    issued: &BTreeMap<Digest, Arc<Issued>>,
    record: impl Fn(&SimulatedDevice, &Digest) -> Option<&'static str>,
) -> (Vec<String>, BTreeSet<Digest>) {
    let anchors = Anchors::new(vec![Arc::clone(world.ca().ca().certificate())]).expect("the issuing CA is an anchor");
    let (mut faults, mut seen) = (Vec::new(), BTreeSet::new());
    for (device, received) in world.devices().iter().flat_map(|it| it.received.iter().map(move |got| (it, got))) {
        let digest = Digest::of(&received.certificate);
        let mut fault = |what: &str| faults.push(format!("device {}, {:?}: {what}", device.number, received.goal));
        if received.took > ENROLMENT_TIME_MAX {
            fault(&format!("it took {:?}", received.took));
        }
        if !seen.insert(digest) {
            fault("the certificate of another request");
        }
        if let Some(flaw) = record(device, &digest) {
            fault(flaw);
        }
        match issued.get(&digest) {
            None => fault("a certificate that was not issued"),
            Some(row) => {
                if let Err(flaw) = verify(&anchors, device, received, row) {
                    fault(&flaw);
                }
            }
        }
    }
    (faults, seen)
}

/// Whether a record is that of another device.
pub(crate) fn is_of_another(device: &SimulatedDevice, recorded: &Device) -> bool {
    recorded.id.as_str() != format!("{:06}", device.number)
}

/// Every device has a valid certificate for each of its requests, each request has one certificate in the ledger, under that device, and the ledger
/// holds no other.
fn check(world: &World) -> Vec<String> {
    let issued = world.ledger().issued();
    let ledger: BTreeMap<Digest, Arc<Issued>> = issued.iter().map(|row| (row.digest, Arc::clone(row))).collect();
    let (mut faults, seen) = walk(world, &ledger, |device, digest| {
        let is_other = ledger.get(digest).is_some_and(|row| is_of_another(device, &row.device));
        is_other.then_some("the ledger says another device")
    });
    let wanted: usize = world.devices().iter().map(SimulatedDevice::enrolments).sum();
    // Keys whose requests were repeated over another session: nobody has them.
    let abandoned: usize = world.devices().iter().map(|device| device.abandoned).sum();
    let lost = issued.iter().filter(|row| !seen.contains(&row.digest)).count();
    if issued.len() < wanted || lost > abandoned {
        faults.push(format!(
            "{} certificates in the ledger for {wanted} requests, of which {abandoned} were repeated for another key",
            issued.len()
        ));
    }
    for row in &issued {
        if seen.contains(&row.digest) && is_undelivered(world, row) {
            faults.push(format!("the certificate of {} was delivered, and revoked as if it were not", row.device.id));
        }
    }
    faults
}
