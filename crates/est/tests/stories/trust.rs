//! Which peers are trusted: the server's verification of devices, and the device's of the server (RFC 7030 §3.6).

use std::sync::Arc;

use authority::{CaProfile, CaProfileSpec, Profile};
use dtls::{AlertDescription, CertificateFault, HandshakeRefusal, PublicKeySteps, Suite};
use est::{CertificateCache, ClientConfig, ClientEvent, Failure, Operation, Reason, ServerVerifier};
use pki::{Certificate, ServerName};

use crate::support;
use crate::support::{Holder, Key, Pki, World, authority as new_authority, csr, device_of, utc};

fn certificate_fault(failure: &Failure) -> Option<CertificateFault> {
    match failure {
        Failure::Untrusted { fault, .. } => Some(*fault),
        _ => None,
    }
}

/// Dials `name` at a server changed by `change`, with the anchor that `trust` selects; returns the failure.
fn dial(
    change: impl FnOnce(&Pki, &mut est::ServerSpec),
    name: &'static str,
    trust: impl Fn(&Pki) -> Arc<Certificate>,
) -> Failure {
    let mut world = World::with(change);
    let holder = world.pki.device(1);
    let mut dtls = world.dtls_config(&holder);
    let anchors = vec![trust(&world.pki)];
    dtls.verifier = Arc::new(ServerVerifier::new(anchors, ServerName::try_from(name).unwrap()).unwrap());
    let mut device = world.dial(1, dtls, ClientConfig::default());
    world.run(&mut device);
    let failure = device.failure();
    assert!(failure.is_untrusted_server());
    assert!(device.client.is_over());
    assert_eq!(world.submitted, 0);
    failure
}

#[test]
fn e46_e51_a_profile_whose_manufacturer_stands_below_anothers_is_a_fault_and_takes_no_devices() {
    let pki = Pki::new();
    let root = new_authority("Maker Root", None);
    let line = new_authority("Maker Line", Some(&root));
    let unrelated = new_authority("Other Root", None);
    let profile = |name: &str, manufacturers: &[&Holder]| {
        let mut spec = pki.profile_spec(name);
        spec.profile.manufacturers = manufacturers.iter().map(|it| Arc::clone(&it.certificate)).collect();
        spec.profile.labels = vec![name.to_owned()];
        Arc::new(CaProfile::compile(spec).unwrap())
    };
    let fault = |profiles: Vec<Arc<Profile>>| {
        let cookie = dtls::CookieKeys::from_random(&support::TestRandom);
        est::ServerConfig::new(est::ServerSpec::new(pki.server.identity(), cookie, profiles)).err()
    };
    let meters = profile("meters", &[&root]);
    // In either order of the profiles: a device below the line would chain to the line, which `meters` does not list.
    let valves = || profile("valves", &[&unrelated, &line]);
    for profiles in [vec![Arc::clone(&meters), valves()], vec![valves(), Arc::clone(&meters)]] {
        let Some(est::ConfigFault::Nested(nested)) = fault(profiles) else { panic!("two profiles share devices") };
        assert_eq!((&*nested.profile, &*nested.other), ("meters", "valves"));
        let text = nested.to_string();
        assert!(text.contains("CN=Maker Root") && text.contains("CN=Maker Line"), "{text}");
    }
    // Each of these leaves every device in its profile.
    assert_eq!(fault(vec![Arc::clone(&meters), profile("valves", &[&root])]), None);
    assert_eq!(fault(vec![profile("meters", &[&root, &line]), profile("valves", &[&line])]), None);
    assert_eq!(fault(vec![meters, profile("valves", &[&unrelated])]), None);
}

