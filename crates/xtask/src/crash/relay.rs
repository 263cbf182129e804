//! `cargo xtask crash --registrar`: the same with a Registrar between the devices and the CA.
//!
//! ```text
//!  muster load ──► Registrar, killed again and again ──► HTTPS front of a CA, killed now and then
//!      │                  its ledger: relayed                    its ledger: issued
//!      └── received certificates ──► compared with both ledgers
//! ```
//!
//! **What is required.** A certificate that a device received is in both ledgers, byte for byte, once, and in neither revoked; a device that asks again gets
//! the same one; after each kill, what the Registrar has recorded is in the CA's ledger; no device has two certificates in either; `muster ledger verify`
//! finds nothing in either. In a long run everything that was upstream at a kill is resolved: after the lifetime of an attempt the devices ask again, and
//! each gets the certificate that both ledgers have.
//!
//! A request that was upstream when the Registrar was killed has an unknown end for `RELAY_LIFETIME`. A short run does not wait for that: it compares
//! what the devices received that are answered now.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::book::{Book, finding, nothing_in};
use super::fleet::{Fleet, Received};
use super::kills::Kills;
use super::{
    ABORTED, Chance, KILLED, LISTENING, PROGRESS_KILLS, STEP_TIMEOUT, expect_death, tidied, without_core_files,
};
use crate::interop::registrar::{RegistrarFolder, upstream_configuration};
use crate::process::{Daemon, Program};
use crate::{cargo, ports, tree};

/// Kills of the Registrar in `check`.
pub(super) const KILLS_OF_CHECK: u32 = 8;
/// A run with at least so many kills waits for the end of every request.
pub(super) const RESOLVED_KILLS_MIN: u32 = 50;
/// Kills between two comparisons of what was received, before which a long run waits.
const BATCH_KILLS: u32 = 100;
/// Devices that start in a second: three debug builds share the machine.
const DEVICES_PER_SECOND: u32 = 40;
/// The steps of crates/crashpoint that a Registrar passes, in their order.
const STEPS: &[&str] = &[
    "intent-queued",
    "intent-written",
    "intent-durable",
    "signed",
    "record-queued",
    "record-written",
    "journaled",
    "record-durable",
    "answered",
];
/// A random kill comes so long after the start of the Registrar, at most.
const RANDOM_MILLISECONDS_MAX: u64 = 1_200;
/// A crash comes at this passage of its step, at most.
const PASSAGES_MAX: u64 = 15;
/// The first crash comes at this passage, at least: in a short run, devices would otherwise have received nothing that can be compared.
const FIRST_PASSAGES_MIN: u64 = 5;
/// The CA's server is killed and started again before each so many-th kill.
const KILLS_PER_FRONT: u32 = 4;
/// `authority::RELAY_LIFETIME`, and the second in which it ends.
const LIFETIME: Duration = Duration::from_secs(77);
const VERIFY_TIMEOUT: Duration = Duration::from_secs(120);
/// The configurations, in the folder of the campaign.
const CA_CONFIGURATION: &str = "pki/upstream.toml";
const REGISTRAR_CONFIGURATION: &str = "site/muster.toml";

/// What has happened.
#[derive(Default)]
pub(super) struct RelayTally {
    kills: Kills,
    fronts: u32,
    /// Certificates that were compared with both ledgers.
    received: usize,
    /// Devices that had their certificate, asked again and were answered.
    repeated: usize,
    /// Attempts that were in flight at a kill.
    unknown: BTreeSet<String>,
    /// Devices that had no certificate at the first time, while a ledger had one for them.
    late: usize,
}

impl std::fmt::Display for RelayTally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, fronts, received, repeated, unknown, late } = self;
        let (all, random, steps) = (kills.all(), kills.random(), kills.by_step(STEPS));
        write!(f, "{all} kills of a Registrar: {random} at random{steps}")?;
        write!(
            f,
            "; {fronts} kills of the CA behind it; {received} certificates received, each in both ledgers once; {repeated} devices asked again and got the \
             same certificate; {} requests were in flight at a kill; {late} devices got the certificate that only a ledger had before",
            unknown.len()
        )
    }
}

/// Plays it.
pub(super) fn campaign(kills: u32, seed: u64) -> Result<RelayTally> {
    println!("   seed {seed}: `cargo xtask crash --registrar --kills {kills} --seed {seed}` repeats the moments");
    without_core_files()?;
    let mut campaign = RelayCampaign::new(kills, seed)?;
    let folder = campaign.folder.clone();
    let played = campaign.play();
    let RelayCampaign { tally, .. } = campaign;
    tidied(played, seed, &folder).map(|()| tally)
}

