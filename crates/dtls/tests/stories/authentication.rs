//! A peer that does not send a certificate and hold its key gets no session.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use dtls::{CertificateFault, DropReason, Event, ExtendedMasterSecret, HandshakeRefusal, HandshakeType, NamedCurve};

use crate::support;
use crate::support::forge::{HANDSHAKE, datagram};
use crate::support::script::{Hello, Script};
use crate::support::{Clock, Pair, World, identity_and_key};

#[test]
fn the_script_is_an_honest_client() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established(), "{:?}", script.events);
    let facts = script.endpoint.facts(script.endpoint.sessions().next().unwrap()).unwrap();
    assert_eq!(facts.tls_unique.to_vec(), script.verify_data());
}

/// What a client does after the server's flight.
type Deed = fn(&mut Script) -> Vec<u8>;

#[test]
fn d89_only_a_verified_finished_lets_the_verifier_remember_a_peer() {
    let world = World::new();
    let deeds: [(Deed, Option<HandshakeRefusal>, usize); 4] = [
        // Only a chain that was observed on the wire.
        (
            |script| datagram(&[script.certificate(), script.key_exchange()]),
            Some(HandshakeRefusal::TimedOut { expected: HandshakeType::CERTIFICATE_VERIFY }),
            0,
        ),
        (
            |script| {
                script.key = identity_and_key(NamedCurve::P256).1;
                script.honest_flight()
            },
            Some(HandshakeRefusal::BadCertificateVerify),
            0,
        ),
        (|script| script.flight_with_finished(&[7; 12]), Some(HandshakeRefusal::BadFinished), 0),
        (Script::honest_flight, None, 1),
    ];
    for (deed, refusal, admitted) in deeds {
        let mut verifier = None;
        let endpoint = world.endpoint_with(|config| verifier = Some(Arc::clone(&config.verifier)));
        let mut script = Script::begin_at(&world, endpoint, Hello::default());
        let bytes = deed(&mut script);
        script.give(&bytes);
        script.wait_out();
        assert_eq!(script.refusal(), refusal);
        assert_eq!(*verifier.unwrap().admitted.lock().unwrap(), admitted, "{refusal:?}");
        // The claimed identity is reported, whatever the client lacked.
        let claimed = script.events.iter().find_map(|event| match event {
            Event::Refused { account, .. } => account.claimed.clone(),
            _ => None,
        });
        assert_eq!(claimed.is_some(), refusal.is_some());
    }
}

#[test]
fn d48_certificate_and_certificate_verify_left_out() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut bytes = datagram(&[script.key_exchange(), script.change_cipher_spec()]);
    bytes.extend(script.finished());
    script.give(&bytes);
    let expected = HandshakeType::CERTIFICATE;
    assert_eq!(
        script.refusal(),
        Some(HandshakeRefusal::UnexpectedMessage { message: HandshakeType::CLIENT_KEY_EXCHANGE, expected })
    );
    assert_eq!(script.alerts(), [[2, 10]]);
    assert!(!script.is_established());
}

#[test]
fn d49_certificate_sent_and_certificate_verify_left_out() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut bytes = datagram(&[script.certificate(), script.key_exchange(), script.change_cipher_spec()]);
    bytes.extend(script.finished());
    script.give(&bytes);
    assert!(!script.is_established());
    script.wait_out();
    assert_eq!(script.refusal(), Some(HandshakeRefusal::TimedOut { expected: HandshakeType::CERTIFICATE_VERIFY }));
    assert_eq!(script.endpoint.counts().half_open, 0);
}

#[test]
fn d50_an_empty_certificate_list_is_a_handshake_failure() {
    let world = World::new();
    let clock = Clock::new();
    let client = world.client_with(&clock, |config| config.identity = None);
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.run();
    assert_eq!(pair.server_refusal(), HandshakeRefusal::MissingCertificate);
    assert_eq!(pair.client_refusal(), HandshakeRefusal::AlertReceived(dtls::AlertDescription::HANDSHAKE_FAILURE));
}

#[test]
fn d51_certificate_verify_before_client_key_exchange() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let bytes = datagram(&[script.certificate(), script.certificate_verify(), script.key_exchange()]);
    script.give(&bytes);
    let (message, expected) = (HandshakeType::CERTIFICATE_VERIFY, HandshakeType::CLIENT_KEY_EXCHANGE);
    assert_eq!(script.refusal(), Some(HandshakeRefusal::UnexpectedMessage { message, expected }));
}

