//! Devices for which a Registrar vouches: it has authenticated them, and passes on their requests under its own certificate.
//!
//! The request itself names the device, by the profile's rule. What the device held before is not in the request, so a renewal is compared with the
//! certificate that the device got last by this profile and that is not revoked. A revocation of that certificate takes effect on every request that is decided after it;
//! one that is recorded while the request is being signed does not stop it, as it would stop a client that authenticates with the certificate.

use std::sync::Arc;

use pki::{Certificate, CsrContents};
use rustls_pki_types::UnixTime;

use crate::device::Device;
use crate::entry::LedgerEntry;
use crate::profile::Profile;
use crate::refusal::Refusal;
use crate::revocation::Actor;

/// The device that the names of a request say by the profile's rule. A profile that lists Registrars has one manufacturer.
pub(crate) fn device(profile: &Profile, csr: &CsrContents) -> Option<Device> {
    let id = profile.spec().device_id.read(csr.subject(), csr.san())?;
    Some(Device { manufacturer: profile.first_manufacturer()?, id })
}

/// The certificate that a Registrar may renew for a device, out of what [`Locator::NewestOf`](crate::Locator::NewestOf) has found: it is good.
pub(crate) fn predecessor(newest: Option<LedgerEntry>, utc: UnixTime) -> Result<Arc<Certificate>, Refusal> {
    let row = newest.ok_or(Refusal::NothingToRenew)?;
    if let Some(revocation) = &row.revocation {
        // The device never had a certificate whose key did not reach it.
        let was_delivered = revocation.actor != Actor::undelivered();
        return Err(if was_delivered { Refusal::PredecessorRevoked } else { Refusal::NothingToRenew });
    }
    let issued = row.issued().ok_or(Refusal::NothingToRenew)?;
    // With an expired certificate the device itself would not have been authenticated.
    if !issued.validity.contains(utc) {
        return Err(Refusal::NothingToRenew);
    }
    Certificate::parse(&issued.certificate).map(Arc::new).map_err(|_| Refusal::NothingToRenew)
}
