//! `cargo xtask crash`: kills a server under load, again and again, and compares what its devices received with its ledger.
//!
//! ```text
//!  for each batch of kills: muster load, devices at a steady rate ───────────────────────────────► received certificates
//!     for each kill: muster serve on the same port and ledger                                             │
//!          killed at a random moment, or it crashes behind a step of an issuance (crates/crashpoint)      │
//!          ─► a copy of the ledger is read with sqlite3                                                   │
//!     the same devices ask again, until each has a certificate ───────────────────────────────────────────┤
//!     ─► the ledger is read with sqlite3 ─────────────────────────────────────────────────────────────────┴─► compared
//! ```
//!
//! **What is required.** A certificate that a device received is in the ledger, byte for byte, once and not revoked; a device that asks again gets the
//! same one; no device has two; no serial number is there twice. What was reserved at a kill is given up and revoked by the next start, unless its
//! certificate had reached the journal: then the next start completes it. The server
//! is the debug build of the tests: a release build has no steps to crash at.
//!
//! At last a device asks for keys that the server makes, and the server crashes while they are on their way: the next start revokes their certificates.
//!
//! The seed decides the moments and the steps. Real processes do not run the same way twice, so a seed makes a failure likely to come again, no more.

mod book;
mod fleet;
mod keys;
mod kills;
mod relay;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::book::{Book, finding, nothing_in};
use self::fleet::{Fleet, Received};
use self::keys::KeyDevice;
use self::kills::Kills;
use crate::bench::facts::TimingFacts;
use crate::bench::simulated;
use crate::process::{Daemon, Program};
use crate::{cargo, ports, simulate, tree};

#[derive(Args)]
pub(crate) struct CrashOptions {
    /// How often the server is killed
    #[arg(long, default_value_t = 1_000)]
    kills: u32,
    /// Kill a Registrar between the devices and the CA; from 50 kills on the result is kept
    #[arg(long)]
    registrar: bool,
    /// Decides the moments and the steps [default: the time]
    #[arg(long)]
    seed: Option<u64>,
}

/// Kills in `check`.
const KILLS_OF_CHECK: u32 = 30;
/// A run with at least so many kills is kept.
const KEPT_KILLS_MIN: u32 = 1_000;
/// Kills between two comparisons of every certificate: each batch has a fleet of its own.
const BATCH_KILLS: u32 = 30;
/// The file of the kept results, and the code that they cover.
const RESULTS: &str = "crates/ledger/results/crash.txt";
/// The same of a Registrar.
const RELAYED_RESULTS: &str = "crates/ledger/results/crash-registrar.txt";
const RELAYED_COVERED: &[&str] = &[
    "crates/ledger/src",
    "crates/authority/src",
    "crates/registrar/src",
    "crates/server/src/daemon",
    "crates/crashpoint",
];
const COVERED: &[&str] =
    &["crates/ledger/src", "crates/authority/src", "crates/server/src/daemon", "crates/crashpoint"];
