//! Answers that take longer than the acknowledgement deadline.

use std::time::Duration;

use coap::server::{Done, ExchangeId};
use coap::{BlockSize, Code, Kind, MessageId};

use crate::harness::{Make, Server, block2, body, certificate, code, empty, parse};

/// A request whose empty acknowledgement has been sent.
fn acknowledged(server: &mut Server, request: &[u8]) -> ExchangeId {
    let (id, _) = server.request(request);
    assert!(server.peer.has_pending());
    let sent = server.pass(Duration::from_secs(1));
    assert_eq!(sent, [empty(Kind::Acknowledgement, parse(request).message_id().0)]);
    id
}

#[test]
fn after_the_deadline_the_answer_is_a_separate_response() {
    let mut server = Server::new();
    let request = Make::enroll(7).token(b"tok").payload(b"csr").bytes();
    let id = acknowledged(&mut server, &request);
    server.pass(Duration::from_secs(20));
    let sent = server.respond(id, &certificate(b"certificate"));
    let message = parse(&sent[0]);
    assert_eq!((message.kind(), message.code()), (Kind::Confirmable, Code::CHANGED));
    assert_eq!((message.token().as_bytes(), message.payload()), (&b"tok"[..], &b"certificate"[..]));
    assert_eq!(server.done(&empty(Kind::Acknowledgement, message.message_id().0)).0, Done::Acknowledged);
    assert!(!server.peer.has_pending());
    assert!(server.pass(Duration::from_secs(200)).is_empty(), "nothing is sent again");
    // The client has the response; a stray copy of the request gets the same as before: the empty acknowledgement.
    assert_eq!(server.done(&request), (Done::Duplicate, vec![empty(Kind::Acknowledgement, 7)]));
}

#[test]
fn an_answer_before_the_deadline_is_piggybacked() {
    let mut server = Server::new();
    let (id, _) = server.request(&Make::enroll(7).payload(b"csr").bytes());
    assert!(server.pass(Duration::from_millis(999)).is_empty());
    let sent = server.respond(id, &certificate(b"certificate"));
    assert_eq!((parse(&sent[0]).kind(), parse(&sent[0]).message_id()), (Kind::Acknowledgement, MessageId(7)));
}

#[test]
fn c35_an_unacknowledged_response_stops_after_four_retransmissions_and_is_still_known() {
    let mut server = Server::new();
    let request = Make::enroll(7).payload(b"csr").bytes();
    let id = acknowledged(&mut server, &request);
    let sent = server.respond(id, &certificate(b"certificate"));
    let again = server.pass(Duration::from_secs(93));
    assert_eq!(again, vec![sent[0].clone(); 4], "the same bytes each time");
    assert!(!server.peer.has_pending());
    let (done, repeated) = server.done(&request);
    assert_eq!(done, Done::Duplicate);
    assert_eq!(parse(&repeated[0]).payload(), b"certificate");
    assert_eq!(server.shared.counters().given_up, 1);
}

#[test]
fn retransmissions_double_from_two_to_three_seconds() {
    let mut server = Server::new();
    let id = acknowledged(&mut server, &Make::enroll(7).payload(b"csr").bytes());
    server.respond(id, &certificate(b"certificate"));
    let start = server.now;
    let mut at = Vec::new();
    for _ in 0..5 {
        let due = server.peer.poll_timeout().unwrap();
        at.push((due - start).as_secs_f64());
        server.pass(due - server.now);
    }
    assert!((2.0..=3.0).contains(&at[0]), "ACK_TIMEOUT to ACK_TIMEOUT * ACK_RANDOM_FACTOR");
    for (index, times) in [3.0, 7.0, 15.0, 31.0].into_iter().enumerate() {
        assert!((at[index + 1] - at[0] * times).abs() < 0.001);
    }
}

#[test]
fn a_reset_ends_it_and_the_outcome_stays() {
    let mut server = Server::new();
    let request = Make::enroll(7).payload(b"csr").bytes();
    let id = acknowledged(&mut server, &request);
    let sent = server.respond(id, &certificate(b"certificate"));
    let reset = empty(Kind::Reset, parse(&sent[0]).message_id().0);
    assert_eq!(server.done(&reset), (Done::Reset, vec![]));
    assert!(server.pass(Duration::from_secs(90)).is_empty());
    let (_, repeated) = server.done(&request);
    assert_eq!(parse(&repeated[0]).payload(), b"certificate");
}

#[test]
fn a_long_separate_response_goes_on_in_blocks() {
    let mut server = Server::new();
    let whole = body(150, 0);
    let request = Make::enroll(7).payload(b"csr").block2(0, BlockSize::B64).bytes();
    let id = acknowledged(&mut server, &request);
    let sent = server.respond(id, &certificate(&whole));
    assert!(block2(&sent[0]).unwrap().more);
    // The client requests the rest before its acknowledgement arrives.
    let mut got = parse(&sent[0]).payload().to_vec();
    for num in 1..3 {
        let request = Make::post("est/sen", 7 + u16::try_from(num).unwrap()).block2(num, BlockSize::B64).bytes();
        got.extend_from_slice(parse(&server.reply(&request)).payload());
    }
    assert_eq!(got, whole);
}

#[test]
fn a_computed_request_that_took_long_leaves_nothing_once_acknowledged() {
    let mut server = Server::new();
    let id = acknowledged(&mut server, &Make::get("est/crts", 3).bytes());
    let sent = server.respond(id, &certificate(&body(100, 0)));
    assert!(server.shared.response_bytes() > 0, "held for retransmission");
    server.done(&empty(Kind::Acknowledgement, parse(&sent[0]).message_id().0));
    assert!(server.peer.is_idle());
    assert_eq!(server.shared.response_bytes(), 0);
}

#[test]
fn non_confirmable_requests_are_not_acknowledged() {
    let mut server = Server::new();
    let (id, _) = server.request(&Make::enroll(7).non().payload(b"csr").bytes());
    assert!(server.pass(Duration::from_secs(30)).is_empty());
    let sent = server.respond(id, &certificate(b"certificate"));
    assert_eq!(parse(&sent[0]).kind(), Kind::NonConfirmable);
    assert!(server.pass(Duration::from_secs(30)).is_empty());
    assert_eq!(code(&sent[0]), Code::CHANGED);
}

/// Each message with a part of an answer that cannot be produced again is marked, so that its caller wipes it; and no other is.
#[test]
fn e39_every_message_with_a_part_of_a_key_is_marked_as_secret() {
    let mut server = Server::new();
    let key = |id| Make::post("est/skg", id).payload(b"csr");
    let secret = body(200, 3);
    let request = key(1).block2(0, BlockSize::B64).bytes();
    server.exchange(&request, &certificate(&secret));
    assert!(server.out.is_secret(), "piggybacked");
    server.reply(&request);
    assert!(server.out.is_secret(), "a duplicate");
    server.reply(&Make::post("est/skg", 2).block2(1, BlockSize::B64).bytes());
    assert!(server.out.is_secret(), "a later block");
    server.exchange(&Make::enroll(3).payload(b"csr").bytes(), &certificate(b"certificate"));
    assert!(!server.out.is_secret(), "a certificate is public");
    let id = acknowledged(&mut server, &key(4).bytes());
    server.respond(id, &certificate(&secret));
    assert!(server.out.is_secret(), "a separate response");
    server.pass(Duration::from_secs(3));
    assert!(server.out.is_secret(), "sent again");
    server.out.clear();
    assert!(!server.out.is_secret());
}