#[test]
fn d51_certificate_verify_over_a_wrong_transcript() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let first = [script.certificate(), script.key_exchange()];
    let signature = {
        let honest = script.transcript.clone();
        script.transcript[20] ^= 1;
        let signature = script.sign();
        script.transcript = honest;
        signature
    };
    let verify = script.certificate_verify_with(0x0403, &signature);
    let mut bytes = datagram(&first);
    bytes.extend(verify.bytes());
    script.give(&bytes);
    assert_eq!(script.refusal(), Some(HandshakeRefusal::BadCertificateVerify));
    assert_eq!(script.alerts(), [[2, 51]]);
}

#[test]
fn d52_certificate_verify_by_another_key() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    script.key = identity_and_key(NamedCurve::P256).1;
    let flight = script.honest_flight();
    script.give(&flight);
    assert_eq!(script.refusal(), Some(HandshakeRefusal::BadCertificateVerify));
}

#[test]
fn d52_certificate_verify_with_an_algorithm_that_was_not_offered() {
    for scheme in [0x0203, 0x0201, 0x0401, 0x0603, 0x0807, 0x0000] {
        let world = World::new();
        let mut script = Script::begin(&world, Hello::default());
        let bytes = datagram(&[script.certificate(), script.key_exchange()]);
        script.give(&bytes);
        let signature = script.sign();
        let verify = script.certificate_verify_with(scheme, &signature);
        script.give(&verify.bytes());
        assert_eq!(script.refusal(), Some(HandshakeRefusal::SignatureAlgorithmNotOffered { scheme }));
        assert_eq!(script.alerts(), [[2, 47]]);
    }
}

#[test]
fn d52_certificate_verify_under_another_hash_or_cut_short() {
    let world = World::new();
    for cut in [None, Some(0), Some(8), Some(40)] {
        let mut script = Script::begin(&world, Hello::default());
        let bytes = datagram(&[script.certificate(), script.key_exchange()]);
        script.give(&bytes);
        let signature = script.sign();
        let (verify, refusal) = match cut {
            // Signed with SHA-256, declared as SHA-384.
            None => (script.certificate_verify_with(0x0503, &signature), HandshakeRefusal::BadCertificateVerify),
            Some(length) => (
                script.certificate_verify_with(0x0403, &signature[..length]),
                HandshakeRefusal::CertificateVerifyEncoding,
            ),
        };
        script.give(&verify.bytes());
        assert_eq!(script.refusal(), Some(refusal));
    }
}

#[test]
fn d63_key_shares_that_are_no_points_of_the_curve() {
    let world = World::new();
    let off_curve = [&[4_u8][..], &[7; 64]].concat();
    let compressed = [&[2_u8][..], &[7; 32]].concat();
    for point in [off_curve, compressed, vec![0], vec![4; 64], vec![4; 66], vec![4; 97]] {
        let mut script = Script::begin(&world, Hello::default());
        // Everything else is in order: the signature covers the bad point.
        let first = [script.certificate(), script.key_exchange_with(&point)];
        let mut bytes = datagram(&first);
        bytes.extend(script.certificate_verify().bytes());
        script.give(&bytes);
        assert_eq!(script.refusal(), Some(HandshakeRefusal::BadKeyShare), "{point:?}");
        assert_eq!(script.alerts(), [[2, 47]]);
    }
}

#[test]
fn d64_d65_every_fault_of_a_chain_becomes_its_alert() {
    let faults = [
        (CertificateFault::UnknownIssuer, 48),
        (CertificateFault::Expired, 45),
        (CertificateFault::BadSignature, 42),
        (CertificateFault::ExtendedKeyUsage, 43),
        (CertificateFault::KeyUsage, 43),
        (CertificateFault::TooMuchWork, 46),
    ];
    for (fault, alert) in faults {
        let world = World::new();
        let endpoint = world.endpoint_with(|config| {
            config.verifier = Arc::new(support::Known { fault: Some(fault), ..Default::default() });
        });
        let mut script = Script::begin_at(&world, endpoint, Hello::default());
        let flight = script.honest_flight();
        script.give(&flight);
        assert_eq!(script.refusal(), Some(HandshakeRefusal::Certificate(fault)));
        assert_eq!(script.alerts(), [[2, alert]]);
    }
}

