//! How bodies show themselves in `{:?}`: by their length. Certificate requests, and one day private keys, must not reach a
//! log because somebody printed a peer.

use std::fmt;

/// So many bytes.
pub(crate) struct Length(pub(crate) usize);

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}
