//! What a CA of ours issues at a label: compiled once from the configuration, immutable, shared by reference.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pki::csr_attributes::{CsrAttributes, CsrAttributesError, CsrAttributesForm, KeyRequirement, LinkingAttribute};
use pki::issue::{IssueError, Template};
use pki::{AnchorId, Certificate, Curve, GeneralNames, KeyEncryptionKeys, Name};

use crate::backdate::BACKDATE;
use crate::ca::Ca;
use crate::device::{Device, DeviceId, DeviceIdRule};
use crate::profile::{IssuedNames, Profile, ProfileFault, ProfileSpec, Published};
use crate::profile_version::ProfileVersion;
use crate::san::SanKind;
use crate::subject::SubjectRule;

/// Minimum life of a certificate. It must leave room for renewal after [`BACKDATE`]: a shorter life would be
/// due for renewal when issued.
pub const VALIDITY_MIN: Duration = Duration::from_secs(3600);
const _: () =
    assert!(BACKDATE.as_secs() * 3 < VALIDITY_MIN.as_secs() * 2, "a fresh certificate is not due for renewal");

/// The kinds of key that a profile certifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTypes {
    /// P-256 (RFC 9148 §3: mandatory).
    pub p256: bool,
    /// P-384.
    pub p384: bool,
}

impl KeyTypes {
    /// The curve of the keys that the server makes: the one that every client has to support (RFC 9148 §3), if the profile certifies it.
    pub(crate) fn of_server_keys(self) -> Curve {
        if self.p256 { Curve::P256 } else { Curve::P384 }
    }

    pub(crate) fn allow(self, curve: Curve) -> bool {
        match curve {
            Curve::P256 => self.p256,
            Curve::P384 => self.p384,
        }
    }
}

impl Default for KeyTypes {
    fn default() -> Self {
        Self { p256: true, p384: true }
    }
}

/// What a certificate of the profile's CA gives access to if the ledger does not know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unrecorded {
    /// Nothing: a certificate that is not in the ledger was never issued, and its device enrols with its factory certificate.
    #[default]
    Refused,
    /// The device that the profile's rule reads from it: for a ledger that loses its rows at a restart. Allowed only if nothing is guessed:
    /// the profile is the only one of its CA, it has one manufacturer, and its rule and template yield the same names that were issued.
    ByRule,
}

/// Default maximum of unexpired certificates per device. A device that renews in time holds two; one that loses its key and enrols anew every
/// fourth day of a year stays below the maximum. Filling the ledger in memory takes ten thousand devices that only enrol.
pub const CERTIFICATES_PER_DEVICE: u32 = 100;

/// The least that a profile may allow: the certificate in use, its successor, and the same again if an answer was lost with its key.
pub const CERTIFICATES_PER_DEVICE_MIN: u32 = 4;

/// The most that a profile may allow: a ledger looks at each of them in a query.
pub const CERTIFICATES_PER_DEVICE_MAX: u32 = 1_000;

/// The parts of a profile that a CA of ours issues for; the fields of `[[profile]]`. In a configuration as read, `C` is the name of the CA;
/// [`CaProfileSpec::with_ca`] replaces the name with the CA itself.
#[derive(Clone, Debug)]
pub struct CaProfileSpec<C = Arc<Ca>> {
    /// Which devices may enrol, and what they are told.
    pub profile: ProfileSpec,
    /// The CA that issues.
    pub ca: C,
    /// The subject of issued certificates.
    pub subject: SubjectRule,
    /// The kinds of subject alternative name that may be asked for; each name asked for must be in the client's certificate.
    pub san: Vec<SanKind>,
    /// The life of a certificate.
    pub validity: Duration,
    /// How long a repetition of a request gets the same certificate.
    pub repeat_window: Duration,
    /// Kinds of key that are certified.
    pub key_types: KeyTypes,
    /// Also certify the key of the manufacturer certificate.
    pub allow_identity_key: bool,
    /// Make keys for devices that ask for one.
    pub server_keys: bool,
    /// Keys that the server shares with devices, to encrypt the private keys that it makes for them.
    pub server_key_encryption_keys: Option<Arc<KeyEncryptionKeys>>,
    /// Unexpired certificates that a device may hold at once, those of other profiles included.
    pub certificates_per_device_max: u32,
    /// What an unknown certificate of the CA gives access to.
    pub unrecorded: Unrecorded,
}

