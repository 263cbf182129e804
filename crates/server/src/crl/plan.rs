//! What the configuration in force says about revocation lists.

use std::sync::Arc;
use std::time::Duration;

use authority::{Ca, CrlSigner};
use pki::issue::crl::CrlScope;

/// Lists are made anew after this time at the latest, whatever their validity.
const RENEWAL_MAX: Duration = Duration::from_secs(86_400);

/// The CAs that have revocation lists, and how long a list is valid.
pub(crate) struct CrlPlan {
    pub(crate) cas: Vec<Arc<Ca>>,
    pub(crate) signer: Arc<dyn CrlSigner>,
    pub(crate) validity: Duration,
    pub(crate) interval: Duration,
}

impl CrlPlan {
    /// The age at which a list is made anew.
    pub(super) fn renewal(&self) -> Duration {
        RENEWAL_MAX.min(self.validity / 2)
    }
}

/// The name of a list's file: `NAME.crl`, or `NAME.SHARD.crl`. A name has no dot, so no two lists have the same file.
pub(super) fn file_name(ca: &str, scope: CrlScope<'_>) -> String {
    match scope.shard() {
        None => format!("{ca}.crl"),
        Some(shard) => format!("{ca}.{shard}.crl"),
    }
}
