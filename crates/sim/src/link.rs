//! The link between the devices and the server: one queue of datagrams in flight, both ways.

use std::net::SocketAddr;

/// The link of a world.
pub type SimulatedLink = ::link::EmulatedLink<Towards>;

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// To the server, from this device.
    Server(SocketAddr),
    /// To the device with this address.
    Device(SocketAddr),
}
