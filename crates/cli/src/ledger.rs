//! Makes the ledger that a configuration names. The server takes it from outside, so that it knows none of the kinds.

use std::sync::Arc;

use authority::{Ledger, MemoryLedger};
use pki::UnixTime;
use server::Loaded;

/// The ledger of `[ledger]`: today `memory:`, the one kind that the configuration accepts. It is complete from now on.
pub(crate) fn open(loaded: &Loaded) -> Arc<dyn Ledger> {
    let rows_max = usize::try_from(loaded.config().ledger.rows_max).unwrap_or(usize::MAX);
    Arc::new(MemoryLedger::new(rows_max).since(UnixTime::now()))
}
