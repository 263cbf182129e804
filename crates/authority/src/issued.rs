//! What is issued, as the ledger keeps it.

use std::sync::Arc;

use pki::issue::Serial;
use pki::{Digest, Name, Validity};
use rustls_pki_types::UnixTime;

use crate::device::Device;

/// A certificate that was issued, with what the ledger keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number.
    pub serial: Serial,
    /// Who it was issued to.
    pub device: Device,
    /// The profile that issued it: what the certificate opens.
    pub profile: Arc<str>,
    /// Its subject.
    pub subject: Name,
    /// Its DER.
    pub certificate: Vec<u8>,
    /// SHA-256 of the DER.
    pub digest: Digest,
    /// From when to when it is valid.
    pub validity: Validity,
    /// When it was issued.
    pub at: UnixTime,
}
