//! Which devices may enrol at a label, and what they are told: the part of a profile that does not depend on the
//! authority.
//!
//! Code that talks to devices needs only this. An authority keeps further data in the profile as an opaque value: [`crate::CaProfile`] has a
//! CA, a template and a life; an authority that forwards requests has none of them.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use pki::{AnchorId, Certificate, Encoding};

use crate::device::{Device, DeviceId, DeviceIdRule, ShownDevice, SubjectAttribute};
use crate::origin::Origin;
use crate::refusal::Refusal;
use crate::renewal::RenewalPolicy;

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

/// The parts of a profile that every authority needs; fields of `[[profile]]`.
#[derive(Clone, Debug)]
pub struct ProfileSpec {
    /// Its name: part of every idempotency key and ledger row.
    pub name: String,
    /// The path labels that choose it; "" is the path without a label.
    pub labels: Vec<String>,
    /// Trust anchors of the manufacturer certificates.
    pub manufacturers: Vec<Arc<Certificate>>,
    /// How a device is identified.
    pub device_id: DeviceIdRule,
    /// Which devices may enrol.
    pub mode: Mode,
    /// What an authenticated client is told.
    pub diagnostics: Diagnostics,
    /// Accept a manufacturer certificate that is past its notAfter; its issuers must still be valid.
    pub allow_expired_identity: bool,
    /// How closely the certificates and requests of devices must follow DER; issued certificates are strict DER either
    /// way.
    pub identity_encoding: Encoding,
    /// Refuse a request that is not linked to its session (RFC 7030 §3.5). A link that is there is compared either way.
    pub require_linking: bool,
    /// The Registrars that may vouch for devices of this profile, by their names in the configuration.
    pub registrars: Vec<Arc<str>>,
    /// When its devices shall renew; `None` if they are not told, and `ren` is not served.
    pub renewal: Option<RenewalPolicy>,
    /// Log lines name the manufacturer of each device, because another profile of the server has another manufacturer. A profile with several
    /// manufacturers does so in any case.
    pub shows_manufacturer: bool,
}

impl ProfileSpec {
    /// The defaults of the configuration.
    #[must_use]
    pub fn new(name: &str, manufacturers: Vec<Arc<Certificate>>) -> Self {
        Self {
            name: name.to_owned(),
            labels: vec![String::new()],
            manufacturers,
            device_id: DeviceIdRule::Attribute(SubjectAttribute::SerialNumber),
            mode: Mode::Open,
            diagnostics: Diagnostics::Reason,
            allow_expired_identity: false,
            identity_encoding: Encoding::Strict,
            require_linking: false,
            registrars: Vec::new(),
            renewal: None,
            shows_manufacturer: false,
        }
    }
}

/// What the authority of a profile states about itself when it makes the profile.
#[derive(Clone, Debug)]
pub struct Published {
    /// The answer to `/crts`: its root and what a client needs to build a chain to it (RFC 7030 §4.1.3). Empty if the authority does not know
    /// them yet: then every function of the profile is answered 5.03.
    pub ca_certificates: Vec<Arc<Certificate>>,
    /// The issuing certificates: the certificate of every enrolled device chains to one of them.
    pub issuers: Vec<Arc<Certificate>>,
    /// What issued certificates say about their device.
    pub names: IssuedNames,
    /// The answer to `/att`, a CsrAttrs in DER (RFC 7030 §4.5.2); `None` if a request needs nothing in particular.
    pub csr_attributes: Option<Vec<u8>>,
    /// The authority makes keys for devices: `/skg` and `/skc` are served.
    pub server_keys: bool,
}

/// Whether a certificate of the authority identifies the device that it was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuedNames {
    /// The profile's rule reads in it the same device as in the manufacturer's certificate, and there is one manufacturer.
    Kept,
    /// Its names are the authority's choice.
    Other,
}

