//! The Registrar's part of the daemon: its authority, and the transport to upstream CAs. `refresh.rs` starts what runs on the runtime.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use authority::{Authority, Executor, Flights, Ledger, MemoryRelayLedger, RelayLedger, UpstreamFacts};
use net::SystemRandom;
use pki::Certificate;
use pki::csr_attributes::CsrAttributes;
use registrar::relay::{
    HttpUpstream, HttpUpstreamFault, HttpUpstreamService, KeptKeys, RelayAuthority, RelayParts, Upstream,
};
use rustls_pki_types::UnixTime;

use super::startup_fault::StartupFault;
use super::work::{Ticket, isolate};
use crate::config::{Configuration, ConfigurationFault, ConfigurationFaults, Location, Problem};
use crate::files::read_file;
use crate::load::{GoodAnswers, Loaded, LoadedRegistrar, Process};

/// What all configurations of a Registrar's process share.
pub(super) struct Relaying {
    relayed: Arc<dyn RelayLedger>,
    transport: Arc<HttpUpstream>,
    waiting: Arc<AtomicUsize>,
    kept_keys: Arc<KeptKeys>,
}

/// The transport before the runtime drives it.
pub(super) struct Transport {
    pub(super) service: HttpUpstreamService,
    pub(super) upstream: Arc<HttpUpstream>,
}

/// Makes the transport of a Registrar; `None` for a CA.
pub(super) fn start(
    loaded: &Loaded,
    relayed: Option<Arc<dyn RelayLedger>>,
) -> Result<Option<(Relaying, Transport)>, StartupFault> {
    let Some(registrar) = &loaded.registrar else { return Ok(None) };
    let relayed = relayed.unwrap_or_else(|| {
        tracing::warn!(
            "what is relayed is kept in memory: after a restart no relayed certificate authenticates its device"
        );
        Arc::new(MemoryRelayLedger::default())
    });
    let (transport, service) =
        HttpUpstream::new(registrar.transport()).map_err(|fault| StartupFault::System(io::Error::other(fault)))?;
    let transport = Arc::new(transport);
    if let Some(file) = facts_file(&loaded.config) {
        remember(&loaded.process, registrar, &file);
    }
    let relaying =
        Relaying { relayed, transport: Arc::clone(&transport), waiting: Arc::default(), kept_keys: Arc::default() };
    Ok(Some((relaying, Transport { service, upstream: transport })))
}

impl Relaying {
    pub(super) fn renew(&self, registrar: &LoadedRegistrar, config: &Configuration) -> Result<(), ConfigurationFaults> {
        self.transport.renew(registrar.transport()).map_err(|fault| unusable(config, &fault))
    }

    pub(super) fn authority(
        &self,
        registrar: &LoadedRegistrar,
        (ledger, random, flights): (Arc<dyn Ledger>, Arc<SystemRandom>, Arc<Flights>),
        executor: Arc<dyn Executor>,
    ) -> Arc<dyn Authority<Ticket>> {
        let parts = RelayParts {
            ledger,
            relayed: Arc::clone(&self.relayed),
            upstream: Arc::clone(&self.transport) as Arc<dyn Upstream>,
            pool: Arc::clone(&registrar.pool),
            random,
            flights,
            in_flight_max: registrar.in_flight_max,
            waiting: Arc::clone(&self.waiting),
            kept_keys: Arc::clone(&self.kept_keys),
        };
        Arc::new(RelayAuthority::new(parts).isolating(isolate).executing_on(executor))
    }
}

fn unusable(config: &Configuration, fault: &HttpUpstreamFault) -> ConfigurationFaults {
    let problem = Problem::Conflict { what: fault.to_string(), remedy: "check certificate, key and trust" };
    ConfigurationFaults(vec![ConfigurationFault {
        place: Location::File(config.file.clone()),
        key: "authority".into(),
        problem,
    }])
}

/// Devices of a CA would be strangers to a Registrar, and the other way round.
pub(super) fn kind_fault(config: &Configuration) -> ConfigurationFault {
    let problem = Problem::Conflict {
        what: "a running server does not change from a CA to a Registrar, or back".into(),
        remedy: "restart the server",
    };
    ConfigurationFault { place: Location::File(config.file.clone()), key: "authority.kind".into(), problem }
}

/// Beside the ledger: `ledger.db.upstream.json`. A ledger in memory keeps nothing.
pub(super) fn facts_file(config: &Configuration) -> Option<PathBuf> {
    let mut name = config.ledger_file()?.into_os_string();
    name.push(".upstream.json");
    Some(name.into())
}

/// More than any upstream says; a larger file is not ours.
const FACTS_BYTES_MAX: u64 = 1 << 22;

/// Takes what an earlier process has kept. A file that cannot be read is no reason not to start: the upstream will be asked.
fn remember(process: &Process, registrar: &LoadedRegistrar, file: &Path) {
    let Ok(bytes) = read_file(file, FACTS_BYTES_MAX) else { return };
    let Ok(serde_json::Value::Array(entries)) = serde_json::from_slice(&bytes) else {
        tracing::warn!(file = %file.display(), "what the upstream said before cannot be read; it is asked again");
        return;
    };
    for profile in &registrar.profiles {
        let name = profile.profile.name.as_str();
        let text = |entry: &serde_json::Value, key: &str| entry.get(key)?.as_str().map(str::to_owned);
        let of_profile = |entry: &&serde_json::Value| text(entry, "profile").as_deref() == Some(name);
        let Some(entry) = entries.iter().find(of_profile) else { continue };
        let bytes = |value: &serde_json::Value| value.as_str().and_then(|text| hex::decode(text).ok());
        let listed = entry.get("ca_certificates").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let certificates = listed.iter().filter_map(|value| Certificate::parse(&bytes(value)?).ok()).map(Arc::new);
        let csr_attributes =
            entry.get("csr_attributes").and_then(bytes).filter(|der| CsrAttributes::parse(der).is_ok());
        let facts = UpstreamFacts { ca_certificates: certificates.collect(), csr_attributes };
        let (Some(upstream), Some(at)) =
            (text(entry, "upstream"), entry.get("confirmed_at").and_then(serde_json::Value::as_u64))
        else {
            continue;
        };
        // A file of an earlier release has one time for both.
        let attributes_at = entry.get("attributes_confirmed_at").and_then(serde_json::Value::as_u64).unwrap_or(at);
        let [at, attributes_at] = [at, attributes_at].map(|it| UnixTime::since_unix_epoch(Duration::from_secs(it)));
        let label = text(entry, "label");
        process.learn(name, GoodAnswers { upstream: upstream.into(), label, facts, at, attributes_at });
    }
}
