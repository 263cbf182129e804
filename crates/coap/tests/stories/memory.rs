//! What a peer holds, and what a datagram allocates.

use std::time::{Duration, Instant};

use coap::client::{Exchange, RequestSpec};
use coap::server::{Handled, Owner, Peer, Response};
use coap::{Block, BlockSize, Code, ContentFormat, Encoder, Kind, Message, MessageIds, Number, Token};

use crate::harness::{Make, Server, Table, body, certificate, upload};

#[test]
fn get_exchanges_allocate_nothing_once_warm() {
    let mut server = Server::new();
    let certificates = body(900, 0);
    let response = Response::content(Code::CONTENT, ContentFormat::PKCS7_CERTS_ONLY, &certificates);
    let requests: Vec<_> = (0..200_u32)
        .map(|id| {
            let num = id % 15;
            Make::get("est/crts", u16::try_from(id).unwrap()).block2(num, BlockSize::B64).bytes()
        })
        .collect();
    let run = |server: &mut Server, request: &[u8]| {
        server.out.clear();
        let handled = server.peer.handle(server.now, request, &mut server.shared, &Table, &mut server.out);
        let Handled::Request { id, .. } = handled else { panic!("{handled:?}") };
        server.peer.respond(server.now, id, &response, &mut server.shared, &mut server.out).unwrap();
        assert_eq!(server.out.len(), 1);
    };
    for request in &requests[..15] {
        run(&mut server, request);
    }
    let counted = allocation_counter::measure(|| {
        for request in &requests[15..] {
            run(&mut server, request);
        }
    });
    assert_eq!(counted.count_total, 0, "allocations");
}

#[test]
fn pings_refusals_and_noise_allocate_nothing() {
    let mut server = Server::new();
    let noise = [
        vec![],
        vec![0x40],
        vec![0x40, 0, 0, 1],
        vec![0x4f, 1, 0, 1],
        Make::get("est/nothing", 2).bytes(),
        Make::get("est/crts", 3).option(Number(9_999), b"x").bytes(),
        Make::enroll(4).block1(9, true, BlockSize::B64).payload(&[0; 64]).bytes(),
        Make::post("est/sen", 5).block2(3, BlockSize::B64).bytes(),
    ];
    let run = |server: &mut Server| {
        for datagram in &noise {
            server.out.clear();
            server.peer.handle(server.now, datagram, &mut server.shared, &Table, &mut server.out);
        }
    };
    run(&mut server);
    assert_eq!(allocation_counter::measure(|| run(&mut server)).count_total, 0);
}

#[test]
fn a_peer_that_remembers_one_enrolment_is_small() {
    // Averaged over many peers, since the index of answers grows by nodes that several peers share.
    const PEERS: usize = 500;
    let mut server = Server::new();
    let csr = body(400, 0);
    let mut peers = Vec::with_capacity(PEERS);
    let held = allocation_counter::measure(|| {
        for owner in 0..PEERS {
            server.peer.belongs_to(Owner(owner as u64));
            let last = upload(&mut server, &csr, BlockSize::B64, 1);
            server.exchange(&last, &certificate(&body(500, 0)));
            peers.push(server.other_peer());
        }
    });
    let bytes = usize::try_from(held.bytes_current).unwrap() / PEERS + size_of::<Peer>();
    println!("a peer that remembers one enrolment: {bytes} bytes");
    assert!(bytes <= 1_024, "{bytes} bytes");
    assert_eq!(server.shared.response_bytes(), PEERS * 500, "the response is held once");
}

#[test]
fn an_enrolment_allocates_once_for_each_thing_that_is_kept() {
    let mut server = Server::new();
    let csr = body(400, 0);
    let datagrams: Vec<_> =
        (0..7).map(|num| Make::enroll(u16::try_from(num).unwrap()).piece(&csr, num, BlockSize::B64).bytes()).collect();
    let answer = body(500, 0);
    let enrol = |server: &mut Server| {
        for datagram in &datagrams {
            server.out.clear();
            match server.peer.handle(server.now, datagram, &mut server.shared, &Table, &mut server.out) {
                Handled::Request { id, .. } => {
                    let response = certificate(&answer);
                    server.peer.respond(server.now, id, &response, &mut server.shared, &mut server.out).unwrap();
                }
                Handled::Done { .. } | Handled::RefusedByTable(_) => {}
            }
        }
    };
    enrol(&mut server);
    server.peer = Peer::new();
    // The list of uploads, the body, the recent blocks, the list of exchanges, the outcome.
    assert_eq!(allocation_counter::measure(|| enrol(&mut server)).count_total, 5);
}

