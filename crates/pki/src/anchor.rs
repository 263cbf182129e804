//! The identity of an authority: it stays the same when the authority's certificate is issued again.

use std::fmt;

use ring::digest::{Context, SHA256};

use crate::certificate::Certificate;
use crate::digest::Digest;

/// The identity of an authority: a digest over its subject and its key (RFC 5280 §6.1.1 (d) describes a trust anchor by its name and its
/// public key). A certificate that is issued again for the same name and key has the same identity, whatever its issuer and validity. A
/// name that differs only in case, white space or string type is the same name (RFC 5280 §7.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AnchorId(Digest);

impl AnchorId {
    /// An identity that was computed before, as a ledger stores it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest::from_bytes(bytes))
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for AnchorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AnchorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AnchorId({self})")
    }
}

impl Certificate {
    /// The identity of the authority that this certificate belongs to.
    #[must_use]
    pub fn anchor_id(&self) -> AnchorId {
        let subject = self.subject().folded();
        let mut context = Context::new(&SHA256);
        // The name needs a length in front; the key is DER and contains its own length.
        context.update(&(subject.len() as u64).to_be_bytes());
        context.update(subject.as_bytes());
        context.update(self.spki());
        let mut out = [0; 32];
        out.copy_from_slice(context.finish().as_ref());
        AnchorId::from_bytes(out)
    }
}
