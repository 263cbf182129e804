//! The configuration in force, behind one atomic swap.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authority::Authority;

use super::work::Ticket;
use crate::load::DatedCertificate;
use crate::metrics::ProfileTable;

/// What a configuration becomes: how to answer, who issues, and what is counted and watched.
pub(super) struct Snapshot {
    pub(super) est: Arc<est::ServerConfig>,
    pub(super) authority: Arc<dyn Authority<Ticket>>,
    /// For its profiles, and for those that were configured before.
    pub(super) meters: Arc<ProfileTable>,
    /// Every certificate that the configuration names.
    pub(super) certificates: Arc<[DatedCertificate]>,
}

/// One shard's view: it notices a new snapshot at the beginning of a turn and uses it throughout.
pub(super) struct Reader {
    shared: Arc<ArcSwap<Snapshot>>,
    current: Arc<Snapshot>,
}

impl Reader {
    pub(super) fn new(shared: Arc<ArcSwap<Snapshot>>) -> Self {
        let current = shared.load_full();
        Self { shared, current }
    }

    /// The new snapshot, if there is one since the last call.
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
