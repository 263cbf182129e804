//! What a ClientHello may offer, and the answer to it.

use dtls::{AlertDescription, Event, HandshakeRefusal, HandshakeType, NamedCurve, Suite};

use crate::support::forge::{ALERT, Piece, Raw, records};
use crate::support::script::{Hello, Script};
use crate::support::{Pair, Way, World, identity};

const CLIENT_HELLO: u8 = 1;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CLIENT_KEY_EXCHANGE: u8 = 16;

fn refused(hello: Hello) -> HandshakeRefusal {
    let script = Script::begin(&World::new(), hello);
    script.refusal().expect("it is refused")
}

fn completes(hello: &Hello) {
    let mut script = Script::begin(&World::new(), hello.clone());
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{hello:?} {:?}", script.events);
}

/// Types of the extensions in the ServerHello, and the whole message.
pub(crate) fn server_hello(hello: Hello) -> (Vec<u16>, Vec<u8>) {
    let script = Script::begin(&World::new(), hello);
    let pieces = script.answers.iter().map(|answer| Piece::parse(&records(answer)[0].payload));
    let body = pieces.into_iter().find(|piece| piece.kind == 2).expect("it is answered").body;
    let mut rest = body.get(40..).unwrap_or_default();
    let mut kinds = Vec::new();
    while rest.len() >= 4 {
        kinds.push(u16::from_be_bytes([rest[0], rest[1]]));
        rest = &rest[4 + usize::from(u16::from_be_bytes([rest[2], rest[3]]))..];
    }
    (kinds, body)
}

#[test]
fn d61_duplicate_extensions_oversize_vectors_and_trailing_bytes_are_decode_errors() {
    let decode = HandshakeRefusal::Decode { message: HandshakeType::CLIENT_HELLO };
    let mut twice = Hello::default();
    twice.extensions.as_mut().unwrap().push((23, vec![]));
    assert_eq!(refused(twice), decode);
    let mut unknown_twice = Hello::default();
    unknown_twice.extensions.as_mut().unwrap().extend([(0xFAFA, vec![]), (0xFAFA, vec![1])]);
    assert_eq!(refused(unknown_twice), decode);
    for (kind, content) in [
        (10, vec![0, 3, 0, 23, 0]),
        (10, vec![0, 4, 0, 23]),
        (10, vec![0, 0]),
        (11, vec![2, 0]),
        (13, vec![0, 2, 4, 3, 0]),
        (23, vec![0]),
        (0xFF01, vec![]),
        (0, vec![0, 9, 0, 0, 1]),
        // trusted_ca_keys: no list, a hash cut short, an empty name, a type that nobody has defined, bytes behind the list.
        (3, vec![]),
        (3, [&[0, 20, 1][..], &[7; 19]].concat()),
        (3, [&[0, 20, 3][..], &[7; 19]].concat()),
        (3, vec![0, 3, 2, 0, 0]),
        (3, vec![0, 4, 2, 0, 2, 7]),
        (3, vec![0, 1, 4]),
        (3, vec![0, 1, 0, 0]),
    ] {
        assert_eq!(refused(Hello::default().with(kind, &content)), decode, "{kind} {content:?}");
    }
}

#[test]
fn d62_two_hundred_unknown_suites_extensions_and_groups_are_tolerated() {
    let grease = |n: u16| 0x0A0A_u16.wrapping_add(n.wrapping_mul(0x0101)) | 0x8000;
    let mut hello = Hello::default();
    let mut suites: Vec<u16> = (0..200).map(grease).collect();
    suites.push(0xC02B);
    hello.suites = suites;
    let groups: Vec<u8> = (0..200).map(grease).chain([23]).flat_map(u16::to_be_bytes).collect();
    let mut hello = hello.with(10, &[&u16::try_from(groups.len()).unwrap().to_be_bytes()[..], &groups].concat());
    let extensions = hello.extensions.as_mut().unwrap();
    extensions.extend((0..200_u16).map(|n| (0x4000 + n, vec![7; usize::from(n % 5)])));
    completes(&hello);
}

