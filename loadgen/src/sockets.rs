//! The sockets of one thread's devices: one for all on loopback, distinguished by source address; elsewhere one for each device at work.

use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::{Registry, Token};
use net::udp::{Batch, BindFault, Socket, SocketOptions, is_report};

use crate::addresses::AddressPlan;
use crate::part::Part;

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
        Ok(Self { server, plan, part, first, sockets })
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
            socket.flush();
        }
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
