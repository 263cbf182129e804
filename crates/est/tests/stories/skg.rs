//! Keys that the server makes: the answer, what it is refused for, and what becomes of a certificate whose key has not
//! reached its device.

use std::sync::Arc;
use std::time::Duration;

use authority::{Actor, CaProfile, Locator};
use coap::{Block, BlockSize, Code, ContentFormat, EXCHANGE_LIFETIME, Kind};
use est::{DeliveredKey, KeyDelivery, Packing, Reason};
use pki::der::{Reader, Tag, Writer};
use pki::make::{self, CsrAdditions, CsrSpec};
use pki::{Certificate, GeneralNames, KeyProtection, PrivateKey, SigningKey};

use crate::support::raw::{Ask, POST, Raw, Said};
use crate::support::{Holder, Key, Pace, Pki, TestRandom, World, csr};

fn ask<'a>(path: &'a str, payload: &'a [u8]) -> Ask<'a> {
    Ask { method: POST, path, payload, content_format: Some(286), ..Ask::default() }
}

/// A server that makes keys, a device, and its request.
fn connected() -> (World, Holder, Raw, Vec<u8>) {
    let pki = Pki::new();
    let mut spec = pki.profile_spec("meters");
    spec.server_keys = true;
    let profile = Arc::new(CaProfile::compile(spec).unwrap());
    let mut world = World::of(pki, vec![profile], |_, _| {});
    let holder = world.pki.device(1);
    let raw = Raw::connect(&mut world, 1, &holder);
    let request = csr(holder.certificate.subject(), &Key::new());
    (world, holder, raw, request)
}

/// Checks that key and certificate belong together; returns the certificate.
fn delivered(body: &[u8], packing: Packing) -> Certificate {
    let delivery = KeyDelivery::decode(body).unwrap();
    assert_eq!(delivery.packing, packing);
    let DeliveredKey::Pkcs8(key) = delivery.key else { panic!("not encrypted") };
    let key = SigningKey::from_pkcs8(PrivateKey::read(key).unwrap().pkcs8(), &TestRandom::secure()).unwrap();
    let certificate = match packing {
        Packing::Single => delivery.certificate,
        Packing::CertsOnly => pki::cms::parse_certs_only(delivery.certificate).unwrap()[0],
    };
    let certificate = Certificate::parse(certificate).unwrap();
    assert_eq!(certificate.spki(), key.spki());
    certificate
}

/// RFC 7030 §4.4.2: "If the content-type is not set, the response data MUST be a plaintext human-readable error message." The table of reasons says the
/// code, so that it is an error is asked apart from that.
fn assert_refused(said: &Said, reason: Reason) {
    assert!(said.code.is_error(), "{reason}: {:?}", said.code);
    assert_eq!(said.content_format, None, "{reason}");
    assert_eq!((Some(said.code), said.diagnostic()), (reason.response_code(), reason.code()));
}

/// Who revoked the certificate; `None` if nobody has.
fn revoked_by(world: &World, certificate: &Certificate) -> Option<Actor> {
    let row = world.row(Locator::of(certificate).unwrap()).unwrap();
    row.revocation.map(|revocation| revocation.actor)
}

#[test]
fn e39_key_and_certificate_come_in_one_answer_and_the_key_is_in_no_row() {
    let (mut world, holder, mut raw, request) = connected();
    for (path, packing) in [("est/skg", Packing::CertsOnly), ("est/skc", Packing::Single)] {
        for accept in [None, Some(62)] {
            let said = raw.ask(&mut world, &Ask { accept, ..ask(path, &request) });
            assert_eq!((said.code, said.content_format), (Code::CHANGED, Some(ContentFormat::MULTIPART_CORE)));
            let certificate = delivered(&said.payload, packing);
            assert!(certificate.subject().matches(holder.certificate.subject()));
            let row = format!("{:?}", world.row(Locator::of(&certificate).unwrap()).unwrap());
            assert!(!row.contains("PrivateKey"), "{row}");
            assert_eq!(revoked_by(&world, &certificate), None, "it was sent whole");
        }
        assert_refused(
            &raw.ask(&mut world, &Ask { accept: Some(281), ..ask(path, &request) }),
            Reason::CoapNotAcceptable,
        );
        let said = raw.ask(&mut world, &Ask { content_format: Some(62), ..ask(path, &request) });
        assert_refused(&said, Reason::CoapContentFormat);
    }
    assert_eq!(world.ledger.issued_count(), 4, "each request gets a new pair");
    world.advance(EXCHANGE_LIFETIME);
    world.server.handle_timeout(world.now);
    world.serve();
    for issued in world.ledger.issued() {
        assert_eq!(revoked_by(&world, &Certificate::parse(&issued.certificate).unwrap()), None);
    }
}

