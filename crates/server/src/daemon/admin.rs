//! Starts the admin socket: a service of the runtime, over the ledger of the server.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authority::{Ledger, RelayLedger};

use super::clock::IssuanceClock;
use super::runtime::Runtime;
use super::snapshot::Snapshot;
use super::startup_fault::StartupFault;
use crate::admin::{AdminDesk, AdminListener, SocketFile};
use crate::config::Configuration;

/// Starts the admin socket, if the configuration has one.
pub(super) fn start(
    config: &Configuration,
    (ledger, relayed): (Arc<dyn Ledger>, Option<Arc<dyn RelayLedger>>),
    (clock, snapshot): (Arc<IssuanceClock>, Arc<ArcSwap<Snapshot>>),
    runtime: &Runtime,
) -> Result<(), StartupFault> {
    let Some(path) = config.admin_socket() else { return Ok(()) };
    let (socket, file) = SocketFile::bind(&path).map_err(StartupFault::Admin)?;
    let manufacturers = move || {
        let snapshot = snapshot.load();
        let profiles = snapshot.est.profiles();
        let mut all: Vec<_> =
            profiles.flat_map(|profile| &profile.spec().manufacturers).map(|it| it.anchor_id()).collect();
        all.sort_unstable_by_key(|id| *id.as_bytes());
        all.dedup();
        all
    };
    let _context = runtime.enter();
    let desk = AdminDesk::new(ledger, manufacturers, move || clock.revocation_time()).with_relayed(relayed);
    let listener = AdminListener::new(socket, file, desk).map_err(StartupFault::System)?;
    runtime.spawn("the admin socket", listener.run());
    tracing::info!(path = %path.display(), "admin socket");
    Ok(())
}
