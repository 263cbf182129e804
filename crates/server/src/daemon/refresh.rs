//! Keeps what a Registrar's upstream CA says about itself up to date: the answers to `/crts` and `/att`.
//!
//! ```text
//!   service "upstream refresh" ── cacerts, csrattrs ──► do they fit the profile? ──► Process::learn ──news──► Reloader::republish ──► Snapshot
//!      each interval, and after a reload                                 └──► a file beside the ledger, for the next start
//! ```
//!
//! While no upstream gives answers that fit the profile, its last good ones are served. How old they are is a metric.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use authority::{RelayProfile, RelayProfileSpec, UpstreamFacts};
use pki::Digest;
use registrar::relay::{
    HttpAnswer, HttpUpstream, Upstream, UpstreamFailure, UpstreamOperation, UpstreamRequest, read_ca_certificates,
    read_csr_attributes,
};
use rustls_pki_types::UnixTime;
use tokio::sync::oneshot;

use super::relay::{Transport, facts_file};
use super::reload::Reloader;
use super::runtime::Runtime;
use super::snapshot::Snapshot;
use crate::load::{GoodAnswers, Loaded, LoadedRegistrar, Process};

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
        useless_attributes: Mutex::default(),
        silent_attributes: Mutex::default(),
        served: Mutex::default(),
    };
    runtime.spawn("upstream refresh", refresh.run());
}

/// The URL of an upstream, and a label below it.
type UpstreamLabel = (Arc<str>, Option<String>);

struct Refresh {
    upstream: Arc<HttpUpstream>,
    process: Arc<Process>,
    reloader: Reloader,
    snapshot: Arc<ArcSwap<Snapshot>>,
    file: Option<PathBuf>,
    /// What was wrong with the last answer to csrattrs, by upstream and label: as many as the configurations of this process have.
    useless_attributes: Mutex<BTreeMap<UpstreamLabel, String>>,
    /// Those that were silent about csrattrs when they were asked last.
    silent_attributes: Mutex<BTreeSet<UpstreamLabel>>,
    /// The CA certificates that were handed out after the last round, by profile.
    served: Mutex<Option<Vec<Vec<Digest>>>>,
}

