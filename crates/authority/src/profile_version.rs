//! Which settings of a profile decided about a certificate.

use std::fmt;

use pki::Digest;

/// Which settings of a profile were in force: part of each row and of each record of the audit. Equal settings have the same version, over
/// restarts and on all nodes that run one release; another release can describe equal settings by another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProfileVersion([u8; 8]);

impl ProfileVersion {
    /// A version as it was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The version as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }

    /// The version of what these settings describe.
    pub(crate) fn of(settings: &str) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *Digest::of(settings.as_bytes()).as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Display for ProfileVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}
