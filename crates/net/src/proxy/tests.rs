//! The proxy between real sockets. A read with a deadline waits for what was sent; no test sleeps.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};

use super::*;

/// Loopback delivers immediately; this much time passes only if something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);
const FOUR: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn socket(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap_or_else(|error| {
        panic!("{ip}: {error}; these tests need IPv4 and IPv6, and neither may be switched off");
    });
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn settings(listen: IpAddr, to: &UdpSocket, conditions: Conditions) -> Settings {
    let to = to.local_addr().unwrap();
    Settings { listen: SocketAddr::new(listen, 0), to, conditions, seed: 7, clients_max: CLIENTS_MAX, idle: IDLE }
}

/// Runs a story with the proxy beside it; returns the result of the story and the counts of the proxy.
fn beside<T>(settings: Settings, story: impl FnOnce(SocketAddr) -> T) -> (T, Summary) {
    let mut proxy = Proxy::bind(settings).unwrap();
    let (address, stop) = (proxy.local_address(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            // A story that fails does not set the flag.
            proxy.run(&stop, Some(PATIENCE * 2)).unwrap();
            proxy.summary()
        });
        let told = story(address);
        stop.store(true, Ordering::Relaxed);
        (told, running.join().unwrap())
    })
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = [0; 2048];
    let (length, from) = socket.recv_from(&mut bytes).unwrap();
    (bytes[..length].to_vec(), from)
}

#[test]
fn each_client_is_a_peer_of_its_own_and_gets_its_own_answer() {
    // From either family to either family.
    for (listen, serve) in [(FOUR, FOUR), (SIX, SIX), (FOUR, SIX), (SIX, FOUR)] {
        let server = socket(serve);
        let (peers, summary) = beside(settings(listen, &server, Conditions::PERFECT), |address| {
            let clients: Vec<UdpSocket> = (0..5).map(|_| socket(listen)).collect();
            let mut peers = BTreeSet::new();
            // Twice: a client keeps its peer.
            for round in 0..2 {
                for (client, number) in clients.iter().zip(0..) {
                    client.send_to(&[round, number], address).unwrap();
                    let (question, peer) = receive(&server);
                    assert_eq!(question, [round, number]);
                    peers.insert(peer);
                    server.send_to(&[number, round, 99], peer).unwrap();
                    let (answer, from) = receive(client);
                    assert_eq!((answer, from), (vec![number, round, 99], address));
                }
            }
            peers
        });
        assert_eq!((peers.len(), summary.clients), (5, 5));
        let (there, back) = (summary.towards_server, summary.towards_clients);
        assert_eq!((there.link.sent, there.delivered, there.link.bytes), (10, 10, 20));
        assert_eq!((back.link.sent, back.delivered, back.link.bytes), (10, 10, 30));
        assert_eq!((there.not_sent, back.not_sent, summary.turned_away), (0, 0, 0));
    }
}

#[test]
fn a_link_that_doubles_and_delays_does_so_both_ways() {
    for family in [FOUR, SIX] {
        let conditions =
            Conditions { duplication: 1_000, delay: Delay::exactly(Duration::from_millis(20)), ..Conditions::PERFECT };
        let server = socket(family);
        let (took, summary) = beside(settings(family, &server, conditions), |address| {
            let (client, began) = (socket(family), Instant::now());
            client.send_to(b"question", address).unwrap();
            let (first, peer) = receive(&server);
            assert_eq!((first, receive(&server)), (b"question".to_vec(), (b"question".to_vec(), peer)));
            server.send_to(b"answer", peer).unwrap();
            assert_eq!((receive(&client).0, receive(&client).0), (b"answer".to_vec(), b"answer".to_vec()));
            began.elapsed()
        });
        assert!(took >= Duration::from_millis(40), "there and back takes two delays at least: {took:?}");
        assert_eq!((summary.towards_server.link.duplicated, summary.towards_server.delivered), (1, 2));
        assert_eq!((summary.towards_clients.link.duplicated, summary.towards_clients.delivered), (1, 2));
    }
}

