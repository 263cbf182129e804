//! A challengePassword links a request to its session (RFC 7030 §3.5). Without extended master secret such a link is
//! not possible: "tls-unique" then does not identify one session (RFC 7627 §5.4). Zephyr and OpenThread are built
//! without it by default.

use std::sync::Arc;
use std::time::Duration;

use authority::{CaProfile, Registration};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dtls::ExtendedMasterSecret;
use est::{Answer, ClientConfig, ClientEvent, Failure, Operation, Reason};
use pki::csr_attributes::{CsrAttributes, LinkingAttribute};
use pki::linking::{LinkingText, SessionLink};
use pki::make::{self, CsrAdditions, CsrSpec};
use pki::{Csr, GeneralNames};

use crate::support::{Device, Fate, Holder, Key, Pki, TestRandom, World, csr, csr_linked};

/// A device that does not offer extended_master_secret.
fn dial_without(world: &mut World, holder: &Holder) -> Device {
    let mut dtls = world.dtls_config(holder);
    dtls.offers_extended_master_secret = false;
    let mut device = world.dial(1, dtls, ClientConfig::default());
    world.run(&mut device);
    device
}

#[test]
fn without_extended_master_secret_a_challenge_is_refused_whatever_it_says() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut device = dial_without(&mut world, &holder);
    let ClientEvent::Connected { facts, .. } = device.event() else { panic!("`prefer` accepts it") };
    assert!(!facts.extended_master_secret);
    // The tls-unique of this session, another one, and a plain password.
    let challenges = [BASE64.encode(facts.tls_unique), BASE64.encode([7; 12]), "secret".into()];
    for challenge in &challenges {
        let request = csr_linked(holder.certificate.subject(), challenge, &Key::new());
        world.ask(&mut device, Operation::Enroll { csr: request });
        let Failure::Refused(refused) = device.failure() else { panic!("not refused") };
        assert_eq!(refused.reason(), Some(Reason::ChallengeUnbound), "{challenge}");
        assert_eq!(Some(refused.code), Reason::ChallengeUnbound.response_code());
        let attempt = world.attempts.last().unwrap();
        assert_eq!(attempt.reason(), Some(Reason::ChallengeUnbound));
        assert_eq!(attempt.device.as_ref().unwrap().to_string(), "000001");
    }
    assert_eq!(world.ledger.issued_count(), 0);

    // A link is not required: the same session gets its certificate for a request without a challenge.
    let request = csr(holder.certificate.subject(), &Key::new());
    world.ask(&mut device, Operation::Enroll { csr: request });
    assert_eq!(device.certificate(), world.ledger.issued()[0].certificate);
    assert_eq!(world.ledger.issued_count(), 1);
}

#[test]
fn where_extended_master_secret_is_required_a_device_without_it_is_refused_by_name() {
    let mut world = World::with(|_, spec| spec.extended_master_secret = ExtendedMasterSecret::Require);
    let holder = world.pki.device(1);
    let mut device = dial_without(&mut world, &holder);
    assert!(matches!(device.failure(), Failure::Handshake(_)));
    let attempt = world.attempts.last().unwrap();
    assert_eq!(attempt.reason(), Some(Reason::HelloNoExtendedMasterSecret));
    assert!(attempt.offered.contains(", no extended master secret"), "{attempt:?}");
    // A device that offers the extension is served as before.
    let mut device = world.connect(2, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    device.certificate();
}

/// A world whose profile requires the link.
fn requiring() -> World {
    let pki = Pki::new();
    let mut spec = pki.profile_spec("meters");
    spec.profile.require_linking = true;
    let profile = Arc::new(CaProfile::compile(spec).unwrap());
    World::of(pki, vec![profile], |_, _| {})
}

/// The text that links a request to the session of this device.
fn linking_text(device: &Device) -> LinkingText {
    LinkingText::of(&device.client.facts().unwrap().tls_unique)
}

/// A request of `key` that is linked to the session of `device`.
fn linked(device: &Device, holder: &Holder, key: &Key) -> Vec<u8> {
    csr_linked(holder.certificate.subject(), linking_text(device).as_str(), key)
}

#[test]
fn e04_where_linking_is_required_a_request_without_it_is_refused_and_att_says_so() {
    let mut world = requiring();
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::CsrAttributes);
    let ClientEvent::Done(Answer::CsrAttributes(der)) = device.event() else { panic!("no CSR attributes") };
    for asked in [CsrAttributes::parse(&der).unwrap(), CsrAttributes::parse_unstructured(&der).unwrap()] {
        assert_eq!(asked.linking, Some(LinkingAttribute::ChallengePassword));
    }
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    assert_eq!(device.failure().reason(), Some(Reason::ChallengeAbsent));
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::ChallengeAbsent));
    let earlier = linked(&device, &holder, &Key::new());
    let mut device = world.connect(2, &holder, ClientConfig::default());
    world.ask(&mut device, Operation::Enroll { csr: earlier });
    assert_eq!(device.failure().reason(), Some(Reason::ChallengeMismatch));
    assert_eq!(world.ledger.issued_count(), 0);
    let request = linked(&device, &holder, &Key::new());
    world.ask(&mut device, Operation::Enroll { csr: request });
    device.certificate();
}

