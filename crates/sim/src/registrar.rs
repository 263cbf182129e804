//! Devices, a Registrar and its upstream CAs, in virtual time.
//!
//! ```text
//!   devices ◄──lossy link──► est::Server ─► RelayAuthority ─► Transport ──(script)──► Front ─► CaAuthority
//!                                               │                  │ lies, silence, outages        │
//!                                    record, which crashes      Witness                     ledger, signer
//! ```
//!
//! The Registrar and the CAs are the real ones; sockets, TLS and HTTP are left out. The promises, checked by [`run`]:
//!
//! - Each device has exactly one valid certificate for each of its requests. CAs with one ledger have issued no other.
//! - Nothing is delivered to a device that is for another key, of another CA, or in an answer that lies.
//! - A request whose end is open never goes to another upstream.
//! - Each request has one row in the Registrar's record, and the first certificate of that row is the one that its device has.
//! - No more requests wait for upstreams than may, and none waits in the end.
//! - If the Registrar makes the keys, the CAs have issued only what the Registrar has recorded, and one certificate at most for each key that it lost
//!   in a crash. What it has recorded and no device has received is marked as revoked, unless the Registrar crashed.

mod backend;
mod lies;
pub mod scenario;
mod transport;
mod upstream_ca;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use authority::{Issued, RelayEntry, RelayStage};
use pki::Digest;

use self::backend::RelayBackend;
use self::scenario::RegistrarScenario;
use crate::backend::WorldParts;
use crate::crashing::CrashTally;
use crate::run::{RunFaults, TIME_MAX, is_of_another, unfinished, walk};
use crate::trace::Tracer;
use crate::world::World;

pub use self::witness::RelayTally;

/// Longer than any answer of an upstream takes.
const SETTLED_AFTER: Duration = Duration::from_secs(300);

/// The results of a run that kept its promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrarReport {
    /// The seed of the run.
    pub seed: u64,
    /// The name of its scenario.
    pub scenario: &'static str,
    /// Certificates that devices received.
    pub enrolments: u64,
    /// Certificates that the CAs issued.
    pub issued: u64,
    /// Certificates that the Registrar recorded beyond the first of a request.
    pub seconds: u64,
    /// The virtual time that passed.
    pub elapsed: Duration,
    /// SHA-256 over all datagrams with their times.
    pub wire: [u8; 32],
    /// What upstreams did.
    pub tally: RelayTally,
    /// What the Registrar's record went through.
    pub crashes: CrashTally,
}

/// The same for many runs.
#[derive(Clone, Debug, Default)]
pub struct RegistrarResult {
    /// Certificates that devices received.
    pub enrolments: u64,
    /// Certificates that CAs issued.
    pub issued: u64,
    /// Certificates that Registrars recorded beyond the first of a request.
    pub seconds: u64,
    /// What upstreams did.
    pub tally: RelayTally,
    /// Crashes of Registrars.
    pub crashes: u64,
    /// Runs that broke a promise.
    pub broken: Vec<RunFaults>,
}

impl RegistrarResult {
    /// Adds those of other seeds.
    pub fn add(&mut self, other: Self) {
        self.enrolments += other.enrolments;
        self.issued += other.issued;
        self.seconds += other.seconds;
        self.tally.add(other.tally);
        self.crashes += other.crashes;
        self.broken.extend(other.broken);
    }
}

impl fmt::Display for RegistrarResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enrolments, issued, seconds, tally, crashes, broken } = self;
        write!(
            f,
            "{enrolments} enrolments, {issued} certificates issued, {seconds} recorded as second ones, {crashes} crashes; {tally}; {} runs broken",
            broken.len()
        )
    }
}

/// Plays one seed of a scenario.
///
/// # Errors
/// [`RunFaults`].
pub fn run(seed: u64, scenario: &RegistrarScenario, tracer: Option<&Tracer>) -> Result<RegistrarReport, RunFaults> {
    let parts = WorldParts::new(seed);
    let backend = RelayBackend::new(seed, scenario, &parts);
    let mut world = World::with(seed, &scenario.base, tracer, parts, backend);
    let ended = world.run(TIME_MAX);
    let elapsed = world.clock().elapsed();
    world.settle(SETTLED_AFTER);
    let faults = match ended {
        Ok(()) => check(&world, scenario),
        Err(stopped) => {
            let mut faults = world.backend().witness().found().0;
            faults.push(unfinished(&world, &stopped));
            faults
        }
    };
    let name = scenario.base.name;
    if !faults.is_empty() {
        return Err(RunFaults { seed, scenario: name, elapsed, faults });
    }
    let backend = world.backend();
    let certificates: usize = backend.rows().iter().map(|row| recorded(row).count()).sum();
    let received: usize = world.devices().iter().map(|device| device.received.len()).sum();
    Ok(RegistrarReport {
        seed,
        scenario: name,
        enrolments: received as u64,
        issued: backend.cas().map(|ca| ca.issued().len() as u64).sum(),
        seconds: (certificates - received) as u64,
        elapsed,
        wire: world.wire_digest(),
        tally: backend.witness().tally(),
        crashes: backend.crash_tally(),
    })
}

/// Plays seeds of a scenario until there are this many enrolments or a run is broken.
#[must_use]
pub fn play(scenario: &RegistrarScenario, seeds: impl Iterator<Item = u64>, enrolments: u64) -> RegistrarResult {
    play_each(seeds.map(|seed| (seed, scenario)), enrolments)
}

