//! What is evicted when the shard is full: kept answers, open uploads, and the share of one owner.

use std::time::Duration;

use coap::server::{Config, Done, Limit, Owner, Peer, RequestRefusal};
use coap::{BlockSize, Code, MAX_TRANSMIT_WAIT, Number};

use crate::harness::{Got, Make, Server, body, certificate, code, parse, upload};

const INCOMPLETE: Code = Code::REQUEST_ENTITY_INCOMPLETE;
/// Room for 40 answers of 500 bytes, and for the current request.
const TOTAL: usize = 39 * 500 + 1_024;

fn small() -> Server {
    Server::with(Config { response_bytes_total_max: TOTAL, ..Config::default() })
}

/// Lets a peer of `owner` enrol and fetch its whole answer; returns false if it is refused.
fn enrol(server: &mut Server, owner: u64) -> (bool, Peer) {
    server.peer = Peer::new();
    server.peer.belongs_to(Owner(owner));
    let csr = body(100, 0);
    let last = upload_or_refused(server, &csr);
    let served = last.is_some_and(|last| match server.deliver(&last) {
        (Got::Request { id, .. }, _) => {
            server.respond(id, &certificate(&body(500, 3)));
            true
        }
        _ => false,
    });
    (served, server.other_peer())
}

fn upload_or_refused(server: &mut Server, csr: &[u8]) -> Option<Vec<u8>> {
    let (_, sent) = server.deliver(&Make::enroll(1).piece(csr, 0, BlockSize::B64).bytes());
    (code(&sent[0]) == Code::CONTINUE).then(|| last_block(2))
}

/// The last block of the upload, which requests the answer in one piece.
fn last_block(id: u16) -> Vec<u8> {
    Make::enroll(id).piece(&body(100, 0), 1, BlockSize::B64).block2(0, BlockSize::B1024).bytes()
}

#[test]
fn c37_those_who_are_refused_for_room_do_not_come_back_at_once_and_a_copy_is_told_the_same() {
    let mut server = Server::with(Config { upload_bytes_total_max: 0, ..Config::default() });
    let first = Make::enroll(1).piece(&body(100, 0), 0, BlockSize::B64).bytes();
    let mut ages = Vec::new();
    for owner in 0..100 {
        server.peer = Peer::new();
        server.peer.belongs_to(Owner(owner));
        let refusal = server.reply(&first);
        assert_eq!(code(&refusal), Code::SERVICE_UNAVAILABLE);
        ages.push(parse(&refusal).uint(Number::MAX_AGE).unwrap());
        assert_eq!(server.reply(&first), refusal);
    }
    assert!(ages.iter().all(|age| (30..=45).contains(age)), "{ages:?}");
    let different = ages.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(different >= 12, "{different} of 16 possible: {ages:?}");
}

#[test]
fn c43_devices_that_never_close_refuse_nobody() {
    let mut server = small();
    let mut peers = Vec::new();
    // 100 enrolments in each EXCHANGE_LIFETIME, where 40 answers fit.
    for owner in 0..400 {
        server.now += Duration::from_millis(2_470);
        let (served, peer) = enrol(&mut server, owner);
        assert!(served, "device {owner} is refused");
        peers.push(peer);
        assert!(server.shared.response_bytes() <= TOTAL);
    }
    assert!(server.shared.counters().answers_evicted >= 300);
    assert_eq!(server.shared.counters().full, 0);
}

#[test]
fn c43_nothing_younger_than_93_seconds_goes() {
    let mut server = small();
    let mut peers: Vec<Peer> = (0..40).map(|owner| enrol(&mut server, owner).1).collect();
    server.now += MAX_TRANSMIT_WAIT - Duration::from_millis(1);
    assert!(!enrol(&mut server, 100).0, "all of them may still be asked for");
    assert_eq!(server.shared.counters().answers_evicted, 0);
    // A client that requests its answer again needs it for the same time again.
    std::mem::swap(&mut server.peer, &mut peers[0]);
    let again = server.reply(&last_block(50));
    assert_eq!(parse(&again).payload(), body(500, 3));
    std::mem::swap(&mut server.peer, &mut peers[0]);
    server.now += Duration::from_millis(1);
    assert!(enrol(&mut server, 101).0);
    std::mem::swap(&mut server.peer, &mut peers[0]);
    assert_eq!(code(&server.reply(&last_block(51))), Code::CHANGED, "not that one");
}

