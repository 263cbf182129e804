//! Puts another configuration in force while the server runs.
//!
//! ```text
//!   files ──load_beside──► Snapshot ──one swap──► each shard, at the beginning of its next turn
//!     └── ConfigurationFaults: nothing has changed
//! ```
//!
//! Sockets, threads and the tables of the shards are created once; the ledger, the enrolments in flight, the certificates of sessions and the secret of
//! the cookies belong to the process. A reload therefore changes the answers, not the connections.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use authority::{Authority, CaAuthority, Executor, Flights, Ledger};
use net::SystemRandom;
use pki::issue::NodePrefix;
use rustls_pki_types::UnixTime;
use tokio::sync::Notify;

use super::control::Control;
use super::crl::{self, LayoutFault};
use super::relay::Relaying;
use super::restart::needs_restart;
use super::snapshot::Snapshot;
use super::work::{Ticket, isolate};
use crate::config::{Configuration, ConfigurationFaults, Sources};
use crate::load::{self, Loaded, Process, Warning};
use crate::metrics::Exposition;

/// What a reload found, besides the configuration that it put in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys whose new values take effect only after a restart.
    pub needs_restart: Vec<&'static str>,
    /// What is allowed but will cause trouble.
    pub warnings: Vec<Warning>,
}

/// Reloads a server from any thread.
#[derive(Clone)]
pub struct Reloader(Arc<Running>);

struct Running {
    started: Configuration,
    process: Arc<Process>,
    issuing: Issuing,
    snapshot: Arc<ArcSwap<Snapshot>>,
    control: Arc<Control>,
    /// Held while a reload reads: of two reloads, the one that read earlier must not overwrite the other.
    turn: Mutex<()>,
    /// Wakes what waits for another configuration.
    reloaded: Notify,
}

impl Reloader {
    pub(super) fn new(
        loaded: &Loaded,
        issuing: Issuing,
        snapshot: Arc<ArcSwap<Snapshot>>,
        control: Arc<Control>,
    ) -> Self {
        let (started, process) = (loaded.config.clone(), Arc::clone(&loaded.process));
        Self(Arc::new(Running {
            started,
            process,
            issuing,
            snapshot,
            control,
            turn: Mutex::default(),
            reloaded: Notify::new(),
        }))
    }

    /// See [`Handle::reload`](super::Handle::reload).
    ///
    /// # Errors
    /// Every fault; then nothing has changed.
    pub fn reload(&self, sources: &Sources) -> Result<Reloaded, ConfigurationFaults> {
        let running = &*self.0;
        let _turn = running.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let reread = load::load_beside(sources, &running.process, &running.started.limits).and_then(|reread| {
            running.issuing.expect_kind(&reread.loaded)?;
            running.fix_layouts(&reread.loaded)?;
            running.issuing.renew_transport(&reread.loaded).map(|()| reread)
        });
        running.issuing.exposition.reloaded(reread.is_ok().then(UnixTime::now));
        let reread = reread?;
        running.snapshot.store(Arc::new(running.issuing.snapshot(&reread.loaded)));
        running.control.wake();
        running.reloaded.notify_one();
        Ok(Reloaded {
            needs_restart: needs_restart(&running.started, &reread.written),
            warnings: reread.loaded.warnings().to_vec(),
        })
    }

    /// Waits for the next configuration; one that came since the last call counts. One service waits.
    pub(super) async fn reloaded(&self) {
        self.0.reloaded.notified().await;
    }

    /// Puts new answers of an upstream CA in force, under the configuration that is in force.
    pub(super) fn republish(&self) {
        let running = &*self.0;
        let _turn = running.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = running.snapshot.load_full();
        let Some(registrar) = &snapshot.registrar else { return };
        let rebuilt = registrar.compile().map_err(|fault| fault.to_string());
        match rebuilt.and_then(|profiles| (registrar.rebuild)(profiles).map_err(|fault| fault.to_string())) {
            Ok(est) => {
                running.snapshot.store(Arc::new(snapshot.answering(est)));
                running.control.wake();
            }
            Err(fault) => tracing::warn!("the upstream's answers cannot be published: {fault}"),
        }
    }

