//! Networks of peers: prefixes of their addresses, and the share of slots that one prefix may hold while others
//! wait.

use std::net::IpAddr;

use crate::path::Path;

/// Share of the slots that one prefix may hold while others wait: a quarter for a /16 or a /32, which may be a carrier; an eighth for a /20
/// or a /48; a sixteenth for a /24 or a /56, which may be one NAT.
pub(super) const SHARES: [usize; LEVELS] = [4, 8, 16];
pub(super) const LEVELS: usize = 3;

const _: () = assert!(SHARES[0] < SHARES[1] && SHARES[1] < SHARES[2]);

/// A network as one number: its kind, then its narrowest prefix (a /24 of IPv4, a /56 of IPv6). Networks with a common prefix are
/// adjacent in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(u64);

impl Network {
    pub(super) fn of(path: Path) -> Self {
        let [a, b, c, d, e, f, g] = match path.peer.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                return Self(u64::from_be_bytes([4, 0, 0, 0, 0, a, b, c]));
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                [a, b, c, d, e, f, g]
            }
        };
        Self(u64::from_be_bytes([6, a, b, c, d, e, f, g]))
    }

    /// Level 0 is the widest.
    pub(super) fn prefix(self, level: usize) -> u64 {
        let is_v6 = self.0 >> 56 == 6;
        let dropped = match (is_v6, level) {
            (true, 0) => 24,
            (true, 1) | (false, 0) => 8,
            (false, 1) => 4,
            _ => 0,
        };
        self.0 >> dropped << dropped
    }
}

/// Keyed hashes of a peer's prefixes, the widest first.
pub(super) type PrefixHashes = [u64; LEVELS];
