//! Whose the half-open handshakes are, by network: a /24 of IPv4, a /56 of IPv6.
//!
//! A whole carrier may stand behind one /24 of its NAT, so a count by network means nothing as long as there are slots. Only under pressure
//! does it: then a network that holds its share gets no more of them, and who knocks from elsewhere finds one free.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::route::Route;

/// Half-open handshakes by network. One entry for each network that has any: never more than there are handshakes.
#[derive(Default)]
pub(super) struct Networks(BTreeMap<Network, u32>);

/// Its kind, then its prefix, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Network(u64);

impl Network {
    fn of(route: Route) -> Self {
        let [a, b, c, d, e, f, g] = match route.peer().ip().to_canonical() {
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
}

impl Networks {
    pub(super) fn enter(&mut self, route: Route) {
        *self.0.entry(Network::of(route)).or_insert(0) += 1;
    }

    pub(super) fn leave(&mut self, route: Route) {
        let network = Network::of(route);
        match self.0.get_mut(&network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.0.remove(&network);
            }
        }
    }

    /// Pressure begins with three quarters of the slots taken; a network's share is half of them. One network alone can thus fill three
    /// quarters, and the last one is for the others.
    pub(super) fn is_crowded(&self, route: Route, half_open: usize, half_open_max: usize) -> bool {
        let pressure = half_open >= half_open_max - half_open_max / 4;
        let held = || self.0.get(&Network::of(route)).map_or(0, |count| usize::try_from(*count).unwrap_or(usize::MAX));
        pressure && held() >= half_open_max.div_ceil(2)
    }

    #[cfg(debug_assertions)]
    pub(super) fn total(&self) -> usize {
        self.0.values().map(|count| usize::try_from(*count).unwrap_or(usize::MAX)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::route::{Path, SocketIndex};

    fn route(address: &str) -> Route {
        let peer: SocketAddr = address.parse().unwrap();
        Route::Address(Path { peer, local: None, socket: SocketIndex(0) })
    }

    #[test]
    fn d46_networks_are_told_apart_by_their_prefixes() {
        let same = |a: &str, b: &str| Network::of(route(a)) == Network::of(route(b));
        assert!(same("192.0.2.1:1", "192.0.2.200:2"));
        assert!(!same("192.0.2.1:1", "192.0.3.1:1"));
        assert!(same("[::ffff:192.0.2.1]:1", "192.0.2.7:1"), "a dual-stack socket");
        assert!(same("[2001:db8:0:1::1]:1", "[2001:db8:0:fe::2]:1"));
        assert!(!same("[2001:db8:0:1::1]:1", "[2001:db8:0:100::1]:1"));
    }
}
