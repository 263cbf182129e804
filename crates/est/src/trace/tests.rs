//! What a trace shows for messages with known bytes.

use std::time::Duration;

use dtls::{HandshakeType, UnixTime};

use super::*;

#[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
fn start() -> Now {
    Now { mono: Instant::now(), utc: UnixTime::since_unix_epoch(Duration::ZERO) }
}

fn later(now: Now, millis: u64) -> Now {
    Now { mono: now.mono + Duration::from_millis(millis), ..now }
}

/// CON POST, id 0x04d2, token 01, Uri-Path est/sen, Content-Format 286, Block1 0/more/64, payload of four bytes.
const BLOCK: &[u8] = &[
    0x41, 0x02, 0x04, 0xd2, 0x01, 0xb3, b'e', b's', b't', 0x03, b's', b'e', b'n', 0x12, 0x01, 0x1e, 0xd1, 0x02, 0x0a,
    0xff, 1, 2, 3, 4,
];

fn data(plaintext: &[u8]) -> TraceEvent<'_> {
    TraceEvent::ApplicationData { direction: Direction::Sent, plaintext }
}

#[test]
fn a_message_is_one_line() {
    let (now, mut text) = (start(), String::new());
    let mut formatter = Formatter::new(Style::Text);
    let hello = TraceEvent::Handshake {
        direction: Direction::Sent,
        message: HandshakeType::CLIENT_HELLO,
        length: 97,
        fragments: 1,
    };
    formatter.event(now, None, &hello, &mut text).unwrap();
    formatter.event(later(now, 134), None, &data(BLOCK), &mut text).unwrap();
    let expected = concat!(
        "    0.000 > ClientHello 97 B\n",
        "    0.134 > CON POST mid=04d2 token=01 Uri-Path=est Uri-Path=sen Content-Format=286 Block1=0/more/64 payload 4 B\n",
    );
    assert_eq!(text, expected);
}

