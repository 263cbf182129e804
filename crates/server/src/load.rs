//! From a configuration to everything a server needs: the files it names are read, checked against one another and against the clock.
//!
//! Nothing changes if anything is faulty: a [`Loaded`] exists whole or not at all. Faults of independent parts are all found; a part that depends
//! on a faulty one is not checked.

mod authorities;
mod dates;
mod lists;
mod memory;
mod secrets;
mod shown;
mod sizes;

use std::path::Path;
use std::sync::Arc;

use authority::{CaProfile, CaProfileFault, CaProfileSpec, IssuedNames, Profile, ProfileFault, RingSigner, Unrecorded};
use est::resources::TreeFault;
use est::{CertificateCache, ConfigFault, NameAuthorities, ServerSpec};
use net::SystemRandom;
use pki::{Certificate, UnixTime};
use zeroize::Zeroizing;

use crate::config::{
    self, Configuration, ConfigurationFault, ConfigurationFaults, Effective, LimitsSection, Location, Problem,
    ProfileSection, Sources,
};
use crate::secret_file::GroupReadable;
use authorities::LoadedCa;
use dates::Gravity;
#[cfg(test)]
pub(crate) use dates::testing;
pub(crate) use dates::{CertificateRole, DatedCertificate, warnings_at};

pub use sizes::{HandshakeSize, HandshakeSizes, SizeWarning};

/// A configuration with all that it names, ready to serve.
pub struct Loaded {
    pub(crate) config: Configuration,
    pub(crate) est: Arc<est::ServerConfig>,
    pub(crate) signer: Arc<RingSigner>,
    pub(crate) process: Arc<Process>,
    pub(crate) shards: u16,
    pub(crate) outside_max: usize,
    /// Of the whole process: configured, or what its memory has room for.
    pub(crate) sessions_max: u32,
    warnings: Vec<Warning>,
    sizes: HandshakeSizes,
    /// Every certificate that the configuration names, for those who watch its dates.
    pub(crate) certificates: Arc<[DatedCertificate]>,
}

impl Loaded {
    /// Every value that holds, with its origin.
    #[must_use]
    pub fn effective(&self) -> &[Effective] {
        &self.config.effective
    }

    /// What is allowed and will hurt.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The server's handshake messages, as a device has to reassemble them.
    #[must_use]
    pub fn handshake_sizes(&self) -> &HandshakeSizes {
        &self.sizes
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

/// Something that does not keep the server from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The dotted key.
    pub key: String,
    /// What is so.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}\n    {}", self.key, self.what, self.remedy)
    }
}

impl Warning {
    /// One line of the log.
    pub(crate) fn log(&self) {
        tracing::warn!(key = self.key, what = self.what, remedy = self.remedy, "questionable configuration");
    }
}

/// Reads, checks and prepares everything.
///
/// # Errors
/// Every fault of the file; or, where the file is sound, every fault of what it names.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigurationFaults> {
    let mut cookie_secret = Zeroizing::new([0; 32]);
    dtls::Random::fill(&SystemRandom::new(), cookie_secret.as_mut());
    let certificates = Arc::new(CertificateCache::new(CertificateCache::CERTIFICATES_MAX_DEFAULT));
    load_into(&Arc::new(Process { certificates, cookie_secret }), config::read(sources)?)
}

/// The same for a server that runs. The tables of the shards were made for the limits of the start: those stay.
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

/// What belongs to the process, and outlives each configuration of it.
pub(crate) struct Process {
    /// Sessions find their certificates here.
    pub(crate) certificates: Arc<CertificateCache>,
    /// For cookies, where the configuration names no secret: a device that holds one of before a reload need not ask again.
    cookie_secret: Zeroizing<[u8; 32]>,
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
    let loaded = loading.all(config, process);
    match loaded {
        Some(loaded) if loading.faults.is_empty() => {
            Ok(Loaded { warnings: loading.warnings, certificates: loading.certificates.into(), ..loaded })
        }
        _ => Err(ConfigurationFaults(loading.faults)),
    }
}

/// What every step of loading shares.
struct Loading {
    utc: UnixTime,
    random: Arc<SystemRandom>,
    group_readable: GroupReadable,
    faults: Vec<ConfigurationFault>,
    warnings: Vec<Warning>,
    certificates: Vec<DatedCertificate>,
}