/// The same of all scenarios, one after the other.
#[must_use]
pub fn play_all(seeds: impl Iterator<Item = u64>, enrolments: u64) -> RegistrarResult {
    play_each(seeds.zip(scenario::ALL.iter().cycle()), enrolments)
}

fn play_each<'s>(mut runs: impl Iterator<Item = (u64, &'s RegistrarScenario)>, enrolments: u64) -> RegistrarResult {
    let mut result = RegistrarResult::default();
    while result.enrolments < enrolments
        && result.broken.is_empty()
        && let Some((seed, scenario)) = runs.next()
    {
        match run(seed, scenario, None) {
            Ok(report) => result.add(RegistrarResult {
                enrolments: report.enrolments,
                issued: report.issued,
                seconds: report.seconds,
                tally: report.tally,
                crashes: report.crashes.crashes,
                broken: Vec::new(),
            }),
            Err(broken) => result.broken.push(broken),
        }
    }
    result
}

/// The scenario of that name.
#[must_use]
pub fn registrar_scenario_named(name: &str) -> Option<&'static RegistrarScenario> {
    scenario::ALL.iter().find(|scenario| scenario.base.name == name)
}

fn recorded(row: &RelayEntry) -> impl Iterator<Item = &Arc<Issued>> {
    let certificates = if let RelayStage::Recorded(certificates) = &row.stage { certificates.as_slice() } else { &[] };
    certificates.iter().map(|it| &it.record.issued)
}

fn check(world: &World<RelayBackend>, scenario: &RegistrarScenario) -> Vec<String> {
    let backend = world.backend();
    let (mut faults, delivered) = backend.witness().found();
    let rows = backend.rows();
    let answers: BTreeMap<Digest, &RelayEntry> =
        rows.iter().filter_map(|row| Some((recorded(row).next()?.digest, row))).collect();
    let issued: BTreeMap<Digest, Arc<Issued>> =
        backend.cas().flat_map(|ca| ca.issued()).map(|row| (row.digest, row)).collect();
    let (received_wrongly, _) = walk(world, &issued, |device, digest| match answers.get(digest) {
        None => Some("not the first certificate of a row"),
        Some(row) => is_of_another(device, &row.request.device).then_some("the record says another device"),
    });
    faults.extend(received_wrongly);
    let wanted: usize = world.devices().iter().map(|device| device.enrolments()).sum();
    // Requests for a key that were repeated over another session may be new ones: the device does not know whether the first was answered.
    let repeated: usize = world.devices().iter().map(|device| device.abandoned).sum();
    let wanted_most = if scenario.makes_keys { wanted + repeated } else { wanted };
    if !(wanted..=wanted_most).contains(&rows.len()) {
        faults.push(format!("{} rows for {wanted} requests", rows.len()));
    }
    if scenario.makes_keys {
        let received: BTreeSet<Digest> =
            world.devices().iter().flat_map(|it| &it.received).map(|it| Digest::of(&it.certificate)).collect();
        faults.extend(check_made_keys(backend, &rows, (&issued, &received)));
    }
    let unknown = rows.iter().flat_map(recorded).filter(|it| !issued.contains_key(&it.digest)).count();
    let undelivered = delivered.iter().filter(|digest| !answers.contains_key(digest)).count();
    if unknown + undelivered > 0 {
        faults.push(format!("{unknown} recorded certificates of no CA, {undelivered} deliveries without a row"));
    }
    // One that forgets issues again for a repeat.
    if !scenario.base.ledger.forgets && !scenario.makes_keys && issued.len() != wanted {
        faults.push(format!("{} certificates issued for {wanted} requests", issued.len()));
    }
    let left = backend.in_flight();
    if left != [0, 0] {
        faults.push(format!("{left:?} requests still in flight and waiting for upstreams"));
    }
    faults
}

/// What is wrong with the certificates for keys that the Registrar has made.
fn check_made_keys(
    backend: &RelayBackend,
    rows: &[RelayEntry],
    (issued, received): (&BTreeMap<Digest, Arc<Issued>>, &BTreeSet<Digest>),
) -> Vec<String> {
    let mut faults = Vec::new();
    let known: BTreeSet<Digest> = rows.iter().flat_map(recorded).map(|it| it.digest).collect();
    let unseen = issued.keys().filter(|digest| !known.contains(*digest)).count() as u64;
    let (lost_keys, crashes) = (backend.witness().tally().lost_keys, backend.crash_tally().crashes);
    if unseen > lost_keys || lost_keys > 0 && crashes == 0 {
        faults
            .push(format!("{unseen} certificates that were never seen here, {lost_keys} lost keys, {crashes} crashes"));
    }
    for row in rows {
        let RelayStage::Recorded(certificates) = &row.stage else {
            faults.push(format!("the row of {} is open", row.request.device.id.as_str()));
            continue;
        };
        for certificate in certificates {
            let is_received = received.contains(&certificate.record.issued.digest);
            if is_received == certificate.revocation.is_some() && (is_received || crashes == 0) {
                let device = row.request.device.id.as_str();
                faults.push(format!("a certificate of {device}: received {is_received}, {:?}", certificate.revocation));
            }
        }
    }
    faults
}
