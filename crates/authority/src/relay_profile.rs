//! What a Registrar relays at a label: compiled once from the configuration and what the upstream CA says about itself.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pki::csr_attributes::{CsrAttributes, CsrAttributesForm, KeyRequirement, SignatureRequirement};
use pki::{Certificate, UnixTime, oid};

use crate::ca_profile::{CERTIFICATES_PER_DEVICE, KeyTypes};
use crate::profile::{IssuedNames, Profile, ProfileFault, ProfileSpec, Published};
use crate::profile_version::ProfileVersion;
use crate::san::SanKind;
use crate::upstream::UpstreamAnswerFlaw;

/// Clocks of a Registrar and of its upstream may differ by this much: CAs date certificates back, and some not at all.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The parts of a profile that a Registrar relays; the fields of `[[profile]]`.
#[derive(Clone, Debug)]
pub struct RelayProfileSpec {
    /// What is not the authority's.
    pub profile: ProfileSpec,
    /// The certificates of the upstream's CAs that issue: a relayed certificate is signed by one of them.
    pub issuers: Vec<Arc<Certificate>>,
    /// The label of the upstream's path (RFC 7030 §3.2.2); `None` for the path without one.
    pub upstream_label: Option<String>,
    /// The kinds of key that are passed on.
    pub key_types: KeyTypes,
    /// The kinds of alternative name that a request may ask for.
    pub san: Vec<SanKind>,
    /// Whether the keys of factory certificates may be certified.
    pub allow_identity_key: bool,
    /// Who makes the keys of devices that ask for one.
    pub server_keys: RelayedKeys,
    /// How long a certificate answers repeats of its request.
    pub repeat_window: Duration,
    /// The maximum of unexpired certificates and open requests per device.
    pub certificates_per_device_max: u32,
}

impl RelayProfileSpec {
    /// The defaults of the configuration.
    #[must_use]
    pub fn new(profile: ProfileSpec, issuers: Vec<Arc<Certificate>>) -> Self {
        Self {
            profile,
            issuers,
            upstream_label: None,
            key_types: KeyTypes::default(),
            san: Vec::new(),
            allow_identity_key: false,
            server_keys: RelayedKeys::NotServed,
            repeat_window: Duration::from_secs(86_400),
            certificates_per_device_max: CERTIFICATES_PER_DEVICE,
        }
    }
}

/// Who makes the keys of devices that ask for one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayedKeys {
    /// Nobody.
    #[default]
    NotServed,
    /// The upstream: what it encrypts to the device stays encrypted.
    Upstream,
    /// The Registrar, which sends the upstream a request that it signs with the new key.
    Here,
}

/// What an upstream says about itself, as `/cacerts` and `/csrattrs` gave it last.
#[derive(Clone, Debug, Default)]
pub struct UpstreamFacts {
    /// The CA certificates; empty as long as none are known.
    pub ca_certificates: Vec<Arc<Certificate>>,
    /// The CSR attributes, DER.
    ///
    /// Subject and alternative names are not handed out, as a CA of ours asks for none: they are those of the client's certificate, whatever its
    /// upstream names ([`RelayPermit`](crate::RelayPermit)), and a device that filled a template would be refused. The rest is handed out.
    ///
    /// Of the rest, a Registrar enforces what its own profile says too: the kinds of key, and the link to the session, which only it can compare. It
    /// does not enforce extensions and other attributes. The upstream gets the CSR unchanged, so that it can; whether it insists on them is not in
    /// the attributes (RFC 8951 §4 leaves it to the server what it refuses), and a Registrar that refused what its CA would certify would keep out
    /// devices that never ask. A request for a key that the Registrar makes holds the names of the device's request, and nothing else that the
    /// attributes ask for.
    pub csr_attributes: Option<Vec<u8>>,
}

impl UpstreamFacts {
    /// Whether these are the same bytes.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let digests = |facts: &Self| facts.ca_certificates.iter().map(|it| it.digest()).collect::<Vec<_>>();
        digests(self) == digests(other) && self.csr_attributes == other.csr_attributes
    }
}

/// What a Registrar keeps with a profile, compiled.
#[derive(Debug)]
pub struct RelayProfile {
    spec: RelayProfileSpec,
    version: ProfileVersion,
}