#[test]
fn json_is_one_object_a_line() {
    let (now, mut text) = (start(), String::new());
    Formatter::new(Style::Json).event(now, None, &data(BLOCK), &mut text).unwrap();
    let expected = concat!(
        r#"{"t":0.000000,"dir":"out","type":"coap","bytes":24,"kind":"CON","code":"POST","mid":1234,"token":"01","#,
        r#""options":[{"name":"Uri-Path","value":"est"},{"name":"Uri-Path","value":"sen"},"#,
        r#"{"name":"Content-Format","value":"286"},{"name":"Block1","value":"0/more/64"}],"payload":4}"#,
        "\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn totals_count_the_headers_of_both_families() {
    let (now, mut text) = (start(), String::new());
    let mut formatter = Formatter::new(Style::Text);
    for (direction, bytes) in
        [(Direction::Sent, &[0; 100][..]), (Direction::Sent, &[0; 50]), (Direction::Received, &[0; 7])]
    {
        formatter.event(now, None, &TraceEvent::Datagram { direction, bytes }, &mut text).unwrap();
    }
    assert_eq!(text, "", "a datagram has no separate line in text");
    formatter.finish(&mut text).unwrap();
    let expected = concat!(
        "sent     2 datagrams, 150 bytes; on the air 206 over IPv4, 246 over IPv6\n",
        "received 1 datagrams, 7 bytes; on the air 35 over IPv4, 55 over IPv6\n",
    );
    assert_eq!(text, expected);
}

#[test]
fn hex_shows_the_bytes_as_on_the_wire() {
    let (now, mut text) = (start(), String::new());
    let event = TraceEvent::Datagram { direction: Direction::Received, bytes: &[0xab; 17] };
    Formatter::new(Style::Hex).event(now, None, &event, &mut text).unwrap();
    let row = " ab".repeat(16);
    assert_eq!(text, format!("    0.000 < datagram 17 B\n          0000 {row}\n          0010  ab\n"));
}

#[test]
fn secrets_never_reach_a_line() {
    let event = TraceEvent::Secrets { client_random: &[0x11; 32], master_secret: &[0x22; 48] };
    for style in [Style::Text, Style::Hex, Style::Json] {
        let mut text = String::new();
        Formatter::new(style).event(start(), None, &event, &mut text).unwrap();
        assert_eq!(text, "");
    }
}

#[test]
fn whatever_a_peer_sends_is_printable() {
    let mut hostile = BLOCK.to_vec();
    hostile[6] = 0x1b;
    hostile[7] = b'"';
    hostile[8] = 0xff;
    for input in [&hostile[..], &[], &[0x40], b"\x1b[2J", &[0x60, 0x45, 0, 0, 0xff, 0x1b]] {
        crate::fuzz::trace_line(start(), input);
    }
    for end in 0..BLOCK.len() {
        crate::fuzz::trace_line(start(), &BLOCK[..end]);
    }
}

#[test]
fn d103_a_trace_says_to_how_many_bytes_it_narrows() {
    let (now, mut text) = (start(), String::new());
    let mut formatter = Formatter::new(Style::Text);
    for event in [TraceEvent::Narrowing { bytes: 508 }, TraceEvent::Probing { bytes: 1_200 }] {
        formatter.event(now, None, &event, &mut text).unwrap();
    }
    let expected = concat!(
        "    0.000 - narrowing to 508 bytes per datagram: the path seems to drop longer ones\n",
        "    0.000 - probing the path with a datagram of 1200 bytes\n",
    );
    assert_eq!(text, expected);
}

#[test]
fn a_failure_is_one_line_whatever_the_peer_wrote() {
    let detail = Some("subject CN=a\n  0.000 < forged \u{202e}\u{1b}[2K \"é\u{1f600}\\");
    let event = TraceEvent::Failed { reason: "est.csr.subject_mismatch", detail };
    let (now, mut text, mut json) = (start(), String::new(), String::new());
    Formatter::new(Style::Text).event(now, None, &event, &mut text).unwrap();
    let expected =
        r#"    0.000 - failed: est.csr.subject_mismatch: subject CN=a\n  0.000 < forged \u{202e}\u{1b}[2K "é😀\\"#;
    assert_eq!(text.trim_end(), expected);
    Formatter::new(Style::Json).event(now, None, &event, &mut json).unwrap();
    let expected = concat!(
        r#"{"t":0.000000,"type":"failed","reason":"est.csr.subject_mismatch","detail":"subject CN=a\u000a  0.000 < forged "#,
        r#"\u202e\u001b[2K \"é😀\\"}"#,
        "\n"
    );
    assert_eq!(json, expected);
}

/// 2.04 with these options, and a payload that shows itself in hexadecimal.
fn answer(content_format: Option<u16>, block2: Option<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let token = coap::Token::new(&[7]).unwrap();
    let id = coap::MessageId(1);
    let mut encoder = coap::Encoder::new(&mut bytes, coap::Kind::Acknowledgement, Code::CHANGED, id, token);
    if let Some(format) = content_format {
        let octets = format.to_be_bytes();
        encoder = encoder.option(Number::CONTENT_FORMAT, if format < 256 { &octets[1..] } else { &octets });
    }
    if let Some(block) = block2 {
        encoder = encoder.option(Number::BLOCK2, &[block]);
    }
    encoder.payload(&[0xc0, 0xde]);
    bytes
}

#[test]
fn a_private_key_is_never_dumped_and_nor_are_its_later_blocks() {
    let shown = |messages: &[Vec<u8>]| {
        let (now, mut formatter, mut text) = (start(), Formatter::new(Style::Hex), String::new());
        for message in messages {
            text.clear();
            let event = TraceEvent::ApplicationData { direction: Direction::Received, plaintext: message };
            formatter.event(now, None, &event, &mut text).unwrap();
        }
        text
    };
    for format in [62, 280, 284] {
        let first = answer(Some(format), Some(0x0a));
        let text = shown(std::slice::from_ref(&first));
        assert!(text.contains("          0000  61 44 00 01 07 c"), "header and options are shown: {text}");
        assert!(text.ends_with("          2 octets withheld: private key\n"), "{text}");
        assert!(!text.contains("c0 de"), "{text}");
        // A later block names the format again, or does not.
        for later in [answer(Some(format), Some(0x12)), answer(None, Some(0x12))] {
            let text = shown(&[first.clone(), answer(Some(281), None), later]);
            assert!(text.ends_with("          2 octets withheld: private key\n") && !text.contains("c0 de"), "{text}");
        }
        assert!(shown(&[first, answer(Some(281), Some(0x12))]).contains("c0 de"));
    }
    assert!(shown(&[answer(Some(281), Some(0x0a)), answer(None, Some(0x12))]).contains("c0 de"));
    // A server that names no format, or one that cannot be read, may have sent a key.
    let unreadable = {
        let (mut bytes, token) = (Vec::new(), coap::Token::new(&[7]).unwrap());
        let encoder =
            coap::Encoder::new(&mut bytes, coap::Kind::Acknowledgement, Code::CHANGED, coap::MessageId(1), token);
        encoder.option(Number::CONTENT_FORMAT, &[0, 0, 0, 1, 24]).payload(&[0xc0, 0xde]);
        bytes
    };
    for first in [answer(None, None), answer(None, Some(0x0a)), unreadable] {
        let text = shown(std::slice::from_ref(&first));
        assert!(text.ends_with("          2 octets withheld: private key\n") && !text.contains("c0 de"), "{text}");
        assert!(!shown(&[first, answer(None, Some(0x12))]).contains("c0 de"));
    }
}
