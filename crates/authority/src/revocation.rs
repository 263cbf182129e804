//! What a ledger keeps of a revocation.

use std::fmt;
use std::sync::Arc;

use pki::issue::RevocationReason;
use rustls_pki_types::UnixTime;

/// When, why and by whom a certificate was revoked: what its entry in a CRL says, and the actor. The first revocation of a certificate stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Why.
    pub reason: RevocationReason,
    /// When.
    pub at: UnixTime,
    /// Who asked for it.
    pub actor: Actor,
}

/// Maximum bytes of the name of an actor: it fits a log field and a column of a list.
pub const ACTOR_BYTES_MAX: usize = 64;

/// Who did something to the ledger beside the devices: an operator by the name of its account, or the server itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(Arc<str>);

impl Actor {
    /// Accepts a name of 1 to [`ACTOR_BYTES_MAX`] bytes without control characters; `None` for any other.
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= ACTOR_BYTES_MAX && !name.chars().any(char::is_control);
        fits.then(|| Self(Arc::from(name)))
    }

    /// The server itself, which revokes what it gave up at its start.
    #[must_use]
    pub fn server() -> Self {
        Self(Arc::from("muster"))
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