impl Loading {
    fn all(&mut self, config: Configuration, process: &Arc<Process>) -> Option<Loaded> {
        let shards = shard_count(config.server.shards);
        let shown = self.shown(&config);
        let cookie = self.cookie(&config, process);
        let mut signer = RingSigner::new(Arc::clone(&self.random) as Arc<dyn authority::Random>);
        let authorities: Vec<_> = config.cas.iter().map(|ca| self.authority(ca, &config.file, &mut signer)).collect();
        let authorities: Option<Vec<LoadedCa>> = authorities.into_iter().collect();
        let authorities = authorities?;
        if let Some(shown) = &shown {
            self.judge_as_devices_do(&config, shown, &authorities);
        }
        let profiles: Vec<_> =
            config.profiles.iter().map(|section| self.profile(section, &config, &authorities)).collect();
        let profiles: Option<Vec<Arc<Profile>>> = profiles.into_iter().collect();
        let mut spec = server_spec(&config, shards, shown?.identity, cookie?, profiles?);
        spec.certificates = Arc::clone(&process.certificates);
        // Each piece of work that can be outside a shard at once: enrolments, and steps of handshakes.
        let outside_max = spec.limits.pending_max.saturating_add(spec.dtls.half_open_max);
        let est = match est::ServerConfig::new(spec) {
            Ok(est) => Arc::new(est),
            Err(fault) => {
                self.faults.push(place_of(&fault, &config));
                return None;
            }
        };
        let sizes = sizes::measure(&est, &self.random);
        let sessions_max = memory::sessions_max(config.limits.sessions_max);
        Some(Loaded {
            config,
            est,
            process: Arc::clone(process),
            signer: Arc::new(signer),
            shards,
            outside_max,
            sessions_max,
            warnings: Vec::new(),
            certificates: Arc::default(),
            sizes,
        })
    }

    fn profile(
        &mut self,
        section: &ProfileSection,
        config: &Configuration,
        authorities: &[LoadedCa],
    ) -> Option<Arc<Profile>> {
        let file = &config.file;
        let authority = authorities.iter().find(|authority| authority.ca.name() == section.ca.value)?;
        let files: Vec<_> =
            section.manufacturers.value.iter().map(|path| self.manufacturers(section, path, file)).collect();
        let files: Option<Vec<Vec<Arc<Certificate>>>> = files.into_iter().collect();
        let mut spec = CaProfileSpec::new(&section.name.value, Arc::clone(&authority.ca), files?.concat());
        spec.profile.labels.clone_from(&section.labels.value);
        spec.profile.device_id = section.device_id;
        spec.subject = section.subject.clone();
        spec.profile.mode = section.mode;
        spec.certificates_per_device_max = section.certificates_per_device_max;
        spec.san.clone_from(&section.san);
        spec.validity = section.validity.value;
        spec.repeat_window = section.repeat_window;
        spec.profile.diagnostics = section.diagnostics;
        spec.allow_identity_key = section.allow_identity_key;
        spec.profile.allow_expired_identity = section.allow_expired_identity;
        spec.profile.identity_encoding = section.identity_encoding;
        spec.profile.shows_manufacturer =
            config.profiles.iter().any(|other| other.manufacturers.value != section.manufacturers.value);
        self.warn_of_cut_validity(section, authority);
        spec.unrecorded = self.unrecorded(section, &spec, &config.profiles, authorities);
        match CaProfile::compile(spec) {
            Ok(profile) => self.try_out(&section.ca, authority, &profile).map(|()| Arc::new(profile)),
            Err(fault) => {
                self.faults.push(profile_fault(section, &fault));
                None
            }
        }
    }

    fn manufacturers(&mut self, section: &ProfileSection, path: &Path, file: &Path) -> Option<Vec<Arc<Certificate>>> {
        let certificates = self.manufacturers_in(section, path, file)?;
        for certificate in &certificates {
            let path = config::from_file(file, path);
            self.check_validity(
                &section.manufacturers,
                path,
                CertificateRole::Manufacturer,
                certificate,
                Gravity::Warning,
            );
        }
        Some(certificates)
    }

    /// What a certificate opens that the ledger in memory forgot at a restart: the only ledger there is.
    fn unrecorded(
        &mut self,
        section: &ProfileSection,
        spec: &CaProfileSpec,
        profiles: &[ProfileSection],
        authorities: &[LoadedCa],
    ) -> Unrecorded {
        let issuing = spec.ca.certificate().anchor_id();
        // Two sections may name one CA: its certificates do not tell which of them they are from.
        let same_ca = |profile: &&ProfileSection| {
            let ca = authorities.iter().find(|authority| authority.ca.name() == profile.ca.value);
            ca.is_some_and(|authority| authority.ca.certificate().anchor_id() == issuing)
        };
        let (what, remedy) = if profiles.iter().filter(same_ca).count() > 1 {
            (
                "other profiles have the same CA: after a restart the ledger in memory does not tell whose a certificate is",
                "give each profile a CA of its own, or expect devices to enrol again with their manufacturer certificates after a restart",
            )
        } else if spec.issued_names() == IssuedNames::Kept {
            return Unrecorded::ByRule;
        } else {
            (
                "`device_id` cannot be read back from the subjects that `issue.subject` makes, or there are several manufacturers: after a restart the ledger in memory does not tell whose a certificate is",
                "use a template that keeps what `device_id` reads, such as `CN={subject.CN},serialNumber={device_id}`, or expect devices to enrol again with their manufacturer certificates after a restart",
            )
        };
        self.warnings.push(Warning { key: section.name.key.clone(), what: what.into(), remedy });
        Unrecorded::Refused
    }