impl<C> CaProfileSpec<C> {
    /// The defaults of the configuration.
    pub fn new(name: &str, ca: C, manufacturers: Vec<Arc<Certificate>>) -> Self {
        const DAY: u64 = 86_400;
        Self {
            profile: ProfileSpec::new(name, manufacturers),
            ca,
            subject: SubjectRule::Csr,
            san: Vec::new(),
            validity: Duration::from_secs(365 * DAY),
            repeat_window: Duration::from_secs(DAY),
            key_types: KeyTypes::default(),
            allow_identity_key: false,
            server_keys: false,
            server_key_encryption_keys: None,
            certificates_per_device_max: CERTIFICATES_PER_DEVICE,
            unrecorded: Unrecorded::Refused,
        }
    }

    /// The same spec for this CA, with its manufacturers' certificates.
    pub fn with_ca<D>(self, ca: D, manufacturers: Vec<Arc<Certificate>>) -> CaProfileSpec<D> {
        let Self {
            profile,
            ca: _,
            subject,
            san,
            validity,
            repeat_window,
            key_types,
            allow_identity_key,
            server_keys,
            server_key_encryption_keys,
            certificates_per_device_max,
            unrecorded,
        } = self;
        CaProfileSpec {
            profile: ProfileSpec { manufacturers, ..profile },
            ca,
            subject,
            san,
            validity,
            repeat_window,
            key_types,
            allow_identity_key,
            server_keys,
            server_key_encryption_keys,
            certificates_per_device_max,
            unrecorded,
        }
    }

    /// Whether a device and its names can be read back from a certificate of this profile: it has one manufacturer, and its rule finds the
    /// same in the issued subject as in the subject of the factory certificate. Alternative names are issued only to a device that asks for
    /// them, so a rule that reads one finds it in some certificates and not in others.
    pub fn issued_names(&self) -> IssuedNames {
        let ProfileSpec { manufacturers, device_id, .. } = &self.profile;
        let first = manufacturers.first().map(|anchor| anchor.anchor_id());
        let one_manufacturer = manufacturers.iter().all(|anchor| Some(anchor.anchor_id()) == first);
        let read_back = match &self.subject {
            SubjectRule::Csr => *device_id != DeviceIdRule::HardwareModule,
            SubjectRule::Template(template) => template.gives_back(*device_id),
        };
        if one_manufacturer && read_back { IssuedNames::Kept } else { IssuedNames::Other }
    }

    /// What a request has to contain, for `/att`: only what the decision refuses a request for.
    ///
    /// - The key: the curve if there is one, else any elliptic-curve key.
    /// - The link to the session, if it is required, by the attribute that every client knows.
    /// - No signature algorithm: the decision accepts either hash with either curve, and a template could not say it.
    /// - No subject and no alternative names: whether they are right depends on the certificate of the client (RFC 7030 §4.2.1, §4.2.2), and a
    ///   client that fills a template would put only the attributes in it into the subject.
    #[must_use]
    pub fn csr_attributes(&self) -> CsrAttributes<'static> {
        let curve = match self.key_types {
            KeyTypes { p256: true, p384: false } => Some(Curve::P256),
            KeyTypes { p256: false, p384: true } => Some(Curve::P384),
            KeyTypes { .. } => None,
        };
        let linking = self.profile.require_linking.then_some(LinkingAttribute::ChallengePassword);
        CsrAttributes { key: Some(KeyRequirement::Ec(curve)), linking, ..CsrAttributes::default() }
    }
}

/// What a CA of ours keeps with a profile, compiled.
#[derive(Debug)]
pub struct CaProfile {
    spec: CaProfileSpec,
    /// The CA that issues, by name and key.
    issuing: AnchorId,
    template: Template,
    version: ProfileVersion,
}

impl CaProfile {
    /// Compiles a profile whose authority is a CA of ours: [`CaProfile::of`] returns what is made here.
    ///
    /// # Errors
    /// [`CaProfileFault`] names the parts that do not fit together.
    pub fn compile(spec: CaProfileSpec) -> Result<Profile, CaProfileFault> {
        if spec.validity < VALIDITY_MIN {
            return Err(CaProfileFault::ValidityShort);
        }
        if !(CERTIFICATES_PER_DEVICE_MIN..=CERTIFICATES_PER_DEVICE_MAX).contains(&spec.certificates_per_device_max) {
            return Err(CaProfileFault::CertificatesPerDevice);
        }
        if !spec.key_types.p256 && !spec.key_types.p384 {
            return Err(CaProfileFault::NoKeyType);
        }
        let published = Published {
            ca_certificates: spec.ca.published(),
            issuers: vec![Arc::clone(spec.ca.certificate())],
            names: spec.issued_names(),
            server_keys: spec.server_keys,
            // RFC 9908 §4: "EST servers with legacy clients MAY continue to use the RFC7030-style unstructured list of attribute/value pairs,
            // and MAY also include the template style".
            csr_attributes: Some(
                spec.csr_attributes().encode(CsrAttributesForm::Both).map_err(CaProfileFault::CsrAttributes)?,
            ),
        };
        if spec.unrecorded == Unrecorded::ByRule && published.names != IssuedNames::Kept {
            return Err(CaProfileFault::NamesNotGivenBack);
        }
        let template = Template::new(Arc::clone(spec.ca.issuer()), &spec.ca.urls().template())
            .map_err(CaProfileFault::Template)?;
        let (profile, issuing) = (spec.profile.clone(), spec.ca.certificate().anchor_id());
        let version = ProfileVersion::of(&format!("{spec:?}"));
        let own = Self { spec, issuing, template, version };
        Profile::new(profile, published, Arc::new(own)).map_err(CaProfileFault::Profile)
    }

