//! Where a datagram came from, and the handle of a session.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// What keys the session table: how a datagram reached us, and therefore how an answer must leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Route {
    /// An association without a connection ID: its peer is its address (RFC 6347 §4.1).
    Address(Path),
}

impl Route {
    /// The address of the peer at the other end.
    pub fn peer(&self) -> SocketAddr {
        match self {
            Self::Address(path) => path.peer,
        }
    }
}

/// One path of UDP datagrams: the peer's address, the local address it sent to, and the socket of the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Source address of the peer's datagrams.
    pub peer: SocketAddr,
    /// Address they were sent to, where the shell knows it: answers leave from there.
    pub local: Option<IpAddr>,
    /// Which of the shell's sockets received them.
    pub socket: SocketIndex,
}

/// In as few words as hold it, for each datagram looks its route up: a derived one would go through the hasher field by field.
impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let ends = u32::from(self.peer.port()) << 16 | u32::from(self.socket.0);
        let (local, local_v6) = match self.local {
            None => (0, None),
            Some(IpAddr::V4(ip)) => (ip.to_bits(), None),
            Some(IpAddr::V6(ip)) => (0, Some(ip.to_bits())),
        };
        match self.peer {
            SocketAddr::V4(peer) => state.write_u128(joined([peer.ip().to_bits(), ends, local, 0])),
            SocketAddr::V6(peer) => {
                state.write_u128(peer.ip().to_bits());
                state.write_u128(joined([peer.flowinfo(), peer.scope_id(), ends, local]));
            }
        }
        if let Some(local) = local_v6 {
            state.write_u128(local);
        }
    }
}

fn joined(words: [u32; 4]) -> u128 {
    words.into_iter().fold(0, |joined, word| joined << 32 | u128::from(word))
}

/// Index of a socket in the shell's own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketIndex(pub u16);

/// Handle of one session: a slot and its generation, so that a stale handle never reaches the slot's next tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// Place in the endpoint's slab.
    pub slot: u32,
    /// How many tenants the slot had before.
    pub generation: u32,
}
