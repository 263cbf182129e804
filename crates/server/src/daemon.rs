//! The daemon: from a loaded configuration to running threads, and back.
//!
//! ```text
//!             ┌─ muster-shard-0 ─┐   jobs in batches   ┌─ muster-pool-* ─┐
//!   devices ─►│ sockets, est     │────────────────────►│ authority,      │──► ledger (in memory)
//!             └──────────────────┘◄────────────────────│ signer          │
//!             ┌─ muster-shard-1 ─┐  mailbox + waker    └─────────────────┘
//!   devices ─►│ ...              │
//!             └──────────────────┘──► muster-log (refusals), muster-issued     muster-runtime (metrics, admin socket)
//! ```
//!
//! It prints nothing and installs no signal handler: a test or the demo can run several servers in one process. `signals` connects SIGTERM.

mod admin;
mod bind;
mod clock;
mod control;
mod crl;
mod dates;
mod discovery;
mod https;
mod kernel_drops;
mod ledger;
mod mailbox;
mod own_share;
mod publish;
mod readiness;
mod refresh;
mod relay;
mod reload;
mod restart;
mod runtime;
mod shard;
mod snapshot;
mod startup_fault;
mod watch;
mod work;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use authority::{Ledger, RelayLedger};
use net::SystemRandom;
use rustls_pki_types::UnixTime;

use crate::config::{Configuration, ConfigurationFaults, Sources};
use crate::crl::CrlStatuses;
use crate::linux;
use crate::load::Loaded;
use crate::logging::{Journal, Refusals};
use crate::metrics::Meters;
use clock::IssuanceClock;
use control::{Breakdown, Control, Phase};
use crl::Crls;
use discovery::Registration;
use https::{FrontParts, HttpsFront};
use ledger::{CertificateCount, FLUSH_TIMEOUT, GuardedLedger, flush};
use own_share::OwnShare;
use readiness::IssueReadiness;
use reload::Issuing;
use runtime::Runtime;
use shard::{CutOff, Parts, Shard, ShardEnd};
use snapshot::{Snapshot, SnapshotReader};
use work::{Pool, PoolExecutor};

pub use reload::{Reloaded, Reloader};
pub use startup_fault::StartupFault;

/// Creates the observer of the engines once the addresses are known; the addresses are in the order of their `SocketIndex`.
pub type ObserverFactory = Box<dyn FnOnce(&[SocketAddr]) -> io::Result<Option<Arc<dyn dtls::Observer>>>>;

/// Options of a start in addition to the configuration.
#[derive(Default)]
pub struct StartOptions {
    /// Sees every message of every session, decrypted, and the secrets: for a trace, a capture or a key log.
    pub observer: Option<ObserverFactory>,
    /// Where a Registrar keeps what it relays; in memory if there is none.
    pub relayed: Option<Arc<dyn RelayLedger>>,
}

/// Binds everything, starts everything, and returns once devices are served. Issued certificates are recorded in `ledger`, which the caller chooses
/// and may go on using.
///
/// # Errors
/// [`StartupFault`]; then nothing is left running.
#[allow(clippy::needless_pass_by_value, reason = "a load serves one server: a second one shares no secrets with it")]
pub fn start(loaded: Loaded, ledger: Arc<dyn Ledger>, options: StartOptions) -> Result<Handle, StartupFault> {
    let handle = assemble(loaded, ledger, options)?;
    handle.control.admit();
    Ok(handle)
}

