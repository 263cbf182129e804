//! Bodies are shown in `{:?}` by their length only. Certificate requests and private keys must not reach a log because
//! a peer was printed.

use std::fmt;

/// A number of bytes.
pub(crate) struct Length(pub(crate) usize);

impl fmt::Debug for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}
