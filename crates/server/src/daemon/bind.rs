//! The sockets of all shards, bound before any of them serves.
//!
//! The kernel distributes peers over the sockets of one address by a hash modulo the number of sockets: a socket that is added later moves half of
//! the peers to another shard, which does not know them.

use std::net::SocketAddr;

use net::udp::{BindFault, RECEIVE_BUFFER_BYTES, Sharing, Socket, SocketOptions};

/// One list of sockets per shard; the position in the list identifies the listen address and is the `SocketIndex` of its paths.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) shards: Vec<Vec<Socket>>,
}

/// Binds every address for every shard. For port 0, the socket of the first shard determines the port.
pub(super) fn bind_all(listen: &[SocketAddr], shards: u16) -> Result<Bound, BindFault> {
    let options = SocketOptions { sharing: Sharing::Shards, ..SocketOptions::default() };
    let mut bound = Bound { addresses: Vec::new(), shards: (0..shards).map(|_| Vec::new()).collect() };
    for &address in listen {
        refuse_company(address)?;
        let mut real = address;
        for sockets in &mut bound.shards {
            let socket = Socket::bind(real, &options)?;
            real = socket.local_address();
            sockets.push(socket);
        }
        bound.addresses.push(real);
        tell_of_buffers(bound.shards.first().and_then(|sockets| sockets.last()));
    }
    Ok(bound)
}

/// With SO_REUSEPORT a second server of the same user would bind without an error and receive half of the first server's devices. A socket without
/// SO_REUSEPORT fails to bind while any other socket has the address.
fn refuse_company(address: SocketAddr) -> Result<(), BindFault> {
    if address.port() == 0 {
        return Ok(());
    }
    Socket::bind(address, &SocketOptions::default()).map(drop)
}

/// A burst that does not fit into the socket buffer is lost before it can be counted; the default of `net.core.rmem_max` is 208 KiB.
fn tell_of_buffers(socket: Option<&Socket>) {
    let Some((address, Ok((granted, _)))) = socket.map(|socket| (socket.local_address(), socket.buffer_bytes())) else {
        return;
    };
    if granted < RECEIVE_BUFFER_BYTES {
        tracing::info!(
            %address,
            granted,
            wanted = RECEIVE_BUFFER_BYTES,
            "the kernel granted a smaller receive buffer than a burst of ClientHellos needs: raise net.core.rmem_max or grant CAP_NET_ADMIN"
        );
    }
}
