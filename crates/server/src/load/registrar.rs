//! What a Registrar needs: its identity before upstream CAs, whom it trusts there, and its profiles.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use authority::{Profile, RelayProfile, RelayProfileFault, RelayProfileSpec, UpstreamFacts};
use pki::{Certificate, Digest, UnixTime};
use registrar::relay::{HttpUpstream, HttpUpstreamSpec, UpstreamPool};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::dates::{CertificateRole, Gravity};
use super::loading::Loading;
use super::process::{GoodAnswers, Process};
use super::secrets::PRIVATE_KEY;
use super::shown::ServerChain;
use super::spec::server_spec;
use super::warning::Warning;
use crate::config::{self, Configuration, Problem, ProfileSection, Read, RelaySection, UpstreamSection};

/// Rebuilds the server's configuration from other profiles.
pub(crate) type Rebuild = Box<dyn Fn(Vec<Arc<Profile>>) -> Result<est::ServerConfig, est::ConfigFault> + Send + Sync>;

/// What is known of the upstream CAs for one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamStatus {
    /// The name of the profile.
    pub(crate) profile: Arc<str>,
    /// When an upstream last said what the profile hands out, in seconds since 1970; 0 while nothing is known.
    pub(crate) confirmed_at: u64,
    /// Whether the last attempt to ask brought nothing that can be handed out.
    pub(crate) has_failed: bool,
}

/// What is known of the upstream CAs of a Registrar.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamReading {
    /// Their answers, for each profile.
    pub(crate) answers: Vec<UpstreamStatus>,
    /// Each of them, and whether it rests after a failure.
    pub(crate) resting: Vec<(Arc<str>, bool)>,
}

/// A Registrar's part of a configuration.
pub(crate) struct LoadedRegistrar {
    /// The URLs of the upstreams.
    pub(crate) upstreams: Vec<Arc<str>>,
    /// Their health.
    pub(crate) pool: Arc<UpstreamPool>,
    pub(crate) timeout: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) refresh_interval: Duration,
    /// The profiles, without what the upstream says.
    pub(crate) profiles: Vec<RelayProfileSpec>,
    pub(crate) rebuild: Rebuild,
    process: Arc<Process>,
    shown: ServerChain,
    trust: Vec<CertificateDer<'static>>,
    certificate: Vec<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl LoadedRegistrar {
    /// What the transport is made from.
    pub(crate) fn transport(&self) -> HttpUpstreamSpec {
        HttpUpstreamSpec {
            trust: self.trust.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            timeout: self.timeout,
        }
    }

    /// The profiles with what the upstream says now.
    pub(crate) fn compile(&self) -> Result<Vec<Arc<Profile>>, RelayProfileFault> {
        let compiled = self.profiles.iter().map(|spec| self.compile_one(spec).map(Arc::new));
        compiled.collect()
    }

    /// Answers that were good for a profile of this name fit no longer once a reload has changed its issuers: then they are not published.
    fn compile_one(&self, spec: &RelayProfileSpec) -> Result<Profile, RelayProfileFault> {
        let facts = self.answers(spec).and_then(|good| good.served_at(UnixTime::now())).unwrap_or_default();
        RelayProfile::compile(spec.clone(), facts).or_else(|fault| {
            let without = RelayProfile::compile(spec.clone(), UpstreamFacts::default())?;
            tracing::warn!(profile = %spec.profile.name, "the upstream's answer to cacerts cannot be used: {fault}");
            Ok(without)
        })
    }

    /// Why devices that take these answers for their trust anchors (RFC 9148 §9.1) would not trust this server any more.
    pub(crate) fn distrusted_below(&self, facts: &UpstreamFacts) -> Option<String> {
        self.shown.distrusted_below(facts.ca_certificates.clone(), UnixTime::now())
    }

    /// What an upstream of this configuration has said under the profile's label.
    pub(crate) fn answers(&self, spec: &RelayProfileSpec) -> Option<GoodAnswers> {
        let good = self.process.upstream_answers(&spec.profile.name).good?;
        (good.label == spec.upstream_label && self.upstreams.contains(&good.upstream)).then_some(good)
    }

    /// What this upstream has said under this label, for whichever profile.
    pub(crate) fn said_before(&self, upstream: &str, label: Option<&str>) -> Option<GoodAnswers> {
        let of_label = self.profiles.iter().filter(|spec| spec.upstream_label.as_deref() == label);
        of_label.filter_map(|spec| self.answers(spec)).find(|good| *good.upstream == *upstream)
    }

    /// The CA certificates that are handed out at this time, by profile.
    pub(crate) fn served_at(&self, now: UnixTime) -> Vec<Vec<Digest>> {
        let digests = |facts: UpstreamFacts| facts.ca_certificates.iter().map(|it| it.digest()).collect();
        let served = |spec| self.answers(spec)?.served_at(now).map(digests);
        self.profiles.iter().map(|spec| served(spec).unwrap_or_default()).collect()
    }

    /// How long it takes until less is handed out, if nothing is learned.
    pub(crate) fn until_next_end(&self, now: UnixTime) -> Duration {
        let ends = self.profiles.iter().filter_map(|spec| self.answers(spec)?.next_end(now));
        ends.min().map_or(Duration::MAX, |end| Duration::from_secs(end - now.as_secs()))
    }

    /// For the metrics.
    pub(crate) fn reading(&self) -> UpstreamReading {
        let status = |spec: &RelayProfileSpec| UpstreamStatus {
            profile: spec.profile.name.as_str().into(),
            confirmed_at: self.answers(spec).map_or(0, |good| good.at.as_secs()),
            has_failed: self.process.upstream_answers(&spec.profile.name).failure.is_some(),
        };
        UpstreamReading { answers: self.profiles.iter().map(status).collect(), resting: self.pool.resting() }
    }
}

