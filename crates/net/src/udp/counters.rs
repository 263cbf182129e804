//! What a socket counts.

/// What a socket has sent and received since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Datagrams received.
    pub received: u64,
    /// Bytes of UDP payload received.
    pub received_bytes: u64,
    /// Datagrams that the kernel accepted.
    pub sent: u64,
    /// Bytes of UDP payload that the kernel accepted.
    pub sent_bytes: u64,
    /// System calls that sent datagrams; fewer than `sent`, because one call serves several peers and GSO joins datagrams to one.
    pub send_calls: u64,
    /// Datagrams that had to wait in the backlog.
    pub delayed: u64,
    /// Datagrams dropped because the backlog was full or discarded: see [`super::Socket::abandon`].
    pub dropped_backlog_full: u64,
    /// Datagrams that the kernel refused (no route, too big, ...); the protocol retransmits them.
    pub dropped_refused: u64,
    /// The ones among `dropped_refused` that a connected socket refused because its peer's host or a router had reported the peer as not there: no fault of
    /// this machine.
    pub refused_as_absent: u64,
}

impl SocketCounters {
    /// Adds the counters of two sockets.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            received_bytes: self.received_bytes + other.received_bytes,
            sent: self.sent + other.sent,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            send_calls: self.send_calls + other.send_calls,
            delayed: self.delayed + other.delayed,
            dropped_backlog_full: self.dropped_backlog_full + other.dropped_backlog_full,
            dropped_refused: self.dropped_refused + other.dropped_refused,
            refused_as_absent: self.refused_as_absent + other.refused_as_absent,
        }
    }
}
