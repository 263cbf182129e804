//! The audit: what was issued, refused, revoked and given up, in a chain of hashes that shows what was changed or removed later.
//!
//! **Records.** One line of JSON for each event, described at `record`. The records of one batch of the ledger are one row of the table `audit`,
//! written in the transaction of that batch: an acceptance is recorded if, and only if, its certificate is durable.
//!
//! **Chain.** Each row has a hash over its node, its sequence number, its time, the count of records so far, the hash of the row before, and its
//! records, see [`chain`]. An edited row no longer has its hash, and a removed row leaves a gap.
//!
//! **Checkpoints.** Who can write the file of the ledger can also compute every hash anew, or cut the end off. A minute after it grew at the
//! latest, and at the end, the ledger therefore signs the head of the chain, and appends it to a file that can be on another disk, and optionally sends it to syslog, see
//! [`checkpoint`]. The key is the audit's own. Copies of the checkpoints and of the public key that are kept on another machine show what somebody
//! with full control of this one has changed. What happened after the last checkpoint is protected by nothing but the chain.
//! A head that does not grow is signed again once an hour: a cut end is found up to the last checkpoint, and an idle ledger has nothing behind it.
//!
//! **Verification.** [`verify()`] recomputes the chain, compares it with the checkpoints, and names the first fault.
//!
//! **Restores.** A ledger that was restored from a backup goes on with a signed mark: checkpoints of the lost part are counted, not taken for a cut
//! tail, and the mark is reported.
//!
//! **Pruning.** [`prune()`] removes old rows that a checkpoint covers, and leaves a signed stub in their place, where the chain begins then.

pub mod chain;
pub mod checkpoint;
mod key;
pub mod prune;
pub(crate) mod record;
pub(crate) mod refusals;
pub(crate) mod relay_record;
pub(crate) mod restored;
mod settings;
pub(crate) mod signer;
mod stub;
mod syslog;
pub mod verify;

pub use checkpoint::Checkpoint;
pub use key::{AuditKey, AuditPublicKey, KeyFileFault, KeyFileProblem, public_path};
pub use prune::{PruneFault, PruneReport, PruneRequest, prune};
pub use restored::AuditRestore;
pub use settings::{AuditClock, AuditSettings, SYSLOG_SOCKET};
pub use signer::CheckpointFailures;
pub(crate) use stub::is_stub;
pub use verify::{
    AuditFault, AuditFlaw, AuditNode, AuditReadFault, AuditReport, CheckpointPlace, VerifySources, VerifyStep, verify,
};
