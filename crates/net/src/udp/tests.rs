//! Real datagrams over loopback. No test sleeps: a poll with a deadline waits for what was sent.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use mio::{Events, Poll};
use rustix::net::sockopt::{ip_recvtos, ipv6_recvtclass};

use super::*;
use crate::Clock;

/// Loopback delivers immediately; this much time passes only if something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);

/// Any port of both families.
fn loopbacks() -> [SocketAddr; 2] {
    if let Err(error) = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) {
        panic!("IPv6 is switched off on this machine ([::1]: {error}): these tests need it beside IPv4");
    }
    [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))]
}

/// Receives until `count` datagrams have arrived: (peer, local, bytes).
fn receive(socket: &mut Socket, count: usize) -> Vec<(SocketAddr, Option<IpAddr>, Vec<u8>)> {
    let mut poll = Poll::new().unwrap();
    socket.register(poll.registry(), Token(0)).unwrap();
    let mut events = Events::with_capacity(4);
    let mut batch = Batch::new();
    let mut got = Vec::new();
    while got.len() < count {
        match socket.receive(&mut batch) {
            Ok(()) => got.extend(batch.datagrams().map(|it| (it.peer, it.local, it.bytes.to_vec()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll.poll(&mut events, Some(PATIENCE)).unwrap();
                assert!(!events.is_empty(), "{} of {count} datagrams came", got.len());
            }
            Err(error) => panic!("{error}"),
        }
    }
    got
}

#[test]
fn a_server_goes_on_after_a_signal_or_a_moment_without_memory_and_not_without_its_socket() {
    use rustix::io::Errno;
    let passing = |errno: Errno| is_passing(&io::Error::from_raw_os_error(errno.raw_os_error()));
    for errno in [Errno::INTR, Errno::NOMEM, Errno::NOBUFS, Errno::CONNREFUSED] {
        assert!(passing(errno), "{errno:?}");
    }
    for errno in [Errno::BADF, Errno::NOTSOCK, Errno::INVAL, Errno::FAULT] {
        assert!(!passing(errno), "{errno:?}");
    }
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let [four, six] = loopbacks().map(|loopback| loopback.ip());
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    // IPv6 has one loopback address.
    for (any, asked) in [(any[0], four), (any[0], IpAddr::from([127, 7, 7, 7])), (any[1], six)] {
        let mut server = Socket::bind(SocketAddr::new(any, 0), &SocketOptions::default()).unwrap();
        let address = SocketAddr::new(asked, server.local_address().port());
        let mut device = Socket::connect(address, None, &SocketOptions::default()).unwrap();
        device.send(address, None, b"question");
        device.flush();
        let (peer, local, bytes) = receive(&mut server, 1).remove(0);
        assert_eq!((local, bytes.as_slice()), (Some(asked), b"question".as_slice()));
        server.send(peer, local, b"answer");
        server.flush();
        // The device's socket is connected: an answer from any other address would not reach it.
        let (from, _, bytes) = receive(&mut device, 1).remove(0);
        assert_eq!((from, bytes.as_slice()), (address, b"answer".as_slice()));
    }
}

/// Two devices that asked at different addresses of one socket, and a flight between them, are answered by one system call.
#[test]
fn one_call_answers_from_two_addresses_with_a_flight_between() {
    let mut server = Socket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), &SocketOptions::default()).unwrap();
    let port = server.local_address().port();
    let asked = [[127, 0, 0, 1], [127, 7, 7, 7], [127, 0, 0, 1]].map(|it| SocketAddr::from((it, port)));
    let mut devices = asked.map(|it| Socket::connect(it, None, &SocketOptions::default()).unwrap());
    for (device, address) in devices.iter_mut().zip(asked) {
        device.send(address, None, b"question");
        device.flush();
    }
    let mut answers: [&[&[u8]]; 3] = [&[b"one"], &[b"flight", b"of the", b"3."], &[b"two"]];
    let questions = receive(&mut server, devices.len());
    for (device, answers) in devices.iter().zip(&answers) {
        let port = device.local_address().port();
        let (peer, local, _) = questions.iter().find(|(peer, ..)| peer.port() == port).unwrap();
        answers.iter().for_each(|answer| server.send(*peer, *local, answer));
    }
    server.flush();
    let segmentation = server.outbound.segments_max() > 1;
    assert_eq!((server.counters().sent, server.counters().send_calls), (5, 1), "GSO: {segmentation}");
    for (device, answers) in devices.iter_mut().zip(&mut answers) {
        // The device's socket is connected: an answer from any other address would not reach it.
        let got: Vec<Vec<u8>> = receive(device, answers.len()).into_iter().map(|(_, _, bytes)| bytes).collect();
        assert_eq!(got, *answers);
    }
}