#[test]
fn the_client_sends_its_blocks_without_allocating() {
    let mut ids = MessageIds::new(1);
    let spec = RequestSpec::post("est/sen", ContentFormat::PKCS10, body(800, 0)).in_blocks(BlockSize::B64);
    let now = Instant::now();
    let mut exchange = Exchange::new(now, spec, &mut ids, Token::new(&[0; 4]).unwrap(), 1);
    let mut answer = Vec::with_capacity(64);
    let mut step = |num: u32| {
        let request = exchange.poll_transmit().expect("a block");
        let message = Message::parse(request).unwrap();
        answer.clear();
        Encoder::new(&mut answer, Kind::Acknowledgement, Code::CONTINUE, message.message_id(), message.token())
            .uint(Number::BLOCK1, Block { num, more: true, size: BlockSize::B64 }.value())
            .payload(b"");
        assert!(exchange.poll_transmit().is_none());
        exchange.handle(now, &Message::parse(&answer).unwrap(), &mut ids);
    };
    step(0);
    let counted = allocation_counter::measure(|| (1..12).for_each(&mut step));
    assert_eq!(counted.count_total, 0);
}

#[test]
fn an_idle_peer_is_empty() {
    assert!(Peer::new().is_idle());
    assert_eq!(Peer::new().poll_timeout(), None);
    assert!(size_of::<Peer>() <= 160, "{}", size_of::<Peer>());
    assert_eq!(allocation_counter::measure(|| drop(Peer::new())).count_total, 0);
}

#[test]
fn a_peer_that_has_forgotten_everything_holds_next_to_nothing() {
    let mut server = Server::new();
    // The shard's shared state exists once one peer has enrolled.
    server.exchange(&Make::enroll(0).payload(b"csr").bytes(), &certificate(&body(500, 0)));
    server.peer = Peer::new();
    let held = allocation_counter::measure(|| {
        server.peer = Peer::new();
        for id in 0..8 {
            server.exchange(&Make::enroll(id).payload(b"csr").bytes(), &certificate(&body(500, 0)));
        }
        server.exchange(&Make::get("est/crts", 20).non().bytes(), &certificate(b"x"));
        server.pass(Duration::from_secs(300));
        assert!(server.peer.is_idle());
    });
    // Room for one exchange stays, so that the next one does not allocate; the outbox belongs to the shard.
    assert!(held.bytes_current <= 512 + 1_024, "{} bytes", held.bytes_current);
}

#[test]
fn bodies_do_not_show_in_debug_output() {
    let secret = b"a whole certificate request, or a private key one day";
    let mut server = Server::new();
    let first = Make::enroll(1).block1(0, true, BlockSize::B32).payload(&secret[..32]).bytes();
    server.reply(&first);
    let whole = Make::enroll(2).option(Number::REQUEST_TAG, b"2").payload(secret).bytes();
    let handled = server.peer.handle(server.now, &whole, &mut server.shared, &Table, &mut server.out);
    let Handled::Request { id, .. } = &handled else { panic!("{handled:?}") };
    server.peer.respond(server.now, *id, &certificate(secret), &mut server.shared, &mut server.out).unwrap();
    let spec = RequestSpec::post("est/sen", ContentFormat::PKCS10, secret.to_vec());
    let exchange = Exchange::new(server.now, spec, &mut MessageIds::new(1), Token::EMPTY, 1);
    let shown = format!("{handled:?} {:?} {:?} {exchange:?}", server.peer, server.out);
    // Bytes are printed as a list of numbers: the secret begins with "97, 32, 119".
    assert!(!shown.contains("97, 32, 119") && !shown.contains("certificate request"), "{shown}");
    assert!(shown.contains("53 bytes"));
}
