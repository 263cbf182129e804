//! The authority that issues itself: what it is made of. The order in which it issues is that of `issuer.rs`.

use std::fmt;
use std::sync::Arc;

use pki::issue::NodePrefix;

use crate::batch::Isolate;
use crate::executor::{Executor, Inline};
use crate::in_flight::Flights;
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
    ) -> CaAuthority {
        CaAuthority { ledger, signer, random, node, flights, isolate: |step| step(), executor: Arc::new(Inline) }
    }

    /// Does each step of each job inside of `isolate`: where it catches a panic, that job is answered with
    /// [`Busy::Dropped`](crate::Busy::Dropped), its claim is freed, and the other jobs of its batch go on. Without it a panic goes through to
    /// the caller of [`Authority::submit`](crate::Authority::submit).
    #[must_use]
    pub fn isolating(self, isolate: Isolate) -> CaAuthority {
        CaAuthority { isolate, ..self }
    }

    /// Goes on with `executor` where a ledger or signer has completed on a thread of its own: one hop for a whole batch, and none where it
    /// completed on a thread of the executor. Every hop holds jobs that are in flight, so that there are no more of them than those. Without
    /// it each step runs on the thread that completed the one before.
    #[must_use]
    pub fn executing_on(self, executor: Arc<dyn Executor>) -> CaAuthority {
        CaAuthority { executor, ..self }
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
