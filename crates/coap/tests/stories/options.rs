//! Options, methods and paths that a server must or must not accept.

use coap::client::{Exchange, ExchangeProgress, RequestSpec};
use coap::server::{Config, Done, Dropped, Handled, OptionFault, RequestRefusal, Response};
use coap::{BlockSize, Code, ContentFormat, Kind, Malformed, MessageIds, Method, Number, Token};

use crate::harness::{Got, Make, Server, Table, body, code, empty, parse};

fn ok() -> Response<'static> {
    Response::content(Code::CONTENT, ContentFormat::PKCS7_CERTS_ONLY, b"certificates")
}

#[test]
fn c14_unknown_critical_options_are_refused_and_elective_ones_ignored() {
    let mut server = Server::new();
    let critical = Make::get("est/crts", 1).option(Number(9_999), b"x");
    let (done, sent) = server.done(&critical.bytes());
    assert_eq!(
        (done, code(&sent[0])),
        (Done::Refused(RequestRefusal::BadOption(Number(9_999), OptionFault::Unknown)), Code::BAD_OPTION)
    );
    let (done, sent) = server.done(&critical.non().bytes());
    assert_eq!((done, sent), (Done::Dropped(Dropped::BadOption(Number(9_999))), vec![]));
    let elective = Make::get("est/crts", 2).option(Number(9_998), b"x");
    assert_eq!(code(&server.exchange(&elective.bytes(), &ok())), Code::CONTENT);
}

#[test]
fn c14_options_repeated_or_sized_against_their_definition_count_as_unknown() {
    let mut server = Server::new();
    let bad: [(Number, &[&[u8]]); 6] = [
        (Number::ACCEPT, &[&[1], &[2]]),
        (Number::ACCEPT, &[&[0, 1, 2]]),
        (Number::URI_HOST, &[b""]),
        (Number::URI_PORT, &[&[1, 2, 3]]),
        (Number::BLOCK2, &[&[0, 0, 0, 1]]),
        (Number::URI_PATH, &[&[0xff, 0xfe]]),
    ];
    for (id, (number, values)) in (1..).zip(bad) {
        let mut request = Make::get("est/crts", id);
        for value in values {
            request = request.option(number, value);
        }
        let Done::Refused(RequestRefusal::BadOption(refused, fault)) = server.done(&request.bytes()).0 else {
            panic!("{number:?}")
        };
        assert_eq!(refused, number);
        let expected = match values {
            [_, _] => OptionFault::Repeated,
            [[0xff, ..]] => OptionFault::NotText,
            _ => OptionFault::Length,
        };
        assert_eq!(fault, expected, "{number:?}");
    }
    // Content-Format is elective: a second one is ignored.
    let twice = Make::enroll(50).uint(Number::CONTENT_FORMAT, 42).payload(b"csr").bytes();
    assert_eq!(code(&server.exchange(&twice, &ok())), Code::CONTENT);
}

/// RFC 7252 §5.4.3: a value whose length is outside the definition is treated like an unknown option; Content-Format is
/// elective, and 00 01 1E in three bytes is not 286.
#[test]
fn c14_a_content_format_of_three_bytes_is_as_if_it_were_not_there() {
    let mut server = Server::new();
    let long = [0, 1, 30];
    let request = Make::post("est/sen", 1).option(Number::CONTENT_FORMAT, &long).payload(b"csr").bytes();
    let handled = server.peer.handle(server.now, &request, &mut server.shared, &Table, &mut server.out);
    let Handled::Request { request, .. } = handled else { panic!("{handled:?}") };
    assert_eq!(request.content_format(), None);

    let mut ids = MessageIds::new(1);
    let mut client = Exchange::new(server.now, RequestSpec::get("est/crts"), &mut ids, Token::EMPTY, 1);
    let asked = client.poll_transmit().expect("a request").to_vec();
    let answer = Make::new(Kind::Acknowledgement, Code::CONTENT, parse(&asked).message_id().0).token(b"");
    let answer = answer.option(Number::CONTENT_FORMAT, &long).payload(b"x").bytes();
    let ExchangeProgress::Done(reply) = client.handle(server.now, &parse(&answer), &mut ids) else {
        panic!("no answer")
    };
    assert_eq!(reply.content_format, None);
}