#[test]
fn e39_a_duplicate_gets_the_same_key_and_issues_nothing() {
    let (mut world, _, mut raw, request) = connected();
    let message = raw.message(&ask("est/skg", &request));
    let first = raw.send(&mut world, &message);
    assert_eq!(raw.send(&mut world, &message), first);
    world.advance(EXCHANGE_LIFETIME - Duration::from_secs(1));
    world.server.handle_timeout(world.now);
    assert_eq!(raw.send(&mut world, &message), first);
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn e39_a_certificate_whose_key_was_not_fetched_to_the_end_is_revoked() {
    let (mut world, _, mut raw, request) = connected();
    let block2 = |num| Some(Block { num, more: false, size: BlockSize::B64 });
    let first = raw.ask(&mut world, &Ask { block2: block2(0), ..ask("est/skg", &request) });
    assert!(first.block2.unwrap().more);
    assert_eq!(world.ledger.undelivered().len(), 1, "it is on its way");
    let certificate = Certificate::parse(&world.ledger.issued()[0].certificate).unwrap();
    world.advance(EXCHANGE_LIFETIME - Duration::from_secs(1));
    world.server.handle_timeout(world.now);
    world.serve();
    assert_eq!(revoked_by(&world, &certificate), None, "it may still be fetched");
    world.advance(Duration::from_secs(2));
    world.server.handle_timeout(world.now);
    world.serve();
    assert_eq!(revoked_by(&world, &certificate), Some(Actor::undelivered()));

    // The next one is fetched to its end.
    let mut body = Vec::new();
    for num in 0.. {
        let payload: &[u8] = if num == 0 { &request } else { &[] };
        let content_format = (num == 0).then_some(286);
        let said = raw.ask(&mut world, &Ask { block2: block2(num), content_format, ..ask("est/skg", payload) });
        body.extend_from_slice(&said.payload);
        if !said.block2.unwrap().more {
            break;
        }
    }
    let certificate = delivered(&body, Packing::CertsOnly);
    world.serve();
    assert_eq!(world.ledger.undelivered(), [], "the ledger hears of it at once");
    world.advance(EXCHANGE_LIFETIME * 2);
    world.server.handle_timeout(world.now);
    world.serve();
    assert_eq!(revoked_by(&world, &certificate), None);
}

#[test]
fn e39_a_certificate_whose_session_ended_before_the_key_was_sent_is_revoked() {
    for answered in [false, true] {
        let (mut world, _, mut raw, request) = connected();
        world.pace = Pace::Held;
        let block2 = Some(Block { num: 0, more: false, size: BlockSize::B64 });
        let message = raw.message(&Ask { block2, ..ask("est/skc", &request) });
        assert!(raw.send(&mut world, &message).is_empty());
        if answered {
            world.release();
            assert_eq!(raw.carry(&mut world).len(), 1);
        }
        raw.dtls.close(world.now);
        raw.carry(&mut world);
        world.release();
        world.serve();
        let certificate = Certificate::parse(&world.ledger.issued()[0].certificate).unwrap();
        assert_eq!(revoked_by(&world, &certificate), Some(Actor::undelivered()), "answered: {answered}");
    }
}

#[test]
fn e39_a_separate_response_is_delivered_once_it_is_acknowledged() {
    for acknowledged in [true, false] {
        let (mut world, _, mut raw, request) = connected();
        world.pace = Pace::Held;
        let message = raw.message(&ask("est/skc", &request));
        assert!(raw.send(&mut world, &message).is_empty());
        world.advance(Duration::from_secs(1));
        world.server.handle_timeout(world.now);
        assert_eq!(raw.carry(&mut world)[0].len(), 4, "an empty acknowledgement");
        world.release();
        let said = Said::of(&raw.carry(&mut world)[0]);
        assert_eq!(said.kind, Kind::Confirmable);
        let certificate = delivered(&said.payload, Packing::Single);
        if acknowledged {
            let [high, low] = said.id.to_be_bytes();
            assert!(raw.send(&mut world, &[0x60, 0, high, low]).is_empty());
        }
        for _ in 0..400 {
            world.advance(Duration::from_secs(1));
            world.server.handle_timeout(world.now);
            raw.carry(&mut world);
            world.serve();
        }
        let expected = (!acknowledged).then(Actor::undelivered);
        assert_eq!(revoked_by(&world, &certificate), expected, "acknowledged: {acknowledged}");
    }
}

#[test]
fn encryption_that_is_asked_for_and_cannot_be_given_is_refused_by_name() {
    let (mut world, holder, mut raw, _) = connected();
    let (wanted, id) = (KeyProtection::default(), Some(&b"key 1"[..]));
    for protection in [
        KeyProtection { decrypt_key_id: id, ..wanted.clone() },
        KeyProtection { asymm_decrypt_key_id: id, ..wanted.clone() },
    ] {
        let spec =
            CsrSpec { subject: holder.certificate.subject(), san: &GeneralNames::empty(), challenge_password: None };
        let additions = CsrAdditions { key_protection: Some(&protection), ..CsrAdditions::default() };
        let request = make::csr_with(&spec, &additions, &Key::new().signing, &TestRandom::secure()).unwrap();
        assert_refused(&raw.ask(&mut world, &ask("est/skg", &request)), Reason::SkgUnknownKey);
    }
    assert_eq!(world.ledger.issued_count(), 0);
}

/// RFC 7030 §4.4.1: "the server MUST ignore the public key values and signature in the CSR".
#[test]
fn key_and_signature_of_the_request_are_ignored_and_nothing_else_is() {
    let (mut world, _, mut raw, request) = connected();
    let mut forged = request.clone();
    *forged.last_mut().unwrap() ^= 1;
    let said = raw.ask(&mut world, &ask("est/skc", &forged));
    delivered(&said.payload, Packing::Single);
    assert_refused(&raw.ask(&mut world, &ask("est/sen", &forged)), Reason::CsrSignature);
    let other = csr(world.pki.device(2).certificate.subject(), &Key::new());
    assert_refused(&raw.ask(&mut world, &ask("est/skc", &other)), Reason::SkgSubjectMismatch);
    forged.push(0);
    assert_refused(&raw.ask(&mut world, &ask("est/skc", &forged)), Reason::CsrMalformed);
}

/// The key half of the same sentence: nobody reads the key, so that it may be of an algorithm that the server does not certify, or of none.
#[test]
fn a_request_for_a_key_may_have_a_key_of_any_kind_or_junk_in_its_place() {
    // 1.2.840.113549.1.1.1 is rsaEncryption (RFC 3279 §2.3.1); 1.2.840.10045.2.127 is not assigned.
    let rsa = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01][..];
    let unknown = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x7f][..];
    let mut modulus_and_exponent = Writer::default();
    modulus_and_exponent.sequence(|key| {
        key.unsigned(&[0xc5; 256]);
        key.unsigned(&[1, 0, 1]);
    });
    let (mut world, holder, mut raw, request) = connected();
    for (kind, bits) in [(rsa, modulus_and_exponent.into_vec()), (unknown, vec![0xa5; 33]), (unknown, Vec::new())] {
        let foreign = with_key(&request, kind, &bits);
        for (path, packing) in [("est/skg", Packing::CertsOnly), ("est/skc", Packing::Single)] {
            let said = raw.ask(&mut world, &ask(path, &foreign));
            assert_eq!(said.code, Code::CHANGED, "{path} {kind:02x?}: {:?}", String::from_utf8_lossy(&said.payload));
            let certificate = delivered(&said.payload, packing);
            assert!(certificate.subject().matches(holder.certificate.subject()));
        }
        assert_refused(&raw.ask(&mut world, &ask("est/sen", &foreign)), Reason::CsrAlgorithm);
    }
}

