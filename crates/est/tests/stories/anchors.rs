//! A client's trust anchors before and after `/crts`: the Implicit and the Explicit database of RFC 7030 §3.1 and §3.6, and what RFC 9148 §9.1 asks
//! of the association in between.

use std::sync::Arc;

use authority::{CaProfile, RolloverRule};
use dtls::CertificateFault;
use est::AnchorDatabase::{self, Explicit, Implicit};
use est::{Answer, ClientConfig, ClientEvent, DtlsConfig, Failure, Operation, Persistence, ServerVerifier};
use pki::chain::AnchorSet;
use pki::{Certificate, ServerName};

use crate::support::{
    Device, Holder, Key, Pki, SERVER_NAME, TestRandom, World, authority, cross, csr, life, serial, server_of,
};

/// A world whose server has another CA above its certificate than the one whose certificates `/crts` lists.
fn estranged() -> (World, Holder) {
    let outside = authority("Outside", None);
    let world = World::with(|_, spec| spec.identity = server_of(&outside, &[SERVER_NAME], life(365)).identity());
    (world, outside)
}

/// A verifier with the Implicit database.
fn implicit(anchor: &Holder, name: &str) -> ServerVerifier {
    ServerVerifier::new(vec![Arc::clone(&anchor.certificate)], ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

fn explicit(certificates: &[&Arc<Certificate>], name: &str) -> ServerVerifier {
    let certificates: Vec<_> = certificates.iter().copied().cloned().collect();
    ServerVerifier::explicit(AnchorSet::sort(&certificates), ServerName::try_from(name.to_owned()).unwrap()).unwrap()
}

fn config_of(holder: &Holder, verifier: ServerVerifier) -> DtlsConfig {
    dtls::ClientConfig::new(Some(holder.identity()), Arc::new(verifier))
}

fn persistent() -> ClientConfig {
    ClientConfig { persistence: Some(Persistence::default()), ..ClientConfig::default() }
}

/// Connects, and asks for the CA certificates.
fn with_ca_certificates(world: &mut World, device: &mut Device) {
    world.run(device);
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    world.ask(device, Operation::CaCertificates);
    assert!(matches!(device.event(), ClientEvent::Done(Answer::CaCertificates(_))));
}

fn enrolment(holder: &Holder) -> Operation {
    Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) }
}

#[test]
fn a_server_that_the_new_anchors_do_not_authenticate_gets_no_further_request() {
    let (mut world, outside) = estranged();
    let holder = world.pki.device(1);
    let dtls = config_of(&holder, implicit(&outside, SERVER_NAME));
    let mut device = world.dial(1, dtls, ClientConfig::default());
    with_ca_certificates(&mut world, &mut device);

    world.ask(&mut device, enrolment(&holder));
    let failure = device.failure();
    assert!(
        matches!(failure, Failure::Disowned { fault: CertificateFault::UnknownIssuer, .. }),
        "the certificate of Outside is not among those of /crts: {failure:?}"
    );
    assert!(failure.is_untrusted_server());
    assert!(
        failure.to_string().starts_with("the CA certificates that the server sent do not authenticate"),
        "{failure}"
    );
    assert!(device.client.is_over());
    assert_eq!(world.submitted, 0, "the connection is closed, and nothing was asked");
}

#[test]
fn a_server_that_the_new_anchors_authenticate_is_asked_on_in_the_same_session() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let dtls = config_of(&holder, implicit(&world.pki.root, SERVER_NAME));
    let mut device = world.dial(1, dtls, ClientConfig::default());
    with_ca_certificates(&mut world, &mut device);
    world.ask(&mut device, enrolment(&holder));
    device.certificate();
    assert_eq!(world.ledger.issued_count(), 1);
    assert_eq!(world.server.counters().handshakes, 1);
}

