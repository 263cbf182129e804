//! What is issued: a certificate, with what is read from it once.

use std::sync::Arc;

use pki::{Digest, Validity};
use rustls_pki_types::UnixTime;

use crate::device::Device;

/// A certificate that was issued, whoever signed it: its serial number is whatever its issuer chose, and stands in the certificate alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Who it was issued to.
    pub device: Device,
    /// The profile that issued it: what the certificate opens.
    pub profile: Arc<str>,
    /// Its DER.
    pub certificate: Vec<u8>,
    /// SHA-256 of the DER.
    pub digest: Digest,
    /// From when to when it is valid.
    pub validity: Validity,
    /// When it was issued.
    pub at: UnixTime,
}
