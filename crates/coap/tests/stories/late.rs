//! Late copies of messages that were first refused, or that have been answered differently since.

use std::cell::Cell;
use std::time::Duration;

use coap::client::{Exchange, RequestSpec};
use coap::server::{Admit, Config, Done, Handled, Head, RequestRefusal, Resources, Response};
use coap::{BlockSize, Code, ContentFormat, Kind, MessageIds, Number, Token};

use crate::harness::{Got, Make, Server, Table, block1, body, certificate, code, empty, parse, upload};

const INCOMPLETE: Code = Code::REQUEST_ENTITY_INCOMPLETE;

/// The table of the harness, which refuses every request while it is closed.
struct Closing(Cell<bool>);

impl Resources for Closing {
    type Target = Admit;
    type Refusal = Response<'static>;

    fn find(&self, head: &Head<'_>) -> Result<Admit, Response<'static>> {
        Table.find(head)
    }

    fn admit(&self, target: &Admit) -> Result<Admit, Response<'static>> {
        if self.0.get() { Err(Response::unavailable(9, "closed")) } else { Table.admit(target) }
    }

    fn response(&self, refusal: &Response<'static>) -> Response<'static> {
        Table.response(refusal)
    }
}

/// Delivers a datagram under such a table; returns the result and the one message that the server sends.
fn deliver(server: &mut Server, table: &Closing, datagram: &[u8]) -> (Got, Vec<u8>) {
    server.out.clear();
    let handled = server.peer.handle(server.now, datagram, &mut server.shared, table, &mut server.out);
    let got = match handled {
        Handled::Done { done, .. } => Got::Done(done),
        Handled::RefusedByTable(response) => Got::RefusedByTable(response.code),
        Handled::Request { id, request, .. } => Got::Request { id, body: request.into_body() },
    };
    let sent: Vec<_> = server.out.iter().map(<[u8]>::to_vec).collect();
    assert_eq!(sent.len(), 1, "one answer");
    (got, sent[0].clone())
}

#[test]
fn c29_a_late_copy_of_a_first_block_that_was_turned_away_does_not_begin_anew() {
    let (mut server, table) = (Server::new(), Closing(Cell::new(true)));
    let (old, new) = (body(192, 0), body(192, 100));
    let stray = Make::enroll(1).piece(&old, 0, BlockSize::B64).bytes();
    let (got, refused) = deliver(&mut server, &table, &stray);
    assert_eq!(got, Got::RefusedByTable(Code::SERVICE_UNAVAILABLE));
    assert_eq!(deliver(&mut server, &table, &stray), (Got::Done(Done::Duplicate), refused), "the same answer again");

    // The client returns at the time it was told, with another request; the network delivers the old one once more.
    table.0.set(false);
    server.pass(Duration::from_secs(10));
    server.reply(&Make::enroll(2).piece(&new, 0, BlockSize::B64).bytes());
    let (got, again) = deliver(&mut server, &table, &stray);
    assert_eq!((got, code(&again)), (Got::Done(Done::Duplicate), Code::SERVICE_UNAVAILABLE));
    assert!(parse(&again).uint(Number::MAX_AGE).is_some_and(|seconds| seconds > 0));
    server.reply(&Make::enroll(3).piece(&new, 1, BlockSize::B64).bytes());
    assert_eq!(server.request(&Make::enroll(4).piece(&new, 2, BlockSize::B64).bytes()).1, new);
}

#[test]
fn c25_a_late_copy_of_a_short_first_block_leaves_the_present_transfer() {
    let mut server = Server::new();
    let csr = body(128, 0);
    let stray = Make::enroll(1).block1(0, true, BlockSize::B64).payload(&[0; 63]).bytes();
    let refused = server.reply(&stray);
    assert_eq!(code(&refused), Code::BAD_REQUEST);
    server.reply(&Make::enroll(2).piece(&csr, 0, BlockSize::B64).bytes());
    assert_eq!(server.done(&stray), (Done::Duplicate, vec![refused]));
    assert_eq!(server.request(&Make::enroll(3).piece(&csr, 1, BlockSize::B64).bytes()).1, csr);
}

#[test]
fn c26_a_copy_of_what_was_too_large_is_told_the_limit_too() {
    let diagnose = |refusal| match refusal {
        RequestRefusal::TooLarge { .. } => "coap.body.too_large",
        _ => "",
    };
    let mut server = Server::with(Config { diagnose, ..Config::default() });
    let announced = Make::enroll(1).block1(0, true, BlockSize::B64).uint(Number::SIZE1, 2_001).payload(&[0; 64]);
    let refused = server.reply(&announced.bytes());
    assert_eq!(parse(&refused).uint(Number::SIZE1), Some(2_000));
    assert_eq!(server.done(&announced.bytes()), (Done::Duplicate, vec![refused]), "byte for byte");

    server.reply(&Make::enroll(2).block1(0, true, BlockSize::B1024).payload(&[0; 1024]).bytes());
    let reached = Make::enroll(3).block1(1, true, BlockSize::B1024).payload(&[0; 1024]).bytes();
    let refused = server.reply(&reached);
    assert_eq!((code(&refused), parse(&refused).uint(Number::SIZE1)), (Code::REQUEST_ENTITY_TOO_LARGE, Some(2_000)));
    assert_eq!(server.done(&reached), (Done::Duplicate, vec![refused]));
}

#[test]
fn copies_of_refused_blocks_say_why_as_the_first_answer_did() {
    let diagnose = |refusal| match refusal {
        RequestRefusal::BlockMissing => "coap.block.missing",
        RequestRefusal::ContentFormatChanged => "coap.block.content_format_changed",
        RequestRefusal::Full(_) => "coap.busy.full",
        _ => "",
    };
    let mut server = Server::with(Config { diagnose, upload_bytes_total_max: 600, ..Config::default() });
    let csr = body(192, 0);
    let missing = Make::enroll(1).piece(&csr, 1, BlockSize::B64).bytes();
    server.reply(&Make::enroll(2).piece(&csr, 0, BlockSize::B64).bytes());
    let other_format = Make::post("est/sen", 3).uint(Number::CONTENT_FORMAT, 42).piece(&csr, 1, BlockSize::B64).bytes();
    let full = Make::enroll(5).option(Number::REQUEST_TAG, b"2").piece(&csr, 0, BlockSize::B64).bytes();
    for (request, why) in [
        (other_format, "coap.block.content_format_changed"),
        (missing, "coap.block.missing"),
        (Make::enroll(4).piece(&csr, 2, BlockSize::B64).bytes(), "coap.block.missing"),
    ] {
        let refused = server.reply(&request);
        assert_eq!((code(&refused), parse(&refused).payload()), (INCOMPLETE, why.as_bytes()));
        assert_eq!(server.done(&request), (Done::Duplicate, vec![refused]));
    }
    server.reply(&Make::enroll(6).piece(&csr, 0, BlockSize::B64).bytes());
    let refused = server.reply(&full);
    assert_eq!((code(&refused), parse(&refused).payload()), (Code::SERVICE_UNAVAILABLE, &b"coap.busy.full"[..]));
    assert_eq!(server.done(&full), (Done::Duplicate, vec![refused]));
}

#[test]
fn c01_a_copy_of_a_get_that_came_as_one_block_is_answered_like_any_other() {
    let mut server = Server::new();
    let request = Make::get("est/crts", 1).block1(0, false, BlockSize::B64).bytes();
    let response = Response::content(Code::CONTENT, ContentFormat::PKCS7_CERTS_ONLY, b"certificates");
    let first = server.exchange(&request, &response);
    // The answer was lost: if it were not sent again, the client would ask until it gives up.
    assert_eq!(server.exchange(&request, &response), first);
    assert!(server.peer.is_idle(), "no state is kept for a request that is computed again");
}

#[test]
fn c35_a_separate_response_ends_when_its_outcome_goes_out_under_a_new_message_id() {
    let mut server = Server::new();
    let csr = body(300, 0);
    let last = upload(&mut server, &csr, BlockSize::B64, 1);
    let (id, _) = server.request(&last);
    server.pass(Duration::from_secs(1));
    let separate = server.respond(id, &certificate(b"certificate"));
    assert_eq!(parse(&separate[0]).kind(), Kind::Confirmable);
    // The client has lost the state of its first message and asks again: it gets its answer under its new token.
    let again = Make::enroll(900).token(b"new").piece(&csr, 4, BlockSize::B64).bytes();
    let reply = server.reply(&again);
    assert_eq!(parse(&reply).payload(), b"certificate");
    // A retransmission is the same message (RFC 7252 §4.2), and the client no longer waits for the token of that one.
    assert!(server.pass(Duration::from_secs(93)).is_empty());
    assert!(!server.peer.has_pending());
    assert_eq!(server.reply(&again), reply);
    assert_eq!(
        server.done(&empty(Kind::Acknowledgement, parse(&separate[0]).message_id().0)).0,
        Done::Dropped(coap::server::Dropped::Unmatched)
    );
}

/// RFC 7959 §2.5: "Servers can fully expect to be free to discard any partial request body when a period of
/// EXCHANGE_LIFETIME has elapsed after the most recent block was transferred": a client may rely on that time, and ours
/// does.
#[test]
fn c32_an_upload_waits_for_a_client_that_begins_its_exchange_again() {
    let mut server = Server::new();
    let csr = body(200, 0);
    let mut spec = RequestSpec::post("est/sen", ContentFormat::PKCS10, csr).in_blocks(BlockSize::B64);
    spec.repeats = 1;
    let mut ids = MessageIds::new(1);
    let mut client = Exchange::new(server.now, spec, &mut ids, Token::new(b"t").unwrap(), 1);
    let first = client.poll_transmit().expect("the first block").to_vec();
    let continued = server.reply(&first);
    client.handle(server.now, &parse(&continued), &mut ids);
    // The second block arrives; its acknowledgement and all copies of both are lost.
    let second = client.poll_transmit().expect("the second block").to_vec();
    server.reply(&second);
    let began = server.now;
    let mut latest = second;
    for _ in 0..9 {
        let due = client.poll_timeout().expect("it still tries");
        server.pass(due - server.now);
        client.handle_timeout(server.now, &mut ids);
        latest = client.poll_transmit().expect("the block again").to_vec();
    }
    assert!(server.now - began > coap::MAX_TRANSMIT_WAIT, "{:?}", server.now - began);
    let reply = server.reply(&latest);
    assert_eq!((code(&reply), block1(&reply).map(|block| block.num)), (Code::CONTINUE, Some(1)));
}
