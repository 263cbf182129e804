//! A ClientHello in fragments: hellos of third-party clients, cut at every byte (D37).
//!
//! The bodies are those that the clients sent to a socket: `openssl s_client -dtls1_2` of OpenSSL 3.0.19, once with its default suites and once
//! with ECDHE-ECDSA-AES128-CCM8 alone, and `gnutls-cli --udp` of GnuTLS 3.7.9.

use dtls::{DropReason, Event, HandshakeRefusal, SessionCounts};

use crate::support::World;
use crate::support::forge::{HANDSHAKE, Piece, Raw, records};
use crate::support::script::{Hello, Script};

const OPENSSL: &str = "\
    fefd30c5c2ae0c6270b2548247e1bcd5a432e525f7ae0ac6af9d68c9b9d80224aedd00000038c02cc030009fcca9cca8ccaac02bc02f009e\
    c024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f00ff01000052000b000403000102000a000c000a\
    001d0017001e00190018002300000016000000170000000d002a0028040305030603080708080809080a080b080408050806040105010601\
    030303010302040205020602";

const OPENSSL_CCM8: &str = "\
    fefdb519f59c6b741350653de9a0710bf3d9ef2467f541af646e49f36d6b7a37564d00000004c0ae00ff01000058000b000403000102000a\
    000c000a001d0017001e00190018002300000016000000170000000d0030002e040305030603080708080809080a080b0804080508060401\
    05010601030302030301020103020202040205020602";

const GNUTLS: &str = "\
    fefd94a86264df480dcf9718ccb4f00dd81eb6b9a413aca5d6a4c7944544bc18f24100000038c02ccca9c0adc00ac02bc0acc009c0aec030\
    cca8c014c02fc013009dc09d0035009cc09c002fc0a0009fccaac09f0039009ec09e0033c0a201000066000500050100000000000a001600\
    14001700180019001d001e01000101010201030104000b00020100000d00220020040108090804040308070501080a080505030808060108\
    0b0806060302010203001600000017000000230000ff01000100001c00024000";

/// version, random and an empty session_id; then comes the cookie.
const COOKIE_AT: usize = 2 + 32 + 1;

fn hellos() -> [Vec<u8>; 3] {
    [OPENSSL, OPENSSL_CCM8, GNUTLS].map(|hex| {
        let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    })
}

fn with_cookie(body: &[u8], cookie: &[u8]) -> Vec<u8> {
    assert_eq!(body[COOKIE_AT], 0, "recorded without a cookie");
    let length = [u8::try_from(cookie.len()).unwrap()];
    [&body[..COOKIE_AT], &length, cookie, &body[COOKIE_AT + 1..]].concat()
}

fn script() -> Script {
    let world = World::new();
    Script::unbegun(&world, world.endpoint(), Hello::default())
}

/// The two fragments, each in a separate datagram.
fn cut(body: &[u8], at: usize, message_seq: u16) -> [Vec<u8>; 2] {
    let whole = Piece::whole(1, message_seq, body);
    let piece = |offset: usize, bytes: &[u8]| Piece {
        offset: u32::try_from(offset).unwrap(),
        body: bytes.to_vec(),
        ..Piece::whole(1, message_seq, body)
    };
    assert_eq!(usize::try_from(whole.length).unwrap(), body.len());
    let sequence = u64::from(message_seq) * 2;
    [(0, &body[..at]), (at, &body[at..])].map(|(offset, bytes)| {
        let number = sequence + u64::from(offset > 0);
        Raw::new(HANDSHAKE, 0, number, &piece(offset, bytes).bytes()).bytes()
    })
}

fn cookie_of(answer: &[u8]) -> Vec<u8> {
    let request = Piece::parse(&records(answer)[0].payload);
    assert_eq!(request.kind, 3, "HelloVerifyRequest");
    request.body[3..].to_vec()
}

/// The cookie that a fragment of the first hello gets, if any. The server keeps no state either way.
fn ask(script: &mut Script, fragment: &[u8]) -> Option<Vec<u8>> {
    let answers = script.give(fragment);
    assert_eq!(script.endpoint.counts(), SessionCounts { established: 0, half_open: 0 });
    assert_eq!(script.endpoint.poll_timeout(), None);
    let answer = answers.first()?;
    assert_eq!(answers.len(), 1);
    assert!(answer.len() <= fragment.len(), "{} for {} bytes", answer.len(), fragment.len());
    Some(cookie_of(answer))
}

