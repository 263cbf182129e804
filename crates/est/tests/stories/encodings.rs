//! Manufacturer certificates that are not strict DER: `identity_encoding` of a profile decides whether they are read;
//! issued certificates are strict DER in either case.

use std::sync::Arc;

use authority::{CaProfile, CaProfileSpec, Profile};
use est::{ClientConfig, ClientEvent, Failure, Operation, Reason};
use pki::{Certificate, Encoding, PrivateKey, SigningKey, pem};

use crate::support::{Device, Holder, Key, Pki, TestRandom, World, csr};

macro_rules! foreign {
    ($name:literal) => {
        include_bytes!(concat!("../../../pki/tests/vectors/foreign/", $name))
    };
}

/// A device with its factory certificate, and the error about the certificate if DER must be strict.
fn burnt_in() -> [(Holder, &'static str); 4] {
    let holder = |certificate: &[u8], key: &[u8]| {
        let der = pem::certificates(certificate).unwrap().remove(0);
        let private = pem::private_key(key).unwrap();
        let signing = SigningKey::from_pkcs8(private.pkcs8(), &TestRandom::secure()).unwrap();
        let certificate = Arc::new(Certificate::parse_as(&der, Encoding::AsIssued).unwrap());
        let private = PrivateKey::from_pkcs8(private.pkcs8().to_vec());
        Holder { certificate, chain: vec![der], key: Key { private, signing } }
    };
    [
        (holder(foreign!("critical-false.pem"), foreign!("critical-false.key")), "DEFAULT value encoded"),
        (holder(foreign!("underscore.pem"), foreign!("underscore.key")), "PrintableString with"),
        (holder(foreign!("san-unsorted.pem"), foreign!("san-unsorted.key")), "not in DER order"),
        (holder(foreign!("null-parameters.pem"), foreign!("null-parameters.key")), "NULL parameters"),
    ]
}

fn profile(pki: &Pki, label: &str, encoding: Encoding) -> Arc<Profile> {
    let anchors = pem::certificates(foreign!("anchors.pem")).unwrap();
    let anchors = anchors.iter().map(|der| Arc::new(Certificate::parse(der).unwrap()));
    let mut spec = CaProfileSpec::new(if label.is_empty() { "plain" } else { label }, pki.ca(), anchors.collect());
    spec.profile.labels = vec![label.into()];
    spec.profile.identity_encoding = encoding;
    Arc::new(CaProfile::compile(spec).unwrap())
}

fn dial(world: &mut World, port: u16, holder: &Holder, config: ClientConfig) -> Device {
    let dtls = world.dtls_config(holder);
    let mut device = world.dial(port, dtls, config);
    world.run(&mut device);
    device
}

fn enrol(world: &mut World, port: u16, holder: &Holder, label: Option<&str>) -> Device {
    let path = std::iter::once("est").chain(label).map(str::to_owned).collect();
    let mut device = dial(world, port, holder, ClientConfig { path, ..ClientConfig::default() });
    assert!(matches!(device.event(), ClientEvent::Connected { .. }));
    world.ask(&mut device, Operation::Enroll { csr: csr(holder.certificate.subject(), &Key::new()) });
    device
}

#[test]
fn e63_where_every_profile_is_strict_the_handshake_refuses_by_field_and_rule() {
    let pki = Pki::new();
    let profiles = vec![profile(&pki, "", Encoding::Strict)];
    let mut world = World::of(pki, profiles, |_, _| {});
    for (port, (holder, said)) in (1..).zip(burnt_in()) {
        let mut device = dial(&mut world, port, &holder, ClientConfig::default());
        assert!(matches!(device.failure(), Failure::Handshake(_)));
        let attempt = world.attempts.last().unwrap();
        let reason = attempt.reason().unwrap();
        let algorithm = said.contains("NULL");
        assert_eq!(reason, if algorithm { Reason::CertificateAlgorithm } else { Reason::CertificateBadEncoding });
        assert!(reason.explain().contains("identity_encoding = \"as_issued\""), "{}", reason.explain());
        let detail = attempt.detail.as_deref().unwrap();
        assert!(detail.contains(said), "{detail}");
        assert!(attempt.claimed.as_deref().unwrap().contains("device-"), "{:?}", attempt.claimed);
    }
    assert_eq!(world.ledger.issued_count(), 0);
}

#[test]
fn e63_a_profile_that_reads_as_issued_enrols_them_and_issues_strict_der() {
    let pki = Pki::new();
    let profiles = vec![profile(&pki, "", Encoding::AsIssued)];
    let mut world = World::of(pki, profiles, |_, _| {});
    for (port, (holder, said)) in (1..).zip(burnt_in()) {
        let issued = enrol(&mut world, port, &holder, None).certificate();
        let issued = Certificate::parse(&issued).unwrap_or_else(|error| panic!("{said}: {error}"));
        assert!(issued.subject().matches(holder.certificate.subject()));
        assert!(issued.deviations().is_empty() && issued.san().is_empty());
    }
    assert_eq!(world.ledger.issued_count(), 4);
}

/// The handshake reads as leniently as the most lenient profile; the other profiles stay strict.
#[test]
fn e63_a_strict_profile_beside_a_lenient_one_refuses_by_a_reason_of_its_own() {
    let pki = Pki::new();
    let profiles = vec![profile(&pki, "", Encoding::AsIssued), profile(&pki, "strict", Encoding::Strict)];
    let mut world = World::of(pki, profiles, |_, _| {});
    for (port, (holder, said)) in (1..).zip(burnt_in()) {
        let mut device = enrol(&mut world, port, &holder, Some("strict"));
        let Failure::Refused(refused) = device.failure() else { panic!("{said}: an answer") };
        assert_eq!(refused.reason(), Some(Reason::ClientEncoding));
        let attempt = world.attempts.last().unwrap();
        assert_eq!(attempt.reason(), Some(Reason::ClientEncoding));
        let rule = holder.certificate.deviations().to_string();
        assert!(attempt.offered.contains(&rule), "{}", attempt.offered);
    }
    assert_eq!(world.ledger.issued_count(), 0);
    // A renewal shows the issued certificate, which is strict, and may use the profile that issued it.
    let (holder, _) = &burnt_in()[1];
    let issued = enrol(&mut world, 9, holder, None).certificate();
    assert!(Certificate::parse(&issued).is_ok());
}
