//! The kernel judges what is written for it: real datagrams over loopback.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::*;

fn peer(address: IpAddr) -> UdpSocket {
    let peer = UdpSocket::bind((address, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    peer
}

fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_048];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), from)
}

fn nothing_more(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).unwrap();
    socket.recv(&mut [0; 8]).is_err()
}

/// Source addresses and segment sizes of one message are not those of its neighbours.
#[test]
fn each_message_of_a_call_has_its_own_source_and_segments() {
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let peers: Vec<UdpSocket> = (1..=4).map(|n| peer(Ipv4Addr::new(127, 3, 0, n).into())).collect();
    let from = [None, Some(Ipv4Addr::new(127, 4, 0, 1)), Some(Ipv4Addr::new(127, 4, 0, 2)), None];
    let segments = [None, Some(2), None, Some(3)];
    let messages = peers.iter().zip(from).zip(segments).map(|((peer, from), segment)| Message {
        to: peer.local_addr().unwrap(),
        from: from.map(IpAddr::V4),
        segment,
        bytes: b"abcde",
    });
    assert_eq!(send_messages(&sender, messages).unwrap(), 4);
    let expected: [&[&[u8]]; 4] = [&[b"abcde"], &[b"ab", b"cd", b"e"], &[b"abcde"], &[b"abc", b"de"]];
    for ((peer, source), datagrams) in peers.iter().zip(from).zip(expected) {
        for datagram in datagrams {
            let (bytes, from) = received(peer);
            assert_eq!(bytes, *datagram);
            assert_eq!(from.ip(), source.unwrap_or(Ipv4Addr::LOCALHOST));
        }
        assert!(nothing_more(peer));
    }
}

/// A socket for both families knows IPv4 peers and sources as IPv4-mapped addresses (RFC 3493 §3.7).
#[test]
fn a_socket_of_both_families_sends_to_both_in_one_call() {
    let sender = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
    sender.set_only_v6(false).unwrap();
    sender.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
    let source = Ipv4Addr::new(127, 4, 0, 3);
    let (four, six) = (peer(Ipv4Addr::LOCALHOST.into()), peer(Ipv6Addr::LOCALHOST.into()));
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), four.local_addr().unwrap().port()));
    let message = |to, from| Message { to, from, segment: None, bytes: b"x" };
    let messages = [
        message(mapped, Some(IpAddr::V4(source))),
        message(six.local_addr().unwrap(), Some(Ipv6Addr::LOCALHOST.into())),
        message(mapped, Some(source.to_ipv6_mapped().into())),
        message(mapped, None),
    ];
    assert_eq!(send_messages(&sender, messages).unwrap(), 4);
    let sources: Vec<IpAddr> = (0..3).map(|_| received(&four).1.ip()).collect();
    assert_eq!(sources, [source, source, Ipv4Addr::LOCALHOST]);
    assert_eq!(received(&six).1.ip(), Ipv6Addr::LOCALHOST);
}

#[test]
fn a_call_ends_before_a_message_that_is_refused_and_the_next_call_says_why() {
    let sender = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let peer = peer(Ipv4Addr::LOCALHOST.into());
    let good = Message { to: peer.local_addr().unwrap(), from: None, segment: None, bytes: b"good" };
    let refused = Message { to: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..good };
    assert_eq!(send_messages(&sender, [good, good, refused, good]).unwrap(), 2);
    assert_eq!(send_messages(&sender, [refused, good]).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(
        send_messages(&sender, [good; MESSAGES_MAX + 3]).unwrap(),
        MESSAGES_MAX,
        "the rest is left to the caller"
    );
    for _ in 0..2 + MESSAGES_MAX {
        assert_eq!(received(&peer).0, b"good");
    }
    assert!(nothing_more(&peer));
}

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
