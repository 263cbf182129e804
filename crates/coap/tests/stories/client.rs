//! The client against a server written by hand.

use std::time::{Duration, Instant};

use coap::client::{Exchange, ExchangeFailure, ExchangeProgress, RESTARTS_MAX, Reply, RequestSpec};
use coap::{Block, BlockSize, Code, ContentFormat, Kind, Message, MessageIds, Number, Token};

use crate::harness::{Make, body, empty, parse};

struct Client {
    exchange: Exchange,
    ids: MessageIds,
    now: Instant,
}

impl Client {
    fn new(spec: RequestSpec) -> Self {
        let now = Instant::now();
        let mut ids = MessageIds::new(0xfffe);
        let exchange = Exchange::new(now, spec, &mut ids, Token::new(&[0, 0xff]).unwrap(), 1 << 31);
        Self { exchange, ids, now }
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while let Some(datagram) = self.exchange.poll_transmit() {
            sent.push(datagram.to_vec());
        }
        sent
    }

    fn request(&mut self) -> Vec<u8> {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "one request");
        sent.remove(0)
    }

    fn take(&mut self, datagram: &[u8]) -> ExchangeProgress {
        self.exchange.handle(self.now, &parse(datagram), &mut self.ids)
    }

    fn reply(&mut self, datagram: &[u8]) -> Reply {
        match self.take(datagram) {
            ExchangeProgress::Done(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn failure(&mut self, datagram: &[u8]) -> ExchangeFailure {
        match self.take(datagram) {
            ExchangeProgress::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }
}

/// A piggybacked answer to `request`.
fn answer(request: &[u8], code: Code) -> Make {
    let message = parse(request);
    Make::new(Kind::Acknowledgement, code, message.message_id().0).token(message.token().as_bytes())
}

fn block(message: &Message<'_>, number: Number) -> (u32, bool, usize) {
    let block = message.block(number).unwrap().unwrap();
    (block.num, block.more, block.size.bytes())
}

fn enroll(length: usize, size: BlockSize) -> RequestSpec {
    RequestSpec::post("est/sen", ContentFormat::PKCS10, body(length, 0)).in_blocks(size)
}

#[test]
fn a_get_and_its_answer() {
    let mut client = Client::new(RequestSpec::get(".well-known/est/crts").accepting(ContentFormat::PKCS7_CERTS_ONLY));
    let request = client.request();
    let message = parse(&request);
    assert_eq!(message.uint(Number::ACCEPT), Some(281));
    assert_eq!(message.option(Number::BLOCK2), None, "the largest block needs no choice");
    let reply = client.reply(&answer(&request, Code::CONTENT).uint(Number::CONTENT_FORMAT, 281).payload(b"x").bytes());
    assert_eq!((reply.code, reply.body.as_slice(), reply.separate), (Code::CONTENT, &b"x"[..], false));
    assert_eq!(reply.content_format, Some(ContentFormat::PKCS7_CERTS_ONLY));
    assert!(client.exchange.is_over());
    assert_eq!(client.exchange.poll_timeout(), None);
}

#[test]
fn a_request_is_sent_again_four_times_and_given_up() {
    let mut client = Client::new(RequestSpec::get("est/crts"));
    let first = client.request();
    let mut copies = 0;
    let start = client.now;
    loop {
        client.now = client.exchange.poll_timeout().unwrap();
        match client.exchange.handle_timeout(client.now, &mut client.ids) {
            ExchangeProgress::Pending => {
                assert_eq!(client.request(), first);
                copies += 1;
            }
            ExchangeProgress::Failed(ExchangeFailure::Timeout) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(copies, 4);
    // 2 to 3 seconds, doubled four times: 31 times the first timeout, and at most MAX_TRANSMIT_WAIT.
    let waited = client.now - start;
    assert!(waited >= Duration::from_secs(62) && waited <= coap::MAX_TRANSMIT_WAIT, "{waited:?}");
}

#[test]
fn a_non_confirmable_request_goes_out_again_under_a_new_id() {
    let mut spec = RequestSpec::get("est/crts");
    spec.kind = Kind::NonConfirmable;
    let mut client = Client::new(spec);
    let first = client.request();
    client.now = client.exchange.poll_timeout().unwrap();
    client.exchange.handle_timeout(client.now, &mut client.ids);
    let second = client.request();
    assert_ne!(parse(&first).message_id(), parse(&second).message_id());
    assert_eq!(first[4..], second[4..]);
    let late = Make::new(Kind::NonConfirmable, Code::CONTENT, 5).token(parse(&first).token().as_bytes());
    assert_eq!(client.reply(&late.payload(b"x").bytes()).body, b"x");
}

#[test]
fn an_upload_announces_its_size_and_chooses_the_answers_blocks_last() {
    let mut client = Client::new(enroll(150, BlockSize::B64));
    let mut got = Vec::new();
    for num in 0..3 {
        let request = client.request();
        let message = parse(&request);
        got.extend_from_slice(message.payload());
        assert_eq!(block(&message, Number::BLOCK1), (num, num < 2, 64));
        assert_eq!(message.uint(Number::SIZE1), (num == 0).then_some(150));
        assert_eq!(message.uint(Number::CONTENT_FORMAT), Some(286));
        assert_eq!(message.option(Number::BLOCK2).is_some(), num == 2);
        let code = if num < 2 { Code::CONTINUE } else { Code::CHANGED };
        let answer = answer(&request, code).block1(num, num < 2, BlockSize::B64);
        let progress = client.take(&answer.bytes());
        assert!(matches!(progress, ExchangeProgress::Pending) == (num < 2), "{progress:?}");
    }
    assert_eq!(got, body(150, 0));
    assert!(client.exchange.is_over());
}

#[test]
fn the_server_may_ask_for_smaller_blocks_on_the_way() {
    let mut client = Client::new(enroll(300, BlockSize::B128));
    let first = client.request();
    let smaller = answer(&first, Code::CONTINUE).block1(0, true, BlockSize::B32).bytes();
    assert!(matches!(client.take(&smaller), ExchangeProgress::Pending));
    let second = client.request();
    assert_eq!(block(&parse(&second), Number::BLOCK1), (4, true, 32), "128 bytes are there");
    assert_eq!(parse(&second).payload(), &body(300, 0)[128..160]);
}

#[test]
fn too_large_with_a_smaller_block_begins_anew_and_without_one_is_the_answer() {
    let mut client = Client::new(enroll(300, BlockSize::B128));
    let first = client.request();
    let hint = answer(&first, Code::REQUEST_ENTITY_TOO_LARGE).block1(0, true, BlockSize::B16).bytes();
    assert!(matches!(client.take(&hint), ExchangeProgress::Pending));
    let again = client.request();
    assert_eq!(block(&parse(&again), Number::BLOCK1), (0, true, 16));
    let refused = answer(&again, Code::REQUEST_ENTITY_TOO_LARGE).uint(Number::SIZE1, 100).bytes();
    assert_eq!(client.reply(&refused).code, Code::REQUEST_ENTITY_TOO_LARGE);
}

#[test]
fn a_lost_upload_begins_anew_a_few_times() {
    let mut client = Client::new(enroll(100, BlockSize::B64));
    for attempt in 0..=RESTARTS_MAX {
        let first = client.request();
        assert_eq!(block(&parse(&first), Number::BLOCK1).0, 0);
        client.take(&answer(&first, Code::CONTINUE).block1(0, true, BlockSize::B64).bytes());
        let second = client.request();
        let lost = answer(&second, Code::REQUEST_ENTITY_INCOMPLETE).bytes();
        match client.take(&lost) {
            ExchangeProgress::Pending => assert!(attempt < RESTARTS_MAX),
            ExchangeProgress::Done(reply) => {
                assert_eq!((attempt, reply.code), (RESTARTS_MAX, Code::REQUEST_ENTITY_INCOMPLETE));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The first block of an answer of `whole`, and every later one on request.
fn slice(request: &[u8], whole: &[u8], size: BlockSize, etag: &[u8]) -> Vec<u8> {
    let message = parse(request);
    let num = message.block(Number::BLOCK2).unwrap().map_or(0, |block| block.num);
    let start = num as usize * size.bytes();
    let end = whole.len().min(start + size.bytes());
    answer(request, Code::CHANGED)
        .option(Number::ETAG, etag)
        .uint(Number::CONTENT_FORMAT, 287)
        .uint(Number::BLOCK2, Block { num, more: end < whole.len(), size }.value())
        .payload(&whole[start..end])
        .bytes()
}

#[test]
fn c50_a_later_block_is_asked_for_with_every_option_of_the_first_request_but_block1_and_size1() {
    let whole = body(150, 5);
    let mut spec = enroll(200, BlockSize::B64);
    spec.uri_host = Some("est.example.net".into());
    spec.uri_port = Some(5_684);
    spec.queries = vec!["a=b".into()];
    spec.accept = Some(ContentFormat::PKIX_CERT);
    let options = |datagram: &[u8]| -> Vec<(Number, Vec<u8>)> {
        let of_the_body = [Number::BLOCK1, Number::SIZE1, Number::BLOCK2];
        let message = parse(datagram);
        let kept = message.options().filter(|option| !of_the_body.contains(&option.number));
        kept.map(|option| (option.number, option.value.to_vec())).collect()
    };
    let mut client = Client::new(spec);
    let mut request = client.request();
    let first = options(&request);
    assert_eq!(first.len(), 7, "host, port, two segments, Content-Format, query, Accept: {first:?}");
    while parse(&request).block(Number::BLOCK1).unwrap().is_some_and(|block| block.more) {
        let block1 = parse(&request).option(Number::BLOCK1).unwrap().to_vec();
        client.take(&answer(&request, Code::CONTINUE).option(Number::BLOCK1, &block1).bytes());
        request = client.request();
        assert_eq!(options(&request), first);
    }
    for num in 1..3 {
        client.take(&slice(&request, &whole, BlockSize::B64, b"e"));
        request = client.request();
        let message = parse(&request);
        assert_eq!(block(&message, Number::BLOCK2), (num, false, 64));
        assert_eq!(options(&request), first, "block {num}");
        assert_eq!((message.option(Number::BLOCK1), message.option(Number::SIZE1)), (None, None));
        assert_eq!(message.payload(), b"");
    }
    assert_eq!(client.reply(&slice(&request, &whole, BlockSize::B64, b"e")).body, whole);
}

#[test]
fn later_blocks_are_asked_for_with_a_new_token_and_without_a_payload() {
    let whole = body(150, 5);
    let mut client = Client::new(enroll(40, BlockSize::B64));
    let first = client.request();
    assert_eq!(parse(&first).option(Number::BLOCK1), None, "one block needs no Block1");
    client.take(&slice(&first, &whole, BlockSize::B64, b"e"));
    let second = client.request();
    let message = parse(&second);
    assert_eq!(message.code(), parse(&first).code());
    assert!(message.options_of(Number::URI_PATH).eq(parse(&first).options_of(Number::URI_PATH)));
    assert_eq!(block(&message, Number::BLOCK2), (1, false, 64));
    assert_eq!((message.uint(Number::CONTENT_FORMAT), message.payload()), (Some(286), &[][..]));
    assert_ne!(message.token(), parse(&first).token());
    client.take(&slice(&second, &whole, BlockSize::B64, b"e"));
    let third = client.request();
    let reply = client.reply(&slice(&third, &whole, BlockSize::B64, b"e"));
    assert_eq!((reply.body, reply.content_format), (whole, Some(ContentFormat::PKIX_CERT)));
}

#[test]
fn a_changed_etag_begins_anew_and_never_splices() {
    let (old, new) = (body(150, 5), body(150, 77));
    let mut client = Client::new(RequestSpec::get("est/crts").in_blocks(BlockSize::B64));
    let first = client.request();
    client.take(&slice(&first, &old, BlockSize::B64, b"old"));
    let second = client.request();
    assert!(matches!(client.take(&slice(&second, &new, BlockSize::B64, b"new")), ExchangeProgress::Pending));
    let mut request = client.request();
    assert_eq!(block(&parse(&request), Number::BLOCK2).0, 0);
    let reply = loop {
        match client.take(&slice(&request, &new, BlockSize::B64, b"new")) {
            ExchangeProgress::Pending => request = client.request(),
            ExchangeProgress::Done(reply) => break reply,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reply.body, new);
}

#[test]
fn a_representation_that_keeps_changing_is_given_up() {
    let mut client = Client::new(RequestSpec::get("est/crts").in_blocks(BlockSize::B64));
    let mut tag = 0_u8;
    let failure = loop {
        tag += 1;
        let request = client.request();
        match client.take(&slice(&request, &body(150, tag), BlockSize::B64, &[tag])) {
            ExchangeProgress::Pending => {}
            ExchangeProgress::Failed(failure) => break failure,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(failure, ExchangeFailure::Changing);
}

#[test]
fn a_separate_response_is_acknowledged_and_its_copies_again() {
    let mut client = Client::new(enroll(40, BlockSize::B64));
    let request = client.request();
    let message = parse(&request);
    let id = message.message_id().0;
    assert!(matches!(client.take(&empty(Kind::Acknowledgement, id)), ExchangeProgress::Acknowledged));
    assert!(matches!(client.take(&empty(Kind::Acknowledgement, id)), ExchangeProgress::Ignored));
    client.now += Duration::from_secs(100);
    assert!(
        matches!(client.exchange.handle_timeout(client.now, &mut client.ids), ExchangeProgress::Ignored),
        "not sent again"
    );
    let response =
        Make::new(Kind::Confirmable, Code::CHANGED, 0x77).token(message.token().as_bytes()).payload(b"c").bytes();
    let reply = client.reply(&response);
    assert!(reply.separate);
    assert_eq!(client.sent(), [empty(Kind::Acknowledgement, 0x77)]);
    assert!(matches!(client.take(&response), ExchangeProgress::Ignored));
    assert_eq!(client.sent(), [empty(Kind::Acknowledgement, 0x77)]);
}

#[test]
fn a_separate_response_that_never_comes_is_a_timeout() {
    let mut client = Client::new(enroll(40, BlockSize::B64));
    let id = parse(&client.request()).message_id().0;
    client.take(&empty(Kind::Acknowledgement, id));
    client.now = client.exchange.poll_timeout().unwrap();
    let progress = client.exchange.handle_timeout(client.now, &mut client.ids);
    assert!(matches!(progress, ExchangeProgress::Failed(ExchangeFailure::Timeout)), "{progress:?}");
}

#[test]
fn resets_strangers_and_late_answers() {
    let mut client = Client::new(enroll(40, BlockSize::B64));
    let request = client.request();
    let id = parse(&request).message_id().0;
    // A wrong token, a wrong message id, and the id of no request.
    let stranger = Make::new(Kind::Confirmable, Code::CHANGED, 5).token(b"no").bytes();
    assert!(matches!(client.take(&stranger), ExchangeProgress::Ignored));
    assert_eq!(client.sent(), [empty(Kind::Reset, 5)]);
    let other = Make::new(Kind::Acknowledgement, Code::CHANGED, id ^ 1).token(parse(&request).token().as_bytes());
    assert!(matches!(client.take(&other.bytes()), ExchangeProgress::Ignored));
    assert!(matches!(client.take(&empty(Kind::Confirmable, 9)), ExchangeProgress::Ignored));
    assert_eq!(client.sent(), [empty(Kind::Reset, 9)], "a ping");
    assert_eq!(client.failure(&empty(Kind::Reset, id)), ExchangeFailure::Reset);
}

#[test]
fn an_answer_with_an_unknown_critical_option_is_rejected() {
    let mut client = Client::new(RequestSpec::get("est/crts"));
    let request = client.request();
    let token = parse(&request).token();
    let answer = Make::new(Kind::Confirmable, Code::CONTENT, 3).token(token.as_bytes()).option(Number(9_999), b"");
    assert_eq!(client.failure(&answer.bytes()), ExchangeFailure::BadOption(Number(9_999)));
    assert_eq!(client.sent(), [empty(Kind::Reset, 3)]);
}

#[test]
fn blocks_that_do_not_fit_are_a_failure() {
    let short = |request: &[u8]| answer(request, Code::CONTENT).uint(Number::BLOCK2, 0x0a).payload(&[0; 63]).bytes();
    let ahead = |request: &[u8]| answer(request, Code::CONTENT).block2(2, BlockSize::B64).payload(&[0; 64]).bytes();
    let reserved = |request: &[u8]| answer(request, Code::CONTENT).option(Number::BLOCK2, &[0x0f]).bytes();
    for make in [&short as &dyn Fn(&[u8]) -> Vec<u8>, &ahead, &reserved] {
        let mut client = Client::new(RequestSpec::get("est/crts"));
        let request = client.request();
        assert_eq!(client.failure(&make(&request)), ExchangeFailure::BadBlock);
        assert!(client.exchange.is_over());
    }
}

#[test]
fn tokens_and_message_ids_count_up_and_wrap() {
    let mut client = Client::new(enroll(300, BlockSize::B64));
    let mut seen = Vec::new();
    for num in 0..4 {
        let request = client.request();
        seen.push((parse(&request).message_id().0, parse(&request).token().as_bytes().to_vec()));
        client.take(&answer(&request, Code::CONTINUE).block1(num, true, BlockSize::B64).bytes());
    }
    assert_eq!(seen, [(0xfffe, vec![0, 0xff]), (0xffff, vec![1, 0]), (0, vec![1, 1]), (1, vec![1, 2])]);
}

#[test]
fn a_later_block_at_another_offset_is_a_failure() {
    let whole = body(300, 5);
    for num in [0, 2, 3] {
        let mut client = Client::new(RequestSpec::get("est/crts").in_blocks(BlockSize::B64));
        let first = client.request();
        client.take(&slice(&first, &whole, BlockSize::B64, b"e"));
        let second = client.request();
        let start = num as usize * 64;
        let other = answer(&second, Code::CHANGED)
            .option(Number::ETAG, b"e")
            .uint(Number::CONTENT_FORMAT, 287)
            .uint(Number::BLOCK2, Block { num, more: true, size: BlockSize::B64 }.value())
            .payload(&whole[start..start + 64]);
        assert_eq!(client.failure(&other.bytes()), ExchangeFailure::BadBlock, "block {num}");
    }
}

#[test]
fn an_answer_above_the_limit_is_a_failure() {
    let whole = body(300, 5);
    let spec = || RequestSpec { answer_bytes_max: 100, ..RequestSpec::get("est/crts").in_blocks(BlockSize::B64) };
    let mut client = Client::new(spec());
    let first = client.request();
    client.take(&slice(&first, &whole, BlockSize::B64, b"e"));
    let second = client.request();
    assert_eq!(client.failure(&slice(&second, &whole, BlockSize::B64, b"e")), ExchangeFailure::TooLarge);
    let mut client = Client::new(spec());
    let first = client.request();
    assert_eq!(client.failure(&answer(&first, Code::CONTENT).payload(&[0; 101]).bytes()), ExchangeFailure::TooLarge);
}

#[test]
fn a_continue_for_a_block_that_was_not_sent_is_a_failure() {
    let mut client = Client::new(enroll(300, BlockSize::B64));
    let first = client.request();
    let ahead = answer(&first, Code::CONTINUE).block1(1, true, BlockSize::B64).bytes();
    assert_eq!(client.failure(&ahead), ExchangeFailure::BadBlock);
    let mut client = Client::new(enroll(40, BlockSize::B64));
    let only = client.request();
    assert_eq!(
        client.failure(&answer(&only, Code::CONTINUE).bytes()),
        ExchangeFailure::BadBlock,
        "nothing is left to send"
    );
}

#[test]
fn host_port_and_queries_are_sent_in_their_order() {
    let spec = RequestSpec {
        uri_host: Some("est.example.net".to_owned()),
        uri_port: Some(5_684),
        queries: vec!["rt=ace.est*".to_owned()],
        ..RequestSpec::get(".well-known/core").accepting(ContentFormat::LINK_FORMAT)
    };
    let request = Client::new(spec).request();
    let numbers: Vec<_> = parse(&request).options().map(|option| option.number).collect();
    let expected =
        [Number::URI_HOST, Number::URI_PORT, Number::URI_PATH, Number::URI_PATH, Number::URI_QUERY, Number::ACCEPT];
    assert_eq!(numbers, expected);
}