impl Refresh {
    async fn run(self) -> Infallible {
        let mut retry = RETRY_MIN;
        loop {
            let Some(registrar) = self.snapshot.load().registrar.clone() else {
                std::future::pending::<()>().await;
                continue;
            };
            let round = async {
                let wait = if self.refresh(&registrar).await {
                    retry = RETRY_MIN;
                    registrar.refresh_interval
                } else {
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_MAX);
                    wait.min(registrar.refresh_interval)
                };
                tokio::time::sleep(wait.min(registrar.until_next_end(UnixTime::now()))).await;
            };
            let is_over = tokio::select! {
                () = round => true,
                // Upstreams, labels or profiles may be others: neither the rest of this round nor its pause is worth waiting for.
                () = self.reloader.reloaded() => false,
            };
            if !is_over {
                retry = RETRY_MIN;
            }
        }
    }

    /// Asks for each label once; whether each profile has answers that fit it.
    async fn refresh(&self, registrar: &LoadedRegistrar) -> bool {
        let mut labels: BTreeMap<Option<&str>, Vec<&RelayProfileSpec>> = BTreeMap::new();
        for profile in &registrar.profiles {
            labels.entry(profile.upstream_label.as_deref()).or_default().push(profile);
        }
        let (mut all, mut learned) = (true, Learned::Nothing);
        for (label, profiles) in labels {
            let without = self.ask_all(registrar, (label, profiles), &mut learned).await;
            all &= without == 0;
        }
        let served = registrar.served_at(UnixTime::now());
        let before = self.served.lock().unwrap_or_else(PoisonError::into_inner).replace(served.clone());
        // A certificate may have expired, or all answers have become too old.
        let is_republished = learned == Learned::News || before.is_none_or(|before| before != served);
        if learned == Learned::Nothing && !is_republished {
            return all;
        }
        let file = self.file.clone().filter(|_| learned != Learned::Nothing);
        let page = file.as_ref().map(|_| page(registrar));
        let reloader = self.reloader.clone();
        // Compiling and writing block: not on the thread of all services.
        let _ended = tokio::task::spawn_blocking(move || {
            if is_republished {
                reloader.republish();
            }
            if let (Some(file), Some(page)) = (file, page)
                && let Err(error) = write_whole(&file, page.as_bytes())
            {
                tracing::warn!(file = %file.display(), "the upstream's answers cannot be kept for the next start: {error}");
            }
        })
        .await;
        all
    }

    /// Asks one upstream after the other, until the answers of one fit each of the profiles with this label. Where none answers all questions, the CA
    /// certificates of one that is silent about its CSR attributes will do. Returns for how many profiles nobody answered all of them.
    async fn ask_all(
        &self,
        registrar: &LoadedRegistrar,
        (label, mut profiles): (Option<&str>, Vec<&RelayProfileSpec>),
        learned: &mut Learned,
    ) -> usize {
        let mut failures: BTreeMap<&str, String> = BTreeMap::new();
        let mut silent = Vec::new();
        for upstream in &registrar.upstreams {
            let answer = self.fetch_from(registrar, upstream, label).await;
            profiles.retain(|spec| {
                let fits = answer.as_ref().map_err(String::clone).and_then(|heard| match heard {
                    Heard::All(answers) => self.take(registrar, spec, answers, learned),
                    Heard::NoAttributes(_, why) => Err(why.clone()),
                });
                fits.inspect_err(|why| {
                    let said = failures.entry(spec.profile.name.as_str()).or_default();
                    let separator = if said.is_empty() { "" } else { "; " };
                    said.push_str(&format!("{separator}{upstream}: {why}"));
                })
                .is_err()
            });
            if profiles.is_empty() {
                return 0;
            }
            if let Ok(Heard::NoAttributes(answers, why)) = answer
                && self.is_silent_again(registrar, upstream, label)
            {
                silent.push((answers, why));
            }
        }
        let unanswered = profiles.len();
        for (answers, why) in silent {
            let before = profiles.len();
            profiles.retain(|spec| self.take(registrar, spec, &answers, learned).is_err());
            if profiles.len() < before {
                let is_known = answers.facts.csr_attributes.is_some();
                self.note_useless(&answers.upstream, label, (Some(&why), is_known));
            }
        }
        for spec in &profiles {
            let name = spec.profile.name.as_str();
            self.process.learned_nothing(name, failures.remove(name).unwrap_or_default());
        }
        unanswered
    }

    /// Takes answers for a profile, or says why they do not fit it.
    fn take(
        &self,
        registrar: &LoadedRegistrar,
        spec: &RelayProfileSpec,
        answers: &GoodAnswers,
        learned: &mut Learned,
    ) -> Result<(), String> {
        let name = spec.profile.name.as_str();
        let served = answers.served_at(answers.at).ok_or("every certificate in cacerts has expired")?;
        RelayProfile::compile(spec.clone(), served).map_err(|fault| fault.to_string())?;
        let distrusted = registrar.distrusted_below(&answers.facts);
        let is_news = self.process.learn(name, answers.clone());
        if let Some(why) = distrusted.filter(|_| is_news) {
            tracing::warn!(
                profile = name,
                "devices that take cacerts of the upstream CA for their trust anchors will not trust this server any more: {why}; have its certificate issued below a root of the upstream CA"
            );
        }
        *learned = (*learned).max(if is_news { Learned::News } else { Learned::TheSame });
        Ok(())
    }

    /// Whether an upstream that is silent about its CSR attributes was so in an earlier round, or has said them before. One that it happens to once is
    /// asked again before devices are told that there are none.
    fn is_silent_again(&self, registrar: &LoadedRegistrar, upstream: &Arc<str>, label: Option<&str>) -> bool {
        let mut silent = self.silent_attributes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = silent.insert((Arc::clone(upstream), label.map(str::to_owned)));
        !is_first || registrar.said_before(upstream, label).is_some()
    }

    /// What this upstream says now. Where it says nothing of its CSR attributes that can be used, what it said before stays.
    async fn fetch_from(
        &self,
        registrar: &LoadedRegistrar,
        upstream: &Arc<str>,
        label: Option<&str>,
    ) -> Result<Heard, String> {
        let answer = self.ask(upstream, label, UpstreamOperation::CaCertificates).await;
        let certificates = read_ca_certificates(&answer.map_err(|failure| format!("cacerts: {failure}"))?);
        let ca_certificates =
            certificates.map_err(|flaw| format!("cacerts: {flaw}"))?.into_iter().map(Arc::new).collect();
        let (said, silence) = match self.ask(upstream, label, UpstreamOperation::CsrAttributes).await {
            Ok(answer) => {
                (read_csr_attributes(&answer).map_err(|flaw| format!("status {}: {flaw}", answer.status)), None)
            }
            Err(UpstreamFailure::TooLong) => (Err(UpstreamFailure::TooLong.to_string()), None),
            // Nobody knows what it would have said, and the next round asks again.
            Err(failure @ (UpstreamFailure::NotSent | UpstreamFailure::Crowded | UpstreamFailure::Unknown)) => {
                (Err(failure.to_string()), Some(format!("csrattrs: {failure}")))
            }
        };
        let at = UnixTime::now();
        let before = registrar.said_before(upstream, label);
        if silence.is_none() {
            self.note_useless(upstream, label, (said.as_ref().err(), before.is_some()));
            let mut silent = self.silent_attributes.lock().unwrap_or_else(PoisonError::into_inner);
            silent.remove(&(Arc::clone(upstream), label.map(str::to_owned)));
        }
        let (csr_attributes, attributes_at) = match (said, before) {
            (Ok(attributes), _) => (attributes, at),
            (Err(_), Some(before)) => (before.facts.csr_attributes, before.attributes_at),
            (Err(_), None) => (None, at),
        };
        let facts = UpstreamFacts { ca_certificates, csr_attributes };
        let (upstream, label) = (Arc::clone(upstream), label.map(str::to_owned));
        let answers = GoodAnswers { upstream, label, facts, at, attributes_at };
        Ok(match silence {
            None => Heard::All(answers),
            Some(why) => Heard::NoAttributes(answers, why),
        })
    }

    /// RFC 7030 §4.5: the function is optional, so whatever an upstream answers there, also a failure of its own, keeps no device from the others. It
    /// is logged when it begins and when it changes.
    fn note_useless(&self, upstream: &Arc<str>, label: Option<&str>, (why, is_known): (Option<&String>, bool)) {
        let mut useless = self.useless_attributes.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (Arc::clone(upstream), label.map(str::to_owned));
        let Some(why) = why else {
            useless.remove(&place);
            return;
        };
        if useless.get(&place) != Some(why) {
            let consequence = if is_known {
                "what it said before stays"
            } else {
                "devices get no CSR attributes (/att) for its profiles"
            };
            tracing::warn!(upstream = %upstream, label, "csrattrs of the upstream CA cannot be used: {why}; {consequence}");
            useless.insert(place, why.clone());
        }
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

/// What an upstream says about itself.
enum Heard {
    All(GoodAnswers),
    /// It is silent about its CSR attributes, for this reason: those of before, if any, are in their place.
    NoAttributes(GoodAnswers, String),
}

/// What a round of questions has brought.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Learned {
    Nothing,
    TheSame,
    News,
}

/// What is known, as text.
fn page(registrar: &LoadedRegistrar) -> String {
    let known = registrar.profiles.iter().filter_map(|spec| Some((spec, registrar.answers(spec)?)));
    let entries: Vec<serde_json::Value> = known
        .map(|(spec, GoodAnswers { upstream, label, facts, at, attributes_at })| {
            let certificates: Vec<String> = facts.ca_certificates.iter().map(|it| hex::encode(it.der())).collect();
            serde_json::json!({
                "profile": spec.profile.name,
                "upstream": *upstream,
                "label": label,
                "confirmed_at": at.as_secs(),
                "attributes_confirmed_at": attributes_at.as_secs(),
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
