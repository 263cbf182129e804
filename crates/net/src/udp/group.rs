//! Sockets of multicast groups, for discovery over plain CoAP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use rustix::net::netdevice::name_to_index;
use rustix::net::sockopt::set_ip_multicast_if_with_ifindex;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};

/// A non-blocking socket that receives what is sent to `group` on one interface, and nothing else: no unicast datagram, and
/// no other group that a socket of this machine has joined there. What it sends has an address of the interface as its
/// source, and the port of the group (Linux leaves the source open where the bound address is a multicast one).
///
/// # Errors
/// `NotFound` or another error of the kernel if there is no such interface; its error if the group cannot be joined.
pub fn join_group(group: IpAddr, port: u16, interface: &str) -> io::Result<UdpSocket> {
    let domain = if group.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    let index = name_to_index(&socket, interface)?;
    // Another CoAP server of this machine may be in the group too.
    socket.set_reuse_address(true)?;
    match group {
        IpAddr::V4(group) => {
            socket.bind(&SocketAddr::from((group, port)).into())?;
            socket.set_multicast_all_v4(false)?;
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))?;
        }
        IpAddr::V6(group) => {
            socket.set_only_v6(true)?;
            socket.bind(&SocketAddr::V6(SocketAddrV6::new(group, port, 0, index)).into())?;
            socket.set_multicast_all_v6(false)?;
            socket.join_multicast_v6(&group, index)?;
        }
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A socket that sends to multicast groups of the family of `group`, on one interface if it is named, and that receives the
/// answers; and the number of that interface, or 0.
///
/// # Errors
/// As [`join_group`].
pub fn ask_group(group: IpAddr, interface: Option<&str>) -> io::Result<(UdpSocket, u32)> {
    let (domain, own) = match group {
        IpAddr::V4(_) => (Domain::IPV4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (Domain::IPV6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    let index = interface.map_or(Ok(0), |name| name_to_index(&socket, name))?;
    if index > 0 {
        match group {
            IpAddr::V4(group) => {
                set_ip_multicast_if_with_ifindex(&socket, &group, &Ipv4Addr::UNSPECIFIED, index)?;
            }
            IpAddr::V6(_) => socket.set_multicast_if_v6(index)?,
        }
    }
    socket.bind(&SocketAddr::from((own, 0)).into())?;
    Ok((socket.into(), index))
}