/// The intermediate certificate came in the handshake alone.
#[test]
fn a_server_below_an_intermediate_is_judged_again_by_the_whole_chain_that_it_sent() {
    let mut world = World::with(|pki, spec| {
        let site = authority("Site", Some(&pki.root));
        let mut server = server_of(&site, &[SERVER_NAME], life(365));
        server.chain.push(site.certificate.der().to_vec());
        spec.identity = server.identity();
    });
    let holder = world.pki.device(1);
    let mut device = world.dial(1, config_of(&holder, implicit(&world.pki.root, SERVER_NAME)), ClientConfig::default());
    with_ca_certificates(&mut world, &mut device);
    world.ask(&mut device, enrolment(&holder));
    device.certificate();
    assert_eq!(world.server.counters().handshakes, 1, "in the same session");
}

/// The first datagram of a client: its ClientHello without a cookie.
fn first_hello(dtls: Arc<DtlsConfig>) -> Vec<u8> {
    let config = Arc::new(ClientConfig::default());
    let mut client = est::Client::new(config, dtls, Arc::new(TestRandom), crate::support::start());
    client.poll_transmit().unwrap().to_vec()
}

/// The entry of trusted_ca_keys (RFC 6066 §6) for an anchor: key_sha1_hash, "the hash of the "subjectPublicKey" value". It is computed here from
/// the end of the SubjectPublicKeyInfo, 65 bytes for P-256.
fn indication(anchor: &Certificate) -> Vec<u8> {
    let point = &anchor.spki()[anchor.spki().len() - 65..];
    let hash = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, point);
    [&[1][..], hash.as_ref()].concat()
}

fn names(hello: &[u8], anchor: &Certificate) -> bool {
    let entry = indication(anchor);
    hello.windows(entry.len()).any(|window| window == entry)
}

/// "the client MUST include the "Trusted CA Indication" extension in future TLS sessions" (RFC 7030 §4.1.3).
#[test]
fn a_client_of_the_explicit_database_names_its_anchors_in_its_hello_and_another_one_does_not() {
    let mut world = World::new();
    let holder = world.pki.device(1);
    let root = Arc::clone(&world.pki.root.certificate);
    let implicit_hello = first_hello(Arc::new(config_of(&holder, implicit(&world.pki.root, SERVER_NAME))));
    assert!(!names(&implicit_hello, &root));
    assert!(!implicit_hello.windows(4).any(|window| window == [0, 3, 0, 23]), "the extension is not there at all");
    let explicit_hello = first_hello(Arc::new(config_of(&holder, explicit(&[&root], SERVER_NAME))));
    assert!(names(&explicit_hello, &root));
    // One that answers a multicast is told too, whatever the database (RFC 7925 §4.4.6).
    let found = implicit(&world.pki.root, SERVER_NAME).naming_its_anchors();
    assert!(names(&first_hello(Arc::new(config_of(&holder, found))), &root));

    // After /crts: in the next association, and the server serves it.
    let dtls = config_of(&holder, implicit(&world.pki.root, SERVER_NAME));
    let mut device = world.dial(1, dtls, ClientConfig::default());
    with_ca_certificates(&mut world, &mut device);
    let next = Arc::clone(device.client.dtls_config());
    assert!(names(&first_hello(Arc::clone(&next)), &root));
    let mut again = world.dial(2, next.with_verifier(Arc::clone(&next.verifier)), ClientConfig::default());
    world.run(&mut again);
    assert!(matches!(again.event(), ClientEvent::Connected { .. }));
    world.ask(&mut again, enrolment(&holder));
    again.certificate();
}

#[test]
fn a_caller_can_judge_the_server_by_the_new_anchors_before_it_stores_them() {
    let (mut world, outside) = estranged();
    let holder = world.pki.device(1);
    let dtls = config_of(&holder, implicit(&outside, SERVER_NAME));
    let mut device = world.dial(1, dtls, ClientConfig::default());
    world.run(&mut device);
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    let now = crate::support::start();
    assert_eq!(device.client.judge_server(now), Ok(()), "by the anchors of the handshake");
    world.ask(&mut device, Operation::CaCertificates);
    assert!(matches!(device.event(), ClientEvent::Done(Answer::CaCertificates(_))));
    let judged = device.client.judge_server(now);
    assert!(matches!(judged, Err(Failure::Disowned { fault: CertificateFault::UnknownIssuer, .. })), "{judged:?}");
    // The engine judges by itself as before.
    world.ask(&mut device, enrolment(&holder));
    assert!(matches!(device.failure(), Failure::Disowned { .. }));
}