struct RelayCampaign {
    kills: u32,
    muster: PathBuf,
    folder: PathBuf,
    /// Where the devices enrol.
    door: String,
    chance: Chance,
    /// The first step at which it crashes: a short run does not come to all of them.
    first_step: usize,
    starts: u32,
    issued: Book,
    relayed: Book,
    tally: RelayTally,
}

impl RelayCampaign {
    fn new(kills: u32, seed: u64) -> Result<Self> {
        let muster = cargo::muster()?;
        let folder = tree::scratch(&format!("crash-registrar-{seed}"))?;
        let pki = folder.join("pki");
        Program::new(&muster).arg("init").arg(&pki).timeout(Duration::from_secs(20)).expect_success()?;
        let mut chance = Chance(seed);
        let (door, https) = (ports::free_address()?.to_string(), ports::free_address()?.to_string());
        let site = RegistrarFolder::in_folder(&folder, "site")?;
        upstream_configuration(&pki, &site.authority(), &https)?;
        let ledger = "[ledger]\nurl = \"sqlite:ledger.db\"\njournal = \"ledger.journal\"\n";
        site.configure(&pki, &door, &[format!("https://{https}/.well-known/est")], "10s", ledger)?;
        let issued = Book::new(pki.join("ledger.db"), &folder.join("probe"))?;
        let relayed = Book::new(site.folder.join("ledger.db"), &folder.join("probe-site"))?;
        let first_step = usize::try_from(chance.below(u64::try_from(STEPS.len())?))?;
        let (starts, tally) = (0, RelayTally::default());
        Ok(Self { kills, muster, folder, door, chance, first_step, starts, issued, relayed, tally })
    }

    fn play(&mut self) -> Result<()> {
        let mut front = self.front()?;
        while self.tally.kills.all() < self.kills {
            self.batch(&mut front, BATCH_KILLS.min(self.kills - self.tally.kills.all()))?;
        }
        front.stop_well().map(drop)
    }

    /// Kills under one fleet, then the comparison.
    fn batch(&mut self, front: &mut Daemon, kills: u32) -> Result<()> {
        let seed = self.chance.below(1 << 40);
        let fleet = Fleet::new(self.muster.clone(), self.folder.clone(), &self.door, seed);
        let fleet = fleet.at_a_rate_of(DEVICES_PER_SECOND);
        let mut load = fleet.start(kills)?;
        for _ in 0..kills {
            self.kill(front).with_context(|| format!("kill {}", self.tally.kills.all() + 1))?;
            if self.tally.kills.all().is_multiple_of(PROGRESS_KILLS) {
                println!("   {} of {} kills", self.tally.kills.all(), self.kills);
            }
        }
        let mut registrar = self.registrar(None)?;
        registrar.wait_for_line(LISTENING, STEP_TIMEOUT)?;
        let first = fleet.stop(&mut load)?;
        ensure!(!first.is_empty(), "no device received a certificate");
        let second = if self.waits() {
            std::thread::sleep(LIFETIME);
            let issued = self.issued.devices(seed)?;
            self.tally.late += issued.iter().filter(|device| !first.contains_key(*device)).count();
            fleet.ask_again(issued.iter().chain(first.keys()).max())?
        } else {
            fleet.ask_again_impatiently(first.keys().max())?
        };
        registrar.stop_well()?;
        front.kill()?;
        self.compare(seed, &first, &second)?;
        *front = self.front()?;
        Ok(())
    }

    /// Whether everything that was upstream at a kill is resolved before the comparison.
    fn waits(&self) -> bool {
        self.kills >= RESOLVED_KILLS_MIN
    }

    /// At a random moment and at each step as often. Before some of them the server behind it is killed under load.
    fn kill(&mut self, front: &mut Daemon) -> Result<()> {
        let number = self.tally.kills.all();
        let moment = Duration::from_millis(self.chance.below(RANDOM_MILLISECONDS_MAX));
        if number.is_multiple_of(2) {
            let mut registrar = self.registrar(None)?;
            std::thread::sleep(moment);
            if (number / 2).is_multiple_of(KILLS_PER_FRONT) {
                registrar.wait_for_line(LISTENING, STEP_TIMEOUT)?;
                std::thread::sleep(moment);
                front.kill()?;
                *front = self.front()?;
                self.tally.fronts += 1;
            }
            expect_death(registrar.kill()?, KILLED, &registrar)?;
            self.tally.kills.note_random();
        } else {
            let step = STEPS[(self.first_step + usize::try_from(number / 2)?) % STEPS.len()];
            let least = if number == 1 { FIRST_PASSAGES_MIN } else { 1 };
            let passages = least + self.chance.below(PASSAGES_MAX + 1 - least);
            let mut registrar = self.registrar(Some(&format!("{step}:{passages}")))?;
            let status =
                registrar.end(STEP_TIMEOUT).with_context(|| format!("{step} was not passed {passages} times"))?;
            expect_death(status, ABORTED, &registrar)?;
            self.tally.kills.note_step(step);
        }
        self.look()
    }