/// Everything but the last step, which makes the server ready.
#[allow(clippy::needless_pass_by_value, reason = "as above")]
fn assemble(loaded: Loaded, ledger: Arc<dyn Ledger>, options: StartOptions) -> Result<Handle, StartupFault> {
    let config = &loaded.config;
    let bound = bind::bind_all(&config.server.listen.value, loaded.shards).map_err(StartupFault::Bind)?;
    let control = Arc::new(Control::new(config.server.drain_timeout));
    let runtime = Runtime::start("muster-runtime", Arc::clone(&control)).map_err(StartupFault::System)?;
    let exposition = watch::exposition(&loaded, UnixTime::now());
    let observer = observer(options.observer, &bound.addresses)?;
    let random = Arc::new(SystemRandom::new());
    let ledger: Arc<dyn Ledger> = Arc::new(GuardedLedger::new(ledger, Arc::clone(&control)));
    let certificates = Arc::new(CertificateCount::of(Arc::clone(&ledger)));
    let clock = Arc::new(IssuanceClock::new());
    let pool = start_pool(config, &clock)?;
    let executor = Arc::new(PoolExecutor::new(&pool));
    crl::fix_layouts(&*ledger, config, (&loaded.cas, &[]))?;
    let crl_statuses = Arc::new(CrlStatuses::default());
    let (relaying, transport) = relay::start(&loaded, options.relayed.clone())?.unzip();
    let issuing = Issuing::new(config, (Arc::clone(&ledger), relaying), &random, executor, Arc::clone(&exposition));
    let snapshot = Arc::new(ArcSwap::from_pointee(issuing.snapshot(&loaded)));
    let watch = watch::Watch {
        certificates: Arc::clone(&certificates),
        readiness: IssueReadiness::of(&control, &clock, &ledger, &snapshot),
        crls: Arc::clone(&crl_statuses),
    };
    let metrics_address = watch.start(config, &exposition, &runtime)?;
    admin::start(config, (Arc::clone(&ledger), options.relayed), (clock, Arc::clone(&snapshot)), &runtime)?;
    let crls = crl::start(config, (Arc::clone(&ledger), crl_statuses), &snapshot, (&runtime, &control))?;
    let reloader = Reloader::new(&loaded, issuing, Arc::clone(&snapshot), Arc::clone(&control));
    refresh::serve(transport, &loaded, (&reloader, &snapshot), &runtime);
    let registration = discovery::start(config, &snapshot, &exposition.meters(), (&runtime, &control))?;
    tell(&loaded);
    let logs = Logs::start()?;
    let mut handle = Handle {
        addresses: bound.addresses,
        control: Arc::clone(&control),
        reloader,
        ledger,
        certificates,
        pool: Arc::clone(&pool),
        shards: Vec::new(),
        logs: Some(logs),
        metrics_address,
        crls,
        https: None,
        _registration: registration,
        _runtime: runtime,
    };
    let (refusals, journal) = handle.logs.as_ref().map(Logs::senders).expect("they are given up by drop alone");
    handle.serve_https(config, (&snapshot, exposition.meters()), &*random)?;
    for (index, sockets) in (0..).zip(bound.shards) {
        let (snapshot, mut server) = SnapshotReader::with_server(Arc::clone(&snapshot), index, &random);
        server.set_observer(observer.clone());
        server.set_addresses(&handle.addresses);
        let parts = Parts {
            sockets,
            server,
            snapshot,
            control: Arc::clone(&control),
            pool: Arc::clone(&pool),
            own_share: OwnShare::beside(loaded.shards),
            outside_max: loaded.outside_max,
            meters: exposition.meters(),
            publisher: publish::publisher(&exposition),
            refusals: refusals.clone(),
            journal: journal.clone(),
        };
        handle.spawn(index, parts, linux::Placement::of(config.server.shards, index))?;
    }
    Ok(handle)
}

fn observer(
    make: Option<ObserverFactory>,
    addresses: &[SocketAddr],
) -> Result<Option<Arc<dyn dtls::Observer>>, StartupFault> {
    match make {
        Some(make) => make(addresses).map_err(StartupFault::Observer),
        None => Ok(None),
    }
}

fn start_pool(config: &Configuration, clock: &Arc<IssuanceClock>) -> Result<Arc<Pool>, StartupFault> {
    let pool = Pool::new(config.server.pool_threads, Arc::clone(clock));
    pool.map(Arc::new).map_err(|error| StartupFault::System(io::Error::other(error)))
}