/// Each refusal is the kernel's own: too long, no port, a source address that this machine does not have, a peer of the other family.
#[test]
fn a_datagram_that_the_kernel_refuses_takes_none_of_its_batch_along() {
    let mut server = Socket::bind(loopbacks()[1], &SocketOptions::default()).unwrap();
    let mut device = Socket::connect(server.local_address(), None, &SocketOptions::default()).unwrap();
    let peer = device.local_address();
    let port_zero = SocketAddr::new(peer.ip(), 0);
    let mapped = SocketAddr::from((Ipv4Addr::LOCALHOST.to_ipv6_mapped(), peer.port()));
    let foreign = "2001:db8::1".parse().unwrap();
    let too_long = vec![9; 65_600];
    let refused: [(SocketAddr, Option<IpAddr>, &[u8]); 4] =
        [(peer, None, &too_long), (port_zero, None, b"x"), (peer, Some(foreign), b"y"), (mapped, None, b"z")];
    let mut expected = Vec::new();
    for (n, (to, local, bytes)) in (0_u8..).zip(refused) {
        // Of growing lengths: none is joined with the one before.
        let good = vec![n; 10 + usize::from(n)];
        server.send(peer, None, &good);
        server.send(to, local, bytes);
        expected.push(good);
    }
    server.send(peer, None, b"last");
    expected.push(b"last".to_vec());
    server.flush();
    let counters = server.counters();
    assert_eq!((counters.sent, counters.dropped_refused, counters.delayed), (5, 4, 0));
    let got: Vec<Vec<u8>> = receive(&mut device, expected.len()).into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(got, expected);
}

#[test]
fn the_kernel_is_not_asked_for_what_nobody_reads() {
    for loopback in loopbacks() {
        let mut socket = Socket::bind(loopback, &SocketOptions::default()).unwrap();
        let local = socket.local_address();
        let service = if loopback.is_ipv4() { ip_recvtos(&socket) } else { ipv6_recvtclass(&socket) };
        assert_eq!(service, Ok(false));
        // Loopback delivers before the send returns.
        socket.send(local, None, b"to itself");
        socket.flush();
        let (mut buffer, mut metas) = ([0; 16], [quinn_udp::RecvMeta::default()]);
        let mut buffers = [io::IoSliceMut::new(&mut buffer)];
        assert_eq!(socket.state.recv(UdpSockRef::from(&socket.inner), &mut buffers, &mut metas).unwrap(), 1);
        let [meta] = metas;
        assert_eq!((meta.len, meta.dst_ip, meta.timestamp), (9, Some(local.ip()), None));
    }
}

/// IPv4 only: all of 127.0.0.0/8 is loopback, but only one IPv6 address is.
#[test]
fn one_socket_plays_devices_with_many_addresses() {
    let mut server = Socket::bind(loopbacks()[0], &SocketOptions::default()).unwrap();
    let mut fleet = Socket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), &SocketOptions::default()).unwrap();
    let devices: Vec<IpAddr> = (1..=8).map(|n| IpAddr::V4(Ipv4Addr::new(127, 1, 2, n))).collect();
    for device in &devices {
        fleet.send(server.local_address(), Some(*device), device.to_string().as_bytes());
    }
    fleet.flush();
    let mut got = receive(&mut server, devices.len());
    got.sort();
    for ((peer, _, bytes), device) in got.iter().zip(&devices) {
        assert_eq!(peer.ip(), *device);
        assert_eq!(bytes, device.to_string().as_bytes());
    }
}