/// The steps of crates/crashpoint, in the order of an issuance.
const STEPS: &[&str] = &[
    "drawn",
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
/// A random kill comes so long after the start of the process, at most: some come before the server listens.
const RANDOM_MILLISECONDS_MAX: u64 = 800;
/// A crash comes at this passage of its step, at most.
const PASSAGES_MAX: u64 = 60;
/// A step is passed this often within this time, or nothing enrols.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);
/// SIGABRT and SIGKILL.
const ABORTED: i32 = 6;
const KILLED: i32 = 9;
/// What a server says when it listens.
const LISTENING: &[&str] = &["listening on coaps://"];
/// Progress is printed after so many kills.
const PROGRESS_KILLS: u32 = 10;

/// Runs it, prints the result, and keeps that of a long run.
pub(crate) fn run(options: &CrashOptions) -> Result<()> {
    let facts = TimingFacts::here();
    let began = Instant::now();
    let seed = options.seed.unwrap_or_else(seed_of_now);
    let (outcome, file, kept) = if options.registrar {
        let outcome = relay::campaign(options.kills, seed).map(|tally| tally.to_string());
        (outcome, RELAYED_RESULTS, relay::RESOLVED_KILLS_MIN)
    } else {
        (campaign(options.kills, seed).map(|tally| tally.to_string()), RESULTS, KEPT_KILLS_MIN)
    };
    let result = match &outcome {
        Ok(tally) => format!("passed: {tally}"),
        Err(error) => format!("FAILED: {}", format!("{error:#}").lines().next().unwrap_or_default()),
    };
    println!("   {result}");
    if options.kills >= kept {
        let TimingFacts { commit, at, .. } = facts;
        let (kills, minutes) = (options.kills, began.elapsed().as_secs_f64() / 60.0);
        let line =
            format!("commit {commit}, begun {at}, seed {seed}, {kills} kills asked for, {minutes:.1} min, {result}\n");
        tree::append(file, &line)?;
    }
    outcome.map(drop)
}

/// A short run, and a note for each long one that is older than the code that it covers.
pub(crate) fn check() -> Result<()> {
    let tally = campaign(KILLS_OF_CHECK, seed_of_now())?;
    println!("   {tally}");
    let tally = relay::campaign(relay::KILLS_OF_CHECK, seed_of_now())?;
    println!("   {tally}");
    let again = format!("cargo xtask crash --kills {KEPT_KILLS_MIN}");
    let long = [
        (RESULTS, COVERED, again.as_str()),
        (RELAYED_RESULTS, RELAYED_COVERED, "cargo xtask crash --registrar --kills 300"),
        (simulate::RESULTS, simulate::COVERED, "cargo xtask simulate"),
        (simulate::RELAYED_RESULTS, simulate::RELAYED_COVERED, "cargo xtask simulate --registrar"),
        (simulated::RESTORE_RESULTS, simulate::RESTORE_COVERED, "cargo xtask simulate --power-restore"),
        (simulated::SIMULATED_RESULTS, simulate::OVERLOAD_COVERED, "cargo xtask simulate --overload"),
    ];
    for (results, covered, command) in long {
        if let Some(note) = tree::older_than_code(results, covered)? {
            println!("   note: {note}; `{command}` runs it again");
        }
    }
    Ok(())
}

fn seed_of_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs()
}

/// A crash at a step would leave the memory of the server behind, each time.
fn without_core_files() -> Result<()> {
    let no_core = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, no_core).context("cannot forbid core files")
}

fn campaign(kills: u32, seed: u64) -> Result<Tally> {
    println!("   seed {seed}: `cargo xtask crash --kills {kills} --seed {seed}` repeats the moments");
    without_core_files()?;
    let mut campaign = Campaign::new(seed)?;
    let folder = campaign.folder.clone();
    let played = campaign.play(kills);
    let Campaign { tally, .. } = campaign;
    tidied(played, seed, &folder).map(|()| tally)
}

/// Removes the folder of a campaign that passed; an error says where that of another one is.
fn tidied(played: Result<()>, seed: u64, folder: &Path) -> Result<()> {
    played.with_context(|| format!("seed {seed}; ledgers, logs and certificates are in {}", folder.display()))?;
    std::fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// What has happened so far.
#[derive(Default)]
struct Tally {
    kills: Kills,
    /// Kills before the server listened.
    before_listening: u32,
    /// Rows that were reserved at a kill, and were given up and revoked later.
    resolved: usize,
    /// Rows whose certificate was in the journal alone at a kill, and in the ledger later.
    completed: usize,
    certificates: usize,
    /// Devices that had their certificate before a kill and asked again.
    repeated: usize,
    /// Devices that had no certificate, while the ledger had one for them.
    handed_over_late: usize,
    /// Crashes while a key was on its way.
    keys: usize,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, before_listening, resolved, completed, certificates, repeated, handed_over_late, keys } =
            self;
        let (all, random, steps) = (kills.all(), kills.random(), kills.by_step(STEPS));
        write!(f, "{all} kills: {random} at random ({before_listening} before the server listened){steps}")?;
        write!(
            f,
            "; {certificates} certificates, each in the ledger once; {resolved} reservations given up and revoked, {completed} completed from the journal; {repeated} devices asked again and \
             got the same certificate; {handed_over_late} got the one that was durable when their server was killed; {keys} certificates revoked whose keys were lost"
        )
    }
}