#[test]
fn c43_the_certificate_that_holds_most_gives_first() {
    let mut server = small();
    let mut others: Vec<Peer> = (0..10).map(|owner| enrol(&mut server, owner).1).collect();
    let (served, mut greedy): (Vec<_>, Vec<_>) = (0..14).map(|_| enrol(&mut server, 1_000)).unzip();
    assert!(served.iter().all(|served| *served));
    server.now += MAX_TRANSMIT_WAIT;
    let newcomers: Vec<_> = (0..26).map(|owner| enrol(&mut server, 2_000 + owner)).collect();
    assert!(newcomers.iter().all(|(served, _)| *served));
    let mut kept = |peers: &mut Vec<Peer>| {
        let answers = peers.iter_mut().map(|peer| {
            std::mem::swap(&mut server.peer, peer);
            let reply = server.reply(&last_block(60));
            std::mem::swap(&mut server.peer, peer);
            code(&reply) == Code::CHANGED
        });
        answers.filter(|kept| *kept).count()
    };
    assert_eq!(kept(&mut others), 10, "they hold one each");
    assert_eq!(kept(&mut greedy), 4, "ten were evicted");
}

/// The exception of C03: the certificate is in the ledger, and the whole request yields it again.
#[test]
fn c43_a_duplicate_of_the_final_block_of_an_evicted_answer_gets_4_08() {
    let mut server = small();
    let (_, mut first) = enrol(&mut server, 1);
    let mut peers = Vec::new();
    while server.shared.counters().answers_evicted == 0 {
        server.now += Duration::from_secs(6);
        peers.push(enrol(&mut server, 1_000));
        assert!(peers.len() < 40 && peers.iter().all(|(served, _)| *served));
    }
    // The first answer to be evicted is the oldest one of the owner that holds the most.
    let mut evicted = peers.swap_remove(0).1;
    std::mem::swap(&mut server.peer, &mut evicted);
    for copy in [last_block(2), last_block(9)] {
        let reply = server.reply(&copy);
        assert_eq!(code(&reply), INCOMPLETE, "the same message, and the block in a new one");
    }
    let later = Make::enroll(10).block2(3, BlockSize::B64).bytes();
    assert_eq!(server.done(&later).0, Done::Refused(RequestRefusal::NoResponse));
    // None of it is joined to the next upload.
    assert_eq!(code(&server.reply(&Make::enroll(20).piece(&body(100, 0), 0, BlockSize::B64).bytes())), Code::CONTINUE);
    assert_eq!(code(&server.reply(&last_block(2))), INCOMPLETE);
    assert_eq!(server.request(&last_block(21)).1, body(100, 0));
    std::mem::swap(&mut server.peer, &mut first);
    assert_eq!(code(&server.reply(&last_block(9))), Code::CHANGED);
}

#[test]
fn c43_an_answer_with_blocks_outstanding_and_one_of_skg_stay() {
    let mut server = small();
    let csr = body(100, 0);
    let last = upload(&mut server, &csr, BlockSize::B64, 1);
    let first_block = server.exchange(&last, &certificate(&body(500, 3)));
    assert!(parse(&first_block).block(Number::BLOCK2).unwrap().is_some_and(|block| block.more));
    let mut unfetched = server.other_peer();
    let key = Make::post("est/skg", 1).payload(b"csr").bytes();
    let reply = server.exchange(&key, &certificate(b"a private key"));
    let mut holder = server.other_peer();
    let mut evictions = Vec::new();
    for owner in 0..80 {
        server.now += Duration::from_secs(3);
        evictions.push(enrol(&mut server, owner));
    }
    assert!(server.shared.counters().answers_evicted > 30 && evictions.iter().all(|(served, _)| *served));
    std::mem::swap(&mut server.peer, &mut unfetched);
    let rest = server.reply(&Make::enroll(9).block2(7, BlockSize::B64).bytes());
    assert_eq!(parse(&rest).payload(), &body(500, 3)[448..]);
    std::mem::swap(&mut server.peer, &mut holder);
    assert_eq!(server.reply(&key), reply);
}

#[test]
fn c43_further_requests_of_one_session_push_out_no_answer_that_is_still_needed() {
    let mut server = Server::new();
    let key = Make::post("est/skg", 1).payload(b"csr").bytes();
    let private = server.exchange(&key, &certificate(b"a private key"));
    server.now += Duration::from_millis(1);
    let last = upload(&mut server, &body(100, 0), BlockSize::B64, 2);
    server.exchange(&last, &certificate(&body(500, 3)));
    let tagged = |tag: u8, id| Make::enroll(id).option(Number::REQUEST_TAG, &[tag]).payload(b"csr").bytes();
    let first = tagged(0, 100);
    for tag in 0..20 {
        server.now += Duration::from_millis(1);
        server.exchange(&tagged(tag, 100 + u16::from(tag)), &certificate(b"a certificate"));
    }
    // The oldest of the fetched answers were evicted: their duplicates are new requests.
    assert!(matches!(server.deliver(&first).0, Got::Request { .. }));
    assert_eq!(server.reply(&key), private, "it cannot be fetched again");
    let rest = server.reply(&Make::enroll(9).block2(7, BlockSize::B64).bytes());
    assert_eq!(parse(&rest).payload(), &body(500, 3)[448..], "its client is still fetching it");
}

