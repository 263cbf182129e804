//! A returning client reaches another server, which must decline the first server's session.
//!
//! ```text
//!   client, its first hello   ──►  switch  ──►  another implementation's server
//!   client, offers a session  ──►          ──►  ours
//! ```

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

const DATAGRAM_MAX: usize = 2_048;
/// The longest silence; after it the threads end.
const IDLE: Duration = Duration::from_secs(15);

/// The address that a client sends to. The threads end when no datagram arrives for a while.
pub(super) struct Switch {
    pub(super) address: SocketAddr,
}

impl Switch {
    /// All three addresses are on the loopback of one family.
    pub(super) fn between(first: SocketAddr, second: SocketAddr) -> Result<Self> {
        let inside = Arc::new(loopback(first)?);
        let switch = Self { address: inside.local_addr()? };
        std::thread::spawn(move || forward(&inside, [first, second]));
        Ok(switch)
    }
}

/// One flow for each server. A client belongs to the second server as soon as it offers a session: its address does not show this, because the
/// kernel may give its second socket the port of the first.
fn forward(inside: &Arc<UdpSocket>, servers: [SocketAddr; 2]) -> Result<()> {
    let mut flows: Vec<(SocketAddr, Arc<UdpSocket>)> = Vec::new();
    let mut datagram = [0; DATAGRAM_MAX];
    loop {
        let (length, client) = inside.recv_from(&mut datagram)?;
        let datagram = &datagram[..length];
        let begins = flows.is_empty() || (flows.len() == 1 && offers_a_session(datagram));
        if let (true, Some(server)) = (begins, servers.get(flows.len())) {
            let outside = Arc::new(loopback(*server)?);
            outside.connect(server)?;
            let (back, inside) = (Arc::clone(&outside), Arc::clone(inside));
            std::thread::spawn(move || give_back(&back, &inside, client));
            flows.push((client, outside));
        }
        // Use the newest flow of an address: datagrams of a closed socket are not expected.
        if let Some((_, outside)) = flows.iter().rev().find(|(of, _)| *of == client) {
            outside.send(datagram)?;
        }
    }
}

/// A ClientHello of epoch 0 with a session id that is not empty (RFC 6347 §4.1, §4.2.2; RFC 5246 §7.4.1.2).
fn offers_a_session(datagram: &[u8]) -> bool {
    const RECORD_HEADER: usize = 13;
    const HANDSHAKE_HEADER: usize = 12;
    /// Follows client_version and random.
    const SESSION_ID_LENGTH: usize = RECORD_HEADER + HANDSHAKE_HEADER + 2 + 32;
    let is_client_hello = datagram.first() == Some(&22) && datagram.get(RECORD_HEADER) == Some(&1);
    is_client_hello && datagram.get(SESSION_ID_LENGTH).is_some_and(|length| *length != 0)
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

#[cfg(test)]
mod tests {
    use super::offers_a_session;

    #[test]
    fn only_a_hello_that_brings_a_session_id_changes_the_server() {
        let mut hello = vec![0; 80];
        hello[0] = 22;
        hello[13] = 1;
        assert!(!offers_a_session(&hello));
        hello[59] = 32;
        assert!(offers_a_session(&hello));
        hello[13] = 11;
        assert!(!offers_a_session(&hello), "a certificate");
        assert!(!offers_a_session(&hello[..20]));
    }
}
