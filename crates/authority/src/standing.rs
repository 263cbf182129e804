//! The question to the ledger about the client of each job, asked before the job is decided, and the answer.

use std::sync::Arc;

use pki::issue::Serial;
use pki::{AnchorId, Digest, Validity};
use rustls_pki_types::UnixTime;

use crate::device::Device;
use crate::origin::Origin;
use crate::revocation::Revocation;

/// The question of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// Digest of the certificate that the client authenticated with: the row of the holder has it.
    pub client: Digest,
    /// The serial number of that certificate, if it is one of Muster's form: the ledger finds the row by it.
    pub serial: Option<Serial>,
    /// The device, if it is known without the ledger: read from a manufacturer's certificate by the profile's rule, or from a certificate
    /// that the ledger has just reported as unknown. `None` if the ledger must name the holder.
    pub device: Option<Device>,
    /// Name of the profile that the job asks for: lists and limits of devices can differ per profile.
    pub profile: Arc<str>,
}

/// The ledger's answer to one [`Inquiry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The holder of the client's certificate; `None` if no row has the certificate, as for every manufacturer
    /// certificate.
    pub holder: Option<Standing>,
    /// The standing of [`Inquiry::device`] if the question names a device, else of the holder.
    pub registration: Registration,
}

/// What lists and limits say about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// No list names the device. The profile's mode decides; an open profile lets it enrol.
    Unlisted,
    /// It is on the list of those that may enrol.
    Registered,
    /// It may not enrol.
    Denied,
    /// An operator must approve it first.
    Pending,
    /// It has asked too often.
    OverLimit {
        /// The time from which it may try again.
        until: UnixTime,
    },
}

/// What the ledger knows about the holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The device that the certificate was issued to, with the manufacturer that vouched for it first.
    pub device: Device,
    /// The name of the profile that issued the certificate, the only profile that it gives access to.
    pub profile: Arc<str>,
    /// Its serial number, which identifies it in audit rows and messages to an operator.
    pub serial: Serial,
    /// Its validity: shows how long before the end a device renews.
    pub validity: Validity,
    /// The anchor that its request was trusted under: that of the manufacturer, or for a renewal that of this
    /// CA.
    pub anchor: AnchorId,
    /// The kind of certificate that the device authenticated with when it asked for this one: that of its manufacturer, or a predecessor that
    /// this CA had issued.
    pub vouched_by: Origin,
    /// Whether it is still good.
    pub state: State,
}

/// The state of an issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is not revoked.
    Good,
    /// It is revoked.
    Revoked(Revocation),
}

/// What becomes of the certificates of rows that a ledger lost before it was restored from a backup, and that no journal brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// What becomes of them.
    pub treatment: GapTreatment,
    /// From this time on they are what every certificate without a row is: never issued.
    pub until: UnixTime,
}

/// See [`Gap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapTreatment {
    /// A renewal brings the row back, rebuilt from the certificate.
    Adopt,
    /// A renewal is refused for a reason of its own; the device enrols again with its factory certificate.
    Refuse,
}
