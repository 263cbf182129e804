//! Server and load generator as processes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

use super::super::released::{ReleasedServer, Threads};
use super::core_watch::CoreWatch;
use super::cpu::{CpuTime, pinned, resident_kib};
use super::floor::{BareDatagrams, Floor};
use super::ledgers::{LedgerFiles, copied, filled};
use super::run::{BenchConfiguration, LedgerKind, MeasuredRun, Pace, SIXTEEN, UNHURRIED_RATE, measured};
use crate::dashboards::http;
use crate::openssl_fleet::OpenSslFleet;
use crate::process::{MEASURED_THE_GENERATOR, Program};
use crate::{cargo, tree};

const LOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// Devices that enrol before the CPU of a run is counted: the heap of a new server grows, its tables get their sizes, and its code is read for the first time.
const WARM_UP_DEVICES: u32 = 300;
/// A ledger with at most so many rows is copied for each run, so that the rows of one run are not before those of the next; one with more is copied once, and
/// all runs of a program add to it.
const COPIED_ROWS_MAX: u64 = 100_000;

/// The devices of a run.
#[derive(Clone, Copy)]
pub(super) struct FleetSize {
    pub(super) devices: u32,
    /// How many enrol at the same time.
    pub(super) concurrency: u32,
}

impl FleetSize {
    /// At a pace that leaves the server idle an enrolment costs more, and each takes its time: fewer devices have as much to tell.
    fn devices_at(self, pace: Pace) -> u32 {
        match pace {
            Pace::Saturating | Pace::Sixteen => self.devices,
            Pace::OpenSsl | Pace::Unhurried => self.devices * 2 / 3,
        }
    }
}

/// The released programs, and a PKI.
pub(in super::super) struct Bench {
    pub(in super::super) muster: PathBuf,
    floor: PathBuf,
    bare: PathBuf,
    filler: PathBuf,
    /// The copies of large ledgers, by rows.
    shared: RefCell<BTreeMap<u64, PathBuf>>,
    pub(in super::super) folder: PathBuf,
}

impl Drop for Bench {
    /// Nothing reads the copies afterwards, and a million rows take two gigabytes.
    fn drop(&mut self) {
        for folder in self.shared.borrow().values() {
            drop(std::fs::remove_dir_all(folder));
        }
    }
}

impl Bench {
    pub(in super::super) fn build() -> Result<Self> {
        cargo::cargo("build --quiet --release --locked --package muster").stream()?;
        cargo::cargo("build --quiet --release --locked --package programs --bin floor --bin bare --bin ledger")
            .stream()?;
        let released = tree::target().join("release");
        let [muster, floor, bare, filler] = ["muster", "floor", "bare", "ledger"].map(|name| released.join(name));
        let bench = Self { muster, floor, bare, filler, shared: RefCell::default(), folder: tree::scratch("e2e")? };
        Program::new(&bench.muster).arg("init").arg(bench.folder.join("pki")).expect_success()?;
        Ok(bench)
    }

    /// The floor, and a bare datagram, on the core of the server.
    pub(super) fn floor(&self) -> Result<Floor> {
        let floor: Floor = printed(&self.floor)?;
        let bare: BareDatagrams = printed(&self.bare)?;
        Ok(Floor { bare, ..floor })
    }

    pub(super) fn run(
        &self,
        fleet: FleetSize,
        configuration: BenchConfiguration,
        repetition: u32,
        floor: &Floor,
    ) -> Result<MeasuredRun> {
        let files = self.files_of(configuration.ledger)?;
        let sizes = files.sizes();
        let began = Instant::now();
        let ReleasedServer { daemon: server, uri, metrics } = self.serve(&files)?;
        let listening_ms = began.elapsed().as_secs_f64() * 1e3;
        let warm_up = FleetSize { devices: WARM_UP_DEVICES, ..fleet };
        let saturating = BenchConfiguration { pace: Pace::Saturating, ..configuration };
        self.load(warm_up, saturating, configuration.warm_up_seed(repetition), &uri)?;
        let committed = || commits(&http::get(metrics, "/metrics")?);
        let (before, committed_before) = (CpuTime::of(server.process_id())?, committed()?);
        let watch = CoreWatch::start(server.process_id());
        let report = self.load(fleet, configuration, configuration.seed(repetition), &uri)?;
        let core_share = watch.stop();
        let cpu = CpuTime::of(server.process_id())?.since(&before);
        let server_rss_kib = resident_kib(server.process_id());
        let commits = committed()? - committed_before;
        let (status, words) = server.stop()?;
        ensure!(status.success(), "muster serve ended with {status}:\n{words}");
        let run = measured(configuration, &report, &cpu, server_rss_kib, floor)?.with_core_share(core_share);
        // A log of what came before the run may be copied into the ledger during it, so that the bytes are those of both.
        let recorded = run.enrolled + f64::from(WARM_UP_DEVICES);
        let [ledger_bytes, journal_bytes] = files.growth(sizes).map(|bytes| bytes / recorded);
        let is_new = configuration.ledger == LedgerKind::Memory || journal_bytes > 0.0;
        ensure!(is_new, "{}: the ledger wrote nothing: it knew the devices", configuration.name());
        Ok(MeasuredRun { commits: commits / run.enrolled, ledger_bytes, journal_bytes, listening_ms, ..run })
    }