/// The request with another SubjectPublicKeyInfo; all else is as it was.
fn with_key(request: &[u8], kind: &[u8], bits: &[u8]) -> Vec<u8> {
    let mut whole = Reader::sequence(request).unwrap();
    let mut info = whole.nested(Tag::SEQUENCE).unwrap();
    let (version, subject) = (info.element().unwrap().whole, info.element().unwrap().whole);
    info.expect(Tag::SEQUENCE).unwrap();
    let mut out = Writer::default();
    out.sequence(|out| {
        out.sequence(|out| {
            out.raw(version);
            out.raw(subject);
            out.sequence(|key| {
                key.sequence(|algorithm| algorithm.element(Tag::OID, kind));
                key.bit_string(bits);
            });
            out.raw(info.rest());
        });
        out.raw(whole.rest());
    });
    out.into_vec()
}

#[test]
fn a_profile_that_makes_no_keys_does_not_serve_them() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut raw = Raw::connect(&mut world, 1, &holder);
    let request = csr(holder.certificate.subject(), &Key::new());
    for path in ["est/skg", "est/skc"] {
        assert_refused(&raw.ask(&mut world, &ask(path, &request)), Reason::EstFunctionNotServed);
    }
    let list = |world: &World| String::from_utf8(world.server.config().directory().whole().to_vec()).unwrap();
    assert!(!list(&world).contains("sk"));
    let (world, ..) = connected();
    let served = list(&world);
    assert!(served.contains(r#"</est/skg>;rt="ace.est.skg";ct=62,</est/skc>;rt="ace.est.skc";ct=62"#), "{served}");
}

#[test]
fn with_a_certificate_of_this_ca_it_is_a_renewal() {
    let (mut world, _, mut raw, request) = connected();
    let first = raw.ask(&mut world, &ask("est/skc", &request));
    let delivery = KeyDelivery::decode(&first.payload).unwrap();
    let DeliveredKey::Pkcs8(key) = delivery.key else { panic!("not encrypted") };
    let private = PrivateKey::read(key).unwrap();
    let signing = SigningKey::from_pkcs8(private.pkcs8(), &TestRandom::secure()).unwrap();
    let certificate = Arc::new(Certificate::parse(delivery.certificate).unwrap());
    let holder = Holder { chain: vec![delivery.certificate.to_vec()], certificate, key: Key { private, signing } };
    let mut raw = Raw::connect(&mut world, 2, &holder);
    let request = csr(holder.certificate.subject(), &Key::new());
    let said = raw.ask(&mut world, &ask("est/skg", &request));
    let renewed = delivered(&said.payload, Packing::CertsOnly);
    assert!(renewed.subject().matches(holder.certificate.subject()));
    assert_ne!(renewed.spki(), holder.certificate.spki());
}
