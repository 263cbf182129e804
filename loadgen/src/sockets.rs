//! The sockets of one thread's devices: one for all on loopback, distinguished by source address; elsewhere one for each device at work.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::{Registry, Token};
use net::udp::{Batch, BindFault, RECEIVE_BUFFER_BYTES, Socket, SocketOptions, is_report};

use crate::addresses::AddressPlan;
use crate::part::Part;
use crate::stats::FleetCounts;

/// A device has a few datagrams in flight; a server has thousands.
const DEVICE_SOCKET: SocketOptions =
    SocketOptions { sharing: net::udp::Sharing::Exclusive, receive_buffer_bytes: 1 << 16, send_buffer_bytes: 1 << 16 };

/// The sockets.
pub(crate) struct FleetSockets {
    server: SocketAddr,
    plan: AddressPlan,
    part: Part,
    /// The number of the fleet's first device.
    first: usize,
    sockets: Sockets,
    /// What the sockets that are closed have lost.
    lost: SocketLosses,
}

/// Datagrams that never reached the server, or a device, because of this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SocketLosses {
    received: u64,
    refused: u64,
    dropped: u64,
}

impl SocketLosses {
    /// Counts those of a socket that is not used any more. What still waits there leaves now or never.
    fn add(&mut self, socket: &mut Socket) {
        socket.flush();
        socket.abandon();
        // A kernel that does not count (before Linux 4.12) leaves the count at zero.
        self.received += u64::from(socket.receive_drops().unwrap_or(0));
        let counters = socket.counters();
        self.refused += counters.dropped_refused - counters.refused_as_absent;
        self.dropped += counters.dropped_backlog_full;
    }

    /// Writes them down.
    pub(crate) fn count(self, counts: &mut FleetCounts) {
        (counts.receive_drops, counts.refused_sends, counts.dropped_sends) =
            (self.received, self.refused, self.dropped);
    }
}

/// One socket for all devices, or one for each device at work.
enum Sockets {
    Shared(Box<Socket>),
    PerDevice(Vec<Option<Box<Socket>>>),
}

impl FleetSockets {
    /// For `slots` devices that talk to `server`.
    pub(crate) fn new(
        server: SocketAddr,
        (part, first): (Part, usize),
        slots: usize,
        registry: &Registry,
    ) -> Result<Self, BindFault> {
        let plan = AddressPlan::towards(server);
        let sockets = match plan {
            AddressPlan::Loopback => {
                let mut socket = Socket::bind(SocketAddr::from(([0; 4], 0)), &SocketOptions::default())?;
                socket.register(registry, Token(0)).map_err(|source| unregistered(server, source))?;
                Sockets::Shared(Box::new(socket))
            }
            AddressPlan::Ports => {
                raise_file_limit();
                Sockets::PerDevice(std::iter::repeat_with(|| None).take(slots).collect())
            }
        };
        Ok(Self { server, plan, part, first, sockets, lost: SocketLosses::default() })
    }

    /// Whether each device has a socket of its own.
    pub(crate) fn is_per_device(&self) -> bool {
        self.plan == AddressPlan::Ports
    }

    /// Prepares the socket of a device that starts.
    pub(crate) fn open(&mut self, slot: usize, registry: &Registry) -> Result<(), BindFault> {
        if let Sockets::PerDevice(sockets) = &mut self.sockets {
            let mut socket = Socket::connect(self.server, None, &DEVICE_SOCKET)?;
            socket.register(registry, Token(slot)).map_err(|source| unregistered(self.server, source))?;
            sockets[slot] = Some(Box::new(socket));
        }
        Ok(())
    }

    /// Closes the socket of a device that is done.
    pub(crate) fn close(&mut self, slot: usize) {
        if let Sockets::PerDevice(sockets) = &mut self.sockets
            && let Some(mut socket) = sockets[slot].take()
        {
            self.lost.add(&mut socket);
        }
    }

    /// What all sockets have lost; the run is over.
    pub(crate) fn end(mut self) -> SocketLosses {
        match self.sockets {
            Sockets::Shared(mut socket) => self.lost.add(&mut socket),
            Sockets::PerDevice(sockets) => {
                sockets.into_iter().flatten().for_each(|mut socket| self.lost.add(&mut socket));
            }
        }
        self.lost
    }

    /// Hands a datagram of a device to its socket.
    pub(crate) fn send(&mut self, slot: usize, bytes: &[u8]) {
        let (server, source) = (self.server, self.plan.source(self.first + self.part.device(slot)));
        if let Some(socket) = self.get(slot) {
            socket.send(server, source, bytes);
        }
    }

    /// Sends what the socket of this token has gathered.
    pub(crate) fn flush(&mut self, token: usize, registry: &Registry) -> io::Result<()> {
        if let Some(socket) = self.get(token) {
            socket.flush();
            socket.update_interest(registry, Token(token))?;
        }
        Ok(())
    }

    /// Receives a batch from the socket of this token; false if there is nothing.
    pub(crate) fn receive(&mut self, token: usize, batch: &mut Batch) -> io::Result<bool> {
        let Some(socket) = self.get(token) else { return Ok(false) };
        loop {
            match socket.receive(batch) {
                Ok(()) => return Ok(true),
                // Nothing listens there yet, or a router has no route at the moment: the devices retransmit.
                Err(fault) if is_report(&fault) => {}
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(fault) => return Err(fault),
            }
        }
    }

    /// The device that a datagram is for.
    pub(crate) fn addressee(&self, token: usize, peer: SocketAddr, local: Option<IpAddr>) -> Option<usize> {
        match self.plan {
            AddressPlan::Loopback if peer == self.server => self.slot_of(local),
            AddressPlan::Loopback => None,
            AddressPlan::Ports => Some(token),
        }
    }