/// How a server ends.
#[derive(Clone, Copy)]
enum Death {
    /// By SIGKILL, so long after its start.
    Random(Duration),
    /// By itself, behind the n-th passage of a step.
    Step(&'static str, u64),
}

struct Campaign {
    muster: PathBuf,
    folder: PathBuf,
    address: String,
    chance: Chance,
    book: Book,
    starts: u32,
    /// The serial numbers that were reserved when the server was killed.
    reserved: Vec<String>,
    tally: Tally,
}

impl Campaign {
    fn new(seed: u64) -> Result<Self> {
        let muster = cargo::muster()?;
        let folder = tree::scratch(&format!("crash-{seed}"))?;
        Program::new(&muster).arg("init").arg(folder.join("pki")).timeout(Duration::from_secs(20)).expect_success()?;
        let chance = Chance(seed);
        let address = ports::free_address()?.to_string();
        let book = Book::new(folder.join("pki/ledger.db"), &folder.join("probe"))?;
        let (starts, reserved, tally) = (0, Vec::new(), Tally::default());
        Ok(Self { muster, folder, address, chance, book, starts, reserved, tally })
    }

    fn play(&mut self, kills: u32) -> Result<()> {
        while self.tally.kills.all() < kills {
            let of_batch = BATCH_KILLS.min(kills - self.tally.kills.all());
            self.batch(of_batch, kills)?;
        }
        self.keys()
    }

    /// A crash at each step at which a key is on its way, and then a key that arrives.
    fn keys(&mut self) -> Result<()> {
        let mut device = KeyDevice::new(self.muster.clone(), self.folder.clone(), &self.address);
        for step in keys::STEPS {
            let mut server = self.serve(Some(&format!("{step}:1")))?;
            server.wait_for_line(LISTENING, STEP_TIMEOUT)?;
            let mut asking = device.ask()?;
            let status = server.end(STEP_TIMEOUT).with_context(|| format!("{step} was not passed by a key"))?;
            asking.kill()?;
            expect_death(status, ABORTED, &server)?;
            self.book.read()?;
            let number = keys::expect_pending(&self.book, step)?;
            self.start_and_stop()?;
            keys::expect_revoked(&self.book, &number, step)?;
            self.tally.keys += 1;
        }
        let mut server = self.serve(None)?;
        server.wait_for_line(LISTENING, STEP_TIMEOUT)?;
        device.ask_well(&self.book)?;
        server.kill()?;
        self.book.read()?;
        ensure!(self.book.undelivered()?.is_empty(), "a key was delivered, and its certificate still waits for that");
        let revoked = self.book.revocations()?;
        self.start_and_stop()?;
        ensure!(self.book.revocations()? == revoked, "a start has revoked a certificate whose key was delivered");
        Ok(())
    }

    /// A start, and its ledger afterwards.
    fn start_and_stop(&mut self) -> Result<()> {
        let mut server = self.serve(None)?;
        server.wait_for_line(LISTENING, STEP_TIMEOUT)?;
        server.stop_well()?;
        self.book.read().map(drop)
    }

    /// Kills under one fleet, then the comparison.
    fn batch(&mut self, kills: u32, all: u32) -> Result<()> {
        let seed = self.chance.below(1 << 40);
        let fleet = Fleet::new(self.muster.clone(), self.folder.clone(), &self.address, seed);
        let mut load = fleet.start(kills)?;
        for _ in 0..kills {
            let death = self.draw();
            self.kill(death).with_context(|| format!("kill {}", self.tally.kills.all() + 1))?;
            if self.tally.kills.all().is_multiple_of(PROGRESS_KILLS) {
                println!("   {} of {all} kills, {} rows", self.tally.kills.all(), self.book.rows()?);
            }
        }
        let mut server = self.serve(None)?;
        server.wait_for_line(LISTENING, STEP_TIMEOUT)?;
        let first = fleet.stop(&mut load)?;
        let durable = self.book.devices(seed)?;
        let second = fleet.ask_again(durable.iter().chain(first.keys()).max())?;
        server.stop_well()?;
        self.tally.handed_over_late += durable.iter().filter(|device| !first.contains_key(*device)).count();
        self.compare(seed, &first, &second)
    }

    /// At a random moment and at each step as often.
    fn draw(&mut self) -> Death {
        if self.tally.kills.all().is_multiple_of(2) {
            return Death::Random(Duration::from_millis(self.chance.below(RANDOM_MILLISECONDS_MAX)));
        }
        let index = usize::try_from(self.tally.kills.all() / 2).unwrap_or_default() % STEPS.len();
        Death::Step(STEPS[index], 1 + self.chance.below(PASSAGES_MAX))
    }