#[test]
fn what_cannot_be_agreed_on_is_refused_by_its_name() {
    assert_eq!(refused(Hello { suites: vec![0xC02C, 0x00FF], ..Hello::default() }), HandshakeRefusal::NoCommonSuite);
    assert_eq!(refused(Hello::default().with(10, &[0, 2, 0, 29])), HandshakeRefusal::NoCommonGroup);
    assert_eq!(refused(Hello::default().with(13, &[0, 2, 4, 1])), HandshakeRefusal::NoCommonSignatureAlgorithm);
    assert_eq!(refused(Hello::default().without(13)), HandshakeRefusal::NoCommonSignatureAlgorithm);
    assert_eq!(refused(Hello::default().with(11, &[1, 1])), HandshakeRefusal::NoCommonPointFormat);
    assert_eq!(refused(Hello { compression: vec![1], ..Hello::default() }), HandshakeRefusal::NoCommonCompression);
    assert_eq!(refused(Hello::default().with(0xFF01, &[1, 9])), HandshakeRefusal::RenegotiationInfo);
}

#[test]
fn a_refusal_lists_everything_that_would_fail_and_tells_the_peer_the_first() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| {
        config.extended_master_secret = dtls::ExtendedMasterSecret::Require;
    });
    let hello = Hello { version: 0xFEFF, suites: vec![0xC0A8], compression: vec![1], ..Hello::default() }
        .with(10, &[0, 2, 0, 25])
        .with(11, &[1, 1])
        .with(0xFF01, &[1, 9])
        .with(1, &[9])
        .without(13)
        .without(23);
    let script = Script::begin_at(&world, endpoint, hello);
    let Some(Event::Refused { refusal, further, .. }) = script.events.first() else { panic!("{:?}", script.events) };
    assert_eq!(*refusal, HandshakeRefusal::Version { offered: 0xFEFF });
    assert_eq!(
        *further,
        [
            HandshakeRefusal::NoCommonCompression,
            HandshakeRefusal::RenegotiationInfo,
            HandshakeRefusal::NoCommonSuite,
            HandshakeRefusal::NoCommonGroup,
            HandshakeRefusal::NoCommonPointFormat,
            HandshakeRefusal::NoCommonSignatureAlgorithm,
            HandshakeRefusal::ExtendedMasterSecretRequired,
            HandshakeRefusal::RecordLimit { offered: 9 },
        ]
    );
    assert_eq!(script.alerts(), [[2, 70]], "protocol_version");
    // A hello with one fault lists no further ones.
    let script = Script::begin(&World::new(), Hello { suites: vec![0xC02C], ..Hello::default() });
    assert!(matches!(script.events.first(), Some(Event::Refused { further, .. }) if further.is_empty()));
}

#[test]
fn max_fragment_length_is_echoed_and_record_size_limit_answered_with_ours() {
    for code in 1..=4 {
        let (kinds, body) = server_hello(Hello::default().with(1, &[code]));
        assert!(kinds.contains(&1));
        assert!(body.windows(5).any(|window| window == [0, 1, 0, 1, code]));
    }
    for code in [0, 5, 255] {
        assert_eq!(refused(Hello::default().with(1, &[code])), HandshakeRefusal::RecordLimit { offered: code.into() });
    }
    let (kinds, body) = server_hello(Hello::default().with(28, &[4, 0]));
    assert!(kinds.contains(&28));
    assert!(body.windows(6).any(|window| window == [0, 28, 0, 2, 0x40, 0]));
    assert_eq!(refused(Hello::default().with(28, &[0, 63])), HandshakeRefusal::RecordLimit { offered: 63 });
    // "MUST ignore a "max_fragment_length" that appears in a ClientHello if both extensions appear" (RFC 8449 §5).
    let (kinds, _) = server_hello(Hello::default().with(1, &[9]).with(28, &[0x40, 1]));
    assert!(kinds.contains(&28) && !kinds.contains(&1));
}

