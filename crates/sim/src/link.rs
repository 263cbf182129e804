//! The link between the devices and the server: one queue of datagrams in flight, for both directions.

use std::net::SocketAddr;

/// The link of a world.
pub type SimulatedLink = ::link::EmulatedLink<Towards>;

/// The destination of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// To the server, from this device.
    Server(SocketAddr),
    /// To the device with this address.
    Device(SocketAddr),
}
