//! The kernel judges what is written for it.

use std::net::{Ipv4Addr, UdpSocket};

use super::*;

#[test]
fn a_full_socket_says_how_many_it_dropped() {
    let full = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&full, 4_096).unwrap();
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_eq!(receive_drops(&full).unwrap(), 0);
    for _ in 0..100 {
        sender.send_to(&[0; 200], full.local_addr().unwrap()).unwrap();
    }
    let dropped = receive_drops(&full).unwrap();
    full.set_nonblocking(true).unwrap();
    let received = std::iter::from_fn(|| full.recv(&mut [0; 256]).ok()).count();
    assert!(dropped > 0);
    assert_eq!(usize::try_from(dropped).unwrap() + received, 100);
}
