//! Enrolments on a bad link, of a server that crashes with its ledger again and again: no request has two certificates, no certificate is lost.

use std::fmt;

use link::Conditions;

use crate::crashing::CrashTally;
use crate::run::{RunFaults, run};
use crate::scenario::{CLEAN, Goal, JITTER, Scenario};

/// One datagram in five is lost, one in five arrives twice.
const LINK: Conditions = Conditions { loss: 200, duplication: 200, delay: JITTER, ..CLEAN.link };

/// Each device enrols, renews with the same CSR, is reset and enrols again, while the server crashes.
pub const LIVES: Scenario =
    Scenario { name: "crashes", devices: 10, link: LINK, block: coap::BlockSize::B512, crashes: 10, ..CLEAN };

/// The same life of one device that asks twenty more times for each of its certificates: three of them, never a fourth.
pub const TWENTY_REPEATS: Scenario = Scenario {
    name: "crashes-repeats",
    devices: 1,
    goals: &[Goal::Enroll, Goal::Renew, Goal::EnrollAgain],
    repeats: 20,
    ..LIVES
};

/// All of them.
pub const ALL: &[Scenario] = &[LIVES, TWENTY_REPEATS];

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct CrashResult {
    /// Certificates that devices received, each for a request of its own and each in the ledger.
    pub enrolments: u64,
    /// What the ledgers went through.
    pub tally: CrashTally,
    /// Runs that broke a promise.
    pub broken: Vec<RunFaults>,
}

impl CrashResult {
    /// Adds those of other seeds.
    pub fn add(&mut self, other: Self) {
        self.enrolments += other.enrolments;
        self.tally.crashes += other.tally.crashes;
        self.tally.untold += other.tally.untold;
        self.tally.lost += other.tally.lost;
        self.tally.given_up += other.tally.given_up;
        self.tally.undelivered += other.tally.undelivered;
        self.broken.extend(other.broken);
    }
}

impl fmt::Display for CrashResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { enrolments, tally: CrashTally { crashes, untold, lost, given_up, undelivered }, broken } = self;
        write!(
            f,
            "{enrolments} enrolments, {crashes} crashes ({untold} between a commit and its answer, {lost} calls lost before a commit), {given_up} \
             reservations given up and revoked, {undelivered} certificates revoked whose keys were on their way, {} runs broken",
            broken.len()
        )
    }
}

/// Plays seeds until there are this many enrolments or a run is broken.
#[must_use]
pub fn play(scenario: &Scenario, mut seeds: impl Iterator<Item = u64>, enrolments: u64) -> CrashResult {
    let mut result = CrashResult::default();
    while result.enrolments < enrolments
        && result.broken.is_empty()
        && let Some(seed) = seeds.next()
    {
        match run(seed, scenario) {
            Ok(report) => result.add(CrashResult {
                enrolments: report.certificates as u64,
                tally: report.crashes,
                broken: Vec::new(),
            }),
            Err(broken) => result.broken.push(broken),
        }
    }
    result
}