    /// What a CA of ours keeps with this profile; `None` if another authority compiled it.
    #[must_use]
    pub fn of(profile: &Profile) -> Option<Arc<Self>> {
        profile.own()
    }

    /// The CA that issues.
    #[must_use]
    pub fn ca(&self) -> &Arc<Ca> {
        &self.spec.ca
    }

    /// The CA that issues, by name and key.
    pub(crate) fn issuing(&self) -> AnchorId {
        self.issuing
    }

    /// The spec that it was compiled from.
    #[must_use]
    pub fn spec(&self) -> &CaProfileSpec {
        &self.spec
    }

    /// Which settings these are.
    #[must_use]
    pub const fn version(&self) -> ProfileVersion {
        self.version
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    /// The text that the profile's template writes for `id`, which was read from these names.
    pub(crate) fn device_spelling(&self, id: &DeviceId, (subject, san): (&Name, &GeneralNames)) -> String {
        self.spec.profile.device_id.spelling(id, subject, san)
    }

    /// The device of a certificate of this CA that the ledger does not know, if nothing has to be guessed: the rule reads a device, and the
    /// template yields for it exactly the subject of the certificate. Serial number and extensions must be as the template writes them, and
    /// the key of the CA itself must have signed it: certificates of other software or of an authority below the CA were never in our ledger.
    /// A certificate that copies all of that cannot be told from a forgotten one (`SECURITY.md`, "The ledger").
    pub(crate) fn device_unrecorded(&self, profile: &Profile, client: &Certificate) -> Option<Device> {
        if self.spec.unrecorded == Unrecorded::Refused {
            return None;
        }
        self.device_of_genuine(profile, client)
    }

    /// The device of a certificate that the CA signed by this profile, read from the certificate itself.
    pub(crate) fn device_of_genuine(&self, profile: &Profile, client: &Certificate) -> Option<Device> {
        if !self.spec.ca.is_named_by(client) {
            return None;
        }
        if !self.template.could_have_made(client) {
            return None;
        }
        let id = profile.device_id(client).ok()?;
        if let SubjectRule::Template(template) = &self.spec.subject
            && template.fill(&self.device_spelling(&id, (client.subject(), client.san())), client.subject()).ok()?.der()
                != client.subject().der()
        {
            return None;
        }
        client.verify_signed_by(self.spec.ca.certificate()).ok()?;
        Some(Device { manufacturer: profile.first_manufacturer()?, id })
    }
}

/// Why a profile cannot be compiled for a CA of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaProfileFault {
    /// The profile would be invalid for any authority.
    Profile(ProfileFault),
    /// Its validity is below [`VALIDITY_MIN`].
    ValidityShort,
    /// It allows too few or too many certificates per device: [`CERTIFICATES_PER_DEVICE_MIN`],
    /// [`CERTIFICATES_PER_DEVICE_MAX`].
    CertificatesPerDevice,
    /// It allows no kind of key.
    NoKeyType,
    /// [`Unrecorded::ByRule`] although the issued names cannot be read back.
    NamesNotGivenBack,
    /// Its certificates cannot be built.
    Template(IssueError),
    /// The answer to `/att` cannot be encoded.
    CsrAttributes(CsrAttributesError),
}

impl fmt::Display for CaProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(fault) => fault.fmt(f),
            Self::ValidityShort => write!(f, "`issue.validity` is below {} s", VALIDITY_MIN.as_secs()),
            Self::CertificatesPerDevice => write!(
                f,
                "`max_certificates_per_device` is not between {CERTIFICATES_PER_DEVICE_MIN} and {CERTIFICATES_PER_DEVICE_MAX}"
            ),
            Self::NoKeyType => f.write_str("no kind of key is allowed"),
            Self::NamesNotGivenBack => f.write_str(
                "`device_id` cannot be read back from the subject that `issue.subject` makes, or there are several manufacturers",
            ),
            Self::Template(error) => write!(f, "certificates of this profile cannot be made: {error}"),
            Self::CsrAttributes(error) => write!(f, "the answer to /att cannot be encoded: {error}"),
        }
    }
}

impl std::error::Error for CaProfileFault {}