#[test]
fn a_server_whose_name_nobody_configured_has_to_be_a_registration_authority_of_the_own_ca() {
    let dial = |of: fn(&Pki) -> Holder, anchor: fn(&Pki) -> Arc<Certificate>| {
        let mut world = World::with(|pki, spec| spec.identity = of(pki).identity());
        let holder = world.pki.device(1);
        let verifier = ServerVerifier::registration_authority(AnchorSet::sort(&[anchor(&world.pki)])).unwrap();
        let mut device = world.dial(1, config_of(&holder, verifier), ClientConfig::default());
        world.run(&mut device);
        match device.event() {
            ClientEvent::Connected { .. } => None,
            ClientEvent::Failed(Failure::Untrusted { fault, .. }) => Some(fault),
            other => panic!("{other:?}"),
        }
    };
    let own: fn(&Pki) -> Arc<Certificate> = |pki| Arc::clone(&pki.root.certificate);
    let strange: fn(&Pki) -> Arc<Certificate> = |_| authority("Root", None).certificate;
    let ra: fn(&Pki) -> Holder = |pki| registration_authority(&pki.root);
    assert_eq!(dial(ra, own), None);
    assert!(dial(ra, strange).is_some());
    // A name that the server has chosen is worth nothing, even below the own root.
    assert_eq!(
        dial(|pki| server_of(&pki.root, &[SERVER_NAME], life(365)), own),
        Some(CertificateFault::ExtendedKeyUsage)
    );
    assert_eq!(dial(|pki| crate::support::device_of(&pki.root, 7), own), Some(CertificateFault::ExtendedKeyUsage));
}

/// A client whose association was closed after `/crts`, and which begins another one with the next request.
fn disowned_and_persistent() -> (World, Holder, Device) {
    let (mut world, outside) = estranged();
    let holder = world.pki.device(1);
    let mut device = world.dial(1, config_of(&holder, implicit(&outside, SERVER_NAME)), persistent());
    with_ca_certificates(&mut world, &mut device);
    world.ask(&mut device, enrolment(&holder));
    assert!(matches!(device.failure(), Failure::Disowned { .. }));
    assert!(!device.client.is_over(), "a client that persists may begin another association");
    (world, holder, device)
}

#[test]
fn a_server_of_the_anchors_before_crts_is_not_trusted_in_a_new_connection() {
    let (mut world, holder, mut device) = disowned_and_persistent();
    // The same server again, which the Implicit database would still accept.
    world.ask(&mut device, enrolment(&holder));
    world.sleep(&mut device, std::time::Duration::from_secs(60));
    let Some(ClientEvent::Failed(Failure::Untrusted { fault, .. })) = device.events.pop_back() else {
        panic!("no fall-back to the Implicit database: {:?}", device.events)
    };
    assert_eq!(fault, CertificateFault::UnknownIssuer);
    assert_eq!(world.submitted, 0);
}

#[test]
fn a_server_of_the_anchors_of_crts_is_trusted_in_a_new_connection() {
    let (mut world, holder, mut device) = disowned_and_persistent();
    let profiles: Vec<_> = world.server.config().profiles().cloned().collect();
    let cookie = dtls::CookieKeys::from_random(&TestRandom);
    let spec = est::ServerSpec::new(world.pki.server.identity(), cookie, profiles);
    world.server = est::Server::new(9, Arc::new(est::ServerConfig::new(spec).unwrap()), Arc::new(TestRandom));
    world.ask(&mut device, enrolment(&holder));
    world.sleep(&mut device, std::time::Duration::from_secs(5));
    assert!(matches!(device.event(), ClientEvent::Reconnected { .. }));
    device.certificate();
}