#[test]
fn an_enrolled_device_cannot_play_the_server() {
    let mut world = World::new();
    let idevid = world.pki.device(1);
    let mut device = world.connect(1, &idevid, ClientConfig::default());
    let key = Key::new();
    world.ask(&mut device, Operation::Enroll { csr: csr(idevid.certificate.subject(), &key) });
    let der = device.certificate();

    // The same network; the answering server is the device that was enrolled, with its whole chain.
    let chain = vec![der.clone(), world.pki.issuing.certificate.der().to_vec()];
    let rogue = Holder { chain, certificate: Certificate::parse(&der).unwrap().into(), key };
    let profiles: Vec<_> = world.server.config().profiles().cloned().collect();
    let mut spec =
        est::ServerSpec::new(rogue.identity(), dtls::CookieKeys::from_random(&support::TestRandom), profiles);
    spec.certificates = Arc::new(CertificateCache::new(16));
    let config = Arc::new(est::ServerConfig::new(spec).unwrap());
    world.server = est::Server::new(9, config, Arc::new(support::TestRandom));
    let dtls = world.dtls_config(&idevid);
    let mut device = world.dial(2, dtls, ClientConfig::default());
    world.run(&mut device);
    let failure = device.failure();
    assert_eq!(certificate_fault(&failure), Some(CertificateFault::DeviceAsServer));
    assert_eq!(failure.reason(), Some(Reason::CertificateDeviceAsServer));
    assert!(failure.is_untrusted_server());
    let last = world.attempts.last().unwrap();
    assert_eq!(last.reason(), Some(Reason::AlertUnsupportedCertificate), "the server learns that it was not trusted");
}

#[test]
fn a_device_of_the_same_factory_cannot_play_the_server() {
    let failure = dial(
        |pki, spec| spec.identity = pki.device(7).identity(),
        support::SERVER_NAME,
        |pki| Arc::clone(&pki.manufacturer.certificate),
    );
    // An IDevID does not state its purpose, but it is not valid for a server: it has no name in its SAN.
    assert_eq!(certificate_fault(&failure), Some(CertificateFault::NameMismatch));
}

#[test]
fn the_name_dialled_has_to_be_in_the_certificate() {
    let failure = dial(|_, _| {}, "other.example.net", |pki| Arc::clone(&pki.root.certificate));
    assert_eq!(certificate_fault(&failure), Some(CertificateFault::NameMismatch));
    assert!(failure.to_string().ends_with("its subjectAltName does not contain other.example.net"), "d101: {failure}");
    let failure = dial(|_, _| {}, "192.0.2.1", |pki| Arc::clone(&pki.root.certificate));
    assert_eq!(certificate_fault(&failure), Some(CertificateFault::NameMismatch));
}

/// A certificate below the same anchor whose common name is the name that was dialled (RFC 7925 §4.4.1).
#[test]
fn the_common_name_of_a_certificate_names_no_server() {
    let change = |pki: &Pki, spec: &mut est::ServerSpec| {
        let key = Key::new();
        let named = ::pki::make::DeviceCertificateSpec {
            common_name: support::SERVER_NAME,
            serial_number: "1",
            organization: None,
            serial: support::serial(),
            validity: support::life(10),
        };
        let (public, random) = (key.signing.public_key(), support::TestRandom::secure());
        let certificate = ::pki::make::idevid(&named, public, pki.root.parent(), &random).unwrap();
        let holder = Holder { chain: vec![certificate.der().to_vec()], certificate: Arc::new(certificate), key };
        spec.identity = holder.identity();
    };
    let failure = dial(change, support::SERVER_NAME, |pki| Arc::clone(&pki.root.certificate));
    assert_eq!(certificate_fault(&failure), Some(CertificateFault::NameMismatch));
}

#[test]
fn a_server_of_another_root_is_not_trusted() {
    let failure = dial(|_, _| {}, support::SERVER_NAME, |_| new_authority("Root", None).certificate);
    assert!(
        matches!(certificate_fault(&failure), Some(CertificateFault::UnknownIssuer | CertificateFault::BadSignature)),
        "{failure:?}"
    );
}

#[test]
fn a_device_of_an_unknown_factory_is_refused() {
    let mut world = World::new();
    let holder = device_of(&new_authority("Somebody", None), 1);
    let dtls = world.dtls_config(&holder);
    let mut device = world.dial(1, dtls, ClientConfig::default());
    world.run(&mut device);
    let failure = device.failure();
    assert_eq!(failure, Failure::Handshake(HandshakeRefusal::AlertReceived(AlertDescription::UNKNOWN_CA)));
    assert_eq!(failure.reason(), Some(Reason::AlertUnknownCa));
    let attempt = world.attempts.last().unwrap();
    assert_eq!(attempt.reason(), Some(Reason::CertificateUnknownIssuer));
    assert!(!attempt.offered.is_empty(), "the offer is recorded");
    assert_eq!(world.server.counters().handshakes_refused, 1);
}

