//! A client that comes back meets another server: what it brings of the first one's session, the second has to decline.
//!
//! ```text
//!   client, its first socket  ──►  switch  ──►  another implementation's server
//!   client, its second socket ──►          ──►  ours
//! ```

use anyhow::{Context, Result};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

const DATAGRAM_MAX: usize = 2_048;
/// The longest silence: its threads end after it.
const IDLE: Duration = Duration::from_secs(15);

/// Where a client sends to. Its threads end by themselves when nobody has spoken for a while.
pub(super) struct Switch {
    pub(super) address: SocketAddr,
}

impl Switch {
    /// All three on the loopback of one family.
    pub(super) fn between(first: SocketAddr, second: SocketAddr) -> Result<Self> {
        let inside = Arc::new(loopback(first)?);
        let switch = Self { address: inside.local_addr()? };
        std::thread::spawn(move || forward(&inside, [first, second]));
        Ok(switch)
    }
}

/// One flow for each server, in the order in which clients appear.
fn forward(inside: &Arc<UdpSocket>, servers: [SocketAddr; 2]) -> Result<()> {
    let mut flows: Vec<(SocketAddr, Arc<UdpSocket>)> = Vec::new();
    let mut datagram = [0; DATAGRAM_MAX];
    loop {
        let (length, client) = inside.recv_from(&mut datagram)?;
        let known = flows.iter().find(|(of, _)| *of == client).map(|(_, outside)| Arc::clone(outside));
        let outside = match (known, servers.get(flows.len())) {
            (Some(outside), _) => outside,
            (None, Some(server)) => {
                let outside = Arc::new(loopback(*server)?);
                outside.connect(server)?;
                let (back, inside) = (Arc::clone(&outside), Arc::clone(inside));
                std::thread::spawn(move || give_back(&back, &inside, client));
                flows.push((client, Arc::clone(&outside)));
                outside
            }
            // A third client: there is no server for it.
            (None, None) => continue,
        };
        outside.send(&datagram[..length])?;
    }
}

fn give_back(outside: &UdpSocket, inside: &UdpSocket, client: SocketAddr) -> Result<()> {
    let mut datagram = [0; DATAGRAM_MAX];
    loop {
        let length = outside.recv(&mut datagram)?;
        inside.send_to(&datagram[..length], client)?;
    }
}

fn loopback(of_family: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((of_family.ip(), 0)).with_context(|| format!("no socket on {}", of_family.ip()))?;
    socket.set_read_timeout(Some(IDLE))?;
    Ok(socket)
}