#[test]
fn datagrams_of_one_size_leave_joined_and_arrive_apart() {
    for loopback in loopbacks() {
        let mut server = Socket::bind(loopback, &SocketOptions::default()).unwrap();
        let mut device = Socket::connect(server.local_address(), None, &SocketOptions::default()).unwrap();
        let flight: Vec<Vec<u8>> =
            [100, 100, 100, 40, 100, 7, 7].iter().zip(0..).map(|(len, n)| vec![n; *len]).collect();
        for datagram in &flight {
            device.send(server.local_address(), None, datagram);
        }
        device.flush();
        let got: Vec<Vec<u8>> = receive(&mut server, flight.len()).into_iter().map(|(_, _, bytes)| bytes).collect();
        assert_eq!(got, flight, "in order, each as it was sent");
        let counters = device.counters();
        assert_eq!((counters.sent, counters.sent_bytes), (7, 454));
        // 100 100 100 40 | 100 7 | 7: a shorter datagram ends the group that it joins. All groups leave in one call.
        assert_eq!(counters.send_calls, 1);
        assert_eq!((server.counters().received, server.counters().received_bytes), (7, 454));
    }
}

#[test]
fn ipv6_and_ipv4_stand_side_by_side_on_one_port() {
    let mut four = Socket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), &SocketOptions::default()).unwrap();
    let port = four.local_address().port();
    let mut six = Socket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), &SocketOptions::default()).unwrap();
    for (server, loopback) in [&mut four, &mut six].into_iter().zip(loopbacks()) {
        let address = SocketAddr::new(loopback.ip(), port);
        let mut device = Socket::connect(address, None, &SocketOptions::default()).unwrap();
        device.send(address, None, b"x");
        device.flush();
        let (peer, local, _) = receive(server, 1).remove(0);
        assert_eq!((peer.ip(), local), (address.ip(), Some(address.ip())));
    }
}

#[test]
fn shards_share_an_address_and_a_stranger_is_refused() {
    for loopback in loopbacks() {
        let shards = SocketOptions { sharing: Sharing::Shards, ..SocketOptions::default() };
        let first = Socket::bind(loopback, &shards).unwrap();
        let second = Socket::bind(first.local_address(), &shards).unwrap();
        assert_eq!(first.local_address(), second.local_address());
        let fault = Socket::bind(first.local_address(), &SocketOptions::default()).unwrap_err();
        assert_eq!(fault.source.kind(), io::ErrorKind::AddrInUse);
        assert!(fault.to_string().contains("another process uses it"), "{fault}");
    }
}

/// Two servers that let the system choose must not share a port. The kernel draws from 28,232 ports: if SO_REUSEPORT were set before the port is
/// chosen, two of 500 sockets would share one in 98 of 100 runs, for each family.
#[test]
fn no_two_servers_are_given_one_port() {
    let shards = SocketOptions { sharing: Sharing::Shards, receive_buffer_bytes: 4_096, send_buffer_bytes: 4_096 };
    for loopback in loopbacks() {
        let sockets: Vec<Socket> = (0..500).map(|_| Socket::bind(loopback, &shards).unwrap()).collect();
        let ports: HashSet<u16> = sockets.iter().map(|socket| socket.local_address().port()).collect();
        assert_eq!(ports.len(), sockets.len());
    }
}

/// SO_REUSEPORT is set after the port is chosen; the kernel spreads peers over the shards nevertheless.
#[test]
fn shards_of_a_chosen_port_each_get_peers() {
    for loopback in loopbacks() {
        let shards = SocketOptions { sharing: Sharing::Shards, ..SocketOptions::default() };
        let mut first = Socket::bind(loopback, &shards).unwrap();
        let address = first.local_address();
        let mut second = Socket::bind(address, &shards).unwrap();
        let devices: Vec<Socket> = (0..64)
            .map(|_| {
                let mut device = Socket::connect(address, None, &SocketOptions::default()).unwrap();
                device.send(address, None, b"x");
                device.flush();
                device
            })
            .collect();
        let counts = [&mut first, &mut second].map(|shard| receive(shard, 1).len());
        assert!(counts.iter().all(|count| *count > 0), "{counts:?} of {}", devices.len());
    }
}

#[test]
fn what_the_kernel_does_not_take_waits_in_order_and_within_bounds() {
    for loopback in loopbacks() {
        let mut outbound = Outbound::new(1);
        let peer = outbound::Flow { peer: loopback, local: None };
        outbound.delay_for_test(peer, 2, &[1; 4096]);
        assert_eq!(outbound.counters().delayed, 1024, "the backlog is bounded");
        assert_eq!(outbound.counters().dropped_backlog_full, 1024, "and what it cannot hold is counted");
        assert!(outbound.has_backlog());
        // An open socket accepts all of them, in order.
        let mut server = Socket::bind(loopback, &SocketOptions::default()).unwrap();
        let mut device = Socket::connect(server.local_address(), None, &SocketOptions::default()).unwrap();
        let flow = outbound::Flow { peer: server.local_address(), local: None };
        device.outbound = Outbound::new(1);
        for n in 0..8_u8 {
            device.outbound.delay_for_test(flow, 1, &[n]);
        }
        assert!(device.wants_write());
        device.send(server.local_address(), None, &[8]);
        device.flush();
        assert!(!device.wants_write());
        let got: Vec<u8> = receive(&mut server, 9).into_iter().map(|(_, _, bytes)| bytes[0]).collect();
        assert_eq!(got, (0..=8).collect::<Vec<u8>>());
    }
}