/// What the log says about the configuration of a start.
fn tell(loaded: &Loaded) {
    for warning in loaded.warnings() {
        warning.log();
    }
    tracing::info!(
        sessions_max = loaded.sessions_max,
        half_open_max = loaded.config.limits.half_open_max,
        shards = loaded.shards,
        "capacity limits"
    );
}

/// A running server. Dropping it stops it immediately; [`Handle::drain`] and [`Handle::join`] stop it cleanly.
pub struct Handle {
    addresses: Vec<SocketAddr>,
    control: Arc<Control>,
    reloader: Reloader,
    ledger: Arc<dyn Ledger>,
    certificates: Arc<CertificateCount>,
    pool: Arc<Pool>,
    shards: Vec<JoinHandle<io::Result<ShardEnd>>>,
    /// Taken only by `drop`.
    logs: Option<Logs>,
    /// The address of the metrics, if they are served.
    metrics_address: Option<SocketAddr>,
    /// What publishes revocation lists.
    crls: Crls,
    /// EST over HTTPS, if it is served.
    https: Option<HttpsFront>,
    /// What a resource directory lists; removed there before the runtime ends.
    _registration: Registration,
    /// Ends last.
    _runtime: Runtime,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Enrolments that were still waiting for the authority at the deadline.
    pub enrolments_cut_off: usize,
    /// Shards that reached the deadline before their sessions were finished.
    pub shards_cut_off: usize,
    /// The last datagrams, most of them close_notify, that the network did not accept in time.
    pub datagrams_dropped: u64,
}

impl Handle {
    /// The addresses at which devices are served, with real ports, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of `/metrics`, `/healthz`, `/readyz` and `/readyz/issue`, if they are served.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The address of the revocation lists, if they are served.
    #[must_use]
    pub fn crl_address(&self) -> Option<SocketAddr> {
        self.crls.address
    }

    /// The address of EST over HTTPS, if it is served.
    #[must_use]
    pub fn https_address(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(|https| https.address)
    }

    /// Certificates in the ledger, as it counted them last; asks it to count again. A ledger in memory has counted when this returns.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.certificates.read()
    }

    /// Stops the server from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { control: Arc::clone(&self.control) }
    }

    /// Begins to drain: no new handshakes are accepted, enrolments in flight are finished, all other sessions are closed with close_notify.
    pub fn drain(&self) {
        self.stopper().drain();
    }

    /// Puts another configuration in force: requests that have begun keep the old one, and sessions continue.
    ///
    /// # Errors
    /// Every fault; then nothing has changed.
    pub fn reload(&self, sources: &Sources) -> Result<Reloaded, ConfigurationFaults> {
        self.reloader.reload(sources)
    }

    /// Puts another configuration in force from another thread.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Waits until every shard has ended, and then until the ledger has written what was asked of it, for five seconds at most.
    ///
    /// # Errors
    /// A shard that ended because its event loop or a socket failed; a ledger or a service of the runtime that broke.
    ///
    /// # Panics
    /// If a shard panicked: that is a defect, and continuing would hide it.
    pub fn join(mut self) -> io::Result<Drained> {
        let mut drained = Drained::default();
        // Join all of them first: after one shard has failed, the others still close their sessions.
        let ended: Vec<_> = std::mem::take(&mut self.shards).into_iter().map(JoinHandle::join).collect();
        if let Some(https) = self.https.take() {
            https.settle();
        }
        if self.control.breakdown() != Some(Breakdown::Ledger) {
            flush(&*self.ledger);
        }
        self.pool.settle(FLUSH_TIMEOUT);
        for ended in ended {
            let ShardEnd { cut_off, datagrams_dropped } = ended.expect("a shard does not panic")?;
            drained.datagrams_dropped += datagrams_dropped;
            if let Some(CutOff { enrolments }) = cut_off {
                drained.shards_cut_off += 1;
                drained.enrolments_cut_off += enrolments;
            }
        }
        if drained != Drained::default() {
            tracing::warn!(
                enrolments = drained.enrolments_cut_off,
                shards = drained.shards_cut_off,
                datagrams_dropped = drained.datagrams_dropped,
                "stopped before all work was finished; a longer server.drain_timeout gives it more time"
            );
        }
        if let Some(breakdown) = self.control.breakdown() {
            return Err(io::Error::other(breakdown.to_string()));
        }
        Ok(drained)
    }

    fn serve_https(
        &mut self,
        config: &Configuration,
        (snapshot, meters): (&Arc<ArcSwap<Snapshot>>, Meters),
        random: &dyn dtls::Random,
    ) -> Result<(), StartupFault> {
        let parts = FrontParts {
            snapshot: Arc::clone(snapshot),
            control: Arc::clone(&self.control),
            pool: Arc::clone(&self.pool),
            meters,
            logs: self.logs.as_ref().map(Logs::senders).expect("they are given up by drop alone"),
            random,
        };
        self.https = HttpsFront::start(config, parts)?;
        Ok(())
    }

    fn spawn(&mut self, index: u16, parts: Parts, placement: linux::Placement) -> Result<(), StartupFault> {
        let (shard, waker) = Shard::new(parts).map_err(StartupFault::System)?;
        self.control.add(waker);
        let last_words = LastWords(Arc::clone(&self.control));
        let run = move || {
            let _last_words = last_words;
            placement.apply();
            shard.run()
        };
        self.shards.push(thread(format!("muster-shard-{index}"), run)?);
        Ok(())
    }
}