#[test]
fn c43_a_session_full_of_answers_that_stay_is_told_to_come_later() {
    let mut server = Server::with(Config { exchanges_per_peer_max: 3, ..Config::default() });
    for id in 1..=3 {
        server.exchange(&Make::post("est/skg", id).payload(b"csr").bytes(), &certificate(b"a private key"));
    }
    let further = Make::enroll(9).payload(b"csr").bytes();
    assert_eq!(server.done(&further).0, Done::Refused(RequestRefusal::Full(Limit::Pending)));
    server.pass(coap::EXCHANGE_LIFETIME);
    server.request(&further);

    // A new request abandons the rest of the answer to the previous one of its name.
    let mut server = Server::with(Config { exchanges_per_peer_max: 1, ..Config::default() });
    for id in 1..=3 {
        let request = Make::enroll(id).block2(0, BlockSize::B64).payload(b"csr").bytes();
        server.exchange(&request, &certificate(&body(500, 3)));
    }
}

#[test]
fn c43_answers_that_nobody_fetches_are_bounded_for_one_owner() {
    let mut server = small();
    let mut refused = 0;
    let mut peers = Vec::new();
    for _ in 0..100 {
        server.peer.belongs_to(Owner(7));
        if upload_or_refused(&mut server, &body(100, 0)).is_none() {
            refused += 1;
            continue;
        }
        let (id, _) = server.request(&Make::enroll(2).piece(&body(100, 0), 1, BlockSize::B64).bytes());
        // Blocks of 64 bytes: the client never requests the rest.
        server.respond(id, &certificate(&body(500, 3)));
        peers.push(server.other_peer());
    }
    assert!(refused > 70 && server.shared.response_bytes() <= TOTAL / 2 + 1_024);
    let (served, _) = enrol(&mut server, 8);
    assert!(served, "another certificate has the other half");
}

#[test]
fn c44_uploads_of_one_certificate_leave_room_for_others() {
    let mut server = Server::new();
    let mut peers = Vec::with_capacity(8_192);
    let mut refused = 0;
    let first = Make::enroll(1).block1(0, true, BlockSize::B1024).payload(&[7; 1_024]).bytes();
    let second = Make::enroll(2).option(Number::REQUEST_TAG, b"2");
    let second = second.block1(0, true, BlockSize::B1024).payload(&[7; 1_024]).bytes();
    let third = Make::enroll(3).block1(2, true, BlockSize::B512).payload(&[7; 512]).bytes();
    for _ in 0..8_192 {
        server.peer.belongs_to(Owner(7));
        for datagram in [&first, &second, &third] {
            let (done, _) = server.done(datagram);
            refused += usize::from(done == Done::Refused(RequestRefusal::Full(Limit::Uploads)));
        }
        peers.push(server.other_peer());
    }
    assert!(refused > 0, "it wants more than half of the total");
    let held = server.shared.upload_bytes();
    assert!(held <= 16 << 20, "{held} bytes");
    for owner in 100..1_100 {
        server.peer.belongs_to(Owner(owner));
        let last = upload(&mut server, &body(400, 0), BlockSize::B64, 1);
        server.exchange(&last, &certificate(b"certificate"));
        server.peer = Peer::new();
    }
    drop(peers);
    assert_eq!((server.shared.upload_bytes(), server.shared.response_bytes()), (0, 0));
}

/// Room for 40 enrolments of one block, bodies excluded.
fn crowded() -> Server {
    Server::with(Config { exchange_bytes_total_max: 40 * 384, ..Config::default() })
}

/// Fills everything that a peer can hold, bodies excluded: two uploads, eight answers, all remembered messages. Returns
/// how many requests were refused for lack of room.
fn hoard(server: &mut Server) -> usize {
    let full = Done::Refused(RequestRefusal::Full(Limit::Exchanges));
    let mut refused = 0;
    for tag in 0..2 {
        let first = Make::enroll(tag).option(Number::REQUEST_TAG, &tag.to_be_bytes());
        let first = first.block1(0, true, BlockSize::B16).payload(&[7; 16]).bytes();
        refused += usize::from(server.done(&first).0 == full);
    }
    for id in 100..300 {
        let request = Make::enroll(id).non().payload(&id.to_be_bytes()).bytes();
        match server.deliver(&request) {
            (Got::Request { id, .. }, _) => {
                server.respond(id, &certificate(b""));
            }
            (Got::Done(done), _) => refused += usize::from(done == full),
            (Got::RefusedByTable(code), _) => panic!("the table refuses nothing here: {code}"),
        }
    }
    refused
}