#[test]
fn e04_the_attribute_of_rfc_7894_links_as_well() {
    let mut world = requiring();
    let holder = world.pki.device(1);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    let (key, text) = (Key::new(), linking_text(&device));
    let spec = CsrSpec {
        subject: holder.certificate.subject(),
        san: &GeneralNames::empty(),
        challenge_password: Some("to revoke it, say this"),
    };
    let made = |linking: &str| {
        let additions = CsrAdditions { identity_linking: Some(linking), ..CsrAdditions::default() };
        make::csr_with(&spec, &additions, &key.signing, &TestRandom::secure()).unwrap()
    };
    let other = LinkingText::of(&[7; 12]);
    world.ask(&mut device, Operation::Enroll { csr: made(other.as_str()) });
    assert_eq!(device.failure().reason(), Some(Reason::ChallengeMismatch));
    world.ask(&mut device, Operation::Enroll { csr: made(text.as_str()) });
    device.certificate();
}

#[test]
fn e05_where_linking_is_required_a_session_without_extended_master_secret_enrols_nobody() {
    let mut world = requiring();
    let holder = world.pki.device(1);
    let mut device = dial_without(&mut world, &holder);
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    for request in [csr(holder.certificate.subject(), &Key::new()), linked(&device, &holder, &Key::new())] {
        world.ask(&mut device, Operation::Enroll { csr: request });
        assert_eq!(device.failure().reason(), Some(Reason::ChallengeUnbound));
    }
    assert_eq!(world.ledger.issued_count(), 0);
}

/// RFC 6347 §4.2.6: the Finished message covers the messages as if each was sent in one fragment.
#[test]
fn e05_the_tls_unique_of_a_fragmented_handshake_is_right() {
    for lost in [None, Some(3), Some(7)] {
        let mut world = requiring();
        let holder = world.pki.device(1);
        let mut dtls = world.dtls_config(&holder);
        dtls.mtu = dtls::MTU_MIN;
        let mut device = world.dial(1, dtls, ClientConfig::default());
        let mut sent = 0;
        world.run_over(&mut device, |number| {
            sent = number + 1;
            if Some(number) == lost { Fate::Lost } else { Fate::Arrives }
        });
        if lost.is_some() {
            world.sleep(&mut device, Duration::from_secs(20));
        } else {
            assert!(sent > 8, "the flights are in several datagrams: {sent}");
        }
        assert!(matches!(device.event(), ClientEvent::Connected { .. }), "{lost:?}");
        let request = linked(&device, &holder, &Key::new());
        let verified = Csr::parse(request.clone()).and_then(Csr::verify).unwrap();
        assert_eq!(verified.link(&device.client.facts().unwrap().tls_unique), SessionLink::Matches);
        world.ask(&mut device, Operation::Enroll { csr: request });
        device.certificate();
    }
}

/// A linked request cannot be repeated in another session. The device, its key and its names are the same, so a fresh
/// one gets the same certificate (RFC 9148 §4.7: the client repeats its request after a 5.03).
#[test]
fn where_linking_is_required_a_fresh_request_of_the_same_key_gets_the_same_certificate() {
    let mut world = requiring();
    let holder = world.pki.device(1);
    let key = Key::new();
    world.desk.says("000001", Registration::Pending);
    let mut device = world.connect(1, &holder, ClientConfig::default());
    let request = linked(&device, &holder, &key);
    world.ask(&mut device, Operation::Enroll { csr: request });
    assert!(matches!(device.failure(), Failure::Later { .. }));
    world.desk.says("000001", Registration::Registered);
    let certificates = [2, 3].map(|port| {
        let mut device = world.connect(port, &holder, ClientConfig::default());
        let request = linked(&device, &holder, &key);
        world.ask(&mut device, Operation::Enroll { csr: request });
        device.certificate()
    });
    assert_eq!(certificates[0], certificates[1]);
    assert_eq!(world.ledger.issued_count(), 1);
    // Another key is another request.
    let mut device = world.connect(4, &holder, ClientConfig::default());
    let request = linked(&device, &holder, &Key::new());
    world.ask(&mut device, Operation::Enroll { csr: request });
    assert_ne!(device.certificate(), certificates[0]);
    assert_eq!(world.ledger.issued_count(), 2);
}
