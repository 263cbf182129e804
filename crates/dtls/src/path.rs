//! The path of a peer's datagrams, and so of our answers.

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

/// One path of UDP datagrams: the peer's address, the local address it sent to, and the socket of the shell. Each datagram arrives by one
/// path, and datagrams to a session leave by the path that the session keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Source address of the peer's datagrams.
    pub peer: SocketAddr,
    /// Destination address of the datagrams, if the shell knows it: answers leave from there.
    pub local: Option<IpAddr>,
    /// Which of the shell's sockets received them.
    pub socket: SocketIndex,
}

/// Hashes as few words as possible, because each datagram looks its path up: a derived implementation would hash field by
/// field.
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