#[test]
fn a_p384_identity_needs_its_curve_and_its_algorithm() {
    let mut world = World::new();
    world.server = identity(NamedCurve::P384);
    let both = Hello::default().with(13, &[0, 4, 4, 3, 5, 3]);
    assert_eq!(Script::begin(&world, both.clone()).refusal(), Some(HandshakeRefusal::NoCommonGroup));
    let groups = both.with(10, &[0, 4, 0, 23, 0, 24]);
    let mut script = Script::begin(&world, groups);
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
}

#[test]
fn hellos_of_small_stacks_complete() {
    completes(&Hello::default().without(10));
    completes(&Hello::default().without(11));
    completes(&Hello::default().without(0xFF01));
    completes(&Hello { session_id: vec![3; 32], ..Hello::default() });
    // encrypt_then_mac, session_ticket, ALPN, a name, max_fragment_length.
    let busy = Hello::default()
        .with(22, &[])
        .with(35, &[])
        .with(16, &[0, 5, 4, b'c', b'o', b'a', b'p'])
        .with(0, &[0, 7, 0, 0, 4, b'h', b'o', b's', b't'])
        .with(1, &[2]);
    completes(&busy);
}

#[test]
fn d58_renegotiation_is_signalled_when_the_client_signals_it_in_either_way() {
    assert!(server_hello(Hello::default()).0.contains(&0xFF01));
    let scsv = Hello { suites: vec![0xC02B, 0x00FF], ..Hello::default() }.without(0xFF01);
    assert!(server_hello(scsv).0.contains(&0xFF01));
    assert!(!server_hello(Hello::default().without(0xFF01)).0.contains(&0xFF01));
}

#[test]
fn only_what_was_offered_is_answered_and_no_session_id() {
    let (kinds, body) = server_hello(Hello { session_id: vec![3; 32], ..Hello::default() }.with(35, &[]).with(22, &[]));
    assert_eq!(kinds, [0xFF01, 11, 23]);
    assert_eq!(body[34], 0, "an empty session_id: nothing to resume");
    let bare = Hello::default().without(23).without(11).without(0xFF01);
    let (kinds, body) = server_hello(bare);
    assert!(kinds.is_empty());
    assert_eq!(body.len(), 38, "no extensions, not even an empty vector");
}

#[test]
fn a_refusal_tells_what_was_offered() {
    let hello = Hello { suites: vec![0xC02C], ..Hello::default() }.with(0, &[0, 7, 0, 0, 4, b'h', b'o', b's', b't']);
    let script = Script::begin(&World::new(), hello);
    let Some(Event::Refused { offered, path, .. }) = script.events.first() else { panic!("{:?}", script.events) };
    assert_eq!(*path, script.path);
    assert_eq!(offered.suites, [0xC02C]);
    assert_eq!(offered.groups, [23]);
    assert_eq!(offered.signature_algorithms, [0x0403]);
    assert!(offered.extended_master_secret);
    assert_eq!(offered.server_name.as_deref(), Some("host"));
}

/// Every code point but those of our three suites: NULL, EXPORT, RC4, DES, CBC and all others (RFC 9148 §9.1, RFC 7925 §13).
#[test]
fn every_suite_that_is_agreed_on_encrypts_and_is_none_of_export_or_des() {
    const OURS: [u16; 3] = [0xC02B, 0xC0AC, 0xC0AE];
    let others: Vec<u16> = (0..=0xFF).chain(0xC000..=0xC0FF).chain(0xCC00..=0xCCFF).collect();
    let others: Vec<u16> = others.into_iter().filter(|code| !OURS.contains(code)).collect();
    for suites in others.chunks(128) {
        let hello = Hello { suites: suites.to_vec(), ..Hello::default() };
        assert_eq!(refused(hello), HandshakeRefusal::NoCommonSuite, "{suites:04x?}");
    }
    // A client takes what it knows by its code point.
    assert!(others.iter().all(|code| Suite::from_code(*code).is_none()));
    assert!(OURS.iter().all(|code| Suite::from_code(*code).is_some()));
}

