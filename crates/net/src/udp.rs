//! UDP sockets that send and receive datagrams in batches and answer from the address that the request was sent to.
//!
//! A [`Socket`] is non-blocking and belongs to one thread and one `mio::Poll`. It receives into a [`Batch`] that the thread owns and shares among its
//! sockets; [`Socket::send`] gathers datagrams to several peers into one system call (`sendmmsg`), and equal-sized ones to one peer into one message of
//! it (GSO). Datagrams that the kernel does not accept immediately wait in a bounded backlog. A socket handles addresses and bytes only and knows
//! nothing about DTLS.
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
mod group;
mod outbound;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use mio::{Interest, Registry, Token};
use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::net::sockopt::{
    set_ip_recvtos, set_ipv6_recvtclass, set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force,
};
use socket2::{Domain, Protocol, Type};

use crate::linux;
use outbound::Outbound;

pub use batch::{BATCH_MAX, Batch, Received};
pub use counters::SocketCounters;
pub use finish::finish;
pub use group::{ask_group, join_group};

/// Options of a socket.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Several sockets of this process share the address, one per shard (SO_REUSEPORT).
    pub sharing: Sharing,
    /// Requested bytes of kernel memory for datagrams that wait to be received. The kernel limits it to `net.core.rmem_max`.
    pub receive_buffer_bytes: usize,
    /// Requested bytes of kernel memory for datagrams that wait to be sent. The kernel limits it to `net.core.wmem_max`.
    pub send_buffer_bytes: usize,
}

/// Which other sockets may bind the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// No other socket.
    Exclusive,
    /// Other sockets with this setting; the kernel spreads peers over them by a hash of the addresses.
    Shards,
}

/// When power returns, a few thousand ClientHellos of about 150 bytes (768 bytes of kernel memory each) arrive at a shard that is busy with one
/// batch; 4 MiB holds five thousand of them.
pub const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Answers are as many as requests and a little longer; the backlog holds the rest.
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

/// The fault if a socket could not be created.
#[derive(Debug)]
pub struct BindFault {
    /// The address at which it should have listened.
    pub address: SocketAddr,
    /// For a client's socket, the one peer that it should have communicated with.
    pub peer: Option<SocketAddr>,
    /// The system's error.
    pub source: io::Error,
}

impl BindFault {
    /// The server cannot listen on `address`.
    #[must_use]
    pub fn listening(address: SocketAddr, source: io::Error) -> Self {
        Self { address, peer: None, source }
    }

    fn remedy(&self) -> Option<String> {
        let named = self.peer.unwrap_or(self.address);
        match self.source.kind() {
            // The kernel reports EINVAL: without a zone it does not know which link is meant (RFC 4007 §6).
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
    /// Binds `address`; port 0 lets the system choose a port that no other socket of this address has.
    ///
    /// An IPv6 socket accepts IPv6 only, so that `[::]` and `0.0.0.0` can be bound together.
    ///
    /// # Errors
    /// The address is in use, does not belong to this machine, or is not allowed.
    pub fn bind(address: SocketAddr, options: &SocketOptions) -> Result<Self, BindFault> {
        Self::open(address, None, options).map_err(|source| BindFault::listening(address, source))
    }

    /// Binds any free port and connects to `peer`: the socket receives datagrams of that peer only. For a device.
    ///
    /// # Errors
    /// There is no route to `peer`, or `local` cannot be bound.
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
        // For port 0 the kernel may choose a port that other sockets with SO_REUSEPORT of the same user hold, and would
        // give this server a part of another server's devices. So the port is chosen without the option.
        let shared = options.sharing == Sharing::Shards;
        if shared && address.port() != 0 {
            socket.set_reuse_port(true)?;
        }
        enlarge(&socket, options)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        if shared {
            socket.set_reuse_port(true)?;
        }
        if let Some(peer) = peer {
            socket.connect(&peer.into())?;
        }
        let inner = mio::net::UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new(UdpSockRef::from(&inner))?;
        decline(&inner, address);
        let local = inner.local_addr()?;
        Ok(Self {
            inner,
            outbound: Outbound::new(state.max_gso_segments()),
            state,
            local,
            interest: Interest::READABLE,
            received: 0,
            received_bytes: 0,
        })
    }

    /// The address to which the socket is bound, with the real port if 0 was requested.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The sizes of the receive and send buffers that the kernel granted, in its own accounting (about twice the requested sizes).
    ///
    /// # Errors
    /// The system does not report them.
    pub fn buffer_bytes(&self) -> io::Result<(usize, usize)> {
        let socket = UdpSockRef::from(&self.inner);
        Ok((self.state.recv_buffer_size(UdpSockRef::from(&self.inner))?, self.state.send_buffer_size(socket)?))
    }

    /// Registers with an event loop. The loop is edge-triggered: after a readable event, call [`Socket::receive`] until it returns `WouldBlock`.
    ///
    /// # Errors
    /// The error of `epoll_ctl`.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.inner, token, self.interest)
    }