#[test]
fn nobody_at_home_is_heard_of_on_a_connected_socket() {
    for loopback in loopbacks() {
        let nobody = Socket::bind(loopback, &SocketOptions::default()).unwrap().local_address();
        let mut device = Socket::connect(nobody, None, &SocketOptions::default()).unwrap();
        let mut poll = Poll::new().unwrap();
        device.register(poll.registry(), Token(0)).unwrap();
        device.send(nobody, None, b"hello?");
        device.flush();
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        let error = device.receive(&mut Batch::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}

#[test]
fn what_icmp_said_of_the_peer_is_told_from_a_socket_that_is_broken() {
    use rustix::io::Errno;
    let error = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
    // Port, host and network unreachable; prohibited by a firewall (IPv4 says EHOSTUNREACH, IPv6 EACCES); fragmentation needed.
    for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::ACCESS, Errno::MSGSIZE] {
        assert!(is_report(&error(errno)), "{errno:?}");
    }
    for errno in [Errno::BADF, Errno::NOTSOCK, Errno::NOMEM, Errno::AGAIN] {
        assert!(!is_report(&error(errno)), "{errno:?}");
    }
    assert!(!is_report(&io::Error::other("no system call")));
}

#[test]
fn a_fault_names_the_end_that_is_at_fault_and_what_to_do() {
    let link_local: SocketAddr = "[fe80::1]:5684".parse().unwrap();
    let towards = Socket::connect(link_local, None, &SocketOptions::default()).unwrap_err().to_string();
    assert!(towards.contains("cannot send to [fe80::1]:5684") && towards.contains("[fe80::1%eth0]:5684"), "{towards}");
    let at = Socket::bind(link_local, &SocketOptions::default()).unwrap_err().to_string();
    assert!(at.contains("cannot listen on [fe80::1]:5684") && at.contains("%eth0"), "{at}");
    let broadcast: SocketAddr = "255.255.255.255:5684".parse().unwrap();
    let broadcast = Socket::connect(broadcast, None, &SocketOptions::default()).unwrap_err().to_string();
    assert!(broadcast.contains("broadcast") && !broadcast.contains("1024"), "{broadcast}");
}

#[test]
fn d90_at_the_end_what_waits_is_sent_when_the_kernel_takes_it_or_counted() {
    for loopback in loopbacks() {
        let mut server = Socket::bind(loopback, &SocketOptions::default()).unwrap();
        let device = Socket::connect(server.local_address(), None, &SocketOptions::default()).unwrap();
        let mut sockets = [device];
        let mut poll = Poll::new().unwrap();
        sockets[0].register(poll.registry(), Token(0)).unwrap();
        let say = |sockets: &mut [Socket; 1], blocked| {
            sockets[0].outbound.blocked = blocked;
            // Of different lengths: each is a message of its own.
            for n in 1..=3 {
                sockets[0].send(server.local_address(), None, &vec![7; n]);
            }
        };
        say(&mut sockets, 1);
        finish(&mut sockets, &mut poll, Clock.now().mono + PATIENCE).unwrap();
        assert!(!sockets[0].wants_write());
        let counters = sockets[0].counters();
        assert_eq!((counters.sent, counters.delayed > 0, counters.dropped_backlog_full), (3, true, 0));

        say(&mut sockets, u32::MAX);
        finish(&mut sockets, &mut poll, Clock.now().mono + Duration::from_millis(5)).unwrap();
        assert!(sockets[0].wants_write(), "the time was over");
        sockets[0].abandon();
        assert!(!sockets[0].wants_write());
        let counters = sockets[0].counters();
        assert_eq!((counters.sent, counters.dropped_backlog_full), (3, 3), "every one is sent or counted");
        let got = receive(&mut server, 3);
        assert_eq!(got.iter().map(|(_, _, bytes)| bytes.len()).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
