//! What it costs to receive and to send one datagram through the sockets that the server uses, with nothing done in between: microseconds of CPU, as
//! the kernel charges them to the thread that calls.
//!
//! Peers are as many sockets on loopback. They send while nothing is measured, then the server's socket receives what waits; it answers each of them,
//! then the peers drain. Waiting (epoll) is not counted: a saturated server waits once for many datagrams.
//!
//! Prints one JSON object, which `cargo xtask bench e2e` reads.
#![allow(clippy::print_stdout, reason = "a program that prints its result")]
#![allow(clippy::disallowed_methods, reason = "a measurement of its own: sockets are what it measures")]

use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use net::udp::{Batch, Socket, SocketOptions};
use rustix::time::{ClockId, clock_gettime};

const PEERS: u16 = 256;
/// Bytes of a datagram: between an acknowledgement and a full block, as an enrolment has them on average.
const DATAGRAM_BYTES: usize = 230;
/// Passes over all peers; the cheapest counts, as other work on the machine only adds.
const PASSES: usize = 60;

fn main() -> Result<(), Box<dyn Error>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut server = Socket::bind(address, &SocketOptions::default())?;
    let mut batch = Batch::new();
    let peers = (0..PEERS).map(|number| peer(number, server.local_address())).collect::<Result<Vec<_>, _>>()?;
    let (mut receive, mut send) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..PASSES {
        for peer in &peers {
            peer.send(&[0x5a; DATAGRAM_BYTES])?;
        }
        let mut from: Vec<(SocketAddr, Option<IpAddr>)> = Vec::with_capacity(peers.len());
        let before = cpu_microseconds();
        loop {
            match server.receive(&mut batch) {
                Ok(()) => from.extend(batch.datagrams().map(|received| (received.peer, received.local))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        receive = receive.min((cpu_microseconds() - before) / f64::from(PEERS));
        if from.len() != peers.len() {
            return Err(format!("{} of {} datagrams arrived", from.len(), peers.len()).into());
        }
        let before = cpu_microseconds();
        for (peer, local) in from {
            server.send(peer, local, &[0x5a; DATAGRAM_BYTES]);
        }
        server.flush();
        send = send.min((cpu_microseconds() - before) / f64::from(PEERS));
        let mut buffer = [0; DATAGRAM_BYTES];
        for peer in &peers {
            peer.recv(&mut buffer)?;
        }
    }
    println!("{}", serde_json::json!({ "receive_us": receive, "send_us": send }));
    Ok(())
}

/// A peer with an address of its own.
fn peer(number: u16, server: SocketAddr) -> Result<UdpSocket, Box<dyn Error>> {
    let [high, low] = number.to_be_bytes();
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, high, low.max(1)), 0))?;
    socket.connect(server)?;
    Ok(socket)
}

#[allow(clippy::cast_precision_loss, reason = "seconds and nanoseconds of one process are far below 2^52")]
fn cpu_microseconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e6 + now.tv_nsec as f64 / 1e3
}
