//! Keeps what a Registrar's upstream CA says about itself up to date: the answers to `/crts` and `/att`.
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
use std::time::Duration;

use arc_swap::ArcSwap;
use authority::UpstreamFacts;
use registrar::relay::{
    HttpAnswer, HttpUpstream, Upstream, UpstreamFailure, UpstreamOperation, UpstreamRequest, read_ca_certificates,
    read_csr_attributes,
};
use tokio::sync::oneshot;

use super::relay::{Transport, facts_file};
use super::reload::Reloader;
use super::runtime::Runtime;
use super::snapshot::Snapshot;
use crate::load::{Loaded, LoadedRegistrar, Process};

/// After a failed refresh it is tried again this soon, and then less and less often.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

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
