//! What a label issues: compiled once from the configuration, immutable, shared by reference.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pki::issue::{IssueError, Template};
use pki::{AnchorId, Certificate, Curve, Encoding};

use crate::ca::Ca;
use crate::device::{Device, DeviceId, DeviceIdRule, ShownDevice};
use crate::origin::Origin;
use crate::refusal::Refusal;
use crate::san::SanKind;
use crate::subject::SubjectRule;

/// Certificates are backdated by this much, for devices whose clock is behind: the limit of CA/Browser practice is 48 h, ours
/// is an hour, and devices that keep no better time than five minutes do not check validity at all.
pub const BACKDATE: Duration = Duration::from_secs(300);

/// The longest that a certificate may be dated back (E28).
const BACKDATE_MAX: Duration = Duration::from_secs(3600);
const _: () = assert!(BACKDATE.as_secs() <= BACKDATE_MAX.as_secs(), "notBefore is at most an hour early");

/// A life must leave room for renewal after [`BACKDATE`]: shorter lives would be due for renewal when issued.
pub const VALIDITY_MIN: Duration = Duration::from_secs(3600);
const _: () =
    assert!(BACKDATE.as_secs() * 3 < VALIDITY_MIN.as_secs() * 2, "a fresh certificate is not due for renewal");

/// Whether a device must be known before it enrols.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Every device of the profile's manufacturers may enrol.
    #[default]
    Open,
}

/// What the payload of a 4.xx or 5.xx tells an authenticated client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Diagnostics {
    /// Nothing.
    None,
    /// The stable code of the reason.
    #[default]
    Reason,
}

/// The kinds of key that a profile certifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTypes {
    /// P-256 (RFC 9148 §3: mandatory).
    pub p256: bool,
    /// P-384.
    pub p384: bool,
}

impl KeyTypes {
    pub(crate) fn allow(self, curve: Curve) -> bool {
        match curve {
            Curve::P256 => self.p256,
            Curve::P384 => self.p384,
        }
    }
}

impl Default for KeyTypes {
    fn default() -> KeyTypes {
        KeyTypes { p256: true, p384: true }
    }
}

/// What a certificate of the profile's CA opens that the ledger does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unrecorded {
    /// Nothing: whoever is not in the ledger was never issued anything, and its device enrols with the certificate of its factory.
    #[default]
    Refused,
    /// What the profile's rule reads from it: for a ledger that forgets at a restart. Only where nothing is guessed: the profile is the only one
    /// of its CA, it has one manufacturer, and its rule and template give back the very names that they issued.
    ByRule,
}

/// Certificates of one device that have not expired, unless a profile says otherwise. A device that renews in time holds two; one that loses its key
/// and enrols anew every fourth day of a year stays below. To fill the ledger in memory takes ten thousand devices that do nothing but enrol.
pub const CERTIFICATES_PER_DEVICE: u32 = 100;

/// The least that a profile may allow: the certificate in use, its successor, and the same again where an answer was lost with its key.
pub const CERTIFICATES_PER_DEVICE_MIN: u32 = 4;

/// The most: a ledger looks at each of them while it is asked.
pub const CERTIFICATES_PER_DEVICE_MAX: u32 = 1_000;

/// What a profile is made of; the fields of `[[profile]]`.
#[derive(Clone, Debug)]
pub struct ProfileSpec {
    /// Its name: part of every idempotency key and ledger row.
    pub name: String,
    /// The path labels that choose it; "" is the path without a label.
    pub labels: Vec<String>,
    /// The CA that issues.
    pub ca: Arc<Ca>,
    /// Trust anchors of the manufacturer certificates.
    pub manufacturers: Vec<Arc<Certificate>>,
    /// How a device is known.
    pub device_id: DeviceIdRule,
    /// Which devices may enrol.
    pub mode: Mode,
    /// The subject of what is issued.
    pub subject: SubjectRule,
    /// The kinds of subject alternative name that may be asked for; each name asked for must be in the client's certificate.
    pub san: Vec<SanKind>,
    /// The life of a certificate.
    pub validity: Duration,
    /// How long a repeat of a request gets the same certificate.
    pub repeat_window: Duration,
    /// What an authenticated client is told.
    pub diagnostics: Diagnostics,
    /// Kinds of key that are certified.
    pub key_types: KeyTypes,
    /// Certify the key of the manufacturer certificate too.
    pub allow_identity_key: bool,
    /// Certificates that a device may hold at once; those that have expired do not count, those of other profiles do.
    pub certificates_per_device_max: u32,
    /// What an unknown certificate of the CA opens.
    pub unrecorded: Unrecorded,
    /// Accept a manufacturer certificate that is past its notAfter; its issuers have to be valid all the same.
    pub allow_expired_identity: bool,
    /// How closely the certificates and requests of devices have to keep to DER; what is issued is strict DER either way.
    pub identity_encoding: Encoding,
    /// Lines name the manufacturer beside each device, because another profile of the server has another one. A profile with several of its
    /// own does so by itself.
    pub shows_manufacturer: bool,
}

