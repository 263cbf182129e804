//! Checks of a request that every authority makes, whoever issues: the profile's mode, the link to the session, key and names.
//!
//! They are asked in the order of `decide.rs` and `relay_decide.rs`, which say what a refusal comes before.

use std::time::Duration;

use pki::linking::SessionLink;
use pki::{Certificate, CsrContents, GeneralName, GeneralNames, VerifiedCsr};
use rustls_pki_types::UnixTime;

use crate::arrival::Arrival;
use crate::ca_profile::KeyTypes;
use crate::function::Function;
use crate::job::TlsUnique;
use crate::origin::Origin;
use crate::profile::{Mode, Profile};
use crate::refusal::{Busy, Mismatch, Refusal};
use crate::san::SanKind;
use crate::standing::Registration;

/// Whether a certificate of this function is a successor to the client's: RFC 7030 §4.2.2 for `/sren`, and §4.4.1 for a key that the server
/// makes, "the server SHOULD treat the CSR as it would any enroll or re-enroll CSR".
pub(crate) fn renews(function: Function, origin: Origin) -> bool {
    match function {
        Function::SimpleEnroll => false,
        Function::SimpleReenroll => true,
        Function::ServerKeygen => origin == Origin::ThisCa,
    }
}

/// Whether the device may enrol at all.
pub(crate) fn admits(mode: Mode, registration: Registration) -> Result<(), Refusal> {
    match (mode, registration) {
        (_, Registration::Denied) => Err(Refusal::DeviceDenied),
        // A mode that admits fewer devices refuses a device that is not on a list.
        (Mode::Open, Registration::Unlisted) => Ok(()),
        (_, Registration::Registered | Registration::Pending | Registration::OverLimit { .. }) => Ok(()),
    }
}

/// What keeps the device from a new certificate now.
pub(crate) fn waits(registration: Registration, utc: UnixTime) -> Option<Busy> {
    match registration {
        Registration::Unlisted | Registration::Registered | Registration::Denied => None,
        Registration::Pending => Some(Busy::DevicePending),
        Registration::OverLimit { until } => {
            // The limit is over by our clock but not by the ledger's, which decides.
            let seconds = until.as_secs().saturating_sub(utc.as_secs()).max(1);
            Some(Busy::DeviceOverLimit { wait: Duration::from_secs(seconds) })
        }
    }
}

/// RFC 7030 §3.5: the client puts the base64 of tls-unique in challengePassword, and the server MUST verify it if it is present; RFC 7894 §3.3
/// has estIdentityLinking for the same. Without extended master secret tls-unique does not identify one session (RFC 7627 §5.4) and proves
/// nothing. Over HTTPS there is nothing to compare it with.
pub(crate) fn check_link(
    csr: &CsrContents,
    arrival: &Arrival,
    tls_unique: Option<&TlsUnique>,
    required: bool,
) -> Result<(), Refusal> {
    let is_linked = csr.challenge_password().is_some() || csr.identity_linking().is_some();
    if !is_linked && !required {
        return Ok(());
    }
    match arrival {
        Arrival::Https => return Err(Refusal::ChallengeOverHttps),
        // The link is to the session between the device and the Registrar, which compared it (RFC 9148 §5).
        Arrival::Registrar(_) => return Ok(()),
        Arrival::Coaps => {}
    }
    match csr.link(tls_unique.ok_or(Refusal::ChallengeUnbound)?) {
        SessionLink::Matches => Ok(()),
        SessionLink::Mismatch => Err(Refusal::ChallengeMismatch),
        SessionLink::Absent => Err(Refusal::ChallengeAbsent),
    }
}

/// Which keys of a device are certified.
pub(crate) struct KeyRules<'r> {
    pub(crate) key_types: KeyTypes,
    pub(crate) allow_identity_key: bool,
    /// Whether a CA of the authority has this subject public key info.
    pub(crate) is_ca_key: &'r dyn Fn(&[u8]) -> bool,
}

impl KeyRules<'_> {
    pub(crate) fn check(
        &self,
        csr: &VerifiedCsr,
        profile: &Profile,
        client: &Certificate,
        origin: Origin,
    ) -> Result<(), Refusal> {
        if !self.key_types.allow(csr.public_key().curve()) {
            return Err(Refusal::KeyType);
        }
        let spki = csr.spki();
        if (self.is_ca_key)(spki) || profile.spec().manufacturers.iter().any(|ca| ca.spki() == spki) {
            return Err(Refusal::CaKey);
        }
        // A renewal may keep the key of its certificate (RFC 7030 §4.2.2); the factory key would live too long.
        let identity = origin == Origin::Manufacturer && client.spki() == spki;
        if identity && !self.allow_identity_key { Err(Refusal::IdentityKey) } else { Ok(()) }
    }
}

/// Which alternative names are certified.
pub(crate) struct SanRules<'r> {
    /// The kinds that the profile lists.
    pub(crate) listed: &'r [SanKind],
    /// Whether the authority's chain permits the name.
    pub(crate) may_issue: &'r dyn Fn(&GeneralName<'_>) -> bool,
    /// A renewal has all names of its certificate.
    pub(crate) keeps_all: bool,
}

impl SanRules<'_> {
    /// Each requested name must be of a listed kind and in the client's certificate; a renewal must request all names of
    /// its certificate.
    pub(crate) fn check(&self, asked: &GeneralNames, held: &GeneralNames) -> Result<(), Refusal> {
        for name in asked.iter() {
            let kind = SanKind::of(&name);
            if !self.listed.contains(&kind) {
                return Err(Refusal::SanNotListed(kind));
            }
            name.check().map_err(|_| Refusal::SanSyntax(kind))?;
            if !(self.may_issue)(&name) {
                return Err(Refusal::SanConstrained(kind));
            }
            if !held.iter().any(|one| one.matches(&name)) {
                return Err(san_mismatch(asked, held));
            }
        }
        // RFC 7030 §4.2.2: subject and subjectAltName of the request are identical to those of the certificate being renewed.
        if self.keeps_all && !asked.matches(held) {
            return Err(san_mismatch(asked, held));
        }
        Ok(())
    }
}

fn san_mismatch(asked: &GeneralNames, held: &GeneralNames) -> Refusal {
    let shown = |names: &GeneralNames| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    Refusal::SanMismatch(Box::new(Mismatch { asked: shown(asked), held: shown(held) }))
}
