//! Where the audit keeps its key and its checkpoints.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pki::issue::NodePrefix;
use rustls_pki_types::UnixTime;

use crate::paths::with_suffix;

/// What tells the audit the time: the times of its checkpoints, and when refusals have been counted together long enough.
pub type AuditClock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// Where the audit keeps its key and its checkpoints, and whose chain it writes.
#[derive(Clone)]
pub struct AuditSettings {
    /// The node whose chain is written: the prefix of its serial numbers.
    pub node: NodePrefix,
    /// The file of the key that signs checkpoints; made if there is none.
    pub key: PathBuf,
    /// The file to which checkpoints are appended: on another disk, if what happens to the ledger's must not happen to it.
    pub checkpoints: PathBuf,
    /// The socket of the local syslog that gets each checkpoint too.
    pub syslog: Option<PathBuf>,
    /// The clock.
    pub clock: AuditClock,
}

/// The socket of the local syslog.
pub const SYSLOG_SOCKET: &str = "/dev/log";

impl AuditSettings {
    /// Key and checkpoints beside the ledger in this file, no syslog, the clock of the system.
    #[must_use]
    pub fn beside(ledger: &Path, node: NodePrefix) -> Self {
        Self {
            node,
            key: with_suffix(ledger, ".audit.key"),
            checkpoints: with_suffix(ledger, ".checkpoints.jsonl"),
            syslog: None,
            clock: Arc::new(UnixTime::now),
        }
    }
}

impl fmt::Debug for AuditSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditSettings")
            .field("node", &self.node)
            .field("key", &self.key)
            .field("checkpoints", &self.checkpoints)
            .field("syslog", &self.syslog)
            .finish_non_exhaustive()
    }
}
