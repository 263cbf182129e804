//! Responses in Block2 pieces.

use std::time::Duration;

use coap::server::{Config, Done, RequestRefusal, Response};
use coap::{Block, BlockSize, Code, ContentFormat, Message, Number};

use crate::harness::{Got, Make, Server, block1, block2, body, certificate, code, parse, upload};

fn certificates(bytes: &[u8]) -> Response<'_> {
    Response::content(Code::CONTENT, ContentFormat::PKCS7_CERTS_ONLY, bytes)
}

fn etag(datagram: &[u8]) -> Vec<u8> {
    parse(datagram).option(Number::ETAG).expect("an ETag").to_vec()
}

#[test]
fn a_body_that_fits_has_no_block2_unless_asked_for() {
    let mut server = Server::new();
    let reply = server.exchange(&Make::get("est/crts", 1).bytes(), &certificates(&body(1024, 0)));
    assert_eq!((block2(&reply), parse(&reply).option(Number::ETAG)), (None, None));
    let asked = Make::get("est/crts", 2).block2(0, BlockSize::B1024).bytes();
    let reply = server.exchange(&asked, &certificates(&body(1024, 0)));
    assert_eq!(block2(&reply), Some(Block { num: 0, more: false, size: BlockSize::B1024 }));
}

#[test]
fn c33_every_block_has_the_same_etag_and_content_format_and_a_restart_does_not_change_them() {
    let whole = body(700, 1);
    let fetch = || {
        let mut server = Server::new();
        let csr = body(200, 0);
        let last = upload(&mut server, &csr, BlockSize::B64, 1);
        let mut reply = server.exchange(&last, &certificate(&whole));
        let tag = etag(&reply);
        let mut got = parse(&reply).payload().to_vec();
        while let Some(Block { num, more: true, size }) = block2(&reply) {
            let id = 100 + u16::try_from(num).unwrap();
            // Another token, no Content-Format, no Accept, no payload.
            reply = server.reply(&Make::post("est/sen", id).token(&[9, 9]).block2(num + 1, size).bytes());
            assert_eq!(code(&reply), Code::CHANGED);
            assert_eq!(etag(&reply), tag);
            assert_eq!(parse(&reply).uint(Number::CONTENT_FORMAT), Some(287));
            assert_eq!(parse(&reply).token().as_bytes(), [9, 9]);
            got.extend_from_slice(parse(&reply).payload());
        }
        assert_eq!(got, whole);
        assert_eq!(server.shared.counters().requests, 1);
        tag
    };
    assert_eq!(fetch(), fetch(), "derived from the bytes, so another server gives the same");
}

#[test]
fn the_etag_tells_bodies_and_formats_apart() {
    let mut server = Server::new();
    let mut tag = |id, response: &Response<'_>| {
        etag(&server.exchange(&Make::get("est/crts", id).block2(0, BlockSize::B16).bytes(), response))
    };
    let (one, two) = (body(300, 0), body(300, 1));
    let first = tag(1, &certificates(&one));
    assert_ne!(first, tag(2, &certificates(&two)));
    assert_ne!(first, tag(3, &Response::content(Code::CONTENT, ContentFormat::PKIX_CERT, &one)));
    assert_eq!(first, tag(4, &certificates(&one)));
}

#[test]
fn the_size_is_the_clients_or_that_of_its_own_blocks_or_the_default() {
    let whole = body(900, 0);
    let mut server = Server::with(Config { block_max: BlockSize::B512, ..Config::default() });
    let reply = server.exchange(&Make::get("est/crts", 1).block2(0, BlockSize::B32).bytes(), &certificates(&whole));
    assert_eq!(block2(&reply), Some(Block { num: 0, more: true, size: BlockSize::B32 }));
    let reply = server.exchange(&Make::get("est/crts", 2).bytes(), &certificates(&whole));
    assert_eq!(block2(&reply), Some(Block { num: 0, more: true, size: BlockSize::B512 }));
    // Block 1 of 1,024 bytes begins at the same offset as block 2 of 512 bytes.
    let request = Make::get("est/crts", 3).block2(1, BlockSize::B1024).bytes();
    let reply = server.exchange(&request, &certificates(&body(1_400, 0)));
    assert_eq!(block2(&reply), Some(Block { num: 2, more: false, size: BlockSize::B512 }));
    assert_eq!(parse(&reply).payload(), &body(1_400, 0)[1_024..]);
    let last = upload(&mut server, &body(200, 0), BlockSize::B64, 10);
    let reply = server.exchange(&last, &certificate(&whole));
    assert_eq!(block2(&reply), Some(Block { num: 0, more: true, size: BlockSize::B64 }));
}