    fn kill(&mut self, death: Death) -> Result<()> {
        let (status, wanted, server) = match death {
            Death::Random(after) => {
                let mut server = self.serve(None)?;
                std::thread::sleep(after);
                (server.kill()?, KILLED, server)
            }
            Death::Step(step, passages) => {
                let mut server = self.serve(Some(&format!("{step}:{passages}")))?;
                let status =
                    server.end(STEP_TIMEOUT).with_context(|| format!("{step} was not passed {passages} times"))?;
                (status, ABORTED, server)
            }
        };
        // A start passes steps as well: what it gives up goes through the journal.
        let is_listening = server.words().contains("listening on coaps://");
        expect_death(status, wanted, &server)?;
        match death {
            Death::Random(_) => self.tally.kills.note_random(),
            Death::Step(step, _) => self.tally.kills.note_step(step),
        }
        self.tally.before_listening += u32::from(!is_listening);
        self.look(is_listening)
    }

    fn serve(&mut self, crash_at: Option<&str>) -> Result<Daemon> {
        self.starts += 1;
        let serve = Program::bound_to_us(&self.muster).args(["serve", "--listen", &self.address, "--config"]);
        let serve = serve.arg(self.folder.join("pki/muster.toml")).env("MUSTER_METRICS__LISTEN", "127.0.0.1:0");
        let serve = match crash_at {
            Some(place) => serve.env("CRASH_AT", place),
            None => serve,
        };
        serve.env("MUSTER_LOG", "warn").spawn(&self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("serve-{}.log", self.starts))
    }

    /// The ledger as the killed server left it: what the kill before left is resolved, if this server had opened the ledger.
    fn look(&mut self, had_opened: bool) -> Result<()> {
        let state = self.book.read()?;
        ensure!(
            state.given_up_only == 0,
            "{} reservations were given up and not revoked, though no device was told",
            state.given_up_only
        );
        let still: Vec<&String> = self.reserved.iter().filter(|serial| state.reserved.contains(*serial)).collect();
        ensure!(!had_opened || still.is_empty(), "reserved before the last start and not given up by it: {still:?}");
        if still.is_empty() {
            self.resolved(&state)?;
        }
        self.reserved = state.reserved.into_iter().collect();
        Ok(())
    }

    fn resolved(&mut self, state: &book::State) -> Result<()> {
        let others: BTreeSet<&String> =
            self.reserved.iter().filter(|serial| !state.revoked.contains(*serial)).collect();
        let completed = if others.is_empty() { BTreeSet::new() } else { self.book.certified(&others)? };
        for serial in others {
            ensure!(
                completed.contains(serial),
                "{serial} was reserved at a kill, and the next start neither revoked it nor had its certificate in the journal"
            );
        }
        self.tally.completed += completed.len();
        self.tally.resolved += self.reserved.len() - completed.len();
        Ok(())
    }

    /// Every device of the fleet has one certificate, the one that it received, whenever it did.
    fn compare(&mut self, seed: u64, first: &Received, second: &Received) -> Result<()> {
        self.look(true)?;
        ensure!(self.reserved.is_empty(), "reserved though the server has ended in peace: {:?}", self.reserved);
        let rows = self.book.certificates(seed)?;
        let mut findings = Vec::new();
        let received = first.iter().chain(second);
        findings.extend(received.filter_map(|(device, certificate)| finding(device, certificate, &rows)));
        findings.extend(
            rows.keys()
                .filter(|device| !second.contains_key(*device))
                .map(|device| format!("{device} has a certificate in the ledger and received none")),
        );
        findings.extend(self.book.faults()?);
        nothing_in(&findings)?;
        self.tally.certificates += rows.len();
        self.tally.repeated += first.len();
        Ok(())
    }
}

/// It ended by this signal: by the one that we sent, or at its step.
fn expect_death(status: ExitStatus, signal: i32, server: &Daemon) -> Result<()> {
    ensure!(status.signal() == Some(signal), "the server ended by itself ({status}):\n{}", server.words());
    Ok(())
}

/// SplitMix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}