/// A server with id-kp-cmcRA and a name that nobody dials.
fn registration_authority(root: &Holder) -> Holder {
    let key = Key::new();
    let names = [ServerName::try_from("ra.example.net").unwrap()];
    let spec = ::pki::make::ServerCertificateSpec { names: &names, serial: serial(), validity: life(365) };
    let (public, random) = (key.signing.public_key(), TestRandom::secure());
    let certificate = Arc::new(::pki::make::ra_server(&spec, public, root.parent(), &random).unwrap());
    Holder { chain: vec![certificate.der().to_vec()], certificate, key }
}

#[test]
fn e73_cmc_ra_stands_for_the_name_under_explicit_anchors_and_under_no_others() {
    let dial = |of: fn(&Pki) -> Holder, database: AnchorDatabase| {
        let mut world = World::with(|pki, spec| spec.identity = of(pki).identity());
        let holder = world.pki.device(1);
        let verifier = match database {
            Implicit => implicit(&world.pki.root, SERVER_NAME),
            Explicit => explicit(&[&world.pki.root.certificate], SERVER_NAME),
        };
        assert_eq!(verifier.database(), database);
        let mut device = world.dial(1, config_of(&holder, verifier), ClientConfig::default());
        world.run(&mut device);
        match device.event() {
            ClientEvent::Connected { .. } => None,
            ClientEvent::Failed(Failure::Untrusted { fault, .. }) => Some(fault),
            other => panic!("{other:?}"),
        }
    };
    let ra: fn(&Pki) -> Holder = |pki| registration_authority(&pki.root);
    let named: fn(&Pki) -> Holder = |pki| server_of(&pki.root, &[SERVER_NAME], life(365));
    let other: fn(&Pki) -> Holder = |pki| server_of(&pki.root, &["ra.example.net"], life(365));
    let device: fn(&Pki) -> Holder = |pki| crate::support::device_of(&pki.root, 7);
    assert_eq!(dial(ra, Explicit), None);
    assert_eq!(dial(ra, Implicit), Some(CertificateFault::NameMismatch));
    assert_eq!([dial(named, Explicit), dial(named, Implicit)], [None; 2]);
    assert_eq!([dial(other, Explicit), dial(other, Implicit)], [Some(CertificateFault::NameMismatch); 2]);
    // No extKeyUsage at all is not id-kp-cmcRA.
    assert_eq!([dial(device, Explicit), dial(device, Implicit)], [Some(CertificateFault::NameMismatch); 2]);
}

#[test]
fn e73_a_session_with_a_registration_authority_goes_on_after_crts() {
    let mut world = World::with(|pki, spec| spec.identity = registration_authority(&pki.root).identity());
    let holder = world.pki.device(1);
    // At first it is found under its own name; only that of the device's configuration counts later.
    let dtls = config_of(&holder, implicit(&world.pki.root, "ra.example.net"));
    let mut device = world.dial(1, dtls, ClientConfig::default());
    with_ca_certificates(&mut world, &mut device);
    world.ask(&mut device, enrolment(&holder));
    device.certificate();
}

/// A world in the middle of a roll-over: `/crts` lists both roots and what each has signed for the other.
fn rolling_over(server_below: fn(&Holder, &Holder) -> Holder) -> (World, Holder, Vec<Arc<Certificate>>) {
    let pki = Pki::new();
    let next = authority("Root", None);
    assert_eq!(next.certificate.subject().der(), pki.root.certificate.subject().der(), "both have one name");
    let old_with_new = cross(&pki.root, "Root", &next);
    let new_with_old = cross(&next, "Root", &pki.root);
    let identity = server_below(&pki.root, &next);
    let ca = Arc::into_inner(pki.ca()).unwrap();
    let cross = vec![Arc::clone(&next.certificate), old_with_new, new_with_old];
    let ca = Arc::new(ca.with_rollover(cross).unwrap());
    let all = ca.published();
    let mut spec = pki.profile_spec("meters");
    spec.ca = ca;
    let profile = CaProfile::compile(spec).unwrap();
    let world = World::of(pki, vec![Arc::new(profile)], |_, spec| spec.identity = identity.identity());
    (world, next, all)
}