#[test]
fn block1_and_block2_combined_as_in_rfc_7959_section_3_3() {
    // RFC 7959 §3.3: 1:0/1/128, 1:1/1/128, then 1:2/0/128 with 2:0/0/64, then 2:1/0/64 and so on without a payload.
    let mut server = Server::new();
    let (csr, whole) = (body(300, 0), body(250, 1));
    server.reply(&Make::enroll(1234).piece(&csr, 0, BlockSize::B128).bytes());
    server.reply(&Make::enroll(1235).piece(&csr, 1, BlockSize::B128).bytes());
    let last = Make::enroll(1236).piece(&csr, 2, BlockSize::B128).block2(0, BlockSize::B64).bytes();
    let reply = server.exchange(&last, &certificate(&whole));
    assert_eq!(block1(&reply), Some(Block { num: 2, more: false, size: BlockSize::B128 }));
    assert_eq!(block2(&reply), Some(Block { num: 0, more: true, size: BlockSize::B64 }));
    let mut got = parse(&reply).payload().to_vec();
    for num in 1..4 {
        let id = 1236 + u16::try_from(num).unwrap();
        let reply = server.reply(&Make::post("est/sen", id).block2(num, BlockSize::B64).bytes());
        assert_eq!(block2(&reply), Some(Block { num, more: num < 3, size: BlockSize::B64 }));
        assert_eq!(block1(&reply), None);
        got.extend_from_slice(parse(&reply).payload());
    }
    assert_eq!(got, whole);
}

#[test]
fn late_negotiation_as_in_rfc_7959_section_3_1() {
    // RFC 7959 §3.1: the client continues in smaller blocks from the offset that it has reached.
    let mut server = Server::new();
    let whole = body(300, 1);
    let request = Make::enroll(1).payload(b"csr").block2(0, BlockSize::B128).bytes();
    let mut got = parse(&server.exchange(&request, &certificate(&whole))).payload().to_vec();
    for num in 2..5 {
        let id = u16::try_from(num).unwrap();
        let reply = server.reply(&Make::post("est/sen", id).block2(num, BlockSize::B64).bytes());
        assert_eq!(block2(&reply), Some(Block { num, more: num < 4, size: BlockSize::B64 }));
        got.extend_from_slice(parse(&reply).payload());
    }
    assert_eq!(got, whole);
}

#[test]
fn c34_a_later_block_without_a_response_is_incomplete_and_never_a_new_request() {
    let mut server = Server::new();
    let request = Make::enroll(1).block2(1, BlockSize::B64).payload(b"csr").bytes();
    let (done, sent) = server.done(&request);
    assert_eq!((done, code(&sent[0])), (Done::Refused(RequestRefusal::NoResponse), Code::REQUEST_ENTITY_INCOMPLETE));
    server.exchange(&Make::enroll(2).payload(b"csr").bytes(), &Response::error(Code::FORBIDDEN, "no"));
    let reply = server.reply(&Make::post("est/sen", 3).block2(1, BlockSize::B64).bytes());
    assert_eq!(code(&reply), Code::REQUEST_ENTITY_INCOMPLETE, "a refusal has no blocks");
}

#[test]
fn c34_a_block_past_the_end_is_a_bad_option() {
    let mut server = Server::new();
    server.exchange(&Make::enroll(1).payload(b"csr").bytes(), &certificate(&body(300, 0)));
    for num in [5, 4_096, Block::NUM_MAX] {
        let (done, sent) = server.done(&Make::post("est/sen", 2).block2(num, BlockSize::B64).bytes());
        assert_eq!((done, code(&sent[0])), (Done::Refused(RequestRefusal::PastEnd), Code::BAD_OPTION));
    }
    let get = Make::get("est/crts", 3).block2(5, BlockSize::B64).bytes();
    assert_eq!(code(&server.exchange(&get, &certificates(&body(300, 0)))), Code::BAD_OPTION);
    assert_eq!(server.shared.counters().requests, 2);
}

