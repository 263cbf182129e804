//! The key by which the table finds a session.

use crate::path::Path;

/// The key by which a session or a handshake is found. An entry of the table keeps the path of its datagrams and derives its association from
/// that, so nothing is stored twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Association {
    /// Without a connection ID each path is its own association: "the host/port number is presumably used to look up the appropriate security
    /// association for incoming records" (RFC 6347 §4.1). A connection ID (RFC 9146) would be another variant; the session it finds may have
    /// a path that differs from that of the record.
    Address(Path),
}

impl Association {
    /// The association of a record that arrived by `path` without a connection ID.
    pub(super) const fn of(path: Path) -> Self {
        Self::Address(path)
    }
}