    /// Requests writable events from the event loop while datagrams wait in the backlog, and only then. Call it once per turn, after
    /// [`Socket::flush`].
    ///
    /// # Errors
    /// The error of `epoll_ctl`.
    pub fn update_interest(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let wanted = if self.wants_write() { Interest::READABLE.add(Interest::WRITABLE) } else { Interest::READABLE };
        if wanted != self.interest {
            registry.reregister(&mut self.inner, token, wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }

    /// Receives the datagrams that wait, at most one batch. `WouldBlock` if none waits.
    ///
    /// # Errors
    /// `WouldBlock`; on a connected socket, an ICMP message about its peer ([`is_report`]); otherwise the kernel's error.
    pub fn receive(&mut self, batch: &mut Batch) -> io::Result<()> {
        batch.fill(|buffers, metas| self.state.recv(UdpSockRef::from(&self.inner), buffers, metas))?;
        self.received += batch.datagram_count();
        self.received_bytes += batch.byte_count();
        Ok(())
    }

    /// Queues one datagram to `peer`, from the address `local` if one is given. It leaves with [`Socket::flush`], or earlier if several
    /// others follow.
    pub fn send(&mut self, peer: SocketAddr, local: Option<IpAddr>, bytes: &[u8]) {
        self.outbound.push(&self.inner, outbound::Flow { peer, local }, bytes);
    }

    /// Sends everything that the kernel accepts; the rest stays in the backlog.
    pub fn flush(&mut self) {
        self.outbound.flush(&self.inner);
    }

    /// Discards the backlog and counts its datagrams as dropped. For the end of a socket whose network accepts no more data.
    pub fn abandon(&mut self) {
        self.outbound.abandon();
    }

    /// Whether datagrams wait for the kernel.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.outbound.has_backlog()
    }

    /// The datagrams that the kernel has dropped since the socket was made, because its receive buffer was full. The count wraps.
    ///
    /// # Errors
    /// The kernel does not count them (before Linux 4.12).
    pub fn receive_drops(&self) -> io::Result<u32> {
        linux::receive_drops(self)
    }

    /// What the socket has sent and received so far.
    #[must_use]
    pub fn counters(&self) -> SocketCounters {
        SocketCounters { received: self.received, received_bytes: self.received_bytes, ..self.outbound.counters() }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Whether a server continues after this error of [`Socket::receive`]: a report (see [`is_report`]), a signal, or a kernel that is out of memory at
/// the moment. None of these means that the socket has failed.
#[must_use]
pub fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_the_moment = [Errno::INTR, Errno::NOMEM, Errno::NOBUFS].map(Errno::raw_os_error);
    is_report(error) || error.raw_os_error().is_some_and(|code| of_the_moment.contains(&code))
}

/// Whether an error of [`Socket::receive`] only reports an ICMP message: nothing listens at the peer, a router has no route or denies it, or a
/// datagram was too long for the path. Each message is reported once, on connected sockets only; any host on the path can have sent it, and the
/// socket keeps working.
#[must_use]
pub fn is_report(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else { return false };
    // The errors to which Linux's `icmp_err_convert` maps ICMP codes, and EMSGSIZE for "fragmentation needed" where we forbid fragmentation.
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

/// Switches off what `quinn-udp` asks the kernel to tell about each datagram and nobody here reads: the type of service and the time of arrival. Each
/// costs time in every receive. A kernel that does not know an option has nothing to switch off.
fn decline(socket: &mio::net::UdpSocket, address: SocketAddr) {
    let service = match address {
        SocketAddr::V4(_) => set_ip_recvtos(socket, false),
        SocketAddr::V6(_) => set_ipv6_recvtclass(socket, false),
    };
    if let Err(error) = service.map_err(io::Error::from).and(linux::stop_timestamps(socket)) {
        tracing::debug!(%error, "cannot switch off what is told of each datagram; receiving costs a little more");
    }
}

/// First requests buffers beyond `net.core.rmem_max` and `wmem_max`, which requires CAP_NET_ADMIN; without it, the kernel silently limits the size.
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