    fn warn_of_cut_validity(&mut self, section: &ProfileSection, authority: &LoadedCa) {
        let left = authority.ca.validity().not_after.as_secs().saturating_sub(self.utc.as_secs());
        if left < section.validity.value.as_secs() {
            self.warnings.push(Warning {
                key: section.validity.key.clone(),
                what: format!(
                    "certificates end with the CA `{}`, {} days from now, earlier than this says",
                    authority.ca.name(),
                    left / 86_400
                ),
                remedy: "renew the CA's certificate, or shorten the validity",
            });
        }
    }
}

/// One per core, unless it is said.
fn shard_count(configured: u32) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let count = if configured == 0 { cores } else { usize::try_from(configured).unwrap_or(1) };
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn server_spec(
    config: &Configuration,
    shards: u16,
    identity: Arc<dtls::Identity>,
    cookie: dtls::CookieKeys,
    profiles: Vec<Arc<Profile>>,
) -> ServerSpec {
    // Peers spread evenly over the shards; one more each, so that what was asked for is reached.
    let share = |total: u32| usize::try_from(total.div_ceil(u32::from(shards))).unwrap_or(usize::MAX);
    let limits = &config.limits;
    let mut spec = ServerSpec::new(identity, cookie, profiles);
    spec.suites.clone_from(&config.dtls.suites);
    spec.extended_master_secret = config.dtls.extended_master_secret;
    spec.public_key_steps = config.dtls.public_key_steps;
    spec.name_authorities =
        if config.dtls.certificate_authorities { NameAuthorities::List } else { NameAuthorities::LeaveEmpty };
    spec.short_root = Some(config.est.short_root.value.clone()).filter(|root| !root.is_empty());
    spec.dtls.mtu = usize::try_from(config.dtls.mtu).unwrap_or(dtls::MTU_DEFAULT);
    spec.dtls.idle_timeout = config.server.idle_timeout;
    spec.dtls.handshake_deadline = config.dtls.handshake_timeout;
    spec.dtls.sessions_max = share(memory::sessions_max(limits.sessions_max));
    spec.dtls.half_open_max = share(limits.half_open_max);
    spec.limits.pending_max = share(limits.enrolments_in_flight_max);
    spec
}

/// Which key a fault of the whole is about.
fn place_of(fault: &ConfigFault, config: &Configuration) -> ConfigurationFault {
    let value = |found: &str| Problem::Value { found: found.to_owned(), wanted: fault.to_string() };
    match fault {
        ConfigFault::Tree(TreeFault::Root(root)) => config.est.short_root.fault(value(root)),
        ConfigFault::Tree(TreeFault::Label(label) | TreeFault::LabelTwice(label)) => {
            let with = config.profiles.iter().find(|profile| profile.labels.value.contains(label));
            match with {
                Some(profile) => profile.labels.fault(value(label)),
                None => whole(config, fault),
            }
        }
        ConfigFault::Nested(nested) => {
            let Some(profile) = config.profiles.iter().find(|profile| *profile.name.value == *nested.other) else {
                return whole(config, fault);
            };
            let remedy = "list the upper one in both profiles, or the lower one in both";
            profile.manufacturers.fault(Problem::Conflict { what: fault.to_string(), remedy })
        }
        _ => whole(config, fault),
    }
}

fn whole(config: &Configuration, fault: &ConfigFault) -> ConfigurationFault {
    let problem = Problem::Conflict { what: fault.to_string(), remedy: "change what the line above names" };
    ConfigurationFault { place: Location::File(config.file.clone()), key: String::new(), problem }
}

fn profile_fault(section: &ProfileSection, fault: &CaProfileFault) -> ConfigurationFault {
    let problem = |remedy| Problem::Conflict { what: fault.to_string(), remedy };
    match fault {
        CaProfileFault::Profile(ProfileFault::ManufacturerIsCa) => section.manufacturers.fault(problem(
            "name the manufacturer's CA only: with this one, enrolled devices would be devices of the factory",
        )),
        CaProfileFault::Profile(ProfileFault::NoManufacturer) => {
            section.manufacturers.fault(problem("name at least one CA file"))
        }
        CaProfileFault::ValidityShort => section.validity.fault(problem("choose a longer validity")),
        CaProfileFault::Template(_) => section.ca.fault(problem("check the CA's certificate and URLs")),
        CaProfileFault::NamesNotGivenBack
        | CaProfileFault::Profile(ProfileFault::NoName)
        | CaProfileFault::NoKeyType
        | CaProfileFault::CertificatesPerDevice => section.name.fault(problem("complete the profile")),
    }
}

/// RFC 3339 in UTC.
pub(crate) fn rfc3339(at: UnixTime) -> String {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    let format = &time::format_description::well_known::Rfc3339;
    let formatted = time::OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(format).ok());
    formatted.unwrap_or_else(|| format!("{seconds} s after 1970"))
}