    /// Records that a configuration could not be read: the previous one stays in force.
    pub(crate) fn unreadable(&self) {
        self.0.issuing.exposition.reloaded(None);
    }

    /// Whether the server has begun to end: a new configuration would admit no device.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.0.control.is_ending()
    }
}

impl Running {
    /// A configuration with another layout of revocation lists than the certificates name is refused.
    fn fix_layouts(&self, loaded: &Loaded) -> Result<(), ConfigurationFaults> {
        let in_force = Arc::clone(&self.snapshot.load().crls);
        let fixed = crl::fix_layouts(&*self.issuing.ledger, &loaded.config, (&loaded.cas, &in_force.cas));
        fixed.map_err(|fault| match fault {
            LayoutFault::Other(faults) => faults,
            LayoutFault::Ledger(fault) => ConfigurationFaults(vec![crl::ledger_fault(&loaded.config, fault)]),
        })
    }
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// What all snapshots of this process share.
pub(super) struct Issuing {
    ledger: Arc<dyn Ledger>,
    flights: Arc<Flights>,
    random: Arc<SystemRandom>,
    executor: Arc<dyn Executor>,
    /// Lives as long as the process: with it the ledger recognises the certificates that it would still hold.
    node: NodePrefix,
    exposition: Arc<Exposition>,
    /// Of a Registrar.
    relaying: Option<Relaying>,
}

impl Issuing {
    pub(super) fn new(
        config: &Configuration,
        (ledger, relaying): (Arc<dyn Ledger>, Option<Relaying>),
        random: &Arc<SystemRandom>,
        executor: Arc<dyn Executor>,
        exposition: Arc<Exposition>,
    ) -> Self {
        let in_flight_max = usize::try_from(config.limits.enrolments_in_flight_max).unwrap_or(usize::MAX);
        let node = NodePrefix::new(config.server.node);
        Self {
            node,
            ledger,
            exposition,
            flights: Arc::new(Flights::new(in_flight_max)),
            random: Arc::clone(random),
            executor,
            relaying,
        }
    }

    /// New keys and certificates of a Registrar are used from the next request on.
    fn renew_transport(&self, loaded: &Loaded) -> Result<(), ConfigurationFaults> {
        match (&self.relaying, &loaded.registrar) {
            (Some(relaying), Some(registrar)) => relaying.renew(registrar, &loaded.config),
            _ => Ok(()),
        }
    }

    /// Refuses another kind of authority before anything is changed.
    fn expect_kind(&self, loaded: &Loaded) -> Result<(), ConfigurationFaults> {
        if self.relaying.is_some() == loaded.registrar.is_some() {
            return Ok(());
        }
        Err(ConfigurationFaults(vec![super::relay::kind_fault(&loaded.config)]))
    }

    fn authority(&self, loaded: &Loaded) -> Arc<dyn Authority<Ticket>> {
        if let (Some(relaying), Some(registrar)) = (&self.relaying, &loaded.registrar) {
            let shared = (Arc::clone(&self.ledger), Arc::clone(&self.random), Arc::clone(&self.flights));
            return relaying.authority(registrar, shared, Arc::clone(&self.executor));
        }
        let authority = CaAuthority::new(
            Arc::clone(&self.ledger),
            Arc::clone(&loaded.signer) as Arc<dyn authority::Signer>,
            Arc::clone(&self.random) as Arc<dyn authority::Random>,
            self.node,
            Arc::clone(&self.flights),
        )
        .isolating(isolate)
        .executing_on(Arc::clone(&self.executor));
        match &loaded.package_signer {
            Some(signer) => Arc::new(authority.signing_key_packages(Arc::clone(signer))),
            None => Arc::new(authority),
        }
    }

    pub(super) fn snapshot(&self, loaded: &Loaded) -> Snapshot {
        let profiles = loaded.config.profiles.iter().map(|profile| profile.spec.profile.name.as_str());
        Snapshot {
            est: Arc::clone(&loaded.est),
            authority: self.authority(loaded),
            meters: self.exposition.profiles(profiles),
            issuers: Arc::clone(&loaded.issuers),
            crls: Arc::new(crl::plan(loaded)),
            front: loaded.front.clone(),
            certificates: Arc::clone(&loaded.certificates),
            registrar: loaded.registrar.clone(),
        }
    }
}