fn is_answered_with_a_flight(answers: &[Vec<u8>]) -> bool {
    answers.first().is_some_and(|answer| Piece::parse(&records(answer)[0].payload).kind == 2)
}

#[test]
fn d37_a_first_fragment_that_reaches_the_cookie_is_answered_from_itself_alone() {
    for body in hellos() {
        for at in 1..body.len() {
            let mut script = script();
            let [first, second] = cut(&body, at, 0);
            assert_eq!(ask(&mut script, &first).is_some(), at > COOKIE_AT, "cut at {at}");
            assert_eq!(ask(&mut script, &second), None);
            assert!(script.endpoint.drops().count(DropReason::HelloFragment) > 0);
        }
    }
}

#[test]
fn d37_a_hello_cut_at_every_byte_gets_its_handshake_once_its_cookie_is_whole_in_the_first_fragment() {
    for body in hellos() {
        // With the cookie of a whole hello, and with that of a fragment cut at the same place.
        for at in 1..body.len() {
            let mut whole = script();
            let cookie = ask(&mut whole, &Raw::new(HANDSHAKE, 0, 0, &Piece::whole(1, 0, &body).bytes()).bytes());
            completes(&mut whole, &with_cookie(&body, &cookie.unwrap()), at);
            if at > COOKIE_AT {
                let mut fragmented = script();
                let cookie = ask(&mut fragmented, &cut(&body, at, 0)[0]).unwrap();
                let length = cookie.len();
                completes(&mut fragmented, &with_cookie(&body, &cookie), at + length);
            }
        }
    }
}

/// Gives the server the hello with its cookie in two fragments, and checks the result.
fn completes(script: &mut Script, body: &[u8], at: usize) {
    let cookie_ends = COOKIE_AT + 1 + usize::from(body[COOKIE_AT]);
    let [first, second] = cut(body, at, 1);
    let answers = script.give(&first);
    if at < cookie_ends {
        // A fragment without its cookie counts as a hello without one, and its second half belongs to no
        // handshake.
        assert!(answers.iter().all(|answer| answer.len() <= first.len()));
        script.give(&second);
        assert_eq!(script.endpoint.counts().half_open, 0);
        return;
    }
    assert!(answers.is_empty());
    assert_eq!(script.endpoint.counts().half_open, 1, "cut at {at}");
    let answers = script.give(&second);
    assert!(is_answered_with_a_flight(&answers), "cut at {at}: {:?}", script.events);
}

#[test]
fn d37_d39_what_a_first_fragment_does_not_show_is_held_against_the_cookie_once_it_is_whole() {
    let body = &hellos()[0];
    // The cookie covers the whole hello; its suites change, behind the cut or before it.
    for (at, shows) in [(COOKIE_AT + 40, false), (COOKIE_AT + 100, true)] {
        let mut script = script();
        let cookie = ask(&mut script, &Raw::new(HANDSHAKE, 0, 0, &Piece::whole(1, 0, body).bytes()).bytes()).unwrap();
        let mut changed = with_cookie(body, &cookie);
        let suite = COOKIE_AT + 1 + cookie.len() + 2 + 20;
        changed[suite] ^= 1;
        assert_eq!(at > suite, shows);
        let [first, second] = cut(&changed, at, 1);
        let answers = script.give(&first);
        if shows {
            assert!(!cookie_of(&answers[0]).is_empty(), "it counts as no cookie, and a new one is sent");
            assert_eq!(script.endpoint.counts().half_open, 0);
        } else {
            assert_eq!(script.endpoint.counts().half_open, 1);
            script.give(&second);
            assert!(
                matches!(script.events.last(), Some(Event::Refused { refusal: HandshakeRefusal::HelloChanged, .. })),
                "{:?}",
                script.events
            );
            assert_eq!(script.endpoint.counts().half_open, 0);
        }
    }
}

#[test]
fn d32_a_changed_session_id_or_random_is_seen_in_the_first_fragment() {
    let body = &hellos()[2];
    let mut script = script();
    let cookie = ask(&mut script, &cut(body, COOKIE_AT + 1, 0)[0]).unwrap();
    for changed in [0, 1, 2, 33] {
        let mut hello = with_cookie(body, &cookie);
        hello[changed] ^= 1;
        let length = hello.len();
        let [first, _] = cut(&hello, length - 10, 1);
        assert!(!cookie_of(&script.give(&first)[0]).is_empty());
        assert_eq!(script.endpoint.counts().half_open, 0);
    }
}
