//! UDP sockets that move datagrams in batches and answer from the address that was asked.
//!
//! A [`Socket`] is non-blocking and belongs to one thread and one `mio::Poll`. It receives into a [`Batch`] that the thread owns and shares among
//! its sockets, and it sends through a [`Socket::send`] that gathers equal-sized datagrams to one peer into one system call (GSO). What the
//! kernel does not take at once waits in a bounded backlog. It knows no DTLS: addresses and bytes only.
//!
//! ```text
//!   readable ──► receive(&mut Batch) ──► batch.datagrams() ──► engine ──► send(peer, local, bytes)* ──► flush()
//!                                                                             │ WouldBlock
//!   writable ◄── update_interest() ◄── wants_write() ◄──────── backlog ◄──────┘
//!      └──────► flush()
//! ```

mod batch;
mod counters;
mod finish;
mod outbound;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mio::{Interest, Registry, Token};
use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, Type};

use outbound::Outbound;

pub use batch::{BATCH_MAX, Batch, Received};
pub use counters::SocketCounters;
pub use finish::finish;

/// What a socket is asked to be.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Several sockets of this process share the address, one per shard (SO_REUSEPORT).
    pub sharing: Sharing,
    /// Bytes of kernel memory asked for datagrams that wait for us. The kernel caps it at `net.core.rmem_max`.
    pub receive_buffer_bytes: usize,
    /// Bytes of kernel memory asked for datagrams that wait for the network. The kernel caps it at `net.core.wmem_max`.
    pub send_buffer_bytes: usize,
}

/// Who else may bind the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Nobody.
    Exclusive,
    /// Other sockets with this setting; the kernel spreads peers over them by a hash of the addresses.
    Shards,
}

/// A power-restore storm puts a few thousand hellos of about 150 bytes (768 bytes of kernel memory each) in front of a shard that is busy with
/// one batch; 4 MiB holds five thousand of them.
pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Answers are as many as questions and a little longer; the backlog takes over beyond.
pub const SEND_BUFFER_BYTES: usize = 1 << 20;

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            sharing: Sharing::Exclusive,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
            send_buffer_bytes: SEND_BUFFER_BYTES,
        }
    }
}

/// A socket that could not be had.
#[derive(Debug)]
pub struct BindFault {
    /// Where it should have listened.
    pub address: SocketAddr,
    /// The one peer it should have talked to, if it is a client's.
    pub peer: Option<SocketAddr>,
    /// What the system said.
    pub source: io::Error,
}

impl BindFault {
    /// `address` cannot be listened on.
    #[must_use]
    pub fn listening(address: SocketAddr, source: io::Error) -> Self {
        Self { address, peer: None, source }
    }

    fn remedy(&self) -> Option<String> {
        let named = self.peer.unwrap_or(self.address);
        match self.source.kind() {
            // The kernel says EINVAL: without a zone it does not know which link is meant (RFC 4007 §6).
            io::ErrorKind::InvalidInput if lacks_zone(named) => Some(format!(
                "a link-local address needs the interface it is on, as in [{}%eth0]:{}",
                named.ip(),
                named.port()
            )),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                Some(format!("`ip route get {}` shows the route", named.ip()))
            }
            io::ErrorKind::PermissionDenied if self.peer.is_some() => {
                Some("it is a broadcast address, or a firewall on this machine forbids it".into())
            }
            io::ErrorKind::AddrInUse => {
                Some("another process uses it: `ss -tulpn` shows which one, or choose another port".into())
            }
            io::ErrorKind::AddrNotAvailable if self.peer.is_none() => {
                Some("no interface of this machine has this address: `ip address` lists them".into())
            }
            io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher port or grant the capability".into())
            }
            _ if self.source.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                Some("each socket is a file: raise `ulimit -n`".into())
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for BindFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "cannot send to {peer}: {}", self.source)?,
            None => write!(f, "cannot listen on {}: {}", self.address, self.source)?,
        }
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

fn lacks_zone(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}

impl std::error::Error for BindFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// One UDP socket of one thread.
#[derive(Debug)]
pub struct Socket {
    inner: mio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    outbound: Outbound,
    interest: Interest,
    received: u64,
    received_bytes: u64,
}

impl Socket {
    /// Binds `address`; port 0 lets the system choose.
    ///
    /// An IPv6 socket takes IPv6 only, so that `[::]` and `0.0.0.0` stand side by side.
    ///
    /// # Errors
    /// The address is taken, not ours, or not allowed.
    pub fn bind(address: SocketAddr, options: &SocketOptions) -> Result<Self, BindFault> {
        Self::open(address, None, options).map_err(|source| BindFault::listening(address, source))
    }