    /// The ledger of a run: a new one in memory, a new file, a copy of a file with some rows, or the copy of a file with many rows that all runs of this
    /// program share. The file itself stays as it was filled: another program has the same devices, and other certificates that vouch for them.
    fn files_of(&self, ledger: LedgerKind) -> Result<LedgerFiles> {
        let folder = match ledger {
            LedgerKind::Memory => return Ok(LedgerFiles { folder: None }),
            LedgerKind::Sqlite { rows: 0 } => tree::scratch("e2e-ledger")?,
            LedgerKind::Sqlite { rows } if rows <= COPIED_ROWS_MAX => {
                copied(&filled(&self.filler, rows)?, "e2e-ledger")?
            }
            LedgerKind::Sqlite { rows } => self.shared(rows)?,
        };
        Ok(LedgerFiles { folder: Some(folder) })
    }

    fn shared(&self, rows: u64) -> Result<PathBuf> {
        if let Some(folder) = self.shared.borrow().get(&rows) {
            return Ok(folder.clone());
        }
        let folder = copied(&filled(&self.filler, rows)?, &format!("e2e-ledger-{rows}"))?;
        self.shared.borrow_mut().insert(rows, folder.clone());
        Ok(folder)
    }

    pub(in super::super) fn serve(&self, files: &LedgerFiles) -> Result<ReleasedServer> {
        let muster =
            files.environment().into_iter().fold(pinned(0, &self.muster), |it, (key, value)| it.env(key, value));
        ReleasedServer::start(muster, &self.folder, Threads::Shards(1))
    }

    fn load(
        &self,
        fleet: FleetSize,
        configuration: BenchConfiguration,
        seed: u32,
        uri: &str,
    ) -> Result<serde_json::Value> {
        let file = self.folder.join("load.json");
        let load = pinned(1, &self.muster).args(["load", "--server", uri, "--pki"]).arg(self.folder.join("pki"));
        let pace = match configuration.pace {
            Pace::Saturating => ["--concurrency".to_owned(), fleet.concurrency.to_string()],
            Pace::Sixteen => ["--concurrency".to_owned(), SIXTEEN.to_string()],
            Pace::OpenSsl => return self.on_openssl(fleet, configuration, seed, uri),
            Pace::Unhurried => ["--rate".to_owned(), UNHURRIED_RATE.to_string()],
        };
        let load = load.arg("--devices").arg(fleet.devices_at(configuration.pace).to_string()).args(pace);
        let load = load.args(["--suite", configuration.suite, "--block"]).arg(configuration.block.to_string());
        let load = load
            .args(["--vanish", configuration.leaving.vanish(), "--seed"])
            .arg(seed.to_string())
            .arg("--json")
            .arg(&file)
            .timeout(LOAD_TIMEOUT);
        // The ratios are of the server's CPU time, which a fleet without reserves leaves as it is; a schedule that was not kept changes how often the
        // server wakes. `measured` refuses a run with failed devices.
        let accepted: &[i32] = if configuration.pace == Pace::Unhurried { &[0] } else { &[0, MEASURED_THE_GENERATOR] };
        load.expect_status(accepted)?;
        Ok(serde_json::from_str(&std::fs::read_to_string(&file)?)?)
    }

    /// By the fleet that we did not write, on the core of the load generator.
    fn on_openssl(
        &self,
        fleet: FleetSize,
        configuration: BenchConfiguration,
        seed: u32,
        uri: &str,
    ) -> Result<serde_json::Value> {
        let server = uri.strip_prefix("coaps://").and_then(|address| address.parse().ok());
        let fleet = OpenSslFleet {
            pki: &self.folder.join("pki"),
            server: server.with_context(|| format!("no address in {uri}"))?,
            suite: configuration.suite_of_openssl(),
            prefix: &format!("openssl-{seed:x}"),
            devices: fleet.devices_at(configuration.pace),
            at_once: SIXTEEN,
            block: configuration.block,
        };
        fleet.play(pinned(1, &tree::python()).timeout(LOAD_TIMEOUT), &self.folder.join("openssl.json"))
    }
}

/// What a program prints as JSON, run on the core of the server.
fn printed<T: DeserializeOwned>(program: &Path) -> Result<T> {
    let ended = pinned(0, program).timeout(LOAD_TIMEOUT).expect_success()?;
    serde_json::from_str(&ended.stdout).with_context(|| format!("{} printed {}", program.display(), ended.stdout))
}

/// What the page of metrics says of the ledger.
fn commits(page: &str) -> Result<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix("muster_ledger_commits_total "));
    Ok(value.context("the metrics have no muster_ledger_commits_total")?.parse()?)
}