impl RelayProfile {
    /// Compiles a profile whose authority is upstream: [`RelayProfile::of`] returns what is made here.
    ///
    /// # Errors
    /// [`RelayProfileFault`] names the parts that do not fit together.
    pub fn compile(spec: RelayProfileSpec, facts: UpstreamFacts) -> Result<Profile, RelayProfileFault> {
        if spec.issuers.is_empty() {
            return Err(RelayProfileFault::NoIssuer);
        }
        if spec.issuers.iter().any(|issuer| !issuer.is_ca()) {
            return Err(RelayProfileFault::NotACa);
        }
        // Anchors that are above no issuer of the profile are those of another CA: a device that took them for its own could verify neither its
        // certificate nor its server. An issuer that is not in use yet need not be below them, and a root that cannot be read is not among them.
        let authenticates = |listed: &Arc<Certificate>| {
            spec.issuers.iter().any(|it| it.anchor_id() == listed.anchor_id() || it.verify_signed_by(listed).is_ok())
        };
        if !facts.ca_certificates.is_empty() && !facts.ca_certificates.iter().any(authenticates) {
            return Err(RelayProfileFault::Anchors);
        }
        let published = Published {
            ca_certificates: facts.ca_certificates,
            issuers: spec.issuers.clone(),
            names: IssuedNames::Other,
            csr_attributes: facts.csr_attributes.and_then(without_names),
            server_keys: spec.server_keys != RelayedKeys::NotServed,
        };
        let version = ProfileVersion::of(&format!("{spec:?}"));
        let profile = spec.profile.clone();
        Profile::new(profile, published, Arc::new(Self { spec, version })).map_err(RelayProfileFault::Profile)
    }

    /// What a Registrar keeps with this profile; `None` if another authority compiled it.
    #[must_use]
    pub fn of(profile: &Profile) -> Option<Arc<Self>> {
        profile.own()
    }

    /// The spec that it was compiled from.
    #[must_use]
    pub fn spec(&self) -> &RelayProfileSpec {
        &self.spec
    }

    /// Which settings these are.
    #[must_use]
    pub const fn version(&self) -> ProfileVersion {
        self.version
    }

    /// Whether one of the profile's issuers has this subject public key info.
    pub(crate) fn holds_key(&self, spki: &[u8]) -> bool {
        self.spec.issuers.iter().any(|issuer| issuer.spki() == spki)
    }

    /// Checks a certificate that came back for this public key at the time `utc`.
    ///
    /// # Errors
    /// Why it cannot be passed on.
    pub fn judge(&self, certificate: &Certificate, spki: &[u8], utc: UnixTime) -> Result<(), UpstreamAnswerFlaw> {
        if certificate.spki() != spki {
            return Err(UpstreamAnswerFlaw::OtherKey);
        }
        let named = |issuer: &&Arc<Certificate>| certificate.issuer().matches(issuer.subject());
        if !self.spec.issuers.iter().filter(named).any(|issuer| certificate.verify_signed_by(issuer).is_ok()) {
            return Err(UpstreamAnswerFlaw::OtherIssuer);
        }
        let validity = certificate.validity();
        let from = validity.not_before.as_secs().saturating_sub(CLOCK_SKEW.as_secs());
        if certificate.is_ca() || utc.as_secs() < from || validity.not_after < utc {
            return Err(UpstreamAnswerFlaw::Unusable);
        }
        Ok(())
    }
}

/// The attributes without what the profile decides: the subject and the alternative names. Where they have neither, they stay as they are, byte for
/// byte; else a key or a signature algorithm that nothing here could make is left out as well. `None` if nothing can be handed out.
fn without_names(der: Vec<u8>) -> Option<Vec<u8>> {
    let mut asked = CsrAttributes::parse(&der).ok()?;
    let forms = [&asked, &CsrAttributes::parse_unstructured(&der).ok()?].map(names_any);
    if forms == [false, false] {
        return Some(der);
    }
    asked.subject.clear();
    asked.extensions.retain(|extension| extension.id != oid::SUBJECT_ALT_NAME);
    asked.key = asked.key.filter(|key| matches!(key, KeyRequirement::Ec(_)));
    asked.signature = asked.signature.filter(|it| matches!(it, SignatureRequirement::Supported(_)));
    // A template has no place for a signature algorithm, and displaces the list that has one (RFC 9908 §4).
    let form = if asked.signature.is_some() { CsrAttributesForm::Unstructured } else { CsrAttributesForm::Both };
    asked.encode(form).ok()
}

fn names_any(asked: &CsrAttributes<'_>) -> bool {
    !asked.subject.is_empty() || asked.extensions.iter().any(|extension| extension.id == oid::SUBJECT_ALT_NAME)
}

/// Why a profile cannot be compiled for a Registrar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayProfileFault {
    /// The profile would be invalid for any authority.
    Profile(ProfileFault),
    /// It names no issuer: nothing that came back could be passed on.
    NoIssuer,
    /// One of its issuers is not a CA.
    NotACa,
    /// The CA certificates of the upstream are above none of its issuers.
    Anchors,
}

impl fmt::Display for RelayProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Profile(fault) => fault.fmt(f),
            Self::NoIssuer => f.write_str("`issuers` is empty: no certificate that comes back could be passed on"),
            Self::NotACa => f.write_str("`issuers` holds a certificate that is not a CA's"),
            Self::Anchors => {
                f.write_str("cacerts lists none of the CAs in the profile's `issuers`, and none above them")
            }
        }
    }
}

impl std::error::Error for RelayProfileFault {}