#[test]
fn d64_a_chain_of_eleven_is_refused_and_the_verifier_never_asked() {
    let world = World::new();
    let known = Arc::new(support::Known::of(&[&world.client]));
    let endpoint = world.endpoint_with(|config| config.verifier = known.clone());
    let mut script = Script::begin_at(&world, endpoint, Hello::default());
    let one = [&[0, 0, 1][..], &[0x30]].concat();
    let list = one.repeat(11);
    let body = [&[0, 0, u8::try_from(list.len()).unwrap()][..], &list].concat();
    let record = script.message(11, &body);
    script.give(&record.bytes());
    assert_eq!(script.refusal(), Some(HandshakeRefusal::Certificate(CertificateFault::TooManyCertificates)));
    assert_eq!(*known.asked.lock().unwrap(), 0);
}

#[test]
fn d59_without_extended_master_secret_require_refuses_and_prefer_says_so() {
    let world = World::new();
    let endpoint = world.endpoint_with(|config| config.extended_master_secret = ExtendedMasterSecret::Require);
    let script = Script::begin_at(&world, endpoint, Hello::default().without(23));
    assert_eq!(script.refusal(), Some(HandshakeRefusal::ExtendedMasterSecretRequired));
    assert_eq!(script.alerts(), [[2, 40]]);

    let mut script = Script::begin(&world, Hello::default().without(23));
    let flight = script.honest_flight();
    script.give(&flight);
    assert!(script.is_established());
    let facts = script.endpoint.facts(script.endpoint.sessions().next().unwrap()).unwrap();
    assert!(!facts.extended_master_secret);
}

#[test]
fn a_finished_that_does_not_match_is_a_decrypt_error() {
    let world = World::new();
    let mut script = Script::begin(&world, Hello::default());
    let mut flight = datagram(&[script.certificate(), script.key_exchange(), script.certificate_verify()]);
    flight.extend(script.change_cipher_spec().bytes());
    let mut piece = script.finished_piece();
    piece.body[11] ^= 1;
    flight.extend(script.forger().seal(HANDSHAKE, 0, &piece.bytes()));
    script.give(&flight);
    assert_eq!(script.refusal(), Some(HandshakeRefusal::BadFinished));
    assert_eq!(script.alerts(), [[2, 51]]);
}

#[test]
fn the_client_refuses_a_server_that_its_verifier_refuses() {
    let world = World::new();
    let clock = Clock::new();
    let client = world.client_with(&clock, |config| {
        let fault = Some(CertificateFault::DeviceAsServer);
        config.verifier = Arc::new(support::Known { fault, ..Default::default() });
    });
    let mut pair = Pair::of(world.endpoint(), client, clock);
    pair.run();
    assert_eq!(pair.client_refusal(), HandshakeRefusal::Certificate(CertificateFault::DeviceAsServer));
    assert_eq!(pair.server_refusal(), HandshakeRefusal::AlertReceived(dtls::AlertDescription::UNSUPPORTED_CERTIFICATE));
}

/// Another signature value derived from a given one; `None` if this one is not suitable.
type Spoil = fn(&[u8]) -> Option<Vec<u8>>;

/// A signature that does not verify under its key disproves the identity. One that is not DER may be genuine, and its driver has to be
/// fixed.
#[test]
fn e67_a_client_tells_a_signature_that_is_not_der_from_one_of_another_key() {
    let world = World::new();
    let other_tag: Spoil = |signature| Some([&[0x31], &signature[1..]].concat());
    let other_key: Spoil = |signature| signature.split_last().map(|(last, rest)| [rest, &[last ^ 1]].concat());
    let not_der =
        NOT_DER.into_iter().chain([other_tag]).map(|spoil| (spoil, HandshakeRefusal::ServerKeyExchangeEncoding));
    for (index, (spoil, refusal)) in not_der.chain([(other_key, HandshakeRefusal::BadServerKeyExchange)]).enumerate() {
        let mut pair = (0..SIGNATURES_MAX).find_map(|_| with_spoilt_key_exchange(&world, spoil)).unwrap();
        // Two of them may belong to other handshakes of the client's; the third is no accident.
        for _ in 0..2 {
            pair.run();
            assert!(pair.client_events.is_empty(), "{index}: {:?}", pair.client_events);
            while pair.to_client.is_empty() {
                assert!(pair.tick());
            }
            pair.to_server.clear();
            let spoilt = pair.to_client.iter_mut().filter_map(|datagram| spoil_key_exchange(datagram, spoil)).count();
            assert_eq!(spoilt, 1, "{index}");
        }
        pair.run();
        assert_eq!(pair.client_refusal(), refusal, "{index}");
        assert_eq!(pair.client.drops().count(DropReason::FlightDisproved), 2, "{index}");
        assert!(pair.clock.elapsed < Duration::from_secs(10), "{:?}", pair.clock.elapsed);
    }
}