#[test]
fn e40_in_a_roll_over_a_client_authenticates_servers_of_the_old_and_of_the_new_root() {
    let below_old: fn(&Holder, &Holder) -> Holder = |old, _| server_of(old, &[SERVER_NAME], life(365));
    let below_new: fn(&Holder, &Holder) -> Holder = |_, new| server_of(new, &[SERVER_NAME], life(365));
    for server in [below_old, below_new] {
        for knows_new in [false, true] {
            let (mut world, next, all) = rolling_over(server);
            let holder = world.pki.device(1);
            let known = if knows_new { &next.certificate } else { &world.pki.root.certificate };
            // A client with one of the roots and the certificates for paths, which reach the other one.
            let set = AnchorSet { anchors: vec![Arc::clone(known)], helpers: AnchorSet::sort(&all).helpers };
            let name = ServerName::try_from(SERVER_NAME).unwrap();
            let verifier = ServerVerifier::explicit(set, name).unwrap();
            let mut device = world.dial(1, config_of(&holder, verifier), ClientConfig::default());
            with_ca_certificates(&mut world, &mut device);
            // And the same after the update, in the same session.
            world.ask(&mut device, enrolment(&holder));
            device.certificate();
        }
    }
}

#[test]
fn e40_only_roots_become_anchors_and_cross_certificates_help_paths() {
    let (world, next, all) = rolling_over(|old, _| server_of(old, &[SERVER_NAME], life(365)));
    let set = AnchorSet::sort(&all);
    let digests = |list: &[Arc<Certificate>]| list.iter().map(|it| it.digest()).collect::<Vec<_>>();
    assert_eq!(digests(&set.anchors), [world.pki.root.certificate.digest(), next.certificate.digest()]);
    assert_eq!(digests(&set.helpers), [&all[0], &all[3], &all[4]].map(|it| it.digest()));
    // An issuing CA whose root is not in the list is where paths end.
    let alone = AnchorSet::sort(&all[..1]);
    assert_eq!((alone.anchors.len(), alone.helpers.len()), (1, 0));
}

#[test]
fn an_issuer_is_known_by_its_signature_and_not_by_its_name_alone() {
    let pki = Pki::new();
    let namesake = authority("Root", None);
    assert_eq!(namesake.certificate.subject().der(), pki.issuing.certificate.issuer().der());
    // The root of the issuing CA is not in the list, and another CA has its name.
    let set = AnchorSet::sort(&[Arc::clone(&pki.issuing.certificate), Arc::clone(&namesake.certificate)]);
    assert_eq!((set.anchors.len(), set.helpers.len()), (2, 0));
    let set = AnchorSet::sort(&[Arc::clone(&pki.issuing.certificate), Arc::clone(&pki.root.certificate)]);
    assert_eq!((set.anchors.len(), set.helpers.len()), (1, 1));
}

#[test]
fn e40_a_roll_over_is_proved_when_it_is_configured() {
    let pki = Pki::new();
    let (next, stranger) = (authority("Next", None), authority("Stranger", None));
    let refused = |certificates: Vec<Arc<Certificate>>| {
        let ca = Arc::into_inner(pki.ca()).unwrap();
        ca.with_rollover(certificates).err().map(|fault| (fault.index, fault.rule))
    };
    let root = || Arc::clone(&next.certificate);
    assert_eq!(refused(vec![root()]), None);
    assert_eq!(refused(vec![cross(&next, "Next", &pki.root), root()]), None, "in any order");
    assert_eq!(refused(vec![root(), cross(&next, "Next", &stranger)]), Some((1, RolloverRule::NotSignedByARoot)));
    assert_eq!(refused(vec![cross(&stranger, "Stranger", &pki.root)]), Some((0, RolloverRule::NotOfARoot)));
    assert_eq!(refused(vec![root(), Arc::clone(&pki.server.certificate)]), Some((1, RolloverRule::NotACa)));
    assert_eq!(refused(vec![root(); 9]), Some((8, RolloverRule::TooMany)));
    // The name of a root alone does not make a certificate one of it.
    let namesake = authority("Root", None);
    let of_namesake = cross(&pki.root, "Root", &namesake);
    assert_eq!(refused(vec![of_namesake]), Some((0, RolloverRule::NotSignedByARoot)));
}
