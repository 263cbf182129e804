//! The source addresses of the devices.
//!
//! For a server on IPv4 loopback, one socket bound to 0.0.0.0 plays every device: each device sends from its own address of 127.0.0.0/8, and
//! the destination of an answer identifies the device. For other servers each device has its own socket and port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How devices are distinguished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AddressPlan {
    /// Device `n` is the `n`th address from [`FIRST`] on, at the one socket's port.
    Loopback,
    /// One socket per device.
    Ports,
}

/// 127.1.0.0: services of this machine listen in 127.0.0.0/16, which is left out.
const FIRST: u32 = 0x7F01_0000;

/// The number of addresses from 127.1.0.0 to 127.254.255.255; 127.255.255.255 is a broadcast address.
pub const LOOPBACK_DEVICES_MAX: usize = 254 << 16;

impl AddressPlan {
    /// The plan for a server at `server`.
    pub(crate) fn towards(server: SocketAddr) -> Self {
        match server.ip() {
            IpAddr::V4(address) if address.is_loopback() => Self::Loopback,
            _ => Self::Ports,
        }
    }

    /// The address that device `index` sends from, where the plan gives it one.
    pub(crate) fn source(self, index: usize) -> Option<IpAddr> {
        match self {
            Self::Loopback => {
                let offset = u32::try_from(index).ok().filter(|_| index < LOOPBACK_DEVICES_MAX)?;
                Some(IpAddr::V4(Ipv4Addr::from_bits(FIRST + offset)))
            }
            Self::Ports => None,
        }
    }

    /// The device that a datagram sent to `local` is for.
    pub(crate) fn device(self, local: Option<IpAddr>) -> Option<usize> {
        match (self, local?) {
            (Self::Loopback, IpAddr::V4(address)) => {
                let index = usize::try_from(address.to_bits().checked_sub(FIRST)?).ok()?;
                (index < LOOPBACK_DEVICES_MAX).then_some(index)
            }
            // A socket bound to 0.0.0.0 sees IPv4 only.
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_is_found_again_by_its_address() {
        let plan = AddressPlan::towards("127.0.0.1:5684".parse().unwrap());
        assert_eq!(plan, AddressPlan::Loopback);
        for index in [0, 1, 255, 256, 65_536, 999_999, LOOPBACK_DEVICES_MAX - 1] {
            let source = plan.source(index).unwrap();
            assert!(source.is_loopback(), "{source}");
            assert_eq!(plan.device(Some(source)), Some(index));
        }
        assert_eq!(plan.source(LOOPBACK_DEVICES_MAX), None);
        for stranger in ["127.0.0.1", "127.255.255.255", "10.0.0.1", "::1"] {
            assert_eq!(plan.device(Some(stranger.parse().unwrap())), None, "{stranger}");
        }
        assert_eq!(plan.device(None), None);
    }

    #[test]
    fn elsewhere_ports_tell_them_apart() {
        for server in ["192.0.2.1:5684", "[::1]:5684", "[2001:db8::1]:5684"] {
            assert_eq!(AddressPlan::towards(server.parse().unwrap()), AddressPlan::Ports, "{server}");
        }
    }
}
