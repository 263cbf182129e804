//! What a ledger keeps about a revocation.

use std::fmt;
use std::sync::Arc;

use pki::issue::RevocationReason;
use rustls_pki_types::UnixTime;

/// When, why and by whom a certificate was revoked: the contents of its CRL entry, and the actor. The first revocation of a certificate is
/// final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The reason.
    pub reason: RevocationReason,
    /// The time.
    pub at: UnixTime,
    /// The actor who asked for it.
    pub actor: Actor,
}

/// Maximum bytes of the name of an actor: it fits a log field and a column of a list.
pub const ACTOR_BYTES_MAX: usize = 64;

/// The originator of a change to the ledger that no device asked for: an operator, by account name, or the server itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(Arc<str>);

impl Actor {
    /// Accepts a name of 1 to [`ACTOR_BYTES_MAX`] bytes without control characters; `None` for any other.
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= ACTOR_BYTES_MAX && !name.chars().any(char::is_control);
        fits.then(|| Self(Arc::from(name)))
    }

    /// The server itself, which revokes the reservations that it gave up at its start.
    #[must_use]
    pub fn server() -> Self {
        Self(Arc::from("muster"))
    }

    /// The server itself, for a certificate whose key it made and did not deliver.
    #[must_use]
    pub fn undelivered() -> Self {
        Self(Arc::from("muster (key not delivered)"))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
