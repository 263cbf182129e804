//! From a configuration to everything a server needs: reads the files that it names and checks them against one another and against the clock.
//!
//! With any fault nothing changes: a [`Loaded`] is complete or does not exist. All faults of independent parts are found; a part that depends on a
//! faulty one is not checked.

mod authorities;
mod dates;
mod front;
mod https_roots;
mod lists;
mod loading;
mod memory;
mod process;
mod profiles;
mod registrar;
mod secrets;
mod shown;
mod sizes;
mod spec;
mod warning;

use std::sync::Arc;

use authority::{Ca, KeyPackageSigner, RingSigner};
use net::SystemRandom;
use pki::UnixTime;

use crate::config::{self, Configuration, ConfigurationFaults, Effective, LimitsSection, Sources};
use authorities::LoadedCa;
use loading::Loading;
use spec::{place_of, server_spec, shard_count};

#[cfg(test)]
pub(crate) use dates::CertificateRole;
#[cfg(test)]
pub(crate) use dates::testing;
pub(crate) use dates::{DatedCertificate, warnings_at};
pub(crate) use front::LoadedFront;
pub(crate) use process::{GoodAnswers, Process};
pub(crate) use registrar::{LoadedRegistrar, UpstreamReading, UpstreamStatus};
pub use sizes::{HandshakeSize, HandshakeSizes, SizeWarning};
pub use warning::Warning;

/// A configuration with everything that it names, ready to serve.
pub struct Loaded {
    pub(crate) config: Configuration,
    pub(crate) est: Arc<est::ServerConfig>,
    pub(crate) signer: Arc<RingSigner>,
    /// Signs packages of keys that the server makes.
    pub(crate) package_signer: Option<Arc<KeyPackageSigner>>,
    pub(crate) process: Arc<Process>,
    pub(crate) shards: u16,
    pub(crate) outside_max: usize,
    /// For the whole process: the configured number, or the number that fits into its memory.
    pub(crate) sessions_max: u32,
    warnings: Vec<Warning>,
    sizes: HandshakeSizes,
    /// The CAs of its profiles.
    pub(crate) issuers: Arc<[Arc<Ca>]>,
    /// What serves EST over HTTPS, if anything does.
    pub(crate) front: Option<LoadedFront>,
    /// Every CA of the configuration: one without a profile still has revocation lists.
    pub(crate) cas: Vec<Arc<Ca>>,
    /// Every certificate that the configuration names, for the tasks that watch their dates.
    pub(crate) certificates: Arc<[DatedCertificate]>,
    /// Of a Registrar.
    pub(crate) registrar: Option<Arc<LoadedRegistrar>>,
}

impl Loaded {
    /// Every effective value with its origin.
    #[must_use]
    pub fn effective(&self) -> &[Effective] {
        &self.config.effective
    }

    /// What is allowed but will cause trouble.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The server's handshake messages, with the sizes that a device has to reassemble.
    #[must_use]
    pub fn handshake_sizes(&self) -> &HandshakeSizes {
        &self.sizes
    }

    /// What the shards serve: the profiles, and the verifier of handshakes.
    #[must_use]
    pub fn est(&self) -> &est::ServerConfig {
        &self.est
    }

    /// Signs the keys that the server makes and encrypts; `None` if its key cannot.
    #[must_use]
    pub fn package_signer(&self) -> Option<&Arc<KeyPackageSigner>> {
        self.package_signer.as_ref()
    }

    /// The upstream CAs of a Registrar, by URL, in order of preference; `None` for a CA.
    #[must_use]
    pub fn upstreams(&self) -> Option<&[Arc<str>]> {
        self.registrar.as_ref().map(|registrar| &*registrar.upstreams)
    }