#[test]
fn what_the_link_loses_is_what_its_model_says() {
    for family in [FOUR, SIX] {
        let conditions = Conditions { loss: 300, mtu: 100, ..Conditions::PERFECT };
        let server = socket(family);
        let mut model: EmulatedLink<()> = EmulatedLink::new(conditions, 7, "towards the server");
        let now = Instant::now();
        let sent: Vec<Vec<u8>> =
            (0..50u8).map(|number| vec![number; if number % 10 == 9 { 101 } else { 100 }]).collect();
        let mut wanted = Vec::new();
        for bytes in &sent {
            model.send(now, (), bytes);
            wanted.extend(model.receive(now).map(|((), bytes)| bytes));
        }
        assert!((20..40).contains(&wanted.len()), "some arrive, some don't: {}", wanted.len());
        let (got, summary) = beside(settings(family, &server, conditions), |address| {
            let client = socket(family);
            for bytes in &sent {
                client.send_to(bytes, address).unwrap();
            }
            wanted.iter().map(|_| receive(&server).0).collect::<Vec<_>>()
        });
        assert_eq!(got, wanted, "the proxy's seed is the model's");
        assert_eq!(summary.towards_server.link, model.tally());
        assert_eq!(summary.towards_server.link.too_long, 5);
    }
}

#[test]
fn there_is_room_for_so_many_clients_and_again_once_one_is_idle() {
    for family in [FOUR, SIX] {
        let server = socket(family);
        let mut proxy =
            Proxy::bind(Settings { clients_max: 2, ..settings(family, &server, Conditions::PERFECT) }).unwrap();
        let path = |port| ClientPath { peer: SocketAddr::new(family, port), local: Some(family) };
        let start = Instant::now();
        let first = proxy.client(start, path(1)).expect("room");
        let later = start + Duration::from_secs(10);
        let second = proxy.client(later, path(2)).expect("room");
        assert_ne!(first, second);
        assert_eq!(proxy.client(later, path(3)), None, "no room");
        assert_eq!(proxy.client(later, path(2)), Some(second), "a client that is known needs none");
        proxy.towards_server.send(later, first, b"late");
        proxy.forget_idle(start + IDLE);
        let third = proxy.client(start + IDLE, path(3)).expect("the first was idle, the second not yet");
        assert_eq!((third.slot, proxy.slots.len(), proxy.clients.len()), (first.slot, 2, 2));
        proxy.deliver(start + IDLE);
        let summary = proxy.summary();
        assert_eq!(
            (summary.towards_server.stale, summary.towards_server.delivered),
            (1, 0),
            "not to the slot's next client"
        );
        assert_eq!(summary.clients, 3);
    }
}

#[test]
fn a_server_that_is_not_there_is_counted_and_ends_nothing() {
    for family in [FOUR, SIX] {
        let gone = socket(family);
        let mut proxy = Proxy::bind(settings(family, &gone, Conditions::PERFECT)).unwrap();
        drop(gone);
        let (client, began) = (socket(family), Instant::now());
        client.send_to(b"anybody?", proxy.local_address()).unwrap();
        while proxy.summary().unreachable == 0 {
            assert!(began.elapsed() < PATIENCE, "{:?}", proxy.summary());
            // With the flag set before it starts, a run is one turn.
            proxy.run(&AtomicBool::new(true), None).unwrap();
        }
        client.send_to(b"and now?", proxy.local_address()).unwrap();
        while proxy.summary().towards_server.delivered < 2 {
            assert!(began.elapsed() < PATIENCE, "{:?}", proxy.summary());
            proxy.run(&AtomicBool::new(true), None).unwrap();
        }
    }
}

#[test]
fn it_ends_when_its_time_is_over() {
    for family in [FOUR, SIX] {
        let server = socket(family);
        let mut proxy = Proxy::bind(settings(family, &server, Conditions::PERFECT)).unwrap();
        proxy.run(&AtomicBool::new(false), Some(Duration::ZERO)).unwrap();
    }
}

#[test]
fn an_address_that_is_taken_or_cannot_be_reached_is_named() {
    for family in [FOUR, SIX] {
        let server = socket(family);
        let taken = Settings { listen: server.local_addr().unwrap(), ..settings(family, &server, Conditions::PERFECT) };
        let fault = Proxy::bind(taken).unwrap_err();
        assert!(
            matches!(fault, ProxyFault::Listen(_)) && fault.to_string().contains(&taken.listen.to_string()),
            "{fault}"
        );
        // A link-local address without a scope cannot be reached.
        let nowhere =
            Settings { to: "[fe80::1]:5684".parse().unwrap(), ..settings(family, &server, Conditions::PERFECT) };
        let fault = Proxy::bind(nowhere).unwrap_err();
        assert!(matches!(fault, ProxyFault::Reach { .. }) && fault.to_string().contains("fe80::1"), "{fault}");
    }
}
