//! An address for each of many devices.

use std::net::{Ipv4Addr, SocketAddr};

use dtls::{Path, SocketIndex};

/// The network of the devices: room for sixteen million of them.
const NETWORK: u32 = 0x0a00_0000;

/// The address of a device: each has an IPv4 address of its own.
pub(crate) fn address_of(device: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from(NETWORK + device), 5684))
}

/// The device that has this address.
pub(crate) fn device_at(address: SocketAddr) -> Option<u32> {
    let SocketAddr::V4(address) = address else { return None };
    u32::from(*address.ip()).checked_sub(NETWORK)
}

/// The path between a device and the server.
pub(crate) fn path_from(peer: SocketAddr) -> Path {
    Path { peer, local: None, socket: SocketIndex(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_thousand_devices_have_addresses_of_their_own() {
        for device in [0, 1, 255, 65_536, 199_999, (1 << 24) - 1] {
            assert_eq!(device_at(address_of(device)), Some(device));
        }
        assert_eq!(device_at(SocketAddr::from(([9, 0, 0, 1], 5684))), None);
    }
}