    /// Binds any free port towards `peer` and takes datagrams of that peer only. A device's socket.
    ///
    /// # Errors
    /// `peer` cannot be routed to, or `local` cannot be bound.
    pub fn connect(peer: SocketAddr, local: Option<IpAddr>, options: &SocketOptions) -> Result<Self, BindFault> {
        let any = match peer {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = SocketAddr::new(local.unwrap_or(any), 0);
        Self::open(address, Some(peer), options).map_err(|source| BindFault { address, peer: Some(peer), source })
    }

    fn open(address: SocketAddr, peer: Option<SocketAddr>, options: &SocketOptions) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if options.sharing == Sharing::Shards {
            socket.set_reuse_port(true)?;
        }
        enlarge(&socket, options)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        if let Some(peer) = peer {
            socket.connect(&peer.into())?;
        }
        let inner = mio::net::UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new(UdpSockRef::from(&inner))?;
        let local = inner.local_addr()?;
        Ok(Self {
            inner,
            state,
            local,
            outbound: Outbound::default(),
            interest: Interest::READABLE,
            received: 0,
            received_bytes: 0,
        })
    }

    /// Where the socket is bound; the real port where 0 was asked for.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The receive and send buffers that the kernel granted, in its own accounting (about twice what was asked).
    ///
    /// # Errors
    /// The system refuses to tell.
    pub fn buffer_bytes(&self) -> io::Result<(usize, usize)> {
        let socket = UdpSockRef::from(&self.inner);
        Ok((self.state.recv_buffer_size(UdpSockRef::from(&self.inner))?, self.state.send_buffer_size(socket)?))
    }

    /// Joins an event loop. The loop is edge-triggered: after a readable event, call [`Socket::receive`] until it says `WouldBlock`.
    ///
    /// # Errors
    /// What `epoll_ctl` says.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.inner, token, self.interest)
    }

    /// Asks the event loop for writable events while datagrams wait in the backlog, and only then. Call once a turn, after [`Socket::flush`].
    ///
    /// # Errors
    /// What `epoll_ctl` says.
    pub fn update_interest(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let wanted = if self.wants_write() { Interest::READABLE.add(Interest::WRITABLE) } else { Interest::READABLE };
        if wanted != self.interest {
            registry.reregister(&mut self.inner, token, wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }

    /// Receives what waits, at most one batch. `WouldBlock` when nothing does.
    ///
    /// # Errors
    /// `WouldBlock`; on a connected socket what ICMP said of its peer ([`is_report`]); else what the kernel says.
    pub fn receive(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.fill(|buffers, metas| self.state.recv(UdpSockRef::from(&self.inner), buffers, metas))?;
        self.received += batch.datagram_count();
        self.received_bytes += batch.byte_count();
        Ok(())
    }

    /// Queues one datagram to `peer`, from the address `local` where it matters which. It leaves with the next different one or with [`Socket::flush`].
    pub fn send(&mut self, peer: SocketAddr, local: Option<IpAddr>, bytes: &[u8]) {
        self.outbound.push(&self.inner, &self.state, outbound::Flow { peer, local }, bytes);
    }

    /// Gives the kernel everything it takes; the rest stays in the backlog.
    pub fn flush(&mut self) {
        self.outbound.flush(&self.inner, &self.state);
    }

    /// Gives up what waits in the backlog; it counts as dropped. The end of a socket whose network takes nothing any more.
    pub fn abandon(&mut self) {
        self.outbound.abandon();
    }

    /// Whether datagrams wait for the kernel.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.outbound.has_backlog()
    }

    /// What was moved so far.
    #[must_use]
    pub fn counters(&self) -> SocketCounters {
        SocketCounters { received: self.received, received_bytes: self.received_bytes, ..self.outbound.counters() }
    }
}

/// Whether a server goes on after this error of [`Socket::receive`]: a report (see [`is_report`]), a signal, or a kernel that has no memory at
/// the moment. None of them says anything about the socket.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_the_moment = [Errno::INTR, Errno::NOMEM, Errno::NOBUFS].map(Errno::raw_os_error);
    is_report(error) || error.raw_os_error().is_some_and(|code| of_the_moment.contains(&code))
}

/// Whether an error of [`Socket::receive`] only passes on what an ICMP message said: that nothing listens there, that a router has no way or no
/// permission, that a datagram was too long for the path. It comes once a message, on connected sockets alone; anybody on the way can have sent it,
/// and the socket goes on as it was.
#[must_use]
pub fn is_report(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else { return false };
    // What `icmp_err_convert` of Linux makes of ICMP's codes, and EMSGSIZE of "fragmentation needed" where we forbid fragmentation.
    [
        Errno::CONNREFUSED,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::NOPROTOOPT,
        Errno::OPNOTSUPP,
        Errno::MSGSIZE,
        Errno::ACCESS,
        Errno::PROTO,
    ]
    .iter()
    .any(|report| report.raw_os_error() == code)
}

/// Asks for buffers beyond `net.core.rmem_max` and `wmem_max` first, which CAP_NET_ADMIN allows; else the kernel caps what it gives without an error.
fn enlarge(socket: &socket2::Socket, options: &SocketOptions) -> io::Result<()> {
    if set_socket_recv_buffer_size_force(socket, options.receive_buffer_bytes).is_err() {
        socket.set_recv_buffer_size(options.receive_buffer_bytes)?;
    }
    if set_socket_send_buffer_size_force(socket, options.send_buffer_bytes).is_err() {
        socket.set_send_buffer_size(options.send_buffer_bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
