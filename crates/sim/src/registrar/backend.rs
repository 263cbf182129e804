//! A Registrar behind the server: the relay, its record that may crash, and the way to its upstreams.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use authority::{
    Authority, Begun, Completion, Flights, LedgerFault, LedgerHealth, MemoryLedger, MemoryRelayLedger, Profile,
    ProfileSpec, RelayEnd, RelayEntry, RelayHolder, RelayId, RelayLedger, RelayListing, RelayProfile, RelayProfileSpec,
    RelayQuery, RelayRecord, RelayRequest, Relayed, RelayedKeys, Revocation, Revoked, UpstreamFacts,
};
use dtls::Now;
use est::JobId;
use pki::Digest;
use registrar::relay::{RelayAuthority, RelayParts, UpstreamPool};

use super::lies::Liar;
use super::scenario::RegistrarScenario;
use super::transport::{SimulatedUpstream, SimulatedUpstreams, Transport};
use super::upstream_ca::UpstreamCa;
use super::witness::{Witness, WitnessedRelay};
use crate::backend::{Backend, WorldParts};
use crate::chance::{Chance, DerivedRandom};
use crate::crashing::{CrashTally, CrashingLedger, CrashingStore, at_once};
use crate::faulty::FaultyLedger;
use crate::scenario::REPEAT_WINDOW;
use crate::trust::TestCa;

pub(super) struct RelayBackend {
    seed: u64,
    scenario: RegistrarScenario,
    profile: Arc<Profile>,
    rows: Arc<MemoryRelayLedger>,
    store: Arc<CrashingStore<MemoryRelayLedger>>,
    upstreams: Arc<SimulatedUpstreams>,
    witness: Arc<Witness>,
    process: RelayProcess,
    starts: u64,
}

/// What a crash takes.
struct RelayProcess {
    authority: Arc<dyn Authority<JobId>>,
    flights: Arc<Flights>,
    waiting: Arc<AtomicUsize>,
}

impl RelayBackend {
    pub(super) fn new(seed: u64, scenario: &RegistrarScenario, parts: &WorldParts) -> Self {
        let WorldParts { ca, agenda, .. } = parts;
        let registrar = ca.registrar();
        let made = |number| UpstreamCa::new(seed, number, scenario, &registrar, parts);
        let shared = made(0);
        let place = |(number, script)| {
            let number_of_ca = u16::try_from(number).unwrap_or(u16::MAX);
            let ca = if scenario.apart && number > 0 { made(number_of_ca) } else { Arc::clone(&shared) };
            SimulatedUpstream::new(seed, number, script, ca)
        };
        let rows: Arc<MemoryRelayLedger> = Arc::default();
        let witness = Arc::new(Witness::new(scenario.makes_keys));
        let upstreams = Arc::new(SimulatedUpstreams {
            agenda: agenda.clone(),
            liar: Liar::new(seed, ca),
            witness: Arc::clone(&witness),
            upstreams: scenario.upstreams.iter().copied().enumerate().map(place).collect(),
            rows: Arc::clone(&rows),
        });
        let chance = Chance::new(seed, "crashes");
        let store = CrashingStore::new(Arc::clone(&rows), scenario.base.crashes, chance, agenda.clone());
        let process = RelayProcess::start(seed, scenario, &store, &upstreams);
        let profile = profile(ca, scenario);
        Self { seed, scenario: *scenario, profile, rows, store, upstreams, witness, process, starts: 0 }
    }

    pub(super) fn witness(&self) -> &Witness {
        &self.witness
    }

    pub(super) fn crash_tally(&self) -> CrashTally {
        self.store.tally()
    }

    /// The CAs, each once.
    pub(super) fn cas(&self) -> impl Iterator<Item = &Arc<UpstreamCa>> {
        let count = if self.scenario.apart { self.upstreams.upstreams.len() } else { 1 };
        self.upstreams.upstreams.iter().take(count).map(SimulatedUpstream::ca)
    }

    /// What the Registrar has recorded.
    pub(super) fn rows(&self) -> Vec<RelayEntry> {
        let mut query = RelayQuery { rows_max: usize::MAX, ..RelayQuery::default() };
        let mut rows = Vec::new();
        loop {
            let page = at_once(|done| self.rows.relayed(query.clone(), done)).unwrap_or_default();
            rows.extend(page.rows);
            match page.next {
                Some(next) => query.after = Some(next),
                None => return rows,
            }
        }
    }

    /// Requests in flight, and requests that wait for an upstream.
    pub(super) fn in_flight(&self) -> [usize; 2] {
        [self.process.flights.len(), self.process.waiting.load(std::sync::atomic::Ordering::Relaxed)]
    }
}

impl Backend for RelayBackend {
    fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    fn authority(&self) -> &Arc<dyn Authority<JobId>> {
        &self.process.authority
    }

