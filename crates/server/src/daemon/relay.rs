//! The Registrar's part of the daemon: the transport to upstream CAs as a service of the runtime, and another service that keeps the answers to
//! `/crts` and `/att` up to date.
//!
//! ```text
//!   service "upstream refresh" ── cacerts, csrattrs, each interval ──► Process::learn ──news──► Reloader::republish ──► Snapshot
//!                                                                └──► a file beside the ledger, for the next start
//! ```
//!
//! While the upstream is away, its last answers are served.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use authority::{Authority, Executor, Flights, Ledger, MemoryRelayLedger, RelayLedger, UpstreamFacts};
use net::SystemRandom;
use pki::Certificate;
use registrar::relay::{
    HttpAnswer, HttpUpstream, HttpUpstreamFault, HttpUpstreamService, RelayAuthority, RelayParts, Upstream,
    UpstreamFailure, UpstreamOperation, UpstreamPool, UpstreamRequest, read_ca_certificates, read_csr_attributes,
};
use tokio::sync::oneshot;

use super::reload::Reloader;
use super::runtime::Runtime;
use super::snapshot::Snapshot;
use super::startup_fault::StartupFault;
use super::work::{Ticket, isolate};
use crate::config::{Configuration, ConfigurationFault, ConfigurationFaults, Location, Problem};
use crate::files::read_file;
use crate::load::{Loaded, LoadedRegistrar, Process};

/// After a failed refresh it is tried again this soon, and then less and less often.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What all configurations of a Registrar's process share.
pub(super) struct Relaying {
    relayed: Arc<dyn RelayLedger>,
    transport: Arc<HttpUpstream>,
    waiting: Arc<AtomicUsize>,
}