/// A profile, compiled by its authority: immutable, shared by reference.
#[derive(Debug)]
pub struct Profile {
    spec: ProfileSpec,
    published: Published,
    name: Arc<str>,
    manufacturers: Vec<AnchorId>,
    issuers: Vec<AnchorId>,
    own: Arc<dyn Any + Send + Sync>,
}

impl Profile {
    /// Compiles a profile. `own` is what its authority needs in each job of the profile: [`Profile::own`].
    ///
    /// # Errors
    /// [`ProfileFault`] names the parts that do not fit together.
    pub fn new(spec: ProfileSpec, published: Published, own: Arc<dyn Any + Send + Sync>) -> Result<Self, ProfileFault> {
        if spec.name.is_empty() {
            return Err(ProfileFault::NoName);
        }
        if spec.manufacturers.is_empty() {
            return Err(ProfileFault::NoManufacturer);
        }
        let ids = |certificates: &[Arc<Certificate>]| certificates.iter().map(|it| it.anchor_id()).collect::<Vec<_>>();
        let (manufacturers, issuers) = (ids(&spec.manufacturers), ids(&published.issuers));
        // A request of a Registrar names the device and not who made it, and two manufacturers may use one serial number.
        if !spec.registrars.is_empty() && manufacturers.iter().any(|id| *id != manufacturers[0]) {
            return Err(ProfileFault::ManufacturersOfVouched);
        }
        // If a manufacturer were the authority too, every enrolled device would count as a device of the
        // factory.
        let is_above =
            |it: &Arc<Certificate>| spec.manufacturers.iter().any(|maker| it.verify_signed_by(maker).is_ok());
        let mut of_authority = published.ca_certificates.iter().chain(&published.issuers);
        if of_authority.any(|it| manufacturers.contains(&it.anchor_id()) || is_above(it)) {
            return Err(ProfileFault::ManufacturerIsCa);
        }
        Ok(Self { name: Arc::from(spec.name.as_str()), manufacturers, issuers, published, own, spec })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name as a shared string, for records that outlive a configuration.
    #[must_use]
    pub fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// What the authority that compiled it keeps with it; `None` if that has another type and so belongs to another authority.
    #[must_use]
    pub fn own<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.own).downcast().ok()
    }

    /// The labels that choose it.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.spec.labels
    }

    /// The answer to `/crts`, as the authority of the profile gave it.
    #[must_use]
    pub fn ca_certificates(&self) -> &[Arc<Certificate>] {
        &self.published.ca_certificates
    }

    /// Whether its authority knows its CA certificates: without them a device could not verify what it gets.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.published.ca_certificates.is_empty()
    }

    /// The answer to `/att`, as the authority of the profile gave it; `None` if there is nothing to say.
    #[must_use]
    pub fn csr_attributes(&self) -> Option<&[u8]> {
        self.published.csr_attributes.as_deref()
    }

    /// Whether its authority makes keys for devices.
    #[must_use]
    pub fn makes_keys(&self) -> bool {
        self.published.server_keys
    }

    /// The certificates of its authority that issue.
    #[must_use]
    pub fn issuers(&self) -> &[Arc<Certificate>] {
        &self.published.issuers
    }

    /// The anchors that a client of this profile may chain to: its manufacturers, then the issuing certificates. It is the issuing
    /// certificate and not its root, because the server's own certificate may be below that root as well.
    pub fn anchors(&self) -> impl Iterator<Item = &Arc<Certificate>> {
        self.spec.manufacturers.iter().chain(&self.published.issuers)
    }

    /// The origin of a client whose chain ended in this anchor; `None` if this profile does not accept the
    /// anchor.
    #[must_use]
    pub fn origin(&self, anchor: &AnchorId) -> Option<Origin> {
        if self.issuers.contains(anchor) {
            Some(Origin::ThisCa)
        } else {
            self.manufacturers.contains(anchor).then_some(Origin::Manufacturer)
        }
    }

    /// Whether the Registrar with this name may vouch for devices of the profile.
    #[must_use]
    pub fn lists_registrar(&self, name: &str) -> bool {
        self.spec.registrars.iter().any(|listed| **listed == *name)
    }

    /// The device of a client, for a log line that cannot ask the ledger: `None` if the certificate is of this CA and its names may differ
    /// from those of the factory, or if it names another issuer. It compares names only: a log line costs no signature check.
    #[must_use]
    pub fn device_shown(&self, client: &Certificate, anchor: &AnchorId) -> Option<ShownDevice> {
        let manufacturer = match self.origin(anchor)? {
            Origin::Manufacturer => *anchor,
            Origin::ThisCa if self.published.names == IssuedNames::Kept && self.names_issuer(client, anchor) => {
                *self.manufacturers.first()?
            }
            Origin::ThisCa | Origin::Registrar => return None,
        };
        Some(self.shown(&Device { manufacturer, id: self.device_id(client).ok()? }))
    }

    /// Whether the issuer of the certificate is exactly this issuing certificate, by name.
    fn names_issuer(&self, client: &Certificate, anchor: &AnchorId) -> bool {
        let mut issuers = self.issuers.iter().zip(&self.published.issuers);
        issuers.any(|(id, issuer)| id == anchor && client.issuer().matches(issuer.subject()))
    }

    /// The label of this device in log lines.
    #[must_use]
    pub fn shown(&self, device: &Device) -> ShownDevice {
        if self.spec.shows_manufacturer || self.manufacturers.len() > 1 {
            ShownDevice::long(device.clone())
        } else {
            ShownDevice::short(device.id.clone())
        }
    }

    /// The first of its manufacturers.
    pub(crate) fn first_manufacturer(&self) -> Option<AnchorId> {
        self.manufacturers.first().copied()
    }

    /// Whether devices of this manufacturer belong to the profile.
    pub(crate) fn has_manufacturer(&self, manufacturer: &AnchorId) -> bool {
        self.manufacturers.contains(manufacturer)
    }

    /// The device that the profile's rule reads from the names of a manufacturer's certificate.
    ///
    /// # Errors
    /// [`Refusal::NoDeviceId`].
    pub fn device_id(&self, client: &Certificate) -> Result<DeviceId, Refusal> {
        let rule = self.spec.device_id;
        rule.read(client.subject(), client.san()).ok_or(Refusal::NoDeviceId(rule))
    }

    /// The anchors below which a device's certificate may be past its notAfter: the manufacturers, if the profile says so.
    #[must_use]
    pub fn anchors_of_expired(&self) -> &[AnchorId] {
        if self.spec.allow_expired_identity { &self.manufacturers } else { &[] }
    }

    /// What an authenticated client is told.
    #[must_use]
    pub fn diagnostics(&self) -> Diagnostics {
        self.spec.diagnostics
    }

    /// The spec that it was compiled from.
    #[must_use]
    pub fn spec(&self) -> &ProfileSpec {
        &self.spec
    }
}

/// Why a profile cannot be compiled, whichever authority issues for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileFault {
    /// It has no name.
    NoName,
    /// It names no manufacturer: no device could enrol.
    NoManufacturer,
    /// One of its manufacturers is its CA or a CA above it.
    ManufacturerIsCa,
    /// It lists Registrars and has several manufacturers.
    ManufacturersOfVouched,
}

impl fmt::Display for ProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoName => "`name` is empty",
            Self::NoManufacturer => "`manufacturers` is empty: no device could enrol",
            Self::ManufacturersOfVouched => {
                "`registrars` is set and there are several manufacturers: a request that a Registrar passes on does not say who made the device"
            }
            Self::ManufacturerIsCa => "`manufacturers` holds a certificate of the profile's own CA, or of one above it",
        })
    }
}

impl std::error::Error for ProfileFault {}