/// When a shard ends because of a failed socket or a panic, the others cannot take over its peers: a restart is better than serving only some of the
/// devices.
struct LastWords(Arc<Control>);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.advance(Instant::now(), Phase::Draining);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.control.advance(Instant::now(), Phase::Stopping);
        for shard in std::mem::take(&mut self.shards) {
            // `join` reports how the shard ended; that is ignored here.
            let _ = shard.join();
        }
        // Its connections report to the logs.
        drop(self.https.take());
        if let Some(logs) = self.logs.take() {
            logs.end();
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Stops a server from any thread.
#[derive(Clone)]
pub struct Stopper {
    control: Arc<Control>,
}

impl Stopper {
    /// See [`Handle::drain`].
    pub fn drain(&self) {
        self.control.advance(Instant::now(), Phase::Draining);
    }

    /// Closes every session with close_notify, even one that waits for something, and ends.
    pub fn stop(&self) {
        self.control.advance(Instant::now(), Phase::Stopping);
    }

    /// Whether a stop has already been requested.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.control.is_ending()
    }
}

/// The threads that write the log, so that no shard has to.
struct Logs {
    refusals: Refusals,
    journal: Journal,
    threads: [JoinHandle<()>; 2],
}

impl Logs {
    fn start() -> Result<Self, StartupFault> {
        let (refusals, reporter) = Refusals::channel();
        let refused = thread("muster-log".into(), move || reporter.run())?;
        let (journal, reporter) = Journal::channel();
        let issued = thread("muster-issued".into(), move || reporter.run())?;
        Ok(Self { refusals, journal, threads: [refused, issued] })
    }

    fn senders(&self) -> (Refusals, Journal) {
        (self.refusals.clone(), self.journal.clone())
    }

    /// Called after the shards have ended: writes the last lines of the log threads.
    fn end(self) {
        let Self { refusals, journal, threads } = self;
        // One thread ends with its last sender, the other when it is told to.
        drop(refusals);
        journal.end();
        for thread in threads {
            // The thread does not panic.
            let _ = thread.join();
        }
    }
}

fn thread<T: Send + 'static>(
    name: String,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, StartupFault> {
    std::thread::Builder::new().name(name).spawn(run).map_err(StartupFault::System)
}

#[cfg(test)]
mod tests;
