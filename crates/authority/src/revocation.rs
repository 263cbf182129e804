//! What a ledger keeps of a revocation.

use pki::issue::RevocationReason;
use rustls_pki_types::UnixTime;

/// When and why a certificate was revoked: what its entry in a CRL says. The first revocation of a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
    /// When.
    pub at: UnixTime,
}