/// What is read before the profiles are compiled.
struct RegistrarIdentity {
    trust: Vec<CertificateDer<'static>>,
    certificate: Vec<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
}

impl Loading {
    /// The profiles of a Registrar, and what it needs besides.
    pub(super) fn relay(
        &mut self,
        section: &UpstreamSection,
        config: &Configuration,
        process: &Arc<Process>,
        (shards, shown, cookie): (u16, Option<&ServerChain>, Option<&dtls::CookieKeys>),
    ) -> Option<(Vec<Arc<Profile>>, Arc<LoadedRegistrar>)> {
        let identity = self.own_identity(section, config);
        let sections = config.profiles.iter().filter_map(|profile| Some((profile, profile.relay.as_ref()?)));
        let specs: Vec<_> = sections.map(|(profile, relay)| self.relay_profile(profile, relay, config)).collect();
        let specs: Option<Vec<RelayProfileSpec>> = specs.into_iter().collect();
        let (shown, cookie) = (shown?.clone(), cookie?.clone());
        let served = Arc::clone(&shown.identity);
        let (config, certificates) = (config.clone(), Arc::clone(&process.certificates));
        let rebuild: Rebuild = Box::new(move |profiles| {
            let mut spec = server_spec(&config, shards, Arc::clone(&served), cookie.clone(), profiles);
            spec.certificates = Arc::clone(&certificates);
            est::ServerConfig::new(spec)
        });
        let loaded = Arc::new(identity?.with(section, specs?, (rebuild, Arc::clone(process), shown)));
        // Each has been compiled once without what the upstream says.
        let profiles = loaded.compile().ok()?;
        Some((profiles, loaded))
    }