    fn is_down(&self) -> bool {
        self.store.is_down()
    }

    fn start(&mut self, _: Now) {
        self.starts += 1;
        // Random octets of a new process are others than those of the last one.
        let seed = self.seed ^ (self.starts << 48);
        self.process = RelayProcess::start(seed, &self.scenario, &self.store, &self.upstreams);
    }
}

impl RelayProcess {
    fn start(
        seed: u64,
        scenario: &RegistrarScenario,
        store: &Arc<CrashingStore<MemoryRelayLedger>>,
        upstreams: &Arc<SimulatedUpstreams>,
    ) -> Self {
        let process = store.open();
        let (agenda, chance) = (upstreams.agenda.clone(), Chance::new(seed, "relayed"));
        let relayed: Arc<dyn RelayLedger> = Arc::clone(&process) as Arc<dyn RelayLedger>;
        let faulty: FaultyLedger<dyn RelayLedger> = FaultyLedger::new(relayed, scenario.relayed, chance, agenda);
        let (flights, waiting): (Arc<Flights>, Arc<AtomicUsize>) = Default::default();
        let transport = Transport {
            upstreams: Arc::clone(upstreams),
            process,
            in_flight: Arc::default(),
            in_flight_max: scenario.in_flight_max,
        };
        let parts = RelayParts {
            ledger: Arc::new(MemoryLedger::default()),
            relayed: Arc::new(faulty),
            upstream: Arc::new(transport),
            pool: Arc::new(UpstreamPool::new(upstreams.upstreams.iter().map(|it| Arc::clone(it.name())))),
            random: Arc::new(DerivedRandom::new(seed, "registrar")),
            flights: Arc::clone(&flights),
            in_flight_max: scenario.in_flight_max,
            waiting: Arc::clone(&waiting),
            kept_keys: Arc::default(),
        };
        let relay = Arc::new(RelayAuthority::new(parts));
        let authority = WitnessedRelay { relay, witness: Arc::clone(&upstreams.witness) };
        Self { authority: Arc::new(authority), flights, waiting }
    }
}

/// The profile of the Registrar, with what its upstream says about itself.
fn profile(ca: &TestCa, scenario: &RegistrarScenario) -> Arc<Profile> {
    let profile = ProfileSpec {
        require_linking: scenario.base.linking,
        ..ProfileSpec::new("meters", vec![Arc::clone(ca.manufacturer())])
    };
    let issuing = Arc::clone(ca.ca().certificate());
    let facts = UpstreamFacts {
        ca_certificates: vec![Arc::clone(ca.root()), Arc::clone(&issuing)],
        ..UpstreamFacts::default()
    };
    let server_keys = if scenario.makes_keys { RelayedKeys::Here } else { RelayedKeys::NotServed };
    let spec =
        RelayProfileSpec { repeat_window: REPEAT_WINDOW, server_keys, ..RelayProfileSpec::new(profile, vec![issuing]) };
    Arc::new(RelayProfile::compile(spec, facts).expect("a profile"))
}

impl RelayLedger for CrashingLedger<MemoryRelayLedger> {
    fn begin(&self, requests: Vec<RelayRequest>, done: Completion<Result<Vec<Begun>, LedgerFault>>) {
        self.write(move |durable, done| durable.begin(requests, done), done);
    }

    fn record(&self, certificates: Vec<RelayRecord>, done: Completion<Result<Vec<Relayed>, LedgerFault>>) {
        self.write(move |durable, done| durable.record(certificates, done), done);
    }

    fn end(&self, exchanges: Vec<(RelayId, RelayEnd)>) {
        let effect = |durable: &MemoryRelayLedger, done: Completion<()>| {
            durable.end(exchanges);
            done(());
        };
        self.write(effect, Box::new(drop));
    }

    fn holders(&self, certificates: Vec<Digest>, done: Completion<Result<Vec<Option<RelayHolder>>, LedgerFault>>) {
        self.read(move |durable, done| durable.holders(certificates, done), done);
    }

    fn mark_revoked(
        &self,
        certificates: Vec<(Digest, Revocation)>,
        done: Completion<Result<Vec<Revoked>, LedgerFault>>,
    ) {
        self.write(move |durable, done| durable.mark_revoked(certificates, done), done);
    }

    fn delivered(&self, certificates: Vec<Digest>) {
        let effect = |durable: &MemoryRelayLedger, done: Completion<()>| {
            durable.delivered(certificates);
            done(());
        };
        self.write(effect, Box::new(drop));
    }

    fn relayed(&self, query: RelayQuery, done: Completion<Result<RelayListing, LedgerFault>>) {
        self.read(move |durable, done| durable.relayed(query, done), done);
    }

    fn relay_health(&self, done: Completion<Result<LedgerHealth, LedgerFault>>) {
        self.read(MemoryRelayLedger::relay_health, done);
    }
}