    /// The typed values.
    #[must_use]
    pub fn config(&self) -> &Configuration {
        &self.config
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// Reads, checks and prepares everything.
///
/// # Errors
/// Every fault of the file or, if the file has none, every fault of what it names.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigurationFaults> {
    load_into(&Arc::new(Process::new()), config::read(sources)?)
}

/// Like [`load()`], but for a running server. The tables of the shards were created for the limits of the start: those limits stay.
pub(crate) fn load_beside(
    sources: &Sources,
    running: &Arc<Process>,
    limits: &LimitsSection,
) -> Result<Reread, ConfigurationFaults> {
    let written = config::read(sources)?;
    let loaded = load_into(running, Configuration { limits: limits.clone(), ..written.clone() })?;
    Ok(Reread { loaded, written })
}

/// What a reload reads.
pub(crate) struct Reread {
    /// What can be put in force.
    pub(crate) loaded: Loaded,
    /// What the file says, limits included.
    pub(crate) written: Configuration,
}

fn load_into(process: &Arc<Process>, config: Configuration) -> Result<Loaded, ConfigurationFaults> {
    let mut loading = Loading {
        utc: UnixTime::now(),
        random: Arc::new(SystemRandom::new()),
        group_readable: config.server.group_readable,
        faults: Vec::new(),
        warnings: Vec::new(),
        certificates: Vec::new(),
    };
    loading.warn_of_labels_alone(&config.profiles);
    let loaded = loading.all(config, process);
    match loaded {
        Some(loaded) if loading.faults.is_empty() => {
            Ok(Loaded { warnings: loading.warnings, certificates: loading.certificates.into(), ..loaded })
        }
        _ => Err(ConfigurationFaults(loading.faults)),
    }
}

impl Loading {
    fn all(&mut self, config: Configuration, process: &Arc<Process>) -> Option<Loaded> {
        let shards = shard_count(config.server.shards);
        let shown = self.shown(&config);
        let cookie = self.cookie(&config, process);
        let mut signer = RingSigner::new(Arc::clone(&self.random) as Arc<dyn authority::Random>);
        let authorities: Vec<_> = config.cas.iter().map(|ca| self.authority(ca, &config, &mut signer)).collect();
        let authorities: Option<Vec<LoadedCa>> = authorities.into_iter().collect();
        let authorities = authorities?;
        if let Some(shown) = &shown {
            self.judge_as_devices_do(&config, shown, &authorities);
        }
        let (profiles, relayed) = match &config.registrar {
            None => (self.ca_profiles(&config, &authorities), None),
            Some(section) => {
                let relayed = self.relay(section, &config, process, (shards, shown.as_ref(), cookie.as_ref()));
                relayed.map(|(profiles, relayed)| (Some(profiles), Some(relayed)))?
            }
        };
        let issues = |ca: &&LoadedCa| config.profiles.iter().any(|profile| profile.spec.ca.value == ca.ca.name());
        let cas = authorities.iter().map(|it| Arc::clone(&it.ca)).collect();
        let issuers = authorities.iter().filter(issues).map(|it| Arc::clone(&it.ca)).collect();
        let shown = shown?;
        let mut spec = server_spec(&config, shards, shown.identity, cookie?, profiles?);
        spec.certificates = Arc::clone(&process.certificates);
        // Counts each piece of work that can be outside a shard at once: enrolments, and steps of handshakes.
        let enrolments_max = spec.limits.pending_max.saturating_add(spec.limits.repeats_max());
        let outside_max = enrolments_max.saturating_add(spec.dtls.half_open_max);
        let est = match est::ServerConfig::new(spec) {
            Ok(est) => Arc::new(est),
            Err(fault) => {
                self.faults.push(place_of(&fault, &config));
                return None;
            }
        };
        let front = self.front(&config, &est);
        let sizes = sizes::measure(&est, &self.random);
        let sessions_max = memory::sessions_max(config.limits.sessions_max);
        Some(Loaded {
            config,
            est,
            process: Arc::clone(process),
            signer: Arc::new(signer),
            package_signer: shown.package_signer,
            shards,
            outside_max,
            sessions_max,
            warnings: Vec::new(),
            issuers,
            front,
            cas,
            certificates: Arc::default(),
            registrar: relayed,
            sizes,
        })
    }
}