#[test]
fn e67_a_server_tells_a_signature_that_is_not_der_from_one_of_another_key() {
    let world = World::new();
    for spoil in NOT_DER {
        let mut script = Script::begin(&world, Hello::default());
        let bytes = datagram(&[script.certificate(), script.key_exchange()]);
        script.give(&bytes);
        let signature = (0..SIGNATURES_MAX).find_map(|_| spoil(&script.sign())).unwrap();
        let verify = script.certificate_verify_with(0x0403, &signature);
        script.give(&verify.bytes());
        assert_eq!(script.refusal(), Some(HandshakeRefusal::CertificateVerifyEncoding), "{signature:02x?}");
    }
}

/// Half of all signatures are suitable for these changes.
const SIGNATURES_MAX: usize = 100;

/// What drivers write instead of DER: r or s with one zero too many in front, or r or s as raw octets, which are a negative INTEGER if their
/// top bit is set.
const NOT_DER: [Spoil; 4] = [
    |signature| values(signature).map(|[r, s]| ecdsa_sig_value(&[&[0], r].concat(), s)),
    |signature| values(signature).map(|[r, s]| ecdsa_sig_value(r, &[&[0], s].concat())),
    |signature| values(signature).and_then(|[r, s]| Some(ecdsa_sig_value(r.strip_prefix(&[0])?, s))),
    |signature| values(signature).and_then(|[r, s]| Some(ecdsa_sig_value(r, s.strip_prefix(&[0])?))),
];

/// The contents of the two INTEGERs.
fn values(signature: &[u8]) -> Option<[&[u8]; 2]> {
    let (&length, rest) =
        signature.strip_prefix(&[0x30, u8::try_from(signature.len() - 2).unwrap(), 2])?.split_first()?;
    let (r, rest) = rest.split_at(length.into());
    Some([r, rest.get(2..)?])
}

fn ecdsa_sig_value(r: &[u8], s: &[u8]) -> Vec<u8> {
    let element = |tag, contents: &[u8]| [&[tag, u8::try_from(contents.len()).unwrap()], contents].concat();
    element(0x30, &[element(2, r), element(2, s)].concat())
}

/// Two ends in the middle of a handshake, with a ServerKeyExchange in transit whose signature is corrupted.
fn with_spoilt_key_exchange(world: &World, spoil: Spoil) -> Option<Pair> {
    let mut pair = Pair::new(world);
    loop {
        if let Some(datagram) = pair.to_client.iter_mut().find(|datagram| signature_in(datagram).is_some()) {
            spoil_key_exchange(datagram, spoil)?;
            return Some(pair);
        }
        assert!(pair.step());
    }
}

/// Corrupts the signature of the ServerKeyExchange in a datagram, if it has one and that one is suitable.
fn spoil_key_exchange(datagram: &mut Vec<u8>, spoil: Spoil) -> Option<()> {
    let place = signature_in(datagram)?;
    let signature = spoil(&datagram[place.clone()])?;
    replace_signature(datagram, place, &signature);
    Some(())
}

/// Offset of the signature in a ServerKeyExchange: it is a SEQUENCE after its scheme, ecdsa_secp256r1_sha256, and its length.
fn signature_in(datagram: &[u8]) -> Option<Range<usize>> {
    let place = datagram.windows(5).position(|five| matches!(five, [4, 3, 0, 60..=72, 0x30]))?;
    let start = place + 4;
    Some(start..start + usize::from(datagram[place + 3]))
}

/// Replaces the signature, the last field of its message and its record, and corrects every length around it.
fn replace_signature(datagram: &mut Vec<u8>, place: Range<usize>, signature: &[u8]) {
    const SERVER_KEY_EXCHANGE: u8 = 12;
    let (record_header, message_header) = (13, 12);
    let mut record = 0;
    let length = |datagram: &[u8], at: usize| usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
    while record + record_header + length(datagram, record + 11) < place.end {
        record += record_header + length(datagram, record + 11);
    }
    let message = record + record_header;
    assert_eq!(datagram[message], SERVER_KEY_EXCHANGE, "a separate record");
    assert_eq!(length(datagram, record + 11), place.end - message, "the signature is at its end");
    // The lower two octets of each length: those of the record, of the message, of its fragment, of the signature.
    for at in [record + 11, message + 2, message + message_header - 2, place.start - 2] {
        let corrected = u16::try_from(length(datagram, at) + signature.len() - place.len()).unwrap();
        datagram[at..at + 2].copy_from_slice(&corrected.to_be_bytes());
    }
    datagram.splice(place, signature.iter().copied());
}
