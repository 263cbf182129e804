//! The Trusted CA Indication of a client (trusted_ca_keys, RFC 6066 §6): when it is sent, how much of it, and which answers it may have.

use dtls::{AuthorityKeyHash, DropReason};

use crate::conversation::with_extension;
use crate::hello::server_hello;
use crate::support::forge::{Piece, records};
use crate::support::script::{Hello, Script};
use crate::support::{Clock, Pair, Way, World};

const CLIENT_HELLO: u8 = 1;

/// A pair whose client trusts this many authorities, and no others.
fn pair(world: &World, authorities: u8, mtu: usize) -> Pair {
    let clock = Clock::new();
    let client = world.client_with(&clock, |config| {
        let mut verifier = crate::support::Known::of(&[&world.server]);
        verifier.trusted = (0..authorities).map(|number| AuthorityKeyHash::from_bytes([0xA0 + number; 20])).collect();
        config.verifier = std::sync::Arc::new(verifier);
        config.server_name = Some("est.a-name-of-forty-bytes.example.net.xyz".to_owned());
        config.mtu = mtu;
    });
    Pair::of(world.endpoint(), client, clock)
}

/// The bodies of the client's hellos, each of which fits one datagram.
fn hellos(pair: &Pair) -> Vec<Vec<u8>> {
    let sent = pair.sent.iter().filter(|(way, _)| *way == Way::ToServer).flat_map(|(_, datagram)| records(datagram));
    let hellos = sent.filter(|record| record.handshake_type() == Some(CLIENT_HELLO));
    let pieces = hellos.map(|record| Piece::parse(&record.payload));
    pieces
        .inspect(|piece| assert_eq!(usize::try_from(piece.length).unwrap(), piece.body.len(), "in one piece"))
        .map(|piece| piece.body)
        .collect()
}

/// How many of the pair's authorities a hello names, one after the other.
fn named(hello: &[u8]) -> usize {
    let entry = |number: u8| [&[1_u8][..], &[0xA0 + number; 20]].concat();
    let Some(begin) = hello.windows(21).position(|window| window == entry(0)) else { return 0 };
    (0..).zip(hello[begin..].chunks(21)).take_while(|(number, chunk)| *chunk == entry(*number)).count()
}

/// Version, random and an empty session_id; then the cookie with its length.
fn without_cookie(hello: &[u8]) -> Vec<u8> {
    [&hello[..35], &hello[36 + usize::from(hello[35])..]].concat()
}

#[test]
fn a_client_names_the_authorities_that_alone_it_trusts_and_the_server_serves_it() {
    let world = World::new();
    for (authorities, shown) in [(0, 0), (1, 1), (2, 2), (4, 4), (9, 4)] {
        let mut pair = pair(&world, authorities, 1_232);
        pair.run();
        let hellos = hellos(&pair);
        assert_eq!(hellos.iter().map(|hello| named(hello)).collect::<Vec<_>>(), [shown; 2], "of {authorities}");
        assert_eq!(without_cookie(&hellos[0]), without_cookie(&hellos[1]), "only the cookie is new");
        assert!(pair.is_established());
        pair.assert_alive();
    }
}

#[test]
fn on_a_narrow_link_the_hello_names_as_many_as_its_datagram_holds_and_never_none() {
    let world = World::new();
    for (mtu, shown) in [(228, 1), (300, 4)] {
        let mut pair = pair(&world, 9, mtu);
        pair.run();
        assert_eq!(hellos(&pair).iter().map(|hello| named(hello)).collect::<Vec<_>>(), [shown; 2], "mtu {mtu}");
        assert!(pair.is_established());
    }
}

#[test]
fn every_type_of_identifier_is_read_and_none_is_answered() {
    let world = World::new();
    let name = [0x30, 0];
    let list = [&[0, 1][..], &[7; 20], &[2, 0, 2], &name, &[3], &[8; 20]].concat();
    let content = [&u16::try_from(list.len()).unwrap().to_be_bytes()[..], &list].concat();
    for content in [content, vec![0, 0]] {
        let hello = Hello::default().with(3, &content);
        // "In this event, the server SHALL include an extension of type "trusted_ca_keys"" (RFC 6066 §6) is for one that was guided by it.
        let (answered, _) = server_hello(hello.clone());
        assert!(!answered.is_empty() && !answered.contains(&3), "{answered:?}");
        let mut script = Script::begin(&world, hello);
        let flight = script.honest_flight();
        script.give(&flight);
        assert!(script.is_established(), "{:?}", script.events);
    }
}

#[test]
fn a_server_may_answer_the_indication_with_an_empty_extension_and_no_other() {
    let world = World::new();
    let answered = |content: &[u8]| with_extension(pair(&world, 1, 1_232), 3, content);
    let pair = answered(&[]);
    assert!(pair.client_events.is_empty(), "{:?}", pair.client_events);
    assert_eq!(pair.client.drops().count(DropReason::BadRecord), 0);
    let last = pair.sent.last().unwrap();
    assert_eq!((last.0, records(&last.1).len() > 1), (Way::ToServer, true), "its second flight");
    let refusal = answered(&[0, 0]).client_refusal();
    assert_eq!(refusal, dtls::HandshakeRefusal::Decode { message: dtls::HandshakeType::SERVER_HELLO });
}
