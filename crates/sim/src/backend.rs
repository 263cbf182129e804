//! What stands behind the server of a world: an authority, its ledger, and how much of both outlives a crash.

use std::sync::Arc;

use authority::{Authority, CaAuthority, Flights, Ledger, MemoryLedger, Profile};
use dtls::Now;
use est::JobId;
use pki::issue::NodePrefix;

use crate::agenda::Agenda;
use crate::chance::{Chance, DerivedRandom};
use crate::clock::VirtualClock;
use crate::crashing::{CrashTally, CrashingStore};
use crate::faulty::{FaultyLedger, FaultySigner};
use crate::scenario::{REPEAT_WINDOW, Scenario};
use crate::trust::TestCa;

/// Rows of the simulated ledger: many more than any scenario needs.
const ROWS_MAX: usize = 10_000;

/// What stands behind the server of a [`World`](crate::World).
pub trait Backend {
    /// The profile that the server serves.
    fn profile(&self) -> &Arc<Profile>;

    /// The authority of the process that runs.
    fn authority(&self) -> &Arc<dyn Authority<JobId>>;

    /// Whether the process has crashed and was not started again.
    fn is_down(&self) -> bool;

    /// Starts the process again: nothing is left but what was durable.
    fn start(&mut self, now: Now);
}

/// What the backend of a world shares with it.
pub(crate) struct WorldParts {
    pub(crate) clock: VirtualClock,
    pub(crate) ca: Arc<TestCa>,
    pub(crate) agenda: Agenda,
}

impl WorldParts {
    pub(crate) fn new(seed: u64) -> Self {
        let clock = VirtualClock::start();
        Self { clock, ca: Arc::new(TestCa::new(seed)), agenda: Agenda::new(clock.now().mono) }
    }
}

/// A CA with a ledger in memory that may crash, and a ledger and a signer with faults.
pub struct CaBackend {
    seed: u64,
    scenario: Scenario,
    ca: Arc<TestCa>,
    agenda: Agenda,
    profile: Arc<Profile>,
    ledger: Arc<MemoryLedger>,
    /// What the server crashes with, if it does.
    store: Option<Arc<CrashingStore>>,
    authority: Arc<dyn Authority<JobId>>,
    starts: u64,
}

impl CaBackend {
    pub(crate) fn new(seed: u64, scenario: &Scenario, WorldParts { clock, ca, agenda }: &WorldParts) -> Self {
        let profile = ca.profile(|spec| {
            spec.repeat_window = REPEAT_WINDOW;
            spec.server_keys = true;
            spec.profile.require_linking = scenario.linking;
        });
        let ledger = Arc::new(MemoryLedger::new(ROWS_MAX));
        let crashing = || {
            let chance = Chance::new(seed, "crashes");
            CrashingStore::new(Arc::clone(&ledger), scenario.crashes, chance, agenda.clone())
        };
        let store = (scenario.crashes > 0).then(crashing);
        let open: Arc<dyn Ledger> = match &store {
            Some(store) => store.start(clock.now().utc),
            None => Arc::clone(&ledger) as Arc<dyn Ledger>,
        };
        Self {
            seed,
            scenario: *scenario,
            ca: Arc::clone(ca),
            agenda: agenda.clone(),
            authority: authority(seed, scenario, ca, open, agenda),
            profile,
            ledger,
            store,
            starts: 0,
        }
    }

    /// What the ledger went through, if it crashes.
    pub(crate) fn crash_tally(&self) -> CrashTally {
        self.store.as_ref().map_or_else(CrashTally::default, |store| store.tally())
    }

    /// The ledger, wrapped in its faults.
    pub(crate) fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }
}

impl Backend for CaBackend {
    fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    fn authority(&self) -> &Arc<dyn Authority<JobId>> {
        &self.authority
    }

    fn is_down(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.is_down())
    }

    fn start(&mut self, now: Now) {
        let Some(store) = &self.store else { return };
        let ledger = store.start(now.utc);
        self.starts += 1;
        // Random octets of a new process are others than those of the last one.
        let seed = self.seed ^ (self.starts << 48);
        self.authority = authority(seed, &self.scenario, &self.ca, ledger, &self.agenda);
    }
}

fn authority(
    seed: u64,
    scenario: &Scenario,
    ca: &TestCa,
    ledger: Arc<dyn Ledger>,
    agenda: &Agenda,
) -> Arc<dyn Authority<JobId>> {
    let chance = |domain| Chance::new(seed, domain);
    let random = |domain| Arc::new(DerivedRandom::new(seed, domain));
    let faulty = FaultyLedger::new(ledger, scenario.ledger, chance("ledger"), agenda.clone());
    let signer = Arc::new(ca.signer(random("signature")));
    let signer = FaultySigner::new(signer, scenario.signer, chance("signer"), agenda.clone());
    let ledger: Arc<dyn Ledger> = Arc::new(faulty);
    let node = NodePrefix::new(1);
    Arc::new(CaAuthority::new(ledger, Arc::new(signer), random("authority"), node, Arc::new(Flights::default())))
}