#[test]
fn d89_of_two_manufacturers_of_one_name_the_handshake_finds_the_one_that_signed() {
    for steps in [PublicKeySteps::Inline, PublicKeySteps::Suspended] {
        let pki = Pki::new();
        let namesake = new_authority("Manufacturer", None);
        let both = [&pki.manufacturer, &namesake].map(|holder| Arc::clone(&holder.certificate));
        assert_eq!(both[0].subject().der(), both[1].subject().der());
        let spec = CaProfileSpec::new("meters", pki.ca(), both.to_vec());
        let certificates = Arc::new(CertificateCache::new(64));
        let mut world = World::of(pki, vec![Arc::new(CaProfile::compile(spec).unwrap())], |_, spec| {
            spec.public_key_steps = steps;
            spec.certificates = Arc::clone(&certificates);
        });
        // The anchor that is tried first is the wrong one for one of these devices.
        let devices = [device_of(&world.pki.manufacturer, 1), device_of(&namesake, 2)];
        for (port, (holder, anchor)) in (1..).zip(devices.iter().zip(&both)) {
            world.connect(port, holder, ClientConfig::default());
            let found = certificates.find(&holder.certificate.digest()).unwrap();
            assert_eq!(found.anchor, anchor.anchor_id());
        }
        // Neither of them is accepted as the signer of a certificate that a third one signed.
        let stranger = device_of(&new_authority("Manufacturer", None), 3);
        let dtls = world.dtls_config(&stranger);
        let mut device = world.dial(3, dtls, ClientConfig::default());
        world.run(&mut device);
        assert!(matches!(device.failure(), Failure::Handshake(HandshakeRefusal::AlertReceived(_))));
        assert!(world.attempts.last().unwrap().outcome.is_err());
        assert!(certificates.find(&stranger.certificate.digest()).is_none());
    }
}

#[test]
fn d89_of_two_roots_of_one_name_a_client_finds_the_one_that_signed() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let namesake = new_authority("Root", None);
    let both = [&namesake, &world.pki.root].map(|holder| Arc::clone(&holder.certificate));
    assert_eq!(both[0].subject().der(), both[1].subject().der());
    let [wrong, right] = both;
    for (port, anchors) in (1..).zip([vec![Arc::clone(&wrong), Arc::clone(&right)], vec![right, wrong]]) {
        let mut dtls = world.dtls_config(&holder);
        let name = ServerName::try_from(support::SERVER_NAME).unwrap();
        dtls.verifier = Arc::new(ServerVerifier::new(anchors, name).unwrap());
        let mut device = world.dial(port, dtls, ClientConfig::default());
        world.run(&mut device);
        assert!(matches!(device.events.front(), Some(ClientEvent::Connected { .. })), "{:?}", device.events);
    }
}

#[test]
fn d50_a_device_without_a_certificate_is_refused() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let mut dtls = world.dtls_config(&holder);
    dtls.identity = None;
    let mut device = world.dial(1, dtls, ClientConfig::default());
    world.run(&mut device);
    assert!(matches!(
        device.failure(),
        Failure::Handshake(HandshakeRefusal::AlertReceived(AlertDescription::HANDSHAKE_FAILURE))
    ));
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::CertificateMissing));
}

#[test]
fn e11_a_device_outside_its_validity_is_refused() {
    for (now, reason) in [
        (support::EPOCH + 4_000 * support::DAY, Reason::CertificateExpired),
        (support::EPOCH - 2 * support::DAY, Reason::CertificateNotYetValid),
    ] {
        // The server's own certificate must be valid then: the test is about the device's.
        let mut world = World::new();
        let holder = world.pki.device(1);
        world.now.utc = utc(now);
        let mut dtls = world.dtls_config(&holder);
        dtls.verifier = Arc::new(lenient(&world));
        let mut device = world.dial(1, dtls, ClientConfig::default());
        // The client reads another clock than the server, like a device without a clock.
        device.client.handle_timeout(est::Now { utc: utc(support::EPOCH), ..world.now });
        run_with_two_clocks(&mut world, &mut device);
        assert_eq!(world.attempts.last().unwrap().reason(), Some(reason));
    }
}