/// The transport before the runtime drives it.
pub(super) struct Transport {
    service: HttpUpstreamService,
    upstream: Arc<HttpUpstream>,
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
    let relaying = Relaying { relayed, transport: Arc::clone(&transport), waiting: Arc::default() };
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
            pool: Arc::new(UpstreamPool::new(registrar.upstreams.iter().cloned())),
            random,
            flights,
            in_flight_max: registrar.in_flight_max,
            waiting: Arc::clone(&self.waiting),
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

/// Starts the two services of a Registrar.
pub(super) fn serve(
    transport: Option<Transport>,
    loaded: &Loaded,
    (reloader, snapshot): (&Reloader, &Arc<ArcSwap<Snapshot>>),
    runtime: &Runtime,
) {
    let Some(Transport { service, upstream }) = transport else { return };
    // What an earlier process has kept.
    reloader.republish();
    runtime.spawn("upstream", service.serve());
    let refresh = Refresh {
        upstream,
        process: Arc::clone(&loaded.process),
        reloader: reloader.clone(),
        snapshot: Arc::clone(snapshot),
        file: facts_file(&loaded.config),
    };
    runtime.spawn("upstream refresh", refresh.run());
}

struct Refresh {
    upstream: Arc<HttpUpstream>,
    process: Arc<Process>,
    reloader: Reloader,
    snapshot: Arc<ArcSwap<Snapshot>>,
    file: Option<PathBuf>,
}

impl Refresh {
    async fn run(self) -> Infallible {
        let mut retry = RETRY_MIN;
        loop {
            let Some(registrar) = self.snapshot.load().registrar.clone() else {
                std::future::pending::<()>().await;
                continue;
            };
            let wait = if self.refresh(&registrar).await {
                retry = RETRY_MIN;
                registrar.refresh_interval
            } else {
                let wait = retry;
                retry = (retry * 2).min(RETRY_MAX);
                wait.min(registrar.refresh_interval)
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks for each label once; whether all answered.
    async fn refresh(&self, registrar: &LoadedRegistrar) -> bool {
        let mut labels: Vec<Option<&str>> =
            registrar.profiles.iter().map(|profile| profile.upstream_label.as_deref()).collect();
        labels.sort_unstable();
        labels.dedup();
        let (mut all, mut news) = (true, false);
        for label in labels {
            match self.fetch(registrar, label).await {
                Ok(facts) => news |= self.process.learn(label, facts),
                Err(why) => {
                    all = false;
                    let label = label.unwrap_or_default();
                    tracing::warn!(
                        label,
                        "cacerts and csrattrs of the upstream CA: {why}; the last answers are served"
                    );
                }
            }
        }
        if news {
            let file = self.file.clone();
            let pages = file.as_ref().map(|_| page(&self.process, registrar));
            let reloader = self.reloader.clone();
            // Compiling and writing block: not on the thread of all services.
            let _ended = tokio::task::spawn_blocking(move || {
                reloader.republish();
                if let (Some(file), Some(page)) = (file, pages)
                    && let Err(error) = write_whole(&file, page.as_bytes())
                {
                    tracing::warn!(file = %file.display(), "the upstream's answers cannot be kept for the next start: {error}");
                }
            })
            .await;
        }
        all
    }

    /// The first upstream that answers.
    async fn fetch(&self, registrar: &LoadedRegistrar, label: Option<&str>) -> Result<UpstreamFacts, String> {
        let mut why = "no upstream is configured".to_owned();
        for upstream in &registrar.upstreams {
            match self.fetch_from(upstream, label).await {
                Ok(facts) => return Ok(facts),
                Err(failed) => why = format!("{upstream}: {failed}"),
            }
        }
        Err(why)
    }

    async fn fetch_from(&self, upstream: &Arc<str>, label: Option<&str>) -> Result<UpstreamFacts, String> {
        let answer = self.ask(upstream, label, UpstreamOperation::CaCertificates).await;
        let certificates = read_ca_certificates(&answer.map_err(|failure| failure.to_string())?);
        let ca_certificates =
            certificates.map_err(|flaw| format!("cacerts: {flaw}"))?.into_iter().map(Arc::new).collect();
        let answer = self.ask(upstream, label, UpstreamOperation::CsrAttributes).await;
        let attributes = read_csr_attributes(&answer.map_err(|failure| failure.to_string())?);
        let csr_attributes = attributes.map_err(|flaw| format!("csrattrs: {flaw}"))?;
        Ok(UpstreamFacts { ca_certificates, csr_attributes })
    }

    async fn ask(
        &self,
        upstream: &Arc<str>,
        label: Option<&str>,
        operation: UpstreamOperation,
    ) -> Result<HttpAnswer, UpstreamFailure> {
        let request =
            UpstreamRequest { upstream: Arc::clone(upstream), operation, label: label.map(Arc::from), csr: Vec::new() };
        let (answer, answered) = oneshot::channel();
        self.upstream.send(
            request,
            Box::new(move |reply| {
                // The service that asked has ended.
                let _ = answer.send(reply.answer);
            }),
        );
        answered.await.unwrap_or(Err(UpstreamFailure::Unknown))
    }
}

/// Beside the ledger: `ledger.db.upstream.json`. A ledger in memory keeps nothing.
fn facts_file(config: &Configuration) -> Option<PathBuf> {
    let mut name = config.ledger_file()?.into_os_string();
    name.push(".upstream.json");
    Some(name.into())
}

/// More than any upstream says; a larger file is not ours.
const FACTS_BYTES_MAX: u64 = 1 << 22;

/// What is known, as text.
fn page(process: &Process, registrar: &LoadedRegistrar) -> String {
    let labels = registrar.profiles.iter().map(|profile| profile.upstream_label.as_deref());
    let entries: Vec<serde_json::Value> = labels
        .map(|label| {
            let facts = process.upstream_facts(label);
            let certificates: Vec<String> = facts.ca_certificates.iter().map(|it| hex::encode(it.der())).collect();
            serde_json::json!({
                "label": label,
                "ca_certificates": certificates,
                "csr_attributes": facts.csr_attributes.map(hex::encode),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(entries))
}

/// The file has its old contents or all of the new ones.
fn write_whole(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, file)
}

/// Takes what an earlier process has kept. A file that cannot be read is no reason not to start: the upstream will be asked.
fn remember(process: &Process, registrar: &LoadedRegistrar, file: &Path) {
    let Ok(bytes) = read_file(file, FACTS_BYTES_MAX) else { return };
    let Ok(serde_json::Value::Array(entries)) = serde_json::from_slice(&bytes) else {
        tracing::warn!(file = %file.display(), "what the upstream said before cannot be read; it is asked again");
        return;
    };
    for profile in &registrar.profiles {
        let label = profile.upstream_label.as_deref();
        let entry = entries.iter().find(|entry| entry.get("label").and_then(serde_json::Value::as_str) == label);
        let Some(entry) = entry else { continue };
        let bytes = |value: &serde_json::Value| value.as_str().and_then(|text| hex::decode(text).ok());
        let listed = entry.get("ca_certificates").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
        let certificates = listed.iter().filter_map(|value| Certificate::parse(&bytes(value)?).ok()).map(Arc::new);
        let csr_attributes = entry.get("csr_attributes").and_then(bytes);
        process.learn(label, UpstreamFacts { ca_certificates: certificates.collect(), csr_attributes });
    }
}