impl ProfileSpec {
    /// The defaults of the configuration.
    pub fn new(name: &str, ca: Arc<Ca>, manufacturers: Vec<Arc<Certificate>>) -> ProfileSpec {
        const DAY: u64 = 86_400;
        ProfileSpec {
            name: name.to_owned(),
            labels: vec![String::new()],
            ca,
            manufacturers,
            device_id: DeviceIdRule::Attribute(crate::device::SubjectAttribute::SerialNumber),
            mode: Mode::Open,
            subject: SubjectRule::Csr,
            san: Vec::new(),
            validity: Duration::from_secs(365 * DAY),
            repeat_window: Duration::from_secs(DAY),
            diagnostics: Diagnostics::Reason,
            key_types: KeyTypes::default(),
            allow_identity_key: false,
            certificates_per_device_max: CERTIFICATES_PER_DEVICE,
            unrecorded: Unrecorded::Refused,
            allow_expired_identity: false,
            identity_encoding: Encoding::Strict,
            shows_manufacturer: false,
        }
    }
}

impl ProfileSpec {
    /// Whether a device and its names can be read back from a certificate of this profile: one manufacturer, and a rule that finds in the subject
    /// that was issued what it found in the subject of the factory. Alternative names are issued to a device that asks for them, so a rule that
    /// reads one finds it in some certificates and not in others.
    pub fn gives_back_names(&self) -> bool {
        let first = self.manufacturers.first().map(|anchor| anchor.anchor_id());
        let one_manufacturer = self.manufacturers.iter().all(|anchor| Some(anchor.anchor_id()) == first);
        one_manufacturer
            && match &self.subject {
                SubjectRule::Csr => self.device_id != DeviceIdRule::HardwareModule,
                SubjectRule::Template(template) => template.gives_back(self.device_id),
            }
    }
}

/// A profile, compiled.
#[derive(Debug)]
pub struct Profile {
    spec: ProfileSpec,
    name: Arc<str>,
    manufacturers: Vec<AnchorId>,
    issuing: AnchorId,
    template: Template,
}

