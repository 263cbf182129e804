//! Ports for servers that do not accept port 0, or that have to come back at the same one.
//!
//! They lie below the range from which the kernel takes the ports of other sockets (from 32768 on): between this choice and the moment at which the server
//! binds its port, no client on this machine gets it by chance. Tests of other crates include this file: it needs nothing but std.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

const LOWEST: u16 = 20_000;
const COUNT: u16 = 10_000;
/// How far the first choices of two successive processes are apart: more ports than one of them takes.
const STRIDE: u32 = 211;
const TRIES: usize = 1_000;
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// How many ports this process has tried: it chooses none of them twice before it has tried all.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// A port that no socket on loopback has, UDP or TCP.
pub(crate) fn free_port() -> io::Result<u16> {
    free_ports(1)
}

/// The lower one of two successive free ports.
pub(crate) fn two_free_ports() -> io::Result<u16> {
    free_ports(2)
}

/// A free port on 127.0.0.1.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, free_port()?).into())
}

fn free_ports(successive: u16) -> io::Result<u16> {
    let mut choices = (0..TRIES).map(|_| chosen(TRIED.fetch_add(successive, Ordering::Relaxed)));
    let found = choices.find(|first| (*first..first + successive).all(is_free));
    found.ok_or_else(|| io::Error::other(format!("none of {TRIES} ports from {LOWEST} on is free on loopback")))
}

/// Processes that run at the same time begin at different ports.
fn chosen(tried: u16) -> u16 {
    let offset = std::process::id().wrapping_mul(STRIDE).wrapping_add(tried.into()) % u32::from(COUNT);
    LOWEST + u16::try_from(offset).unwrap_or_default()
}

fn is_free(port: u16) -> bool {
    LOOPBACKS.iter().all(|ip| UdpSocket::bind((*ip, port)).is_ok() && TcpListener::bind((*ip, port)).is_ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_chosen_twice_and_none_is_the_kernels() {
        let pairs: Vec<u16> = (0..20).map(|_| two_free_ports().unwrap()).collect();
        let all: BTreeSet<u16> = pairs.iter().flat_map(|first| [*first, first + 1]).collect();
        assert_eq!(all.len(), 40, "{pairs:?}");
        assert!(all.iter().all(|port| (LOWEST..=LOWEST + COUNT).contains(port)), "{all:?}");
    }

    #[test]
    fn a_port_that_either_protocol_has_in_either_family_is_not_free() {
        let port = free_port().unwrap();
        assert!(is_free(port));
        for ip in LOOPBACKS {
            let udp = UdpSocket::bind((ip, port)).unwrap();
            assert!(!is_free(port), "UDP, {ip}");
            drop(udp);
            let tcp = TcpListener::bind((ip, port)).unwrap();
            assert!(!is_free(port), "TCP, {ip}");
            drop(tcp);
        }
    }
}