#[test]
fn if_match_is_not_understood() {
    let mut server = Server::new();
    for number in [Number::IF_MATCH, Number::IF_NONE_MATCH, Number::OSCORE] {
        let request = Make::get("est/crts", 1).option(number, b"").bytes();
        assert_eq!(code(&server.reply(&request)), Code::BAD_OPTION);
    }
}

#[test]
fn c15_other_versions_are_ignored_and_reserved_codes_rejected() {
    let mut server = Server::new();
    let mut datagram = Make::get("est/crts", 1).bytes();
    datagram[0] = datagram[0] & 0x3f | 0x80;
    assert_eq!(server.deliver(&datagram), (Got::Done(Done::Dropped(Dropped::NotCoap)), vec![]));
    let mut datagram = Make::get("est/crts", 1).bytes();
    for class in [1, 6, 7] {
        datagram[1] = Code::new(class, 1).byte();
        let expected = (Done::Dropped(Dropped::NotARequest), vec![empty(Kind::Reset, 1)]);
        assert_eq!(server.done(&datagram), expected);
    }
    let response = Make::new(Kind::NonConfirmable, Code::CONTENT, 2).bytes();
    assert_eq!(server.done(&response), (Done::Dropped(Dropped::NotARequest), vec![]));
}

#[test]
fn c15_an_empty_message_with_content_is_a_format_error() {
    let mut server = Server::new();
    let datagram = [0x40, 0, 0, 9, 0xff, 1];
    let expected = (Done::Dropped(Dropped::Malformed(Malformed::EmptyWithContent)), vec![empty(Kind::Reset, 9)]);
    assert_eq!(server.done(&datagram), expected);
    // The same as a non-confirmable message is ignored.
    let datagram = [0x50, 0, 0, 9, 0xff, 1];
    assert_eq!(server.done(&datagram).1, Vec::<Vec<u8>>::new());
}

#[test]
fn c10_reserved_token_lengths_are_rejected() {
    let mut server = Server::new();
    for length in 9..=15 {
        let datagram = [0x40 | length, 1, 0, 9];
        let expected = (Done::Dropped(Dropped::Malformed(Malformed::TokenLength)), vec![empty(Kind::Reset, 9)]);
        assert_eq!(server.done(&datagram), expected);
    }
}

#[test]
fn c17_methods_and_paths() {
    let mut server = Server::new();
    for (request, expected) in [
        (Make::get("est/sen", 1), Code::METHOD_NOT_ALLOWED),
        (Make::new(Kind::Confirmable, Method::Put.code(), 2).path("est/crts"), Code::METHOD_NOT_ALLOWED),
        (Make::get("est/nothing", 3), Code::NOT_FOUND),
        (Make::get("est", 4), Code::NOT_FOUND),
        (Make::get("est/crts/", 5), Code::NOT_FOUND),
        (Make::get("est/./crts", 6), Code::NOT_FOUND),
        (Make::get("est/../crts", 7), Code::NOT_FOUND),
        (Make::get("est", 8).option(Number::URI_PATH, b"crts\0"), Code::NOT_FOUND),
        (Make::new(Kind::Confirmable, Method::Get.code(), 9).option(Number::URI_PATH, b"est/crts"), Code::NOT_FOUND),
        (Make::new(Kind::Confirmable, Code::new(0, 31), 10).path("est/crts"), Code::METHOD_NOT_ALLOWED),
        (Make::get(&"0123456789/".repeat(1_000), 11), Code::NOT_FOUND),
    ] {
        assert_eq!(code(&server.reply(&request.bytes())), expected, "{:?}", parse(&request.bytes()).message_id());
    }
    assert!(server.peer.is_idle());
}

#[test]
fn c19_proxies_are_not_supported_and_observe_is_ignored() {
    let mut server = Server::new();
    let uri = Make::get("est/crts", 1).option(Number::PROXY_URI, b"coaps://elsewhere").bytes();
    let scheme = Make::get("est/crts", 2).option(Number::PROXY_SCHEME, b"coaps").bytes();
    for request in [uri, scheme] {
        assert_eq!(code(&server.reply(&request)), Code::PROXYING_NOT_SUPPORTED);
    }
    let observe = Make::get("est/crts", 3).option(Number::OBSERVE, b"").bytes();
    let reply = server.exchange(&observe, &ok());
    assert_eq!((code(&reply), parse(&reply).option(Number::OBSERVE)), (Code::CONTENT, None));
}

