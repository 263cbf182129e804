//! What the ledger is asked about the client of each job before the job is decided, and what it answers.

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
    /// Digest of the certificate that the client authenticated with: the ledger looks for its holder by it.
    pub client: Digest,
    /// The device, where it is known without the ledger: read from a manufacturer's certificate by the profile's rule, or from a certificate
    /// that the ledger has just said it does not know. Nothing where the ledger is to say who the holder is.
    pub device: Option<Device>,
    /// Name of the profile that the job asks for: lists and limits of devices can be its own.
    pub profile: Arc<str>,
}

/// The ledger's answer to one [`Inquiry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Who holds the client's certificate; nothing where no row has it, as for every certificate of a manufacturer.
    pub holder: Option<Standing>,
    /// What is said of the device: of [`Inquiry::device`] where the question names one, else of the holder.
    pub registration: Registration,
}

/// What lists and limits say of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// Nothing: no list names the device. The profile's mode decides; an open one lets it enrol.
    Unlisted,
    /// It is on the list of those that may enrol.
    Registered,
    /// It may not enrol.
    Denied,
    /// Somebody has to approve it first.
    Pending,
    /// It has asked too often.
    OverLimit {
        /// From this time on it may try again.
        until: UnixTime,
    },
}

/// What the ledger knows about the holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The device that it was issued to, with the manufacturer that vouched for it at first.
    pub device: Device,
    /// The name of the profile that issued it: the one that it opens.
    pub profile: Arc<str>,
    /// Its serial number: what audit rows and messages to an operator call it by.
    pub serial: Serial,
    /// From when to when it is valid: says how long before its end a device renews.
    pub validity: Validity,
    /// The anchor that its request was trusted under: the manufacturer's, or for a renewal that of this CA.
    pub anchor: AnchorId,
    /// Whose certificate the device authenticated with when it asked for this one: that of its manufacturer, or a predecessor that this CA
    /// had issued.
    pub vouched_by: Origin,
    /// Whether it is still good.
    pub state: State,
}

/// The state of an issued certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing speaks against it.
    Good,
    /// It is revoked.
    Revoked(Revocation),
}
