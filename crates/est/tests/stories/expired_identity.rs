//! Devices whose manufacturer certificate expired in a warehouse, and devices whose certificate has no expiry date.
//!
//! `allow_expired_identity` of a profile excuses only the leaf, below the manufacturers of that profile, and each
//! handshake that it permits produces a notice.

use std::sync::Arc;

use authority::{CaProfile, CaProfileSpec, Profile, Registration};
use est::{ClientConfig, ClientEvent, Failure, Notice, Operation, Reason};
use pki::{NO_WELL_DEFINED_EXPIRATION, Validity};

use crate::support;
use crate::support::{
    DAY, Device, EPOCH, Holder, Key, Pki, World, authority, authority_living, csr, device_living, life, utc,
};

/// Expired yesterday.
fn past() -> Validity {
    Validity { not_before: utc(EPOCH - 30 * DAY), not_after: utc(EPOCH - DAY) }
}

/// A profile for these manufacturers under `label`.
fn profile(pki: &Pki, label: &str, manufacturers: &[&Holder], change: impl FnOnce(&mut CaProfileSpec)) -> Arc<Profile> {
    let mut spec = pki.profile_spec(if label.is_empty() { "meters" } else { label });
    spec.profile.labels = vec![label.into()];
    spec.profile.manufacturers = manufacturers.iter().map(|holder| Arc::clone(&holder.certificate)).collect();
    change(&mut spec);
    Arc::new(CaProfile::compile(spec).unwrap())
}

fn switched_on(spec: &mut CaProfileSpec) {
    spec.profile.allow_expired_identity = true;
}

/// One profile, changed by `change`.
fn world(change: impl FnOnce(&mut CaProfileSpec)) -> World {
    let pki = Pki::new();
    let profile = profile(&pki, "", &[&pki.manufacturer], change);
    World::of(pki, vec![profile], |_, _| {})
}

fn dial(world: &mut World, port: u16, holder: &Holder) -> Device {
    dial_at(world, port, holder, &[])
}

/// Dials with a label, if there is one.
fn dial_at(world: &mut World, port: u16, holder: &Holder, label: &[&str]) -> Device {
    let dtls = world.dtls_config(holder);
    let path = std::iter::once("est").chain(label.iter().copied()).map(str::to_owned).collect();
    let mut device = world.dial(port, dtls, ClientConfig { path, ..ClientConfig::default() });
    world.run(&mut device);
    device
}

