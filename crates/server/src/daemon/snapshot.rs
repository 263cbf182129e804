//! The configuration in force, behind one atomic swap.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authority::{Authority, Ca};
use net::SystemRandom;

use super::work::Ticket;
use crate::crl::CrlPlan;
use crate::load::{DatedCertificate, LoadedFront, LoadedRegistrar, UpstreamReading};
use crate::metrics::ProfileTable;

/// What a configuration compiles to: how to answer, which CAs issue, and what is counted and watched.
pub(super) struct Snapshot {
    pub(super) est: Arc<est::ServerConfig>,
    pub(super) authority: Arc<dyn Authority<Ticket>>,
    /// For the profiles of this configuration and of earlier ones.
    pub(super) meters: Arc<ProfileTable>,
    /// The CAs of its profiles.
    pub(super) issuers: Arc<[Arc<Ca>]>,
    /// What revocation lists there are.
    pub(super) crls: Arc<CrlPlan>,
    /// What serves EST over HTTPS, if anything does.
    pub(super) front: Option<LoadedFront>,
    /// Every certificate that the configuration names.
    pub(super) certificates: Arc<[DatedCertificate]>,
    /// Of a Registrar.
    pub(super) registrar: Option<Arc<LoadedRegistrar>>,
}

impl Snapshot {
    /// What a Registrar knows of its upstream CAs.
    pub(super) fn upstream_reading(&self) -> UpstreamReading {
        self.registrar.as_ref().map(|registrar| registrar.reading()).unwrap_or_default()
    }

    /// The same, with other answers.
    pub(super) fn answering(&self, est: est::ServerConfig) -> Self {
        let est = Arc::new(est);
        Self {
            front: self.front.as_ref().map(|front| front.answering(&est)),
            est,
            authority: Arc::clone(&self.authority),
            meters: Arc::clone(&self.meters),
            issuers: Arc::clone(&self.issuers),
            crls: Arc::clone(&self.crls),
            certificates: Arc::clone(&self.certificates),
            registrar: self.registrar.clone(),
        }
    }
}

/// One shard's view: it looks for a new snapshot at the beginning of a turn and uses the same one throughout the turn.
pub(super) struct SnapshotReader {
    shared: Arc<ArcSwap<Snapshot>>,
    current: Arc<Snapshot>,
}

impl SnapshotReader {
    pub(super) fn new(shared: Arc<ArcSwap<Snapshot>>) -> Self {
        let current = shared.load_full();
        Self { shared, current }
    }

    /// A reader for a shard, and the shard's server. Both begin with the same snapshot: since the configuration was loaded, an upstream CA may have
    /// answered, and a server that began with less would never hear of it.
    pub(super) fn with_server(
        shared: Arc<ArcSwap<Snapshot>>,
        index: u16,
        random: &Arc<SystemRandom>,
    ) -> (Self, est::Server) {
        let reader = Self::new(shared);
        let random = Arc::clone(random) as Arc<dyn dtls::Random>;
        let server = est::Server::new(index, Arc::clone(&reader.current.est), random);
        (reader, server)
    }

    /// The new snapshot, if it changed since the last call.
    pub(super) fn changed(&mut self) -> Option<&Snapshot> {
        let newest = self.shared.load();
        if Arc::ptr_eq(&newest, &self.current) {
            return None;
        }
        self.current = Arc::clone(&newest);
        Some(&self.current)
    }

    pub(super) fn current(&self) -> &Snapshot {
        &self.current
    }
}
