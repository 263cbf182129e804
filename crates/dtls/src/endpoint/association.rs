//! What the table finds a session by.

use crate::path::Path;

/// What a session or a handshake is found by. A tenant of the table keeps the path of its datagrams and derives its association from what
/// it keeps: nothing is stored twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Association {
    /// Without a connection ID each path is an association of its own: "the host/port number is presumably used to look up the appropriate
    /// security association for incoming records" (RFC 6347 §4.1). A connection ID (RFC 9146) would be another variant; what it finds may
    /// keep another path than the one that the record came by.
    Address(Path),
}

impl Association {
    /// The association of a record that came by `path` and carries no connection ID.
    pub(super) const fn of(path: Path) -> Self {
        Self::Address(path)
    }
}
