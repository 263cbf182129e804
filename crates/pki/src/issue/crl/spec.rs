//! What is decided about a revocation list, apart from its entries.

use rustls_pki_types::UnixTime;

use super::url::CrlScope;

/// What a revocation list says beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrlSpec<'u> {
    /// The certificates that it covers.
    pub scope: CrlScope<'u>,
    /// The CRL number. It must be larger than that of every earlier list with the same scope (RFC 5280 §5.2.3).
    pub number: u64,
    /// When it is made.
    pub this_update: UnixTime,
    /// When the next one will have been made, at the latest.
    pub next_update: UnixTime,
}