#[test]
fn c34_a_kept_response_is_gone_after_its_lifetime() {
    let mut server = Server::new();
    server.exchange(&Make::enroll(1).payload(b"csr").bytes(), &certificate(&body(300, 0)));
    server.pass(Duration::from_secs(247));
    let reply = server.reply(&Make::post("est/sen", 2).block2(1, BlockSize::B64).bytes());
    assert_eq!(code(&reply), Code::REQUEST_ENTITY_INCOMPLETE);
    assert!(server.peer.is_idle());
}

#[test]
fn later_blocks_of_a_get_are_computed_again() {
    let mut server = Server::new();
    let whole = body(300, 0);
    let mut got = Vec::new();
    for num in 0..5 {
        let request = Make::get("est/crts", 1 + u16::try_from(num).unwrap()).block2(num, BlockSize::B64).bytes();
        let reply = server.exchange(&request, &certificates(&whole));
        got.extend_from_slice(parse(&reply).payload());
        assert!(server.peer.is_idle());
    }
    assert_eq!(got, whole);
}

#[test]
fn later_blocks_of_a_computed_post_are_kept() {
    let mut server = Server::new();
    let whole = body(100, 0);
    let request = Make::post("calc", 1).block2(0, BlockSize::B64).payload(b"in").bytes();
    server.exchange(&request, &certificate(&whole));
    let reply = server.reply(&Make::post("calc", 2).block2(1, BlockSize::B64).bytes());
    assert_eq!(parse(&reply).payload(), &whole[64..]);
}

#[test]
fn request_tags_keep_responses_apart() {
    let mut server = Server::new();
    for tag in 1..=2_u8 {
        let request = Make::enroll(tag.into()).option(Number::REQUEST_TAG, &[tag]).payload(&[tag]).bytes();
        server.exchange(&request, &certificate(&body(2_000, tag)));
    }
    for tag in 1..=2_u8 {
        let request = Make::post("est/sen", 10 + u16::from(tag)).option(Number::REQUEST_TAG, &[tag]);
        let reply = server.reply(&request.block2(1, BlockSize::B64).bytes());
        assert_eq!(parse(&reply).payload(), &body(2_000, tag)[64..128]);
    }
}

#[test]
fn size2_is_told_when_asked_for() {
    let mut server = Server::new();
    let request = Make::get("est/crts", 1).block2(0, BlockSize::B64).uint(Number::SIZE2, 0).bytes();
    let reply = server.exchange(&request, &certificates(&body(300, 0)));
    assert_eq!(parse(&reply).uint(Number::SIZE2), Some(300));
}

#[test]
fn an_unavailable_server_says_when_and_sends_no_block2() {
    let mut server = Server::new();
    let request = Make::enroll(1).payload(b"csr").block2(0, BlockSize::B16).bytes();
    let reply = server.exchange(&request, &Response::unavailable(17, "the authority is busy, come again"));
    let message = parse(&reply);
    assert_eq!(message.code(), Code::SERVICE_UNAVAILABLE);
    assert_eq!(message.uint(Number::MAX_AGE), Some(17));
    assert_eq!((message.option(Number::BLOCK2), message.option(Number::ETAG)), (None, None));
    assert_eq!(message.payload(), b"the authority is busy, come again");
}

#[test]
fn a_long_diagnostic_is_cut_between_characters() {
    let mut server = Server::new();
    let text = format!("a{}", "\u{e4}".repeat(100));
    let reply = server.exchange(&Make::enroll(1).payload(b"csr").bytes(), &Response::error(Code::FORBIDDEN, &text));
    assert_eq!(std::str::from_utf8(parse(&reply).payload()).unwrap().len(), 127);
}

