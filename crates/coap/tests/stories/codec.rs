//! The codec against bytes from other implementations and from the RFCs.

use coap::server::Done;
use coap::{Block, BlockSize, Code, FormatError, Kind, Malformed, Message, MessageId, Method, Number, Token};

use crate::harness::{Got, Make, Server, certificate, parse};

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex.replace(' ', "")).unwrap()
}

fn why(datagram: &[u8]) -> Malformed {
    match Message::parse(datagram) {
        Err(FormatError::Malformed { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

/// RFC 7252 appendix A: `GET /temperature`, message id 0x7d34, and its piggybacked answer "22.3 C".
#[test]
fn rfc_7252_a_get_and_its_piggybacked_answer() {
    let request = bytes("40 01 7d 34 bb 74 65 6d 70 65 72 61 74 75 72 65");
    let message = Message::parse(&request).unwrap();
    assert_eq!((message.kind(), message.code()), (Kind::Confirmable, Method::Get.code()));
    assert_eq!((message.message_id(), message.token()), (MessageId(0x7d34), Token::EMPTY));
    assert_eq!(message.option(Number::URI_PATH), Some(&b"temperature"[..]));
    let ours = Make::get("temperature", 0x7d34).token(b"").bytes();
    assert_eq!(ours, request);
    let response = bytes("60 45 7d 34 ff 32 32 2e 33 20 43");
    let message = Message::parse(&response).unwrap();
    assert_eq!((message.kind(), message.code()), (Kind::Acknowledgement, Code::CONTENT));
    assert_eq!(message.payload(), b"22.3 C");
    assert_eq!(Make::new(Kind::Acknowledgement, Code::CONTENT, 0x7d34).token(b"").payload(b"22.3 C").bytes(), response);
}

/// RFC 7252 appendix A: the same request with the token 0x20.
#[test]
fn rfc_7252_a_get_with_a_token() {
    let request = bytes("41 01 7d 35 20 bb 74 65 6d 70 65 72 61 74 75 72 65");
    assert_eq!(Make::get("temperature", 0x7d35).token(&[0x20]).bytes(), request);
    let response = bytes("61 45 7d 35 20 ff 32 32 2e 33 20 43");
    let message = Message::parse(&response).unwrap();
    assert_eq!((message.token().as_bytes(), message.payload()), (&[0x20][..], &b"22.3 C"[..]));
}

/// RFC 7252 appendix A: an empty acknowledgement, then a separate response (message id 0xad7b, token 0x53).
#[test]
fn rfc_7252_a_separate_response() {
    let acknowledgement = bytes("60 00 7d 38");
    let message = Message::parse(&acknowledgement).unwrap();
    assert_eq!((message.kind(), message.code(), message.message_id().0), (Kind::Acknowledgement, Code::EMPTY, 0x7d38));
    let response = bytes("41 45 ad 7b 53 ff 32 32 2e 33 20 43");
    let message = Message::parse(&response).unwrap();
    assert_eq!((message.kind(), message.token().as_bytes()), (Kind::Confirmable, &[0x53][..]));
}

/// RFC 7959 §2.2: the option values behind the notation NUM:number/M/size of the exchanges in §3.
#[test]
fn rfc_7959_block_values() {
    for (hex, num, more, bytes_each) in [
        ("", 0, false, 16),
        ("0b", 0, true, 128),  // 1:0/1/128
        ("1b", 1, true, 128),  // 1:1/1/128
        ("23", 2, false, 128), // 1:2/0/128
        ("02", 0, false, 64),  // 2:0/0/64
        ("32", 3, false, 64),  // 2:3/0/64
        ("01 00 0a", 4_096, true, 64),
        ("ff ff fe", 1_048_575, true, 1_024),
    ] {
        let size = BlockSize::from_bytes(bytes_each).unwrap();
        assert_eq!(Block::parse(&bytes(hex)), Ok(Block { num, more, size }), "{hex}");
    }
}

/// The first request of a recorded upload: Uri-Port, Uri-Path twice, Content-Format 286, Block1 0/1/64, Size1 576 and
/// Request-Tag, whose delta needs one more byte.
#[test]
fn a_block_of_libcoap() {
    let first = &libcoap()[0];
    let message = Message::parse(first).unwrap();
    assert_eq!((message.kind(), message.code()), (Kind::Confirmable, Method::Post.code()));
    assert_eq!((message.message_id(), message.token().as_bytes()), (MessageId(0x9244), &[1][..]));
    assert_eq!(message.uint(Number::URI_PORT), Some(56_830));
    assert_eq!(message.options_of(Number::URI_PATH).collect::<Vec<_>>(), [&b"est"[..], b"sen"]);
    assert_eq!(message.uint(Number::CONTENT_FORMAT), Some(286));
    assert_eq!(message.block(Number::BLOCK1), Ok(Some(Block { num: 0, more: true, size: BlockSize::B64 })));
    assert_eq!(message.uint(Number::SIZE1), Some(576));
    assert_eq!(message.option(Number::REQUEST_TAG), Some(&[0x6d, 0x8a, 0x15, 0x6f][..]));
    let ours = Make::post("est/sen", 0x9244)
        .token(&[1])
        .uint(Number::URI_PORT, 56_830)
        .uint(Number::CONTENT_FORMAT, 286)
        .block1(0, true, BlockSize::B64)
        .uint(Number::SIZE1, 576)
        .option(Number::REQUEST_TAG, &[0x6d, 0x8a, 0x15, 0x6f])
        .payload(message.payload());
    assert_eq!(ours.bytes(), *first);
}

/// The whole recorded session: nine blocks up, then the echoed body in nine blocks, requested with tokens that libcoap
/// had used for its uploads before.
#[test]
fn a_session_of_libcoap() {
    let mut server = Server::new();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for datagram in libcoap() {
        let sent = match server.deliver(&datagram) {
            (Got::Request { id, body }, _) => {
                up = body;
                server.respond(id, &certificate(&up))
            }
            (Got::Done(Done::Continued | Done::Continuation), sent) => sent,
            (other, _) => panic!("{other:?}"),
        };
        down.extend_from_slice(parse(&sent[0]).payload());
    }
    assert_eq!(up.len(), 576);
    assert_eq!(up, down);
    assert_eq!(server.shared.counters().requests, 1);
}

fn libcoap() -> Vec<Vec<u8>> {
    include_str!("libcoap-post-64.hex").lines().filter(|line| !line.starts_with('#')).map(bytes).collect()
}

#[test]
fn c10_token_lengths() {
    for length in 0..=8_u8 {
        let mut datagram = vec![0x40 | length, 1, 0, 1];
        datagram.extend(vec![7; length.into()]);
        assert_eq!(Message::parse(&datagram).unwrap().token().as_bytes().len(), length.into());
        if length > 0 {
            assert_eq!(why(&datagram[..datagram.len() - 1]), Malformed::Truncated);
        }
    }
    // RFC 8974 extends lengths 13 and 14; a packet of 4 bytes with one of them made RIOT read past its end.
    for length in 9..=15_u8 {
        assert_eq!(why(&[0x40 | length, 1, 0, 1]), Malformed::TokenLength);
    }
}

#[test]
fn c12_broken_options() {
    let with = |options: &[u8]| [&[0x40, 1, 0, 1], options].concat();
    assert_eq!(why(&with(&[0xf0])), Malformed::ReservedNibble, "delta 15");
    assert_eq!(why(&with(&[0x0f])), Malformed::ReservedNibble, "length 15");
    assert_eq!(why(&with(&[0xe0, 0xff, 0xff])), Malformed::OptionNumber, "269 + 65535");
    assert_eq!(why(&with(&[0xe0, 0xfe, 0xf2, 0x10])), Malformed::OptionNumber, "65535 + 1");
    assert_eq!(why(&with(&[0xd0])), Malformed::Truncated);
    assert_eq!(why(&with(&[0xe0, 0])), Malformed::Truncated);
    assert_eq!(why(&with(&[0x0e, 0xff, 0xff, 1])), Malformed::Truncated, "65804 bytes announced");
    assert_eq!(why(&with(&[0xb3, b'e', b's'])), Malformed::Truncated);
    let largest = with(&[0xe0, 0xfe, 0xf2]);
    assert_eq!(Message::parse(&largest).unwrap().options().next().unwrap().number, Number(65_535));
}

#[test]
fn c13_a_payload_marker_without_payload() {
    assert_eq!(why(&[0x40, 1, 0, 1, 0xff]), Malformed::MarkerWithoutPayload);
    assert_eq!(Message::parse(&[0x40, 1, 0, 1, 0xff, 0xff]).unwrap().payload(), [0xff]);
}

#[test]
fn c15_versions_and_empty_messages() {
    for version in [0, 2, 3] {
        assert_eq!(Message::parse(&[version << 6, 1, 0, 1]).unwrap_err(), FormatError::NotCoap);
    }
    for length in 0..4 {
        assert_eq!(Message::parse(&[0x40, 1, 0, 1][..length]).unwrap_err(), FormatError::NotCoap);
    }
    assert_eq!(why(&[0x41, 0, 0, 1, 7]), Malformed::EmptyWithContent);
    assert_eq!(why(&[0x40, 0, 0, 1, 0xff]), Malformed::EmptyWithContent);
}

#[test]
fn integers_are_as_short_as_they_can_be() {
    for (value, hex) in [(0, ""), (1, "01"), (255, "ff"), (256, "0100"), (65_536, "010000"), (u32::MAX, "ffffffff")] {
        let mut buffer = Vec::new();
        coap::Encoder::new(&mut buffer, Kind::Confirmable, Method::Get.code(), MessageId(1), Token::EMPTY)
            .uint(Number::MAX_AGE, value)
            .payload(b"");
        let message = Message::parse(&buffer).unwrap();
        assert_eq!(message.option(Number::MAX_AGE), Some(&bytes(hex)[..]));
        assert_eq!(message.uint(Number::MAX_AGE), Some(value));
    }
    // Leading zeros are accepted (RFC 7252 §3.2: "the recipient MUST be prepared to process values with leading
    // zeros").
    let padded = Make::get("a", 1).option(Number::MAX_AGE, &[0, 0, 0, 9]).bytes();
    assert_eq!(Message::parse(&padded).unwrap().uint(Number::MAX_AGE), Some(9));
}
