//! The authority that issues itself, and its parts. `issuer.rs` describes the order in which it issues.

use std::fmt;
use std::sync::Arc;

use pki::issue::NodePrefix;

use crate::batch::Isolate;
use crate::executor::{Executor, Inline};
use crate::in_flight::Flights;
use crate::key_protection::KeyPackageSigner;
use crate::ledger::Ledger;
use crate::random::Random;
use crate::signer::Signer;

/// Issues with the keys of CAs of ours, between a ledger and a signer, for profiles that [`CaProfile::compile`](crate::CaProfile::compile) made.
/// Shared by all shards and profiles.
pub struct CaAuthority {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) node: NodePrefix,
    pub(crate) flights: Arc<Flights>,
    pub(crate) isolate: Isolate,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) package_signer: Option<Arc<KeyPackageSigner>>,
}

impl CaAuthority {
    /// An authority whose serials begin with `node`, which no other node of the same CA may use. `flights` belong to the process: every
    /// authority over one ledger shares them.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        signer: Arc<dyn Signer>,
        random: Arc<dyn Random>,
        node: NodePrefix,
        flights: Arc<Flights>,
    ) -> Self {
        Self {
            ledger,
            signer,
            random,
            node,
            flights,
            isolate: |step| step(),
            executor: Arc::new(Inline),
            package_signer: None,
        }
    }

    /// Runs each step of each job inside `isolate`. If `isolate` catches a panic, the job is answered with
    /// [`Busy::Dropped`](crate::Busy::Dropped), its claim is freed, and the other jobs of its batch continue. Without `isolate` a panic goes
    /// through to the caller of [`Authority::submit`](crate::Authority::submit).
    #[must_use]
    pub fn isolating(self, isolate: Isolate) -> Self {
        Self { isolate, ..self }
    }

    /// Continues on `executor` if a ledger or signer has completed on a separate thread: one switch of threads for a whole batch, and none if it
    /// completed on a thread of the executor. Each switch carries jobs in flight, so there are at most as many switches as jobs. Without an
    /// executor each step runs on the thread that completed the previous one.
    #[must_use]
    pub fn executing_on(self, executor: Arc<dyn Executor>) -> Self {
        Self { executor, ..self }
    }

    /// Signs the keys that it makes and encrypts with the key of the server. Without it, no key is encrypted, and a request that wants it so is
    /// refused.
    #[must_use]
    pub fn signing_key_packages(self, signer: Arc<KeyPackageSigner>) -> Self {
        Self { package_signer: Some(signer), ..self }
    }

    /// Enrolments that have been claimed and have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }
}

impl fmt::Debug for CaAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaAuthority").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
