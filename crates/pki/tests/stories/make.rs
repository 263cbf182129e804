//! The output of `make`: the same bytes for the same arguments, and nothing that rcgen would add by itself.

use pki::issue::{NodePrefix, Serial};
use pki::make::{
    AuthorityCertificateSpec, CsrSpec, DeviceCertificateSpec, MakeError, Parent, ServerCertificateSpec, authority, csr,
    idevid, root, server,
};
use pki::{Certificate, Curve, GeneralName, GeneralNames, NameBuilder, PrivateKey, ServerName, SigningKey, oid};
use ring::rand::SecureRandom;

use crate::common::*;

/// A source that yields the same bytes each time, as a simulator's does for one seed. ring's trait is sealed; this is
/// ring's own source.
#[allow(deprecated, reason = "the one deterministic source that ring's sealed trait admits")]
fn fixed<const N: usize>(bytes: &[u8; N]) -> impl SecureRandom + '_ {
    ring::test::rand::FixedSliceRandom { bytes }
}

/// Makes everything once, on P-256, whose operations each draw 32 octets.
fn everything(seed: u8) -> Vec<Vec<u8>> {
    let bytes = [seed; 32];
    let random = fixed(&bytes);
    let new_key = |seed: u8| {
        let bytes = [seed; 32];
        let private = PrivateKey::generate(Curve::P256, &fixed(&bytes)).unwrap();
        SigningKey::from_pkcs8(private.pkcs8(), &fixed(&bytes)).unwrap()
    };
    let (root_key, issuing_key, device_key) = (new_key(seed), new_key(seed + 1), new_key(seed + 2));
    let serial = Serial::new(NodePrefix::new(1), [seed; 16]);
    let spec = AuthorityCertificateSpec {
        common_name: "Root",
        organization: None,
        serial,
        validity: years(1),
        path_len: None,
    };
    let top = root(&spec, &root_key, &random).unwrap();
    let parent = Parent { certificate: &top, key: &root_key };
    let issuing = authority(&spec, issuing_key.public_key(), parent, &random).unwrap();
    let names = [ServerName::try_from("localhost").unwrap()];
    let serving = ServerCertificateSpec { names: &names, serial, validity: years(1) };
    let serving = server(&serving, device_key.public_key(), parent, &random).unwrap();
    let device = device_spec(serial);
    let idevid = idevid(&device, device_key.public_key(), parent, &random).unwrap();
    let san = GeneralNames::empty();
    let request = CsrSpec { subject: &device.subject().unwrap(), san: &san, challenge_password: None };
    let request = csr(&request, &device_key, &random).unwrap();
    [top, issuing, serving, idevid].iter().map(|made| made.der().to_vec()).chain([request]).collect()
}

fn device_spec(serial: Serial) -> DeviceCertificateSpec<'static> {
    DeviceCertificateSpec { common_name: "meter", serial_number: "Wt1", organization: None, serial, validity: years(1) }
}

#[test]
fn the_same_arguments_make_the_same_bytes() {
    assert_eq!(everything(7), everything(7));
    assert!(everything(7).iter().zip(everything(8)).all(|(one, other)| *one != other));
}

#[test]
fn no_default_of_rcgen_reaches_a_certificate() {
    let root = Authority::root("Root");
    let issuing = root.below("Issuing", Some(0));
    let serial = serial();
    let device = idevid(&device_spec(serial), p256().public_key(), issuing.as_parent(), &random()).unwrap();
    assert_eq!((device.serial(), device.validity()), (&serial.as_bytes()[..], years(1)));
    assert_eq!((device.path_len(), device.is_ca(), device.extended_key_usage()), (None, false, None));
    assert_eq!(device.authority_key_id(), issuing.certificate.subject_key_id());
    let certificate = &issuing.certificate;
    assert_eq!((certificate.is_ca(), certificate.path_len()), (true, Some(0)));
    assert!(certificate.key_usage().unwrap().crl_sign() && !certificate.key_usage().unwrap().digital_signature());
    assert_eq!(certificate.subject_key_id(), Some(&certificate.public_key().key_identifier()[..]));
    assert_eq!(certificate.authority_key_id(), root.certificate.subject_key_id());
    assert_eq!(certificate.subject().to_string(), "CN=Issuing,O=Example");
}

#[test]
fn a_parent_signs_only_with_its_own_key_and_as_an_authority() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other"));
    let make = |parent: Parent<'_>| idevid(&device_spec(serial()), p256().public_key(), parent, &random()).err();
    assert_eq!(make(root.as_parent()), None);
    assert_eq!(make(Parent { certificate: &root.certificate, key: &other.key }), Some(MakeError::Parent));
    let key = p256();
    let device = Certificate::parse(&Raw::device(&key).signed_by(&root)).unwrap();
    assert_eq!(make(Parent { certificate: &device, key: &key }), Some(MakeError::Parent));
    // rcgen keeps one attribute per type: certificates of a parent with two would contain another issuer name.
    let twice = NameBuilder::new().push(oid::COMMON_NAME, "a").unwrap().push(oid::COMMON_NAME, "b").unwrap();
    let raw = Raw { subject: twice.finish().unwrap(), ..Raw::authority("a", &key) };
    let twice = raw.with(oid::SUBJECT_KEY_IDENTIFIER, false, &[4, 1, 7]).into_authority(key, &root);
    assert_eq!(make(twice.as_parent()), Some(MakeError::ParentName));
}

#[test]
fn a_server_needs_names_that_may_be_issued_and_fits_a_small_buffer() {
    let root = Authority::root("Root");
    let make = |names: &[ServerName<'_>]| {
        server(
            &ServerCertificateSpec { names, serial: serial(), validity: years(1) },
            p256().public_key(),
            root.as_parent(),
            &random(),
        )
    };
    let name = |text: &'static str| ServerName::try_from(text).unwrap();
    assert_eq!(make(&[]).unwrap_err(), MakeError::NoName);
    assert!(matches!(make(&[name("a_b.example")]), Err(MakeError::AlternativeNames(_))));
    let usual = make(&[name("localhost"), name("127.0.0.1"), name("::1")]).unwrap();
    assert!(usual.der().len() <= 480, "{} bytes", usual.der().len());
    assert!(usual.extended_key_usage().unwrap().server_auth);
    let names: Vec<_> = usual.san().iter().collect();
    assert_eq!(names[..2], [GeneralName::Dns("localhost"), GeneralName::Ip("127.0.0.1".parse().unwrap())]);
    let long = make(&[name("a-name-that-is-longer-than-a-common-name-may-be.meters.example.net")]).unwrap();
    assert!(long.subject().is_empty(), "then only the alternative name identifies it");
}