    /// The ledger of the killed Registrar, against that of the CA.
    fn look(&mut self) -> Result<()> {
        if !self.relayed.copy_relayed()? {
            return Ok(());
        }
        let in_flight = self.relayed.relayed_in_flight()?;
        self.tally.unknown.extend(in_flight);
        let mut findings = self.relayed.relay_faults()?;
        let issued = self.issued.certificates_while_it_runs()?;
        let recorded = self.relayed.relayed_certificates()?;
        let foreign = recorded.iter().filter(|certificate| !issued.contains(*certificate));
        findings
            .extend(foreign.map(|digest| format!("the Registrar has a certificate that the CA does not: {digest}")));
        nothing_in(&findings)
    }

    /// Every certificate that a device received is in both ledgers, once.
    fn compare(&mut self, seed: u64, first: &Received, second: &Received) -> Result<()> {
        self.issued.read()?;
        ensure!(self.relayed.copy_relayed()?, "the Registrar has no ledger");
        let (issued, relayed) = (self.issued.certificates(seed)?, self.relayed.relayed_of(seed)?);
        let received: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        let mut findings: Vec<String> = Vec::new();
        for (ledger, rows) in [("the CA", &issued), ("the Registrar", &relayed)] {
            let wrong = |(device, certificate): (&String, &Vec<u8>)| finding(device, certificate, rows);
            let wrong = first.iter().chain(second).filter_map(wrong);
            findings.extend(wrong.map(|finding| format!("ledger of {ledger}: {finding}")));
            let others = rows.iter().filter(|(device, _)| !received.contains(device));
            // A short run does not wait until every device has what is in the ledgers.
            let others = others.filter(|(_, rows)| self.waits() || rows.len() > 1);
            findings.extend(others.map(|(device, rows)| {
                format!("ledger of {ledger}: {device} has {} certificates and received none", rows.len())
            }));
        }
        for (device, certificate) in second {
            if first.get(device).is_some_and(|before| before != certificate) {
                findings.push(format!("{device} asked again and got another certificate"));
            }
        }
        findings.extend(self.issued.faults()?);
        findings.extend(self.relayed.relay_faults()?);
        self.tally.received += received.len();
        self.tally.repeated += first.keys().filter(|device| second.contains_key(*device)).count();
        nothing_in(&findings)?;
        for config in [CA_CONFIGURATION, REGISTRAR_CONFIGURATION] {
            let verify =
                Program::new(&self.muster).args(["ledger", "verify", "--config"]).arg(self.folder.join(config));
            verify.timeout(VERIFY_TIMEOUT).expect_success()?;
        }
        Ok(())
    }

    fn registrar(&mut self, crash_at: Option<&str>) -> Result<Daemon> {
        self.starts += 1;
        let serve = self.serve(REGISTRAR_CONFIGURATION);
        let serve = match crash_at {
            Some(place) => serve.env("CRASH_AT", place),
            None => serve,
        };
        serve.spawn(&self.log())
    }

    /// The server with the CA, when it listens.
    fn front(&mut self) -> Result<Daemon> {
        self.starts += 1;
        let began = Instant::now();
        // Its sockets may be closing for a moment.
        loop {
            let serve = self.serve(CA_CONFIGURATION).args(["--listen", "127.0.0.1:0"]);
            let mut front = serve.env("MUSTER_METRICS__LISTEN", "127.0.0.1:0").spawn(&self.log())?;
            match front.wait_for_line(&["https on "], STEP_TIMEOUT) {
                Ok(_) => return Ok(front),
                Err(fault) if began.elapsed() > STEP_TIMEOUT => return Err(fault),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn serve(&self, config: &str) -> Program {
        let serve = Program::bound_to_us(&self.muster).args(["serve", "--config"]).arg(self.folder.join(config));
        serve.env("MUSTER_LOG", "warn")
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("serve-{}.log", self.starts))
    }
}