#[test]
fn c11_the_token_is_echoed_exactly_and_its_reuse_mixes_nothing() {
    let mut server = Server::new();
    for token in [&b""[..], b"a", b"12345678"] {
        let request = Make::get("est/crts", 1).token(token).bytes();
        let reply = server.exchange(&request, &certificates(b"x"));
        assert_eq!(parse(&reply).token().as_bytes(), token);
    }
    // Two requests with one token, answered in the opposite order: each acknowledgement has its own message id.
    let (one, _) = server.request(&Make::enroll(1).token(b"t").payload(b"one").bytes());
    let (two, _) = server.request(&Make::enroll(2).token(b"t").payload(b"two").bytes());
    let second = server.respond(two, &certificate(b"two"));
    let first = server.respond(one, &certificate(b"one"));
    let facts = |datagram: &[u8]| {
        let message = Message::parse(datagram).unwrap();
        (message.message_id().0, message.payload().to_vec())
    };
    assert_eq!((facts(&first[0]), facts(&second[0])), ((1, b"one".to_vec()), (2, b"two".to_vec())));
}

#[test]
fn answering_twice_is_an_error_and_changes_nothing() {
    let mut server = Server::new();
    let Got::Request { id, .. } = server.deliver(&Make::enroll(1).payload(b"csr").bytes()).0 else { panic!() };
    server.respond(id, &certificate(b"one"));
    server.out.clear();
    let again = server.peer.respond(server.now, id, &certificate(b"two"), &mut server.shared, &mut server.out);
    assert!(again.is_err());
    assert!(server.out.is_empty());
}

#[test]
fn later_blocks_are_those_of_the_latest_response() {
    let mut server = Server::new();
    for seed in 1..=3_u8 {
        let request = Make::enroll(seed.into()).payload(&[seed]).block2(0, BlockSize::B64).bytes();
        server.exchange(&request, &certificate(&body(100, seed)));
    }
    let reply = server.reply(&Make::post("est/sen", 10).block2(1, BlockSize::B64).bytes());
    assert_eq!(parse(&reply).payload(), &body(100, 3)[64..]);
}

#[test]
fn c02_the_outcome_of_a_non_confirmable_request_is_kept_as_long_as_its_id() {
    let mut server = Server::new();
    let request = Make::enroll(1).non().payload(b"csr").block2(0, BlockSize::B64).bytes();
    server.exchange(&request, &certificate(&body(100, 1)));
    let later = |id| Make::post("est/sen", id).block2(1, BlockSize::B64).bytes();
    server.pass(Duration::from_secs(144));
    assert_eq!(code(&server.reply(&later(2))), Code::CHANGED);
    server.pass(Duration::from_secs(2));
    assert_eq!(code(&server.reply(&later(3))), Code::REQUEST_ENTITY_INCOMPLETE);
}

#[test]
fn an_answer_has_a_rest_until_its_last_block_is_asked_for() {
    let mut server = Server::new();
    let last = upload(&mut server, &body(200, 0), BlockSize::B64, 1);
    server.exchange(&last, &certificate(&body(150, 0)));
    assert!(server.peer.has_rest());
    let block = |num, id| Make::post("est/sen", id).block2(num, BlockSize::B64).bytes();
    server.reply(&block(1, 20));
    assert!(server.peer.has_rest());
    server.reply(&block(2, 21));
    assert!(!server.peer.has_rest());
    server.reply(&block(1, 22));
    assert!(!server.peer.has_rest(), "a client that has read the end knows that nothing remains");

    // The client restarts with the last block of its upload, and has to fetch the whole answer again.
    server.reply(&Make::enroll(30).piece(&body(200, 0), 3, BlockSize::B64).bytes());
    assert!(server.peer.has_rest());
    // The next request of the same name replaces it.
    let last = upload(&mut server, &body(210, 0), BlockSize::B64, 40);
    server.exchange(&last, &certificate(&body(64, 0)));
    assert!(!server.peer.has_rest(), "the new answer is one block");
}

#[test]
fn an_answer_that_is_computed_again_or_given_up_has_no_rest() {
    let mut server = Server::new();
    server.exchange(&Make::get("est/crts", 1).block2(0, BlockSize::B64).bytes(), &certificates(&body(900, 0)));
    assert!(!server.peer.has_rest());
    let last = upload(&mut server, &body(200, 0), BlockSize::B64, 2);
    server.exchange(&last, &certificate(&body(150, 0)));
    server.pass(Duration::from_secs(247));
    assert!(!server.peer.has_rest());
    let last = upload(&mut server, &body(200, 0), BlockSize::B64, 20);
    server.exchange(&last, &Response::error(Code::FORBIDDEN, "est.sen.subject_mismatch"));
    assert!(!server.peer.has_rest());
}
