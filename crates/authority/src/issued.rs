//! An issued certificate, and what is read from it once.

use std::sync::Arc;

use pki::{Digest, Validity};
use rustls_pki_types::UnixTime;

use crate::device::Device;

/// An issued certificate, whoever signed it: its issuer chose the serial number, which is stored only in the certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The device that it was issued to.
    pub device: Device,
    /// The profile that issued it, and that it gives access to.
    pub profile: Arc<str>,
    /// Its DER.
    pub certificate: Vec<u8>,
    /// SHA-256 of the DER.
    pub digest: Digest,
    /// Its validity.
    pub validity: Validity,
    /// When it was issued.
    pub at: UnixTime,
}
