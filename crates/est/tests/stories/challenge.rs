//! A challengePassword links a request to its session (RFC 7030 §3.5). Without extended master secret such a link is
//! not possible: "tls-unique" then does not identify one session (RFC 7627 §5.4). Zephyr and OpenThread are built
//! without it by default.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use dtls::ExtendedMasterSecret;
use est::{ClientConfig, ClientEvent, Failure, Operation, Reason};

use crate::support::{Device, Holder, Key, World, csr, csr_linked};

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