fn lenient(world: &World) -> ServerVerifier {
    let name = ServerName::try_from(support::SERVER_NAME).unwrap();
    ServerVerifier::new(vec![Arc::clone(&world.pki.root.certificate)], name).unwrap()
}

fn run_with_two_clocks(world: &mut World, device: &mut support::Device) {
    let client = est::Now { utc: utc(support::EPOCH), ..world.now };
    loop {
        let mut moved = false;
        while let Some(mut datagram) = device.client.poll_transmit().map(<[u8]>::to_vec) {
            moved = true;
            world.server.handle_datagram(world.now, device.path, &mut datagram);
            world.serve();
        }
        for mut datagram in world.server_says(device.path) {
            moved = true;
            device.client.handle_datagram(client, &mut datagram);
        }
        if !moved {
            return;
        }
    }
}

#[test]
fn a_label_decides_which_devices_are_served() {
    let pki = Pki::new();
    let pumps = new_authority("Pump factory", None);
    let mut meters = pki.profile_spec("meters");
    meters.profile.labels = vec![String::new(), "meters".into()];
    let mut others = pki.profile_spec("pumps");
    others.profile.labels = vec!["pumps".into()];
    others.profile.manufacturers = vec![Arc::clone(&pumps.certificate)];
    let profiles = [meters, others].map(|spec| Arc::new(CaProfile::compile(spec).unwrap())).to_vec();
    let mut world = World::of(pki, profiles, |_, _| {});
    let (meter, pump) = (world.pki.device(1), device_of(&pumps, 2));
    let path = |label: &str| ClientConfig { path: vec!["est".into(), label.into()], ..ClientConfig::default() };
    let cases = [
        (&meter, ClientConfig::default(), None),
        (&meter, path("meters"), None),
        (&meter, path("pumps"), Some(Reason::ClientNotOfProfile)),
        (&pump, path("pumps"), None),
        (&pump, ClientConfig::default(), Some(Reason::ClientNotOfProfile)),
        (&pump, path("valves"), Some(Reason::EstUnknownLabel)),
    ];
    for (port, (holder, config, refused)) in (1..).zip(cases) {
        let mut device = world.connect(port, holder, config);
        let request = csr(holder.certificate.subject(), &Key::new());
        world.ask(&mut device, Operation::Enroll { csr: request });
        match refused {
            None => drop(device.certificate()),
            Some(reason) => assert_eq!(device.failure().reason(), Some(reason)),
        }
    }
}

#[test]
fn both_suites_are_spoken() {
    for suite in [Suite::EcdheEcdsaAes128Ccm8, Suite::EcdheEcdsaAes128GcmSha256] {
        let mut world = World::new();
        let holder = world.pki.device(1);
        let mut dtls = world.dtls_config(&holder);
        dtls.suites = vec![suite];
        let mut device = world.dial(1, dtls, ClientConfig::default());
        world.run(&mut device);
        let ClientEvent::Connected { facts, server, .. } = device.event() else { panic!("not connected") };
        assert_eq!(facts.suite, suite);
        assert_eq!(server.der(), world.pki.server.certificate.der());
        let attempt = world.attempts.last().unwrap();
        assert_eq!(attempt.offered, suite.name());
        assert_eq!(attempt.device.as_ref().unwrap().to_string(), "000001");
    }
}

#[test]
fn who_gets_no_answer_is_told_so() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let dtls = world.dtls_config(&holder);
    let mut device = world.dial(1, dtls, ClientConfig::default());
    while let Some(at) = device.client.poll_timeout() {
        while device.client.poll_transmit().is_some() {}
        world.advance_to(at.max(world.now.mono));
        device.client.handle_timeout(world.now);
        if device.client.is_over() {
            break;
        }
    }
    while let Some(event) = device.client.poll_event() {
        device.events.push_back(event);
    }
    let failure = device.failure();
    assert!(failure.is_no_answer(), "{failure:?}");
    assert_eq!(failure.reason(), Some(Reason::NoAnswer));
}