    fn slot_of(&self, local: Option<IpAddr>) -> Option<usize> {
        let device = self.plan.device(local)?.checked_sub(self.first)?;
        self.part.owns(device).then(|| self.part.slot(device))
    }

    fn get(&mut self, index: usize) -> Option<&mut Socket> {
        match &mut self.sockets {
            Sockets::Shared(socket) => Some(socket),
            Sockets::PerDevice(sockets) => sockets.get_mut(index)?.as_deref_mut(),
        }
    }
}

/// A socket that no event loop watches receives nothing.
fn unregistered(server: SocketAddr, source: io::Error) -> BindFault {
    BindFault { address: SocketAddr::from(([0; 4], 0)), peer: Some(server), source }
}

/// With a socket per device, as many descriptors are needed; the limit is raised as far as the system allows.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // If the limit cannot be raised, opening a socket reports it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// A receive buffer smaller than what a run asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SmallReceiveBuffer {
    /// What the kernel granted, in its own accounting.
    pub granted_bytes: usize,
    /// What was asked for.
    pub wanted_bytes: usize,
}

impl SmallReceiveBuffer {
    fn of(granted_bytes: usize, wanted_bytes: usize) -> Option<Self> {
        (granted_bytes < wanted_bytes).then_some(Self { granted_bytes, wanted_bytes })
    }

    /// Whether the sockets of a run towards this server get less than they ask for. What cannot be found out is no warning: the run finds it out.
    #[must_use]
    pub fn towards(server: SocketAddr) -> Option<Self> {
        let (socket, wanted) = match AddressPlan::towards(server) {
            AddressPlan::Loopback => {
                (Socket::bind(SocketAddr::from(([0; 4], 0)), &SocketOptions::default()), RECEIVE_BUFFER_BYTES)
            }
            AddressPlan::Ports => (Socket::connect(server, None, &DEVICE_SOCKET), DEVICE_SOCKET.receive_buffer_bytes),
        };
        let (granted, _) = socket.ok()?.buffer_bytes().ok()?;
        Self::of(granted, wanted)
    }
}

impl fmt::Display for SmallReceiveBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [granted, wanted] = [self.granted_bytes, self.wanted_bytes].map(|bytes| bytes / 1024);
        write!(
            f,
            "the kernel granted a receive buffer of {granted} KiB where the devices need {wanted} KiB: answers that do not fit are lost, and void the run if they are \
             more than 0.1 %; raise net.core.rmem_max or grant CAP_NET_ADMIN"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use mio::Poll;

    use super::*;
    use crate::part::Segment;

    /// A server, and the sockets of one device that talks to it.
    fn towards(server: &UdpSocket) -> (FleetSockets, Poll) {
        let (poll, part) = (Poll::new().unwrap(), Segment::WHOLE.part());
        let address = server.local_addr().unwrap();
        let mut sockets = FleetSockets::new(address, (part, 0), 1, poll.registry()).unwrap();
        sockets.open(0, poll.registry()).unwrap();
        (sockets, poll)
    }

    /// The kernel drops what a thread that computes does not read in time: the run says how much.
    #[test]
    fn answers_that_found_the_socket_full_are_counted() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(loopback).unwrap();
            let (mut sockets, poll) = towards(&server);
            sockets.send(0, b"hello");
            sockets.flush(0, poll.registry()).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (_, device) = server.recv_from(&mut [0; 16]).unwrap();
            // Nobody reads. A buffer of 4 MiB, which the kernel doubles, holds some ten thousand.
            (0..30_000).for_each(|_| drop(server.send_to(&[0; 500], device)));
            let lost = sockets.end();
            assert!(lost.received > 10_000, "{loopback}: {lost:?}");
            assert_eq!((lost.refused, lost.dropped), (0, 0), "{loopback}");
        }
    }

    /// What the kernel does not take was never sent; that nobody listens at the server is no fault of the generator.
    #[test]
    fn datagrams_that_this_machine_refused_are_counted() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let server = UdpSocket::bind(loopback).unwrap();
            let (mut sockets, poll) = towards(&server);
            // Longer than a datagram can be.
            (0..3).for_each(|_| sockets.send(0, &[0; 65_530]));
            sockets.flush(0, poll.registry()).unwrap();
            // A device that is done takes its socket with it, and not what it lost.
            sockets.close(0);
            assert_eq!(sockets.end(), SocketLosses { refused: 3, ..SocketLosses::default() }, "{loopback}");
        }
        let server = UdpSocket::bind("[::1]:0").unwrap();
        let (mut sockets, poll) = towards(&server);
        drop(server);
        let until = Instant::now() + Duration::from_secs(10);
        // Each second one meets the report about the one before.
        while sockets.get(0).unwrap().counters().dropped_refused == 0 && Instant::now() < until {
            sockets.send(0, b"hello");
            sockets.flush(0, poll.registry()).unwrap();
        }
        assert_eq!(sockets.get(0).unwrap().counters().dropped_refused, 1);
        assert_eq!(sockets.end(), SocketLosses::default());
    }

    #[test]
    fn a_buffer_that_the_kernel_cut_is_said() {
        assert_eq!(SmallReceiveBuffer::of(4 << 20, 4 << 20), None);
        let said = SmallReceiveBuffer::of(425_984, 4 << 20).unwrap().to_string();
        assert!(
            said.starts_with("the kernel granted a receive buffer of 416 KiB where the devices need 4096 KiB"),
            "{said}"
        );
    }
}