#[test]
fn c44_what_one_certificate_has_remembered_beside_bodies_is_bounded_and_leaves_room_for_others() {
    let mut server = crowded();
    let (mut refused, mut peers) = (0, Vec::with_capacity(200));
    for _ in 0..200 {
        server.peer.belongs_to(Owner(7));
        refused += hoard(&mut server);
        peers.push(server.other_peer());
        assert!(server.shared.exchange_bytes() <= 21 * 384, "half of the total, and one more request");
    }
    // The first three sessions take all the room; refused messages are remembered all the same, in the peer itself.
    assert!(refused > 150 * 100, "{refused}");
    assert!(peers.iter().all(|peer| !peer.is_idle()));
    for owner in 100..115 {
        assert!(enrol(&mut server, owner).0, "another certificate has the other half");
    }
    drop(peers);
    assert_eq!(server.shared.exchange_bytes(), 0);
}

#[test]
fn c44_memory_is_what_is_counted() {
    const PEERS: usize = 2_000;
    let mut server = Server::new();
    server.peer.belongs_to(Owner(0));
    hoard(&mut server);
    let mut peers = Vec::with_capacity(PEERS);
    peers.push(server.other_peer());
    let counted = |server: &Server| {
        server.shared.exchange_bytes() + server.shared.upload_bytes() + server.shared.response_bytes()
    };
    let before = counted(&server);
    let held = allocation_counter::measure(|| {
        for owner in 1..PEERS {
            server.peer.belongs_to(Owner(owner as u64));
            hoard(&mut server);
            peers.push(server.other_peer());
        }
    });
    let (held, counted) = (usize::try_from(held.bytes_current).unwrap(), counted(&server) - before);
    println!("{} bytes a peer, {} counted", held / PEERS, counted / PEERS);
    assert!(held <= counted && counted <= 2 * held, "{held} bytes held, {counted} counted");
}

#[test]
fn c47_a_full_house_takes_nothing_from_an_enrolment_that_has_begun() {
    let mut server = crowded();
    server.peer.belongs_to(Owner(1));
    let csr = body(1_000, 0);
    let block = |num: u16| Make::enroll(num).piece(&csr, num.into(), BlockSize::B16).bytes();
    assert_eq!(code(&server.reply(&block(0))), Code::CONTINUE);
    let mut device = server.other_peer();
    // Others take all the room.
    let mut others = Vec::new();
    for owner in 100..200 {
        server.peer.belongs_to(Owner(owner));
        hoard(&mut server);
        others.push(server.other_peer());
    }
    server.peer.belongs_to(Owner(2));
    let newcomer = block(0);
    assert_eq!(server.done(&newcomer).0, Done::Refused(RequestRefusal::Full(Limit::Exchanges)));
    // The copy of a refused message is refused as before, although there is no memory left to remember it.
    assert_eq!(server.done(&newcomer).0, Done::Duplicate);
    // CA certificates are computed: a request for them leaves no state behind.
    server.exchange(&Make::get("est/crts", 300).bytes(), &certificate(b"x"));
    std::mem::swap(&mut server.peer, &mut device);
    for num in 1..62 {
        assert_eq!(code(&server.reply(&block(num))), Code::CONTINUE);
        assert_eq!(code(&server.reply(&block(num))), Code::CONTINUE, "its latest messages are known");
    }
    let answer = server.exchange(&block(62), &certificate(&body(500, 3)));
    assert_eq!(parse(&answer).payload(), &body(500, 3)[..16]);
    for num in 1..32 {
        let more = Make::enroll(400 + num).block2(num.into(), BlockSize::B16).bytes();
        assert_eq!(code(&server.reply(&more)), Code::CHANGED);
    }
    assert!(server.shared.exchange_bytes() <= 40 * 384);
}

#[test]
fn c48_a_peer_whose_session_stays_open_costs_nothing_after_247_seconds() {
    let mut server = Server::new();
    enrol(&mut server, 0);
    let used = allocation_counter::measure(|| {
        for owner in 1..200 {
            // Each leaves an answer, an unfinished upload and a non-confirmable request.
            let (served, mut peer) = enrol(&mut server, owner);
            assert!(served);
            std::mem::swap(&mut server.peer, &mut peer);
            server.reply(
                &Make::enroll(9).option(Number::REQUEST_TAG, b"2").piece(&body(300, 0), 0, BlockSize::B64).bytes(),
            );
            server.exchange(&Make::get("est/crts", 10).non().bytes(), &certificate(b"x"));
            server.pass(Duration::from_secs(247));
            assert!(server.peer.is_idle() && server.peer.poll_timeout().is_none());
            // The session drops an idle peer: see `Peer::is_idle`.
            server.peer = Peer::new();
        }
    });
    assert_eq!((server.shared.upload_bytes(), server.shared.response_bytes()), (0, 0));
    assert!(used.bytes_current.abs() <= 4_096, "{} bytes of 199 peers stay", used.bytes_current);
}