impl Profile {
    /// Compiles a profile.
    ///
    /// # Errors
    /// [`ProfileFault`] says what does not fit together.
    pub fn new(spec: ProfileSpec) -> Result<Profile, ProfileFault> {
        if spec.name.is_empty() {
            return Err(ProfileFault::NoName);
        }
        if spec.manufacturers.is_empty() {
            return Err(ProfileFault::NoManufacturer);
        }
        if spec.validity < VALIDITY_MIN {
            return Err(ProfileFault::ValidityShort);
        }
        if !(CERTIFICATES_PER_DEVICE_MIN..=CERTIFICATES_PER_DEVICE_MAX).contains(&spec.certificates_per_device_max) {
            return Err(ProfileFault::CertificatesPerDevice);
        }
        if !spec.key_types.p256 && !spec.key_types.p384 {
            return Err(ProfileFault::NoKeyType);
        }
        let manufacturers: Vec<AnchorId> = spec.manufacturers.iter().map(|anchor| anchor.anchor_id()).collect();
        // A manufacturer that were the CA too would make every enrolled device a device of the factory.
        if spec.manufacturers.iter().any(|anchor| spec.ca.hangs_under(anchor)) {
            return Err(ProfileFault::ManufacturerIsCa);
        }
        if spec.unrecorded == Unrecorded::ByRule && !spec.gives_back_names() {
            return Err(ProfileFault::NamesNotGivenBack);
        }
        let issuing = spec.ca.certificate().anchor_id();
        let template =
            Template::new(Arc::clone(spec.ca.issuer()), &spec.ca.urls().template()).map_err(ProfileFault::Template)?;
        Ok(Profile { name: Arc::from(spec.name.as_str()), manufacturers, issuing, template, spec })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, for records that outlive a configuration.
    pub fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// The labels that choose it.
    pub fn labels(&self) -> &[String] {
        &self.spec.labels
    }

    /// The CA that issues.
    pub fn ca(&self) -> &Arc<Ca> {
        &self.spec.ca
    }

    /// What a client of this profile may chain to: its manufacturers, then the issuing certificate of its CA.
    pub fn anchors(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.spec.manufacturers.iter().chain(std::iter::once(self.spec.ca.certificate()))
    }

    /// Where a client comes from whose chain ended in this anchor; nothing if this profile does not accept it.
    pub fn origin(&self, anchor: &AnchorId) -> Option<Origin> {
        if *anchor == self.issuing {
            Some(Origin::ThisCa)
        } else {
            self.manufacturers.contains(anchor).then_some(Origin::Manufacturer)
        }
    }

    /// The device of a client, for a log line that cannot ask the ledger: nothing where the certificate is of this CA and its names may not
    /// be those of the factory, or names another issuer. By names alone: a line costs no signature.
    pub fn device_shown(&self, client: &Certificate, anchor: &AnchorId) -> Option<ShownDevice> {
        let manufacturer = match self.origin(anchor)? {
            Origin::Manufacturer => *anchor,
            Origin::ThisCa if self.spec.gives_back_names() && self.spec.ca.is_named_by(client) => {
                *self.manufacturers.first()?
            }
            Origin::ThisCa => return None,
        };
        Some(self.shown(&Device { manufacturer, id: self.device_id(client).ok()? }))
    }

    /// What a line calls this device.
    pub fn shown(&self, device: &Device) -> ShownDevice {
        if self.spec.shows_manufacturer || self.manufacturers.len() > 1 {
            ShownDevice::long(device.clone())
        } else {
            ShownDevice::short(device.id.clone())
        }
    }

    /// The device of a certificate of this CA that the ledger does not know, where nothing has to be guessed: the rule reads a device, and the
    /// template makes of it the very subject that it stands in. Serial number and extensions have to be such as the template writes, and the key
    /// of the CA itself has to have signed it: what other software or an authority below the CA issues was never in our ledger.
    pub(crate) fn device_unrecorded(&self, client: &Certificate) -> Option<Device> {
        if self.spec.unrecorded == Unrecorded::Refused || !self.spec.ca.is_named_by(client) {
            return None;
        }
        if !self.template.could_have_made(client) {
            return None;
        }
        let id = self.device_id(client).ok()?;
        if let SubjectRule::Template(template) = &self.spec.subject
            && template.fill(&self.device_spelling(&id, client), client.subject()).ok()?.der() != client.subject().der()
        {
            return None;
        }
        client.verify_signed_by(self.spec.ca.certificate()).ok()?;
        Some(Device { manufacturer: *self.manufacturers.first()?, id })
    }

    /// Whether devices of this manufacturer are the profile's.
    pub(crate) fn has_manufacturer(&self, manufacturer: &AnchorId) -> bool {
        self.manufacturers.contains(manufacturer)
    }

    /// The device by the profile's rule over the names of a manufacturer's certificate.
    ///
    /// # Errors
    /// [`Refusal::NoDeviceId`].
    pub(crate) fn device_id(&self, client: &Certificate) -> Result<DeviceId, Refusal> {
        let rule = self.spec.device_id;
        rule.read(client.subject(), client.san()).ok_or(Refusal::NoDeviceId(rule))
    }

    /// What the profile's template puts in the place of `id`, which it has read from this certificate.
    pub(crate) fn device_spelling(&self, id: &DeviceId, client: &Certificate) -> String {
        self.spec.device_id.spelling(id, client.subject(), client.san())
    }

    /// The anchors below which a device's certificate may be past its notAfter: the manufacturers, if the profile says so.
    pub fn anchors_of_expired(&self) -> &[AnchorId] {
        if self.spec.allow_expired_identity { &self.manufacturers } else { &[] }
    }

    /// What an authenticated client is told.
    pub fn diagnostics(&self) -> Diagnostics {
        self.spec.diagnostics
    }

    /// Everything it was made of.
    pub fn spec(&self) -> &ProfileSpec {
        &self.spec
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }
}

/// Why a profile cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProfileFault {
    /// It has no name.
    NoName,
    /// It names no manufacturer: no device could enrol.
    NoManufacturer,
    /// One of its manufacturers is its CA or one above it.
    ManufacturerIsCa,
    /// Its validity is below [`VALIDITY_MIN`].
    ValidityShort,
    /// It allows too few or too many certificates a device: [`CERTIFICATES_PER_DEVICE_MIN`], [`CERTIFICATES_PER_DEVICE_MAX`].
    CertificatesPerDevice,
    /// It allows no kind of key.
    NoKeyType,
    /// [`Unrecorded::ByRule`] where the names that were issued cannot be read back.
    NamesNotGivenBack,
    /// Its certificates cannot be made.
    Template(IssueError),
}

impl fmt::Display for ProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProfileFault::NoName => f.write_str("`name` is empty"),
            ProfileFault::NoManufacturer => f.write_str("`manufacturers` is empty: no device could enrol"),
            ProfileFault::ManufacturerIsCa => {
                f.write_str("`manufacturers` holds a certificate of the profile's own CA, or of one above it")
            }
            ProfileFault::ValidityShort => write!(f, "`issue.validity` is below {} s", VALIDITY_MIN.as_secs()),
            ProfileFault::CertificatesPerDevice => write!(
                f,
                "`max_certificates_per_device` is not between {CERTIFICATES_PER_DEVICE_MIN} and {CERTIFICATES_PER_DEVICE_MAX}"
            ),
            ProfileFault::NoKeyType => f.write_str("no kind of key is allowed"),
            ProfileFault::NamesNotGivenBack => f.write_str(
                "`device_id` cannot be read back from the subject that `issue.subject` makes, or there are several manufacturers",
            ),
            ProfileFault::Template(error) => write!(f, "certificates of this profile cannot be made: {error}"),
        }
    }
}

impl std::error::Error for ProfileFault {}