fn enrol(world: &mut World, device: &mut Device, holder: &Holder) {
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    world.ask(device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
}

/// Expects a refusal in the handshake with this fault.
#[track_caller]
fn assert_kept_out(world: &World, device: &mut Device, reason: Reason) {
    assert!(matches!(device.failure(), Failure::Handshake(_)));
    let attempt = world.attempts.last().unwrap();
    assert_eq!((attempt.reason(), attempt.notices.len()), (Some(reason), 0));
    assert_eq!(world.ledger.issued_count(), 0);
}

/// RFC 9148 §9.1: "In such occasions, checking the certificate revocation status or authorizing the client using another method is important".
#[test]
fn an_expired_identity_that_the_lists_deny_gets_nothing() {
    let mut world = world(switched_on);
    let holder = device_living(past(), &world.pki.manufacturer, 1);
    world.desk.says("000001", Registration::Denied);
    let mut device = dial(&mut world, 1, &holder);
    enrol(&mut world, &mut device, &holder);
    let Failure::Refused(refused) = device.failure() else { panic!("not refused") };
    assert_eq!(refused.reason(), Some(Reason::DeviceDenied));
    assert_eq!(world.ledger.issued_count(), 0);
}

#[test]
fn e11_without_the_switch_an_expired_leaf_is_refused_and_explain_names_the_switch() {
    let mut world = world(|_| {});
    let holder = device_living(past(), &world.pki.manufacturer, 1);
    let mut device = dial(&mut world, 1, &holder);
    assert_kept_out(&world, &mut device, Reason::CertificateExpired);
    // The code in the log is valid input for `muster explain`.
    let code = world.attempts.last().unwrap().reason().unwrap().code();
    assert_eq!(code, "dtls.certificate.expired");
    let told = Reason::from_code(code).unwrap().explain();
    assert!(told.contains("allow_expired_identity"), "{told}");
}

#[test]
fn e11_under_the_switch_an_expired_leaf_enrols_and_each_of_its_handshakes_is_noticed() {
    let mut world = world(switched_on);
    let holder = device_living(past(), &world.pki.manufacturer, 1);
    for port in 1..=3 {
        let mut device = dial(&mut world, port, &holder);
        let handshake = world.attempts.last().unwrap();
        assert_eq!(handshake.notices, [Notice::ExpiredIdentity]);
        assert_eq!(handshake.notices[0].to_string(), "its manufacturer certificate has expired");
        assert_eq!(handshake.device.as_ref().unwrap().to_string(), "000001", "and the device");
        enrol(&mut world, &mut device, &holder);
        device.certificate();
    }
    assert_eq!(world.ledger.issued_count(), 3);
    // A valid certificate produces no notice.
    let good = world.pki.device(2);
    dial(&mut world, 4, &good);
    assert_eq!(world.attempts.last().unwrap().notices, []);
}

#[test]
fn e11_the_switch_excuses_the_leaf_alone() {
    let mut world = world(switched_on);
    let manufacturer = &world.pki.manufacturer;
    let (good, over) =
        (authority("Plant 1", Some(manufacturer)), authority_living(past(), "Plant 2", Some(manufacturer)));
    let below = |plant: &Holder, validity| {
        let mut holder = device_living(validity, plant, 1);
        holder.chain.push(plant.certificate.der().to_vec());
        holder
    };
    // An expired authority vouches for no device, whether the leaf is expired or not.
    for (port, validity) in (1..).zip([past(), life(3_650)]) {
        let holder = below(&over, validity);
        let mut device = dial(&mut world, port, &holder);
        assert_kept_out(&world, &mut device, Reason::CertificateExpired);
    }
    // A leaf that is not yet valid is not expired.
    let early = Validity { not_before: utc(EPOCH + DAY), not_after: utc(EPOCH + 2 * DAY) };
    let holder = below(&good, early);
    let mut device = dial(&mut world, 3, &holder);
    assert_kept_out(&world, &mut device, Reason::CertificateNotYetValid);
    let holder = below(&good, past());
    let mut device = dial(&mut world, 4, &holder);
    enrol(&mut world, &mut device, &holder);
    device.certificate();
}

#[test]
fn e11_the_switch_is_that_of_one_profile() {
    let pki = Pki::new();
    let other = authority("Pump factory", None);
    let profiles = vec![
        profile(&pki, "", &[&pki.manufacturer], switched_on),
        profile(&pki, "strict", &[&pki.manufacturer], |_| {}),
        profile(&pki, "pumps", &[&other], |_| {}),
    ];
    let mut world = World::of(pki, profiles, |_, _| {});
    // No profile excuses devices of this manufacturer.
    let pump = device_living(past(), &other, 1);
    let mut device = dial_at(&mut world, 1, &pump, &["pumps"]);
    assert_kept_out(&world, &mut device, Reason::CertificateExpired);
    // The handshake does not know the label yet; the request does.
    let meter = device_living(past(), &world.pki.manufacturer, 2);
    let mut device = dial_at(&mut world, 2, &meter, &["strict"]);
    assert_eq!(world.attempts.last().unwrap().notices, [Notice::ExpiredIdentity]);
    enrol(&mut world, &mut device, &meter);
    let Failure::Refused(refused) = device.failure() else { panic!("not refused") };
    assert_eq!(refused.reason(), Some(Reason::ClientExpired));
    let mut device = dial(&mut world, 3, &meter);
    enrol(&mut world, &mut device, &meter);
    device.certificate();
}

#[test]
fn e11_a_certificate_of_our_own_is_never_excused() {
    let mut world = world(switched_on);
    let idevid = world.pki.device(1);
    let mut device = dial(&mut world, 1, &idevid);
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    let key = Key::new();
    world.ask(&mut device, Operation::Enroll { csr: csr(idevid.certificate.subject(), &key) });
    let der = device.certificate();
    let certificate = Arc::new(pki::Certificate::parse(&der).unwrap());
    world.now.utc = utc(certificate.validity().not_after.as_secs() + 1);
    let enrolled = Holder { chain: vec![der], certificate, key };
    // The server's own certificate would have expired too: it gets a new one, as an operator would install.
    let mut longer = est::ServerSpec::new(
        support::server_of(&world.pki.root, &[support::SERVER_NAME], life(3_650)).identity(),
        dtls::CookieKeys::from_random(&support::TestRandom),
        world.server.config().profiles().cloned().collect(),
    );
    longer.short_root = Some("est".into());
    world.server.set_config(Arc::new(est::ServerConfig::new(longer).unwrap()));
    let mut device = dial(&mut world, 2, &enrolled);
    assert!(matches!(device.failure(), Failure::Handshake(_)));
    assert_eq!(world.attempts.last().unwrap().reason(), Some(Reason::CertificateExpired));
}

#[test]
fn e12_a_certificate_without_a_well_defined_end_is_good_whatever_the_clock_says() {
    // 99991231235959Z (RFC 5280 §4.1.2.5), as IEEE 802.1AR recommends for IDevIDs.
    let always = Validity { not_before: utc(EPOCH - DAY), not_after: NO_WELL_DEFINED_EXPIRATION };
    // 2026, 2049 and 2050 (where UTCTime ends), 2500, and the last representable second.
    for now in [EPOCH, 2_524_607_999, 2_524_608_000, 16_725_225_600, NO_WELL_DEFINED_EXPIRATION.as_secs()] {
        let pki = Pki::living(always, always);
        let profile = profile(&pki, "", &[&pki.manufacturer], |_| {});
        let mut world = World::of(pki, vec![profile], |_, _| {});
        world.now.utc = utc(now);
        let holder = device_living(always, &world.pki.manufacturer, 1);
        let mut device = dial(&mut world, 1, &holder);
        assert!(matches!(device.event(), ClientEvent::Connected { .. }), "at {now}: {:?}", world.attempts);
        assert_eq!(world.attempts.last().unwrap().notices, [], "at {now}");
        world.ask(&mut device, Operation::CaCertificates);
        assert!(matches!(device.event(), ClientEvent::Done(est::Answer::CaCertificates(_))));
        // Issuing needs a CA that is still valid for long enough.
        if now + 400 * DAY < NO_WELL_DEFINED_EXPIRATION.as_secs() {
            world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
            device.certificate();
        }
    }
}

/// The manufacturer of `gateways` has certified the CA of `sensors`: a certificate issued by that CA does not make a
/// device of the factory, expired or not.
#[test]
fn e46_an_expired_certificate_of_our_ca_is_none_of_a_manufacturer_above_that_ca() {
    let pki = Pki::new();
    let sensors = profile(&pki, "sensors", &[&pki.manufacturer], |_| {});
    let other = authority("Other issuing", None);
    let gateways = profile(&pki, "gateways", &[&pki.root], |spec| {
        let chain = vec![Arc::clone(&other.certificate)];
        let urls = authority::Urls::default();
        spec.ca = Arc::new(authority::Ca::new("other", chain, urls, authority::VerifySignatures::Always).unwrap());
        spec.profile.allow_expired_identity = true;
    });
    let mut world = World::of(pki, vec![sensors, gateways], |_, _| {});
    let mut holder = device_living(past(), &world.pki.issuing, 1);
    holder.chain.push(world.pki.issuing.certificate.der().to_vec());
    let mut device = dial_at(&mut world, 1, &holder, &["gateways"]);
    assert_kept_out(&world, &mut device, Reason::CertificateExpired);
    // A device of the factory is accepted.
    let factory = device_living(past(), &world.pki.root, 2);
    let mut device = dial_at(&mut world, 2, &factory, &["gateways"]);
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
}