#[test]
fn c39_q_block_is_refused_as_unknown() {
    let mut server = Server::new();
    for number in [Number::Q_BLOCK1, Number::Q_BLOCK2] {
        let request = Make::enroll(1).option(number, &[0x0a]).payload(&body(64, 0)).bytes();
        assert_eq!(server.done(&request).0, Done::Refused(RequestRefusal::BadOption(number, OptionFault::Unknown)));
    }
    assert!(server.peer.is_idle());
}

#[test]
fn uri_host_uri_port_no_response_hop_limit_and_echo_change_nothing() {
    let mut server = Server::new();
    let request = Make::get("est/crts", 1)
        .option(Number::URI_HOST, b"est.example.net")
        .uint(Number::URI_PORT, 5_684)
        .uint(Number::HOP_LIMIT, 3)
        .uint(Number::NO_RESPONSE, 26)
        .option(Number::ECHO, b"12345678");
    assert_eq!(code(&server.exchange(&request.bytes(), &ok())), Code::CONTENT);
}

#[test]
fn a_request_in_an_acknowledgement_is_ignored() {
    let mut server = Server::new();
    for kind in [Kind::Acknowledgement, Kind::Reset] {
        let datagram = Make::new(kind, Method::Get.code(), 1).path("est/crts").bytes();
        assert_eq!(server.done(&datagram), (Done::Dropped(Dropped::Unmatched), vec![]));
    }
}

#[test]
fn refusals_carry_the_configured_diagnostic() {
    let diagnose = |refusal| match refusal {
        RequestRefusal::BadOption(..) => "coap.bad_option",
        _ => "",
    };
    let mut server = Server::with(Config { diagnose, ..Config::default() });
    let request = Make::get("est/crts", 1).option(Number(9_999), b"").bytes();
    assert_eq!(parse(&server.reply(&request)).payload(), b"coap.bad_option");
}

/// "If a Method [...] is not defined to have a payload, then a sender MUST NOT include one, and the recipient MUST
/// ignore it" (RFC 7252 §5.5). Block1 describes that payload and is ignored with it.
#[test]
fn c45_the_payload_of_a_get_is_ignored_and_its_block1_opens_no_upload() {
    let mut server = Server::new();
    let answer = body(150, 0);
    let response = Response::content(Code::CONTENT, ContentFormat::PKCS7_CERTS_ONLY, &answer);
    let get = |id: u16| Make::get("est/crts", id).block2(0, BlockSize::B64);
    let requests = [
        get(1).payload(&[7; 90]),
        get(2).block1(0, true, BlockSize::B64).payload(&[7; 64]),
        get(3).block1(0, true, BlockSize::B64).uint(Number::SIZE1, 1 << 20).payload(&[7; 64]),
        get(4).block1(0, false, BlockSize::B64).payload(&[7; 90]),
        get(5).block1(3, false, BlockSize::B64).payload(&[7; 9]),
        get(6).option(Number::BLOCK1, &[0x07]).payload(&[7; 9]),
    ];
    for request in requests {
        let (id, body) = server.request(&request.bytes());
        assert_eq!(body, b"", "the handler sees no payload");
        let sent = server.respond(id, &response);
        assert_eq!((code(&sent[0]), parse(&sent[0]).payload()), (Code::CONTENT, &answer[..64]));
        assert_eq!(parse(&sent[0]).option(Number::BLOCK1), None);
        assert!(!server.peer.has_upload());
    }
    // A later block, requested with the same needless options.
    let later = Make::get("est/crts", 9).block1(0, false, BlockSize::B64).block2(2, BlockSize::B64).payload(b"x");
    let reply = server.exchange(&later.bytes(), &response);
    assert_eq!(parse(&reply).payload(), &answer[128..]);
    assert_eq!(server.shared.upload_bytes(), 0);
    // DELETE does not define a payload either; it is refused for its method, not for its payload.
    let delete = Make::new(Kind::Confirmable, Method::Delete.code(), 10).path("est/crts");
    let delete = delete.block1(0, true, BlockSize::B64).payload(&[7; 64]).bytes();
    assert_eq!(code(&server.reply(&delete)), Code::METHOD_NOT_ALLOWED);
}