    fn own_identity(&mut self, section: &UpstreamSection, config: &Configuration) -> Option<RegistrarIdentity> {
        let file = &config.file;
        let trust: Vec<_> =
            section.trust.value.iter().map(|path| self.https_roots_in(&section.trust, path, file)).collect();
        let chain = self.chain_in(&section.certificate, &section.certificate.value, file);
        let key = self.private_key(&section.key, file);
        let (trust, (certificate, listed), (key, key_path)) =
            (trust.into_iter().collect::<Option<Vec<_>>>()?, chain?, key?);
        let path = config::from_file(file, &section.certificate.value);
        let leaf = &listed.usable.first()?.certificate;
        self.check_validity(&section.certificate, path.clone(), CertificateRole::Registrar, leaf, Gravity::Warning);
        let random = Arc::clone(&self.random);
        let mut spki = None;
        authority::Random::with_secure(&*random, &mut |source| {
            spki = pki::SigningKey::from_pkcs8(key.pkcs8(), source).ok().map(|key| key.spki().to_vec());
        });
        if spki.as_deref() != Some(leaf.spki()) {
            self.faults.push(section.key.fault(Problem::KeyMismatch { certificate: path, key: key_path }));
            return None;
        }
        // RFC 7030 §3.7: an upstream lets a client with id-kp-cmcRA speak for others.
        if !leaf.is_registration_authority() {
            self.warnings.push(Warning {
                key: section.certificate.key.clone(),
                what: format!(
                    "{} lacks id-kp-cmcRA: an upstream CA that asks for it will not let this Registrar speak for its devices",
                    path.display()
                ),
                remedy: "have it reissued with the extended key usages clientAuth and id-kp-cmcRA (1.3.6.1.5.5.7.3.28)",
            });
        }
        let identity =
            RegistrarIdentity { trust: trust.concat(), certificate, key: Zeroizing::new(key.pkcs8().to_vec()) };
        let trial = HttpUpstreamSpec {
            trust: identity.trust.clone(),
            certificate: identity.certificate.clone(),
            key: identity.key.clone(),
            timeout: section.timeout,
        };
        if let Err(fault) = HttpUpstream::new(trial) {
            let path = config::from_file(file, &section.certificate.value);
            let problem = Problem::Content { path, wanted: PRIVATE_KEY, reason: fault.to_string() };
            self.faults.push(section.key.fault(problem));
            return None;
        }
        Some(identity)
    }

    fn upstream_cas(
        &mut self,
        named: &Read<Vec<std::path::PathBuf>>,
        path: &Path,
        file: &Path,
    ) -> Option<Vec<Arc<Certificate>>> {
        let certificates = self.trusted_in(named, path, file)?;
        for certificate in &certificates {
            let path = config::from_file(file, path);
            self.check_validity(named, path, CertificateRole::UpstreamCa, certificate, Gravity::Warning);
        }
        Some(certificates)
    }

    /// A profile without what the upstream says.
    fn relay_profile(
        &mut self,
        section: &ProfileSection,
        relay: &RelaySection,
        config: &Configuration,
    ) -> Option<RelayProfileSpec> {
        let file = &config.file;
        let manufacturers: Vec<_> =
            section.manufacturers.value.iter().map(|path| self.manufacturers(section, path, file)).collect();
        let issuers: Vec<_> =
            relay.issuers.value.iter().map(|path| self.upstream_cas(&relay.issuers, path, file)).collect();
        let manufacturers = manufacturers.into_iter().collect::<Option<Vec<_>>>()?.concat();
        let issuers = issuers.into_iter().collect::<Option<Vec<_>>>()?.concat();
        let mut profile = section.spec.profile.clone();
        profile.manufacturers = manufacturers;
        profile.shows_manufacturer =
            config.profiles.iter().any(|other| other.manufacturers.value != section.manufacturers.value);
        let ca = &section.spec;
        let spec = RelayProfileSpec {
            upstream_label: relay.upstream_label.as_ref().map(|label| label.value.clone()),
            key_types: ca.key_types,
            san: ca.san.clone(),
            allow_identity_key: ca.allow_identity_key,
            server_keys: relay.server_keys,
            repeat_window: ca.repeat_window,
            certificates_per_device_max: ca.certificates_per_device_max,
            ..RelayProfileSpec::new(profile, issuers)
        };
        if let Err(fault) = RelayProfile::compile(spec.clone(), UpstreamFacts::default()) {
            let remedy =
                "list the certificates of the CAs that issue upstream, and manufacturers that are not among them";
            self.faults.push(relay.issuers.fault(Problem::Conflict { what: fault.to_string(), remedy }));
            return None;
        }
        Some(spec)
    }
}

impl RegistrarIdentity {
    fn with(
        self,
        section: &UpstreamSection,
        profiles: Vec<RelayProfileSpec>,
        (rebuild, process, shown): (Rebuild, Arc<Process>, ServerChain),
    ) -> LoadedRegistrar {
        let upstreams: Vec<Arc<str>> = section.upstreams.value.iter().map(|url| Arc::from(url.as_str())).collect();
        LoadedRegistrar {
            pool: Arc::new(UpstreamPool::new(upstreams.iter().cloned())),
            upstreams,
            timeout: section.timeout,
            in_flight_max: usize::try_from(section.in_flight_max).unwrap_or(usize::MAX),
            refresh_interval: section.refresh_interval,
            profiles,
            rebuild,
            process,
            shown,
            trust: self.trust,
            certificate: self.certificate,
            key: self.key,
        }
    }
}