#[test]
fn what_we_offer_names_sha_256_and_is_dtls_1_2() {
    let mut pair = Pair::new(&World::new());
    pair.run();
    let hellos: Vec<Vec<u8>> = sent(&pair, Way::ToServer, CLIENT_HELLO);
    assert_eq!(hellos.len(), 2, "with and without the cookie");
    for hello in hellos {
        assert_eq!(hello[..2], [0xFE, 0xFD]);
        // signature_algorithms: the list, and ecdsa_secp256r1_sha256 first (RFC 7925 §5).
        let at = hello.windows(2).rposition(|kind| kind == [0, 13]).expect("the extension");
        assert_eq!(hello[at + 6..at + 8], [4, 3]);
    }
    // A server that refuses the version ends it: there is no second try with another one (RFC 7925 §18).
    let mut pair = Pair::new(&World::new());
    pair.step();
    pair.to_server.clear();
    let alert = Raw::new(ALERT, 0, 0, &[2, 70]);
    pair.give_client(&alert.bytes());
    assert_eq!(sent(&pair, Way::ToServer, CLIENT_HELLO).len(), 1);
    assert!(pair.client_refusal() == HandshakeRefusal::AlertReceived(AlertDescription::PROTOCOL_VERSION));
}

/// RFC 7925 §4.4 and RFC 9148 §3 make one suite mandatory: a client whose settings say nothing of suites offers it, and first. With an AEAD there is nothing
/// for encrypt_then_mac (22) and truncated_hmac (4) to do (RFC 7925 §13).
#[test]
fn a_client_offers_the_mandatory_suite_first_and_no_extension_about_a_mac() {
    let mut pair = Pair::new(&World::new());
    pair.run();
    let hellos = sent(&pair, Way::ToServer, CLIENT_HELLO);
    assert_eq!(hellos.len(), 2, "with and without the cookie");
    for hello in hellos {
        // Behind client_version, random and an empty session_id.
        let mut rest = &hello[35..];
        let [_cookie, suites, _compression, mut extensions] = [1, 2, 1, 2].map(|octets| vector(&mut rest, octets));
        assert_eq!(suites[..2], [0xC0, 0xAE]);
        let mut kinds = Vec::new();
        while let [high, low, behind @ ..] = extensions {
            kinds.push(u16::from_be_bytes([*high, *low]));
            extensions = behind;
            vector(&mut extensions, 2);
        }
        assert!(kinds.contains(&23), "extended_master_secret is found: {kinds:?}");
        assert!(!kinds.contains(&22) && !kinds.contains(&4), "{kinds:?}");
    }
}

/// The contents of the next vector, whose length has so many octets.
fn vector<'b>(rest: &mut &'b [u8], octets: usize) -> &'b [u8] {
    let (length, behind) = rest.split_at(octets);
    let length = length.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet));
    let (found, behind) = behind.split_at(length);
    *rest = behind;
    found
}

#[test]
fn every_handshake_has_an_ephemeral_key_of_its_own() {
    let world = World::new();
    let keys = || {
        let mut pair = Pair::new(&world);
        pair.run();
        assert!(pair.is_established());
        let server = sent(&pair, Way::ToClient, SERVER_KEY_EXCHANGE).remove(0);
        let client = sent(&pair, Way::ToServer, CLIENT_KEY_EXCHANGE).remove(0);
        // Type and number of the curve, then the point with its length.
        [server[4..69].to_vec(), client[1..].to_vec()]
    };
    let [first, second] = [keys(), keys()];
    assert!(first[0] != second[0] && first[1] != second[1] && first[0] != first[1]);
}

/// The receiver does not look for a time in it (RFC 7925 §12).
#[test]
fn the_random_of_a_hello_is_opaque() {
    for byte in [0, 0x5A, 0xFF] {
        completes(&Hello { random: [byte; 32], ..Hello::default() });
    }
}

/// The bodies of the handshake messages of one type that went one way in the clear, in order.
fn sent(pair: &Pair, way: Way, kind: u8) -> Vec<Vec<u8>> {
    let datagrams = pair.sent.iter().filter(|(one, _)| *one == way);
    let all = datagrams.flat_map(|(_, bytes)| records(bytes));
    let of_kind = all.filter(|record| record.handshake_type() == Some(kind));
    of_kind.map(|record| Piece::parse(&record.payload).body).collect()
}
